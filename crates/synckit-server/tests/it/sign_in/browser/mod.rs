//! Sign-in by browser: the pages, the codes, and what near misses get.

mod codes;
mod pages;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::StatusCode;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use synckit_login::{ClientLogin, ClientRegistration};
use synckit_protocol::{
    ApiKey, ByteString, LOGIN_SUITE, limits,
    wire::{
        accounts::{PasswordChangeFinish, PasswordChangeStart, RegisterStarted},
        auth::{LoginFinish, LoginStart, LoginStarted},
        log::Status,
        oauth::{BrowserSignIn, BrowserSignedIn, OAuthMetadata, OAuthTokens},
    },
};
use synckit_server::admin::CreatedApp;
use url::{Url, form_urlencoded};

use crate::support::{Answer, PASSWORD, User, World, vault};

const FORM: &str = "application/x-www-form-urlencoded";
const REDIRECT: &str = "http://127.0.0.1:49152/callback";
const VERIFIER: &str = "a-verifier-that-the-app-keeps-until-the-end";
const OTHER_VERIFIER: &str = "another-verifier-that-is-not-the-apps-own-one";
const STATE: &str = "a state & its spaces";

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// What an app asks for, with some fields changed or, where the value is empty, left out.
fn query(api_key: &str, changed: &[(&str, &str)]) -> String {
    let challenge = challenge();
    let usual = [
        ("response_type", "code"),
        ("client_id", api_key),
        ("redirect_uri", REDIRECT),
        ("state", STATE),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let field = |(name, value)| {
        let change = changed.iter().find(|(other, _)| *other == name);
        (name, change.map_or(value, |(_, value)| *value))
    };
    let fields: Vec<_> = usual
        .map(field)
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    form(&fields)
}

async fn open(world: &World, query: &str) -> Answer {
    world.get(&format!("/oauth/authorize?{query}")).send().await
}

/// A login whose last message is not sent yet.
struct Begun {
    login: ByteString,
    ke3: ByteString,
}

impl Begun {
    async fn login(world: &World, email: &str) -> Self {
        Self::with(world, &world.api_key(), email, PASSWORD).await
    }

    /// A login of an app, with perhaps a wrong password: its last message is then none.
    async fn with(world: &World, api_key: &str, email: &str, password: &str) -> Self {
        let (login, ke1) = ClientLogin::start(password, &mut OsRng).unwrap();
        let start = LoginStart {
            api_key: api_key.to_owned(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
            code: None,
        };
        let started: LoginStarted = world.post("/api/sync/auth/start").json(&start).send().await.ok();
        let app_id = ApiKey::publishable(api_key).unwrap().app_id();
        let finished = login.finish(app_id, &started.ke2.0, None, &mut OsRng);
        Self {
            login: started.login,
            ke3: finished.map_or(vec![0; 64], |finished| finished.ke3).into(),
        }
    }

    async fn finish(self, world: &World) -> Answer {
        let finish = LoginFinish {
            api_key: world.api_key(),
            login: self.login,
            ke3: self.ke3,
        };
        world.post("/api/sync/auth").json(&finish).send().await
    }

    async fn finish_page(self, world: &World, page: &Answer) -> Answer {
        let body = BrowserSignIn {
            request: URL_SAFE_NO_PAD.decode(attribute(page, "data-request")).unwrap().into(),
            login: self.login,
            ke3: self.ke3,
        };
        world.post("/oauth/sign-in").json(&body).send().await
    }
}

pub(super) async fn change_password(world: &World, user: &User, new: &str) {
    let (registration, request) = ClientRegistration::start(new, &mut OsRng).unwrap();
    let start = PasswordChangeStart {
        suite: LOGIN_SUITE,
        request: request.into(),
    };
    let started: RegisterStarted = world
        .post("/api/account/password/start")
        .bearer(&user.account_token)
        .json(&start)
        .send()
        .await
        .ok();
    let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
    let finish = PasswordChangeFinish {
        registration: started.registration,
        record: finished.upload.into(),
        vault: vault(1, 2).into(),
        expected_version: 1,
    };
    let changed = world
        .post("/api/account/password")
        .bearer(&user.account_token)
        .json(&finish)
        .send()
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{:?}", changed.code());
}

/// The text of an attribute of a page.
fn attribute(page: &Answer, name: &str) -> String {
    let text = String::from_utf8(page.body.clone()).unwrap();
    let start = text
        .find(&format!("{name}=\""))
        .unwrap_or_else(|| panic!("no {name}: {text}"))
        + name.len()
        + 2;
    text[start..].split('"').next().unwrap().to_owned()
}

fn text_of(page: &Answer) -> String {
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    String::from_utf8(page.body.clone()).unwrap()
}

/// Proves a password to the page of an app, by a login for perhaps another one.
async fn prove(world: &World, page: &Answer, api_key: &str, email: &str, password: &str) -> Answer {
    let begun = Begun::with(world, api_key, email, password).await;
    begun.finish_page(world, page).await
}

async fn granted(world: &World, query: &str, api_key: &str, email: &str) -> String {
    let page = open(world, query).await;
    assert_eq!(page.status, StatusCode::OK);
    let signed_in: BrowserSignedIn = prove(world, &page, api_key, email, PASSWORD).await.ok();
    URL_SAFE_NO_PAD.encode(&signed_in.grant.0)
}

async fn decide(world: &World, grant: &str, answer: &str) -> Answer {
    let body = form(&[("grant", grant), ("answer", answer)]);
    world.post("/oauth/authorize").text(FORM, body).send().await
}

/// A field of the address that an answer leads to.
fn led_to(answer: &Answer, name: &str) -> Option<String> {
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let url = Url::parse(answer.header("location")).unwrap();
    let mut fields = url.query_pairs();
    fields
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.into_owned())
}

async fn code(world: &World, email: &str) -> String {
    let key = world.api_key();
    let grant = granted(world, &query(&key, &[]), &key, email).await;
    led_to(&decide(world, &grant, "yes").await, "code").unwrap()
}

/// The fields of an exchange, with some changed.
fn exchange_fields(api_key: &str, code: &str, changed: &[(&str, &str)]) -> String {
    let usual = [
        ("grant_type", "authorization_code"),
        ("client_id", api_key),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let field = |(name, value)| {
        let change = changed.iter().find(|(other, _)| *other == name);
        (name, change.map_or(value, |(_, value)| *value))
    };
    form(&usual.map(field))
}

async fn exchange(world: &World, code: &str, changed: &[(&str, &str)]) -> Answer {
    let body = exchange_fields(&world.api_key(), code, changed);
    world.post("/oauth/token").text(FORM, body).send().await
}

#[track_caller]
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()["error"].as_str().unwrap().to_owned()
}

async fn status_of(world: &World, token: &str) -> Answer {
    world.get("/api/sync/status").bearer(token).send().await
}

async fn other_app(world: &World) -> CreatedApp {
    world.admin().await.create_app("Tasks").await.unwrap()
}
