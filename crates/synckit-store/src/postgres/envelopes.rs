//! Writing the envelope: the record, and for a change of the master key, the log's head and newest snapshot.

use super::{positions, streams};
use crate::{
    EnvelopeWrite, NewEnvelope, StoreError,
    records::{Executor, envelopes, streams::find_or_create},
    rules::envelopes::{Put, put as decide},
};

pub(super) async fn put(db: &impl Executor, asked: &NewEnvelope) -> Result<EnvelopeWrite, StoreError> {
    let stored = envelopes::state(db, asked.stream).await?;
    match decide(stored, asked) {
        Put::Refuse(refusal) => {
            // A stream exists from the first write to it on, refused or not: an account that is gone is told so.
            find_or_create(db, asked.stream).await?;
            return Ok(refusal);
        }
        Put::WriteAtHead(head, snapshot) => {
            if let Some(elsewhere) = positions::elsewhere(db, asked.stream, head).await? {
                return Ok(elsewhere.into());
            }
            let newest = match streams::find(db, asked.stream).await? {
                Some(stream) => positions::newest(db, stream.key).await?,
                None => None,
            };
            if newest.map(|newest| newest.snapshot_id) != snapshot {
                return Ok(EnvelopeWrite::SnapshotStale);
            }
        }
        Put::Write => {}
    }
    envelopes::write(db, asked).await.map(EnvelopeWrite::Written)
}
