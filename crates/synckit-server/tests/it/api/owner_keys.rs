//! Proof of the master key: what somebody who has a token and no key cannot do.

use reqwest::Method;
use serde::Serialize;
use synckit_protocol::{
    Head, KeyId, OwnerKey, OwnerSignature, Position, SnapshotId,
    wire::{
        keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
        log::Status,
        snapshots::{PutSnapshot, PutSnapshotPart},
    },
};
use synckit_server::admin::AdminError;

use crate::support::{Answer, KEY_ID, OWNER_SEED, Syncing, UNNAMED, UNSIGNED, World, owner, sign};

/// The seed of an owner key that is not the stream's.
const THIEF: u8 = 66;

fn envelope(expected_version: u64) -> PutEnvelope {
    PutEnvelope {
        envelope: b"an envelope".to_vec().into(),
        key_id: KEY_ID,
        expected_version,
        head: None,
        snapshot: None,
        owner: UNNAMED,
        signature: UNSIGNED,
    }
}

fn manifest(position: Position) -> PutSnapshot {
    PutSnapshot {
        key_id: KEY_ID,
        position,
        parts: 0,
        manifest: vec![6; 100].into(),
        signature: UNSIGNED,
    }
}

fn snapshot(n: u8) -> SnapshotId {
    SnapshotId::from_bytes([n; 16])
}

/// A body without one of its fields.
fn without(body: &impl Serialize, field: &str) -> serde_json::Value {
    let mut body = serde_json::to_value(body).unwrap();
    body.as_object_mut().unwrap().remove(field).unwrap();
    body
}

fn owner_key(seed: u8) -> OwnerKey {
    OwnerKey::from_bytes(owner(seed).verifying_key().to_bytes())
}

async fn put(world: &World, user: &Syncing, path: &str, body: &impl Serialize) -> Answer {
    let call = world.call(Method::PUT, path).bearer(&user.user.token);
    call.json(body).send().await
}

async fn put_envelope(world: &World, user: &Syncing, body: &PutEnvelope) -> Answer {
    put(world, user, "/api/sync/keys", body).await
}

async fn put_snapshot(world: &World, user: &Syncing, n: u8, body: &PutSnapshot) -> Answer {
    put(world, user, &format!("/api/sync/snapshots/{}", snapshot(n)), body).await
}

async fn current(world: &World, user: &Syncing) -> EnvelopeAnswer {
    world.get("/api/sync/keys").bearer(&user.user.token).send().await.ok()
}

#[tokio::test]
async fn a_token_alone_does_not_replace_the_envelope() {
    let world = World::start().await;
    let user = world.ready_user("ada@example.com").await;
    let before = current(&world, &user).await;
    assert_eq!(before.owner, owner_key(OWNER_SEED));

    let whole = user.user.signed_envelope(envelope(1), OWNER_SEED, OWNER_SEED);
    for field in ["owner", "signature"] {
        let body = without(&whole, field);
        assert_eq!(
            put(&world, &user, "/api/sync/keys", &body).await.code(),
            "malformed_body"
        );
    }
    let zeros = PutEnvelope {
        signature: UNSIGNED,
        ..whole.clone()
    };
    let own_key = user.user.signed_envelope(envelope(1), THIEF, THIEF);
    let victims_key = user.user.signed_envelope(envelope(1), OWNER_SEED, THIEF);
    for body in [zeros, own_key, victims_key] {
        assert_eq!(put_envelope(&world, &user, &body).await.code(), "owner_proof_invalid");
    }
    assert_eq!(current(&world, &user).await, before);
    assert_eq!(
        put_envelope(&world, &user, &whole)
            .await
            .ok::<EnvelopeWritten>()
            .version,
        2
    );
}

