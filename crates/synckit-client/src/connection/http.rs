//! Requests over HTTP, the default transport of the SDK.
//!
//! Invariant: a request to this machine never passes a proxy, which would see it unencrypted.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::HeaderValue;
use parking_lot::Mutex;
use url::Url;

use super::{
    server::is_loopback,
    transport::{BodyStream, Exchange, RequestBody, Transport, TransportError},
};
use crate::runtime::{self, RuntimeId};

/// The default `User-Agent`.
const USER_AGENT: &str = concat!("synckit/", env!("CARGO_PKG_VERSION"));

/// The most clients in the cache, one for each runtime and way: a process rarely has several runtimes.
const CLIENTS_MAX: usize = 8;

/// HTTP over TCP and TLS.
///
/// Requests pass the proxy that the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), except those to
/// loopback.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let transport = synckit_client::transport::HttpTransport::new(std::time::Duration::from_secs(10));
/// # let config = world.config();
/// use synckit_client::transport::{RequestBody, Transport};
///
/// let request = http::Request::get(format!("{}/healthz", config.server_url)).body(RequestBody::Empty)?;
/// assert_eq!(transport.send(request).await?.status(), 200);
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct HttpTransport(Arc<Clients>);

struct Clients {
    options: Checked,
    made: Mutex<VecDeque<Client>>,
}

/// Options of all requests.
#[derive(Clone)]
pub(crate) struct HttpOptions {
    /// Time limit for connecting.
    pub(crate) connect_timeout: Duration,
    pub(crate) user_agent: String,
    /// Trusted certificates in PEM, in place of the operating system's.
    pub(crate) ca_bundle: Option<Vec<u8>>,
    /// The URL of a proxy, in place of the environment's. It may contain a password.
    pub(crate) proxy: Option<String>,
}

impl HttpOptions {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        Self {
            connect_timeout,
            user_agent: USER_AGENT.to_owned(),
            ca_bundle: None,
            proxy: None,
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("user_agent", &self.user_agent)
            .field("ca_bundle", &self.ca_bundle.is_some())
            .field("proxy", &self.proxy.is_some())
            .finish()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct InvalidOption {
    pub(crate) option: &'static str,
    pub(crate) reason: &'static str,
}

/// Valid options.
struct Checked {
    connect_timeout: Duration,
    user_agent: HeaderValue,
    roots: Option<Vec<reqwest::Certificate>>,
    proxy: Option<reqwest::Proxy>,
}

/// A client for one kind of connection on one runtime.
#[derive(Clone)]
struct Client {
    way: Way,
    runtime: RuntimeId,
    /// The client, or the reason why it could not be created, which every later request reports again.
    http: Result<reqwest::Client, Arc<reqwest::Error>>,
}

/// The kind of connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Plain HTTP to this machine: no proxy and no certificates, so it works on a machine without certificates.
    Plain,
    /// TLS to this machine: no proxy.
    Loopback,
    /// All others.
    Network,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("connect_timeout", &self.options.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// A transport with its own connection pool. TLS is set up by the first request that needs it: on a machine without
    /// trusted root certificates that request fails with [`TransportError::Tls`], and plain HTTP to loopback works.
    ///
    /// # Examples
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use synckit_client::{SyncKitClient, SyncKitConfig, transport::HttpTransport};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let transport = HttpTransport::new(Duration::from_secs(3));
    /// let client = SyncKitClient::builder(config).transport(Arc::new(transport)).build();
    /// assert_eq!(client.app_id(), None);
    /// ```
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        Self::of(Checked {
            connect_timeout,
            user_agent: HeaderValue::from_static(USER_AGENT),
            roots: None,
            proxy: None,
        })
    }

