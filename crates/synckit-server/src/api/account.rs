//! `/api/account`: what belongs to the account and not to an app. Needs a token of account audience.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_login::ServerLogin;
use synckit_protocol::{
    ProblemCode, SessionId, limits,
    wire::accounts::{
        PasswordChangeFinish, PasswordChangeStart, PutVault, RegisterStarted, SessionInfo, SessionList, VaultAnswer,
        VaultWritten,
    },
};
use synckit_store::{EndSessions, VaultWrite, VersionedWrite};

use super::{
    access::AccountAccess,
    auth::{login_problem, require_suite},
};
use crate::{
    http::{ApiError, PathText, Received, Reply},
    sign_in::{PasswordState, Purpose},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /api/account/vault`.
pub(super) async fn vault(State(state): Server, access: AccountAccess, reply: Reply) -> Result<Response, ApiError> {
    let vault = state
        .store
        .vault(access.user_id)
        .await?
        .ok_or(ProblemCode::AccountGone)?;
    reply.ok(&VaultAnswer {
        vault: vault.vault.into(),
        version: vault.version,
        earlier: vault.earlier.into_iter().map(Into::into).collect(),
    })
}

/// `PUT /api/account/vault`.
pub(super) async fn put_vault(
    State(state): Server,
    access: AccountAccess,
    Received { value: body, reply }: Received<PutVault>,
) -> Result<Response, ApiError> {
    check_vault(&body.vault.0)?;
    let write = VaultWrite {
        user_id: access.user_id,
        vault: body.vault.0,
        expected_version: body.expected_version,
        record: None,
        keep_session: None,
    };
    let version = written(state.store.write_vault(write).await?)?;
    reply.ok(&VaultWritten { version })
}

/// `POST /api/account/password/start`.
pub(super) async fn password_start(
    State(state): Server,
    access: AccountAccess,
    Received { value: body, reply }: Received<PasswordChangeStart>,
) -> Result<Response, ApiError> {
    require_suite(body.suite)?;
    let response = state
        .login
        .register(&body.request.0, access.user_id.as_bytes())
        .map_err(|error| login_problem(error, "request"))?;
    let change = PasswordState {
        user_id: access.user_id,
        authority: session_authority(access),
    };
    let registration = state
        .states
        .seal_password(Purpose::ChangePassword, &change, state.config.clock.now());
    reply.ok(&RegisterStarted {
        registration: registration.into(),
        user_id: access.user_id,
        response: response.into(),
        vault_generation: None,
    })
}

/// `POST /api/account/password`.
pub(super) async fn password_finish(
    State(state): Server,
    access: AccountAccess,
    Received { value: body, reply }: Received<PasswordChangeFinish>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let change = state
        .states
        .open_password(Purpose::ChangePassword, &body.registration.0, now)?;
    if change.user_id != access.user_id || change.authority != session_authority(access) {
        return Err(ApiError::new(ProblemCode::LoginExpired).with_detail("the change belongs to another session"));
    }
    check_vault(&body.vault.0)?;
    let record = ServerLogin::finish_registration(&body.record.0).map_err(|error| login_problem(error, "record"))?;
    // Read before the write, to know which sessions ended with it: here at once, on other nodes within seconds.
    let others = state.store.sessions(access.user_id, now).await?;
    let write = VaultWrite {
        user_id: access.user_id,
        vault: body.vault.0,
        expected_version: body.expected_version,
        record: Some(record),
        keep_session: Some(access.session_id),
    };
    let version = written(state.store.write_vault(write).await?)?;
    let ended: Vec<_> = others
        .iter()
        .map(|session| session.id)
        .filter(|id| *id != access.session_id)
        .collect();
    state.sessions.end(&ended, now);
    reply.ok(&VaultWritten { version })
}

/// `GET /api/account/sessions`.
pub(super) async fn sessions(State(state): Server, access: AccountAccess, reply: Reply) -> Result<Response, ApiError> {
    let sessions = state.store.sessions(access.user_id, state.config.clock.now()).await?;
    let sessions = sessions
        .into_iter()
        .map(|session| SessionInfo {
            id: session.id,
            app_name: session.app_name,
            device_name: session.device_name,
            created_at: session.created_at,
            refreshed_at: session.refreshed_at,
            current: session.id == access.session_id,
        })
        .collect();
    reply.ok(&SessionList { sessions })
}

/// `DELETE /api/account/sessions/{id}`.
pub(super) async fn end_session(
    State(state): Server,
    access: AccountAccess,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    // A text that is no id names no session.
    let id: SessionId = id.parse().map_err(|_| ProblemCode::SessionNotFound)?;
    let which = EndSessions::OneOfUser(access.user_id, id);
    let ended = state.store.end_sessions(which).await?;
    if ended.is_empty() {
        return Err(ProblemCode::SessionNotFound.into());
    }
    state.sessions.end(&ended, state.config.clock.now());
    Ok(Reply::empty())
}

/// Binds a change of password to the session that began it.
fn session_authority(access: AccountAccess) -> [u8; 32] {
    let mut authority = [0; 32];
    authority[..16].copy_from_slice(access.session_id.as_bytes());
    authority
}

/// The server cannot look into a vault; it can only bound it.
pub(super) fn check_vault(vault: &[u8]) -> Result<(), ApiError> {
    if vault.is_empty() || vault.len() > limits::VAULT_BYTES_MAX {
        return Err(ApiError::invalid(
            "vault",
            format!("must be 1 to {} bytes", limits::VAULT_BYTES_MAX),
        ));
    }
    Ok(())
}

/// The version that was written, or the problem that tells which one is current.
fn written(outcome: VersionedWrite) -> Result<u64, ApiError> {
    match outcome {
        VersionedWrite::Written(version) => Ok(version),
        VersionedWrite::Conflict(current) => Err(version_conflict(current)),
    }
}

/// What a write is told that names another version than the current one.
pub(super) fn version_conflict(current: u64) -> ApiError {
    ApiError::new(ProblemCode::VersionConflict).with(|problem| problem.current_version = Some(current))
}
