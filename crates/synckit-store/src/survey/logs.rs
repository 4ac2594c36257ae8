//! A check of every log that finds damage which neither a database's own checks nor a running server detects.
//!
//! To a database a sealed batch with changed bytes looks intact, and the server sends it unread: only a device would detect
//! the change, and would report an attack. The walk recomputes the hash of every sealed batch and follows every chain from
//! the base of its log to its head, with a few batches in memory at a time.
//!
//! Invariant: no step reads more than [`STEP_BYTES`] and a batch, so that the transaction around it never holds a server on
//! the same database up. Between two steps a log may grow, and may be cut.

use std::ops::ControlFlow;

use synckit_protocol::{AppId, BatchDigest, Head, Position, SealedHash, UserId};

use crate::{
    StoreError, StreamId,
    records::{Executor, Row, params},
};

/// Approximate number of sealed bytes that one step reads.
const STEP_BYTES: u64 = 8 * 1024 * 1024;
/// Batches that one step reads.
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
    /// A kept snapshot lacks parts, or its position is not on the chain, or the log was cut and has none.
    #[error("a snapshot is not complete, not of this log, or missing")]
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

/// The state of a walk along every log.
#[derive(Debug)]
pub(crate) struct LogWalk {
    pub(crate) survey: LogSurvey,
    stream_key: i64,
    /// `None` between two logs, and before the first step along one.
    position: Option<Position>,
    is_on_a_log: bool,
}

/// The row of a stream.
struct Ends {
    id: StreamId,
    base: Position,
    latest: Position,
}

impl LogWalk {
    pub(crate) fn new() -> Self {
        Self {
            survey: LogSurvey::default(),
            stream_key: i64::MIN,
            position: None,
            is_on_a_log: false,
        }
    }

    /// Walks as far as one transaction should. `false` after the last log.
    pub(crate) async fn step(&mut self, db: &impl Executor) -> Result<bool, StoreError> {
        if !self.is_on_a_log {
            let Some(stream_key) = next_stream(db, self.stream_key).await? else {
                return Ok(false);
            };
            self.stream_key = stream_key;
            self.position = None;
            self.survey.streams += 1;
        }
        self.is_on_a_log = self.follow(db).await?;
        Ok(true)
    }

    /// `false` at the end of the log.
    async fn follow(&mut self, db: &impl Executor) -> Result<bool, StoreError> {
        let Some(ends) = ends(db, self.stream_key).await? else {
            // The account is deleted, perhaps since the survey began.
            return Ok(false);
        };
        // A log that was cut since the last step begins later.
        let mut position = match self.position {
            Some(position) if position.seq >= ends.base.seq => position,
            _ => ends.base,
        };
        let survey = &mut self.survey;
        let mut left = STEP_BYTES;
        let mut is_at_end = true;
        db.each(
            "SELECT last_seq, entry_count, batch_id, device_id, batches.key_id, sealed_hash, batches.head, sealed_bytes,
                 coalesce(batches.sealed, sealed_batches.sealed)
             FROM batches LEFT JOIN devices USING (stream_key, device_key) LEFT JOIN sealed_batches USING (sealed_key)
             WHERE batches.stream_key = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
            params![self.stream_key, position.seq, STEP_BATCHES],
            &mut |row| {
                let batch = StoredBatchRow::read(&row)?;
                if let Some(damage) = batch.damage(position) {
                    survey.report(ends.id, batch.end.seq, damage);
                }
                survey.batches = survey.batches.saturating_add(1);
                survey.bytes = survey.bytes.saturating_add(batch.sealed_bytes);
                left = left.saturating_sub(batch.sealed_bytes);
                // From where the stored head is: one rotten batch is one finding.
                position = batch.end;
                is_at_end = position.seq >= ends.latest.seq;
                Ok(if left == 0 || is_at_end {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            },
        )
        .await?;
        self.position = Some(position);
        if !is_at_end {
            return Ok(true);
        }
        let has_more = has_batches_after(db, self.stream_key, ends.latest.seq).await?;
        if position != ends.latest || has_more {
            self.survey.report(ends.id, position.seq, LogDamage::OtherEnd);
        }
        snapshots(db, self.stream_key, &ends, &mut self.survey).await?;
        Ok(false)
    }
}

struct StoredBatchRow {
    end: Position,
    /// `None` if the row of its device is missing.
    digest: Option<BatchDigest>,
    sealed_bytes: u64,
    sealed: Option<Vec<u8>>,
}

impl StoredBatchRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let digest = |device_id| {
            Ok::<_, StoreError>(BatchDigest {
                batch_id: row.get(2)?,
                device_id,
                key_id: row.get(4)?,
                count: row.get(1)?,
                sealed_hash: row.get(5)?,
            })
        };
        Ok(Self {
            end: Position {
                seq: row.get(0)?,
                head: row.get(6)?,
            },
            digest: row.get::<Option<_>>(3)?.map(digest).transpose()?,
            sealed_bytes: row.get(7)?,
            sealed: row.get(8)?,
        })
    }

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
        (parent.advance(digest) != Some(self.end)).then_some(LogDamage::BrokenChain)
    }
}

