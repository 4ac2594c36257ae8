//! Accounts of a server that sends mail: pending until a sign-in names the mailed code.

use reqwest::StatusCode;
use serde_json::json;
use synckit_protocol::{
    Problem,
    wire::accounts::{RegisterFinish, Registered},
};
use synckit_server::{
    Config,
    config::{MailDelivery, Registration},
};
use synckit_store::Account;

use crate::{
    mail_server::MailServer,
    support::{Answer, BEGINNING, PASSWORD, World},
};

const ADA: &str = "ada@example.com";
const EVE: &str = "eve@example.com";
const CONFIRM: &str = "Confirm your address";

async fn start(change: impl FnOnce(&mut Config)) -> (World, MailServer) {
    let mail = MailServer::start().await.unwrap();
    let world = World::start_with(|config| {
        config.mail = mail.delivery().unwrap();
        change(config);
    })
    .await;
    (world, mail)
}

async fn refusal(world: &World, email: &str, password: &str, code: Option<&str>) -> Problem {
    let answered = match code {
        Some(code) => world.confirm(email, password, code).await,
        None => world.sign_in(email, password).await,
    };
    answered.map(drop).unwrap_err()
}

async fn code_of_refusal(world: &World, password: &str, code: &str) -> String {
    refusal(world, ADA, password, Some(code)).await.code
}

/// An account with a confirmed address.
async fn confirmed(world: &World, mail: &MailServer, email: &str) -> Registered {
    let registered = world.register(email, PASSWORD).await.ok();
    let code = mail.code(email, CONFIRM, 1).await.unwrap();
    world.confirm(email, PASSWORD, &code).await.unwrap();
    registered
}

async fn accounts(world: &World) -> Vec<Account> {
    world.admin().await.accounts().await.unwrap()
}

#[tokio::test]
async fn account_is_ended_until_its_code() {
    let (world, mail) = start(|config| config.allow_password_login = true).await;
    let registered: Registered = world.register(ADA, PASSWORD).await.ok();
    assert!(registered.pending);
    assert_eq!(accounts(&world).await, []);
    // To everybody an unknown address, also to those who know the password.
    let pending = refusal(&world, ADA, PASSWORD, None).await;
    let unknown = refusal(&world, "nobody@example.com", PASSWORD, None).await;
    assert_eq!(
        (&pending.code, &pending.detail, pending.status),
        (&unknown.code, &unknown.detail, unknown.status)
    );
    assert_eq!(pending.code, "invalid_credentials");
    let body = json!({ "api_key": world.api_key(), "email": ADA, "password": PASSWORD });
    assert_eq!(
        world.post("/api/sync/auth").json(&body).send().await.code(),
        "invalid_credentials"
    );

    let code = mail.code(ADA, CONFIRM, 1).await.unwrap();
    // It can be typed, and never looks like an option to a program.
    assert!(
        code.len() == 32 && code.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')),
        "{code}"
    );
    assert_eq!(code_of_refusal(&world, PASSWORD, "a guess").await, "mail_code_invalid");
    assert_eq!(code_of_refusal(&world, "a guess", &code).await, "invalid_credentials");
    world.clock.advance(5);
    let user = world.confirm("ADA@example.com ", PASSWORD, &code).await.unwrap();
    assert_eq!(user.user_id, registered.user_id);
    let account = &accounts(&world).await[0];
    assert_eq!(
        (account.user_id, account.created_at, account.email_verified_at),
        (user.user_id, BEGINNING, Some(BEGINNING + 5))
    );
    assert_eq!(code_of_refusal(&world, PASSWORD, &code).await, "mail_code_invalid");
    world.sign_in(ADA, PASSWORD).await.unwrap();
}

/// A squatter registers the address before and after its owner, who has all codes and confirms nothing of the squatter's.
#[tokio::test]
async fn code_confirms_only_its_own_password() {
    let (world, mail) = start(|_| {}).await;
    for password in ["squatter", PASSWORD, "squatter"] {
        world.register(ADA, password).await.ok::<Registered>();
    }
    let mut codes = Vec::new();
    for number in 1..=3 {
        codes.push(mail.code(ADA, CONFIRM, number).await.unwrap());
    }
    for code in [&codes[0], &codes[2]] {
        assert_eq!(code_of_refusal(&world, PASSWORD, code).await, "invalid_credentials");
    }
    assert_eq!(
        code_of_refusal(&world, "squatter", &codes[1]).await,
        "invalid_credentials"
    );
    assert_eq!(accounts(&world).await, []);
    world.confirm(ADA, PASSWORD, &codes[1]).await.unwrap();
    // The address now has an account, and no other registration of it is ever confirmed.
    for code in [&codes[0], &codes[2]] {
        assert_eq!(code_of_refusal(&world, "squatter", code).await, "mail_code_invalid");
    }
    world.sign_in(ADA, PASSWORD).await.unwrap();
    assert_eq!(accounts(&world).await.len(), 1);
}

