//! The store in PostgreSQL, for several nodes.
//!
//! Records run as they are written, each in a serializable transaction that is repeated if another one came in between
//! ([`retry`]). Those of allowances lock their rows instead: what strangers cause must not make others repeat. The hot path has
//! statements of its own: an append locks the row of its stream and nothing wider, a page is
//! read from one snapshot of the database. The modules named after things of the domain hold the SQL; each of their
//! functions runs inside a transaction that it neither begins nor ends.
//!
//! Nodes share nothing but the rows: no sequence, no counter, no lock between streams. The only advisory lock is that of the
//! migrations.
//!
//! Invariant: an answered write survives a power cut, unless the database is set up to lose it (`synchronous_commit`).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use synckit_protocol::{
    AppId, BlobId, Cursor, DeviceId, ObjectKey, Position, SealedHash, SessionId, SnapshotId, TeamId, UploadId, UserId,
    wire::{UnixSeconds, console::FirstSteps},
};

use self::{
    pool::Pool,
    retry::{Repeat, Tries, brief, read, single, snapshot, transaction},
};
use super::{
    AcceptNewSeed, Account, AccountCreation, AccountOverview, AddressChange, App, AppProfile, AppWrite, Append, Blob,
    ChainRead, Charge, CommitGroups, Counted, Credential, CredentialOf, Device, DeviceRegistration, DeviceRename,
    EndSessions, Envelope, EnvelopeRestore, EnvelopeWrite, ExportCursor, ExportPage, FinishedLogin, LoginUse,
    MemberWrite, NewAccount, NewAddress, NewApiKey, NewApp, NewBatch, NewDevice, NewEnvelope, NewMailCode,
    NewPendingAccount, NewSession, NewSnapshot, NewSnapshotPart, NewTeam, NewUpload, Notice, Notices, OwnTeam,
    PageRead, PageRequest, PasswordReset, PendingUpload, Place, RedirectWrite, RefreshUse, ResetStart, Retention,
    SchemaVersions, SecretHash, SeedClaim, Session, SnapshotPartWrite, SnapshotWrite, Store, StoreError, StoreFigures,
    StoredSnapshot, StreamId, StreamStatus, Team, TeamCreation, TeamDeletion, TeamRole, UploadBegin, Vault, VaultWrite,
    VersionedWrite,
    rules::{
        log::{self as rules, Decision},
        quotas::{self, Quota, Quotas},
    },
};
use crate::records::{self, accounts, allowances, apps, pending_accounts, sessions, teams, usage};

mod address;
mod blobs;
mod connection;
mod deletion;
mod device_grants;
mod devices;
mod envelopes;
mod failure;
mod figures;
mod inspect;
mod log;
mod lookups;
mod migrations;
mod notices;
mod options;
mod plans;
mod pool;
mod positions;
mod retention;
mod retry;
mod schema_parts;
mod snapshots;
mod streams;
mod tls;
mod transfer;

pub use address::{PostgresUrl, PostgresUrlError};
pub use inspect::PostgresInspection;
pub use options::PostgresOptions;
pub(crate) use transfer::PostgresEnd;

/// A store in a PostgreSQL database, which other nodes may use at the same time.
///
/// Needs a tokio runtime. Dropping the store disconnects; unlike [`Store::close`] it waits for nothing.
pub struct PostgresStore {
    pool: Pool,
    /// For the connection that listens.
    url: PostgresUrl,
    options: PostgresOptions,
    quotas: Quotas,
    /// Transactions that were tried to commit since the store was opened.
    writes: AtomicU64,
    /// Logs that were cut since the store was opened.
    cuts: AtomicU64,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, and brings the schema up to date; a command makes only the first one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database cannot be reached or its certificate is wrong, [`StoreError::Pooler`],
    /// [`StoreError::NewerSchema`] if a newer server wrote it, [`StoreError::OtherSchema`] if an older one did and a command
    /// opens it, [`StoreError::Unfinished`] if a transfer into it is not finished, [`StoreError::Database`] if it is not a database of this server.
    pub async fn open(url: &PostgresUrl, options: PostgresOptions) -> Result<Self, StoreError> {
        let pool = Pool::open(url, &options).await?;
        migrations::run(&pool, options.opened_by).await?;
        Ok(Self {
            pool,
            url: url.clone(),
            quotas: options.quotas,
            options,
            writes: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
        })
    }

