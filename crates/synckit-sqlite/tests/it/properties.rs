//! Whatever a file holds comes back from the log as it was.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use synckit_crypto::batch::{BatchBody, Timestamp};
use synckit_sqlite::rows::{Row, RowChange, RowId, RowOp, Value};

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::real),
        Just(Value::real(f64::NEG_INFINITY)),
        any::<String>().prop_map(Value::text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
        any::<String>().prop_map(|id| Value::Row(RowId::new(id))),
        (65_537_usize..65_600).prop_map(|size| Value::Blob(vec![1; size]).outlined()),
    ]
}

/// JSON that is often close to a value.
fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[A-Za-z0-9_=-]{0,6}".prop_map(Json::from),
        Just(json!("inf")),
        Just(json!("00".repeat(32))),
        Just(json!(70_000)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = prop_oneof![
            "text",
            "blob",
            "real",
            "row",
            "file",
            "as",
            "sha256",
            "size",
            "[a-z]{1,4}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..2).prop_map(Json::from),
            proptest::collection::btree_map(name, inner, 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

fn change() -> impl Strategy<Value = RowChange> {
    let columns = proptest::collection::btree_map("[a-zé ]{0,6}", value(), 0..6);
    (columns, any::<i64>(), 0..3).prop_map(|(columns, time, op)| RowChange {
        table: "tasks".into(),
        id: RowId::new("1"),
        time: Timestamp::from_micros(time),
        op: match op {
            0 => RowOp::Insert(Row::from_iter(columns)),
            1 => RowOp::Update(Row::from_iter(columns)),
            _ => RowOp::Delete,
        },
    })
}

/// SQLite takes 1 and 1.0 for one key.
fn as_keys(values: &[Value]) -> Vec<Value> {
    let integer = |value: &Value| match value {
        Value::Real(real) => real.as_integer().map(Value::Integer),
        _ => None,
    };
    values
        .iter()
        .map(|value| integer(value).unwrap_or_else(|| value.clone()))
        .collect()
}

proptest! {
    #[test]
    fn change_survives_the_log(change in change()) {
        let body = BatchBody::encode(&[change.to_entry()]).unwrap();
        let entries = BatchBody::decode(body.plaintext(), 1).unwrap();
        prop_assert_eq!(RowChange::from_entry(&entries[0]), Ok(change));
    }

    #[test]
    fn accepted_json_is_written_the_same_way(json in json()) {
        if let Ok(value) = Value::from_json(&json) {
            prop_assert_eq!(value.to_json(), json);
        }
    }

    #[test]
    fn different_keys_have_different_ids(left in proptest::collection::vec(value(), 1..3),
                                         right in proptest::collection::vec(value(), 1..3)) {
        prop_assume!(as_keys(&left) != as_keys(&right));
        // A key that is a reference has its parent's id on purpose.
        prop_assume!(![&left, &right].iter().any(|key| matches!(key[..], [Value::Row(_)])));
        prop_assert_ne!(RowId::of_key(&left), RowId::of_key(&right));
    }
}

#[test]
fn keys_that_look_alike_have_different_ids() {
    let keys: Vec<Vec<Value>> = vec![
        vec![Value::Integer(1)],
        vec![Value::text("1")],
        vec![Value::Blob(b"1".to_vec())],
        vec![Value::text("01")],
        vec![Value::text("")],
        vec![Value::Null],
        vec![Value::text("a"), Value::text("b")],
        vec![Value::text("ab")],
        vec![Value::text(""), Value::text("ab")],
        vec![Value::text("ab"), Value::text("")],
        vec![Value::real(0.5)],
        vec![Value::Text(vec![0xff])],
        // The id of the first two texts, as a text.
        vec![Value::text(
            RowId::of_key(&[Value::text("a"), Value::text("b")]).as_str(),
        )],
    ];
    let mut ids: Vec<RowId> = keys.iter().map(|key| RowId::of_key(key)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), keys.len());
}

#[test]
fn whole_real_is_the_key_of_its_integer() {
    // SQLite takes both for one key.
    let pair = |first| RowId::of_key(&[first, Value::text("x")]);
    assert_eq!(pair(Value::real(2.0)), pair(Value::Integer(2)));
    assert_ne!(
        pair(Value::real(9_223_372_036_854_775_808.0)),
        pair(Value::Integer(i64::MAX))
    );
    assert_eq!(
        pair(Value::real(-9_223_372_036_854_775_808.0)),
        pair(Value::Integer(i64::MIN))
    );
}

#[test]
fn equal_rows_are_told_apart_by_their_ordinal() {
    let row = Row::from_iter([("tag", Value::text("red"))]);
    let ids = [0, 1].map(|ordinal| RowId::of_birth("tags", &row, ordinal));
    assert_ne!(ids[0], ids[1]);
    assert_ne!(ids[0], RowId::of_birth("labels", &row, 0));
    assert_eq!(ids[0], RowId::of_birth("tags", &row.clone(), 0));
}
