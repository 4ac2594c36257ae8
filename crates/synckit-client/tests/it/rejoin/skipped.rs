//! Batches that nobody can read: garbage of a token thief, bytes that were exchanged on their way, and batches of a
//! defective encoder. A user decides to skip them; nothing else is skipped.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use synckit_client::{
    CredentialError, CredentialStore, Cursor, DeviceId, Error, FoldOutcome, MemoryStore, RejoinEvidence, SyncKitClient,
    transport::RequestBody,
};
use synckit_crypto::{KeyRing, StreamScope};
use synckit_protocol::wire::log::Push;
use zeroize::Zeroizing;

use super::app::{App, shown};
use crate::{
    interference::{Fate, Interference},
    world::{User, World, change, changes, pull_all},
};

#[tokio::test]
async fn garbage_of_any_number_takes_one_decision() {
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    for round in 0..6 {
        garbage_batches(&world, &user, laptop.id, 50).await;
        phone
            .push(phone_id, vec![change("notes", &format!("phone {round}"))])
            .await
            .unwrap();
    }
    let evidence = laptop.evidence().await;
    let rejoined = laptop.rejoin(&evidence).await;
    assert_eq!(rejoined.latest.seq, 1 + 6 * 51);
    assert_eq!((rejoined.skipped_batches, rejoined.skipped_changes), (300, 300));
    laptop.is_rejoining = false;
    laptop.pull().await.unwrap();
    assert_eq!(laptop.rows.len(), 7);

    // The decision survives a restart. A later unreadable batch needs a new decision, which joins the first.
    let again = world.another_client(&user).await;
    assert_eq!(pull_all(&again, laptop.id, Cursor::START).await.unwrap().0.len(), 7);
    garbage_batches(&world, &user, laptop.id, 2).await;
    let evidence = laptop.evidence().await;
    laptop.rejoin(&evidence).await;
    laptop.is_rejoining = false;
    let again = world.another_client(&user).await;
    assert_eq!(pull_all(&again, laptop.id, Cursor::START).await.unwrap().0.len(), 7);

    // A new device decides once, too, and none has to after a fold.
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    let evidence = tablet.evidence().await;
    tablet.rejoin(&evidence).await;
    tablet.pull().await.unwrap();
    assert_eq!(shown(&tablet.rows), shown(&laptop.rows));
    assert_eq!(again.fold(laptop.id).await.unwrap().outcome, FoldOutcome::Stored);
    let mut fresh = App::new(world.next_device(&user, "fresh").await);
    fresh.pull().await.unwrap();
    assert_eq!(shown(&fresh.rows), shown(&laptop.rows));
}

/// A thief of the token, who has no key: the server takes it for a device.
pub(super) async fn garbage(world: &World, user: &User, id: DeviceId) {
    garbage_batches(world, user, id, 3).await;
}

/// As many batches of one entry.
async fn garbage_batches(world: &World, user: &User, id: DeviceId, batches: usize) {
    let thief = Interference::new(|request| match request.body() {
        RequestBody::Full(body) if request.uri().path() == "/api/sync/push" => {
            let mut push: Push = minicbor_serde::from_slice(body).unwrap();
            push.sealed.0.iter_mut().for_each(|byte| *byte ^= 0x55);
            Fate::Rewritten(minicbor_serde::to_vec(&push).unwrap())
        }
        _ => Fate::Delivered,
    });
    let client = world.resumed_over(user, thief);
    for _ in 0..batches {
        // The server stores the bytes; the SDK in the thief's hands finds that they do not open.
        let error = client.push(id, changes(1)).await.unwrap_err();
        assert!(error.source.is_tampering(), "{error:?}");
    }
}

