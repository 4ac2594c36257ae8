//! Devices, a server, and what may happen.

use synckit_protocol::BatchId;
use synckit_sqlite::{
    merge::{Batch, Key, Rules},
    rows::{Row, RowId, Value},
};

use super::{
    device::Device,
    ledger::Ledger,
    table::{App, key},
};

/// What goes into a column.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// A number that nobody wrote before.
    Token,
    /// The same as a text with a leading zero.
    TokenText,
    Text(&'static str),
    Row(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Insert(usize, &'static str, &'static str, Vec<(&'static str, Cell)>),
    /// Inserts a row whose id follows from its key.
    InsertNamed(usize, &'static str, Vec<(&'static str, Cell)>),
    Set(usize, &'static str, &'static str, &'static str, Cell),
    Add(usize, &'static str, &'static str, &'static str),
    Swap(usize, &'static str, &'static str, &'static str, &'static str),
    Delete(usize, &'static str, &'static str),
    Sync(usize),
    /// The server stores the batch, and the device does not hear of it.
    SyncLost(usize),
    /// Only one change of many arrives.
    SyncHalf(usize),
    /// The server goes back by one batch.
    Restore,
    /// The app's migration drops the table.
    Drop(usize, &'static str),
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) devices: Vec<Device>,
    pub(crate) may_park: bool,
    pub(crate) counter: Option<(&'static str, &'static str, &'static str)>,
    ledger: Ledger,
    log: Vec<Batch>,
    clock: i64,
    batches: u8,
}

impl World {
    pub(crate) fn new(apps: Vec<App>) -> Self {
        // The clock of the second device is ahead, that of the third behind.
        let skews = [0, 50, -50];
        Self {
            rules: Rules::ALL,
            devices: apps
                .into_iter()
                .zip(skews)
                .map(|(app, skew)| Device::new(app, skew))
                .collect(),
            may_park: false,
            counter: None,
            ledger: Ledger::default(),
            log: Vec::new(),
            clock: 1_000,
            batches: 0,
        }
    }

    /// Takes a step. `Ok(false)`: there is nothing for it to do here.
    pub(crate) fn step(&mut self, op: &Op) -> Result<bool, String> {
        self.clock += 10;
        match op {
            Op::Insert(device, table, id, cells) => Ok(self.insert(*device, key(table, id), cells)),
            Op::InsertNamed(device, table, cells) => {
                let row = self.row(*device, table, cells);
                let names = &self.devices[*device].app.schema.tables[*table].key;
                let values: Vec<Value> = names.iter().map(|name| row.get(name).unwrap().clone()).collect();
                let id = RowId::of_key(&values);
                Ok(self.insert_row(
                    *device,
                    Key {
                        table: (*table).into(),
                        id,
                    },
                    row,
                ))
            }
            Op::Set(device, table, id, column, cell) => Ok(self.set(*device, &key(table, id), column, cell)),
            Op::Add(device, table, id, column) => Ok(self.add(*device, &key(table, id), column)),
            Op::Swap(device, table, left, right, column) => {
                Ok(self.swap(*device, &key(table, left), &key(table, right), column))
            }
            Op::Delete(device, table, id) => Ok(self.delete(*device, &key(table, id))),
            Op::Sync(device) => self.sync(*device, usize::MAX, true),
            Op::SyncLost(device) => self.sync(*device, usize::MAX, false),
            Op::SyncHalf(device) => self.sync(*device, 1, true),
            Op::Restore => Ok(self.log.pop().is_some()),
            Op::Drop(device, table) => Ok(self.drop_table(*device, table)),
        }
    }

    /// The cells of the columns that the device's version of the app has.
    fn row(&mut self, device: usize, table: &str, cells: &[(&'static str, Cell)]) -> Row {
        let known = self.devices[device].app.schema.tables[table].columns.clone();
        let cells = cells.iter().filter(|(column, _)| known.contains_key(*column));
        cells.map(|(column, cell)| (*column, self.value(cell))).collect()
    }

    fn value(&mut self, cell: &Cell) -> Value {
        match cell {
            Cell::Token => Value::Integer(self.ledger.token()),
            Cell::TokenText => Value::text(format!("0{}", self.ledger.token())),
            Cell::Text(text) => Value::text(*text),
            Cell::Row(id) => Value::Row(RowId::new(*id)),
        }
    }

    fn insert(&mut self, device: usize, key: Key, cells: &[(&'static str, Cell)]) -> bool {
        // Ids are never used twice.
        if self.devices[device].state.fold.contains_key(&key) || self.devices[device].state.unsent.contains_key(&key) {
            return false;
        }
        let row = self.row(device, &key.table, cells);
        self.insert_row(device, key, row)
    }

    fn insert_row(&mut self, device: usize, key: Key, row: Row) -> bool {
        if self.devices[device].table.rows.contains_key(&key) {
            return false;
        }
        self.app_puts(device, &key, &row)
    }

    /// The app writes a row, if its database takes it.
    fn app_puts(&mut self, device: usize, key: &Key, row: &Row) -> bool {
        let device = &mut self.devices[device];
        let app = std::sync::Arc::clone(&device.app);
        if device.missing.contains(&key.table) || device.table.put(&app, key, row).is_err() {
            return false;
        }
        (app.trigger)(&mut device.table.rows, key, self.clock + device.skew);
        device.noted.insert(key.clone());
        device.capture(self.rules, self.clock);
        true
    }

    fn set(&mut self, device: usize, key: &Key, column: &str, cell: &Cell) -> bool {
        let Some(mut row) = self.devices[device].table.rows.get(key).cloned() else {
            return false;
        };
        if !self.devices[device].app.schema.tables[&key.table]
            .columns
            .contains_key(column)
        {
            return false;
        }
        let before = row.get(column).cloned();
        let ledger = self.ledger.clone();
        let value = self.value(cell);
        row.set(column, value.clone());
        let moved = before.as_ref() != Some(&value) && self.app_puts(device, key, &row);
        if moved {
            self.ledger.replace(&before);
        } else {
            self.ledger = ledger;
        }
        moved
    }

    fn add(&mut self, device: usize, key: &Key, column: &str) -> bool {
        let Some(mut row) = self.devices[device].table.rows.get(key).cloned() else {
            return false;
        };
        let Some(Value::Integer(count)) = row.get(column) else {
            return false;
        };
        row.set(column, Value::Integer(count + 1));
        self.ledger.added += 1;
        self.app_puts(device, key, &row)
    }

    fn swap(&mut self, device: usize, left: &Key, right: &Key, column: &str) -> bool {
        let rows = &mut self.devices[device].table.rows;
        let (Some(a), Some(b)) = (rows.get(left).cloned(), rows.get(right).cloned()) else {
            return false;
        };
        rows.get_mut(left).unwrap().set(column, b.get(column).unwrap().clone());
        rows.get_mut(right).unwrap().set(column, a.get(column).unwrap().clone());
        self.devices[device].capture(self.rules, self.clock);
        a.get(column) != b.get(column)
    }

    fn delete(&mut self, device: usize, key: &Key) -> bool {
        let device = &mut self.devices[device];
        let before = device.table.rows.clone();
        if !before.contains_key(key) {
            return false;
        }
        let app = std::sync::Arc::clone(&device.app);
        device.table.delete(&app, key);
        for (gone, row) in before.iter().filter(|(key, _)| !device.table.rows.contains_key(*key)) {
            self.ledger.replace(row.iter().map(|(_, value)| value));
            // Columns that this version of the app does not know go with the row.
            let folded = device.state.fold.get(gone).and_then(|folded| folded.row.as_ref());
            self.ledger
                .replace(folded.into_iter().flat_map(Row::iter).map(|(_, value)| value));
            device.noted.insert(gone.clone());
        }
        device.capture(self.rules, self.clock);
        true
    }

    fn drop_table(&mut self, device: usize, table: &str) -> bool {
        let device = &mut self.devices[device];
        device.table.rows.retain(|key, _| key.table != table);
        let moved = device.missing.insert(table.to_owned());
        device.capture(self.rules, self.clock);
        moved
    }

    fn sync(&mut self, device: usize, entries_max: usize, is_answered: bool) -> Result<bool, String> {
        let before = (self.devices[device].state.clone(), self.log.len());
        let id = BatchId::from_bytes([self.batches; 16]);
        let device = &mut self.devices[device];
        device.capture(self.rules, self.clock);
        device.write(self.rules, self.clock)?;
        device.pull(self.rules, &self.log, self.clock)?;
        device.capture(self.rules, self.clock);
        let app = std::sync::Arc::clone(&device.app);
        if let Some(outbox) = device.state.freeze(&app.schema, id, entries_max) {
            let batch = Batch {
                id: outbox.id,
                changes: outbox.changes.clone(),
            };
            let is_stored = self.log.iter().any(|stored| stored.id == batch.id);
            assert!(!is_stored, "the pull would have found it");
            self.batches += 1;
            self.log.push(batch.clone());
            if is_answered {
                device.read(self.rules, &batch);
            }
        }
        Ok(before != (device.state.clone(), self.log.len()))
    }

    /// Lets every device sync until nothing moves, and looks at what is left.
    pub(crate) fn come_to_rest(mut self) -> Result<(), String> {
        // Two rounds, and one in which the others read what the last one sent.
        for _ in 0..3 {
            for device in 0..self.devices.len() {
                self.step(&Op::Sync(device))?;
            }
        }
        for index in 0..self.devices.len() {
            if self.step(&Op::Sync(index))? {
                return Err(format!(
                    "device {index} never comes to rest: {:#?}",
                    self.devices[index].state.unsent
                ));
            }
        }
        self.check_tables()?;
        self.check_edits()
    }

    fn check_tables(&self) -> Result<(), String> {
        for (index, device) in self.devices.iter().enumerate() {
            if device.state.has_unsent() {
                return Err(format!("device {index} has unsent edits: {:#?}", device.state.unsent));
            }
            if let Some(damage) = device.table.damage(&device.app) {
                return Err(format!("device {index}: {damage}"));
            }
            let view = device.state.view(&device.app.schema, self.rules);
            if !self.may_park && !view.parked.is_empty() {
                return Err(format!("device {index} has parked rows: {:#?}", view.parked));
            }
            if device.state.fold.keys().ne(self.devices[0].state.fold.keys()) {
                return Err(format!("device {index} has another fold"));
            }
        }
        self.check_equality()
    }

    /// Devices of one version of the app, whose tables are there, have the same rows.
    fn check_equality(&self) -> Result<(), String> {
        for (index, left) in self.devices.iter().enumerate() {
            for right in &self.devices[index + 1..] {
                let columns = |device: &Device| format!("{:?}", device.app.schema);
                let is_whole = left.missing.is_empty() && right.missing.is_empty();
                let same_store = std::ptr::fn_addr_eq(left.app.store, right.app.store);
                if is_whole && same_store && columns(left) == columns(right) && left.table.rows != right.table.rows {
                    return Err(format!(
                        "device {index} has {:#?}\nanother {:#?}",
                        left.table.rows, right.table.rows
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_edits(&self) -> Result<(), String> {
        let folded = self.devices.iter().flat_map(|device| device.state.fold.values());
        let folded = folded.filter_map(|folded| folded.row.as_ref());
        let lost = self
            .devices
            .iter()
            .flat_map(|device| &device.state.conflicts)
            .map(|conflict| &conflict.lost);
        if let Some(token) = self.ledger.lost(folded.chain(lost)) {
            return Err(format!("the edit {token} is nowhere"));
        }
        if let Some((table, id, column)) = self.counter {
            let row = self.devices[0].table.rows.get(&key(table, id));
            let count = row.and_then(|row| row.get(column));
            if count != Some(&Value::Integer(self.ledger.added)) {
                return Err(format!("{} additions make {count:?}", self.ledger.added));
            }
        }
        Ok(())
    }
}
