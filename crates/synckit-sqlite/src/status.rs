//! What a settings page shows of a sync.

use std::time::SystemTime;

use synckit_client::{BatchEvidence, Error as ClientError, HistoryEvidence, Quota, RejoinEvidence, Tampering};
use tokio::sync::watch;

use crate::{error::Error, push::is_slowed, report::SyncReport};

/// What the sync of a file does, or what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncStatus {
    /// No sync has ended since the file was opened, or since the user answered.
    New,
    /// All is sent and received.
    Idle {
        /// Since when.
        since: SystemTime,
        /// What the sync did that ended then, and what is left: rows that wait outside their tables, for example.
        report: SyncReport,
    },
    /// Entries are sent or received.
    Syncing {
        /// How many entries have been sent or received.
        done: usize,
        /// How many entries there are in all, if that is known. The number grows while other devices write.
        of: Option<usize>,
    },
    /// The server is out of reach, or has no room for requests now. The sync goes on when it is back.
    Offline {
        /// Since when.
        since: SystemTime,
    },
    /// Nobody is signed in, the session has ended, or this device was revoked. Sign in with the client that the database was opened
    /// with; the sync then goes on. After a revocation the device is registered anew.
    NeedsSignIn,
    /// The key on this device is missing, or is not the current one: another device changed it. Call
    /// [`SyncedDatabase::unlock`](crate::SyncedDatabase::unlock) with the password.
    NeedsPassword,
    /// The user must decide: [`SyncedDatabase::decide`](crate::SyncedDatabase::decide).
    NeedsDecision(Question),
    /// The account has reached a limit of the server. What other devices send still arrives.
    OverLimit(Quota),
    /// The server did something that no honest server does, and no decision helps. Keep the text for the operator.
    HistoryProblem(String),
    /// The sync failed for another reason: the file is locked or damaged, belongs to another user, or the server refuses.
    Failed(String),
}

/// A question to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// The server's history is another one than this device's: it was restored from a backup, or somebody attacks. *Was the server
    /// restored?* After a yes, devices send again what the backup lacks.
    ServerRestored(Option<HistoryEvidence>),
    /// The log holds a batch that no device can read: somebody without the key wrote it, or a device with a defect. *Skip it?*
    UnreadableBatch(Box<BatchEvidence>),
    /// Many rows were deleted at once, or rows are missing and nobody saw their deletion. *Were these deletions meant?* After a no,
    /// the rows come back.
    Deletions {
        /// How many.
        count: usize,
        /// SHA-256 of which ones: the answer is about these.
        digest: [u8; 32],
    },
}

/// The user's answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Question {
    /// The question that an error asks.
    pub(crate) fn of(error: &ClientError) -> Option<Self> {
        match (error.rejoin_evidence(), error) {
            (Some(RejoinEvidence::History(evidence)), _) => Some(Self::ServerRestored(Some(evidence))),
            (Some(RejoinEvidence::Batch(batch)), _) => Some(Self::UnreadableBatch(batch)),
            (None, ClientError::Tampering(Tampering::EnvelopeReplaced { .. } | Tampering::VaultReplaced { .. })) => {
                Some(Self::ServerRestored(None))
            }
            _ => None,
        }
    }
}

impl SyncStatus {
    /// What an error of a sync means. `before`: the status so far. `is_agreed`: the user has said that the server was restored.
    pub(crate) fn of_error(error: &Error, before: &Self, is_agreed: bool, now: SystemTime) -> Self {
        let error = match error {
            Error::Client(error) => error,
            other => return Self::Failed(text(other)),
        };
        match Question::of(error) {
            // Nothing is left to ask but the password, for the keys of the backup.
            Some(Question::ServerRestored(None)) if is_agreed => return Self::NeedsPassword,
            Some(question) => return Self::NeedsDecision(question),
            None => {}
        }
        match error {
            slowed if is_slowed(slowed) => Self::OverLimit(Quota::AppTransfer),
            ClientError::Network(_) | ClientError::RetryLater { .. } | ClientError::Protocol { .. } => {
                before.offline(now)
            }
            ClientError::Problem(problem) if problem.status >= 500 => before.offline(now),
            ClientError::NotSignedIn
            | ClientError::SessionEnded
            | ClientError::AccountGone
            | ClientError::InvalidCredentials
            | ClientError::DeviceRevoked => Self::NeedsSignIn,
            ClientError::EncryptionNotSetUp
            | ClientError::NoStoredKey
            | ClientError::NoServerKey
            | ClientError::KeyRotated { .. }
            | ClientError::WrongKey { .. }
            | ClientError::PasswordWasReset { .. } => Self::NeedsPassword,
            ClientError::QuotaExceeded { quota } => Self::OverLimit(*quota),
            ClientError::Tampering(_) => Self::HistoryProblem(text(error)),
            _ => Self::Failed(text(error)),
        }
    }

    pub(crate) fn idle(&self, now: SystemTime, report: SyncReport) -> Self {
        match self {
            Self::Idle { since, .. } => Self::Idle { since: *since, report },
            _ => Self::Idle { since: now, report },
        }
    }

    fn offline(&self, now: SystemTime) -> Self {
        match self {
            Self::Offline { since } => Self::Offline { since: *since },
            _ => Self::Offline { since: now },
        }
    }

    /// Whether somebody did what was needed: answered, or synced.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self, Self::New | Self::Idle { .. })
    }

    /// Whether the sync got to its end: what changes from now on is synced at once.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(
            self,
            Self::Idle { .. } | Self::OverLimit(_) | Self::NeedsDecision(Question::Deletions { .. })
        )
    }

    /// Whether a sync that is repeated may succeed without anybody's doing.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::New | Self::Idle { .. } | Self::Syncing { .. } | Self::Offline { .. } | Self::Failed(_)
        )
    }
}

fn text(error: &(dyn std::error::Error + 'static)) -> String {
    synckit_client::ErrorChain(error).to_string()
}

/// Tells the status of a sync. Made by [`SyncedDatabase::status`](crate::SyncedDatabase::status).
#[derive(Debug, Clone)]
pub struct StatusWatch(watch::Receiver<SyncStatus>);

impl StatusWatch {
    pub(crate) fn of(sender: &watch::Sender<SyncStatus>) -> Self {
        let mut receiver = sender.subscribe();
        receiver.mark_changed();
        Self(receiver)
    }

    /// The status now.
    pub fn now(&self) -> SyncStatus {
        self.0.borrow().clone()
    }

    /// The status: the first time at once, then whenever it changed. Changes that follow each other fast are told as one. `None`:
    /// the database was dropped.
    pub async fn next(&mut self) -> Option<SyncStatus> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
