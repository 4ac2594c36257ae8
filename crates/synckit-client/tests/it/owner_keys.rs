//! The owner key of a stream, as a device uses it: what it writes is signed by the key that the server names.

use synckit_client::{Cursor, Error, FoldOutcome, Tampering};
use synckit_server::Admin;

use crate::world::{User, World, change, changes, pull_all};

async fn put_back(world: &World, user: &User, version: u64) -> u64 {
    let admin = Admin::open(&world.data_dir()).unwrap();
    let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
    admin.restore_envelope(world.app_id, user_id, version).await.unwrap()
}

#[tokio::test]
async fn envelope_put_back_by_the_operator_opens() {
    // An envelope that the operator put back opens and the stream goes on from it.
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
    assert!(
        matches!(error, Error::Tampering(Tampering::EnvelopeReplaced { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn newer_key_replaces_envelope_put_back_by_operator() {
    // A newer key is put back over an envelope that the operator put back.
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
async fn envelope_over_an_unknown_key_is_not_written() {
    // An envelope over one whose key this device never had is not written.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, _) = world.next_device(&user, "phone").await;
    phone.rotate_keys(&user.password).await.unwrap();
    let before = world.envelope_versions(&user).await;
    let error = laptop.restore_envelope(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    assert_eq!(world.envelope_versions(&user).await, before);
}
