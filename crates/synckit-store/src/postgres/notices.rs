//! `LISTEN` and `NOTIFY`: a connection of its own, which brings the notices of all nodes.
//!
//! Never in the transaction of an append: PostgreSQL lets one transaction with a `NOTIFY` commit at a time.

use std::future::poll_fn;

use tokio_postgres::{AsyncMessage, NoTls, Socket, config::Config, tls::MakeTlsConnect};

use super::{
    address::{PostgresUrl, Tls},
    connection::Connection,
    failure::not_connected,
    options::PostgresOptions,
    pool::config,
    tls::Connector,
};
use crate::{
    StoreError, Unavailable,
    notices::{Notice, Notices},
    records::params,
};

/// Sends a notice to every node, this one included.
pub(super) async fn send(db: &Connection, notice: &Notice) -> Result<(), StoreError> {
    let text = notice.encode();
    db.rows("SELECT pg_notify('synckit', $1)", params![&text]).await?;
    Ok(())
}

/// Connects, and listens from now on.
pub(super) async fn listen(url: &PostgresUrl, options: &PostgresOptions) -> Result<Notices, StoreError> {
    let config = config(url, options);
    let listening = async {
        match &url.tls {
            Tls::Off => connect(config, NoTls).await,
            Tls::VerifyFull(roots) => {
                let connector = Connector::new(roots.clone()).map_err(|error| StoreError::Unavailable {
                    step: Unavailable::Connect,
                    source: Box::new(error),
                })?;
                connect(config, connector).await
            }
        }
    };
    let listening = tokio::time::timeout(options.connect_timeout, listening);
    listening.await.map_err(|elapsed| StoreError::Unavailable {
        step: Unavailable::Connect,
        source: Box::new(elapsed),
    })?
}

async fn connect<T>(config: Config, tls: T) -> Result<Notices, StoreError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await.map_err(not_connected)?;
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let notices = Notices::brought_by(|sender| {
        tokio::spawn(async move {
            let bringing = async {
                while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                    if let AsyncMessage::Notification(notification) = message
                        && let Some(notice) = Notice::decode(notification.payload())
                    {
                        sender.send(notice);
                    }
                }
            };
            let listening = async {
                let listening = client.batch_execute("LISTEN synckit").await;
                let _ = begin.send(());
                if listening.is_ok() {
                    // The connection ends with the client.
                    std::future::pending::<()>().await;
                }
                drop(client);
            };
            tokio::select! {
                () = bringing => {}
                () = listening => {}
            }
        })
        .abort_handle()
    });
    // A refused `LISTEN` drops the sender of notices, which the reader sees as a lost connection.
    let _ = begun.await;
    Ok(notices)
}
