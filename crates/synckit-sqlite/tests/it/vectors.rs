//! `vectors/rows.json`: values, ids and entries of `docs/rows.md`. `UPDATE_VECTORS=1` writes the file after a deliberate
//! change.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use synckit_crypto::batch::{ChangeEntry, Timestamp};
use synckit_sqlite::rows::{Row, RowChange, RowId, RowOp, Since, Value};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a database holds, as the vectors write it: its kind, and its bytes.
fn stored(value: &Value) -> Json {
    match value {
        Value::Null => json!({"kind": "null"}),
        Value::Integer(number) => json!({"kind": "integer", "decimal": number.to_string()}),
        Value::Real(real) => json!({"kind": "real", "ieee754": hex(&real.get().to_bits().to_be_bytes())}),
        Value::Text(text) => json!({"kind": "text", "bytes": hex(text)}),
        Value::Blob(blob) => json!({"kind": "blob", "bytes": hex(blob)}),
        Value::Row(id) => json!({"kind": "row", "id": id.as_str()}),
        Value::File(_) => unreachable!("a database holds no file"),
    }
}

fn values() -> Vec<Value> {
    let mut values = vec![Value::Null];
    values.extend([0, 1, -1, 1 << 53 | 1, i64::MAX, i64::MIN].map(Value::Integer));
    values.extend(
        [
            0.0,
            1.0,
            -1.5,
            0.1,
            5e-324,
            1e308,
            1e21,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ]
        .map(Value::real),
    );
    values.extend(
        [
            "",
            "Milk",
            "caf\u{e9}",
            "cafe\u{301}",
            "\u{feff}bom",
            "nul\0inside",
            "{\"blob\":\"AA\"}",
        ]
        .map(Value::text),
    );
    values.extend([vec![0xff, 0x80], b"half \xc3".to_vec(), vec![0xed, 0xa0, 0x80]].map(Value::Text));
    values.extend([vec![], vec![0], vec![0xfb, 0xff, 0xfe], b"text".to_vec()].map(Value::Blob));
    values.push(Value::Row(RowId::new("0190c2a4-7d1e-7f00-8a00-0123456789ab")));
    values
}

/// JSON values that a reader refuses, each with the rule that it breaks.
fn refused_values() -> Vec<Json> {
    [
        ("a boolean", json!(true)),
        ("an array", json!([])),
        ("an integer beyond 64 signed bits", json!(9_223_372_036_854_775_808_u64)),
        ("-0.0", json!(-0.0)),
        ("an object without a field", json!({})),
        ("an object of two fields", json!({"blob": "AA", "text": "_w"})),
        ("an unknown field", json!({"date": "2026-01-01"})),
        ("a blob that is no text", json!({"blob": 1})),
        ("padding", json!({"blob": "AA=="})),
        ("the other alphabet", json!({"blob": "+/+/"})),
        ("bits after the last byte", json!({"blob": "AB"})),
        ("valid UTF-8 in an object", json!({"text": "TWlsaw"})),
        ("NaN", json!({"real": "nan"})),
        ("a finite number in an object", json!({"real": "1.5"})),
        ("a row that is no text", json!({"row": 7})),
        (
            "a file without its size",
            json!({"file": {"as": "blob", "sha256": "00".repeat(32)}}),
        ),
        (
            "a file with another field",
            json!({"file": {"as": "blob", "sha256": "00".repeat(32), "size": 70000, "name": ""}}),
        ),
        (
            "a file of an unknown kind",
            json!({"file": {"as": "json", "sha256": "00".repeat(32), "size": 70000}}),
        ),
        (
            "a hash in upper case",
            json!({"file": {"as": "blob", "sha256": "AA".repeat(32), "size": 70000}}),
        ),
        (
            "a size that is a float",
            json!({"file": {"as": "blob", "sha256": "00".repeat(32), "size": 70000.0}}),
        ),
        (
            "a file that fits the entry",
            json!({"file": {"as": "blob", "sha256": "00".repeat(32), "size": 65536}}),
        ),
    ]
    .map(|(rule, json)| json!({"rule": rule, "json": json}))
    .into()
}

