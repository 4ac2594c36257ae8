//! Sign-ins of machines without a browser.

use synckit_protocol::{
    limits::{DEVICE_GRANT_SECONDS, DEVICE_POLL_SECONDS, DEVICE_SLOW_DOWN_SECONDS},
    wire::UnixSeconds,
};

use crate::{
    DevicePoll, NewDeviceGrant, Store, WaitingGrant,
    conformance::{
        fixture::{NOW, app_id, secret},
        whole_account::retention,
    },
};

/// Grant `n` of app 1: device code `n`, user code `1000 + n`.
pub fn new_grant(n: u64) -> NewDeviceGrant {
    NewDeviceGrant {
        device_code: secret(n),
        user_code: secret(1000 + n),
        app_id: app_id(1),
        asked: format!("machine {n}").into_bytes(),
        now: NOW,
        grants_max: 100,
    }
}

async fn put(store: &dyn Store, n: u64) {
    assert!(store.put_device_grant(new_grant(n)).await.unwrap());
}

async fn waits(store: &dyn Store, n: u64, now: UnixSeconds) -> bool {
    store.waiting_grant(secret(1000 + n), now).await.unwrap().is_some()
}

async fn answer(store: &dyn Store, n: u64, allowed_by: Option<&[u8]>, now: UnixSeconds) -> bool {
    let allowed_by = allowed_by.map(<[u8]>::to_vec);
    store
        .answer_device_grant(secret(1000 + n), allowed_by, now)
        .await
        .unwrap()
}

async fn poll(store: &dyn Store, n: u64, now: UnixSeconds) -> DevicePoll {
    store.poll_device_grant(secret(n), app_id(1), now).await.unwrap()
}

fn allowed(by: &str) -> DevicePoll {
    DevicePoll::Allowed {
        allowed_by: by.as_bytes().to_vec(),
    }
}

pub async fn an_allowed_machine_is_told_once(store: &dyn Store) {
    put(store, 1).await;
    let found = store.waiting_grant(secret(1001), NOW).await.unwrap();
    let expected = WaitingGrant {
        app_id: app_id(1),
        asked: b"machine 1".to_vec(),
    };
    assert_eq!(found, Some(expected));
    assert_eq!(poll(store, 1, NOW).await, DevicePoll::Waiting);
    assert!(answer(store, 1, Some(b"somebody"), NOW).await);
    assert!(!waits(store, 1, NOW).await);
    // At once, whatever the pace: it has something to be told.
    assert_eq!(poll(store, 1, NOW).await, allowed("somebody"));
    for _ in 0..2 {
        assert_eq!(poll(store, 1, NOW).await, DevicePoll::Unknown);
    }
}

pub async fn a_machine_is_answered_once(store: &dyn Store) {
    put(store, 1).await;
    put(store, 2).await;
    assert!(answer(store, 1, None, NOW).await);
    assert!(!answer(store, 1, Some(b"somebody"), NOW).await);
    assert_eq!(poll(store, 1, NOW).await, DevicePoll::Denied);
    assert_eq!(poll(store, 1, NOW).await, DevicePoll::Denied);
    assert!(answer(store, 2, Some(b"somebody"), NOW).await);
    assert!(!answer(store, 2, None, NOW).await);
    assert_eq!(poll(store, 2, NOW).await, allowed("somebody"));
    assert!(!answer(store, 2, Some(b"somebody"), NOW).await, "it was used");
    assert!(!answer(store, 3, None, NOW).await, "unknown");
}

pub async fn a_fast_poll_slows_the_next_ones_down(store: &dyn Store) {
    put(store, 1).await;
    let mut now = NOW;
    assert_eq!(poll(store, 1, now).await, DevicePoll::Waiting);
    now += DEVICE_POLL_SECONDS - 1;
    assert_eq!(poll(store, 1, now).await, DevicePoll::TooFast);
    // What was enough is too fast now, and stays so.
    now += DEVICE_POLL_SECONDS;
    assert_eq!(poll(store, 1, now).await, DevicePoll::TooFast);
    let slower = DEVICE_POLL_SECONDS + 2 * DEVICE_SLOW_DOWN_SECONDS;
    for _ in 0..2 {
        now += slower;
        assert_eq!(poll(store, 1, now).await, DevicePoll::Waiting);
    }
    // Another machine keeps its pace.
    put(store, 2).await;
    assert_eq!(poll(store, 2, now).await, DevicePoll::Waiting);
    assert_eq!(poll(store, 2, now + DEVICE_POLL_SECONDS).await, DevicePoll::Waiting);
}

pub async fn a_machine_waits_ten_minutes(store: &dyn Store) {
    for n in 1..=3 {
        put(store, n).await;
    }
    let end = NOW + DEVICE_GRANT_SECONDS;
    assert!(waits(store, 1, end - 1).await && !waits(store, 1, end).await);
    assert!(!answer(store, 1, Some(b"somebody"), end).await);
    assert!(answer(store, 2, Some(b"somebody"), end - 1).await);
    assert_eq!(poll(store, 1, end - 1).await, DevicePoll::Waiting);
    for n in 1..=2 {
        assert_eq!(poll(store, n, end).await, DevicePoll::Expired);
    }
    // It hears so for as long again; then nothing is known of it.
    let kept = end + DEVICE_GRANT_SECONDS;
    store.retain(retention(kept - 1)).await.unwrap();
    assert_eq!(poll(store, 3, kept - 1).await, DevicePoll::Expired);
    while store.retain(retention(kept)).await.unwrap() {}
    assert_eq!(poll(store, 3, kept).await, DevicePoll::Unknown);
}

pub async fn a_device_code_is_of_its_app(store: &dyn Store) {
    put(store, 1).await;
    answer(store, 1, Some(b"somebody"), NOW).await;
    let other = store.poll_device_grant(secret(1), app_id(2), NOW).await.unwrap();
    assert_eq!(other, DevicePoll::Unknown);
    assert_eq!(poll(store, 1, NOW).await, allowed("somebody"));
}

pub async fn a_taken_user_code_is_not_stored(store: &dyn Store) {
    put(store, 1).await;
    let same = NewDeviceGrant {
        device_code: secret(2),
        ..new_grant(1)
    };
    assert!(!store.put_device_grant(same).await.unwrap());
    assert_eq!(poll(store, 2, NOW).await, DevicePoll::Unknown);
    assert_eq!(poll(store, 1, NOW).await, DevicePoll::Waiting);
}

pub async fn too_many_machines_push_out_the_oldest(store: &dyn Store) {
    for n in 1..=3 {
        let grant = NewDeviceGrant {
            grants_max: 2,
            ..new_grant(n)
        };
        assert!(store.put_device_grant(grant).await.unwrap());
    }
    assert!(!waits(store, 1, NOW).await && waits(store, 2, NOW).await && waits(store, 3, NOW).await);
}

pub async fn polls_at_once_give_one_session(store: &dyn Store) {
    put(store, 1).await;
    answer(store, 1, Some(b"somebody"), NOW).await;
    let polls = (0..8).map(|_| poll(store, 1, NOW));
    let answers = futures_util::future::join_all(polls).await;
    let given = answers.iter().filter(|answer| **answer == allowed("somebody")).count();
    let rest = answers.iter().filter(|answer| **answer == DevicePoll::Unknown).count();
    assert_eq!((given, rest), (1, 7), "{answers:?}");
}
