//! One value of a row: every value that SQLite stores, and its lossless form in JSON.
//!
//! JSON has no bytes, no infinities, and no text that is not UTF-8. Those become objects with one `$` key, which are
//! distinct from every other value:
//!
//! ```text
//! {"$blob": base64}      bytes
//! {"$text": base64}      text that is not UTF-8
//! {"$real": "inf"}       or "-inf"; SQLite stores no NaN
//! ```

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};
use serde_json::{Value, json};

/// A value as SQLite stores it.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    /// UTF-8 as a rule; SQLite also allows other bytes as text.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl PartialEq for Cell {
    /// Equal to the last bit: `1` is not `1.0`, `0.0` is not `-0.0`, text is not the blob of its bytes.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(integer) => Self::Integer(integer),
            ValueRef::Real(real) => Self::Real(real),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(blob) => Self::Blob(blob.to_vec()),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    /// The bytes of text and blobs.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The size of the value in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len() as u64,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Integer(integer) => json!(integer),
            Self::Real(real) if real.is_finite() => json!(real),
            Self::Real(real) if *real > 0.0 => json!({ "$real": "inf" }),
            Self::Real(_) => json!({ "$real": "-inf" }),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "$text": STANDARD.encode(bytes) }),
            },
            Self::Blob(bytes) => json!({ "$blob": STANDARD.encode(bytes) }),
        }
    }

    pub(crate) fn from_json(value: &Value) -> anyhow::Result<Self> {
        match value {
            Value::Null => Ok(Self::Null),
            Value::String(text) => Ok(Self::text(text.as_str())),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Ok(Self::Integer(integer)),
                None => Ok(Self::Real(
                    number
                        .as_f64()
                        .filter(|_| number.is_f64())
                        .context("an integer of 65 bits")?,
                )),
            },
            Value::Object(object) => {
                let (kind, text) = object
                    .iter()
                    .next()
                    .filter(|_| object.len() == 1)
                    .and_then(|(kind, text)| Some((kind.as_str(), text.as_str()?)))
                    .context("an object that is not a SQLite value")?;
                match (kind, text) {
                    ("$blob", text) => Ok(Self::Blob(STANDARD.decode(text)?)),
                    ("$text", text) => Ok(Self::Text(STANDARD.decode(text)?)),
                    ("$real", "inf") => Ok(Self::Real(f64::INFINITY)),
                    ("$real", "-inf") => Ok(Self::Real(f64::NEG_INFINITY)),
                    _ => bail!("an unknown kind of value: {kind}"),
                }
            }
            Value::Bool(_) | Value::Array(_) => bail!("a value that SQLite does not have"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_survives_json_to_the_last_bit() {
        let cells = [
            Cell::Null,
            Cell::Integer(i64::MIN),
            Cell::Integer((1 << 53) + 1),
            Cell::Integer(i64::MAX),
            Cell::Real(1.0),
            Cell::Real(-0.0),
            Cell::Real(0.1 + 0.2),
            Cell::Real(f64::MIN_POSITIVE / 2.0),
            Cell::Real(1e300),
            Cell::Real(f64::INFINITY),
            Cell::Real(f64::NEG_INFINITY),
            Cell::text(""),
            Cell::text("zero\0byte, \u{1F30D}"),
            Cell::Text(vec![b'a', 0xFF]),
            Cell::Blob(vec![]),
            Cell::Blob(vec![0, 0xFF]),
        ];
        for cell in cells {
            let text = cell.to_json().to_string();
            let back = Cell::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            assert!(back == cell, "{cell:?} became {back:?} by way of {text}");
        }
    }

    #[test]
    fn what_is_no_value_of_sqlite_is_refused() {
        for text in [
            "true",
            "[]",
            "{}",
            r#"{"$blob":1}"#,
            r#"{"$real":"nan"}"#,
            r#"{"$blob":"","$text":""}"#,
            "18446744073709551615",
        ] {
            assert!(Cell::from_json(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}
