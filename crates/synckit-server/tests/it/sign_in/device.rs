//! Sign-in of machines without a browser (RFC 8628): the codes, the page, and what near misses get.

use http::StatusCode;
use synckit_protocol::{
    limits::{
        ACCOUNT_TOKEN_SECONDS, DEVICE_GRANT_SECONDS, DEVICE_GUESSES_PER_ACCOUNT_MAX, DEVICE_GUESSES_PER_ADDRESS_MAX,
        DEVICE_POLL_SECONDS, DEVICE_SLOW_DOWN_SECONDS, DEVICE_STARTS_PER_ADDRESS_MAX,
    },
    wire::{
        log::Status,
        oauth::{DeviceAuthorization, OAuthMetadata, OAuthTokens},
    },
};
use url::form_urlencoded;

use super::{
    account_page::{Browser, FORM, encoded, text_of},
    browser::change_password,
};
use crate::support::{Answer, PASSWORD, World, fresh_postgres};

const ADA: &str = "ada@example.com";
const EVE: &str = "eve@example.com";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

async fn ask(world: &World, fields: &[(&str, &str)]) -> Answer {
    let call = world.post("/oauth/device_authorization");
    call.text(FORM, form(fields)).send().await
}

async fn begin(world: &World) -> DeviceAuthorization {
    let key = world.api_key();
    ask(world, &[("client_id", &key), ("device_name", "build server")])
        .await
        .ok()
}

async fn poll_as(world: &World, api_key: &str, device_code: &str) -> Answer {
    let fields = [
        ("grant_type", DEVICE_CODE),
        ("client_id", api_key),
        ("device_code", device_code),
    ];
    world.post("/oauth/token").text(FORM, form(&fields)).send().await
}

async fn poll(world: &World, asked: &DeviceAuthorization) -> Answer {
    poll_as(world, &world.api_key(), asked.device_code.expose()).await
}

#[track_caller]
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()["error"].as_str().unwrap().to_owned()
}

/// A field of a page; empty if the page has none of this name.
fn field(page: &str, name: &str) -> String {
    let input = page
        .split("<input ")
        .find(|input| input.contains(&format!("name=\"{name}\"")));
    let value = input.and_then(|input| input.split("value=\"").nth(1)?.split('"').next());
    value.unwrap_or_default().to_owned()
}

async fn enter(world: &World, browser: &Browser, code: &str) -> String {
    text_of(&browser.post(world, "/oauth/device", &[("user_code", code)]).await)
}

/// Types a code, and returns what the page asks about.
async fn question(world: &World, browser: &Browser, code: &str) -> String {
    let page = enter(world, browser, code).await;
    assert!(page.contains("Let a machine sign in to Notes as you?"), "{page}");
    field(&page, "asked")
}

async fn answer(world: &World, browser: &Browser, asked: &str, same: &str, answer: &str) -> String {
    let fields = [("asked", asked), ("same", same), ("answer", answer)];
    text_of(&browser.post(world, "/oauth/device/answer", &fields).await)
}

async fn allow(world: &World, browser: &Browser, asked: &DeviceAuthorization) {
    let question = question(world, browser, &asked.user_code).await;
    let page = answer(world, browser, &question, "yes", "yes").await;
    assert!(page.contains("Go back to your machine"), "{page}");
}

async fn status_of(world: &World, tokens: &OAuthTokens) -> Answer {
    let token = tokens.access_token.expose();
    world.get("/api/sync/status").bearer(token).send().await
}

