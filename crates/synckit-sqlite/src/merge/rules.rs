//! The rules of the merge, each of which can be left out: to show that it matters.

/// A rule of `docs/adr/0033-merge-at-the-head.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Values are compared as the column stores them.
    Images,
    /// A row is merged column by column, against what both sides began with.
    ThreeWays,
    /// A new row that violates UNIQUE becomes the row of the log; an edited column goes back to the log's value.
    UniqueOfUnsent,
    /// Of two rows of the log that violate UNIQUE, one waits outside the table.
    UniqueOfLog,
    /// Rows are written in an order in which no constraint is ever violated.
    WritingOrder,
    /// A row whose parent is gone follows its ON DELETE.
    ForeignKeys,
    /// What triggers changed while rows were applied is changed back.
    Triggers,
    /// A column that an entry lacks was unknown to its writer, and keeps its value.
    Columns,
    /// A batch has one id and one content for ever, and its return is its acknowledgement.
    Outbox,
    /// After a restored server, every row and every deletion is sent again with its time.
    Rejoin,
    /// A table that is missing has not been emptied, and mass deletions wait for a decision.
    Brakes,
}

/// The rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    left_out: Option<Rule>,
}

impl Rules {
    /// Every rule: what a device uses.
    pub const ALL: Self = Self { left_out: None };

    /// Every rule but one. Loses data: only for a model or simulator that shows why the rule is there.
    pub const fn danger_without(rule: Rule) -> Self {
        Self { left_out: Some(rule) }
    }

    /// Whether a rule is in force.
    pub fn hold(self, rule: Rule) -> bool {
        self.left_out != Some(rule)
    }
}
