//! The accounts of an app that have records on this device. Needed because a store can read a record by name, but
//! cannot list all names.

use serde::{Deserialize, Serialize};
use synckit_protocol::{UserId, limits};
use zeroize::Zeroizing;

use super::{
    error::CredentialError,
    records::{Record, Secrets},
};

/// The most accounts of one app on a device: their list must fit a record.
pub(crate) const ACCOUNTS_MAX: usize = 64;

/// An account whose session and keys are on this device.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let client = world.signed_in().await?;
/// let accounts = client.stored_accounts()?;
/// assert_eq!(Some(accounts[0].user_id), client.user_id());
/// assert_eq!(accounts[0].email.as_deref(), Some(world.email));
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredAccount {
    /// The user.
    pub user_id: UserId,
    /// The address that was typed at the last sign-in with a password, for display; it may have changed since.
    pub email: Option<String>,
}

/// The list of stored accounts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Accounts {
    /// The account that the app used last, unless that account signed out.
    pub(crate) last: Option<UserId>,
    pub(crate) stored: Vec<StoredAccount>,
}

impl Accounts {
    pub(crate) fn read(secrets: &Secrets) -> Result<Self, CredentialError> {
        match secrets.read(Record::Accounts)? {
            Some(bytes) => minicbor_serde::from_slice(&bytes).map_err(|_| CredentialError::Damaged("accounts")),
            None => Ok(Self::default()),
        }
    }

    fn write(&self, secrets: &Secrets) -> Result<(), CredentialError> {
        let bytes = minicbor_serde::to_vec(self).map_err(|_| CredentialError::Damaged("accounts"))?;
        secrets.write(Record::Accounts, &Zeroizing::new(bytes))
    }

    fn add(&mut self, user_id: UserId, email: Option<&str>) -> Result<(), CredentialError> {
        let email = email
            .filter(|email| email.len() <= limits::EMAIL_BYTES_MAX)
            .map(str::to_owned);
        if let Some(account) = self.stored.iter_mut().find(|account| account.user_id == user_id) {
            account.email = email.or(account.email.take());
        } else if self.stored.len() < ACCOUNTS_MAX {
            self.stored.push(StoredAccount { user_id, email });
        } else {
            return Err(CredentialError::TooManyAccounts { max: ACCOUNTS_MAX });
        }
        Ok(())
    }
}

/// Notes that the app uses an account from now on.
pub(crate) fn use_account(secrets: &Secrets, user_id: UserId, email: Option<&str>) -> Result<(), CredentialError> {
    let mut accounts = Accounts::read(secrets)?;
    accounts.add(user_id, email)?;
    accounts.last = Some(user_id);
    accounts.write(secrets)
}

/// Notes that an account has records here. The account that the app used last stays the same.
pub(crate) fn keep_account(secrets: &Secrets, user_id: UserId) -> Result<(), CredentialError> {
    let mut accounts = Accounts::read(secrets)?;
    if accounts.stored.iter().any(|account| account.user_id == user_id) {
        return Ok(());
    }
    accounts.add(user_id, None)?;
    accounts.write(secrets)
}

/// Removes session, keys and unfinished uploads of an account, then the account from the list. The known positions of its history stay:
/// without them the next sign-in would not notice a server that went back.
pub(crate) fn forget_account(secrets: &Secrets, user_id: UserId) -> Result<(), CredentialError> {
    secrets.delete(Record::Session(user_id))?;
    secrets.delete(Record::Keys(user_id))?;
    secrets.delete(Record::Envelope(user_id))?;
    secrets.delete(Record::Uploads(user_id))?;
    let mut accounts = Accounts::read(secrets)?;
    accounts.stored.retain(|account| account.user_id != user_id);
    accounts.last = accounts.last.filter(|last| *last != user_id);
    accounts.write(secrets)
}
