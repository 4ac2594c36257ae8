//! Batches that nobody can read: garbage of a token thief, and batches of a defective encoder.

use std::sync::{Arc, Mutex, OnceLock};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use synckit_client::{
    CredentialError, CredentialStore, Cursor, DeviceId, FoldOutcome, MemoryStore, RejoinEvidence, SyncKitClient,
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

/// A thief of the token, who has no key: the server takes it for a device.
pub(super) async fn garbage(world: &World, user: &User, id: DeviceId) {
    let thief = Interference::new(|request| match request.body() {
        RequestBody::Full(body) if request.uri().path() == "/api/sync/push" => {
            let mut push: Push = minicbor_serde::from_slice(body).unwrap();
            push.sealed.0.iter_mut().for_each(|byte| *byte ^= 0x55);
            Fate::Rewritten(minicbor_serde::to_vec(&push).unwrap())
        }
        _ => Fate::Delivered,
    });
    let client = world.resumed_over(user, thief);
    // The thief is told where its bytes are, under its own batch id.
    client.push(id, changes(3)).await.unwrap();
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

    for app in [&mut laptop, &mut phone] {
        for _ in 0..2 {
            let evidence = app.evidence().await;
            assert!(matches!(evidence, RejoinEvidence::Batch(_)), "{evidence:?}");
            let rejoined = app.rejoin(&evidence).await;
            assert!(!rejoined.push_all_rows);
            assert_eq!(rejoined.latest.seq, 9);
        }
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
    client.push(device.id, changes(3)).await.unwrap();
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
