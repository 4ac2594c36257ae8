//! The account's vault, opened with the password.
//!
//! Invariant: a rolled-back vault is refused. Each device remembers the newest vault that it has seen, and each
//! envelope names the edition of the vault that its writer knew.

use sha2::{Digest as _, Sha256};
use synckit_crypto::{AccountKey, Vault, VaultEdition};
use synckit_protocol::{SecretText, wire::accounts::VaultAnswer};

use super::{call::Call, session::Connection};
use crate::{
    error::{Error, Result},
    runtime,
    secrets::records::Record,
    tampering::Tampering,
};

/// The record of the newest known vault: `generation (u32 BE) || count (u32 BE) || SHA-256 of its bytes (32)`. The hash
/// distinguishes two vaults of one edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KnownVault {
    edition: VaultEdition,
    hash: [u8; 32],
}

impl KnownVault {
    fn of(vault: &Vault) -> Self {
        Self {
            edition: vault.edition(),
            hash: Sha256::digest(vault.encode()).into(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let VaultEdition { generation, count } = self.edition;
        [generation.to_be_bytes().as_slice(), &count.to_be_bytes(), &self.hash].concat()
    }

    /// `None` for a damaged record, which must not lock a device out of its keys.
    fn decode(record: &[u8]) -> Option<Self> {
        let (generation, rest) = record.split_first_chunk()?;
        let (count, hash) = rest.split_first_chunk()?;
        Some(Self {
            edition: VaultEdition {
                generation: u32::from_be_bytes(*generation),
                count: u32::from_be_bytes(*count),
            },
            hash: hash.try_into().ok()?,
        })
    }
}

/// Whether a vault older than the known one is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OlderVault {
    /// No.
    Refused,
    /// By the user's decision, after the server was restored from a backup.
    Taken,
}

/// A vault with the version that the server gave it.
pub(crate) struct OpenVault {
    pub(crate) vault: Vault,
    pub(crate) version: u64,
    pub(crate) account_key: AccountKey,
}

impl Connection {
    /// Opens the account's vault with the password.
    pub(crate) async fn open_vault(&self, password: &str, older: OlderVault) -> Result<OpenVault> {
        let mut access = self.account_access(password).await?;
        let answer = match self.vault(&access.token).await {
            // The sign-in is older than this machine counted, because its clock stops during sleep; or the server lost
            // the key that signed this token, and refuses it. The caller has just passed the password, so the user need
            // not type it again. The unlock finds out whether the session has ended.
            Err(Error::FreshLoginRequired | Error::SessionEnded) => {
                access = self.unlock(password).await?;
                self.vault(&access.token).await?
            }
            answer => answer?,
        };
        let vault = Vault::decode(answer.vault.as_ref()).map_err(Tampering::KeyMaterialForged)?;
        // The server has just accepted this password, so a slot that does not open is not the user's mistake.
        let account_key = vault
            .open_with_password(&self.scope().user_id, &access.export_key)
            .map_err(Tampering::KeyMaterialForged)?;
        if older == OlderVault::Refused {
            self.check_vault(&vault).await?;
        }
        self.remember_vault(&vault).await?;
        Ok(OpenVault {
            vault,
            version: answer.version,
            account_key,
        })
    }

    /// Refuses a vault that is older than the one that this device knows, or a different vault of the same edition.
    /// Only for an opened vault, because nothing else is authentic. An earlier vault, kept since a password reset, is
    /// compared within its own generation.
    pub(crate) async fn check_vault(&self, vault: &Vault) -> Result<()> {
        let (found, user_id) = (KnownVault::of(vault), self.scope().user_id);
        let record = self
            .secrets()
            .run(move |secrets| secrets.read(Record::Vault(user_id)))
            .await?;
        match record.as_ref().and_then(|record| KnownVault::decode(record)) {
            Some(known)
                if found.edition < known.edition || found.edition == known.edition && found.hash != known.hash =>
            {
                Err(Tampering::VaultReplaced {
                    known: known.edition,
                    found: found.edition,
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    /// Remembers a vault as the newest one, after it was opened or stored on the server.
    pub(crate) async fn remember_vault(&self, vault: &Vault) -> Result<()> {
        let (record, user_id) = (KnownVault::of(vault).encode(), self.scope().user_id);
        self.secrets()
            .run(move |secrets| secrets.write(Record::Vault(user_id), &record))
            .await
    }

    pub(crate) async fn vault(&self, token: &SecretText) -> Result<VaultAnswer> {
        self.api().call(Call::get("/api/account/vault").bearer(token)).await
    }

    /// The account key of a vault, if the password of the last sign-in opens it.
    pub(crate) fn account_key_of(&self, vault: &Vault) -> Option<AccountKey> {
        let export_key = self.session.last_export_key(runtime::now())?;
        vault.open_with_password(&self.scope().user_id, &export_key).ok()
    }
}
