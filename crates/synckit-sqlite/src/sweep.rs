//! Files that no row names any more are deleted from the server, so that it has room again.
//!
//! The device does so by whose edit a file lost its last row, some time later: other devices may be about to send rows that name the
//! file. The server keeps deleted files for 30 days, and who wants one brings it back.
//!
//! A row that names the file may arrive while it is deleted, and devices that have the bytes will not ask for them. So the device that
//! deleted a file looks once more, as long again, and brings it back if a row names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use synckit_client::{Error as ClientError, ProblemCode};
use synckit_crypto::blob::BlobHash;

use crate::{
    database::SyncedDatabase,
    error::Error,
    parcel::{files_of, key_of},
    replica::{Replica, Work},
    rows::{FileValue, RowChange},
};

/// So long after the edit, and again after the deletion.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What is due for a file that an edit of this device took away from a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    /// No row names it.
    Delete(BlobHash),
    /// It was deleted, and a row names it.
    BringBack(FileValue),
}

impl SyncedDatabase {
    pub(crate) async fn sweep(&self, due: Vec<Due>) -> Result<(), Error> {
        for due in due {
            match due {
                Due::Delete(hash) => {
                    match self.0.client.blob_delete(&hash).await {
                        Err(error) if error.problem_code() != Some(ProblemCode::BlobNotFound) => {
                            return Err(ClientError::into(error));
                        }
                        _ => {}
                    }
                    self.with(move |replica| replica.note_deleted(hash)).await?;
                }
                // If not, the next sync tries again.
                Due::BringBack(file) => {
                    if self.is_brought_back(file).await {
                        self.with(move |replica| replica.forget_unnamed(file.hash)).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Replica {
    fn note_deleted(&mut self, hash: BlobHash) -> Result<(), Error> {
        let work = self.begin()?;
        work.note_unnamed_file(hash, true)?;
        work.finish()
    }

    fn forget_unnamed(&mut self, hash: BlobHash) -> Result<(), Error> {
        let work = self.begin()?;
        work.forget_unnamed(hash)?;
        work.finish()
    }
}

impl Work<'_> {
    /// Notes the files that an edit of this device takes away from rows.
    pub(crate) fn note_unnamed(&self, changes: &[RowChange]) -> Result<(), Error> {
        for change in changes {
            let before = self.book.state.fold.get(&key_of(change));
            let kept: BTreeSet<BlobHash> = change
                .op
                .row()
                .into_iter()
                .flat_map(files_of)
                .map(|file| file.hash)
                .collect();
            let named = before
                .and_then(|before| before.row.as_ref())
                .into_iter()
                .flat_map(files_of);
            for file in named.filter(|file| !kept.contains(&file.hash)) {
                self.note_unnamed_file(file.hash, false)?;
            }
        }
        Ok(())
    }

    fn note_unnamed_file(&self, hash: BlobHash, is_deleted: bool) -> Result<(), Error> {
        let sql = "INSERT OR REPLACE INTO synckit_unnamed (hash, since, deleted) VALUES (?1, ?2, ?3)";
        let mut note = self.transaction.prepare_cached(sql)?;
        note.execute((hash.to_string(), self.now.as_micros(), is_deleted))?;
        Ok(())
    }

    /// What is due for the files that no row named some time ago.
    pub(crate) fn unnamed_files(&self) -> Result<Vec<Due>, Error> {
        let last = self
            .now
            .as_micros()
            .saturating_sub(i64::try_from(SWEEP_AFTER.as_micros()).unwrap_or(i64::MAX));
        let mut select = self
            .transaction
            .prepare_cached("SELECT hash, deleted FROM synckit_unnamed WHERE since <= ?1")?;
        let found = select.query_map([last], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found: Vec<(String, bool)> = found.collect::<Result<_, _>>()?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let state = &self.book.state;
        let logged = state.fold.values().filter_map(|folded| folded.row.as_ref());
        let edited = state.unsent.values().filter_map(|unsent| unsent.row.as_ref());
        let named = logged.chain(edited).flat_map(files_of).map(|file| (file.hash, file));
        let named: BTreeMap<BlobHash, FileValue> = named.collect();
        let mut due = Vec::new();
        for (hash, is_deleted) in found {
            let hash: BlobHash = hash.parse().map_err(|_| Error::Damaged)?;
            match (named.get(&hash), is_deleted) {
                (None, false) => due.push(Due::Delete(hash)),
                (Some(file), true) => due.push(Due::BringBack(*file)),
                (Some(_), false) | (None, true) => self.forget_unnamed(hash)?,
            }
        }
        Ok(due)
    }

    fn forget_unnamed(&self, hash: BlobHash) -> Result<(), Error> {
        let sql = "DELETE FROM synckit_unnamed WHERE hash = ?1";
        self.transaction.prepare_cached(sql)?.execute([hash.to_string()])?;
        Ok(())
    }
}
