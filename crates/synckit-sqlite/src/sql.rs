//! Values between SQLite and the merge.

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

use crate::rows::Value;

/// A stored value as it is compared and sent.
pub(crate) fn value_of(stored: ValueRef<'_>) -> Value {
    whole_value_of(stored).outlined()
}

/// A stored value with all its bytes.
pub(crate) fn whole_value_of(stored: ValueRef<'_>) -> Value {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::real(number),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

/// A value as a parameter. References and files must have been replaced by what they are here.
#[derive(Debug)]
pub(crate) struct Bound<'a>(pub(crate) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null | Value::File(_) => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(real) => ValueRef::Real(real.get()),
            Value::Text(text) => ValueRef::Text(text),
            Value::Blob(blob) => ValueRef::Blob(blob),
            // Only where rows are compared, never in a table of the app.
            Value::Row(id) => ValueRef::Text(id.as_str().as_bytes()),
        }))
    }
}
