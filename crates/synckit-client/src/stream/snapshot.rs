//! Snapshots of the server: opened, or refused.

use std::sync::Arc;

use synckit_crypto::{batch::ChangeEntry, snapshot::SnapshotContext};
use synckit_protocol::{
    Position, Problem, ProblemCode, SealedHash, SnapshotId,
    wire::{
        log::Status,
        snapshots::{SnapshotAnswer, SnapshotPartAnswer},
    },
};

use super::handle::Stream;
use crate::{
    connection::{call::Call, session::Connection},
    error::{Error, Result},
    history::walk::Walk,
    runtime,
    state::{keys::Keys, snapshot::OpenSnapshot},
    tampering::{SnapshotEvidence, Tampering},
};

/// The newest snapshot of a stream, as the end of a key names it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NewestSnapshot {
    /// The server's id for it.
    pub(crate) id: Option<SnapshotId>,
    /// The hash of its manifest, if devices may read it.
    pub(crate) manifest: Option<SealedHash>,
}

impl Stream {
    /// The newest snapshot, if the chain leads from its position to `head`, a verified position.
    ///
    /// A snapshot that does not verify is named without its hash: nobody reads it, and it must not block a rotation.
    pub(crate) async fn newest_snapshot(&self, keys: &Keys, head: Position) -> Result<NewestSnapshot> {
        let call = Call::get("/api/sync/status");
        let status: Status = self.connection.authorized(call).await?.decode()?;
        let Some(named) = status.snapshot else {
            return Ok(NewestSnapshot::default());
        };
        let manifest = match self.open_snapshot(keys, named.snapshot_id, named.position).await {
            Ok(Some(snapshot)) => {
                self.leads_to(snapshot.position(), head).await?;
                Some(snapshot.manifest_hash)
            }
            // Another device folded meanwhile, and the server will refuse this one as not the newest.
            Ok(None) => None,
            Err(error @ Error::Tampering(Tampering::SnapshotForged(_))) => {
                tracing::warn!(%error, "the newest snapshot does not verify; a fold replaces it");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(NewestSnapshot {
            id: Some(named.snapshot_id),
            manifest,
        })
    }

    /// Downloads a snapshot's manifest and verifies that a device of this user sealed it for this position. `None` if
    /// the server no longer holds it.
    pub(crate) async fn open_snapshot(
        &self,
        keys: &Keys,
        snapshot_id: SnapshotId,
        position: Position,
    ) -> Result<Option<Arc<OpenSnapshot>>> {
        let call = Call::get(format!("/api/sync/snapshots/{snapshot_id}"));
        let Some(answer) = found(self.connection.authorized(call).await)? else {
            return Ok(None);
        };
        let SnapshotAnswer { snapshot, manifest } = answer.decode()?;
        let key_id = snapshot.key_id;
        let forged = |reason| {
            Error::Tampering(Tampering::SnapshotForged(SnapshotEvidence {
                snapshot_id,
                key_id,
                position,
                part: None,
                reason,
            }))
        };
        if snapshot.snapshot_id != snapshot_id || snapshot.position != position {
            return Err(forged("its id or position has changed"));
        }
        let Some(stream_keys) = keys.find(&key_id) else {
            let error = forged("no device of this user ever had its key");
            return Err(self.unknown_key(keys, Some(error)).await);
        };
        if !keys.permits(&key_id, position) {
            return Err(forged("its key was retired before this place"));
        }
        // Revoked devices know a retired key. A snapshot that they fold now is not the one from before its end.
        let manifest_hash = SealedHash::of(manifest.as_ref());
        if !keys.permits_snapshot(&key_id, position, manifest_hash) {
            return Err(forged(
                "its key was retired, and this is not the newest snapshot of that time",
            ));
        }
        let context = SnapshotContext {
            scope: self.scope(),
            snapshot_id,
            position,
        };
        let manifest = stream_keys
            .snapshot
            .open_manifest(&key_id, &context, manifest.as_ref())
            .map_err(|_| forged("its manifest was not sealed by a device of this user for this position"))?;
        Ok(Some(Arc::new(OpenSnapshot {
            context,
            keys: Arc::clone(stream_keys),
            manifest,
            manifest_hash,
        })))
    }

    /// The position of the snapshot that replaces the deleted part of the log. A device of this user sealed it, and if
    /// `known` has the same sequence it has the same head.
    pub(crate) async fn snapshot_position(
        &self,
        keys: &Keys,
        known: Option<Position>,
        problem: Problem,
    ) -> Result<Position> {
        let Some(claimed) = problem.snapshot else {
            return Err(Error::Problem(Box::new(problem)));
        };
        let opened = self.open_snapshot(keys, claimed.snapshot_id, claimed.position);
        match opened.await? {
            Some(snapshot) => Ok(Walk::new(snapshot.position(), known)?.at()),
            None => Err(Error::Problem(Box::new(problem))),
        }
    }
}

/// Downloads and verifies a part. `None` if the server no longer holds the snapshot.
pub(crate) async fn snapshot_part(
    connection: &Connection,
    snapshot: &Arc<OpenSnapshot>,
    part: u32,
) -> Result<Option<Vec<ChangeEntry>>> {
    let id = snapshot.context.snapshot_id;
    let call = Call::get(format!("/api/sync/snapshots/{id}/parts/{part}"));
    let Some(answer) = found(connection.authorized(call).await)? else {
        return Ok(None);
    };
    let answer: SnapshotPartAnswer = answer.decode()?;
    let opening = Arc::clone(snapshot);
    runtime::blocking(move || {
        let OpenSnapshot {
            context,
            keys,
            manifest,
            ..
        } = opening.as_ref();
        keys.snapshot
            .open_part(&keys.key_id, context, manifest, part, answer.sealed.as_ref())
            .map(Some)
            .map_err(|_| part_forged(&opening, part, "this is not the part that its manifest names"))
    })
    .await?
}

/// The error for a part that is not the manifest's.
fn part_forged(snapshot: &OpenSnapshot, part: u32, reason: &'static str) -> Error {
    Error::Tampering(Tampering::SnapshotForged(SnapshotEvidence {
        snapshot_id: snapshot.context.snapshot_id,
        key_id: snapshot.keys.key_id,
        position: snapshot.position(),
        part: Some(part),
        reason,
    }))
}

/// Turns the answer that the snapshot is deleted into `None`.
fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_problem(ProblemCode::SnapshotNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
