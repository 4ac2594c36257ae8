//! Pushing and pulling between devices that behave.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use synckit_client::{
    BatchId, ChangeEntry, ChangeOp, Cursor, Error, ProblemCode, SyncKitClient, Timestamp, transport::RequestBody,
};

use crate::{
    interference::{Fate, Interference},
    world::{World, change, changes, pull_all},
};

#[tokio::test]
async fn what_one_device_pushes_another_pulls() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let sent = vec![
        ChangeEntry {
            table: "notes".into(),
            op: ChangeOp::Insert,
            row_id: "0190e1a4-7d55-7c3e-9a4b-5d7f3c2b1a00".into(),
            timestamp: Timestamp::from_micros(-1),
            data: Some(
                serde_json::json!({"title": "Zürich", "n": -7, "big": u64::MAX, "f": 0.1, "list": [1, {"a": null}]}),
            ),
        },
        ChangeEntry {
            data: None,
            ..change("notes", "absent")
        },
        ChangeEntry {
            data: Some(serde_json::Value::Null),
            ..change("notes", "null")
        },
        ChangeEntry {
            op: ChangeOp::Delete,
            data: None,
            ..change("other", "gone")
        },
    ];
    laptop.push(laptop_id, sent.clone()).await.unwrap();

    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let (received, cursor, has_more) = phone.pull(phone_id, Cursor::START).await.unwrap();
    assert_eq!(received, sent);
    assert!(!has_more);
    assert_eq!(cursor.seq(), 4);
    assert_eq!(phone.pull(phone_id, cursor).await.unwrap(), (vec![], cursor, false));
}

#[tokio::test]
async fn a_line_that_broke_gets_smaller_batches() {
    let world = World::start().await;
    let user = world.user().await;
    let (_, laptop_id) = world.first_device(&user).await;
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let (seen, has_arrived) = (Arc::clone(&bodies), AtomicBool::new(false));
    let transport = Interference::new(move |request| {
        let ("/api/sync/push", RequestBody::Full(body)) = (request.uri().path(), request.body()) else {
            return Fate::Delivered;
        };
        seen.lock().unwrap().push(body.len());
        // Nothing large arrives until something has arrived.
        match body.len() < 200_000 || has_arrived.load(Ordering::SeqCst) {
            true => {
                has_arrived.store(true, Ordering::SeqCst);
                Fate::Delivered
            }
            false => Fate::RequestLost,
        }
    });
    let client = world.resumed_over(&user, transport);
    client.resume_at(Cursor::START);
    let large: Vec<_> = (0..200)
        .map(|row| ChangeEntry {
            data: Some(serde_json::json!({ "text": "x".repeat(2000) })),
            ..change("notes", &row.to_string())
        })
        .collect();
    client.push(laptop_id, large.clone()).await.unwrap_err();
    bodies.lock().unwrap().retain(|_| false);
    client.push(laptop_id, large.clone()).await.unwrap();
    let lengths = std::mem::take(&mut *bodies.lock().unwrap());
    // Then it finds that the line is quick again.
    assert!(lengths.len() > 2 && lengths[0] < 100_000, "{lengths:?}");
    let (received, at) = pull_all(&client, laptop_id, Cursor::START).await.unwrap();
    assert_eq!(received, large);
    // A batch whose id the app chose is one on any line.
    let id = SyncKitClient::new_batch_id();
    client.push_at(laptop_id, at, Some(id), large).await.unwrap();
    assert_eq!(bodies.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_long_push_is_split_and_keeps_its_order() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let sent = changes(1_234);
    laptop.push(laptop_id, sent.clone()).await.unwrap();
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let (received, cursor) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!(received, sent);
    assert_eq!(cursor.seq(), 1_234);
    assert_eq!(phone.status().await.unwrap().change_count, 1_234);
}

#[tokio::test]
async fn an_empty_push_does_nothing() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    assert_eq!(laptop.push(laptop_id, vec![]).await.unwrap(), Cursor::START);
    assert_eq!(laptop.status().await.unwrap().change_count, 0);
}

#[tokio::test]
async fn push_returns_the_cursor_of_the_last_pull() {
    // A push returns the cursor of the last pull so that own changes come back.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    assert_eq!(laptop.push(laptop_id, changes(3)).await.unwrap(), Cursor::START);
    let (received, cursor, _) = laptop.pull(laptop_id, Cursor::START).await.unwrap();
    assert_eq!(received.len(), 3);
    assert_eq!(laptop.push(laptop_id, changes(2)).await.unwrap(), cursor);
    let (own, after, _) = laptop.pull(laptop_id, cursor).await.unwrap();
    assert_eq!(own.len(), 2);
    // A new process knows nothing until the app tells it.
    let again = world.another_client(&user).await;
    let error = again.push(laptop_id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::CursorUnknown), "{error:?}");
    again.resume_at(after);
    assert_eq!(again.push(laptop_id, changes(1)).await.unwrap(), after);
}

