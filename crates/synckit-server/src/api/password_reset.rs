//! A forgotten password: `/api/accounts/reset`, with a code from a mail.
//!
//! Invariant: nobody learns here whether an address has an account, except the reader of its mail.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_login::ServerLogin;
use synckit_protocol::{
    ProblemCode, VaultEdition,
    wire::accounts::{PasswordReplaced, RegisterFinish, RegisterStarted, ResetRequest, ResetStart},
};
use synckit_store::{PasswordRecord, PasswordReset, SecretHash};

use super::{
    opaque_exchange::{answer_registration, has_password, login_problem, require_suite},
    problems::invalid_email,
    vault::{check_vault, written},
};
use crate::{
    http::{ApiError, ClientAddress, Received, Reply},
    limits::NotCounted,
    mail::MailJob,
    sign_in::{NormalEmail, PasswordState, Purpose},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `POST /api/accounts/reset/request`. Everything that depends on the account happens after the answer.
pub(super) async fn request(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, .. }: Received<ResetRequest>,
) -> Result<Response, ApiError> {
    let email = NormalEmail::parse(&body.email).map_err(invalid_email)?;
    let now = state.config.clock.now();
    state.guesses.count_address(address.prefix(), now).await?;
    let place = state.mailer.reserve()?;
    let counted = state
        .mails
        .count_reset(state.login.stand_in(email.as_str().as_bytes()), now)
        .await;
    counted.map_err(|refused| match refused {
        NotCounted::TooMany(_) => ApiError::from(refused)
            .with_detail("this address got enough mails for now; the newest code in its mailbox is valid for an hour"),
        NotCounted::Store(error) => error.into(),
    })?;
    place.fill(MailJob::ResetPassword {
        email: email.as_str().to_owned(),
    });
    Ok(Reply::empty())
}

/// `POST /api/accounts/reset/start`.
pub(super) async fn start(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, reply }: Received<ResetStart>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    require_suite(body.suite)?;
    state.guesses.count_address(address.prefix(), now).await?;
    let code = SecretHash::of(body.code.expose());
    let found = state
        .store
        .start_reset(code, now)
        .await?
        .ok_or(ProblemCode::MailCodeInvalid)?;
    let user_id = found.user_id;
    state
        .guesses
        .count_account(*user_id.as_bytes(), address.prefix(), now)
        .await?;
    let (credential_id, response) = answer_registration(&state, &body.request.0)?;
    let vault_generation = edition_of_reset(found.vault_version)?.generation;
    let reset = PasswordState {
        user_id,
        credential_id,
        authority: code.0,
        vault_version: found.vault_version,
    };
    let registration = state.states.seal_password(Purpose::Reset, &reset, now).into();
    reply.ok(&RegisterStarted {
        registration,
        user_id,
        response: response.into(),
        vault_generation: Some(vault_generation),
    })
}

/// `POST /api/accounts/reset`.
pub(super) async fn finish(
    State(state): Server,
    Received { value: body, reply }: Received<RegisterFinish>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let started = state.states.open_password(Purpose::Reset, &body.registration.0, now)?;
    check_vault(&body.vault.0, edition_of_reset(started.vault_version)?)?;
    let record = ServerLogin::finish_registration(&body.record.0).map_err(|error| login_problem(error, "record"))?;
    let sessions = state.store.sessions(started.user_id, now).await?;
    let password = PasswordRecord {
        credential_id: started.credential_id,
        record,
    };
    let reset = PasswordReset {
        code: SecretHash(started.authority),
        password: password.clone(),
        vault: body.vault.0,
        expected_version: started.vault_version,
        now,
    };
    let outcome = state.store.reset_password(reset).await?;
    match outcome.ok_or(ProblemCode::MailCodeInvalid.into()).and_then(written) {
        Ok(_) => {
            let ended: Vec<_> = sessions.iter().map(|session| session.id).collect();
            state.sessions.end(&ended, now);
        }
        // Made already, and its answer got lost.
        Err(_) if has_password(&state, started.user_id, &password).await? => {}
        Err(error) => return Err(error),
    }
    reply.ok(&PasswordReplaced {
        user_id: started.user_id,
    })
}

/// The edition of the vault that replaces this version by a reset. Every write of a vault counts, and starts a new generation
/// at most, so it is greater than every edition before.
fn edition_of_reset(vault_version: u64) -> Result<VaultEdition, ApiError> {
    let generation = u32::try_from(vault_version.saturating_add(1)).map_err(ApiError::internal)?;
    Ok(VaultEdition { generation, count: 1 })
}
