//! One device: an app's tables, and the merge beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use synckit_crypto::batch::Timestamp;
use synckit_protocol::BatchId;
use synckit_sqlite::{
    merge::{Batch, Found, Key, Rule, Rules, State, plan},
    rows::Row,
};

use super::table::{App, Table};

#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) app: Arc<App>,
    pub(crate) state: State,
    pub(crate) table: Table,
    /// The batches that it has read.
    pub(crate) read: Vec<BatchId>,
    /// Rows that the app touched since the last capture.
    pub(crate) noted: BTreeSet<Key>,
    /// Tables that are not in the file, or were rebuilt without their rows.
    pub(crate) missing: BTreeSet<String>,
    /// How far its clock is ahead.
    pub(crate) skew: i64,
}

impl Device {
    pub(crate) fn new(app: App, skew: i64) -> Self {
        Self {
            app: Arc::new(app),
            state: State::default(),
            table: Table::default(),
            read: Vec::new(),
            noted: BTreeSet::new(),
            missing: BTreeSet::new(),
            skew,
        }
    }

    fn time(&self, clock: i64) -> Timestamp {
        Timestamp::from_micros(clock + self.skew)
    }

    pub(crate) fn capture(&mut self, rules: Rules, clock: i64) {
        let said = self.state.view(&self.app.schema, rules);
        let found = Found {
            rows: &self.table.rows,
            noted: &self.noted,
            looked_for: None,
            missing: &self.missing,
        };
        let time = self.time(clock);
        self.state.capture(&self.app.schema, rules, &said, &found, time);
        self.noted.clear();
    }

    /// Reads the log to its head, merges, and writes the tables.
    pub(crate) fn pull(&mut self, rules: Rules, log: &[Batch], clock: i64) -> Result<(), String> {
        let known = log.iter().map(|batch| batch.id).take(self.read.len());
        if !known.eq(self.read.iter().copied()) {
            self.state.rejoin(rules);
            self.read.clear();
        } else if self.read.len() == log.len() {
            return Ok(());
        }
        for batch in &log[self.read.len()..] {
            self.read(rules, batch);
        }
        self.state.settle(&self.app.schema, rules);
        self.write(rules, clock)
    }

    pub(crate) fn read(&mut self, rules: Rules, batch: &Batch) {
        let app = Arc::clone(&self.app);
        self.state.read(&app.schema, rules, &app.store, batch);
        self.read.push(batch.id);
    }

    /// Brings the tables to the state: after a pull, and after an edit, by which a waiting row may find its place.
    pub(crate) fn write(&mut self, rules: Rules, clock: i64) -> Result<(), String> {
        let app = Arc::clone(&self.app);
        let mut said = self.state.view(&app.schema, rules);
        // A table that is not there takes no rows.
        said.visible.retain(|key, _| !self.missing.contains(&key.table));
        let there: BTreeMap<Key, Row> = said
            .visible
            .iter()
            .map(|(key, row)| (key.clone(), self.known(key, row)))
            .collect();
        said.visible = there;
        for step in plan(&app.schema, rules, &self.table.rows, &said) {
            self.table.apply(&app, &step)?;
            if let synckit_sqlite::merge::Step::Put(key, _) = &step {
                (app.trigger)(&mut self.table.rows, key, clock + self.skew);
            }
        }
        if rules.hold(Rule::Triggers) {
            for step in plan(&app.schema, rules, &self.table.rows, &said) {
                self.table.apply(&app, &step)?;
            }
        }
        Ok(())
    }

    /// A row with the columns that this device has.
    fn known(&self, key: &Key, row: &Row) -> Row {
        let table = &self.app.schema.tables[&key.table];
        let columns = table.columns.iter();
        columns
            .map(|(name, column)| (name, row.get(name).unwrap_or(&column.default).clone()))
            .collect()
    }
}
