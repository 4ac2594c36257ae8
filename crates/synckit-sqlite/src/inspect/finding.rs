//! What a developer should know about a table before it is synced.

use rusqlite::{Connection, Result};

use super::{
    catalog::{TableInfo, count, quoted},
    references::{ReferenceReport, ReferenceSource},
};
use crate::track::{Identity, Track};

/// Integer keys from here on are data (a time, a barcode) and no count of this device.
const DATA_INTEGER: i64 = 1 << 32;

/// Something to know about a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The connection lacks a function, collation or module that the table needs, or a trigger is broken.
    #[error(
        "rows cannot be written: {message}. Register what is missing on the connection, as the app does on its own"
    )]
    NotWritable {
        /// What SQLite said.
        message: String,
    },

    /// A floating-point number in a key of several columns, or of a table without rowid.
    #[error("the key has the floating-point column `{column}`: two devices may round its values differently")]
    RealKey {
        /// The column.
        column: String,
    },

    /// A declaration names a column that the table does not have.
    #[error("the declaration names the column `{column}`, which the table does not have")]
    UnknownColumn {
        /// The column.
        column: String,
    },

    /// A declared reference to a table that the file does not have.
    #[error("the declaration of `{column}` names the table `{parent}`, which the file does not have")]
    UnknownParent {
        /// The column.
        column: String,
        /// The parent.
        parent: String,
    },

    /// Rows that a declared identity would make one row.
    #[error("{rows} rows have the same values of the declared identity as another row")]
    EqualKeys {
        /// How many.
        rows: u64,
    },

    /// A column that seems to refer to numbers of another table.
    #[error(
        "the values of `{column}` are keys of `{parent}`: declare it with `references`, or with `plain` if it is no reference"
    )]
    GuessedReference {
        /// The column.
        column: String,
        /// The table that it seems to refer to.
        parent: String,
    },

    /// An integer key that seems to be data.
    #[error(
        "the keys in `{column}` are too large to be counted: declare `Identity::Verbatim` if the number is data, else `Identity::Mapped`"
    )]
    KeyLooksLikeData {
        /// The key.
        column: String,
    },

    /// There is neither a key nor a UNIQUE.
    #[error(
        "the table has no key: equal rows would become one. Declare `Identity::WholeRow` if that is right, or `Identity::Columns`"
    )]
    NoKey,

    /// Rows without a key wait outside the log.
    #[error("{rows} rows have NULL in their key and cannot be synced")]
    NullKeys {
        /// How many.
        rows: u64,
    },

    /// Rows that refer to rows that are not there.
    #[error("{rows} rows refer through `{column}` to rows of `{parent}` that are not there")]
    Dangling {
        /// The column.
        column: String,
        /// The table that it refers to.
        parent: String,
        /// How many.
        rows: u64,
    },
}

/// What a finding means for the sync of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Caveat,
    /// The developer must say a word.
    Question,
    /// The table cannot be synced as it is.
    Refusal,
}

impl Finding {
    /// What the finding means for the sync of its table.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NotWritable { .. }
            | Self::RealKey { .. }
            | Self::EqualKeys { .. }
            | Self::UnknownColumn { .. }
            | Self::UnknownParent { .. } => Severity::Refusal,
            Self::GuessedReference { .. } | Self::KeyLooksLikeData { .. } | Self::NoKey => Severity::Question,
            Self::NullKeys { .. } | Self::Dangling { .. } => Severity::Caveat,
        }
    }
}

/// Everything that is known about a table.
pub(super) struct Subject<'a> {
    pub(super) connection: &'a Connection,
    pub(super) tables: &'a [TableInfo],
    pub(super) table: &'a TableInfo,
    pub(super) track: &'a Track,
    pub(super) identity: &'a Identity,
    pub(super) references: &'a [ReferenceReport],
}

