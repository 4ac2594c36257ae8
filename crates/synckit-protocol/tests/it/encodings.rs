//! The same types stand for JSON and CBOR.

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use synckit_protocol::{
    AppId, BatchId, BlobId, ByteString, Cursor, DeviceId, Head, KeyId, OwnerKey, OwnerSignature, Position, SecretText,
    SnapshotId, UserId,
    wire::{
        auth::SignedIn,
        blobs::{BlobConfirm, BlobUpload, BlobUploadAnswer},
        devices::{Device, Platform},
        keys::PutEnvelope,
        log::{Page, Pull, PulledBatch, Push},
        snapshots::{PutSnapshot, PutSnapshotPart, SnapshotAnswer, SnapshotInfo},
    },
};

fn both_ways<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> (String, Vec<u8>) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value);
    let cbor = minicbor_serde::to_vec(value).unwrap();
    assert_eq!(minicbor_serde::from_slice::<T>(&cbor).unwrap(), *value);
    (json, cbor)
}

fn push() -> Push {
    Push {
        device_id: DeviceId::from_bytes([1; 16]),
        batch_id: BatchId::from_bytes([2; 16]),
        key_id: KeyId::from_bytes([3; 16]),
        count: 4,
        parent: Position {
            seq: 5,
            head: Head::from_bytes([6; 32]),
        },
        sealed: ByteString(vec![0xfb, 0xff]),
    }
}

