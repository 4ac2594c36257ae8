//! Everything that is held of an account, page by page.
//!
//! Every table that has to do with an account is read here; a test compares the two, so that a table or a column of a
//! later schema is not forgotten. What is left out is what the server only recognises secrets by, what another column
//! says already, and the small keys by which rows name each other.
//!
//! Invariant: the order of the sections is such that nothing falls between two pages. Batches come before snapshots, and
//! snapshots in the order in which they began: what retention lets go meanwhile is in a snapshot that is still to come.
//! Uploads come before blobs: one that is confirmed meanwhile was listed.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};
use synckit_protocol::{
    AppId, BatchId, BlobId, DeviceId, Head, KeyId, ObjectKey, OwnerKey, Position, SessionId, SnapshotId, UploadId,
    UserId,
    wire::export::{
        ExportLine, ExportedAccount, ExportedBatch, ExportedBatchAnswer, ExportedBlob, ExportedDevice,
        ExportedEnvelope, ExportedSession, ExportedSnapshot, ExportedSnapshotPart, ExportedStream, ExportedUpload,
    },
};

use super::{
    columns::{id, optional_unsigned, platform, unsigned},
    executor::{Transaction, run},
    failure::Failure,
};
use crate::{
    export::{ExportCursor, ExportPage, ExportedLast},
    records::accounts,
};

/// What a line counts for beside its bytes, so that a page of small lines ends too.
const LINE_BYTES: usize = 256;

/// A page that is being filled.
struct Page {
    lines: Vec<ExportLine>,
    bytes_left: usize,
}

impl Page {
    fn push(&mut self, line: ExportLine, bytes: usize) {
        self.lines.push(line);
        self.bytes_left = self.bytes_left.saturating_sub(bytes + LINE_BYTES);
    }

    fn is_full(&self) -> bool {
        self.bytes_left == 0
    }
}

/// A stream of the account.
struct Stream {
    key: i64,
    app_id: AppId,
}

/// Reads the things of one kind that a stream has, after the last one that was read. Returns where it stopped because
/// the page is full, or `None` if nothing is left.
type Section = fn(&Connection, &Stream, &ExportedLast, &mut Page) -> Result<Option<ExportedLast>, Failure>;

const SECTIONS: [Section; 9] = [
    stream_itself,
    sessions,
    devices,
    envelopes,
    batches,
    batch_answers,
    snapshots,
    uploads,
    blobs,
];

pub(super) fn page(
    db: &Connection,
    user_id: UserId,
    after: Option<&ExportCursor>,
    max_bytes: usize,
) -> Result<Option<ExportPage>, Failure> {
    let Some(account_key) = run(accounts::key(&Transaction(db), user_id))? else {
        return Ok(None);
    };
    let mut page = Page {
        lines: Vec::new(),
        bytes_left: max_bytes.max(1),
    };
    let mut next = match after {
        Some(cursor) => Some(cursor.clone()),
        None => {
            account(db, account_key, &mut page)?;
            stream_after(db, user_id, 0)?
        }
    };
    while let Some(cursor) = next.take_if(|_| !page.is_full()) {
        next = advance(db, user_id, cursor, &mut page)?;
    }
    Ok(Some(ExportPage {
        lines: page.lines,
        next,
    }))
}

/// Reads on in one section of one stream, and returns what comes next.
fn advance(
    db: &Connection,
    user_id: UserId,
    cursor: ExportCursor,
    page: &mut Page,
) -> Result<Option<ExportCursor>, Failure> {
    let stream_key = cursor.stream_key;
    let app_id = db
        .prepare_cached("SELECT app_id FROM streams WHERE stream_key = ?1 AND user_id = ?2")?
        .query_row(params![stream_key, user_id.as_bytes()], |row| {
            id(row, 0, AppId::from_bytes)
        })
        .optional()?;
    let (Some(app_id), Some(section)) = (app_id, SECTIONS.get(cursor.section)) else {
        return stream_after(db, user_id, stream_key);
    };
    let stream = Stream {
        key: stream_key,
        app_id,
    };
    Ok(Some(match section(db, &stream, &cursor.after, page)? {
        Some(after) => ExportCursor { after, ..cursor },
        None => ExportCursor {
            stream_key,
            section: cursor.section + 1,
            after: ExportedLast::default(),
        },
    }))
}

fn stream_after(db: &Connection, user_id: UserId, stream_key: i64) -> Result<Option<ExportCursor>, Failure> {
    let next: Option<i64> = db
        .prepare_cached("SELECT min(stream_key) FROM streams WHERE user_id = ?1 AND stream_key > ?2")?
        .query_row(params![user_id.as_bytes(), stream_key], |row| row.get(0))?;
    Ok(next.map(|stream_key| ExportCursor {
        stream_key,
        section: 0,
        after: ExportedLast::default(),
    }))
}

