//! `/api/sync/auth`.

use std::time::Duration;

use rand::rngs::OsRng;
use reqwest::{Method, StatusCode};
use serde_json::json;
use synckit_login::ClientLogin;
use synckit_protocol::{
    ApiKey, AppId, KeyKind, LOGIN_SUITE, SecretText, limits,
    wire::{
        accounts::SessionList,
        auth::{
            LoginFinish, LoginStart, LoginStarted, Refresh, Refreshed, SignedIn, UnlockFinish, UnlockStart, Unlocked,
        },
    },
};

use crate::support::{Answer, PASSWORD, World};

impl World {
    async fn login_start(&self, email: &str) -> (ClientLogin, Answer) {
        let (login, ke1) = ClientLogin::start(PASSWORD, &mut OsRng).unwrap();
        let body = LoginStart {
            api_key: self.api_key(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
            code: None,
        };
        (login, self.post("/api/sync/auth/start").json(&body).send().await)
    }

    async fn refresh(&self, secret: &SecretText) -> Answer {
        self.post("/api/sync/auth/refresh")
            .cbor(&Refresh {
                refresh: secret.clone(),
            })
            .send()
            .await
    }

    async fn status_code(&self, token: &str) -> String {
        self.get("/api/sync/status").bearer(token).send().await.code()
    }
}

#[tokio::test]
async fn sign_in_works_in_json() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    let (login, answer) = world.login_start("ada@example.com").await;
    insta::assert_json_snapshot!(answer.json(), { ".login" => "[login]", ".ke2" => "[ke2]" }, @r#"
    {
      "ke2": "[ke2]",
      "login": "[login]"
    }
    "#);
    let started: LoginStarted = answer.ok();
    let ke3 = login
        .finish(world.app.app_id, &started.ke2.0, None, &mut OsRng)
        .unwrap()
        .ke3;
    let body = LoginFinish {
        api_key: world.api_key(),
        login: started.login,
        ke3: ke3.into(),
    };
    let answer = world.post("/api/sync/auth").json(&body).send().await;
    insta::assert_json_snapshot!(
        answer.json(),
        {
            ".token" => "[token]",
            ".account_token" => "[token]",
            ".refresh" => "[refresh]",
            ".user_id" => "[user]",
            ".app_id" => "[app]",
        },
        @r#"
    {
      "account_token": "[token]",
      "app_id": "[app]",
      "expires_at": 1767830400,
      "refresh": "[refresh]",
      "token": "[token]",
      "user_id": "[user]"
    }
    "#
    );
    assert_eq!(answer.ok::<SignedIn>().app_id, world.app.app_id);
}

#[tokio::test]
async fn addresses_compare_without_case_and_space() {
    let world = World::start().await;
    world.register(" Ada@Example.COM ", PASSWORD).await;
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    for email in [
        "",
        "ada",
        "ada@",
        "@example.com",
        "a da@example.com",
        &format!("{}@x", "a".repeat(260)),
    ] {
        let (_, answer) = world.login_start(email).await;
        assert_eq!(
            (answer.code().as_str(), answer.problem().field.as_deref()),
            ("invalid_value", Some("email"))
        );
    }
}

#[tokio::test]
async fn an_unknown_account_looks_like_a_wrong_password() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    let (known, unknown) = (
        world.login_start("ada@example.com").await.1,
        world.login_start("eve@example.com").await.1,
    );
    assert_eq!((known.status, unknown.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(known.body.len(), unknown.body.len());
    let wrong = world.sign_in("ada@example.com", "wrong").await.map(|_| ()).unwrap_err();
    let absent = world.sign_in("eve@example.com", "wrong").await.map(|_| ()).unwrap_err();
    assert_eq!(
        (wrong.code.as_str(), absent.code.as_str()),
        ("invalid_credentials", "invalid_credentials")
    );
    assert_eq!((wrong.detail, wrong.title), (absent.detail, absent.title));

    // Nor does the server change its mind: the same unknown address evaluates to the same account every time. That is
    // visible in the masked response only to whoever has its key, so what can be checked here is that it goes on.
    assert_eq!(world.login_start("eve@example.com").await.1.status, StatusCode::OK);
}

#[tokio::test]
async fn login_is_bound_to_app_purpose_and_a_minute() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let (login, answer) = world.login_start("ada@example.com").await;
    let started: LoginStarted = answer.ok();
    let ke3 = login
        .finish(world.app.app_id, &started.ke2.0, None, &mut OsRng)
        .unwrap()
        .ke3;
    let finish = |api_key: &str, login: Vec<u8>, ke3: Vec<u8>| {
        let body = LoginFinish {
            api_key: api_key.to_owned(),
            login: login.into(),
            ke3: ke3.into(),
        };
        world.post("/api/sync/auth").cbor(&body)
    };
    let key = world.api_key();
    let sealed = started.login.0;

    let unknown = ApiKey::new(KeyKind::Publishable, AppId::from_bytes([9; 16]), [0; 16]).to_text();
    assert_eq!(
        finish(unknown.expose(), sealed.clone(), ke3.clone())
            .send()
            .await
            .code(),
        "api_key_invalid"
    );
    let other = world.admin().await.create_app("Photos").await.unwrap();
    let answer = finish(other.api_key.expose(), sealed.clone(), ke3.clone()).send().await;
    assert_eq!(answer.code(), "api_key_invalid");
    for at in [0, 24, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(finish(&key, changed, ke3.clone()).send().await.code(), "login_expired");
    }
    assert_eq!(finish(&key, vec![], ke3.clone()).send().await.code(), "login_expired");
    assert_eq!(
        finish(&key, sealed.clone(), vec![1; 10]).send().await.code(),
        "invalid_value"
    );
    assert_eq!(
        finish(&key, sealed.clone(), vec![1; 64]).send().await.code(),
        "invalid_credentials"
    );

    let unlock = UnlockFinish {
        login: sealed.clone().into(),
        ke3: ke3.clone().into(),
    };
    let answer = world
        .post("/api/sync/auth/unlock")
        .bearer(&user.token)
        .cbor(&unlock)
        .send()
        .await;
    assert_eq!(answer.code(), "login_expired", "a login is no unlock");

    world.clock.advance(limits::LOGIN_SECONDS);
    let signed_in: SignedIn = finish(&key, sealed.clone(), ke3.clone()).send().await.ok();
    let status = async || {
        let call = world.get("/api/sync/status").bearer(signed_in.token.expose());
        call.send().await.code()
    };
    assert_eq!(status().await, "200");
    // A copy of the last message opens no session. The first one ends, because it has no device yet: its answer got lost.
    let again = finish(&key, sealed.clone(), ke3.clone()).send().await;
    assert_eq!(again.code(), "login_expired");
    assert_eq!(status().await, "session_ended");
    let sessions: SessionList = world
        .get("/api/account/sessions")
        .bearer(&user.account_token)
        .send()
        .await
        .ok();
    assert_eq!(sessions.sessions.len(), 1);
    world.clock.advance(1);
    assert_eq!(finish(&key, sealed, ke3).send().await.code(), "login_expired");
}

#[tokio::test]
async fn an_unlock_is_finished_once() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let (login, ke1) = ClientLogin::start(PASSWORD, &mut OsRng).unwrap();
    let start = UnlockStart {
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
    };
    let call = world.post("/api/sync/auth/unlock/start").bearer(&user.token);
    let started: LoginStarted = call.cbor(&start).send().await.ok();
    let finished = login.finish(user.app_id, &started.ke2.0, None, &mut OsRng).unwrap();
    let finish = UnlockFinish {
        login: started.login,
        ke3: finished.ke3.clone().into(),
    };
    let mut codes = Vec::new();
    for _ in 0..2 {
        let call = world.post("/api/sync/auth/unlock").bearer(&user.token);
        codes.push(call.cbor(&finish).send().await.code());
    }
    assert_eq!(codes, ["200", "login_expired"]);
}

