//! What the user decides, and what follows from it.
//!
//! A decision is kept in the file until a sync has ended well: so whoever syncs the file next goes on with it, also after a crash.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use synckit_client::{BatchId, Cursor, DeviceId, Error as ClientError, ProblemCode, RejoinEvidence};

use crate::{
    apply::Place,
    database::SyncedDatabase,
    error::Error,
    merge::{Key, Rules},
    replica::{Replica, Work},
    shadow::settings,
    status::{Answer, Question, SyncStatus},
    transfer::cursor_of,
};

/// What the user has agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// To go on with the history of a server that was restored.
    ServerRestored,
    /// To skip a batch that no device can read.
    SkipBatch(BatchId),
}

/// What the file keeps of an agreement to a restored server. No batch has this id.
const SERVER_RESTORED: &str = "restored";

impl SyncedDatabase {
    /// The user's answer to the question of [`SyncStatus::NeedsDecision`]. It takes effect with the next sync, which
    /// [`SyncedDatabase::spawn`] begins at once.
    ///
    /// - [`Question::ServerRestored`]. After a yes, the sync reads the server's history from its start, merges every row and every
    ///   deletion of this device onto it by their times, and sends what the server lacks. No edit is lost. If the backup knows another
    ///   key, [`SyncStatus::NeedsPassword`] follows. After a no, nothing is sent or received.
    /// - [`Question::UnreadableBatch`]. After a yes, the sync skips the batch. After a no, nothing is received.
    /// - [`Question::Deletions`]. After a yes, they are sent. After a no, the rows come back.
    ///
    /// # Errors
    /// [`Error::AnotherQuestion`] if other deletions wait by now than the question was about: nothing is decided then, and
    /// [`SyncedDatabase::status`] has the new question. [`Error::NothingTracked`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn decide(&self, question: &Question, answer: Answer) -> Result<(), Error> {
        let _turn = self.0.turn.lock().await;
        match (question, answer) {
            (shown @ Question::Deletions { .. }, answer) => {
                let shown = shown.clone();
                let decided = self
                    .with(move |replica| replica.decide_deletions(&shown, answer))
                    .await?;
                match decided {
                    Ok(tables) => self.tell(tables),
                    Err(open) => {
                        let status = open.map_or(SyncStatus::New, SyncStatus::NeedsDecision);
                        self.0.status.send_replace(status);
                        self.0.woken.notify_one();
                        return Err(Error::AnotherQuestion);
                    }
                }
            }
            (Question::ServerRestored(_), Answer::Yes) => {
                self.with(|replica| replica.agree(&Agreed::ServerRestored)).await?;
            }
            (Question::UnreadableBatch(batch), Answer::Yes) => {
                let agreed = Agreed::SkipBatch(batch.batch_id);
                self.with(move |replica| replica.agree(&agreed)).await?;
            }
            (_, Answer::No) => return Ok(()),
        }
        self.wake();
        Ok(())
    }

    /// Takes the key of the account with the user's password, after [`SyncStatus::NeedsPassword`]. The next sync goes on, which
    /// [`SyncedDatabase::spawn`] begins at once.
    ///
    /// # Errors
    /// [`Error::Client`] with `InvalidCredentials` for a wrong password, `PasswordWasReset` if the new password does not open the key,
    /// `NoServerKey` if no device has set up encryption yet.
    pub async fn unlock(&self, password: &str) -> Result<(), Error> {
        let _turn = self.0.turn.lock().await;
        let client = &self.0.client;
        match client.setup_encryption_existing(password).await {
            // The user has agreed that the server was restored, from a time before this key.
            Err(error)
                if matches!(Question::of(&error), Some(Question::ServerRestored(_)))
                    && self.agreed().await? == Some(Agreed::ServerRestored) =>
            {
                client.restore_envelope(password).await?;
            }
            Err(error) => {
                if let Some(question) = Question::of(&error) {
                    self.0.status.send_replace(SyncStatus::NeedsDecision(question));
                }
                return Err(error.into());
            }
            Ok(()) => {}
        }
        self.wake();
        Ok(())
    }

    /// The user has answered: a running sync goes on.
    fn wake(&self) {
        self.0.status.send_replace(SyncStatus::New);
        self.0.woken.notify_one();
    }

    async fn agreed(&self) -> Result<Option<Agreed>, Error> {
        self.with(Replica::agreed).await
    }

    /// Does what an error needs, if nobody must be asked. Returns whether the sync is to be tried again.
    pub(crate) async fn resolve(&self, error: &ClientError) -> Result<bool, Error> {
        if matches!(error, ClientError::DeviceRevoked) || error.problem_code() == Some(ProblemCode::DeviceMismatch) {
            return self.become_registered_device().await;
        }
        let (Some(evidence), Some(agreed)) = (error.rejoin_evidence(), self.agreed().await?) else {
            return Ok(false);
        };
        let is_agreed = match &evidence {
            RejoinEvidence::History(_) => agreed == Agreed::ServerRestored,
            RejoinEvidence::Batch(batch) => agreed == Agreed::SkipBatch(batch.batch_id),
            _ => false,
        };
        if !is_agreed {
            return Ok(false);
        }
        let cursor = self.with(Replica::cursor).await?;
        match self.0.client.rejoin(&evidence, cursor).await {
            Err(ClientError::NothingToRejoin) => {}
            rejoined => {
                let rejoined = rejoined?;
                // Otherwise all that the file has read is in the other history as well.
                let is_behind = rejoined.cursor != cursor || matches!(evidence, RejoinEvidence::Batch(_));
                if rejoined.push_all_rows && is_behind {
                    self.with(move |replica| replica.rejoin(rejoined.cursor)).await?;
                }
            }
        }
        Ok(true)
    }

    /// After a revocation, the user signed in again: the SDK has registered this installation as another device.
    async fn become_registered_device(&self) -> Result<bool, Error> {
        let found: Option<DeviceId> = self.0.client.registered_device().await?;
        match found.filter(|found| *found != self.device()) {
            None => Ok(false),
            Some(found) => {
                self.become_device(found);
                Ok(true)
            }
        }
    }
}

