//! `/api/sync/auth`: sign-in with OPAQUE, unlock, refresh, sign-out.
//!
//! Invariant: nothing in an answer, neither its shape nor its size nor, as far as the server can help it, its time, tells
//! whether an account exists.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde::Deserialize;
use synckit_protocol::{
    ApiKey, AppId, ByteString, ProblemCode, SecretText, SessionId, UserId,
    wire::auth::{LoginStart, Refresh, Refreshed, SignedIn, UnlockFinish, UnlockStart, Unlocked},
};
use synckit_store::{
    CredentialId, CredentialOf, EndSessions, FinishedLogin, LoginUse, NewSession, RefreshUse, SecretHash, StoreError,
    StreamId,
};

use super::{
    access::AppAccess,
    opaque_exchange::{Account, count_guess, find_account, find_pending, finish_login, require_suite, start_login},
    password_login,
    problems::invalid_email,
};
use crate::{
    http::{ApiError, ClientAddress, Received, Reply, RequestScope, malformed},
    mail::MailJob,
    platform::random_id,
    sign_in::{AccountClaims, AppClaims, LoginState, NormalEmail, Purpose, RefreshSecret},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `POST /api/sync/auth/start`.
pub(super) async fn start(
    State(state): Server,
    address: ClientAddress,
    scope: RequestScope,
    Received { value: body, reply }: Received<LoginStart>,
) -> Result<Response, ApiError> {
    require_suite(body.suite)?;
    let app_id = app_of_key(&state, &body.api_key, &scope).await?;
    let email = NormalEmail::parse(&body.email).map_err(invalid_email)?;
    let account = match &body.code {
        None => find_account(&state, &email).await?,
        Some(code) => find_pending(&state, &email, code, address).await?,
    };
    let ticket = count_guess(&state, &account, address).await?;
    let started = start_login(
        &state,
        &account,
        app_id,
        SessionId::from_bytes([0; 16]),
        ticket,
        &body.ke1.0,
    )?;
    reply.ok(&started.sealed(&state, Purpose::Login))
}

/// The body of `POST /api/sync/auth`: the last message of OPAQUE, or a password where the operator allows that.
#[derive(Deserialize)]
pub(super) struct FinishBody {
    api_key: String,
    login: Option<ByteString>,
    ke3: Option<ByteString>,
    email: Option<String>,
    password: Option<SecretText>,
}

/// `POST /api/sync/auth`.
pub(super) async fn finish(
    State(state): Server,
    address: ClientAddress,
    scope: RequestScope,
    Received { value: body, reply }: Received<FinishBody>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    if let Some(password) = body.password {
        if !state.config.allow_password_login {
            return Err(ApiError::new(ProblemCode::PasswordLoginDisabled)
                .with_detail("sign in with OPAQUE: POST /api/sync/auth/start, then /api/sync/auth"));
        }
        let app_id = app_of_key(&state, &body.api_key, &scope).await?;
        let email = body.email.ok_or_else(|| malformed("missing field `email`"))?;
        let user_id = password_login::check(&state, address, app_id, &email, password).await?;
        let session_id = SessionId::from_bytes(random_id());
        return reply.ok(&open_session(&state, session_id, StreamId { app_id, user_id }, None).await?);
    }
    let app_id = app_of_key(&state, &body.api_key, &scope).await?;
    let login = body.login.ok_or_else(|| malformed("missing field `login`"))?;
    let ke3 = body.ke3.ok_or_else(|| malformed("missing field `ke3`"))?;
    let opened = state.states.open_login(Purpose::Login, &login.0, now)?;
    if opened.app_id != app_id {
        return Err(ProblemCode::ApiKeyInvalid.into());
    }
    let session_id = SessionId::from_bytes(random_id());
    let user_id = finish_login(&opened, &ke3.0)?;
    finish_once(&state, &login.0, &opened, Some(session_id)).await?;
    let proof = Proof {
        login: SecretHash::of(&login.0),
        credential: opened.credential_id,
    };
    reply.ok(&open_session(&state, session_id, StreamId { app_id, user_id }, Some(proof)).await?)
}

/// `POST /api/sync/auth/unlock/start`: the same exchange for the account of the token.
pub(super) async fn unlock_start(
    State(state): Server,
    access: AppAccess,
    address: ClientAddress,
    Received { value: body, reply }: Received<UnlockStart>,
) -> Result<Response, ApiError> {
    require_suite(body.suite)?;
    let user_id = access.stream.user_id;
    let credential = state.store.credential(CredentialOf::User(user_id)).await?;
    let account = Account::of(credential, *user_id.as_bytes());
    let now = state.config.clock.now();
    let ticket = state
        .guesses
        .count_own(*account.id.as_bytes(), address.prefix(), now)
        .await?;
    let started = start_login(
        &state,
        &account,
        access.stream.app_id,
        access.session_id,
        ticket,
        &body.ke1.0,
    )?;
    reply.ok(&started.sealed(&state, Purpose::Unlock))
}

/// `POST /api/sync/auth/unlock`.
pub(super) async fn unlock_finish(
    State(state): Server,
    access: AppAccess,
    Received { value: body, reply }: Received<UnlockFinish>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let opened = state.states.open_login(Purpose::Unlock, &body.login.0, now)?;
    if opened.session_id != access.session_id {
        return Err(ApiError::new(ProblemCode::LoginExpired).with_detail("the unlock belongs to another session"));
    }
    let user_id = finish_login(&opened, &body.ke3.0)?;
    finish_once(&state, &body.login.0, &opened, None).await?;
    let claims = AccountClaims {
        user_id,
        session_id: access.session_id,
    };
    let account_token = state.tokens.sign_account(claims, now).map_err(ApiError::internal)?;
    reply.ok(&Unlocked { account_token })
}

/// `POST /api/sync/auth/refresh`.
pub(super) async fn refresh(
    State(state): Server,
    Received { value: body, reply }: Received<Refresh>,
) -> Result<Response, ApiError> {
    let secret =
        RefreshSecret::parse(body.refresh.expose(), &state.derived.refresh).ok_or(ProblemCode::SessionEnded)?;
    let (refreshed, _) = refresh_session(&state, secret).await?;
    reply.ok(&refreshed)
}

/// Uses a refresh secret.
pub(super) async fn refresh_session(
    state: &ServerState,
    secret: RefreshSecret,
) -> Result<(Refreshed, StreamId), ApiError> {
    let now = state.config.clock.now();
    match state
        .store
        .advance_refresh(secret.session_id, secret.counter, now)
        .await?
    {
        RefreshUse::Next { counter, stream } => {
            let claims = AppClaims {
                stream,
                session_id: secret.session_id,
            };
            let (token, expires_at) = state.tokens.sign_app(claims, now).map_err(ApiError::internal)?;
            let refreshed = Refreshed {
                token,
                expires_at,
                refresh: RefreshSecret { counter, ..secret }.to_text(&state.derived.refresh),
                app_id: stream.app_id,
            };
            Ok((refreshed, stream))
        }
        RefreshUse::Ended => {
            state.sessions.end(&[secret.session_id], now);
            Err(ProblemCode::SessionEnded.into())
        }
        // Do not cache: a session refused because of a wrong clock is valid again once the clock is right.
        RefreshUse::Refused => Err(ProblemCode::SessionEnded.into()),
    }
}

/// `DELETE /api/sync/auth`.
pub(super) async fn sign_out(State(state): Server, access: AppAccess) -> Result<Response, ApiError> {
    state.store.end_sessions(EndSessions::One(access.session_id)).await?;
    state.sessions.end(&[access.session_id], state.config.clock.now());
    Ok(Reply::empty())
}

/// The app of an API key. A key that can be told from its text to be the wrong one is refused without the store.
pub(super) async fn app_of_key(state: &ServerState, api_key: &str, scope: &RequestScope) -> Result<AppId, ApiError> {
    ApiKey::publishable(api_key)?;
    let app_id = state
        .store
        .app_of_key(api_key.to_owned(), state.config.clock.now())
        .await?
        .ok_or(ProblemCode::ApiKeyInvalid)?;
    scope.note_app(state.meter.app(app_id));
    Ok(app_id)
}

/// Tells the owner of an account that this sign-in took its deletion back: perhaps it was begun before, or is somebody else's.
async fn tell_kept(state: &ServerState, user_id: UserId) -> Result<(), ApiError> {
    if let Some(overview) = state.store.account(user_id).await? {
        match state.mailer.reserve() {
            Ok(place) => place.fill(MailJob::DeletionTakenBack {
                email: overview.account.email,
            }),
            Err(_) => tracing::warn!("no room for the mail that an account is kept"),
        }
    }
    Ok(())
}

/// Creates the account of a pending one, if the login names its mailed code. The code proves the mailbox, and the login the
/// password: only both together create the account.
async fn confirm_address(state: &ServerState, opened: &LoginState) -> Result<(), ApiError> {
    let now = state.config.clock.now();
    match opened.confirms {
        Some(code) if !state.store.confirm_account(opened.user_id, code, now).await? => {
            Err(ApiError::new(ProblemCode::MailCodeInvalid)
                .with_detail("the address was registered again meanwhile, or the invitation was used up"))
        }
        _ => Ok(()),
    }
}

/// Ends a login whose last message was right: refuses a repeated one, creates the account if the login confirms its address, and
/// gives the guess back.
pub(crate) async fn finish_once(
    state: &ServerState,
    login: impl AsRef<[u8]>,
    opened: &LoginState,
    session_id: Option<SessionId>,
) -> Result<(), ApiError> {
    refuse_repeated(state, login, opened.user_id, session_id).await?;
    let confirmed = confirm_address(state, opened).await;
    // After it: there is no account before, to which the address could become familiar. And whether or not it is confirmed.
    state.guesses.give_back(opened.ticket, state.config.clock.now()).await;
    confirmed
}

/// Refuses a repeated last message of a login: a copy of it (from a log of bodies, or a proxy) must not yield a
/// session, nor a token for the account.
pub(super) async fn refuse_repeated(
    state: &ServerState,
    login: impl AsRef<[u8]>,
    user_id: UserId,
    session_id: Option<SessionId>,
) -> Result<(), ApiError> {
    let now = state.config.clock.now();
    let finished = FinishedLogin {
        login: SecretHash::of(login),
        user_id,
        session_id,
        now,
    };
    match state.store.finish_login(finished).await? {
        LoginUse::First => Ok(()),
        LoginUse::Repeated { ended } => {
            state.sessions.end(&ended, now);
            Err(login_repeated())
        }
    }
}

fn login_repeated() -> ApiError {
    ApiError::new(ProblemCode::LoginExpired).with_detail("this login was finished already: start again")
}

/// What a session is opened by.
pub(crate) struct Proof {
    /// The hash of the finished login, or of the code.
    pub(crate) login: SecretHash,
    /// The credential whose password was proven.
    pub(crate) credential: CredentialId,
}

pub(crate) async fn open_session(
    state: &ServerState,
    id: SessionId,
    stream: StreamId,
    proof: Option<Proof>,
) -> Result<SignedIn, ApiError> {
    let now = state.config.clock.now();
    let session = NewSession {
        id,
        stream,
        login: proof.as_ref().map(|proof| proof.login),
        credential: proof.as_ref().map(|proof| proof.credential),
        now,
    };
    let is_kept = match state.store.open_session(session).await {
        Err(StoreError::LoginRepeated) => return Err(login_repeated()),
        Err(StoreError::PasswordReplaced) => return Err(ProblemCode::InvalidCredentials.into()),
        // The account was deleted during the sign-in, and is now unknown like any other.
        Err(StoreError::NoSuchStream) => return Err(ProblemCode::InvalidCredentials.into()),
        opened => opened?,
    };
    if is_kept {
        tell_kept(state, stream.user_id).await?;
    }
    let (token, expires_at) = state
        .tokens
        .sign_app(AppClaims { stream, session_id: id }, now)
        .map_err(ApiError::internal)?;
    let account = AccountClaims {
        user_id: stream.user_id,
        session_id: id,
    };
    let account_token = state.tokens.sign_account(account, now).map_err(ApiError::internal)?;
    Ok(SignedIn {
        token,
        expires_at,
        refresh: RefreshSecret {
            session_id: id,
            counter: 1,
        }
        .to_text(&state.derived.refresh),
        user_id: stream.user_id,
        app_id: stream.app_id,
        account_token: Some(account_token),
    })
}
