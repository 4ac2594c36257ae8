//! `/api/account/password`, `/api/account/vault` and `/api/accounts/reset`: a changed and a forgotten password.

use rand::rngs::OsRng;
use reqwest::{Method, StatusCode};
use serde_json::json;
use synckit_login::ClientRegistration;
use synckit_protocol::{
    LOGIN_SUITE, SecretText,
    wire::{
        accounts::{
            PasswordChangeFinish, PasswordChangeStart, PasswordChanged, PasswordReplaced, PutVault, RegisterFinish,
            RegisterStarted, ResetStart, VaultAnswer, VaultWritten,
        },
        auth::Refresh,
    },
};

use crate::support::{Answer, PASSWORD, User, World};

#[tokio::test]
async fn a_vault_replaces_exactly_the_version_that_it_names() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let answer = world.get("/api/account/vault").bearer(&user.account_token).send().await;
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "earlier": [],
      "vault": "YSBzZWFsZWQgdmF1bHQ",
      "version": 1
    }
    "#);
    let put = async |vault: Vec<u8>, expected_version| {
        let body = PutVault {
            vault: vault.into(),
            expected_version,
            keep_replaced: false,
        };
        world
            .call(Method::PUT, "/api/account/vault")
            .bearer(&user.account_token)
            .json(&body)
            .send()
            .await
    };
    let conflict = put(vec![2; 10], 0).await;
    assert_eq!(
        (conflict.code().as_str(), conflict.problem().current_version),
        ("version_conflict", Some(1))
    );
    assert_eq!(put(vec![2; 4096], 1).await.ok::<VaultWritten>().version, 2);
    assert_eq!(put(vec![2; 4097], 2).await.code(), "invalid_value");
    let vault: VaultAnswer = world
        .get("/api/account/vault")
        .bearer(&user.account_token)
        .send()
        .await
        .ok();
    assert_eq!((vault.vault.0, vault.version), (vec![2; 4096], 2));
    assert_eq!(world.refresh_code(&user).await, "200", "sessions go on");
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

    let (registration, request) = ClientRegistration::start("new password", &mut OsRng).unwrap();
    let start = PasswordChangeStart {
        suite: LOGIN_SUITE,
        request: request.into(),
    };
    let started: RegisterStarted = world
        .post("/api/account/password/start")
        .bearer(&user.account_token)
        .cbor(&start)
        .send()
        .await
        .ok();
    let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
    let mut finish = PasswordChangeFinish {
        registration: started.registration,
        record: finished.upload.into(),
        vault: vec![5; 50].into(),
        expected_version: 7,
    };
    let send = async |finish: &PasswordChangeFinish, token: &str| {
        world
            .post("/api/account/password")
            .bearer(token)
            .cbor(finish)
            .send()
            .await
    };
    assert_eq!(send(&finish, &user.account_token).await.code(), "version_conflict");
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    finish.expected_version = 1;
    assert_eq!(
        send(&finish, &other.account_token).await.code(),
        "login_expired",
        "another session began it"
    );
    let changed: PasswordChanged = send(&finish, &user.account_token).await.ok();
    assert_eq!(changed.version, 2);
    let again: PasswordChanged = send(&finish, &user.account_token).await.ok();
    assert_eq!(again, changed, "a lost answer comes again");

    let old = world
        .sign_in("ada@example.com", PASSWORD)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(old.code, "invalid_credentials");
    let new = world.sign_in("ada@example.com", "new password").await.unwrap();
    let vault: VaultAnswer = world
        .get("/api/account/vault")
        .bearer(&new.account_token)
        .send()
        .await
        .ok();
    assert_eq!((vault.vault.0, vault.earlier.len()), (vec![5; 50], 0));
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
    assert_eq!(
        world.post("/api/accounts/reset").cbor(&finish).send().await.code(),
        "mail_code_invalid"
    );
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
    let vault: VaultAnswer = world
        .get("/api/account/vault")
        .bearer(&user.account_token)
        .send()
        .await
        .ok();
    assert_eq!(vault.vault.0, b"a vault of the next generation");
    assert_eq!(vault.earlier.len(), 1, "the old vault is kept for the recovery code");
    assert_eq!(vault.earlier[0].0, b"a sealed vault");
}

#[tokio::test]
async fn reset_code_lives_an_hour_or_until_a_newer() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let ask = async || {
        world
            .post("/api/accounts/reset/request")
            .json(&json!({ "email": "ada@example.com" }))
            .send()
            .await
            .empty();
    };
    ask().await;
    let first = world.mailed_code("ada@example.com", "Reset your password").await;
    world.clear_mail();
    ask().await;
    let second = world.mailed_code("ada@example.com", "Reset your password").await;
    assert_eq!(world.reset_start(&first).await.0.code(), "mail_code_invalid");
    assert_eq!(world.reset_start(&second).await.0.status, StatusCode::OK);
    world.clock.advance(3601);
    assert_eq!(world.reset_start(&second).await.0.code(), "mail_code_invalid");
}

impl World {
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
            vault: b"a vault of the next generation".to_vec().into(),
        };
        (answer, Some(finish))
    }
}
