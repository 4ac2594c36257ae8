//! Calls under the session's token, and its refresh.

use synckit_protocol::{
    SecretText,
    wire::{
        UnixSeconds,
        auth::{Refresh, Refreshed},
    },
};

use super::{
    call::{Answer, Call},
    session::Connection,
};
use crate::{
    error::{Error, Result},
    runtime,
    state::session::{Session, Tokens},
};

/// How long before its expiry a token is refreshed.
const REFRESH_EARLY_SECONDS: u64 = 24 * 3600;

/// The most attempts of a call with newer tokens.
const REFRESHES_MAX: u32 = 3;

impl Connection {
    /// Sends a call with the session's token. The token is refreshed before it expires, or after the server refused it.
    pub(crate) async fn authorized(&self, call: Call<'_>) -> Result<Answer> {
        let mut session = self.current_session()?;
        let token = if !session.refresh_early || is_fresh(session.tokens.expires_at) {
            session.tokens.token.clone()
        } else {
            // If the refresh fails, a token that is still valid is good enough. If the session has ended, the answer to
            // the token gives the reason, which the answer to a refresh secret cannot.
            match self.refresh(&session).await {
                Err(Error::Network(_) | Error::RetryLater { .. } | Error::SessionEnded) => session.tokens.token.clone(),
                refreshed => refreshed?,
            }
        };
        let mut answer = self.api().send(&call.clone().bearer(&token)).await;
        for _ in 0..REFRESHES_MAX {
            if !matches!(answer, Err(Error::SessionEnded)) {
                break;
            }
            // Another process of this device may have stored a newer token, and the server may have refused that one,
            // too. Only the server's answer to a refresh proves that the session has ended.
            let token = self.refresh(&session).await?;
            session = self.current_session()?;
            answer = self.api().send(&call.clone().bearer(&token)).await;
        }
        answer
    }

    /// Sends a call with the session's token whose answer has no body.
    pub(crate) async fn authorized_unit(&self, call: Call<'_>) -> Result<()> {
        self.authorized(call).await?.empty()
    }

    /// Replaces the token of the session that the caller saw. The second of two callers finds the new token. The
    /// refresh secret distinguishes sessions.
    async fn refresh(&self, seen: &Session) -> Result<SecretText> {
        let _turn = self.refreshing.next().await;
        let current = self.current_session()?;
        if current.tokens.refresh != seen.tokens.refresh {
            return Ok(current.tokens.token);
        }
        for attempt in 0.. {
            // Another process of this device may have refreshed, also while this one waited: the stored secret is then
            // newer than the one in memory. The server treats a secret that is two refreshes old as a thief's copy, and
            // would end the session of both.
            if let Some(stored) = self.stored_tokens().await?
                && stored.refresh != self.current_session()?.tokens.refresh
            {
                let fresh = !current.refresh_early || is_fresh(stored.expires_at);
                self.session.replace_tokens(stored, None);
                if fresh {
                    break;
                }
            }
            let used = self.current_session()?.tokens.refresh;
            let call = Call::post("/api/sync/auth/refresh").body(&Refresh { refresh: used.clone() })?;
            match self.api().call::<Refreshed>(call.once()).await {
                Ok(refreshed) => {
                    self.app().check_app(refreshed.app_id)?;
                    self.install_refreshed(refreshed, &used).await?;
                    break;
                }
                Err(error) => match self.api().jitter.wait_after(&error, attempt) {
                    Some(wait) => runtime::sleep(wait).await,
                    None => return Err(error),
                },
            }
        }
        Ok(self.current_session()?.tokens.token)
    }

    /// Makes a new refresh secret of the same session current, in memory and in the credential store.
    pub(crate) async fn install_refresh(&self, refresh: SecretText) -> Result<()> {
        // Wait for a running refresh, which would store its own secret over this one.
        let _turn = self.refreshing.next().await;
        let tokens = Tokens {
            refresh,
            ..self.current_session()?.tokens
        };
        self.session.replace_tokens(tokens, None);
        self.save_session().await
    }

    /// Makes the answer to a refresh current, in memory and in the credential store.
    async fn install_refreshed(&self, refreshed: Refreshed, used: &SecretText) -> Result<()> {
        let refresh_early = is_fresh(refreshed.expires_at);
        let tokens = Tokens {
            token: refreshed.token,
            expires_at: refreshed.expires_at,
            refresh: refreshed.refresh,
        };
        self.session.replace_tokens(tokens, Some(refresh_early));
        match self.stored_tokens().await? {
            // Another process was faster: its stored tokens are as new as these, or newer.
            Some(stored) if stored.refresh != *used => Ok(()),
            _ => self.save_session().await,
        }
    }
}

/// Whether a token is far from its expiry, by this machine's clock.
fn is_fresh(expires_at: UnixSeconds) -> bool {
    runtime::unix_now().saturating_add(REFRESH_EARLY_SECONDS) < expires_at
}
