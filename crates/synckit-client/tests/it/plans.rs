//! What an app meets that nears the limits of its plan.

use std::time::Duration;

use serde_json::json;
use synckit_client::{ChangeEntry, Cursor, Error, PushError, Quota};
use synckit_server::{
    Admin,
    billing::{Burst, Plan, UserLimit},
};

use crate::world::{World, change, changes};

async fn hurrying() -> World {
    World::start_with(|config| config.meter_interval = Duration::from_millis(10)).await
}

#[tokio::test]
async fn app_is_told_before_its_transfer_is_used_up() {
    let world = hurrying().await;
    let user = world.user().await;
    let (laptop, device) = world.first_device(&user).await;
    let admin = Admin::open(&world.data_dir()).unwrap();
    // 10,000,000 bytes a month.
    let plan = Plan::new("1".parse().unwrap(), "0.01".parse().unwrap());
    admin.write_plan(world.app_id, Some(plan)).await.unwrap();
    let push = async |kilobytes: usize| {
        let note = ChangeEntry {
            data: Some(json!({ "text": "x".repeat(kilobytes * 1000) })),
            ..change("notes", "1")
        };
        laptop.push(device, vec![note]).await
    };
    assert_eq!(laptop.plan_usage(), None);
    for _ in 0..9 {
        push(900).await.unwrap();
    }
    while laptop.plan_usage().is_none() {
        push(1).await.unwrap();
    }
    let usage = laptop.plan_usage().unwrap();
    assert_eq!(usage.storage_percent, 0);
    assert!((80..90).contains(&usage.transfer_percent), "{usage:?}");
    // Past the budget the first one passes, and takes its minutes.
    let refused = loop {
        if let Err(PushError { source, .. }) = push(900).await {
            break source;
        }
    };
    let Error::RetryLater { retry_after, code } = refused else {
        panic!("{refused}")
    };
    assert_eq!(code, "transfer_limit");
    assert!(retry_after > Duration::from_secs(600), "{retry_after:?}");
    assert!(laptop.plan_usage().unwrap().transfer_percent >= 100);
    let (pulled, ..) = laptop.pull(device, Cursor::START).await.unwrap();
    assert!(!pulled.is_empty());
}

#[tokio::test]
async fn full_app_is_a_typed_limit_and_reads_on() {
    let world = hurrying().await;
    let user = world.user().await;
    let (laptop, device) = world.first_device(&user).await;
    laptop.push(device, changes(1)).await.unwrap();
    let admin = Admin::open(&world.data_dir()).unwrap();
    let plan = Plan::new("1".parse().unwrap(), "5".parse().unwrap());
    let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
    database
        .execute("UPDATE streams SET blob_bytes = 1000000000 - batch_bytes", [])
        .unwrap();
    admin.write_plan(world.app_id, Some(plan)).await.unwrap();
    let refused = loop {
        if let Err(PushError { source, .. }) = laptop.push(device, changes(1)).await {
            break source;
        }
    };
    let Error::QuotaExceeded { quota } = refused else {
        panic!("{refused}")
    };
    assert_eq!(quota, Quota::AppStorage);
    assert_eq!(laptop.plan_usage().unwrap().storage_percent, 100);
    let (pulled, ..) = laptop.pull(device, Cursor::START).await.unwrap();
    assert!(!pulled.is_empty());
    admin.write_plan(world.app_id, None).await.unwrap();
    while laptop.push(device, changes(1)).await.is_err() {}
}

#[tokio::test]
async fn full_user_is_a_typed_limit() {
    let world = hurrying().await;
    let user = world.user().await;
    let (laptop, device) = world.first_device(&user).await;
    let admin = Admin::open(&world.data_dir()).unwrap();
    let limit = UserLimit {
        megabytes: "1".parse().unwrap(),
        burst: Burst::SIMPLE,
    };
    admin.write_user_limit(world.app_id, Some(limit)).await.unwrap();
    let note = ChangeEntry {
        data: Some(json!({ "text": "x".repeat(300_000) })),
        ..change("notes", "1")
    };
    let refused = loop {
        if let Err(PushError { source, .. }) = laptop.push(device, vec![note.clone()]).await {
            break source;
        }
    };
    let Error::QuotaExceeded { quota } = refused else {
        panic!("{refused}")
    };
    assert_eq!(quota, Quota::UserStorage);
    let (pulled, ..) = laptop.pull(device, Cursor::START).await.unwrap();
    assert!(!pulled.is_empty());
}