#[tokio::test]
async fn only_suite_one_is_spoken() {
    let world = World::start().await;
    let body = json!({ "api_key": world.api_key(), "email": "ada@example.com", "suite": 2, "ke1": "" });
    assert_eq!(
        world.post("/api/sync/auth/start").json(&body).send().await.code(),
        "unsupported_suite"
    );
    let body = json!({ "api_key": world.api_key(), "email": "ada@example.com", "suite": 1, "ke1": "AAAA" });
    let answer = world.post("/api/sync/auth/start").json(&body).send().await;
    assert_eq!(
        (answer.code().as_str(), answer.problem().field.as_deref()),
        ("invalid_value", Some("ke1"))
    );
}

#[tokio::test]
async fn the_wrong_kind_of_key_is_told_apart() {
    let world = World::start().await;
    let app_id = world.app.app_id;
    let own = world.api_key();
    let refusal = async |api_key: &str| {
        // Both requests that carry a key, each with nothing else that is right.
        let start = json!({ "api_key": api_key, "email": "ada@example.com", "suite": 1, "ke1": "AAAA" });
        let started = world.post("/api/sync/auth/start").json(&start).send().await;
        let finish = json!({ "api_key": api_key, "login": "AAAA", "ke3": "AAAA" });
        let finished = world.post("/api/sync/auth").json(&finish).send().await;
        let detail = started.problem().detail;
        assert_eq!(
            (started.status, detail.clone()),
            (finished.status, finished.problem().detail)
        );
        assert_eq!(started.code(), finished.code());
        assert!(
            !detail.is_some_and(|detail| detail.contains(&api_key[4..])),
            "a key is never repeated"
        );
        (started.status.as_u16(), started.code())
    };
    for kind in [KeyKind::ServerSecret, KeyKind::PersonalToken, KeyKind::WebhookSecret] {
        let key = ApiKey::new(kind, app_id, [3; 16]).to_text();
        assert_eq!(refusal(key.expose()).await, (403, "key_kind".to_owned()), "{kind}");
        // By its prefix alone it is of no kind: the checksum covers it.
        let relabelled = format!("{}{}", kind.prefix(), &own[4..]);
        assert_eq!(refusal(&relabelled).await, (400, "key_malformed".to_owned()), "{kind}");
    }
    let mut mistyped = own.clone();
    mistyped.replace_range(40..41, if &own[40..41] == "0" { "1" } else { "0" });
    for malformed in [&mistyped, &own[..own.len() - 1], "your-api-key", "sk_an-old-key"] {
        assert_eq!(
            refusal(malformed).await,
            (400, "key_malformed".to_owned()),
            "{malformed}"
        );
    }
    let unknown = ApiKey::new(KeyKind::Publishable, app_id, [3; 16]).to_text();
    let start = json!({ "api_key": unknown.expose(), "email": "ada@example.com", "suite": 1, "ke1": "AAAA" });
    let answer = world.post("/api/sync/auth/start").json(&start).send().await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (401, "api_key_invalid")
    );
}

