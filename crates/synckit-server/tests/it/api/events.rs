//! `/api/sync/events`: the newest position, over real connections.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use synckit_protocol::{BatchDigest, Cursor, EventReader, Heard, Position, ProblemCode, SealedHash, wire::log::Push};
use synckit_server::{Config, config::Database};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    limits::{figure, patiently, wait_for},
    support::{PASSWORD, Syncing, User, World, fresh_postgres, fresh_postgres_url},
};

const EVENTS: &str = "/api/sync/events";
const LISTENS: &str = "synckit_listens_to_nodes";

/// An open event stream.
pub(super) struct Events {
    response: Response,
    reader: EventReader,
}

impl Events {
    pub(super) async fn open(world: &World, user: &User) -> Self {
        Self {
            response: world.get(EVENTS).bearer(&user.token).open().await,
            reader: EventReader::default(),
        }
    }

    /// The events in the next piece; `None` at the end of the stream.
    async fn heard(&mut self) -> Option<Heard> {
        let piece = self.response.chunk().await.unwrap()?;
        Some(self.reader.read(&piece).unwrap())
    }

    /// The next position.
    async fn next_position(&mut self) -> Cursor {
        loop {
            if let Some(newest) = self.heard().await.expect("the stream goes on").newest {
                return newest;
            }
        }
    }

    /// Reads up to this position.
    pub(super) async fn until(&mut self, position: Position) {
        let wanted = Some(Cursor::at(position));
        while self.heard().await.expect("the stream goes on").newest != wanted {}
    }

    /// Reads to the end of the stream; whether the server said that it stops.
    pub(super) async fn end(mut self) -> bool {
        let mut is_going = false;
        while let Some(heard) = self.heard().await {
            is_going |= heard.is_going;
        }
        is_going
    }
}

/// Another session and device of a user, on the same stream.
async fn second_session(world: &World, email: &str) -> User {
    let user = world.sign_in(email, PASSWORD).await.unwrap();
    user.register_device(world, "phone").await;
    user
}

#[tokio::test]
async fn stream_begins_with_the_newest_position() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let start = ada.head;
    let mut events = Events::open(&world, &ada.user).await;
    let headers = events.response.headers().clone();
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(headers[name], value);
    }
    let first = events.heard().await.unwrap();
    assert!(first.retry_ms.is_some(), "before anything else: {first:?}");
    if first.newest.is_none() {
        events.until(start).await;
    }
    ada.push(&world, 3, 100).await;
    // One that is opened later begins with the same position that an open one hears.
    let mut later = Events::open(&world, &ada.user).await;
    later.until(ada.head).await;
    events.until(ada.head).await;
}

#[tokio::test]
async fn every_session_hears_of_a_push() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let phone = second_session(&world, "ada@example.com").await;
    let mut streams = Vec::new();
    for user in [&ada.user, &phone] {
        let mut events = Events::open(&world, user).await;
        events.until(ada.head).await;
        streams.push(events);
    }
    for _ in 0..3 {
        ada.push(&world, 1, 100).await;
        for events in &mut streams {
            events.until(ada.head).await;
        }
    }
}

#[tokio::test]
async fn streams_of_other_users_and_apps_are_silent() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    let other_app = world.admin().await.create_app("Other").await.unwrap();
    let elsewhere = world
        .sign_in_to(other_app.api_key.expose(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
    let device = elsewhere.register_device(&world, "laptop").await;
    elsewhere.put_envelope(&world).await;
    let mut elsewhere = Syncing::new(elsewhere, device.id);

    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    bob.push(&world, 5, 100).await;
    elsewhere.push(&world, 7, 100).await;
    ada.push(&world, 1, 100).await;
    let first = events.next_position().await;
    assert_eq!(first, Cursor::at(ada.head), "the first one after the others' pushes");
}

#[tokio::test]
async fn repeated_push_tells_nothing_older() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let (first, _) = ada.push(&world, 1, 100).await;
    ada.push(&world, 1, 100).await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    ada.send(&world, &first)
        .await
        .ok::<synckit_protocol::wire::log::Pushed>();
    ada.push(&world, 1, 100).await;
    assert_eq!(events.next_position().await, Cursor::at(ada.head));
}

#[tokio::test]
async fn stream_ends_when_its_session_does() {
    let world = World::start().await;
    let ada = world.ready_user("ada@example.com").await;
    let phone = second_session(&world, "ada@example.com").await;
    let mut kept = Events::open(&world, &ada.user).await;
    kept.until(ada.head).await;
    let mut ended = Events::open(&world, &phone).await;
    ended.until(ada.head).await;
    world
        .call(Method::DELETE, "/api/sync/auth")
        .bearer(&phone.token)
        .send()
        .await
        .empty();
    assert!(!ended.end().await, "the server does not stop");
    let answer = world.get(EVENTS).bearer(&phone.token).send().await;
    assert_eq!(answer.code(), "session_ended");
    // The command line ends sessions beside the server, which must ask its database to know.
    world.admin().await.delete_app(world.app.app_id).await.unwrap();
    assert!(!kept.end().await);
}

