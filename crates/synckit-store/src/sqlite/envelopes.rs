//! Writing the envelope: the record, and for a change of the master key, the log's head and newest snapshot.

use rusqlite::Connection;

use super::{
    executor::{Transaction, run},
    failure::Failure,
    positions,
};
use crate::{
    EnvelopeWrite, NewEnvelope,
    records::{envelopes, streams},
    rules::envelopes::{Put, put as decide},
};

pub(super) fn put(db: &Connection, asked: &NewEnvelope) -> Result<EnvelopeWrite, Failure> {
    let records = Transaction(db);
    let stored = run(envelopes::state(&records, asked.stream))?;
    match decide(stored, asked) {
        Put::Refuse(refusal) => {
            // A stream exists from the first write to it on, refused or not: an account that is gone is told so.
            run(streams::find_or_create(&records, asked.stream))?;
            return Ok(refusal);
        }
        Put::WriteAtHead(head, snapshot) => {
            if let Some(elsewhere) = positions::elsewhere(db, asked.stream, head)? {
                return Ok(elsewhere.into());
            }
            let newest = positions::newest_of_stream(db, asked.stream)?;
            if newest.map(|newest| newest.snapshot_id) != snapshot {
                return Ok(EnvelopeWrite::SnapshotStale);
            }
        }
        Put::Write => {}
    }
    run(envelopes::write(&records, asked)).map(EnvelopeWrite::Written)
}