#[tokio::test]
async fn a_key_names_its_app() {
    let world = World::start().await;
    let key = ApiKey::publishable(&world.api_key()).unwrap();
    assert_eq!(key.app_id(), world.app.app_id);
    let admin = world.admin().await;
    let rotated = admin.rotate_api_key(world.app.app_id, Duration::ZERO).await.unwrap();
    assert_eq!(
        ApiKey::publishable(rotated.expose()).unwrap().app_id(),
        world.app.app_id
    );
    let listed = &admin.apps().await.unwrap()[0].keys[0];
    assert_eq!(rotated.expose(), listed.text);
}

#[tokio::test]
async fn unlock_gives_account_token_of_same_session() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.clock.advance(1000);
    let token = user.unlock(&world, PASSWORD).await.ok::<Unlocked>().account_token;
    assert_eq!(
        world
            .get("/api/account/vault")
            .bearer(token.expose())
            .send()
            .await
            .code(),
        "200"
    );
    assert_eq!(user.unlock(&world, "wrong").await.code(), "invalid_credentials");
    let mut stranger = user.clone();
    stranger.token = "nonsense".to_owned();
    assert_eq!(stranger.unlock(&world, PASSWORD).await.code(), "token_invalid");
}

#[tokio::test]
async fn refresh_rotates_and_repeats_a_lost_answer() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.clock.advance(100);
    let second: Refreshed = world.refresh(&user.refresh).await.ok();
    assert_eq!(
        second.expires_at,
        crate::support::BEGINNING + 100 + limits::TOKEN_SECONDS
    );
    assert_eq!(world.status_code(second.token.expose()).await, "200");
    let repeated: Refreshed = world.refresh(&user.refresh).await.ok();
    assert_eq!(repeated.refresh, second.refresh);
    let world = world.restart().await;
    let third: Refreshed = world.refresh(&second.refresh).await.ok();
    assert_ne!(third.refresh, second.refresh);
    // The first is two steps old now: only a copy can be that.
    assert_eq!(world.refresh(&user.refresh).await.code(), "session_ended");
    assert_eq!(world.refresh(&third.refresh).await.code(), "session_ended");
    assert_eq!(world.status_code(third.token.expose()).await, "session_ended");
}

