//! `/api/sync/keys`.

use reqwest::Method;
use synckit_protocol::{
    Head, KeyId, Position,
    wire::keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
};

use crate::support::{KEY_ID, OWNER_SEED, UNNAMED, UNSIGNED, World};

#[tokio::test]
async fn envelope_replaces_the_version_it_names() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    assert_eq!(
        world.get("/api/sync/keys").bearer(&user.token).send().await.code(),
        "no_envelope"
    );
    let put = async |expected_version, size| {
        let body = PutEnvelope {
            envelope: vec![1; size].into(),
            key_id: KEY_ID,
            expected_version,
            head: None,
            snapshot: None,
            owner: UNNAMED,
            signature: UNSIGNED,
        };
        let body = user.signed_envelope(body, OWNER_SEED, OWNER_SEED);
        world
            .call(Method::PUT, "/api/sync/keys")
            .bearer(&user.token)
            .json(&body)
            .send()
            .await
    };
    let conflict = put(1, 10).await;
    assert_eq!(
        (conflict.code().as_str(), conflict.problem().current_version),
        ("version_conflict", Some(0))
    );
    assert_eq!(put(0, 10).await.ok::<EnvelopeWritten>().version, 1);
    let conflict = put(0, 10).await;
    assert_eq!(
        (conflict.code().as_str(), conflict.problem().current_version),
        ("version_conflict", Some(1))
    );
    assert_eq!(put(1, 4096).await.ok::<EnvelopeWritten>().version, 2);
    for size in [0, 4097] {
        let answer = put(2, size).await;
        assert_eq!(
            (answer.code().as_str(), answer.problem().field.as_deref()),
            ("invalid_value", Some("envelope"))
        );
    }
    let answer = world.get("/api/sync/keys").bearer(&user.token).send().await;
    insta::assert_json_snapshot!(answer.json(), { ".envelope" => "[envelope]" }, @r#"
    {
      "envelope": "[envelope]",
      "key_id": "07070707070707070707070707070707",
      "owner": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw",
      "updated_at": 1767225600,
      "version": 2
    }
    "#);
    let cbor = world
        .get("/api/sync/keys")
        .bearer(&user.token)
        .accept("application/cbor")
        .send()
        .await;
    assert_eq!(cbor.ok::<EnvelopeAnswer>(), answer.ok::<EnvelopeAnswer>());
    assert_eq!(answer.ok::<EnvelopeAnswer>().envelope.0, vec![1; 4096]);
}

#[tokio::test]
async fn rotation_must_name_the_head_of_the_stream() {
    let world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let ada = user.user.clone();
    let put = async |head| {
        let body = PutEnvelope {
            envelope: b"another envelope".to_vec().into(),
            key_id: KeyId::from_bytes([8; 16]),
            expected_version: 1,
            head,
            snapshot: None,
            owner: UNNAMED,
            signature: UNSIGNED,
        };
        let body = ada.signed_envelope(body, 8, OWNER_SEED);
        world
            .call(Method::PUT, "/api/sync/keys")
            .bearer(&ada.token)
            .cbor(&body)
            .send()
            .await
    };
    let start = user.head;
    user.push(&world, 1, 100).await;
    let first = user.head;
    let missing = put(None).await;
    assert_eq!(
        (missing.code().as_str(), missing.problem().field.as_deref()),
        ("invalid_value", Some("head"))
    );
    let behind = put(Some(start)).await;
    assert_eq!(behind.code(), "behind");
    let between = behind.problem().behind.unwrap();
    assert_eq!((between.digests.len(), between.latest), (1, first));
    let elsewhere = Position {
        seq: 1,
        head: Head::from_bytes([1; 32]),
    };
    assert_eq!(put(Some(elsewhere)).await.code(), "history_diverged");
    assert_eq!(put(Some(first)).await.ok::<EnvelopeWritten>().version, 2);
}
