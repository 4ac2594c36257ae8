//! What the plan of an app allows all its users together.

use std::time::Duration;

use reqwest::Method;
use synckit_protocol::{
    AppId, BlobId, Cursor, SealedHash, SnapshotId, limits,
    wire::{
        blobs::{BlobConfirm, BlobDownload, BlobUpload, BlobUploadAnswer},
        log::Pushed,
        snapshots::PutSnapshotPart,
    },
};
use synckit_server::{
    Config,
    billing::{Gigabytes, Megabytes, Plan, UserLimit},
};
use synckit_store::{Month, TeamRole};

use super::{figure, patiently, wait_for};
use crate::support::{Answer, KEY_ID, PASSWORD, Syncing, World};

const ROUNDS: &str = "synckit_meter_rounds_total";
const GB: i64 = 1_000_000_000;

fn plan(gigabytes: u32, burst: &str) -> Plan {
    Plan::new(Gigabytes::new(gigabytes).unwrap(), burst.parse().unwrap())
}

async fn give(world: &World, plan: Option<Plan>) {
    let admin = world.admin().await;
    admin.write_plan(world.app.app_id, plan).await.unwrap();
}

/// Waits until the meter has begun a round after this moment, and ended it.
async fn metered(world: &World) {
    let before = figure(world, ROUNDS).await;
    wait_for(world, ROUNDS, |rounds| rounds >= before + 2).await;
}

/// Waits until answers say this of the plan of the app.
async fn told(world: &World, user: &Syncing, usage: &str) {
    let asking = async {
        loop {
            let status = world.get("/api/sync/status").bearer(&user.user.token).send().await;
            if status.header("synckit-usage") == usage {
                return;
            }
        }
    };
    patiently(asking, &format!("nothing said {usage:?}")).await;
}

/// A world whose meter hurries.
async fn world() -> World {
    World::start_with(hurrying).await
}

fn hurrying(config: &mut Config) {
    config.meter_interval = Duration::from_millis(10);
}

/// Makes the app store this many bytes more, as if they had been uploaded.
fn stores(world: &World, bytes: i64) {
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    let update = "UPDATE streams SET blob_bytes = blob_bytes + ?1
        WHERE stream_key = (SELECT min(stream_key) FROM streams WHERE batch_bytes > 0)";
    let changed = database.execute(update, [bytes]);
    assert_eq!(changed, Ok(1));
}

