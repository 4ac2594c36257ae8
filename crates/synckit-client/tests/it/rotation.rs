//! The life of the master key.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::{Cursor, Error, MemoryStore, SyncKitClient, Tampering};
use synckit_protocol::wire::{keys::EnvelopeAnswer, log::Status};

use crate::{
    interference::{Fate, Interference},
    snapshots::stored,
    world::{World, change, changes, pull_all},
};

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

#[tokio::test]
async fn safety_code_shows_an_older_envelope() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, _) = world.next_device(&user, "phone").await;
    let code = laptop.safety_code().await.unwrap();
    assert_eq!(phone.safety_code().await.unwrap(), code);
    assert_eq!(code.to_string().split(' ').count(), 6);
    // It does not change while nothing but the log does.
    laptop.push(laptop_id, changes(3)).await.unwrap();
    assert_eq!(laptop.safety_code().await.unwrap(), code);

    // The server's envelope from before the rotation, shown to a device that joins after it.
    let older: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&older);
    let keeping = Interference::changing("/api/sync/keys", move |body| {
        *kept.lock().unwrap() = Some(body.clone());
        body
    });
    world.device_over(&user, "witness", keeping).await;
    laptop.rotate_keys(&user.password).await.unwrap();
    let error = phone.safety_code().await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    let shown = older.lock().unwrap().clone().unwrap();
    let liar = Interference::new(move |request| {
        if request.uri().path() == "/api/sync/keys" {
            Fate::Answered(200, shown.clone())
        } else {
            Fate::Delivered
        }
    });
    let (fooled, _) = world.device_over(&user, "fooled", liar).await;
    let (honest, _) = world.next_device(&user, "honest").await;
    let now = laptop.safety_code().await.unwrap();
    assert_eq!(honest.safety_code().await.unwrap(), now);
    assert_eq!(fooled.safety_code().await.unwrap(), code);
    assert_ne!(now, code);
}

#[tokio::test]
async fn recovery_code_takes_no_older_envelope() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let code = laptop.recovery_code(&user.password).await.unwrap();
    // A liar's copies from before the rotation, which it shows on demand.
    let (older, show): (Arc<Mutex<Vec<u8>>>, Arc<Mutex<bool>>) = Default::default();
    let (seen, lying) = (Arc::clone(&older), Arc::clone(&show));
    let liar = Interference::new(move |request| {
        if request.uri().path() != "/api/sync/keys" || request.method() != http::Method::GET {
            return Fate::Delivered;
        }
        let (seen, lying) = (Arc::clone(&seen), *lying.lock().unwrap());
        Fate::Changed(Box::new(move |body| {
            let mut seen = seen.lock().unwrap();
            if !lying {
                *seen = body;
            }
            seen.clone()
        }))
    });
    let (phone, phone_id) = world.device_over(&user, "phone", liar).await;
    let before = older.lock().unwrap().clone();
    laptop.rotate_keys(&user.password).await.unwrap();
    phone.authenticate(&user.email, &user.password).await.unwrap();
    phone.setup_encryption_with_recovery(&code).await.unwrap();
    phone.push(phone_id, changes(1)).await.unwrap();

    *older.lock().unwrap() = before;
    *show.lock().unwrap() = true;
    let error = phone.setup_encryption_with_recovery(&code).await.unwrap_err();
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
    // Its writes are still under the newer key.
    phone.push(phone_id, changes(1)).await.unwrap();
    assert_eq!(pull_all(&laptop, laptop_id, Cursor::START).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn last_version_of_an_envelope_has_no_next() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let versions = world.envelope_versions(&user).await;
    let liar = Interference::new(|request| {
        if request.uri().path() != "/api/sync/keys" || request.method() != http::Method::GET {
            return Fate::Delivered;
        }
        Fate::Changed(Box::new(|body| {
            let mut answer: EnvelopeAnswer = minicbor_serde::from_slice(&body).unwrap();
            answer.version = u64::MAX;
            minicbor_serde::to_vec(&answer).unwrap()
        }))
    });
    let (phone, _) = world.device_over(&user, "phone", liar).await;
    let rotated = phone.rotate_keys(&user.password).await;
    let restored = phone.restore_envelope(&user.password).await;
    // A new vault stays, though no envelope can name it.
    phone.recovery_code(&user.password).await.unwrap();
    // After a reset, the device seals its key for the new password.
    phone.request_password_reset(&user.email).await.unwrap();
    let mailed = world.mailed_code(&user, "Reset your password").await;
    phone.reset_password(&mailed, "new pass").await.unwrap();
    phone.authenticate(&user.email, "new pass").await.unwrap();
    let resealed = phone.setup_encryption_existing("new pass").await;
    for refused in [rotated.map(drop), restored.map(drop), resealed] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { status: 200, reason } if reason.contains("version")),
            "{error:?}"
        );
    }
    assert_eq!(world.envelope_versions(&user).await, versions);
}

