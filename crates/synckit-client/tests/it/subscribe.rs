//! Subscriptions, over real connections: what an app hears, and what it hears behind broken proxies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use synckit_client::{
    Cursor, Error, SyncKitClient,
    transport::{HttpTransport, RequestBody, Transport as _},
};

use crate::{
    interference::{Fate, Interference, drain},
    world::{World, change, pull_all},
};

const EVENTS: &str = "/api/sync/events";

/// A transport that decides about event streams alone, and counts how many were asked for.
fn streams(decide: impl Fn() -> Fate + Send + Sync + 'static) -> (Arc<Interference>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let transport = Interference::new(move |request| {
        if request.uri().path() != EVENTS {
            return Fate::Delivered;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        decide()
    });
    (transport, asked)
}

/// The event streams that are open at the server.
pub(crate) async fn event_streams(world: &World) -> u32 {
    let request = http::Request::get(format!("{}/metrics", world.url()));
    let transport = HttpTransport::new(Duration::from_secs(10));
    let answer = transport.send(request.body(RequestBody::Empty).unwrap()).await.unwrap();
    let text = String::from_utf8(drain(answer.into_body()).await.unwrap()).unwrap();
    let mut lines = text.lines();
    let figure = lines.find_map(|line| line.strip_prefix("synckit_event_streams "));
    figure.unwrap().parse().unwrap()
}

#[tokio::test]
async fn push_of_another_device_is_heard() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let mut news = phone.subscribe().await.unwrap();
    news.changed().await.unwrap();
    let mut cursor = Cursor::START;
    for row in ["1", "2", "3"] {
        laptop.push(laptop_id, vec![change("notes", row)]).await.unwrap();
        news.changed().await.unwrap();
        let (changes, next) = pull_all(&phone, phone_id, cursor).await.unwrap();
        assert_eq!(changes, [change("notes", row)]);
        cursor = next;
    }
}

#[tokio::test]
async fn subscriptions_share_one_connection() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (transport, asked) = streams(|| Fate::Delivered);
    let (phone, _) = world.device_over(&user, "phone", transport).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        let mut news = phone.clone().subscribe().await.unwrap();
        // Also a later subscription is told of what came before it.
        news.changed().await.unwrap();
        all.push(news);
    }
    laptop.push(laptop_id, vec![change("notes", "1")]).await.unwrap();
    for news in &mut all {
        news.changed().await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connection_ends_with_the_last_subscription() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let first = laptop.subscribe().await.unwrap();
    let mut second = laptop.subscribe().await.unwrap();
    second.changed().await.unwrap();
    assert_eq!(event_streams(&world).await, 1);
    drop(first);
    assert_eq!(event_streams(&world).await, 1);
    drop(second);
    // The server sees the end of the connection a moment later.
    while event_streams(&world).await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn broken_streams_turn_into_polling() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    for broken in [
        (200, "<html>Welcome to the hotel</html>"),
        (200, ""),
        (404, "not here"),
        (200, "event: position\ndata: elsewhere\n\n"),
    ] {
        let (transport, asked) = streams(move || Fate::Answered(broken.0, broken.1.into()));
        let (phone, _) = world.device_over(&user, "phone", transport).await;
        let mut news = phone.subscribe().await.unwrap();
        news.changed().await.unwrap();
        laptop.push(laptop_id, vec![change("notes", "1")]).await.unwrap();
        news.changed().await.unwrap();
        assert!(asked.load(Ordering::SeqCst) > 1, "it tries streams again: {broken:?}");
    }
}

#[tokio::test]
async fn server_that_lies_wakes_the_app_and_no_more() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, vec![change("notes", "1")]).await.unwrap();
    let head = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    let lie = format!("retry: 99999999999999999999\n\nevent: position\ndata: 18446744073709551615.{head}\n\n");
    let (transport, _) = streams(move || Fate::Answered(200, lie.clone().into()));
    let (phone, phone_id) = world.device_over(&user, "phone", transport).await;
    let mut news = phone.subscribe().await.unwrap();
    news.changed().await.unwrap();
    // The claim is neither a known position nor a cursor: the pull finds the true history, and no tampering.
    let (changes, cursor) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!((changes.len(), cursor.seq()), (1, 1));
    phone.push(phone_id, vec![change("notes", "2")]).await.unwrap();
}

#[tokio::test]
async fn restart_of_the_server_loses_no_change() {
    let mut world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let mut news = phone.subscribe().await.unwrap();
    news.changed().await.unwrap();
    world.restart().await;
    // Before the phone is back.
    laptop.push(laptop_id, vec![change("notes", "1")]).await.unwrap();
    news.changed().await.unwrap();
    let (changes, _) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn ended_session_ends_the_subscription() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let mut news = phone.subscribe().await.unwrap();
    news.changed().await.unwrap();
    laptop.revoke_device(phone_id).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(news.changed().await, Err(Error::SessionEnded)));
    }
}

#[tokio::test]
async fn subscription_needs_a_user() {
    let world = World::start().await;
    let client = SyncKitClient::new(world.config());
    assert!(matches!(client.subscribe().await, Err(Error::NotSignedIn)));
}

#[test]
fn subscription_survives_the_end_of_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (server, first, second) = (runtime(), runtime(), runtime());
    let (world, user, laptop, laptop_id) = server.block_on(async {
        let world = World::start().await;
        let user = world.user().await;
        let (laptop, laptop_id) = world.first_device(&user).await;
        (world, user, laptop, laptop_id)
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let phone = {
        let phone = world.client(&user, "phone", None);
        server.block_on(async {
            phone.authenticate(&user.email, &user.password).await.unwrap();
            phone.setup_encryption_existing(&user.password).await.unwrap();
            laptop.push(laptop_id, vec![change("notes", "1")]).await.unwrap();
        });
        phone
    };
    let serving = std::thread::spawn(move || {
        server.block_on(async { stopped.await.unwrap() });
        drop(world);
    });
    let mut news = first.block_on(async {
        let mut news = phone.subscribe().await.unwrap();
        news.changed().await.unwrap();
        news
    });
    drop(first);
    // The task of the first runtime is gone: a new one on this runtime tells the newest position again.
    second.block_on(news.changed()).unwrap();
    stop.send(()).unwrap();
    serving.join().unwrap();
}