async fn begin(world: &World, user: &Syncing, n: u8, size: u64) -> Answer {
    let asked = BlobUpload {
        hash: BlobId::from_bytes([n; 32]),
        size,
        sealed_hash: Some(SealedHash::of(&vec![0; size as usize])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let call = world.post("/api/sync/blobs/upload").bearer(&user.user.token);
    call.json(&asked).send().await
}

async fn put(world: &World, size: u64, begun: &Answer) {
    let begun: BlobUploadAnswer = begun.ok();
    let put = world.call(Method::PUT, &begun.upload_url.unwrap());
    assert_eq!(put.raw(vec![0; size as usize]).send().await.code(), "200");
}

async fn confirm(world: &World, user: &Syncing, n: u8, size: u64) -> Answer {
    let confirm = BlobConfirm {
        hash: BlobId::from_bytes([n; 32]),
        size,
        upload_id: None,
        sealed_hash: None,
    };
    let call = world.post("/api/sync/blobs/confirm").bearer(&user.user.token);
    call.json(&confirm).send().await
}

async fn download(world: &World, user: &Syncing, n: u8) -> Answer {
    let asked = BlobDownload {
        hash: BlobId::from_bytes([n; 32]),
    };
    let call = world.post("/api/sync/blobs/download").bearer(&user.user.token);
    call.json(&asked).send().await
}

async fn snapshot_part(world: &World, user: &Syncing, size: usize) -> Answer {
    let id = SnapshotId::from_bytes([1; 16]);
    let part = PutSnapshotPart {
        sealed: vec![1; size].into(),
    };
    let call = world.call(Method::PUT, &format!("/api/sync/snapshots/{id}/parts/0"));
    call.bearer(&user.user.token).cbor(&part).send().await
}

#[tokio::test]
async fn embedded_full_app_takes_nothing_new_and_reads_on() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    let (first, pushed) = ada.push(&world, 1, 5_000).await;
    let size = 6_000;
    put(&world, size, &begin(&world, &ada, 1, size).await).await;
    confirm(&world, &ada, 1, size).await.empty();
    // Begun while there is room.
    put(&world, size, &begin(&world, &ada, 2, size).await).await;
    stores(&world, GB - 5_000 - 6_000 - 3_000);
    give(&world, Some(plan(1, "5"))).await;
    told(&world, &ada, "storage=99, transfer=0").await;

    // All users together: 3,000 bytes are left.
    bob.push(&world, 1, 2_000).await;
    let batch = bob.batch(1, 1_001);
    let refused = bob.send(&world, &batch).await;
    assert_eq!(refused.code(), "storage_limit_reached");
    assert_eq!(refused.header("synckit-usage"), "storage=99, transfer=0");
    assert_eq!(begin(&world, &bob, 3, 2_000).await.code(), "storage_limit_reached");
    assert_eq!(confirm(&world, &ada, 2, size).await.code(), "storage_limit_reached");
    // What was stored before gets its first answer.
    assert_eq!(ada.send(&world, &first).await.ok::<Pushed>(), pushed);
    confirm(&world, &ada, 1, size).await.empty();
    assert_eq!(begin(&world, &ada, 1, size).await.code(), "200");
    // Reading, export and sign-in go on, and so does folding, which makes room.
    assert_eq!(ada.page(&world, Cursor::START).await.batches.len(), 1);
    assert_eq!(download(&world, &ada, 1).await.code(), "200");
    assert_eq!(snapshot_part(&world, &ada, 10_000).await.code(), "204");
    let signed_in = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let export = world.get("/api/account/export").bearer(&signed_in.account_token);
    assert_eq!(export.send().await.code(), "200");

    // A deletion lifts it, and so does a larger plan.
    let path = format!("/api/sync/blobs/{}", BlobId::from_bytes([1; 32]));
    let deletion = world.call(Method::DELETE, &path).bearer(&ada.user.token);
    deletion.send().await.empty();
    // The part of the snapshot took 10,000 bytes.
    metered(&world).await;
    assert_eq!(bob.send(&world, &batch).await.code(), "storage_limit_reached");
    give(&world, Some(plan(2, "5"))).await;
    told(&world, &ada, "").await;
    assert_eq!(bob.send(&world, &batch).await.code(), "200");
    confirm(&world, &ada, 2, size).await.empty();
    // And so does none.
    stores(&world, 2 * GB);
    told(&world, &ada, "storage=150, transfer=0").await;
    give(&world, None).await;
    told(&world, &ada, "").await;
}

#[tokio::test]
async fn embedded_deletion_lifts_the_limit() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    ada.push(&world, 1, 5_000).await;
    put(&world, 6_000, &begin(&world, &ada, 1, 6_000).await).await;
    confirm(&world, &ada, 1, 6_000).await.empty();
    stores(&world, GB - 5_000 - 6_000 - 1_000);
    give(&world, Some(plan(1, "5"))).await;
    told(&world, &ada, "storage=99, transfer=0").await;
    let batch = ada.batch(1, 5_000);
    assert_eq!(ada.send(&world, &batch).await.code(), "storage_limit_reached");
    let path = format!("/api/sync/blobs/{}", BlobId::from_bytes([1; 32]));
    let deletion = world.call(Method::DELETE, &path).bearer(&ada.user.token);
    deletion.send().await.empty();
    let lifted = async { while ada.send(&world, &batch).await.code() != "200" {} };
    patiently(lifted, "the limit was not lifted").await;
    // And what was deleted does not come back into a full app.
    assert_eq!(begin(&world, &ada, 1, 6_000).await.code(), "storage_limit_reached");
}

#[tokio::test]
async fn embedded_writers_at_once_never_exceed_a_plan() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    ada.push(&world, 1, 1_000).await;
    let mut users = Vec::new();
    for n in 0..16 {
        users.push(world.ready_user(&format!("{n}@example.com")).await);
    }
    stores(&world, GB - 1_000 - 100_000);
    give(&world, Some(plan(1, "5"))).await;
    told(&world, &ada, "storage=99, transfer=0").await;
    let world = &world;
    let pushing = users.iter_mut().map(async |user| {
        let batch = user.batch(1, 10_000);
        match user.send(world, &batch).await.code().as_str() {
            "200" => 10_000,
            code => {
                assert_eq!(code, "storage_limit_reached");
                0
            }
        }
    });
    let stored: Vec<u64> = futures_util::future::join_all(pushing).await;
    assert_eq!(stored.iter().sum::<u64>(), 100_000);
}

