//! One change of one row, between the app's file and the log: `docs/rows.md`, section 1.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value as Json, json};
use synckit_crypto::batch::{ChangeEntry, ChangeOp, Timestamp};

use super::{json::ValueError, row_id::RowId, value::Value};

/// The columns of a row, by the names that they have in the log. Copies share them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Row(Arc<BTreeMap<String, Value>>);

/// A change of one row in the log.
///
/// # Examples
/// ```
/// use serde_json::json;
/// use synckit_sqlite::rows::{Row, RowChange, RowId, RowOp, Value};
///
/// let row = Row::from_iter([("title", Value::text("Milk")), ("done", Value::Integer(0))]);
/// let change = RowChange {
///     table: "tasks".into(),
///     id: RowId::of_key(&[Value::Integer(7)]),
///     time: Default::default(),
///     op: RowOp::Insert(row),
/// };
/// let entry = change.to_entry();
/// assert_eq!(entry.data, Some(json!({"title": "Milk", "done": 0})));
/// assert_eq!(RowChange::from_entry(&entry), Ok(change));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table, by its name in the log.
    pub table: String,
    /// The row.
    pub id: RowId,
    /// When the row was last edited, as the merge counts time.
    pub time: Timestamp,
    /// What became of the row.
    pub op: RowOp,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOp {
    /// The row is new to its writer's log.
    Insert(Row),
    /// The row has these columns now.
    Update(Row),
    /// The row as a snapshot has it: exactly these columns, and when each last changed. A column without a time changed with the last
    /// entry of the row.
    Whole(Row, BTreeMap<String, Since>),
    /// The row is gone.
    Delete,
}

/// When a column got its value, if that was not with the last entry of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// An entry of this time changed it, or made the row.
    Changed(Timestamp),
    /// An entry of this time was the first of the row that had the column, and none changed it since. If the value is what a
    /// reader's column has by default, it never changed.
    Added(Timestamp),
}

/// An entry that is no change of a row by this convention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// An insertion or update whose data is no object.
    #[error("the data is no object of columns")]
    NoColumns,

    /// A deletion that carries data.
    #[error("a deletion has data")]
    DataOfDeletion,

    /// A row of a snapshot with a time that is none, or of a column that the row does not have.
    #[error("the column `{column}` has no time")]
    Since {
        /// The column, by its name in the log.
        column: String,
    },

    /// A column with an unreadable value.
    #[error("the column `{column}` has no value of SQLite")]
    Value {
        /// The column, by its name in the log.
        column: String,
        /// What is wrong with its value.
        #[source]
        source: ValueError,
    },
}

impl Row {
    /// A row without columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// A column's value; `None` if the row's writer did not know the column.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.0.get(column)
    }

    /// Sets a column.
    pub fn set(&mut self, column: impl Into<String>, value: Value) {
        Arc::make_mut(&mut self.0).insert(column.into(), value);
    }

    /// Takes a column out.
    pub fn remove(&mut self, column: &str) -> Option<Value> {
        Arc::make_mut(&mut self.0).remove(column)
    }

    /// The columns, in ascending order of the bytes of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(column, value)| (column.as_str(), value))
    }

    pub(crate) fn to_json(&self) -> Json {
        let fields: Map<String, Json> = self
            .0
            .iter()
            .map(|(column, value)| (column.clone(), value.to_json()))
            .collect();
        Json::Object(fields)
    }

    pub(crate) fn from_json(data: Option<&Json>) -> Result<Self, RowError> {
        let fields = data.and_then(Json::as_object).ok_or(RowError::NoColumns)?;
        let values = fields.iter().map(|(column, json)| match Value::from_json(json) {
            Ok(value) => Ok((column.clone(), value)),
            Err(source) => Err(RowError::Value {
                column: column.clone(),
                source,
            }),
        });
        values.collect::<Result<_, _>>().map(Arc::new).map(Self)
    }
}

impl<Name: Into<String>> FromIterator<(Name, Value)> for Row {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(columns: I) -> Self {
        let columns = columns.into_iter().map(|(column, value)| (column.into(), value));
        Self(Arc::new(columns.collect()))
    }
}

impl RowOp {
    /// The columns; `None` for a deletion.
    pub const fn row(&self) -> Option<&Row> {
        match self {
            Self::Insert(row) | Self::Update(row) | Self::Whole(row, _) => Some(row),
            Self::Delete => None,
        }
    }

    fn to_json(&self) -> Option<Json> {
        match self {
            Self::Insert(row) | Self::Update(row) => Some(row.to_json()),
            Self::Whole(row, since) => {
                let times = since.iter().map(|(column, since)| (column.clone(), since.to_json()));
                Some(Json::Array(vec![row.to_json(), Json::Object(times.collect())]))
            }
            Self::Delete => None,
        }
    }

    /// The row of a snapshot.
    fn whole(row: &Json, since: &Json, last: Timestamp) -> Result<Self, RowError> {
        let row = Row::from_json(Some(row))?;
        let times = since.as_object().ok_or(RowError::NoColumns)?.iter();
        let since = times.map(|(column, json)| {
            let since =
                Since::from_json(json).filter(|since| *since != Since::Changed(last) && row.get(column).is_some());
            let since = since.ok_or_else(|| RowError::Since { column: column.clone() })?;
            Ok((column.clone(), since))
        });
        let since = since.collect::<Result<_, _>>()?;
        Ok(Self::Whole(row, since))
    }
}

impl Since {
    fn to_json(self) -> Json {
        match self {
            Self::Changed(time) => json!(time.as_micros()),
            Self::Added(time) => json!({ "added": time.as_micros() }),
        }
    }

    fn from_json(json: &Json) -> Option<Self> {
        let time = |json: &Json| json.as_i64().map(Timestamp::from_micros);
        match json.as_object() {
            None => time(json).map(Self::Changed),
            Some(fields) if fields.len() == 1 => time(fields.get("added")?).map(Self::Added),
            Some(_) => None,
        }
    }
}

impl RowChange {
    /// The entry of the log.
    pub fn to_entry(&self) -> ChangeEntry {
        let op = match self.op {
            RowOp::Insert(_) | RowOp::Whole(..) => ChangeOp::Insert,
            RowOp::Update(_) => ChangeOp::Update,
            RowOp::Delete => ChangeOp::Delete,
        };
        ChangeEntry {
            table: self.table.clone(),
            op,
            row_id: self.id.as_str().to_owned(),
            timestamp: self.time,
            data: self.op.to_json(),
        }
    }

    /// Reads an entry of the log.
    ///
    /// # Errors
    /// [`RowError`] for an entry that [`to_entry`](Self::to_entry) does not write.
    pub fn from_entry(entry: &ChangeEntry) -> Result<Self, RowError> {
        let data = entry.data.as_ref();
        let op = match (entry.op, data.and_then(Json::as_array).map(Vec::as_slice)) {
            (ChangeOp::Insert, Some([row, since])) => RowOp::whole(row, since, entry.timestamp)?,
            (ChangeOp::Insert, _) => RowOp::Insert(Row::from_json(data)?),
            (ChangeOp::Update, _) => RowOp::Update(Row::from_json(data)?),
            (ChangeOp::Delete, _) if data.is_some() => return Err(RowError::DataOfDeletion),
            (ChangeOp::Delete, _) => RowOp::Delete,
        };
        Ok(Self {
            table: entry.table.clone(),
            id: RowId::new(entry.row_id.as_str()),
            time: entry.timestamp,
            op,
        })
    }
}
