//! `/api/account/password`, `/api/account/vault` and `/api/accounts/reset`: a changed and a forgotten password.

use rand::rngs::OsRng;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use synckit_login::ClientRegistration;
use synckit_protocol::{
    ByteString, LOGIN_SUITE, SecretText, limits,
    wire::{
        accounts::{
            PasswordChangeFinish, PasswordChangeStart, PasswordChanged, PasswordReplaced, PutVault, RegisterFinish,
            RegisterStarted, Registered, ResetStart, VaultAnswer, VaultWritten,
        },
        auth::Refresh,
    },
};

use crate::support::{Answer, PASSWORD, User, World, vault};

#[tokio::test]
async fn a_vault_replaces_exactly_the_version_that_it_names() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let answer = world.get("/api/account/vault").bearer(&user.account_token).send().await;
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "earlier": [],
      "vault": "AQAAAAEAAAABYSBzZWFsZWQgdmF1bHQ",
      "version": 1
    }
    "#);
    let put = async |vault: Vec<u8>, expected_version| world.put_vault(&user, vault, expected_version, false).await;
    let conflict = put(vault(1, 2), 0).await;
    assert_eq!(
        (conflict.code().as_str(), conflict.problem().current_version),
        ("version_conflict", Some(1))
    );
    let mut largest = vault(1, 2);
    largest.resize(limits::VAULT_BYTES_MAX, 2);
    assert_eq!(put(largest.clone(), 1).await.ok::<VaultWritten>().version, 2);
    let mut too_large = vault(1, 3);
    too_large.resize(limits::VAULT_BYTES_MAX + 1, 2);
    assert_eq!(put(too_large, 2).await.code(), "invalid_value");
    let stored = world.vault(&user).await;
    assert_eq!((stored.vault.0, stored.version), (largest, 2));
    assert_eq!(world.refresh_code(&user).await, "200", "sessions go on");
}

/// Devices refuse a vault that is older than one that they know: an account whose vault goes back is lost to them.
#[tokio::test]
async fn edition_of_a_vault_follows_the_current_one() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let refused = |answer: &Answer| {
        let problem = answer.problem();
        assert_eq!(
            (problem.code.as_str(), problem.field.as_deref()),
            ("invalid_value", Some("vault")),
            "{:?}",
            problem.detail
        );
    };
    for (keep_replaced, taken, others) in [
        (false, (1, 2), [(1, 1), (1, 3), (2, 1), (2, 2), (0, 2)]),
        (true, (2, 1), [(1, 2), (1, 3), (2, 2), (3, 1), (0, 1)]),
        (false, (2, 2), [(1, 2), (2, 1), (2, 3), (3, 1), (3, 2)]),
    ] {
        let version = world.vault(&user).await.version;
        for (generation, count) in others {
            refused(
                &world
                    .put_vault(&user, vault(generation, count), version, keep_replaced)
                    .await,
            );
        }
        refused(
            &world
                .put_vault(&user, b"no vault".to_vec(), version, keep_replaced)
                .await,
        );
        let (generation, count) = taken;
        let written = world
            .put_vault(&user, vault(generation, count), version, keep_replaced)
            .await;
        assert_eq!(written.ok::<VaultWritten>().version, version + 1);
    }
    let stored = world.vault(&user).await;
    assert_eq!((stored.vault.0, stored.version), (vault(2, 2), 4));
    assert_eq!(stored.earlier, [ByteString(vault(1, 2))]);

    // A change of password.
    let (changing, mut finish) = world.change_start(&user, 4).await;
    for (generation, count) in [(2, 2), (2, 4), (3, 1), (1, 3)] {
        finish.vault = vault(generation, count).into();
        refused(&changing.send(&finish).await);
    }
    finish.vault = vault(2, 3).into();
    assert_eq!(changing.send(&finish).await.ok::<PasswordChanged>().version, 5);

    // A reset, whose generation the server names: more than any before.
    let code = world.fresh_code("ada@example.com").await;
    let (started, finish) = world.reset_start(&code).await;
    let mut finish = finish.unwrap();
    assert_eq!(started.ok::<RegisterStarted>().vault_generation, Some(6));
    for (generation, count) in [(2, 4), (3, 1), (5, 1), (6, 2), (7, 1)] {
        finish.vault = vault(generation, count).into();
        refused(&world.post("/api/accounts/reset").cbor(&finish).send().await);
    }
    finish.vault = vault(6, 1).into();
    world
        .post("/api/accounts/reset")
        .cbor(&finish)
        .send()
        .await
        .ok::<PasswordReplaced>();
}

