//! The statements that write one row.

use rusqlite::params_from_iter;
use synckit_crypto::blob::BlobHash;

use super::writer::Writer;
use crate::{
    error::Error,
    inspect::catalog::quoted,
    layout::{KeyLayout, TableLayout},
    merge::Key,
    rows::{Row, RowId, Value},
    shadow::{files, numbers::Numbers},
    sql::{Bound, whole_value_of},
};

/// A condition, and the values of its parameters.
pub(crate) type Condition = (String, Vec<Value>);

impl Writer<'_> {
    /// Keeps the long values of a row that leaves its table, or is sent.
    pub(crate) fn keep_files(&self, key: &Key) -> Result<(), Error> {
        if !self.present.contains_key(key) {
            return Ok(());
        }
        let table = self.table(key)?;
        files::keep(self.connection, table, &self.place(table, key, 0)?)
    }

    /// The bytes of a long value of a row that is in its table.
    pub(crate) fn file(&self, key: &Key, hash: BlobHash) -> Result<Option<Vec<u8>>, Error> {
        if !self.present.contains_key(key) {
            return Ok(None);
        }
        let table = self.table(key)?;
        let values = files::long_values(self.connection, table, &self.place(table, key, 0)?)?;
        Ok(values
            .into_iter()
            .find_map(|(found, bytes)| (found == hash).then_some(bytes)))
    }

    pub(super) fn table(&self, key: &Key) -> Result<&TableLayout, Error> {
        self.layout.tables.get(&key.table).ok_or(Error::Damaged)
    }

    pub(super) fn delete(&mut self, key: &Key) -> Result<(), Error> {
        let table = self.table(key)?;
        let (condition, values) = self.place(table, key, 0)?;
        let sql = format!("DELETE FROM {} WHERE {condition}", quoted(&table.info.name));
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values.iter().map(Bound)))?;
        self.present.remove(key);
        Ok(())
    }

    pub(crate) fn update(&self, key: &Key, row: &Row) -> Result<(), Error> {
        let table = self.table(key)?;
        let before = self.present.get(key);
        let changed = row
            .iter()
            .filter(|(name, value)| before.and_then(|before| before.get(name)) != Some(*value));
        let (names, mut values): (Vec<&str>, Vec<Value>) = self.stored(table, changed)?.into_iter().unzip();
        if names.is_empty() {
            return Ok(());
        }
        let sets: Vec<String> = names.iter().map(|name| format!("{} = ?", quoted(name))).collect();
        let (condition, place) = self.place(table, key, names.len())?;
        values.extend(place);
        let sql = format!(
            "UPDATE {} SET {} WHERE {condition}",
            quoted(&table.info.name),
            sets.join(", ")
        );
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values.iter().map(Bound)))?;
        Ok(())
    }

    pub(crate) fn insert(&mut self, key: &Key, row: &Row) -> Result<(), Error> {
        let local = self.taken.remove(key).unwrap_or_default();
        let table = self.table(key)?;
        let mut columns: Vec<(String, Value)> = self
            .stored(table, row.iter())?
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        columns.extend(local);
        if let KeyLayout::Mapped(column) = &table.key {
            let rows = Some((table.info.name.as_str(), column.as_str()));
            let number = Numbers(self.connection).number_or_new(table.declared.number, rows, &key.id)?;
            columns.push((column.clone(), Value::Integer(number)));
        }
        let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let sql = match names.is_empty() {
            true => format!("INSERT INTO {} DEFAULT VALUES", quoted(&table.info.name)),
            false => format!(
                "INSERT INTO {} ({}) VALUES ({places})",
                quoted(&table.info.name),
                names.join(", ")
            ),
        };
        let values = columns.iter().map(|(_, value)| Bound(value));
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    /// Values as this file stores them: numbers in the place of rows.
    fn stored<'r>(
        &self,
        table: &TableLayout,
        row: impl Iterator<Item = (&'r str, &'r Value)>,
    ) -> Result<Vec<(&'r str, Value)>, Error> {
        let mut stored = Vec::new();
        for (name, value) in row {
            let column = table.columns.iter().find(|column| column.name == name);
            let parent = column.and_then(|column| column.numbers_of);
            let value = match (value, parent) {
                (Value::Row(id), Some(parent)) => self.number(parent, id)?,
                (Value::Row(id), None) => Value::text(id.as_str()),
                (Value::File(file), _) => files::bytes(self.connection, file)?.ok_or(Error::NoFile(*file))?,
                (value, _) => value.clone(),
            };
            stored.push((name, value));
        }
        Ok(stored)
    }

    fn number(&self, parent: i64, id: &RowId) -> Result<Value, Error> {
        let table = self
            .layout
            .tables
            .values()
            .find(|table| table.declared.number == parent);
        let rows = table.and_then(|table| match &table.key {
            KeyLayout::Mapped(column) => Some((table.info.name.as_str(), column.as_str())),
            _ => None,
        });
        Ok(Value::Integer(
            Numbers(self.connection).number_or_new(parent, rows, id)?,
        ))
    }

    /// Where a row of the table is, after so many other parameters.
    pub(super) fn place(&self, table: &TableLayout, key: &Key, others: usize) -> Result<Condition, Error> {
        let names = match &table.key {
            KeyLayout::Mapped(column) => {
                let number = Numbers(self.connection).number(table.declared.number, &key.id)?;
                return Ok((
                    format!("{} = ?{}", quoted(column), others + 1),
                    vec![number.map_or(Value::Null, Value::Integer)],
                ));
            }
            KeyLayout::Columns(columns) => columns.clone(),
            KeyLayout::WholeRow => table.names(),
        };
        let row = self.present.get(key).ok_or(Error::Damaged)?;
        let values = row
            .iter()
            .filter(|(name, value)| names.iter().any(|known| known == name) && !matches!(value, Value::File(_)));
        let (names, values): (Vec<&str>, Vec<Value>) = self.stored(table, values)?.into_iter().unzip();
        // The first comparison finds the row by its index, the second one is exact.
        let conditions: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(place, name)| {
                format!(
                    "{0} IS ?{1} AND {0} COLLATE BINARY IS ?{1}",
                    quoted(name),
                    others + place + 1
                )
            })
            .collect();
        let all = if conditions.is_empty() {
            "1".to_owned()
        } else {
            conditions.join(" AND ")
        };
        Ok((all, values))
    }

    pub(super) fn local_values(&self, key: &Key) -> Result<Vec<(String, Value)>, Error> {
        let table = self.table(key)?;
        let is_local = |name: &str| {
            table
                .declared
                .local
                .iter()
                .any(|local| local.eq_ignore_ascii_case(name))
        };
        let local = table
            .info
            .columns
            .iter()
            .filter(|column| !column.is_generated && is_local(&column.name));
        let names: Vec<String> = local.map(|column| column.name.clone()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (condition, values) = self.place(table, key, 0)?;
        let list: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition}",
            list.join(", "),
            quoted(&table.info.name)
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_row(params_from_iter(values.iter().map(Bound)), |row| {
            let values = names.iter().enumerate();
            values
                .map(|(place, name)| Ok((name.clone(), whole_value_of(row.get_ref(place)?))))
                .collect()
        })?)
    }
}
