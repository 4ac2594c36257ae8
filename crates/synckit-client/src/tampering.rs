//! Behaviour of a server that no honest server shows, and the evidence of it.

use synckit_crypto::{KeyError, VaultEdition};
use synckit_protocol::{AppId, BatchDigest, BatchId, DeviceId, KeyId, Position, SealedHash, SnapshotId};

/// Behaviour that no honest server shows, unless it was restored from a backup. In [`Error::Tampering`].
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # use synckit_client::{Cursor, Head, Position};
/// # use synckit_doctest::note;
/// # let (client, device) = world.device("laptop").await?;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// # // The app is at 40; the server, restored from a backup, at 1.
/// # let stored = Cursor::at(Position { seq: 40, head: Head::from_bytes([9; 32]) });
/// use synckit_client::{Error, Tampering};
///
/// let warning = match client.pull(device.id, stored).await {
///     Err(Error::Tampering(Tampering::HistoryRewound(_))) => "The server went back in time. Was it restored?",
///     Err(Error::Tampering(_)) => "Do not trust this server.",
///     other => return Err(format!("{other:?}").into()),
/// };
/// assert!(warning.starts_with("The server went back"));
/// # Ok(())
/// # });
/// ```
///
/// [`Error::Tampering`]: crate::Error::Tampering
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Tampering {
    /// The server's history ends before a position that this device knows: a restored backup, or an attack.
    #[error("the server went back: this device knew {}, the server holds {}", .0.known.seq, .0.claimed.seq)]
    HistoryRewound(HistoryEvidence),
    /// The server's history differs from the one that this device knows.
    #[error("the server's history differs from this device's at {}", .0.known.seq)]
    HistoryForked(HistoryEvidence),
    /// No device of the user sealed this batch at this place of this history.
    #[error("a batch was forged or moved: {}", .0.reason)]
    BatchForged(Box<BatchEvidence>),
    /// No device of the user sealed this snapshot, or this part, for this place, and the log that it replaces is
    /// deleted.
    #[error("a snapshot was forged or damaged: {}", .0.reason)]
    SnapshotForged(SnapshotEvidence),
    /// A blob is not the requested one. Nothing of it was released.
    #[error("a blob was forged or damaged: {reason}")]
    BlobForged {
        /// The check that failed.
        reason: &'static str,
    },
    /// The envelope or the vault does not verify.
    #[error("the server's key material was forged or damaged")]
    KeyMaterialForged(#[source] KeyError),
    /// The server's vault is older than the one that this device or an envelope knows, or replaces it at the same
    /// edition: a restored backup, or an attack that revives a password or a recovery code that the user has replaced.
    /// After a restored backup, and by the user's decision, `restore_envelope` accepts it.
    #[error("the server's vault (edition {found}) is not the one that this device knows (edition {known})")]
    VaultReplaced {
        /// The newest known edition.
        known: VaultEdition,
        /// The edition of the server's vault.
        found: VaultEdition,
    },
    /// The server's sign-in key is not the one of the first sign-in.
    #[error("the server's sign-in key changed: this may be another server")]
    ServerKeyChanged,
    /// The server's answer is about another app than that of the API key.
    #[error("the server's answer is about another app ({answered}) than that of the API key")]
    OtherApp {
        /// The app in the answer.
        answered: AppId,
    },
    /// A URL from the server would weaken the connection.
    #[error("the server issued an unsafe URL: {reason}")]
    UnsafeUrl {
        /// Why the URL is unsafe.
        reason: &'static str,
    },
    /// The server's envelope does not continue from this device's keys: it holds an older master key, or another one in
    /// place of this device's. A restored backup, or an attack. After a restored backup, and by the user's decision,
    /// `restore_envelope` settles which keys belong to the stream.
    #[error(
        "the server's master key (version {found_version}) does not continue from this device's (version \
         {held_version})"
    )]
    EnvelopeReplaced {
        /// The version of the master key on this device.
        held_version: u32,
        /// The version of the master key in the server's envelope; 0 if the server holds no envelope.
        found_version: u32,
    },
}

impl Tampering {
    pub(crate) fn rejoin_evidence(&self) -> Option<RejoinEvidence> {
        match self {
            Self::HistoryRewound(evidence) | Self::HistoryForked(evidence) => Some(RejoinEvidence::History(*evidence)),
            // A batch in another place may be an honest device's: no rejoin skips it.
            Self::BatchForged(evidence) if evidence.fault != BatchFault::Elsewhere => {
                Some(RejoinEvidence::Batch(evidence.clone()))
            }
            _ => None,
        }
    }
}

/// Two positions of one stream that cannot both be true.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # use synckit_client::{Cursor, Head, Position};
/// # use synckit_doctest::note;
/// # let (client, device) = world.device("laptop").await?;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// # // The app is at 40; the server, restored from a backup, at 1.
/// # let stored = Cursor::at(Position { seq: 40, head: Head::from_bytes([9; 32]) });
/// use synckit_client::{Error, Tampering};
///
/// fn report(error: &Error) -> Option<String> {
///     let Error::Tampering(Tampering::HistoryRewound(evidence) | Tampering::HistoryForked(evidence)) = error else {
///         return None;
///     };
///     Some(format!("known {}, claimed {}", evidence.known.seq, evidence.claimed.seq))
/// }
///
/// let error = client.pull(device.id, stored).await.unwrap_err();
/// assert_eq!(report(&error).as_deref(), Some("known 40, claimed 1"));
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEvidence {
    /// The newest position that this device had verified.
    pub known: Position,
    /// The server's contradicting claim.
    pub claimed: Position,
}