/// The generation that the reset was told would no longer be the newest.
#[tokio::test]
async fn reset_after_a_newer_vault_starts_again() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let code = world.fresh_code("ada@example.com").await;
    let (_, finish) = world.reset_start(&code).await;
    let written = world.put_vault(&user, vault(2, 1), 1, true).await;
    assert_eq!(written.ok::<VaultWritten>().version, 2);
    let conflict = world.post("/api/accounts/reset").cbor(&finish.unwrap()).send().await;
    assert_eq!(
        (conflict.code().as_str(), conflict.problem().current_version),
        ("version_conflict", Some(2))
    );
    assert_eq!(world.refresh_code(&user).await, "200", "nothing changed");
    // With the same code.
    let (_, finish) = world.reset_start(&code).await;
    let finish = finish.unwrap();
    world
        .post("/api/accounts/reset")
        .cbor(&finish)
        .send()
        .await
        .ok::<PasswordReplaced>();
    let user = world.sign_in("ada@example.com", "new password").await.unwrap();
    assert_eq!(world.vault(&user).await.vault.0, vault(3, 1));
}

#[tokio::test]
async fn new_password_ends_the_other_sessions() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    assert_eq!(
        world.get("/api/sync/status").bearer(&other.token).send().await.code(),
        "200"
    );

    let (changing, mut finish) = world.change_start(&user, 7).await;
    finish.vault = vault(1, 2).into();
    assert_eq!(changing.send(&finish).await.code(), "version_conflict");
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    finish.expected_version = 1;
    let stranger = Changing {
        token: &other.account_token,
        ..changing
    };
    assert_eq!(
        stranger.send(&finish).await.code(),
        "login_expired",
        "another session began it"
    );
    let changed: PasswordChanged = changing.send(&finish).await.ok();
    assert_eq!(changed.version, 2);
    let again: PasswordChanged = changing.send(&finish).await.ok();
    assert_eq!(again, changed, "a lost answer comes again");

    let old = world
        .sign_in("ada@example.com", PASSWORD)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(old.code, "invalid_credentials");
    let new = world.sign_in("ada@example.com", "new password").await.unwrap();
    let stored = world.vault(&new).await;
    assert_eq!((stored.vault.0, stored.earlier.len()), (vault(1, 2), 0));
    assert_eq!(
        world.get("/api/sync/status").bearer(&other.token).send().await.code(),
        "session_ended"
    );
    assert_eq!(world.refresh_code(&other).await, "session_ended");
    assert_eq!(
        world.get("/api/sync/status").bearer(&user.token).send().await.code(),
        "200"
    );
    // The session continues with a new refresh secret. A use of the old one is recognised as a copy, and ends it.
    let kept = User {
        refresh: changed.refresh,
        ..user.clone()
    };
    assert_eq!(world.refresh_code(&kept).await, "200");
    assert_eq!(world.refresh_code(&user).await, "session_ended");
}

#[tokio::test]
async fn forgotten_password_is_replaced_by_mailed_code() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    assert_eq!(
        world.get("/api/sync/status").bearer(&user.token).send().await.code(),
        "200"
    );
    for email in ["ada@example.com", "nobody@example.com"] {
        world
            .post("/api/accounts/reset/request")
            .json(&json!({ "email": email }))
            .send()
            .await
            .empty();
    }
    let code = world.mailed_code("ada@example.com", "Reset your password").await;
    let (answer, _) = world.reset_start("guess").await;
    assert_eq!(answer.code(), "mail_code_invalid");
    let (_, finish) = world.reset_start(&code).await;
    let finish = finish.unwrap();
    let registered: PasswordReplaced = world.post("/api/accounts/reset").cbor(&finish).send().await.ok();
    assert_eq!(registered.user_id, user.user_id);
    assert_eq!(world.reset_start(&code).await.0.code(), "mail_code_invalid");

    assert_eq!(
        world.get("/api/sync/status").bearer(&user.token).send().await.code(),
        "session_ended"
    );
    world
        .sign_in("ada@example.com", PASSWORD)
        .await
        .map(|_| ())
        .unwrap_err();
    let user = world.sign_in("ada@example.com", "new password").await.unwrap();
    let stored = world.vault(&user).await;
    assert_eq!(stored.vault.0, vault(2, 1));
    assert_eq!(stored.earlier, [ByteString(vault(1, 1))], "for the recovery code");
}

