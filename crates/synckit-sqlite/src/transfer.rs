//! One step of a sync each, in one transaction: a page of the log, a batch to send, its acknowledgement.
//!
//! Invariants: a local edit leaves the outbox only in the transaction that records its acknowledgement or its refusal. The cursor does
//! not move while there is an outbox, but with its acknowledgement: so a batch is not merged with itself, whichever process sent it,
//! but in the two cases of `docs/local-first.md`.

use std::collections::BTreeSet;

use rusqlite::Connection;
use synckit_client::{BatchId, ChangeEntry, Cursor, Quota, UserId};
use synckit_crypto::blob::BlobHash;

use crate::{
    apply::Place,
    capture::unnamed,
    decisions::held,
    error::Error,
    folding::KnownSnapshot,
    merge::{Batch, Key, Rules},
    parcel::{Next, Parcel, key_of},
    replica::{Replica, Work},
    rows::RowChange,
    shadow::{files, settings},
    sweep::Due,
};

/// Entries of the log that came with one answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<ChangeEntry>,
    /// The place after them.
    pub(crate) to: Cursor,
}

/// What pages of the log did.
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
#[derive(Debug, Default, Clone)]
pub(crate) struct Standing {
    pub(crate) conflicts: usize,
    pub(crate) parked: usize,
    pub(crate) held: usize,
    pub(crate) unnamed: usize,
    pub(crate) unsendable: usize,
    /// The limit that keeps rows from being sent.
    pub(crate) limit: Option<Quota>,
    /// How many rows are known, deleted ones included.
    pub(crate) rows: u64,
    /// The newest entry of the log that was read.
    pub(crate) newest: u64,
    /// The newest snapshot that is known of.
    pub(crate) snapshot: KnownSnapshot,
    /// What is due for files that no row named.
    pub(crate) unnamed_files: Vec<Due>,
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

