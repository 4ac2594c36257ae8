//! An authorization request, as an app puts it into the address that the browser opens (RFC 6749, section 4.1.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_protocol::{AppId, limits::OAUTH_STATE_BYTES_MAX};
use url::form_urlencoded;

use crate::http::Fields;

/// What an app asks for, after its address was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorization {
    pub(crate) app_id: AppId,
    pub(crate) redirect: String,
    pub(crate) state: String,
    pub(crate) challenge: [u8; 32],
}

/// Why a request goes back to the app: a code of RFC 6749, section 4.1.2.1, and what was wrong.
pub(crate) type Refused = (&'static str, &'static str);

/// Reads what a request says beside its app and its address.
pub(crate) fn read(fields: &Fields, app_id: AppId, redirect: &str) -> Result<Authorization, Refused> {
    const INVALID: &str = "invalid_request";
    match fields.get("response_type") {
        Some("code") => {}
        Some(_) => return Err(("unsupported_response_type", "response_type must be code")),
        None => return Err((INVALID, "response_type is missing")),
    }
    if fields.get("request").is_some() || fields.get("request_uri").is_some() {
        return Err(("request_not_supported", "request objects are not supported"));
    }
    if fields.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err((INVALID, "response_mode must be query"));
    }
    let state = fields.get("state").ok_or((INVALID, "state is missing"))?;
    if !is_text(state) {
        return Err((INVALID, "state is not UTF-8"));
    }
    if state.len() > OAUTH_STATE_BYTES_MAX {
        return Err((INVALID, "state is too long"));
    }
    if fields.get("code_challenge_method") != Some("S256") {
        return Err((INVALID, "code_challenge_method must be S256"));
    }
    let challenge = fields
        .get("code_challenge")
        .ok_or((INVALID, "code_challenge is missing"))?;
    let challenge = URL_SAFE_NO_PAD
        .decode(challenge)
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    Ok(Authorization {
        app_id,
        redirect: redirect.to_owned(),
        state: state.to_owned(),
        challenge: challenge.ok_or((INVALID, "code_challenge is no SHA-256 in base64url"))?,
    })
}

/// What an authorization request may say, beside `prompt`.
const FIELDS: [&str; 6] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
];

/// The query of an authorization request, without what it need not say: for links back to its sign-in page.
pub(crate) fn query(fields: &Fields) -> String {
    let known = FIELDS.iter().filter_map(|name| Some((name, fields.get(name)?)));
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(known)
        .finish()
}

/// Whether a field came as it was sent: bytes that are no text were replaced by a mark.
pub(crate) fn is_text(field: &str) -> bool {
    !field.contains('\u{fffd}')
}

/// Whether a verifier has the form of RFC 7636, section 4.1: shorter ones can be guessed.
pub(crate) fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
}

/// A permitted address with these fields added to its query.
pub(crate) fn answer(redirect: &str, fields: &[(&str, &str)]) -> String {
    let separator = if redirect.contains('?') { '&' } else { '?' };
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    format!("{redirect}{separator}{query}")
}
