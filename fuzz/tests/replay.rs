//! The corpus and the vectors once more, with serde_json keeping numbers as text and objects in the order of insertion.
//!
//! An app may switch these features on for the whole build; the codec must write and read the same bytes with them.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use synckit_crypto::batch::{BatchBody, ChangeEntry, ChangeOp, EncodeErrorKind, Timestamp};

#[path = "../../crates/synckit-login/tests/it/rng.rs"]
#[expect(dead_code, reason = "the targets need a part of it")]
mod rng;
#[path = "../src/targets.rs"]
mod targets;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn entry(data: &str) -> ChangeEntry {
    ChangeEntry {
        table: "notes".to_owned(),
        op: ChangeOp::Insert,
        row_id: "r".to_owned(),
        timestamp: Timestamp::from_micros(0),
        data: Some(serde_json::from_str(data).expect("JSON")),
    }
}

#[test]
fn corpus_replays_without_a_panic() {
    for (name, target) in targets::TARGETS {
        for file in fs::read_dir(root().join("corpus").join(name)).expect("a folder for each target") {
            target(&fs::read(file.expect("a file").path()).expect("a readable file"));
        }
    }
}

#[test]
fn bodies_of_the_vectors_are_the_same_bytes() {
    let file = fs::read_to_string(root().join("../vectors/batch.json")).expect("the vectors");
    let vectors: Value = serde_json::from_str(&file).expect("JSON");
    for batch in vectors["batches"].as_array().expect("batches") {
        let entries: Vec<ChangeEntry> = serde_json::from_value(batch["entries"].clone()).expect("entries");
        let body = BatchBody::encode(&entries).expect("entries that encode");
        let hex: String = body.plaintext().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(batch["plaintext"], json!(hex));
        assert_eq!(
            BatchBody::decode(body.plaintext(), body.count()).expect("a body that decodes"),
            entries
        );
    }
}

#[test]
fn order_of_insertion_does_not_reach_the_bytes() {
    let one = BatchBody::encode(&[entry(r#"{"b": 1, "a": {"yy": 1, "z": 2}, "c": 3}"#)]);
    let other = BatchBody::encode(&[entry(r#"{"c": 3, "a": {"z": 2, "yy": 1}, "b": 1}"#)]);
    assert_eq!(one, other);
}

#[test]
fn numbers_come_back_equal_or_are_refused() {
    for number in [
        "0",
        "18446744073709551615",
        "-9223372036854775808",
        "1.5",
        "-0.0",
        "1.5e300",
        "0.1",
        "5e-324",
    ] {
        let entries = [entry(number)];
        let body = BatchBody::encode(&entries).expect("a number of the three kinds");
        assert_eq!(
            BatchBody::decode(body.plaintext(), 1).expect("a body that decodes"),
            entries,
            "{number}"
        );
    }
    // Each would come back as another text, and most as another number.
    for number in [
        "18446744073709551616",
        "-9223372036854775809",
        "0.10000000000000000001",
        "1e400",
        "1.10",
        "-0",
    ] {
        let error = BatchBody::encode(&[entry(number)]).expect_err(number);
        assert_eq!(error.kind, EncodeErrorKind::UnsupportedNumber, "{number}");
    }
}
