//! One sync: everything that is here goes to the server, and everything that is there comes here.
//!
//! A request that fails for a passing reason ends the sync, and the next one goes on. A refusal that is final never holds up what
//! is behind it: the batch is taken apart until the rows are found that the server does not take.

use synckit_client::{Cursor, Error as ClientError, SyncKitClient, UserId};
use tokio::time::Instant;

use crate::{
    apply::Place, attempt::Attempt, database::SyncedDatabase, error::Error, parcel::Next, push::Run, replica::Replica,
    report::SyncReport, status::SyncStatus, transfer::Page,
};

/// How often one call of [`SyncedDatabase::sync`] merges again because other devices were faster.
const ROUNDS_MAX: usize = 100;
/// How often one call resolves a failure by itself: another device id, a history that the user has agreed to.
const RESOLVED_MAX: usize = 4;
/// How often one call syncs again because there may be room now: another device had folded, and this one does.
const FOLDS_MAX: usize = 2;
/// Of the known rows, one in so many is taken over in one transaction during a long pull, at least [`BUNDLE_MIN`]: each
/// transaction looks at all rows, so that their number must not grow with the log.
const BUNDLE_ONE_IN: usize = 2;
/// The smallest number of entries that a pull takes over at once, if so many follow.
const BUNDLE_MIN: usize = 500;

/// A sync that got to its end.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) report: SyncReport,
    /// What holds up a part of it.
    pub(crate) left: Option<Error>,
}

impl Done {
    fn result(self) -> Result<SyncReport, Error> {
        match self.left {
            Some(error) => Err(error),
            None => Ok(self.report),
        }
    }
}

