//! What a code and its tokens are good for.

use super::*;

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