#[tokio::test]
async fn a_machine_signs_in_when_it_is_allowed() {
    let world = World::start().await;
    let user = world.user(ADA).await;
    let metadata: OAuthMetadata = world.get("/.well-known/oauth-authorization-server").send().await.ok();
    let endpoint = metadata.device_authorization_endpoint;
    assert_eq!(endpoint, format!("{}/oauth/device_authorization", world.url));
    assert!(metadata.grant_types_supported.iter().any(|one| one == DEVICE_CODE));

    let asked = begin(&world).await;
    assert_eq!(asked.verification_uri, format!("{}/oauth/device", world.url));
    let complete = format!("{}?user_code={}", asked.verification_uri, asked.user_code);
    assert_eq!(asked.verification_uri_complete, complete);
    assert_eq!((asked.expires_in, asked.interval), (600, 5));
    // 256 bits, in base64url.
    assert_eq!(asked.device_code.expose().len(), 43);
    let letters = asked.user_code.replace('-', "");
    assert_eq!((letters.len(), asked.user_code.find('-')), (8, Some(4)));
    assert!(
        letters.chars().all(|letter| "BCDFGHJKLMNPQRSTVWXZ".contains(letter)),
        "{letters}"
    );
    assert_eq!(refused(&poll(&world, &asked).await), "authorization_pending");

    let browser = Browser::sign_in(&world, ADA).await;
    allow(&world, &browser, &asked).await;
    let answer = poll(&world, &asked).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens: OAuthTokens = answer.ok();
    assert_eq!((tokens.user_id, tokens.app_id), (user.user_id, user.app_id));
    assert_eq!(tokens.expires_at, world.clock.now() + tokens.expires_in);
    let _: Status = status_of(&world, &tokens).await.ok();
    let (key, secret) = (world.api_key(), tokens.refresh_token.expose());
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", &key),
        ("refresh_token", secret),
    ];
    let refreshed = world.post("/oauth/token").text(FORM, form(&fields)).send().await;
    let tokens: OAuthTokens = refreshed.ok();

    // A code gives once. Its replay ends nothing: whoever polls late is no thief.
    for _ in 0..2 {
        assert_eq!(refused(&poll(&world, &asked).await), "invalid_grant");
    }
    let _: Status = status_of(&world, &tokens).await.ok();
}

#[tokio::test]
async fn the_page_shows_who_asks_and_from_where() {
    let world = World::start_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    world.user(ADA).await;
    let browser = Browser::sign_in(&world, ADA).await;
    let key = world.api_key();
    for (name, shown) in [("<b>rack 7</b>", "&lt;b&gt;rack 7&lt;/b&gt;"), ("", "without a name")] {
        let call = world.post("/oauth/device_authorization");
        let call = call.header("x-forwarded-for", "203.0.113.9");
        let body = form(&[("client_id", &key), ("device_name", name)]);
        let asked: DeviceAuthorization = call.text(FORM, body).send().await.ok();
        let page = enter(&world, &browser, &asked.user_code.to_lowercase().replace('-', " ")).await;
        for text in [shown, "203.0.113.9", "Notes", ADA, &asked.user_code] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }
    for name in ["n".repeat(101), "a\u{202e}b".to_owned(), "a\nb".to_owned()] {
        let answer = ask(&world, &[("client_id", &key), ("device_name", &name)]).await;
        assert_eq!(refused(&answer), "invalid_request");
    }
    for client in ["skp_nothing", ""] {
        assert_eq!(refused(&ask(&world, &[("client_id", client)]).await), "invalid_client");
    }
}

/// RFC 8628, section 5.4: a stranger sends somebody an address with the code of the stranger's own machine.
#[tokio::test]
async fn an_address_with_a_code_allows_nothing() {
    let world = World::start().await;
    world.user(ADA).await;
    let asked = begin(&world).await;
    let path = asked.verification_uri_complete.strip_prefix(&world.url).unwrap();
    let browser = Browser::sign_in(&world, ADA).await;
    let page = text_of(&browser.get(&world, path).await);
    assert_eq!(field(&page, "user_code"), asked.user_code);
    assert!(page.contains("Compare the code"), "{page}");

    // Without the word that it is one's own machine, it gets nothing, and is asked about again.
    let question = question(&world, &browser, &asked.user_code).await;
    for same in ["", "no", "on"] {
        let page = answer(&world, &browser, &question, same, "yes").await;
        assert!(page.contains("Say first that your machine shows this code"), "{page}");
    }
    assert_eq!(refused(&poll(&world, &asked).await), "authorization_pending");
    // The control: with it, it does.
    answer(&world, &browser, &question, "yes", "yes").await;
    let _: OAuthTokens = poll(&world, &asked).await.ok();
}

