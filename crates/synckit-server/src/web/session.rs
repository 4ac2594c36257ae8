//! The session of a browser that is signed in to the pages.
//!
//! A session of [`PAGES_APP`], named by a sealed cookie. A sign-in opens a new one and ends the one before, so what somebody saw or
//! set of an earlier cookie is worth nothing; a page that needs a fresh proof of the password asks for a sign-in.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};
use synckit_protocol::{
    SessionId, UserId,
    limits::{ACCOUNT_TOKEN_SECONDS, PAGE_SESSION_SECONDS},
    wire::UnixSeconds,
};
use synckit_store::{PAGES_APP, SecretHash, StreamId};

use crate::{
    api::{AccountAccess, live_session},
    http::{ApiError, Fields, Site, Work},
    limits::Owners,
    oauth::{Page, UserCode, common_headers},
    sign_in::{Purpose, SealedReader, SealedStates, SealedWriter},
    state::ServerState,
};

/// Only this host gets it, only over TLS or from this machine, and no script reads it. The attributes never depend on what a request
/// says.
const COOKIE: &str = "__Host-synckit";
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

/// The pages that a sign-in may lead to, by their names in a query: nothing else is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Account,
    Password,
    RecoveryCode,
    Address,
    Export,
    Delete,
    Console,
    /// The page that lets a machine sign in, perhaps with its code.
    Device(Option<UserCode>),
}

impl To {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Account, ""),
        (Self::Password, "password"),
        (Self::RecoveryCode, "recovery-code"),
        (Self::Address, "address"),
        (Self::Export, "export"),
        (Self::Delete, "delete"),
        (Self::Console, "console"),
        (Self::Device(None), "device"),
    ];

    /// The page of a name; the account for every other text.
    pub(super) fn named(name: &str) -> Self {
        let found = Self::ALL.iter().find(|(_, other)| *other == name);
        found.map_or(Self::Account, |(to, _)| *to)
    }

    /// The page that the query of a sign-in page names.
    pub(super) fn of_query(fields: &Fields) -> Self {
        match fields.get("to").map(Self::named) {
            Some(Self::Device(_)) => Self::Device(fields.get("user_code").and_then(UserCode::parse)),
            to => to.unwrap_or(Self::Account),
        }
    }

    /// The page that was asked for by this address.
    fn of_address(uri: &Uri) -> Self {
        let path = uri.path();
        match path.strip_prefix("/account/") {
            Some(name) => Self::named(name),
            None if path.starts_with("/console") => Self::Console,
            None if path == "/oauth/device" => {
                let fields = Fields::parse(uri.query().unwrap_or_default().as_bytes()).ok();
                let typed = fields.as_ref().and_then(|fields| fields.get("user_code"));
                Self::Device(typed.and_then(UserCode::parse))
            }
            None if path.starts_with("/oauth/device/") => Self::Device(None),
            None => Self::Account,
        }
    }

    fn name(self) -> &'static str {
        let named = match self {
            Self::Device(_) => Self::Device(None),
            to => to,
        };
        let found = Self::ALL.iter().find(|(to, _)| *to == named);
        found.map_or("", |(_, name)| name)
    }

    /// Where a sign-in leads, below the server's own path.
    pub(super) fn path(self) -> String {
        match self {
            Self::Account => "/account".to_owned(),
            // A download would leave the sign-in page as it is.
            Self::Export => "/account#leave".to_owned(),
            Self::Console => "/console".to_owned(),
            Self::Device(None) => "/oauth/device".to_owned(),
            Self::Device(Some(code)) => format!("/oauth/device?user_code={code}"),
            to => format!("/account/{}", to.name()),
        }
    }
}

/// The sealed content of the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageSession {
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
    /// When the password was proven.
    pub(super) proven_at: UnixSeconds,
}

impl PageSession {
    /// The header that gives it to the browser, until that is closed.
    pub(super) fn set(&self, states: &SealedStates) -> Result<HeaderValue, ApiError> {
        let mut writer = SealedWriter::new(self.proven_at);
        writer.put(self.user_id.as_bytes());
        writer.put(self.session_id.as_bytes());
        writer.put(&self.proven_at.to_be_bytes());
        let value = URL_SAFE_NO_PAD.encode(states.seal(Purpose::Page, &writer));
        HeaderValue::try_from(format!("{COOKIE}={value}; {ATTRIBUTES}")).map_err(ApiError::internal)
    }

    fn open(states: &SealedStates, cookie: &str, now: UnixSeconds) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let plaintext = states.open(Purpose::Page, &sealed).ok()?;
        let mut reader = SealedReader::new(&plaintext, now, PAGE_SESSION_SECONDS).ok()?;
        Some(Self {
            user_id: UserId::from_bytes(reader.take().ok()?),
            session_id: SessionId::from_bytes(reader.take().ok()?),
            proven_at: UnixSeconds::from_be_bytes(reader.take().ok()?),
        })
    }

    /// The session that a request's cookie names, whether or not it lives.
    pub(super) fn of(headers: &HeaderMap, state: &ServerState) -> Option<Self> {
        Self::open(&state.states, cookie(headers)?, state.config.clock.now())
    }
}

