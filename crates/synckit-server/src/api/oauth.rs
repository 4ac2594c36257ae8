//! `/oauth`: sign-in and sign-up by browser, and the page for a forgotten password.
//!
//! The sign-in page runs OPAQUE as an SDK does; then the consent page asks; then the app gets a code, which its server half,
//! `token`, exchanges for a session. Answers to apps are those of the RFCs; answers to the page's script are problems.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use synckit_protocol::{
    AppId, MEDIA_TYPE_JSON, ProblemCode, SessionId,
    wire::{
        auth::SignedIn,
        oauth::{BrowserSignIn, BrowserSignedIn, OAuthError, OAuthMetadata, OAuthTokens},
    },
};
use synckit_store::{AccountOverview, AppProfile, CredentialOf, EndSessions, SecretHash};

use super::{
    auth::{Proof, app_of_key, finish_once, open_session, refresh_session, refuse_repeated},
    oauth_device::{DEVICE_CODE, poll},
    opaque_exchange::finish_login,
};
use crate::{
    http::{ApiError, Fields, Form, PathText, Received, RequestScope, Site},
    oauth::{
        Authorization, Code, Exchange, Grant, Page, Refused, WORKER_POLICY, answer, common_headers, is_permitted,
        is_text, is_verifier, open_authorization, open_code, open_grant, query, read, seal_authorization, seal_code,
        seal_grant, target,
    },
    platform::random_id,
    sign_in::{Purpose, RefreshSecret, StateError, TokenError},
    startup::config::PublicUrl,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /oauth/authorize`: the sign-in page, or with `prompt=create` the sign-up page.
pub(super) async fn authorize(
    State(state): Server,
    scope: RequestScope,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Ok(fields) = Fields::parse(query.unwrap_or_default().as_bytes()) else {
        return refused(
            &state,
            "The address that brought you here says something twice. Nothing was shared.",
            None,
            None,
        );
    };
    let (app_id, profile) = match app_of_client(&state, &fields, &scope).await? {
        Ok(app) => app,
        Err(remedy) => {
            return refused(
                &state,
                "No app of this server has the key that brought you here. Nothing was shared.",
                None,
                Some(remedy),
            );
        }
    };
    let wanted = fields.get("redirect_uri").unwrap_or_default();
    if !is_permitted(&profile.redirects, wanted) {
        let reason = "An app sent you here with a return address that it has not registered. To keep your account safe, \
                      this server does not send you there. Nothing was shared.";
        let remedy = "register it with the command synckit app add-redirect.";
        return refused(&state, reason, Some(wanted), Some(remedy));
    }
    match read(&fields, app_id, wanted) {
        Ok(authorization) => sign_in_page(&state, &fields, &profile, &authorization),
        Err(refusal) => {
            let app_state = fields.get("state").filter(|text| is_text(text));
            Ok(back(&state, wanted, app_state, Err(refusal)))
        }
    }
}

fn sign_in_page(
    state: &ServerState,
    fields: &Fields,
    profile: &AppProfile,
    authorization: &Authorization,
) -> Result<Response, ApiError> {
    let sealed = seal_authorization(&state.states, authorization, state.config.clock.now());
    let exchange = Exchange {
        app: &profile.name,
        api_key: fields.get("client_id").unwrap_or_default(),
        app_id: authorization.app_id.to_string(),
        request: URL_SAFE_NO_PAD.encode(sealed),
        query: query(fields),
    };
    state.pages.show(&match fields.get("prompt") {
        Some("create") => Page::SignUp {
            exchange,
            registration: state.config.registration,
        },
        _ => Page::SignIn(exchange),
    })
}

/// `GET /account/recover`: the page for a forgotten password. Its query may be that of an authorization request, to go back to.
pub(super) async fn recover(State(state): Server, RawQuery(text): RawQuery) -> Result<Response, ApiError> {
    let query = match Fields::parse(text.unwrap_or_default().as_bytes()) {
        Ok(fields) => query(&fields),
        // The page needs none.
        Err(_) => String::new(),
    };
    state.pages.show(&Page::Recover { query })
}

/// `POST /oauth/sign-in`: the last message of the page's login.
pub(super) async fn sign_in(
    State(state): Server,
    scope: RequestScope,
    Received { value: body, reply }: Received<BrowserSignIn>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let authorization = open_authorization(&state.states, &body.request.0, now)?;
    scope.note_app(state.meter.app(authorization.app_id));
    let opened = state.states.open_login(Purpose::Login, &body.login.0, now)?;
    if opened.app_id != authorization.app_id {
        return Err(ProblemCode::ApiKeyInvalid.into());
    }
    let user_id = finish_login(&opened, &body.ke3.0)?;
    finish_once(&state, &body.login.0, &opened, None).await?;
    let grant = Grant {
        user_id,
        credential_id: opened.credential_id,
        authorization,
    };
    let grant = seal_grant(&state.states, &grant, now);
    reply.ok(&BrowserSignedIn {
        grant: grant.into(),
        user_id,
    })
}

/// `POST /oauth/consent`: the page that asks.
pub(super) async fn consent(State(state): Server, site: Site, Form(fields): Form) -> Result<Response, ApiError> {
    let Some((text, grant)) = grant_of(&state, site, &fields) else {
        return too_old(&state);
    };
    let app_id = grant.authorization.app_id;
    let profile = state.store.app_profile(app_id).await?;
    let account = state.store.account(grant.user_id).await?;
    let (Some(profile), Some(account), Some(target)) = (profile, account, target(&grant.authorization.redirect)) else {
        return too_old(&state);
    };
    state.pages.show(&Page::Consent {
        app: &profile.name,
        email: &account.account.email,
        known: has_data(&account, app_id),
        grant: text,
        target,
    })
}

fn has_data(account: &AccountOverview, app_id: AppId) -> bool {
    let mut apps = account.apps.iter();
    apps.any(|app| app.app_id == app_id && app.change_count > 0)
}

/// `POST /oauth/authorize`: the answer of the consent page. A grant is answered once, and only while the account has the
/// password that was proven, and the app its address.
pub(super) async fn decide(State(state): Server, site: Site, Form(fields): Form) -> Result<Response, ApiError> {
    let Some((text, grant)) = grant_of(&state, site, &fields) else {
        return too_old(&state);
    };
    let wanted = &grant.authorization;
    let profile = state.store.app_profile(wanted.app_id).await?;
    let is_permitted = profile.is_some_and(|profile| is_permitted(&profile.redirects, &wanted.redirect));
    let credential = state.store.credential(CredentialOf::User(grant.user_id)).await?;
    let is_current = credential.is_some_and(|credential| credential.password.credential_id == grant.credential_id);
    if !is_permitted || !is_current || is_used_up(&state, text, &grant).await? {
        return too_old(&state);
    }
    let decision = match fields.get("answer") {
        Some("yes") => {
            let code = Code::of(&grant, SessionId::from_bytes(random_id()));
            let sealed = seal_code(&state.states, &code, state.config.clock.now());
            Ok(URL_SAFE_NO_PAD.encode(sealed))
        }
        _ => Err(("access_denied", "the person did not allow it")),
    };
    Ok(back(&state, &wanted.redirect, Some(&wanted.state), decision))
}

async fn is_used_up(state: &ServerState, text: &str, grant: &Grant) -> Result<bool, ApiError> {
    match refuse_repeated(state, text, grant.user_id, None).await {
        Err(error) if error.problem().known_code() == Some(ProblemCode::LoginExpired) => Ok(true),
        first => first.map(|()| false),
    }
}

fn grant_of<'a>(state: &ServerState, site: Site, fields: &'a Fields) -> Option<(&'a str, Grant)> {
    if site == Site::Foreign {
        return None;
    }
    let text = fields.get("grant")?;
    let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
    let grant = open_grant(&state.states, &sealed, state.config.clock.now()).ok()?;
    Some((text, grant))
}

fn too_old(state: &ServerState) -> Result<Response, ApiError> {
    refused(
        state,
        "This page was answered already, has been open for too long, or is not this server's.",
        None,
        None,
    )
}

fn refused(
    state: &ServerState,
    reason: &str,
    address: Option<&str>,
    remedy: Option<&str>,
) -> Result<Response, ApiError> {
    state.pages.show(&Page::Refused {
        reason,
        address,
        remedy,
    })
}

/// Sends the browser back to the app, with a code or the reason for none.
fn back(state: &ServerState, redirect: &str, app_state: Option<&str>, decision: Result<String, Refused>) -> Response {
    let issuer = issuer(state);
    let mut fields = match &decision {
        Ok(code) => vec![("code", code.as_str())],
        Err((code, description)) => vec![("error", *code), ("error_description", *description)],
    };
    fields.extend(app_state.map(|text| ("state", text)));
    // RFC 9207: the app can tell who answers.
    fields.push(("iss", issuer));
    match HeaderValue::try_from(answer(redirect, &fields)) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)], common_headers()).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

pub(super) fn issuer(state: &ServerState) -> &str {
    state.config.public_url.as_ref().map_or("", PublicUrl::as_str)
}

/// The app of a request, or a remedy for the people who make it.
async fn app_of_client(
    state: &ServerState,
    fields: &Fields,
    scope: &RequestScope,
) -> Result<Result<(AppId, AppProfile), &'static str>, ApiError> {
    let Some(api_key) = fields.get("client_id") else {
        return Ok(Err("send the publishable API key as `client_id`."));
    };
    let app_id = match app_of_key(state, api_key, scope).await {
        Ok(app_id) => app_id,
        Err(error) if error.problem().status >= 500 => return Err(error),
        Err(_) => return Ok(Err("`client_id` must be a publishable API key that is not revoked.")),
    };
    let profile = state.store.app_profile(app_id).await?;
    Ok(profile.map(|profile| (app_id, profile)).ok_or("the app was deleted."))
}

/// `POST /oauth/token` (RFC 6749, sections 4.1.3 and 6; RFC 8628, section 3.4).
pub(super) async fn token(
    State(state): Server,
    scope: RequestScope,
    form: Result<Form, ApiError>,
) -> Result<Response, ApiError> {
    let granted = match of_app(&state, &scope, form).await? {
        Ok((app_id, fields)) => match fields.get("grant_type") {
            Some("authorization_code") => exchange(&state, &fields, app_id).await?,
            Some("refresh_token") => refresh(&state, &fields, app_id).await?,
            Some(DEVICE_CODE) => poll(&state, &fields, app_id).await?,
            Some(_) => Err((
                "unsupported_grant_type",
                "grant_type must be authorization_code, refresh_token or urn:ietf:params:oauth:grant-type:device_code",
            )),
            None => Err(("invalid_request", "grant_type is missing")),
        },
        Err(refusal) => Err(refusal),
    };
    match granted {
        Ok(tokens) => json(StatusCode::OK, &tokens),
        Err(refusal) => oauth_error(refusal),
    }
}

/// The app that a form names by `client_id`, and its fields. What cannot be read, or names a field twice, is a refusal of RFC
/// 6749, section 5.2.
pub(super) async fn of_app(
    state: &ServerState,
    scope: &RequestScope,
    form: Result<Form, ApiError>,
) -> Result<Result<(AppId, Fields), Refused>, ApiError> {
    let Form(fields) = match form {
        Err(error) if error.problem().known_code() == Some(ProblemCode::MalformedBody) => {
            return Ok(Err((
                "invalid_request",
                "the form cannot be read, or names a field twice",
            )));
        }
        form => form?,
    };
    Ok(match app_of_client(state, &fields, scope).await? {
        Ok((app_id, _)) => Ok((app_id, fields)),
        Err(_) => Err((
            "invalid_client",
            "client_id must be a publishable API key that is not revoked",
        )),
    })
}

pub(super) type Granted = Result<OAuthTokens, Refused>;

async fn exchange(state: &ServerState, fields: &Fields, app_id: AppId) -> Result<Granted, ApiError> {
    const GRANT: &str = "invalid_grant";
    let (Some(text), Some(redirect), Some(verifier)) = (
        fields.get("code"),
        fields.get("redirect_uri"),
        fields.get("code_verifier"),
    ) else {
        return Ok(Err((
            "invalid_request",
            "code, redirect_uri and code_verifier are needed",
        )));
    };
    if !is_verifier(verifier) {
        return Ok(Err((
            "invalid_request",
            "code_verifier must have 43 to 128 characters (RFC 7636, section 4.1)",
        )));
    }
    let now = state.config.clock.now();
    let opened = URL_SAFE_NO_PAD.decode(text).map_err(|_| StateError::Invalid);
    let Ok((code, is_valid)) = opened.and_then(|sealed| open_code(&state.states, &sealed, now)) else {
        return Ok(Err((GRANT, "the code is not one of this server")));
    };
    let proves = |wanted: &[u8; 32], text: &str| Sha256::digest(text).as_slice() == wanted;
    if code.stream.app_id != app_id || !proves(&code.redirect, redirect) || !proves(&code.challenge, verifier) {
        return Ok(Err((GRANT, "the code was given to another app, address or verifier")));
    }
    if !is_valid || is_exchanged(state, text, &code).await? {
        // Who holds code and verifier has asked before, or somebody else has: nobody keeps what it gave.
        let ended = state.store.end_sessions(EndSessions::One(code.session_id)).await?;
        state.sessions.end(&ended, now);
        return Ok(Err((GRANT, "the code was used already, or is too old")));
    }
    let proof = Proof {
        login: SecretHash::of(text),
        credential: code.credential_id,
    };
    match open_session(state, code.session_id, code.stream, Some(proof)).await {
        Ok(signed_in) => Ok(Ok(tokens(state, signed_in))),
        Err(error) if error.problem().status < 500 => Ok(Err((
            GRANT,
            "the account is gone, its password was replaced, or the code was used already",
        ))),
        Err(error) => Err(error),
    }
}

async fn is_exchanged(state: &ServerState, text: &str, code: &Code) -> Result<bool, ApiError> {
    match refuse_repeated(state, text, code.stream.user_id, Some(code.session_id)).await {
        Err(error) if error.problem().known_code() == Some(ProblemCode::LoginExpired) => Ok(true),
        first => first.map(|()| false),
    }
}

async fn refresh(state: &ServerState, fields: &Fields, app_id: AppId) -> Result<Granted, ApiError> {
    let Some(text) = fields.get("refresh_token") else {
        return Ok(Err(("invalid_request", "refresh_token is needed")));
    };
    const ENDED: Refused = ("invalid_grant", "the session has ended");
    let now = state.config.clock.now();
    let Some(secret) = RefreshSecret::parse(text, &state.derived.refresh) else {
        return Ok(Err(ENDED));
    };
    // Before the secret is used: another app's must stay as it is.
    let session = state.store.session(secret.session_id, now).await?;
    if session.is_none_or(|session| session.stream.app_id != app_id) {
        return Ok(Err(ENDED));
    }
    match refresh_session(state, secret).await {
        Ok((refreshed, stream)) => Ok(Ok(OAuthTokens {
            access_token: refreshed.token,
            token_type: "Bearer".to_owned(),
            expires_in: refreshed.expires_at.saturating_sub(now),
            expires_at: refreshed.expires_at,
            refresh_token: refreshed.refresh,
            user_id: stream.user_id,
            app_id: stream.app_id,
        })),
        Err(error) if error.problem().status < 500 => Ok(Err(ENDED)),
        Err(error) => Err(error),
    }
}

/// `POST /oauth/revoke` (RFC 7009): ends the session of a token or of a refresh secret. Knows no difference between one that
/// has ended and one that never was.
pub(super) async fn revoke(
    State(state): Server,
    scope: RequestScope,
    form: Result<Form, ApiError>,
) -> Result<Response, ApiError> {
    let (app_id, fields) = match of_app(&state, &scope, form).await? {
        Ok(named) => named,
        Err(refusal) => return oauth_error(refusal),
    };
    let Some(token) = fields.get("token") else {
        return oauth_error(("invalid_request", "token is needed"));
    };
    let now = state.config.clock.now();
    if let Some(session_id) = session_of(&state, token, now) {
        let session = state.store.session(session_id, now).await?;
        if session.is_some_and(|session| session.stream.app_id == app_id) {
            state.store.end_sessions(EndSessions::One(session_id)).await?;
            state.sessions.end(&[session_id], now);
        }
    }
    Ok((StatusCode::OK, common_headers()).into_response())
}

fn session_of(state: &ServerState, token: &str, now: u64) -> Option<SessionId> {
    if let Some(secret) = RefreshSecret::parse(token, &state.derived.refresh) {
        return Some(secret.session_id);
    }
    match state.tokens.verify_app(token, now) {
        Ok(claims) => Some(claims.session_id),
        Err(TokenError::Expired | TokenError::Invalid | TokenError::OtherAudience) => None,
    }
}

pub(super) fn tokens(state: &ServerState, signed_in: SignedIn) -> OAuthTokens {
    OAuthTokens {
        access_token: signed_in.token,
        token_type: "Bearer".to_owned(),
        expires_in: signed_in.expires_at.saturating_sub(state.config.clock.now()),
        expires_at: signed_in.expires_at,
        refresh_token: signed_in.refresh,
        user_id: signed_in.user_id,
        app_id: signed_in.app_id,
    }
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
pub(super) async fn metadata(State(state): Server) -> Result<Response, ApiError> {
    let issuer = issuer(&state);
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let metadata = OAuthMetadata {
        issuer: issuer.to_owned(),
        authorization_endpoint: format!("{issuer}/oauth/authorize"),
        token_endpoint: format!("{issuer}/oauth/token"),
        device_authorization_endpoint: format!("{issuer}/oauth/device_authorization"),
        revocation_endpoint: format!("{issuer}/oauth/revoke"),
        response_types_supported: texts(&["code"]),
        response_modes_supported: texts(&["query"]),
        grant_types_supported: texts(&["authorization_code", "refresh_token", DEVICE_CODE]),
        code_challenge_methods_supported: texts(&["S256"]),
        token_endpoint_auth_methods_supported: texts(&["none"]),
        revocation_endpoint_auth_methods_supported: texts(&["none"]),
        authorization_response_iss_parameter_supported: true,
        prompt_values_supported: texts(&["create"]),
    };
    json(StatusCode::OK, &metadata)
}

/// `GET /assets/{name}`.
pub(super) async fn asset(State(state): Server, PathText(name): PathText) -> Result<Response, ApiError> {
    let asset = state.pages.asset(&name).ok_or(ProblemCode::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        // The name has the hash.
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        ),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(WORKER_POLICY)),
    ];
    Ok((headers, Body::from(asset.bytes.clone())).into_response())
}

pub(super) fn oauth_error((error, description): Refused) -> Result<Response, ApiError> {
    let refusal = OAuthError {
        error: error.to_owned(),
        error_description: description.to_owned(),
    };
    json(StatusCode::BAD_REQUEST, &refusal)
}

pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE_JSON)),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    Ok((status, headers, Body::from(body)).into_response())
}
