//! A check of every log that finds damage which neither SQLite's own checks nor a running server detects.
//!
//! To SQLite a sealed batch with changed bytes looks intact, and the server sends it unread: only a device would detect the
//! change, and would report an attack. The survey recomputes the hash of every sealed batch and walks every chain from the
//! base of its log to its head, with one batch in memory at a time.
//!
//! Invariant: no transaction reads more than [`STEP_BYTES`] and a batch, so that it never prevents the checkpoints of a
//! server on the same file. Between two transactions a log may grow, and may be cut.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{AppId, BatchDigest, BatchId, DeviceId, Head, KeyId, Position, SealedHash, UserId};

use super::{
    columns::{Unsigned, id, unsigned},
    failure::Failure,
    inspect::DatabaseInspection,
};
use crate::{StoreError, StreamId};

/// Approximate number of sealed bytes that one transaction reads.
const STEP_BYTES: u64 = 8 * 1024 * 1024;
/// Batches that one transaction reads.
const STEP_BATCHES: u32 = 1000;
/// Places that a survey names.
const EXAMPLES_MAX: usize = 5;

/// The damage at one place of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogDamage {
    /// The sealed bytes of a batch are missing.
    #[error("the bytes of a batch are missing")]
    BytesMissing,
    /// The sealed bytes of a batch are not those that were stored.
    #[error("the bytes of a batch are not those that were stored")]
    OtherBytes,
    /// A batch does not follow the one before it, or its device is missing.
    #[error("a batch does not follow from the one before it")]
    BrokenChain,
    /// The newest batches, or the row of the stream, are of another time than the others.
    #[error("the log does not end at its stream's position")]
    OtherEnd,
    /// A kept snapshot lacks parts, or its position is not on the chain.
    #[error("a snapshot is not complete, or not of this log")]
    Snapshot,
}

/// A damaged place of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedLog {
    /// The stream of the log.
    pub stream: StreamId,
    /// The sequence of the batch or the snapshot.
    pub seq: u64,
    /// The kind of damage.
    pub damage: LogDamage,
}

/// The result of a walk along every log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSurvey {
    /// Streams, deleted accounts included.
    pub streams: u64,
    /// Hashed batches.
    pub batches: u64,
    /// Their sealed bytes.
    pub bytes: u64,
    /// Number of damaged places.
    pub damaged: u64,
    /// Some of them.
    pub examples: Vec<DamagedLog>,
}

impl LogSurvey {
    fn report(&mut self, stream: StreamId, seq: u64, damage: LogDamage) {
        self.damaged = self.damaged.saturating_add(1);
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(DamagedLog { stream, seq, damage });
        }
    }
}

impl DatabaseInspection {
    /// Walks every chain, and hashes every sealed batch. Only for a database whose schema this server knows. The time
    /// is that of reading the database.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the database cannot be read.
    pub fn survey_logs(&self) -> Result<LogSurvey, StoreError> {
        let mut survey = LogSurvey::default();
        let mut after = 0;
        while let Some(stream_key) = next_stream(self.connection(), after).map_err(Failure::from)? {
            after = stream_key;
            survey.streams += 1;
            let mut walk = Walk {
                stream_key,
                position: None,
            };
            while walk.step(self.connection(), &mut survey)? {}
        }
        Ok(survey)
    }
}

fn next_stream(db: &Connection, after: i64) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT stream_key FROM streams WHERE stream_key > ?1 ORDER BY stream_key LIMIT 1")?
        .query_row([after], |row| row.get(0))
        .optional()
}

/// The state of a walk along one log.
struct Walk {
    stream_key: i64,
    /// `None` before the first step.
    position: Option<Position>,
}

/// The row of a stream.
struct Ends {
    id: StreamId,
    base: Position,
    latest: Position,
}

struct StoredBatchRow {
    last_seq: u64,
    head: Head,
    digest: Option<BatchDigest>,
    sealed_bytes: u64,
    sealed: Option<Vec<u8>>,
}

impl Walk {
    /// Walks for one transaction. `false` at the end of the log.
    fn step(&mut self, db: &Connection, survey: &mut LogSurvey) -> Result<bool, Failure> {
        let transaction = db.unchecked_transaction()?;
        let Some(ends) = ends(&transaction, self.stream_key)? else {
            // The account is deleted, perhaps since the survey began.
            return Ok(false);
        };
        // A log that was cut since the last step begins later.
        let mut position = match self.position {
            Some(position) if position.seq >= ends.base.seq => position,
            _ => ends.base,
        };
        let mut statement = transaction.prepare_cached(
            "SELECT last_seq, entry_count, batch_id, device_id, key_id, sealed_hash, head, sealed_bytes,
                 coalesce(batches.sealed, sealed_batches.sealed)
             FROM batches LEFT JOIN devices USING (device_key) LEFT JOIN sealed_batches USING (sealed_key)
             WHERE batches.stream_key = ?1 AND last_seq > ?2 ORDER BY last_seq LIMIT ?3",
        )?;
        let mut rows = statement.query(params![self.stream_key, Unsigned(position.seq), STEP_BATCHES])?;
        let mut left = STEP_BYTES;
        let mut is_at_end = true;
        while let Some(row) = rows.next()? {
            let batch = read(row)?;
            if let Some(damage) = batch.damage(position) {
                survey.report(ends.id, batch.last_seq, damage);
            }
            survey.batches = survey.batches.saturating_add(1);
            survey.bytes = survey.bytes.saturating_add(batch.sealed_bytes);
            left = left.saturating_sub(batch.sealed_bytes);
            // From where the stored head is: one rotten batch is one finding.
            position = Position {
                seq: batch.last_seq,
                head: batch.head,
            };
            if left == 0 || position.seq >= ends.latest.seq {
                is_at_end = position.seq >= ends.latest.seq;
                break;
            }
            is_at_end = false;
        }
        self.position = Some(position);
        if !is_at_end {
            return Ok(true);
        }
        let has_more = "SELECT 1 FROM batches WHERE stream_key = ?1 AND last_seq > ?2";
        let has_more = transaction
            .prepare_cached(has_more)?
            .exists(params![self.stream_key, Unsigned(ends.latest.seq)])?;
        if position != ends.latest || has_more {
            survey.report(ends.id, position.seq, LogDamage::OtherEnd);
        }
        snapshots(&transaction, self.stream_key, &ends, survey)?;
        Ok(false)
    }
}

