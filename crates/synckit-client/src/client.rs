//! The client itself: the app on its server, and the user who is signed in.

use std::{fmt, sync::Arc};

use parking_lot::{Mutex, RwLock};
use synckit_crypto::StreamScope;
use synckit_protocol::{ApiKey, AppId, Cursor, UserId};

use crate::{
    config::{SyncKitClientBuilder, SyncKitConfig},
    connection::{
        api::Api,
        app::App,
        retry::Jitter,
        server::Server,
        session::Connection,
        transport::{HttpTransport, Transport},
    },
    error::{Error, Result},
    plan_usage::PlanUsage,
    secrets::records::Secrets,
    state::{pending::PendingAddress, session::Tokens},
    stream::handle::Stream,
};

/// A client of one server for one app, signed in as at most one user at a time.
///
/// `Send + Sync`; every method takes `&self`. Clones share everything, and a clone is as cheap as that of an `Arc`.
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
    pub(crate) app: Arc<App>,
    current: Arc<RwLock<Current>>,
}

/// The user who is signed in.
#[derive(Default)]
struct Current {
    /// The stream of the user, and with it all state that belongs to the user.
    stream: Option<Arc<Stream>>,
    /// The cursor that the app passed to `resume_at` before anybody was signed in.
    resume_at: Option<Cursor>,
}

impl fmt::Debug for SyncKitClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.current.read().stream.clone();
        f.debug_struct("SyncKitClient")
            .field("user_id", &stream.as_ref().map(|stream| stream.scope().user_id))
            .field("has_key", &stream.is_some_and(|stream| stream.keys().is_ok()))
            .finish_non_exhaustive()
    }
}

impl SyncKitClient {
    /// A client with default settings. Makes no connection and cannot fail: an invalid configuration is the error of
    /// the first call.
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
    /// use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::builder(config)
    ///     .credential_store(MemoryStore::default())
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
            http,
            page_bytes,
            transport,
            jitter_seed,
        } = builder;
        let app_id = ApiKey::publishable(&config.api_key).ok().map(|key| key.app_id());
        let transport = match transport {
            Some(transport) => Ok(transport),
            None => HttpTransport::with(&http).map(|transport| Arc::new(transport) as Arc<dyn Transport>),
        };
        let app = App {
            secrets: Secrets::new(credentials, app_id),
            api: Api {
                transport,
                server: Server::parse(&config.server_url),
                server_url: config.server_url,
                request_timeout,
                jitter: Jitter::new(jitter_seed),
                plan_usage: Mutex::default(),
            },
            api_key: config.api_key,
            page_bytes,
            pending: PendingAddress::default(),
        };
        Self {
            app: Arc::new(app),
            current: Arc::default(),
        }
    }

    /// How much the app has used of its plan, by the server's last answer: from 80 % of one of its parts on. `None` below, without a
    /// plan, and before the first answer. An app can warn its users with it before anything is refused.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.client();
    /// if let Some(usage) = client.plan_usage() {
    ///     println!("{} % of the storage of this app is used", usage.storage_percent);
    /// }
    /// # Ok(())
    /// # });
    /// ```
    pub fn plan_usage(&self) -> Option<PlanUsage> {
        *self.app.api.plan_usage.lock()
    }

    /// The user who is signed in, if any.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// client.create_account(email, password).await?;
    /// assert_eq!(client.user_id(), None);
    /// let (user_id, _app_id) = client.authenticate(email, password).await?;
    /// assert_eq!(client.user_id(), Some(user_id));
    /// # Ok(())
    /// # });
    /// ```
    pub fn user_id(&self) -> Option<UserId> {
        self.stream().ok().map(|stream| stream.scope().user_id)
    }

    /// The app of the session, if a user is signed in.
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
        self.stream().ok().map(|stream| stream.scope().app_id)
    }

    /// Tells the client how far the app has applied the pulled changes: the cursor that the app stored beside its data.
    /// Call it at the start of the app, before a push: only the app knows the cursor of its database.
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
        let mut current = self.current.write();
        match &current.stream {
            Some(stream) => stream.state.resume_at(cursor),
            None => current.resume_at = Some(cursor),
        }
    }
}

impl SyncKitClient {
    /// The stream of the user who is signed in.
    pub(crate) fn stream(&self) -> Result<Arc<Stream>> {
        self.current.read().stream.clone().ok_or(Error::NotSignedIn)
    }

    /// How far the app has applied the pulled changes; `None` if only the app knows.
    pub(crate) fn applied(&self) -> Option<Cursor> {
        let current = self.current.read();
        match &current.stream {
            Some(stream) => stream.state.applied(),
            None => current.resume_at,
        }
    }

    /// Takes the tokens of a sign-in. The same user keeps the stream; another user gets a new one.
    pub(crate) fn begin(&self, scope: StreamScope, tokens: Tokens) -> Arc<Stream> {
        let mut current = self.current.write();
        if let Some(stream) = current.stream.as_ref().filter(|stream| stream.scope() == scope) {
            stream.connection.session.begin(tokens);
            return Arc::clone(stream);
        }
        let stream = Arc::new(self.new_stream(scope, tokens));
        current.adopt(Arc::clone(&stream));
        stream
    }

    /// A new stream, not yet the current one.
    pub(crate) fn new_stream(&self, scope: StreamScope, tokens: Tokens) -> Stream {
        Stream::new(Connection::new(Arc::clone(&self.app), scope, tokens))
    }

    /// Makes a new stream the current one.
    pub(crate) fn adopt(&self, stream: Stream) {
        self.current.write().adopt(Arc::new(stream));
    }

    /// Forgets the user who is signed in. Later calls fail as signed out.
    pub(crate) fn end(&self) {
        if let Some(stream) = self.current.write().stream.take() {
            stream.connection.session.end();
        }
    }
}

impl Current {
    fn adopt(&mut self, stream: Arc<Stream>) {
        if let Some(cursor) = self.resume_at.take() {
            stream.state.resume_at(cursor);
        }
        if let Some(before) = self.stream.replace(stream) {
            before.connection.session.end();
        }
    }
}
