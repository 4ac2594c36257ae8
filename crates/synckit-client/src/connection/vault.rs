//! The account's vault, opened with the password.

use synckit_crypto::{AccountKey, Vault};
use synckit_protocol::{SecretText, wire::accounts::VaultAnswer};

use super::{call::Call, session::Connection};
use crate::{
    error::{Error, Result},
    runtime,
    tampering::Tampering,
};

/// A vault with the version that the server gave it.
pub(crate) struct OpenVault {
    pub(crate) vault: Vault,
    pub(crate) version: u64,
    pub(crate) account_key: AccountKey,
}

impl Connection {
    /// Opens the account's vault with the password.
    pub(crate) async fn open_vault(&self, password: &str) -> Result<OpenVault> {
        let mut access = self.account_access(password).await?;
        let answer = match self.vault(&access.token).await {
            // The sign-in is older than this machine knows, whose clock stops while it sleeps; or the server refuses this
            // token now, having lost the key that signed it. The password is here, so the user need not be asked for it
            // again, and the unlock finds out whether the session has ended.
            Err(Error::FreshLoginRequired | Error::SessionEnded) => {
                access = self.unlock(password).await?;
                self.vault(&access.token).await?
            }
            answer => answer?,
        };
        let vault = Vault::decode(answer.vault.as_ref()).map_err(Tampering::KeyMaterialForged)?;
        // The server has just accepted this password, so a slot that it does not open is not the user's mistake.
        let account_key = vault
            .open_with_password(&self.scope().user_id, &access.export_key)
            .map_err(Tampering::KeyMaterialForged)?;
        Ok(OpenVault {
            vault,
            version: answer.version,
            account_key,
        })
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
