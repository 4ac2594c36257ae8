//! One step of a sync each, in one transaction: a page of the log, a batch to send, its acknowledgement.
//!
//! Invariants: a local edit leaves the outbox only in the transaction that records its acknowledgement or its refusal. The cursor does
//! not move while there is an outbox, but with its acknowledgement: so a batch is never merged with itself, whichever process sent
//! it.

use std::collections::BTreeSet;

use rusqlite::Connection;
use synckit_client::{BatchId, ChangeEntry, Cursor, UserId};
use synckit_crypto::{
    batch::{BatchBody, EncodeError},
    blob::BlobHash,
};
use synckit_protocol::limits::BATCH_ENTRIES_MAX;

use crate::{
    apply::Place,
    capture::unnamed,
    error::Error,
    merge::{Batch, Key, Rules},
    replica::{Replica, Work},
    rows::{FileValue, Row, RowChange, RowId, Value},
    shadow::{files, settings},
};

/// A batch to send.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) id: BatchId,
    pub(crate) parent: Cursor,
    pub(crate) entries: Vec<ChangeEntry>,
    /// Long values, which are uploaded first.
    pub(crate) files: Vec<(BlobHash, Vec<u8>)>,
    /// How many edits are unsent, those of the batch included.
    pub(crate) unsent: usize,
}

/// The batch after the next acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    pub(crate) id: BatchId,
    pub(crate) entries_max: usize,
}

/// What the server does not take.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// A row.
    Row(Key),
    /// A long value, and so every row that has it.
    File(BlobHash),
}

impl Refused {
    pub(crate) fn row(entry: &ChangeEntry) -> Self {
        Self::Row(key_of_entry(entry))
    }
}

/// What a page of the log did.
#[derive(Debug, Default)]
pub(crate) struct Absorbed {
    pub(crate) tables: BTreeSet<String>,
    /// Entries that are no rows: another kind of app wrote them.
    pub(crate) unreadable: usize,
    /// How many rows are known.
    pub(crate) rows: usize,
}

/// What the head of the log led to.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) parcel: Option<Parcel>,
    pub(crate) tables: BTreeSet<String>,
}

/// What is not as it should be.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) conflicts: usize,
    pub(crate) parked: usize,
    pub(crate) held: usize,
    pub(crate) unnamed: usize,
    pub(crate) unsendable: usize,
}

impl Replica {
    /// Whose data the file holds. The first user to sync it owns it.
    pub(crate) fn belong_to(&mut self, user: UserId) -> Result<Cursor, Error> {
        let mut work = self.begin()?;
        match settings::read::<String>(&work.transaction, settings::USER)? {
            None => settings::write(&work.transaction, settings::USER, user.to_string())?,
            Some(owner) if owner == user.to_string() => {}
            Some(_) => return Err(Error::OtherUser),
        }
        let cursor = cursor(&work.transaction)?;
        // A local edit may have given a waiting row its place.
        if !work.is_settled && !work.book.outside.is_empty() {
            work.apply(Place::Between)?;
        }
        work.finish()?;
        Ok(cursor)
    }

    /// Takes over entries that follow `from`. `None`: another process did so already, or is sending a batch, whose fate must be known
    /// first.
    pub(crate) fn absorb(
        &mut self,
        from: Cursor,
        entries: &[ChangeEntry],
        to: Cursor,
        place: Place,
    ) -> Result<Option<Absorbed>, Error> {
        let mut work = self.begin()?;
        if cursor(&work.transaction)? != from || work.book.state.outbox.is_some() {
            return Ok(None);
        }
        let unreadable = work.fold(entries);
        work.is_settled = false;
        if place == Place::Head {
            work.settle()?;
        }
        let tables = work.apply(place)?;
        settings::write(&work.transaction, settings::CURSOR, to.to_string())?;
        let rows = work.book.state.fold.len();
        work.finish()?;
        Ok(Some(Absorbed {
            tables,
            unreadable,
            rows,
        }))
    }

    /// At the head of the log: merges what is unsent onto it, and freezes the next batch. A batch that another process is sending
    /// stays as it is, and is sent by both.
    pub(crate) fn settle(&mut self, id: BatchId) -> Result<Settled, Error> {
        let mut work = self.begin()?;
        let mut tables = BTreeSet::new();
        if !work.is_settled && work.book.state.outbox.is_none() {
            work.settle()?;
            tables = work.apply(Place::Head)?;
            work.is_settled = true;
        }
        work.freeze(Next {
            id,
            entries_max: BATCH_ENTRIES_MAX as usize,
        })?;
        let parcel = parcel(&work)?;
        work.finish()?;
        Ok(Settled { parcel, tables })
    }

