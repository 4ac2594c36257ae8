//! What a server did that no honest server does, and the evidence of it.

use synckit_crypto::{KeyError, VaultEdition};
use synckit_protocol::{AppId, BatchDigest, BatchId, DeviceId, KeyId, Position, SealedHash, SnapshotId};

/// Something that no honest server does, short of having been restored from a backup. In [`Error::Tampering`].
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # use synckit_client::{Cursor, Head, Position};
/// # use synckit_doctest::note;
/// # let (client, device) = world.device("laptop").await?;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// # // The app has come to 40; the server, restored from a backup, to 1.
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
    /// The server is behind what this device knew: a restored backup, or an attack.
    #[error("the server went back: this device knew {}, the server holds {}", .0.known.seq, .0.claimed.seq)]
    HistoryRewound(HistoryEvidence),
    /// The server tells another history than the one that this device knew.
    #[error("the server tells another history at {}", .0.known.seq)]
    HistoryForked(HistoryEvidence),
    /// A batch is not what any device of the user sealed at this place of this history.
    #[error("a batch was forged or moved: {}", .0.reason)]
    BatchForged(Box<BatchEvidence>),
    /// A snapshot, or a part of one, is not what a device of the user sealed for this place, and the log that it replaces
    /// is gone.
    #[error("a snapshot was forged or damaged: {}", .0.reason)]
    SnapshotForged(SnapshotEvidence),
    /// A blob is not what was asked for. Nothing of it was released.
    #[error("a blob was forged or damaged: {reason}")]
    BlobForged {
        /// What did not agree.
        reason: &'static str,
    },
    /// The envelope or the vault does not verify.
    #[error("the server's key material was forged or damaged")]
    KeyMaterialForged(#[source] KeyError),
    /// The server holds an older vault than this device or an envelope knows, or another one in its place: a restored
    /// backup, or an attack that brings back a password or a recovery code which the user has replaced. After the first,
    /// and by the user's decision, `restore_envelope` goes on with it.
    #[error("the server's vault (edition {found}) is not the one that is known (edition {known})")]
    VaultReplaced {
        /// The newest edition that was known.
        known: VaultEdition,
        /// The edition of the server's vault.
        found: VaultEdition,
    },
    /// The server proved itself with another key than at the first sign-in.
    #[error("the server's sign-in key changed: this may be another server")]
    ServerKeyChanged,
    /// The server answered for another app than the one that the API key names.
    #[error("the server answered for another app ({answered}) than the API key names")]
    OtherApp {
        /// The app that it named.
        answered: AppId,
    },
    /// A URL that the server gave out would weaken the connection.
    #[error("the server gave out a URL that is not safe to use: {reason}")]
    UnsafeUrl {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server holds an envelope that does not go on from the keys of this device: an older master key, or another one
    /// in its place. A restored backup, or an attack. After the first, and by the user's decision, `restore_envelope`
    /// settles which keys are the stream's.
    #[error(
        "the server's master key (version {found_version}) does not go on from that of this device (version {held_version})"
    )]
    EnvelopeReplaced {
        /// The version of the master key on this device.
        held_version: u32,
        /// The version of the master key in the server's envelope; 0 if it holds none at all.
        found_version: u32,
    },
}

impl Tampering {
    pub(crate) fn rejoin_evidence(&self) -> Option<RejoinEvidence> {
        match self {
            Self::HistoryRewound(evidence) | Self::HistoryForked(evidence) => Some(RejoinEvidence::History(*evidence)),
            Self::BatchForged(evidence) => Some(RejoinEvidence::Batch(evidence.clone())),
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
/// # // The app has come to 40; the server, restored from a backup, to 1.
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
    /// What the server claimed instead.
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
    /// The batch as the server named it.
    pub batch_id: BatchId,
    /// The device as the server named it.
    pub device_id: DeviceId,
    /// The key as the server named it.
    pub key_id: KeyId,
    /// How many entries the server said that it holds.
    pub count: u32,
    /// SHA-256 of its sealed bytes.
    pub sealed_hash: SealedHash,
    /// The position that it should have been sealed on top of.
    pub parent: Position,
    /// What did not agree.
    pub reason: &'static str,
    /// Whether every device refuses it for ever.
    pub(crate) fault: BatchFault,
}

/// How a refused batch can be told from one that a device of the user sealed in another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchFault {
    /// Its place or its key is wrong: it may be a batch of the user's that the server moved.
    Elsewhere,
    /// Its bytes do not open under the key that it names: no device of the user sealed them here.
    Unopened,
    /// It opens in its place and breaks a rule of the format: a device of the user sealed what no device can read.
    BreaksRule,
}

impl BatchEvidence {
    /// What the chain needs of the batch.
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
    /// The snapshot as the server named it.
    pub snapshot_id: SnapshotId,
    /// The key as the server named it.
    pub key_id: KeyId,
    /// The position whose state it was said to be.
    pub position: Position,
    /// The part, or `None` if it was the manifest.
    pub part: Option<u32>,
    /// What did not agree.
    pub reason: &'static str,
}

/// Why the user may want to rejoin: what an earlier call refused. From
/// [`Error::rejoin_evidence`](crate::Error::rejoin_evidence).
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # use synckit_client::{Cursor, Head, Position};
/// # use synckit_doctest::note;
/// # let (client, device) = world.device("laptop").await?;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// # // The app has come to 40; the server, restored from a backup, to 1.
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
    /// The server's history is not the one that this device knew.
    History(HistoryEvidence),
    /// The log holds a batch that no device of the user sealed.
    Batch(Box<BatchEvidence>),
}
