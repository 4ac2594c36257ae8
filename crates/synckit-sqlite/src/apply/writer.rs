//! The tables while they are written.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use rusqlite::{Connection, ErrorCode, config::DbConfig};

use crate::{
    capture::noted_rows,
    error::Error,
    followers::follow,
    inspect::catalog::quoted,
    layout::{Layout, TableLayout},
    merge::{Key, Rules, Step, View, plan},
    rows::{Row, Value},
    shadow::reader::{raw_rows, translated},
};

/// The tables while they are written.
pub(crate) struct Writer<'a> {
    pub(super) connection: &'a Connection,
    pub(super) layout: &'a Layout,
    /// The rows in the tables.
    pub(super) present: BTreeMap<Key, Row>,
    /// The local columns of rows that are out of their table for a moment.
    pub(super) taken: BTreeMap<Key, Vec<(String, Value)>>,
    pub(super) changed: BTreeSet<Key>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(connection: &'a Connection, layout: &'a Layout, present: BTreeMap<Key, Row>) -> Self {
        let (taken, changed) = (BTreeMap::new(), BTreeSet::new());
        Self {
            connection,
            layout,
            present,
            taken,
            changed,
        }
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.present.contains_key(key)
    }

    pub(crate) fn into_present(self) -> BTreeMap<Key, Row> {
        self.present
    }

    /// Returns the rows that the database refused, and what it said.
    pub(super) fn write(&mut self, said: &View) -> Result<BTreeMap<Key, String>, Error> {
        let keys = differing(&self.present, &said.visible);
        let found = only(&self.present, &keys);
        let there = View {
            visible: only(&said.visible, &keys),
            parked: BTreeMap::new(),
        };
        let mut open = plan(&self.layout.schema, Rules::ALL, &found, &there);
        let gone = open
            .iter()
            .filter(|step| matches!(step, Step::Delete(key) if !said.parked.contains_key(key)));
        for step in gone {
            let (Step::Put(key, _) | Step::Delete(key) | Step::TakeOut(key)) = step;
            self.let_others_follow(key)?;
        }
        let parked = open
            .iter()
            .filter(|step| matches!(step, Step::Delete(key) if said.parked.contains_key(key)));
        for step in parked {
            let (Step::Put(key, _) | Step::Delete(key) | Step::TakeOut(key)) = step;
            // They are nowhere else, unless the server has them.
            self.keep_files(key)?;
        }
        self.changed.extend(keys);
        // A trigger may refuse a row until one comes of which the schema does not say that it is needed.
        loop {
            let (count, mut refused) = (open.len(), Vec::new());
            for step in open {
                if let Some(message) = self.try_to_take(&step)? {
                    refused.push((step, message));
                }
            }
            if refused.is_empty() || refused.len() == count {
                return self.force_deletions(refused);
            }
            open = refused.into_iter().map(|(step, _)| step).collect();
        }
    }

    /// Returns what the database said, if it refused.
    fn try_to_take(&mut self, step: &Step) -> Result<Option<String>, Error> {
        match self.take(step) {
            Ok(()) => Ok(None),
            Err(Error::Database(error)) if is_refusal(&error) && !self.connection.is_autocommit() => {
                Ok(Some(error.to_string()))
            }
            Err(error @ Error::NoFile(_)) => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Only a trigger refuses a deletion: what another device deleted is gone all the same.
    fn force_deletions(&mut self, steps: Vec<(Step, String)>) -> Result<BTreeMap<Key, String>, Error> {
        let mut refused = BTreeMap::new();
        for (step, message) in steps {
            match step {
                Step::Put(key, _) => drop(refused.insert(key, message)),
                Step::Delete(_) | Step::TakeOut(_) => self.without_triggers(|writer| writer.take(&step))?,
            }
        }
        Ok(refused)
    }

    fn without_triggers<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let connection = self.connection;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        let done = work(self);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        done
    }

    fn take(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Delete(key) => self.delete(key),
            Step::TakeOut(key) => {
                let local = self.local_values(key)?;
                self.keep_files(key)?;
                self.taken.insert(key.clone(), local);
                self.delete(key)
            }
            Step::Put(key, row) => {
                if self.present.contains_key(key) {
                    self.update(key, row)?;
                } else {
                    self.insert(key, row)?;
                }
                self.present.insert(key.clone(), row.clone());
                Ok(())
            }
        }
    }

    /// Rows of tables that are not synced follow the deletion of a row.
    fn let_others_follow(&self, key: &Key) -> Result<(), Error> {
        if self.layout.followers.is_empty() {
            return Ok(());
        }
        let table = self.table(key)?;
        let (condition, values) = self.place(table, key, 0)?;
        let (name, followers) = (&table.info.name, &self.layout.followers);
        Ok(follow(self.connection, followers, name, &condition, &values)?)
    }

    /// Rows that are named by all their values are a set. The app's triggers may have made some that came from the log as well.
    fn collapse_doubles(&self, table: &TableLayout) -> Result<(), Error> {
        let exact = |name: &String| format!("{0} COLLATE BINARY, typeof({0})", quoted(name));
        let (name, values): (_, Vec<String>) = (quoted(&table.info.name), table.names().iter().map(exact).collect());
        if !values.is_empty() {
            let values = values.join(", ");
            let sql =
                format!("DELETE FROM {name} WHERE rowid NOT IN (SELECT min(rowid) FROM {name} GROUP BY {values})");
            self.connection.prepare_cached(&sql)?.execute([])?;
        }
        Ok(())
    }

    /// Sets what the app's triggers wrote back to what the merge said. Triggers are off meanwhile.
    pub(super) fn undo_triggers(&mut self, said: &View) -> Result<(), Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'synckit!_%' ESCAPE '!')";
        if !self.connection.query_row(sql, [], |row| row.get::<_, bool>(0))? {
            return Ok(());
        }
        let mut dirty = Vec::new();
        for table in self.layout.tables.values() {
            let noted = noted_rows(self.connection, table)?;
            dirty.extend(noted.is_dirty.then_some(table));
            let (keys, rows) = match noted.is_dirty {
                false => (noted.keys, noted.rows),
                true => {
                    let mut rows = BTreeMap::new();
                    for raw in raw_rows(self.connection, table, "1", &[])? {
                        rows.extend(translated(self.connection, table, raw)?);
                    }
                    let keys = self
                        .present
                        .keys()
                        .filter(|key| key.table == table.declared.name)
                        .cloned();
                    (keys.chain(rows.keys().cloned()).collect(), rows)
                }
            };
            for key in keys.into_iter().chain(rows.keys().cloned().collect::<Vec<_>>()) {
                match rows.get(&key) {
                    Some(row) => self.present.insert(key, self.layout.known(&table.declared.name, row)),
                    None => self.present.remove(&key),
                };
            }
        }
        // What was written a moment ago is not refused now, unless a trigger keeps it so: then it stays as the trigger has it.
        self.without_triggers(|writer| {
            writer.write(said)?;
            dirty.iter().try_for_each(|table| writer.collapse_doubles(table))
        })
    }
}

/// The rows that are not the same in both.
fn differing(left: &BTreeMap<Key, Row>, right: &BTreeMap<Key, Row>) -> BTreeSet<Key> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut keys = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return keys.into_iter().collect(),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((here, _)), Some((there, _))) => here.cmp(there),
        };
        let here = left.next_if(|_| order.is_le());
        let there = right.next_if(|_| order.is_ge());
        if here.map(|(_, row)| row) != there.map(|(_, row)| row) {
            keys.extend(here.or(there).map(|(key, _)| key.clone()));
        }
    }
}

fn only(rows: &BTreeMap<Key, Row>, keys: &BTreeSet<Key>) -> BTreeMap<Key, Row> {
    keys.iter()
        .filter_map(|key| Some((key.clone(), rows.get(key)?.clone())))
        .collect()
}

fn is_refusal(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::Unknown)
    )
}
