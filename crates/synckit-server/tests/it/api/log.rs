//! `/api/sync/push`, `pull`, `chain`, `status`.

use reqwest::Method;
use synckit_protocol::{
    BatchDigest, BatchId, Cursor, DeviceId, KeyId, Position, SealedHash,
    wire::log::{Chain, Page, Pull, Pushed, Status},
};

use crate::support::{Answer, KEY_ID, World, elsewhere};

fn digest_of(push: &synckit_protocol::wire::log::Push) -> BatchDigest {
    BatchDigest {
        batch_id: push.batch_id,
        device_id: push.device_id,
        key_id: push.key_id,
        count: push.count,
        sealed_hash: SealedHash::of(&push.sealed.0),
    }
}

#[tokio::test]
async fn pulled_chain_is_the_one_the_client_computes() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let start = user.head;

    let (first, pushed) = user.push(&world, 3, 100).await;
    assert_eq!((pushed.first_seq, pushed.last_seq), (1, 3));
    let expected = start.advance(&digest_of(&first)).unwrap();
    assert_eq!(expected, user.head);
    let (second, pushed) = user.push(&world, 500, 300_000).await;
    assert_eq!((pushed.first_seq, pushed.last_seq), (4, 503));
    assert_eq!(expected.advance(&digest_of(&second)).unwrap(), user.head);

    let page = user.page(&world, Cursor::START).await;
    assert_eq!(page.batches.len(), 1, "a page ends at 500 entries");
    assert_eq!(page.batches[0].sealed, first.sealed);
    assert_eq!(page.cursor, Cursor::at(expected));
    assert!(page.has_more);
    let page = user.page(&world, page.cursor).await;
    assert_eq!(page.batches[0].sealed, second.sealed);
    assert_eq!((page.batches[0].first_seq, page.batches[0].count), (4, 500));
    assert_eq!((page.cursor, page.has_more), (Cursor::at(user.head), false));
    let page = user.page(&world, page.cursor).await;
    assert_eq!(
        (page.batches.len(), page.cursor, page.has_more),
        (0, Cursor::at(user.head), false)
    );
}

#[tokio::test]
async fn push_and_pull_speak_json_too() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let push = user.batch(2, 50);
    let answer = world
        .post("/api/sync/push")
        .bearer(&user.user.token)
        .json(&push)
        .send()
        .await;
    let pushed: Pushed = answer.ok();
    assert_eq!(answer.header("content-type"), "application/json");
    insta::assert_json_snapshot!(answer.json(), { ".head" => "[head]" }, @r#"
    {
      "first_seq": 1,
      "head": "[head]",
      "last_seq": 2
    }
    "#);

    let pull = Pull {
        device_id: user.device_id,
        cursor: Cursor::START,
        max_bytes: None,
        ahead: false,
        avoid_snapshot: false,
    };
    let answer = world
        .post("/api/sync/pull")
        .bearer(&user.user.token)
        .json(&pull)
        .send()
        .await;
    insta::assert_json_snapshot!(
        answer.json(),
        { ".cursor" => "[cursor]", ".batches[].device_id" => "[device]", ".batches[].sealed" => "[sealed]" },
        @r#"
    {
      "batches": [
        {
          "batch_id": "01010101-0101-0101-0101-010101010101",
          "count": 2,
          "device_id": "[device]",
          "first_seq": 1,
          "key_id": "07070707070707070707070707070707",
          "sealed": "[sealed]"
        }
      ],
      "cursor": "[cursor]",
      "has_more": false
    }
    "#
    );
    let page: Page = answer.ok();
    assert_eq!(page.batches[0].sealed, push.sealed);
    assert_eq!(
        page.cursor,
        Cursor::at(Position {
            seq: 2,
            head: pushed.head
        })
    );

    let mixed = world
        .post("/api/sync/pull")
        .bearer(&user.user.token)
        .json(&pull)
        .accept("application/cbor");
    let mixed = mixed.send().await;
    assert_eq!(mixed.header("content-type"), "application/cbor");
    assert_eq!(mixed.ok::<Page>(), page);
}

