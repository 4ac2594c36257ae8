//! Records on SQLite: the [`Executor`] of one open transaction.
//!
//! SQLite answers at once, so the futures of records never wait: [`run`] polls them once, on the thread of the
//! transaction.

use std::future::Future;

use futures_util::FutureExt as _;
use rusqlite::{
    Connection, Statement,
    types::{Null, ValueRef},
};

use super::failure::{Abandoned, Failure, database};
use crate::{
    StoreError,
    records::{Column, EachRow, Executor, ImpossibleValue, Row, Value},
};

/// An open transaction, which somebody else began and ends.
pub(super) struct Transaction<'a>(pub(super) &'a Connection);

/// Runs a record's function to its end.
pub(super) fn run<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
    let done = work.now_or_never().ok_or_else(|| database(Abandoned));
    done.and_then(|result| result).map_err(Failure::Store)
}

impl Executor for Transaction<'_> {
    async fn each(&self, sql: &'static str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        Ok(self.rows(sql, values, each)?)
    }

    async fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        Ok(self.changes(sql, values)?)
    }
}

impl Transaction<'_> {
    pub(super) fn rows(&self, sql: &str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), Failure> {
        let mut statement = self.0.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let columns = (0..columns).map(|index| column(row.get_ref(index)?));
            if each(Row::new(columns.collect::<Result<_, Failure>>()?))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn changes(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Failure> {
        let mut statement = self.0.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }
}

/// Binds by name: SQLite takes `$2` for a name and numbers names in the order in which they first appear.
fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> Result<(), Failure> {
    for index in 1..=statement.parameter_count() {
        let number = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let value = number.and_then(|number| values.get(number.checked_sub(1)?));
        let value = value.ok_or_else(|| StoreError::from(ImpossibleValue("parameter without a value")))?;
        match value {
            Value::Text(text) => statement.raw_bind_parameter(index, text)?,
            Value::Bytes(bytes) => statement.raw_bind_parameter(index, bytes)?,
            number => match number.number()? {
                Some(number) => statement.raw_bind_parameter(index, number)?,
                None => statement.raw_bind_parameter(index, Null)?,
            },
        }
    }
    Ok(())
}

fn column(value: ValueRef<'_>) -> Result<Column, Failure> {
    Ok(match value {
        ValueRef::Null => Column::Null,
        ValueRef::Integer(number) => Column::Number(number),
        ValueRef::Blob(bytes) => Column::Bytes(bytes.to_vec()),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| StoreError::from(ImpossibleValue("text")))?;
            Column::Text(text.to_owned())
        }
        ValueRef::Real(_) => return Err(StoreError::from(ImpossibleValue("number")).into()),
    })
}
