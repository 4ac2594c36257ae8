//! The embedded store: one SQLite file, nothing to install.
//!
//! One thread writes and commits many requests together ([`writer`]), a few connections read ([`readers`]), a thread of
//! its own checkpoints ([`checkpoint`]). The modules named after things of the domain hold the SQL; each of their
//! functions runs inside a transaction that it neither begins nor ends.
//!
//! Other processes of the same machine may use the file at the same time (the command line does); they wait for each
//! other's transactions. The file must not lie on a network file system, whose locks and syncs cannot be trusted.
//!
//! Invariant: an answered write survives a power cut, as far as the disk keeps the bytes that it was told to sync.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use synckit_protocol::{
    AppId, BlobId, Cursor, DeviceId, ObjectKey, Position, SealedHash, SessionId, SnapshotId, TeamId, UploadId, UserId,
    wire::{UnixSeconds, console::FirstSteps},
};

use self::{
    checkpoint::{Checkpointer, WalGauge},
    connection::Role,
    executor::{Transaction, run},
    failure::{Abandoned, Failure, database},
    log::Attempt,
    readers::Readers,
    writer::{GROUP_SIZES, Lane, Writer},
};
use super::{
    AcceptNewSeed, Account, AccountCreation, AccountOverview, AddressChange, App, AppProfile, AppWrite, Append, Blob,
    ChainPage, ChainRead, Charge, CommitGroups, Counted, Credential, CredentialOf, Device, DeviceRegistration,
    DeviceRename, EndSessions, Envelope, EnvelopeRestore, EnvelopeWrite, ExportCursor, ExportPage, FinishedLogin,
    LoginUse, MemberWrite, NewAccount, NewAddress, NewApiKey, NewApp, NewBatch, NewDevice, NewEnvelope, NewMailCode,
    NewPendingAccount, NewSession, NewSnapshot, NewSnapshotPart, NewTeam, NewUpload, Notice, Notices, OwnTeam,
    PageRead, PageRequest, PasswordReset, PendingUpload, Place, RedirectWrite, RefreshUse, ResetStart, Retention,
    SecretHash, SeedClaim, Session, SnapshotPartWrite, SnapshotWrite, Store, StoreError, StoreFigures, StoredSnapshot,
    StreamId, StreamStatus, Team, TeamCreation, TeamDeletion, TeamRole, UploadBegin, Vault, VaultWrite, VersionedWrite,
    rules::quotas::Quotas,
};
use crate::records::{self, accounts, allowances, apps, pending_accounts, sessions, teams};

mod backup;
mod blobs;
mod checkpoint;
mod columns;
mod connection;
mod copies;
mod deletion;
mod device_grants;
mod devices;
mod envelopes;
mod executor;
mod failure;
mod figures;
mod inspect;
mod log;
mod plans;
mod positions;
mod queue;
mod readers;
mod retention;
mod schema_parts;
mod snapshots;
mod streams;
mod transfer;
mod writer;

pub use connection::SchemaVersions;
pub use inspect::{DatabaseInspection, IntegrityCheck};
pub(crate) use schema_parts::expected as expected_schema_parts;
pub(crate) use transfer::FileEnd;
pub use writer::WriteStatistics;

/// How long to wait before a file is opened again that another process holds.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// On whose behalf a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    /// The one server that works on it: a copy of a database that a server had open is checked whole first.
    Server,
    /// A command, perhaps beside a server.
    Command,
}

/// How a [`SqliteStore`] uses the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// On whose behalf it is opened. A command by default.
    pub opened_by: OpenedBy,
    /// Connections that read, at least 1. Four by default.
    pub readers: usize,
    /// How long a transaction waits for one of another process before it fails with [`StoreError::Busy`]. Five seconds
    /// by default.
    pub busy_timeout: Duration,
    /// The most bytes that the database file may take; [`StoreError::Full`] past it. The write-ahead log beside it takes
    /// up to about 45 MiB more while the server is busy. No limit but the disk's by default.
    pub max_bytes: Option<u64>,
    /// How long nothing is written before the write-ahead log is emptied. Two seconds by default.
    pub empty_log_after: Duration,
    /// The quotas of one account.
    pub quotas: Quotas,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            opened_by: OpenedBy::Command,
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            max_bytes: None,
            empty_log_after: Duration::from_secs(2),
            quotas: Quotas::default(),
        }
    }
}

