//! Administration of a server: apps, API keys, invitations, accounts.
//!
//! [`Admin::open`] works on a data directory with or without a running server: both use the same database, which orders
//! their transactions, and the server caches none of the data that can change here for longer than a request. Methods
//! whose effect needs a restart say so.
//!
//! It deliberately creates no accounts. A client makes an account's vault, because only a client can encrypt.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use synckit_protocol::{
    AppId, KeyId, NameError, OwnerKey, SecretText, TeamId, UserId, check_name,
    limits::{self, REDIRECTS_MAX, TEAM_APPS_MAX, TEAM_MEMBERS_MAX},
    wire::UnixSeconds,
};
use synckit_store::{
    Account, AddressChange, App, EnvelopeRestore, NewAddress, NewApiKey, OpenedBy, RedirectWrite, Retention,
    SecretHash, SqliteOptions, SqliteStore, Store, StoreError, StreamId,
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{Export, ExportError, teams::written};
use crate::{
    billing::PlanError,
    jobs::pause_after,
    oauth::{RedirectError, check_redirect},
    platform::Clock,
    sign_in::{NormalEmail, fresh_api_key, fresh_secret},
    startup::{
        DataDir, DataDirError, KeyFileError,
        config::{Config, Database},
        open_postgres, rotate_token_key,
    },
};

/// The administration of one data directory.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use synckit_server::Admin;
///
/// // Beside a running server, too.
/// let admin = Admin::open(directory.path())?;
/// let app = admin.create_app("Notes").await?;
/// assert_eq!(admin.apps().await?[0].id, app.app_id);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Admin {
    data_dir: DataDir,
    store: Arc<dyn Store>,
    clock: Clock,
}

