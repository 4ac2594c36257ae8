//! The app's file and what this device knows of the log, transaction by transaction. No network.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, Transaction, TransactionBehavior, types::FromSql};
use synckit_client::Quota;
use synckit_crypto::batch::Timestamp;

use crate::{
    apply::{Place, Writer, apply},
    capture::{adopt::adopt_columns, birth::birth, capture, clear_notes, triggers, unenforced},
    error::Error,
    inspect::{SchemaReport, inspect},
    layout::{Layout, declared::Declared},
    merge::{Conflict, Key, Rules},
    rows::{Row, Value},
    shadow::{
        TABLES,
        book::{Book, Kept},
        settings,
    },
    track::Track,
    tracking::{
        check_identity, check_key, check_parents, declaration, declared_tables, note_schema, note_unenforced,
        schema_version, write_declared,
    },
};

/// How long a statement waits for another program's lock on the file.
pub const BUSY_MAX: Duration = Duration::from_secs(5);

/// What an app registers on each connection: functions, collations, a key.
pub type OnConnection = Arc<dyn Fn(&Connection) -> rusqlite::Result<()> + Send + Sync>;

/// The app's file.
pub(crate) struct Replica {
    connection: Connection,
    path: PathBuf,
    file: Option<FileId>,
    on_connection: OnConnection,
    layout: Known,
    /// What the last transaction left.
    memory: Option<Memory>,
    /// The rows that are not sent for now, also after the book was read anew: else one sync would send them for ever.
    unsendable: BTreeMap<Key, String>,
    /// The limits of the account that keep rows from being sent.
    pub(crate) limits: BTreeMap<Key, Quota>,
}

/// What one transaction leaves to the next one, so that it need not read it from the file.
struct Memory {
    book: Book,
    layout: Arc<Layout>,
    /// The rows in the tables.
    visible: BTreeMap<Key, Row>,
    is_settled: bool,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// A transaction, and what is known in it. Nothing of it happened unless [`Work::finish`] returned.
pub(crate) struct Work<'c> {
    pub(crate) transaction: Transaction<'c>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) book: Book,
    pub(crate) now: Timestamp,
    /// Whether nothing happened since all that is unsent was merged onto the log.
    pub(crate) is_settled: bool,
    kept: Kept,
    /// The rows in the tables, before anything is applied.
    before: BTreeMap<Key, Row>,
    memory: &'c mut Option<Memory>,
    unsendable: &'c mut BTreeMap<Key, String>,
    pub(crate) limits: &'c mut BTreeMap<Key, Quota>,
}

