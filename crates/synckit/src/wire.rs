//! What goes over the wire, counted at the transport.
//!
//! Counted are request lines, headers and bodies, and status lines, headers and bodies of answers, as HTTP/1.1 writes
//! them. What TCP, IP and TLS add is not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::StreamExt as _;
use http::{HeaderMap, Request};
use synckit_client::transport::{Exchange, RequestBody, Transport};

/// Bytes that were sent and received.
#[derive(Debug, Default)]
pub(crate) struct WireBytes {
    sent: AtomicU64,
    received: AtomicU64,
}

impl WireBytes {
    /// Bytes to the server so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from the server so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A transport that counts what another one moves.
#[derive(Debug)]
pub(crate) struct CountingTransport<T> {
    inner: T,
    bytes: Arc<WireBytes>,
}

impl<T: Transport> CountingTransport<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            bytes: Arc::default(),
        }
    }

    /// The counters, which go on counting.
    pub(crate) fn bytes(&self) -> Arc<WireBytes> {
        Arc::clone(&self.bytes)
    }
}

impl<T: Transport> Transport for CountingTransport<T> {
    fn send(&self, request: Request<RequestBody>) -> Exchange {
        // "POST /path HTTP/1.1\r\n", the headers, an empty line, and the Host header that the HTTP client adds.
        let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
        let host = request
            .uri()
            .authority()
            .map_or(0, |host| host.as_str().len() + "host: \r\n".len());
        let head = request.method().as_str().len() + target + " HTTP/1.1\r\n ".len() + host;
        let body = match request.body() {
            RequestBody::Empty => 0,
            RequestBody::Full(bytes) => bytes.len() as u64,
            RequestBody::Stream { length, .. } => *length,
        };
        self.bytes.sent.fetch_add(
            head as u64 + headers_length(request.headers()) + body,
            Ordering::Relaxed,
        );
        let bytes = Arc::clone(&self.bytes);
        let answer = self.inner.send(request);
        Box::pin(async move {
            let answer = answer.await?;
            let head = "HTTP/1.1 200 OK\r\n".len() as u64 + headers_length(answer.headers());
            bytes.received.fetch_add(head, Ordering::Relaxed);
            Ok(answer.map(|body| {
                let counted = body.inspect(move |chunk| {
                    let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    bytes.received.fetch_add(length, Ordering::Relaxed);
                });
                Box::pin(counted) as _
            }))
        })
    }
}

fn headers_length(headers: &HeaderMap) -> u64 {
    let lines: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.as_bytes().len() + ": \r\n".len())
        .sum();
    (lines + "\r\n".len()) as u64
}
