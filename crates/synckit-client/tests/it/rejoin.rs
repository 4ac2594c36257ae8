//! Going on after the server went back, or past what a vandal wrote: by the user's decision, and with nothing lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use serde_json::json;
use synckit_client::{
    ChangeEntry, ChangeOp, CredentialError, CredentialStore, Cursor, DeviceId, Error, FoldOutcome, KeyId, MemoryStore,
    RejoinEvidence, Rejoined, SyncKitClient, Tampering, Timestamp, transport::RequestBody,
};
use synckit_crypto::{KeyRing, StreamScope};
use synckit_protocol::wire::log::{Page, Push};
use zeroize::Zeroizing;

use crate::{
    interference::{Fate, Interference},
    snapshots::{DAY, cut, stored, world_with_days},
    world::{User, World, change, changes, pull_all},
};

/// The last change of every row, deletions too, as an app with a database keeps them.
type Rows = BTreeMap<String, ChangeEntry>;

/// The app of `SyncKitClient::rejoin`'s documentation, on one device.
struct App {
    client: SyncKitClient,
    id: DeviceId,
    rows: Rows,
    pending: Vec<ChangeEntry>,
    cursor: Cursor,
    is_rejoining: bool,
}

impl App {
    fn new((client, id): (SyncKitClient, DeviceId)) -> Self {
        Self {
            client,
            id,
            rows: Rows::new(),
            pending: Vec::new(),
            cursor: Cursor::START,
            is_rejoining: false,
        }
    }

    fn merge(&mut self, changes: Vec<ChangeEntry>) {
        merge(&mut self.rows, changes);
    }

    fn edit(&mut self, row: &str, time: i64) {
        self.note(ChangeEntry {
            op: ChangeOp::Update,
            data: Some(json!({ "at": time })),
            timestamp: Timestamp::from_micros(time),
            ..change("notes", row)
        });
    }

    fn delete(&mut self, row: &str, time: i64) {
        self.note(ChangeEntry {
            op: ChangeOp::Delete,
            data: None,
            timestamp: Timestamp::from_micros(time),
            ..change("notes", row)
        });
    }

    fn note(&mut self, edit: ChangeEntry) {
        self.pending.push(edit.clone());
        self.merge(vec![edit]);
    }

    async fn sync(&mut self) -> Result<(), Error> {
        self.pull().await?;
        if self.is_rejoining {
            self.push_all_rows().await?;
            self.is_rejoining = false;
            self.pending.clear();
        }
        self.client.push(self.id, std::mem::take(&mut self.pending)).await?;
        Ok(())
    }

    async fn pull(&mut self) -> Result<(), Error> {
        loop {
            let (changes, cursor, has_more) = self.client.pull(self.id, self.cursor).await?;
            self.merge(changes);
            self.cursor = cursor;
            if !has_more {
                return Ok(());
            }
        }
    }

    async fn push_all_rows(&mut self) -> Result<(), Error> {
        let mut rows: Vec<String> = self.rows.keys().cloned().collect();
        loop {
            let changes = rows.iter().map(|row| self.rows[row].clone()).collect();
            match self.client.push_at(self.id, self.cursor, None, changes).await {
                Ok(cursor) => {
                    self.cursor = cursor;
                    return Ok(());
                }
                Err(failed) => {
                    rows.drain(..failed.accepted);
                    self.cursor = failed.cursor;
                    let Error::Behind { .. } = failed.source else {
                        return Err(failed.source);
                    };
                    self.pull().await?;
                }
            }
        }
    }

    /// What the last sync said.
    async fn evidence(&mut self) -> RejoinEvidence {
        let error = self.sync().await.unwrap_err();
        assert!(error.is_tampering(), "{error:?}");
        error.rejoin_evidence().unwrap()
    }

    async fn rejoin(&mut self, evidence: &RejoinEvidence) -> Rejoined {
        let rejoined = self.client.rejoin(evidence, self.cursor).await.unwrap();
        assert!(rejoined.cursor.seq() <= self.cursor.seq());
        self.cursor = rejoined.cursor;
        self.is_rejoining |= rejoined.push_all_rows;
        rejoined
    }
}

fn merge(rows: &mut Rows, changes: Vec<ChangeEntry>) {
    for change in changes {
        match rows.get(&change.row_id) {
            Some(held) if held.timestamp > change.timestamp => {}
            _ => drop(rows.insert(change.row_id.clone(), change)),
        }
    }
}

