//! The records that the SDK keeps in a credential store: their names, and access to them.
//!
//! Invariants: apps and users share no record, and an app finds its records at every address of its server and under
//! each of its API keys. So neither the address nor the API key is a part of a name. A different server with the same
//! app id is recognised by its key.

use std::sync::Arc;

use synckit_protocol::{AppId, UserId};
use zeroize::Zeroizing;

use super::{error::CredentialError, store::CredentialStore};
use crate::{error::Result, runtime};

/// The largest record, as [`CredentialStore`] promises it to hosts.
const RECORD_BYTES_MAX: usize = 32 * 1024;

/// A record of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// The list of accounts with records here.
    Accounts,
    /// The server's OPAQUE public key.
    ServerKey,
    /// The tokens of a session.
    Session(UserId),
    /// The installation, and the device that it registered. Outlives sessions.
    Device(UserId),
    /// The key ring of a stream.
    Keys(UserId),
    /// The server's envelope at the time when the keys were stored.
    Envelope(UserId),
    /// The newest known vault of the account.
    Vault(UserId),
    /// The newest known position, and earlier ones.
    Position(UserId),
    /// The part of the log in which unreadable batches are skipped.
    Skipped(UserId),
    /// The uploads in parts that are not confirmed.
    Uploads(UserId),
}

impl Record {
    fn name(self) -> String {
        match self {
            Self::Accounts => "accounts".to_owned(),
            Self::ServerKey => "server key".to_owned(),
            Self::Session(user_id) => format!("{user_id}/session"),
            Self::Device(user_id) => format!("{user_id}/device"),
            Self::Keys(user_id) => format!("{user_id}/keys"),
            Self::Envelope(user_id) => format!("{user_id}/envelope"),
            Self::Vault(user_id) => format!("{user_id}/vault"),
            Self::Position(user_id) => format!("{user_id}/position"),
            Self::Skipped(user_id) => format!("{user_id}/skipped"),
            Self::Uploads(user_id) => format!("{user_id}/uploads"),
        }
    }
}

/// The records of one app. The calls block; [`Secrets::run`] makes them off the async threads.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    store: Arc<dyn CredentialStore>,
    /// The prefix of all names: the id of the app.
    prefix: Arc<str>,
}

impl Secrets {
    /// The records of an app. An app with an invalid API key has no id and no records: nobody can sign in to it.
    pub(crate) fn new(store: Arc<dyn CredentialStore>, app_id: Option<AppId>) -> Self {
        let prefix = app_id.map_or_else(|| "no app".to_owned(), |app_id| app_id.to_string());
        Self {
            store,
            prefix: prefix.into(),
        }
    }

    /// Runs an action on the store off the async threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, CredentialError> + Send + 'static,
    ) -> Result<T> {
        let secrets = self.clone();
        Ok(runtime::blocking(move || work(&secrets)).await??)
    }

    /// Fails if the store cannot be used, before anything depends on it. A damaged store is repaired first: the caller
    /// signs in or sets up keys, and so writes its records anew.
    pub(crate) async fn probe(&self) -> Result<()> {
        self.run(|secrets| {
            secrets.store.mend()?;
            secrets.store.read(&format!("{} probe", secrets.prefix)).map(drop)
        })
        .await
    }

    /// Whether the records survive until the next start of the app.
    pub(crate) fn is_lasting(&self) -> bool {
        self.store.is_lasting()
    }

    pub(crate) fn read(&self, record: Record) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        self.store.read(&self.full_name(record))
    }

    pub(crate) fn write(&self, record: Record, value: &[u8]) -> Result<(), CredentialError> {
        if value.len() > RECORD_BYTES_MAX {
            return Err(CredentialError::Damaged("record of this size"));
        }
        self.store.write(&self.full_name(record), value)
    }

    pub(crate) fn delete(&self, record: Record) -> Result<(), CredentialError> {
        self.store.delete(&self.full_name(record))
    }

    fn full_name(&self, record: Record) -> String {
        format!("{} {}", self.prefix, record.name())
    }
}
