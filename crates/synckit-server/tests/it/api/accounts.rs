//! `/api/accounts` and `/api/account`.

use std::path::PathBuf;

use rand::rngs::OsRng;
use reqwest::{Method, StatusCode};
use serde_json::json;
use synckit_login::ClientRegistration;
use synckit_protocol::{
    LOGIN_SUITE, SecretText, limits,
    wire::{
        accounts::{
            PasswordChangeFinish, PasswordChangeStart, PutVault, RegisterFinish, RegisterStarted, Registered,
            ResetStart, SessionList, VaultAnswer, VaultWritten, VerifyEmail,
        },
        auth::Refresh,
    },
};
use synckit_server::{Admin, config::Registration};

use crate::support::{Answer, PASSWORD, User, World};

#[tokio::test]
async fn registration_works_in_json() {
    let world = World::start().await;
    let (registration, request) = ClientRegistration::start(PASSWORD, &mut OsRng).unwrap();
    let body =
        json!({ "email": "ada@example.com", "suite": LOGIN_SUITE, "request": synckit_protocol::ByteString(request) });
    let answer = world.post("/api/accounts/start").json(&body).send().await;
    insta::assert_json_snapshot!(
        answer.json(),
        { ".registration" => "[registration]", ".response" => "[response]", ".user_id" => "[user]" },
        @r#"
    {
      "registration": "[registration]",
      "response": "[response]",
      "user_id": "[user]",
      "vault_generation": 1
    }
    "#
    );
    let started: RegisterStarted = answer.ok();
    let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
    let body = RegisterFinish {
        registration: started.registration,
        record: finished.upload.into(),
        vault: vec![1; 100].into(),
    };
    let first: Registered = world.post("/api/accounts").json(&body).send().await.ok();
    assert_eq!(first.user_id, started.user_id);
    let repeated: Registered = world.post("/api/accounts").json(&body).send().await.ok();
    assert_eq!(repeated, first, "a repeated request changes nothing");
    assert_eq!(
        world.sign_in("ada@example.com", PASSWORD).await.unwrap().user_id,
        first.user_id
    );
}

#[tokio::test]
async fn taken_address_is_not_told_but_its_owner_mailed() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await.ok::<Registered>();
    let (start, finish) = world.register_start("eve@example.com", "other", None).await;
    let fresh = world.post("/api/accounts").cbor(&finish.unwrap()).send().await;
    let (taken_start, finish) = world.register_start("ADA@example.com", "other", None).await;
    let taken = world.post("/api/accounts").cbor(&finish.unwrap()).send().await;
    assert_eq!(
        (start.status, start.body.len()),
        (taken_start.status, taken_start.body.len())
    );
    assert_eq!((fresh.status, fresh.body.len()), (taken.status, taken.body.len()));
    assert_eq!(
        fresh.headers.keys().collect::<Vec<_>>(),
        taken.headers.keys().collect::<Vec<_>>()
    );

    world.sign_in("ada@example.com", "other").await.map(|_| ()).unwrap_err();
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let mail = world.mail_to("ada@example.com", "You already have an account").await;
    assert!(mail.contains("there is one already"));
}

#[tokio::test]
async fn registration_lives_a_minute_and_is_checked() {
    let world = World::start().await;
    let (_, finish) = world.register_start("ada@example.com", PASSWORD, None).await;
    let finish = finish.unwrap();
    let send = async |finish: RegisterFinish| world.post("/api/accounts").cbor(&finish).send().await;
    let no_vault = send(RegisterFinish {
        vault: vec![].into(),
        ..finish.clone()
    })
    .await;
    assert_eq!(
        (no_vault.code().as_str(), no_vault.problem().field.as_deref()),
        ("invalid_value", Some("vault"))
    );
    assert_eq!(
        send(RegisterFinish {
            vault: vec![1; 4097].into(),
            ..finish.clone()
        })
        .await
        .code(),
        "invalid_value"
    );
    assert_eq!(
        send(RegisterFinish {
            record: vec![1; 9].into(),
            ..finish.clone()
        })
        .await
        .code(),
        "invalid_value"
    );
    let mut changed = finish.clone();
    changed.registration.0[30] ^= 1;
    assert_eq!(send(changed).await.code(), "login_expired");
    world.clock.advance(limits::LOGIN_SECONDS + 1);
    assert_eq!(send(finish).await.code(), "login_expired");
    let body = json!({ "email": "ada@example.com", "suite": 9, "request": "" });
    assert_eq!(
        world.post("/api/accounts/start").json(&body).send().await.code(),
        "unsupported_suite"
    );
    let body = json!({ "email": "nonsense", "suite": 1, "request": "" });
    assert_eq!(
        world.post("/api/accounts/start").json(&body).send().await.code(),
        "invalid_value"
    );
}

