//! The codec and the wire with features of other crates that an app may turn on: serde_json keeps numbers as text
//! (`arbitrary_precision`) and objects in the order of insertion (`preserve_order`).
//!
//! A feature that one crate of an app turns on is on for all of them, so every byte must be the same with and without.

#![cfg(test)]

use std::{fs, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use synckit_crypto::batch::{BatchBody, ChangeEntry, ChangeOp, EncodeErrorKind, Timestamp};
use synckit_protocol::{
    Position, Problem,
    wire::{export::ExportLine, log::Page},
};

#[path = "../../crates/synckit-login/tests/it/rng.rs"]
#[expect(dead_code, reason = "the targets need a part of it")]
mod rng;
#[path = "../../fuzz/src/targets.rs"]
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
        for file in fs::read_dir(root().join("../fuzz/corpus").join(name)).expect("a folder for each target") {
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

/// The body of one entry whose data is this JSON.
fn plaintext(data: &str) -> Vec<u8> {
    BatchBody::encode(&[entry(data)]).expect("data that encodes").plaintext().to_vec()
}

/// The data of one entry after it was encoded and decoded, as JSON.
fn round_trip(data: &str) -> String {
    let decoded = BatchBody::decode(&plaintext(data), 1).expect("a body that decodes");
    decoded[0].data.as_ref().expect("data").to_string()
}

#[test]
fn features_are_on() {
    assert_eq!(serde_json::from_str::<Value>("2.50").expect("JSON").to_string(), "2.50");
    let object = r#"{"b":1,"a":2}"#;
    assert_eq!(serde_json::from_str::<Value>(object).expect("JSON").to_string(), object);
}

#[test]
fn numbers_of_the_three_kinds_come_back() {
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
        let decoded = BatchBody::decode(body.plaintext(), 1).expect("a body that decodes");
        assert_eq!(decoded, entries, "{number}");
    }
}

#[test]
fn other_texts_of_a_number_are_pushed_by_value() {
    for (written, usual) in [
        ("2.50", "2.5"),
        ("1.10", "1.1"),
        ("1e5", "100000.0"),
        ("1E+5", "100000.0"),
        ("10000e-3", "10.0"),
        ("0.00012e4", "1.2"),
        ("-0", "-0.0"),
        ("0e999999999999999999999", "0.0"),
        ("100000000000000000000", "1e+20"),
        ("1e20", "1e+20"),
    ] {
        assert_eq!(plaintext(written), plaintext(usual), "{written}");
        assert_eq!(round_trip(written), round_trip(usual), "{written}");
        // Also below the top of the data, and as a float: 1e5 is not the integer 100000.
        assert_eq!(plaintext(&format!("[{written}]")), plaintext(&format!("[{usual}]")));
    }
    assert_ne!(plaintext("1e5"), plaintext("100000"));
    assert_ne!(plaintext("-0"), plaintext("0"));
}

#[test]
fn number_whose_value_would_change_is_refused() {
    for number in [
        "18446744073709551616",
        "18446744073709551617",
        "-9223372036854775809",
        "0.10000000000000000001",
        "9007199254740993.0",
        "1e400",
        "-1e400",
        "1e-400",
        "1e-99999999999999999999",
        "3.141592653589793238",
    ] {
        let error = BatchBody::encode(&[entry(number)]).expect_err(number);
        assert_eq!(error.kind, EncodeErrorKind::UnsupportedNumber, "{number}");
    }
}

#[test]
fn numbers_of_the_wire_are_read_and_written() {
    let page = r#"{"batches":[],"cursor":"0","has_more":false}"#;
    assert_eq!(rewritten::<Page>(page), page);
    let head = "A".repeat(43);
    let position = format!(r#"{{"seq":18446744073709551615,"head":"{head}"}}"#);
    assert_eq!(rewritten::<Position>(&position), position);
    let problem = format!(
        r#"{{"type":"urn:synckit:problem:behind","title":"t","status":409,"code":"behind","behind":{{"latest":{position},"digests":[],"has_more":false}}}}"#
    );
    assert_eq!(
        serde_json::from_str::<Value>(&rewritten::<Problem>(&problem)).expect("JSON"),
        serde_json::from_str::<Value>(&problem).expect("JSON")
    );
    for line in [
        r#"{"kind":"begin","format":1,"user_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","created_at":1700000000}"#,
        r#"{"kind":"end","lines":18446744073709551615}"#,
    ] {
        assert_eq!(rewritten::<ExportLine>(line), line);
    }
}

/// JSON, after it was read as a `T` and written again.
fn rewritten<T: DeserializeOwned + Serialize>(json: &str) -> String {
    let value: T = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    serde_json::to_string(&value).expect("a value that is written")
}
