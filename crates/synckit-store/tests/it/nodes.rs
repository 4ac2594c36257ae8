//! Several nodes on one PostgreSQL: what the embedded store, which has one writer, cannot get wrong.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use synckit_protocol::{Cursor, Position, SnapshotId};
use synckit_store::{
    AccountCreation, Allowance, Append, ChainRead, Charge, Counted, CountedKey, Draw, NewAccount, NewSession,
    NewSnapshot, PageRead, PostgresOptions, PostgresStore, Retention, SnapshotWrite, SqliteOptions, Store, StoreError,
    StreamId, Unavailable, rules::quotas::PlanRoom, rules::quotas::Quotas,
};

use crate::{
    database::{Database, Fresh, ending},
    fixture::{
        KEY, NO_BYTE_LIMIT, NOW, OWNER, append, batch, create_account, create_app, id16, new_account, page_request,
        read_all, ready_stream, register, session_id, start, stream_of, user_id,
    },
    sqlite::SqliteHarness,
};

/// Two stores on one database, as two nodes have them.
async fn two_nodes() -> (Database, [Arc<PostgresStore>; 2]) {
    let database = Database::create().await;
    let nodes = [Arc::new(database.store().await), Arc::new(database.store().await)];
    (database, nodes)
}

/// Appends batch `n`, on top of whatever is the head.
async fn append_at_head(store: &dyn Store, stream: StreamId, device: u64, n: u64) -> Position {
    let mut parent = start(stream);
    loop {
        match store
            .append_batch(batch(stream, parent, device, n, 1, 100))
            .await
            .unwrap()
        {
            Append::Stored { position, .. } => return position,
            Append::Behind(page) => parent = page.latest,
            Append::Compacted(snapshot) => parent = snapshot.position,
            other => panic!("batch {n}: {other:?}"),
        }
    }
}

/// Stores an empty snapshot of this position.
async fn put_snapshot(store: &dyn Store, stream: StreamId, n: u64, position: Position) {
    let snapshot = NewSnapshot {
        stream,
        snapshot_id: SnapshotId::from_bytes(id16(n)),
        key_id: KEY,
        position,
        parts: 0,
        manifest: Bytes::from_static(b"a sealed manifest"),
        signed_by: Some(OWNER),
        room: PlanRoom::default(),
        settled_before: NOW,
        now: NOW,
    };
    let written = store.put_snapshot(snapshot).await.unwrap();
    assert_eq!(written, SnapshotWrite::Stored);
}

