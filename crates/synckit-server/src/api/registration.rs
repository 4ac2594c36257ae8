//! Registration: `POST /api/accounts/start` and `POST /api/accounts`.
//!
//! With a mail server, the account is pending until a sign-in names the code that was mailed to its address. Without one,
//! nothing could confirm the address, and the account works at once.
//!
//! Invariant: with a mail server, nobody learns here whether an address has an account, except the reader of its mail. Each
//! registration writes and mails the same, whether or not the address is taken.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_login::ServerLogin;
use synckit_protocol::{
    ProblemCode, SecretText, UserId, VaultEdition,
    wire::accounts::{RegisterFinish, RegisterStart, RegisterStarted, Registered},
};
use synckit_store::{AccountCreation, NewAccount, NewPendingAccount, PasswordRecord, SecretHash};

use super::{
    opaque_exchange::{answer_registration, login_problem, mailbox, require_suite},
    problems::invalid_email,
    vault::check_vault,
};
use crate::{
    http::{ApiError, ClientAddress, Received},
    limits::Registering,
    mail::MailJob,
    platform::random_id,
    sign_in::{NormalEmail, RegistrationState, fresh_secret},
    startup::config::{MailDelivery, Registration},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `POST /api/accounts/start`.
pub(super) async fn start(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, reply }: Received<RegisterStart>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    require_suite(body.suite)?;
    state.guesses.count_address(address.prefix(), now).await?;
    let invite = check_invite(&state, body.invite.as_ref()).await?;
    let email = NormalEmail::parse(&body.email).map_err(invalid_email)?;
    // Drawn now, because the vault that the client is about to make is bound to it.
    let user_id = UserId::from_bytes(random_id());
    let (credential_id, response) = answer_registration(&state, &body.request.0)?;
    let registration = RegistrationState {
        user_id,
        credential_id,
        invite,
        email,
    };
    let registration = state.states.seal_registration(&registration, now).into();
    reply.ok(&RegisterStarted {
        registration,
        user_id,
        response: response.into(),
        vault_generation: Some(VaultEdition::FIRST.generation),
    })
}

/// `POST /api/accounts`.
pub(super) async fn finish(
    State(state): Server,
    Received { value: body, reply }: Received<RegisterFinish>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    if state.config.registration == Registration::Closed {
        return Err(ProblemCode::RegistrationClosed.into());
    }
    let started = state.states.open_registration(&body.registration.0, now)?;
    check_vault(&body.vault.0, VaultEdition::FIRST)?;
    let record = ServerLogin::finish_registration(&body.record.0).map_err(|error| login_problem(error, "record"))?;
    let account = NewAccount {
        user_id: started.user_id,
        email: started.email.as_str().to_owned(),
        password: PasswordRecord {
            credential_id: started.credential_id,
            record,
        },
        vault: body.vault.0,
        invite: started.invite,
        created_at: now,
    };
    let place = state.mailer.reserve()?;
    let mailbox = mailbox(&state, &started.email);
    let attempt = state.mails.count_registration(mailbox, started.user_id, now).await?;
    let pending = matches!(state.config.mail, MailDelivery::Smtp { .. });
    let code = fresh_secret();
    let lifetime = state.config.retention.pending_account;
    let created = if pending {
        let pending = NewPendingAccount {
            account,
            code: SecretHash::of(code.expose()),
            expires_at: now.saturating_add(lifetime.as_secs()),
            pending_max: state.config.bounds.pending_accounts,
        };
        state.store.put_pending_account(pending).await?
    } else {
        state.store.create_account(account).await?
    };
    let email = started.email.as_str().to_owned();
    match created {
        AccountCreation::Created if pending => {
            place.fill(MailJob::ConfirmAddress { email, code, lifetime });
        }
        // The first request sent its mail, and its code stays valid.
        AccountCreation::Created | AccountCreation::Repeated => {}
        AccountCreation::EmailTaken if attempt == Registering::Repeated => {}
        AccountCreation::EmailTaken => place.fill(MailJob::AddressTaken { email }),
        AccountCreation::InviteInvalid => return Err(ProblemCode::InviteInvalid.into()),
    }
    reply.ok(&Registered {
        user_id: started.user_id,
        pending,
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
