//! The SyncKit SDK: end-to-end encrypted sync in five lines.
//!
//! ```no_run
//! # async fn example(changes: Vec<synckit_client::ChangeEntry>) -> Result<(), Box<dyn std::error::Error>> {
//! use synckit_client::{Cursor, SyncKitClient, SyncKitConfig};
//!
//! let client = SyncKitClient::new(SyncKitConfig {
//!     server_url: "https://sync.example.com".into(),
//!     api_key: "your-api-key".into(),
//! });
//! client.authenticate("user@example.com", "pass").await?;
//! client.setup_encryption_new("pass").await?;
//! let device = client.register_device("MacBook", "macos").await?;
//! client.push(device.id, changes).await?;
//! let (changes, cursor, has_more) = client.pull(device.id, Cursor::START).await?;
//! # Ok(()) }
//! ```
//!
//! Everything is encrypted on the device. The server stores data that it cannot read, and the SDK detects a server that
//! lies about it: [`Error::is_tampering`]. `docs/protocol.md` defines the wire; `docs/guide.md` leads from an empty
//! directory to two devices.
//!
//! This crate deliberately has no database, decides nothing about the app's data, and prints nothing.
//!
//! Invariant: data from a server reaches the app only after it was verified into a typed value. A call can be cancelled
//! at any await without losing state: the next call finds everything that was stored.
//!
//! # The start of an app
//!
//! The password is needed once on each device. From then on the session and the key are in the credential store.
//!
//! ```
//! # synckit_doctest::run(async |world| {
//! # let (client, email, password) = (world.client(), world.email, world.password);
//! # client.create_account(email, password).await?;
//! use synckit_client::Error;
//!
//! match client.try_load_key_from_keychain() {
//!     Ok(()) => {} // ready, also offline
//!     Err(Error::NoStoredKey) => {
//!         client.authenticate(email, password).await?; // the sign-in dialog
//!         if client.has_server_key().await? {
//!             client.setup_encryption_existing(password).await?; // this account has other devices
//!         } else {
//!             client.setup_encryption_new(password).await?; // the very first device
//!         }
//!     }
//!     Err(other) => return Err(other.into()), // a locked keychain is no empty one
//! }
//! let device = client.register_device("MacBook", "macos").await?; // the same device at every start
//! # assert_eq!(client.devices().await?[0].id, device.id);
//! # Ok(())
//! # });
//! ```
//!
//! # Changes out, changes in
//!
//! Tables and rows have the app's own names. `Insert` and `Update` carry the whole row. The order of the log decides,
//! so devices that apply every change in the order of the log become equal. Four rules make that safe:
//!
//! 1. Apply the changes of a page and store its cursor in **one** transaction of the app's database.
//! 2. Keep a local change in an outbox until [`push`](SyncKitClient::push) has returned. Then remove the pushed
//!    changes, but no newer change that the user made meanwhile. Pushing a change twice is harmless;
//!    [`push_at`](SyncKitClient::push_at), the strict form, avoids even that, and is for apps that merge first.
//! 3. Store only cursors that `pull` or a push returned. At the start of the app, pass the stored cursor to
//!    [`resume_at`](SyncKitClient::resume_at).
//! 4. Merge a pulled change into a row that waits in the outbox, or skip the change. Do not overwrite the waiting row:
//!    a pull also returns the app's own changes, and an earlier one would undo the user's newer edit. The waiting row
//!    is pushed later, so it wins on every device.
//!
//! The crate `synckit-sqlite` keeps these rules for apps that store their rows in SQLite.
//!
//! ```
//! # synckit_doctest::run(async |world| {
//! # use std::collections::BTreeMap;
//! # let (client, device) = world.device("laptop").await?;
//! # let (mut rows, stored) = (BTreeMap::new(), Cursor::START);
//! # let outbox: BTreeMap<String, ChangeEntry> = BTreeMap::new();
//! use synckit_client::{ChangeEntry, ChangeOp, Cursor, Timestamp};
//!
//! let change = ChangeEntry {
//!     table: "notes".into(),
//!     op: ChangeOp::Insert,
//!     row_id: "1".into(),
//!     timestamp: Timestamp::from(std::time::SystemTime::now()),
//!     data: Some(serde_json::json!({ "text": "Buy milk" })),
//! };
//! client.push(device.id, vec![change]).await?;
//!
//! let (changes, next, has_more) = client.pull(device.id, stored).await?;
//! for change in changes {
//!     if outbox.contains_key(&change.row_id) {
//!         continue; // the user has changed this row since: the fourth rule
//!     }
//!     match change.op {
//!         ChangeOp::Insert | ChangeOp::Update => rows.insert(change.row_id, change.data),
//!         ChangeOp::Delete => rows.remove(&change.row_id),
//!     };
//! }
//! // Store `next` with the rows, and pull again while `has_more`.
//! assert_eq!((rows.len(), next.seq(), has_more), (1, 1, false)); // own changes come back too
//! # Ok(())
//! # });
//! ```
//!
//! # Errors
//!
//! The SDK retries requests that fail in transit, three times within a minute, and never stores anything twice. It
//! retries after a broken connection, a time-out, and the statuses 408, 429, 500, 502 to 504 and 520 to 530. The
//! failures that remain are an [`Error`], whose variants are grouped by what the app can do:
//!
//! | what happened | for example | what to do |
//! | --- | --- | --- |
//! | the call is wrong | [`Error::InvalidArgument`], [`Error::Encode`], [`Error::EncryptionNotSetUp`], [`Error::CursorUnknown`] | correct it |
//! | not now | [`Error::Network`], [`Error::RetryLater`] | continue with local data, try again later |
//! | nobody is signed in | [`Error::InvalidCredentials`], [`Error::SessionEnded`] | ask for the password |
//! | something to resolve | [`Error::KeyRotated`], [`Error::Behind`], [`Error::DeviceRevoked`], [`Error::PasswordWasReset`], [`Error::QuotaExceeded`] | the call that the variant names, perhaps after asking the user |
//! | the server lies | [`Error::Tampering`] with any [`Tampering`] | stop, tell the user, keep the evidence |
//!
//! # Limits
//!
//! | what | how much | past it |
//! | --- | --- | --- |
//! | changes in one call of `push` | as many as fit the memory; batches of 500 changes or 4 MiB are atomic | split by the SDK |
//! | one change | 3 MiB encoded, data nested 128 deep; numbers are 64-bit integers or finite doubles | [`Error::Encode`]: put large values into a file |
//! | a password | 1 to 1,024 bytes; a new one 4 characters or more, not all the same | [`Error::InvalidArgument`], nothing is sent |
//! | a file | 500 MB, in constant memory | [`Error::InvalidArgument`] |
//! | accounts of an app on one device | 64 | [`CredentialError::TooManyAccounts`] |
//! | devices of an account in an app | 100 | `device_limit` |
//! | rotations of the master key | 24 | [`Error::Key`] |
//!
//! # Requirements
//!
//! A tokio runtime with time and I/O enabled. Calls may run on different runtimes; one call must run on one. TLS is rustls
//! with the roots of the operating system; plain `http://` is refused except to loopback. Requests go through the proxy
//! that the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), except those to loopback. There are no Cargo
//! features: one build, one behaviour. [`SyncKitClient`] is `Send + Sync`, every method takes `&self`, and a clone is
//! as cheap as that of an `Arc`. The keychain is that of macOS, Windows or the Secret Service of Linux; [`FileStore`],
//! [`MemoryStore`] and the host's own [`CredentialStore`] are the alternatives.
//!
//! An app needs no other crate of the project: this crate exports ids, [`Cursor`], [`ChangeEntry`] and the like. The
//! examples at these types name the crates that define them.
//!
//! # Beyond the five lines
//!
//! | for | see |
//! | --- | --- |
//! | hearing of changes at once | [`subscribe`](SyncKitClient::subscribe) |
//! | files | [`blob_put`](SyncKitClient::blob_put), [`blob_get`](SyncKitClient::blob_get) |
//! | several accounts on one device | [`stored_accounts`](SyncKitClient::stored_accounts), [`load_account`](SyncKitClient::load_account), [`forget_account`](SyncKitClient::forget_account) |
//! | a lost password | [`recovery_code`](SyncKitClient::recovery_code), [`reset_password`](SyncKitClient::reset_password), [`setup_encryption_with_recovery`](SyncKitClient::setup_encryption_with_recovery) |
//! | a lost device | [`revoke_device_and_rotate`](SyncKitClient::revoke_device_and_rotate) |
//! | a log that has grown | [`fold`](SyncKitClient::fold) |
//! | a server that was restored from a backup | [`restore_envelope`](SyncKitClient::restore_envelope), and `docs/operations.md` |
//! | a company's certificates, a proxy, a name for the logs | [`ca_bundle`](SyncKitClientBuilder::ca_bundle), [`proxy`](SyncKitClientBuilder::proxy), [`user_agent`](SyncKitClientBuilder::user_agent) |
//! | Android | `docs/guide.md` |
//! | another transport, for example for tests without a network | [`transport`] |