/// Adds the rows of a statement to the page until it is full. `read` makes a line, its size, and its place.
fn fill(
    statement: &mut Statement<'_>,
    params: impl rusqlite::Params,
    page: &mut Page,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(ExportLine, usize, ExportedLast)>,
) -> Result<Option<ExportedLast>, Failure> {
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let (line, bytes, last) = read(row)?;
        page.push(line, bytes);
        if page.is_full() {
            return Ok(Some(last));
        }
    }
    Ok(None)
}

fn by_number(row: &Row<'_>, column: usize) -> rusqlite::Result<ExportedLast> {
    Ok(ExportedLast {
        number: row.get(column)?,
        ..ExportedLast::default()
    })
}

fn by_bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<ExportedLast> {
    Ok(ExportedLast {
        bytes: row.get(column)?,
        ..ExportedLast::default()
    })
}

fn optional_key_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<KeyId>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(KeyId::from_bytes))
}

/// A position of two columns, unless there is no head.
fn optional_position(row: &Row<'_>, seq: usize, head: usize) -> rusqlite::Result<Option<Position>> {
    match row.get::<_, Option<[u8; 32]>>(head)? {
        Some(head) => Ok(Some(Position {
            seq: unsigned(row, seq)?,
            head: Head::from_bytes(head),
        })),
        None => Ok(None),
    }
}

/// The account's own rows: a handful, of at most a few KiB each.
fn account(db: &Connection, account_key: i64, page: &mut Page) -> Result<(), Failure> {
    let account = db
        .prepare_cached(
            "SELECT user_id, email, created_at, email_verified_at, vault, vault_version
             FROM accounts WHERE account_key = ?1",
        )?
        .query_row([account_key], |row| {
            Ok(ExportedAccount {
                user_id: id(row, 0, UserId::from_bytes)?,
                email: row.get(1)?,
                created_at: unsigned(row, 2)?,
                email_verified_at: optional_unsigned(row, 3)?,
                vault: row.get::<_, Vec<u8>>(4)?.into(),
                vault_version: unsigned(row, 5)?,
            })
        })?;
    page.push(ExportLine::Account(account), 0);
    let mut add = |sql: &str, read: fn(&Row<'_>) -> rusqlite::Result<ExportLine>| -> Result<(), Failure> {
        let mut statement = db.prepare_cached(sql)?;
        for line in statement.query_map([account_key], read)? {
            page.push(line?, 0);
        }
        Ok(())
    };
    add(
        "SELECT replaced_by, vault FROM earlier_vaults WHERE account_key = ?1 ORDER BY replaced_by",
        |row| {
            Ok(ExportLine::EarlierVault {
                replaced_by: unsigned(row, 0)?,
                vault: row.get::<_, Vec<u8>>(1)?.into(),
            })
        },
    )?;
    add(
        "SELECT purpose, expires_at FROM mail_codes WHERE account_key = ?1 ORDER BY purpose",
        |row| {
            Ok(ExportLine::MailCode {
                purpose: row.get(0)?,
                expires_at: unsigned(row, 1)?,
            })
        },
    )?;
    add("SELECT created_at FROM invites WHERE used_by = ?1", |row| {
        Ok(ExportLine::Invite {
            created_at: unsigned(row, 0)?,
        })
    })
}

fn stream_itself(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT name, seq, head, base_seq, base_head, key_id, envelope_version, batch_bytes, snapshot_bytes,
                 blob_bytes, stream_key
             FROM streams JOIN apps USING (app_id) WHERE stream_key = ?1 AND stream_key > ?2",
        )?,
        params![stream.key, after.number],
        page,
        |row| {
            let line = ExportedStream {
                app_id,
                app_name: row.get(0)?,
                latest: Position {
                    seq: unsigned(row, 1)?,
                    head: id(row, 2, Head::from_bytes)?,
                },
                base: optional_position(row, 3, 4)?,
                key_id: optional_key_id(row, 5)?,
                envelope_version: unsigned(row, 6)?,
                batch_bytes: unsigned(row, 7)?,
                snapshot_bytes: unsigned(row, 8)?,
                blob_bytes: unsigned(row, 9)?,
            };
            Ok((ExportLine::Stream(line), 0, by_number(row, 10)?))
        },
    )
}

