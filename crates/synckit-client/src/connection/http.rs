//! Requests over HTTP, the default transport of the SDK.
//!
//! Invariants: a request to this machine never passes a proxy, which would see it unencrypted. A request to a URL that the
//! server issued connects only to an address that was checked ([`super::reach`]).

use std::{collections::VecDeque, error::Error, fmt, net::IpAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use parking_lot::Mutex;
use url::Url;

use super::{
    reach::{Lookup, OutOfReach, Reach, Resolver, literal, system_lookup},
    server::is_loopback,
    transport::{BodyStream, Exchange, GivenOutBy, RequestBody, Transport, TransportError},
};
use crate::runtime::{self, RuntimeId};

/// The default `User-Agent`.
const USER_AGENT: &str = concat!("synckit/", env!("CARGO_PKG_VERSION"));

/// The most clients in the cache, one for each runtime and way: a process rarely has several runtimes.
const CLIENTS_MAX: usize = 8;
/// The most servers whose last address is remembered.
const PEERS_MAX: usize = 16;

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
    /// The proxies that the environment names.
    environment: Matcher,
    lookup: Lookup,
    made: Mutex<VecDeque<Client>>,
    /// The address from which a server of this name answered last, without a proxy in between.
    peers: Mutex<VecDeque<(String, IpAddr)>>,
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
    /// Through a proxy, which resolves the name.
    Proxied,
    /// All others, limited to a reach if a server issued the URL.
    Direct(Option<Reach>),
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
                .connect(Way::Direct(None))
                .map_err(|_| invalid("ca_bundle", "it contains an unusable certificate"))?;
        }
        Ok(transport)
    }

    fn of(options: Checked) -> Self {
        Self::looking_up(options, system_lookup())
    }

    fn looking_up(options: Checked, lookup: Lookup) -> Self {
        Self(Arc::new(Clients {
            options,
            environment: Matcher::from_system(),
            lookup,
            made: Mutex::default(),
            peers: Mutex::default(),
        }))
    }
}

impl Clients {
    /// The way to a URL. `given` is the server that issued it, if one did.
    fn way(&self, url: &Url, given: Option<&GivenOutBy>) -> Result<Way, TransportError> {
        let reach = given.map(|server| self.reach_of(&server.0));
        // These are connected to without a resolver.
        if let (Some(reach), Some(address)) = (reach, literal(url))
            && !reach.covers(address)
        {
            return Err(TransportError::OutOfReach);
        }
        Ok(match (url.scheme(), is_loopback(url)) {
            ("http", true) => Way::Plain,
            (_, true) => Way::Loopback,
            _ if self.is_proxied(url) => Way::Proxied,
            _ => Way::Direct(reach),
        })
    }

    /// The reach of a server's URLs: that of the address from which the server last answered. A fresh look-up of its name
    /// proves nothing, because a hostile server controls its name.
    fn reach_of(&self, server: &Url) -> Reach {
        let answered = |host: &str| {
            let peers = self.peers.lock();
            let found = peers.iter().find(|(name, _)| name == host);
            found.map(|(_, address)| *address)
        };
        let address = literal(server).or_else(|| answered(server.host_str()?));
        address.and_then(Reach::of).unwrap_or(Reach::Public)
    }

    fn remember_peer(&self, host: &str, address: IpAddr) {
        let mut peers = self.peers.lock();
        match peers.iter_mut().find(|(name, _)| name == host) {
            Some((_, known)) => *known = address,
            None => {
                if peers.len() >= PEERS_MAX {
                    peers.pop_front();
                }
                peers.push_back((host.to_owned(), address));
            }
        }
    }

    fn is_proxied(&self, url: &Url) -> bool {
        let named = || {
            let uri = url.as_str().parse().ok()?;
            self.environment.intercept(&uri)
        };
        self.options.proxy.is_some() || named().is_some()
    }

    /// The client for a way on this runtime: a connection makes progress only while the runtime that created it is
    /// driven.
    fn of(&self, way: Way) -> Result<reqwest::Client, TransportError> {
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
            (Way::Proxied, Some(proxy)) => builder.proxy(proxy.clone()),
            (Way::Proxied, None) => builder,
            (Way::Direct(reach), _) => {
                let lookup = Arc::clone(&self.lookup);
                builder.no_proxy().dns_resolver(Resolver { lookup, reach })
            }
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
            let way = clients.way(&url, parts.extensions.get())?;
            let client = clients.of(way)?;
            let host = url.host_str().unwrap_or_default().to_owned();
            let mut builder = client.request(parts.method, url).headers(parts.headers);
            builder = match body {
                RequestBody::Empty => builder,
                RequestBody::Full(bytes) => builder.body(bytes),
                RequestBody::Stream { length, chunks } => builder
                    .header(http::header::CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(chunks)),
            };
            let response = builder.send().await.map_err(connection_error)?;
            if let (Way::Direct(None), Some(address)) = (way, response.remote_addr()) {
                clients.remember_peer(&host, address.ip());
            }
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
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<OutOfReach>() {
            return TransportError::OutOfReach;
        }
        cause = inner.source();
    }
    TransportError::Connection(Box::new(error.without_url()))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A machine with a service at a port of loopback, and names that lead there or elsewhere.
    struct Machine {
        transport: HttpTransport,
        port: u16,
        connections: Arc<AtomicUsize>,
        lookups: Arc<AtomicUsize>,
    }

