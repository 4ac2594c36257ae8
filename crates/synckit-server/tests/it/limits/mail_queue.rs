//! The queue of mails: bounded, and a mail in it is not lost.

use std::future::ready;

use reqwest::StatusCode;
use serde_json::json;
use synckit_protocol::wire::accounts::Registered;
use tokio::sync::oneshot;

use crate::{
    mail_server::MailServer,
    support::{Answer, PASSWORD, World},
};

const ADA: &str = "ada@example.com";
const EVE: &str = "eve@example.com";
const CONFIRM: &str = "Confirm your address";

async fn start(mail: &MailServer) -> World {
    World::start_with(|config| {
        config.mail = mail.delivery().unwrap();
        config.guesses.per_address = 10_000;
    })
    .await
}

async fn ask_for_reset(world: &World, email: &str) -> Answer {
    let body = json!({ "email": email });
    world.post("/api/accounts/reset/request").json(&body).send().await
}

/// The first two connections break.
#[tokio::test]
async fn mail_is_sent_again_after_a_failure() {
    let mail = MailServer::start_after(2, ready(())).await.unwrap();
    let world = start(&mail).await;
    world.register(ADA, PASSWORD).await.ok::<Registered>();
    let code = mail.code(ADA, CONFIRM, 1).await.unwrap();
    world.confirm(ADA, PASSWORD, &code).await.unwrap();
}

/// Otherwise strangers could use up the mails of an address while none is sent.
#[tokio::test]
async fn request_without_room_for_its_mail_costs_nothing() {
    let (go, gone) = oneshot::channel();
    let mail = MailServer::start_after(0, async { gone.await.unwrap() }).await.unwrap();
    let world = start(&mail).await;
    // The mail server does not answer.
    world.register(ADA, PASSWORD).await.ok::<Registered>();
    let mut queued = 0;
    let refused = loop {
        let answer = ask_for_reset(&world, &format!("nobody{queued}@example.com")).await;
        if !answer.status.is_success() {
            break answer;
        }
        queued += 1;
    };
    assert!((255..=257).contains(&queued), "{queued}");
    assert_eq!(refused.code(), "overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    for _ in 0..10 {
        assert_eq!(ask_for_reset(&world, EVE).await.code(), "overloaded");
    }
    let (_, finish) = world.register_start(EVE, PASSWORD, None).await;
    let finish = finish.unwrap();
    let register = async || world.post("/api/accounts").cbor(&finish).send().await;
    assert_eq!(register().await.code(), "overloaded");

    go.send(()).unwrap();
    mail.mail(ADA, CONFIRM, 1).await.unwrap();
    for _ in 0..5 {
        with_room(async || ask_for_reset(&world, EVE).await).await.empty();
    }
    let refused = with_room(async || ask_for_reset(&world, EVE).await).await;
    assert_eq!(refused.code(), "too_many_guesses");
    // Nothing was stored: this is the first registration, whose code is mailed.
    with_room(register).await.ok::<Registered>();
    let code = mail.code(EVE, CONFIRM, 1).await.unwrap();
    world.confirm(EVE, PASSWORD, &code).await.unwrap();
}

/// Repeats a request until the queue has room for its mail.
async fn with_room(request: impl AsyncFn() -> Answer) -> Answer {
    loop {
        let answer = request().await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            return answer;
        }
    }
}