/// What is there, whoever wrote it how.
fn shown(rows: &Rows) -> BTreeMap<&str, (i64, bool)> {
    rows.iter()
        .map(|(row, change)| {
            (
                row.as_str(),
                (change.timestamp.as_micros(), change.op != ChangeOp::Delete),
            )
        })
        .collect()
}

/// Everybody syncs until nobody has anything to say, and has what anybody had.
async fn converge(world: &World, user: &User, apps: &mut [&mut App], expected: &Rows) {
    for _ in 0..2 {
        for app in apps.iter_mut() {
            app.sync().await.unwrap();
        }
    }
    for app in apps.iter() {
        assert_eq!(shown(&app.rows), shown(expected));
    }
    let mut fresh = App::new(world.next_device(user, "fresh").await);
    fresh.sync().await.unwrap();
    assert_eq!(shown(&fresh.rows), shown(expected));
}

fn union(apps: &[&App]) -> Rows {
    let mut all = Rows::new();
    for app in apps {
        merge(&mut all, app.rows.values().cloned().collect());
    }
    all
}

#[tokio::test]
async fn rejoin_after_a_restore_loses_nothing() {
    // All devices rejoin a restored server and nothing that any of them had is lost.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    for row in ["a", "b", "c", "d"] {
        laptop.edit(row, 10);
        laptop.sync().await.unwrap();
    }
    phone.sync().await.unwrap();
    tablet.sync().await.unwrap();
    let backup = world.backup();
    // Each has what the others lack, and a newer version of something.
    laptop.edit("laptop", 20);
    laptop.edit("a", 30);
    laptop.edit("b", 21);
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    phone.edit("phone", 22);
    phone.edit("a", 25);
    phone.edit("b", 40);
    phone.delete("c", 41);
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    tablet.edit("d", 50);
    tablet.edit("tablet", 51);
    tablet.sync().await.unwrap();
    tablet.edit("c", 20);
    let expected = union(&[&laptop, &phone, &tablet]);
    let world = world.restore(backup).await;

    let old_ends = [laptop.cursor.seq(), phone.cursor.seq()];
    for app in [&mut laptop, &mut phone, &mut tablet] {
        let evidence = app.evidence().await;
        // The user has not decided yet: nothing goes on by itself.
        assert!(app.sync().await.unwrap_err().is_tampering());
        assert!(
            app.client
                .push(app.id, changes(1))
                .await
                .unwrap_err()
                .source
                .is_tampering()
        );
        let rejoined = app.rejoin(&evidence).await;
        assert!(rejoined.push_all_rows);
        app.sync().await.unwrap();
    }
    assert!(old_ends.iter().all(|end| *end > 4));
    converge(&world, &user, &mut [&mut laptop, &mut phone, &mut tablet], &expected).await;
}

#[tokio::test]
async fn concurrent_rejoins_keep_the_newest_versions() {
    // Devices that rejoin at once write no older version after a newer one.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let backup = world.backup();
    // More than one batch, and each device is ahead in a half of it.
    for row in 0..600 {
        laptop.edit(&format!("row {row}"), 10 + row % 2);
        phone.edit(&format!("row {row}"), 11 - row % 2);
    }
    for app in [&mut laptop, &mut phone] {
        app.sync().await.unwrap();
    }
    let expected = union(&[&laptop, &phone]);
    let world = world.restore(backup).await;
    for app in [&mut laptop, &mut phone] {
        let evidence = app.evidence().await;
        app.rejoin(&evidence).await;
    }
    let (one, other) = tokio::join!(laptop.sync(), phone.sync());
    one.unwrap();
    other.unwrap();
    // The log decides, not the time, for whoever reads it later.
    let (fresh, id) = world.next_device(&user, "fresh").await;
    let mut last = Rows::new();
    for change in pull_all(&fresh, id, Cursor::START).await.unwrap().0 {
        last.insert(change.row_id.clone(), change);
    }
    assert_eq!(shown(&last), shown(&expected));
}