#[tokio::test]
async fn nodes_hear_of_each_other() {
    let world = World::start_on(fresh_postgres().await, |_| {}).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let phone = second_session(&world, "ada@example.com").await;
    let other = world.second_node().await;
    let mut here = Events::open(&world, &ada.user).await;
    let mut there = Events::open(&other, &phone).await;
    for node in [&world, &other, &world] {
        ada.push(node, 1, 100).await;
        here.until(ada.head).await;
        there.until(ada.head).await;
    }
    // A session that ends at one node ends its streams at every node.
    let ended = world.call(Method::DELETE, "/api/sync/auth").bearer(&phone.token);
    ended.send().await.empty();
    assert!(!there.end().await);
}

/// Waits until a node hears of pushes at others at once, or does not.
async fn listens(node: &World, wanted: u64) {
    wait_for(node, LISTENS, |listens| listens == wanted).await;
}

/// A client of the database, for as long as it is used.
async fn database(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Ends the connections on which nodes listen; returns their number.
async fn end_listeners(client: &tokio_postgres::Client, database: &str) -> usize {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE query = 'LISTEN synckit' AND datname = $1";
    client.query(sql, &[&database]).await.unwrap().len()
}

#[tokio::test]
async fn lost_listener_is_replaced() {
    let url = fresh_postgres_url().await;
    let world = World::start_on(Database::Postgres(url.parse().unwrap()), |_| {}).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let phone = second_session(&world, "ada@example.com").await;
    let other = world.second_node().await;
    let mut there = Events::open(&other, &phone).await;
    let client = database(&url).await;
    let name = url.rsplit_once('/').unwrap().1;
    for _ in 0..2 {
        listens(&world, 1).await;
        listens(&other, 1).await;
        ada.push(&world, 1, 100).await;
        there.until(ada.head).await;
        assert_eq!(
            end_listeners(&client, name).await,
            2,
            "each node listens on a connection of its own"
        );
        // Nobody listens.
        ada.push(&world, 1, 100).await;
        there.until(ada.head).await;
    }
}

#[tokio::test]
async fn node_without_listener_polls_and_says_so() {
    let url = fresh_postgres_url().await;
    let (server, name) = url.rsplit_once('/').unwrap();
    // It is open all the time: a further one would be refused.
    let one_connection = |config: &mut Config| config.database_limits.connections = 1;
    let world = World::start_on(Database::Postgres(url.parse().unwrap()), one_connection).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let phone = second_session(&world, "ada@example.com").await;
    let other = world.second_node_with(one_connection).await;
    let mut there = Events::open(&other, &phone).await;
    there.until(ada.head).await;
    listens(&other, 1).await;

    let client = database(&format!("{server}/postgres")).await;
    let allow_connections = async |allowed: bool| {
        let sql = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
        client.batch_execute(&sql).await.unwrap();
    };
    allow_connections(false).await;
    assert_eq!(end_listeners(&client, name).await, 2);
    listens(&other, 0).await;
    for _ in 0..2 {
        ada.push(&world, 1, 100).await;
        patiently(there.until(ada.head), "a node without a listener does not poll").await;
        assert_eq!(figure(&other, LISTENS).await, 0);
    }
    allow_connections(true).await;
    listens(&other, 1).await;
}

/// Sends a push without its last `missing` bytes, and waits for no answer.
async fn send_and_go_on(world: &World, ada: &Syncing, push: &Push, missing: usize) -> TcpStream {
    let body = serde_json::to_vec(push).unwrap();
    let head = format!(
        "POST /api/sync/push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        ada.user.token,
        body.len()
    );
    let sent = &body[..body.len() - missing];
    let mut connection = TcpStream::connect(world.address()).await.unwrap();
    connection.write_all(&[head.as_bytes(), sent].concat()).await.unwrap();
    connection
}

/// The place of a batch that is stored next.
fn place_of(ada: &Syncing, push: &Push) -> Position {
    let digest = BatchDigest {
        batch_id: push.batch_id,
        device_id: push.device_id,
        key_id: push.key_id,
        count: push.count,
        sealed_hash: SealedHash::of(&push.sealed.0),
    };
    ada.head.advance(&digest).unwrap()
}

#[tokio::test]
async fn embedded_push_of_a_gone_client_is_heard() {
    let hurrying = |config: &mut Config| config.meter_interval = Duration::from_millis(10);
    let world = World::start_on(Database::Embedded, hurrying).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    let writer = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let push = ada.batch(1, 1000);
    let connection = send_and_go_on(&world, &ada, &push, 0).await;
    wait_for(&world, "synckit_write_queue_bytes", |bytes| bytes > 0).await;
    drop(connection);
    wait_for(&world, "synckit_requests_at_work", |requests| requests == 0).await;
    writer.execute_batch("ROLLBACK").unwrap();
    let heard = events.until(place_of(&ada, &push));
    patiently(heard, "nobody hears of an append whose client is gone").await;
    // Nor does it escape the meter.
    let admin = world.admin().await;
    let counted = async { while admin.usage(world.app.app_id).await.unwrap().moved_bytes != 1_000 {} };
    patiently(counted, "what a gone client pushed is not counted").await;
}

#[tokio::test]
async fn push_of_a_gone_client_is_heard_on_postgres() {
    let url = fresh_postgres_url().await;
    let world = World::start_on(Database::Postgres(url.parse().unwrap()), |_| {}).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    let (writer, observer) = (database(&url).await, database(&url).await);
    writer
        .batch_execute("BEGIN; SELECT 1 FROM streams FOR UPDATE")
        .await
        .unwrap();
    let push = ada.batch(1, 1000);
    let connection = send_and_go_on(&world, &ada, &push, 0).await;
    let waiting = async {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while observer.query(sql, &[]).await.unwrap().is_empty() {}
    };
    patiently(waiting, "the append does not wait for the lock").await;
    drop(connection);
    wait_for(&world, "synckit_requests_at_work", |requests| requests == 0).await;
    writer.batch_execute("ROLLBACK").await.unwrap();
    let heard = events.until(place_of(&ada, &push));
    patiently(heard, "nobody hears of an append whose client is gone").await;
}

#[tokio::test]
async fn half_a_push_is_neither_stored_nor_heard() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    let half = ada.batch(1, 1000);
    drop(send_and_go_on(&world, &ada, &half, 1).await);
    // On the same parent.
    ada.push(&world, 1, 100).await;
    assert_eq!(events.next_position().await, Cursor::at(ada.head));
}

