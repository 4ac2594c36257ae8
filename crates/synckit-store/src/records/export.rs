//! All data of an account, page by page.
//!
//! One table says it all: `ACCOUNT` for the rows of the account itself, `SECTIONS` for those of each of its streams.
//! An entry is a query and the columns of a line. A test compares the lines with the schema, so that no table and no
//! column of a later schema is forgotten. An export omits values by which the server only recognises secrets, values that
//! follow from another column, and the small keys by which rows name each other.
//!
//! Invariant: no row escapes between two pages. Batches come before snapshots, and snapshots in the order in which they
//! began: if retention deletes a batch or a snapshot between two pages, a snapshot on a later page contains its changes.
//! Uploads come before blobs: an upload that is confirmed between two pages was listed as an upload.

use std::ops::ControlFlow;

use synckit_protocol::{
    AppId, Head, Position, UserId,
    wire::export::{
        ExportLine, ExportedAccount, ExportedBatch, ExportedBatchAnswer, ExportedBlob, ExportedDevice,
        ExportedEnvelope, ExportedSession, ExportedSnapshot, ExportedSnapshotPart, ExportedStream, ExportedUpload,
    },
};

use super::{Executor, Row, Value, accounts, params};
use crate::{ExportCursor, ExportPage, StoreError, ids::app_name};

/// The size of a line without its columns, so that a page of small lines ends too.
const LINE_BYTES: usize = 256;

/// Makes a line of the columns of a row.
type AccountLine = fn(&Row) -> Result<ExportLine, StoreError>;

/// The rows of the account itself: a handful, of at most a few KiB each. `$1` is the key of the account.
const ACCOUNT: [(&str, AccountLine); 6] = [
    (
        "SELECT user_id, email, created_at, email_verified_at, vault, vault_version, delete_at
         FROM accounts WHERE account_key = $1",
        |row| {
            Ok(ExportLine::Account(ExportedAccount {
                user_id: row.get(0)?,
                email: row.get(1)?,
                created_at: row.get(2)?,
                email_verified_at: row.get(3)?,
                vault: row.get(4)?,
                vault_version: row.get(5)?,
                delete_at: row.get(6)?,
            }))
        },
    ),
    (
        "SELECT replaced_by, vault FROM earlier_vaults WHERE account_key = $1 ORDER BY replaced_by",
        |row| {
            Ok(ExportLine::EarlierVault {
                replaced_by: row.get(0)?,
                vault: row.get(1)?,
            })
        },
    ),
    ("SELECT expires_at FROM mail_codes WHERE account_key = $1", |row| {
        Ok(ExportLine::MailCode {
            expires_at: row.get(0)?,
        })
    }),
    (
        "SELECT used_at FROM familiar_places WHERE account_key = $1 ORDER BY used_at",
        |row| Ok(ExportLine::FamiliarPlace { used_at: row.get(0)? }),
    ),
    (
        "SELECT team_id, name, role, joined_at FROM team_members JOIN teams USING (team_key)
         WHERE account_key = $1 ORDER BY team_key",
        |row| {
            Ok(ExportLine::TeamMember {
                team_id: row.get(0)?,
                team_name: row.get(1)?,
                role: row.get(2)?,
                joined_at: row.get(3)?,
            })
        },
    ),
    ("SELECT created_at FROM invites WHERE used_by = $1", |row| {
        Ok(ExportLine::Invite {
            created_at: row.get(0)?,
        })
    }),
];

/// The rows of one kind that a stream has, in the order of their places.
struct Section {
    /// A place before the first row. The first columns of every row are its place, as many as here.
    start: &'static [Value<'static>],
    /// Read one after the other, from the same place. The section ends when none of them returns a row.
    queries: &'static [Query],
}

struct Query {
    /// `$1` is the key of the stream, `$2` and `$3` the place of the last row that was read.
    sql: &'static str,
    line: fn(AppId, &Row) -> Result<ExportLine, StoreError>,
}