async fn next_stream(db: &impl Executor, after: i64) -> Result<Option<i64>, StoreError> {
    let row = db
        .query_one(
            "SELECT stream_key FROM streams WHERE stream_key > $1 ORDER BY stream_key LIMIT 1",
            params![after],
        )
        .await?;
    row.map(|row| row.get(0)).transpose()
}

async fn has_batches_after(db: &impl Executor, stream_key: i64, seq: u64) -> Result<bool, StoreError> {
    let row = db
        .query_one(
            "SELECT last_seq FROM batches WHERE stream_key = $1 AND last_seq > $2 LIMIT 1",
            params![stream_key, seq],
        )
        .await?;
    Ok(row.is_some())
}

async fn ends(db: &impl Executor, stream_key: i64) -> Result<Option<Ends>, StoreError> {
    let row = db
        .query_one(
            // The streams of a deleted account have another owner than the one that their chain was computed for, and
            // nothing above their base.
            "SELECT user_id, app_id, seq, head, base_seq, base_head FROM streams JOIN accounts USING (user_id)
             WHERE stream_key = $1 AND is_deleted = 0",
            params![stream_key],
        )
        .await?;
    row.map(|row| {
        let id = StreamId {
            user_id: UserId::from_bytes(row.get(0)?),
            app_id: AppId::from_bytes(row.get(1)?),
        };
        Ok(Ends {
            base: match row.get::<Option<Head>>(5)? {
                Some(head) => Position { seq: row.get(4)?, head },
                None => Position::start_of(id.app_id, id.user_id),
            },
            latest: Position {
                seq: row.get(2)?,
                head: row.get(3)?,
            },
            id,
        })
    })
    .transpose()
}

/// Kept snapshots have all of their parts, and stand on the chain. A log that was cut has one in place of its beginning.
async fn snapshots(db: &impl Executor, stream_key: i64, ends: &Ends, survey: &mut LogSurvey) -> Result<(), StoreError> {
    let mut replaces_beginning = ends.base.seq == 0;
    db.each(
        "SELECT seq, head,
             (SELECT count(*) FROM snapshot_parts WHERE snapshot_parts.stream_key = $1
                  AND snapshot_parts.snapshot_key = snapshots.snapshot_key AND part < part_count) - part_count,
             size_bytes - length(manifest) - (SELECT CAST(coalesce(sum(length(sealed)), 0) AS bigint)
                  FROM snapshot_parts WHERE snapshot_parts.stream_key = $1
                  AND snapshot_parts.snapshot_key = snapshots.snapshot_key),
             (SELECT count(*) FROM batches WHERE batches.stream_key = $1 AND last_seq = snapshots.seq
                  AND batches.head = snapshots.head)
         FROM snapshots WHERE stream_key = $1 AND state = 'kept' AND seq >= $2",
        params![stream_key, ends.base.seq],
        &mut |row| {
            let position = Position {
                seq: row.get(0)?,
                head: row.get(1)?,
            };
            let (parts, bytes, batches): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let is_on_chain = batches > 0 || position == ends.base;
            if parts != 0 || bytes != 0 || !is_on_chain {
                survey.report(ends.id, position.seq, LogDamage::Snapshot);
            }
            replaces_beginning = true;
            Ok(ControlFlow::Continue(()))
        },
    )
    .await?;
    if !replaces_beginning {
        survey.report(ends.id, ends.base.seq, LogDamage::Snapshot);
    }
    Ok(())
}