/// A store in one SQLite file.
///
/// Reads need a tokio runtime. Dropping the store finishes accepted work, as [`Store::close`] does.
pub struct SqliteStore {
    parts: Arc<Parts>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// The running parts, in the order of stopping.
#[derive(Debug)]
struct Parts {
    writer: Writer,
    checkpointer: Checkpointer,
    readers: Readers,
    gauge: Arc<WalGauge>,
    path: PathBuf,
    opened_by: OpenedBy,
    quotas: Quotas,
    /// Logs that were cut since the store was opened.
    cuts: AtomicU64,
    /// Held while stopping, so that a second caller waits for the first.
    stopping: Mutex<()>,
}

impl SqliteStore {
    /// Opens the database file at `path`, or creates it with mode 0600, and brings its schema up to date. SQLite keeps
    /// two more files beside it while it is open, `-wal` and `-shm`; an orderly stop leaves one file.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] if a newer server wrote the file, [`StoreError::Full`] if the disk is full,
    /// [`StoreError::Damaged`] if it is a damaged copy of a database that a server had open,
    /// [`StoreError::Database`] if the file cannot be opened or is not a database of this server.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        connection::create_file(path)?;
        let open = |role, busy_timeout| connection::open(path, role, busy_timeout).map_err(StoreError::from);
        // SQLite does not wait for a lock where a file switches to a write-ahead log, or where a connection that has read
        // wants to write: another process that starts or stops on the same file would be a refusal.
        let deadline = Instant::now() + options.busy_timeout;
        let patiently = |open: &dyn Fn() -> Result<rusqlite::Connection, StoreError>| loop {
            match open() {
                Err(StoreError::Busy) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
                opened => return opened,
            }
        };
        let writing = patiently(&|| {
            let mut writing = open(Role::Writer, options.busy_timeout)?;
            connection::migrate(&mut writing)?;
            Ok(writing)
        })?;
        if options.opened_by == OpenedBy::Server {
            copies::claim(&writing, path)?;
        }
        if let Some(max_bytes) = options.max_bytes {
            connection::limit_size(&writing, max_bytes)?;
        }
        let checkpointing = patiently(&|| open(Role::Writer, checkpoint::LOCKS_WAIT))?;
        let reading = (0..options.readers.max(1))
            .map(|_| open(Role::Reader, options.busy_timeout))
            .collect::<Result<_, _>>()?;
        let gauge = Arc::new(WalGauge::new(
            File::open(path).map_err(database)?,
            options.busy_timeout,
            options.empty_log_after,
        ));
        Ok(Self {
            parts: Arc::new(Parts {
                writer: Writer::start(writing, Arc::clone(&gauge)).map_err(database)?,
                checkpointer: Checkpointer::start(checkpointing, Arc::clone(&gauge)).map_err(database)?,
                readers: Readers::new(reading),
                gauge,
                path: path.to_owned(),
                opened_by: options.opened_by,
                quotas: options.quotas,
                cuts: AtomicU64::new(0),
                stopping: Mutex::new(()),
            }),
        })
    }

    /// Looks which schema a database file has, and changes nothing. A file that is not there has none.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file cannot be opened or is not a database of this server, [`StoreError::Unfinished`]
    /// if it is not there because a transfer into it is not finished.
    pub fn schema(path: &Path) -> Result<SchemaVersions, StoreError> {
        if !path.exists() && transfer::unfinished(path).exists() {
            return Err(StoreError::Unfinished);
        }
        if path.exists() {
            let connection = connection::open(path, Role::Reader, SqliteOptions::default().busy_timeout)?;
            connection::schema(&connection)
        } else {
            connection::schema(&rusqlite::Connection::open_in_memory().map_err(Failure::from)?)
        }
    }

    /// The writer's work since the store was opened.
    pub fn write_statistics(&self) -> WriteStatistics {
        let (jobs, commits) = self.parts.writer.counts();
        WriteStatistics {
            jobs,
            commits,
            checkpoints: self.parts.gauge.checkpoints(),
        }
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.parts.readers.read(work).await
    }

    async fn write<T, F>(&self, lane: impl Into<Lane> + Send, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&rusqlite::Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.parts.writer.write(lane.into(), 0, work).await
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.parts.stop();
    }
}

