//! `/api/sync/snapshots`, and what a snapshot does to the log.

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use synckit_protocol::{
    Cursor, KeyId, Position, SnapshotId, SnapshotPlace, limits,
    wire::{
        log::{Page, Status},
        snapshots::{PutSnapshot, PutSnapshotPart, SnapshotAnswer, SnapshotPartAnswer},
    },
};

use crate::support::{Answer, KEY_ID, OWNER_SEED, Syncing, UNSIGNED, World, elsewhere};

const DAY: u64 = 24 * 3600;

fn path(n: u8) -> String {
    format!("/api/sync/snapshots/{}", SnapshotId::from_bytes([n; 16]))
}

async fn put(world: &World, user: &Syncing, path: &str, body: &impl Serialize) -> Answer {
    let call = world.call(Method::PUT, path).bearer(&user.user.token);
    call.cbor(body).send().await
}

async fn get(world: &World, user: &Syncing, path: &str) -> Answer {
    world.get(path).bearer(&user.user.token).send().await
}

fn part(size: usize) -> PutSnapshotPart {
    PutSnapshotPart {
        sealed: vec![5; size].into(),
    }
}

fn manifest(position: Position, parts: u32) -> PutSnapshot {
    PutSnapshot {
        key_id: KEY_ID,
        position,
        parts,
        manifest: vec![6; 100].into(),
        signature: UNSIGNED,
    }
}

/// Completes snapshot `n`, with a proof of the owner key.
async fn commit(world: &World, user: &Syncing, n: u8, body: PutSnapshot) -> Answer {
    let body = user
        .user
        .signed_snapshot(body, SnapshotId::from_bytes([n; 16]), OWNER_SEED);
    put(world, user, &path(n), &body).await
}

/// A world in which what may go goes at once, and a user with six entries in two batches.
async fn world_and_user() -> (World, Syncing) {
    let world = World::start_with(|config| config.sweep_interval = Duration::from_millis(5)).await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 2, 1000).await;
    user.push(&world, 4, 1000).await;
    (world, user)
}

/// Stores snapshot `n` of everything that was pushed.
async fn fold(world: &World, user: &Syncing, n: u8) {
    put(world, user, &format!("{}/parts/0", path(n)), &part(500))
        .await
        .empty();
    commit(world, user, n, manifest(user.head, 1)).await.empty();
}

#[tokio::test]
async fn a_snapshot_comes_back_as_it_was_stored() {
    let (world, user) = world_and_user().await;
    let parts = format!("{}/parts", path(1));
    let largest = limits::SNAPSHOT_PART_SEALED_BYTES_MAX;
    put(&world, &user, &format!("{parts}/1"), &part(41)).await.empty();
    put(&world, &user, &format!("{parts}/0"), &part(largest)).await.empty();
    assert_eq!(get(&world, &user, &path(1)).await.code(), "snapshot_not_found");
    for _ in 0..2 {
        commit(&world, &user, 1, manifest(user.head, 2)).await.empty();
    }
    let answer = get(&world, &user, &path(1)).await;
    let SnapshotAnswer { snapshot, manifest } = answer.ok();
    assert_eq!((snapshot.position, snapshot.parts), (user.head, 2));
    assert_eq!((snapshot.size, manifest.0), (largest as u64 + 141, vec![6; 100]));
    insta::assert_json_snapshot!(
        answer.json(),
        { ".snapshot.position.head" => "[head]", ".manifest" => "[manifest]" },
        @r#"
    {
      "manifest": "[manifest]",
      "snapshot": {
        "created_at": 1767225600,
        "key_id": "07070707070707070707070707070707",
        "parts": 2,
        "position": {
          "head": "[head]",
          "seq": 6
        },
        "size": 4194485,
        "snapshot_id": "01010101-0101-0101-0101-010101010101"
      }
    }
    "#
    );
    let found: SnapshotPartAnswer = get(&world, &user, &format!("{parts}/0")).await.ok();
    assert_eq!(found.sealed, part(largest).sealed);
    for gone in ["2", "00", "+1", "x", "4294967296"] {
        assert_eq!(
            get(&world, &user, &format!("{parts}/{gone}")).await.code(),
            "snapshot_not_found"
        );
    }
    let status: Status = get(&world, &user, "/api/sync/status").await.ok();
    assert_eq!(status.snapshot, Some(snapshot));
    let page: Page = user.page(&world, Cursor::START).await;
    assert_eq!(page.snapshot, Some(snapshot));
    assert_eq!(
        (page.batches.len(), page.cursor, page.has_more),
        (0, Cursor::at(user.head), true)
    );
}

