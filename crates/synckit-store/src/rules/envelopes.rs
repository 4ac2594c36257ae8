//! Writes of the envelope.

use synckit_protocol::{KeyId, OwnerKey, Position, SnapshotId, wire::UnixSeconds};

use crate::{Envelope, EnvelopeRestore, EnvelopeWrite, NewEnvelope};

/// The envelope that is stored, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Its version.
    pub version: u64,
    /// The id of its master key.
    pub key_id: KeyId,
    /// The owner key of that master key.
    pub owner: OwnerKey,
}

/// The decision about a write of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is refused.
    Refuse(EnvelopeWrite),
    /// It is written.
    Write,
    /// It is written if this position is the stream's head and this snapshot its newest: the retired key ends there.
    WriteAtHead(Position, Option<SnapshotId>),
}

/// Decides about a write. The order of checks is part of the contract: version, owner key, head, snapshot.
pub fn put(stored: Option<Current>, asked: &NewEnvelope) -> Put {
    let version = stored.map_or(0, |stored| stored.version);
    if version != asked.expected_version {
        return Put::Refuse(EnvelopeWrite::Conflict(version));
    }
    // The first envelope names the owner key, and is signed by it.
    if asked.signed_by != Some(stored.map_or(asked.owner, |stored| stored.owner)) {
        return Put::Refuse(EnvelopeWrite::NotProven);
    }
    match (stored, asked.head) {
        (Some(stored), None) if stored.key_id != asked.key_id => Put::Refuse(EnvelopeWrite::HeadMissing),
        (Some(stored), Some(head)) if stored.key_id != asked.key_id => Put::WriteAtHead(head, asked.snapshot),
        _ => Put::Write,
    }
}

/// The decision about an envelope that the operator restores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restore {
    /// Nothing.
    Refuse(EnvelopeRestore),
    /// It is written once more, as this one.
    Write(Envelope),
}

/// Decides which of the `kept` envelopes, newest first, is written once more.
pub fn restored(kept: Vec<Envelope>, version: u64, now: UnixSeconds) -> Restore {
    let newest = kept.first().map(|newest| newest.version);
    match (newest, kept.into_iter().find(|kept| kept.version == version)) {
        (Some(newest), Some(_)) if version == newest => Restore::Refuse(EnvelopeRestore::Current),
        (Some(newest), Some(older)) => Restore::Write(Envelope {
            version: newest.saturating_add(1),
            updated_at: now,
            ..older
        }),
        _ => Restore::Refuse(EnvelopeRestore::NotKept),
    }
}