/// Cuts the log at this position, if it is on it.
async fn compact(store: &dyn Store, stream: StreamId, n: u64, position: Position) {
    put_snapshot(store, stream, n, position).await;
    // Every snapshot has settled, and no device is waited for.
    let retention = Retention {
        settled_before: NOW,
        active_since: u64::MAX >> 1,
        unfinished_before: 0,
        ended_until: 0,
        now: 0,
    };
    while store.retain(retention).await.unwrap() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_beside_compaction_skips_nothing() {
    const WRITERS: u64 = 32;
    const BATCHES: u64 = 12;
    let (_database, [node, other]) = two_nodes().await;
    let stream = ready_stream(node.as_ref(), 1).await;
    register(node.as_ref(), stream, 2).await;
    let are_done = Arc::new(AtomicBool::new(false));

    // A device pulls from one node and the other by turns.
    let reading = tokio::spawn({
        let (nodes, are_done) = ([Arc::clone(&node), Arc::clone(&other)], Arc::clone(&are_done));
        async move {
            let (mut cursor, mut turn, mut compacted) = (Cursor::START, 0, 0);
            loop {
                let was_done = are_done.load(Ordering::SeqCst);
                turn += 1;
                let request = page_request(stream, 2, cursor, NO_BYTE_LIMIT);
                match nodes[turn % 2].page(request).await.unwrap() {
                    PageRead::Page {
                        batches,
                        cursor: next,
                        has_more,
                    } => {
                        let mut seq = cursor.seq();
                        for batch in &batches {
                            assert_eq!(batch.first_seq, seq + 1, "after {seq}");
                            seq += u64::from(batch.count);
                        }
                        assert_eq!(next.seq(), seq);
                        assert!(!batches.is_empty() || !has_more, "an empty page before the head");
                        cursor = next;
                        if was_done && !has_more {
                            return (cursor, compacted);
                        }
                    }
                    PageRead::Snapshot(snapshot) | PageRead::Compacted(snapshot) => {
                        assert!(snapshot.position.seq > cursor.seq());
                        compacted += 1;
                        cursor = Cursor::at(snapshot.position);
                    }
                    other => panic!("at {cursor:?}: {other:?}"),
                }
            }
        }
    });
    let compacting = tokio::spawn({
        let (node, are_done) = (Arc::clone(&other), Arc::clone(&are_done));
        async move {
            let mut cuts = 0;
            while !are_done.load(Ordering::SeqCst) {
                let latest = node.status(stream).await.unwrap();
                if latest.snapshot.map_or(0, |newest| newest.position.seq) < latest.latest.seq {
                    cuts += 1;
                    compact(node.as_ref(), stream, 1000 + cuts, latest.latest).await;
                }
                tokio::task::yield_now().await;
            }
            cuts
        }
    });
    let mut writing = Vec::new();
    for writer in 0..WRITERS {
        let node = if writer % 2 == 0 { &node } else { &other };
        let node = Arc::clone(node);
        writing.push(tokio::spawn(async move {
            for n in 0..BATCHES {
                append_at_head(node.as_ref(), stream, 1, 1 + writer * BATCHES + n).await;
            }
        }));
    }
    for writer in writing {
        writer.await.unwrap();
    }
    are_done.store(true, Ordering::SeqCst);
    let cuts = compacting.await.unwrap();
    let (cursor, _) = reading.await.unwrap();
    let latest = node.status(stream).await.unwrap().latest;
    assert_eq!((latest.seq, cursor.position()), (WRITERS * BATCHES, Some(latest)));
    assert!(cuts > 0, "nothing was compacted");
}

/// A log that is cut between two statements of a page does not look like a diverged one.
#[tokio::test]
async fn a_page_is_read_from_one_snapshot() {
    let fresh = Fresh::open().await;
    let store = fresh.store();
    let stream = ready_stream(store, 1).await;
    let mut ends = vec![start(stream)];
    for n in 1..=3 {
        ends.push(append(store, &batch(stream, ends[ends.len() - 1], 1, n, 1, 100)).await);
    }
    put_snapshot(store, stream, 1, ends[2]).await;
    let (compactor, watcher) = (fresh.database.client().await, fresh.database.client().await);
    compactor.batch_execute("BEGIN; LOCK TABLE batches").await.unwrap();
    let request = page_request(stream, 1, Cursor::at(ends[1]), NO_BYTE_LIMIT);
    let cutting = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'synckit' AND wait_event_type = 'Lock'";
        // The page has read the row of its stream then, and waits for the batches.
        while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        let cut = "UPDATE streams SET base_seq = 2, base_head = (SELECT head FROM batches WHERE last_seq = 2),
                swept_seq = 2;
            DELETE FROM batches WHERE last_seq <= 2; COMMIT";
        compactor.batch_execute(cut).await.unwrap();
    };
    let (read, ()) = ending(async { tokio::join!(store.page(request), cutting) }).await;
    match read.unwrap() {
        PageRead::Page {
            batches,
            cursor,
            has_more,
        } => {
            assert_eq!(batches.iter().map(|batch| batch.first_seq).collect::<Vec<_>>(), [2, 3]);
            assert_eq!((cursor, has_more), (Cursor::at(ends[3]), false));
        }
        other => panic!("{other:?}"),
    }
    let after = store.page(request).await.unwrap();
    assert!(matches!(after, PageRead::Compacted(_)), "{after:?}");
}