impl Subject<'_> {
    pub(super) fn findings(&self) -> Result<Vec<Finding>> {
        let mut findings = self.wrong_declarations();
        findings.extend(self.real_key());
        findings.extend(self.guesses());
        findings.extend(self.data_key()?);
        if *self.identity == Identity::WholeRow && self.track.declared_identity().is_none() {
            findings.push(Finding::NoKey);
        }
        findings.extend(self.null_keys()?);
        findings.extend(self.equal_keys()?);
        for reference in self.references {
            findings.extend(self.dangling(reference)?);
        }
        Ok(findings)
    }

    fn wrong_declarations(&self) -> Vec<Finding> {
        let unknown = self
            .track
            .columns()
            .filter(|column| self.table.column(column).is_none());
        let mut findings: Vec<Finding> = unknown
            .map(|column| Finding::UnknownColumn {
                column: column.to_owned(),
            })
            .collect();
        let declared = self
            .references
            .iter()
            .filter(|reference| reference.source == ReferenceSource::Track);
        let lost = declared.filter(|reference| self.table_of(&reference.parent).is_none());
        findings.extend(lost.map(|reference| Finding::UnknownParent {
            column: reference.column.clone(),
            parent: reference.parent.clone(),
        }));
        findings
    }

    fn table_of(&self, name: &str) -> Option<&TableInfo> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    fn real_key(&self) -> Option<Finding> {
        let key = self.table.key();
        let is_exact = key.len() < 2 && !self.table.without_rowid;
        let real = key
            .into_iter()
            .find(|column| has_real_affinity(&column.declared_type))?;
        (!is_exact).then(|| Finding::RealKey {
            column: real.name.clone(),
        })
    }

    fn guesses(&self) -> Vec<Finding> {
        let guesses = self
            .references
            .iter()
            .filter(|reference| reference.source == ReferenceSource::Guess);
        let question = |guess: &ReferenceReport| Finding::GuessedReference {
            column: guess.column.clone(),
            parent: guess.parent.clone(),
        };
        guesses.map(question).collect()
    }

    fn data_key(&self) -> Result<Option<Finding>> {
        if *self.identity != Identity::Mapped || self.track.declared_identity().is_some() {
            return Ok(None);
        }
        let Some(alias) = self.table.rowid_alias() else {
            return Ok(None);
        };
        let (key, table) = (quoted(&alias.name), quoted(&self.table.name));
        let large = count(
            self.connection,
            &format!("SELECT count(*) FROM {table} WHERE {key} >= {DATA_INTEGER}"),
        )?;
        let all = count(self.connection, &format!("SELECT count(*) FROM {table}"))?;
        // Rows with small numbers among them may be defaults of every installation.
        let is_data = large > all / 2;
        Ok(is_data.then(|| Finding::KeyLooksLikeData {
            column: alias.name.clone(),
        }))
    }

    fn null_keys(&self) -> Result<Option<Finding>> {
        let Identity::Columns(columns) = self.identity else {
            return Ok(None);
        };
        if columns.iter().any(|column| self.table.column(column).is_none()) {
            return Ok(None);
        }
        let conditions: Vec<String> = columns
            .iter()
            .map(|column| format!("{} IS NULL", quoted(column)))
            .collect();
        let sql = format!(
            "SELECT count(*) FROM {} WHERE {}",
            quoted(&self.table.name),
            conditions.join(" OR ")
        );
        let rows = count(self.connection, &sql)?;
        Ok((rows > 0).then_some(Finding::NullKeys { rows }))
    }

    fn equal_keys(&self) -> Result<Option<Finding>> {
        let Some(Identity::Columns(columns)) = self.track.declared_identity() else {
            return Ok(None);
        };
        if columns.is_empty() || columns.iter().any(|column| self.table.column(column).is_none()) {
            return Ok(None);
        }
        let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let (table, names, named) = (
            quoted(&self.table.name),
            columns.join(", "),
            columns.join(" IS NOT NULL AND "),
        );
        let sql = format!(
            "SELECT ifnull(sum(rows - 1), 0) FROM (SELECT count(*) AS rows FROM {table} WHERE {named} IS NOT NULL GROUP BY {names})"
        );
        let rows = count(self.connection, &sql)?;
        Ok((rows > 0).then_some(Finding::EqualKeys { rows }))
    }

    fn dangling(&self, reference: &ReferenceReport) -> Result<Option<Finding>> {
        let parent = self.table_of(&reference.parent);
        let keys = parent.map(TableInfo::key).unwrap_or_default();
        let (&[key], Some(_)) = (&keys[..], self.table.column(&reference.column)) else {
            return Ok(None);
        };
        let column = quoted(&reference.column);
        let sql = format!(
            "SELECT count(*) FROM {} WHERE {column} COLLATE BINARY NOT IN (0, -1, '')
             AND {column} COLLATE BINARY NOT IN (SELECT {} FROM {})",
            quoted(&self.table.name),
            quoted(&key.name),
            quoted(&reference.parent)
        );
        let rows = count(self.connection, &sql)?;
        Ok((rows > 0).then(|| Finding::Dangling {
            column: reference.column.clone(),
            parent: reference.parent.clone(),
            rows,
        }))
    }
}

/// Whether a column stores integers as floating-point numbers (SQLite, "Datatypes", section 3.1).
fn has_real_affinity(declared_type: &str) -> bool {
    let declared = declared_type.to_ascii_uppercase();
    let is_other = ["INT", "CHAR", "CLOB", "TEXT", "BLOB"]
        .iter()
        .any(|word| declared.contains(word));
    !is_other && ["REAL", "FLOA", "DOUB"].iter().any(|word| declared.contains(word))
}
