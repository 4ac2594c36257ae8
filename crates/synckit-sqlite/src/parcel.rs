//! The batch that is being sent, with the long values that it names, and what the server does not take.

use std::collections::{BTreeMap, BTreeSet};

use synckit_client::{BatchId, ChangeEntry, Cursor, Quota};
use synckit_crypto::{
    batch::{BatchBody, EncodeError},
    blob::BlobHash,
};

use crate::{
    error::Error,
    merge::Key,
    replica::{Replica, Work},
    rows::{FileValue, Row, RowChange, RowId, Value},
    shadow::files,
    transfer::cursor,
};

/// The long values of a batch have no more bytes, unless one alone has: they are copied when the batch is frozen.
const FILES_BYTES_MAX: u64 = 32 << 20;

/// A batch to send.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) id: BatchId,
    pub(crate) parent: Cursor,
    pub(crate) entries: Vec<ChangeEntry>,
    /// Long values, which are uploaded first.
    pub(crate) files: BTreeMap<BlobHash, FileValue>,
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

/// What the server does not take, and why.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) what: Refused,
    pub(crate) why: String,
    /// The account has no room for it, and so for nothing that needs as much.
    pub(crate) limit: Option<Quota>,
    /// The files that need no room.
    pub(crate) stored: BTreeSet<BlobHash>,
}

impl Refusal {
    /// How much room what is refused needs: nothing that needs less is refused with it.
    fn least(&self, sent: &BTreeMap<Key, Option<&Row>>) -> u64 {
        match (&self.what, self.limit) {
            (Refused::Row(key), _) => size_of(sent.get(key).copied().flatten()),
            (Refused::File(hash), Some(Quota::Bytes | Quota::UserStorage | Quota::AppStorage)) => {
                let mut files = sent.values().flatten().flat_map(|row| files_of(row));
                let refused = files.find(|file| file.hash == *hash);
                refused.map_or(0, |file| file.size_bytes)
            }
            (Refused::File(_), _) => 0,
        }
    }

    fn is_about(&self, key: &Key, row: Option<&Row>, logged: Option<&Row>, least: u64) -> bool {
        let mut files = row.into_iter().flat_map(files_of);
        match (&self.what, self.limit) {
            (Refused::Row(refused), None) => key == refused,
            (Refused::Row(_), Some(_)) => size_of(row) >= least,
            (Refused::File(refused), None) => files.any(|file| file.hash == *refused),
            (Refused::File(_), Some(_)) => {
                let known: BTreeSet<BlobHash> = logged.into_iter().flat_map(files_of).map(|file| file.hash).collect();
                let is_new = |file: &FileValue| !self.stored.contains(&file.hash) && !known.contains(&file.hash);
                files.any(|file| file.size_bytes >= least && is_new(&file))
            }
        }
    }
}

impl Replica {
    /// The batch that is being sent.
    pub(crate) fn outbox(&mut self) -> Result<Option<Parcel>, Error> {
        let work = self.begin()?;
        let parcel = work.parcel()?;
        work.finish()?;
        Ok(parcel)
    }

    /// The server does not have the batch, and refuses it: its edits are unsent again, those of what it refused for good stay here,
    /// and the next batch is frozen, unless something else happened meanwhile.
    pub(crate) fn freeze_again(
        &mut self,
        id: BatchId,
        refused: Option<Refusal>,
        next: Next,
    ) -> Result<Option<Parcel>, Error> {
        let mut work = self.begin()?;
        let Some(outbox) = work.book.state.outbox.take_if(|outbox| outbox.id == id) else {
            return Ok(None);
        };
        if let Some(refused) = refused {
            work.set_aside(&outbox.changes, &refused);
        }
        let parcel = match work.is_settled {
            false => None,
            true => {
                work.freeze(next)?;
                work.parcel()?
            }
        };
        work.finish()?;
        Ok(parcel)
    }

    /// The bytes of a long value that is sent.
    pub(crate) fn file(&mut self, hash: BlobHash) -> Result<Option<Vec<u8>>, Error> {
        let work = self.begin()?;
        let bytes = files::read(&work.transaction, hash)?;
        work.finish()?;
        Ok(bytes)
    }

    /// Rows for which the account had no room are sent again.
    pub(crate) fn ask_for_room(&mut self) -> Result<(), Error> {
        if self.limits.is_empty() {
            return Ok(());
        }
        let mut work = self.begin()?;
        for (key, _) in std::mem::take(work.limits) {
            work.book.state.unsendable.remove(&key);
        }
        work.finish()
    }

    /// Rows that were refused are sent again.
    pub(crate) fn ask_again(&mut self) -> Result<(), Error> {
        let mut work = self.begin()?;
        work.book.state.unsendable.clear();
        work.finish()
    }

    /// The long values that rows wait for.
    pub(crate) fn wanted_files(&mut self) -> Result<BTreeMap<BlobHash, FileValue>, Error> {
        let work = self.begin()?;
        let outside = work.book.outside.keys().filter(|key| !work.book.is_held(key));
        let mut wanted = BTreeMap::new();
        for file in work.files_of_rows(outside) {
            if !files::has(&work.transaction, file.hash)? {
                wanted.insert(file.hash, file);
            }
        }
        work.finish()?;
        Ok(wanted)
    }
}