#[tokio::test]
async fn garbage_of_a_token_thief_is_skipped_and_compacted() {
    // What a thief of a token appended is skipped and compacted.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    garbage(&world, &user, laptop.id).await;
    // Who does not read, writes on.
    phone.client.push(phone.id, vec![change("notes", "b")]).await.unwrap();
    garbage(&world, &user, laptop.id).await;
    phone.client.push(phone.id, vec![change("notes", "c")]).await.unwrap();

    let laptop_id = laptop.id;
    for app in [&mut laptop, &mut phone] {
        // One decision for all of it.
        let evidence = app.evidence().await;
        assert!(matches!(evidence, RejoinEvidence::Batch(_)), "{evidence:?}");
        let rejoined = app.rejoin(&evidence).await;
        // Under its own name, the garbage could be a push of its own that was replaced in transit.
        assert_eq!(rejoined.push_all_rows, app.id == laptop_id);
        assert_eq!(rejoined.latest.seq, 9);
        // It need not, here.
        app.is_rejoining = false;
        app.sync().await.unwrap();
        assert_eq!(app.rows.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
    // The app starts again, and reads all of it again.
    let again = world.another_client(&user).await;
    assert_eq!(pull_all(&again, laptop.id, Cursor::START).await.unwrap().0.len(), 3);

    // A new device meets it in turn, until somebody folds.
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    assert!(matches!(tablet.evidence().await, RejoinEvidence::Batch(_)));
    let report = again.fold(laptop.id).await.unwrap();
    assert_eq!((report.outcome, report.rows), (FoldOutcome::Stored, 3));
    tablet.sync().await.unwrap();
    assert_eq!(shown(&tablet.rows), shown(&phone.rows));
}

#[tokio::test]
async fn exchanged_bytes_never_count_as_stored() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    // An attacker in between replaces the bytes of one push, and keeps its id.
    let exchanged = AtomicUsize::new(0);
    let between = Interference::new(move |request| match request.body() {
        RequestBody::Full(body) if request.uri().path() == "/api/sync/push" => {
            if exchanged.fetch_add(1, Ordering::SeqCst) > 0 {
                return Fate::Delivered;
            }
            let mut push: Push = minicbor_serde::from_slice(body).unwrap();
            push.sealed.0.iter_mut().for_each(|byte| *byte ^= 0x55);
            Fate::Rewritten(minicbor_serde::to_vec(&push).unwrap())
        }
        _ => Fate::Delivered,
    });
    let (phone, phone_id) = world.device_over(&user, "phone", between).await;
    let (batch_id, row) = (SyncKitClient::new_batch_id(), vec![change("notes", "a")]);
    let push = || phone.push_at(phone_id, Cursor::START, Some(batch_id), row.clone());
    let error = push().await.unwrap_err();
    assert_eq!(error.accepted, 0);
    let evidence = error.source.rejoin_evidence().unwrap();
    assert!(
        matches!(&evidence, RejoinEvidence::Batch(batch) if batch.batch_id == batch_id && batch.device_id == phone_id),
        "{evidence:?}"
    );
    // The id is used: for every push under it, the server gives the same answer.
    assert_eq!(
        push().await.unwrap_err().source.rejoin_evidence(),
        Some(evidence.clone())
    );

    // After the user's decision the device continues, and learns that its rows may be lost.
    let rejoined = phone.rejoin(&evidence, Cursor::START).await.unwrap();
    assert!(rejoined.push_all_rows);
    let error = push().await.unwrap_err();
    assert!(
        matches!(
            error.source,
            Error::InvalidArgument {
                argument: "batch_id",
                ..
            }
        ),
        "{error:?}"
    );
    phone.push(phone_id, row.clone()).await.unwrap();
    let read = pull_all(&phone, phone_id, Cursor::START).await.unwrap().0;
    assert_eq!(read, row);
}

/// A credential store in memory, whose key ring a test reads.
#[derive(Debug, Clone, Default)]
struct OpenStore {
    records: MemoryStore,
    key_ring: Arc<Mutex<Vec<u8>>>,
}

impl CredentialStore for OpenStore {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        self.records.read(name)
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        if name.ends_with("/keys") {
            *self.key_ring.lock().unwrap() = value.to_vec();
        }
        self.records.write(name, value)
    }

    fn delete(&self, name: &str) -> Result<(), CredentialError> {
        self.records.delete(name)
    }
}

