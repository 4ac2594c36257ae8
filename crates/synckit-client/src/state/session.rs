//! The session of a user: its tokens, and the export key of the last password sign-in.

use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sha2::{Digest as _, Sha256};
use synckit_login::ExportKey;
use synckit_protocol::{SecretText, limits, wire::UnixSeconds};
use zeroize::Zeroizing;

use crate::runtime::Instant;

/// How long the server counts a password sign-in as fresh.
const PASSWORD_FRESH: Duration = Duration::from_secs(limits::ACCOUNT_TOKEN_SECONDS);
/// How long before its expiry an account token is no longer used: a request takes time to arrive.
const ACCOUNT_TOKEN_MARGIN: Duration = Duration::from_secs(15);

/// The parts of a session that a refresh replaces.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) token: SecretText,
    pub(crate) expires_at: UnixSeconds,
    /// The secret that buys the next token. Every refresh replaces it, so it distinguishes two states of a session; two
    /// tokens of the same second may be equal.
    pub(crate) refresh: SecretText,
}

/// A session, as its callers see it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) tokens: Tokens,
    /// Whether to refresh before the token expires, by this machine's clock. A clock that is days ahead considers every
    /// token expired, and would refresh at every call; then only the server's answer counts.
    pub(crate) refresh_early: bool,
}

/// The session of one user, until it is ended.
#[derive(Debug)]
pub(crate) struct SessionState {
    session: RwLock<Option<Session>>,
    /// The token for `/api/account`, and its time of issue.
    account_token: Mutex<Option<(SecretText, Instant)>>,
    login: Mutex<Option<Login>>,
}

/// The export key of the last password sign-in, reusable only with the same password.
struct Login {
    salt: [u8; 32],
    password_hash: Zeroizing<[u8; 32]>,
    export_key: ExportKey,
    since: Instant,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl SessionState {
    pub(crate) fn new(tokens: Tokens) -> Self {
        let state = Self {
            session: RwLock::default(),
            account_token: Mutex::default(),
            login: Mutex::default(),
        };
        state.begin(tokens);
        state
    }

    /// Stores the tokens of a sign-in.
    pub(crate) fn begin(&self, tokens: Tokens) {
        *self.session.write() = Some(Session {
            tokens,
            refresh_early: true,
        });
        *self.account_token.lock() = None;
    }

    /// Forgets everything: later calls in this session fail as signed out.
    pub(crate) fn end(&self) {
        *self.session.write() = None;
        *self.account_token.lock() = None;
        *self.login.lock() = None;
    }

    pub(crate) fn current(&self) -> Option<Session> {
        self.session.read().clone()
    }

    /// Stores newer tokens. `refresh_early` stays the same if it is `None`.
    pub(crate) fn replace_tokens(&self, tokens: Tokens, refresh_early: Option<bool>) {
        if let Some(session) = self.session.write().as_mut() {
            session.tokens = tokens;
            session.refresh_early = refresh_early.unwrap_or(session.refresh_early);
        }
    }

    pub(crate) fn set_account_token(&self, token: SecretText, now: Instant) {
        *self.account_token.lock() = Some((token, now));
    }

    /// The token with the account audience, if its password sign-in is fresh enough for another request.
    pub(crate) fn account_token(&self, now: Instant) -> Option<SecretText> {
        let current = self.account_token.lock();
        let (token, since) = current.as_ref()?;
        let is_fresh = now.saturating_duration_since(*since) < PASSWORD_FRESH - ACCOUNT_TOKEN_MARGIN;
        is_fresh.then(|| token.clone())
    }

    /// Remembers a password that was just proven or set, so that the next call does not need another OPAQUE login.
    pub(crate) fn remember_login(&self, password: &str, export_key: ExportKey, salt: [u8; 32], now: Instant) {
        *self.login.lock() = Some(Login {
            salt,
            password_hash: hash_password(&salt, password),
            export_key,
            since: now,
        });
    }

    /// The export key of the last sign-in, if this is its password.
    pub(crate) fn export_key_of(&self, password: &str, now: Instant) -> Option<ExportKey> {
        let login = self.login.lock();
        let login = login.as_ref()?;
        // Both sides are hashes under a random salt, so the time of the comparison reveals nothing about the password.
        let same = *hash_password(&login.salt, password) == *login.password_hash;
        (login.is_fresh(now) && same).then(|| login.export_key.clone())
    }

    /// The export key of the last sign-in, whatever its password was.
    pub(crate) fn last_export_key(&self, now: Instant) -> Option<ExportKey> {
        let login = self.login.lock();
        login
            .as_ref()
            .filter(|login| login.is_fresh(now))
            .map(|login| login.export_key.clone())
    }
}

impl Login {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < PASSWORD_FRESH
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