mod account;
mod account_data;
mod accounts;
mod blobs;
mod browser;
mod client;
mod config;
mod connection;
mod device_sign_in;
mod devices;
mod error;
mod history;
mod password;
mod plan_usage;
mod pull;
mod push;
mod quota;
mod rejoin;
mod rotation;
mod runtime;
mod secrets;
mod setup;
mod sign_in;
mod snapshots;
mod state;
mod stream;
mod subscribe;
mod tampering;

pub use connection::{counting::CountingTransport, transport};

pub use account_data::ExportReport;
pub use blobs::{
    download::BlobTarget,
    movement::BlobProgress,
    upload::BlobSource,
    urls::{BlobUploadTicket, DownloadUrl, UploadUrl},
};
pub use client::SyncKitClient;
pub use config::{SyncKitClientBuilder, SyncKitConfig};
pub use device_sign_in::DeviceCode;
pub use error::{Chain as ErrorChain, Error, PushError, Result};
pub use plan_usage::PlanUsage;
pub use quota::Quota;
pub use rejoin::Rejoined;
pub use secrets::{
    accounts::StoredAccount, error::CredentialError, file::FileStore, keychain::KeychainStore, memory::MemoryStore,
    store::CredentialStore,
};
pub use sign_in::Registration;
pub use snapshots::{
    fold::{FoldOutcome, FoldReport},
    read::Pulled,
};
pub use subscribe::Subscription;
pub use synckit_crypto::{
    KeyError, RecoveryCode, RecoveryCodeError, SafetyCode, VaultEdition,
    batch::{ChangeEntry, ChangeOp, EncodeError, EncodeErrorKind, Timestamp, TimestampRangeError},
    blob::{BlobHash, BlobHashParseError},
};
pub use synckit_protocol::{
    ApiKeyError, AppId, BatchId, BlobId, Cursor, CursorParseError, DeviceId, Head, IdParseError, KeyId, KeyKind,
    Position, Problem, ProblemCode, SealedHash, SessionId, SnapshotId, UserId,
    wire::{
        accounts::{AccountInfo, AppUsage, SessionInfo},
        blobs::BlobInfo,
        devices::{Device, DeviceSession, Platform},
        log::{Limits, Status},
        snapshots::SnapshotInfo,
    },
};
pub use tampering::{BatchEvidence, HistoryEvidence, RejoinEvidence, SnapshotEvidence, Tampering};

pub use zeroize::Zeroizing;

/// Compiles the program of the guide, so that the guide stays true.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;