#[tokio::test]
async fn app_over_its_transfer_moves_slowly() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    let file = 2 * limits::FLOOR_BYTES_A_MINUTE;
    put(&world, file, &begin(&world, &ada, 1, file).await).await;
    confirm(&world, &ada, 1, file).await.empty();
    // 10,000,000 bytes a month.
    give(&world, Some(plan(1, "0.01"))).await;
    metered(&world).await;
    for _ in 0..10 {
        ada.push(&world, 1, 1_000_000).await;
    }

    // Small calls go on, a large one passes, and what it takes has to grow back.
    for _ in 0..3 {
        let (_, _) = bob.push(&world, 1, 300).await;
    }
    let batch = bob.batch(1, 128 * 1024);
    let slow = bob.send(&world, &batch).await;
    assert_eq!(slow.code(), "200");
    assert_eq!(slow.header("synckit-usage"), "storage=1, transfer=102");
    let refused = bob.send(&world, &batch).await;
    assert_eq!(refused.code(), "transfer_limit");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((55..=65).contains(&wait), "{wait}");
    assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "200");
    let refused = ada.pull(&world, Cursor::START, None).await;
    assert_eq!(refused.code(), "transfer_limit");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    // Less the whole minute that was left.
    let seconds = (1_000_000 - limits::FLOOR_BYTES_A_MINUTE) * 60 / limits::FLOOR_BYTES_A_MINUTE;
    assert!((seconds - 10..=seconds + 2).contains(&wait), "{wait} of {seconds}");
    assert_eq!(download(&world, &ada, 1).await.code(), "200");
    assert_eq!(download(&world, &ada, 1).await.code(), "transfer_limit");
    assert_eq!(begin(&world, &ada, 2, file).await.code(), "200");
    assert_eq!(begin(&world, &ada, 3, file).await.code(), "transfer_limit");
    // What counts no bytes goes on.
    assert_eq!(
        world
            .get("/api/sync/status")
            .bearer(&ada.user.token)
            .send()
            .await
            .code(),
        "200"
    );

    // A restart forgets nothing that moved.
    let world = world.restart_with(hurrying).await;
    metered(&world).await;
    let usage = world.admin().await.usage(world.app.app_id).await.unwrap();
    let moved = 10 * 1_000_000 + file + 3 * 300 + 128 * 1024 + 1_000_000 + file;
    assert_eq!(usage.moved_bytes, moved);
    let status = world.get("/api/sync/status").bearer(&bob.user.token).send().await;
    assert_eq!(status.header("synckit-usage"), "storage=1, transfer=113");

    // The next month begins with the whole budget.
    let next = Month::of(world.clock.now()).next().begins();
    world.clock.advance(next - world.clock.now());
    metered(&world).await;
    let ada = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let status = world.get("/api/sync/status").bearer(&ada.token).send().await;
    assert_eq!(status.header("synckit-usage"), "");
    let usage = world.admin().await.usage(world.app.app_id).await.unwrap();
    assert_eq!(usage.moved_bytes, 0);
    assert_eq!(
        usage.days.iter().map(|day| day.moved_bytes).sum::<u64>(),
        0,
        "31 days later"
    );
}

/// Bringing a deleted file back stores it: many at once do not overlook each other.
#[tokio::test]
async fn embedded_files_brought_back_at_once_fit_a_plan() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    ada.push(&world, 1, 1_000).await;
    for n in 1..=5 {
        put(&world, 6_000, &begin(&world, &ada, n, 6_000).await).await;
        confirm(&world, &ada, n, 6_000).await.empty();
        let path = format!("/api/sync/blobs/{}", BlobId::from_bytes([n; 32]));
        let deleted = world.call(Method::DELETE, &path).bearer(&ada.user.token);
        deleted.send().await.empty();
    }
    stores(&world, GB - 1_000 - 10_000);
    give(&world, Some(plan(1, "5"))).await;
    told(&world, &ada, "storage=99, transfer=0").await;
    let brought = futures_util::future::join_all((1..=5).map(|n| begin(&world, &ada, n, 6_000))).await;
    let mut codes: Vec<String> = brought.iter().map(Answer::code).collect();
    codes.sort_unstable();
    assert_eq!(codes[..2], ["200", "storage_limit_reached"]);
    let usage = world.admin().await.usage(world.app.app_id).await.unwrap();
    assert_eq!(usage.stored_bytes, GB as u64 - 10_000 + 6_000);
}