impl Replica {
    pub(crate) fn open(path: PathBuf, on_connection: OnConnection) -> Result<Self, Error> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_MAX)?;
        on_connection(&connection)?;
        // The merge decides what follows a deletion: no cascade may come from us.
        connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF")?;
        connection.set_prepared_statement_cache_capacity(256);
        // As SQLite resolved it.
        let path = PathBuf::from(connection.path().unwrap_or_default());
        Ok(Self {
            file: file_at(&path),
            path,
            connection,
            on_connection,
            layout: None,
            memory: None,
            unsendable: BTreeMap::new(),
            limits: BTreeMap::new(),
        })
    }

    /// Changes when another connection commits.
    pub(crate) fn data_version(&self) -> Result<i64, Error> {
        Ok(self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))?)
    }

    /// A single fact that the file keeps.
    pub(crate) fn fact<T: FromSql>(&self, name: &str) -> Result<Option<T>, Error> {
        Ok(settings::read(&self.connection, name)?)
    }

    /// A file that was deleted lives on for those who have it open: what it gets nobody else would see.
    fn check_file(&self) -> Result<(), Error> {
        let is_same = file_at(&self.path) == self.file;
        is_same.then_some(()).ok_or(Error::FileReplaced)
    }

    fn is_tracked(&self) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'synckit_tables')";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Tracks tables that are not tracked yet.
    pub(crate) fn track(&mut self, tracks: &[Track]) -> Result<SchemaReport, Error> {
        self.check_file()?;
        let is_tracked = self.is_tracked()?;
        let scratch = scratch(&self.on_connection)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut report = inspect(&transaction, tracks)?;
        report.tables.retain(|table| {
            tracks
                .iter()
                .any(|track| track.table().eq_ignore_ascii_case(&table.name))
        });
        if !is_tracked {
            TABLES.iter().try_for_each(|sql| transaction.execute_batch(sql))?;
        }
        let mut declared = declared_tables(&transaction)?;
        let mut new = BTreeSet::new();
        for table in &report.tables {
            let number = declared.iter().map(|known| known.number).max().unwrap_or(0) + 1;
            if !declared.iter().any(|known| known.name == table.name) {
                new.insert(table.name.clone());
                declared.push(declaration(number, table)?);
            }
        }
        check_parents(&report, &declared)?;
        let layout = Layout::read(&transaction, scratch, declared)?;
        for table in layout.tables.values() {
            check_key(table)?;
            check_identity(table)?;
            triggers::make_notes(&transaction, table)?;
            let known = Declared {
                known: table.names(),
                key: Some(table.key_columns()),
                ..table.declared.clone()
            };
            write_declared(&transaction, &known)?;
        }
        triggers::install(&transaction, &layout)?;
        self.memory = None;
        let mut book = Book::load(&transaction)?;
        let kept = book.kept();
        birth(&transaction, &layout, &new, &mut book)?;
        book.save(&transaction, &kept, now())?;
        for (table, column) in unenforced(&layout, &book) {
            note_unenforced(&transaction, &layout, &table, &column)?;
        }
        note_schema(&transaction)?;
        transaction.commit()?;
        Ok(report)
    }

    /// Takes away everything of ours.
    pub(crate) fn untrack_all(&mut self) -> Result<(), Error> {
        self.check_file()?;
        self.memory = None;
        self.connection.flush_prepared_statement_cache();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        triggers::uninstall(&transaction)?;
        Ok(transaction.commit()?)
    }

    /// Begins a transaction, and takes over what the app did since the last one.
    pub(crate) fn begin(&mut self) -> Result<Work<'_>, Error> {
        self.check_file()?;
        if !self.is_tracked()? {
            return Err(Error::NothingTracked);
        }
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let mut layout = layout(&transaction, &self.on_connection, &mut self.layout)?;
        let now = now();
        let is_changed = schema_version(&transaction)? != settings::read(&transaction, settings::SCHEMA_VERSION)?;
        let (mut book, mut before, is_settled) = remembered(&transaction, &layout, &mut self.memory)?;
        if !is_settled {
            let unsendable = self
                .unsendable
                .iter()
                .filter(|(key, _)| book.state.unsent.contains_key(*key));
            book.state.unsendable = unsendable.map(|(key, why)| (key.clone(), why.clone())).collect();
        }
        let kept = book.kept();
        if is_changed {
            adopt_columns(&transaction, &layout, &book)?;
        }
        let is_edited = capture(&transaction, &layout, &mut book, &mut before, is_changed, now)?;
        if is_edited {
            for (table, column) in unenforced(&layout, &book) {
                note_unenforced(&transaction, &layout, &table, &column)?;
                self.layout = None;
            }
        }
        if is_changed {
            triggers::install(&transaction, &layout)?;
            note_schema(&transaction)?;
        }
        if self.layout.is_none() {
            layout = self::layout(&transaction, &self.on_connection, &mut self.layout)?;
        }
        Ok(Work {
            transaction,
            layout,
            book,
            now,
            is_settled: is_settled && !is_edited,
            kept,
            before,
            memory: &mut self.memory,
            unsendable: &mut self.unsendable,
            limits: &mut self.limits,
        })
    }
}

/// The book, the rows in the tables, and whether nothing happened since they were settled.
fn remembered(
    connection: &Connection,
    layout: &Arc<Layout>,
    memory: &mut Option<Memory>,
) -> Result<(Book, BTreeMap<Key, Row>, bool), Error> {
    if let Some(memory) = memory.take()
        && Arc::ptr_eq(&memory.layout, layout)
        && memory.book.is_current(connection)?
    {
        return Ok((memory.book, memory.visible, memory.is_settled));
    }
    let book = Book::load(connection)?;
    let visible = book.visible(layout);
    Ok((book, visible, false))
}

/// The device and the number of a file.
type FileId = (u64, u64);

