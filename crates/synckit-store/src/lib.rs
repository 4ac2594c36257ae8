//! The server's persistent state, behind one trait.
//!
//! One method is one transaction; connections never escape. The methods are verbs of the domain (`append_batch`, not
//! `insert_row`). A result on which the caller decides is an outcome; a [`StoreError`] is a failure of the store itself.
//! Time is an argument: a store has no clock.
//!
//! Both implementations pass the [`conformance`] suite, which tests the promises of the trait: [`SqliteStore`] for one server,
//! [`PostgresStore`] for several nodes.
//!
//! Invariant: a method that changed something returns only after the change survives a power cut.

use async_trait::async_trait;
use bytes::Bytes;
use synckit_protocol::{
    AppId, BlobId, Cursor, DeviceId, ObjectKey, Position, SealedHash, SessionId, SnapshotId, TeamId, UploadId, UserId,
    wire::{UnixSeconds, console::FirstSteps},
};

mod accounts;
mod allowances;
mod apps;
mod blobs;
pub mod conformance;
mod device_grants;
mod devices;
mod error;
mod export;
mod figures;
mod ids;
mod log;
mod notices;
pub mod objects;
mod plans;
mod postgres;
pub mod private_files;
pub mod records;
pub mod rules;
pub mod schema;
mod sessions;
mod snapshots;
mod sqlite;
mod survey;
mod task;
mod teams;
mod transfer;

pub use accounts::{
    Account, AccountCreation, AccountOverview, AddressChange, Credential, CredentialId, CredentialOf, NewAccount,
    NewAddress, NewMailCode, NewPendingAccount, PasswordRecord, PasswordReset, ResetStart, Vault, VaultWrite,
    VersionedWrite,
};
pub use allowances::{Allowance, Charge, Counted, CountedKey, Draw, Place};
pub use apps::{AcceptNewSeed, ApiKey, App, AppProfile, AppWrite, NewApiKey, NewApp, RedirectWrite, SeedClaim};
pub use blobs::{Blob, NewUpload, PendingUpload, UploadBegin};
pub use device_grants::{DeviceGrants, DevicePoll, NewDeviceGrant, WaitingGrant};
pub use devices::{
    Device, DeviceRegistration, DeviceRename, Envelope, EnvelopeRestore, EnvelopeWrite, NewDevice, NewEnvelope,
};
pub use error::{StoreError, Unavailable};
pub use export::{ExportCursor, ExportPage};
pub use figures::{CommitGroups, StoreFigures};
pub use ids::{PAGES_APP, SecretHash, StreamId};
pub use log::{Append, ChainPage, ChainRead, NewBatch, PageRead, PageRequest, StoredBatch, StreamStatus};
pub use notices::{ChangedStreams, NOTICE_STREAMS_MAX, NodeId, Notice, Notices};
pub use plans::{
    AppPlan, AppStored, FLUSH_KEPT_SECONDS, Hour, HourOfUse, Month, Moved, PlanPart, PlannedApp, Plans, USAGE_DAYS,
    UsageFlush, UserLimit,
};
pub use postgres::{PostgresInspection, PostgresOptions, PostgresStore, PostgresUrl, PostgresUrlError};
pub use sessions::{EndSessions, FinishedLogin, LoginUse, NewSession, RefreshUse, Session};
pub use snapshots::{NewSnapshot, NewSnapshotPart, Retention, SnapshotPartWrite, SnapshotWrite, StoredSnapshot};
pub use sqlite::{
    DatabaseInspection, IntegrityCheck, OpenedBy, SchemaVersions, SqliteOptions, SqliteStore, WriteStatistics,
};
pub use survey::{DamagedLog, DatabaseFacts, LogDamage, LogSurvey, ObjectExtent, ObjectSurvey};
pub use task::{TaskLost, panic_text};
pub use teams::{Member, MemberWrite, NewTeam, NoSuchRole, OwnTeam, Team, TeamCreation, TeamDeletion, TeamRole};
pub use transfer::{TransferEnd, TransferError, Transferred, transfer_database};