#[test]
fn ids_are_texts_in_json_and_bytes_in_cbor() {
    let (json, cbor) = both_ways(&push());
    insta::assert_snapshot!(json, @r#"{"device_id":"01010101-0101-0101-0101-010101010101","batch_id":"02020202-0202-0202-0202-020202020202","key_id":"03030303030303030303030303030303","count":4,"parent":{"seq":5,"head":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY"},"sealed":"-_8"}"#);
    // A byte string of 16 in CBOR is 0x50 and its bytes.
    assert!(
        cbor.windows(17)
            .any(|window| window[0] == 0x50 && window[1..] == [2; 16])
    );
}

#[test]
fn a_page_survives_both_encodings() {
    let page = Page {
        batches: vec![PulledBatch {
            batch_id: BatchId::from_bytes([2; 16]),
            device_id: DeviceId::from_bytes([1; 16]),
            key_id: KeyId::from_bytes([3; 16]),
            first_seq: u64::MAX,
            count: u32::MAX,
            sealed: vec![0; 300].into(),
        }],
        cursor: Cursor::at(Position {
            seq: 5,
            head: Head::from_bytes([6; 32]),
        }),
        has_more: true,
        snapshot: None,
    };
    both_ways(&page);
    let pull = Pull {
        device_id: DeviceId::from_bytes([1; 16]),
        cursor: Cursor::START,
        max_bytes: None,
        ahead: false,
        avoid_snapshot: false,
    };
    let (json, _) = both_ways(&pull);
    assert_eq!(
        json,
        r#"{"device_id":"01010101-0101-0101-0101-010101010101","cursor":"0"}"#
    );
    both_ways(&Pull {
        ahead: true,
        avoid_snapshot: true,
        ..pull
    });
}

#[test]
fn a_snapshot_survives_both_encodings() {
    let snapshot = SnapshotInfo {
        snapshot_id: SnapshotId::from_bytes([1; 16]),
        key_id: KeyId::from_bytes([2; 16]),
        position: Position {
            seq: 3,
            head: Head::from_bytes([4; 32]),
        },
        parts: 5,
        size: 6,
        created_at: 7,
    };
    both_ways(&PutSnapshotPart {
        sealed: vec![0; 300].into(),
    });
    both_ways(&SnapshotAnswer {
        snapshot,
        manifest: vec![1].into(),
    });
    both_ways(&Page {
        batches: Vec::new(),
        cursor: Cursor::at(snapshot.position),
        has_more: true,
        snapshot: Some(snapshot),
    });
    let put = PutSnapshot {
        key_id: snapshot.key_id,
        position: snapshot.position,
        parts: 5,
        manifest: vec![1].into(),
        signature: OwnerSignature::from_bytes([3; 64]),
    };
    let (json, _) = both_ways(&put);
    insta::assert_snapshot!(json, @r#"{"key_id":"02020202020202020202020202020202","position":{"seq":3,"head":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ"},"parts":5,"manifest":"AQ","signature":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"}"#);
    is_needed::<PutSnapshot>(&json, "signature");
}

/// A body without a field that is not optional is no body.
fn is_needed<T: DeserializeOwned>(json: &str, field: &str) {
    let mut body: serde_json::Map<_, _> = serde_json::from_str(json).unwrap();
    body.remove(field).unwrap();
    assert!(serde_json::from_value::<T>(body.into()).is_err(), "without {field}");
}

#[test]
fn a_write_of_an_envelope_survives_both_encodings() {
    let put = PutEnvelope {
        envelope: vec![1].into(),
        key_id: KeyId::from_bytes([2; 16]),
        expected_version: 3,
        head: None,
        snapshot: None,
        owner: OwnerKey::from_bytes([4; 32]),
        signature: OwnerSignature::from_bytes([5; 64]),
    };
    let (json, _) = both_ways(&put);
    insta::assert_snapshot!(json, @r#"{"envelope":"AQ","key_id":"02020202020202020202020202020202","expected_version":3,"owner":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","signature":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQ"}"#);
    assert!(serde_json::from_str::<PutEnvelope>(&json.replace("BAQE", "BAQ")).is_err());
    is_needed::<PutEnvelope>(&json, "owner");
    is_needed::<PutEnvelope>(&json, "signature");
}

#[test]
fn absent_options_and_unknown_fields_are_taken() {
    let answer: BlobUploadAnswer = serde_json::from_str(r#"{"already_exists":true,"new_in_version_2":1}"#).unwrap();
    assert_eq!(answer.upload_url, None);
    let (json, _) = both_ways(&answer);
    assert_eq!(json, r#"{"already_exists":true}"#);
    let device: Device = serde_json::from_str(
        r#"{"id":"01010101-0101-0101-0101-010101010101","device_name":"x","platform":"ios","created_at":1,"last_seen_at":2,"owner":null}"#,
    )
    .unwrap();
    assert_eq!(device.platform, Platform::Ios);
}

#[test]
fn null_is_taken_for_every_optional_field() {
    let pull = Pull {
        device_id: DeviceId::from_bytes([1; 16]),
        cursor: Cursor::START,
        max_bytes: None,
        ahead: false,
        avoid_snapshot: false,
    };
    let upload = BlobUpload {
        hash: BlobId::from_bytes([1; 32]),
        size: 40,
        sealed_hash: None,
        key_id: KeyId::from_bytes([3; 16]),
        hash_at_confirm: false,
        replace: false,
    };
    assert_eq!(
        with_nulls(&pull, &["max_bytes", "ahead", "avoid_snapshot"]),
        [pull.clone(), pull]
    );
    assert_eq!(
        with_nulls(&upload, &["replace", "sealed_hash", "hash_at_confirm"]),
        [upload.clone(), upload]
    );
}

/// A value, after `null` was written for fields that it leaves out, in JSON and in CBOR.
fn with_nulls<T: Serialize + DeserializeOwned>(value: &T, fields: &[&str]) -> [T; 2] {
    let mut object = serde_json::to_value(value).unwrap();
    for field in fields {
        assert!(
            object
                .as_object_mut()
                .unwrap()
                .insert((*field).to_owned(), Value::Null)
                .is_none()
        );
    }
    // The ids of JSON are texts, so the CBOR is put together from the map of the value itself.
    let mut cbor = minicbor_serde::to_vec(value).unwrap();
    let count = u8::try_from(fields.len()).unwrap();
    assert!((0xa0..0xb7 - count).contains(&cbor[0]), "a small map");
    cbor[0] += count;
    for field in fields {
        cbor.extend(minicbor_serde::to_vec(field).unwrap());
        cbor.push(0xf6);
    }
    [
        serde_json::from_value(object).unwrap(),
        minicbor_serde::from_slice(&cbor).unwrap(),
    ]
}

#[test]
fn cbor_of_a_body_is_lenient_only_where_documented() {
    let expected = BlobConfirm {
        hash: BlobId::from_bytes([1; 32]),
        size: 5,
        upload_id: None,
        sealed_hash: None,
    };
    let hash = format!("64 68617368 5820 {}", "01".repeat(32));
    let read = |cbor: &str| minicbor_serde::from_slice::<BlobConfirm>(&unhex(cbor));
    for good in [
        format!("a2 {hash} 6473697a65 05"),
        format!("a2 6473697a65 05 {hash}"),
        // Integers and lengths in more bytes than they need, a map of indefinite length, unknown fields.
        format!("a2 {hash} 6473697a65 1b0000000000000005"),
        format!("b802 {hash} 7804 73697a65 1805"),
        format!("bf {hash} 6473697a65 05 ff"),
        format!("a4 {hash} 6473697a65 05 6178 01 6178 02"),
        format!("a3 {hash} 6473697a65 05 6178 9f0102ff"),
    ] {
        assert_eq!(read(&good).unwrap(), expected, "{good}");
    }
    for bad in [
        // Texts and byte strings in pieces, and tags.
        format!("a2 {hash} 7f627369627a65ff 05"),
        format!("a2 64 68617368 5f5820 {} ff 6473697a65 05", "01".repeat(32)),
        format!("a2 {hash} 6473697a65 c105"),
        format!("c1 a2 {hash} 6473697a65 05"),
        // A known field twice.
        format!("a3 {hash} 6473697a65 05 6473697a65 05"),
        format!("a2 {hash} 6473697a65 f94500"),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn secrets_do_not_show_in_debug() {
    let signed_in = SignedIn {
        token: SecretText::new("secret-token"),
        expires_at: 1,
        refresh: SecretText::new("secret-refresh"),
        user_id: UserId::from_bytes([1; 16]),
        app_id: AppId::from_bytes([2; 16]),
        account_token: Some(SecretText::new("secret-account")),
    };
    both_ways(&signed_in);
    assert!(!format!("{signed_in:?}").contains("secret-"));
}

#[test]
fn another_type_is_refused_by_what_was_expected() {
    fn refused<T: DeserializeOwned + std::fmt::Debug>() -> String {
        serde_json::from_str::<T>("5").unwrap_err().to_string()
    }
    for (error, expected) in [
        (
            refused::<ByteString>(),
            "expected a byte string, or unpadded base64url text",
        ),
        (refused::<UserId>(), "expected a UserId (16 bytes, or its text)"),
        (refused::<BlobId>(), "expected a BlobId (32 bytes, or its text)"),
        (refused::<Position>(), "expected a position"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_byte_string_lends_its_bytes() {
    assert_eq!(ByteString(vec![0xfb, 0xff]).as_ref(), [0xfb, 0xff]);
}

#[test]
fn an_id_has_one_text() {
    let upper = "0A010101-0101-0101-0101-010101010101";
    assert!(upper.parse::<UserId>().is_err());
    assert!(upper.to_lowercase().parse::<UserId>().is_ok());
    assert!(upper.to_lowercase().replace('-', "").parse::<UserId>().is_err());
    assert!("0F".repeat(32).parse::<BlobId>().is_err());
    assert!("0f".repeat(32).parse::<BlobId>().is_ok());
    assert!("0f".repeat(31).parse::<BlobId>().is_err());
}

#[test]
fn bytes_of_the_wrong_length_or_alphabet_are_refused() {
    assert!(serde_json::from_str::<Head>("\"AAAA\"").is_err());
    assert!(serde_json::from_str::<ByteString>("\"+/8\"").is_err());
    assert!(serde_json::from_str::<ByteString>("\"-_8=\"").is_err());
    let short = minicbor_serde::to_vec(ByteString(vec![1; 15])).unwrap();
    assert!(minicbor_serde::from_slice::<UserId>(&short).is_err());
    assert!(minicbor_serde::from_slice::<Head>(&short).is_err());
}

proptest! {
    #[test]
    fn every_id_survives_both_encodings(id: [u8; 16], hash: [u8; 32], bytes: Vec<u8>) {
        both_ways(&UserId::from_bytes(id));
        both_ways(&KeyId::from_bytes(id));
        both_ways(&BlobId::from_bytes(hash));
        both_ways(&Head::from_bytes(hash));
        both_ways(&ByteString(bytes));
        prop_assert_eq!(UserId::from_bytes(id).to_string().parse(), Ok(UserId::from_bytes(id)));
    }
}
