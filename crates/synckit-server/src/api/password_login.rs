//! Sign-in with the password in the body, for scripts, where the operator allows it.
//!
//! The server runs both sides of OPAQUE, so that one kind of record and one kind of check exist. It costs 64 MiB and
//! a core for a sixth of a second, hence at most two at once.

use std::{sync::Arc, time::Duration};

use rand::rngs::OsRng;
use synckit_login::{ClientLogin, LoginError};
use synckit_protocol::{AppId, ProblemCode, SecretText, SessionId, UserId};
use synckit_store::TaskLost;

use super::{
    opaque_exchange::{count_guess, find_account, finish_login, start_login},
    problems::invalid_email,
};
use crate::{
    http::{ApiError, ClientAddress},
    limits::Owners,
    sign_in::NormalEmail,
    state::ServerState,
};

/// How long a login waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Whose password this is.
pub(super) async fn check(
    state: &Arc<ServerState>,
    address: ClientAddress,
    app_id: AppId,
    email: &str,
    password: SecretText,
) -> Result<UserId, ApiError> {
    let email = NormalEmail::parse(email).map_err(invalid_email)?;
    let account = find_account(state, &email).await?;
    let ticket = count_guess(state, &account, address).await?;
    let owners = Owners::address(address.prefix());
    let turn = state.capacity.password_logins.take(owners, 1, WAIT_MAX).await?;
    let of_work = Arc::clone(state);
    let checked = tokio::task::spawn_blocking(move || {
        let (client, ke1) = ClientLogin::start(password.expose(), &mut OsRng).map_err(client_problem)?;
        let none = SessionId::from_bytes([0; 16]);
        let started = start_login(&of_work, &account, app_id, none, ticket, &ke1)?;
        let finished = client
            .finish(app_id, &started.ke2, None, &mut OsRng)
            .map_err(client_problem)?;
        // Held until here, because the limit is for the work, not for the wait.
        drop(turn);
        finish_login(&started.state, &finished.ke3)
    });
    let user_id = checked
        .await
        .map_err(|error| ApiError::internal(TaskLost::from(error)))??;
    state.guesses.give_back(ticket, state.config.clock.now()).await;
    Ok(user_id)
}

fn client_problem(error: LoginError) -> ApiError {
    match error {
        LoginError::WrongPassword => ProblemCode::InvalidCredentials.into(),
        LoginError::UnusablePassword => ApiError::invalid("password", "the password is empty or too long"),
        other => ApiError::internal(other),
    }
}
