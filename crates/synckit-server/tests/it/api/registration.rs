//! `/api/accounts`: registration, open, by invitation or closed, on a server that sends no mail.

use rand::rngs::OsRng;
use serde_json::json;
use synckit_login::ClientRegistration;
use synckit_protocol::{
    LOGIN_SUITE, SecretText, limits,
    wire::accounts::{RegisterFinish, RegisterStarted, Registered},
};
use synckit_server::config::Registration;

use crate::support::{PASSWORD, World, vault};

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
        vault: vault(1, 1).into(),
    };
    let first: Registered = world.post("/api/accounts").json(&body).send().await.ok();
    assert_eq!((first.user_id, first.pending), (started.user_id, false));
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
    assert!(mail.contains("it has one already"));
}

#[tokio::test]
async fn repeat_for_a_taken_address_mails_once() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await.ok::<Registered>();
    let (_, finish) = world.register_start("ada@example.com", "other", None).await;
    let finish = finish.unwrap();
    let send = async || {
        world
            .post("/api/accounts")
            .cbor(&finish)
            .send()
            .await
            .ok::<Registered>()
    };
    let first = send().await;
    for _ in 0..10 {
        assert_eq!(send().await, first);
    }
    // Mails are sent in order: once the mail of a later request is here, all are.
    let body = json!({ "email": "ada@example.com" });
    world
        .post("/api/accounts/reset/request")
        .json(&body)
        .send()
        .await
        .empty();
    world.mail_to("ada@example.com", "Reset your password").await;
    assert_eq!(world.mails().len(), 2);
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
            vault: vec![1; limits::VAULT_BYTES_MAX + 1].into(),
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
    for (generation, count) in [(0, 0), (1, 0), (0, 1), (2, 1), (1, 2)] {
        let vault = vault(generation, count).into();
        let refused = send(RegisterFinish {
            vault,
            ..finish.clone()
        })
        .await;
        assert_eq!(
            (refused.code().as_str(), refused.problem().field.as_deref()),
            ("invalid_value", Some("vault")),
            "{generation}.{count}"
        );
    }
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
    let invite = world.admin().await.create_invite().await.unwrap();
    assert!(!invite.expose().contains('-'), "an option, to a program that takes it");
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