    /// Looks which schema a database has, and changes nothing.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`], as far as they are about the connection.
    pub async fn schema(url: &PostgresUrl) -> Result<SchemaVersions, StoreError> {
        let database = PostgresInspection::open(url).await?;
        let versions = database.schema().await?;
        database.close().await;
        Ok(versions)
    }

    /// Looks a batch up and stores it: two round trips. `None` if something came in between.
    async fn try_append(&self, batch: &NewBatch) -> Result<Option<Append>, StoreError> {
        let db = self.pool.single().await?;
        let Some(mut found) = log::look_up(&db, batch).await? else {
            return Ok(Some(Append::DeviceNotFound));
        };
        let stored = found.stored();
        match (rules::append(stored, batch)?, found.device) {
            (Decision::Answer(answer), _) => Ok(Some(answer)),
            (Decision::ParentIsNotHead, _) => {
                drop(db);
                let db = self.pool.begin(connection::Isolation::Snapshot).await?;
                let elsewhere = positions::elsewhere(&db, batch.stream, batch.parent).await?;
                // By now the parent may have become the head: `None`, and the next look-up finds it there.
                Ok(elsewhere.map(Append::from))
            }
            (Decision::Store { .. }, None) => Ok(Some(Append::DeviceNotFound)),
            (
                Decision::Store {
                    position,
                    device_is_due,
                },
                Some(device),
            ) => {
                let (stored_bytes, more_bytes) = (found.stored_bytes, batch.sealed.len() as u64);
                let exceeded = batch.room.exceeded(found.counted_bytes, more_bytes);
                let exceeded = match exceeded.or_else(|| quotas::batch(&self.quotas, stored_bytes, more_bytes)) {
                    Some(Quota::Bytes) => {
                        let replaced = usage::replaced_bytes(&db, batch.stream.user_id).await?;
                        quotas::beside_replaced(&self.quotas, stored_bytes, replaced, more_bytes)
                    }
                    other => other,
                };
                if let Some(quota) = exceeded {
                    return Ok(Some(Append::OverQuota(quota)));
                }
                let stream = &found.stream;
                let is_stored = log::store(&db, batch, (stream, &device), position, device_is_due).await?;
                Ok(is_stored.then(|| Decision::stored(&stream.state, position)))
            }
        }
    }

    /// One step of retention, in the order in which SQLite takes them.
    async fn retention_step(&self, retention: &Retention) -> Result<(), StoreError> {
        if transaction!(self, Locking, |db| retention::sweep_batches(db))?
            || transaction!(self, Locking, |db| retention::sweep_snapshot(db))?
            || transaction!(self, Serializable, |db| accounts::delete_due(db, retention.ended_until))?
            || transaction!(self, Locking, |db| deletion::sweep_account(db, retention.now))?
            || transaction!(self, Serializable, |db| apps::sweep(db))?
            || transaction!(self, Locking, |db| retention::condemn_unfinished(db, retention))?
            || transaction!(self, Locking, |db| retention::delete_pending(db, retention))?
            || transaction!(self, Locking, |db| retention::delete_grants(db, retention))?
            || transaction!(self, Locking, |db| retention::delete_allowances(db, retention))?
            || transaction!(self, Locking, |db| retention::delete_places(db, retention))?
        {
            return Ok(());
        }
        if transaction!(self, Locking, |db| retention::cut(db, retention))? {
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim_seed(&self, seed_id: [u8; 16], accept_new: AcceptNewSeed) -> Result<SeedClaim, StoreError> {
        transaction!(self, Serializable, |db| apps::claim_seed(db, seed_id, accept_new))
    }

    async fn seed_id(&self) -> Result<Option<[u8; 16]>, StoreError> {
        single!(self, |db| apps::seed_id(db))
    }

    async fn check(&self) -> Result<(), StoreError> {
        // One row that every node writes: nobody reads it, so that nobody needs to wait for the others.
        transaction!(self, Locking briefly, |db| apps::check(db))
    }

    async fn figures(&self) -> Result<StoreFigures, StoreError> {
        let mut figures = single!(self, |db| figures::stored(db))?;
        figures.writes = self.writes.load(Ordering::Relaxed);
        figures.commits = CommitGroups(vec![(1, figures.writes)]);
        figures.queued_writes = self.pool.waiting() as u64;
        figures.retention_cuts = self.cuts.load(Ordering::Relaxed);
        Ok(figures)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.pool.close().await;
        Ok(())
    }

    async fn create_app(&self, app: NewApp) -> Result<AppWrite, StoreError> {
        transaction!(self, Serializable, |db| apps::create(db, &app))
    }

    async fn rename_app(&self, app_id: AppId, name: String) -> Result<AppWrite, StoreError> {
        transaction!(self, Serializable, |db| apps::rename(db, app_id, &name))
    }

    async fn delete_app(&self, app_id: AppId) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| apps::delete(db, app_id))
    }

