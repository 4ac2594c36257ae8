//! Another address for the account: asked for, and confirmed by a code that is mailed to it.
//!
//! Nothing is stored in between: the page carries what was asked for, sealed, and the hash of the code. Whether another account has the
//! address, only its mailbox is told.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_protocol::{SessionId, UserId, limits::RESET_CODE_SECONDS, wire::UnixSeconds};
use synckit_store::{AddressChange, NewAddress, SecretHash};

use super::session::{PageAccess, To, lead, refused, to_sign_in};
use crate::{
    api::mailbox,
    http::{ApiError, ClientAddress, Form, Site},
    limits::NotCounted,
    mail::MailJob,
    oauth::Page,
    sign_in::{NormalEmail, Purpose, SealedReader, SealedStates, SealedWriter, fresh_secret},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// What was asked for.
struct Asked {
    user_id: UserId,
    /// The session that asked. What it has begun ends with it.
    session_id: SessionId,
    from: String,
    to: String,
    code: SecretHash,
}

impl Asked {
    fn sealed(&self, states: &SealedStates, now: UnixSeconds) -> String {
        let mut writer = SealedWriter::new(now);
        writer.put(self.user_id.as_bytes());
        writer.put(self.session_id.as_bytes());
        writer.put(&self.code.0);
        writer.put_text(&self.from);
        writer.put_text(&self.to);
        URL_SAFE_NO_PAD.encode(states.seal(Purpose::Address, &writer))
    }

    fn open(states: &SealedStates, sealed: &str, now: UnixSeconds) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plaintext = states.open(Purpose::Address, &sealed).ok()?;
        let mut reader = SealedReader::new(&plaintext, now, RESET_CODE_SECONDS).ok()?;
        Some(Self {
            user_id: UserId::from_bytes(reader.take().ok()?),
            session_id: SessionId::from_bytes(reader.take().ok()?),
            code: SecretHash(reader.take().ok()?),
            from: reader.take_text().ok()?,
            to: reader.take_text().ok()?,
        })
    }
}

/// `GET /account/address`.
pub(super) async fn show(State(state): Server, access: PageAccess) -> Result<Response, ApiError> {
    if !access.is_fresh(state.config.clock.now()) {
        return Ok(to_sign_in(&state, To::Address));
    }
    ask(&state, &access, "", None).await
}

async fn ask(state: &ServerState, access: &PageAccess, typed: &str, told: Option<&str>) -> Result<Response, ApiError> {
    let Some(overview) = state.store.account(access.user_id).await? else {
        return Ok(to_sign_in(state, To::Account));
    };
    state.pages.show(&Page::ChangeAddress {
        email: &overview.account.email,
        form: &access.form,
        typed,
        told,
    })
}

/// `POST /account/address`. Everything that depends on who has the address happens after the answer.
pub(super) async fn start(
    State(state): Server,
    access: PageAccess,
    site: Site,
    address: ClientAddress,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses(&state, site, &fields, To::Address).await {
        return Ok(refusal);
    }
    let typed = fields.get("email").unwrap_or_default();
    let Ok(to) = NormalEmail::parse(typed) else {
        return ask(&state, &access, typed, Some("That is no e-mail address.")).await;
    };
    let Some(overview) = state.store.account(access.user_id).await? else {
        return Ok(to_sign_in(&state, To::Account));
    };
    let from = overview.account.email;
    if to.as_str() == from {
        return ask(
            &state,
            &access,
            typed,
            Some("That is the address of the account already."),
        )
        .await;
    }
    let now = state.config.clock.now();
    let place = state.mailer.reserve()?;
    let counted = match state.guesses.count_address(address.prefix(), now).await {
        Ok(()) => state.mails.count_address(mailbox(&state, &to), now).await,
        refused => refused,
    };
    match counted {
        Ok(()) => {}
        Err(NotCounted::TooMany(refused)) => {
            let minutes = refused.retry_after.as_secs().div_ceil(60).max(1);
            let told = match minutes {
                1 => "Enough mails were asked for, for now. Try again in a minute.".to_owned(),
                _ => format!("Enough mails were asked for, for now. Try again in {minutes} minutes."),
            };
            return ask(&state, &access, typed, Some(&told)).await;
        }
        Err(NotCounted::Store(error)) => return Err(error.into()),
    }
    let code = fresh_secret();
    let asked = Asked {
        user_id: access.user_id,
        session_id: access.session_id,
        from,
        to: to.as_str().to_owned(),
        code: SecretHash::of(code.expose()),
    };
    place.fill(MailJob::ChangeAddress {
        email: asked.to.clone(),
        code,
    });
    confirm_page(&state, &access, &asked, &asked.sealed(&state.states, now), None)
}

fn confirm_page(
    state: &ServerState,
    access: &PageAccess,
    asked: &Asked,
    sealed: &str,
    told: Option<&str>,
) -> Result<Response, ApiError> {
    state.pages.show(&Page::ConfirmAddress {
        email: &asked.from,
        to: &asked.to,
        form: &access.form,
        asked: sealed,
        told,
    })
}

/// `POST /account/address/confirm`. The password was proven for what was asked for; a mail takes longer than that proof lasts.
pub(super) async fn confirm(
    State(state): Server,
    access: PageAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses_form(&state, site, &fields, To::Address).await {
        return Ok(refusal);
    }
    let now = state.config.clock.now();
    let sealed = fields.get("asked").unwrap_or_default();
    let asked = Asked::open(&state.states, sealed, now).filter(|asked| asked.session_id == access.session_id);
    let Some(asked) = asked else {
        return refused(&state);
    };
    // Hashes are compared, so that the time tells nothing of the code.
    if SecretHash::of(fields.get("code").unwrap_or_default().trim()) != asked.code {
        let told = "That is not the code of the newest mail.";
        return confirm_page(&state, &access, &asked, sealed, Some(told));
    }
    let place = state.mailer.reserve()?;
    let Asked {
        user_id,
        session_id,
        from,
        to,
        ..
    } = asked;
    let change = NewAddress {
        user_id,
        session_id: Some(session_id),
        from: from.clone(),
        to: to.clone(),
        now,
    };
    let changed = state.store.change_address(change).await?;
    match changed {
        AddressChange::Changed => {
            place.fill(MailJob::AddressChanged {
                email: from,
                to,
                user_id,
            });
            tracing::info!("the address of an account was changed");
            Ok(lead(&state, "/account?done=address"))
        }
        AddressChange::Taken => {
            let told = "Another account has the address by now.";
            ask(&state, &access, &to, Some(told)).await
        }
        AddressChange::Outdated => refused(&state),
    }
}