    /// A transport with other options.
    pub(crate) fn with(options: &HttpOptions) -> Result<Self, InvalidOption> {
        let invalid = |option, reason| InvalidOption { option, reason };
        let user_agent = HeaderValue::try_from(&options.user_agent)
            .map_err(|_| invalid("user_agent", "it must be visible ASCII text"))?;
        let roots = options.ca_bundle.as_ref().map(|pem| {
            reqwest::Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|roots| !roots.is_empty())
                .ok_or(invalid("ca_bundle", "it contains no certificate in PEM"))
        });
        let proxy = options.proxy.as_ref().map(|url| {
            let url = Url::parse(url)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https"));
            url.and_then(|url| reqwest::Proxy::all(url).ok()).ok_or(invalid(
                "proxy",
                "it is not a URL such as http://proxy.example.com:3128",
            ))
        });
        let transport = Self::of(Checked {
            connect_timeout: options.connect_timeout,
            user_agent,
            roots: roots.transpose()?,
            proxy: proxy.transpose()?,
        });
        if transport.0.options.roots.is_some() {
            transport
                .0
                .connect(Way::Network)
                .map_err(|_| invalid("ca_bundle", "it contains an unusable certificate"))?;
        }
        Ok(transport)
    }

    fn of(options: Checked) -> Self {
        Self(Arc::new(Clients {
            options,
            made: Mutex::default(),
        }))
    }
}

impl Clients {
    /// The client for a URL on this runtime: a connection makes progress only while the runtime that created it is
    /// driven.
    fn of(&self, url: &Url) -> Result<reqwest::Client, TransportError> {
        let way = match (url.scheme(), is_loopback(url)) {
            ("http", true) => Way::Plain,
            (_, true) => Way::Loopback,
            (_, false) => Way::Network,
        };
        let runtime = runtime::id();
        let mut made = self.made.lock();
        let known = made
            .iter()
            .find(|client| client.way == way && client.runtime == runtime);
        let client = known.cloned().unwrap_or_else(|| {
            let http = self.connect(way).map_err(Arc::new);
            let client = Client { way, runtime, http };
            if made.len() >= CLIENTS_MAX {
                made.pop_front();
            }
            made.push_back(client.clone());
            client
        });
        client.http.map_err(|error| TransportError::Tls(Box::new(error)))
    }

    /// A client without a connection.
    fn connect(&self, way: Way) -> reqwest::Result<reqwest::Client> {
        let options = &self.options;
        let builder = reqwest::Client::builder()
            .user_agent(options.user_agent.clone())
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        let builder = match (way, &options.proxy) {
            (Way::Plain | Way::Loopback, _) => builder.no_proxy(),
            (Way::Network, Some(proxy)) => builder.proxy(proxy.clone()),
            (Way::Network, None) => builder,
        };
        match (way, &options.roots) {
            (Way::Plain, _) => builder.tls_certs_only([]),
            (_, Some(roots)) => builder.tls_certs_only(roots.iter().cloned()),
            (_, None) => builder,
        }
        .build()
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: http::Request<RequestBody>) -> Exchange {
        let clients = Arc::clone(&self.0);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url =
                Url::parse(&parts.uri.to_string()).map_err(|error| TransportError::Connection(Box::new(error)))?;
            let client = clients.of(&url)?;
            let mut builder = client.request(parts.method, url).headers(parts.headers);
            builder = match body {
                RequestBody::Empty => builder,
                RequestBody::Full(bytes) => builder.body(bytes),
                RequestBody::Stream { length, chunks } => builder
                    .header(http::header::CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(chunks)),
            };
            let response = builder.send().await.map_err(connection_error)?;
            let (parts, body) = http::Response::from(response).into_parts();
            let chunks = http_body_util::BodyStream::new(body).filter_map(|frame| async move {
                match frame {
                    Ok(frame) => frame.into_data().ok().map(Ok),
                    Err(error) => Some(Err(connection_error(error))),
                }
            });
            Ok(http::Response::from_parts(
                parts,
                Box::pin(chunks) as BodyStream<TransportError>,
            ))
        })
    }
}

/// Errors of the HTTP client contain the URL, which is a secret if it is a presigned one.
fn connection_error(error: reqwest::Error) -> TransportError {
    TransportError::Connection(Box::new(error.without_url()))
}
