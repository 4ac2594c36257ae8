//! Which number a row has on this device, and which id in the log.

use rusqlite::{Connection, OptionalExtension as _, Result, types::ValueRef};
use uuid::Uuid;

use crate::{inspect::catalog::quoted, rows::RowId};

/// The numbers of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers<'c>(pub(crate) &'c Connection);

impl Numbers<'_> {
    /// The id of the row with a number. A trigger draws random bytes, which become an id when they are first read.
    pub(crate) fn id(self, table: i64, number: i64) -> Result<Option<RowId>> {
        let mut find = self
            .0
            .prepare_cached("SELECT rowid, id FROM synckit_map WHERE t = ?1 AND k = ?2")?;
        let found = find
            .query_row([table, number], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    match row.get_ref(1)? {
                        ValueRef::Blob(random) => Stored::Random(random.to_vec()),
                        other => Stored::Id(other.as_str()?.to_owned()),
                    },
                ))
            })
            .optional()?;
        match found {
            None => Ok(None),
            Some((_, Stored::Id(id))) => Ok(Some(RowId::new(id))),
            Some((place, Stored::Random(random))) => {
                let id = random.try_into().map_or_else(|_| new_id(), RowId::from_random);
                let mut write = self
                    .0
                    .prepare_cached("UPDATE synckit_map SET id = ?2 WHERE rowid = ?1")?;
                write.execute((place, id.as_str()))?;
                Ok(Some(id))
            }
        }
    }

    /// The id of the row that a number refers to. A positive number without a row gets an id as well: it stays the same
    /// reference, and finds its row if that comes. Other numbers without a row mean that there is none.
    pub(crate) fn id_or_new(self, table: i64, number: i64) -> Result<Option<RowId>> {
        match self.id(table, number)? {
            None if number > 0 => {
                let id = new_id();
                self.set(table, number, &id)?;
                Ok(Some(id))
            }
            found => Ok(found),
        }
    }

    pub(crate) fn number(self, table: i64, id: &RowId) -> Result<Option<i64>> {
        let mut find = self
            .0
            .prepare_cached("SELECT k FROM synckit_map WHERE t = ?1 AND id = ?2")?;
        Ok(find
            .query_row((table, id.as_str()), |row| row.get(0))
            .optional()?
            .flatten())
    }

    /// The number of a row, which gets one if it has none: after every number that a row here ever had, so that no row
    /// becomes another one.
    pub(crate) fn number_or_new(self, table: i64, rows: Option<(&str, &str)>, id: &RowId) -> Result<i64> {
        if let Some(number) = self.number(table, id)? {
            return Ok(number);
        }
        // Numbers that no device counts up are the same everywhere.
        let fixed = id.as_str().parse::<i64>().ok().filter(|number| *number <= 0);
        let number = fixed.map_or_else(|| self.next(table, rows), Ok)?;
        self.set(table, number, id)?;
        Ok(number)
    }

    fn next(self, table: i64, rows: Option<(&str, &str)>) -> Result<i64> {
        let mut last = self.0.prepare_cached("SELECT max(k) FROM synckit_map WHERE t = ?1")?;
        let mut last: Option<i64> = last.query_row([table], |row| row.get(0))?;
        if let Some((name, key)) = rows {
            let sql = format!("SELECT max({}) FROM {}", quoted(key), quoted(name));
            last = last.max(self.0.prepare_cached(&sql)?.query_row([], |row| row.get(0))?);
            last = last.max(self.sequence(name)?);
        }
        let next = last.unwrap_or(0).max(0).checked_add(1);
        next.map_or_else(|| self.drawn(table, rows), Ok)
    }

    /// After the greatest number, a free one by lot, as SQLite does. JavaScript can represent it.
    fn drawn(self, table: i64, rows: Option<(&str, &str)>) -> Result<i64> {
        loop {
            let draw = "SELECT abs(random() % 9007199254740991) + 1";
            let number: i64 = self.0.prepare_cached(draw)?.query_row([], |row| row.get(0))?;
            let mut is_taken: bool = self
                .0
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM synckit_map WHERE t = ?1 AND k = ?2)")?
                .query_row([table, number], |row| row.get(0))?;
            if let Some((name, key)) = rows {
                let sql = format!(
                    "SELECT EXISTS (SELECT 1 FROM {} WHERE {} = ?1)",
                    quoted(name),
                    quoted(key)
                );
                is_taken |= self
                    .0
                    .prepare_cached(&sql)?
                    .query_row([number], |row| row.get::<_, bool>(0))?;
            }
            if !is_taken {
                return Ok(number);
            }
        }
    }

    fn sequence(self, name: &str) -> Result<Option<i64>> {
        let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')";
        let is_there: bool = self.0.prepare_cached(is_there)?.query_row([], |row| row.get(0))?;
        if !is_there {
            return Ok(None);
        }
        let mut find = self
            .0
            .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
        Ok(find.query_row([name], |row| row.get(0)).optional()?.flatten())
    }

    /// Gives a number to a row. Who had it has none now.
    pub(crate) fn set(self, table: i64, number: i64, id: &RowId) -> Result<()> {
        // Two statements: with OR, SQLite reads every row of the table.
        let mut clear = self
            .0
            .prepare_cached("DELETE FROM synckit_map WHERE t = ?1 AND k = ?2")?;
        clear.execute((table, number))?;
        let mut clear = self
            .0
            .prepare_cached("DELETE FROM synckit_map WHERE t = ?1 AND id = ?2")?;
        clear.execute((table, id.as_str()))?;
        let mut insert = self
            .0
            .prepare_cached("INSERT INTO synckit_map (t, k, id) VALUES (?1, ?2, ?3)")?;
        insert.execute((table, number, id.as_str()))?;
        Ok(())
    }
}

enum Stored {
    Id(String),
    Random(Vec<u8>),
}

pub(crate) fn new_id() -> RowId {
    RowId::from_random(Uuid::new_v4().into_bytes())
}