impl SyncedDatabase {
    /// Sends what the app changed, and takes over what other devices changed, until nothing is left to do. What the account had no
    /// room for is tried again at once.
    ///
    /// It can be cancelled or killed at any moment: the next one goes on. Now and then it also compacts the log, after all else is done.
    ///
    /// # Errors
    /// [`Error::Client`] if the server cannot be reached, or with what the user has to do, which [`SyncedDatabase::status`] tells;
    /// [`Error::NothingTracked`], [`Error::OtherUser`], [`Error::KeyChanged`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn sync(&self) -> Result<SyncReport, Error> {
        self.with(Replica::ask_for_room).await?;
        let mut done = self.sync_in_turn().await;
        for _ in 0..FOLDS_MAX {
            if !self.fold_if_due().await {
                break;
            }
            let before = done;
            done = self.sync_in_turn().await;
            if let (Ok(done), Ok(before)) = (&mut done, before) {
                done.report.add(before.report);
            }
        }
        done?.result()
    }

    /// What was refused is tried again after a pause.
    pub(crate) async fn sync_quietly(&self) -> Result<SyncReport, Error> {
        self.sync_in_turn().await?.result()
    }

    async fn sync_in_turn(&self) -> Result<Done, Error> {
        let _turn = self.0.turn.lock().await;
        let attempt = Attempt::begin(self);
        let done = self.sync_and_resolve().await;
        let status = self.status_after(&done, attempt.before()).await;
        attempt.end(status);
        done
    }

    async fn sync_and_resolve(&self) -> Result<Done, Error> {
        let mut failed = self.sync_once().await;
        for _ in 0..RESOLVED_MAX {
            let error = match failed {
                Err(Error::Client(error)) => error,
                done => return done,
            };
            failed = match self.resolve(&error).await {
                Ok(true) => self.sync_once().await,
                Ok(false) => return Err(error.into()),
                Err(next) => Err(next),
            };
        }
        failed
    }

    async fn sync_once(&self) -> Result<Done, Error> {
        let mut run = Run::default();
        let user = self.0.client.user_id().ok_or(ClientError::NotSignedIn)?;
        self.with(move |replica| replica.belong_to(user)).await?;
        self.finish_skip().await?;
        if self.pause().is_over(Instant::now()) {
            self.with(Replica::ask_again).await?;
        }
        self.send_again(&mut run).await?;
        let mut rounds = 0..ROUNDS_MAX;
        let unfinished = loop {
            self.pull(user, &mut run).await?;
            let next = Next {
                id: SyncKitClient::new_batch_id(),
                entries_max: run.entries_max,
            };
            let settled = self.with(move |replica| replica.settle(next)).await?;
            self.tell(settled.tables);
            let behind = match settled.parcel {
                None => break None,
                // Another process of this device froze it, and may have sent it.
                Some(parcel) if parcel.id != next.id => {
                    self.send_again(&mut run).await?;
                    None
                }
                Some(parcel) => self.push_all(parcel, &mut run).await?,
            };
            if rounds.next().is_none() {
                break Some(behind.map_or(Error::Unfinished, Error::Client));
            }
        };
        let (downloaded, uploaded) = (self.download().await, self.upload_again(&mut run).await);
        let (standing, mut report) = (self.with(Replica::conclude).await?, run.report);
        if let Err(error) = self.look_at_log(&run.pushed, &standing).await {
            tracing::debug!(%error, "whether the log is to be folded is not known");
        }
        let swept = self.sweep(standing.unnamed_files).await;
        self.pause().note(standing.unsendable > 0, Instant::now());
        (report.parked, report.held_deletions, report.conflicts) = (standing.parked, standing.held, standing.conflicts);
        (report.unnamed, report.unsendable) = (standing.unnamed, standing.unsendable);
        let left = match (unfinished, standing.limit) {
            (Some(error), _) => Some(error),
            (None, Some(quota)) => Some(ClientError::QuotaExceeded { quota }.into()),
            (None, None) => downloaded.and(uploaded).and(swept).err(),
        };
        Ok(Done { report, left })
    }

    /// Reads the log to its head.
    async fn pull(&self, user: UserId, run: &mut Run) -> Result<(), Error> {
        let mut from = self.with(move |replica| replica.belong_to(user)).await?;
        let (mut pages, mut waiting, mut at, mut bundle) = (Vec::new(), 0, from, BUNDLE_MIN);
        let (mut pulled, mut of) = (0, None);
        loop {
            let (entries, to, has_more) = self.0.client.pull(self.device(), at).await?;
            pulled += entries.len();
            waiting += entries.len();
            if has_more && of.is_none() {
                of = Some(self.entries_after(from).await);
            }
            if pulled > 0 {
                let of = of.unwrap_or_default().max(pulled);
                self.show(pulled, of);
            }
            pages.push(Page { entries, to });
            at = to;
            if has_more && waiting < bundle {
                continue;
            }
            let (count, taken) = (std::mem::take(&mut waiting), std::mem::take(&mut pages));
            let place = if has_more { Place::Between } else { Place::Head };
            let absorbed = self.absorb((from, at), taken, place, run).await?;
            match absorbed {
                Some(rows) => {
                    run.report.pulled += count;
                    bundle = BUNDLE_MIN.max(rows / BUNDLE_ONE_IN);
                    from = at;
                    if !has_more {
                        return Ok(());
                    }
                }
                // Another process of this device was faster, or is sending.
                None => {
                    self.send_again(run).await?;
                    from = self.with(move |replica| replica.belong_to(user)).await?;
                    at = from;
                }
            }
        }
    }

    /// How many entries follow a cursor, as the server says: for display only.
    async fn entries_after(&self, cursor: Cursor) -> usize {
        let status = self.0.client.status().await;
        let after = status.map_or(0, |status| status.change_count.saturating_sub(cursor.seq()));
        usize::try_from(after).unwrap_or(usize::MAX)
    }

    /// Returns how many rows are known.
    async fn absorb(
        &self,
        (from, to): (Cursor, Cursor),
        pages: Vec<Page>,
        place: Place,
        run: &mut Run,
    ) -> Result<Option<usize>, Error> {
        if from == to && pages.iter().all(|page| page.entries.is_empty()) {
            return Ok(Some(0));
        }
        let Some(absorbed) = self.with(move |replica| replica.absorb(from, &pages, place)).await? else {
            return Ok(None);
        };
        run.report.unreadable += absorbed.unreadable;
        self.tell(absorbed.tables);
        Ok(Some(absorbed.rows))
    }

    pub(crate) fn show(&self, done: usize, of: usize) {
        let of = Some(of);
        self.0.status.send_replace(SyncStatus::Syncing { done, of });
    }
}
