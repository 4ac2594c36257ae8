//! The sending half of a sync.

use std::{
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use synckit_client::{Error as ClientError, ProblemCode, Quota, SyncKitClient};
use synckit_crypto::blob::BlobHash;
use synckit_protocol::limits::BATCH_ENTRIES_MAX;

use crate::{
    database::SyncedDatabase,
    error::Error,
    replica::Replica,
    report::SyncReport,
    transfer::{Next, Parcel, Refused},
};

/// What became of a batch.
enum Pushed {
    /// The server has it. The next batch, if that could be frozen already.
    Stored(Option<Parcel>),
    /// Another device was faster.
    Behind(ClientError),
    /// The server does not have it, and will not take it as it is; or it does not take one of its files.
    Refused(ClientError, Option<BlobHash>),
}

/// How long a row that the server refused is not sent again, unless it is edited or the file is opened anew.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

impl SyncedDatabase {
    /// Rows that were refused may be taken now.
    pub(crate) async fn ask_again(&self) -> Result<(), Error> {
        let is_due = self
            .refusals()
            .is_some_and(|(since, _)| since.elapsed() >= REFUSED_PAUSE);
        if is_due {
            *self.refusals() = None;
            self.with(Replica::ask_again).await?;
        }
        Ok(())
    }

    /// The limit that keeps rows from being sent.
    pub(crate) fn limit(&self) -> Option<Quota> {
        self.refusals().and_then(|(_, quota)| quota)
    }

    fn note_refusal(&self, error: &ClientError) {
        let quota = match error {
            ClientError::QuotaExceeded { quota } => Some(*quota),
            _ => self.limit(),
        };
        *self.refusals() = Some((Instant::now(), quota));
    }

    fn refusals(&self) -> MutexGuard<'_, Option<(Instant, Option<Quota>)>> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a batch that is being sent arrived is not known: asked first, so that it is never merged with itself.
    pub(crate) async fn send_again(&self, report: &mut SyncReport) -> Result<(), Error> {
        let Some(parcel) = self.with(Replica::outbox).await? else {
            return Ok(());
        };
        let id = parcel.id;
        if let Pushed::Refused(..) = self.push(parcel, None, report).await? {
            // What is in it is unsent again. The cause is found when it is sent next.
            self.with(move |replica| replica.refuse(id)).await?;
        }
        Ok(())
    }

    /// Sends batches. `Some`: another device was faster, or the account is at a limit, and the edits of the last one are unsent
    /// again.
    pub(crate) async fn push_all(&self, parcel: Parcel, report: &mut SyncReport) -> Result<Option<ClientError>, Error> {
        let mut entries_max = BATCH_ENTRIES_MAX as usize;
        let mut next = Some(parcel);
        while let Some(parcel) = next {
            let (id, count) = (parcel.id, parcel.entries.len());
            self.show(report.pushed, parcel.unsent.saturating_add(report.pushed));
            let alone = parcel.entries.first().filter(|_| count == 1).map(Refused::row);
            let after = Next {
                id: SyncKitClient::new_batch_id(),
                entries_max: entries_max.saturating_mul(2).min(BATCH_ENTRIES_MAX as usize),
            };
            let refused = match self.push(parcel, Some(after), report).await? {
                Pushed::Stored(more) => {
                    (next, entries_max) = (more, after.entries_max);
                    continue;
                }
                Pushed::Behind(error) => return Ok(Some(error)),
                Pushed::Refused(error @ ClientError::QuotaExceeded { .. }, None) => {
                    self.with(move |replica| replica.refuse(id)).await?;
                    return Ok(Some(error));
                }
                Pushed::Refused(error, file) => {
                    let refused = file.map(Refused::File).or(alone);
                    if refused.is_some() {
                        tracing::warn!(%error, "the server refuses a row");
                        self.note_refusal(&error);
                    }
                    refused.map(|refused| (refused, error.to_string()))
                }
            };
            // Half of it, until one row is left.
            entries_max = if refused.is_some() {
                entries_max
            } else {
                (count / 2).max(1)
            };
            let again = Next { entries_max, ..after };
            next = self
                .with(move |replica| replica.freeze_again(id, refused, again))
                .await?;
        }
        Ok(None)
    }

    /// Sends a batch, and freezes the next one.
    async fn push(&self, parcel: Parcel, next: Option<Next>, report: &mut SyncReport) -> Result<Pushed, Error> {
        let Parcel {
            id,
            parent,
            entries,
            files,
            ..
        } = parcel;
        for (hash, bytes) in files {
            match self.0.client.blob_put(bytes, |_| {}).await {
                Err(error) if is_final(&error) => return Ok(Pushed::Refused(error, Some(hash))),
                put => drop(put?),
            }
        }
        let count = entries.len();
        match self.0.client.push_at(self.device(), parent, Some(id), entries).await {
            Ok(cursor) => {
                let more = self.with(move |replica| replica.acknowledge(id, cursor, next)).await?;
                report.pushed += count;
                Ok(Pushed::Stored(more))
            }
            Err(failed) => match failed.source {
                behind if is_behind(&behind) => {
                    self.with(move |replica| replica.refuse(id)).await?;
                    Ok(Pushed::Behind(behind))
                }
                refused if is_final(&refused) => Ok(Pushed::Refused(refused, None)),
                other => Err(other.into()),
            },
        }
    }
}

/// Whether the batch has to be made anew, after a pull.
fn is_behind(error: &ClientError) -> bool {
    match error {
        ClientError::Behind { .. } => true,
        // The user has decided to skip a batch with this id.
        ClientError::InvalidArgument { argument, .. } => *argument == "batch_id",
        // Only a snapshot has the batch: nobody can tell any more whether it arrived.
        other => other.problem_code() == Some(ProblemCode::CursorCompacted),
    }
}

/// Whether a batch or a file is not stored, and the same request will be refused again. The server looks for an earlier answer to the
/// same batch before it refuses one.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::QuotaExceeded { .. } | ClientError::Encode(_) => true,
        // `blob_put` says so of a file that is too large for every server.
        ClientError::InvalidArgument { argument, .. } => matches!(*argument, "changes" | "source"),
        // A proxy with a limit of its own.
        ClientError::Protocol { status, .. } => *status == 413,
        ClientError::Problem(problem) => matches!(
            problem.known_code(),
            Some(
                ProblemCode::BatchTooLarge
                    | ProblemCode::BodyTooLarge
                    | ProblemCode::BlobTooLarge
                    | ProblemCode::MalformedBody
                    | ProblemCode::InvalidValue
            )
        ),
        _ => false,
    }
}