#[tokio::test]
async fn signature_is_good_for_its_own_request_only() {
    let world = World::start().await;
    let user = world.ready_user("ada@example.com").await;
    let other = world.ready_user("eve@example.com").await;
    let signed = user.user.signed_envelope(envelope(1), OWNER_SEED, OWNER_SEED);
    let head = Position {
        seq: 1,
        head: Head::from_bytes([1; 32]),
    };
    let changes: [fn(&mut PutEnvelope); 4] = [
        |body| body.envelope = b"another".to_vec().into(),
        |body| body.key_id = KeyId::from_bytes([1; 16]),
        |body| body.owner = owner_key(THIEF),
        |body| {
            body.head = Some(Position {
                seq: 0,
                head: Head::from_bytes([1; 32]),
            })
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut body = signed.clone();
        change(&mut body);
        assert_eq!(
            put_envelope(&world, &user, &body).await.code(),
            "owner_proof_invalid",
            "change {index}"
        );
    }
    // Another stream of the same owner key, the same stream at another version, and another purpose.
    assert_eq!(
        put_envelope(&world, &other, &signed).await.code(),
        "owner_proof_invalid"
    );
    put_envelope(&world, &user, &signed).await.ok::<EnvelopeWritten>();
    assert_eq!(put_envelope(&world, &user, &signed).await.code(), "version_conflict");
    let replayed = PutEnvelope {
        expected_version: 2,
        ..signed.clone()
    };
    assert_eq!(
        put_envelope(&world, &user, &replayed).await.code(),
        "owner_proof_invalid"
    );

    let mut folding = user;
    folding.push(&world, 1, 100).await;
    let signed = folding
        .user
        .signed_snapshot(manifest(folding.head), snapshot(1), OWNER_SEED);
    let changes: [fn(&mut PutSnapshot, Position); 3] = [
        |body, _| body.manifest = vec![7; 100].into(),
        |body, _| body.parts = 1,
        |body, head| body.position = head,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut body = signed.clone();
        change(&mut body, head);
        assert_eq!(
            put_snapshot(&world, &folding, 1, &body).await.code(),
            "owner_proof_invalid",
            "change {index}"
        );
    }
    assert_eq!(
        put_snapshot(&world, &folding, 2, &signed).await.code(),
        "owner_proof_invalid"
    );
    assert_eq!(
        put_snapshot(&world, &other, 1, &signed).await.code(),
        "owner_proof_invalid"
    );
    let for_another_purpose = PutSnapshot {
        signature: replayed.signature,
        ..signed.clone()
    };
    assert_eq!(
        put_snapshot(&world, &folding, 1, &for_another_purpose).await.code(),
        "owner_proof_invalid"
    );
    put_snapshot(&world, &folding, 1, &signed).await.empty();
}

#[tokio::test]
async fn a_token_alone_does_not_complete_a_snapshot() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 2, 100).await;
    let part = PutSnapshotPart {
        sealed: vec![5; 100].into(),
    };
    put(
        &world,
        &user,
        &format!("/api/sync/snapshots/{}/parts/0", snapshot(1)),
        &part,
    )
    .await
    .empty();
    let body = PutSnapshot {
        parts: 1,
        ..manifest(user.head)
    };
    assert_eq!(
        put(
            &world,
            &user,
            &format!("/api/sync/snapshots/{}", snapshot(1)),
            &without(&body, "signature")
        )
        .await
        .code(),
        "malformed_body"
    );
    let by_thief = user.user.signed_snapshot(body.clone(), snapshot(1), THIEF);
    assert_eq!(
        put_snapshot(&world, &user, 1, &by_thief).await.code(),
        "owner_proof_invalid"
    );
    let status: Status = world.get("/api/sync/status").bearer(&user.user.token).send().await.ok();
    assert_eq!(status.snapshot, None);
    let by_owner = user.user.signed_snapshot(body, snapshot(1), OWNER_SEED);
    put_snapshot(&world, &user, 1, &by_owner).await.empty();
}

