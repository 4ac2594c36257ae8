//! A PostgreSQL that answers nothing any more, while its connections stay open: a host that is paused, a network that drops
//! every packet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use synckit_server::config::Database;
use tokio::{
    io::copy,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::events::Events;
use crate::{
    limits::patiently,
    support::{World, fresh_postgres_url},
};

/// A proxy in front of a PostgreSQL, which can stop to forward.
struct Network {
    url: String,
    made: Arc<AtomicU64>,
    /// How many connections are frozen, the oldest first.
    frozen: watch::Sender<u64>,
}

impl Network {
    async fn before(url: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (place, database) = url.rsplit_once('/').unwrap();
        let (user, server) = place.rsplit_once('@').unwrap();
        let url = format!("{user}@{}/{database}", listener.local_addr().unwrap());
        let (made, frozen) = (Arc::<AtomicU64>::default(), watch::Sender::new(0));
        let (count, seen, server) = (Arc::clone(&made), frozen.subscribe(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(forward(number, client, server.clone(), seen.clone()));
            }
        });
        Self { url, made, frozen }
    }

    fn database(&self) -> Database {
        Database::Postgres(self.url.parse().unwrap())
    }

    /// Its connections stay, without a byte. New ones work.
    fn freeze_connections(&self) {
        self.frozen.send_replace(self.made.load(Ordering::SeqCst));
    }

    /// New ones do not work, either.
    fn freeze(&self) {
        self.frozen.send_replace(u64::MAX);
    }
}

async fn forward(number: u64, client: TcpStream, server: String, mut frozen: watch::Receiver<u64>) {
    let server = TcpStream::connect(server).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        biased;
        _ = frozen.wait_for(|&count| number < count) => {}
        _ = copy(&mut from_client, &mut to_server) => return,
        _ = copy(&mut from_server, &mut to_client) => return,
    }
    // Both ends stay open.
    std::future::pending().await
}

#[tokio::test]
async fn frozen_connections_are_replaced() {
    let url = fresh_postgres_url().await;
    let network = Network::before(&url).await;
    let world = World::start_on(network.database(), |_| {}).await;
    let ada = world.ready_user("ada@example.com").await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    let bob = world.ready_user("bob@example.com").await;
    let other = world
        .second_node_with(|config| config.database = Database::Postgres(url.parse().unwrap()))
        .await;
    network.freeze_connections();
    let ended = other.call(Method::DELETE, "/api/sync/auth").bearer(&ada.user.token);
    ended.send().await.empty();
    let is_going = patiently(events.end(), "the stream of an ended session goes on").await;
    assert!(!is_going, "the node goes on");
    let status = world.get("/api/sync/status").bearer(&bob.user.token).send();
    assert_eq!(patiently(status, "a request is held").await.code(), "200");
}

#[tokio::test]
async fn frozen_database_holds_no_stop_and_no_metrics() {
    let network = Network::before(&fresh_postgres_url().await).await;
    let short = |config: &mut synckit_server::Config| config.timeouts.shutdown_grace = Duration::from_millis(50);
    let mut world = World::start_on(network.database(), short).await;
    let ada = world.ready_user("ada@example.com").await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    let metrics = async || String::from_utf8(world.get("/metrics").send().await.body).unwrap();
    assert!(metrics().await.contains("synckit_store_answers 1\n"));
    network.freeze();
    let ready = patiently(world.get("/readyz").send(), "readiness is held").await;
    assert_eq!(ready.code(), "store_unavailable");
    let told = patiently(metrics(), "metrics are held").await;
    assert!(told.contains("synckit_store_answers 0\n"), "{told}");
    assert!(told.contains("synckit_event_streams 1\n"), "{told}");
    patiently(world.stop(), "the stop is held").await.unwrap();
}
