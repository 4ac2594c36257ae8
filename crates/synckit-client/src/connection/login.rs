//! OPAQUE for every sign-in: the pinned server key, and the account access that a password gives.
//!
//! The password leaves this device only as OPAQUE messages. The export key of a login is kept for five minutes, for the
//! same password, so that `setup_encryption_*` right after `authenticate` needs no second login.

use rand::{RngCore as _, rngs::OsRng};
use synckit_login::{ClientLogin, ExportKey, LoginFinished, ServerPublicKey};
use synckit_protocol::{
    ByteString, LOGIN_SUITE, ProblemCode, SecretText,
    wire::auth::{LoginStarted, UnlockFinish, UnlockStart, Unlocked},
};

use super::{app::App, call::Call, session::Connection};
use crate::{
    error::{Error, Result},
    runtime,
    secrets::{error::CredentialError, records::Record},
    tampering::Tampering,
};

/// The account access that a password gives: the token for the account, and the key for the vault.
pub(crate) struct AccountAccess {
    pub(crate) token: SecretText,
    pub(crate) export_key: ExportKey,
}

impl App {
    /// Runs Argon2id off the async threads, and checks the pinned server key.
    pub(crate) async fn finish_login(&self, login: ClientLogin, started: &LoginStarted) -> Result<LoginFinished> {
        let app_id = self.app_id()?;
        let pinned = self.pinned_server_key().await?;
        let ke2 = started.ke2.0.clone();
        let finished = runtime::blocking(move || login.finish(app_id, &ke2, pinned.as_ref(), &mut OsRng)).await??;
        self.pin_server_key(finished.server_public_key).await?;
        Ok(finished)
    }

    /// Remembers the server's key at the first contact, and refuses any other key from then on.
    pub(crate) async fn pin_server_key(&self, key: ServerPublicKey) -> Result<()> {
        match self.pinned_server_key().await? {
            Some(pinned) if pinned == key => Ok(()),
            Some(_) => Err(Error::Tampering(Tampering::ServerKeyChanged)),
            None => {
                self.secrets
                    .run(move |secrets| secrets.write(Record::ServerKey, key.as_bytes()))
                    .await
            }
        }
    }

    async fn pinned_server_key(&self) -> Result<Option<ServerPublicKey>> {
        let record = self.secrets.run(|secrets| secrets.read(Record::ServerKey)).await?;
        let Some(bytes) = record else { return Ok(None) };
        let bytes: [u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| CredentialError::Damaged("server key"))?;
        Ok(Some(ServerPublicKey::from_bytes(bytes)))
    }
}

impl Connection {
    /// The account access of this password: from the sign-in of the last minutes if the password is the same, otherwise
    /// from another OPAQUE login under the session's token.
    pub(crate) async fn account_access(&self, password: &str) -> Result<AccountAccess> {
        let now = runtime::now();
        match (
            self.session.export_key_of(password, now),
            self.session.account_token(now),
        ) {
            (Some(export_key), Some(token)) => Ok(AccountAccess { token, export_key }),
            _ => self.unlock(password).await,
        }
    }

    /// Runs OPAQUE under the session's token.
    pub(crate) async fn unlock(&self, password: &str) -> Result<AccountAccess> {
        // The server answers the last message of a login once. If that answer was lost, only another login yields a
        // token.
        match self.unlock_once(password).await {
            Err(error) if error.is_problem(ProblemCode::LoginExpired) => self.unlock_once(password).await,
            unlocked => unlocked,
        }
    }

    async fn unlock_once(&self, password: &str) -> Result<AccountAccess> {
        let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
        let start = UnlockStart {
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
        };
        let started: LoginStarted = self
            .authorized(Call::post("/api/sync/auth/unlock/start").body(&start)?)
            .await?
            .decode()?;
        let finished = self.app().finish_login(login, &started).await?;
        let finish = UnlockFinish {
            login: started.login,
            ke3: ByteString(finished.ke3.clone()),
        };
        let unlocked: Unlocked = self
            .authorized(Call::post("/api/sync/auth/unlock").body(&finish)?)
            .await?
            .decode()?;
        self.session
            .set_account_token(unlocked.account_token.clone(), runtime::now());
        self.remember_login(password, finished.export_key.clone());
        Ok(AccountAccess {
            token: unlocked.account_token,
            export_key: finished.export_key,
        })
    }

    /// Remembers a password that was just proven or set.
    pub(crate) fn remember_login(&self, password: &str, export_key: ExportKey) {
        let mut salt = [0; 32];
        OsRng.fill_bytes(&mut salt);
        self.session.remember_login(password, export_key, salt, runtime::now());
    }

    /// The token for calls about the account, from a password sign-in of the last minutes.
    pub(crate) fn account_token(&self) -> Result<SecretText> {
        self.current_session()?;
        let token = self.session.account_token(runtime::now());
        token.ok_or(Error::FreshLoginRequired)
    }
}