#[tokio::test]
async fn a_code_survives_the_sign_in_before_it() {
    let world = World::start().await;
    world.user(ADA).await;
    let signs_in = async |path: &str| {
        let sent = world.get(path).send().await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER);
        let to = sent.header("location").to_owned();
        let page = text_of(&world.get(&to).send().await);
        let led = page.split("data-to=\"").nth(1).unwrap().split('"').next().unwrap();
        (to, led.to_owned())
    };
    let (to, led) = signs_in("/oauth/device?user_code=bcdf%20ghjk").await;
    assert_eq!(to, "/account/sign-in?to=device&user_code=BCDF-GHJK");
    assert_eq!(led, "/oauth/device?user_code=BCDF-GHJK");
    for other in [
        "",
        "?user_code=",
        "?user_code=//evil.example",
        "?user_code=BCDF-GHJK%22&user_code=x",
    ] {
        let (to, led) = signs_in(&format!("/oauth/device{other}")).await;
        assert_eq!(
            (to.as_str(), led.as_str()),
            ("/account/sign-in?to=device", "/oauth/device")
        );
    }
    // A browser that proved its password long ago proves it again.
    let browser = Browser::sign_in(&world, ADA).await;
    let asked = begin(&world).await;
    let open = question(&world, &browser, &asked.user_code).await;
    world.clock.advance(ACCOUNT_TOKEN_SECONDS);
    let again = browser.get(&world, "/oauth/device?user_code=BCDF-GHJK").await;
    assert_eq!(
        again.header("location"),
        "/account/sign-in?to=device&user_code=BCDF-GHJK"
    );
    let again = browser
        .post(&world, "/oauth/device", &[("user_code", &asked.user_code)])
        .await;
    assert!(
        again
            .header("location")
            .starts_with("/account/sign-in?to=device&user_code=")
    );
    // What it was asked then, it can still answer.
    let page = answer(&world, &browser, &open, "yes", "yes").await;
    assert!(page.contains("Go back to your machine"), "{page}");
}

#[tokio::test]
async fn polls_at_once_open_one_session() {
    let world = World::start().await;
    let user = world.user(ADA).await;
    let browser = Browser::sign_in(&world, ADA).await;
    let asked = begin(&world).await;
    allow(&world, &browser, &asked).await;
    let polls = futures_util::future::join_all((0..8).map(|_| poll(&world, &asked))).await;
    let (given, others): (Vec<&Answer>, Vec<&Answer>) =
        polls.iter().partition(|answer| answer.status == StatusCode::OK);
    assert_eq!(given.len(), 1);
    for other in others {
        assert_eq!(refused(other), "invalid_grant");
    }
    let tokens: OAuthTokens = given[0].ok();
    assert_eq!(tokens.user_id, user.user_id);
    let _: Status = status_of(&world, &tokens).await.ok();
}

#[tokio::test]
async fn fast_polls_are_told_to_slow_down() {
    let world = World::start().await;
    let asked = begin(&world).await;
    assert_eq!(refused(&poll(&world, &asked).await), "authorization_pending");
    assert_eq!(refused(&poll(&world, &asked).await), "slow_down");
    // The pace of before is too fast now, and that makes it slower again.
    world.clock.advance(DEVICE_POLL_SECONDS);
    assert_eq!(refused(&poll(&world, &asked).await), "slow_down");
    let slower = DEVICE_POLL_SECONDS + 2 * DEVICE_SLOW_DOWN_SECONDS;
    for (pause, expected) in [
        (slower, "authorization_pending"),
        (slower, "authorization_pending"),
        (slower - 1, "slow_down"),
    ] {
        world.clock.advance(pause);
        assert_eq!(refused(&poll(&world, &asked).await), expected);
    }
}