impl Work<'_> {
    /// The next batch: as many edits as it holds.
    pub(crate) fn freeze(&mut self, next: Next) -> Result<(), Error> {
        let mut count = next.entries_max;
        loop {
            let Some(outbox) = self.book.state.freeze(&self.layout.schema, next.id, count) else {
                return Ok(());
            };
            let entries: Vec<ChangeEntry> = outbox.changes.iter().map(RowChange::to_entry).collect();
            let fitting = with_files_that_fit(&outbox.changes);
            match BatchBody::encode_prefix(&entries) {
                Ok((taken, _)) if taken.min(fitting) == entries.len() => return Ok(()),
                Ok((taken, _)) => count = taken.min(fitting),
                Err(error) => self.set_aside_too_large(&entries, &error)?,
            }
            self.book.state.outbox = None;
        }
    }

    /// The frozen batch. The long values that it names are kept until it is stored.
    pub(crate) fn parcel(&self) -> Result<Option<Parcel>, Error> {
        let Some(outbox) = self.book.state.outbox.as_ref() else {
            return Ok(None);
        };
        let mut all = BTreeMap::new();
        for change in &outbox.changes {
            let named: Vec<FileValue> = change.op.row().into_iter().flat_map(files_of).collect();
            for file in &named {
                // What is nowhere here was never here: the row came from a server.
                if !files::has(&self.transaction, file.hash)? {
                    self.keep_files(&key_of(change))?;
                }
            }
            all.extend(named.into_iter().map(|file| (file.hash, file)));
        }
        Ok(Some(Parcel {
            id: outbox.id,
            parent: cursor(&self.transaction)?,
            entries: outbox.changes.iter().map(RowChange::to_entry).collect(),
            files: all,
            unsent: self.book.state.unsent.len(),
        }))
    }

    /// What the server refused stays here, unless it was edited since.
    fn set_aside(&mut self, sent: &[RowChange], refused: &Refusal) {
        let sent: BTreeMap<Key, Option<&Row>> = sent.iter().map(|change| (key_of(change), change.op.row())).collect();
        let least = refused.least(&sent);
        let state = &mut self.book.state;
        let mut keys = Vec::new();
        for (key, unsent) in state.unsent.iter() {
            let row = unsent.row.as_ref();
            let logged = state.fold.get(key).and_then(|folded| folded.row.as_ref());
            let is_sent = sent.get(key).is_some_and(|sent| *sent == row);
            // Where there is no room, there is none for the rows of the next batches either.
            if (is_sent || refused.limit.is_some()) && refused.is_about(key, row, logged, least) {
                keys.push(key.clone());
            }
        }
        for key in keys {
            match refused.limit {
                Some(limit) => self.limits.insert(key.clone(), limit),
                None => self.limits.remove(&key),
            };
            state.unsendable.insert(key, refused.why.clone());
        }
    }

    /// A row that no batch can carry stays here. The rows behind it are sent.
    fn set_aside_too_large(&mut self, entries: &[ChangeEntry], error: &EncodeError) -> Result<(), Error> {
        let entry = entries.get(error.index).ok_or(Error::Damaged)?;
        let key = key_of_entry(entry);
        self.limits.remove(&key);
        self.book.state.unsendable.insert(key, error.to_string());
        Ok(())
    }

    /// The limit that keeps a row here.
    pub(crate) fn limit(&self) -> Option<Quota> {
        let mut keys = self.book.state.unsendable.keys();
        keys.find_map(|key| self.limits.get(key).copied())
    }

    fn files_of_rows<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> impl Iterator<Item = FileValue> {
        let rows = keys.filter_map(|key| self.book.state.current(key));
        rows.flat_map(files_of)
    }

    /// Forgets the long values that no row waits for, that are not being sent, and that did not lose.
    pub(crate) fn clear_files(&self) -> Result<(), Error> {
        let waiting = self.files_of_rows(self.book.outside.keys());
        let mut kept: BTreeSet<BlobHash> = waiting.map(|file| file.hash).collect();
        let sent = self.book.state.outbox.iter().flat_map(|outbox| &outbox.changes);
        let sent = sent.filter_map(|change| change.op.row()).flat_map(files_of);
        kept.extend(sent.map(|file| file.hash));
        files::clear(&self.transaction, &kept)
    }
}

/// How many of these changes have long values that are not too many for one batch.
fn with_files_that_fit(changes: &[RowChange]) -> usize {
    let mut bytes = 0_u64;
    let fits = |change: &&RowChange| {
        let files = change.op.row().into_iter().flat_map(files_of);
        let before = bytes;
        bytes = files.fold(bytes, |sum, file| sum.saturating_add(file.size_bytes));
        before == 0 || bytes == before || bytes <= FILES_BYTES_MAX
    };
    changes.iter().take_while(fits).count()
}

/// What a row adds to a batch, roughly.
fn size_of(row: Option<&Row>) -> u64 {
    row.map_or(0, |row| row.to_json().to_string().len() as u64)
}

pub(crate) fn files_of(row: &Row) -> impl Iterator<Item = FileValue> + '_ {
    row.iter().filter_map(|(_, value)| match value {
        Value::File(file) => Some(*file),
        _ => None,
    })
}

pub(crate) fn key_of(change: &RowChange) -> Key {
    Key {
        table: change.table.clone(),
        id: change.id.clone(),
    }
}

pub(crate) fn key_of_entry(entry: &ChangeEntry) -> Key {
    Key {
        table: entry.table.clone(),
        id: RowId::new(entry.row_id.as_str()),
    }
}
