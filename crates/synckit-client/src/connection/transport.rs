//! The transport of requests: the one seam that a simulator replaces.
//!
//! A transport moves one request and its answer. It follows no redirects, keeps no cookies, retries nothing and knows
//! no tokens: the layer above decides all of that, once for all transports.

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use url::Url;

pub use super::http::HttpTransport;
use crate::runtime;

/// A stream of body chunks.
pub type BodyStream<E> = Pin<Box<dyn Stream<Item = Result<Bytes, E>> + Send>>;

/// The body of a request.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use synckit_client::transport::RequestBody;
///
/// let body = RequestBody::Full(Bytes::from_static(b"{}"));
/// match &body {
///     RequestBody::Full(bytes) => assert_eq!(bytes.len(), 2),
///     _ => println!("a stream: the sealed bytes of a file"),
/// }
/// ```
pub enum RequestBody {
    /// No body.
    Empty,
    /// A body in memory.
    Full(Bytes),
    /// A body of known length that is produced while it is sent. An error in the stream must abort the request, so that
    /// the server never accepts a truncated body as a whole one.
    Stream {
        /// The exact length.
        length: u64,
        /// The chunks.
        chunks: BodyStream<io::Error>,
    },
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length} bytes)"),
        }
    }
}

/// An extension of a request to a URL that the server issued, such as the URL of a file. A hostile server could choose services
/// of this machine or of the local network. A transport should therefore refuse such addresses unless the server has one
/// itself. [`HttpTransport`] does.
///
/// # Examples
/// ```
/// use synckit_client::transport::{GivenOutBy, RequestBody};
///
/// fn may_leave(request: &http::Request<RequestBody>) -> bool {
///     match request.extensions().get::<GivenOutBy>() {
///         // A transport of an app that uses no object store beside the server.
///         Some(server) => request.uri().to_string().starts_with(server.server_url()),
///         None => true,
///     }
/// }
///
/// let request = http::Request::get("https://sync.example.com/healthz").body(RequestBody::Empty).unwrap();
/// assert!(may_leave(&request));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenOutBy(pub(crate) Url);

impl GivenOutBy {
    /// The URL of the server.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # world.device("laptop").await?;
    /// # let (config, email, password) = (world.config(), world.email, world.password);
    /// use std::{sync::{Arc, Mutex}, time::Duration};
    /// use synckit_client::{MemoryStore, SyncKitClient};
    /// use synckit_client::transport::{Exchange, GivenOutBy, HttpTransport, RequestBody, Transport};
    ///
    /// /// Records the servers that issued the URLs of files.
    /// #[derive(Debug)]
    /// struct Noting(HttpTransport, Mutex<Vec<String>>);
    ///
    /// impl Transport for Noting {
    ///     fn send(&self, request: http::Request<RequestBody>) -> Exchange {
    ///         if let Some(given) = request.extensions().get::<GivenOutBy>() {
    ///             self.1.lock().unwrap().push(given.server_url().to_owned());
    ///         }
    ///         self.0.send(request)
    ///     }
    /// }
    ///
    /// let noting = Arc::new(Noting(HttpTransport::new(Duration::from_secs(10)), Mutex::default()));
    /// let client = SyncKitClient::builder(config.clone())
    ///     .credential_store(MemoryStore::default())
    ///     .transport(noting.clone())
    ///     .build();
    /// # client.authenticate(email, password).await?;
    /// # client.setup_encryption_existing(password).await?;
    /// client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// assert_eq!(*noting.1.lock().unwrap(), [format!("{}/", config.server_url)]);
    /// # Ok(())
    /// # });
    /// ```
    pub fn server_url(&self) -> &str {
        self.0.as_str()
    }
}

/// The answer of a transport, or its failure.
pub type Exchange =
    Pin<Box<dyn Future<Output = Result<http::Response<BodyStream<TransportError>>, TransportError>> + Send>>;

/// Moves a request to the server and its answer back.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let config = world.config();
/// use std::{sync::{Arc, atomic::{AtomicUsize, Ordering}}, time::Duration};
/// use synckit_client::{MemoryStore, SyncKitClient, transport::{Exchange, HttpTransport, RequestBody, Transport}};
///
/// /// Counts what is sent.
/// #[derive(Debug)]
/// struct Counting(HttpTransport, AtomicUsize);
///
/// impl Transport for Counting {
///     fn send(&self, request: http::Request<RequestBody>) -> Exchange {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         self.0.send(request)
///     }
/// }
///
/// let counting = Arc::new(Counting(HttpTransport::new(Duration::from_secs(10)), AtomicUsize::new(0)));
/// let client = SyncKitClient::builder(config)
///     .credential_store(MemoryStore::default())
///     .transport(counting.clone())
///     .build();
/// client.request_password_reset("me@example.com").await?;
/// assert_eq!(counting.1.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # });
/// ```
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends one request. The answer's body is read afterwards, as a stream.
    ///
    /// # Errors
    /// [`TransportError`] if no answer came. An answer of any status is not an error here.
    fn send(&self, request: http::Request<RequestBody>) -> Exchange;
}

/// A request or an answer that did not arrive.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// # let config = synckit_client::SyncKitConfig { server_url: format!("http://{closed}"), api_key: "key".into() };
/// # let client = synckit_client::SyncKitClient::builder(config)
/// #     .credential_store(synckit_client::MemoryStore::default())
/// #     .build();
/// use synckit_client::{Error, transport::TransportError};
///
/// match client.request_password_reset("me@example.com").await {
///     Err(Error::Network(TransportError::Timeout(_))) => println!("the server is slow"),
///     Err(Error::Network(_)) => println!("offline"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The connection failed, or broke.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// TLS cannot be used on this machine, for example because it has no trusted root certificates.
    #[error("TLS cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A URL that the server issued leads to this machine or into a local network, where the server itself is not.
    #[error("the URL leads to this machine or into a local network, where the server itself is not")]
    OutOfReach,
    /// The transfer stalled.
    #[error("the server did not answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    /// The answer is larger than any valid answer of its kind.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The largest valid size.
        limit: usize,
    },
}

/// Reads a whole body into memory, up to a limit, with at most `idle` between two chunks.
pub(crate) async fn read_body(
    mut body: BodyStream<TransportError>,
    limit: usize,
    idle: Duration,
) -> Result<Bytes, TransportError> {
    let mut whole = Bytes::new();
    // Most answers are one chunk, which then needs no copy.
    let mut buffer = Vec::new();
    loop {
        let next = runtime::timeout(idle, body.next()).await;
        let Some(chunk) = next.ok_or(TransportError::Timeout(idle))?.transpose()? else {
            break;
        };
        let length = whole.len().saturating_add(buffer.len()).saturating_add(chunk.len());
        if length > limit {
            return Err(TransportError::TooLarge { limit });
        }
        if whole.is_empty() && buffer.is_empty() {
            whole = chunk;
        } else {
            buffer.extend_from_slice(&std::mem::take(&mut whole));
            buffer.extend_from_slice(&chunk);
        }
    }
    Ok(if buffer.is_empty() { whole } else { buffer.into() })
}
