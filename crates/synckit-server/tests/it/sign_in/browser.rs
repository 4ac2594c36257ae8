//! Sign-in by browser: the pages, the codes, and what near misses get.

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
        let api_key = world.api_key();
        let (login, ke1) = ClientLogin::start(PASSWORD, &mut OsRng).unwrap();
        let start = LoginStart {
            api_key: api_key.clone(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
            code: None,
        };
        let started: LoginStarted = world.post("/api/sync/auth/start").json(&start).send().await.ok();
        let app_id = ApiKey::publishable(&api_key).unwrap().app_id();
        let finished = login.finish(app_id, &started.ke2.0, None, &mut OsRng).unwrap();
        Self {
            login: started.login,
            ke3: finished.ke3.into(),
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

async fn change_password(world: &World, user: &User, new: &str) {
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
    let body = BrowserSignIn {
        request: URL_SAFE_NO_PAD.decode(attribute(page, "data-request")).unwrap().into(),
        login: started.login,
        ke3: finished.map_or(vec![0; 64], |finished| finished.ke3).into(),
    };
    world.post("/oauth/sign-in").json(&body).send().await
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

#[tokio::test]
async fn a_browser_sign_in_opens_a_session() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let key = world.api_key();
    let grant = granted(&world, &query(&key, &[]), &key, "Ada@Example.com").await;

    let page = world
        .post("/oauth/consent")
        .text(FORM, form(&[("grant", &grant)]))
        .send()
        .await;
    let text = text_of(&page);
    assert!(text.contains("Let Notes sync with your account?") && text.contains("ada@example.com"));
    assert_eq!(attribute(&page, "name=\"grant\" value"), grant);

    let back = decide(&world, &grant, "yes").await;
    assert!(back.header("location").starts_with(&format!("{REDIRECT}?code=")));
    assert_eq!(led_to(&back, "state").as_deref(), Some(STATE));
    assert_eq!(led_to(&back, "iss").as_deref(), Some(world.url.as_str()));
    let code = led_to(&back, "code").unwrap();

    let answer = exchange(&world, &code, &[]).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens: OAuthTokens = answer.ok();
    assert_eq!((tokens.user_id, tokens.app_id), (user.user_id, user.app_id));
    assert_eq!(tokens.token_type, "Bearer");
    assert_eq!(tokens.expires_at, world.clock.now() + tokens.expires_in);
    let _: Status = status_of(&world, tokens.access_token.expose()).await.ok();

    let refresh = |key: String, secret: String| {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &key),
            ("refresh_token", &secret),
        ];
        world.post("/oauth/token").text(FORM, form(&fields)).send()
    };
    let secret = tokens.refresh_token.expose().to_owned();
    let foreign = other_app(&world).await.api_key.expose().to_owned();
    assert_eq!(refused(&refresh(foreign, secret.clone()).await), "invalid_grant");
    assert_eq!(
        refused(&refresh(key.clone(), "nothing".to_owned()).await),
        "invalid_grant"
    );
    let next: OAuthTokens = refresh(key, secret).await.ok();
    assert_ne!(next.refresh_token, tokens.refresh_token);
    assert_eq!(next.user_id, user.user_id);
    let _: Status = status_of(&world, next.access_token.expose()).await.ok();
}

#[tokio::test]
async fn a_replayed_code_ends_what_it_gave() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let code = code(&world, "ada@example.com").await;
    let tokens: OAuthTokens = exchange(&world, &code, &[]).await.ok();
    let token = tokens.access_token.expose();
    let _: Status = status_of(&world, token).await.ok();
    // Without the verifier a replay proves nothing, and ends nothing.
    let replay = exchange(&world, &code, &[("code_verifier", OTHER_VERIFIER)]).await;
    assert_eq!(refused(&replay), "invalid_grant");
    let _: Status = status_of(&world, token).await.ok();

    // Also long after: the code still names its session.
    world.clock.advance(3600);
    assert_eq!(refused(&exchange(&world, &code, &[]).await), "invalid_grant");
    assert_eq!(status_of(&world, token).await.code(), "session_ended");
}

