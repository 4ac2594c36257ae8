//! The tables beside the app's own: what this device has read of the log, what it has not sent, and which numbers its rows have.
//!
//! Invariant: every row of the [`Book`](book::Book) that is not [outside](book::Book::outside) was in its table when the book was
//! last saved.

pub(crate) mod book;
pub(crate) mod edition;
pub(crate) mod files;
pub(crate) mod numbers;
pub(crate) mod reader;
pub(crate) mod settings;

/// Every table of ours. None has AUTOINCREMENT, which would leave `sqlite_sequence` behind.
pub(crate) const TABLES: &[&str] = &[
    // Single facts.
    "CREATE TABLE synckit_state (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    // Tracked tables. `dirty`: it was written, and its rows have no key to note. `chosen`: SQLite chose the number of the row
    // that is being inserted.
    "CREATE TABLE synckit_tables (number INTEGER PRIMARY KEY, name TEXT NOT NULL, declared TEXT NOT NULL,
                                  dirty INTEGER NOT NULL DEFAULT 0, chosen INTEGER NOT NULL DEFAULT 0)",
    // Numbers of rows, and their ids. `noted`: the row was touched since the last look.
    "CREATE TABLE synckit_map (t INTEGER NOT NULL, k INTEGER, id NOT NULL, noted INTEGER NOT NULL DEFAULT 0)",
    "CREATE INDEX synckit_map_k ON synckit_map (t, k)",
    "CREATE INDEX synckit_map_id ON synckit_map (t, id)",
    "CREATE INDEX synckit_map_noted ON synckit_map (t) WHERE noted",
    // The fold of the log.
    "CREATE TABLE synckit_fold (tbl TEXT NOT NULL, id TEXT NOT NULL, row BLOB, time INTEGER NOT NULL, changed TEXT,
                                PRIMARY KEY (tbl, id)) WITHOUT ROWID",
    // Edits that are not in the log. `base`: the row that the edit began with, NULL for none, of an unknown one a time.
    "CREATE TABLE synckit_unsent (tbl TEXT NOT NULL, id TEXT NOT NULL, row BLOB, base, time INTEGER NOT NULL, changed TEXT,
                                  PRIMARY KEY (tbl, id)) WITHOUT ROWID",
    // The entries of the batch that is being sent.
    "CREATE TABLE synckit_outbox (n INTEGER PRIMARY KEY, tbl TEXT NOT NULL, id TEXT NOT NULL, op TEXT NOT NULL, row BLOB,
                                  time INTEGER NOT NULL)",
    // Rows that are not in their table, and why.
    "CREATE TABLE synckit_parked (tbl TEXT NOT NULL, id TEXT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID",
    // Long values that are being sent, or that a table will get.
    "CREATE TABLE synckit_files (hash TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID",
    // Files that rows named before an edit of this device. `since`: when that was sent; or, if it is `deleted`, when this device
    // deleted the file.
    "CREATE TABLE synckit_unnamed (hash TEXT PRIMARY KEY, since INTEGER NOT NULL, deleted INTEGER NOT NULL) WITHOUT ROWID",
    // Values that lost. `whole`: they are a whole row, which is gone.
    "CREATE TABLE synckit_conflicts (n INTEGER PRIMARY KEY, tbl TEXT NOT NULL, id TEXT NOT NULL, lost BLOB NOT NULL,
                                     time INTEGER NOT NULL, whole INTEGER NOT NULL)",
    // Their long values.
    "CREATE TABLE synckit_lost_files (n INTEGER NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (n, hash)) WITHOUT ROWID",
];
