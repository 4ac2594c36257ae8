//! The client itself: what it holds, and who may change it when.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, RwLock};
use synckit_crypto::StreamScope;
use synckit_protocol::{AppId, Cursor, Position, SecretText, UserId, limits, wire::UnixSeconds};
use tokio::time::Instant;

use crate::{
    SyncKitClientBuilder, SyncKitConfig,
    blobs::PendingUploads,
    config::{Server, app_fingerprint},
    connection::api::{Api, Jitter},
    connection::transport::{HttpTransport, Transport},
    error::{Error, Result},
    history::walk::StreamState,
    secrets::credentials::{CredentialError, Credentials},
    setup::Keys,
    sign_in::{LoginCache, Session, blocking},
};

/// A client of one server for one app, signed in as at most one user at a time.
///
/// `Send + Sync`; every method takes `&self`. Clones share everything, so a clone is as good as an `Arc`.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// # use synckit_doctest::note;
/// use synckit_client::Cursor;
///
/// client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// // Another task pulls with a clone of the same client.
/// let puller = client.clone();
/// let pulled = tokio::spawn(async move { puller.pull(device.id, Cursor::START).await }).await??;
/// assert_eq!(pulled.0.len(), 1);
/// # Ok(())
/// # });
/// ```
#[derive(Clone)]
pub struct SyncKitClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) api: Api,
    pub(crate) api_key: String,
    pub(crate) page_bytes: u32,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) session: RwLock<Option<Session>>,
    pub(crate) keys: RwLock<Option<Arc<Keys>>>,
    pub(crate) stream: Mutex<StreamState>,
    pub(crate) login_cache: Mutex<Option<LoginCache>>,
    pub(crate) uploads: Mutex<PendingUploads>,
    /// Held while a token is refreshed, so that calls in parallel refresh once.
    pub(crate) refreshing: tokio::sync::Mutex<()>,
    /// Held while a push is under way: two pushes of one client would only send each other back.
    pub(crate) pushing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for SyncKitClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncKitClient")
            .field("user_id", &self.user_id())
            .field("has_key", &self.inner.keys.read().is_some())
            .finish_non_exhaustive()
    }
}

impl SyncKitClient {
    /// A client with default settings. Makes no connection and cannot fail: what is wrong with the configuration is the
    /// error of the first call.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{Error, SyncKitClient, SyncKitConfig};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let client = SyncKitClient::new(SyncKitConfig {
    ///     server_url: "http://sync.example.com".into(), // a password would travel in the clear
    ///     api_key: "your-api-key".into(),
    /// });
    /// let error = client.create_account("me@example.com", "pass").await.unwrap_err();
    /// assert!(matches!(error, Error::InvalidServerUrl { .. }));
    /// # }
    /// ```
    #[must_use]
    pub fn new(config: SyncKitConfig) -> Self {
        Self::builder(config).build()
    }

    /// A client with other settings.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use synckit_client::{CredentialStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(CredentialStore::Memory)
    ///     .request_timeout(Duration::from_secs(10))
    ///     .build();
    /// assert_eq!(client.user_id(), None); // nobody is signed in yet
    /// ```
    #[must_use]
    pub fn builder(config: SyncKitConfig) -> SyncKitClientBuilder {
        SyncKitClientBuilder::new(config)
    }