#[tokio::test]
async fn a_code_sent_twice_at_once_opens_one_session() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let code = code(&world, "ada@example.com").await;
    let (one, two) = tokio::join!(exchange(&world, &code, &[]), exchange(&world, &code, &[]));
    let given: Vec<OAuthTokens> = [&one, &two]
        .into_iter()
        .filter(|answer| answer.status == StatusCode::OK)
        .map(|answer| answer.ok())
        .collect();
    assert!(given.len() <= 1, "{one:?} {two:?}");
    for tokens in given {
        assert_eq!(
            status_of(&world, tokens.access_token.expose()).await.code(),
            "session_ended"
        );
    }
}

#[tokio::test]
async fn a_code_is_good_for_sixty_seconds() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    for (age, is_good) in [(60, true), (61, false)] {
        assert_eq!(limits::AUTHORIZATION_CODE_SECONDS, 60);
        let code = code(&world, "ada@example.com").await;
        world.clock.advance(age);
        let answer = exchange(&world, &code, &[]).await;
        assert_eq!(answer.status == StatusCode::OK, is_good, "{age}");
    }
}

#[tokio::test]
async fn a_code_needs_its_app_address_and_verifier() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let code = code(&world, "ada@example.com").await;
    let foreign = other_app(&world).await.api_key;
    for change in [
        ("code_verifier", OTHER_VERIFIER),
        ("client_id", foreign.expose()),
        ("redirect_uri", "http://127.0.0.1:49153/callback"),
        ("code", "AAAA"),
    ] {
        assert_eq!(
            refused(&exchange(&world, &code, &[change]).await),
            "invalid_grant",
            "{change:?}"
        );
    }
    for (change, expected) in [
        (("client_id", "skp_nothing"), "invalid_client"),
        (("code_verifier", ""), "invalid_request"),
        (("code_verifier", &VERIFIER[1..]), "invalid_request"),
        (
            ("code_verifier", "é-verifier-that-the-app-keeps-until-the-end-of-it"),
            "invalid_request",
        ),
        (("grant_type", "password"), "unsupported_grant_type"),
        (("grant_type", ""), "invalid_request"),
    ] {
        assert_eq!(
            refused(&exchange(&world, &code, &[change]).await),
            expected,
            "{change:?}"
        );
    }
    // None of them used it up.
    let _: OAuthTokens = exchange(&world, &code, &[]).await.ok();
}

