//! `GET /api/account/export`: all of one person's data on the server, as JSON lines.
//!
//! One line is one [`ExportLine`], in JSON only. The first is `begin`, the last `end`: an export without `end`, or with
//! another number of lines than `end` says, is incomplete. Sealed bytes stay sealed; the user's keys open them.
//!
//! The export deliberately omits values that only verify secrets (the OPAQUE record, hashes of mailed codes and of the
//! invitation). They contain nothing about the person, and would help a thief to guess.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{
    AppId, BatchId, BlobId, ByteString, DeviceId, Head, KeyId, ObjectKey, OwnerKey, Position, SealedHash, SessionId,
    SnapshotId, TeamId, UploadId, UserId, wire::devices::Platform,
};

/// The version of the format that [`ExportLine::Begin`] names.
pub const EXPORT_FORMAT: u32 = 1;

/// One line of an export. Later versions may add kinds and fields; a reader of an export skips kinds that it does not
/// know.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::export::{EXPORT_FORMAT, ExportLine};
///
/// let export = concat!(
///     r#"{"kind":"begin","format":1,"user_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","created_at":1767225600}"#,
///     "\n",
///     r#"{"kind":"invite","created_at":1767139200}"#,
///     "\n",
///     r#"{"kind":"end","lines":2}"#,
///     "\n",
/// );
/// let lines = export.lines().map(serde_json::from_str).collect::<Result<Vec<ExportLine>, _>>()?;
/// let [ExportLine::Begin { format, .. }, .., ExportLine::End { lines: before }] = lines.as_slice() else {
///     panic!("the export was cut off")
/// };
/// assert_eq!((*format, *before), (EXPORT_FORMAT, 2));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExportLine {
    /// The first line.
    Begin {
        /// [`EXPORT_FORMAT`].
        format: u32,
        /// The account.
        user_id: UserId,
        /// When the export began. Each line is as it was at that time or later.
        created_at: UnixSeconds,
    },
    /// The account.
    Account(ExportedAccount),
    /// A vault that a password reset replaced.
    EarlierVault {
        /// The version of the vault that replaced it.
        replaced_by: u64,
        /// The vault.
        vault: ByteString,
    },
    /// A code that was mailed to reset the password, and not used yet.
    MailCode {
        /// When it expires.
        expires_at: UnixSeconds,
    },
    /// A network address that the account was used from, of which the server keeps a keyed hash.
    FamiliarPlace {
        /// When it was used last.
        used_at: UnixSeconds,
    },
    /// A team that the account is a member of.
    TeamMember {
        /// The team.
        team_id: TeamId,
        /// Its name.
        team_name: String,
        /// What the account may do in it: `owner` or `developer`.
        role: String,
        /// Since when.
        joined_at: UnixSeconds,
    },
    /// The invitation that the account used.
    Invite {
        /// When it was created.
        created_at: UnixSeconds,
    },
    /// The stream of the account in one app. Its data follows before the next stream.
    Stream(ExportedStream),
    /// A session that has not ended.
    Session(ExportedSession),
    /// A device.
    Device(ExportedDevice),
    /// An envelope, the current one or an earlier one.
    Envelope(ExportedEnvelope),
    /// A batch of the log, in log order.
    Batch(ExportedBatch),
    /// The answer to a batch that a snapshot replaced.
    BatchAnswer(ExportedBatchAnswer),
    /// A snapshot. Its parts follow.
    Snapshot(ExportedSnapshot),
    /// A part of a snapshot.
    SnapshotPart(ExportedSnapshotPart),
    /// A blob.
    Blob(ExportedBlob),
    /// An unconfirmed upload.
    Upload(ExportedUpload),
    /// The last line.
    End {
        /// The number of lines before this one.
        lines: u64,
    },
}

/// The account itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedAccount {
    /// Its id.
    pub user_id: UserId,
    /// Its e-mail address.
    pub email: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When the address was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified_at: Option<UnixSeconds>,
    /// The current vault.
    pub vault: ByteString,
    /// Counts the writes of the vault, from 1.
    pub vault_version: u64,
    /// When it is deleted, if its owner asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_at: Option<UnixSeconds>,
}

