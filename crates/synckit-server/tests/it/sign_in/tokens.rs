//! What does not pass for a token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use synckit_protocol::limits;

use crate::support::{BEGINNING, User, World};

/// The parts of a token.
fn parts(token: &str) -> (Value, Value) {
    let mut parts = token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap_or_default());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

/// The server's own signing key, as somebody who broke into it would have it.
fn signing_key(world: &World) -> Vec<u8> {
    let file = std::fs::read(world.path().join("keys/tokens.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    URL_SAFE_NO_PAD
        .decode(file["keys"][0]["secret"].as_str().unwrap())
        .unwrap()
}

fn forge(header: &Value, claims: &Value, key: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn with(value: &Value, field: &str, new: Value) -> Value {
    let mut value = value.clone();
    value[field] = new;
    value
}

async fn sync_code(world: &World, token: &str) -> String {
    world.get("/api/sync/status").bearer(token).send().await.code()
}

async fn account_code(world: &World, token: &str) -> String {
    world.get("/api/account/vault").bearer(token).send().await.code()
}

#[tokio::test]
async fn a_token_says_who_for_which_app_and_until_when() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let (header, claims) = parts(&user.token);
    assert_eq!((&header["alg"], &header["typ"]), (&json!("HS256"), &json!("at+jwt")));
    assert_eq!(claims["sub"], json!(user.user_id));
    assert_eq!(claims["aud"], json!(user.app_id));
    assert_eq!(
        (&claims["iat"], &claims["exp"]),
        (&json!(BEGINNING), &json!(BEGINNING + limits::TOKEN_SECONDS))
    );
    assert!(
        claims["iss"].as_str().unwrap().starts_with("urn:synckit:server:"),
        "without a public URL"
    );
    let (header, claims) = parts(&user.account_token);
    assert_eq!(
        (&header["typ"], &claims["aud"]),
        (&json!("account+jwt"), &json!("account"))
    );
    assert_eq!(
        (&claims["exp"], &claims["auth_time"]),
        (&json!(BEGINNING + 300), &json!(BEGINNING))
    );
}

#[tokio::test]
async fn issuer_is_the_configured_public_url() {
    let url = "https://sync.example.com";
    let world = World::start_with(|config| config.public_url = Some(url.parse().unwrap())).await;
    let user = world.user("ada@example.com").await;
    assert_eq!(parts(&user.token).1["iss"], json!(url));
    assert_eq!(sync_code(&world, &user.token).await, "200");
}

#[tokio::test]
async fn a_token_that_the_server_did_not_sign_is_refused() {
    let world = World::start().await;
    let User { token, .. } = world.user("ada@example.com").await;
    let (header, claims) = parts(&token);
    let key = signing_key(&world);
    assert_eq!(
        sync_code(&world, &forge(&header, &claims, &key)).await,
        "200",
        "the forger works"
    );

    let none = with(&header, "alg", json!("none"));
    let unsigned = forge(&none, &claims, &key);
    let unsigned = unsigned.rsplit_once('.').unwrap().0.to_owned();
    let forged = [
        forge(&header, &claims, b"another key, which is long enough"),
        forge(&header, &claims, b""),
        forge(&none, &claims, &key),
        format!("{unsigned}."),
        unsigned,
        forge(&with(&header, "alg", json!("HS512")), &claims, &key),
        forge(&with(&header, "alg", json!("RS256")), &claims, &key),
        forge(&with(&header, "kid", json!("another")), &claims, &key),
        forge(&with(&header, "kid", json!("../keys/tokens.json")), &claims, &key),
        forge(&with(&header, "kid", Value::Null), &claims, &key),
        forge(&with(&header, "typ", json!("JWT")), &claims, &key),
        forge(&with(&header, "typ", Value::Null), &claims, &key),
        forge(&with(&header, "typ", json!("account+jwt")), &claims, &key),
        forge(&header, &with(&claims, "iss", json!("https://elsewhere.example")), &key),
        forge(&header, &with(&claims, "aud", json!("account")), &key),
        forge(
            &header,
            &with(&claims, "aud", json!("00000000-0000-4000-8000-000000000000")),
            &key,
        ),
        forge(
            &header,
            &with(&claims, "sub", json!("00000000-0000-4000-8000-000000000000")),
            &key,
        ),
        forge(&header, &with(&claims, "sub", json!("nobody")), &key),
        forge(&header, &with(&claims, "iat", json!(BEGINNING + 1000)), &key),
        forge(&header, &with(&claims, "exp", Value::Null), &key),
        format!("{token}A"),
        token.replacen('.', "..", 1),
        "x".repeat(5000),
        String::new(),
    ];
    for token in &forged {
        assert_eq!(sync_code(&world, token).await, "token_invalid", "{token}");
    }
    let unknown = forge(
        &header,
        &with(&claims, "sid", json!("00000000-0000-4000-8000-000000000000")),
        &key,
    );
    assert_eq!(sync_code(&world, &unknown).await, "session_ended");
}

#[tokio::test]
async fn a_token_must_come_as_a_bearer() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let answer = world.get("/api/sync/status").send().await;
    assert_eq!(
        (answer.code().as_str(), answer.header("www-authenticate")),
        ("token_invalid", "Bearer")
    );
    for header in [&user.token, &format!("Basic {}", user.token), "Bearer"] {
        let answer = world
            .get("/api/sync/status")
            .header("authorization", header)
            .send()
            .await;
        assert_eq!(answer.code(), "token_invalid");
    }
    let header = format!("bearer {}", user.token);
    assert_eq!(
        world
            .get("/api/sync/status")
            .header("authorization", &header)
            .send()
            .await
            .code(),
        "200"
    );
    let query = format!("/api/sync/status?access_token={}", user.token);
    assert_eq!(world.get(&query).send().await.code(), "token_invalid");
}

#[tokio::test]
async fn a_token_expires_after_seven_days() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.clock.advance(limits::TOKEN_SECONDS - 1);
    assert_eq!(sync_code(&world, &user.token).await, "200");
    world.clock.advance(1);
    assert_eq!(sync_code(&world, &user.token).await, "token_expired");
}