    impl Machine {
        async fn start(names: &[(&'static str, &[&str])]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&connections);
            tokio::spawn(async move {
                while let Ok((mut connection, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let mut request = [0; 4096];
                    let _ = connection.read(&mut request).await;
                    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                    let _ = connection.write_all(answer).await;
                }
            });
            let names: HashMap<&str, Vec<IpAddr>> = names
                .iter()
                .map(|(name, addresses)| (*name, addresses.iter().map(|text| text.parse().unwrap()).collect()))
                .collect();
            let lookups = Arc::new(AtomicUsize::new(0));
            let asked = Arc::clone(&lookups);
            let lookup: Lookup = Arc::new(move |name| {
                asked.fetch_add(1, Ordering::SeqCst);
                names.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
            });
            let options = Checked {
                connect_timeout: Duration::from_secs(10),
                user_agent: HeaderValue::from_static(USER_AGENT),
                roots: None,
                proxy: None,
            };
            let mut transport = HttpTransport::looking_up(options, lookup);
            // Ignores the proxy of the machine that runs the test.
            Arc::get_mut(&mut transport.0).unwrap().environment = Matcher::builder().build();
            Self {
                transport,
                port,
                connections,
                lookups,
            }
        }

        /// Sends a request to the service's port of a host. `server` issued the URL.
        async fn get(&self, host: &str, server: Option<&str>) -> Result<u16, TransportError> {
            let mut request = http::Request::get(format!("http://{host}:{}/", self.port));
            if let Some(server) = server {
                request = request.extension(GivenOutBy(Url::parse(server).unwrap()));
            }
            let request = request.body(RequestBody::Empty).unwrap();
            Ok(self.transport.send(request).await?.status().as_u16())
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::SeqCst)
        }
    }

    const NAMES: &[(&str, &[&str])] = &[
        ("api.test", &["127.0.0.1"]),
        ("store.test", &["127.0.0.1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("nowhere.test", &["0.0.0.0", "::", "224.0.0.1"]),
        ("router.test", &["192.168.1.1", "fe80::1"]),
        ("empty.test", &[]),
    ];

    #[tokio::test]
    async fn url_of_a_server_leads_no_further_than_it() {
        let machine = Machine::start(NAMES).await;
        let (api, far) = (Some("https://api.test"), Some("https://far.test"));
        let is_refused = |result: Result<u16, TransportError>| matches!(result, Err(TransportError::OutOfReach));

        // Neither server has answered yet, and the name of one of them resolves to this machine.
        for server in [api, far] {
            for host in ["store.test", "mapped.test", "router.test", "nowhere.test"] {
                assert!(is_refused(machine.get(host, server).await), "{host} by {server:?}");
            }
            for host in [
                "127.0.0.1",
                "localhost",
                "a.localhost",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "10.0.0.1",
                "0.0.0.0",
            ] {
                assert!(is_refused(machine.get(host, server).await), "{host} by {server:?}");
            }
        }
        assert_eq!(machine.connections(), 0);

        // The app's own requests are not limited. After one the server is known to be on this machine.
        assert_eq!(machine.get("api.test", None).await.unwrap(), 204);
        let before = machine.lookups.load(Ordering::SeqCst);
        assert_eq!(machine.get("store.test", api).await.unwrap(), 204);
        assert_eq!(
            machine.lookups.load(Ordering::SeqCst),
            before + 1,
            "the name is looked up once"
        );
        assert_eq!(machine.get("127.0.0.1", api).await.unwrap(), 204);
        assert!(is_refused(machine.get("nowhere.test", api).await));
        let connections = machine.connections();
        assert_eq!(connections, 3);
        // That does not extend to another server, and a URL does not prove the address of its server.
        assert!(is_refused(machine.get("store.test", far).await));
        assert!(is_refused(machine.get("api.test", far).await));
        assert_eq!(machine.connections(), connections);
        // A server whose host is an IP address needs no answer before.
        assert_eq!(
            machine.get("store.test", Some("http://127.0.0.1:1")).await.unwrap(),
            204
        );
        assert!(is_refused(machine.get("store.test", Some("https://192.168.1.9")).await));
    }

    #[tokio::test]
    async fn name_without_an_address_is_a_connection_error() {
        let machine = Machine::start(NAMES).await;
        for host in ["empty.test", "unknown.test"] {
            let error = machine.get(host, Some("https://far.test")).await.unwrap_err();
            assert!(matches!(error, TransportError::Connection(_)), "{host}: {error:?}");
        }
    }

    /// A proxy resolves names itself, so only IP addresses can be refused.
    #[tokio::test]
    async fn proxied_url_is_checked_by_its_text() {
        let machine = Machine::start(NAMES).await;
        let mut options = HttpOptions::new(Duration::from_secs(10));
        options.proxy = Some(format!("http://127.0.0.1:{}", machine.port));
        let proxied = Machine {
            transport: HttpTransport::with(&options).unwrap(),
            ..machine
        };
        assert_eq!(proxied.get("far.test", None).await.unwrap(), 204);
        // The proxy is on this machine, which proves nothing about the server.
        for host in ["127.0.0.1", "localhost", "192.168.1.1"] {
            let refused = proxied.get(host, Some("https://far.test")).await;
            assert!(matches!(refused, Err(TransportError::OutOfReach)), "{host}");
        }
        assert_eq!(proxied.get("store.test", Some("https://far.test")).await.unwrap(), 204);
        assert_eq!(proxied.connections(), 2);
    }
}
