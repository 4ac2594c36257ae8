//! A device that starts from nothing: it pulls through a snapshot into a SQLite file of its own.
//!
//! Measured from the first request after sign-in (which is Argon2id, and takes as long as that is meant to take) to the
//! last commit. The app commits the cursor with the rows before it, every [`ROWS_PER_COMMIT`] rows: row ids are random,
//! so small transactions would write every page of the table again and again.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, params};
use synckit_client::{ChangeEntry, ChangeOp, Cursor, FoldOutcome};

use super::{
    account::{Account, Client},
    bar,
    figures::{Row, Unit},
    machine::Machine,
};
use crate::cli::MeasureArgs;

/// Rows of one transaction.
const ROWS_PER_COMMIT: u64 = 25_000;

pub(super) async fn measure(
    args: &MeasureArgs,
    directory: &Path,
    machine: &Machine,
    account: &Account,
    folding: &Client,
) -> anyhow::Result<Vec<Row>> {
    let started = Instant::now();
    let report = folding.client.fold(folding.id).await?;
    let folded = started.elapsed();
    ensure!(report.outcome == FoldOutcome::Stored, "the log was not folded");

    let device = account.device("tablet").await?;
    let received = device.wire.received();
    let progress = bar("fresh device", args.records);
    let path = directory.join("tablet.db");
    let started = Instant::now();
    let mut database = Database::create(&path)?;
    let (mut cursor, mut through_snapshot) = (Cursor::START, false);
    loop {
        let (rows, next, has_more) = device.client.pull(device.id, cursor).await?;
        through_snapshot |= next.snapshot().is_some();
        cursor = next;
        progress.inc(rows.len() as u64);
        tokio::task::block_in_place(|| database.apply(&rows, cursor, !has_more))?;
        if !has_more {
            break;
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let stored = database.rows()?;
    ensure!(
        stored == args.records,
        "{stored} rows are in the device's file, of {}",
        args.records
    );
    ensure!(
        through_snapshot || args.records <= 500,
        "the device did not pull through the snapshot"
    );
    let bytes = (device.wire.received() - received) as f64;
    Ok(vec![
        Row::new(
            "fresh_device",
            "fresh device through a snapshot, in its own SQLite file",
            Unit::Seconds,
            elapsed,
        )
        .at_most(1.0)
        .beside("opening seals", bytes / (machine.seal_mb_per_second * 1e6)),
        Row::new(
            "fresh_device_rate",
            "    rows a second",
            Unit::RecordsPerSecond,
            args.records as f64 / elapsed,
        ),
        Row::new(
            "fold",
            "folding the log into that snapshot",
            Unit::Seconds,
            folded.as_secs_f64(),
        ),
    ])
}

/// The device's own database, as an app for tasks would have it.
struct Database {
    connection: Connection,
    uncommitted: u64,
}

impl Database {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = wal;
             PRAGMA synchronous = normal;
             PRAGMA cache_size = -65536;
             CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL, done INTEGER NOT NULL,
                 priority INTEGER NOT NULL, amount REAL NOT NULL, due INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE sync (id INTEGER PRIMARY KEY CHECK (id = 1), cursor TEXT NOT NULL);
             BEGIN;",
        )?;
        Ok(Self {
            connection,
            uncommitted: 0,
        })
    }

    fn apply(&mut self, rows: &[ChangeEntry], cursor: Cursor, is_last: bool) -> anyhow::Result<()> {
        let mut put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO tasks (id, title, body, done, priority, amount, due)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let mut delete = self.connection.prepare_cached("DELETE FROM tasks WHERE id = ?1")?;
        for row in rows {
            if row.op == ChangeOp::Delete {
                delete.execute([&row.row_id])?;
                continue;
            }
            let data = row.data.as_ref().context("a row without data")?;
            put.execute(params![
                row.row_id,
                data["title"].as_str(),
                data["body"].as_str(),
                data["done"].as_bool(),
                data["priority"].as_i64(),
                data["amount"].as_f64(),
                data["due"].as_i64(),
            ])?;
        }
        self.uncommitted += rows.len() as u64;
        if self.uncommitted >= ROWS_PER_COMMIT || is_last {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO sync (id, cursor) VALUES (1, ?1)")?
                .execute([cursor.to_string()])?;
            self.connection
                .execute_batch(if is_last { "COMMIT" } else { "COMMIT; BEGIN" })?;
            self.uncommitted = 0;
        }
        Ok(())
    }

    fn rows(&self) -> anyhow::Result<u64> {
        let rows: i64 = self
            .connection
            .query_row("SELECT count(*) FROM tasks", [], |row| row.get(0))?;
        Ok(u64::try_from(rows)?)
    }
}