/// Of two apps, what the first stores cannot be read, and of the second it cannot be noted: both limits hold all the same.
#[tokio::test]
async fn embedded_unreadable_app_lifts_no_limit() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let admin = world.admin().await;
    world.user("eve@example.com").await;
    let broken = admin.create_app("Broken").await.unwrap().app_id;
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    ada.push(&world, 1, 1_000).await;
    stores(&world, GB - 1_000 - 5_000);
    // It is read before the other one, and its sum is no number of bytes.
    database
        .execute_batch(&format!(
            "PRAGMA foreign_keys = off;
             UPDATE apps SET app_key = -1 WHERE app_id = x'{}';
             INSERT INTO streams (user_id, app_id, seq, head, batch_bytes)
                 SELECT user_id, x'{}', 0, zeroblob(32), -5 FROM accounts WHERE email = 'eve@example.com';
             CREATE TRIGGER broken BEFORE INSERT ON usage_hours WHEN new.stored_bytes IS NOT NULL BEGIN SELECT raise(ABORT, 'broken'); END;",
            hex(broken),
            hex(broken)
        ))
        .unwrap();
    give(&world, Some(plan(1, "5"))).await;
    admin.write_plan(broken, None).await.unwrap();
    told(&world, &ada, "storage=99, transfer=0").await;
    // Each is seen by readings that are not noted: none is forgotten.
    ada.push(&world, 1, 3_000).await;
    metered(&world).await;
    let batch = ada.batch(1, 2_001);
    assert_eq!(ada.send(&world, &batch).await.code(), "storage_limit_reached");
    ada.push(&world, 1, 2_000).await;
}

fn hex(app_id: AppId) -> String {
    app_id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until the limit of each user is this, as the meter has read it.
async fn limit_users(world: &World, megabytes: Option<u32>, burst: &str) {
    let limit = megabytes.map(|megabytes| UserLimit {
        megabytes: Megabytes::new(megabytes).unwrap(),
        burst: burst.parse().unwrap(),
    });
    let admin = world.admin().await;
    admin.write_user_limit(world.app.app_id, limit).await.unwrap();
    assert_eq!(admin.usage(world.app.app_id).await.unwrap().user_limit, limit);
    metered(world).await;
}

#[tokio::test]
async fn user_at_the_limit_stores_nothing_more() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    limit_users(&world, Some(1), "5").await;
    let (first, pushed) = ada.push(&world, 1, 900_000).await;
    let batch = ada.batch(1, 100_001);
    assert_eq!(ada.send(&world, &batch).await.code(), "user_limit_reached");
    // The retry of what is stored, and what others store.
    let again: Pushed = ada.send(&world, &first).await.ok();
    assert_eq!(again, pushed);
    bob.push(&world, 1, 900_000).await;
    // Files leave a part to batches.
    assert_eq!(begin(&world, &ada, 1, 90_000).await.code(), "user_limit_reached");
    put(&world, 80_000, &begin(&world, &ada, 1, 80_000).await).await;
    confirm(&world, &ada, 1, 80_000).await.empty();
    assert_eq!(begin(&world, &ada, 2, 10_000).await.code(), "user_limit_reached");
    assert_eq!(snapshot_part(&world, &ada, 1_000_000).await.code(), "204");
    assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "200");
    assert_eq!(download(&world, &ada, 1).await.code(), "200");
    let status = world.get("/api/sync/status").bearer(&ada.user.token).send().await;
    assert_eq!((status.code(), status.header("synckit-usage")), ("200".into(), ""));
    // A larger limit lifts it, and so does none.
    limit_users(&world, Some(3), "5").await;
    ada.push(&world, 1, 100_001).await;
    let batch = ada.batch(1, 920_000);
    assert_eq!(ada.send(&world, &batch).await.code(), "user_limit_reached");
    limit_users(&world, None, "5").await;
    ada.push(&world, 1, 920_000).await;
}

#[tokio::test]
async fn user_over_the_share_moves_slowly() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    // 10,000,000 bytes in 30 days.
    limit_users(&world, Some(10), "1").await;
    for user in [&mut ada, &mut bob] {
        user.push(&world, 1, 1_000_000).await;
    }
    for _ in 0..9 {
        assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "200");
    }
    // Now each way has the floor: one large call passes, and what it takes has to grow back.
    assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "200");
    let refused = ada.pull(&world, Cursor::START, None).await;
    assert_eq!(refused.code(), "transfer_limit");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((600..1000).contains(&wait), "{wait}");
    for _ in 0..3 {
        ada.push(&world, 1, 300).await;
    }
    // Also in another session, on another device.
    let user = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let phone = user.register_device(&world, "phone").await;
    let phone = Syncing::new(user, phone.id);
    assert_eq!(phone.pull(&world, Cursor::START, None).await.code(), "transfer_limit");
    // The share of others is theirs.
    for _ in 0..3 {
        assert_eq!(bob.pull(&world, Cursor::START, None).await.code(), "200");
    }
    limit_users(&world, None, "1").await;
    assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "200");
    assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "200");
}