impl Parts {
    /// Finishes accepted work and closes the files. Blocks.
    fn stop(&self) {
        let _stopping = self.stopping.lock();
        self.writer.refuse();
        let connection = self.writer.join();
        self.checkpointer.join();
        self.readers.disconnect();
        // The last connection: only now can the log be emptied and its file deleted.
        if let Some(connection) = connection {
            if self.opened_by == OpenedBy::Server
                && let Err(error) = copies::release(&connection)
            {
                tracing::warn!(%error, "the database stays marked as open: a copy of it is checked whole");
            }
            checkpoint::finish(&connection);
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn claim_seed(&self, seed_id: [u8; 16], accept_new: AcceptNewSeed) -> Result<SeedClaim, StoreError> {
        self.write(Lane::Server, move |db| {
            run(apps::claim_seed(&Transaction(db), seed_id, accept_new))
        })
        .await
    }

    async fn seed_id(&self) -> Result<Option<[u8; 16]>, StoreError> {
        self.read(|db| run(apps::seed_id(&Transaction(db)))).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.write(Lane::Server, |db| run(apps::check(&Transaction(db))))
            .await?;
        self.read(|db| Ok(db.prepare_cached("SELECT 1 FROM server")?.query_row([], |_| Ok(()))?))
            .await
    }

    async fn figures(&self) -> Result<StoreFigures, StoreError> {
        let parts = &self.parts;
        let path = parts.path.clone();
        let mut figures = self.read(move |db| figures::stored(db, &path)).await?;
        let (writes, _) = parts.writer.counts();
        let (queued_writes, queued_bytes) = parts.writer.queued();
        figures.writes = writes;
        figures.commits = CommitGroups(GROUP_SIZES.into_iter().zip(parts.writer.groups()).collect());
        figures.checkpoints = parts.gauge.checkpoints();
        figures.queued_writes = queued_writes as u64;
        figures.queued_bytes = queued_bytes as u64;
        figures.retention_cuts = parts.cuts.load(Ordering::Relaxed);
        Ok(figures)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.parts.writer.refuse();
        self.parts.readers.drain().await;
        let parts = Arc::clone(&self.parts);
        tokio::task::spawn_blocking(move || parts.stop())
            .await
            .map_err(|_| database(Abandoned))
    }

    async fn create_app(&self, app: NewApp) -> Result<AppWrite, StoreError> {
        self.write(Lane::Server, move |db| run(apps::create(&Transaction(db), &app)))
            .await
    }

    async fn rename_app(&self, app_id: AppId, name: String) -> Result<AppWrite, StoreError> {
        self.write(Lane::Server, move |db| {
            run(apps::rename(&Transaction(db), app_id, &name))
        })
        .await
    }

    async fn delete_app(&self, app_id: AppId) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| deletion::delete_app(db, app_id))
            .await
    }

    async fn apps(&self, now: UnixSeconds) -> Result<Vec<App>, StoreError> {
        self.read(move |db| run(apps::list(&Transaction(db), now))).await
    }

