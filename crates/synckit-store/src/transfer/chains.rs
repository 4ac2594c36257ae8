//! The check of a copy: every chain of batches, from the base of its log to its head, with the hash of every batch.

use synckit_protocol::{AppId, BatchDigest, Head, Position, SealedHash, UserId};

use super::{ends::End, error::TransferError, tables::SEALED};
use crate::{
    LogDamage, StoreError, StreamId,
    records::{Row, Value},
};

/// Streams that are read at once.
const STREAMS: i64 = 500;
/// Batches that are read at once: up to 16 MiB.
const BATCHES: i64 = 16;

/// The row of a stream.
struct Log {
    stream_key: i64,
    id: StreamId,
    latest: Position,
    base_seq: u64,
    base_head: Option<Head>,
}

/// Walks every chain; returns the number of batches.
pub(super) async fn check(end: &End) -> Result<u64, TransferError> {
    let sql = "SELECT stream_key, user_id, app_id, seq, head, base_seq, base_head FROM streams
         WHERE stream_key > $1 ORDER BY stream_key LIMIT $2";
    let (mut after, mut batches) = (i64::MIN, 0_u64);
    loop {
        let rows = end.rows(sql, &[Value::Number(after), Value::Number(STREAMS)]).await?;
        if rows.is_empty() {
            return Ok(batches);
        }
        for row in &rows {
            let log = Log::read(row)?;
            after = log.stream_key;
            batches = batches.saturating_add(walk(end, &log).await?);
        }
    }
}

impl Log {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            stream_key: row.get(0)?,
            id: StreamId {
                user_id: UserId::from_bytes(row.get(1)?),
                app_id: AppId::from_bytes(row.get(2)?),
            },
            latest: Position {
                seq: row.get(3)?,
                head: row.get(4)?,
            },
            base_seq: row.get(5)?,
            base_head: row.get(6)?,
        })
    }

    fn damage(&self, seq: u64, damage: LogDamage) -> TransferError {
        TransferError::Damaged {
            stream: self.id,
            seq,
            damage,
        }
    }
}

async fn walk(end: &End, log: &Log) -> Result<u64, TransferError> {
    let sql = format!(
        "SELECT last_seq, batch_id, device_id, batches.key_id, entry_count, sealed_hash, batches.head, sealed_bytes,
             {SEALED}
         FROM batches LEFT JOIN devices
             ON devices.stream_key = batches.stream_key AND devices.device_key = batches.device_key
         WHERE batches.stream_key = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3"
    );
    let mut place = match log.base_head {
        Some(head) => Position {
            seq: log.base_seq,
            head,
        },
        // The empty stream of a deleted account has the head of another name.
        None if log.latest.seq == 0 => log.latest,
        None => Position::start_of(log.id.app_id, log.id.user_id),
    };
    let mut batches = 0;
    loop {
        let values = [
            Value::Number(log.stream_key),
            Value::Unsigned(place.seq),
            Value::Number(BATCHES),
        ];
        let rows = end.rows(&sql, &values).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            place = step(log, place, row)?;
            batches += 1;
        }
    }
    if place == log.latest {
        Ok(batches)
    } else {
        Err(log.damage(log.latest.seq, LogDamage::OtherEnd))
    }
}

/// The position after a batch.
fn step(log: &Log, place: Position, row: &Row) -> Result<Position, TransferError> {
    let end = Position {
        seq: row.get(0)?,
        head: row.get(6)?,
    };
    let sealed: Option<Vec<u8>> = row.get(8)?;
    let Some(sealed) = sealed else {
        return Err(log.damage(end.seq, LogDamage::BytesMissing));
    };
    let sealed_hash: SealedHash = row.get(5)?;
    if SealedHash::of(&sealed) != sealed_hash || sealed.len() as u64 != row.get::<u64>(7)? {
        return Err(log.damage(end.seq, LogDamage::OtherBytes));
    }
    let Some(device_id) = row.get(2)? else {
        return Err(log.damage(end.seq, LogDamage::BrokenChain));
    };
    let digest = BatchDigest {
        batch_id: row.get(1)?,
        device_id,
        key_id: row.get(3)?,
        count: row.get(4)?,
        sealed_hash,
    };
    if place.advance(&digest) == Some(end) {
        Ok(end)
    } else {
        Err(log.damage(end.seq, LogDamage::BrokenChain))
    }
}