impl Replica {
    /// The question about the deletions that wait.
    pub(crate) fn held_deletions(&mut self) -> Result<Option<Question>, Error> {
        let work = self.begin()?;
        let question = question_about(&held(&work));
        work.finish()?;
        Ok(question)
    }

    /// The user's answer about deletions that wait for it: whether they were meant. Returns the tables that changed, or the
    /// question that is open, if it is another one.
    pub(crate) fn decide_deletions(&mut self, shown: &Question, are_meant: Answer) -> Result<Decided, Error> {
        let mut work = self.begin()?;
        let held = held(&work);
        let open = question_about(&held);
        if open.as_ref() != Some(shown) {
            work.finish()?;
            return Ok(Err(open));
        }
        for key in &held {
            work.book.outside.remove(key);
        }
        if are_meant == Answer::Yes {
            work.book.state.delete(&work.layout.schema, &held, work.now);
        }
        work.is_settled = false;
        let tables = work.apply(Place::Between)?;
        work.finish()?;
        Ok(Ok(tables))
    }

    pub(crate) fn cursor(&mut self) -> Result<Cursor, Error> {
        cursor_of(self.fact(settings::CURSOR)?)
    }

    /// Keeps what the user agreed to, until a sync has ended well.
    pub(crate) fn agree(&mut self, agreed: &Agreed) -> Result<(), Error> {
        let work = self.begin()?;
        let text = match agreed {
            Agreed::ServerRestored => SERVER_RESTORED.to_owned(),
            Agreed::SkipBatch(id) => id.to_string(),
        };
        settings::write(&work.transaction, settings::AGREED, text)?;
        work.finish()
    }

    pub(crate) fn agreed(&mut self) -> Result<Option<Agreed>, Error> {
        match self.fact::<String>(settings::AGREED)?.as_deref() {
            None => Ok(None),
            Some(SERVER_RESTORED) => Ok(Some(Agreed::ServerRestored)),
            Some(id) => Ok(Some(Agreed::SkipBatch(id.parse().map_err(|_| Error::Damaged)?))),
        }
    }

    /// The server may lack what this device sent or received: the log is read from its start, and all that is here is merged onto
    /// it. `common`: up to there the log is the one that this device knew.
    pub(crate) fn rejoin(&mut self, common: Cursor) -> Result<(), Error> {
        let mut work = self.begin()?;
        work.book.state.rejoin(Rules::ALL);
        settings::write(&work.transaction, settings::CURSOR, Cursor::START.to_string())?;
        settings::write(&work.transaction, settings::IN_BOTH, common.to_string())?;
        work.clear_files()?;
        work.is_settled = false;
        work.finish()
    }
}

/// The tables that changed, or the question that is open.
type Decided = Result<BTreeSet<String>, Option<Question>>;

fn held(work: &Work<'_>) -> BTreeSet<Key> {
    let outside = work.book.outside.keys();
    outside.filter(|key| work.book.is_held(key)).cloned().collect()
}

fn question_about(held: &BTreeSet<Key>) -> Option<Question> {
    let mut digest = Sha256::new();
    for part in held.iter().flat_map(|key| [key.table.as_str(), key.id.as_str()]) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    (!held.is_empty()).then(|| Question::Deletions {
        count: held.len(),
        digest: digest.finalize().into(),
    })
}
