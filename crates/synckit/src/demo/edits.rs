//! The concurrent edits of the two devices, and their allowed outcomes.
//!
//! The log decides: of two edits of one row, both devices keep the one that was appended last. That depends on timing,
//! so either outcome is right for such a row, as long as both devices have the same.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::{
    dataset::{Cell, Row, Table, row_id},
    device::Device,
    local::LocalDatabase,
};

/// The most rows to edit.
const ROWS_MAX: u64 = 12;

/// The edits of one table.
#[derive(Debug)]
pub(super) struct Edits {
    pub(super) table: Table,
    /// The allowed values of the edited column of each row afterwards; `None` for a deleted row.
    outcomes: BTreeMap<String, Vec<Option<Cell>>>,
    /// The row that both edited.
    contested: Option<String>,
    pub(super) count: u64,
}

/// The edit of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    BothEdit,
    FirstEdits,
    SecondEdits,
    FirstDeletes,
    SecondDeletes,
    FirstEditsSecondDeletes,
}

impl Edits {
    /// Edits the equal data of both devices. Returns `None` if the dataset has no table to edit.
    pub(super) fn make(first: &mut Device, second: &mut Device) -> anyhow::Result<Option<Self>> {
        let Some((rows, table)) = choose_table(&first.database)? else {
            return Ok(None);
        };
        let picked = rows.min(ROWS_MAX);
        let ranks: Vec<u64> = (0..picked).map(|index| index * rows / picked).collect();
        let ids = first.database.ids_at(&table.name, &ranks)?;
        let mut edits = Self {
            table,
            outcomes: BTreeMap::new(),
            contested: None,
            count: 0,
        };
        let fates = [
            Fate::FirstEdits,
            Fate::BothEdit,
            Fate::SecondEdits,
            Fate::FirstDeletes,
            Fate::SecondDeletes,
            Fate::FirstEditsSecondDeletes,
        ];
        for (id, fate) in ids.iter().zip(fates.iter().cycle()) {
            edits.change(first, second, id, *fate)?;
        }
        for device in [first, second] {
            edits.add_row(device)?;
        }
        Ok(Some(edits))
    }

    fn change(&mut self, first: &mut Device, second: &mut Device, id: &str, fate: Fate) -> anyhow::Result<()> {
        let mut outcomes = Vec::new();
        if matches!(fate, Fate::FirstEdits | Fate::BothEdit | Fate::FirstEditsSecondDeletes) {
            outcomes.push(Some(self.edit(first, id)?));
        }
        if matches!(fate, Fate::SecondEdits | Fate::BothEdit) {
            outcomes.push(Some(self.edit(second, id)?));
        }
        if fate == Fate::FirstDeletes {
            self.remove(first, id)?;
            outcomes.push(None);
        }
        if matches!(fate, Fate::SecondDeletes | Fate::FirstEditsSecondDeletes) {
            self.remove(second, id)?;
            outcomes.push(None);
        }
        if fate == Fate::BothEdit && self.contested.is_none() {
            self.contested = Some(id.to_owned());
        }
        self.outcomes.insert(id.to_owned(), outcomes);
        Ok(())
    }

    fn edit(&mut self, device: &mut Device, id: &str) -> anyhow::Result<Cell> {
        let row = device
            .database
            .row(&self.table.name, id)?
            .with_context(|| format!("there is no row {id}"))?;
        let cell = edited(&row.cells[self.table.edited], device.name);
        device.edit(&self.table, id, cell.clone())?;
        self.count += 1;
        Ok(cell)
    }

    fn remove(&mut self, device: &mut Device, id: &str) -> anyhow::Result<()> {
        device.remove(&self.table, id)?;
        self.count += 1;
        Ok(())
    }

    fn add_row(&mut self, device: &mut Device) -> anyhow::Result<()> {
        let text = Cell::text(format!("added on the {}", device.name));
        let mut row = Row {
            id: row_id(std::slice::from_ref(&text)),
            cells: vec![Cell::Null; self.table.columns.len()],
        };
        row.cells[self.table.edited] = text.clone();
        device.add(&self.table, &row)?;
        self.outcomes.insert(row.id, vec![Some(text)]);
        self.count += 1;
        Ok(())
    }

    /// The first row without an allowed outcome.
    pub(super) fn first_difference(&self, database: &LocalDatabase) -> anyhow::Result<Option<String>> {
        for (id, outcomes) in &self.outcomes {
            let cell = self.cell(database, id)?;
            if !outcomes.contains(&cell) {
                return Ok(Some(format!(
                    "the row {id} of {} has a state that no device gave it",
                    self.table.name
                )));
            }
        }
        Ok(None)
    }

    /// The row that both edited, its column, and its value now.
    pub(super) fn contested(&self, database: &LocalDatabase) -> anyhow::Result<Option<String>> {
        let Some(id) = &self.contested else { return Ok(None) };
        let Some(cell) = self.cell(database, id)? else {
            return Ok(None);
        };
        let (table, column) = (&self.table.name, &self.table.columns[self.table.edited]);
        Ok(Some(format!(
            "both edited {column} of {table} {id}; on both it is now {}",
            cell.to_json()
        )))
    }

    fn cell(&self, database: &LocalDatabase, id: &str) -> anyhow::Result<Option<Cell>> {
        Ok(database
            .row(&self.table.name, id)?
            .map(|mut row| row.cells.swap_remove(self.table.edited)))
    }
}

/// The largest table and its number of rows. A table whose edited column contains text has priority, because its edits
/// are easier to see.
fn choose_table(database: &LocalDatabase) -> anyhow::Result<Option<(u64, Table)>> {
    let mut chosen: Option<((bool, u64), Table)> = None;
    for table in database.tables() {
        let rank = (database.has_text(&table)?, database.row_count(&table.name)?);
        if chosen.as_ref().is_none_or(|(best, _)| rank > *best) {
            chosen = Some((rank, table));
        }
    }
    Ok(chosen.map(|((_, rows), table)| (rows, table)))
}

/// A different value, which names the device.
fn edited(cell: &Cell, device: &str) -> Cell {
    let with_note = |bytes: &[u8]| [bytes, format!(" (edited on the {device})").as_bytes()].concat();
    match cell {
        Cell::Null => Cell::text(format!("written on the {device}")),
        Cell::Integer(integer) => Cell::Integer(integer.wrapping_add(device.len() as i64)),
        // Infinity plus one is infinity; replace it with a number.
        Cell::Real(real) if real.is_finite() && *real + 1.0 != *real => Cell::Real(real + device.len() as f64),
        Cell::Real(_) => Cell::Real(device.len() as f64),
        Cell::Text(bytes) => Cell::Text(with_note(bytes)),
        Cell::Blob(bytes) => Cell::Blob(with_note(bytes)),
    }
}