/// The counter is a sequence: it counts on when a transaction is undone.
#[tokio::test]
async fn conflicts_are_retried_then_given_up() {
    let fresh = Fresh::open().await;
    let store = fresh.store();
    let client = fresh.database.client().await;
    let refuse = "CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') <= TG_ARGV[0]::bigint THEN
                RAISE EXCEPTION USING ERRCODE = 'serialization_failure';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION refuse(3)";
    client.batch_execute(refuse).await.unwrap();
    let tries = async || {
        let row = client.query_one("SELECT last_value FROM tries", &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    create_account(store, 1).await;
    assert_eq!(tries().await, 4);

    let always = "DROP TRIGGER refuse ON accounts;
        CREATE TRIGGER refuse BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION refuse(1000)";
    client.batch_execute(always).await.unwrap();
    let refused = ending(store.create_account(new_account(2))).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    assert_eq!(tries().await, 4 + 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_batch_on_two_nodes_is_stored_once() {
    let (_database, nodes) = two_nodes().await;
    let stream = ready_stream(nodes[0].as_ref(), 1).await;
    let mut parent = start(stream);
    for n in 1..=50 {
        let batch = batch(stream, parent, 1, n, 2, 100);
        let [one, two] = nodes.each_ref().map(|node| {
            let (node, batch) = (Arc::clone(node), batch.clone());
            tokio::spawn(async move { node.append_batch(batch).await.unwrap() })
        });
        let answers = [one.await.unwrap(), two.await.unwrap()].map(|answer| match answer {
            Append::Stored {
                first_seq,
                position,
                repeated,
            } => (first_seq, position, repeated),
            other => panic!("{other:?}"),
        });
        let end = parent.advance(&batch.digest).unwrap();
        assert!(
            answers
                .iter()
                .all(|answer| (answer.0, answer.1) == (parent.seq + 1, end))
        );
        assert_eq!(answers.iter().filter(|answer| answer.2).count(), 1, "{answers:?}");
        parent = end;
    }
    assert_eq!(read_all(nodes[1].as_ref(), stream, 1).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_address_makes_one_account() {
    let (_database, nodes) = two_nodes().await;
    let creating = (1..=32).map(|n| {
        let node = Arc::clone(&nodes[n % 2]);
        let account = NewAccount {
            email: "the.same@example.org".to_owned(),
            ..new_account(n as u64)
        };
        tokio::spawn(async move { node.create_account(account).await.unwrap() })
    });
    let mut created = 0;
    for answer in creating.collect::<Vec<_>>() {
        match answer.await.unwrap() {
            AccountCreation::Created => created += 1,
            AccountCreation::EmailTaken => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(created, 1);
    assert_eq!(nodes[0].accounts().await.unwrap().len(), 1);
}

/// Sign-ins of different users do not fail because of each other, on small tables either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_sign_in_at_once() {
    const USERS: u64 = 64;
    let (_database, nodes) = two_nodes().await;
    create_app(nodes[0].as_ref(), 1).await;
    for n in 1..=USERS {
        create_account(nodes[0].as_ref(), n).await;
    }
    let signing_in = (1..=USERS).map(|n| {
        let node = Arc::clone(&nodes[(n % 2) as usize]);
        let session = NewSession {
            id: session_id(n),
            stream: stream_of(1, n),
            login: None,
            credential: None,
            now: NOW,
        };
        tokio::spawn(async move { node.open_session(session).await.unwrap() })
    });
    for signed_in in signing_in.collect::<Vec<_>>() {
        signed_in.await.unwrap();
    }
    for n in 1..=USERS {
        assert_eq!(nodes[0].sessions(user_id(n), NOW).await.unwrap().len(), 1);
    }
}

/// How long a test waits for what must come, before it fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Polls a future so many times, and drops it.
async fn dropped_after<T>(polls: u32, future: impl Future<Output = T>) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let poll = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if poll.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_requests_leave_the_pool_whole() {
    const CONNECTIONS: usize = 8;
    let fresh = Database::create().await;
    let options = PostgresOptions {
        connections: CONNECTIONS,
        // A busy machine answers late, which is no fault of the pool.
        acquire_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        ..PostgresOptions::default()
    };
    let store = Arc::new(fresh.store_with(options).await);
    let stream = ready_stream(store.as_ref(), 1).await;
    let seed = 7;
    let dropping = (0..100_u64).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed + task);
            for n in 0..100 {
                let polls = random.gen_range(1..24);
                match n % 4 {
                    0 => dropped_after(polls, store.append_batch(batch(stream, start(stream), 1, 1, 1, 10_000))).await,
                    1 => dropped_after(polls, store.page(page_request(stream, 1, Cursor::START, NO_BYTE_LIMIT))).await,
                    2 => dropped_after(polls, store.create_account(new_account(2 + task))).await,
                    _ => dropped_after(polls, store.export(user_id(1), None, 100)).await,
                }
            }
        })
    });
    for dropped in dropping.collect::<Vec<_>>() {
        dropped.await.unwrap();
    }
    // Every connection is free again, and none is in a transaction.
    let working = (0..2 * CONNECTIONS).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.check().await.unwrap() })
    });
    for worked in working.collect::<Vec<_>>() {
        worked.await.unwrap();
    }
    append(
        store.as_ref(),
        &batch(stream, store.status(stream).await.unwrap().latest, 1, 2, 1, 100),
    )
    .await;
    let open = "SELECT count(*) FILTER (WHERE state LIKE 'idle in%'), count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'synckit'";
    let client = fresh.client().await;
    // The server may not have run the last roll-back yet, nor noticed that a connection in the making was given up.
    let mut seen = (0, 0);
    let become_idle = async {
        loop {
            let row = client.query_one(open, &[]).await.unwrap();
            seen = (row.get::<_, i64>(0), row.get::<_, i64>(1));
            if seen.0 == 0 && seen.1 <= CONNECTIONS as i64 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let idle = tokio::time::timeout(PATIENCE, become_idle).await;
    let (in_transaction, connections) = seen;
    assert!(
        idle.is_ok(),
        "{connections} connections, {in_transaction} in a transaction"
    );
}

/// In a full account, what a snapshot replaced does not count until it is deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_makes_room_in_a_full_account() {
    let fresh = Fresh::with(PostgresOptions {
        quotas: Quotas {
            bytes: 250,
            ..Quotas::default()
        },
        ..PostgresOptions::default()
    })
    .await;
    snapshot_makes_room(fresh.store()).await;
    let file = SqliteHarness::with(SqliteOptions {
        quotas: Quotas {
            bytes: 250,
            ..Quotas::default()
        },
        ..SqliteOptions::default()
    });
    snapshot_makes_room(file.store()).await;
}