    /// The batch that is being sent.
    pub(crate) fn outbox(&mut self) -> Result<Option<Parcel>, Error> {
        let work = self.begin()?;
        let parcel = parcel(&work)?;
        work.finish()?;
        Ok(parcel)
    }

    /// The server has the batch. It is taken into the fold, and leaves the outbox. Its last entry is the head of the log, so that
    /// the next batch can be frozen, unless something else happened meanwhile.
    pub(crate) fn acknowledge(
        &mut self,
        id: BatchId,
        cursor: Cursor,
        next: Option<Next>,
    ) -> Result<Option<Parcel>, Error> {
        let mut work = self.begin()?;
        let Some(outbox) = work.book.state.outbox.clone().filter(|outbox| outbox.id == id) else {
            return Ok(None);
        };
        let keys: Vec<Key> = outbox.changes.iter().map(key_of).collect();
        let batch = Batch {
            id,
            changes: outbox.changes,
        };
        let Work { layout, book, .. } = &mut work;
        book.state.read(
            &layout.schema,
            Rules::ALL,
            &|table, row| layout.image(table, row),
            &batch,
        );
        work.look_again(keys);
        settings::write(&work.transaction, settings::CURSOR, cursor.to_string())?;
        files::clear(&work.transaction)?;
        let parcel = match next.filter(|_| work.is_settled) {
            None => None,
            Some(next) => {
                work.freeze(next)?;
                parcel(&work)?
            }
        };
        work.finish()?;
        Ok(parcel)
    }

    /// The server does not have the batch, and refuses it: its edits are unsent again, and are merged anew.
    pub(crate) fn refuse(&mut self, id: BatchId) -> Result<(), Error> {
        let mut work = self.begin()?;
        if work.book.state.outbox.as_ref().is_some_and(|outbox| outbox.id == id) {
            work.book.state.outbox = None;
        }
        work.is_settled = false;
        work.finish()
    }

    /// The server does not have the batch, and refuses it: its edits are unsent again, those of what it refused for good stay here,
    /// and the next batch is frozen, unless something else happened meanwhile.
    pub(crate) fn freeze_again(
        &mut self,
        id: BatchId,
        refused: Option<(Refused, String)>,
        next: Next,
    ) -> Result<Option<Parcel>, Error> {
        let mut work = self.begin()?;
        let Some(outbox) = work.book.state.outbox.take_if(|outbox| outbox.id == id) else {
            return Ok(None);
        };
        if let Some((refused, why)) = refused {
            let has = |change: &&RowChange| match &refused {
                Refused::Row(key) => key_of(change) == *key,
                Refused::File(hash) => {
                    let files = change.op.row().map(files_of).unwrap_or_default();
                    files.iter().any(|file| file.hash == *hash)
                }
            };
            let keys = outbox.changes.iter().filter(has).map(key_of);
            let unsendable = keys.map(|key| (key, why.clone()));
            work.book.state.unsendable.extend(unsendable);
        }
        files::clear(&work.transaction)?;
        let parcel = match work.is_settled {
            false => None,
            true => {
                work.freeze(next)?;
                parcel(&work)?
            }
        };
        work.finish()?;
        Ok(parcel)
    }

    /// Rows that were refused are sent again.
    pub(crate) fn ask_again(&mut self) -> Result<(), Error> {
        let mut work = self.begin()?;
        work.book.state.unsendable.clear();
        work.finish()
    }

    /// The long values that rows wait for.
    pub(crate) fn wanted_files(&mut self) -> Result<Vec<FileValue>, Error> {
        let work = self.begin()?;
        let refused = work
            .book
            .state
            .rows()
            .filter(|(key, _)| work.book.outside.contains_key(*key));
        let files: BTreeSet<FileValue> = refused.flat_map(|(_, row)| files_of(row)).collect();
        let mut wanted = Vec::new();
        for file in files {
            if files::read(&work.transaction, file.hash)?.is_none() {
                wanted.push(file);
            }
        }
        work.finish()?;
        Ok(wanted)
    }

    /// Keeps a long value, and tries again to put rows into their tables.
    pub(crate) fn take_file(&mut self, hash: BlobHash, bytes: &[u8]) -> Result<BTreeSet<String>, Error> {
        let mut work = self.begin()?;
        files::write(&work.transaction, hash, bytes)?;
        work.is_settled = false;
        let tables = work.apply(Place::Between)?;
        work.finish()?;
        Ok(tables)
    }