#[tokio::test]
async fn a_foreign_address_gets_a_page_and_no_redirect() {
    let world = World::start().await;
    let key = world.api_key();
    let admin = world.admin().await;
    let registered = "https://notes.example.com/done";
    admin.add_redirect(world.app.app_id, registered).await.unwrap();
    assert_eq!(
        open(&world, &query(&key, &[("redirect_uri", registered)])).await.status,
        StatusCode::OK
    );
    for near_miss in [
        "https://notes.example.com/done/",
        "https://notes.example.com/done?x=1",
        "https://notes.example.com.evil.example/done",
        "https://notes.example.com@evil.example/done",
        "http://localhost:49152/callback",
        "http://127.0.0.1:49152/callback/../x",
        "http://127.0.0.1:49152@evil.example/callback",
        "javascript:alert(1)//",
        "//evil.example/callback",
        "",
    ] {
        // Also where the app made another mistake: that is told on the page, too.
        for wrong in [("state", STATE), ("state", ""), ("response_type", "token")] {
            let page = open(&world, &query(&key, &[("redirect_uri", near_miss), wrong])).await;
            assert_eq!(
                (page.status, page.header("location")),
                (StatusCode::BAD_REQUEST, ""),
                "{near_miss}"
            );
            assert!(text_of(&page).contains("This request cannot go on"));
        }
    }
    // Another app's address is foreign.
    let tasks = other_app(&world).await;
    let page = open(&world, &query(tasks.api_key.expose(), &[("redirect_uri", registered)])).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    // A removed one is, too, also for a page that was opened before.
    world.user("ada@example.com").await;
    let grant = granted(
        &world,
        &query(&key, &[("redirect_uri", registered)]),
        &key,
        "ada@example.com",
    )
    .await;
    admin.remove_redirect(world.app.app_id, registered).await.unwrap();
    assert_eq!(decide(&world, &grant, "yes").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_page_shows_what_it_was_given_as_text() {
    let world = World::start().await;
    let evil = "https://evil.example/\"><script>alert(1)</script>";
    let page = open(&world, &query(&world.api_key(), &[("redirect_uri", evil)])).await;
    let text = text_of(&page);
    assert!(
        text.contains("&lt;script&gt;alert(1)") && !text.contains("<script>alert"),
        "{text}"
    );
    for bad_key in ["", "skp_x", "<b>"] {
        let page = open(&world, &query(bad_key, &[])).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST);
        assert!(!text_of(&page).contains("<b>"));
    }
    let twice = format!("{}&state=again", query(&world.api_key(), &[]));
    assert_eq!(open(&world, &twice).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_apps_mistake_goes_back_to_the_app() {
    let world = World::start().await;
    let key = world.api_key();
    let long = "s".repeat(limits::OAUTH_STATE_BYTES_MAX + 1);
    for (wrong, expected) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("state", ""), "invalid_request"),
        (("state", long.as_str()), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
    ] {
        let back = open(&world, &query(&key, &[wrong])).await;
        assert!(back.header("location").starts_with(REDIRECT), "{wrong:?}");
        assert_eq!(led_to(&back, "error").as_deref(), Some(expected), "{wrong:?}");
        assert_eq!(led_to(&back, "iss").as_deref(), Some(world.url.as_str()));
        let sent = (wrong.0 != "state").then_some(STATE);
        if wrong.0 != "state" || wrong.1.is_empty() {
            assert_eq!(led_to(&back, "state").as_deref(), sent, "{wrong:?}");
        }
    }
    let longest = "s".repeat(limits::OAUTH_STATE_BYTES_MAX);
    assert_eq!(
        open(&world, &query(&key, &[("state", &longest)])).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_grant_is_answered_once() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let key = world.api_key();
    for (first, outcome) in [("yes", "code"), ("no", "error")] {
        let grant = granted(&world, &query(&key, &[]), &key, "ada@example.com").await;
        let back = decide(&world, &grant, first).await;
        assert!(led_to(&back, outcome).is_some());
        for second in ["yes", "no"] {
            let again = decide(&world, &grant, second).await;
            assert_eq!((again.status, again.header("location")), (StatusCode::BAD_REQUEST, ""));
        }
    }
    // Also when the list of finished logins is long forgotten: the grant has ended by then.
    let grant = granted(&world, &query(&key, &[]), &key, "ada@example.com").await;
    assert!(led_to(&decide(&world, &grant, "yes").await, "code").is_some());
    for age in [2 * limits::LOGIN_SECONDS + 1, limits::CONSENT_SECONDS - 200] {
        world.clock.advance(age);
        world.user(&format!("user{age}@example.com")).await;
        assert_eq!(decide(&world, &grant, "yes").await.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_denied_sign_in_goes_back_to_the_app() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let key = world.api_key();
    let grant = granted(&world, &query(&key, &[]), &key, "ada@example.com").await;
    let back = decide(&world, &grant, "no").await;
    assert_eq!(led_to(&back, "error").as_deref(), Some("access_denied"));
    assert_eq!(
        (led_to(&back, "code"), led_to(&back, "state").as_deref()),
        (None, Some(STATE))
    );
}

#[tokio::test]
async fn a_replaced_password_ends_what_it_had_begun() {
    let world = World::start().await;
    let changed = async |email: &str| {
        let user = world.user(email).await;
        let key = world.api_key();
        let grant = granted(&world, &query(&key, &[]), &key, email).await;
        let code = code(&world, email).await;
        let page = open(&world, &query(&key, &[])).await;
        let begun = Begun::login(&world, email).await;
        let begun_page = Begun::login(&world, email).await;
        (user, grant, code, page, begun, begun_page)
    };
    // The control: without a change, all of it ends well.
    let (_, grant, code, page, begun, begun_page) = changed("eve@example.com").await;
    assert_eq!(begun.finish(&world).await.status, StatusCode::OK);
    assert_eq!(begun_page.finish_page(&world, &page).await.status, StatusCode::OK);
    assert!(led_to(&decide(&world, &grant, "yes").await, "code").is_some());
    let _: OAuthTokens = exchange(&world, &code, &[]).await.ok();

    let (user, grant, code, page, begun, begun_page) = changed("ada@example.com").await;
    change_password(&world, &user, "a new password").await;
    assert_eq!(begun.finish(&world).await.code(), "invalid_credentials");
    assert_eq!(decide(&world, &grant, "yes").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused(&exchange(&world, &code, &[]).await), "invalid_grant");
    // What the page proved too late leads to no code.
    let late: BrowserSignedIn = begun_page.finish_page(&world, &page).await.ok();
    let late = URL_SAFE_NO_PAD.encode(&late.grant.0);
    assert_eq!(decide(&world, &late, "yes").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_page_that_was_open_too_long_ends() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let key = world.api_key();
    let page = open(&world, &query(&key, &[])).await;
    let prove = || prove(&world, &page, &key, "ada@example.com", PASSWORD);
    world.clock.advance(limits::AUTHORIZATION_SECONDS);
    let grant: BrowserSignedIn = prove().await.ok();
    let grant = URL_SAFE_NO_PAD.encode(&grant.grant.0);
    world.clock.advance(1);
    assert_eq!(prove().await.code(), "login_expired");
    let consent = |grant: String| {
        world
            .post("/oauth/consent")
            .text(FORM, form(&[("grant", &grant)]))
            .send()
    };
    // The consent page has its own time, from the proof on.
    world.clock.advance(limits::CONSENT_SECONDS - 1);
    assert_eq!(consent(grant.clone()).await.status, StatusCode::OK);
    world.clock.advance(1);
    assert_eq!(consent(grant.clone()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(decide(&world, &grant, "yes").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(consent("AAAA".to_owned()).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn only_a_proven_password_yields_a_grant() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let key = world.api_key();
    let page = open(&world, &query(&key, &[])).await;
    let answer = prove(&world, &page, &key, "ada@example.com", "a wrong password").await;
    assert_eq!(answer.code(), "invalid_credentials");
    let answer = prove(&world, &page, &key, "nobody@example.com", PASSWORD).await;
    assert_eq!(answer.code(), "invalid_credentials");
    // A login to another app is none to this one.
    let tasks = other_app(&world).await;
    let answer = prove(&world, &page, tasks.api_key.expose(), "ada@example.com", PASSWORD).await;
    assert_eq!(answer.code(), "api_key_invalid");
    let _: BrowserSignedIn = prove(&world, &page, &key, "ada@example.com", PASSWORD).await.ok();
}

#[tokio::test]
async fn a_revoked_token_ends_its_session() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let revoke = |key: String, token: String| {
        world
            .post("/oauth/revoke")
            .text(FORM, form(&[("client_id", &key), ("token", &token)]))
            .send()
    };
    for by_refresh_token in [false, true] {
        let code = code(&world, "ada@example.com").await;
        let tokens: OAuthTokens = exchange(&world, &code, &[]).await.ok();
        let token = tokens.access_token.expose().to_owned();
        let named = if by_refresh_token {
            tokens.refresh_token.expose()
        } else {
            &token
        };
        let foreign = world
            .admin()
            .await
            .create_app(&format!("app {by_refresh_token}"))
            .await
            .unwrap();
        let foreign = foreign.api_key.expose().to_owned();
        assert_eq!(revoke(foreign, named.to_owned()).await.status, StatusCode::OK);
        let _: Status = status_of(&world, &token).await.ok();
        assert_eq!(revoke(world.api_key(), named.to_owned()).await.status, StatusCode::OK);
        assert_eq!(status_of(&world, &token).await.code(), "session_ended");
        assert_eq!(revoke(world.api_key(), named.to_owned()).await.status, StatusCode::OK);
    }
    assert_eq!(
        revoke(world.api_key(), "nothing".to_owned()).await.status,
        StatusCode::OK
    );
    assert_eq!(
        refused(&revoke(world.api_key(), String::new()).await),
        "invalid_request"
    );
    assert_eq!(
        refused(&revoke("skp_x".to_owned(), "x".to_owned()).await),
        "invalid_client"
    );
}

#[tokio::test]
async fn a_page_loads_only_files_of_this_server() {
    let world =
        World::start_with(|config| config.public_url = Some("https://sync.example.com/kit".parse().unwrap())).await;
    let page = open(&world, &query(&world.api_key(), &[])).await;
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !policy.contains("unsafe-inline") && !policy.contains("http"),
        "{policy}"
    );
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("cache-control"), "no-store");
    let text = text_of(&page);
    // Behind a proxy that adds a path. Nothing else is an address.
    let names: Vec<&str> = text.split('"').filter(|part| part.contains("/assets/")).collect();
    assert!(names.len() >= 6, "{names:?}");
    for part in text
        .split('"')
        .filter(|part| part.contains("://") || part.starts_with('/') && !part.starts_with("/>"))
    {
        assert!(part == "/kit" || part.starts_with("/kit/"), "{part}");
    }
    for name in names {
        let file = world.get(name.strip_prefix("/kit").unwrap()).send().await;
        assert_eq!(file.status, StatusCode::OK, "{name}");
        assert!(file.header("cache-control").contains("immutable"));
        let integrity = format!("sha256-{}", STANDARD.encode(Sha256::digest(&file.body)));
        let is_named = ["gate", "wasm", "css"].iter().any(|part| name.contains(part));
        assert_eq!(text.contains(&integrity), is_named, "{name}");
    }
    assert_eq!(world.get("/assets/none.js").send().await.code(), "not_found");
}

#[tokio::test]
async fn the_metadata_names_every_endpoint() {
    let world = World::start().await;
    let metadata: OAuthMetadata = world.get("/.well-known/oauth-authorization-server").send().await.ok();
    assert_eq!(metadata.issuer, world.url);
    assert_eq!(
        metadata.authorization_endpoint,
        format!("{}/oauth/authorize", world.url)
    );
    assert_eq!(metadata.token_endpoint, format!("{}/oauth/token", world.url));
    assert_eq!(metadata.code_challenge_methods_supported, ["S256"]);
    assert!(metadata.authorization_response_iss_parameter_supported);
    assert_eq!(metadata.prompt_values_supported, ["create"]);
}

#[tokio::test]
async fn a_form_is_needed_and_names_a_field_once() {
    let world = World::start().await;
    for path in ["/oauth/token", "/oauth/revoke", "/oauth/consent", "/oauth/authorize"] {
        let answer = world.post(path).text("application/json", "{}").send().await;
        assert_eq!(answer.code(), "unsupported_media_type", "{path}");
    }
    for path in ["/oauth/consent", "/oauth/authorize"] {
        let answer = world.post(path).text(FORM, "grant=a&grant=b").send().await;
        assert_eq!(answer.code(), "malformed_body", "{path}");
    }
    for path in ["/oauth/token", "/oauth/revoke"] {
        let answer = world.post(path).text(FORM, "token=a&token=b").send().await;
        assert_eq!(refused(&answer), "invalid_request", "{path}");
    }
}

#[tokio::test]
async fn a_registered_address_is_checked_and_counted() {
    let world = World::start().await;
    let admin = world.admin().await;
    let app_id = world.app.app_id;
    for bad in [
        "javascript:alert(1)",
        "http://notes.example.com/",
        "https://a.example/#x",
        "http://127.0.0.1:80/x",
    ] {
        assert!(admin.add_redirect(app_id, bad).await.is_err(), "{bad}");
    }
    let uri = |n: usize| format!("com.example.notes:/{n}");
    for n in 0..limits::REDIRECTS_MAX {
        admin.add_redirect(app_id, &uri(n)).await.unwrap();
    }
    let error = admin.add_redirect(app_id, &uri(99)).await.unwrap_err();
    assert!(error.to_string().contains("remove one"), "{error}");
    let error = admin.remove_redirect(app_id, &uri(99)).await.unwrap_err();
    assert!(error.to_string().contains("no return address"), "{error}");
    assert_eq!(admin.redirects(app_id).await.unwrap().len(), limits::REDIRECTS_MAX);
    let page = open(&world, &query(&world.api_key(), &[("redirect_uri", &uri(3))])).await;
    assert_eq!(page.status, StatusCode::OK);
}

#[tokio::test]
async fn a_form_of_another_site_leads_nowhere() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let key = world.api_key();
    let grant = granted(&world, &query(&key, &[]), &key, "ada@example.com").await;
    let send = |path: &'static str, site: &'static str| {
        let body = form(&[("grant", &grant), ("answer", "yes")]);
        world.post(path).header("Sec-Fetch-Site", site).text(FORM, body).send()
    };
    for site in ["cross-site", "same-site", "something"] {
        for path in ["/oauth/consent", "/oauth/authorize"] {
            let answer = send(path, site).await;
            assert_eq!(
                (answer.status, answer.header("location")),
                (StatusCode::BAD_REQUEST, ""),
                "{path} {site}"
            );
        }
    }
    assert_eq!(send("/oauth/consent", "same-origin").await.status, StatusCode::OK);
    assert!(led_to(&send("/oauth/authorize", "same-origin").await, "code").is_some());
}

#[tokio::test]
async fn a_state_that_is_no_text_is_refused() {
    let world = World::start().await;
    let address = query(&world.api_key(), &[("state", "")]);
    let back = open(&world, &format!("{address}&state=%ff%fe")).await;
    assert_eq!(led_to(&back, "error").as_deref(), Some("invalid_request"));
    assert_eq!(led_to(&back, "state"), None);
}

#[tokio::test]
async fn pages_lead_to_each_other_and_nowhere_else() {
    let world = World::start().await;
    let key = world.api_key();
    let asked = query(&key, &[("state", "\"><script>alert(1)</script>&prompt=none")]);
    let links = |page: &Answer| -> Vec<String> {
        let text = text_of(page);
        assert!(!text.contains("<script>"), "{text}");
        let hrefs = text.split("<a ").skip(1).filter_map(|rest| rest.split_once("href=\""));
        let hrefs = hrefs.filter_map(|(_, rest)| rest.split_once('"'));
        let href = |(href, _): (&str, &str)| href.replace("&amp;", "&").replace("&#x2f;", "/");
        hrefs.map(href).filter(|href| !href.starts_with('#')).collect()
    };
    let sign_in = open(&world, &asked).await;
    let sign_up = open(&world, &format!("{asked}&prompt=create")).await;
    let recover = world.get(&format!("/account/recover?{asked}")).send().await;
    assert!(text_of(&sign_up).contains("<h1>Create an account</h1>"));
    let (to_sign_in, to_sign_up) = (
        format!("/oauth/authorize?{asked}"),
        format!("/oauth/authorize?{asked}&prompt=create"),
    );
    assert_eq!(links(&sign_in), [to_sign_up, format!("/account/recover?{asked}")]);
    assert_eq!(links(&sign_up), std::slice::from_ref(&to_sign_in));
    assert_eq!(links(&recover), [to_sign_in.clone(), to_sign_in]);
    // Both pages of a request carry it sealed, and it serves either.
    let user = world.user("ada@example.com").await;
    let proven: BrowserSignedIn = prove(&world, &sign_up, &key, "ada@example.com", PASSWORD).await.ok();
    assert_eq!(proven.user_id, user.user_id);
    // What is no authorization request is left out.
    for foreign in [
        "next=https://evil.example/",
        "client_id=a&client_id=b",
        "%ff=%00&prompt=create",
    ] {
        let page = world.get(&format!("/account/recover?{foreign}")).send().await;
        assert_eq!(links(&page), Vec::<String>::new(), "{foreign}");
    }
}
