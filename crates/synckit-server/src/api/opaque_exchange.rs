//! The server's side of the OPAQUE exchange, for every endpoint that runs it: sign-in, unlock, password login.
//!
//! Invariant: nothing in an answer, neither its shape nor its size nor, as far as the server can help it, its time, tells
//! whether an account exists.

use rand::rngs::OsRng;
use synckit_login::{LoginError, ServerLogin};
use synckit_protocol::{AppId, LOGIN_SUITE, ProblemCode, SecretText, SessionId, UserId, wire::auth::LoginStarted};
use synckit_store::{Credential, CredentialId, CredentialOf, PasswordRecord, SecretHash};
use zeroize::Zeroizing;

use crate::{
    http::{ApiError, ClientAddress},
    limits::{Mailbox, Ticket},
    platform::random_id,
    sign_in::{LoginState, NormalEmail, Purpose},
    state::ServerState,
};

/// An account to sign in to, or the stand-in of one that does not exist.
pub(crate) struct Account {
    pub(super) id: UserId,
    /// Of the record, also of one that no password matches any more.
    credential_id: CredentialId,
    /// The OPAQUE record. `None` makes the exchange run on a fake one.
    record: Option<Vec<u8>>,
    /// The mailed code of a pending account, whose address the login confirms.
    confirms: Option<SecretHash>,
}

impl Account {
    /// The account of a credential, or its stand-in.
    pub(super) fn of(credential: Option<Credential>, stand_in: [u8; 16]) -> Self {
        let (id, credential_id) = credential
            .as_ref()
            .map_or((UserId::from_bytes(stand_in), CredentialId(stand_in)), |credential| {
                (credential.user_id, credential.password.credential_id)
            });
        Self {
            id,
            credential_id,
            // A record of an OPRF seed that is gone matches no password. It is treated like none: the answer is "wrong
            // password", and only a reset by mail helps.
            record: credential
                .filter(|credential| !credential.stale)
                .map(|credential| credential.password.record),
            confirms: None,
        }
    }
}

pub(crate) async fn find_account(state: &ServerState, email: &NormalEmail) -> Result<Account, ApiError> {
    let credential = state.store.credential(CredentialOf::Email(email.as_str())).await?;
    // Computed in both cases, so that both take the same time.
    let stand_in = state.login.stand_in(email.as_str().as_bytes());
    Ok(Account::of(credential, stand_in))
}

/// The pending account of an address and the code that was mailed to it.
///
/// Nothing else reaches its record: without the code a pending account is an unknown address. A wrong code is refused at once,
/// which reveals no account, because nobody can guess a code.
pub(super) async fn find_pending(
    state: &ServerState,
    email: &NormalEmail,
    code: &SecretText,
    address: ClientAddress,
) -> Result<Account, ApiError> {
    let now = state.config.clock.now();
    let code = SecretHash::of(code.expose());
    let of = CredentialOf::Pending {
        email: email.as_str(),
        code,
        now,
    };
    let Some(credential) = state.store.credential(of).await? else {
        state.guesses.count_address(address.prefix(), now).await?;
        return Err(ProblemCode::MailCodeInvalid.into());
    };
    let stand_in = *credential.user_id.as_bytes();
    Ok(Account {
        confirms: Some(code),
        ..Account::of(Some(credential), stand_in)
    })
}

/// The mailbox of an address, by which mails about registrations are counted. The same for an address with an account as for
/// one without.
pub(crate) fn mailbox(state: &ServerState, email: &NormalEmail) -> Mailbox {
    state.login.stand_in(email.mailbox().as_bytes())
}

pub(crate) async fn count_guess(
    state: &ServerState,
    account: &Account,
    address: ClientAddress,
) -> Result<Ticket, ApiError> {
    let now = state.config.clock.now();
    Ok(state
        .guesses
        .count(*account.id.as_bytes(), address.prefix(), now)
        .await?)
}

/// A login of which the first two messages are exchanged.
pub(crate) struct StartedLogin {
    pub(super) state: LoginState,
    pub(super) ke2: Vec<u8>,
}

impl StartedLogin {
    pub(crate) fn sealed(self, state: &ServerState, purpose: Purpose) -> LoginStarted {
        let login = state.states.seal_login(purpose, &self.state, state.config.clock.now());
        LoginStarted {
            login: login.into(),
            ke2: self.ke2.into(),
        }
    }
}

pub(crate) fn start_login(
    state: &ServerState,
    account: &Account,
    app_id: AppId,
    session_id: SessionId,
    ticket: Ticket,
    ke1: &[u8],
) -> Result<StartedLogin, ApiError> {
    let (opaque, ke2) = state
        .login
        .start(
            app_id,
            account.record.as_deref(),
            ke1,
            &account.credential_id.0,
            &mut OsRng,
        )
        .map_err(|error| login_problem(error, "ke1"))?;
    let state = LoginState {
        app_id,
        user_id: account.id,
        credential_id: account.credential_id,
        known: account.record.is_some(),
        session_id,
        ticket,
        confirms: account.confirms,
        opaque: Zeroizing::new(opaque),
    };
    Ok(StartedLogin { state, ke2 })
}

/// Checks the last message, and returns whose password it was.
pub(crate) fn finish_login(opened: &LoginState, ke3: &[u8]) -> Result<UserId, ApiError> {
    let finished = ServerLogin::finish(opened.app_id, &opened.opaque, ke3).map_err(|error| login_problem(error, "ke3"));
    // A fake record matches no password; this holds even if it did.
    finished.and(if opened.known {
        Ok(())
    } else {
        Err(ProblemCode::InvalidCredentials.into())
    })?;
    Ok(opened.user_id)
}

/// Answers the first message of OPAQUE for a new record, under a credential identifier of its own.
///
/// Never under that of a record that is in use: these calls are counted more leniently than guesses, and each evaluates an
/// element of the caller's choice.
pub(super) fn answer_registration(state: &ServerState, request: &[u8]) -> Result<(CredentialId, Vec<u8>), ApiError> {
    let credential_id = CredentialId(random_id());
    let response = state
        .login
        .register(request, &credential_id.0)
        .map_err(|error| login_problem(error, "request"))?;
    Ok((credential_id, response))
}

/// The problem for a failure of OPAQUE; `field` is the client's message.
pub(super) fn login_problem(error: LoginError, field: &str) -> ApiError {
    match error {
        LoginError::WrongPassword => ProblemCode::InvalidCredentials.into(),
        LoginError::MalformedMessage { message } => ApiError::invalid(field, format!("not a valid {message}")),
        other => ApiError::internal(other),
    }
}

pub(crate) fn require_suite(suite: u16) -> Result<(), ApiError> {
    if suite == LOGIN_SUITE {
        Ok(())
    } else {
        Err(ApiError::new(ProblemCode::UnsupportedSuite).with_detail(format!("this server speaks suite {LOGIN_SUITE}")))
    }
}

/// Whether an account has this very password: a repeated message had set it before.
pub(super) async fn has_password(
    state: &ServerState,
    user_id: UserId,
    password: &PasswordRecord,
) -> Result<bool, ApiError> {
    let stored = state.store.credential(CredentialOf::User(user_id)).await?;
    Ok(stored.is_some_and(|stored| stored.password == *password))
}
