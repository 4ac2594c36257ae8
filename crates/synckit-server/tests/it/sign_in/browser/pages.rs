//! The pages, and where they lead.

use super::*;

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