async fn snapshot_makes_room(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let mut at = start(stream);
    for n in 1..=2 {
        at = append_at_head(store, stream, 1, n).await;
    }
    let third = |parent| store.append_batch(batch(stream, parent, 1, 3, 1, 100));
    assert!(matches!(third(at).await.unwrap(), Append::OverQuota(_)));
    // Of 217 bytes, 17 are the snapshot's.
    put_snapshot(store, stream, 1, at).await;
    let at = append_at_head(store, stream, 1, 3).await;
    let at = match store.append_batch(batch(stream, at, 1, 4, 1, 100)).await.unwrap() {
        Append::Stored { position, .. } => position,
        other => panic!("{other:?}"),
    };
    let fifth = store.append_batch(batch(stream, at, 1, 5, 1, 34)).await.unwrap();
    assert!(
        matches!(fifth, Append::OverQuota(_)),
        "217 bytes count, and 34 are one too many"
    );
    let fifth = store.append_batch(batch(stream, at, 1, 5, 1, 33)).await.unwrap();
    assert!(matches!(fifth, Append::Stored { .. }), "{fifth:?}");
}

/// A store that waits for nothing long.
async fn impatient() -> Fresh {
    let short = Duration::from_millis(200);
    Fresh::with(PostgresOptions {
        connections: 1,
        acquire_timeout: short,
        statement_timeout: 4 * short,
        ..PostgresOptions::default()
    })
    .await
}

