//! Configuration of a client.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    client::SyncKitClient,
    connection::{http::HttpOptions, transport::Transport},
    secrets::{keychain::KeychainStore, store::CredentialStore},
};

/// The two settings that every client needs: the server and the app.
///
/// Everything else has a default; [`SyncKitClient::builder`] changes it.
///
/// # Examples
/// ```
/// use synckit_client::SyncKitConfig;
///
/// let config = SyncKitConfig {
///     server_url: "https://sync.example.com".into(),
///     api_key: "your-api-key".into(),
/// };
/// assert!(!format!("{config:?}").contains("your-api-key"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SyncKitConfig {
    /// The server, for example `https://sync.example.com`. Plain `http://` is refused except to loopback.
    pub server_url: String,
    /// The publishable key of the app, `skp_` and 72 characters. It names the app. Every copy of the app contains it,
    /// so it is no secret. Keys that begin with `sks_`, `skt_` or `skw_` are secrets: never put one into an app.
    pub api_key: String,
}

impl fmt::Debug for SyncKitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncKitConfig")
            .field("server_url", &self.server_url)
            .finish_non_exhaustive()
    }
}

/// Builds a client with other settings than the default.
///
/// # Examples
/// ```
/// use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};
///
/// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
/// let builder = SyncKitClient::builder(config).page_bytes(256 * 1024);
/// let for_tests = builder.clone().credential_store(MemoryStore::default()).build();
/// assert!(matches!(for_tests.try_load_key_from_keychain(), Err(synckit_client::Error::NoStoredKey)));
/// ```
#[derive(Debug, Clone)]
pub struct SyncKitClientBuilder {
    pub(crate) config: SyncKitConfig,
    pub(crate) credentials: Arc<dyn CredentialStore>,
    pub(crate) request_timeout: Duration,
    pub(crate) http: HttpOptions,
    pub(crate) page_bytes: u32,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) jitter_seed: Option<u64>,
}

impl SyncKitClientBuilder {
    pub(crate) fn new(config: SyncKitConfig) -> Self {
        Self {
            config,
            credentials: Arc::new(KeychainStore),
            request_timeout: Duration::from_secs(30),
            http: HttpOptions::new(Duration::from_secs(10)),
            page_bytes: synckit_protocol::limits::PAGE_BYTES_DEFAULT,
            transport: None,
            jitter_seed: None,
        }
    }

    /// The place of the session and the master key between two starts of the app. Default: the keychain.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config).credential_store(MemoryStore::default()).build();
    /// // Memory is empty at the start of the app: ask for the password.
    /// assert!(matches!(client.try_load_key_from_keychain(), Err(Error::NoStoredKey)));
    /// ```
    #[must_use]
    pub fn credential_store(mut self, store: impl CredentialStore) -> Self {
        self.credentials = Arc::new(store);
        self
    }

