//! The quotas of an account on a server.

use std::fmt;

/// A quota that the account has reached, in [`Error::QuotaExceeded`](crate::Error::QuotaExceeded).
///
/// # Examples
/// ```
/// use synckit_client::{Error, Quota};
///
/// let error = Error::QuotaExceeded { quota: Quota::Blobs };
/// assert_eq!(error.to_string(), "the account has reached a limit of this server: files");
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
            Self::Other => "a quota that this program does not know",
        })
    }
}