fn step_of<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Unavailable {
    match result {
        Err(StoreError::Unavailable { step, .. }) => step,
        other => panic!("not unavailable but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_database_names_the_step() {
    let fresh = impatient().await;
    let store = fresh.store();
    let stream = ready_stream(store, 1).await;
    let client = fresh.database.client().await;
    client
        .batch_execute("BEGIN; UPDATE streams SET seq = seq")
        .await
        .unwrap();
    let both = async {
        tokio::join!(
            store.append_batch(batch(stream, start(stream), 1, 1, 1, 100)),
            store.status(stream)
        )
    };
    let (appended, read) = ending(both).await;
    assert_eq!(step_of(appended), Unavailable::Statement);
    assert_eq!(step_of(read), Unavailable::Acquire);
    client.batch_execute("ROLLBACK").await.unwrap();
    append(store, &batch(stream, start(stream), 1, 1, 1, 100)).await;

    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("postgres://postgres@{nobody}/none").parse().unwrap();
    let refused = PostgresStore::open(&url, PostgresOptions::default()).await;
    assert_eq!(step_of(refused), Unavailable::Connect);
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let fresh = Fresh::open().await;
    let store = fresh.store();
    let stream = ready_stream(store, 1).await;
    let client = fresh.database.client().await;
    let mut parent = start(stream);
    for n in 1..=3 {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'synckit'";
        let ended: i64 = client.query_one(end, &[]).await.unwrap().get(0);
        assert!(ended > 0);
        // A read, a write that finds itself by its id, and a transaction.
        assert_eq!(store.status(stream).await.unwrap().latest, parent);
        client.query_one(end, &[]).await.unwrap();
        parent = append(store, &batch(stream, parent, 1, n, 1, 100)).await;
        client.query_one(end, &[]).await.unwrap();
        create_account(store, 1 + n).await;
    }
}

#[tokio::test]
async fn closing_waits_for_requests() {
    let database = Database::create().await;
    let store = Arc::new(database.store().await);
    let stream = ready_stream(store.as_ref(), 1).await;
    let client = database.client().await;
    client
        .batch_execute("BEGIN; UPDATE streams SET seq = seq")
        .await
        .unwrap();
    let mut appending = Box::pin(store.append_batch(batch(stream, start(stream), 1, 1, 1, 100)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(appending.as_mut().poll(&mut context).is_pending());
    let mut closing = Box::pin(store.close());
    assert!(closing.as_mut().poll(&mut context).is_pending());
    assert!(matches!(store.status(stream).await, Err(StoreError::Busy)));
    client.batch_execute("ROLLBACK").await.unwrap();
    let (appended, closed) = tokio::join!(appending, closing);
    assert!(matches!(appended.unwrap(), Append::Stored { .. }));
    closed.unwrap();
}

#[tokio::test]
async fn a_deleted_account_takes_no_append() {
    let (_database, [node, other]) = two_nodes().await;
    let stream = ready_stream(node.as_ref(), 1).await;
    append(node.as_ref(), &batch(stream, start(stream), 1, 1, 1, 100)).await;
    other.delete_account(user_id(1)).await.unwrap().unwrap();
    let late = node
        .append_batch(batch(stream, start(stream), 1, 2, 1, 100))
        .await
        .unwrap();
    assert_eq!(late, Append::DeviceNotFound);
    let chain = node.chain(stream, Cursor::START, 10).await.unwrap();
    assert!(matches!(chain, ChainRead::Page(page) if page.digests.is_empty()));
}

/// As if the session's server became a standby while the address names the new primary.
#[tokio::test]
async fn session_without_writes_is_replaced() {
    let fresh = Fresh::open().await;
    let client = fresh.database.client().await;
    client
        .batch_execute(
            "CREATE FUNCTION end_writes() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM set_config('default_transaction_read_only', 'on', false); RETURN NULL; END $$;
             CREATE TRIGGER end_writes AFTER UPDATE ON server EXECUTE FUNCTION end_writes()",
        )
        .await
        .unwrap();
    fresh.store().check().await.unwrap();
    client.batch_execute("DROP TRIGGER end_writes ON server").await.unwrap();
    ending(fresh.store().check()).await.unwrap();
}

#[tokio::test]
async fn refused_commit_is_not_rolled_back_again() {
    let database = Database::create().await;
    let client = database.client().await;
    let mut roll_backs = Vec::new();
    for is_refused in [false, true, false] {
        let options = PostgresOptions {
            connections: 1,
            ..PostgresOptions::default()
        };
        let store = database.store_with(options).await;
        if is_refused {
            client
                .batch_execute(
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                         $$ BEGIN RAISE 'refused by the test'; END $$;
                     CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON server DEFERRABLE INITIALLY DEFERRED
                         FOR EACH ROW EXECUTE FUNCTION refuse()",
                )
                .await
                .unwrap();
            let refused = store.check().await;
            assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
            client.batch_execute("DROP TRIGGER refuse ON server").await.unwrap();
            // The same session, which has done by its answer what it was sent behind the COMMIT. Closing drops what is unsent.
            store.check().await.unwrap();
        }
        store.close().await.unwrap();
        roll_backs.push(rolled_back(&client).await);
    }
    let [_, refused, opened] = roll_backs[..] else {
        panic!("{roll_backs:?}")
    };
    let by_opening = opened - refused;
    assert_eq!(refused - roll_backs[0], by_opening + 1, "{roll_backs:?}");
}

/// Transactions that were rolled back in this database, once its stores are closed.
async fn rolled_back(client: &tokio_postgres::Client) -> i64 {
    // A session counts its transactions before it ends.
    let sessions = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'synckit'";
    while client.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::yield_now().await;
    }
    let counted = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    client.query_one(counted, &[]).await.unwrap().get(0)
}

/// One token of each of these allowances, which hold so many.
fn charge<const N: usize>(of: [u64; N], tokens: u32) -> Charge {
    let draw = |key| Draw {
        of: CountedKey(id16(key)),
        allowance: Allowance {
            tokens,
            window_seconds: 900,
        },
    };
    Charge {
        once: None,
        draws: of.map(draw).into(),
        from_strangers: None,
        may_grow: true,
    }
}

async fn counted_at_once(store: &Arc<PostgresStore>, charges: impl Iterator<Item = Charge>) -> Vec<Counted> {
    let counting = charges.map(|charge| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.count(charge, NOW).await })
    });
    let mut answers = Vec::new();
    for counted in counting.collect::<Vec<_>>() {
        answers.push(ending(counted).await.unwrap().unwrap());
    }
    answers
}