const SECTIONS: [Section; 9] = [
    Section {
        start: &[Value::Number(0)],
        queries: &[Query {
            sql: "SELECT stream_key, name, seq, head, base_seq, base_head, key_id, envelope_version, batch_bytes,
                      snapshot_bytes, blob_bytes
                  FROM streams JOIN apps USING (app_id) WHERE stream_key = $1 AND stream_key > $2",
            line: |app_id, row| {
                Ok(ExportLine::Stream(ExportedStream {
                    app_id,
                    app_name: app_name(app_id, row.get(1)?),
                    latest: Position {
                        seq: row.get(2)?,
                        head: row.get(3)?,
                    },
                    base: optional_position(row, 4, 5)?,
                    key_id: row.get(6)?,
                    envelope_version: row.get(7)?,
                    batch_bytes: row.get(8)?,
                    snapshot_bytes: row.get(9)?,
                    blob_bytes: row.get(10)?,
                }))
            },
        }],
    },
    Section {
        start: &[Value::Number(0)],
        queries: &[Query {
            sql: "SELECT session_key, session_id, device_id, refresh_counter, sessions.created_at, refreshed_at
                  FROM sessions LEFT JOIN devices USING (device_key)
                  WHERE sessions.stream_key = $1 AND session_key > $2 ORDER BY session_key",
            line: |app_id, row| {
                Ok(ExportLine::Session(ExportedSession {
                    app_id,
                    session_id: row.get(1)?,
                    device_id: row.get(2)?,
                    refresh_counter: row.get(3)?,
                    created_at: row.get(4)?,
                    refreshed_at: row.get(5)?,
                }))
            },
        }],
    },
    Section {
        start: &[Value::Bytes(&[])],
        queries: &[Query {
            sql: "SELECT device_id, name, platform, created_at, last_seen_at, revoked_at, pulled_seq
                  FROM devices WHERE stream_key = $1 AND device_id > $2 ORDER BY device_id",
            line: |app_id, row| {
                Ok(ExportLine::Device(ExportedDevice {
                    app_id,
                    device_id: row.get(0)?,
                    device_name: row.get(1)?,
                    platform: row.get(2)?,
                    created_at: row.get(3)?,
                    last_seen_at: row.get(4)?,
                    revoked_at: row.get(5)?,
                    pulled_seq: row.get(6)?,
                }))
            },
        }],
    },
    Section {
        start: &[Value::Number(0)],
        queries: &[Query {
            sql: "SELECT version, key_id, updated_at, owner, envelope
                  FROM envelopes WHERE stream_key = $1 AND version > $2 ORDER BY version",
            line: |app_id, row| {
                Ok(ExportLine::Envelope(ExportedEnvelope {
                    app_id,
                    version: row.get(0)?,
                    key_id: row.get(1)?,
                    updated_at: row.get(2)?,
                    owner: row.get(3)?,
                    envelope: row.get(4)?,
                }))
            },
        }],
    },
    Section {
        start: &[Value::Number(0)],
        queries: &[Query {
            sql: "SELECT last_seq, entry_count, batch_id, device_id, key_id, head,
                      coalesce(batches.sealed, sealed_batches.sealed)
                  FROM batches LEFT JOIN devices USING (device_key) LEFT JOIN sealed_batches USING (sealed_key)
                  WHERE batches.stream_key = $1 AND last_seq > $2 ORDER BY last_seq",
            line: |app_id, row| {
                let count = row.get(1)?;
                Ok(ExportLine::Batch(ExportedBatch {
                    app_id,
                    batch_id: row.get(2)?,
                    device_id: row.get(3)?,
                    key_id: row.get(4)?,
                    first_seq: first_seq(row.get(0)?, count),
                    count,
                    head: row.get(5)?,
                    sealed: row.get(6)?,
                }))
            },
        }],
    },
    Section {
        start: &[Value::Number(0), Value::Number(0)],
        queries: &[Query {
            sql: "SELECT batch_answers.device_key, last_seq, entry_count, batch_id, device_id, head
                  FROM batch_answers LEFT JOIN devices USING (device_key)
                  WHERE batch_answers.stream_key = $1 AND (batch_answers.device_key, last_seq) > ($2, $3)
                  ORDER BY batch_answers.device_key, last_seq",
            line: |app_id, row| {
                let count = row.get(2)?;
                Ok(ExportLine::BatchAnswer(ExportedBatchAnswer {
                    app_id,
                    batch_id: row.get(3)?,
                    device_id: row.get(4)?,
                    first_seq: first_seq(row.get(1)?, count),
                    count,
                    head: row.get(5)?,
                }))
            },
        }],
    },
    // The parts of each snapshot follow it. A place is a snapshot and a part, -1 for the snapshot itself: first come the
    // other parts of that snapshot, then the next snapshot. One query for both would sort manifests and parts.
    Section {
        start: &[Value::Number(0), Value::Number(-1)],
        queries: &[
            Query {
                sql: "SELECT snapshot_key, part, snapshot_id, snapshot_parts.sealed
                      FROM snapshot_parts JOIN snapshots USING (stream_key, snapshot_key)
                      WHERE stream_key = $1 AND snapshot_key = $2 AND part > $3 ORDER BY part",
                line: |app_id, row| {
                    Ok(ExportLine::SnapshotPart(ExportedSnapshotPart {
                        app_id,
                        snapshot_id: row.get(2)?,
                        part: row.get(1)?,
                        sealed: row.get(3)?,
                    }))
                },
            },
            Query {
                sql: "SELECT snapshot_key, CAST(-1 AS BIGINT), snapshot_id, state, touched_at, size_bytes, key_id, seq,
                          head, part_count, owner, manifest
                      FROM snapshots WHERE snapshot_key = (SELECT min(snapshot_key) FROM snapshots
                          WHERE stream_key = $1 AND (snapshot_key, CAST(-1 AS BIGINT)) > ($2, $3))",
                line: |app_id, row| {
                    Ok(ExportLine::Snapshot(ExportedSnapshot {
                        app_id,
                        snapshot_id: row.get(2)?,
                        state: row.get(3)?,
                        touched_at: row.get(4)?,
                        size: row.get(5)?,
                        key_id: row.get(6)?,
                        position: optional_position(row, 7, 8)?,
                        parts: row.get(9)?,
                        owner: row.get(10)?,
                        manifest: row.get(11)?,
                    }))
                },
            },
        ],
    },
    Section {
        start: &[Value::Bytes(&[])],
        queries: &[Query {
            sql: "SELECT upload_id, blob_id, object_key, size_bytes, sealed_hash, key_id, expires_at
                  FROM uploads WHERE stream_key = $1 AND upload_id > $2 ORDER BY upload_id",
            line: |app_id, row| {
                Ok(ExportLine::Upload(ExportedUpload {
                    app_id,
                    upload_id: row.get(0)?,
                    hash: row.get(1)?,
                    object_key: row.get(2)?,
                    size: row.get(3)?,
                    sealed_hash: row.get(4)?,
                    key_id: row.get(5)?,
                    expires_at: row.get(6)?,
                }))
            },
        }],
    },
    Section {
        start: &[Value::Bytes(&[])],
        queries: &[Query {
            sql: "SELECT blob_id, object_key, size_bytes, key_id, created_at, deleted_at
                  FROM blobs WHERE stream_key = $1 AND blob_id > $2 ORDER BY blob_id",
            line: |app_id, row| {
                Ok(ExportLine::Blob(ExportedBlob {
                    app_id,
                    hash: row.get(0)?,
                    object_key: row.get(1)?,
                    size: row.get(2)?,
                    key_id: row.get(3)?,
                    created_at: row.get(4)?,
                    deleted_at: row.get(5)?,
                    download_url: None,
                    url_expires_at: None,
                }))
            },
        }],
    },
];