#[tokio::test]
async fn stopping_server_tells_its_streams() {
    let mut world = World::start().await;
    let ada = world.ready_user("ada@example.com").await;
    let mut events = Events::open(&world, &ada.user).await;
    events.until(ada.head).await;
    let stopped = tokio::spawn(async move { world.stop().await });
    assert!(events.end().await, "it says that it stops");
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn stream_ends_after_its_time() {
    let world = World::start_with(|config| config.timeouts.event_stream = Duration::from_millis(200)).await;
    let ada = world.ready_user("ada@example.com").await;
    let events = Events::open(&world, &ada.user).await;
    assert!(!events.end().await, "the server does not stop");
}

#[tokio::test]
async fn streams_are_limited_per_account_and_node() {
    let world = World::start_with(|config| {
        config.bounds.event_streams = 3;
        config.bounds.event_streams_per_account = 2;
    })
    .await;
    let ada = world.ready_user("ada@example.com").await;
    let bob = world.ready_user("bob@example.com").await;
    let mut open = Vec::new();
    for user in [&ada.user, &ada.user] {
        open.push(Events::open(&world, user).await);
    }
    let refused = async |user: &User| {
        let answer = world.get(EVENTS).bearer(&user.token).send().await;
        assert_eq!(answer.code(), ProblemCode::Overloaded.as_str());
        assert_eq!(answer.header("retry-after"), "1");
    };
    refused(&ada.user).await;
    open.push(Events::open(&world, &bob.user).await);
    refused(&bob.user).await;
    // Requests have their own places, and a node without streams left is ready.
    assert_eq!(world.get("/readyz").send().await.code(), "200");
    assert_eq!(
        world
            .get("/api/sync/status")
            .bearer(&bob.user.token)
            .send()
            .await
            .code(),
        "200"
    );
    let metrics = world.get("/metrics").send().await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("synckit_event_streams 3\n"), "{metrics}");
    assert!(metrics.contains("synckit_requests_at_work 0\n"), "{metrics}");
    drop(open);
    // The server sees the ends of the connections a moment later.
    loop {
        let response = world.get(EVENTS).bearer(&ada.user.token).open_any().await;
        if response.status() == StatusCode::OK {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stream_needs_a_token_for_the_app() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    assert_eq!(world.get(EVENTS).send().await.code(), "token_invalid");
    let answer = world.get(EVENTS).bearer(&ada.account_token).send().await;
    assert_eq!(answer.code(), "token_invalid");
}
