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
//! Everything is encrypted on the device; the server stores what it cannot read, and a server that lies about it is
//! caught: [`Error::is_tampering`]. The wire is `docs/protocol.md`.
//!
//! What this crate deliberately is not: it has no database, decides nothing about the app's data, and prints nothing.
//!
//! Invariant: nothing that a server sent reaches the app before it was verified into a typed value. A call can be
//! cancelled at any await without losing state: what was stored is found again by the next call.

mod account;
mod account_data;
mod api;
mod blobs;
mod client;
mod config;
mod credentials;
mod devices;
mod encryption;
mod error;
mod history;
mod ledger;
mod pull;
mod push;
mod rejoin;
mod rotation;
mod session;
mod snapshots;
pub mod transport;

pub use account_data::ExportReport;
pub use blobs::{BlobProgress, BlobSource, BlobTarget, BlobUploadTicket, DownloadUrl, UploadUrl};
pub use client::SyncKitClient;
pub use config::{CredentialStore, SyncKitClientBuilder, SyncKitConfig};
pub use credentials::CredentialError;
pub use error::{BatchEvidence, Chain as ErrorChain, Error, HistoryEvidence, PushError, Result, SnapshotEvidence};
pub use pull::Pulled;
pub use rejoin::{RejoinEvidence, Rejoined};
pub use snapshots::{FoldOutcome, FoldReport};
pub use synckit_crypto::{
    KeyError, RecoveryCode, RecoveryCodeError,
    batch::{ChangeEntry, ChangeOp, EncodeError, Timestamp},
    blob::BlobHash,
};
pub use synckit_protocol::{
    AppId, BatchId, BlobId, Cursor, CursorParseError, DeviceId, Head, KeyId, Position, Problem, ProblemCode,
    SealedHash, SessionId, SnapshotId, UserId,
    wire::{
        accounts::{AccountInfo, AppUsage, SessionInfo},
        blobs::BlobInfo,
        devices::{Device, Platform},
        log::Status,
        snapshots::SnapshotInfo,
    },
};

/// Compiles the program of the guide, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;
