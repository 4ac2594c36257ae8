//! `POST /oauth/device_authorization`, and what `/oauth/token` answers to a machine that polls (RFC 8628).
//!
//! The person allows it on a page, `web::device`. The machine gets a session of its own; keys it gets from nobody but its user.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use synckit_protocol::{
    AppId, ProblemCode, SecretText, SessionId, check_name,
    limits::{DEVICE_GRANT_SECONDS, DEVICE_GRANTS_MAX, DEVICE_NAME_BYTES_MAX, DEVICE_POLL_SECONDS},
    wire::oauth::DeviceAuthorization,
};
use synckit_store::{DevicePoll, NewDeviceGrant, SecretHash, StreamId};

use super::{
    auth::{Proof, open_session, refuse_repeated},
    oauth::{Granted, issuer, json, oauth_error, of_app, tokens},
};
use crate::{
    http::{ApiError, ClientAddress, Fields, Form, RequestScope},
    limits::NotCounted,
    oauth::{Allowed, Machine, UserCode, is_text},
    platform::{random_bytes, random_id},
    state::ServerState,
};

/// The grant type of a machine that polls.
pub(super) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Codes that are drawn until one is free. With 100,000 in use, one in 256,000 is taken.
const DRAWS_MAX: u32 = 8;

/// `POST /oauth/device_authorization` (RFC 8628, section 3.1).
pub(super) async fn begin(
    State(state): State<Arc<ServerState>>,
    scope: RequestScope,
    address: ClientAddress,
    form: Result<Form, ApiError>,
) -> Result<Response, ApiError> {
    let (app_id, fields) = match of_app(&state, &scope, form).await? {
        Ok(named) => named,
        Err(refusal) => return oauth_error(refusal),
    };
    let name = fields.get("device_name").unwrap_or_default();
    if !name.is_empty() && (!is_text(name) || check_name(name, DEVICE_NAME_BYTES_MAX).is_err()) {
        return oauth_error((
            "invalid_request",
            "device_name must have at most 100 bytes of UTF-8, without control characters",
        ));
    }
    let now = state.config.clock.now();
    match state.device_codes.count_start(address.prefix(), now).await {
        Ok(()) => {}
        Err(NotCounted::TooMany(refused)) => {
            return Err(ApiError::new(ProblemCode::RateLimited).retry_after(refused.retry_after.as_secs()));
        }
        Err(NotCounted::Store(error)) => return Err(error.into()),
    }
    let machine = Machine {
        address: address.0.to_canonical(),
        name: name.to_owned(),
    };
    let device_code = SecretText::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    for _ in 0..DRAWS_MAX {
        let user_code = UserCode::random();
        let grant = NewDeviceGrant {
            device_code: SecretHash::of(device_code.expose()),
            user_code: user_code.hash(&state.derived.user_codes),
            app_id,
            asked: machine.sealed(&state.states, now),
            now,
            grants_max: DEVICE_GRANTS_MAX,
        };
        if state.store.put_device_grant(grant).await? {
            let verification_uri = format!("{}/oauth/device", issuer(&state));
            return json(
                StatusCode::OK,
                &DeviceAuthorization {
                    device_code,
                    user_code: user_code.to_string(),
                    verification_uri_complete: format!("{verification_uri}?user_code={user_code}"),
                    verification_uri,
                    expires_in: DEVICE_GRANT_SECONDS,
                    interval: DEVICE_POLL_SECONDS,
                },
            );
        }
    }
    Err(ProblemCode::Overloaded.into())
}

/// The answer to a poll (RFC 8628, section 3.5).
pub(super) async fn poll(state: &ServerState, fields: &Fields, app_id: AppId) -> Result<Granted, ApiError> {
    let Some(text) = fields.get("device_code") else {
        return Ok(Err(("invalid_request", "device_code is needed")));
    };
    let now = state.config.clock.now();
    let device_code = SecretHash::of(text);
    let allowed_by = match state.store.poll_device_grant(device_code, app_id, now).await? {
        DevicePoll::Allowed { allowed_by } => allowed_by,
        DevicePoll::Waiting => return Ok(Err(("authorization_pending", "nobody has allowed it yet"))),
        DevicePoll::TooFast => {
            return Ok(Err((
                "slow_down",
                "the polls come too fast: leave five seconds more between them from now on",
            )));
        }
        DevicePoll::Denied => return Ok(Err(("access_denied", "the person did not allow it"))),
        DevicePoll::Expired => return Ok(Err(("expired_token", "nobody allowed it in time: ask for new codes"))),
        DevicePoll::Unknown => {
            return Ok(Err((
                "invalid_grant",
                "the code is not one of this server and this app, or was used already",
            )));
        }
    };
    let Ok(allowed) = Allowed::open(&state.states, &allowed_by, now) else {
        return Ok(Err(("expired_token", "it was allowed too long ago: ask for new codes")));
    };
    let session_id = SessionId::from_bytes(random_id());
    let stream = StreamId {
        app_id,
        user_id: allowed.user_id,
    };
    refuse_repeated(state, text, allowed.user_id, Some(session_id)).await?;
    let proof = Proof {
        login: device_code,
        credential: allowed.credential_id,
    };
    match open_session(state, session_id, stream, Some(proof)).await {
        Ok(signed_in) => Ok(Ok(tokens(state, signed_in))),
        Err(error) if error.problem().status < 500 => Ok(Err((
            "invalid_grant",
            "the account is gone, or its password was replaced",
        ))),
        Err(error) => Err(error),
    }
}
