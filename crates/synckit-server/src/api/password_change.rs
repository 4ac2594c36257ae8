//! `/api/account/password`: a new password, with a vault that it opens. Needs a token of account audience.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_login::ServerLogin;
use synckit_protocol::{
    ProblemCode, VaultEdition,
    wire::accounts::{PasswordChangeFinish, PasswordChangeStart, PasswordChanged, RegisterStarted},
};
use synckit_store::{PasswordRecord, VaultWrite, VersionedWrite};

use super::{
    access::AccountAccess,
    opaque_exchange::{answer_registration, has_password, login_problem, require_suite},
    vault::{check_successor, written},
};
use crate::{
    http::{ApiError, ClientAddress, Received},
    sign_in::{PasswordState, Purpose, RefreshSecret},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `POST /api/account/password/start`.
pub(super) async fn start(
    State(state): Server,
    access: AccountAccess,
    address: ClientAddress,
    Received { value: body, reply }: Received<PasswordChangeStart>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    require_suite(body.suite)?;
    state.guesses.count_own_address(address.prefix(), now).await?;
    state
        .guesses
        .count_account(*access.user_id.as_bytes(), address.prefix(), now)
        .await?;
    let (credential_id, response) = answer_registration(&state, &body.request.0)?;
    let change = PasswordState {
        user_id: access.user_id,
        credential_id,
        authority: session_authority(access),
        // The last message names it.
        vault_version: 0,
    };
    let registration = state.states.seal_password(Purpose::ChangePassword, &change, now);
    reply.ok(&RegisterStarted {
        registration: registration.into(),
        user_id: access.user_id,
        response: response.into(),
        vault_generation: None,
    })
}

/// `POST /api/account/password`.
pub(super) async fn finish(
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
    let vault = &body.vault.0;
    check_successor(
        &state,
        access.user_id,
        vault,
        body.expected_version,
        VaultEdition::next_count,
    )
    .await?;
    let record = ServerLogin::finish_registration(&body.record.0).map_err(|error| login_problem(error, "record"))?;
    // Read before the write, to know which sessions ended with it: here at once, on other nodes within seconds.
    let others = state.store.sessions(access.user_id, now).await?;
    let password = PasswordRecord {
        credential_id: change.credential_id,
        record,
    };
    let write = VaultWrite {
        user_id: access.user_id,
        vault: body.vault.0,
        expected_version: body.expected_version,
        keep_replaced: false,
        password: Some(password.clone()),
        keep_session: Some(access.session_id),
    };
    let version = match state.store.write_vault(write).await? {
        // Made already, and its answer got lost: the session needs its new refresh secret.
        VersionedWrite::Conflict(current) if has_password(&state, access.user_id, &password).await? => current,
        outcome => written(outcome)?,
    };
    let ended: Vec<_> = others
        .iter()
        .map(|session| session.id)
        .filter(|id| *id != access.session_id)
        .collect();
    state.sessions.end(&ended, now);
    let session = state.store.session(access.session_id, now).await?;
    let refresh = RefreshSecret {
        session_id: access.session_id,
        counter: session.ok_or(ProblemCode::SessionEnded)?.refresh_counter,
    };
    reply.ok(&PasswordChanged {
        version,
        refresh: refresh.to_text(&state.derived.refresh),
    })
}

/// Binds a change of password to the session that began it.
fn session_authority(access: AccountAccess) -> [u8; 32] {
    let mut authority = [0; 32];
    authority[..16].copy_from_slice(access.session_id.as_bytes());
    authority
}