fn keys() -> Vec<Vec<Value>> {
    let parent = Value::Row(RowId::from_random([7; 16]));
    vec![
        vec![Value::Integer(42)],
        vec![Value::Integer(i64::MIN)],
        vec![Value::text("inbox")],
        vec![Value::text("")],
        vec![Value::text("0190c2a4-7d1e-7f00-8a00-0123456789ab")],
        vec![Value::text("0190c2a4-7d1e-8f00-8a00-0123456789ab")],
        vec![Value::text("0190c2a4-7d1e-8f00-ca00-0123456789ab")],
        vec![Value::text("0190C2A4-7D1E-8F00-8A00-0123456789AB")],
        vec![Value::text("42")],
        vec![Value::text("042")],
        vec![Value::text("+42")],
        vec![Value::text("-0")],
        vec![Value::text("9223372036854775808")],
        vec![Value::text("a".repeat(255))],
        vec![Value::text("a".repeat(256))],
        vec![Value::text("\u{e9}".repeat(128))],
        vec![Value::Text(vec![0xff])],
        vec![Value::Blob(vec![0x42])],
        vec![Value::Null],
        vec![Value::real(0.5)],
        vec![Value::real(42.0)],
        vec![parent.clone()],
        vec![parent.clone(), Value::text("red")],
        vec![Value::text("red"), parent],
        vec![Value::Integer(42), Value::Integer(43)],
        vec![Value::real(42.0), Value::Integer(43)],
        vec![Value::real(-9_223_372_036_854_775_808.0), Value::Null],
        vec![Value::real(9_223_372_036_854_775_808.0), Value::Null],
        vec![Value::text("a"), Value::Blob(b"a".to_vec())],
    ]
}

fn births() -> Vec<(&'static str, Row, u64)> {
    let tag = Row::from_iter([
        ("name", Value::text("red")),
        ("Color", Value::Integer(0xff0000)),
        ("note", Value::Null),
    ]);
    let task = Row::from_iter([
        ("list", Value::Row(RowId::from_random([7; 16]))),
        ("\u{e9}", Value::real(1.5)),
        ("photo", Value::Blob(vec![7; 65_537]).outlined()),
    ]);
    vec![
        ("tags", tag.clone(), 0),
        ("tags", tag.clone(), 1),
        ("Tags", tag, 0),
        ("tasks", task, 0),
        // In UTF-16 the second name would come first.
        (
            "wide",
            Row::from_iter([("\u{ff41}", Value::Null), ("\u{1f600}", Value::Integer(1))]),
            0,
        ),
        ("empty", Row::new(), 0),
    ]
}

/// The hash under an id, step by step as the document describes it.
mod by_hand {
    use super::*;

    pub(super) fn item(value: &Value) -> Vec<u8> {
        let tagged = |tag: u8, bytes: &[u8]| [&[tag], &(bytes.len() as u64).to_be_bytes()[..], bytes].concat();
        match value {
            Value::Null => vec![0],
            Value::Integer(number) => [&[1], &number.to_be_bytes()[..]].concat(),
            Value::Real(real) => [&[2], &real.get().to_be_bytes()[..]].concat(),
            Value::Text(text) => tagged(3, text),
            Value::Blob(blob) => tagged(4, blob),
            Value::Row(id) => tagged(5, id.as_str().as_bytes()),
            Value::File(file) => {
                assert_eq!(
                    file.kind,
                    synckit_sqlite::rows::FileKind::Blob,
                    "the only one of these vectors"
                );
                [&[6, 4], &file.size_bytes.to_be_bytes()[..], file.hash.as_bytes()].concat()
            }
        }
    }

    pub(super) fn id(hashed: &[u8]) -> String {
        let mut bytes = Sha256::digest(hashed)[..16].to_vec();
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits = hex(&bytes);
        [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ]
        .join("-")
    }

    pub(super) fn birth(table: &str, row: &Row, ordinal: u64) -> Vec<u8> {
        let name = |name: &str| [&(name.len() as u64).to_be_bytes()[..], name.as_bytes()].concat();
        let mut bytes = [b"synckit/1 row birth\0", &name(table)[..], &ordinal.to_be_bytes()].concat();
        for (column, value) in row.iter() {
            bytes.extend(name(column));
            bytes.extend(item(value));
        }
        bytes
    }
}

fn key_vector(key: &[Value]) -> Json {
    let id = RowId::of_key(key);
    let mut vector = json!({"key": key.iter().map(stored).collect::<Vec<_>>(), "id": id.as_str()});
    let is_hashed = |id: &str| {
        id.len() == 36 && id.as_bytes()[14] == b'8' && b"89ab".contains(&id.as_bytes()[19]) && id == id.to_lowercase()
    };
    if is_hashed(id.as_str()) {
        let items = key.iter().map(|value| match value {
            Value::Real(real) if real.as_integer().is_some() => by_hand::item(&Value::Integer(real.get() as i64)),
            other => by_hand::item(other),
        });
        let hashed = [&b"synckit/1 row key\0"[..], &items.collect::<Vec<_>>().concat()].concat();
        assert_eq!(by_hand::id(&hashed), id.as_str());
        vector["hashed"] = hex(&hashed).into();
    }
    vector
}

fn birth_vector((table, row, ordinal): (&str, Row, u64)) -> Json {
    let id = RowId::of_birth(table, &row, ordinal);
    let hashed = by_hand::birth(table, &row, ordinal);
    assert_eq!(by_hand::id(&hashed), id.as_str());
    let row: serde_json::Map<_, _> = row
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_json()))
        .collect();
    json!({"table": table, "row": row, "ordinal": ordinal, "hashed": hex(&hashed), "id": id.as_str()})
}

