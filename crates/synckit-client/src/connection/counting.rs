//! A transport that counts the bytes of another transport.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::StreamExt as _;
use http::{HeaderMap, Request};

use super::transport::{Exchange, RequestBody, Transport};

/// Counts the bytes that another transport moves: request lines, status lines, headers and bodies in their HTTP/1.1
/// form, without the overhead of TCP, IP and TLS.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let config = world.config();
/// use std::{sync::Arc, time::Duration};
/// use synckit_client::{CountingTransport, MemoryStore, SyncKitClient, transport::HttpTransport};
///
/// let counting = Arc::new(CountingTransport::new(HttpTransport::new(Duration::from_secs(10))));
/// let client = SyncKitClient::builder(config)
///     .credential_store(MemoryStore::default())
///     .transport(counting.clone())
///     .build();
/// client.request_password_reset("me@example.com").await?;
/// assert!((100..1000).contains(&counting.sent()));
/// assert!((50..1000).contains(&counting.received()));
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct CountingTransport<T> {
    inner: T,
    sent: AtomicU64,
    received: Arc<AtomicU64>,
}

impl<T: Transport> CountingTransport<T> {
    /// Counts the bytes of `inner`, from zero.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use synckit_client::{CountingTransport, transport::HttpTransport};
    ///
    /// let counting = CountingTransport::new(HttpTransport::new(Duration::from_secs(10)));
    /// assert_eq!((counting.sent(), counting.received()), (0, 0));
    /// ```
    #[must_use]
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            sent: AtomicU64::default(),
            received: Arc::default(),
        }
    }

    /// Bytes to the server so far. A request counts whole as soon as it is sent.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let url = world.config().server_url;
    /// use std::time::Duration;
    /// use synckit_client::{CountingTransport, transport::{HttpTransport, RequestBody, Transport}};
    ///
    /// let counting = CountingTransport::new(HttpTransport::new(Duration::from_secs(10)));
    /// counting.send(http::Request::get(format!("{url}/healthz")).body(RequestBody::Empty)?).await?;
    /// assert!(counting.sent() >= "GET /healthz HTTP/1.1\r\n".len() as u64);
    /// # Ok(())
    /// # });
    /// ```
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from the server so far. A body counts as it is read.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let url = world.config().server_url;
    /// use std::time::Duration;
    /// use synckit_client::{CountingTransport, transport::{HttpTransport, RequestBody, Transport}};
    ///
    /// let counting = CountingTransport::new(HttpTransport::new(Duration::from_secs(10)));
    /// counting.send(http::Request::get(format!("{url}/healthz")).body(RequestBody::Empty)?).await?;
    /// assert!(counting.received() >= "HTTP/1.1 200 OK\r\n".len() as u64);
    /// # Ok(())
    /// # });
    /// ```
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl<T: Transport> Transport for CountingTransport<T> {
    fn send(&self, request: Request<RequestBody>) -> Exchange {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let host = request.uri().authority().map_or("", |host| host.as_str());
        // The HTTP client adds the host.
        let head = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\n", request.method()).len() as u64;
        let body = match request.body() {
            RequestBody::Empty => 0,
            RequestBody::Full(bytes) => bytes.len() as u64,
            RequestBody::Stream { length, .. } => *length,
        };
        let request_bytes = (head + headers_length(request.headers())).saturating_add(body);
        self.sent.fetch_add(request_bytes, Ordering::Relaxed);
        let received = Arc::clone(&self.received);
        let answer = self.inner.send(request);
        Box::pin(async move {
            let answer = answer.await?;
            let head = "HTTP/1.1 200 OK\r\n".len() as u64 + headers_length(answer.headers());
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
fn headers_length(headers: &HeaderMap) -> u64 {
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    (lines.sum::<usize>() + "\r\n".len()) as u64
}
