//! Accepting connections, and letting them end.
//!
//! HTTP/1.1 on plain TCP: TLS and HTTP/2 are a reverse proxy's business. hyper is driven directly rather than through
//! `axum::serve`, which has no time-out for request heads and no bound on connections.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{PeerAddress, stall::StallGuard};
use crate::state::ServerState;

/// The largest buffer of a connection: also the largest request head.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Serves connections until `stopping`, then lets running requests end within the grace time.
pub(crate) async fn serve_connections(
    listener: TcpListener,
    router: Router,
    state: &ServerState,
    stopping: CancellationToken,
) {
    let config = &state.config;
    let room = Arc::new(Semaphore::new(config.bounds.connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = stopping.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    stream,
                    peer: PeerAddress(peer),
                    router: router.clone(),
                    stopping: stopping.clone(),
                };
                let (head, stall) = (config.timeouts.request_head, config.timeouts.stall);
                let open = OpenConnection::counted_in(&state.metrics.connections);
                connections.spawn(async move {
                    connection.serve(head, stall).await;
                    drop(open);
                    drop(permit);
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(config.timeouts.shutdown_grace, all_ended).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections were cut off at the end of the grace time"
        );
    }
    connections.shutdown().await;
}

/// Some failures of `accept` belong to one connection; the others (no file descriptors left, say) would make a loop
/// spin.
async fn pause_after(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if !of_one_connection {
        tracing::error!(%error, "cannot accept a connection");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Counts a connection for as long as it lives, also if its task is cut off.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn counted_in(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Connection {
    stream: TcpStream,
    peer: PeerAddress,
    router: Router,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve(self, head_timeout: Duration, stall_timeout: Duration) {
        let Self {
            stream,
            peer,
            router,
            stopping,
        } = self;
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let io = TokioIo::new(StallGuard::new(stream, stall_timeout));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(io, service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            // Broken connections are everyday; their errors carry no contents of requests.
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