fn entries() -> Vec<Json> {
    let row = Row::from_iter([
        ("title", Value::text("Milk")),
        ("due", Value::real(f64::INFINITY)),
        ("photo", Value::Blob(vec![7; 70_000]).outlined()),
        ("list", Value::Row(RowId::from_random([7; 16]))),
    ]);
    let since = [
        ("title", Since::Changed(Timestamp::from_micros(1_600_000_000_000_000))),
        ("photo", Since::Added(Timestamp::from_micros(1_650_000_000_000_000))),
    ];
    let whole = RowOp::Whole(row.clone(), since.map(|(column, since)| (column.into(), since)).into());
    let at_once = RowOp::Whole(row.clone(), [].into());
    let changes = [
        RowOp::Insert(row.clone()),
        RowOp::Update(row),
        RowOp::Delete,
        whole,
        at_once,
    ]
    .map(|op| RowChange {
        table: "tasks".into(),
        id: RowId::from_random([9; 16]),
        time: Timestamp::from_micros(1_700_000_000_000_000),
        op,
    });
    for change in &changes {
        assert_eq!(RowChange::from_entry(&change.to_entry()).as_ref(), Ok(change));
    }
    changes
        .iter()
        .map(|change| serde_json::to_value(change.to_entry()).unwrap())
        .collect()
}

/// Entries that a reader refuses, each with the rule that it breaks.
fn refused_entries() -> Vec<Json> {
    let row = json!({"title": "Milk"});
    [
        ("an insertion without columns", "insert", json!("Milk")),
        ("a row of a snapshot without times", "insert", json!([row])),
        (
            "a row of a snapshot with more than times",
            "insert",
            json!([row, {}, {}]),
        ),
        ("a row of a snapshot in an update", "update", json!([row, {}])),
        ("times that are no object", "insert", json!([row, []])),
        ("a time of a column that is missing", "insert", json!([row, {"due": 1}])),
        (
            "the time of the entry",
            "insert",
            json!([row, {"title": 1_700_000_000_000_000_i64}]),
        ),
        ("a time that is a float", "insert", json!([row, {"title": 1.0}])),
        (
            "an unknown kind of time",
            "insert",
            json!([row, {"title": {"removed": 1}}]),
        ),
        (
            "a time of two kinds",
            "insert",
            json!([row, {"title": {"added": 1, "changed": 1}}]),
        ),
        ("a deletion with data", "delete", row.clone()),
    ]
    .map(|(rule, op, data)| {
        json!({"rule": rule, "entry": {"table": "tasks", "op": op, "row_id": "1",
               "timestamp": 1_700_000_000_000_000_i64, "data": data}})
    })
    .into()
}

#[test]
fn rows() {
    let values = values().into_iter().map(|value| {
        let json = value.to_json();
        assert_eq!(Value::from_json(&json), Ok(value.clone()));
        json!({"stored": stored(&value), "json": json})
    });
    let refused = refused_values();
    for value in &refused {
        assert!(Value::from_json(&value["json"]).is_err(), "{value}");
    }
    let refused_entries = refused_entries();
    for fields in &refused_entries {
        let entry: ChangeEntry = serde_json::from_value(fields["entry"].clone()).unwrap();
        assert!(RowChange::from_entry(&entry).is_err(), "{fields}");
    }
    let files = [Value::text("x".repeat(65_537)), Value::Blob(vec![0; 65_537])].map(|long| {
        let (Value::Text(bytes) | Value::Blob(bytes)) = &long else {
            unreachable!()
        };
        json!({"kind": if matches!(long, Value::Text(_)) { "text" } else { "blob" }, "byte": bytes[0], "count": bytes.len(),
               "json": long.to_json()})
    });
    let computed = json!({
        "description": "docs/rows.md: values as JSON, ids of rows, and entries.",
        "values": values.collect::<Vec<_>>(),
        "longest_inline_bytes": 65_536,
        "files": files,
        "refused_values": refused,
        "random_ids": [{"random": hex(&[7; 16]), "id": RowId::from_random([7; 16]).as_str()}],
        "key_ids": keys().iter().map(|key| key_vector(key)).collect::<Vec<_>>(),
        "birth_ids": births().into_iter().map(birth_vector).collect::<Vec<_>>(),
        "entries": entries(),
        "refused_entries": refused_entries,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/rows.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(&path, format!("{computed:#}\n")).unwrap();
    }
    let file: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        file, computed,
        "rows.json differs; UPDATE_VECTORS=1 writes it if the format was changed on purpose"
    );
}

#[test]
fn longest_inline_value_is_no_file() {
    for value in [Value::Text(vec![b'x'; 65_536]), Value::Blob(vec![0; 65_536])] {
        assert_eq!(value.clone().outlined(), value);
        assert_eq!(Value::from_json(&value.to_json()), Ok(value));
    }
    let long = json!("x".repeat(65_537));
    assert!(Value::from_json(&long).is_err());
}