#[tokio::test]
async fn a_refused_machine_is_told_so() {
    let world = World::start().await;
    world.user(ADA).await;
    let browser = Browser::sign_in(&world, ADA).await;
    for said in ["no", "", "perhaps"] {
        let asked = begin(&world).await;
        let question = question(&world, &browser, &asked.user_code).await;
        let page = answer(&world, &browser, &question, "yes", said).await;
        assert!(page.contains("The machine was told that you refused"), "{page}");
        for _ in 0..2 {
            assert_eq!(refused(&poll(&world, &asked).await), "access_denied");
        }
        // Its page cannot take that back, and its code finds nothing any more.
        let page = answer(&world, &browser, &question, "yes", "yes").await;
        assert!(page.contains("No machine waits with this code"), "{page}");
        let page = enter(&world, &browser, &asked.user_code).await;
        assert!(page.contains("No machine waits with this code"), "{page}");
        assert_eq!(refused(&poll(&world, &asked).await), "access_denied");
    }
}

#[tokio::test]
async fn a_machine_waits_ten_minutes() {
    let world = World::start().await;
    world.user(ADA).await;
    let (early, late) = (begin(&world).await, begin(&world).await);
    world.clock.advance(DEVICE_GRANT_SECONDS - 1);
    let browser = Browser::sign_in(&world, ADA).await;
    let open = question(&world, &browser, &late.user_code).await;
    allow(&world, &browser, &early).await;
    let _: OAuthTokens = poll(&world, &early).await.ok();
    assert_eq!(refused(&poll(&world, &late).await), "authorization_pending");
    world.clock.advance(1);
    assert_eq!(refused(&poll(&world, &late).await), "expired_token");
    let page = answer(&world, &browser, &open, "yes", "yes").await;
    assert!(page.contains("No machine waits with this code"), "{page}");
    let page = enter(&world, &browser, &late.user_code).await;
    assert!(page.contains("No machine waits with this code"), "{page}");
    assert_eq!(refused(&poll(&world, &late).await), "expired_token");
}

#[tokio::test]
async fn a_device_code_belongs_to_its_app() {
    let world = World::start().await;
    world.user(ADA).await;
    let foreign = world.admin().await.create_app("Tasks").await.unwrap().api_key;
    let browser = Browser::sign_in(&world, ADA).await;
    let asked = begin(&world).await;
    let code = asked.device_code.expose();
    allow(&world, &browser, &asked).await;
    assert_eq!(refused(&poll_as(&world, foreign.expose(), code).await), "invalid_grant");
    let wrong = [
        (code, "skp_nothing", "invalid_client"),
        ("", world.api_key().as_str(), "invalid_request"),
        (&code[1..], world.api_key().as_str(), "invalid_grant"),
        (&asked.user_code, world.api_key().as_str(), "invalid_grant"),
    ]
    .map(|(code, key, error)| (code.to_owned(), key.to_owned(), error));
    for (code, key, error) in wrong {
        assert_eq!(refused(&poll_as(&world, &key, &code).await), error);
    }
    // None of them used it up.
    let _: OAuthTokens = poll(&world, &asked).await.ok();
}

/// A code that is not there, for each number below 20.
fn wrong_code(n: usize) -> String {
    let letter = |n: usize| "BCDFGHJKLMNPQRSTVWXZ".as_bytes()[n % 20] as char;
    format!("ZZZZ-ZZ{}{}", letter(n / 20), letter(n))
}

#[tokio::test]
async fn an_account_guesses_few_codes() {
    let world = World::start().await;
    world.user(ADA).await;
    world.user(EVE).await;
    let asked = begin(&world).await;
    let browser = Browser::sign_in(&world, EVE).await;
    // What is right, or no code at all, is no guess.
    for _ in 0..=DEVICE_GUESSES_PER_ACCOUNT_MAX {
        question(&world, &browser, &asked.user_code).await;
        let page = enter(&world, &browser, "no code").await;
        assert!(page.contains("A code has eight letters"), "{page}");
    }
    for n in 0..DEVICE_GUESSES_PER_ACCOUNT_MAX as usize {
        let page = enter(&world, &browser, &wrong_code(n)).await;
        assert!(page.contains("No machine waits with this code"), "{n}: {page}");
    }
    // Nor has another session of the account a further guess, and the right code is refused, too.
    let again = Browser::sign_in(&world, EVE).await;
    for browser in [&browser, &again] {
        let page = enter(&world, browser, &asked.user_code).await;
        assert!(
            page.contains("Too many codes were wrong. Try again in 1 min."),
            "{page}"
        );
    }
    // The control: another account can, and time gives guesses back.
    let ada = Browser::sign_in(&world, ADA).await;
    question(&world, &ada, &asked.user_code).await;
    let pause = DEVICE_GRANT_SECONDS / u64::from(DEVICE_GUESSES_PER_ACCOUNT_MAX);
    world.clock.advance(pause - 1);
    let page = enter(&world, &browser, &asked.user_code).await;
    assert!(page.contains("Too many codes were wrong"), "{page}");
    world.clock.advance(1);
    question(&world, &browser, &asked.user_code).await;
}

