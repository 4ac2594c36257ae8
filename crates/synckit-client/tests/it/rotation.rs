//! The life of the master key.

use synckit_client::{Cursor, Error, MemoryStore, SyncKitClient, Tampering};

use crate::world::{World, change, changes, pull_all};

#[tokio::test]
async fn rotated_key_leaves_older_batches_readable() {
    // A rotated key leaves what was written readable and the others ask for the password once.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    let hash = laptop.blob_put(b"a file".to_vec(), |_| {}).await.unwrap();
    // What the other device pushed and this one has not pulled stays readable too.
    phone.push(phone_id, vec![change("t", "phone")]).await.unwrap();

    laptop.rotate_keys(&user.password).await.unwrap();
    laptop.push(laptop_id, vec![change("t", "after")]).await.unwrap();
    assert_eq!(pull_all(&laptop, laptop_id, Cursor::START).await.unwrap().0.len(), 5);

    let error = phone.push(phone_id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::KeyRotated { .. }), "{error:?}");
    let error = pull_all(&phone, phone_id, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    phone.setup_encryption_existing(&user.password).await.unwrap();
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 5);
    phone.push(phone_id, changes(1)).await.unwrap();
    assert_eq!(phone.blob_get(&hash, world.file("x"), |_| {}).await.unwrap(), 6);

    // A device that joins later reads all of it, and so does one that starts again.
    let (tablet, tablet_id) = world.next_device(&user, "tablet").await;
    assert_eq!(pull_all(&tablet, tablet_id, Cursor::START).await.unwrap().0.len(), 6);
    let restarted = world.another_client(&user).await;
    assert_eq!(pull_all(&restarted, laptop_id, Cursor::START).await.unwrap().0.len(), 6);
}

#[tokio::test]
async fn second_rotation_retires_no_unseen_key() {
    // A rotation that comes second does not retire a key that this device has not seen.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, _) = world.next_device(&user, "phone").await;
    laptop.rotate_keys(&user.password).await.unwrap();
    let error = phone.rotate_keys(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    let error = phone.rotate_keys("wrong").await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    phone.setup_encryption_existing(&user.password).await.unwrap();
    phone.rotate_keys(&user.password).await.unwrap();
}

#[tokio::test]
async fn rotations_and_pushes_at_once_lose_nothing() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let pushing = async {
        let mut pushed = 0;
        for row in 0..30 {
            match phone.push(phone_id, vec![change("t", &row.to_string())]).await {
                Ok(_) => pushed += 1,
                Err(error) if matches!(error.source, Error::KeyRotated { .. }) => {
                    phone.setup_encryption_existing(&user.password).await.unwrap();
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        pushed
    };
    let rotating = async {
        for _ in 0..3 {
            laptop.rotate_keys(&user.password).await.unwrap();
        }
    };
    let (pushed, ()) = tokio::join!(pushing, rotating);
    laptop.push(laptop_id, changes(1)).await.unwrap();
    assert_eq!(
        pull_all(&laptop, laptop_id, Cursor::START).await.unwrap().0.len(),
        pushed + 1
    );
}

#[tokio::test]
async fn revoked_device_reads_nothing_after_a_rotation() {
    // A revoked device gets nothing of what is written after the rotation.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.revoke_device_and_rotate(phone_id, &user.password).await.unwrap();
    laptop.push(laptop_id, changes(1)).await.unwrap();
    assert!(matches!(
        phone.pull(phone_id, Cursor::START).await,
        Err(Error::SessionEnded)
    ));
    assert_eq!(laptop.devices().await.unwrap().len(), 1);
}

#[tokio::test]
async fn older_key_on_the_server_is_reported_and_repaired() {
    // An older key on the server is reported and can be put right.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(1)).await.unwrap();
    let backup = world.backup();
    laptop.rotate_keys(&user.password).await.unwrap();
    let world = world.restore(backup).await;

    let error = laptop.push(laptop_id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::WrongKey { .. }), "{error:?}");
    let error = laptop.setup_encryption_existing(&user.password).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 2,
                found_version: 1
            })
        ),
        "{error:?}"
    );
    assert!(error.is_tampering());
    laptop.restore_envelope(&user.password).await.unwrap();
    laptop.push(laptop_id, changes(1)).await.unwrap();
    laptop.setup_encryption_existing(&user.password).await.unwrap();
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 2);

    // Without keys of its own a device has nothing to put back.
    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    client.authenticate(&user.email, &user.password).await.unwrap();
    let error = client.restore_envelope(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::NoStoredKey), "{error:?}");
}