#[tokio::test]
async fn repeated_reset_gets_the_same_answer() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let code = world.fresh_code("ada@example.com").await;
    let (_, finish) = world.reset_start(&code).await;
    let (_, other) = world.reset_start(&code).await;
    let (finish, other) = (finish.unwrap(), other.unwrap());
    let replaced: PasswordReplaced = world.post("/api/accounts/reset").cbor(&finish).send().await.ok();
    let now = world.sign_in("ada@example.com", "new password").await.unwrap();
    // Its answer was lost: the repeat changes nothing, and ends no session that began since.
    let again: PasswordReplaced = world.post("/api/accounts/reset").cbor(&finish).send().await.ok();
    assert_eq!((again.user_id, replaced.user_id), (user.user_id, user.user_id));
    let status = world.get("/api/sync/status").bearer(&now.token).send().await;
    assert_eq!(status.code(), "200");
    // Another reset that the code began, and this registration with another record, are no repeats.
    let mixed = RegisterFinish {
        record: other.record.clone(),
        ..finish.clone()
    };
    for refused in [other, mixed] {
        let answer = world.post("/api/accounts/reset").cbor(&refused).send().await;
        assert_eq!(answer.code(), "mail_code_invalid");
    }
}

/// A stranger requests codes for the address again and again.
#[tokio::test]
async fn reset_code_outlives_newer_requests() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let first = world.fresh_code("ada@example.com").await;
    let (_, started) = world.reset_start(&first).await;
    let mut newest = String::new();
    for _ in 0..4 {
        newest = world.fresh_code("ada@example.com").await;
    }
    // Neither the code nor the reset that was started with it has ended.
    assert_eq!(world.reset_start(&first).await.0.status, StatusCode::OK);
    assert_eq!(world.reset_start(&newest).await.0.status, StatusCode::OK);
    let replaced = world.post("/api/accounts/reset").cbor(&started.unwrap()).send().await;
    assert_eq!(replaced.ok::<PasswordReplaced>().user_id, user.user_id);
    // A reset uses all codes up: those in the mailbox must not replace the new password.
    for code in [&first, &newest] {
        assert_eq!(world.reset_start(code).await.0.code(), "mail_code_invalid");
    }
    world.sign_in("ada@example.com", "new password").await.unwrap();
}

#[tokio::test]
async fn reset_code_lives_an_hour() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let code = world.fresh_code("ada@example.com").await;
    world.clock.advance(limits::RESET_CODE_SECONDS - 1);
    assert_eq!(world.reset_start(&code).await.0.status, StatusCode::OK);
    world.clock.advance(1);
    assert_eq!(world.reset_start(&code).await.0.code(), "mail_code_invalid");
}

/// Strangers use up every mail that the owner could get, for two days.
#[tokio::test]
async fn embedded_refused_reset_leaves_a_valid_code() {
    let world = World::start_with(|config| config.guesses.per_address = 10_000).await;
    world.user("ada@example.com").await;
    let mut newest = String::new();
    let mut refused = 0;
    for minutes in (0..48 * 60).step_by(11) {
        let answer = world.ask_for_reset("ada@example.com").await;
        if answer.status.is_success() {
            newest = world.mailed_code("ada@example.com", "Reset your password").await;
            world.clear_mail();
        } else {
            assert_eq!(answer.code(), "too_many_guesses");
            refused += 1;
            assert!(code_is_valid(&world, &newest), "after {minutes} minutes");
        }
        world.clock.advance(11 * 60);
    }
    assert!(refused > 100, "{refused}");
    // An address without an account is counted alike.
    for _ in 0..5 {
        world.ask_for_reset("eve@example.com").await.empty();
    }
    assert_eq!(world.ask_for_reset("eve@example.com").await.code(), "too_many_guesses");
}

/// Read from the database, because a use of the code would be counted.
fn code_is_valid(world: &World, code: &str) -> bool {
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    let hash: [u8; 32] = Sha256::digest(code).into();
    let now = i64::try_from(world.clock.now()).unwrap();
    let valid = "SELECT count(*) FROM mail_codes WHERE code = ?1 AND expires_at > ?2";
    let count: u32 = database
        .query_row(valid, rusqlite::params![hash, now], |row| row.get(0))
        .unwrap();
    count == 1
}

#[tokio::test]
async fn resets_and_registrations_share_no_mails() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    // One mail was the registration's.
    for _ in 1..5 {
        world.register("ada@example.com", "stranger").await.ok::<Registered>();
    }
    assert_eq!(
        world.register("ada@example.com", "stranger").await.code(),
        "too_many_guesses"
    );
    let code = world.fresh_code("ada@example.com").await;
    assert_eq!(world.reset_start(&code).await.0.status, StatusCode::OK);
}