#[tokio::test]
async fn a_closed_server_takes_no_accounts() {
    let world = World::start_with(|config| config.registration = Registration::Closed).await;
    let (answer, _) = world.register_start("ada@example.com", PASSWORD, None).await;
    assert_eq!(answer.code(), "registration_closed");
}

#[tokio::test]
async fn an_invitation_lets_one_account_in() {
    let world = World::start_with(|config| config.registration = Registration::Invite).await;
    let invite = Admin::open(world.path()).unwrap().create_invite().await.unwrap();
    let (answer, _) = world.register_start("ada@example.com", PASSWORD, None).await;
    assert_eq!(answer.code(), "invite_invalid");
    let (answer, _) = world
        .register_start("ada@example.com", PASSWORD, Some(SecretText::new("guess")))
        .await;
    assert_eq!(answer.code(), "invite_invalid");
    let (_, first) = world
        .register_start("ada@example.com", PASSWORD, Some(invite.clone()))
        .await;
    let (_, second) = world
        .register_start("eve@example.com", PASSWORD, Some(invite.clone()))
        .await;
    world
        .post("/api/accounts")
        .cbor(&first.unwrap())
        .send()
        .await
        .ok::<Registered>();
    assert_eq!(
        world.post("/api/accounts").cbor(&second.unwrap()).send().await.code(),
        "invite_invalid"
    );
    let (answer, _) = world.register_start("eve@example.com", PASSWORD, Some(invite)).await;
    assert_eq!(answer.code(), "invite_invalid");
}

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
    assert_eq!(send(&finish, &user.account_token).await.ok::<VaultWritten>().version, 2);

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
}

#[tokio::test]
async fn sessions_of_every_app_are_listed() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    user.register_device(&world, "laptop").await;
    world.clock.advance(10);
    let other = Admin::open(world.path()).unwrap().create_app("Photos").await.unwrap();
    world
        .sign_in_to(other.api_key.expose(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
    let answer = world
        .get("/api/account/sessions")
        .bearer(&user.account_token)
        .send()
        .await;
    insta::assert_json_snapshot!(answer.json(), { ".sessions[].id" => "[id]" }, @r#"
    {
      "sessions": [
        {
          "app_name": "Photos",
          "created_at": 1767225610,
          "current": false,
          "id": "[id]",
          "refreshed_at": 1767225610
        },
        {
          "app_name": "Notes",
          "created_at": 1767225600,
          "current": true,
          "device_name": "laptop",
          "id": "[id]",
          "refreshed_at": 1767225600
        }
      ]
    }
    "#);
    let cbor = world
        .get("/api/account/sessions")
        .bearer(&user.account_token)
        .accept("application/cbor")
        .send()
        .await;
    assert_eq!(cbor.ok::<SessionList>(), answer.ok::<SessionList>());
}

#[tokio::test]
async fn a_mailed_code_confirms_an_address_once() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let code = world.mailed_code("ada@example.com", "Confirm your address").await;
    let verify = async |code: &str| {
        let body = VerifyEmail {
            code: SecretText::new(code),
        };
        world.post("/api/accounts/verify").json(&body).send().await
    };
    assert_eq!(verify("guess").await.code(), "mail_code_invalid");
    verify(&code).await.empty();
    assert_eq!(verify(&code).await.code(), "mail_code_invalid");
    let accounts = Admin::open(world.path()).unwrap().accounts().await.unwrap();
    assert_eq!(
        (accounts[0].user_id, accounts[0].email_verified_at.is_some()),
        (user.user_id, true)
    );
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
    let registered: Registered = world.post("/api/accounts/reset").cbor(&finish).send().await.ok();
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

    fn mails(&self) -> Vec<PathBuf> {
        let Ok(files) = std::fs::read_dir(self.path().join("mail")) else {
            return Vec::new();
        };
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "eml"))
            .collect()
    }

    fn clear_mail(&self) {
        for path in self.mails() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// The mail of a subject to an address, as soon as it is there.
    async fn mail_to(&self, email: &str, subject: &str) -> String {
        let (to, subject) = (format!("To: {email}"), format!("Subject: {subject}"));
        loop {
            let mails = self
                .mails()
                .into_iter()
                .map(|path| std::fs::read_to_string(path).unwrap());
            if let Some(mail) = mails
                .into_iter()
                .find(|mail| mail.contains(&to) && mail.contains(&subject))
            {
                return mail;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn mailed_code(&self, email: &str, subject: &str) -> String {
        let mail = self.mail_to(email, subject).await;
        let line = mail.lines().find(|line| line.starts_with("    ")).unwrap();
        line.trim().to_owned()
    }
}