/// The sequence of the first entry of a batch.
fn first_seq(last_seq: u64, count: u32) -> u64 {
    last_seq.saturating_sub(u64::from(count)).saturating_add(1)
}

/// A position of two columns; `None` if the head is null.
fn optional_position(row: &Row, seq: usize, head: usize) -> Result<Option<Position>, StoreError> {
    match row.get::<Option<Head>>(head)? {
        Some(head) => Ok(Some(Position {
            seq: row.get(seq)?,
            head,
        })),
        None => Ok(None),
    }
}

/// A page that is being filled.
struct Page {
    lines: Vec<ExportLine>,
    bytes_left: usize,
}

impl Page {
    fn push(&mut self, line: ExportLine, row: &Row) {
        self.lines.push(line);
        let bytes = row.size_bytes().saturating_add(LINE_BYTES);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    fn is_full(&self) -> bool {
        self.bytes_left == 0
    }
}

/// [`crate::Store::export`].
///
/// # Errors
/// Those of the engine.
pub async fn page(
    db: &impl Executor,
    user_id: UserId,
    after: Option<ExportCursor>,
    max_bytes: usize,
) -> Result<Option<ExportPage>, StoreError> {
    let Some(account_key) = accounts::key(db, user_id).await? else {
        return Ok(None);
    };
    let mut page = Page {
        lines: Vec::new(),
        bytes_left: max_bytes.max(1),
    };
    let mut next = match after {
        Some(cursor) => Some(cursor),
        None => {
            for (sql, line) in ACCOUNT {
                for row in db.query(sql, params![account_key]).await? {
                    page.push(line(&row)?, &row);
                }
            }
            stream_after(db, user_id, 0).await?
        }
    };
    while let Some(cursor) = next.take_if(|_| !page.is_full()) {
        next = advance(db, user_id, cursor, &mut page).await?;
    }
    Ok(Some(ExportPage {
        lines: page.lines,
        next,
    }))
}

/// Reads the next rows of one section of one stream, and returns the place after them.
async fn advance(
    db: &impl Executor,
    user_id: UserId,
    cursor: ExportCursor,
    page: &mut Page,
) -> Result<Option<ExportCursor>, StoreError> {
    let stream_key = cursor.stream_key;
    let stream = db
        .query_one(
            "SELECT app_id FROM streams WHERE stream_key = $1 AND user_id = $2",
            params![stream_key, &user_id],
        )
        .await?;
    let (Some(stream), Some(section)) = (stream, SECTIONS.get(cursor.section)) else {
        return stream_after(db, user_id, stream_key).await;
    };
    let app_id = stream.get(0)?;
    let mut values = vec![Value::Number(stream_key)];
    match &cursor.after {
        Some(place) => values.extend(place.iter().map(Value::from)),
        None => values.extend(section.start),
    }
    let mut last = None;
    for query in section.queries {
        if page.is_full() {
            break;
        }
        db.each(query.sql, &values, &mut |row| {
            page.push((query.line)(app_id, &row)?, &row);
            last = Some(row);
            Ok(if page.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
        .await?;
    }
    Ok(Some(match last {
        Some(row) => ExportCursor {
            after: Some(row.into_first(section.start.len())),
            ..cursor
        },
        None => ExportCursor {
            stream_key,
            section: cursor.section.saturating_add(1),
            after: None,
        },
    }))
}

async fn stream_after(
    db: &impl Executor,
    user_id: UserId,
    stream_key: i64,
) -> Result<Option<ExportCursor>, StoreError> {
    let row = db
        .query_one(
            "SELECT min(stream_key) FROM streams WHERE user_id = $1 AND stream_key > $2",
            params![&user_id, stream_key],
        )
        .await?;
    let next: Option<i64> = row.map(|row| row.get(0)).transpose()?.flatten();
    Ok(next.map(|stream_key| ExportCursor {
        stream_key,
        section: 0,
        after: None,
    }))
}