/// Else a flood of guesses makes other sign-ins fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_count_is_undone_by_another() {
    let database = Database::create().await;
    let client = database.client().await;
    let mut roll_backs = Vec::new();
    for counts in [false, false, true] {
        let store = Arc::new(database.store().await);
        if counts {
            let of_accounts = (0..40).map(|n| charge([1000 + n, 2000 + n], 10));
            // These draw on the same two, which they name in either order.
            let of_one_address = (0..16).map(|n| charge(if n % 2 == 0 { [1, 2] } else { [2, 1] }, 100));
            let answers = counted_at_once(&store, of_accounts.chain(of_one_address)).await;
            assert_eq!(answers, [Counted::First; 56]);
        }
        store.close().await.unwrap();
        roll_backs.push(rolled_back(&client).await);
    }
    let [_, before, after] = roll_backs[..] else {
        panic!("{roll_backs:?}")
    };
    assert_eq!(
        after - before,
        before - roll_backs[0],
        "by opening alone: {roll_backs:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_count_at_once_share_the_tokens() {
    let (_database, nodes) = two_nodes().await;
    let counting = nodes
        .each_ref()
        .map(|node| counted_at_once(node, (0..15).map(|_| charge([1], 10))));
    let [one, other] = counting;
    let (one, other) = tokio::join!(one, other);
    let first = one.iter().chain(&other).filter(|answer| **answer == Counted::First);
    assert_eq!(first.count(), 10);
}