    /// A sync has ended well: what the user agreed to has been done.
    pub(crate) fn conclude(&mut self) -> Result<Standing, Error> {
        let work = self.begin()?;
        settings::clear(&work.transaction, settings::AGREED)?;
        let conflicts = work
            .transaction
            .query_row("SELECT count(*) FROM synckit_conflicts", [], |row| row.get::<_, i64>(0))?;
        let held = work.book.outside.keys().filter(|key| work.book.is_held(key)).count();
        let standing = Standing {
            conflicts: usize::try_from(conflicts).unwrap_or(usize::MAX),
            parked: work.book.outside.len() - held,
            held,
            unnamed: unnamed(&work.transaction, &work.layout)?,
            unsendable: work.book.state.unsendable.len(),
        };
        work.finish()?;
        Ok(standing)
    }
}

impl Work<'_> {
    /// Puts entries on top of the fold. Returns how many are no rows.
    fn fold(&mut self, entries: &[ChangeEntry]) -> usize {
        let mut unreadable = 0;
        let Self { layout, book, .. } = self;
        for entry in entries {
            match RowChange::from_entry(entry) {
                Ok(change) => {
                    book.state.fold_in(
                        &layout.schema,
                        Rules::ALL,
                        &|table, row| layout.image(table, row),
                        &change,
                    );
                }
                Err(_) => unreadable += 1,
            }
        }
        unreadable
    }

    /// The next batch: as many edits as it holds.
    fn freeze(&mut self, next: Next) -> Result<(), Error> {
        let mut count = next.entries_max;
        loop {
            let Some(outbox) = self.book.state.freeze(&self.layout.schema, next.id, count) else {
                return Ok(());
            };
            let entries: Vec<ChangeEntry> = outbox.changes.iter().map(RowChange::to_entry).collect();
            match BatchBody::encode_prefix(&entries) {
                Ok((taken, _)) if taken == entries.len() => return Ok(()),
                Ok((taken, _)) => count = taken,
                Err(error) => self.set_aside(&entries, &error)?,
            }
            self.book.state.outbox = None;
        }
    }

    /// A row that no batch can carry stays here. The rows behind it are sent.
    fn set_aside(&mut self, entries: &[ChangeEntry], error: &EncodeError) -> Result<(), Error> {
        let entry = entries.get(error.index).ok_or(Error::Damaged)?;
        let key = key_of_entry(entry);
        self.book.state.unsendable.insert(key, error.to_string());
        Ok(())
    }
}

fn cursor(connection: &Connection) -> Result<Cursor, Error> {
    cursor_of(settings::read(connection, settings::CURSOR)?)
}

pub(crate) fn cursor_of(text: Option<String>) -> Result<Cursor, Error> {
    match text {
        None => Ok(Cursor::START),
        Some(text) => text.parse().map_err(|_| Error::Damaged),
    }
}

fn key_of(change: &RowChange) -> Key {
    Key {
        table: change.table.clone(),
        id: change.id.clone(),
    }
}

fn key_of_entry(entry: &ChangeEntry) -> Key {
    Key {
        table: entry.table.clone(),
        id: RowId::new(entry.row_id.as_str()),
    }
}

fn files_of(row: &Row) -> Vec<FileValue> {
    let files = row.iter().filter_map(|(_, value)| match value {
        Value::File(file) => Some(*file),
        _ => None,
    });
    files.collect()
}

/// The frozen batch with the long values that it names.
fn parcel(work: &Work<'_>) -> Result<Option<Parcel>, Error> {
    let Some(outbox) = work.book.state.outbox.as_ref() else {
        return Ok(None);
    };
    let entries = outbox.changes.iter().map(RowChange::to_entry).collect();
    let rows = outbox.changes.iter().filter_map(|change| change.op.row());
    let hashes: BTreeSet<BlobHash> = rows.flat_map(files_of).map(|file| file.hash).collect();
    for change in outbox
        .changes
        .iter()
        .filter(|change| change.op.row().is_some_and(|row| !files_of(row).is_empty()))
    {
        work.keep_files(&key_of(change))?;
    }
    let mut files = Vec::new();
    for hash in hashes {
        // Bytes that are not here are on the server: the row came from there.
        files.extend(files::read(&work.transaction, hash)?.map(|bytes| (hash, bytes)));
    }
    let parent = cursor(&work.transaction)?;
    Ok(Some(Parcel {
        id: outbox.id,
        parent,
        entries,
        files,
        unsent: work.book.state.unsent.len(),
    }))
}
