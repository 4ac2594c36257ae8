//! How often a request waits for PostgreSQL, counted on the wire.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use synckit_store::{Append, PostgresOptions, PostgresStore, Store};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    database::{Database, server},
    fixture::{append, batch, ready_stream, start},
};

/// A proxy in front of the server. A client waits for an answer after a `Sync` or a `Query` of PostgreSQL's protocol, and after
/// no other message.
struct Proxy {
    port: u16,
    round_trips: Arc<AtomicU32>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            round_trips: Arc::default(),
        };
        let round_trips = Arc::clone(&proxy.round_trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server().get_ports()[0]))
                    .await
                    .unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let round_trips = Arc::clone(&round_trips);
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                tokio::spawn(async move { forward(from_client, to_server, &round_trips).await });
            }
        });
        proxy
    }

    fn url(&self, database: &Database) -> String {
        let server = server().get_ports()[0];
        database
            .text()
            .replace(&format!(":{server}/"), &format!(":{}/", self.port))
    }

    /// The result of some work, and its number of round trips.
    async fn count<T>(&self, work: impl Future<Output = T>) -> (T, u32) {
        let before = self.round_trips.load(Ordering::SeqCst);
        let done = work.await;
        (done, self.round_trips.load(Ordering::SeqCst) - before)
    }
}

/// Forwards the messages of a client, until it is gone.
async fn forward(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, round_trips: &AtomicU32) -> io::Result<()> {
    // The first message has a length and no type.
    let mut kind = None;
    loop {
        let length = client.read_u32().await?;
        let mut message: Vec<u8> = kind.into_iter().chain(length.to_be_bytes()).collect();
        let head = message.len();
        message.resize(head + length as usize - 4, 0);
        client.read_exact(&mut message[head..]).await?;
        if matches!(kind, Some(b'S' | b'Q')) {
            round_trips.fetch_add(1, Ordering::SeqCst);
        }
        server.write_all(&message).await?;
        kind = Some(client.read_u8().await?);
    }
}

#[tokio::test]
async fn an_append_is_two_round_trips() {
    let database = Database::create().await;
    let proxy = Proxy::start().await;
    let options = PostgresOptions {
        connections: 1,
        ..PostgresOptions::default()
    };
    let url = proxy.url(&database).parse().unwrap();
    let store = PostgresStore::open(&url, options).await.unwrap();
    let stream = ready_stream(&store, 1).await;
    // The first append prepares the statements of its connection.
    let first = batch(stream, start(stream), 1, 1, 1, 100);
    let parent = append(&store, &first).await;

    let (_, round_trips) = proxy
        .count(append(&store, &batch(stream, parent, 1, 2, 1, 10_000)))
        .await;
    assert_eq!(round_trips, 2);
    let (answer, round_trips) = proxy.count(store.append_batch(first)).await;
    let is_repeated = matches!(answer, Ok(Append::Stored { repeated: true, .. }));
    assert!(is_repeated, "{answer:?}");
    assert_eq!(round_trips, 1);
}