/// Pushes from a device of the user whose encoder has a defect: it holds the key and seals a frame of an unknown method.
async fn malformed(world: &World, user: &User) -> DeviceId {
    let store = OpenStore::default();
    let scope = Arc::new(OnceLock::new());
    let (key_ring, scope_of_push) = (Arc::clone(&store.key_ring), Arc::clone(&scope));
    let defective = Interference::new(move |request| match request.body() {
        RequestBody::Full(body) if request.uri().path() == "/api/sync/push" => {
            let mut push: Push = minicbor_serde::from_slice(body).unwrap();
            let scope: &StreamScope = scope_of_push.get().unwrap();
            let ring = KeyRing::from_secret_bytes(scope, &key_ring.lock().unwrap()).unwrap();
            let aad = [
                b"synckit/1 batch\0".as_slice(),
                scope.app_id.as_bytes(),
                scope.user_id.as_bytes(),
                push.device_id.as_bytes(),
                push.batch_id.as_bytes(),
                push.key_id.as_bytes(),
                &push.count.to_be_bytes(),
                &push.parent.seq.to_be_bytes(),
                push.parent.head.as_bytes(),
            ]
            .concat();
            let cipher = XChaCha20Poly1305::new(ring.current().subkeys(scope).batch.expose_bytes().into());
            let (nonce, ciphertext) = push.sealed.0.split_at(24);
            let nonce = *XNonce::from_slice(nonce);
            let mut plaintext = cipher
                .decrypt(
                    &nonce,
                    Payload {
                        msg: ciphertext,
                        aad: &aad,
                    },
                )
                .unwrap();
            plaintext[0] = 1;
            let ciphertext = cipher
                .encrypt(
                    &nonce,
                    Payload {
                        msg: &plaintext,
                        aad: &aad,
                    },
                )
                .unwrap();
            push.sealed.0 = [nonce.as_slice(), &ciphertext].concat();
            Fate::Rewritten(minicbor_serde::to_vec(&push).unwrap())
        }
        _ => Fate::Delivered,
    });
    let client = SyncKitClient::builder(world.config())
        .credential_store(store)
        .transport(defective)
        .build();
    client.authenticate(&user.email, &user.password).await.unwrap();
    client.setup_encryption_existing(&user.password).await.unwrap();
    let (app_id, user_id) = (client.app_id().unwrap(), client.user_id().unwrap());
    scope.set(StreamScope { app_id, user_id }).unwrap();
    let device = client.register_device("defective", "linux").await.unwrap();
    let error = client.push(device.id, changes(3)).await.unwrap_err();
    assert!(error.source.is_tampering(), "{error:?}");
    device.id
}

#[tokio::test]
async fn batch_that_breaks_a_rule_is_skipped_with_evidence() {
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    let defective = malformed(&world, &user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    phone.push(phone_id, vec![change("notes", "b")]).await.unwrap();

    let evidence = laptop.evidence().await;
    let RejoinEvidence::Batch(batch) = &evidence else {
        panic!("{evidence:?}")
    };
    assert_eq!((batch.device_id, batch.parent.seq, batch.count), (defective, 1, 3));
    assert_eq!(batch.reason, "unknown method");
    // It does not go away by itself.
    assert_eq!(laptop.evidence().await, evidence);

    let rejoined = laptop.rejoin(&evidence).await;
    assert_eq!(rejoined.latest.seq, 5);
    assert!(rejoined.push_all_rows, "what it held has reached no device");
    laptop.sync().await.unwrap();
    assert_eq!(laptop.rows.keys().collect::<Vec<_>>(), ["a", "b"]);

    // A new device meets it in turn, until somebody folds.
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    assert!(matches!(tablet.evidence().await, RejoinEvidence::Batch(_)));
    laptop.client.fold(laptop.id).await.unwrap();
    tablet.sync().await.unwrap();
    assert_eq!(shown(&tablet.rows), shown(&laptop.rows));
}
