//! Apps with several runtimes, of which some are not driven any more: nothing waits for them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use synckit_client::{
    Cursor,
    transport::{HttpTransport, RequestBody, Transport as _},
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    interference::{Fate, Interference, drain},
    world::{World, changes},
};

/// A runtime that moves only while something is blocked on it.
fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime for the server, which moves all the time.
fn server() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Ends a test that would wait for ever.
async fn ends<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap()
}

#[test]
fn pull_works_when_each_page_has_its_own_runtime() {
    let server = server();
    let world = server.block_on(World::start());
    let user = server.block_on(world.user());
    let (client, device) = server.block_on(world.first_device(&user));
    server.block_on(client.push(device, changes(1_500))).unwrap();

    // Each pull asks for the next page ahead of time, on a runtime that nobody drives any more.
    let (mut cursor, mut rows, mut runtimes) = (Cursor::START, 0, Vec::new());
    loop {
        let runtime = single();
        let (page, next, has_more) = runtime.block_on(ends(client.pull(device, cursor))).unwrap();
        runtimes.push(runtime);
        (cursor, rows) = (next, rows + page.len());
        if !has_more {
            break;
        }
    }
    assert_eq!((rows, runtimes.len()), (1_500, 3));
}

#[test]
fn connections_of_one_runtime_serve_no_other() {
    let server = server();
    let world = server.block_on(World::start());
    let transport = HttpTransport::new(Duration::from_secs(10));
    let mut runtimes = Vec::new();
    for _ in 0..3 {
        let runtime = single();
        runtime.block_on(ends(async {
            for _ in 0..2 {
                let request = http::Request::get(format!("{}/healthz", world.url()));
                let answer = transport.send(request.body(RequestBody::Empty).unwrap()).await.unwrap();
                assert!(!drain(answer.into_body()).await.unwrap().is_empty());
            }
        }));
        runtimes.push(runtime);
    }
}

#[test]
fn push_goes_on_without_a_turn_that_never_ends() {
    let server = server();
    let world = server.block_on(World::start());
    let user = server.block_on(world.user());
    let (_, device) = server.block_on(world.first_device(&user));
    let sent = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&sent);
    let client = world.resumed_over(
        &user,
        Interference::new(move |request| {
            if request.uri().path() == "/api/sync/push" && !first.swap(true, Ordering::SeqCst) {
                Fate::Unanswered
            } else {
                Fate::Delivered
            }
        }),
    );

    // A push takes the turn and gets no answer; then nobody drives its runtime any more.
    let abandoned = single();
    abandoned.block_on(async {
        let client = client.clone();
        tokio::spawn(async move { client.push(device, changes(1)).await });
        while !sent.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    });
    single().block_on(async {
        tokio::time::pause();
        let waiting = client.clone();
        let push = tokio::spawn(async move { waiting.push(device, changes(2)).await });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(3_600)).await;
        tokio::time::resume();
        ends(push).await.unwrap().unwrap();
    });
    assert_eq!(server.block_on(client.status()).unwrap().change_count, 2);
}
