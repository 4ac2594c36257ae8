//! What the user decides, and what follows from it.
//!
//! The file keeps a decision until it is done. After a crash, or in another process, the next sync of the file goes on with it. The same
//! transaction ends the decision and writes down what is left to do.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use synckit_client::{BatchEvidence, Cursor, DeviceId, Error as ClientError, ProblemCode, RejoinEvidence, Rejoined};

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
                self.note(settings::RESTORED, Some(String::new())).await?;
            }
            (Question::UnreadableBatch(batch), Answer::Yes) => {
                self.note(settings::SKIPPED, Some(name_of(batch))).await?;
            }
            (Question::ServerRestored(_), Answer::No) => return self.note(settings::RESTORED, None).await,
            (Question::UnreadableBatch(_), Answer::No) => return self.note(settings::SKIPPED, None).await,
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
                    && self.fact(settings::RESTORED).await?.is_some() =>
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

    pub(crate) async fn fact(&self, name: &'static str) -> Result<Option<String>, Error> {
        self.with(move |replica| replica.fact(name)).await
    }

    pub(crate) async fn note(&self, name: &'static str, fact: Option<String>) -> Result<(), Error> {
        self.with(move |replica| replica.note(name, fact.as_deref())).await
    }

    /// Does what an error needs, if nobody must be asked. Returns whether the sync is to be tried again.
    ///
    /// # Errors
    /// [`Error::Client`] with what is in the way, which the user may have decided as well.
    pub(crate) async fn resolve(&self, error: &ClientError) -> Result<bool, Error> {
        if matches!(error, ClientError::DeviceRevoked) || error.problem_code() == Some(ProblemCode::DeviceMismatch) {
            return self.become_registered_device().await;
        }
        match error.rejoin_evidence() {
            Some(evidence @ RejoinEvidence::History(_)) => {
                let is_agreed = self.fact(settings::RESTORED).await?.is_some() || self.is_on_another_history().await?;
                if is_agreed {
                    self.go_over(&evidence).await?;
                }
                Ok(is_agreed)
            }
            Some(RejoinEvidence::Batch(batch)) => {
                let is_agreed = self.fact(settings::SKIPPED).await? == Some(name_of(&batch));
                if is_agreed {
                    self.skip(batch).await?;
                }
                Ok(is_agreed)
            }
            _ => Ok(false),
        }
    }

    /// Whether another process took the file over to the server's history since this one looked: its user has agreed to that one,
    /// and to no other.
    async fn is_on_another_history(&self) -> Result<bool, Error> {
        let history = self.fact(settings::HISTORY).await?;
        if *self.history() == Some(history.clone()) {
            return Ok(false);
        }
        let place = cursor_of(history)?;
        match self.0.client.pull(self.device(), place).await {
            Ok(_) => Ok(true),
            Err(error) => match error.rejoin_evidence() {
                // The server may have that place, but not the one that this process knew.
                Some(RejoinEvidence::History(found)) => Ok(place.position() != Some(found.known)),
                _ => Err(error.into()),
            },
        }
    }

    async fn go_over(&self, evidence: &RejoinEvidence) -> Result<(), Error> {
        let (cursor, in_both) = self
            .with(|replica| Ok((replica.cursor()?, cursor_of(replica.fact(settings::IN_BOTH)?)?)))
            .await?;
        // Another history may still be being read, which is this one up to there.
        let known = if in_both.seq() > cursor.seq() { in_both } else { cursor };
        match self.0.client.rejoin(evidence, known).await {
            Err(ClientError::NothingToRejoin) => {}
            rejoined => {
                let Rejoined {
                    cursor: common, latest, ..
                } = rejoined?;
                let is_agreed = self.fact(settings::RESTORED).await?.is_some();
                if cursor.snapshot().is_none() && cursor.seq() <= common.seq() {
                    // All that the file has read is in the other history as well.
                    self.with(move |replica| replica.stay(common)).await?;
                } else if is_agreed {
                    return self.rejoin(common, Cursor::at(latest)).await;
                }
            }
        }
        self.look_at_history().await
    }

    async fn rejoin(&self, common: Cursor, history: Cursor) -> Result<(), Error> {
        self.with(move |replica| replica.rejoin(common, history)).await?;
        self.look_at_history().await
    }

    async fn look_at_history(&self) -> Result<(), Error> {
        let history = self.fact(settings::HISTORY).await?;
        *self.history() = Some(history);
        Ok(())
    }

    async fn skip(&self, batch: Box<BatchEvidence>) -> Result<(), Error> {
        let cursor = self.with(Replica::cursor).await?;
        let place = Cursor::at(batch.parent).to_string();
        self.note(settings::REJOIN_DUE, Some(place)).await?;
        match self.0.client.rejoin(&RejoinEvidence::Batch(batch), cursor).await {
            Err(ClientError::NothingToRejoin) => {}
            skipped => {
                let skipped = skipped?;
                if skipped.push_all_rows {
                    return self.rejoin(cursor, Cursor::at(skipped.latest)).await;
                }
            }
        }
        self.note(settings::REJOIN_DUE, None).await
    }

    /// A skip was cut off. The log tells whether the batch is skipped.
    pub(crate) async fn finish_skip(&self) -> Result<(), Error> {
        if let Some(place) = self.fact(settings::REJOIN_DUE).await? {
            let pulled = self.0.client.pull(self.device(), cursor_of(Some(place))?).await;
            match pulled.map_err(|error| (error.rejoin_evidence(), error)) {
                Err((Some(RejoinEvidence::Batch(_)), error)) => {
                    self.note(settings::REJOIN_DUE, None).await?;
                    return Err(error.into());
                }
                Err((None, error)) => return Err(error.into()),
                // What was to be skipped is in a history that is gone.
                Ok(_) | Err((Some(_), _)) => {}
            }
            let cursor = self.with(Replica::cursor).await?;
            return self.rejoin(cursor, cursor).await;
        }
        let is_looked_at = self.history().is_some();
        match is_looked_at {
            true => Ok(()),
            false => self.look_at_history().await,
        }
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

    /// Keeps a fact in the file, or forgets it.
    pub(crate) fn note(&mut self, name: &str, fact: Option<&str>) -> Result<(), Error> {
        let work = self.begin()?;
        match fact {
            Some(fact) => settings::write(&work.transaction, name, fact)?,
            None => settings::clear(&work.transaction, name)?,
        }
        work.finish()
    }

    /// The log that is read is another one, which is this device's up to `common`: the file has not read further.
    fn stay(&mut self, common: Cursor) -> Result<(), Error> {
        let work = self.begin()?;
        let in_both = cursor_of(settings::read(&work.transaction, settings::IN_BOTH)?)?;
        if common.seq() < in_both.seq() {
            settings::write(&work.transaction, settings::IN_BOTH, common.to_string())?;
        }
        settings::clear(&work.transaction, settings::RESTORED)?;
        work.finish()
    }

    /// The server may lack what this device sent or received: the log is read from its start, and all that is here is merged onto
    /// it. `common`: up to there the log is the one that this device knew. `history` is in the new one.
    fn rejoin(&mut self, common: Cursor, history: Cursor) -> Result<(), Error> {
        let mut work = self.begin()?;
        work.book.state.rejoin(Rules::ALL);
        settings::write(&work.transaction, settings::CURSOR, Cursor::START.to_string())?;
        settings::write(&work.transaction, settings::IN_BOTH, common.to_string())?;
        settings::write(&work.transaction, settings::HISTORY, history.to_string())?;
        settings::clear(&work.transaction, settings::RESTORED)?;
        settings::clear(&work.transaction, settings::REJOIN_DUE)?;
        settings::write(&work.transaction, settings::UPLOADED, "")?;
        settings::clear(&work.transaction, settings::SNAPSHOT)?;
        work.clear_files()?;
        work.is_settled = false;
        work.finish()
    }
}

/// A batch, and its place: the server only claims its id.
fn name_of(batch: &BatchEvidence) -> String {
    format!("{} {} {}", batch.batch_id, batch.sealed_hash, Cursor::at(batch.parent))
}

/// The tables that changed, or the question that is open.
type Decided = Result<BTreeSet<String>, Option<Question>>;

pub(crate) fn held(work: &Work<'_>) -> BTreeSet<Key> {
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