#[tokio::test]
async fn plan_below_what_is_stored_is_refused() {
    let world = world().await;
    let admin = world.admin().await;
    let app = world.app.app_id;
    assert_eq!(admin.usage(app).await.unwrap().plan, None);
    admin.write_plan(app, Some(plan(1, "2.5"))).await.unwrap();
    let usage = admin.usage(app).await.unwrap();
    assert_eq!(usage.plan, Some(plan(1, "2.5")));
    assert_eq!(
        (usage.stored_bytes, usage.month_ends),
        (0, 1_769_904_000),
        "1 February 2026"
    );
    let other = AppId::from_bytes([9; 16]);
    assert!(admin.write_plan(other, None).await.is_err() && admin.usage(other).await.is_err());
}

#[tokio::test]
async fn embedded_owners_are_told_of_each_rung_once() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let other = world.user("developer@example.com").await;
    let admin = world.admin().await;
    let team = admin.create_team("Example Co", ada.user.user_id).await.unwrap();
    let role = Some(TeamRole::Developer);
    admin.write_member(team, other.user_id, role).await.unwrap();
    admin.give_app(world.app.app_id, team).await.unwrap();
    ada.push(&world, 1, 5_000).await;
    let mails = |of: &str| {
        let texts = world
            .mails()
            .into_iter()
            .map(|path| std::fs::read_to_string(path).unwrap());
        texts.filter(|mail| mail.contains(of)).count()
    };
    give(&world, Some(plan(1, "5"))).await;
    stores(&world, 799_000_000);
    metered(&world).await;
    assert_eq!(mails("% of its storage"), 0);
    for (more, percent) in [(1_000_000, 80), (150_000_000, 95), (60_000_000, 100)] {
        stores(&world, more);
        let subject = format!("Notes has used {percent} % of its storage");
        let mail = world.mail_to("ada@example.com", &subject).await;
        let link = format!("/console/apps/{}/usage", world.app.app_id);
        assert!(mail.replace("=\r\n", "").contains(&link), "{mail}");
    }
    // Down and up again within five percent sends none; below, one.
    stores(&world, -20_000_000);
    told(&world, &ada, "storage=99, transfer=0").await;
    stores(&world, 20_000_000);
    told(&world, &ada, "storage=101, transfer=0").await;
    assert_eq!((mails("of its storage"), mails("To: developer@")), (3, 0));
    stores(&world, -500_000_000);
    told(&world, &ada, "").await;
    // The round that says so has noted it when the next one ends.
    metered(&world).await;
    world.clear_mail();
    stores(&world, 350_000_000);
    world
        .mail_to("ada@example.com", "Notes has used 80 % of its storage")
        .await;
    // A restart sends none.
    let world = world.restart_with(hurrying).await;
    metered(&world).await;
    assert_eq!(world.mails().len(), 1);
}

#[tokio::test]
async fn embedded_announced_files_make_no_app_look_full() {
    let world = world().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let eve = world.ready_user("eve@example.com").await;
    ada.push(&world, 1, 1_000).await;
    stores(&world, GB - 1_000 - 100_000_000);
    give(&world, Some(plan(1, "5"))).await;
    told(&world, &ada, "storage=90, transfer=0").await;
    // None of these files comes. Each has room by itself, all of them have not.
    let size = 90_000_000;
    let world = &world;
    let announced = (0..20).map(async |n: u8| {
        let asked = BlobUpload {
            hash: BlobId::from_bytes([n; 32]),
            size,
            sealed_hash: None,
            key_id: KEY_ID,
            hash_at_confirm: true,
            replace: false,
        };
        let call = world.post("/api/sync/blobs/upload").bearer(&eve.user.token);
        assert_eq!(call.json(&asked).send().await.code(), "200");
        assert_eq!(confirm(world, &eve, n, size).await.code(), "upload_incomplete");
    });
    let pushed = async {
        for _ in 0..20 {
            ada.push(world, 1, 10_000).await;
        }
    };
    tokio::join!(futures_util::future::join_all(announced), pushed);
}
