//! A proxy that keeps every byte that passes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What passed, both ways.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<u8>>>);

impl Trace {
    /// Starts a proxy in front of a server; returns its URL.
    pub(super) async fn before(&self, server: SocketAddr) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(this.clone().pass(from_client, to_server));
                tokio::spawn(this.clone().pass(from_server, to_client));
            }
        });
        url
    }

    async fn pass(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.0.lock().unwrap().extend_from_slice(&buffer[..count]);
            if to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }

    pub(super) fn contains(&self, bytes: &[u8]) -> bool {
        let passed = self.0.lock().unwrap();
        passed.windows(bytes.len()).any(|window| window == bytes)
    }
}
