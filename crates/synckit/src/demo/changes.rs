//! Rows as changes, and changes as rows.
//!
//! A row is a JSON object with a field for each column. Values too large for an entry of the log become blobs,
//! `{"$file": hash, "as": "blob"}`. The tables themselves become rows of `sqlite_schema`, a name that SQLite reserves.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use synckit_client::{BlobHash, ChangeEntry, ChangeOp, Timestamp};

use super::dataset::{Cell, Row, Table};

/// The table of tables.
pub(super) const SCHEMA: &str = "sqlite_schema";
/// A value above this becomes a blob.
const VALUE_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of values in a row. An entry has at most 3 MiB, and bytes grow by a third in base64.
const ROW_BYTES_MAX: u64 = 2 * 1000 * 1000;
/// In a row that is too large, values up to this size stay: even 2,000 of them, the most columns of SQLite, fit.
const SMALL_VALUE_BYTES_MAX: usize = 1024;

/// The effect of a change on a device's database.
#[derive(Debug)]
pub(super) enum Effect {
    /// A table with its columns.
    Table(Table),
    /// A row, and whether any value is still to be fetched.
    Upsert { table: String, row: Row },
    /// A deleted row.
    Delete { table: String, id: String },
}

/// Makes a change of a row. `upload` gets every value that is too large for it, with its hash.
pub(super) fn upsert(op: ChangeOp, table: &Table, row: &Row, upload: &mut Vec<(BlobHash, Vec<u8>)>) -> ChangeEntry {
    let inline: u64 = row
        .cells
        .iter()
        .map(Cell::size)
        .filter(|size| *size <= VALUE_BYTES_MAX as u64)
        .sum();
    let limit = if inline > ROW_BYTES_MAX {
        SMALL_VALUE_BYTES_MAX
    } else {
        VALUE_BYTES_MAX
    };
    let mut data = Map::new();
    for (column, cell) in table.columns.iter().zip(&row.cells) {
        let value = match (cell.payload(), cell) {
            (Some(bytes), cell) if bytes.len() > limit => {
                let hash = BlobHash::of(bytes);
                upload.push((hash, bytes.to_vec()));
                json!({ "$file": hash.to_string(), "as": if matches!(cell, Cell::Text(_)) { "text" } else { "blob" } })
            }
            (_, cell) => cell.to_json(),
        };
        data.insert(column.clone(), value);
    }
    entry(&table.name, op, &row.id, Some(Value::Object(data)))
}

/// Makes a change that deletes a row.
pub(super) fn delete(table: &Table, id: &str) -> ChangeEntry {
    entry(&table.name, ChangeOp::Delete, id, None)
}

/// Makes a change that announces a table to the other devices.
pub(super) fn announce(table: &Table) -> ChangeEntry {
    let data = json!({ "columns": table.columns, "edited": table.edited });
    entry(SCHEMA, ChangeOp::Insert, &table.name, Some(data))
}

fn entry(table: &str, op: ChangeOp, row_id: &str, data: Option<Value>) -> ChangeEntry {
    let timestamp = Timestamp::from(std::time::SystemTime::now());
    ChangeEntry {
        table: table.to_owned(),
        op,
        row_id: row_id.to_owned(),
        timestamp,
        data,
    }
}

/// The blobs that hold values of a change.
pub(super) fn blobs_of(change: &ChangeEntry) -> anyhow::Result<Vec<BlobHash>> {
    let Some(Value::Object(data)) = &change.data else {
        return Ok(Vec::new());
    };
    if change.table == SCHEMA {
        return Ok(Vec::new());
    }
    data.values()
        .filter_map(|value| value.get("$file")?.as_str())
        .map(|hash| Ok(hash.parse()?))
        .collect()
}

/// The effect of a change. `tables` are the announced ones, `blobs` holds the bytes of all [`blobs_of`].
pub(super) fn effect(
    change: ChangeEntry,
    tables: &HashMap<String, Table>,
    blobs: &HashMap<BlobHash, Vec<u8>>,
) -> anyhow::Result<Effect> {
    if change.op == ChangeOp::Delete {
        return Ok(Effect::Delete {
            table: change.table,
            id: change.row_id,
        });
    }
    let data = change
        .data
        .with_context(|| format!("the row {} of {} has no data", change.row_id, change.table))?;
    if change.table == SCHEMA {
        let columns: Vec<String> = serde_json::from_value(data["columns"].clone())?;
        let edited = data["edited"].as_u64().and_then(|index| usize::try_from(index).ok());
        let edited = edited
            .filter(|index| *index < columns.len())
            .context("a table without columns")?;
        return Ok(Effect::Table(Table {
            name: change.row_id,
            columns,
            edited,
        }));
    }
    let table = tables
        .get(&change.table)
        .with_context(|| format!("the table {} was never announced", change.table))?;
    let Value::Object(data) = data else {
        bail!("the row {} of {} is not an object", change.row_id, change.table)
    };
    let cells = table.columns.iter().map(|column| {
        let value = data
            .get(column)
            .with_context(|| format!("the row {} has no {column}", change.row_id))?;
        match value.get("$file").and_then(Value::as_str) {
            None => Cell::from_json(value),
            Some(hash) => {
                let bytes = blobs
                    .get(&hash.parse::<BlobHash>()?)
                    .context("a value that was not fetched")?
                    .clone();
                Ok(if value["as"] == "text" {
                    Cell::Text(bytes)
                } else {
                    Cell::Blob(bytes)
                })
            }
        }
    });
    let cells = cells.collect::<anyhow::Result<_>>()?;
    Ok(Effect::Upsert {
        table: change.table,
        row: Row {
            id: change.row_id,
            cells,
        },
    })
}