#[tokio::test]
async fn an_address_guesses_few_codes() {
    let world = World::start_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let asked = begin(&world).await;
    let mut browsers = Vec::new();
    let accounts = DEVICE_GUESSES_PER_ADDRESS_MAX / (DEVICE_GUESSES_PER_ACCOUNT_MAX - 1) + 1;
    for n in 0..accounts {
        let email = format!("eve{n}@example.com");
        world.user(&email).await;
        browsers.push(Browser::sign_in(&world, &email).await);
    }
    let try_from = async |browser: &Browser, address: &str, code: &str| {
        let body = encoded(&browser.form(&world).await, &[("user_code", code)]);
        let call = browser.with(world.post("/oauth/device"));
        text_of(&call.header("x-forwarded-for", address).text(FORM, body).send().await)
    };
    for n in 0..DEVICE_GUESSES_PER_ADDRESS_MAX as usize {
        let browser = &browsers[n / (DEVICE_GUESSES_PER_ACCOUNT_MAX as usize - 1)];
        let page = try_from(browser, "203.0.113.9", &wrong_code(n)).await;
        assert!(page.contains("No machine waits with this code"), "{n}: {page}");
    }
    let last = browsers.last().unwrap();
    let page = try_from(last, "203.0.113.9", &asked.user_code).await;
    assert!(page.contains("Too many codes were wrong"), "{page}");
    // The control: the account can, from elsewhere.
    let page = try_from(last, "203.0.113.10", &asked.user_code).await;
    assert!(page.contains("Let a machine sign in"), "{page}");
}

#[tokio::test]
async fn an_address_asks_for_few_sign_ins() {
    let world = World::start_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let key = world.api_key();
    let from = |address: &'static str| {
        let call = world.post("/oauth/device_authorization");
        let body = form(&[("client_id", &key)]);
        call.header("x-forwarded-for", address).text(FORM, body).send()
    };
    for _ in 0..DEVICE_STARTS_PER_ADDRESS_MAX {
        assert_eq!(from("203.0.113.9").await.status, StatusCode::OK);
    }
    let refused = from("203.0.113.9").await;
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("rate_limited", "20")
    );
    assert_eq!(from("203.0.113.10").await.status, StatusCode::OK);
    world.clock.advance(20);
    assert_eq!(from("203.0.113.9").await.status, StatusCode::OK);
}