#[tokio::test]
async fn replayed_push_is_idempotent() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let (first, pushed) = user.push(&world, 3, 100).await;
    user.push(&world, 4, 100).await;

    assert_eq!(user.send(&world, &first).await.ok::<Pushed>(), pushed);
    // For one device only the id decides: a retry gets the first answer, whatever its other fields.
    let mut retry = first.clone();
    retry.key_id = KeyId::from_bytes([9; 16]);
    retry.parent = elsewhere(77);
    assert_eq!(user.send(&world, &retry).await.ok::<Pushed>(), pushed);
    retry.device_id = DeviceId::from_bytes([9; 16]);
    assert_eq!(user.send(&world, &retry).await.code(), "device_mismatch");

    let world = world.restart().await;
    assert_eq!(user.send(&world, &first).await.ok::<Pushed>(), pushed);
    let status: Status = world.get("/api/sync/status").bearer(&user.user.token).send().await.ok();
    assert_eq!(status.change_count, 7);
}

#[tokio::test]
async fn push_on_an_old_head_gets_digests_in_between() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let (first, _) = user.push(&world, 3, 100).await;
    let parent = user.head;
    let (second, _) = user.push(&world, 4, 100).await;
    let (third, _) = user.push(&world, 5, 100).await;

    let mut late = user.batch(1, 100);
    late.parent = parent;
    let answer = user.send(&world, &late).await;
    assert_eq!(answer.code(), "behind");
    let behind = answer.problem().behind.unwrap();
    assert_eq!(behind.digests, [digest_of(&second), digest_of(&third)]);
    assert_eq!((behind.latest, behind.has_more), (user.head, false));

    let chain = format!("/api/sync/chain?from={}", Cursor::at(parent));
    let chain: Chain = world.get(&chain).bearer(&user.user.token).send().await.ok();
    assert_eq!(
        (&chain.digests, chain.latest, chain.has_more),
        (&behind.digests, user.head, false)
    );
    let whole: Chain = world
        .get("/api/sync/chain?from=0")
        .bearer(&user.user.token)
        .send()
        .await
        .ok();
    assert_eq!(whole.digests[0], digest_of(&first));

    late.parent = user.head;
    assert_eq!(user.send(&world, &late).await.ok::<Pushed>().first_seq, 13);
}

#[tokio::test]
async fn a_foreign_history_diverges_everywhere() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 3, 100).await;
    let inside = Position { seq: 2, ..user.head };
    for foreign in [elsewhere(3), elsewhere(99), inside] {
        let mut push = user.batch(1, 100);
        push.parent = foreign;
        let answers = [
            user.send(&world, &push).await,
            user.pull(&world, Cursor::at(foreign), None).await,
            world
                .get(&format!("/api/sync/chain?from={}", Cursor::at(foreign)))
                .bearer(&user.user.token)
                .send()
                .await,
        ];
        for answer in answers {
            assert_eq!(answer.code(), "history_diverged");
            assert_eq!(answer.problem().latest, Some(user.head));
        }
    }
}

#[tokio::test]
async fn pages_respect_the_bytes_that_the_client_asks_for() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    for _ in 0..4 {
        user.push(&world, 1, 1000).await;
    }
    let sizes = async |max_bytes| {
        let page: Page = user.pull(&world, Cursor::START, max_bytes).await.ok();
        (page.batches.len(), page.has_more)
    };
    assert_eq!(sizes(Some(0)).await, (1, true), "a page holds at least one batch");
    assert_eq!(sizes(Some(999)).await, (1, true));
    assert_eq!(sizes(Some(2000)).await, (2, true));
    assert_eq!(sizes(Some(u32::MAX)).await, (4, false));
    assert_eq!(sizes(None).await, (4, false));
}