#[tokio::test]
async fn last_common_position_survives_a_restart() {
    // The last common position is near and found after a restart too.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    for time in 0..60 {
        laptop.edit("row", time);
        laptop.sync().await.unwrap();
    }
    let backup = world.backup();
    for time in 60..64 {
        laptop.edit("row", time);
        laptop.sync().await.unwrap();
    }
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;
    let evidence = laptop.evidence().await;
    let rejoined = laptop.rejoin(&evidence).await;
    assert_eq!(rejoined.latest.seq, 60);
    assert!((32..=60).contains(&rejoined.cursor.seq()), "{}", rejoined.cursor);
    // The app never stored what it was given, and starts again.
    let again = world.another_client(&user).await;
    let old = Cursor::at(match evidence {
        RejoinEvidence::History(evidence) => evidence.known,
        other => panic!("{other:?}"),
    });
    again.resume_at(old);
    let error = again.pull(laptop.id, old).await.unwrap_err();
    let second = again.rejoin(&error.rejoin_evidence().unwrap(), old).await.unwrap();
    assert!((32..=60).contains(&second.cursor.seq()), "{}", second.cursor);
    assert_eq!(pull_all(&again, laptop.id, second.cursor).await.unwrap().1.seq(), 60);
}

#[tokio::test]
async fn a_cursor_that_lags_is_never_moved_forward() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    phone.push(phone_id, vec![change("t", "theirs")]).await.unwrap();
    // It knows the chain by its own pushes, and its app has pulled nothing.
    laptop.push(laptop_id, vec![change("t", "mine")]).await.unwrap();
    let backup = world.backup();
    laptop.push(laptop_id, vec![change("t", "gone")]).await.unwrap();
    let world = world.restore(backup).await;
    let error = laptop.pull(laptop_id, Cursor::START).await.unwrap_err();
    let evidence = error.rejoin_evidence().unwrap();
    let rejoined = laptop.rejoin(&evidence, Cursor::START).await.unwrap();
    assert_eq!(rejoined.cursor, Cursor::START);
    assert_eq!(rejoined.latest.seq, 2);
    let rows = pull_all(&laptop, laptop_id, rejoined.cursor).await.unwrap().0;
    assert_eq!(
        rows.iter().map(|row| row.row_id.as_str()).collect::<Vec<_>>(),
        ["theirs", "mine"]
    );
    drop(world);
}

#[tokio::test]
async fn rotation_unknown_to_the_backup_is_put_back() {
    // A rotation that the backup does not know is put back.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    laptop.edit("a", 1);
    for app in [&mut laptop, &mut phone, &mut tablet] {
        app.sync().await.unwrap();
    }
    let backup = world.backup();
    for round in 0..2 {
        laptop.edit("b", 10 + round);
        laptop.sync().await.unwrap();
        laptop.client.rotate_keys(&user.password).await.unwrap();
    }
    laptop.edit("c", 20);
    laptop.sync().await.unwrap();
    phone.client.setup_encryption_existing(&user.password).await.unwrap();
    phone.sync().await.unwrap();
    phone.edit("d", 21);
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;

    // It has heard of nothing, and writes on under the old key, further than where that key ended.
    for time in 30..40 {
        tablet.edit("e", time);
        tablet.sync().await.unwrap();
    }
    let expected = union(&[&laptop, &phone, &tablet]);

    let evidence = laptop.evidence().await;
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 3,
                found_version: 1
            })
        ),
        "{error:?}"
    );
    laptop.client.restore_envelope(&user.password).await.unwrap();
    // The keys are back; the history is another decision.
    assert!(laptop.sync().await.unwrap_err().is_tampering());
    laptop.rejoin(&evidence).await;
    laptop.sync().await.unwrap();

    // The next device takes the ends of the keys from the envelope, without a password.
    let evidence = phone.evidence().await;
    phone.rejoin(&evidence).await;
    phone.sync().await.unwrap();
    let error = tablet.sync().await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    tablet.client.setup_encryption_existing(&user.password).await.unwrap();
    converge(&world, &user, &mut [&mut laptop, &mut phone, &mut tablet], &expected).await;
}

