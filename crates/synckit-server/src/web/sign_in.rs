//! Sign-in to the pages, and out of them.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::{HeaderMap, header};
use synckit_protocol::{
    ProblemCode, SessionId,
    wire::oauth::{PageLoginFinish, PageLoginStart, PageSignedIn},
};
use synckit_store::{EndSessions, PAGES_APP, SecretHash, StreamId};

use super::session::{PageAccess, PageSession, To, lead, refused, unset};
use crate::{
    api::{
        Proof, count_guess, find_account, finish_login, finish_once, invalid_email, open_session, require_suite,
        start_login,
    },
    http::{ApiError, ClientAddress, Fields, Form, Received, Site},
    oauth::Page,
    platform::random_id,
    sign_in::{NormalEmail, Purpose},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /account/sign-in`. A browser that is signed in is asked for the password of its account.
pub(super) async fn show(
    State(state): Server,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes()).ok();
    let to = fields.as_ref().map_or(To::Account, To::of_query);
    let mut email = None;
    if let Some(session) = PageSession::of(&headers, &state) {
        let now = state.config.clock.now();
        if state.store.session(session.session_id, now).await?.is_some() {
            email = state
                .store
                .account(session.user_id)
                .await?
                .map(|overview| overview.account.email);
        }
    }
    state.pages.show(&Page::AccountSignIn {
        app_id: PAGES_APP.to_string(),
        to: to.path(),
        email: email.as_deref(),
    })
}

/// `POST /account/sign-in/start`.
pub(super) async fn start(
    State(state): Server,
    address: ClientAddress,
    Received { value: body, reply }: Received<PageLoginStart>,
) -> Result<Response, ApiError> {
    require_suite(body.suite)?;
    let email = NormalEmail::parse(&body.email).map_err(invalid_email)?;
    let account = find_account(&state, &email).await?;
    let ticket = count_guess(&state, &account, address).await?;
    let no_session = SessionId::from_bytes([0; 16]);
    let started = start_login(&state, &account, PAGES_APP, no_session, ticket, &body.ke1.0)?;
    reply.ok(&started.sealed(&state, Purpose::Login))
}

/// `POST /account/sign-in`.
pub(super) async fn finish(
    State(state): Server,
    headers: HeaderMap,
    Received { value: body, reply }: Received<PageLoginFinish>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let opened = state.states.open_login(Purpose::Login, &body.login.0, now)?;
    if opened.app_id != PAGES_APP {
        return Err(ApiError::new(ProblemCode::LoginExpired).with_detail("the login belongs to an app"));
    }
    let session_id = SessionId::from_bytes(random_id());
    let user_id = finish_login(&opened, &body.ke3.0)?;
    finish_once(&state, &body.login.0, &opened, Some(session_id)).await?;
    let proof = Proof {
        login: SecretHash::of(&body.login.0),
        credential: opened.credential_id,
    };
    let stream = StreamId {
        app_id: PAGES_APP,
        user_id,
    };
    let signed_in = open_session(&state, session_id, stream, Some(proof)).await?;
    if let Some(before) = PageSession::of(&headers, &state) {
        end(&state, before).await?;
    }
    let session = PageSession {
        user_id,
        session_id,
        proven_at: now,
    };
    let mut answer = reply.ok(&PageSignedIn {
        user_id,
        account_token: signed_in.account_token.ok_or(ProblemCode::Internal)?,
    })?;
    answer
        .headers_mut()
        .insert(header::SET_COOKIE, session.set(&state.states)?);
    Ok(answer)
}

/// `POST /account/sign-out`. Needs no fresh proof: it takes nothing but the session.
pub(super) async fn sign_out(
    State(state): Server,
    access: PageAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if site == Site::Foreign || !access.made(&fields) {
        return refused(&state);
    }
    let ended = EndSessions::One(access.session_id);
    let ended = state.store.end_sessions(ended).await?;
    state.sessions.end(&ended, state.config.clock.now());
    let mut answer = lead(&state, "/account/sign-in");
    answer.headers_mut().insert(header::SET_COOKIE, unset()?);
    Ok(answer)
}

async fn end(state: &ServerState, session: PageSession) -> Result<(), ApiError> {
    let which = EndSessions::OneOfUser(session.user_id, session.session_id);
    let ended = state.store.end_sessions(which).await?;
    state.sessions.end(&ended, state.config.clock.now());
    Ok(())
}
