//! Limits on requests: of one session, and of one address without a token.

use crate::support::World;

#[tokio::test]
async fn busy_session_is_limited_and_holds_up_no_other() {
    let world = World::start_with(|config| {
        config.rates.session_per_second = 1;
        config.rates.session_burst = 5;
    })
    .await;
    let wild = world.user("ada@example.com").await;
    let calm = world
        .sign_in("ada@example.com", crate::support::PASSWORD)
        .await
        .unwrap();
    let status = |token: String| world.get("/api/sync/status").bearer(&token).send();
    let mut refused = None;
    for _ in 0..20 {
        let answer = status(wild.token.clone()).await;
        if !answer.status.is_success() {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("rate_limited", "1")
    );
    assert_eq!(status(calm.token).await.code(), "200", "a session of its own");
    let account = world.get("/api/account/sessions").bearer(&wild.account_token);
    assert_eq!(account.send().await.code(), "rate_limited", "the same session");
}

#[tokio::test]
async fn address_without_token_has_its_own_limit() {
    let world = World::start_with(|config| {
        config.rates.address_per_second = 1;
        config.rates.address_burst = 10;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let user = world.user("ada@example.com").await;
    let knock = |address: &'static str| {
        let body = serde_json::json!({ "refresh": "not a secret of this server" });
        let call = world.post("/api/sync/auth/refresh").json(&body);
        call.header("x-forwarded-for", address).send()
    };
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(knock("192.0.2.1").await.code());
    }
    assert_eq!(codes.first().unwrap(), "session_ended");
    assert_eq!(codes.last().unwrap(), "rate_limited");
    assert_eq!(knock("192.0.2.2").await.code(), "session_ended", "another address");
    // Sync goes on from the address that is used up: it has a token.
    let status = world.get("/api/sync/status").bearer(&user.token);
    assert_eq!(status.header("x-forwarded-for", "192.0.2.1").send().await.code(), "200");
    assert_eq!(world.get("/healthz").send().await.code(), "200");
}
