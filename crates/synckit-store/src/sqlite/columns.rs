//! Between the ids and numbers of the domain and the columns of SQLite.

use rusqlite::{
    Row, RowIndex, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

/// An unsigned number in SQLite's signed column. Anything past 2^63 - 1 is an error in either direction, never a
/// negative number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsigned(pub(super) u64);

impl ToSql for Unsigned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match i64::try_from(self.0) {
            Ok(value) => Ok(value.into()),
            Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error))),
        }
    }
}

impl FromSql for Unsigned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = value.as_i64()?;
        u64::try_from(value)
            .map(Self)
            .map_err(|_| FromSqlError::OutOfRange(value))
    }
}

/// Reads an unsigned number.
pub(super) fn unsigned(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<u64> {
    row.get::<_, Unsigned>(column).map(|value| value.0)
}

/// Reads a time that may be absent.
pub(super) fn optional_unsigned(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<Unsigned>>(column)?.map(|value| value.0))
}

/// Reads an id or a hash, whose constructor is given.
pub(super) fn id<const N: usize, T>(
    row: &Row<'_>,
    column: impl RowIndex,
    wrap: impl FnOnce([u8; N]) -> T,
) -> rusqlite::Result<T> {
    row.get::<_, [u8; N]>(column).map(wrap)
}
