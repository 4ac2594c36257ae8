//! Limits on guessing, from outside.

use rand::rngs::OsRng;
use reqwest::StatusCode;
use serde_json::json;
use synckit_login::ClientLogin;
use synckit_protocol::{
    LOGIN_SUITE,
    wire::auth::{LoginFinish, LoginStart, LoginStarted, UnlockStart},
};

use crate::{
    mail_server::MailServer,
    support::{Answer, PASSWORD, User, World, fresh_postgres},
};

/// A first message as any client could send it; what it hides does not matter.
fn ke1() -> Vec<u8> {
    ClientLogin::start("a guess", &mut OsRng).unwrap().1
}

impl World {
    async fn guess(&self, email: &str, from: &str) -> Answer {
        let body = LoginStart {
            api_key: self.api_key(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1().into(),
            code: None,
        };
        self.post("/api/sync/auth/start")
            .header("x-forwarded-for", from)
            .cbor(&body)
            .send()
            .await
    }

    async fn behind_a_proxy() -> Self {
        Self::start_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await
    }
}

#[tokio::test]
async fn the_eleventh_guess_at_an_account_waits() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    for email in ["ada@example.com", "nobody@example.com"] {
        for _ in 0..10 {
            assert_eq!(world.guess(email, "").await.status, StatusCode::OK);
        }
        let refused = world.guess(email, "").await;
        assert_eq!(
            (refused.code().as_str(), refused.header("retry-after")),
            ("too_many_guesses", "90")
        );
    }
    world.clock.advance(90);
    assert_eq!(world.guess("ada@example.com", "").await.status, StatusCode::OK);
    assert_eq!(world.guess("ada@example.com", "").await.code(), "too_many_guesses");
}

#[tokio::test]
async fn a_good_sign_in_costs_nothing() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    for _ in 0..12 {
        world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    }
}

#[tokio::test]
async fn an_invented_address_does_not_help() {
    let world = World::start().await;
    for n in 0..10 {
        assert_eq!(
            world.guess("ada@example.com", &format!("192.0.2.{n}")).await.status,
            StatusCode::OK
        );
    }
    assert_eq!(
        world.guess("ada@example.com", "192.0.2.99").await.code(),
        "too_many_guesses"
    );
}

impl World {
    async fn synced_from(&self, user: &User, from: &str) {
        let synced = self
            .get("/api/sync/status")
            .bearer(&user.token)
            .header("x-forwarded-for", from)
            .send()
            .await;
        assert_eq!(synced.status, StatusCode::OK);
    }

    /// Uses up what strangers share of Ada's account.
    async fn strangers_guess(&self) {
        for n in 0..100 {
            let from = format!("192.0.2.{n}");
            assert_eq!(self.guess("ada@example.com", &from).await.status, StatusCode::OK);
        }
        assert_eq!(
            self.guess("ada@example.com", "203.0.113.1").await.code(),
            "too_many_guesses"
        );
    }
}