    async fn rotate_api_key(
        &self,
        app_id: AppId,
        key: NewApiKey,
        others_end_at: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(apps::rotate_key(&Transaction(db), app_id, &key, others_end_at))
        })
        .await
    }

    async fn put_redirect(&self, app_id: AppId, uri: String, now: UnixSeconds) -> Result<RedirectWrite, StoreError> {
        self.write(Lane::Server, move |db| {
            run(apps::put_redirect(&Transaction(db), app_id, &uri, now))
        })
        .await
    }

    async fn delete_redirect(&self, app_id: AppId, uri: String) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(apps::delete_redirect(&Transaction(db), app_id, &uri))
        })
        .await
    }

    async fn app_profile(&self, app_id: AppId) -> Result<Option<AppProfile>, StoreError> {
        self.read(move |db| run(apps::profile(&Transaction(db), app_id))).await
    }

    async fn create_team(&self, team: NewTeam) -> Result<TeamCreation, StoreError> {
        self.write(Lane::Server, move |db| run(teams::create(&Transaction(db), &team)))
            .await
    }

    async fn delete_team(&self, team_id: TeamId) -> Result<TeamDeletion, StoreError> {
        self.write(Lane::Server, move |db| run(teams::delete(&Transaction(db), team_id)))
            .await
    }

    async fn teams(&self) -> Result<Vec<Team>, StoreError> {
        self.read(move |db| run(teams::list(&Transaction(db)))).await
    }

    async fn write_member(
        &self,
        team_id: TeamId,
        user_id: UserId,
        role: Option<TeamRole>,
        now: UnixSeconds,
    ) -> Result<MemberWrite, StoreError> {
        self.write(Lane::Server, move |db| {
            run(teams::write_member(&Transaction(db), team_id, user_id, role, now))
        })
        .await
    }

    async fn give_app(&self, app_id: AppId, team_id: TeamId) -> Result<AppWrite, StoreError> {
        self.write(Lane::Server, move |db| {
            run(teams::give_app(&Transaction(db), app_id, team_id))
        })
        .await
    }

    async fn own_teams(&self, user_id: UserId, now: UnixSeconds) -> Result<Vec<OwnTeam>, StoreError> {
        self.read(move |db| run(teams::of_user(&Transaction(db), user_id, now)))
            .await
    }

    async fn first_steps(&self, app_id: AppId) -> Result<FirstSteps, StoreError> {
        self.read(move |db| run(teams::first_steps(&Transaction(db), app_id)))
            .await
    }

    async fn app_of_key(&self, api_key: String, now: UnixSeconds) -> Result<Option<AppId>, StoreError> {
        self.read(move |db| run(apps::of_key(&Transaction(db), &api_key, now)))
            .await
    }

    async fn create_invite(&self, code: SecretHash, now: UnixSeconds) -> Result<(), StoreError> {
        self.write(Lane::Server, move |db| {
            run(accounts::create_invite(&Transaction(db), code, now))
        })
        .await
    }

    async fn invite_is_open(&self, code: SecretHash) -> Result<bool, StoreError> {
        self.read(move |db| run(accounts::invite_is_open(&Transaction(db), code)))
            .await
    }

    async fn create_account(&self, account: NewAccount) -> Result<AccountCreation, StoreError> {
        self.write(account.user_id, move |db| {
            run(accounts::create(&Transaction(db), &account))
        })
        .await
    }

    async fn put_pending_account(&self, pending: NewPendingAccount) -> Result<AccountCreation, StoreError> {
        self.write(pending.account.user_id, move |db| {
            run(pending_accounts::put(&Transaction(db), &pending))
        })
        .await
    }

    async fn confirm_account(&self, user_id: UserId, code: SecretHash, now: UnixSeconds) -> Result<bool, StoreError> {
        self.write(user_id, move |db| {
            run(pending_accounts::confirm(&Transaction(db), user_id, code, now))
        })
        .await
    }

    async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.read(|db| run(accounts::list(&Transaction(db)))).await
    }

    async fn account(&self, user_id: UserId) -> Result<Option<AccountOverview>, StoreError> {
        self.read(move |db| run(accounts::overview(&Transaction(db), user_id)))
            .await
    }

    async fn credential(&self, of: CredentialOf<'_>) -> Result<Option<Credential>, StoreError> {
        match of {
            CredentialOf::Email(email) => {
                let email = email.to_owned();
                self.read(move |db| run(accounts::credential(&Transaction(db), CredentialOf::Email(&email))))
                    .await
            }
            CredentialOf::User(user_id) => {
                self.read(move |db| run(accounts::credential(&Transaction(db), CredentialOf::User(user_id))))
                    .await
            }
            CredentialOf::Pending { email, code, now } => {
                let email = email.to_owned();
                self.read(move |db| {
                    let email = &email;
                    run(accounts::credential(
                        &Transaction(db),
                        CredentialOf::Pending { email, code, now },
                    ))
                })
                .await
            }
        }
    }

    async fn vault(&self, user_id: UserId) -> Result<Option<Vault>, StoreError> {
        self.read(move |db| run(accounts::vault(&Transaction(db), user_id)))
            .await
    }

    async fn write_vault(&self, write: VaultWrite) -> Result<VersionedWrite, StoreError> {
        self.write(write.user_id, move |db| {
            run(accounts::write_vault(&Transaction(db), &write))
        })
        .await
    }

    async fn export(
        &self,
        user_id: UserId,
        after: Option<ExportCursor>,
        max_bytes: usize,
    ) -> Result<Option<ExportPage>, StoreError> {
        self.read(move |db| run(records::export::page(&Transaction(db), user_id, after, max_bytes)))
            .await
    }

    async fn delete_account(&self, user_id: UserId) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(user_id, move |db| deletion::delete(db, user_id)).await
    }

    async fn schedule_deletion(
        &self,
        user_id: UserId,
        at: Option<UnixSeconds>,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(user_id, move |db| {
            run(accounts::schedule_deletion(&Transaction(db), user_id, at))
        })
        .await
    }

    async fn change_address(&self, change: NewAddress) -> Result<AddressChange, StoreError> {
        self.write(change.user_id, move |db| deletion::change_address(db, &change))
            .await
    }

    async fn put_mail_code(&self, code: NewMailCode) -> Result<bool, StoreError> {
        self.write(code.user_id, move |db| {
            run(accounts::put_mail_code(&Transaction(db), &code))
        })
        .await
    }

    async fn start_reset(&self, code: SecretHash, now: UnixSeconds) -> Result<Option<ResetStart>, StoreError> {
        self.write(Lane::Server, move |db| {
            run(accounts::start_reset(&Transaction(db), code, now))
        })
        .await
    }

    async fn reset_password(&self, reset: PasswordReset) -> Result<Option<VersionedWrite>, StoreError> {
        self.write(Lane::Server, move |db| {
            run(accounts::reset_password(&Transaction(db), &reset))
        })
        .await
    }

    async fn open_session(&self, session: NewSession) -> Result<bool, StoreError> {
        let quotas = self.parts.quotas;
        self.write(session.stream, move |db| {
            run(sessions::open(&Transaction(db), session, &quotas))
        })
        .await
    }

    async fn count(&self, attempt: Charge, now: UnixSeconds) -> Result<Counted, StoreError> {
        self.write(Lane::Guesses, move |db| {
            run(allowances::count(&Transaction(db), &attempt, now))
        })
        .await
    }

    async fn give_back(&self, attempt: Charge, now: UnixSeconds) -> Result<(), StoreError> {
        self.write(Lane::Guesses, move |db| {
            run(allowances::give_back(&Transaction(db), &attempt, now))
        })
        .await
    }

    async fn note_place(&self, place: Place, now: UnixSeconds) -> Result<(), StoreError> {
        self.write(place.user_id, move |db| {
            run(allowances::note_place(&Transaction(db), place, now))
        })
        .await
    }

    async fn finish_login(&self, finished: FinishedLogin) -> Result<LoginUse, StoreError> {
        self.write(finished.user_id, move |db| {
            run(sessions::finish_login(&Transaction(db), &finished))
        })
        .await
    }

    async fn session(&self, id: SessionId, now: UnixSeconds) -> Result<Option<Session>, StoreError> {
        self.read(move |db| run(sessions::find(&Transaction(db), id, now)))
            .await
    }

    async fn live_sessions(&self, ids: Vec<SessionId>, now: UnixSeconds) -> Result<Vec<SessionId>, StoreError> {
        self.read(move |db| {
            let mut live = Vec::new();
            for id in ids {
                if run(sessions::find(&Transaction(db), id, now))?.is_some() {
                    live.push(id);
                }
            }
            Ok(live)
        })
        .await
    }

    async fn sessions(&self, user_id: UserId, now: UnixSeconds) -> Result<Vec<Session>, StoreError> {
        self.read(move |db| run(sessions::of_user(&Transaction(db), user_id, now)))
            .await
    }

    async fn advance_refresh(&self, id: SessionId, counter: u64, now: UnixSeconds) -> Result<RefreshUse, StoreError> {
        self.write(id, move |db| {
            run(sessions::advance_refresh(&Transaction(db), id, counter, now))
        })
        .await
    }

    async fn end_sessions(&self, which: EndSessions) -> Result<Vec<SessionId>, StoreError> {
        self.write(which, move |db| run(sessions::end(&Transaction(db), which)))
            .await
    }

    async fn register_device(&self, device: NewDevice) -> Result<DeviceRegistration, StoreError> {
        let quotas = self.parts.quotas;
        self.write(device.stream, move |db| {
            run(records::devices::register(&Transaction(db), &device, &quotas))
        })
        .await
    }

    async fn devices(&self, stream: StreamId) -> Result<Vec<Device>, StoreError> {
        self.read(move |db| run(records::devices::list(&Transaction(db), stream)))
            .await
    }

    async fn rename_device(&self, stream: StreamId, id: DeviceId, name: &str) -> Result<DeviceRename, StoreError> {
        let name = name.to_owned();
        self.write(stream, move |db| {
            run(records::devices::rename(&Transaction(db), stream, id, &name))
        })
        .await
    }

    async fn revoke_device(
        &self,
        stream: StreamId,
        id: DeviceId,
        now: UnixSeconds,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(stream, move |db| {
            run(records::devices::revoke(&Transaction(db), stream, id, now))
        })
        .await
    }

    async fn envelope(&self, stream: StreamId) -> Result<Option<Envelope>, StoreError> {
        self.read(move |db| run(records::envelopes::current(&Transaction(db), stream)))
            .await
    }

    async fn put_envelope(&self, envelope: NewEnvelope) -> Result<EnvelopeWrite, StoreError> {
        self.write(envelope.stream, move |db| envelopes::put(db, &envelope))
            .await
    }

    async fn envelopes(&self, stream: StreamId) -> Result<Vec<Envelope>, StoreError> {
        self.read(move |db| run(records::envelopes::kept(&Transaction(db), stream)))
            .await
    }

    async fn restore_envelope(
        &self,
        stream: StreamId,
        version: u64,
        now: UnixSeconds,
    ) -> Result<EnvelopeRestore, StoreError> {
        self.write(stream, move |db| {
            run(records::envelopes::restore(&Transaction(db), stream, version, now))
        })
        .await
    }

    async fn append_batch(&self, batch: NewBatch) -> Result<Append, StoreError> {
        let (stream, parent, quotas) = (batch.stream, batch.parent, self.parts.quotas);
        match self
            .parts
            .writer
            .write(stream.into(), batch.sealed.len(), move |db| {
                log::append(db, &batch, &quotas)
            })
            .await?
        {
            Attempt::Answered(answer) => Ok(answer),
            // Nothing was written. A chain only grows, so a later snapshot's answer about the parent is as true as the
            // writer's own would have been.
            Attempt::ParentIsNotHead => {
                let elsewhere = self.read(move |db| positions::elsewhere(db, stream, parent)).await?;
                // By now the parent may have become the head: nothing came in between then, and the next try succeeds.
                let nothing = ChainPage {
                    digests: Vec::new(),
                    latest: parent,
                    has_more: false,
                };
                Ok(elsewhere.map_or(Append::Behind(nothing), Append::from))
            }
        }
    }

    async fn page(&self, request: PageRequest) -> Result<PageRead, StoreError> {
        let page = self.read(move |db| log::page(db, &request)).await?;
        if let Some(news) = page.device {
            self.parts.writer.write_eventually(request.stream.into(), move |db| {
                devices::pulled(db, news.device_key, news.pulled_seq, request.now)
            });
        }
        Ok(page.read)
    }

    async fn chain(&self, stream: StreamId, from: Cursor, limit: u32) -> Result<ChainRead, StoreError> {
        self.read(move |db| positions::chain(db, stream, from, limit)).await
    }

    async fn heads(&self, streams: Vec<StreamId>) -> Result<Vec<(StreamId, Position)>, StoreError> {
        self.read(move |db| streams::heads(db, &streams)).await
    }

    async fn send_notice(&self, notice: Notice) -> Result<(), StoreError> {
        let _ = notice;
        Ok(())
    }

    async fn listen(&self) -> Result<Option<Notices>, StoreError> {
        Ok(None)
    }

    async fn status(&self, stream: StreamId) -> Result<StreamStatus, StoreError> {
        self.read(move |db| log::status(db, stream)).await
    }

    async fn put_snapshot_part(&self, part: NewSnapshotPart) -> Result<SnapshotPartWrite, StoreError> {
        let (size, quotas) = (part.sealed.len(), self.parts.quotas);
        self.parts
            .writer
            .write(part.stream.into(), size, move |db| {
                snapshots::put_part(db, &part, &quotas)
            })
            .await
    }

    async fn put_snapshot(&self, snapshot: NewSnapshot) -> Result<SnapshotWrite, StoreError> {
        let (size, quotas) = (snapshot.manifest.len(), self.parts.quotas);
        self.parts
            .writer
            .write(snapshot.stream.into(), size, move |db| {
                snapshots::put(db, &snapshot, &quotas)
            })
            .await
    }

    async fn snapshot(&self, stream: StreamId, id: SnapshotId) -> Result<Option<StoredSnapshot>, StoreError> {
        self.read(move |db| snapshots::find(db, stream, id)).await
    }

    async fn snapshot_part(&self, stream: StreamId, id: SnapshotId, part: u32) -> Result<Option<Bytes>, StoreError> {
        self.read(move |db| snapshots::part(db, stream, id, part)).await
    }

    async fn retain(&self, retention: Retention) -> Result<bool, StoreError> {
        // Mostly no data is due, and then the writer is not asked.
        if !self.read(move |db| retention::is_due(db, &retention)).await? {
            return Ok(false);
        }
        let step = self
            .write(Lane::Server, move |db| retention::step(db, &retention))
            .await?;
        if step == retention::Step::Cut {
            self.parts.cuts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }

    async fn begin_upload(&self, upload: NewUpload) -> Result<UploadBegin, StoreError> {
        let quotas = self.parts.quotas;
        self.write(upload.stream, move |db| blobs::begin_upload(db, &upload, &quotas))
            .await
    }

    async fn pending_uploads(
        &self,
        stream: StreamId,
        blob_id: BlobId,
        size: u64,
        upload_id: Option<UploadId>,
    ) -> Result<Vec<PendingUpload>, StoreError> {
        self.read(move |db| blobs::pending_uploads(db, stream, blob_id, size, upload_id))
            .await
    }

    async fn confirm_upload(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        sealed_hash: SealedHash,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.write(stream, move |db| {
            blobs::confirm_upload(db, stream, upload_id, sealed_hash, now)
        })
        .await
    }

    async fn blob(&self, stream: StreamId, blob_id: BlobId) -> Result<Option<Blob>, StoreError> {
        self.read(move |db| blobs::find(db, stream, blob_id)).await
    }

    async fn upload(&self, stream: StreamId, upload_id: UploadId) -> Result<Option<PendingUpload>, StoreError> {
        self.read(move |db| run(records::blobs::upload(&Transaction(db), stream, upload_id)))
            .await
    }

    async fn name_multipart(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        multipart_id: String,
    ) -> Result<bool, StoreError> {
        self.write(stream, move |db| {
            run(records::blobs::name_multipart(
                &Transaction(db),
                stream,
                upload_id,
                &multipart_id,
            ))
        })
        .await
    }

    async fn abandon_upload(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.write(stream, move |db| {
            run(records::blobs::abandon_upload(&Transaction(db), stream, upload_id, now))
        })
        .await
    }

    async fn end_upload(&self, stream: StreamId, upload_id: UploadId, now: UnixSeconds) -> Result<bool, StoreError> {
        self.write(stream, move |db| {
            run(records::blobs::end_upload(&Transaction(db), stream, upload_id, now))
        })
        .await
    }

    async fn blobs(&self, stream: StreamId, after: Option<BlobId>, limit: u32) -> Result<Vec<Blob>, StoreError> {
        self.read(move |db| run(records::blobs::list(&Transaction(db), stream, after, limit)))
            .await
    }

    async fn delete_blob(&self, stream: StreamId, blob_id: BlobId, now: UnixSeconds) -> Result<bool, StoreError> {
        self.write(stream, move |db| {
            run(records::blobs::delete(&Transaction(db), stream, blob_id, now))
        })
        .await
    }

    async fn sweepable_objects(&self, now: UnixSeconds, limit: u32) -> Result<Vec<ObjectKey>, StoreError> {
        self.write(Lane::Server, move |db| {
            run(records::blobs::sweepable(&Transaction(db), now, limit))
        })
        .await
    }

    async fn objects_deleted(&self, keys: &[ObjectKey], now: UnixSeconds) -> Result<u64, StoreError> {
        let keys = keys.to_vec();
        self.write(Lane::Server, move |db| {
            run(records::blobs::deleted(&Transaction(db), &keys, now))
        })
        .await
    }

    async fn postpone_objects(&self, keys: &[ObjectKey], until: UnixSeconds) -> Result<(), StoreError> {
        let keys = keys.to_vec();
        self.write(Lane::Server, move |db| {
            run(records::blobs::postpone(&Transaction(db), &keys, until))
        })
        .await
    }
}