    pub(crate) fn from_builder(builder: SyncKitClientBuilder) -> Self {
        let SyncKitClientBuilder {
            config,
            credentials,
            request_timeout,
            connect_timeout,
            page_bytes,
            transport,
            jitter_seed,
        } = builder;
        let server = Server::parse(&config.server_url);
        let origin = server.as_ref().map_or("", Server::origin).to_owned();
        let transport = match transport {
            Some(transport) => Ok(transport),
            None => HttpTransport::new(connect_timeout)
                .map(|transport| Arc::new(transport) as Arc<dyn Transport>)
                .map_err(|error| tracing::error!(error = &error as &dyn std::error::Error, "no HTTP client")),
        };
        let credentials = Arc::new(Credentials::new(
            credentials,
            &origin,
            &app_fingerprint(&config.api_key),
        ));
        Self {
            inner: Arc::new(Inner {
                api: Api::new(
                    transport,
                    server,
                    config.server_url,
                    request_timeout,
                    Jitter::new(jitter_seed),
                ),
                api_key: config.api_key,
                page_bytes,
                credentials,
                session: RwLock::default(),
                keys: RwLock::default(),
                stream: Mutex::default(),
                login_cache: Mutex::default(),
                uploads: Mutex::default(),
                refreshing: tokio::sync::Mutex::default(),
                pushing: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// The user who is signed in, if anybody is.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// let created = client.create_account(email, password).await?;
    /// assert_eq!(client.user_id(), None);
    /// client.authenticate(email, password).await?;
    /// assert_eq!(client.user_id(), Some(created));
    /// # Ok(())
    /// # });
    /// ```
    pub fn user_id(&self) -> Option<UserId> {
        self.inner.session.read().as_ref().map(|session| session.scope.user_id)
    }

    /// The app of the session, if anybody is signed in.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// assert!(client.app_id().is_some());
    /// client.sign_out().await?;
    /// assert_eq!(client.app_id(), None);
    /// # Ok(())
    /// # });
    /// ```
    pub fn app_id(&self) -> Option<AppId> {
        self.inner.session.read().as_ref().map(|session| session.scope.app_id)
    }

    /// Tells the client how far the app has applied what it pulled: the cursor that the app stored beside its data. A
    /// push then returns this cursor instead of the start.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// use synckit_client::Cursor;
    ///
    /// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
    /// let (_, stored, _) = client.pull(device.id, Cursor::START).await?; // beside the app's data
    ///
    /// // After a restart of the app:
    /// let (client, device) = world.device("laptop").await?;
    /// client.resume_at(stored);
    /// let cursor = client.push(device.id, vec![note("2", "Buy bread")]).await?;
    /// assert_eq!(cursor, stored); // the push itself comes back at the next pull
    /// # Ok(())
    /// # });
    /// ```
    pub fn resume_at(&self, cursor: Cursor) {
        self.inner.stream.lock().resume_at(cursor);
    }
}

impl Inner {
    /// Runs work on the credential store, which may block, off the async threads.
    pub(crate) async fn with_credentials<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Credentials) -> Result<T, CredentialError> + Send + 'static,
    {
        let credentials = Arc::clone(&self.credentials);
        Ok(blocking(move || work(&credentials)).await??)
    }

    /// The account and app of the session.
    pub(crate) fn scope(&self) -> Result<StreamScope> {
        self.session
            .read()
            .as_ref()
            .map(|session| session.scope)
            .ok_or(Error::NotSignedIn)
    }

    /// The keys in memory.
    pub(crate) fn keys(&self) -> Result<Arc<Keys>> {
        self.scope()?;
        self.keys.read().clone().ok_or(Error::EncryptionNotSetUp)
    }

    /// The first position of the stream.
    pub(crate) fn start(&self) -> Result<Position> {
        let scope = self.scope()?;
        Ok(Position::start_of(scope.app_id, scope.user_id))
    }

    /// Makes a session current. Signing in as somebody else drops everything that belongs to the user before.
    pub(crate) fn install_session(&self, session: Session) {
        let mut current = self.session.write();
        if current.as_ref().is_some_and(|before| before.scope != session.scope) {
            self.forget_user_state();
        }
        *current = Some(session);
    }

    /// Drops the session and everything that belongs to its user.
    pub(crate) fn drop_session(&self) {
        *self.session.write() = None;
        self.forget_user_state();
    }

    fn forget_user_state(&self) {
        *self.keys.write() = None;
        *self.stream.lock() = StreamState::default();
        *self.login_cache.lock() = None;
        *self.uploads.lock() = PendingUploads::default();
    }

    /// The token of account audience, if the sign-in behind it is fresh enough for another request.
    pub(crate) fn account_token(&self) -> Option<SecretText> {
        let session = self.session.read();
        let (token, since) = session.as_ref()?.account_token.as_ref()?;
        let lifetime = Duration::from_secs(limits::ACCOUNT_TOKEN_SECONDS - 15);
        (Instant::now().duration_since(*since) < lifetime).then(|| token.clone())
    }
}

/// The clock of this machine, in the wire's unit. Only ever used to refresh early: a wrong clock costs a request.
pub(crate) fn unix_now() -> UnixSeconds {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