#[tokio::test]
async fn only_a_form_of_this_session_answers() {
    let world = World::start().await;
    world.user(ADA).await;
    world.user(EVE).await;
    let asked = begin(&world).await;
    let browser = Browser::sign_in(&world, ADA).await;
    let (other, eve) = (Browser::sign_in(&world, ADA).await, Browser::sign_in(&world, EVE).await);
    let own = browser.form(&world).await;
    let open = question(&world, &browser, &asked.user_code).await;
    let yes = |asked: &str| {
        [
            ("asked", asked.to_owned()),
            ("same", "yes".into()),
            ("answer", "yes".into()),
        ]
    };
    let fields = yes(&open);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let code = [("user_code", asked.user_code.as_str())];
    for (path, fields) in [("/oauth/device", code.as_slice()), ("/oauth/device/answer", &fields)] {
        for form in ["", &other.form(&world).await, &eve.form(&world).await, &own[1..]] {
            let answer = browser.send(&world, path, form, fields).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
        for site in ["cross-site", "same-site"] {
            let call = browser.with(world.post(path)).header("sec-fetch-site", site);
            let answer = call.text(FORM, encoded(&own, fields)).send().await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
        let answer = world.post(path).text(FORM, encoded(&own, fields)).send().await;
        assert!(
            answer.header("location").starts_with("/account/sign-in?to=device"),
            "{path}"
        );
    }
    // Nor is a question of one session answered in another: Eve cannot have Ada answer Eve's.
    for (browser, name) in [(&other, "another session"), (&eve, "another account")] {
        let answer = browser.post(&world, "/oauth/device/answer", &fields).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
    }
    for asked in ["", "AAAA", &own] {
        let fields = [("asked", asked), ("same", "yes"), ("answer", "yes")];
        let answer = browser.post(&world, "/oauth/device/answer", &fields).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(refused(&poll(&world, &asked).await), "authorization_pending");
    // The control: its own form does.
    let sent = browser.send(&world, "/oauth/device/answer", &own, &fields).await;
    assert!(text_of(&sent).contains("Go back to your machine"));
    let _: OAuthTokens = poll(&world, &asked).await.ok();
}

#[tokio::test]
async fn a_deleted_account_opens_no_session() {
    let world = World::start().await;
    for is_deleted in [true, false] {
        let email = format!("{is_deleted}@example.com");
        let user = world.user(&email).await;
        let browser = Browser::sign_in(&world, &email).await;
        let asked = begin(&world).await;
        allow(&world, &browser, &asked).await;
        if is_deleted {
            let admin = world.admin().await;
            admin.delete_account(user.user_id).await.unwrap();
            assert_eq!(refused(&poll(&world, &asked).await), "invalid_grant");
        } else {
            let _: OAuthTokens = poll(&world, &asked).await.ok();
        }
    }
}

#[tokio::test]
async fn a_replaced_password_ends_what_it_allowed() {
    let world = World::start().await;
    for is_replaced in [true, false] {
        let email = format!("{is_replaced}@example.com");
        let user = world.user(&email).await;
        let browser = Browser::sign_in(&world, &email).await;
        let asked = begin(&world).await;
        allow(&world, &browser, &asked).await;
        if is_replaced {
            change_password(&world, &user, "another long password").await;
            assert_eq!(refused(&poll(&world, &asked).await), "invalid_grant");
        } else {
            let _: OAuthTokens = poll(&world, &asked).await.ok();
        }
    }
}

#[tokio::test]
async fn nodes_share_sign_ins_of_machines() {
    let world = World::start_on(fresh_postgres().await, |_| {}).await;
    world.user(ADA).await;
    let other = world.second_node().await;
    let asked = begin(&world).await;
    assert_eq!(refused(&poll(&world, &asked).await), "authorization_pending");
    assert_eq!(refused(&poll(&other, &asked).await), "slow_down");
    let browser = Browser::sign_in(&other, ADA).await;
    allow(&other, &browser, &asked).await;
    let tokens: OAuthTokens = poll(&world, &asked).await.ok();
    let _: Status = status_of(&other, &tokens).await.ok();
    assert_eq!(refused(&poll(&other, &asked).await), "invalid_grant");
}

#[tokio::test]
async fn embedded_database_tells_no_code_and_no_address() {
    let world = World::start_on(synckit_server::config::Database::Embedded, |_| {}).await;
    world.user(ADA).await;
    let browser = Browser::sign_in(&world, ADA).await;
    let asked = begin(&world).await;
    allow(&world, &browser, &asked).await;
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    let row = database.query_row(
        "SELECT CAST(device_code || user_code || asked || allowed_by AS BLOB), count(*) FROM device_grants",
        [],
        |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u32>(1)?)),
    );
    let (bytes, count) = row.unwrap();
    assert!(count == 1 && bytes.len() > 150);
    let letters = asked.user_code.replace('-', "");
    let user = world.sign_in(ADA, PASSWORD).await.unwrap().user_id;
    let texts = [
        asked.device_code.expose(),
        &asked.user_code,
        &letters,
        "build server",
        "127.0.0.1",
    ];
    let plain = texts
        .iter()
        .map(|text| text.as_bytes())
        .chain([user.as_bytes().as_slice()]);
    for text in plain {
        assert!(!bytes.windows(text.len()).any(|window| window == text), "{text:?}");
    }
}
