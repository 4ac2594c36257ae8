//! Rejoins that are refused: nothing is wrong, or the server lies.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::{Cursor, DeviceId, Error, KeyId, RejoinEvidence, SyncKitClient, Tampering};
use synckit_protocol::wire::log::Page;

use super::{app::App, skipped::garbage};
use crate::{
    interference::Interference,
    world::{User, World, changes, pull_all},
};

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

/// Pulls over a liar with a cursor at the start.
async fn first_page_changed(
    world: &World,
    user: &User,
    times: usize,
    lie: impl Fn(&mut Page) + Clone + Send + Sync + 'static,
) -> (SyncKitClient, DeviceId, Error) {
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
    (client, id, error)
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
    let (client, id, error) = first_page_changed(&world, &user, 1, |page| page.batches[1].sealed.0[40] ^= 1).await;
    let evidence = error.rejoin_evidence().unwrap();
    let error = client.rejoin(&evidence, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::NothingToRejoin), "{error:?}");
    assert_eq!(pull_all(&client, id, Cursor::START).await.unwrap().0.len(), 3);

    // A true batch under a false number, or a batch under a key that nobody knows, is not to be left out: it could be
    // somebody's. An app does not even ask.
    let lies: [fn(&mut Page); 2] = [
        |page| page.batches[1].first_seq += 1,
        |page| page.batches[1].key_id = KeyId::from_bytes([7; 16]),
    ];
    for lie in lies {
        let (client, id, error) = first_page_changed(&world, &user, 1, lie).await;
        assert_eq!(error.rejoin_evidence(), None);
        let Error::Tampering(Tampering::BatchForged(batch)) = error else {
            panic!("{error:?}");
        };
        let evidence = RejoinEvidence::Batch(batch);
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
