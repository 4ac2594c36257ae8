//! Whoever begins with a snapshot has what readers of the whole log have: `docs/rows.md`, section 5.

use proptest::prelude::*;
use serde_json::json;
use synckit_crypto::batch::{ChangeEntry, ChangeOp, Timestamp};
use synckit_sqlite::{
    merge::{Column, ColumnMerge, Rules, Schema, State, Table},
    rows::{Compaction, INLINE_BYTES_MAX, Row, RowChange, RowId, RowOp, Value},
};

/// Two versions of an app: the older one has fewer columns, and other defaults.
fn schema(columns: &[(&str, Value)]) -> Schema {
    let column = |default: &Value| Column {
        default: default.clone(),
        merge: ColumnMerge::Latest,
    };
    let table = Table {
        columns: columns
            .iter()
            .map(|(name, default)| ((*name).into(), column(default)))
            .collect(),
        ..Table::default()
    };
    Schema {
        tables: [("t".into(), table)].into(),
    }
}

fn read(schema: &Schema, state: &mut State, entries: &[ChangeEntry]) {
    for change in entries.iter().filter_map(|entry| RowChange::from_entry(entry).ok()) {
        state.fold_in(schema, Rules::ALL, &|_, row| row.clone(), &change);
    }
}

fn compacted(entries: &[ChangeEntry]) -> Vec<ChangeEntry> {
    Compaction::default().read(entries.to_vec()).entries()
}

fn entry(id: u8, time: i64, op: RowOp) -> ChangeEntry {
    let (id, time) = (RowId::new(id.to_string()), Timestamp::from_micros(time));
    let table = "t".to_owned();
    RowChange { table, id, time, op }.to_entry()
}

fn entries() -> impl Strategy<Value = Vec<ChangeEntry>> {
    let value = prop_oneof![Just(Value::Null), (0..3_i64).prop_map(Value::Integer)];
    let row = proptest::collection::btree_map(prop_oneof!["a", "b", "c"], value, 0..4);
    let op = prop_oneof![
        4 => row.prop_map(|row| RowOp::Update(Row::from_iter(row))),
        1 => Just(RowOp::Delete),
    ];
    let one = (0..3_u8, 0..9_i64, op).prop_map(|(id, time, op)| entry(id, time, op));
    proptest::collection::vec(one, 0..14)
}

proptest! {
    #[test]
    fn compacted_log_is_read_as_the_log(
        entries in entries(),
        (read_before, folded_before) in (0..15_usize, 0..15_usize),
    ) {
        let newer = schema(&[("a", Value::Integer(1)), ("b", Value::Null), ("c", Value::Integer(2))]);
        for schema in [newer, schema(&[("a", Value::Null)])] {
            let mut whole = State::default();
            read(&schema, &mut whole, &entries);
            // A snapshot on top of a snapshot.
            let (first, others) = entries.split_at(folded_before.min(entries.len()));
            let twice = [compacted(first), others.to_vec()].concat();
            for snapshot in [compacted(&entries), compacted(&twice)] {
                let mut fresh = State::default();
                read(&schema, &mut fresh, &snapshot);
                prop_assert_eq!(&whole.fold, &fresh.fold);
                // A device that slept has the beginning.
                let mut slept = State::default();
                read(&schema, &mut slept, &entries[..read_before.min(entries.len())]);
                read(&schema, &mut slept, &snapshot);
                prop_assert_eq!(&whole.fold, &slept.fold);
            }
        }
    }
}

#[test]
fn unreadable_entries_stay_with_what_follows() {
    let newer = ChangeEntry {
        data: Some(json!([1, 2, 3])),
        op: ChangeOp::Update,
        ..entry(1, 3, RowOp::Delete)
    };
    let row = |value| RowOp::Update(Row::from_iter([("a", Value::Integer(value))]));
    let log = vec![
        entry(1, 1, row(1)),
        entry(1, 2, row(2)),
        newer.clone(),
        entry(1, 4, row(4)),
        entry(2, 5, row(5)),
        entry(1, 6, row(6)),
    ];
    let found = compacted(&log);
    assert_eq!(found[0].row_id, "2");
    assert_eq!(
        RowChange::from_entry(&found[1]).unwrap().time,
        Timestamp::from_micros(2)
    );
    assert_eq!(found[2..], [newer, log[3].clone(), log[5].clone()]);
    assert_eq!(compacted(&found), found);
}

/// Two versions of an app, each with columns that fill an entry.
#[test]
fn row_of_more_than_an_entry_is_compacted() {
    let wide = |prefix: &str| {
        let value = Value::text("x".repeat(INLINE_BYTES_MAX));
        RowOp::Update(
            (0..40)
                .map(|column| (format!("{prefix}{column}"), value.clone()))
                .collect(),
        )
    };
    let log = [entry(1, 1, wide("old")), entry(1, 2, wide("new"))];
    let found = compacted(&log);
    let fits = |entry| synckit_crypto::snapshot::PartBody::row_len_max(entry).is_ok();
    assert!(found.iter().all(fits));
    assert_eq!(compacted(&found), found);
    let schema = schema(&[]);
    let (mut whole, mut fresh) = (State::default(), State::default());
    read(&schema, &mut whole, &log);
    read(&schema, &mut fresh, &found);
    assert_eq!(whole.fold, fresh.fold);
}