/// The first sign-in makes the account, and its place familiar.
#[tokio::test]
async fn a_new_account_has_a_familiar_place() {
    let mail = MailServer::start().await.unwrap();
    let world = World::start_with(|config| {
        config.mail = mail.delivery().unwrap();
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    world.register("ada@example.com", PASSWORD).await;
    let code = mail.code("ada@example.com", "Confirm your address", 1).await.unwrap();
    let user = world.confirm("ada@example.com", PASSWORD, &code).await.unwrap();
    world.synced_from(&user, "").await;
    world.strangers_guess().await;
    assert_eq!(world.guess("ada@example.com", "").await.status, StatusCode::OK);
}

/// Nine places take turns, and eight are kept.
#[tokio::test]
async fn a_place_in_use_is_familiar_again_in_an_hour() {
    let world = World::behind_a_proxy().await;
    let user = world.user("ada@example.com").await;
    for n in 0..9 {
        // For so long no session is remembered without a look at the store.
        world.clock.advance(60);
        world.synced_from(&user, &format!("198.51.100.{n}")).await;
    }
    world.clock.advance(3600);
    world.synced_from(&user, "198.51.100.0").await;
    world.strangers_guess().await;
    assert_eq!(
        world.guess("ada@example.com", "198.51.100.0").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn strangers_cannot_lock_the_owner_out() {
    let world = World::behind_a_proxy().await;
    let user = world.user("ada@example.com").await;
    // Ada's device syncs from home, which makes home familiar, also to a server that was just restarted.
    let world = world.restart_behind_a_proxy().await;
    let home = "198.51.100.7";
    world.synced_from(&user, home).await;
    world.strangers_guess().await;
    assert_eq!(world.guess("ada@example.com", home).await.status, StatusCode::OK);
    // And whoever is signed in never guesses.
    world.synced_from(&user, "203.0.113.9").await;
    // Another account is not touched.
    assert_eq!(
        world.guess("bob@example.com", "203.0.113.1").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn one_address_cannot_try_every_account() {
    let world = World::behind_a_proxy().await;
    for n in 0..60 {
        assert_eq!(
            world.guess(&format!("user{n}@example.com"), "2001:db8::1").await.status,
            StatusCode::OK
        );
    }
    assert_eq!(
        world.guess("another@example.com", "2001:db8::2").await.code(),
        "too_many_guesses"
    );
    assert_eq!(
        world.guess("another@example.com", "2001:db8:0:1::2").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_unlock_is_a_guess_too() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let unlock = async || {
        let body = UnlockStart {
            suite: LOGIN_SUITE,
            ke1: ke1().into(),
        };
        world
            .post("/api/sync/auth/unlock/start")
            .bearer(&user.token)
            .cbor(&body)
            .send()
            .await
            .code()
    };
    for _ in 0..10 {
        assert_eq!(unlock().await, "200");
    }
    assert_eq!(unlock().await, "too_many_guesses");
    assert_eq!(world.guess("ada@example.com", "").await.code(), "too_many_guesses");
}

/// Else a guesser who is sent to several nodes, or waits for a restart, has as many guesses again.
#[tokio::test]
async fn nodes_and_restarts_give_no_further_guess() {
    let world = World::start_on(fresh_postgres().await, |_| {}).await;
    world.register("ada@example.com", PASSWORD).await;
    let other = world.second_node().await;
    for _ in 0..5 {
        for node in [&world, &other] {
            assert_eq!(node.guess("ada@example.com", "").await.status, StatusCode::OK);
        }
    }
    for node in [&world, &other] {
        assert_eq!(node.guess("ada@example.com", "").await.code(), "too_many_guesses");
    }
    drop(other);
    let world = world.restart().await;
    assert_eq!(world.guess("ada@example.com", "").await.code(), "too_many_guesses");
}

/// A repeated last message opens nothing, and earns no guess either.
#[tokio::test]
async fn a_good_finish_gives_its_guess_back_once() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    for _ in 0..9 {
        assert_eq!(world.guess("ada@example.com", "").await.status, StatusCode::OK);
    }
    let (login, ke1) = ClientLogin::start(PASSWORD, &mut OsRng).unwrap();
    let start = LoginStart {
        api_key: world.api_key(),
        email: "ada@example.com".to_owned(),
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
        code: None,
    };
    let started: LoginStarted = world.post("/api/sync/auth/start").cbor(&start).send().await.ok();
    let finished = login
        .finish(world.app.app_id, &started.ke2.0, None, &mut OsRng)
        .unwrap();
    let finish = LoginFinish {
        api_key: world.api_key(),
        login: started.login,
        ke3: finished.ke3.clone().into(),
    };
    assert_eq!(world.guess("ada@example.com", "").await.code(), "too_many_guesses");
    let send = async || world.post("/api/sync/auth").cbor(&finish).send().await;
    assert_eq!(send().await.status, StatusCode::OK);
    assert_eq!(send().await.code(), "login_expired");
    assert_eq!(world.guess("ada@example.com", "").await.status, StatusCode::OK);
    assert_eq!(world.guess("ada@example.com", "").await.code(), "too_many_guesses");
}

/// A database that takes not even this must not keep out who knows the password.
#[tokio::test]
async fn embedded_give_back_that_fails_costs_no_sign_in() {
    let world = World::start_with(|config| config.allow_password_login = true).await;
    world.register("ada@example.com", PASSWORD).await;
    rusqlite::Connection::open(world.path().join("synckit.db"))
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON familiar_places BEGIN SELECT RAISE(ABORT, 'refused by the test'); END",
        )
        .unwrap();
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let body = json!({ "email": "ada@example.com", "password": PASSWORD, "api_key": world.api_key() });
    assert_eq!(
        world.post("/api/sync/auth").json(&body).send().await.status,
        StatusCode::OK
    );
}

impl World {
    async fn restart_behind_a_proxy(self) -> Self {
        self.restart_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()])
            .await
    }
}