    /// Takes over pages that follow `from`. `None`: another process did so already, or is sending a batch, whose fate must be known
    /// first.
    pub(crate) fn absorb(&mut self, from: Cursor, pages: &[Page], place: Place) -> Result<Option<Absorbed>, Error> {
        let mut work = self.begin()?;
        if cursor(&work.transaction)? != from || work.book.state.outbox.is_some() {
            return Ok(None);
        }
        let (mut unreadable, mut to) = (0, from);
        for page in pages {
            unreadable += work.fold(to, page)?;
            to = page.to;
        }
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
    pub(crate) fn settle(&mut self, next: Next) -> Result<Settled, Error> {
        let mut work = self.begin()?;
        let mut tables = BTreeSet::new();
        if !work.is_settled && work.book.state.outbox.is_none() {
            work.settle()?;
            tables = work.apply(Place::Head)?;
            work.is_settled = true;
        }
        work.freeze(next)?;
        let parcel = work.parcel()?;
        work.finish()?;
        Ok(Settled { parcel, tables })
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
        work.take_back(id, outbox.changes)?;
        settings::write(&work.transaction, settings::CURSOR, cursor.to_string())?;
        work.clear_files()?;
        let parcel = match next.filter(|_| work.is_settled) {
            None => None,
            Some(next) => {
                work.freeze(next)?;
                work.parcel()?
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

    /// Looks for the batch in what follows its parent. It was sealed on exactly that, so it comes first, or is not in the log: then its
    /// edits are unsent again. Returns how many of them were stored.
    pub(crate) fn find_batch(
        &mut self,
        id: BatchId,
        parent: Cursor,
        entries: &[ChangeEntry],
        to: Cursor,
    ) -> Result<(usize, Absorbed), Error> {
        let mut work = self.begin()?;
        let mut absorbed = Absorbed::default();
        let is_same = cursor(&work.transaction)? == parent;
        let Some(outbox) = work.book.state.outbox.take_if(|outbox| is_same && outbox.id == id) else {
            // Another process knows already.
            return Ok((0, absorbed));
        };
        work.is_settled = false;
        let is_sent = |(entry, change): (&ChangeEntry, &RowChange)| {
            RowChange::from_entry(entry).is_ok_and(|found| found == *change)
        };
        let count = outbox.changes.len();
        let (first, others) = entries.split_at(count.min(entries.len()));
        if first.len() < count || !first.iter().zip(&outbox.changes).all(is_sent) {
            work.finish()?;
            return Ok((0, absorbed));
        }
        work.book.state.outbox = Some(outbox.clone());
        work.take_back(id, outbox.changes)?;
        let entries = others.to_vec();
        absorbed.unreadable = work.fold(to, &Page { entries, to })?;
        absorbed.tables = work.apply(Place::Between)?;
        settings::write(&work.transaction, settings::CURSOR, to.to_string())?;
        work.clear_files()?;
        work.finish()?;
        Ok((count, absorbed))
    }

    /// Keeps a long value, which rows wait for.
    pub(crate) fn take_file(&mut self, hash: BlobHash, bytes: &[u8]) -> Result<(), Error> {
        let mut work = self.begin()?;
        files::write(&work.transaction, hash, bytes)?;
        work.is_settled = false;
        work.finish()
    }

    /// Tries again to put rows into their tables.
    pub(crate) fn place_rows(&mut self) -> Result<BTreeSet<String>, Error> {
        let mut work = self.begin()?;
        let tables = work.apply(Place::Between)?;
        work.finish()?;
        Ok(tables)
    }

    /// A sync got to its end, though perhaps not with all files: what the user agreed to has been done.
    pub(crate) fn conclude(&mut self) -> Result<Standing, Error> {
        let snapshot = self.snapshot()?;
        let work = self.begin()?;
        settings::clear(&work.transaction, settings::RESTORED)?;
        settings::clear(&work.transaction, settings::SKIPPED)?;
        let conflicts = work
            .transaction
            .query_row("SELECT count(*) FROM synckit_conflicts", [], |row| row.get::<_, i64>(0))?;
        let held = held(&work).len();
        let standing = Standing {
            conflicts: usize::try_from(conflicts).unwrap_or(usize::MAX),
            parked: work.book.outside.len() - held,
            held,
            unnamed: unnamed(&work.transaction, &work.layout)?,
            unsendable: work.book.state.unsendable.len() + work.book.state.kept_back(&work.layout.schema).len(),
            limit: work.limit(),
            rows: work.book.state.fold.len() as u64,
            newest: cursor(&work.transaction)?.seq(),
            snapshot,
            unnamed_files: work.unnamed_files()?,
        };
        work.clear_files()?;
        work.finish()?;
        Ok(standing)
    }
}

impl Work<'_> {
    /// The log has this batch of this device: it leaves the outbox, and is taken into the fold.
    fn take_back(&mut self, id: BatchId, changes: Vec<RowChange>) -> Result<(), Error> {
        self.note_unnamed(&changes)?;
        let keys: Vec<Key> = changes.iter().map(key_of).collect();
        let Work { layout, book, .. } = self;
        book.state.read(
            &layout.schema,
            Rules::ALL,
            &|table, row| layout.image(table, row),
            &Batch { id, changes },
        );
        self.look_again(keys);
        Ok(())
    }

    /// Puts entries on top of the fold. Returns how many are no rows.
    fn fold(&mut self, from: Cursor, page: &Page) -> Result<usize, Error> {
        let mut unreadable = 0;
        let in_both = cursor_of(settings::read(&self.transaction, settings::IN_BOTH)?)?.seq();
        let last = page.to.snapshot().map_or(page.to.seq(), |place| place.position.seq);
        // Else they are of a snapshot, or some are skipped, and nobody knows where the others are.
        let are_counted = last.checked_sub(from.seq()) == u64::try_from(page.entries.len()).ok();
        let Self { layout, book, .. } = self;
        for (seq, entry) in (from.seq().saturating_add(1)..).zip(&page.entries) {
            match RowChange::from_entry(entry) {
                Ok(change) => {
                    if last <= in_both || are_counted && seq <= in_both {
                        book.state.note_in_both(&key_of(&change), change.time);
                    }
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
        Ok(unreadable)
    }
}

pub(crate) fn cursor(connection: &Connection) -> Result<Cursor, Error> {
    cursor_of(settings::read(connection, settings::CURSOR)?)
}

pub(crate) fn cursor_of(text: Option<String>) -> Result<Cursor, Error> {
    match text {
        None => Ok(Cursor::START),
        Some(text) => text.parse().map_err(|_| Error::Damaged),
    }
}