#[tokio::test]
async fn suffixes_share_mails_about_registrations() {
    let world = World::start().await;
    for n in 0..5 {
        let email = format!("Ada+{n}@example.com");
        world.register(&email, PASSWORD).await.ok::<Registered>();
    }
    for email in ["ada@example.com", "ada+9@example.com", "ADA+x@Example.com"] {
        assert_eq!(
            world.register(email, PASSWORD).await.code(),
            "too_many_guesses",
            "{email}"
        );
    }
    // Each is an account of its own.
    world.sign_in("ada+3@example.com", PASSWORD).await.unwrap();
    world.sign_in("ada@example.com", PASSWORD).await.map(drop).unwrap_err();
    world.register("bob+1@example.com", PASSWORD).await.ok::<Registered>();
}

/// No mail is sent to the suffixes. A refusal would leave the owner without a code.
#[tokio::test]
async fn suffixes_use_up_no_resets_of_an_address() {
    for (owner, strangers) in [
        ("ada@example.com", "ada+x@example.com"),
        ("ada+notes@example.com", "ada@example.com"),
    ] {
        let world = World::start().await;
        world.user(owner).await;
        for _ in 0..5 {
            world.ask_for_reset(strangers).await.empty();
        }
        assert_eq!(world.ask_for_reset(strangers).await.code(), "too_many_guesses");
        let code = world.fresh_code(owner).await;
        assert_eq!(world.reset_start(&code).await.0.status, StatusCode::OK);
    }
}

/// A change of password that was started.
#[derive(Clone, Copy)]
struct Changing<'a> {
    world: &'a World,
    token: &'a str,
}

impl Changing<'_> {
    async fn send(&self, finish: &PasswordChangeFinish) -> Answer {
        let call = self.world.post("/api/account/password").bearer(self.token);
        call.cbor(finish).send().await
    }
}

impl World {
    async fn vault(&self, user: &User) -> VaultAnswer {
        let call = self.get("/api/account/vault").bearer(&user.account_token);
        call.send().await.ok()
    }

    async fn put_vault(&self, user: &User, vault: Vec<u8>, expected_version: u64, keep_replaced: bool) -> Answer {
        let body = PutVault {
            vault: vault.into(),
            expected_version,
            keep_replaced,
        };
        let call = self.call(Method::PUT, "/api/account/vault").bearer(&user.account_token);
        call.json(&body).send().await
    }

    /// Starts a change to "new password"; returns its last message, without a vault.
    async fn change_start<'a>(&'a self, user: &'a User, expected_version: u64) -> (Changing<'a>, PasswordChangeFinish) {
        let (registration, request) = ClientRegistration::start("new password", &mut OsRng).unwrap();
        let start = PasswordChangeStart {
            suite: LOGIN_SUITE,
            request: request.into(),
        };
        let call = self.post("/api/account/password/start").bearer(&user.account_token);
        let started: RegisterStarted = call.cbor(&start).send().await.ok();
        let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
        let finish = PasswordChangeFinish {
            registration: started.registration,
            record: finished.upload.into(),
            vault: Vec::new().into(),
            expected_version,
        };
        let changing = Changing {
            world: self,
            token: &user.account_token,
        };
        (changing, finish)
    }

    async fn ask_for_reset(&self, email: &str) -> Answer {
        let body = json!({ "email": email });
        self.post("/api/accounts/reset/request").json(&body).send().await
    }

    /// A code that is requested now.
    async fn fresh_code(&self, email: &str) -> String {
        self.clear_mail();
        self.ask_for_reset(email).await.empty();
        self.mailed_code(email, "Reset your password").await
    }

    async fn refresh_code(&self, user: &User) -> String {
        let body = Refresh {
            refresh: user.refresh.clone(),
        };
        self.post("/api/sync/auth/refresh").json(&body).send().await.code()
    }

    async fn reset_start(&self, code: &str) -> (Answer, Option<RegisterFinish>) {
        let (registration, request) = ClientRegistration::start("new password", &mut OsRng).unwrap();
        let body = ResetStart {
            code: SecretText::new(code),
            suite: LOGIN_SUITE,
            request: request.into(),
        };
        let answer = self.post("/api/accounts/reset/start").json(&body).send().await;
        if answer.status != StatusCode::OK {
            return (answer, None);
        }
        let started: RegisterStarted = answer.ok();
        let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
        let finish = RegisterFinish {
            registration: started.registration,
            record: finished.upload.into(),
            vault: vault(started.vault_generation.unwrap(), 1).into(),
        };
        (answer, Some(finish))
    }
}