    /// Time limit for the first byte of an answer, without retries, and for each pause in the answer; for files, for
    /// each pause in the transfer. A large push gets more time, enough for 16 KiB per second. Default: 30 seconds.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await?; // takes connections, answers nothing
    /// # let server_url = format!("http://{}", deaf.local_addr()?);
    /// # let config = SyncKitConfig { server_url, api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .request_timeout(Duration::from_millis(20))
    ///     .build();
    /// let error = client.request_password_reset("me@example.com").await.unwrap_err();
    /// assert!(matches!(error, Error::Network(_))); // after three retries
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Time limit for connecting. Default: 10 seconds.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// # let config = SyncKitConfig { server_url: format!("http://{closed}"), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .connect_timeout(Duration::from_secs(2))
    ///     .build();
    /// let error = client.request_password_reset("me@example.com").await.unwrap_err();
    /// assert!(matches!(error, Error::Network(_))); // offline: go on with local data, try again later
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.http.connect_timeout = timeout;
        self
    }

    /// Trusts the certificates of this bundle (PEM), and no others: for a company's own authority, for a container
    /// without root certificates, or for Android without JNI. Default: the certificates of the operating system. No
    /// effect together with [`SyncKitClientBuilder::transport`].
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .ca_bundle("not a certificate") // std::fs::read("company-ca.pem")?
    ///     .build();
    /// let error = client.request_password_reset("me@example.com").await.unwrap_err();
    /// assert!(matches!(error, Error::InvalidArgument { argument: "ca_bundle", .. }));
    /// # }
    /// ```
    #[must_use]
    pub fn ca_bundle(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.http.ca_bundle = Some(pem.into());
        self
    }

    /// Sends requests through this HTTP proxy, except those to loopback. The URL may contain a user name and a
    /// password. Default: the proxy that the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`). No effect
    /// together with [`SyncKitClientBuilder::transport`].
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .proxy("ftp://proxy.example.com") // http://proxy.example.com:3128
    ///     .build();
    /// let error = client.request_password_reset("me@example.com").await.unwrap_err();
    /// assert!(matches!(error, Error::InvalidArgument { argument: "proxy", .. }));
    /// # }
    /// ```
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.http.proxy = Some(url.into());
        self
    }

    /// The `User-Agent` header, which the server and a proxy in between can read. Default: `synckit/` and the version
    /// of the SDK. No effect together with [`SyncKitClientBuilder::transport`].
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .user_agent("notes/1.4")
    ///     .build();
    /// assert_eq!(client.user_id(), None);
    /// ```
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.http.user_agent = text.into();
        self
    }

    /// Requested size of one page of a pull in sealed bytes, at most 8 MiB. Default: 1 MiB.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_doctest::note;
    /// # let (laptop, device) = world.device("laptop").await?;
    /// # for row in ["1", "2"] {
    /// #     laptop.push(device.id, vec![note(row, &"a long text ".repeat(1000))]).await?;
    /// # }
    /// # let (config, email, password) = (world.config(), world.email, world.password);
    /// use synckit_client::{Cursor, MemoryStore, SyncKitClient};
    ///
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .page_bytes(4096) // a device with little memory
    ///     .build();
    /// # client.authenticate(email, password).await?;
    /// # client.setup_encryption_existing(password).await?;
    /// # let device = client.register_device("tablet", "linux").await?;
    /// let (changes, _, has_more) = client.pull(device.id, Cursor::START).await?;
    /// assert_eq!((changes.len(), has_more), (1, true)); // one batch always comes whole
    /// # Ok(())
    /// # });
    /// ```
    #[must_use]
    pub fn page_bytes(mut self, bytes: u32) -> Self {
        self.page_bytes = bytes.min(synckit_protocol::limits::PAGE_BYTES_MAX);
        self
    }

    /// Replaces the transport of requests: for a simulation, for counting bytes, or for an HTTP client of the app's
    /// own, for example with its own certificate verifier.
    ///
    /// # Examples
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use synckit_client::{SyncKitClient, SyncKitConfig, transport::HttpTransport};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// // Two accounts in one process, over one pool of connections.
    /// let transport = Arc::new(HttpTransport::new(Duration::from_secs(10)));
    /// let private = SyncKitClient::builder(config.clone()).transport(transport.clone()).build();
    /// let work = SyncKitClient::builder(config).transport(transport).build();
    /// assert_eq!((private.user_id(), work.user_id()), (None, None));
    /// ```
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Draws the pauses between retries from a seed, so that a simulation can be replayed. Keys, nonces and ids always
    /// come from the operating system's randomness. Default: a random seed for every client, so that devices that
    /// failed together do not retry together.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// // In a simulation: the pauses between retries are the same in every run.
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
    ///     .jitter_seed(42)
    ///     .build();
    /// assert!(client.try_load_key_from_keychain().is_err());
    /// ```
    #[must_use]
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    /// Builds the client. Cannot fail: an invalid configuration is the error of the first call.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// let client = SyncKitClient::builder(SyncKitConfig {
    ///     server_url: "sync.example.com".into(), // the scheme is missing
    ///     api_key: "your-api-key".into(),
    /// })
    /// .credential_store(MemoryStore::default())
    /// .build();
    /// assert!(matches!(client.try_load_key_from_keychain(), Err(Error::InvalidServerUrl { .. })));
    /// ```
    #[must_use]
    pub fn build(self) -> SyncKitClient {
        SyncKitClient::from_builder(self)
    }
}