#[tokio::test]
async fn rotation_ends_a_key_at_the_newest_snapshot() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    stored(&laptop, laptop_id).await;
    // The first look at the stream is from before the fold.
    let (looks, writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (looked, wrote) = (Arc::clone(&looks), Arc::clone(&writes));
    let late = Interference::new(move |request| match request.uri().path() {
        "/api/sync/status" if looked.fetch_add(1, Ordering::SeqCst) == 0 => Fate::Changed(Box::new(|body| {
            let mut status: Status = minicbor_serde::from_slice(&body).unwrap();
            status.snapshot = None;
            minicbor_serde::to_vec(&status).unwrap()
        })),
        "/api/sync/keys" if request.method() == http::Method::PUT => {
            wrote.fetch_add(1, Ordering::SeqCst);
            Fate::Delivered
        }
        _ => Fate::Delivered,
    });
    let rotating = world.resumed_over(&user, late);
    rotating.rotate_keys(&user.password).await.unwrap();
    assert_eq!((looks.load(Ordering::SeqCst), writes.load(Ordering::SeqCst)), (2, 2));
    rotating.push(laptop_id, vec![change("t", "after")]).await.unwrap();

    // It is under the retired key, and devices begin with it all the same, also to fold it into the next.
    for (name, changes) in [("phone", 4), ("tablet", 5)] {
        let (client, id) = world.next_device(&user, name).await;
        let pulled = pull_all(&client, id, Cursor::START).await.unwrap().0;
        assert_eq!(pulled.len(), changes);
        stored(&client, id).await;
        client.push(id, vec![change("notes", "0")]).await.unwrap();
    }
}

#[tokio::test]
async fn key_ends_while_a_reader_is_in_a_snapshot() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(700)).await.unwrap();
    stored(&laptop, laptop_id).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let (first, cursor, _) = phone.pull(phone_id, Cursor::START).await.unwrap();
    assert!(first.len() == 500 && cursor.snapshot().is_some());

    laptop.push(laptop_id, vec![change("t", "later")]).await.unwrap();
    stored(&laptop, laptop_id).await;
    laptop.rotate_keys(&user.password).await.unwrap();
    // The app starts again, and takes the new key.
    let phone = world.resumed(&user, "phone", Interference::new(|_| Fate::Delivered));
    phone.authenticate(&user.email, &user.password).await.unwrap();
    phone.setup_encryption_existing(&user.password).await.unwrap();
    // The snapshot that it was in is not the one of the key's end: it begins with that one.
    assert_eq!(pull_all(&phone, phone_id, cursor).await.unwrap().0.len(), 701);
}

#[tokio::test]
async fn batches_after_a_lost_rotation_stay_readable() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.push(laptop_id, changes(1)).await.unwrap();
    let backup = world.backup();
    laptop.rotate_keys(&user.password).await.unwrap();
    let world = world.restore(backup).await;
    // The backup ends where the rotation ended the first key. A device that did not know of the rotation continues, and
    // folds.
    phone.push(phone_id, vec![change("t", "phone")]).await.unwrap();
    stored(&phone, phone_id).await;
    laptop.restore_envelope(&user.password).await.unwrap();
    laptop.push(laptop_id, vec![change("t", "laptop")]).await.unwrap();
    assert_eq!(pull_all(&laptop, laptop_id, Cursor::START).await.unwrap().0.len(), 3);
    let (tablet, tablet_id) = world.next_device(&user, "tablet").await;
    assert_eq!(pull_all(&tablet, tablet_id, Cursor::START).await.unwrap().0.len(), 3);
}
