//! One value of a row, as it is compared and sent.

use synckit_crypto::blob::BlobHash;

use super::row_id::RowId;

/// The longest text or blob inside an entry, in bytes. A longer one is a file of its own (`docs/rows.md`, section 3).
pub const INLINE_BYTES_MAX: usize = 65_536;

/// A value of a column: one of SQLite's five kinds, the id of another row in the place of its local number, or a file in
/// the place of a long text or blob.
///
/// Equality is that of the stored bytes: `1`, `1.0` and `'1'` are three values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// No value.
    Null,
    /// A signed integer of 64 bits.
    Integer(i64),
    /// A floating-point number.
    Real(Real),
    /// A text in UTF-8, or what an app stored as text although it is none.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
    /// The row that the column refers to.
    Row(RowId),
    /// A text or blob of more than [`INLINE_BYTES_MAX`] bytes.
    File(FileValue),
}

/// A text or blob that is stored as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileValue {
    /// The SHA-256 of its bytes.
    pub hash: BlobHash,
    /// Its size.
    pub size_bytes: u64,
    /// What the file becomes in the database.
    pub kind: FileKind,
}

/// What a file becomes in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A text.
    Text,
    /// A blob.
    Blob,
}

/// A floating-point number as SQLite keeps it: never NaN, which it stores as NULL, and never -0.0, which it stores as 0.0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Real(f64);

impl Real {
    /// `None` for NaN; -0.0 becomes 0.0.
    ///
    /// # Examples
    /// ```
    /// use synckit_sqlite::rows::Real;
    ///
    /// assert_eq!(Real::new(f64::NAN), None);
    /// assert!(Real::new(-0.0).is_some_and(|zero| zero.get().is_sign_positive()));
    /// ```
    pub fn new(number: f64) -> Option<Self> {
        // Adding 0.0 changes nothing but -0.0.
        (!number.is_nan()).then_some(Self(number + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The integer of the same value, if there is one of 64 bits.
    pub fn as_integer(self) -> Option<i64> {
        /// The first number beyond the 64-bit integers, which an `f64` represents exactly.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        let is_whole = self.0.trunc() == self.0;
        #[expect(clippy::cast_possible_truncation, reason = "whole, and inside the range of an i64")]
        (is_whole && (-BEYOND..BEYOND).contains(&self.0)).then_some(self.0 as i64)
    }
}

// No NaN is inside, so that comparison is total, and no -0.0, so that equal numbers have equal bits.
impl Eq for Real {}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl Value {
    /// A number, or NULL for NaN, which is what SQLite stores.
    pub fn real(number: f64) -> Self {
        Real::new(number).map_or(Self::Null, Self::Real)
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    /// The value as SQLite compares keys: `1.0` is `1`.
    pub(crate) fn as_key(&self) -> Self {
        match self {
            Self::Real(real) => real.as_integer().map_or(Self::Real(*real), Self::Integer),
            other => other.clone(),
        }
    }

    /// The value as it is compared and sent: a text or blob longer than [`INLINE_BYTES_MAX`] becomes a file.
    ///
    /// # Examples
    /// ```
    /// use synckit_sqlite::rows::{FileKind, Value};
    ///
    /// let photo = Value::Blob(vec![7; 100_000]);
    /// assert!(matches!(photo.outlined(), Value::File(file) if file.kind == FileKind::Blob && file.size_bytes == 100_000));
    /// assert_eq!(Value::text("Milk").outlined(), Value::text("Milk"));
    /// ```
    #[must_use]
    pub fn outlined(self) -> Self {
        let (bytes, kind) = match &self {
            Self::Text(bytes) => (bytes, FileKind::Text),
            Self::Blob(bytes) => (bytes, FileKind::Blob),
            _ => return self,
        };
        if bytes.len() <= INLINE_BYTES_MAX {
            return self;
        }
        Self::File(FileValue {
            hash: BlobHash::of(bytes),
            size_bytes: bytes.len() as u64,
            kind,
        })
    }
}