#[tokio::test]
async fn largest_batch_passes_in_both_formats() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let size = synckit_protocol::limits::BATCH_SEALED_BYTES_MAX;
    user.push(&world, 500, size).await;
    let push = user.batch(500, size);
    let pushed: Pushed = world
        .post("/api/sync/push")
        .bearer(&user.user.token)
        .json(&push)
        .send()
        .await
        .ok();
    user.head = Position {
        seq: pushed.last_seq,
        head: pushed.head,
    };
    let page = user.page(&world, Cursor::START).await;
    assert_eq!(page.batches[0].sealed.0.len(), size);

    let push = user.batch(500, size + 1);
    assert_eq!(user.send(&world, &push).await.code(), "batch_too_large");
    let push = user.batch(501, 100);
    assert_eq!(user.send(&world, &push).await.code(), "batch_too_large");
    let push = user.batch(1, size * 2);
    assert_eq!(user.send(&world, &push).await.code(), "body_too_large");
    let push = user.batch(0, 100);
    let answer = user.send(&world, &push).await;
    assert_eq!(
        (answer.code().as_str(), answer.problem().field.as_deref()),
        ("invalid_value", Some("count"))
    );
    let push = user.batch(1, 40);
    let answer = user.send(&world, &push).await;
    assert_eq!(
        (answer.code().as_str(), answer.problem().field.as_deref()),
        ("invalid_value", Some("sealed"))
    );
}

#[tokio::test]
async fn push_needs_device_envelope_and_current_key() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let push = |device_id, key_id| synckit_protocol::wire::log::Push {
        device_id,
        batch_id: BatchId::from_bytes([1; 16]),
        key_id,
        count: 1,
        parent: Position::start_of(user.app_id, user.user_id),
        sealed: vec![1; 100].into(),
    };
    let send = async |push| -> Answer {
        world
            .post("/api/sync/push")
            .bearer(&user.token)
            .cbor(&push)
            .send()
            .await
    };
    assert_eq!(
        send(push(DeviceId::from_bytes([9; 16]), KEY_ID)).await.code(),
        "device_mismatch"
    );
    let device = user.register_device(&world, "laptop").await;
    assert_eq!(send(push(device.id, KEY_ID)).await.code(), "no_envelope");
    user.put_envelope(&world).await;
    let other_key = KeyId::from_bytes([8; 16]);
    assert_eq!(send(push(device.id, other_key)).await.code(), "key_mismatch");
    assert_eq!(send(push(device.id, KEY_ID)).await.code(), "200");
}

#[tokio::test]
async fn status_tells_numbers_and_limits() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 3, 1000).await;
    let answer = world
        .call(Method::GET, "/api/sync/status")
        .bearer(&user.user.token)
        .send()
        .await;
    insta::assert_json_snapshot!(answer.json(), { ".latest.head" => "[head]" }, @r#"
    {
      "change_count": 3,
      "devices": 1,
      "latest": {
        "head": "[head]",
        "seq": 3
      },
      "limits": {
        "batch_entries_max": 500,
        "batch_sealed_bytes_max": 4194344,
        "blob_sealed_bytes_max": 500000040,
        "devices_max": 100
      },
      "stored_bytes": 1000
    }
    "#);
    let cbor = world
        .get("/api/sync/status")
        .bearer(&user.user.token)
        .accept("application/cbor")
        .send()
        .await;
    assert_eq!(cbor.ok::<Status>(), answer.ok::<Status>());
}

#[tokio::test]
async fn a_chain_query_that_is_no_cursor_is_refused() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    for query in ["", "?from=", "?from=1", "?from=01.AAAA", "?form=0"] {
        let answer = world
            .get(&format!("/api/sync/chain{query}"))
            .bearer(&user.token)
            .send()
            .await;
        assert_eq!(answer.code(), "invalid_value", "{query}");
    }
}

#[tokio::test]
async fn embedded_full_server_refuses_pushes() {
    let world = World::start_with(|config| config.database_bytes_max = Some(1 << 20)).await;
    let mut user = world.ready_user("ada@example.com").await;
    let mut stored = 0;
    let refused = loop {
        let push = user.batch(1, 100_000);
        let answer = user.send(&world, &push).await;
        if !answer.status.is_success() {
            break answer;
        }
        let pushed: Pushed = answer.ok();
        user.head = Position {
            seq: pushed.last_seq,
            head: pushed.head,
        };
        stored += 1;
    };
    assert_eq!(refused.code(), "server_full");
    assert!((1..11).contains(&stored), "{stored}");
    let page = user.page(&world, Cursor::START).await;
    assert_eq!((page.batches.len(), page.cursor), (stored, Cursor::at(user.head)));
}
