//! The demo's own server: a real one, in this process, on a temporary directory.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use synckit_server::{Config, ServeError, Server};
use tokio::{sync::oneshot, task::JoinHandle};

/// A server that can be stopped and started again at the same address.
#[derive(Debug)]
pub(super) struct LocalServer {
    pub(super) data_dir: PathBuf,
    /// Kept during a restart, so that no other process takes the port meanwhile.
    listener: TcpListener,
    address: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl LocalServer {
    /// Starts a server and creates an app on it; returns the API key.
    pub(super) async fn start(data_dir: &Path) -> anyhow::Result<(Self, String)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no loopback port is free")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut this = Self {
            data_dir: data_dir.to_owned(),
            listener,
            address,
            running: None,
        };
        let server = this.open().await?;
        let app = server.admin().create_app("SyncKit demo").await?;
        this.run(server)?;
        Ok((this, app.api_key.expose().to_owned()))
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the server after the running requests: all of its data is in its files then.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(Running { stop, task }) = self.running.take() {
            // A server that has already ended reports its error below.
            let _ = stop.send(());
            task.await?.context("the server failed")?;
        }
        Ok(())
    }

    /// Starts it again.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        let server = self.open().await?;
        self.run(server)
    }

    async fn open(&self) -> anyhow::Result<Server> {
        let mut config = Config::new(&self.data_dir);
        config.listen = self.address;
        Server::open(config).await.context("the server did not start")
    }

    fn run(&mut self, server: Server) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(listener, async move {
            // A dropped sender means that the demo has ended.
            let _ = stopped.await;
        }));
        self.running = Some(Running { stop, task });
        Ok(())
    }
}
