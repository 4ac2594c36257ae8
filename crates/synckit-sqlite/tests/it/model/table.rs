//! A database that refuses what SQLite refuses, statement by statement.

use std::collections::BTreeMap;

use synckit_sqlite::{
    merge::{Key, OnDelete, Schema, Step},
    rows::{Row, RowId, Value},
};

/// What the app's triggers do after a row was written. They may write any row.
pub(crate) type Trigger = fn(&mut BTreeMap<Key, Row>, &Key, clock: i64);

/// What the app's columns store.
pub(crate) type Store = fn(&str, &Row) -> Row;

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) schema: Schema,
    pub(crate) store: Store,
    pub(crate) trigger: Trigger,
}

#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) rows: BTreeMap<Key, Row>,
}

fn value<'a>(schema: &'a Schema, table: &str, row: &'a Row, column: &str) -> &'a Value {
    row.get(column)
        .unwrap_or_else(|| &schema.tables[table].columns[column].default)
}

impl Table {
    /// Inserts or updates, with the columns that the table has.
    pub(crate) fn put(&mut self, app: &App, key: &Key, row: &Row) -> Result<(), String> {
        let table = &app.schema.tables[&key.table];
        let row: Row = table
            .columns
            .keys()
            .map(|name| (name, value(&app.schema, &key.table, row, name).clone()))
            .collect();
        let row = (app.store)(&key.table, &row);
        for (name, column) in &table.columns {
            // A column with a default is NOT NULL, as those are that a migration adds.
            if column.default != Value::Null && row.get(name) == Some(&Value::Null) {
                return Err(format!("NOT NULL: {name} of {key:?}"));
            }
        }
        for columns in table.uniques.iter().map(|unique| &unique.columns) {
            if let Some(holder) = self.holder(app, key, &row, columns) {
                return Err(format!("UNIQUE {columns:?}: {key:?} and {holder:?}"));
            }
        }
        for reference in &table.references {
            if let Value::Row(id) = value(&app.schema, &key.table, &row, &reference.column) {
                let parent = Key {
                    table: reference.parent.clone(),
                    id: id.clone(),
                };
                if parent != *key && !self.rows.contains_key(&parent) {
                    return Err(format!("FOREIGN KEY: {key:?} has no {parent:?}"));
                }
            }
        }
        self.rows.insert(key.clone(), row);
        Ok(())
    }

    fn holder(&self, app: &App, key: &Key, row: &Row, columns: &[String]) -> Option<&Key> {
        let of = |row: &Row| -> Vec<Value> {
            columns
                .iter()
                .map(|name| value(&app.schema, &key.table, row, name).clone())
                .collect()
        };
        let mine = of(row);
        let others = self
            .rows
            .iter()
            .filter(|(other, _)| *other != key && other.table == key.table);
        let mut same = others.filter(|(_, other)| !mine.contains(&Value::Null) && of(other) == mine);
        same.next().map(|(other, _)| other)
    }

    pub(crate) fn children(&self, app: &App, parent: &Key) -> Vec<(Key, String, OnDelete)> {
        let mut children = Vec::new();
        for (key, row) in &self.rows {
            for reference in &app.schema.tables[&key.table].references {
                let refers = row.get(&reference.column) == Some(&Value::Row(parent.id.clone()));
                if refers && reference.parent == parent.table && key != parent {
                    children.push((key.clone(), reference.column.clone(), reference.on_delete));
                }
            }
        }
        children
    }

    /// Deletes as the app does, with `foreign_keys = ON`.
    pub(crate) fn delete(&mut self, app: &App, key: &Key) {
        self.rows.remove(key);
        for (child, column, on_delete) in self.children(app, key) {
            match on_delete {
                OnDelete::Cascade => self.delete(app, &child),
                OnDelete::Dangle => {}
                OnDelete::SetNull => self.rows.get_mut(&child).unwrap().set(column, Value::Null),
                OnDelete::SetDefault => {
                    let default = app.schema.tables[&child.table].columns[&column].default.clone();
                    self.rows.get_mut(&child).unwrap().set(column, default);
                }
            }
        }
    }

    /// One statement of ours.
    pub(crate) fn apply(&mut self, app: &App, step: &Step) -> Result<(), String> {
        match step {
            Step::Put(key, row) => self.put(app, key, row),
            Step::TakeOut(key) => {
                self.rows.remove(key);
                Ok(())
            }
            Step::Delete(key) => {
                if let Some((child, ..)) = self.children(app, key).first() {
                    return Err(format!("a trigger: {child:?} still refers to {key:?}"));
                }
                self.rows.remove(key);
                Ok(())
            }
        }
    }

    /// Rows that violate a constraint.
    pub(crate) fn damage(&self, app: &App) -> Option<String> {
        self.rows
            .iter()
            .find_map(|(key, row)| self.clone().put(app, key, row).err())
    }
}

pub(crate) fn key(table: &str, id: &str) -> Key {
    Key {
        table: table.into(),
        id: RowId::new(id),
    }
}
