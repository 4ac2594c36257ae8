//! `/api/accounts`: registration, confirmation of the address, and the reset of a forgotten password.
//!
//! Invariant: nobody learns here whether an address has an account, except whoever reads its mail.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use synckit_login::ServerLogin;
use synckit_protocol::{
    ProblemCode, SecretText, UserId,
    wire::accounts::{
        RegisterFinish, RegisterStart, RegisterStarted, Registered, ResetRequest, ResetStart, VerifyEmail,
    },
};
use synckit_store::{AccountCreation, MailPurpose, NewAccount, PasswordReset, SecretHash};
use tokio::time::{Instant, sleep_until};

use super::{
    account::check_vault,
    auth::{login_problem, require_suite},
};
use crate::{
    http::{ApiError, ClientAddress, Received, Reply},
    mail::MailJob,
    platform::random_id,
    sign_in::{NormalEmail, PasswordState, Purpose, RegistrationState},
    startup::config::Registration,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// The least time that the second step of a registration takes: a new account is written to disk, a taken address is
/// not, and the difference must not be seen.
const REGISTER_TIME_MIN: Duration = Duration::from_millis(50);

/// `POST /api/accounts/start`.
pub(super) async fn start(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, reply }: Received<RegisterStart>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    require_suite(body.suite)?;
    state.guesses.count_address(address.prefix(), now)?;
    let invite = check_invite(&state, body.invite.as_ref()).await?;
    let email = NormalEmail::parse(&body.email).map_err(|error| ApiError::invalid("email", error.to_string()))?;
    // Drawn now, because the vault that the client is about to make is bound to it.
    let user_id = UserId::from_bytes(random_id());
    let response = state
        .login
        .register(&body.request.0, user_id.as_bytes())
        .map_err(|error| login_problem(error, "request"))?;
    let registration = RegistrationState {
        user_id,
        invite,
        email: email.as_str().to_owned(),
    };
    let registration = state.states.seal_registration(&registration, now).into();
    reply.ok(&RegisterStarted {
        registration,
        user_id,
        response: response.into(),
        vault_generation: Some(1),
    })
}

/// `POST /api/accounts`.
pub(super) async fn finish(
    State(state): Server,
    Received { value: body, reply }: Received<RegisterFinish>,
) -> Result<Response, ApiError> {
    let not_before = Instant::now() + REGISTER_TIME_MIN;
    let now = state.config.clock.now();
    if state.config.registration == Registration::Closed {
        return Err(ProblemCode::RegistrationClosed.into());
    }
    let started = state.states.open_registration(&body.registration.0, now)?;
    check_vault(&body.vault.0)?;
    let record = ServerLogin::finish_registration(&body.record.0).map_err(|error| login_problem(error, "record"))?;
    let account = NewAccount {
        user_id: started.user_id,
        email: started.email.clone(),
        record,
        vault: body.vault.0,
        invite: started.invite,
        created_at: now,
    };
    let created = state.store.create_account(account).await?;
    let job = match created {
        AccountCreation::Created => MailJob::ConfirmAddress {
            user_id: started.user_id,
            email: started.email,
        },
        AccountCreation::EmailTaken => MailJob::AddressTaken { email: started.email },
        AccountCreation::InviteInvalid => return Err(ProblemCode::InviteInvalid.into()),
    };
    state.mailer.enqueue(job);
    sleep_until(not_before).await;
    reply.ok(&Registered {
        user_id: started.user_id,
    })
}

/// `POST /api/accounts/verify`.
pub(super) async fn verify(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, .. }: Received<VerifyEmail>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    state.guesses.count_address(address.prefix(), now)?;
    if state
        .store
        .verify_email(SecretHash::of(body.code.expose()), now)
        .await?
    {
        Ok(Reply::empty())
    } else {
        Err(ProblemCode::MailCodeInvalid.into())
    }
}

/// `POST /api/accounts/reset/request`. Everything that depends on the account happens after the answer.
pub(super) async fn reset_request(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, .. }: Received<ResetRequest>,
) -> Result<Response, ApiError> {
    let email = NormalEmail::parse(&body.email).map_err(|error| ApiError::invalid("email", error.to_string()))?;
    state
        .guesses
        .count_address(address.prefix(), state.config.clock.now())?;
    state.mailer.enqueue(MailJob::ResetPassword {
        email: email.as_str().to_owned(),
    });
    Ok(Reply::empty())
}

/// `POST /api/accounts/reset/start`.
pub(super) async fn reset_start(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, reply }: Received<ResetStart>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    require_suite(body.suite)?;
    state.guesses.count_address(address.prefix(), now)?;
    let code = SecretHash::of(body.code.expose());
    let user_id = state
        .store
        .mail_code_owner(MailPurpose::Reset, code, now)
        .await?
        .ok_or(ProblemCode::MailCodeInvalid)?;
    let response = state
        .login
        .register(&body.request.0, user_id.as_bytes())
        .map_err(|error| login_problem(error, "request"))?;
    // Every write of a vault counts, so this is more than any generation before.
    let vault = state.store.vault(user_id).await?.ok_or(ProblemCode::MailCodeInvalid)?;
    let vault_generation = u32::try_from(vault.version + 1).map_err(ApiError::internal)?;
    let reset = PasswordState {
        user_id,
        authority: code.0,
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
pub(super) async fn reset_finish(
    State(state): Server,
    Received { value: body, reply }: Received<RegisterFinish>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let started = state.states.open_password(Purpose::Reset, &body.registration.0, now)?;
    check_vault(&body.vault.0)?;
    let record = ServerLogin::finish_registration(&body.record.0).map_err(|error| login_problem(error, "record"))?;
    let sessions = state.store.sessions(started.user_id, now).await?;
    let reset = PasswordReset {
        code: SecretHash(started.authority),
        record,
        vault: body.vault.0,
        now,
    };
    if !state.store.reset_password(reset).await? {
        return Err(ProblemCode::MailCodeInvalid.into());
    }
    let ended: Vec<_> = sessions.iter().map(|session| session.id).collect();
    state.sessions.end(&ended, now);
    reply.ok(&Registered {
        user_id: started.user_id,
    })
}

/// The invitation that the new account will use up, where one is needed.
async fn check_invite(state: &ServerState, invite: Option<&SecretText>) -> Result<Option<SecretHash>, ApiError> {
    match state.config.registration {
        Registration::Open => Ok(None),
        Registration::Closed => Err(ProblemCode::RegistrationClosed.into()),
        Registration::Invite => {
            let code = SecretHash::of(invite.ok_or(ProblemCode::InviteInvalid)?.expose());
            if state.store.invite_is_open(code).await? {
                Ok(Some(code))
            } else {
                Err(ProblemCode::InviteInvalid.into())
            }
        }
    }
}
