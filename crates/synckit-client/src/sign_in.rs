//! Sessions: sign-in with OPAQUE, tokens and their refresh, sign-out, and what the keychain remembers of it.
//!
//! The password leaves this module only as OPAQUE messages; the export key that a sign-in yields is kept for five
//! minutes, for the same password, so that `setup_encryption_*` right after `authenticate` asks for nothing twice.

use std::time::Duration;

use http::Method;
use rand::{RngCore as _, rngs::OsRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use synckit_crypto::{AccountKey, StreamScope, Vault};
use synckit_login::{ClientLogin, ClientRegistration, ExportKey, LoginFinished, ServerPublicKey};
use synckit_protocol::{
    ApiKey, AppId, ByteString, LOGIN_SUITE, SecretText, UserId, limits,
    wire::{
        UnixSeconds,
        accounts::{RegisterFinish, RegisterStart, RegisterStarted, Registered},
        auth::{
            LoginFinish, LoginStart, LoginStarted, Refresh, Refreshed, SignedIn, UnlockFinish, UnlockStart, Unlocked,
        },
    },
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    SyncKitClient,
    client::{Inner, unix_now},
    connection::api::{Answer, Call},
    error::{Error, Result},
    secrets::credentials::CredentialError,
};

/// How long before its end a token is refreshed.
const REFRESH_EARLY_SECONDS: u64 = 24 * 3600;

/// How often a call is sent again with another token.
const REFRESHES_MAX: u32 = 3;

/// The user who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) scope: StreamScope,
    pub(crate) token: SecretText,
    pub(crate) expires_at: UnixSeconds,
    pub(crate) refresh: SecretText,
    /// Whether this machine's clock is good for refreshing before the token ends. One that is days ahead takes every
    /// token for old, and would refresh at every call; then the server's word has to do.
    refresh_early: bool,
    /// The token for `/api/account`, and when it was issued.
    pub(crate) account_token: Option<(SecretText, Instant)>,
}

/// A session as the keychain keeps it.
#[derive(Serialize, Deserialize)]
struct SessionRecord {
    app_id: AppId,
    user_id: UserId,
    token: SecretText,
    expires_at: UnixSeconds,
    refresh: SecretText,
}

/// The export key of the last password sign-in, to be used again for the same password only.
pub(crate) struct LoginCache {
    salt: [u8; 32],
    password_hash: Zeroizing<[u8; 32]>,
    export_key: ExportKey,
    since: Instant,
}

impl LoginCache {
    fn new(password: &str, export_key: ExportKey) -> Self {
        let mut salt = [0; 32];
        OsRng.fill_bytes(&mut salt);
        Self {
            salt,
            password_hash: hash_password(&salt, password),
            export_key,
            since: Instant::now(),
        }
    }

    fn export_key(&self, password: &str) -> Option<ExportKey> {
        let fresh = self.since.elapsed() < Duration::from_secs(limits::ACCOUNT_TOKEN_SECONDS);
        // Both sides are hashes under a random salt, so how long the comparison takes says nothing about the password.
        let same = *hash_password(&self.salt, password) == *self.password_hash;
        (fresh && same).then(|| self.export_key.clone())
    }
}

impl LoginCache {
    /// The export key of the last sign-in, whatever its password was.
    pub(crate) fn any_export_key(&self) -> Option<&ExportKey> {
        (self.since.elapsed() < Duration::from_secs(limits::ACCOUNT_TOKEN_SECONDS)).then_some(&self.export_key)
    }
}

fn hash_password(salt: &[u8; 32], password: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(
        Sha256::new()
            .chain_update(salt)
            .chain_update(password)
            .finalize()
            .into(),
    )
}

/// What a password opens at the server: the token for the account, and the key for the vault.
pub(crate) struct AccountAccess {
    pub(crate) token: SecretText,
    pub(crate) export_key: ExportKey,
}

