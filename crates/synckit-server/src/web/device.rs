//! The page that lets a machine without a browser sign in (RFC 8628, section 3.3).
//!
//! The person proves the password, types the code that the machine shows, and sees which app asks, from where. An address that has the
//! code in it saves the typing, not the comparison. Somebody can send such an address to another person (section 5.4), who is
//! therefore asked to confirm that the own machine shows the code.
//!
//! Invariant: nothing tells whether a code exists before it was counted as a guess.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_store::CredentialOf;

use super::session::{PageAccess, To, refused, to_sign_in};
use crate::{
    http::{ApiError, ClientAddress, Fields, Form, Site},
    limits::NotCounted,
    oauth::{Allowed, Machine, Page, Question, UserCode},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// What is told of a code that finds nothing.
const NOT_FOUND: &str = "No machine waits with this code. Compare it with the one on your machine. After ten minutes, the machine \
                         must ask for a new one.";

/// `GET /oauth/device`. Its query may have the code, to be compared.
pub(super) async fn show(
    State(state): Server,
    access: PageAccess,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes()).ok();
    let typed = fields.as_ref().and_then(|fields| fields.get("user_code"));
    let code = typed.and_then(UserCode::parse);
    if !access.is_fresh(state.config.clock.now()) {
        return Ok(to_sign_in(&state, To::Device(code)));
    }
    let typed = code.map(|code| code.to_string()).unwrap_or_default();
    ask(&state, &access, &typed, None)
}

fn ask(state: &ServerState, access: &PageAccess, typed: &str, told: Option<&str>) -> Result<Response, ApiError> {
    state.pages.show(&Page::DeviceCode {
        form: &access.form,
        typed,
        told,
    })
}

/// `POST /oauth/device`: a code that was typed.
pub(super) async fn enter(
    State(state): Server,
    access: PageAccess,
    site: Site,
    address: ClientAddress,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    let typed = fields.get("user_code").unwrap_or_default();
    let code = UserCode::parse(typed);
    if let Some(refusal) = access.refuses(&state, site, &fields, To::Device(code)).await {
        return Ok(refusal);
    }
    let Some(code) = code else {
        let told = "A code has eight letters, none of them a vowel.";
        return ask(&state, &access, typed, Some(told));
    };
    let now = state.config.clock.now();
    let counted = state
        .device_codes
        .count_guess(access.user_id, address.prefix(), now)
        .await;
    let guess = match counted {
        Ok(guess) => guess,
        Err(NotCounted::TooMany(refused)) => {
            let minutes = refused.retry_after.as_secs().div_ceil(60);
            let told = format!("Too many codes were wrong. Try again in {minutes} min.");
            return ask(&state, &access, typed, Some(&told));
        }
        Err(NotCounted::Store(error)) => return Err(error.into()),
    };
    let question = Question {
        code,
        session_id: access.session_id,
    };
    match consent(&state, &access, question, None).await? {
        Some(page) => {
            state.device_codes.give_back(guess, now).await?;
            Ok(page)
        }
        None => ask(&state, &access, typed, Some(NOT_FOUND)),
    }
}

/// The page that asks about a code; `None` if no machine waits with it.
async fn consent(
    state: &ServerState,
    access: &PageAccess,
    question: Question,
    told: Option<&str>,
) -> Result<Option<Response>, ApiError> {
    let now = state.config.clock.now();
    let hash = question.code.hash(&state.derived.user_codes);
    let Some(waiting) = state.store.waiting_grant(hash, now).await? else {
        return Ok(None);
    };
    let profile = state.store.app_profile(waiting.app_id).await?;
    let account = state.store.account(access.user_id).await?;
    let machine = Machine::open(&state.states, &waiting.asked, now).ok();
    let (Some(profile), Some(account), Some(machine)) = (profile, account, machine) else {
        return Ok(None);
    };
    let page = state.pages.show(&Page::DeviceConsent {
        app: &profile.name,
        email: &account.account.email,
        code: &question.code.to_string(),
        name: &machine.name,
        address: &machine.address.to_string(),
        form: &access.form,
        asked: &URL_SAFE_NO_PAD.encode(question.sealed(&state.states, now)),
        told,
    })?;
    Ok(Some(page))
}

/// `POST /oauth/device/answer`. The password was proven when the code was typed.
pub(super) async fn answer(
    State(state): Server,
    access: PageAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses_form(&state, site, &fields, To::Device(None)).await {
        return Ok(refusal);
    }
    let now = state.config.clock.now();
    let sealed = fields
        .get("asked")
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .unwrap_or_default();
    let question = Question::open(&state.states, &sealed, now)
        .ok()
        .filter(|question| question.session_id == access.session_id);
    let Some(question) = question else {
        return refused(&state);
    };
    let is_allowed = fields.get("answer") == Some("yes");
    if is_allowed && fields.get("same") != Some("yes") {
        let told = "Say first that your machine shows this code. If it does not, somebody else wants to sign in as you: refuse it.";
        let page = consent(&state, &access, question, Some(told)).await?;
        return page.map_or_else(|| ask(&state, &access, "", Some(NOT_FOUND)), Ok);
    }
    let allowed_by = if is_allowed {
        let credential = state.store.credential(CredentialOf::User(access.user_id)).await?;
        let Some(credential) = credential else {
            return Ok(to_sign_in(&state, To::Device(None)));
        };
        let allowed = Allowed {
            user_id: access.user_id,
            credential_id: credential.password.credential_id,
        };
        Some(allowed.sealed(&state.states, now))
    } else {
        None
    };
    let hash = question.code.hash(&state.derived.user_codes);
    if !state.store.answer_device_grant(hash, allowed_by, now).await? {
        return ask(&state, &access, "", Some(NOT_FOUND));
    }
    tracing::info!(is_allowed, "a machine's sign-in was answered");
    state.pages.show(&Page::DeviceAnswered { is_allowed })
}