/// The store of one server.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// use synckit_protocol::{AppId, Cursor, Head, Position, UserId};
/// use synckit_store::{ChainRead, Store, StreamId};
///
/// let stream = StreamId { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let ChainRead::Page(page) = store.chain(stream, Cursor::START, 500).await? else { panic!() };
/// assert!(page.digests.is_empty() && !page.has_more);
/// // A result on which the caller decides is an outcome, not an error.
/// let never = Cursor::at(Position { seq: 7, head: Head::from_bytes([9; 32]) });
/// assert!(matches!(store.chain(stream, never, 500).await?, ChainRead::Diverged { .. }));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Store: Plans + DeviceGrants {
    // The server itself.

    /// Binds the database to an OPRF seed, or checks that it is bound to this one. With `accept_new`, a database of
    /// another seed is bound to this one. Password records that were made under another seed than the bound one are
    /// stale: they allow no login, while devices that hold keys continue to work. When an earlier seed is bound again, its
    /// records are valid again.
    async fn claim_seed(&self, seed_id: [u8; 16], accept_new: AcceptNewSeed) -> Result<SeedClaim, StoreError>;

    /// The OPRF seed that the database is bound to, if it is bound to one.
    async fn seed_id(&self) -> Result<Option<[u8; 16]>, StoreError>;

    /// Reads and writes once, for `/readyz`; an error if either fails.
    async fn check(&self) -> Result<(), StoreError>;

    /// Measurements of the store, for the metrics. None of them is about a single user.
    async fn figures(&self) -> Result<StoreFigures, StoreError>;

    /// Stops: refuses new work with [`StoreError::Busy`], finishes accepted work, releases files and threads. A
    /// second call waits for the first. Dropping the store does the same, but blocks the thread that drops it.
    async fn close(&self) -> Result<(), StoreError>;

    // Apps and their API keys.

    /// Creates an app with its first key, of a team or of the operator.
    async fn create_app(&self, app: NewApp) -> Result<AppWrite, StoreError>;

    /// Gives an app another name.
    async fn rename_app(&self, app_id: AppId, name: String) -> Result<AppWrite, StoreError>;

    /// Deletes an app: its keys and all of its sessions end at once, its name is free, and nothing new is stored in it.
    /// Retention deletes its users' data in it, step by step. `false` if the app does not exist.
    async fn delete_app(&self, app_id: AppId) -> Result<bool, StoreError>;

    /// Every app, in order of creation, with the keys that are not expired.
    async fn apps(&self, now: UnixSeconds) -> Result<Vec<App>, StoreError>;

    /// Adds a key to an app; its other keys end at `others_end_at`, unless they end sooner. `false` if the app does not
    /// exist.
    async fn rotate_api_key(
        &self,
        app_id: AppId,
        key: NewApiKey,
        others_end_at: UnixSeconds,
    ) -> Result<bool, StoreError>;

    /// Registers an address that a browser sign-in of the app may return to. One that is registered stays so.
    async fn put_redirect(&self, app_id: AppId, uri: String, now: UnixSeconds) -> Result<RedirectWrite, StoreError>;

    /// Removes a registered address. `false` if the app has no such address.
    async fn delete_redirect(&self, app_id: AppId, uri: String) -> Result<bool, StoreError>;

    /// What a sign-in page needs of an app; `None` if the app does not exist.
    async fn app_profile(&self, app_id: AppId) -> Result<Option<AppProfile>, StoreError>;

    // Teams: who administers an app beside the operator.

    /// Creates a team with its first owner.
    async fn create_team(&self, team: NewTeam) -> Result<TeamCreation, StoreError>;

    /// Deletes a team that has no app.
    async fn delete_team(&self, team_id: TeamId) -> Result<TeamDeletion, StoreError>;

    /// Every team, in order of creation.
    async fn teams(&self) -> Result<Vec<Team>, StoreError>;

    /// Makes an account a member of a team with a role, or ends its membership.
    async fn write_member(
        &self,
        team_id: TeamId,
        user_id: UserId,
        role: Option<TeamRole>,
        now: UnixSeconds,
    ) -> Result<MemberWrite, StoreError>;

    /// Gives an app to a team, from the operator or from another team.
    async fn give_app(&self, app_id: AppId, team_id: TeamId) -> Result<AppWrite, StoreError>;

    /// The teams of an account, in order of creation, with their apps: all that it may administer.
    async fn own_teams(&self, user_id: UserId, now: UnixSeconds) -> Result<Vec<OwnTeam>, StoreError>;

    /// How far the first steps with an app have come.
    async fn first_steps(&self, app_id: AppId) -> Result<FirstSteps, StoreError>;

    /// The app of a key that is valid at `now`.
    async fn app_of_key(&self, api_key: String, now: UnixSeconds) -> Result<Option<AppId>, StoreError>;

    // Accounts.

    /// Creates an invitation for one account.
    async fn create_invite(&self, code: SecretHash, now: UnixSeconds) -> Result<(), StoreError>;

    /// Whether an invitation exists and is unused. [`Store::create_account`] and [`Store::confirm_account`] use it up.
    async fn invite_is_open(&self, code: SecretHash) -> Result<bool, StoreError>;

    /// Creates an account and uses up its invitation, if it names one. The order of checks is part of the contract: the
    /// same user id again; the invitation; the address. A taken address leaves the invitation open.
    async fn create_account(&self, account: NewAccount) -> Result<AccountCreation, StoreError>;

    /// Keeps an account until its address is confirmed, in place of an earlier one of the same address. It uses no
    /// invitation up, and no other method finds it. The order of checks is that of [`Store::create_account`]. A taken
    /// address is kept like any other, so that both take the same time; the caller mails its code to nobody.
    async fn put_pending_account(&self, pending: NewPendingAccount) -> Result<AccountCreation, StoreError>;

    /// Makes an account of a pending one, whose address is confirmed by this, and uses its invitation up. `false` if the
    /// code is not the one of this pending account or is not valid any more, if another account has the address, or if
    /// the invitation is used up.
    async fn confirm_account(&self, user_id: UserId, code: SecretHash, now: UnixSeconds) -> Result<bool, StoreError>;

    /// Every account, in order of creation.
    async fn accounts(&self) -> Result<Vec<Account>, StoreError>;

    /// An account by its id, and its usage in each app.
    async fn account(&self, user_id: UserId) -> Result<Option<AccountOverview>, StoreError>;

    /// The OPAQUE record of an account, or of a pending one.
    async fn credential(&self, of: CredentialOf<'_>) -> Result<Option<Credential>, StoreError>;

    /// The vault of an account, and the newest of each earlier generation.
    async fn vault(&self, user_id: UserId) -> Result<Option<Vault>, StoreError>;

    /// Replaces the vault, and with it, if given, the OPAQUE record; a new record ends every session of the account but
    /// `keep_session`, whose refresh secrets so far count no more.
    async fn write_vault(&self, write: VaultWrite) -> Result<VersionedWrite, StoreError>;

    /// A page of all data of an account. Concurrent writes lose nothing: if a batch is deleted between two pages, a
    /// snapshot on a later page contains its changes. A page ends with the line that brings it to `max_bytes`, and holds
    /// at least one line unless no line is left. `None` if the account does not exist or was deleted.
    async fn export(
        &self,
        user_id: UserId,
        after: Option<ExportCursor>,
        max_bytes: usize,
    ) -> Result<Option<ExportPage>, StoreError>;

    /// Deletes an account. No method finds the account, its sessions, codes, used invitation or address from now on; the
    /// data of its streams is condemned, and [`Store::retain`] deletes it. Returns the sessions that ended; `None` if the
    /// account does not exist.
    async fn delete_account(&self, user_id: UserId) -> Result<Option<Vec<SessionId>>, StoreError>;

    /// Deletes an account at a later time, unless a session is opened for it before. Every session ends; returns those that did, or
    /// `None` if the account does not exist. Without a time, a deletion is taken back, and no session ends. [`Store::retain`] then deletes it as [`Store::delete_account`] does.
    async fn schedule_deletion(
        &self,
        user_id: UserId,
        at: Option<UnixSeconds>,
    ) -> Result<Option<Vec<SessionId>>, StoreError>;

    /// Replaces the confirmed or unconfirmed address of an account by another, confirmed one, in one transaction with the look at the
    /// session that changes it. The codes that were mailed to the old one end.
    async fn change_address(&self, change: NewAddress) -> Result<AddressChange, StoreError>;

    /// Stores a mailed code beside the valid ones of the account. `false` if these are
    /// [`RESET_CODES_MAX`](synckit_protocol::limits::RESET_CODES_MAX): they stay, and nothing is stored; and if the account has
    /// another address by now.
    async fn put_mail_code(&self, code: NewMailCode) -> Result<bool, StoreError>;

    /// Counts one start of a reset with a mailed code. `None` if the code is unknown, expired, or was started
    /// [`RESET_STARTS_MAX`](synckit_protocol::limits::RESET_STARTS_MAX) times. The code itself is used up by [`Store::reset_password`].
    async fn start_reset(&self, code: SecretHash, now: UnixSeconds) -> Result<Option<ResetStart>, StoreError>;

    /// Replaces a forgotten password: uses every code of the account up, writes record and vault, moves the replaced vault
    /// to the earlier generations, ends every session of the account, and notes that the address is confirmed. `None` if the
    /// code is not valid. A conflict changes nothing.
    async fn reset_password(&self, reset: PasswordReset) -> Result<Option<VersionedWrite>, StoreError>;

    // Allowances.

    /// Draws on allowances before something is done, on all of them or on none. Every node draws on the same ones.
    async fn count(&self, attempt: Charge, now: UnixSeconds) -> Result<Counted, StoreError>;

    /// Gives back what an attempt drew, because it was a good one, and makes its place familiar. Not more than once for each
    /// attempt: the caller sees to that.
    async fn give_back(&self, attempt: Charge, now: UnixSeconds) -> Result<(), StoreError>;

    /// Notes that an account is used from a place, which makes it familiar for 90 days. The newest eight count.
    async fn note_place(&self, place: Place, now: UnixSeconds) -> Result<(), StoreError>;

    // Sessions.

    /// Notes that a sign-in or unlock was finished. One that was finished within
    /// [`LOGIN_SECONDS`](synckit_protocol::limits::LOGIN_SECONDS) before is repeated.
    async fn finish_login(&self, finished: FinishedLogin) -> Result<LoginUse, StoreError>;

    /// Opens a session with refresh counter 1.
    async fn open_session(&self, session: NewSession) -> Result<bool, StoreError>;

    /// A session that has not ended. Sessions end when they are revoked, when their device is, and 90 days after they
    /// were last refreshed.
    async fn session(&self, id: SessionId, now: UnixSeconds) -> Result<Option<Session>, StoreError>;

    /// Those of these sessions that have not ended, in any order.
    async fn live_sessions(&self, ids: Vec<SessionId>, now: UnixSeconds) -> Result<Vec<SessionId>, StoreError>;

    /// Every session of an account, newest first.
    async fn sessions(&self, user_id: UserId, now: UnixSeconds) -> Result<Vec<Session>, StoreError>;

    /// Uses a refresh secret. The current counter moves on by one; the one before it returns the current (its answer was
    /// lost, or a second process of the device was slower); an older one ends the session, because only a copied secret
    /// can be that old. A counter that was never issued (the database is an older copy) changes nothing.
    async fn advance_refresh(&self, id: SessionId, counter: u64, now: UnixSeconds) -> Result<RefreshUse, StoreError>;

    /// Ends sessions and returns the ids of those that it ended.
    async fn end_sessions(&self, which: EndSessions) -> Result<Vec<SessionId>, StoreError>;

    // Devices.

    /// Registers a device under `new_id`, or finds it again and updates its platform: by its installation, else by its
    /// name, never a revoked one. Binds the session to it permanently.
    async fn register_device(&self, device: NewDevice) -> Result<DeviceRegistration, StoreError>;

    /// The devices of a stream that are not revoked, in order of registration.
    async fn devices(&self, stream: StreamId) -> Result<Vec<Device>, StoreError>;

    /// Renames a device.
    async fn rename_device(&self, stream: StreamId, id: DeviceId, name: &str) -> Result<DeviceRename, StoreError>;

    /// Revokes a device and ends its sessions, whose ids it returns; `None` if the device does not exist. A second call
    /// returns an empty list. The name becomes free.
    async fn revoke_device(
        &self,
        stream: StreamId,
        id: DeviceId,
        now: UnixSeconds,
    ) -> Result<Option<Vec<SessionId>>, StoreError>;

    // The envelope.

    /// The current envelope of a stream.
    async fn envelope(&self, stream: StreamId) -> Result<Option<Envelope>, StoreError>;

    /// Writes an envelope and keeps the last ten. The order of checks is part of the contract: version; owner key; head.
    /// One under another master key is written only at the stream's head, in the same transaction: the retired key ends
    /// there.
    async fn put_envelope(&self, envelope: NewEnvelope) -> Result<EnvelopeWrite, StoreError>;

    /// The envelopes of a stream that are kept, newest first.
    async fn envelopes(&self, stream: StreamId) -> Result<Vec<Envelope>, StoreError>;

    /// Writes a kept envelope once more, as the newest version: its master key and its owner key are the current ones
    /// again. Checks nothing; for the operator only.
    async fn restore_envelope(
        &self,
        stream: StreamId,
        version: u64,
        now: UnixSeconds,
    ) -> Result<EnvelopeRestore, StoreError>;

    // The log.

    /// Appends a batch. The order of checks is part of the contract: the first answer of the same batch id; device; key
    /// id; parent. A batch that claims no entries, or for which the stream has no sequence numbers left, is
    /// [`StoreError::InvalidBatch`].
    async fn append_batch(&self, batch: NewBatch) -> Result<Append, StoreError>;

    /// A page of the log: check of the cursor, batches, cursor and `has_more` from one snapshot of the database. It ends
    /// at a batch boundary, at [`synckit_protocol::limits::PAGE_ENTRIES_MAX`] entries or at `max_bytes`, and holds at
    /// least one batch unless the cursor is at the head. At the start the newest snapshot comes first, if the stream has
    /// one; below the log's base a snapshot replaces the deleted batches. A cursor inside a snapshot counts as the start. Updates the device's
    /// last-seen time (to about an hour), and how far it has pulled, as far as retention needs it.
    async fn page(&self, request: PageRequest) -> Result<PageRead, StoreError>;

    /// The digests after a cursor, at most `limit`, and the head, from one snapshot of the database.
    async fn chain(&self, stream: StreamId, from: Cursor, limit: u32) -> Result<ChainRead, StoreError>;

    /// The newest positions of those of these streams that were ever used, in any order.
    async fn heads(&self, streams: Vec<StreamId>) -> Result<Vec<(StreamId, Position)>, StoreError>;

    /// Tells the nodes on this database about new positions. Does nothing where no other node can use it.
    async fn send_notice(&self, notice: Notice) -> Result<(), StoreError>;

    /// Listens for notices from now on, this node's own ones included. `None` where no other node can use the database.
    async fn listen(&self) -> Result<Option<Notices>, StoreError>;

    /// The state of a stream in numbers.
    async fn status(&self, stream: StreamId) -> Result<StreamStatus, StoreError>;

    // Snapshots.

    /// Stores a part of a snapshot that has no manifest yet, and replaces an earlier upload of the part. A fifth
    /// unfinished snapshot of a stream evicts the oldest.
    async fn put_snapshot_part(&self, part: NewSnapshotPart) -> Result<SnapshotPartWrite, StoreError>;

    /// Completes a snapshot, which is from then on the newest of its stream. The order of checks is part of the
    /// contract: the first answer of the same id; key id; owner key; newer than the newest; on the chain; all parts. Of
    /// older ones stay: the one that the log's base rests on, the newest that has settled, the oldest that has not.
    async fn put_snapshot(&self, snapshot: NewSnapshot) -> Result<SnapshotWrite, StoreError>;

    /// A complete snapshot.
    async fn snapshot(&self, stream: StreamId, id: SnapshotId) -> Result<Option<StoredSnapshot>, StoreError>;

    /// A part of a complete snapshot.
    async fn snapshot_part(&self, stream: StreamId, id: SnapshotId, part: u32) -> Result<Option<Bytes>, StoreError>;

    /// Deletes a bounded amount of unneeded data; returns whether more may remain. Unneeded are the data of deleted
    /// accounts, unfinished snapshots, and the log up to the newest settled snapshot that every active device has passed,
    /// with the snapshots before it. The newest batch ids of each device keep their first answer. Readers stop seeing the
    /// data in one transaction; further calls delete its bytes. Objects of a deleted account are condemned, for the sweep.
    async fn retain(&self, retention: Retention) -> Result<bool, StoreError>;

    // Blobs.

    /// Begins an upload under a fresh object key, unless the caller only asks. Without `replace`, a blob that exists makes the upload
    /// unnecessary; a deleted blob is restored instead.
    async fn begin_upload(&self, upload: NewUpload) -> Result<UploadBegin, StoreError>;

    /// The uploads of a blob with this sealed size that are begun and not confirmed, newest first; only `upload_id` if
    /// it is given.
    async fn pending_uploads(
        &self,
        stream: StreamId,
        blob_id: BlobId,
        size: u64,
        upload_id: Option<UploadId>,
    ) -> Result<Vec<PendingUpload>, StoreError>;

    /// An upload that is begun and not confirmed.
    async fn upload(&self, stream: StreamId, upload_id: UploadId) -> Result<Option<PendingUpload>, StoreError>;

    /// Notes the name that a bucket gave an upload in parts. `false` if the upload does not exist, or has a name.
    async fn name_multipart(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        multipart_id: String,
    ) -> Result<bool, StoreError>;

    /// Forgets an upload that gave out no URL, and condemns its object. `false` if the upload does not exist.
    async fn abandon_upload(&self, stream: StreamId, upload_id: UploadId, now: UnixSeconds)
    -> Result<bool, StoreError>;

    /// Ends the time of an upload in parts. It counts against the quotas until the sweep after its last URL: until then, who has
    /// a URL may write. `false` if no such upload exists, or its time is over.
    async fn end_upload(&self, stream: StreamId, upload_id: UploadId, now: UnixSeconds) -> Result<bool, StoreError>;

    /// Points the blob id at the object of an upload, whose size and hash the caller has checked: this is the hash. The sweep deletes its
    /// previous object an hour later: until then a download URL of it may be in use. `false` if the upload does not exist or
    /// has ended.
    async fn confirm_upload(
        &self,
        stream: StreamId,
        upload_id: UploadId,
        sealed_hash: SealedHash,
        now: UnixSeconds,
    ) -> Result<bool, StoreError>;

    /// A confirmed blob that is not deleted.
    async fn blob(&self, stream: StreamId, blob_id: BlobId) -> Result<Option<Blob>, StoreError>;

    /// Confirmed blobs that are not deleted, in order of their ids, after `after`.
    async fn blobs(&self, stream: StreamId, after: Option<BlobId>, limit: u32) -> Result<Vec<Blob>, StoreError>;

    /// Deletes a blob; an upload within 30 days restores it. `false` if the blob does not exist.
    async fn delete_blob(&self, stream: StreamId, blob_id: BlobId, now: UnixSeconds) -> Result<bool, StoreError>;

    /// Condemns objects and returns them: ones replaced an hour ago, blobs deleted 30 days ago, uploads an hour after
    /// their last URL expired. At most `limit`, those condemned by an earlier call included. Nothing can point at a condemned
    /// object again, so deleting it cannot race with an upload that brings its blob back. The caller deletes them and
    /// then calls [`Store::objects_deleted`].
    async fn sweepable_objects(&self, now: UnixSeconds, limit: u32) -> Result<Vec<ObjectKey>, StoreError>;

    /// Notes that condemned objects were deleted; ignores all others. An object is swept a second time a day later, and
    /// only then forgotten: an upload that began before its URL expired may end after the first time. Returns how many
    /// were deleted for the first time.
    async fn objects_deleted(&self, keys: &[ObjectKey], now: UnixSeconds) -> Result<u64, StoreError>;

    /// Postpones condemned objects that could not be deleted: until then, [`Store::sweepable_objects`] returns only others.
    async fn postpone_objects(&self, keys: &[ObjectKey], until: UnixSeconds) -> Result<(), StoreError>;
}