/// Which file is at a path. It is not opened: closing it again would end SQLite's locks.
#[cfg(unix)]
fn file_at(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;

    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Other systems do not delete a file that is open.
#[cfg(not(unix))]
const fn file_at(_: &Path) -> Option<FileId> {
    None
}

/// The layout of a version of the schema, and the version.
type Known = Option<(Option<i64>, Arc<Layout>)>;

/// Reads the layout only after a change of the schema.
fn layout(connection: &Connection, on_connection: &OnConnection, known: &mut Known) -> Result<Arc<Layout>, Error> {
    let version = schema_version(connection)?;
    match known {
        Some((read, layout)) if *read == version => Ok(Arc::clone(layout)),
        _ => {
            let layout = Layout::read(connection, scratch(on_connection)?, declared_tables(connection)?)?;
            layout.tables.values().try_for_each(check_key)?;
            let layout = Arc::new(layout);
            *known = Some((version, Arc::clone(&layout)));
            Ok(layout)
        }
    }
}

impl Work<'_> {
    /// Brings the tables to the book. Returns the tables that changed.
    pub(crate) fn apply(&mut self, place: Place) -> Result<BTreeSet<String>, Error> {
        let changed = apply(
            &self.transaction,
            &self.layout,
            &mut self.book,
            std::mem::take(&mut self.before),
            place,
        )?;
        self.before = self.book.visible(&self.layout);
        Ok(changed.into_iter().map(|key| key.table).collect())
    }

    /// Keeps the long values of a row, which are sent apart from it.
    pub(crate) fn keep_files(&self, key: &Key) -> Result<(), Error> {
        self.reader_of(key).keep_files(key)
    }

    /// Reads one row in its table.
    pub(crate) fn reader_of(&self, key: &Key) -> Writer<'_> {
        let row = self.book.visible_row(&self.layout, key).map(|row| (key.clone(), row));
        Writer::new(&self.transaction, &self.layout, row.into_iter().collect())
    }

    /// Merges what is unsent onto the log, which was read to its head.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        self.book.state.settle(&self.layout.schema, Rules::ALL);
        self.keep_lost_parents();
        let state = &mut self.book.state;
        // What lost is about to be overwritten, and its long values are nowhere else.
        let lost = state.conflicts.iter().filter(|conflict| has_files(&conflict.lost));
        let mut keys: BTreeSet<Key> = lost.map(|conflict| conflict.key.clone()).collect();
        if !keys.is_empty() {
            keys.extend(state.renamed.iter().map(|(from, _)| from.clone()));
        }
        keys.retain(|key| self.before.contains_key(key));
        if !keys.is_empty() {
            let writer = Writer::new(&self.transaction, &self.layout, self.before.clone());
            keys.iter().try_for_each(|key| writer.keep_files(key))?;
        }
        Ok(())
    }

    /// A row that went with its parent can be restored only after that: what the parent was a moment ago is kept with it.
    fn keep_lost_parents(&mut self) {
        let (layout, state) = (&self.layout, &mut self.book.state);
        let mut kept: BTreeSet<Key> = state.conflicts.iter().map(|conflict| conflict.key.clone()).collect();
        let mut next = 0;
        while let Some(Conflict { key, lost }) = state.conflicts.get(next).cloned() {
            next += 1;
            if state.current(&key).is_some() {
                continue;
            }
            for reference in layout.schema.references(&key.table) {
                let Some(parent) = layout.schema.parent(&key.table, &lost, reference) else {
                    continue;
                };
                let logged = || state.fold.get(&parent)?.row.as_ref();
                let row = self.before.get(&parent).or_else(logged).cloned();
                if let Some(lost) = row.filter(|_| state.current(&parent).is_none())
                    && kept.insert(parent.clone())
                {
                    state.conflicts.push(Conflict { key: parent, lost });
                }
            }
        }
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.finish_with_edit(|_, _| Ok(()))
    }

    /// Ends with an edit in the place of the app. It is noted as the app's edits are.
    pub(crate) fn finish_with_edit(
        mut self,
        edit: impl FnOnce(&mut Writer<'_>, &Connection) -> Result<(), Error>,
    ) -> Result<(), Error> {
        clear_notes(&self.transaction, &self.layout)?;
        self.book.save(&self.transaction, &self.kept, self.now)?;
        let mut writer = Writer::new(&self.transaction, &self.layout, self.before);
        edit(&mut writer, &self.transaction)?;
        let visible = writer.into_present();
        self.transaction.commit()?;
        self.unsendable.clone_from(&self.book.state.unsendable);
        *self.memory = Some(Memory {
            book: self.book,
            layout: self.layout,
            visible,
            is_settled: self.is_settled,
        });
        Ok(())
    }

    /// Looks at rows again that became other entries of the book.
    pub(crate) fn look_again(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.book.look_again(&self.layout, key, &mut self.before);
        }
    }
}

fn has_files(row: &Row) -> bool {
    row.iter().any(|(_, value)| matches!(value, Value::File(_)))
}

/// An empty database with what the app registers.
fn scratch(on_connection: &OnConnection) -> Result<Connection, Error> {
    let scratch = Connection::open_in_memory()?;
    on_connection(&scratch)?;
    Ok(scratch)
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
