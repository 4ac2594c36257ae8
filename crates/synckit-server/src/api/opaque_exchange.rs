//! The server's side of the OPAQUE exchange, for every endpoint that runs it: sign-in, unlock, password login.
//!
//! Invariant: nothing in an answer, neither its shape nor its size nor, as far as the server can help it, its time, tells
//! whether an account exists.

use rand::rngs::OsRng;
use synckit_login::{LoginError, ServerLogin};
use synckit_protocol::{AppId, LOGIN_SUITE, ProblemCode, SessionId, UserId, wire::auth::LoginStarted};
use synckit_store::{Credential, CredentialOf};
use zeroize::Zeroizing;

use crate::{
    http::{ApiError, ClientAddress},
    limits::Ticket,
    sign_in::{LoginState, NormalEmail, Purpose},
    state::ServerState,
};

/// An account to sign in to, or what stands in for one that does not exist.
pub(super) struct Account {
    pub(super) id: UserId,
    /// The OPAQUE record. `None` makes the exchange run on a fake one.
    pub(super) record: Option<Vec<u8>>,
}

pub(super) async fn find_account(state: &ServerState, email: &NormalEmail) -> Result<Account, ApiError> {
    let credential = state.store.credential(CredentialOf::Email(email.as_str())).await?;
    // Computed in both cases, so that both take the same time.
    let mut stand_in = [0; 16];
    stand_in.copy_from_slice(&state.derived.unknown_accounts.sign(&[email.as_str().as_bytes()])[..16]);
    let id = credential
        .as_ref()
        .map_or(UserId::from_bytes(stand_in), |credential| credential.user_id);
    Ok(Account {
        id,
        record: usable_record(credential),
    })
}

/// A record of an OPRF seed that is gone matches no password. It is treated like none: the answer is "wrong password",
/// and only a reset by mail helps.
pub(super) fn usable_record(credential: Option<Credential>) -> Option<Vec<u8>> {
    credential
        .filter(|credential| !credential.stale)
        .map(|credential| credential.record)
}

pub(super) fn count_guess(state: &ServerState, account: &Account, address: ClientAddress) -> Result<Ticket, ApiError> {
    Ok(state
        .guesses
        .count(*account.id.as_bytes(), address.prefix(), state.config.clock.now())?)
}

/// A login of which the first two messages are exchanged.
pub(super) struct StartedLogin {
    pub(super) state: LoginState,
    pub(super) ke2: Vec<u8>,
}

impl StartedLogin {
    pub(super) fn sealed(self, state: &ServerState, purpose: Purpose) -> LoginStarted {
        let login = state.states.seal_login(purpose, &self.state, state.config.clock.now());
        LoginStarted {
            login: login.into(),
            ke2: self.ke2.into(),
        }
    }
}

pub(super) fn start_login(
    state: &ServerState,
    account: &Account,
    app_id: AppId,
    session_id: SessionId,
    ticket: Ticket,
    ke1: &[u8],
) -> Result<StartedLogin, ApiError> {
    let (opaque, ke2) = state
        .login
        .start(account.record.as_deref(), ke1, account.id.as_bytes(), &mut OsRng)
        .map_err(|error| login_problem(error, "ke1"))?;
    let state = LoginState {
        app_id,
        user_id: account.id,
        known: account.record.is_some(),
        session_id,
        ticket,
        opaque: Zeroizing::new(opaque),
    };
    Ok(StartedLogin { state, ke2 })
}

/// Checks the last message, gives the guess back, and returns whose password it was.
pub(super) fn finish_login(state: &ServerState, opened: &LoginState, ke3: &[u8]) -> Result<UserId, ApiError> {
    let finished = ServerLogin::finish(&opened.opaque, ke3).map_err(|error| login_problem(error, "ke3"));
    // A fake record matches no password; this holds even if it did.
    finished.and(if opened.known {
        Ok(())
    } else {
        Err(ProblemCode::InvalidCredentials.into())
    })?;
    state.guesses.give_back(opened.ticket, state.config.clock.now());
    Ok(opened.user_id)
}

/// What a failure of OPAQUE means to the client; `field` is the message that it sent.
pub(super) fn login_problem(error: LoginError, field: &str) -> ApiError {
    match error {
        LoginError::WrongPassword => ProblemCode::InvalidCredentials.into(),
        LoginError::MalformedMessage { message } => ApiError::invalid(field, format!("not a valid {message}")),
        other => ApiError::internal(other),
    }
}

pub(super) fn require_suite(suite: u16) -> Result<(), ApiError> {
    if suite == LOGIN_SUITE {
        Ok(())
    } else {
        Err(ApiError::new(ProblemCode::UnsupportedSuite).with_detail(format!("this server speaks suite {LOGIN_SUITE}")))
    }
}