#[tokio::test]
async fn rotations_in_two_histories_are_joined() {
    // Two devices that rotated in two histories come together.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let backup = world.backup();
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    laptop.client.rotate_keys(&user.password).await.unwrap();
    laptop.edit("b", 2);
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;
    phone.edit("c", 3);
    phone.client.rotate_keys(&user.password).await.unwrap();
    phone.sync().await.unwrap();
    let expected = union(&[&laptop, &phone]);

    let evidence = laptop.evidence().await;
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    // Its own key is nobody's any more, and must not replace the other.
    let error = laptop.client.restore_envelope(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    laptop.client.setup_encryption_existing(&user.password).await.unwrap();
    laptop.rejoin(&evidence).await;
    converge(&world, &user, &mut [&mut laptop, &mut phone], &expected).await;
}

#[tokio::test]
async fn where_nothing_is_wrong_there_is_nothing_to_rejoin() {
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let backup = world.backup();
    laptop.edit("a", 2);
    laptop.sync().await.unwrap();
    // An old page, for once.
    let old = Arc::new(AtomicUsize::new(0));
    let lying = Interference::changing("/api/sync/pull", move |body| {
        if old.fetch_add(1, Ordering::SeqCst) > 0 {
            return body;
        }
        let mut page: Page = minicbor_serde::from_slice(&body).unwrap();
        page.batches.clear();
        page.cursor = Cursor::START;
        minicbor_serde::to_vec(&page).unwrap()
    });
    let client = world.resumed_over(&user, lying);
    client.resume_at(laptop.cursor);
    let error = client.pull(laptop.id, Cursor::START).await.unwrap_err();
    let evidence = error.rejoin_evidence().unwrap();
    let error = client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(matches!(error, Error::NothingToRejoin), "{error:?}");
    assert!(!error.is_tampering());
    client.pull(laptop.id, Cursor::START).await.unwrap();

    // What was resolved once is no reason to go back another time.
    let world = world.restore(backup).await;
    let evidence = laptop.evidence().await;
    laptop.rejoin(&evidence).await;
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(matches!(error, Error::NothingToRejoin), "{error:?}");
    let second = world.backup();
    laptop.edit("a", 3);
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let _world = world.restore(second).await;
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(matches!(error, Error::NothingToRejoin), "{error:?}");
    let evidence = laptop.evidence().await;
    laptop.rejoin(&evidence).await;
    laptop.sync().await.unwrap();
}

#[tokio::test]
async fn a_rejoin_that_was_cut_off_anywhere_is_repeated() {
    let mut world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let backup = world.backup();
    for lost_from in 0..8 {
        laptop.edit(&format!("row {lost_from}"), 2);
        laptop.sync().await.unwrap();
        laptop.sync().await.unwrap();
        world = world.restore(backup.clone()).await;

        // The future is dropped while it waits for the answer to one of its requests.
        let sent = Arc::new(AtomicUsize::new(0));
        let stuck = Interference::new(move |_| {
            if sent.fetch_add(1, Ordering::SeqCst) > lost_from {
                Fate::Unanswered
            } else {
                Fate::Delivered
            }
        });
        let client = world.resumed_over(&user, Arc::clone(&stuck) as Arc<_>);
        client.resume_at(laptop.cursor);
        let dying = async {
            let error = client.pull(laptop.id, laptop.cursor).await.unwrap_err();
            let rejoined = client.rejoin(&error.rejoin_evidence().unwrap(), laptop.cursor).await;
            rejoined.unwrap();
            true
        };
        let stopped = async {
            while stuck.requests() <= lost_from + 1 {
                tokio::task::yield_now().await;
            }
            false
        };
        let is_done = tokio::select! {
            done = dying => done,
            done = stopped => done,
        };
        assert!(
            is_done || lost_from < 7,
            "it takes more requests than this test cuts off"
        );
        assert!(
            !is_done || lost_from > 3,
            "nothing was cut off after {lost_from} requests"
        );

        laptop.client = world.another_client(&user).await;
        laptop.client.resume_at(laptop.cursor);
        let evidence = laptop.evidence().await;
        laptop.rejoin(&evidence).await;
        laptop.sync().await.unwrap();
    }
    let mut fresh = App::new(world.next_device(&user, "fresh").await);
    fresh.sync().await.unwrap();
    assert_eq!(shown(&fresh.rows), shown(&laptop.rows));
    assert_eq!(fresh.rows.len(), 9);
}

#[tokio::test]
async fn compacted_log_is_rejoined_through_its_snapshot() {
    // A restored log that was cut is rejoined through its snapshot.
    let (world, now) = world_with_days().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    for time in 0..20 {
        laptop.edit("a", time);
        laptop.edit(&format!("row {time}"), time);
        laptop.sync().await.unwrap();
    }
    laptop.sync().await.unwrap();
    stored(&laptop.client, laptop.id).await;
    // Now the server hears that the app has everything up to there.
    laptop.sync().await.unwrap();
    let whole = laptop.client.status().await.unwrap().stored_bytes;
    now.fetch_add(15 * DAY, Ordering::SeqCst);
    cut(&laptop.client, whole).await;
    let backup = world.backup();
    laptop.edit("b", 30);
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;
    let evidence = laptop.evidence().await;
    // The app has lost its own cursor, so nothing later than the start will do.
    let lagging = world.another_client(&user).await;
    lagging.resume_at(laptop.cursor);
    let error = lagging.pull(laptop.id, laptop.cursor).await.unwrap_err();
    let rejoined = lagging
        .rejoin(&error.rejoin_evidence().unwrap(), Cursor::START)
        .await
        .unwrap();
    assert_eq!((rejoined.cursor, rejoined.latest.seq), (Cursor::START, 40));
    assert_eq!(pull_all(&lagging, laptop.id, Cursor::START).await.unwrap().0.len(), 21);

    let expected = union(&[&laptop]);
    laptop.rejoin(&evidence).await;
    converge(&world, &user, &mut [&mut laptop], &expected).await;
}

/// A thief of the token, who has no key: the server takes it for a device.
async fn garbage(world: &World, user: &User, id: DeviceId) {
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

/// Pulls over a liar with a cursor at the start.
async fn first_page_changed(
    world: &World,
    user: &User,
    times: usize,
    lie: impl Fn(&mut Page) + Clone + Send + Sync + 'static,
) -> (SyncKitClient, DeviceId, RejoinEvidence) {
    let told = Arc::new(AtomicUsize::new(0));
    let liar = Interference::changing("/api/sync/pull", move |body| {
        if told.fetch_add(1, Ordering::SeqCst) >= times {
            return body;
        }
        let mut page: Page = minicbor_serde::from_slice(&body).unwrap();
        lie(&mut page);
        minicbor_serde::to_vec(&page).unwrap()
    });
    let (client, id) = world.device_over(user, "victim", liar).await;
    let error = client.pull(id, Cursor::START).await.unwrap_err();
    let evidence = error.rejoin_evidence().unwrap();
    (client, id, evidence)
}

#[tokio::test]
async fn a_liar_gains_nothing_by_a_rejoin() {
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    for row in ["a", "b", "c"] {
        laptop.edit(row, 1);
        laptop.sync().await.unwrap();
    }
    // Changed on its way once: the chain does not agree with it, so nothing is left out.
    let (client, id, evidence) = first_page_changed(&world, &user, 1, |page| page.batches[1].sealed.0[40] ^= 1).await;
    let error = client.rejoin(&evidence, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::NothingToRejoin), "{error:?}");
    assert_eq!(pull_all(&client, id, Cursor::START).await.unwrap().0.len(), 3);

    // A true batch under a false number, or a batch under a key that nobody knows, is not to be left out: it could be
    // somebody's.
    let lies: [fn(&mut Page); 2] = [
        |page| page.batches[1].first_seq += 1,
        |page| page.batches[1].key_id = KeyId::from_bytes([7; 16]),
    ];
    for lie in lies {
        let (client, id, evidence) = first_page_changed(&world, &user, 1, lie).await;
        let error = client.rejoin(&evidence, Cursor::START).await.unwrap_err();
        assert!(
            matches!(error, Error::Tampering(Tampering::BatchForged(_))),
            "{error:?}"
        );
        assert_eq!(pull_all(&client, id, Cursor::START).await.unwrap().0.len(), 3);
    }

    // To go past one batch is not to go past another.
    garbage(&world, &user, laptop.id).await;
    let evidence = laptop.evidence().await;
    laptop.rejoin(&evidence).await;
    laptop.sync().await.unwrap();
    garbage(&world, &user, laptop.id).await;
    assert!(
        matches!(laptop.evidence().await, RejoinEvidence::Batch(other) if RejoinEvidence::Batch(other.clone()) != evidence)
    );

    // And a server that went back cannot make what is forged be believed: after the rejoin every batch is verified.
    let (client, id) = world.next_device(&user, "reader").await;
    client.push(id, changes(1)).await.unwrap();
    let backup = world.backup();
    client.push(id, changes(1)).await.unwrap();
    let world = world.restore(backup).await;
    let liar = Interference::changing("/api/sync/pull", |body| {
        let Ok(mut page) = minicbor_serde::from_slice::<Page>(&body) else {
            return body;
        };
        page.batches[0].sealed.0[50] ^= 1;
        minicbor_serde::to_vec(&page).unwrap()
    });
    let client = {
        let error = client.push(id, changes(1)).await.unwrap_err();
        let evidence = error.source.rejoin_evidence().unwrap();
        client.rejoin(&evidence, Cursor::START).await.unwrap();
        drop(client);
        world.resumed(&user, "reader", liar)
    };
    let error = client.pull(id, Cursor::START).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::BatchForged(_))),
        "{error:?}"
    );
}