/// A user's records in the keychain.
pub(crate) fn record_name(user_id: UserId, record: &str) -> String {
    format!("{user_id}/{record}")
}

/// The record that points at the user who signed in last.
const LAST_USER: &str = "last user";
/// The record that holds the server's OPAQUE public key.
const SERVER_KEY: &str = "server key";

impl SyncKitClient {
    /// Creates an account on the server. The password does not leave this device: the server stores an OPAQUE record
    /// (RFC 9807) and a vault that only the password, or later a recovery code, opens. Sign in afterwards.
    ///
    /// The answer is the same if the address has an account already, whose owner then gets a mail; signing in fails
    /// then, unless the password is the same.
    ///
    /// # Errors
    /// [`Error::Problem`] with `registration_closed` or `invite_invalid`, `invalid_value` for an address that is none.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// let user_id = client.create_account(email, password).await?;
    /// let (signed_in, _app_id) = client.authenticate(email, password).await?;
    /// assert_eq!(signed_in, user_id);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn create_account(&self, email: &str, password: &str) -> Result<UserId> {
        self.inner.register(email, password, None).await
    }

    /// Creates an account on a server that asks for an invitation.
    ///
    /// # Errors
    /// As [`SyncKitClient::create_account`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// let invite = world.admin.create_invite().await?; // the operator's part
    /// client.create_account_with_invite(email, password, invite.expose()).await?;
    /// client.authenticate(email, password).await?;
    /// assert!(client.user_id().is_some());
    /// # Ok(())
    /// # });
    /// ```
    pub async fn create_account_with_invite(&self, email: &str, password: &str, invite: &str) -> Result<UserId> {
        self.inner
            .register(email, password, Some(SecretText::new(invite)))
            .await
    }

    /// Signs in. The session is kept in the credential store and renewed by itself while it is used at least once in 90
    /// days. Signing in as another user than before drops that user's key from memory.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::ApiKeyUnusable`], [`Error::ApiKeyInvalid`], [`Error::RetryLater`] after too many guesses,
    /// [`Error::ServerKeyChanged`] if the server is another one than at the first sign-in, [`Error::Credentials`] if
    /// there is no keychain.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.signed_in().await?, world.email, world.password);
    /// use synckit_client::Error;
    ///
    /// let (user_id, _app_id) = client.authenticate(email, password).await?;
    /// assert_eq!(client.user_id(), Some(user_id));
    /// let error = client.authenticate(email, "a typing mistake").await.unwrap_err();
    /// assert!(matches!(error, Error::InvalidCredentials)); // ask again
    /// # Ok(())
    /// # });
    /// ```
    pub async fn authenticate(&self, email: &str, password: &str) -> Result<(UserId, AppId)> {
        let inner = &self.inner;
        // A secret key that was put into an app by mistake never leaves the machine.
        ApiKey::publishable(&inner.api_key)?;
        inner.with_credentials(|credentials| credentials.probe()).await?;
        let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
        let start = LoginStart {
            api_key: inner.api_key.clone(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
        };
        let started: LoginStarted = inner.api.call(Call::post("/api/sync/auth/start").body(&start)?).await?;
        let finished = inner.finish_login(login, &started).await?;
        let finish = LoginFinish {
            api_key: inner.api_key.clone(),
            login: started.login,
            ke3: finished.ke3.clone().into(),
        };
        let signed_in: SignedIn = inner.api.call(Call::post("/api/sync/auth").body(&finish)?).await?;

        let ids = inner.install_signed_in(signed_in).await?;
        inner.cache_login(password, finished.export_key);
        Ok(ids)
    }

    /// Signs in with the code of a browser sign-in (RFC 6749 with PKCE, RFC 7636, and a loopback redirect, RFC 8252).
    /// `port` is the port of [`SyncKitClient::build_authorize_url`].
    ///
    /// # Errors
    /// [`Error::Problem`] if the server offers no browser sign-in or refuses the code, [`Error::ApiKeyUnusable`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.client();
    /// use synckit_client::{Error, ProblemCode};
    ///
    /// // `code` came to the loopback port, `verifier` was kept by the app.
    /// let (code, verifier, port) = ("code from the redirect", "verifier", 49152);
    /// let error = client.authenticate_with_code(code, verifier, port).await.unwrap_err();
    /// // A server without browser sign-in: fall back to `authenticate`.
    /// assert_eq!(error.problem_code(), Some(ProblemCode::NotFound));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn authenticate_with_code(&self, code: &str, verifier: &str, port: u16) -> Result<(UserId, AppId)> {
        #[derive(Serialize)]
        struct TokenRequest<'a> {
            grant_type: &'a str,
            client_id: &'a str,
            code: &'a str,
            code_verifier: &'a str,
            redirect_uri: String,
        }
        let inner = &self.inner;
        ApiKey::publishable(&inner.api_key)?;
        inner.with_credentials(|credentials| credentials.probe()).await?;
        let request = TokenRequest {
            grant_type: "authorization_code",
            client_id: &inner.api_key,
            code,
            code_verifier: verifier,
            redirect_uri: redirect_uri(port),
        };
        let signed_in: SignedIn = inner.api.call(Call::post("/oauth/token").body(&request)?).await?;
        inner.install_signed_in(signed_in).await
    }

    /// The URL to open in the user's browser for a sign-in without the app seeing the password. `port` is the loopback
    /// port where the app waits for the redirect to `/callback`, `state` a random value to compare there, `challenge`
    /// the PKCE S256 challenge of a verifier that the app keeps.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::new(config);
    /// let url = client.build_authorize_url(49152, "random-state", "challenge-of-the-verifier");
    /// assert!(url.starts_with("https://sync.example.com/oauth/authorize?response_type=code&"));
    /// ```
    #[must_use]
    pub fn build_authorize_url(&self, port: u16, state: &str, challenge: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.inner.api_key)
            .append_pair("redirect_uri", &redirect_uri(port))
            .append_pair("state", state)
            .append_pair("code_challenge", challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        match self.inner.api.server() {
            Ok(server) => server.url(&format!("/oauth/authorize?{query}")),
            // The configuration's error belongs to the calls that can fail; a browser shows what is wrong with this one.
            Err(_) => format!("/oauth/authorize?{query}"),
        }
    }

    /// Forgets the key by which this device recognises the server, so that the next sign-in takes whatever key it finds:
    /// after [`Error::ServerKeyChanged`], and only if the operator says that the server's keys were lost and replaced.
    /// Another server in the place of the true one could still learn neither the password nor any data; it could refuse
    /// service and start a history of its own.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.signed_in().await?, world.email, world.password);
    /// use synckit_client::Error;
    ///
    /// match client.authenticate(email, password).await {
    ///     // The operator has confirmed that the server's keys were lost and replaced.
    ///     Err(Error::ServerKeyChanged) => client.danger_accept_new_server_key().await?,
    ///     other => drop(other?),
    /// }
    /// # client.danger_accept_new_server_key().await?;
    /// # client.authenticate(email, password).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn danger_accept_new_server_key(&self) -> Result<()> {
        self.inner
            .with_credentials(|credentials| credentials.delete(SERVER_KEY))
            .await
    }

    /// Ends the session on the server and forgets session and key on this device: in memory at once, and in the
    /// credential store. What is on the server stays.
    ///
    /// # Errors
    /// [`Error::Network`] if the server could not be told; the device has forgotten everything all the same.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// use synckit_client::Error;
    ///
    /// client.sign_out().await?;
    /// assert!(matches!(client.devices().await, Err(Error::NotSignedIn)));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn sign_out(&self) -> Result<()> {
        let inner = &self.inner;
        let user_id = inner.scope()?.user_id;
        let told = inner.authorized_unit(Call::new(Method::DELETE, "/api/sync/auth")).await;
        inner.forget(user_id).await?;
        match told {
            Ok(()) | Err(Error::SessionEnded | Error::AccountGone) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    /// Forgets session and keys of the user, in memory and in the credential store.
    pub(crate) async fn forget(&self, user_id: UserId) -> Result<()> {
        self.drop_session();
        self.with_credentials(move |credentials| {
            credentials.delete(LAST_USER)?;
            ["session", "keys", "envelope"]
                .iter()
                .try_for_each(|record| credentials.delete(&record_name(user_id, record)))
        })
        .await
    }

    async fn register(&self, email: &str, password: &str, invite: Option<SecretText>) -> Result<UserId> {
        let (registration, request) = ClientRegistration::start(password, &mut OsRng)?;
        let start = RegisterStart {
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            request: request.into(),
            invite,
        };
        let started: RegisterStarted = self.api.call(Call::post("/api/accounts/start").body(&start)?).await?;
        let response = started.response.0.clone();
        let finished = blocking(move || registration.finish(&response, &mut OsRng)).await??;
        self.pin_server_key(finished.server_public_key).await?;
        let account_key = AccountKey::generate(&mut OsRng);
        let vault = Vault::create(&started.user_id, &finished.export_key, &account_key, &mut OsRng);
        let finish = RegisterFinish {
            registration: started.registration,
            record: finished.upload.into(),
            vault: vault.encode().into(),
        };
        let registered: Registered = self.api.call(Call::post("/api/accounts").body(&finish)?).await?;
        Ok(registered.user_id)
    }

    /// Makes a new session current, in memory and in the credential store.
    async fn install_signed_in(&self, signed_in: SignedIn) -> Result<(UserId, AppId)> {
        let (app_id, user_id) = (signed_in.app_id, signed_in.user_id);
        self.install_session(Session {
            scope: StreamScope { app_id, user_id },
            token: signed_in.token,
            expires_at: signed_in.expires_at,
            refresh: signed_in.refresh,
            refresh_early: true,
            account_token: signed_in.account_token.map(|token| (token, Instant::now())),
        });
        self.save_session().await?;
        Ok((user_id, app_id))
    }

    /// Runs Argon2id off the async threads and pins the server's key.
    async fn finish_login(&self, login: ClientLogin, started: &LoginStarted) -> Result<LoginFinished> {
        let pinned = self.pinned_server_key().await?;
        let ke2 = started.ke2.0.clone();
        let finished = blocking(move || login.finish(&ke2, pinned.as_ref(), &mut OsRng)).await??;
        self.pin_server_key(finished.server_public_key).await?;
        Ok(finished)
    }

    async fn pinned_server_key(&self) -> Result<Option<ServerPublicKey>> {
        let record = self
            .with_credentials(|credentials| credentials.read(SERVER_KEY))
            .await?;
        record
            .map(|bytes| {
                let bytes: [u8; 32] = bytes
                    .as_slice()
                    .try_into()
                    .map_err(|_| CredentialError::Damaged("server key"))?;
                Ok(ServerPublicKey::from_bytes(bytes))
            })
            .transpose()
    }

    /// Remembers the server's key at the first contact and refuses another one ever after.
    pub(crate) async fn pin_server_key(&self, key: ServerPublicKey) -> Result<()> {
        match self.pinned_server_key().await? {
            Some(pinned) if pinned == key => Ok(()),
            Some(_) => Err(Error::ServerKeyChanged),
            None => {
                self.with_credentials(move |credentials| credentials.write(SERVER_KEY, key.as_bytes()))
                    .await
            }
        }
    }

    /// What the password opens: from the sign-in of the last minutes if it was this password's, else from another run
    /// of OPAQUE under the session's token.
    pub(crate) async fn account_access(&self, password: &str) -> Result<AccountAccess> {
        let cached = self
            .login_cache
            .lock()
            .as_ref()
            .and_then(|cache| cache.export_key(password));
        match (cached, self.account_token()) {
            (Some(export_key), Some(token)) => Ok(AccountAccess { token, export_key }),
            _ => self.unlock(password).await,
        }
    }

    /// Runs OPAQUE under the session's token.
    pub(crate) async fn unlock(&self, password: &str) -> Result<AccountAccess> {
        let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
        let start = UnlockStart {
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
        };
        let started: LoginStarted = self
            .authorized(Call::post("/api/sync/auth/unlock/start").body(&start)?)
            .await?
            .decode()?;
        let finished = self.finish_login(login, &started).await?;
        let finish = UnlockFinish {
            login: started.login,
            ke3: ByteString(finished.ke3.clone()),
        };
        let unlocked: Unlocked = self
            .authorized(Call::post("/api/sync/auth/unlock").body(&finish)?)
            .await?
            .decode()?;
        if let Some(session) = self.session.write().as_mut() {
            session.account_token = Some((unlocked.account_token.clone(), Instant::now()));
        }
        self.cache_login(password, finished.export_key.clone());
        Ok(AccountAccess {
            token: unlocked.account_token,
            export_key: finished.export_key,
        })
    }

    /// Remembers a password that was just proven or set, so that the next call does not run OPAQUE again.
    pub(crate) fn cache_login(&self, password: &str, export_key: ExportKey) {
        *self.login_cache.lock() = Some(LoginCache::new(password, export_key));
    }

    /// Sends a call with the session's token, refreshed before it ends, or after the server refused it.
    pub(crate) async fn authorized(&self, call: Call<'_>) -> Result<Answer> {
        let mut session = self.current_session()?;
        let token = if !session.refresh_early || is_fresh(session.expires_at) {
            session.token.clone()
        } else {
            // A token that still works is good enough if the refresh cannot be reached now. If the session has ended,
            // the answer to the token says why, which that to a refresh secret cannot.
            match self.refresh(&session).await {
                Err(Error::Network(_) | Error::RetryLater { .. } | Error::SessionEnded) => session.token.clone(),
                refreshed => refreshed?,
            }
        };
        let mut answer = self.api.send(&call.clone().bearer(&token)).await;
        for _ in 0..REFRESHES_MAX {
            if !matches!(answer, Err(Error::SessionEnded)) {
                break;
            }
            // What another process of this device stored may have been refused meanwhile, too. Only the server's answer
            // to a refresh says that the session has ended.
            let token = self.refresh(&session).await?;
            session = self.current_session()?;
            answer = self.api.send(&call.clone().bearer(&token)).await;
        }
        answer
    }

    /// Sends a call with the session's token whose answer has no body.
    pub(crate) async fn authorized_unit(&self, call: Call<'_>) -> Result<()> {
        self.authorized(call).await.map(|_| ())
    }

    fn current_session(&self) -> Result<Session> {
        self.session.read().clone().ok_or(Error::NotSignedIn)
    }

    /// Replaces the token of a session that was current when the caller looked. Whoever comes second finds the new one.
    /// Sessions are told apart by the refresh secret, which is another one after every refresh; two tokens of one
    /// second are equal.
    async fn refresh(&self, seen: &Session) -> Result<SecretText> {
        let _refreshing = self.refreshing.lock().await;
        let current = self.current_session()?;
        if current.refresh != seen.refresh {
            return Ok(current.token);
        }
        for attempt in 0.. {
            // Another process of this device may have refreshed, also while this one waited: its secret is newer than
            // the one in memory. One that is older by two looks like a copy in the hands of a thief, and would end the
            // session of both.
            if let Some(stored) = self.stored_session(seen.scope.user_id).await?
                && stored.refresh != self.current_session()?.refresh
            {
                let fresh = !current.refresh_early || is_fresh(stored.expires_at);
                self.replace_tokens(stored);
                if fresh {
                    break;
                }
            }
            let used = self.current_session()?.refresh;
            let call = Call::post("/api/sync/auth/refresh").body(&Refresh { refresh: used.clone() })?;
            match self.api.call(call.without_retries()).await {
                Ok(refreshed) => {
                    self.install_refreshed(refreshed, &used).await?;
                    break;
                }
                Err(error) => match self.api.wait_after(&error, attempt) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
            }
        }
        Ok(self.current_session()?.token)
    }

    /// Makes the answer to a refresh current, in memory and in the credential store.
    async fn install_refreshed(&self, refreshed: Refreshed, used: &SecretText) -> Result<()> {
        let scope = {
            let mut session = self.session.write();
            let session = session.as_mut().ok_or(Error::NotSignedIn)?;
            session.token = refreshed.token;
            session.expires_at = refreshed.expires_at;
            session.refresh = refreshed.refresh;
            session.refresh_early = is_fresh(refreshed.expires_at);
            session.scope
        };
        match self.stored_session(scope.user_id).await? {
            // Another process was faster: what it stored is as new as this, or newer.
            Some(stored) if stored.refresh != *used => Ok(()),
            _ => self.save_session().await,
        }
    }

    fn replace_tokens(&self, stored: SessionRecord) {
        if let Some(session) = self.session.write().as_mut() {
            session.token = stored.token;
            session.expires_at = stored.expires_at;
            session.refresh = stored.refresh;
        }
    }

    async fn stored_session(&self, user_id: UserId) -> Result<Option<SessionRecord>> {
        let record = self
            .with_credentials(move |credentials| credentials.read(&record_name(user_id, "session")))
            .await?;
        record
            .map(|bytes| decode_session(&bytes))
            .transpose()
            .map_err(Error::from)
    }

    async fn save_session(&self) -> Result<()> {
        let session = self.current_session()?;
        let user_id = session.scope.user_id;
        let record = SessionRecord {
            app_id: session.scope.app_id,
            user_id,
            token: session.token,
            expires_at: session.expires_at,
            refresh: session.refresh,
        };
        let record = Zeroizing::new(
            minicbor_serde::to_vec(&record).map_err(|_| Error::Credentials(CredentialError::Damaged("session")))?,
        );
        self.with_credentials(move |credentials| {
            credentials.write(&record_name(user_id, "session"), &record)?;
            credentials.write(LAST_USER, user_id.as_bytes())
        })
        .await
    }

    /// The session that the credential store remembers: the current user's, or that of who signed in last. Blocks.
    pub(crate) fn restore_session(&self) -> Result<Option<Session>> {
        let user_id = match self.scope() {
            Ok(scope) => scope.user_id,
            Err(_) => match self.credentials.read(LAST_USER)? {
                None => return Ok(None),
                Some(bytes) => {
                    let bytes = bytes
                        .as_slice()
                        .try_into()
                        .map_err(|_| CredentialError::Damaged("last user"))?;
                    UserId::from_bytes(bytes)
                }
            },
        };
        let Some(bytes) = self.credentials.read(&record_name(user_id, "session"))? else {
            return Ok(None);
        };
        let record = decode_session(&bytes)?;
        Ok(Some(Session {
            scope: StreamScope {
                app_id: record.app_id,
                user_id: record.user_id,
            },
            token: record.token,
            expires_at: record.expires_at,
            refresh: record.refresh,
            refresh_early: true,
            account_token: None,
        }))
    }
}

/// Whether a token is far from its end, by this machine's clock.
fn is_fresh(expires_at: UnixSeconds) -> bool {
    unix_now() + REFRESH_EARLY_SECONDS < expires_at
}

fn decode_session(bytes: &[u8]) -> Result<SessionRecord, CredentialError> {
    minicbor_serde::from_slice(bytes).map_err(|_| CredentialError::Damaged("session"))
}

fn redirect_uri(port: u16) -> String {
    format!("http://127.0.0.1:{port}/callback")
}

/// Runs work that computes for long off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Io(std::io::Error::other(error)))
}
