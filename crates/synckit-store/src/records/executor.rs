//! The seam between records and an engine: statements in, rows out.

use std::{future::Future, ops::ControlFlow};

use synckit_protocol::{
    AppId, BatchId, BlobId, ByteString, DeviceId, Head, InstallationId, KeyId, ObjectKey, OwnerKey, SealedHash,
    SessionId, SnapshotId, TeamId, UploadId, UserId, wire::devices::Platform,
};

use crate::{CountedKey, CredentialId, SecretHash, StoreError};

/// One open transaction of an engine.
///
/// # Examples
/// ```
/// use std::ops::ControlFlow;
/// use synckit_store::{StoreError, records::{Column, EachRow, Executor, Row, Value}};
///
/// /// An engine that knows one row.
/// struct Fixed;
///
/// impl Executor for Fixed {
///     async fn each(&self, _: &'static str, _: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), StoreError> {
///         let _: ControlFlow<()> = each(Row::new(vec![Column::Number(7), Column::Null]))?;
///         Ok(())
///     }
///
///     async fn execute(&self, _: &'static str, _: &[Value<'_>]) -> Result<u64, StoreError> {
///         Ok(0)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), StoreError> {
/// let row = Fixed.query_one("SELECT seq, revoked_at FROM ...", &[]).await?.expect("a row");
/// assert_eq!((row.get::<u64>(0)?, row.get::<Option<u64>>(1)?), (7, None));
/// # Ok(())
/// # }
/// ```
pub trait Executor {
    /// Runs a statement and calls `each` with each row, until it breaks. Parameter `$n` is `values[n - 1]`.
    ///
    /// An engine reads at most a few rows ahead: a statement may have far more rows than its caller has memory for.
    fn each(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        each: &mut EachRow<'_>,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Runs a statement that returns no rows, and returns the number of changed rows.
    fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> impl Future<Output = Result<u64, StoreError>>;

    /// Runs a statement and returns its rows.
    fn query(&self, sql: &'static str, values: &[Value<'_>]) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        async move {
            let mut rows = Vec::new();
            self.each(sql, values, &mut |row| {
                rows.push(row);
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            Ok(rows)
        }
    }

    /// Runs a statement to its end and returns its first row.
    fn query_one(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> {
        async move { Ok(self.query(sql, values).await?.into_iter().next()) }
    }
}

/// Takes a row; breaks if it wants no more.
pub type EachRow<'a> = dyn FnMut(Row) -> Result<ControlFlow<()>, StoreError> + Send + 'a;

/// A parameter of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// A signed number: the key of a row, or a count.
    Number(i64),
    /// A number that must fit into a signed column: an engine refuses a larger one.
    Unsigned(u64),
    /// A text.
    Text(&'a str),
    /// An id, a hash, or sealed bytes.
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// The value as a signed number, if it is a number.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it does not fit.
    pub fn number(&self) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Number(number) => Ok(Some(*number)),
            Self::Unsigned(number) => i64::try_from(*number)
                .map(Some)
                .map_err(|_| ImpossibleValue("number past 2^63 - 1").into()),
            Self::Null | Self::Text(_) | Self::Bytes(_) => Ok(None),
        }
    }
}

/// A number or text that no version of the server reads or writes.
#[derive(Debug, thiserror::Error)]
#[error("the database holds an impossible {0}")]
pub struct ImpossibleValue(pub &'static str);

impl From<ImpossibleValue> for StoreError {
    fn from(error: ImpossibleValue) -> Self {
        Self::Database(Box::new(error))
    }
}

/// A column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// No value.
    Null,
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row that a statement returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(Vec<Column>);

impl Row {
    /// A row of these columns.
    pub const fn new(columns: Vec<Column>) -> Self {
        Self(columns)
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.0
    }

    /// A column, counted from 0.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the row has no such column, or it holds something else.
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T, StoreError> {
        let column = self.0.get(index).ok_or(ImpossibleValue("row without this column"))?;
        Ok(T::from_column(column)?)
    }

    /// The size of its texts and bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let sizes = self.0.iter().map(|column| match column {
            Column::Null | Column::Number(_) => 0,
            Column::Text(text) => text.len(),
            Column::Bytes(bytes) => bytes.len(),
        });
        sizes.sum()
    }

    pub(crate) fn into_first(mut self, count: usize) -> Vec<Column> {
        self.0.truncate(count);
        self.0
    }
}