fn sessions(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT session_id, device_id, refresh_counter, sessions.created_at, refreshed_at, session_key
             FROM sessions LEFT JOIN devices USING (device_key)
             WHERE sessions.stream_key = ?1 AND session_key > ?2 ORDER BY session_key",
        )?,
        params![stream.key, after.number],
        page,
        |row| {
            let line = ExportedSession {
                app_id,
                session_id: id(row, 0, SessionId::from_bytes)?,
                device_id: row.get::<_, Option<[u8; 16]>>(1)?.map(DeviceId::from_bytes),
                refresh_counter: unsigned(row, 2)?,
                created_at: unsigned(row, 3)?,
                refreshed_at: unsigned(row, 4)?,
            };
            Ok((ExportLine::Session(line), 0, by_number(row, 5)?))
        },
    )
}

fn devices(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT device_id, name, platform, created_at, last_seen_at, revoked_at, pulled_seq
             FROM devices WHERE stream_key = ?1 AND device_id > ?2 ORDER BY device_id",
        )?,
        params![stream.key, after.bytes],
        page,
        |row| {
            let line = ExportedDevice {
                app_id,
                device_id: id(row, 0, DeviceId::from_bytes)?,
                device_name: row.get(1)?,
                platform: platform(row, 2)?,
                created_at: unsigned(row, 3)?,
                last_seen_at: unsigned(row, 4)?,
                revoked_at: optional_unsigned(row, 5)?,
                pulled_seq: unsigned(row, 6)?,
            };
            Ok((ExportLine::Device(line), 0, by_bytes(row, 0)?))
        },
    )
}

fn envelopes(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT version, key_id, updated_at, envelope, owner
             FROM envelopes WHERE stream_key = ?1 AND version > ?2 ORDER BY version",
        )?,
        params![stream.key, after.number],
        page,
        |row| {
            let envelope: Vec<u8> = row.get(3)?;
            let bytes = envelope.len();
            let line = ExportedEnvelope {
                app_id,
                version: unsigned(row, 0)?,
                key_id: id(row, 1, KeyId::from_bytes)?,
                updated_at: unsigned(row, 2)?,
                owner: id(row, 4, OwnerKey::from_bytes)?,
                envelope: envelope.into(),
            };
            Ok((ExportLine::Envelope(line), bytes, by_number(row, 0)?))
        },
    )
}

fn batches(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT batch_id, device_id, key_id, last_seq, entry_count, head,
                 coalesce(batches.sealed, sealed_batches.sealed)
             FROM batches LEFT JOIN devices USING (device_key) LEFT JOIN sealed_batches USING (sealed_key)
             WHERE batches.stream_key = ?1 AND last_seq > ?2 ORDER BY last_seq",
        )?,
        params![stream.key, after.number],
        page,
        |row| {
            let sealed: Vec<u8> = row.get(6)?;
            let bytes = sealed.len();
            let count: u32 = row.get(4)?;
            let line = ExportedBatch {
                app_id,
                batch_id: id(row, 0, BatchId::from_bytes)?,
                device_id: id(row, 1, DeviceId::from_bytes)?,
                key_id: id(row, 2, KeyId::from_bytes)?,
                first_seq: unsigned(row, 3)?.saturating_sub(u64::from(count)) + 1,
                count,
                head: id(row, 5, Head::from_bytes)?,
                sealed: sealed.into(),
            };
            Ok((ExportLine::Batch(line), bytes, by_number(row, 3)?))
        },
    )
}

fn batch_answers(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT batch_id, device_id, last_seq, entry_count, head, batch_answers.device_key
             FROM batch_answers LEFT JOIN devices USING (device_key)
             WHERE batch_answers.stream_key = ?1 AND (batch_answers.device_key, last_seq) > (?2, ?3)
             ORDER BY batch_answers.device_key, last_seq",
        )?,
        params![stream.key, after.number, after.second],
        page,
        |row| {
            let count: u32 = row.get(3)?;
            let line = ExportedBatchAnswer {
                app_id,
                batch_id: id(row, 0, BatchId::from_bytes)?,
                device_id: id(row, 1, DeviceId::from_bytes)?,
                first_seq: unsigned(row, 2)?.saturating_sub(u64::from(count)) + 1,
                count,
                head: id(row, 4, Head::from_bytes)?,
            };
            let last = ExportedLast {
                number: row.get(5)?,
                second: row.get(2)?,
                ..ExportedLast::default()
            };
            Ok((ExportLine::BatchAnswer(line), 0, last))
        },
    )
}