#[tokio::test]
async fn every_refusal_has_its_code() {
    let (world, user) = world_and_user().await;
    let first = format!("{}/parts/0", path(1));
    let too_large = limits::SNAPSHOT_PART_SEALED_BYTES_MAX + 1;
    for (body, field) in [(part(40), "sealed"), (part(too_large), "sealed")] {
        let problem = put(&world, &user, &first, &body).await.problem();
        assert_eq!(
            (problem.code.as_str(), problem.field.as_deref()),
            ("invalid_value", Some(field))
        );
    }
    let beyond = format!("{}/parts/{}", path(1), limits::SNAPSHOT_PARTS_MAX);
    assert_eq!(
        put(&world, &user, &beyond, &part(41)).await.problem().field.as_deref(),
        Some("part")
    );
    assert_eq!(
        put(&world, &user, &first, &part(6_000_000)).await.code(),
        "body_too_large"
    );
    assert_eq!(
        put(&world, &user, "/api/sync/snapshots/1/parts/0", &part(41))
            .await
            .code(),
        "snapshot_not_found"
    );
    put(&world, &user, &first, &part(41)).await.empty();
    let commit_first = async |body| commit(&world, &user, 1, body).await;
    let too_many = manifest(user.head, limits::SNAPSHOT_PARTS_MAX + 1);
    assert_eq!(commit_first(too_many).await.problem().field.as_deref(), Some("parts"));
    let other_key = PutSnapshot {
        key_id: KeyId::from_bytes([9; 16]),
        ..manifest(user.head, 1)
    };
    assert_eq!(commit_first(other_key).await.code(), "key_mismatch");
    let diverged = commit_first(manifest(elsewhere(6), 1)).await.problem();
    assert_eq!(
        (diverged.code.as_str(), diverged.latest),
        ("history_diverged", Some(user.head))
    );
    assert_eq!(commit_first(manifest(user.head, 2)).await.code(), "snapshot_incomplete");
    commit_first(manifest(user.head, 1)).await.empty();
    put(&world, &user, &format!("{}/parts/0", path(2)), &part(41))
        .await
        .empty();
    assert_eq!(
        commit(&world, &user, 2, manifest(user.head, 1)).await.code(),
        "snapshot_stale"
    );
    // What is complete takes no other part.
    assert_eq!(put(&world, &user, &first, &part(42)).await.code(), "snapshot_stale");
    // A server is not asked from a place inside a snapshot.
    let inside = Cursor::in_snapshot(SnapshotPlace {
        snapshot_id: SnapshotId::from_bytes([1; 16]),
        position: user.head,
        part: 0,
        row: 0,
    });
    let problem = user.pull(&world, inside, None).await.problem();
    assert_eq!(problem.field.as_deref(), Some("cursor"));
    let problem = get(&world, &user, &format!("/api/sync/chain?from={inside}"))
        .await
        .problem();
    assert_eq!(problem.field.as_deref(), Some("from"));
}

#[tokio::test]
async fn a_snapshot_of_somebody_else_is_not_there() {
    let (world, user) = world_and_user().await;
    fold(&world, &user, 1).await;
    let stranger = world.ready_user("eve@example.com").await;
    for path in [path(1), format!("{}/parts/0", path(1))] {
        assert_eq!(get(&world, &stranger, &path).await.code(), "snapshot_not_found");
        assert_eq!(world.get(&path).send().await.code(), "token_invalid");
    }
    // The same id is another snapshot in another stream.
    put(&world, &stranger, &format!("{}/parts/0", path(1)), &part(99))
        .await
        .empty();
    let found: SnapshotPartAnswer = get(&world, &user, &format!("{}/parts/0", path(1))).await.ok();
    assert_eq!(found.sealed, part(500).sealed);
}

#[tokio::test]
async fn log_below_a_settled_snapshot_is_deleted() {
    let (world, mut user) = world_and_user().await;
    fold(&world, &user, 1).await;
    let base = user.head;
    user.page(&world, Cursor::at(base)).await;
    user.push(&world, 1, 1000).await;
    world.clock.advance(6 * DAY);
    let stored = async |user: &Syncing| get(&world, user, "/api/sync/status").await.ok::<Status>().stored_bytes;
    assert_eq!(stored(&user).await, 3600);
    world.clock.advance(8 * DAY);
    // By now the token has run out; the session has not.
    user.user = world
        .sign_in("ada@example.com", crate::support::PASSWORD)
        .await
        .unwrap();
    // The device of this name, with which the new session continues.
    let device = user.user.register_device(&world, "laptop").await;
    assert_eq!(device.id, user.device_id);
    while stored(&user).await > 1600 {
        tokio::task::yield_now().await;
    }
    let problem = user.pull(&world, Cursor::at(elsewhere(2)), None).await.problem();
    assert_eq!(problem.code, "cursor_compacted");
    assert_eq!(problem.snapshot.unwrap().position, base);
    assert_eq!(
        get(&world, &user, "/api/sync/chain?from=0").await.code(),
        "cursor_compacted"
    );
    let late = {
        let mut push = user.batch(1, 50);
        push.parent = Position::start_of(user.user.app_id, user.user.user_id);
        user.send(&world, &push).await
    };
    assert_eq!(late.code(), "cursor_compacted");
    let page: Page = user.page(&world, Cursor::at(base)).await;
    assert_eq!((page.batches.len(), page.has_more), (1, false));
}
