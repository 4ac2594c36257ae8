//! Ids of rows: `docs/rows.md`, section 4.

use std::fmt;

use uuid::{Builder, Uuid, Variant};

use super::{change::Row, digest::Digest, value::Value};

/// The longest text that is its own id, in bytes. Ids of longer ones are hashes.
const OWN_ID_BYTES_MAX: usize = 255;

/// The id of a row in the log, the same on every device. With its table's name it is the row's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(String);

impl RowId {
    /// An id that came from the log, or from where one was stored.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a new row whose integer key is only a local number: a UUID of version 4 from 16 random bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(Builder::from_random_bytes(random).into_uuid().to_string())
    }

    /// The id of a row that its key names: the values of the key's columns, with references as row ids.
    ///
    /// # Examples
    /// ```
    /// use synckit_sqlite::rows::{RowId, Value};
    ///
    /// assert_eq!(RowId::of_key(&[Value::Integer(42)]).as_str(), "42");
    /// assert_eq!(RowId::of_key(&[Value::text("inbox")]).as_str(), "inbox");
    /// // Anything else is hashed: two values, say.
    /// let pair = RowId::of_key(&[Value::text("inbox"), Value::Integer(42)]);
    /// assert_eq!(pair.as_str(), "a47fa0fb-8cc5-88e9-832e-be9c28cd07c4");
    /// ```
    pub fn of_key(key: &[Value]) -> Self {
        match key {
            [Value::Integer(number)] => return Self(number.to_string()),
            [Value::Row(parent)] => return parent.clone(),
            [Value::Text(bytes)] => {
                if let Some(text) = own_id(bytes) {
                    return Self(text.to_owned());
                }
            }
            _ => {}
        }
        let mut digest = Digest::begin("synckit/1 row key");
        for value in key {
            // SQLite takes 1 and 1.0 for one key.
            digest.value(&value.as_key());
        }
        Self::hashed(digest)
    }

    /// The id of a row that was in the file before it was synced: the same wherever an app put the same row into the
    /// same table. `ordinal` counts rows of equal values from 0.
    pub fn of_birth(table: &str, row: &Row, ordinal: u64) -> Self {
        let mut digest = Digest::begin("synckit/1 row birth");
        digest.bytes(table.as_bytes());
        digest.number(ordinal);
        for (column, value) in row.iter() {
            digest.bytes(column.as_bytes());
            digest.value(value);
        }
        Self::hashed(digest)
    }

    fn hashed(digest: Digest) -> Self {
        Self(Builder::from_custom_bytes(digest.finish()).into_uuid().to_string())
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text, if it is its own id: no other key must have the same one.
fn own_id(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_own = text.len() <= OWN_ID_BYTES_MAX && !is_integer(text) && !is_hashed(text);
    is_own.then_some(text)
}

/// Whether an integer has this text as its id.
fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// Whether a hash could have this text as its id.
fn is_hashed(text: &str) -> bool {
    let is_version_8 = |uuid: &Uuid| uuid.get_version_num() == 8 && uuid.get_variant() == Variant::RFC4122;
    Uuid::try_parse(text).is_ok_and(|uuid| is_version_8(&uuid) && uuid.to_string() == text)
}
