//! Bytes of HTTP/1.1 on the wire, counted at the transport: heads and bodies, without TCP, IP and TLS.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::StreamExt as _;
use http::{HeaderMap, Request};
use synckit_client::transport::{Exchange, HttpTransport, RequestBody, Transport};

/// A transport that counts.
#[derive(Debug)]
pub(super) struct CountingTransport {
    inner: HttpTransport,
    sent: AtomicU64,
    received: Arc<AtomicU64>,
}

impl CountingTransport {
    pub(super) fn new(inner: HttpTransport) -> Self {
        Self {
            inner,
            sent: AtomicU64::default(),
            received: Arc::default(),
        }
    }

    /// Bytes to the server so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from the server so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Transport for CountingTransport {
    fn send(&self, request: Request<RequestBody>) -> Exchange {
        let line = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri().path());
        let host = request.uri().authority().map_or("", |host| host.as_str());
        let body = match request.body() {
            RequestBody::Empty => 0,
            RequestBody::Full(bytes) => bytes.len() as u64,
            RequestBody::Stream { length, .. } => *length,
        };
        let head = line.len() + "host: \r\n".len() + host.len();
        self.sent
            .fetch_add(head as u64 + headers(request.headers()) + body, Ordering::Relaxed);
        let received = Arc::clone(&self.received);
        let answer = self.inner.send(request);
        Box::pin(async move {
            let answer = answer.await?;
            let head = "HTTP/1.1 200 OK\r\n".len() as u64 + headers(answer.headers());
            received.fetch_add(head, Ordering::Relaxed);
            Ok(answer.map(|body| {
                Box::pin(body.inspect(move |chunk| {
                    let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    received.fetch_add(length, Ordering::Relaxed);
                })) as _
            }))
        })
    }
}

/// The headers and the empty line after them.
fn headers(headers: &HeaderMap) -> u64 {
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    (lines.sum::<usize>() + "\r\n".len()) as u64
}