/// Snapshots, each with its parts. The place is the snapshot and the last part that was read, -1 before the first.
fn snapshots(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    // The keys first: a stream has few snapshots, but to sort their rows would be to copy their manifests.
    let keys: Vec<i64> = db
        .prepare_cached(
            "SELECT snapshot_key FROM snapshots WHERE stream_key = ?1 AND snapshot_key >= ?2 ORDER BY snapshot_key",
        )?
        .query_map(params![stream.key, after.number], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for key in keys {
        let last_part = if key == after.number {
            after.second
        } else {
            let (line, bytes) = db
                .prepare_cached(
                    "SELECT snapshot_id, state, touched_at, size_bytes, key_id, seq, head, part_count, manifest,
                         owner
                     FROM snapshots WHERE snapshot_key = ?1",
                )?
                .query_row([key], |row| read_snapshot(row, stream))?;
            page.push(ExportLine::Snapshot(line), bytes);
            -1
        };
        let place = |part| ExportedLast {
            number: key,
            second: part,
            ..ExportedLast::default()
        };
        if page.is_full() {
            return Ok(Some(place(last_part)));
        }
        let stopped = fill(
            &mut *db.prepare_cached(
                "SELECT snapshot_id, part, sealed FROM snapshot_parts JOIN snapshots USING (snapshot_key)
                 WHERE snapshot_key = ?1 AND part > ?2 ORDER BY part",
            )?,
            params![key, last_part],
            page,
            |row| {
                let sealed: Vec<u8> = row.get(2)?;
                let bytes = sealed.len();
                let line = ExportedSnapshotPart {
                    app_id: stream.app_id,
                    snapshot_id: id(row, 0, SnapshotId::from_bytes)?,
                    part: row.get(1)?,
                    sealed: sealed.into(),
                };
                Ok((ExportLine::SnapshotPart(line), bytes, place(row.get(1)?)))
            },
        )?;
        if stopped.is_some() {
            return Ok(stopped);
        }
    }
    Ok(None)
}

fn read_snapshot(row: &Row<'_>, stream: &Stream) -> rusqlite::Result<(ExportedSnapshot, usize)> {
    let manifest: Option<Vec<u8>> = row.get(8)?;
    let bytes = manifest.as_ref().map_or(0, Vec::len);
    let line = ExportedSnapshot {
        app_id: stream.app_id,
        snapshot_id: id(row, 0, SnapshotId::from_bytes)?,
        state: row.get(1)?,
        touched_at: unsigned(row, 2)?,
        size: unsigned(row, 3)?,
        key_id: optional_key_id(row, 4)?,
        position: optional_position(row, 5, 6)?,
        parts: row.get(7)?,
        owner: row.get::<_, Option<[u8; 32]>>(9)?.map(OwnerKey::from_bytes),
        manifest: manifest.map(Into::into),
    };
    Ok((line, bytes))
}

fn uploads(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT upload_id, blob_id, object_key, size_bytes, key_id, expires_at
             FROM uploads WHERE stream_key = ?1 AND upload_id > ?2 ORDER BY upload_id",
        )?,
        params![stream.key, after.bytes],
        page,
        |row| {
            let line = ExportedUpload {
                app_id,
                upload_id: id(row, 0, UploadId::from_bytes)?,
                hash: id(row, 1, BlobId::from_bytes)?,
                object_key: id(row, 2, ObjectKey::from_bytes)?,
                size: unsigned(row, 3)?,
                key_id: id(row, 4, KeyId::from_bytes)?,
                expires_at: unsigned(row, 5)?,
            };
            Ok((ExportLine::Upload(line), 0, by_bytes(row, 0)?))
        },
    )
}

fn blobs(
    db: &Connection,
    stream: &Stream,
    after: &ExportedLast,
    page: &mut Page,
) -> Result<Option<ExportedLast>, Failure> {
    let app_id = stream.app_id;
    fill(
        &mut *db.prepare_cached(
            "SELECT blob_id, object_key, size_bytes, key_id, created_at, deleted_at
             FROM blobs WHERE stream_key = ?1 AND blob_id > ?2 ORDER BY blob_id",
        )?,
        params![stream.key, after.bytes],
        page,
        |row| {
            let line = ExportedBlob {
                app_id,
                hash: id(row, 0, BlobId::from_bytes)?,
                object_key: id(row, 1, ObjectKey::from_bytes)?,
                size: unsigned(row, 2)?,
                key_id: id(row, 3, KeyId::from_bytes)?,
                created_at: unsigned(row, 4)?,
                deleted_at: optional_unsigned(row, 5)?,
                download_url: None,
                url_expires_at: None,
            };
            Ok((ExportLine::Blob(line), 0, by_bytes(row, 0)?))
        },
    )
}