#[tokio::test]
async fn embedded_taken_address_answers_the_same() {
    let (world, mail) = start(|_| {}).await;
    confirmed(&world, &mail, ADA).await;
    let register = async |email: &str| {
        let (start, finish) = world.register_start(email, "other", None).await;
        [start, world.post("/api/accounts").cbor(&finish.unwrap()).send().await]
    };
    let form = |answer: &Answer| {
        let names: Vec<_> = answer.headers.keys().cloned().collect();
        (answer.status, answer.body.len(), names)
    };
    let (taken, free) = (register(ADA).await, register(EVE).await);
    assert_eq!(taken.each_ref().map(form), free.each_ref().map(form));
    assert!(taken[1].ok::<Registered>().pending && free[1].ok::<Registered>().pending);
    // As many rows are written.
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    let rows: u32 = database
        .query_row("SELECT count(*) FROM pending_accounts", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);

    let notice = mail.mail(ADA, "You already have an account", 1).await.unwrap();
    assert!(
        notice.contains("it has one already") && !notice.contains("\n    "),
        "{notice}"
    );
    for email in [ADA, EVE] {
        assert_eq!(refusal(&world, email, "other", None).await.code, "invalid_credentials");
    }
    world.sign_in(ADA, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn registrations_of_an_address_are_bounded() {
    let (world, mail) = start(|_| {}).await;
    confirmed(&world, &mail, ADA).await;
    for (email, before) in [(ADA, 1), (EVE, 0)] {
        for _ in before..5 {
            world.register(email, "other").await.ok::<Registered>();
        }
        let refused = world.register(email, "other").await;
        assert_eq!(refused.code(), "too_many_guesses", "{email}");
        assert_eq!(refused.header("retry-after"), "7200");
    }
    world.register("bob@example.com", PASSWORD).await.ok::<Registered>();
    world.clock.advance(7200);
    world.register(ADA, "other").await.ok::<Registered>();
    world.register(EVE, "other").await.ok::<Registered>();
}

#[tokio::test]
async fn limits_of_mails_are_the_operators() {
    let (world, _mail) = start(|config| {
        config.mails.registration_burst = 1;
        config.mails.registrations_per_day = 2;
        config.mails.reset_burst = 2;
        config.mails.resets_per_day = 48;
    })
    .await;
    world.register(ADA, PASSWORD).await.ok::<Registered>();
    let refused = world.register(ADA, PASSWORD).await;
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("too_many_guesses", "43200")
    );
    let ask = async || {
        let body = json!({ "email": ADA });
        world.post("/api/accounts/reset/request").json(&body).send().await
    };
    for _ in 0..2 {
        ask().await.empty();
    }
    let refused = ask().await;
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("too_many_guesses", "1800")
    );
}

#[tokio::test]
async fn unconfirmed_account_expires() {
    let (world, mail) = start(|config| {
        config.retention.pending_account = std::time::Duration::from_secs(7200);
    })
    .await;
    world.register(ADA, PASSWORD).await.ok::<Registered>();
    world.register(EVE, PASSWORD).await.ok::<Registered>();
    let text = mail.mail(ADA, CONFIRM, 1).await.unwrap();
    assert!(text.contains("within 2 hours"), "{text}");
    let (ada, eve) = (
        mail.code(ADA, CONFIRM, 1).await.unwrap(),
        mail.code(EVE, CONFIRM, 1).await.unwrap(),
    );
    world.clock.advance(7199);
    world.confirm(EVE, PASSWORD, &eve).await.unwrap();
    world.clock.advance(1);
    assert_eq!(code_of_refusal(&world, PASSWORD, &ada).await, "mail_code_invalid");
    world.register(ADA, PASSWORD).await.ok::<Registered>();
    let again = mail.code(ADA, CONFIRM, 2).await.unwrap();
    world.confirm(ADA, PASSWORD, &again).await.unwrap();
}

