//! A lying server is caught, and the error carries the evidence.
//!
//! Each attack changes what the server answers, or its database, and has an honest run beside it in `push_pull`.

use std::sync::{Arc, Mutex};

use synckit_client::{Cursor, Error, Position, Problem, Tampering};
use synckit_protocol::{
    BatchDigest, SealedHash,
    wire::{
        keys::EnvelopeAnswer,
        log::{Page, Pushed},
    },
};

use crate::{
    interference::{Fate, Interference},
    world::{User, World, change, changes, pull_all},
};

/// Changes the pages that a fresh client of the user pulls, and returns what the first pull says.
async fn pull_changed(
    world: &World,
    user: &User,
    lie: impl Fn(&mut Page) + Clone + Send + Sync + 'static,
) -> Result<usize, Error> {
    let transport = Interference::changing("/api/sync/pull", move |body| {
        let mut page: Page = minicbor_serde::from_slice(&body).unwrap();
        lie(&mut page);
        minicbor_serde::to_vec(&page).unwrap()
    });
    let (client, id) = world.device_over(user, "victim", transport).await;
    pull_all(&client, id, Cursor::START)
        .await
        .map(|(changes, _)| changes.len())
}

async fn stream_of_three(world: &World) -> User {
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    for row in ["a", "b", "c"] {
        laptop.push(id, vec![change("t", row), change("t", "x")]).await.unwrap();
    }
    user
}

#[tokio::test]
async fn an_honest_page_passes() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    assert_eq!(pull_changed(&world, &user, |_| {}).await.unwrap(), 6);
}

#[tokio::test]
async fn a_changed_batch_is_forged() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    for place in [0, 30, 60] {
        let error = pull_changed(&world, &user, move |page| page.batches[1].sealed.0[place] ^= 1)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Tampering(Tampering::BatchForged(evidence)) if evidence.parent.seq == 2),
            "{error:?}"
        );
        assert!(error.is_tampering());
    }
}

#[tokio::test]
async fn swapped_repeated_and_dropped_batches_are_forged() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    let lies: [fn(&mut Page); 4] = [
        |page| page.batches.swap(0, 1),
        |page| {
            // Swapped with sequences that fit: only the parent inside the seal tells.
            page.batches.swap(0, 1);
            page.batches[0].first_seq = 1;
            page.batches[1].first_seq = 3;
        },
        |page| {
            let mut old = page.batches[0].clone();
            old.first_seq = 7;
            page.batches.push(old);
        },
        |page| {
            page.batches.remove(1);
            page.batches[1].first_seq = 3;
        },
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let error = pull_changed(&world, &user, lie).await.unwrap_err();
        assert!(
            matches!(error, Error::Tampering(Tampering::BatchForged(_))),
            "lie {index}: {error:?}"
        );
    }
}

#[tokio::test]
async fn relabelled_batches_are_forged() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    let lies: [fn(&mut Page); 4] = [
        |page| page.batches[0].device_id = synckit_client::DeviceId::from_bytes([9; 16]),
        |page| page.batches[0].batch_id = synckit_client::BatchId::from_bytes([9; 16]),
        |page| page.batches[0].count = 1,
        |page| page.batches[0].key_id = synckit_client::KeyId::from_bytes([9; 16]),
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let error = pull_changed(&world, &user, lie).await.unwrap_err();
        assert!(
            matches!(error, Error::Tampering(Tampering::BatchForged(_))),
            "lie {index}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_page_that_ends_elsewhere_than_it_says_is_a_fork() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    let truncated = pull_changed(&world, &user, |page| {
        page.batches.pop();
    });
    let error = truncated.await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::HistoryForked(_))),
        "{error:?}"
    );
    let other_head = pull_changed(&world, &user, |page| {
        let mut position = page.cursor.position().unwrap();
        position.head = synckit_client::Head::from_bytes([1; 32]);
        page.cursor = Cursor::at(position);
    });
    let error = other_head.await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::HistoryForked(_))),
        "{error:?}"
    );
}

/// Leaves out the last batch of the page that holds the whole stream, with a cursor that fits what is left.
fn withhold_last(start: Position, body: &[u8]) -> Vec<u8> {
    let mut page: Page = minicbor_serde::from_slice(body).unwrap();
    page.batches.pop().unwrap();
    let end = page.batches.iter().fold(start, |at, batch| {
        let digest = BatchDigest {
            batch_id: batch.batch_id,
            device_id: batch.device_id,
            key_id: batch.key_id,
            count: batch.count,
            sealed_hash: SealedHash::of(batch.sealed.as_ref()),
        };
        at.advance(&digest).unwrap()
    });
    page.cursor = Cursor::at(end);
    minicbor_serde::to_vec(&page).unwrap()
}