    async fn apps(&self, now: UnixSeconds) -> Result<Vec<App>, StoreError> {
        snapshot!(self, |db| apps::list(db, now))
    }

    async fn rotate_api_key(
        &self,
        app_id: AppId,
        key: NewApiKey,
        others_end_at: UnixSeconds,
    ) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| apps::rotate_key(
            db,
            app_id,
            &key,
            others_end_at
        ))
    }

    async fn put_redirect(&self, app_id: AppId, uri: String, now: UnixSeconds) -> Result<RedirectWrite, StoreError> {
        transaction!(self, Serializable, |db| apps::put_redirect(db, app_id, &uri, now))
    }

    async fn delete_redirect(&self, app_id: AppId, uri: String) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| apps::delete_redirect(db, app_id, &uri))
    }

    async fn app_profile(&self, app_id: AppId) -> Result<Option<AppProfile>, StoreError> {
        snapshot!(self, |db| apps::profile(db, app_id))
    }

    async fn create_team(&self, team: NewTeam) -> Result<TeamCreation, StoreError> {
        transaction!(self, Serializable, |db| teams::create(db, &team))
    }

    async fn delete_team(&self, team_id: TeamId) -> Result<TeamDeletion, StoreError> {
        transaction!(self, Serializable, |db| teams::delete(db, team_id))
    }

    async fn teams(&self) -> Result<Vec<Team>, StoreError> {
        snapshot!(self, |db| teams::list(db))
    }

    async fn write_member(
        &self,
        team_id: TeamId,
        user_id: UserId,
        role: Option<TeamRole>,
        now: UnixSeconds,
    ) -> Result<MemberWrite, StoreError> {
        transaction!(self, Serializable, |db| teams::write_member(
            db, team_id, user_id, role, now
        ))
    }

    async fn give_app(&self, app_id: AppId, team_id: TeamId) -> Result<AppWrite, StoreError> {
        transaction!(self, Serializable, |db| teams::give_app(db, app_id, team_id))
    }

    async fn own_teams(&self, user_id: UserId, now: UnixSeconds) -> Result<Vec<OwnTeam>, StoreError> {
        snapshot!(self, |db| teams::of_user(db, user_id, now))
    }

    async fn first_steps(&self, app_id: AppId) -> Result<FirstSteps, StoreError> {
        snapshot!(self, |db| teams::first_steps(db, app_id))
    }

    async fn app_of_key(&self, api_key: String, now: UnixSeconds) -> Result<Option<AppId>, StoreError> {
        single!(self, |db| apps::of_key(db, &api_key, now))
    }

    async fn create_invite(&self, code: SecretHash, now: UnixSeconds) -> Result<(), StoreError> {
        transaction!(self, Serializable, |db| accounts::create_invite(db, code, now))
    }

    async fn invite_is_open(&self, code: SecretHash) -> Result<bool, StoreError> {
        single!(self, |db| accounts::invite_is_open(db, code))
    }

    async fn create_account(&self, account: NewAccount) -> Result<AccountCreation, StoreError> {
        transaction!(self, Serializable, |db| accounts::create(db, &account))
    }

    async fn put_pending_account(&self, pending: NewPendingAccount) -> Result<AccountCreation, StoreError> {
        transaction!(self, Serializable, |db| pending_accounts::put(db, &pending))
    }

    async fn confirm_account(&self, user_id: UserId, code: SecretHash, now: UnixSeconds) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| pending_accounts::confirm(
            db, user_id, code, now
        ))
    }

    async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        single!(self, |db| accounts::list(db))
    }

    async fn account(&self, user_id: UserId) -> Result<Option<AccountOverview>, StoreError> {
        snapshot!(self, |db| accounts::overview(db, user_id))
    }

    async fn credential(&self, of: CredentialOf<'_>) -> Result<Option<Credential>, StoreError> {
        single!(self, |db| accounts::credential(db, of))
    }

    async fn vault(&self, user_id: UserId) -> Result<Option<Vault>, StoreError> {
        snapshot!(self, |db| accounts::vault(db, user_id))
    }

    async fn write_vault(&self, write: VaultWrite) -> Result<VersionedWrite, StoreError> {
        transaction!(self, Serializable, |db| accounts::write_vault(db, &write))
    }

    async fn export(
        &self,
        user_id: UserId,
        after: Option<ExportCursor>,
        max_bytes: usize,
    ) -> Result<Option<ExportPage>, StoreError> {
        snapshot!(self, |db| records::export::page(db, user_id, after.clone(), max_bytes))
    }

    async fn delete_account(&self, user_id: UserId) -> Result<Option<Vec<SessionId>>, StoreError> {
        transaction!(self, Serializable, |db| accounts::delete(db, user_id))
    }

    async fn schedule_deletion(
        &self,
        user_id: UserId,
        at: Option<UnixSeconds>,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        transaction!(self, Serializable, |db| accounts::schedule_deletion(db, user_id, at))
    }

    async fn change_address(&self, change: NewAddress) -> Result<AddressChange, StoreError> {
        transaction!(self, Serializable, |db| accounts::change_address(db, &change))
    }

    async fn put_mail_code(&self, code: NewMailCode) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| accounts::put_mail_code(db, &code))
    }

    async fn start_reset(&self, code: SecretHash, now: UnixSeconds) -> Result<Option<ResetStart>, StoreError> {
        transaction!(self, Serializable, |db| accounts::start_reset(db, code, now))
    }

    async fn reset_password(&self, reset: PasswordReset) -> Result<Option<VersionedWrite>, StoreError> {
        transaction!(self, Serializable, |db| accounts::reset_password(db, &reset))
    }

    async fn count(&self, attempt: Charge, now: UnixSeconds) -> Result<Counted, StoreError> {
        transaction!(self, Locking, |db| allowances::count(db, &attempt, now))
    }

    async fn give_back(&self, attempt: Charge, now: UnixSeconds) -> Result<(), StoreError> {
        transaction!(self, Locking, |db| allowances::give_back(db, &attempt, now))
    }

    async fn note_place(&self, place: Place, now: UnixSeconds) -> Result<(), StoreError> {
        transaction!(self, Locking, |db| allowances::note_place(db, place, now))
    }

    async fn finish_login(&self, finished: FinishedLogin) -> Result<LoginUse, StoreError> {
        transaction!(self, Serializable, |db| sessions::finish_login(db, &finished))
    }

    async fn open_session(&self, session: NewSession) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| sessions::open(db, session, &self.quotas))
    }

    async fn session(&self, id: SessionId, now: UnixSeconds) -> Result<Option<Session>, StoreError> {
        single!(self, |db| sessions::find(db, id, now))
    }

    async fn live_sessions(&self, ids: Vec<SessionId>, now: UnixSeconds) -> Result<Vec<SessionId>, StoreError> {
        brief!(self, |db| lookups::live_sessions(db, &ids, now))
    }

    async fn sessions(&self, user_id: UserId, now: UnixSeconds) -> Result<Vec<Session>, StoreError> {
        single!(self, |db| sessions::of_user(db, user_id, now))
    }

    async fn advance_refresh(&self, id: SessionId, counter: u64, now: UnixSeconds) -> Result<RefreshUse, StoreError> {
        transaction!(self, Serializable, |db| sessions::advance_refresh(db, id, counter, now))
    }

    async fn end_sessions(&self, which: EndSessions) -> Result<Vec<SessionId>, StoreError> {
        transaction!(self, Serializable, |db| sessions::end(db, which))
    }

    async fn register_device(&self, device: NewDevice) -> Result<DeviceRegistration, StoreError> {
        transaction!(self, Serializable, |db| records::devices::register(
            db,
            &device,
            &self.quotas
        ))
    }

    async fn devices(&self, stream: StreamId) -> Result<Vec<Device>, StoreError> {
        single!(self, |db| records::devices::list(db, stream))
    }

    async fn rename_device(&self, stream: StreamId, id: DeviceId, name: &str) -> Result<DeviceRename, StoreError> {
        transaction!(self, Serializable, |db| records::devices::rename(db, stream, id, name))
    }

    async fn revoke_device(
        &self,
        stream: StreamId,
        id: DeviceId,
        now: UnixSeconds,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        transaction!(self, Serializable, |db| records::devices::revoke(db, stream, id, now))
    }

    async fn envelope(&self, stream: StreamId) -> Result<Option<Envelope>, StoreError> {
        single!(self, |db| records::envelopes::current(db, stream))
    }

    async fn put_envelope(&self, envelope: NewEnvelope) -> Result<EnvelopeWrite, StoreError> {
        transaction!(self, Serializable, |db| envelopes::put(db, &envelope))
    }

    async fn envelopes(&self, stream: StreamId) -> Result<Vec<Envelope>, StoreError> {
        single!(self, |db| records::envelopes::kept(db, stream))
    }

    async fn restore_envelope(
        &self,
        stream: StreamId,
        version: u64,
        now: UnixSeconds,
    ) -> Result<EnvelopeRestore, StoreError> {
        transaction!(self, Serializable, |db| records::envelopes::restore(
            db, stream, version, now
        ))
    }

    async fn append_batch(&self, batch: NewBatch) -> Result<Append, StoreError> {
        let _request = self.pool.admit()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut tries = Tries::default();
        loop {
            // May be repeated after anything: the batch id finds what an earlier try stored.
            match self.try_append(&batch).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) if tries.once_more().await => {}
                Ok(None) => return Err(StoreError::Busy),
                Err(error) if tries.again(&self.pool, &error, false, Repeat::Always).await => {}
                Err(error) => return Err(failure::given_up(error)),
            }
        }
    }

    async fn page(&self, request: PageRequest) -> Result<PageRead, StoreError> {
        let page = snapshot!(self, |db| log::page(db, &request))?;
        if let Some(seen) = page.device {
            // Due about once an hour. The page is good without it.
            let written = single!(self, |db| devices::pulled(db, &seen, request.now));
            if let Err(error) = written {
                tracing::debug!(%error, "a last-seen time was not recorded");
            }
        }
        Ok(page.read)
    }

    async fn chain(&self, stream: StreamId, from: Cursor, limit: u32) -> Result<ChainRead, StoreError> {
        snapshot!(self, |db| positions::chain(db, stream, from, limit))
    }

    async fn heads(&self, streams: Vec<StreamId>) -> Result<Vec<(StreamId, Position)>, StoreError> {
        brief!(self, |db| lookups::heads(db, &streams))
    }

    async fn send_notice(&self, notice: Notice) -> Result<(), StoreError> {
        brief!(self, |db| notices::send(db, &notice))
    }

    async fn listen(&self) -> Result<Option<Notices>, StoreError> {
        let _request = self.pool.admit()?;
        notices::listen(&self.url, &self.options).await.map(Some)
    }

    async fn status(&self, stream: StreamId) -> Result<StreamStatus, StoreError> {
        snapshot!(self, |db| log::status(db, stream))
    }

    async fn put_snapshot_part(&self, part: NewSnapshotPart) -> Result<SnapshotPartWrite, StoreError> {
        transaction!(self, Locking, |db| snapshots::put_part(db, &part, &self.quotas))
    }

    async fn put_snapshot(&self, snapshot: NewSnapshot) -> Result<SnapshotWrite, StoreError> {
        transaction!(self, Locking, |db| snapshots::put(db, &snapshot, &self.quotas))
    }

    async fn snapshot(&self, stream: StreamId, id: SnapshotId) -> Result<Option<StoredSnapshot>, StoreError> {
        single!(self, |db| snapshots::find(db, stream, id))
    }

    async fn snapshot_part(&self, stream: StreamId, id: SnapshotId, part: u32) -> Result<Option<Bytes>, StoreError> {
        single!(self, |db| snapshots::part(db, stream, id, part))
    }

    async fn retain(&self, retention: Retention) -> Result<bool, StoreError> {
        // Mostly no data is due.
        if !snapshot!(self, |db| retention::is_due(db, &retention))? {
            return Ok(false);
        }
        self.retention_step(&retention).await?;
        Ok(true)
    }

    async fn begin_upload(&self, upload: NewUpload) -> Result<UploadBegin, StoreError> {
        transaction!(self, Locking, |db| blobs::begin_upload(db, &upload, &self.quotas))
    }

    async fn pending_uploads(
        &self,
        stream: StreamId,
        blob_id: BlobId,
        size: u64,
        upload_id: Option<UploadId>,
    ) -> Result<Vec<PendingUpload>, StoreError> {
        single!(self, |db| blobs::pending_uploads(db, stream, blob_id, size, upload_id))
    }

    async fn confirm_upload(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        sealed_hash: SealedHash,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        transaction!(self, Locking, |db| blobs::confirm_upload(
            db,
            stream,
            upload_id,
            sealed_hash,
            now
        ))
    }

    async fn blob(&self, stream: StreamId, blob_id: BlobId) -> Result<Option<Blob>, StoreError> {
        single!(self, |db| blobs::find(db, stream, blob_id))
    }

    async fn upload(&self, stream: StreamId, upload_id: UploadId) -> Result<Option<PendingUpload>, StoreError> {
        snapshot!(self, |db| records::blobs::upload(db, stream, upload_id))
    }

    async fn name_multipart(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        multipart_id: String,
    ) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| records::blobs::name_multipart(
            db,
            stream,
            upload_id,
            &multipart_id
        ))
    }

    async fn abandon_upload(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| records::blobs::abandon_upload(
            db, stream, upload_id, now
        ))
    }

    async fn end_upload(&self, stream: StreamId, upload_id: UploadId, now: UnixSeconds) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| records::blobs::end_upload(
            db, stream, upload_id, now
        ))
    }

    async fn blobs(&self, stream: StreamId, after: Option<BlobId>, limit: u32) -> Result<Vec<Blob>, StoreError> {
        snapshot!(self, |db| records::blobs::list(db, stream, after, limit))
    }

    async fn delete_blob(&self, stream: StreamId, blob_id: BlobId, now: UnixSeconds) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| records::blobs::delete(
            db, stream, blob_id, now
        ))
    }

    async fn sweepable_objects(&self, now: UnixSeconds, limit: u32) -> Result<Vec<ObjectKey>, StoreError> {
        transaction!(self, Serializable, |db| records::blobs::sweepable(db, now, limit))
    }

    async fn objects_deleted(&self, keys: &[ObjectKey], now: UnixSeconds) -> Result<u64, StoreError> {
        transaction!(self, Serializable, |db| records::blobs::deleted(db, keys, now))
    }

    async fn postpone_objects(&self, keys: &[ObjectKey], until: UnixSeconds) -> Result<(), StoreError> {
        transaction!(self, Serializable, |db| records::blobs::postpone(db, keys, until))
    }
}