/// The batch that was refused.
///
/// # Examples
/// ```
/// use synckit_client::{BatchEvidence, Error, Tampering};
///
/// fn report(error: &Error) -> Option<String> {
///     let Error::Tampering(Tampering::BatchForged(evidence)) = error else { return None };
///     let BatchEvidence { batch_id, parent, reason, .. } = evidence.as_ref();
///     Some(format!("batch {batch_id} after {}: {reason}", parent.seq))
/// }
/// assert_eq!(report(&Error::NotSignedIn), None); // no batch to skip
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchEvidence {
    /// The batch id, as the server claims it.
    pub batch_id: BatchId,
    /// The device, as the server claims it.
    pub device_id: DeviceId,
    /// The key, as the server claims it.
    pub key_id: KeyId,
    /// The number of entries, as the server claims it.
    pub count: u32,
    /// SHA-256 of its sealed bytes.
    pub sealed_hash: SealedHash,
    /// The position that the batch should have been sealed on top of.
    pub parent: Position,
    /// The check that failed.
    pub reason: &'static str,
    /// Whether every device will always refuse the batch.
    pub(crate) fault: BatchFault,
}

/// Why a batch was refused: could a device of the user have sealed it in another place?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchFault {
    /// The place or the key is wrong: a server may have moved a batch of the user here.
    Elsewhere,
    /// The bytes do not open under the key that the batch names: no device of the user sealed them here.
    Unopened,
    /// The batch opens in its place and breaks a rule of the format: a device of the user sealed it, and no device can
    /// read it.
    BreaksRule,
}

impl BatchEvidence {
    /// The digest of the batch, from which the chain continues.
    pub(crate) fn digest(&self) -> BatchDigest {
        BatchDigest {
            batch_id: self.batch_id,
            device_id: self.device_id,
            key_id: self.key_id,
            count: self.count,
            sealed_hash: self.sealed_hash,
        }
    }
}

/// The snapshot that was refused.
///
/// # Examples
/// ```
/// use synckit_client::{Error, SnapshotEvidence, Tampering};
///
/// fn report(error: &Error) -> Option<String> {
///     let Error::Tampering(Tampering::SnapshotForged(evidence)) = error else { return None };
///     let SnapshotEvidence { snapshot_id, part, reason, .. } = evidence;
///     let place = part.map_or("manifest".to_owned(), |part| format!("part {part}"));
///     Some(format!("{place} of {snapshot_id}: {reason}"))
/// }
/// # use synckit_client::{Head, KeyId, Position, SnapshotId};
/// # let error = Error::Tampering(Tampering::SnapshotForged(SnapshotEvidence {
/// #     snapshot_id: SnapshotId::from_bytes([1; 16]),
/// #     key_id: KeyId::from_bytes([3; 16]),
/// #     position: Position { seq: 40, head: Head::from_bytes([0; 32]) },
/// #     part: Some(2),
/// #     reason: "it does not open here",
/// # }));
/// assert!(report(&error).is_some_and(|text| text.starts_with("part 2 of ")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEvidence {
    /// The snapshot id, as the server claims it.
    pub snapshot_id: SnapshotId,
    /// The key, as the server claims it.
    pub key_id: KeyId,
    /// The position of the snapshot, as the server claims it.
    pub position: Position,
    /// The refused part, or `None` if it was the manifest.
    pub part: Option<u32>,
    /// The check that failed.
    pub reason: &'static str,
}

/// The refusal that the user may want to resolve by a rejoin. From
/// [`Error::rejoin_evidence`](crate::Error::rejoin_evidence).
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # use synckit_client::{Cursor, Head, Position};
/// # use synckit_doctest::note;
/// # let (client, device) = world.device("laptop").await?;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// # // The app is at 40; the server, restored from a backup, at 1.
/// # let lost = Cursor::at(Position { seq: 40, head: Head::from_bytes([9; 32]) });
/// # let stored = lost;
/// use synckit_client::RejoinEvidence;
///
/// let error = client.pull(device.id, stored).await.unwrap_err();
/// let question = match error.rejoin_evidence() {
///     Some(RejoinEvidence::History(evidence)) => {
///         format!("The server lacks {} changes. Was it restored?", evidence.known.seq - evidence.claimed.seq)
///     }
///     Some(RejoinEvidence::Batch(batch)) => format!("Skip what {} wrote?", batch.device_id),
///     _ => return Err(error.into()),
/// };
/// assert_eq!(question, "The server lacks 39 changes. Was it restored?");
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejoinEvidence {
    /// The server's history differs from the one that this device knows.
    History(HistoryEvidence),
    /// The log holds a batch that no device of the user sealed.
    Batch(Box<BatchEvidence>),
}