/// A type that a column can hold.
pub trait FromColumn: Sized {
    /// Reads the column.
    ///
    /// # Errors
    /// [`ImpossibleValue`] if the column holds something else.
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue>;
}

impl FromColumn for i64 {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Number(number) => Ok(*number),
            _ => Err(ImpossibleValue("number")),
        }
    }
}

impl FromColumn for u64 {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        Self::try_from(i64::from_column(column)?).map_err(|_| ImpossibleValue("negative number"))
    }
}

impl FromColumn for u32 {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        Self::try_from(i64::from_column(column)?).map_err(|_| ImpossibleValue("number of more than 32 bits"))
    }
}

impl FromColumn for String {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Text(text) => Ok(text.clone()),
            _ => Err(ImpossibleValue("text")),
        }
    }
}

impl FromColumn for Vec<u8> {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Bytes(bytes) => Ok(bytes.clone()),
            _ => Err(ImpossibleValue("bytes")),
        }
    }
}

impl FromColumn for ByteString {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        Vec::from_column(column).map(Self)
    }
}

impl<const N: usize> FromColumn for [u8; N] {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Bytes(bytes) => bytes.as_slice().try_into().map_err(|_| ImpossibleValue("id")),
            _ => Err(ImpossibleValue("id")),
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Null => Ok(None),
            column => T::from_column(column).map(Some),
        }
    }
}

impl FromColumn for Platform {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Text(text) => text.parse().map_err(|_| ImpossibleValue("platform")),
            _ => Err(ImpossibleValue("platform")),
        }
    }
}

/// Ids and hashes are their raw bytes.
macro_rules! ids {
    ($($id:ty),*) => {
        $(impl FromColumn for $id {
            fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
                FromColumn::from_column(column).map(Self::from_bytes)
            }
        }

        impl<'a> From<&'a $id> for Value<'a> {
            fn from(id: &'a $id) -> Self {
                Self::Bytes(id.as_bytes())
            }
        })*
    };
}

ids!(
    AppId,
    BatchId,
    BlobId,
    DeviceId,
    Head,
    InstallationId,
    KeyId,
    ObjectKey,
    OwnerKey,
    SealedHash,
    SessionId,
    SnapshotId,
    TeamId,
    UploadId,
    UserId
);

impl<'a> From<&'a Column> for Value<'a> {
    fn from(column: &'a Column) -> Self {
        match column {
            Column::Null => Self::Null,
            Column::Number(number) => Self::Number(*number),
            Column::Text(text) => Self::Text(text),
            Column::Bytes(bytes) => Self::Bytes(bytes),
        }
    }
}

impl<'a> From<&'a SecretHash> for Value<'a> {
    fn from(hash: &'a SecretHash) -> Self {
        Self::Bytes(&hash.0)
    }
}

impl FromColumn for SecretHash {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        FromColumn::from_column(column).map(Self)
    }
}

impl<'a> From<&'a CountedKey> for Value<'a> {
    fn from(key: &'a CountedKey) -> Self {
        Self::Bytes(&key.0)
    }
}

impl FromColumn for CredentialId {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        FromColumn::from_column(column).map(Self)
    }
}

impl<'a> From<&'a CredentialId> for Value<'a> {
    fn from(id: &'a CredentialId) -> Self {
        Self::Bytes(&id.0)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The parameters of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::records::Value::from($value)),*]
    };
}

pub(crate) use params;