/// Why an administrative command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The database failed.
    #[error("the database did not carry out the command")]
    Store(#[from] StoreError),
    /// An app cannot have the name.
    #[error("an app cannot have this name: {0}")]
    AppName(NameError),
    /// Another app has the name.
    #[error("there is already an app named {0:?}")]
    AppNameTaken(String),
    /// The team has as many apps as it may.
    #[error("the team has {TEAM_APPS_MAX} apps already: delete one, or make another team")]
    TooManyApps,
    /// A team cannot have the name.
    #[error("a team cannot have this name: {0}")]
    TeamName(NameError),
    /// Another team has the name.
    #[error("there is already a team named {0:?}")]
    TeamNameTaken(String),
    /// The team does not exist.
    #[error("there is no team {0}")]
    NoSuchTeam(TeamId),
    /// The team would have no owner.
    #[error("the team would have no owner: make another member its owner first")]
    LastOwner,
    /// The team has as many members as it may.
    #[error("the team has {TEAM_MEMBERS_MAX} members already: remove one")]
    TooManyMembers,
    /// The apps of the team would be nobody's.
    #[error("the team has apps: delete them, or give them to another team")]
    TeamHasApps,
    /// An address cannot be registered.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The app has as many registered addresses as it may.
    #[error("the app has {REDIRECTS_MAX} return addresses already: remove one that is not used")]
    TooManyRedirects,
    /// The app has no such registered address.
    #[error("the app has no return address {0}")]
    NoSuchRedirect(String),
    /// The app stores more than the plan holds.
    #[error(
        "the app stores {stored_bytes} bytes, which is more than the plan holds: delete data, or choose a larger plan"
    )]
    PlanTooSmall {
        /// Sealed bytes that count.
        stored_bytes: u64,
    },
    /// An address that no account can have.
    #[error("{0:?} is no e-mail address")]
    Address(String),
    /// Another account has the address.
    #[error("another account has the address {0}")]
    AddressTaken(String),
    /// A plan, or a limit of users, that nobody can choose.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The app does not exist.
    #[error("there is no app {0}")]
    NoSuchApp(AppId),
    /// This version of the envelope is not kept (any more).
    #[error("version {0} of the envelope is not kept")]
    NoSuchEnvelope(u64),
    /// This version of the envelope is already the current one.
    #[error("version {0} of the envelope is the current one")]
    EnvelopeIsCurrent(u64),
    /// The account does not exist.
    #[error("there is no account {0}")]
    NoSuchAccount(UserId),
    /// A server runs on the data whose schema is older than that of this program, which would change it under the
    /// server's hands.
    #[error(
        "the running server is older than this program: its database has schema {found}, this program would make it \
         {known}. Use the program of the running server, or stop the server first"
    )]
    OlderServer {
        /// The schema version in the database.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// An export could not be written.
    #[error("the export could not be written")]
    Write(#[source] io::Error),
    /// An export could not be made.
    #[error("the export could not be made")]
    Export(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One of the stored envelopes of a stream. Only the user's devices can read its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEnvelope {
    /// Its version; the highest is the current one.
    pub version: u64,
    /// The master key that batches were to be sealed under while it was the current one.
    pub key_id: KeyId,
    /// The owner key that came with it.
    pub owner: OwnerKey,
    /// How large it is, in bytes.
    pub size_bytes: usize,
    /// When it was written.
    pub written_at: UnixSeconds,
}

/// An app that was just created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedApp {
    /// The app.
    pub app_id: AppId,
    /// Its key, for `SyncKitConfig::api_key`.
    pub api_key: SecretText,
}

impl Admin {
    /// Opens a data directory; creates it, and the database in it, if they do not exist. An older database is brought up to
    /// date, unless a server runs on it: that server knows only the older one.
    ///
    /// Blocks its thread, also while another process or task opens the same directory: a task that opens a server on the same
    /// thread would never end. [`Admin::connect`] does not block.
    ///
    /// # Errors
    /// [`AdminError::DataDir`], [`AdminError::OlderServer`] and [`AdminError::Store`].
    pub fn open(data_dir: &Path) -> Result<Self, AdminError> {
        let data_dir = DataDir::open(data_dir)?;
        let opening = data_dir.begin_opening_on_this_thread()?;
        data_dir.check_database::<AdminError>()?;
        let schema = SqliteStore::schema(&data_dir.database())?;
        let known = schema.known;
        // Held while the database is brought up to date, so that no server starts on it meanwhile.
        let _no_server = match schema.found.filter(|found| *found < known) {
            Some(found) => match data_dir.lock(&opening) {
                Err(DataDirError::InUse { .. }) => return Err(AdminError::OlderServer { found, known }),
                lock => Some(lock?),
            },
            None => None,
        };
        let store = SqliteStore::open(&data_dir.database(), SqliteOptions::default())?;
        Ok(Self {
            data_dir,
            store: Arc::new(store),
            clock: Clock::system(),
        })
    }

    /// Opens the database that a configuration names; a PostgreSQL whose schema is older than this program is not changed,
    /// because a server may run on it.
    ///
    /// # Errors
    /// Those of [`Admin::open`]; [`StoreError::OtherSchema`] and [`StoreError::Unavailable`] of a PostgreSQL.
    pub async fn connect(config: &Config) -> Result<Self, AdminError> {
        match &config.database {
            Database::Embedded => {
                let data_dir = config.data_dir.clone();
                let opening = tokio::task::spawn_blocking(move || Self::open(&data_dir));
                let opened = opening.await.unwrap_or_else(|error| {
                    Err(AdminError::DataDir(DataDirError::Io {
                        path: config.data_dir.clone(),
                        source: io::Error::other(error),
                    }))
                });
                Ok(Self {
                    clock: config.clock.clone(),
                    ..opened?
                })
            }
            Database::Postgres(url) => {
                let data_dir = DataDir::at(&config.data_dir);
                let store = open_postgres::<AdminError>(config, url, &data_dir, OpenedBy::Command).await?;
                Ok(Self {
                    data_dir,
                    store: Arc::new(store),
                    clock: config.clock.clone(),
                })
            }
        }
    }

    /// Of a server in the same process, on its store.
    pub(crate) fn of(data_dir: DataDir, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { data_dir, store, clock }
    }

    /// Creates an app with its first key.
    ///
    /// # Errors
    /// [`AdminError::AppName`], [`AdminError::AppNameTaken`] and [`AdminError::Store`].
    pub async fn create_app(&self, name: &str) -> Result<CreatedApp, AdminError> {
        self.create_app_of(None, name).await
    }

    /// Registers an address that a browser sign-in of the app may return to. The loopback addresses
    /// `http://127.0.0.1/callback` and `http://[::1]/callback`, at any port, need no registration.
    ///
    /// # Errors
    /// [`AdminError::Redirect`], [`AdminError::TooManyRedirects`], [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn add_redirect(&self, app_id: AppId, uri: &str) -> Result<(), AdminError> {
        check_redirect(uri)?;
        let now = self.clock.now();
        match self.store.put_redirect(app_id, uri.to_owned(), now).await? {
            RedirectWrite::Registered => Ok(()),
            RedirectWrite::TooMany => Err(AdminError::TooManyRedirects),
            RedirectWrite::NoSuchApp => Err(AdminError::NoSuchApp(app_id)),
        }
    }

    /// Removes a registered address. Sign-ins that were begun before end there no more.
    ///
    /// # Errors
    /// [`AdminError::NoSuchRedirect`] and [`AdminError::Store`].
    pub async fn remove_redirect(&self, app_id: AppId, uri: &str) -> Result<(), AdminError> {
        if self.store.delete_redirect(app_id, uri.to_owned()).await? {
            Ok(())
        } else {
            Err(AdminError::NoSuchRedirect(uri.to_owned()))
        }
    }

    /// The registered addresses of an app, in order of their text.
    ///
    /// # Errors
    /// [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn redirects(&self, app_id: AppId) -> Result<Vec<String>, AdminError> {
        let profile = self.store.app_profile(app_id).await?;
        Ok(profile.ok_or(AdminError::NoSuchApp(app_id))?.redirects)
    }

    /// Gives an app another name, which its users see from their next request on.
    ///
    /// # Errors
    /// [`AdminError::AppName`], [`AdminError::AppNameTaken`], [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn rename_app(&self, app_id: AppId, name: &str) -> Result<(), AdminError> {
        check_app_name(name)?;
        written(
            self.store.rename_app(app_id, name.to_owned()).await?,
            app_id,
            name,
            None,
        )
    }

    /// Deletes an app permanently, with all data that its users keep in it; their accounts, and their data in other
    /// apps, stay. Its keys and sessions end at once, for a running server within 5 seconds. The server deletes the
    /// data in the background, step by step; a server that is not running does so after its next start.
    ///
    /// # Errors
    /// [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn delete_app(&self, app_id: AppId) -> Result<(), AdminError> {
        if self.store.delete_app(app_id).await? {
            Ok(())
        } else {
            Err(AdminError::NoSuchApp(app_id))
        }
    }

    /// Every app, in order of creation, with its keys.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn apps(&self) -> Result<Vec<App>, AdminError> {
        Ok(self.store.apps(self.clock.now()).await?)
    }

    /// Gives an app a new key. Older keys stay valid for `overlap`, so that apps in
    /// the field can be updated; zero ends them at once. Sessions that were opened with an older key continue.
    ///
    /// # Errors
    /// [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn rotate_api_key(&self, app_id: AppId, overlap: Duration) -> Result<SecretText, AdminError> {
        let (api_key, key) = self.new_key(app_id);
        let others_end_at = self.clock.now().saturating_add(overlap.as_secs());
        if self.store.rotate_api_key(app_id, key, others_end_at).await? {
            Ok(api_key)
        } else {
            Err(AdminError::NoSuchApp(app_id))
        }
    }

    /// Creates an invitation for one account, which is returned this once.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn create_invite(&self) -> Result<SecretText, AdminError> {
        let code = fresh_secret();
        self.store
            .create_invite(SecretHash::of(code.expose()), self.clock.now())
            .await?;
        Ok(code)
    }

    /// Keeps an account whose deletion is scheduled.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`] and [`AdminError::Store`].
    pub async fn keep_account(&self, user_id: UserId) -> Result<(), AdminError> {
        let kept = self.store.schedule_deletion(user_id, None).await?;
        kept.map(drop).ok_or(AdminError::NoSuchAccount(user_id))
    }

    /// Every account, in order of creation.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn accounts(&self) -> Result<Vec<Account>, AdminError> {
        Ok(self.store.accounts().await?)
    }

    /// The account with an e-mail address, in whatever case it is given.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn account_of(&self, email: &str) -> Result<Option<UserId>, AdminError> {
        let Ok(email) = NormalEmail::parse(email) else {
            return Ok(None);
        };
        let credential = self
            .store
            .credential(synckit_store::CredentialOf::Email(email.as_str()))
            .await?;
        Ok(credential.map(|credential| credential.user_id))
    }

    /// Writes everything that is kept of an account, as JSON lines ([`synckit_protocol::wire::export`]), and flushes.
    /// Returns the number of lines. Blobs are named, not included: their sealed bytes are the files
    /// `blobs/<first byte>/<object key>` of the data directory. Takes one page at a time into memory.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], also if the account is deleted meanwhile; [`AdminError::Write`];
    /// [`AdminError::Store`]. The written export is then incomplete: its last line is missing.
    pub async fn export_account(
        &self,
        user_id: UserId,
        mut writer: impl AsyncWrite + Unpin + Send,
    ) -> Result<u64, AdminError> {
        let mut export = Export::new(Arc::clone(&self.store), user_id, self.clock.now(), |_| {});
        let failed = |error| match error {
            ExportError::AccountGone => AdminError::NoSuchAccount(user_id),
            ExportError::Store(error) => error.into(),
            ExportError::Encode(error) => AdminError::Export(Box::new(error)),
            ExportError::Lost(error) => AdminError::Export(Box::new(error)),
        };
        while let Some(lines) = export.next().await.map_err(failed)? {
            writer.write_all(&lines).await.map_err(AdminError::Write)?;
        }
        writer.flush().await.map_err(AdminError::Write)?;
        Ok(export.lines())
    }

    /// Deletes an account and everything that it stored, in every app, permanently: at once for all new requests, on a
    /// running server within [`limits::REVOCATION_SECONDS`]. Returns when the database holds nothing of it any more,
    /// which takes a while for an account with much data; after an interruption, the server completes the deletion. The
    /// server sweeps the files, the newest two hours later. Returns the number of ended sessions.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`] and [`AdminError::Store`].
    pub async fn delete_account(&self, user_id: UserId) -> Result<usize, AdminError> {
        let ended = self.store.delete_account(user_id).await?;
        let ended = ended.ok_or(AdminError::NoSuchAccount(user_id))?;
        // Nothing is old enough for these times, so this deletes the remains of deleted accounts, and nothing else.
        let condemned = Retention {
            settled_before: 0,
            active_since: 0,
            unfinished_before: 0,
            ended_until: 0,
            now: self.clock.now(),
        };
        loop {
            let began = Instant::now();
            if !self.store.retain(condemned).await? {
                return Ok(ended.len());
            }
            pause_after(began).await;
        }
    }

    /// Gives an account another address, which counts as confirmed, and ends its sessions: for an owner whose address somebody else
    /// changed. The codes that were mailed to the old one end. Returns the number of ended sessions.
    ///
    /// # Errors
    /// [`AdminError::Address`], [`AdminError::AddressTaken`], [`AdminError::NoSuchAccount`] and [`AdminError::Store`].
    pub async fn change_address(&self, user_id: UserId, to: &str) -> Result<usize, AdminError> {
        let to = NormalEmail::parse(to).map_err(|_| AdminError::Address(to.to_owned()))?;
        let overview = self.store.account(user_id).await?;
        let from = overview.ok_or(AdminError::NoSuchAccount(user_id))?.account.email;
        let change = NewAddress {
            user_id,
            session_id: None,
            from,
            to: to.as_str().to_owned(),
            now: self.clock.now(),
        };
        match self.store.change_address(change).await? {
            AddressChange::Changed => self.end_sessions(user_id).await,
            AddressChange::Taken => Err(AdminError::AddressTaken(to.as_str().to_owned())),
            AddressChange::Outdated => Err(AdminError::NoSuchAccount(user_id)),
        }
    }

    /// Ends every session of an account, in every app: on a running server within [`limits::REVOCATION_SECONDS`].
    /// Returns the number of ended sessions.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn end_sessions(&self, user_id: UserId) -> Result<usize, AdminError> {
        Ok(self
            .store
            .end_sessions(synckit_store::EndSessions::OfUser(user_id))
            .await?
            .len())
    }

    /// The envelopes of an account in an app that are kept, newest first; none if encryption was never set up there.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn envelopes(&self, app_id: AppId, user_id: UserId) -> Result<Vec<KeptEnvelope>, AdminError> {
        let envelopes = self.store.envelopes(StreamId { app_id, user_id }).await?;
        let kept = envelopes.into_iter().map(|envelope| KeptEnvelope {
            version: envelope.version,
            key_id: envelope.key_id,
            owner: envelope.owner,
            size_bytes: envelope.envelope.len(),
            written_at: envelope.updated_at,
        });
        Ok(kept.collect())
    }

    /// Stores a kept envelope of an account in an app again, as the newest version, which is returned: for a user whose
    /// devices cannot open the current one. Its master key and its owner key become current again.
    ///
    /// Devices that set up with the older envelope cannot read batches under a key that is not in it. A device that holds
    /// the newer key can restore the newer envelope.
    ///
    /// # Errors
    /// [`AdminError::NoSuchEnvelope`], [`AdminError::EnvelopeIsCurrent`] and [`AdminError::Store`].
    pub async fn restore_envelope(&self, app_id: AppId, user_id: UserId, version: u64) -> Result<u64, AdminError> {
        let stream = StreamId { app_id, user_id };
        match self.store.restore_envelope(stream, version, self.clock.now()).await? {
            EnvelopeRestore::Restored(newest) => Ok(newest),
            EnvelopeRestore::Current => Err(AdminError::EnvelopeIsCurrent(version)),
            EnvelopeRestore::NotKept => Err(AdminError::NoSuchEnvelope(version)),
        }
    }

    /// Adds a key that signs tokens from the server's next start on. Tokens of the older keys stay valid until they
    /// expire, and keys whose last token has expired are removed.
    ///
    /// # Errors
    /// [`AdminError::Keys`].
    pub fn rotate_token_key(&self) -> Result<(), AdminError> {
        Ok(rotate_token_key(&self.data_dir.keys(), self.clock.now())?)
    }

    /// The time by the administration's clock.
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(super) fn new_key(&self, app_id: AppId) -> (SecretText, NewApiKey) {
        let api_key = fresh_api_key(app_id);
        let key = NewApiKey {
            text: api_key.expose().to_owned(),
            created_at: self.clock.now(),
        };
        (api_key, key)
    }
}

fn check_app_name(name: &str) -> Result<(), AdminError> {
    check_name(name, limits::APP_NAME_BYTES_MAX).map_err(AdminError::AppName)
}