/// Takes the cookie away.
pub(super) fn unset() -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(format!("{COOKIE}=; {ATTRIBUTES}; Max-Age=0")).map_err(ApiError::internal)
}

/// The value of the cookie. Others beside it may be of any bytes: pages of other ports and hosts set them.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).iter();
    let pairs = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let mut texts = pairs.filter_map(|pair| std::str::from_utf8(pair).ok());
    texts.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// A request of a signed-in browser, whose session lives.
#[derive(Debug, Clone)]
pub(super) struct PageAccess {
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
    proven_at: UnixSeconds,
    /// What a form of this session's pages carries.
    pub(super) form: String,
}

impl PageAccess {
    /// Whether the password was proven so lately that the account may be changed.
    pub(super) fn is_fresh(&self, now: UnixSeconds) -> bool {
        // Nor is a time in the future, beyond what clocks differ by.
        now.abs_diff(self.proven_at) < ACCOUNT_TOKEN_SECONDS
    }

    /// As a token for the account would be.
    pub(super) const fn account(&self) -> AccountAccess {
        AccountAccess {
            user_id: self.user_id,
            session_id: self.session_id,
        }
    }

    /// Why a form changes nothing: it is not of this session's page, the session has ended, or the password was proven too long ago.
    pub(super) async fn refuses(&self, state: &ServerState, site: Site, fields: &Fields, to: To) -> Option<Response> {
        let refusal = self.refuses_form(state, site, fields, to).await;
        refusal.or_else(|| (!self.is_fresh(state.config.clock.now())).then(|| to_sign_in(state, to)))
    }

    /// Why a form that needs no fresh proof changes nothing.
    ///
    /// The session was looked up when the head of the request arrived. The form is the body, which a client may hold back for as long as
    /// it likes: what has ended meanwhile must not act. So it is looked up again, in the store.
    pub(super) async fn refuses_form(
        &self,
        state: &ServerState,
        site: Site,
        fields: &Fields,
        to: To,
    ) -> Option<Response> {
        if site == Site::Foreign || !self.made(fields) {
            return Some(refused(state).unwrap_or_else(IntoResponse::into_response));
        }
        match state.store.session(self.session_id, state.config.clock.now()).await {
            Ok(Some(_)) => None,
            Ok(None) => Some(to_sign_in(state, to)),
            Err(error) => Some(ApiError::from(error).into_response()),
        }
    }

    /// Whether a form is of this session's page.
    pub(super) fn made(&self, fields: &Fields) -> bool {
        // Hashes are compared, so that the time tells nothing of the text.
        let sent = fields.get("form").map(SecretHash::of);
        sent == Some(SecretHash::of(&self.form))
    }
}

/// A page that says that a form cannot be taken.
pub(super) fn refused(state: &ServerState) -> Result<Response, ApiError> {
    state.pages.show(&Page::FormRefused)
}

/// Sends the browser to a page of the server.
pub(super) fn lead(state: &ServerState, path: &str) -> Response {
    match HeaderValue::try_from(format!("{}{path}", state.pages.base())) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)], common_headers()).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// Asks for a sign-in, which leads back.
pub(super) fn to_sign_in(state: &ServerState, to: To) -> Response {
    match (to.name(), to) {
        ("", _) => lead(state, "/account/sign-in"),
        (name, To::Device(Some(code))) => lead(state, &format!("/account/sign-in?to={name}&user_code={code}")),
        (name, _) => lead(state, &format!("/account/sign-in?to={name}")),
    }
}

impl FromRequestParts<Arc<ServerState>> for PageAccess {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ServerState>) -> Result<Self, Response> {
        let to = To::of_address(&parts.uri);
        let signed_out = || to_sign_in(state, to);
        let session = PageSession::of(&parts.headers, state).ok_or_else(signed_out)?;
        let stream = StreamId {
            app_id: PAGES_APP,
            user_id: session.user_id,
        };
        match live_session(state, session.session_id, session.user_id, parts).await {
            Ok(live) if live.stream == stream => {}
            // It has ended, or the account has.
            Ok(_) => return Err(signed_out()),
            Err(error) if error.problem().status == 401 => return Err(signed_out()),
            Err(error) => return Err(error.into_response()),
        }
        let owners = Owners::session(session.user_id, session.session_id);
        Work::of(parts)
            .enter(state, owners)
            .map_err(IntoResponse::into_response)?;
        let cookie = cookie(&parts.headers).unwrap_or_default();
        let hash = SecretHash::of(format!("synckit/1 form {cookie}"));
        Ok(Self {
            user_id: session.user_id,
            session_id: session.session_id,
            proven_at: session.proven_at,
            form: URL_SAFE_NO_PAD.encode(hash.0),
        })
    }
}
