//! Authentication of requests by their tokens.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use synckit_protocol::{DeviceId, ProblemCode, SessionId, UserId, wire::UnixSeconds};
use synckit_store::{PAGES_APP, StreamId};

use crate::{
    http::{ApiError, ClientAddress, RequestScope, Work},
    limits::Owners,
    metering::AppMeter,
    sign_in::{Known, LiveSession, TokenError},
    state::ServerState,
};

/// A request with a token for the app, whose session lives.
#[derive(Debug, Clone)]
pub(super) struct AppAccess {
    pub(super) stream: StreamId,
    /// What is known of the app's plan.
    pub(super) app: Arc<AppMeter>,
    pub(super) session_id: SessionId,
    /// The device of the session, as far as this node knows it.
    device_id: Option<DeviceId>,
}

impl AppAccess {
    /// Whose share the request counts against.
    pub(super) const fn owners(&self) -> Owners {
        Owners::session(self.stream.user_id, self.session_id)
    }

    /// Refuses a request that names another device than that of its session: a token speaks for one device.
    pub(super) async fn require_device(&self, state: &ServerState, named: DeviceId) -> Result<(), ApiError> {
        let own = match self.device_id {
            // It never changes.
            Some(own) => own,
            // It may have been registered a moment ago, by a request to another node.
            None => {
                let now = state.config.clock.now();
                let session = state.store.session(self.session_id, now).await?;
                let session = session.ok_or(ProblemCode::SessionEnded)?;
                let own = session.device_id.ok_or(ProblemCode::DeviceMismatch)?;
                self.remember_device(state, own, now);
                own
            }
        };
        if own == named {
            Ok(())
        } else {
            Err(ProblemCode::DeviceMismatch.into())
        }
    }

    /// Remembers the device of the session, which the store was asked about at `read_at`.
    pub(super) fn remember_device(&self, state: &ServerState, device_id: DeviceId, read_at: UnixSeconds) {
        let session = LiveSession {
            stream: self.stream,
            device_id: Some(device_id),
        };
        state.sessions.remember(self.session_id, session, read_at);
    }
}

/// A request with a token for the account, from a password login not older than five minutes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountAccess {
    pub(crate) user_id: UserId,
    pub(crate) session_id: SessionId,
}

impl FromRequestParts<Arc<ServerState>> for AppAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ServerState>) -> Result<Self, ApiError> {
        let now = state.config.clock.now();
        let claims = state
            .tokens
            .verify_app(bearer(parts)?, now)
            .map_err(|error| match error {
                TokenError::Expired => ApiError::new(ProblemCode::TokenExpired),
                TokenError::Invalid | TokenError::OtherAudience => ApiError::new(ProblemCode::TokenInvalid),
            })?;
        let session = live_session(state, claims.session_id, claims.stream.user_id, parts).await?;
        // A token and its session were made together; if they differ, neither is to be believed. The pages' sessions have none.
        if session.stream != claims.stream || session.stream.app_id == PAGES_APP {
            return Err(ProblemCode::TokenInvalid.into());
        }
        let app = state.meter.app(claims.stream.app_id);
        RequestScope::of(parts).note_app(Arc::clone(&app));
        let access = Self {
            stream: claims.stream,
            app,
            session_id: claims.session_id,
            device_id: session.device_id,
        };
        Work::of(parts).enter(state, access.owners())?;
        Ok(access)
    }
}

impl FromRequestParts<Arc<ServerState>> for AccountAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ServerState>) -> Result<Self, ApiError> {
        let now = state.config.clock.now();
        let claims = state
            .tokens
            .verify_account(bearer(parts)?, now)
            .map_err(|error| match error {
                TokenError::Expired | TokenError::OtherAudience => ApiError::new(ProblemCode::FreshLoginRequired),
                TokenError::Invalid => ApiError::new(ProblemCode::TokenInvalid),
            })?;
        let session = live_session(state, claims.session_id, claims.user_id, parts).await?;
        if session.stream.user_id != claims.user_id {
            return Err(ProblemCode::TokenInvalid.into());
        }
        RequestScope::of(parts).note_app(state.meter.app(session.stream.app_id));
        Work::of(parts).enter(state, Owners::session(claims.user_id, claims.session_id))?;
        Ok(Self {
            user_id: claims.user_id,
            session_id: claims.session_id,
        })
    }
}

pub(super) fn bearer(parts: &Parts) -> Result<&str, ApiError> {
    let header = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let (scheme, token) = header
        .and_then(|text| text.split_once(' '))
        .ok_or(ProblemCode::TokenInvalid)?;
    // RFC 9110, section 11.1: the scheme is case-insensitive.
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(ProblemCode::TokenInvalid.into())
    }
}

/// The session of a token of this user, from memory for a few seconds, else from the store.
pub(crate) async fn live_session(
    state: &ServerState,
    id: SessionId,
    user_id: UserId,
    parts: &Parts,
) -> Result<LiveSession, ApiError> {
    // Before any lookup, so that a refusal stays cheap.
    state.rates.count_session(id)?;
    let now = state.config.clock.now();
    match state.sessions.look_up(id, now) {
        Known::Live(session) => return Ok(session),
        Known::Ended => return Err(why_ended(state, user_id).await),
        Known::Unknown => {}
    }
    let Some(found) = state.store.session(id, now).await? else {
        return Err(why_ended(state, user_id).await);
    };
    let session = LiveSession {
        stream: found.stream,
        device_id: found.device_id,
    };
    state.sessions.remember(id, session, now);
    // A sync with a valid token makes its address familiar: strangers cannot delay sign-ins from there, even after a
    // restart that forgot the address.
    let address = ClientAddress::of(parts, &state.config.trusted_proxies);
    state
        .guesses
        .note_use(*session.stream.user_id.as_bytes(), address.prefix(), now)
        .await;
    Ok(session)
}

/// Tells a session that has ended from an account that is gone, so that a device does not ask for a password that nobody
/// will take. The client holds a token that this server signed for the account, so this betrays no address.
async fn why_ended(state: &ServerState, user_id: UserId) -> ApiError {
    match state.store.account(user_id).await {
        Ok(Some(_)) => ProblemCode::SessionEnded.into(),
        Ok(None) => ProblemCode::AccountGone.into(),
        Err(error) => error.into(),
    }
}
