//! The owner key of a stream, as a device uses it: what it writes is signed by the key that the server names.

use synckit_client::{Cursor, Error, FoldOutcome};
use synckit_server::Admin;

use crate::world::{User, World, change, changes, pull_all};

/// Makes the server forget every owner key, as if its database were from before there were any.
fn forget_owners(world: &World) {
    let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
    database
        .execute_batch("UPDATE envelopes SET owner = NULL; UPDATE snapshots SET owner = NULL")
        .unwrap();
}

/// The versions of the envelopes that the server keeps, newest first, and whether each has an owner key.
async fn kept(world: &World, user: &User) -> Vec<(u64, bool)> {
    let admin = Admin::open(&world.data_dir()).unwrap();
    let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
    let kept = admin.envelopes(world.app_id, user_id).await.unwrap();
    kept.iter().map(|kept| (kept.version, kept.owner.is_some())).collect()
}

async fn put_back(world: &World, user: &User, version: u64) -> u64 {
    let admin = Admin::open(&world.data_dir()).unwrap();
    let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
    admin.restore_envelope(world.app_id, user_id, version).await.unwrap()
}

#[tokio::test]
async fn a_stream_from_before_owner_keys_gets_one_by_a_fold_or_by_the_next_device() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    forget_owners(&world);
    assert_eq!(kept(&world, &user).await, [(1, false)]);
    // Without the password: the device writes the envelope that is there once more.
    assert_eq!(laptop.fold(laptop_id).await.unwrap().outcome, FoldOutcome::Stored);
    assert_eq!(kept(&world, &user).await, [(2, true), (1, false)]);

    forget_owners(&world);
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    assert_eq!(kept(&world, &user).await, [(3, true), (2, false), (1, false)]);
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 3);

    // Or with the envelope of a rotation, which names it anyway.
    forget_owners(&world);
    phone.rotate_keys(&user.password).await.unwrap();
    assert_eq!(kept(&world, &user).await[0], (4, true));
    phone.push(phone_id, changes(1)).await.unwrap();
    assert_eq!(phone.fold(phone_id).await.unwrap().outcome, FoldOutcome::Stored);
    laptop.setup_encryption_existing(&user.password).await.unwrap();
    laptop.rotate_keys(&user.password).await.unwrap();
}

#[tokio::test]
async fn an_envelope_that_the_operator_put_back_opens_and_the_stream_goes_on_from_it() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.push(laptop_id, changes(1)).await.unwrap();
    laptop.rotate_keys(&user.password).await.unwrap();
    assert_eq!(put_back(&world, &user, 1).await, 3);

    // The phone has the older key still, which is the current one again; so has a device that joins now.
    phone.push(phone_id, vec![change("t", "phone")]).await.unwrap();
    let (tablet, tablet_id) = world.next_device(&user, "tablet").await;
    assert_eq!(pull_all(&tablet, tablet_id, Cursor::START).await.unwrap().0.len(), 2);
    assert_eq!(tablet.fold(tablet_id).await.unwrap().outcome, FoldOutcome::Stored);

    // The laptop holds a newer key, and nothing happens behind its user's back.
    let error = laptop.push(laptop_id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::WrongKey { .. }), "{error:?}");
    let error = laptop.setup_encryption_existing(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::EnvelopeReplaced { .. }), "{error:?}");
}

#[tokio::test]
async fn a_newer_key_is_put_back_over_an_envelope_that_the_operator_put_back() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(1)).await.unwrap();
    for _ in 0..2 {
        laptop.rotate_keys(&user.password).await.unwrap();
    }
    assert_eq!(put_back(&world, &user, 1).await, 4);
    laptop.restore_envelope(&user.password).await.unwrap();
    laptop.push(laptop_id, changes(1)).await.unwrap();
    assert_eq!(laptop.fold(laptop_id).await.unwrap().outcome, FoldOutcome::Stored);
    laptop.rotate_keys(&user.password).await.unwrap();
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn an_envelope_over_one_whose_key_this_device_never_had_is_not_written() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, _) = world.next_device(&user, "phone").await;
    phone.rotate_keys(&user.password).await.unwrap();
    let before = kept(&world, &user).await;
    let error = laptop.restore_envelope(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    assert_eq!(kept(&world, &user).await, before);
}