#[tokio::test]
async fn foreign_refresh_secret_is_refused() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let secret = user.refresh.expose();
    let changed = format!("{}{}", if secret.starts_with('A') { 'B' } else { 'A' }, &secret[1..]);
    for text in ["", "nonsense", &changed, &secret[1..], &format!("{secret}AA")] {
        assert_eq!(world.refresh(&SecretText::new(text)).await.code(), "session_ended");
    }
    world.refresh(&user.refresh).await.ok::<Refreshed>();
}

#[tokio::test]
async fn session_lives_ninety_days_after_a_refresh() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.clock.advance(limits::REFRESH_SECONDS - 1);
    let refreshed: Refreshed = world.refresh(&user.refresh).await.ok();
    world.clock.advance(limits::REFRESH_SECONDS);
    assert_eq!(world.refresh(&refreshed.refresh).await.code(), "session_ended");
}

#[tokio::test]
async fn sign_out_ends_one_session_at_once() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    assert_eq!(world.status_code(&user.token).await, "200");
    world
        .call(Method::DELETE, "/api/sync/auth")
        .bearer(&user.token)
        .send()
        .await
        .empty();
    assert_eq!(world.status_code(&user.token).await, "session_ended");
    assert_eq!(world.refresh(&user.refresh).await.code(), "session_ended");
    let answer = world.get("/api/account/vault").bearer(&user.account_token).send().await;
    assert_eq!(answer.code(), "session_ended");
    assert_eq!(world.status_code(&other.token).await, "200");
}

#[tokio::test]
async fn session_ended_elsewhere_stops_in_five_seconds() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    assert_eq!(world.status_code(&user.token).await, "200");
    let admin = world.admin().await;
    assert_eq!(admin.end_sessions(user.user_id).await.unwrap(), 1);
    world.clock.advance(limits::REVOCATION_SECONDS);
    assert_eq!(world.status_code(&user.token).await, "session_ended");
}

#[tokio::test]
async fn password_in_the_body_is_refused_by_default() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    let body = json!({ "email": "ada@example.com", "password": PASSWORD, "api_key": world.api_key() });
    let answer = world.post("/api/sync/auth").json(&body).send().await;
    insta::assert_json_snapshot!(answer.json(), { ".request_id" => "[id]" }, @r#"
    {
      "code": "password_login_disabled",
      "detail": "sign in with OPAQUE: POST /api/sync/auth/start, then /api/sync/auth",
      "request_id": "[id]",
      "status": 400,
      "title": "The server takes no passwords",
      "type": "urn:synckit:problem:password_login_disabled"
    }
    "#);
}

#[tokio::test]
async fn allowed_password_login_is_a_normal_login() {
    let world = World::start_with(|config| config.allow_password_login = true).await;
    world.register("ada@example.com", PASSWORD).await;
    let log_in = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password, "api_key": world.api_key() });
        world.post("/api/sync/auth").json(&body).send().await
    };
    let signed_in: SignedIn = log_in("Ada@example.com", PASSWORD).await.ok();
    assert_eq!(world.status_code(signed_in.token.expose()).await, "200");
    assert_eq!(log_in("ada@example.com", "wrong").await.code(), "invalid_credentials");
    assert_eq!(log_in("eve@example.com", PASSWORD).await.code(), "invalid_credentials");
    assert_eq!(log_in("ada@example.com", "").await.code(), "invalid_value");
    let body = json!({ "email": "ada@example.com", "password": PASSWORD, "api_key": "no" });
    assert_eq!(
        world.post("/api/sync/auth").json(&body).send().await.code(),
        "key_malformed"
    );
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
}