#[tokio::test]
async fn a_retired_key_signs_nothing_any_more() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 1, 100).await;
    let next_key = KeyId::from_bytes([8; 16]);
    let rotation = PutEnvelope {
        key_id: next_key,
        head: Some(user.head),
        ..envelope(1)
    };
    let rotation = user.user.signed_envelope(rotation, 8, OWNER_SEED);
    put_envelope(&world, &user, &rotation).await.ok::<EnvelopeWritten>();

    // Back to the key that was retired, or on to one more.
    for named in [OWNER_SEED, THIEF] {
        let back = PutEnvelope {
            key_id: KEY_ID,
            head: Some(user.head),
            ..envelope(2)
        };
        let back = user.user.signed_envelope(back, named, OWNER_SEED);
        assert_eq!(put_envelope(&world, &user, &back).await.code(), "owner_proof_invalid");
    }
    let retired = user.user.signed_snapshot(manifest(user.head), snapshot(1), OWNER_SEED);
    assert_eq!(put_snapshot(&world, &user, 1, &retired).await.code(), "key_mismatch");
    let under_next_key = PutSnapshot {
        key_id: next_key,
        ..manifest(user.head)
    };
    let by_retired = user
        .user
        .signed_snapshot(under_next_key.clone(), snapshot(1), OWNER_SEED);
    assert_eq!(
        put_snapshot(&world, &user, 1, &by_retired).await.code(),
        "owner_proof_invalid"
    );
    let by_current = user.user.signed_snapshot(under_next_key, snapshot(1), 8);
    put_snapshot(&world, &user, 1, &by_current).await.empty();
}

#[tokio::test]
async fn first_envelope_is_signed_by_its_own_strong_key() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let put = async |body: &PutEnvelope| {
        let call = world.call(Method::PUT, "/api/sync/keys").bearer(&ada.token);
        call.json(body).send().await.code()
    };
    let somebody_elses = ada.signed_envelope(envelope(0), OWNER_SEED, THIEF);
    assert_eq!(put(&somebody_elses).await, "owner_proof_invalid");
    // The point of order one: under it a signature of zeros and the same point fits every message.
    let mut one = [0; 32];
    one[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let weak = PutEnvelope {
        owner: OwnerKey::from_bytes(one),
        signature: OwnerSignature::from_bytes(signature),
        ..envelope(0)
    };
    assert_eq!(put(&weak).await, "owner_proof_invalid");
    let no_point = PutEnvelope {
        owner: OwnerKey::from_bytes([0xff; 32]),
        signature: sign(THIEF, b"anything"),
        ..envelope(0)
    };
    assert_eq!(put(&no_point).await, "owner_proof_invalid");
    assert_eq!(put(&ada.signed_envelope(envelope(0), THIEF, THIEF)).await, "200");
}

#[tokio::test]
async fn operator_restores_envelope_with_its_owner_key() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 1, 100).await;
    let first = current(&world, &user).await;
    let rotation = PutEnvelope {
        key_id: KeyId::from_bytes([8; 16]),
        head: Some(user.head),
        ..envelope(1)
    };
    let rotation = user.user.signed_envelope(rotation, 8, OWNER_SEED);
    put_envelope(&world, &user, &rotation).await.ok::<EnvelopeWritten>();

    let admin = world.admin().await;
    let (app_id, user_id) = (user.user.app_id, user.user.user_id);
    let kept = admin.envelopes(app_id, user_id).await.unwrap();
    let listed: Vec<_> = kept
        .iter()
        .map(|kept| (kept.version, kept.key_id, kept.owner, kept.size_bytes))
        .collect();
    assert_eq!(
        listed,
        [
            (2, KeyId::from_bytes([8; 16]), owner_key(8), 11),
            (1, KEY_ID, owner_key(OWNER_SEED), 17)
        ]
    );
    let current_one = admin.restore_envelope(app_id, user_id, 2).await.unwrap_err();
    assert!(
        matches!(current_one, AdminError::EnvelopeIsCurrent(2)),
        "{current_one:?}"
    );
    let unknown = admin.restore_envelope(app_id, user_id, 9).await.unwrap_err();
    assert!(matches!(unknown, AdminError::NoSuchEnvelope(9)), "{unknown:?}");
    assert_eq!(admin.restore_envelope(app_id, user_id, 1).await.unwrap(), 3);

    let restored = current(&world, &user).await;
    assert_eq!(
        (restored.envelope, restored.key_id, restored.owner, restored.version),
        (first.envelope, first.key_id, first.owner, 3)
    );
    user.push(&world, 1, 100).await;
    let next = user.user.signed_envelope(envelope(3), OWNER_SEED, OWNER_SEED);
    assert_eq!(
        put_envelope(&world, &user, &next).await.ok::<EnvelopeWritten>().version,
        4
    );
}