#[tokio::test]
async fn devices_that_push_at_once_all_get_through() {
    let world = World::start().await;
    let user = world.user().await;
    let (first, first_id) = world.first_device(&user).await;
    let mut devices = vec![(first, first_id)];
    for name in ["b", "c", "d"] {
        devices.push(world.next_device(&user, name).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (index, (client, id)) in devices.iter().cloned().enumerate() {
        tasks.spawn(async move {
            for round in 0..10 {
                client
                    .push(id, vec![change("t", &format!("{index}-{round}"))])
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    let (client, id) = &devices[0];
    let (received, _) = pull_all(client, *id, Cursor::START).await.unwrap();
    let mut rows: Vec<String> = received.into_iter().map(|change| change.row_id).collect();
    for index in 0..4 {
        let own: Vec<&String> = rows
            .iter()
            .filter(|row| row.starts_with(&format!("{index}-")))
            .collect();
        let expected: Vec<String> = (0..10).map(|round| format!("{index}-{round}")).collect();
        assert_eq!(
            own,
            expected.iter().collect::<Vec<_>>(),
            "each device's pushes keep their order"
        );
    }
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), 40);
}

#[tokio::test]
async fn a_lost_answer_stores_nothing_twice() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let lost = std::sync::atomic::AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        let push = request.uri().path() == "/api/sync/push";
        // Two of every three answers are lost.
        if push && lost.fetch_add(1, Ordering::SeqCst) % 3 != 2 {
            Fate::AnswerLost
        } else {
            Fate::Delivered
        }
    });
    let (laptop, laptop_id) = world.device_over(&user, "laptop", transport).await;
    for row in 0..5 {
        laptop
            .push(laptop_id, vec![change("t", &row.to_string())])
            .await
            .unwrap();
    }
    let (received, _) = pull_all(&laptop, laptop_id, Cursor::START).await.unwrap();
    let rows: Vec<String> = received.into_iter().map(|change| change.row_id).collect();
    assert_eq!(rows, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_batch_pushed_again_after_a_crash_is_stored_once() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let id = SyncKitClient::new_batch_id();
    let stored = laptop
        .push_at(laptop_id, Cursor::START, Some(id), changes(3))
        .await
        .unwrap();
    // The app crashed before it noted the push; others wrote meanwhile.
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    phone.push(phone_id, changes(2)).await.unwrap();
    let restarted = world.another_client(&user).await;
    let again = restarted
        .push_at(laptop_id, Cursor::START, Some(id), changes(3))
        .await
        .unwrap();
    assert_eq!(again, stored);
    // And once more after everything was pulled, when the batch lies behind what the client knows.
    let (_, pulled) = pull_all(&restarted, laptop_id, Cursor::START).await.unwrap();
    let again = restarted
        .push_at(laptop_id, pulled, Some(id), changes(3))
        .await
        .unwrap();
    assert_eq!(again, pulled);
    assert_eq!(restarted.status().await.unwrap().change_count, 5);
    // The client goes on from there.
    restarted.push(laptop_id, changes(1)).await.unwrap();
    assert_eq!(restarted.status().await.unwrap().change_count, 6);
}

#[tokio::test]
async fn a_push_with_an_id_must_fit_one_batch() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let too_many = laptop
        .push_at(
            laptop_id,
            Cursor::START,
            Some(SyncKitClient::new_batch_id()),
            changes(501),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(
            too_many.source,
            Error::InvalidArgument {
                argument: "changes",
                ..
            }
        ),
        "{too_many:?}"
    );
    let none = laptop
        .push_at(laptop_id, Cursor::START, Some(SyncKitClient::new_batch_id()), vec![])
        .await
        .unwrap_err();
    assert!(
        matches!(
            none.source,
            Error::InvalidArgument {
                argument: "changes",
                ..
            }
        ),
        "{none:?}"
    );
    assert_eq!(laptop.status().await.unwrap().change_count, 0);
}

#[tokio::test]
async fn push_at_fails_when_the_stream_has_moved_on() {
    // `push_at` refuses to seal on top of what was not pulled.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let first = laptop
        .push_at(
            laptop_id,
            Cursor::START,
            Some(SyncKitClient::new_batch_id()),
            changes(2),
        )
        .await
        .unwrap();
    assert_eq!(first.seq(), 2);

    let refused = phone
        .push_at(phone_id, Cursor::START, Some(SyncKitClient::new_batch_id()), changes(1))
        .await
        .unwrap_err();
    assert!(
        matches!(refused.source, Error::Behind { latest } if latest == first.position().unwrap()),
        "{refused:?}"
    );
    assert_eq!(refused.accepted, 0);

    let (_, cursor, _) = phone.pull(phone_id, Cursor::START).await.unwrap();
    assert_eq!(cursor, first);
    let second = phone
        .push_at(phone_id, cursor, Some(SyncKitClient::new_batch_id()), changes(1))
        .await
        .unwrap();
    assert_eq!(second.seq(), 3);
    let (rest, end, _) = laptop.pull(laptop_id, first).await.unwrap();
    assert_eq!((rest.len(), end), (1, second));
}

#[tokio::test]
async fn an_entry_that_cannot_be_pushed_says_which_and_why() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let mut list = changes(700);
    list[600].data = Some(serde_json::json!({ "x": "y".repeat(3 * 1024 * 1024) }));
    let error = laptop.push(laptop_id, list).await.unwrap_err();
    assert!(
        matches!(&error.source, Error::Encode(encode) if encode.index == 600),
        "{error:?}"
    );
    // What could be pushed before is, and the app learns how much.
    assert_eq!(laptop.status().await.unwrap().change_count, error.accepted as u64);
    let text = synckit_client::ErrorChain(&error).to_string();
    assert!(text.contains("blob"), "{text}");
}

