//! Registration: `POST /api/accounts/start`, `POST /api/accounts`, and the confirmation of the address.
//!
//! Invariant: nobody learns here whether an address has an account, except the reader of its mail.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use synckit_login::ServerLogin;
use synckit_protocol::{
    ProblemCode, SecretText, UserId,
    wire::accounts::{RegisterFinish, RegisterStart, RegisterStarted, Registered, VerifyEmail},
};
use synckit_store::{AccountCreation, NewAccount, PasswordRecord, SecretHash};
use tokio::time::{Instant, sleep_until};

use super::{
    opaque_exchange::{answer_registration, login_problem, require_suite},
    problems::invalid_email,
    vault::check_vault,
};
use crate::{
    http::{ApiError, ClientAddress, Received, Reply},
    mail::MailJob,
    platform::random_id,
    sign_in::{NormalEmail, RegistrationState},
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
    let email = NormalEmail::parse(&body.email).map_err(invalid_email)?;
    // Drawn now, because the vault that the client is about to make is bound to it.
    let user_id = UserId::from_bytes(random_id());
    let (credential_id, response) = answer_registration(&state, &body.request.0)?;
    let registration = RegistrationState {
        user_id,
        credential_id,
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
        password: PasswordRecord {
            credential_id: started.credential_id,
            record,
        },
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
