//! The sending half of a sync.

use std::collections::BTreeSet;

use synckit_client::{Error as ClientError, ProblemCode, Quota, SyncKitClient};
use synckit_crypto::blob::BlobHash;
use synckit_protocol::limits::BATCH_ENTRIES_MAX;

use crate::{
    database::SyncedDatabase,
    error::Error,
    parcel::{Next, Parcel, Refusal, Refused, key_of_entry},
    replica::Replica,
    report::SyncReport,
    rows::FileValue,
};

/// What one sync has done so far.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) report: SyncReport,
    /// Where in the log the batches begin and end that this device pushed.
    pub(crate) pushed: Vec<(u64, u64)>,
    /// The files that the server has: asked for once.
    pub(crate) stored: BTreeSet<BlobHash>,
    /// The most rows of a batch that is not refused, as far as is known.
    pub(crate) entries_max: usize,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            report: SyncReport::default(),
            pushed: Vec::new(),
            stored: BTreeSet::new(),
            entries_max: BATCH_ENTRIES_MAX as usize,
        }
    }
}

/// What became of a batch.
enum Pushed {
    /// The server has it. The next batch, if that could be frozen already.
    Stored(Option<Parcel>),
    /// Another device was faster.
    Behind(ClientError),
    /// The server refuses it as it is, or one of its files.
    Refused(ClientError, Option<BlobHash>),
    /// One of its files cannot be uploaded now.
    NotSent(ClientError),
}

impl SyncedDatabase {
    /// Whether a batch that is being sent arrived is not known: asked first, so that it is never merged with itself.
    pub(crate) async fn send_again(&self, run: &mut Run) -> Result<(), Error> {
        let Some(parcel) = self.with(Replica::outbox).await? else {
            return Ok(());
        };
        let (id, parent) = (parcel.id, parcel.parent);
        // A refusal may come from a proxy, or before the server looks for the batch, and a file may find its bucket closed. The log
        // tells, so that what comes does not wait.
        if let Pushed::Refused(error, _) | Pushed::NotSent(error) = self.push(parcel, None, run).await? {
            tracing::debug!(%error, "a batch that was sent before is refused");
            let (entries, to, _) = self.0.client.pull(self.device(), parent).await?;
            let (sent, absorbed) = self
                .with(move |replica| replica.find_batch(id, parent, &entries, to))
                .await?;
            run.report.pushed += sent;
            run.report.unreadable += absorbed.unreadable;
            self.tell(absorbed.tables);
        }
        Ok(())
    }

    /// Sends batches. `Some`: another device was faster, and the edits of the last one are unsent again.
    pub(crate) async fn push_all(&self, parcel: Parcel, run: &mut Run) -> Result<Option<ClientError>, Error> {
        let mut next = Some(parcel);
        while let Some(parcel) = next {
            let (id, count) = (parcel.id, parcel.entries.len());
            self.show(run.report.pushed, parcel.unsent.saturating_add(run.report.pushed));
            let alone = parcel.entries.first().filter(|_| count == 1).cloned();
            let after = Next {
                id: SyncKitClient::new_batch_id(),
                entries_max: run.entries_max.saturating_mul(2).min(BATCH_ENTRIES_MAX as usize),
            };
            let (error, file) = match self.push(parcel, Some(after), run).await? {
                Pushed::Stored(more) => {
                    (next, run.entries_max) = (more, after.entries_max);
                    continue;
                }
                Pushed::Behind(error) => return Ok(Some(error)),
                Pushed::Refused(error, file) => (error, file),
                Pushed::NotSent(error) => return Err(error.into()),
            };
            let limit = limit_of(&error);
            let refused = match file {
                Some(file) => Some(Refused::File(file)),
                None => alone.map(|entry| Refused::Row(key_of_entry(&entry))),
            };
            match &refused {
                Some(_) => tracing::warn!(%error, "the server refuses a row"),
                // Half of it, until one row is left.
                None => run.entries_max = (count / 2).max(1),
            }
            let again = Next {
                entries_max: run.entries_max,
                ..after
            };
            let refused = refused.map(|what| Refusal {
                what,
                why: error.to_string(),
                limit,
                stored: run.stored.clone(),
            });
            next = self
                .with(move |replica| replica.freeze_again(id, refused, again))
                .await?;
        }
        Ok(None)
    }

    /// Sends a batch, and freezes the next one.
    async fn push(&self, parcel: Parcel, next: Option<Next>, run: &mut Run) -> Result<Pushed, Error> {
        let Parcel {
            id,
            parent,
            entries,
            files,
            ..
        } = parcel;
        for (hash, file) in files {
            if run.stored.contains(&hash) {
                continue;
            }
            match self.upload(file).await {
                // Files have a way of their own: rows do not wait for it.
                Err(Error::Client(error)) if is_final(&error) || is_slowed(&error) => {
                    return Ok(Pushed::Refused(error, Some(hash)));
                }
                Err(Error::Client(error)) => return Ok(Pushed::NotSent(error)),
                uploaded => uploaded?,
            }
            run.stored.insert(hash);
        }
        let count = entries.len();
        match self.0.client.push_at(self.device(), parent, Some(id), entries).await {
            Ok(cursor) => {
                let more = self.with(move |replica| replica.acknowledge(id, cursor, next)).await?;
                run.report.pushed += count;
                run.pushed.push((parent.seq(), cursor.seq()));
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

    async fn upload(&self, file: FileValue) -> Result<(), Error> {
        let client = &self.0.client;
        match self.with(move |replica| replica.file(file.hash)).await? {
            Some(bytes) => drop(client.blob_put(bytes, |_| {}).await?),
            // The row came from a server: does this one have the file?
            None if self.is_brought_back(file).await => {}
            None => drop(client.blob_download_url(&file.hash).await?),
        }
        Ok(())
    }
}

fn limit_of(error: &ClientError) -> Option<Quota> {
    match error {
        ClientError::QuotaExceeded { quota } => Some(*quota),
        slowed if is_slowed(slowed) => Some(Quota::AppTransfer),
        _ => None,
    }
}

/// Whether the app has moved as much as it may: what is asked for passes later.
pub(crate) fn is_slowed(error: &ClientError) -> bool {
    matches!(error, ClientError::RetryLater { code, .. } if code == ProblemCode::TransferLimit.as_str())
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

/// Whether the same request will be refused again, and another one may not be: what is in it is the cause.
pub(crate) fn is_final(error: &ClientError) -> bool {
    match error {
        // Of a registration, not of the batch.
        ClientError::QuotaExceeded { quota } => *quota != Quota::RevokedDevices,
        ClientError::Encode(_) => true,
        // `blob_put` says so of a file that is too large for every server.
        ClientError::InvalidArgument { argument, .. } => matches!(*argument, "changes" | "source"),
        // A proxy with a limit of its own.
        ClientError::Protocol { status, .. } => *status == 413,
        ClientError::Problem(problem) => matches!(
            problem.known_code(),
            Some(
                ProblemCode::BatchTooLarge
                    | ProblemCode::BodyTooLarge
                    | ProblemCode::BlobNotFound
                    | ProblemCode::BlobTooLarge
                    | ProblemCode::MalformedBody
                    | ProblemCode::InvalidValue
            )
        ),
        _ => false,
    }
}