#[tokio::test]
async fn a_device_of_another_user_cannot_be_used() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let other = world.user().await;
    let (_, other_id) = world.first_device(&other).await;
    let error = laptop.push(other_id, changes(1)).await.unwrap_err();
    assert_eq!(
        error.source.problem_code(),
        Some(ProblemCode::DeviceMismatch),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_revoked_device_is_told_so_and_may_register_again() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.revoke_device(phone_id).await.unwrap();
    let names: Vec<String> = laptop
        .devices()
        .await
        .unwrap()
        .into_iter()
        .map(|device| device.device_name)
        .collect();
    assert_eq!(names, ["laptop"]);
    let ended = phone.pull(phone_id, Cursor::START).await.unwrap_err();
    assert!(matches!(ended, Error::SessionEnded), "{ended:?}");
    let refused = laptop.pull(phone_id, Cursor::START).await.unwrap_err();
    assert_eq!(refused.problem_code(), Some(ProblemCode::DeviceMismatch), "{refused:?}");
    let (_, again) = world.next_device(&user, "phone").await;
    assert_ne!(again, phone_id);
    let _ = laptop_id;
}

#[tokio::test]
async fn renamed_device_keeps_its_id_and_names_are_unique() {
    // A renamed device keeps its id and no two have one name.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let renamed = laptop.rename_device(phone_id, "old phone").await.unwrap();
    assert_eq!((renamed.id, renamed.device_name.as_str()), (phone_id, "old phone"));
    phone.pull(phone_id, Cursor::START).await.unwrap();
    let taken = laptop.rename_device(phone_id, "laptop").await.unwrap_err();
    assert_eq!(taken.problem_code(), Some(ProblemCode::InvalidValue), "{taken:?}");
    let empty = laptop.rename_device(phone_id, "").await.unwrap_err();
    assert!(
        matches!(empty, Error::InvalidArgument { argument: "name", .. }),
        "{empty:?}"
    );
}

#[tokio::test]
async fn registering_the_same_name_finds_the_same_device() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    assert_eq!(laptop.register_device("laptop", "macos").await.unwrap().id, laptop_id);
    for (name, platform, argument) in [
        ("", "linux", "name"),
        (&"x".repeat(101), "linux", "name"),
        ("x", "beos", "platform"),
    ] {
        let error = laptop.register_device(name, platform).await.unwrap_err();
        assert!(
            matches!(&error, Error::InvalidArgument { argument: found, .. } if *found == argument),
            "{error:?}"
        );
    }
}

#[test]
fn batch_ids_hold_no_time() {
    // A version that begins with the time would tell the server when an edit was made offline.
    for _ in 0..100 {
        let id = uuid::Uuid::from_bytes(*SyncKitClient::new_batch_id().as_bytes());
        assert_eq!((id.get_version_num(), id.get_timestamp()), (4, None), "{id}");
    }
}

#[tokio::test]
async fn a_cancelled_push_or_pull_loses_nothing() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let id: BatchId = SyncKitClient::new_batch_id();
    // Polled a growing number of times and then dropped: cancelled at every await in turn.
    for polls in 0..12 {
        let mut push = Box::pin(laptop.push_at(laptop_id, Cursor::START, Some(id), changes(2)));
        for _ in 0..polls {
            if futures_util::FutureExt::now_or_never(&mut push).is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(push);
        let mut pull = Box::pin(laptop.pull(laptop_id, Cursor::START));
        for _ in 0..polls {
            if futures_util::FutureExt::now_or_never(&mut pull).is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(pull);
    }
    laptop
        .push_at(laptop_id, Cursor::START, Some(id), changes(2))
        .await
        .unwrap();
    let (received, _) = pull_all(&laptop, laptop_id, Cursor::START).await.unwrap();
    assert_eq!(received, changes(2));
}