/// The stream of the account in one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedStream {
    /// The app.
    pub app_id: AppId,
    /// Its name.
    pub app_name: String,
    /// The newest position.
    pub latest: Position,
    /// The start of the log: earlier changes are only in a snapshot. Absent if the log is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Position>,
    /// The current master key's id, once encryption is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// The version of the current envelope, 0 without one.
    pub envelope_version: u64,
    /// Sealed bytes of batches.
    pub batch_bytes: u64,
    /// Sealed bytes of snapshots.
    pub snapshot_bytes: u64,
    /// Sealed bytes of blobs.
    pub blob_bytes: u64,
}

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedSession {
    /// The app.
    pub app_id: AppId,
    /// Its id.
    pub session_id: SessionId,
    /// Its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The number of refreshes, counted from 1.
    pub refresh_counter: u64,
    /// When it was opened.
    pub created_at: UnixSeconds,
    /// When it was last refreshed.
    pub refreshed_at: UnixSeconds,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedDevice {
    /// The app.
    pub app_id: AppId,
    /// Its id.
    pub device_id: DeviceId,
    /// Its name.
    pub device_name: String,
    /// Its platform.
    pub platform: Platform,
    /// When it was registered.
    pub created_at: UnixSeconds,
    /// When it was last seen, to about an hour.
    pub last_seen_at: UnixSeconds,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<UnixSeconds>,
    /// A sequence that it has reached, as far as the server needed to know.
    pub pulled_seq: u64,
}

/// An envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedEnvelope {
    /// The app.
    pub app_id: AppId,
    /// Its version.
    pub version: u64,
    /// The id of its master key.
    pub key_id: KeyId,
    /// When it was written.
    pub updated_at: UnixSeconds,
    /// Its owner key.
    pub owner: OwnerKey,
    /// The envelope.
    pub envelope: ByteString,
}

/// A batch of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedBatch {
    /// The app.
    pub app_id: AppId,
    /// Its id.
    pub batch_id: BatchId,
    /// The device that pushed it.
    pub device_id: DeviceId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// The sequence of its first entry.
    pub first_seq: u64,
    /// The number of entries.
    pub count: u32,
    /// The head of the chain after it.
    pub head: Head,
    /// The sealed bytes.
    pub sealed: ByteString,
}

/// The answer to a batch whose bytes were deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedBatchAnswer {
    /// The app.
    pub app_id: AppId,
    /// The batch.
    pub batch_id: BatchId,
    /// The device that pushed it.
    pub device_id: DeviceId,
    /// The sequence of its first entry.
    pub first_seq: u64,
    /// The number of entries.
    pub count: u32,
    /// The head of the chain after it.
    pub head: Head,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedSnapshot {
    /// The app.
    pub app_id: AppId,
    /// Its id.
    pub snapshot_id: SnapshotId,
    /// `unfinished` before its manifest is stored, `kept`, or `condemned` when it is useless and will be deleted.
    pub state: String,
    /// When its manifest was stored; for an unfinished one, its last part.
    pub touched_at: UnixSeconds,
    /// Sealed bytes of its parts and its manifest.
    pub size: u64,
    /// The master key that it is sealed under; absent before the manifest, like the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// Its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The number of parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u32>,
    /// The owner key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerKey>,
    /// The sealed manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ByteString>,
}

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedSnapshotPart {
    /// The app.
    pub app_id: AppId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The index of the part, from 0.
    pub part: u32,
    /// The sealed bytes.
    pub sealed: ByteString,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedBlob {
    /// The app.
    pub app_id: AppId,
    /// Its id.
    pub hash: BlobId,
    /// Its object: in the server's data directory the file `blobs/<first byte>/<object key>`.
    pub object_key: ObjectKey,
    /// The sealed size.
    pub size: u64,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// When it was confirmed.
    pub created_at: UnixSeconds,
    /// When it was deleted; an upload can still restore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<UnixSeconds>,
    /// A URL for downloading the sealed bytes. Absent in an export by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_url: Option<String>,
    /// When the URL expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_expires_at: Option<UnixSeconds>,
}

/// An unconfirmed upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedUpload {
    /// The app.
    pub app_id: AppId,
    /// Its id.
    pub upload_id: UploadId,
    /// The blob.
    pub hash: BlobId,
    /// The object that it writes.
    pub object_key: ObjectKey,
    /// The sealed size.
    pub size: u64,
    /// The hash that the object must have, if the client named it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_hash: Option<SealedHash>,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// When its URL expires.
    pub expires_at: UnixSeconds,
}