#[tokio::test]
async fn app_and_account_tokens_are_not_interchangeable() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    assert_eq!(sync_code(&world, &user.account_token).await, "token_invalid");
    assert_eq!(account_code(&world, &user.token).await, "fresh_login_required");
    assert_eq!(account_code(&world, &user.account_token).await, "200");
    for path in ["/api/account/vault", "/api/account/sessions"] {
        assert_eq!(
            world.get(path).bearer(&user.token).send().await.code(),
            "fresh_login_required"
        );
        assert_eq!(world.get(path).send().await.code(), "token_invalid");
    }
}

#[tokio::test]
async fn an_account_token_lives_for_five_minutes() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.clock.advance(299);
    assert_eq!(account_code(&world, &user.account_token).await, "200");
    world.clock.advance(1);
    assert_eq!(account_code(&world, &user.account_token).await, "fresh_login_required");
    let (header, claims) = parts(&user.account_token);
    let longer = forge(
        &header,
        &with(&claims, "exp", json!(BEGINNING + 10_000)),
        &signing_key(&world),
    );
    world.clock.advance(1);
    assert_eq!(
        account_code(&world, &longer).await,
        "fresh_login_required",
        "the time of sign-in counts too"
    );
}

#[tokio::test]
async fn old_signing_key_verifies_until_tokens_expire() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.admin().await.rotate_token_key().unwrap();
    let world = world.restart().await;
    assert_eq!(sync_code(&world, &user.token).await, "200");
    let fresh = world
        .sign_in("ada@example.com", crate::support::PASSWORD)
        .await
        .unwrap();
    assert_ne!(parts(&fresh.token).0["kid"], parts(&user.token).0["kid"]);
    assert_eq!(sync_code(&world, &fresh.token).await, "200");
}
