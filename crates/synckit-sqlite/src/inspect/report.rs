//! What an inspection found, for a developer and for programs.

use super::{
    finding::{Finding, Severity},
    references::{ReferenceReport, ReferenceSource},
    statements::TriggerWrite,
};
use crate::track::{Identity, Track};

/// A whole database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaReport {
    /// The tables that can be synced, or could be after a word or a change.
    pub tables: Vec<TableReport>,
    /// Tables and views that are never synced, and why.
    pub left_out: Vec<LeftOut>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// How many rows it has; `None` if the connection lacks what it takes to count them.
    pub rows: Option<u64>,
    /// What makes its rows the same on every device.
    pub identity: Identity,
    /// Columns that refer to numbers of other tables.
    pub references: Vec<ReferenceReport>,
    /// What triggers write when its rows are written.
    pub trigger_writes: Vec<TriggerWrite>,
    /// What to know, the gravest first.
    pub findings: Vec<Finding>,
    pub(crate) track: Track,
}

/// A table or view that is never synced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why a table or view is never synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOutReason {
    /// A view has no rows of its own.
    #[error("a view has no rows of its own")]
    View,
    /// The rows of a virtual table are in other tables, or in none.
    #[error("a virtual table is made from other tables")]
    Virtual,
    /// It belongs to a virtual table.
    #[error("it belongs to a virtual table")]
    Shadow,
    /// A framework or tool describes this file with it.
    #[error("a framework describes this file with it")]
    Bookkeeping,
    /// The numbers of its rows are given out by a framework, which keeps the next one elsewhere.
    #[error("Core Data gives out its row numbers")]
    CoreData,
}

impl SchemaReport {
    /// The table of a name.
    pub fn table(&self, name: &str) -> Option<&TableReport> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }
}

impl TableReport {
    /// The gravest finding decides; `None` if there is nothing to say.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Finding::severity).max()
    }

    /// Whether the table can be synced as it is declared.
    pub fn is_ready(&self) -> bool {
        self.severity().is_none_or(|severity| severity < Severity::Question)
    }

    /// The declaration with an answer to every question. The guesses in it are for the developer to check.
    pub fn suggestion(&self) -> Track {
        let guesses = self
            .references
            .iter()
            .filter(|reference| reference.source == ReferenceSource::Guess);
        let track = guesses.fold(self.track.clone(), |track, guess| {
            track.references(&guess.column, &guess.parent)
        });
        let is_asked = self.findings.iter().find_map(|finding| match finding {
            Finding::KeyLooksLikeData { .. } => Some(Identity::Verbatim),
            Finding::NoKey => Some(Identity::WholeRow),
            _ => None,
        });
        match is_asked {
            Some(identity) => track.identity(identity),
            None => track,
        }
    }
}