impl StoredBatchRow {
    /// The damage of a batch that should begin at a position, if any.
    fn damage(&self, parent: Position) -> Option<LogDamage> {
        let Some(sealed) = &self.sealed else {
            return Some(LogDamage::BytesMissing);
        };
        let Some(digest) = &self.digest else {
            return Some(LogDamage::BrokenChain);
        };
        if sealed.len() as u64 != self.sealed_bytes || SealedHash::of(sealed) != digest.sealed_hash {
            return Some(LogDamage::OtherBytes);
        }
        let expected = Position {
            seq: self.last_seq,
            head: self.head,
        };
        (parent.advance(digest) != Some(expected)).then_some(LogDamage::BrokenChain)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredBatchRow> {
    let device: Option<[u8; 16]> = row.get(3)?;
    let digest = device
        .map(|device| {
            Ok::<_, rusqlite::Error>(BatchDigest {
                batch_id: id(row, 2, BatchId::from_bytes)?,
                device_id: DeviceId::from_bytes(device),
                key_id: id(row, 4, KeyId::from_bytes)?,
                count: row.get(1)?,
                sealed_hash: id(row, 5, SealedHash::from_bytes)?,
            })
        })
        .transpose()?;
    Ok(StoredBatchRow {
        last_seq: unsigned(row, 0)?,
        head: id(row, 6, Head::from_bytes)?,
        digest,
        sealed_bytes: unsigned(row, 7)?,
        sealed: row.get(8)?,
    })
}

fn ends(db: &Connection, stream_key: i64) -> Result<Option<Ends>, Failure> {
    let found = db
        .prepare_cached(
            // The streams of a deleted account have another owner than the one that their chain was computed for, and
            // nothing above their base.
            "SELECT user_id, app_id, seq, head, base_seq, base_head FROM streams JOIN accounts USING (user_id)
             WHERE stream_key = ?1 AND is_deleted = 0",
        )?
        .query_row([stream_key], |row| {
            let id_of_stream = StreamId {
                user_id: id(row, 0, UserId::from_bytes)?,
                app_id: id(row, 1, AppId::from_bytes)?,
            };
            let base_head: Option<[u8; 32]> = row.get(5)?;
            Ok(Ends {
                base: match base_head {
                    Some(head) => Position {
                        seq: unsigned(row, 4)?,
                        head: Head::from_bytes(head),
                    },
                    None => Position::start_of(id_of_stream.app_id, id_of_stream.user_id),
                },
                latest: Position {
                    seq: unsigned(row, 2)?,
                    head: id(row, 3, Head::from_bytes)?,
                },
                id: id_of_stream,
            })
        })
        .optional()?;
    Ok(found)
}

/// Kept snapshots have all of their parts, and stand on the chain.
fn snapshots(db: &Connection, stream_key: i64, ends: &Ends, survey: &mut LogSurvey) -> Result<(), Failure> {
    let mut statement = db.prepare_cached(
        "SELECT seq, head,
             (SELECT count(*) FROM snapshot_parts WHERE snapshot_parts.stream_key = ?1
                  AND snapshot_parts.snapshot_key = snapshots.snapshot_key AND part < part_count) = part_count
             AND size_bytes = length(manifest) + (SELECT coalesce(sum(length(sealed)), 0) FROM snapshot_parts
                  WHERE snapshot_parts.stream_key = ?1 AND snapshot_parts.snapshot_key = snapshots.snapshot_key),
             EXISTS (SELECT 1 FROM batches WHERE batches.stream_key = ?1 AND last_seq = snapshots.seq
                  AND batches.head = snapshots.head)
         FROM snapshots WHERE stream_key = ?1 AND state = 'kept' AND seq >= ?2",
    )?;
    let mut rows = statement.query(params![stream_key, Unsigned(ends.base.seq)])?;
    while let Some(row) = rows.next()? {
        let position = Position {
            seq: unsigned(row, 0)?,
            head: id(row, 1, Head::from_bytes)?,
        };
        let (is_complete, is_at_batch): (bool, bool) = (row.get(2)?, row.get(3)?);
        let is_on_chain = is_at_batch || position == ends.base;
        if !is_complete || !is_on_chain {
            survey.report(ends.id, position.seq, LogDamage::Snapshot);
        }
    }
    Ok(())
}