#[tokio::test]
async fn further_pending_account_pushes_out_the_oldest() {
    let (world, mail) = start(|config| config.bounds.pending_accounts = 2).await;
    for email in [ADA, EVE, "bob@example.com"] {
        world.register(email, PASSWORD).await.ok::<Registered>();
    }
    let code = async |email| mail.code(email, CONFIRM, 1).await.unwrap();
    assert_eq!(
        code_of_refusal(&world, PASSWORD, &code(ADA).await).await,
        "mail_code_invalid"
    );
    for email in [EVE, "bob@example.com"] {
        world.confirm(email, PASSWORD, &code(email).await).await.unwrap();
    }
}

#[tokio::test]
async fn repeated_registration_changes_nothing() {
    let (world, mail) = start(|_| {}).await;
    let finish = async || world.register_start(ADA, PASSWORD, None).await.1.unwrap();
    let send = async |finish: &RegisterFinish| world.post("/api/accounts").cbor(finish).send().await;
    let (first, second) = (finish().await, finish().await);
    let answers = [
        send(&first).await.ok::<Registered>(),
        send(&second).await.ok::<Registered>(),
    ];
    // More often than the address gets mails, and the older one after the newer one.
    for _ in 0..10 {
        assert_eq!(send(&second).await.ok::<Registered>(), answers[1]);
        assert_eq!(send(&first).await.ok::<Registered>(), answers[0]);
    }
    let codes = [
        mail.code(ADA, CONFIRM, 1).await.unwrap(),
        mail.code(ADA, CONFIRM, 2).await.unwrap(),
    ];
    let user = world.confirm(ADA, PASSWORD, &codes[1]).await.unwrap();
    assert_eq!(user.user_id, answers[1].user_id);
    for (finish, answer) in [(&first, &answers[0]), (&second, &answers[1])] {
        assert_eq!(send(finish).await.ok::<Registered>(), *answer);
    }
    world.sign_in(ADA, PASSWORD).await.unwrap();
    // Two of the five mails were used. Mails are sent in order, so a further one would be among these.
    for _ in 0..3 {
        world.register(ADA, "other").await.ok::<Registered>();
    }
    assert_eq!(world.register(ADA, "other").await.code(), "too_many_guesses");
    mail.mail(ADA, "You already have an account", 3).await.unwrap();
    tokio::select! {
        biased;
        _ = mail.mail(ADA, CONFIRM, 3) => panic!("a repeat sent a mail"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn confirming_uses_the_invitation_up() {
    let (world, mail) = start(|config| config.registration = Registration::Invite).await;
    let invite = world.admin().await.create_invite().await.unwrap();
    for email in [ADA, EVE] {
        let (_, finish) = world.register_start(email, PASSWORD, Some(invite.clone())).await;
        let answer = world.post("/api/accounts").cbor(&finish.unwrap()).send().await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let (ada, eve) = (
        mail.code(ADA, CONFIRM, 1).await.unwrap(),
        mail.code(EVE, CONFIRM, 1).await.unwrap(),
    );
    world.confirm(EVE, PASSWORD, &eve).await.unwrap();
    assert_eq!(code_of_refusal(&world, PASSWORD, &ada).await, "mail_code_invalid");
    let (answer, _) = world.register_start(ADA, PASSWORD, Some(invite)).await;
    assert_eq!(answer.code(), "invite_invalid");
}

#[tokio::test]
async fn reset_of_a_pending_account_sends_no_code() {
    let (world, mail) = start(|_| {}).await;
    world.register(ADA, PASSWORD).await.ok::<Registered>();
    confirmed(&world, &mail, EVE).await;
    for email in [ADA, EVE] {
        let body = json!({ "email": email });
        world
            .post("/api/accounts/reset/request")
            .json(&body)
            .send()
            .await
            .empty();
    }
    // Mails are sent in order: when the second one is here, the first would be.
    let second = mail.mail(EVE, "Reset your password", 1).await.unwrap();
    assert!(second.contains("set a new password"));
    tokio::select! {
        biased;
        _ = mail.mail(ADA, "Reset your password", 1) => panic!("a pending account got a code"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn account_works_at_once_without_a_mail_server() {
    let world = World::start_with(|config| assert_eq!(config.mail, MailDelivery::Directory)).await;
    let registered: Registered = world.register(ADA, PASSWORD).await.ok();
    assert!(!registered.pending);
    world.sign_in(ADA, PASSWORD).await.unwrap();
    assert_eq!(accounts(&world).await[0].email_verified_at, None);
}
