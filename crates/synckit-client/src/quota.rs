//! The quotas of an account on a server, and the storage of its app.

use std::fmt;

/// A limit that is reached, in [`Error::QuotaExceeded`](crate::Error::QuotaExceeded).
///
/// # Examples
/// ```
/// use synckit_client::{Error, Quota};
///
/// let error = Error::QuotaExceeded { quota: Quota::Blobs };
/// assert_eq!(error.to_string(), "a limit of this server is reached: files");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quota {
    /// Stored bytes: batches, snapshots, files and announced uploads.
    Bytes,
    /// Files.
    Blobs,
    /// Uploads that were announced and not yet confirmed.
    PendingUploads,
    /// Revoked devices.
    RevokedDevices,
    /// What the app as a whole may store, by its plan: deletions by any of its users, or a larger plan, make room. No quota of
    /// the account.
    AppStorage,
    /// What one user may store in the app, as its developer set it: deleting files makes room. No quota of the account.
    UserStorage,
    /// What the app as a whole may move in a month, by its plan, or this user as a part of it. 64 KiB a minute go on; the next month
    /// lifts it, and a user's part grows back all the time. In
    /// [`Error::RetryLater`](crate::Error::RetryLater) it is the code `transfer_limit`.
    AppTransfer,
    /// A quota that this SDK does not know.
    Other,
}

impl Quota {
    /// The quota in the server's answer. The server's text is never shown, because the server is not trusted.
    pub(crate) fn from_field(field: Option<&str>) -> Self {
        match field {
            Some("bytes") => Self::Bytes,
            Some("blobs") => Self::Blobs,
            Some("pending_uploads") => Self::PendingUploads,
            Some("revoked_devices") => Self::RevokedDevices,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "stored bytes",
            Self::Blobs => "files",
            Self::PendingUploads => "unfinished uploads",
            Self::RevokedDevices => "revoked devices",
            Self::AppStorage => "the storage of the whole app",
            Self::UserStorage => "the storage that this app gives each user",
            Self::AppTransfer => "the transfer of the whole app, or of this user in it",
            Self::Other => "a quota that this program does not know",
        })
    }
}