#[tokio::test]
async fn withholding_what_a_device_has_seen_is_a_rewind() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    let lie_from: Arc<Mutex<Option<Position>>> = Arc::default();
    let switch = Arc::clone(&lie_from);
    let transport = Interference::new(move |request| match *switch.lock().unwrap() {
        Some(start) if request.uri().path() == "/api/sync/pull" => {
            Fate::Changed(Box::new(move |body| withhold_last(start, &body)))
        }
        _ => Fate::Delivered,
    });
    let (victim, victim_id) = world.device_over(&user, "victim", transport).await;
    let (_, cursor) = pull_all(&victim, victim_id, Cursor::START).await.unwrap();
    *lie_from.lock().unwrap() = Some(Position::start_of(victim.app_id().unwrap(), victim.user_id().unwrap()));
    let error = pull_all(&victim, victim_id, Cursor::START).await.unwrap_err();
    let Error::Tampering(Tampering::HistoryRewound(evidence)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(evidence.known, cursor.position().unwrap());
    assert_eq!(evidence.claimed.seq, 4);
    // A device that never saw the third batch cannot know: this is what a server can always do.
    *lie_from.lock().unwrap() = None;
    pull_all(&victim, victim_id, Cursor::START).await.unwrap();
}

#[tokio::test]
async fn push_catches_a_server_that_lost_a_batch() {
    // A server that lost what it acknowledged is caught at the next push.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    let (_, cursor, _) = laptop.pull(laptop_id, Cursor::START).await.unwrap();
    let backup = world.backup();
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let _world = world.restore(backup).await;
    let error = laptop.push(laptop_id, changes(1)).await.unwrap_err();
    assert!(
        matches!(&error.source, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.known.seq == 5 && evidence.claimed.seq == 3),
        "{error:?}"
    );
    let error = laptop.pull(laptop_id, cursor).await.unwrap_err();
    assert!(
        matches!(&error, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.known.seq == 5 && evidence.claimed.seq == 3),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_push_that_was_not_stored_cannot_be_called_stored() {
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    // The server answers with the place of another batch.
    let transport = Interference::new(|request| {
        if request.uri().path() != "/api/sync/push" {
            return Fate::Delivered;
        }
        let pushed = Pushed {
            first_seq: 1,
            last_seq: 2,
            head: synckit_client::Head::from_bytes([7; 32]),
        };
        Fate::Answered(200, minicbor_serde::to_vec(&pushed).unwrap())
    });
    let (victim, victim_id) = world.device_over(&user, "victim", transport).await;
    pull_all(&victim, victim_id, Cursor::START).await.unwrap();
    let error = victim.push(victim_id, changes(1)).await.unwrap_err();
    assert!(
        matches!(error.source, Error::Tampering(Tampering::HistoryForked(_))),
        "{error:?}"
    );
    assert_eq!(error.accepted, 0);
}

#[tokio::test]
async fn invented_answer_behind_is_refused() {
    // A made up answer to a parent that is behind is refused.
    let world = World::start().await;
    let user = stream_of_three(&world).await;
    let transport = Interference::changing("/api/sync/push", |body| {
        let Ok(mut problem) = serde_json::from_slice::<Problem>(&body) else {
            return body;
        };
        if let Some(behind) = &mut problem.behind {
            behind.digests[0].count += 1;
        }
        serde_json::to_vec(&problem).unwrap()
    });
    // A device that has pulled nothing is behind, and must not seal on top of what does not hash to the head.
    let (victim, victim_id) = world.device_over(&user, "victim", transport).await;
    let error = victim.push(victim_id, changes(1)).await.unwrap_err();
    assert!(
        matches!(error.source, Error::Tampering(Tampering::HistoryForked(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn foreign_or_changed_envelope_is_refused() {
    // An envelope of another account or a changed one is refused.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let other = world.user().await;
    world.first_device(&other).await;
    let theirs = world.stored_envelope(&other);
    let transport = Interference::changing("/api/sync/keys", move |body| {
        let mut answer: EnvelopeAnswer = minicbor_serde::from_slice(&body).unwrap();
        answer.envelope = theirs.clone().into();
        minicbor_serde::to_vec(&answer).unwrap()
    });
    let client = world.signed_in_over(&user, transport).await;
    let error = client.setup_encryption_existing(&user.password).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::KeyMaterialForged(_))),
        "{error:?}"
    );

    let length = world.stored_envelope(&user).len();
    for place in (0..length).step_by(29) {
        let transport = Interference::changing("/api/sync/keys", move |body| {
            let mut answer: EnvelopeAnswer = minicbor_serde::from_slice(&body).unwrap();
            answer.envelope.0[place] ^= 0x40;
            minicbor_serde::to_vec(&answer).unwrap()
        });
        let client = world.resumed_over(&user, transport);
        let error = client.setup_encryption_existing(&user.password).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Tampering(Tampering::KeyMaterialForged(_)) | Error::PasswordWasReset { .. }
            ),
            "byte {place}: {error:?}"
        );
    }
}

#[tokio::test]
async fn another_404_is_not_an_account_without_a_key() {
    // A 404 of any other kind is not an account without a key.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let transport = Interference::new(|request| {
        if request.uri().path() == "/api/sync/keys" {
            Fate::Answered(
                404,
                br#"{"type":"about:blank","code":"not_found","title":"x","status":404}"#.to_vec(),
            )
        } else {
            Fate::Delivered
        }
    });
    let client = world.signed_in_over(&user, transport).await;
    assert!(client.has_server_key().await.is_err());
    assert!(client.setup_encryption_existing(&user.password).await.is_err());
    assert!(client.setup_encryption_new(&user.password).await.is_err());
}
