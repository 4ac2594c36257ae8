//! Single facts of the merge. `model` shows that its rules hold together.

use std::collections::{BTreeMap, BTreeSet};

use synckit_crypto::batch::Timestamp;
use synckit_protocol::BatchId;
use synckit_sqlite::{
    merge::{
        Base, Batch, Column, ColumnMerge, Found, Key, Ledger, OnDelete, Parked, Reference, Rule, Rules, Schema, State,
        Step, Table, Unsent, View, is_mass_deletion, plan,
    },
    rows::{Row, RowChange, RowId, RowOp, Value},
};

fn key(table: &str, id: &str) -> Key {
    Key {
        table: table.into(),
        id: RowId::new(id),
    }
}

fn column(default: Value) -> Column {
    Column {
        default,
        merge: ColumnMerge::Latest,
    }
}

/// Lists with unique names, and tasks in them.
fn schema(on_delete: OnDelete) -> Schema {
    let lists = Table {
        columns: [("name".into(), column(Value::Null))].into(),
        uniques: vec![vec!["name".into()].into()],
        ..Table::default()
    };
    let tasks = Table {
        columns: [
            ("list".into(), column(Value::Row(RowId::new("inbox")))),
            ("note".into(), column(Value::Null)),
        ]
        .into(),
        references: vec![Reference {
            column: "list".into(),
            parent: "lists".into(),
            on_delete,
        }],
        ..Table::default()
    };
    Schema {
        tables: [("lists".into(), lists), ("tasks".into(), tasks)].into(),
    }
}

fn named(name: &str) -> Row {
    Row::from_iter([("name", Value::text(name))])
}

fn task(list: &str, note: &str) -> Row {
    Row::from_iter([("list", Value::Row(RowId::new(list))), ("note", Value::text(note))])
}

struct Device {
    schema: Schema,
    state: State,
    batches: u8,
}

impl Device {
    fn new(on_delete: OnDelete) -> Self {
        Self {
            schema: schema(on_delete),
            state: State::default(),
            batches: 0,
        }
    }

    /// Reads a batch of another device.
    fn read(&mut self, changes: Vec<(Key, i64, RowOp)>) {
        self.batches += 1;
        let change = |(key, time, op): (Key, i64, RowOp)| RowChange {
            table: key.table,
            id: key.id,
            time: Timestamp::from_micros(time),
            op,
        };
        let changes = changes.into_iter().map(change).collect();
        let batch = Batch {
            id: BatchId::from_bytes([self.batches; 16]),
            changes,
        };
        self.state.read(&self.schema, Rules::ALL, &|_, row| row.clone(), &batch);
    }

    fn edit(&mut self, key: Key, time: i64, row: Option<Row>) {
        let folded = self.state.fold.get(&key).and_then(|folded| folded.row.clone());
        let base = folded.map_or(Base::Nothing, Base::Row);
        self.state.unsent.insert(
            key,
            Unsent {
                row,
                base,
                time: Timestamp::from_micros(time),
                changed: BTreeMap::new(),
            },
        );
    }

    fn settle(&mut self) {
        self.state.settle(&self.schema, Rules::ALL);
    }

    fn visible(&self) -> BTreeMap<Key, Row> {
        self.state.view(&self.schema, Rules::ALL).visible
    }

    /// The app's tables, in which these rows are missing.
    fn without(&self, gone: &[Key]) -> BTreeMap<Key, Row> {
        let mut rows = self.visible();
        gone.iter().for_each(|key| drop(rows.remove(key)));
        rows
    }

    fn capture(&mut self, rows: &BTreeMap<Key, Row>, noted: &[Key]) -> BTreeSet<Key> {
        self.capture_at(rows, noted, 99)
    }

    fn capture_at(&mut self, rows: &BTreeMap<Key, Row>, noted: &[Key], clock: i64) -> BTreeSet<Key> {
        let said = self.state.view(&self.schema, Rules::ALL);
        let noted = noted.iter().cloned().collect();
        let found = Found {
            rows,
            noted: &noted,
            looked_for: None,
            missing: &BTreeSet::new(),
        };
        self.state
            .capture(&self.schema, Rules::ALL, &said, &found, Timestamp::from_micros(clock))
    }
}

#[test]
fn edits_of_different_columns_are_both_kept() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("lists", "b"), 1, RowOp::Insert(named("y"))),
        (key("tasks", "t"), 1, RowOp::Insert(task("a", "old"))),
    ]);
    device.edit(key("tasks", "t"), 5, Some(task("b", "old")));
    device.read(vec![(key("tasks", "t"), 9, RowOp::Update(task("a", "new")))]);
    device.settle();
    assert_eq!(device.visible()[&key("tasks", "t")], task("b", "new"));
    assert_eq!(device.state.conflicts, []);
}

#[test]
fn earlier_edit_of_one_column_becomes_a_conflict() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    device.edit(key("lists", "a"), 5, Some(named("mine")));
    device.read(vec![(key("lists", "a"), 9, RowOp::Update(named("theirs")))]);
    device.settle();
    assert_eq!(device.visible()[&key("lists", "a")], named("theirs"));
    assert_eq!(device.state.conflicts[0].lost, named("mine"));
    assert!(device.state.unsent.is_empty());
}

#[test]
fn counters_add_up_although_both_sides_agree() {
    let mut device = Device::new(OnDelete::Cascade);
    let count = |count| Row::from_iter([("count", Value::Integer(count))]);
    let column = Column {
        default: Value::Integer(0),
        merge: ColumnMerge::Counter,
    };
    device
        .schema
        .tables
        .get_mut("lists")
        .unwrap()
        .columns
        .insert("count".into(), column);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(count(1)))]);
    device.edit(key("lists", "a"), 5, Some(count(3)));
    device.read(vec![(key("lists", "a"), 9, RowOp::Update(count(3)))]);
    device.settle();
    assert_eq!(device.visible()[&key("lists", "a")], count(5));
}

#[test]
fn new_row_becomes_the_row_with_its_unique_values() {
    let mut device = Device::new(OnDelete::Cascade);
    device.edit(key("lists", "mine"), 5, Some(named("x")));
    device.edit(key("tasks", "t"), 5, Some(task("mine", "Milk")));
    device.read(vec![(key("lists", "theirs"), 1, RowOp::Insert(named("x")))]);
    device.settle();
    let expected = [
        (key("lists", "theirs"), named("x")),
        (key("tasks", "t"), task("theirs", "Milk")),
    ];
    assert_eq!(device.visible(), BTreeMap::from(expected));
    assert_eq!(device.state.renamed, [(key("lists", "mine"), key("lists", "theirs"))]);
}

#[test]
fn clash_of_logged_rows_ends_with_its_cause() {
    let mut device = Device::new(OnDelete::Cascade);
    let (first, second) = (key("lists", "a"), key("lists", "b"));
    device.read(vec![
        (second.clone(), 1, RowOp::Insert(named("x"))),
        (first.clone(), 1, RowOp::Insert(named("x"))),
        (key("tasks", "t"), 1, RowOp::Insert(task("b", "Milk"))),
    ]);
    let view = device.state.view(&device.schema, Rules::ALL);
    assert_eq!(view.visible.keys().collect::<Vec<_>>(), [&first]);
    assert_eq!(view.parked[&second], Parked::Unique { by: first.clone() });
    assert_eq!(
        view.parked[&key("tasks", "t")],
        Parked::Parent {
            missing: second.clone()
        }
    );
    device.read(vec![(first, 2, RowOp::Delete)]);
    assert_eq!(
        device.visible().keys().cloned().collect::<Vec<_>>(),
        [second, key("tasks", "t")]
    );
}

#[test]
fn child_goes_with_its_parent_into_the_conflicts() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    device.edit(key("tasks", "t"), 5, Some(task("a", "Milk")));
    device.read(vec![(key("lists", "a"), 9, RowOp::Delete)]);
    device.settle();
    assert!(device.visible().is_empty());
    assert_eq!(device.state.conflicts[0].lost, task("a", "Milk"));
    assert!(!device.state.has_unsent(), "nobody ever heard of the task");
}

#[test]
fn child_falls_back_to_the_default_parent() {
    let mut device = Device::new(OnDelete::SetDefault);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("lists", "inbox"), 1, RowOp::Insert(named("Inbox"))),
    ]);
    device.edit(key("tasks", "t"), 5, Some(task("a", "Milk")));
    device.read(vec![(key("lists", "a"), 9, RowOp::Delete)]);
    device.settle();
    assert_eq!(device.visible()[&key("tasks", "t")], task("inbox", "Milk"));
}

#[test]
fn missing_default_parent_takes_the_child_along() {
    let mut device = Device::new(OnDelete::SetDefault);
    device.read(vec![(key("lists", "inbox"), 1, RowOp::Insert(named("Inbox")))]);
    device.edit(key("tasks", "t"), 5, Some(task("inbox", "Milk")));
    device.read(vec![(key("lists", "inbox"), 9, RowOp::Delete)]);
    device.settle();
    assert!(device.visible().is_empty());
    assert_eq!(device.state.conflicts[0].lost, task("inbox", "Milk"));
}

#[test]
fn half_a_transaction_waits_for_its_rest() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("tasks", "t"), 1, RowOp::Insert(task("a", "Milk")))]);
    assert!(device.visible().is_empty());
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    assert_eq!(device.visible().len(), 2);
    assert!(!device.state.has_unsent());
}

#[test]
fn rows_that_vanish_take_no_half_transaction_along() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("a"))),
        (key("tasks", "half"), 1, RowOp::Insert(task("to come", "theirs"))),
    ]);
    device.edit(key("lists", "a"), 5, None);
    device.edit(key("tasks", "new"), 5, Some(task("a", "mine")));
    device.settle();
    // The new one goes with its list, and nobody ever hears of it. The list of the other is in the next batch.
    let lost: Vec<&Row> = device.state.conflicts.iter().map(|conflict| &conflict.lost).collect();
    assert_eq!(lost, [&task("a", "mine")]);
    let unsent: Vec<&Key> = device.state.unsent.keys().collect();
    assert_eq!(unsent, [&key("lists", "a")]);
}

#[test]
fn edit_during_a_push_is_not_acknowledged_by_it() {
    let mut device = Device::new(OnDelete::Cascade);
    device.edit(key("lists", "a"), 5, Some(named("sent")));
    let batch = device
        .state
        .freeze(&device.schema, BatchId::from_bytes([9; 16]), 500)
        .unwrap();
    let batch = Batch {
        id: batch.id,
        changes: batch.changes.clone(),
    };
    device.edit(key("lists", "a"), 7, Some(named("newer")));
    device
        .state
        .read(&device.schema, Rules::ALL, &|_, row| row.clone(), &batch);
    assert_eq!(device.visible()[&key("lists", "a")], named("newer"));
    let next = device
        .state
        .freeze(&device.schema, BatchId::from_bytes([8; 16]), 500)
        .unwrap();
    assert_eq!(next.changes[0].op, RowOp::Update(named("newer")));
}

#[test]
fn frozen_batch_never_changes() {
    let mut device = Device::new(OnDelete::Cascade);
    device.edit(key("lists", "a"), 5, Some(named("sent")));
    let first = device
        .state
        .freeze(&device.schema, BatchId::from_bytes([9; 16]), 500)
        .cloned();
    device.edit(key("lists", "a"), 7, Some(named("newer")));
    assert_eq!(
        device
            .state
            .freeze(&device.schema, BatchId::from_bytes([8; 16]), 500)
            .cloned(),
        first
    );
}

#[test]
fn later_deletion_outlives_a_restored_server() {
    let mut device = Device::new(OnDelete::Cascade);
    let change = |time, op| vec![(key("lists", "a"), time, op)];
    device.read(change(1, RowOp::Insert(named("x"))));
    device.read(change(5, RowOp::Delete));
    device.state.rejoin(Rules::ALL);
    device.read(change(1, RowOp::Insert(named("x"))));
    device.settle();
    assert!(device.visible().is_empty() && device.state.has_unsent());
    assert_eq!(device.state.conflicts[0].lost, named("x"));
}

#[test]
fn later_edit_in_a_restored_server_undoes_a_deletion() {
    let mut device = Device::new(OnDelete::Cascade);
    let change = |time, op| vec![(key("lists", "a"), time, op)];
    device.read(change(1, RowOp::Insert(named("x"))));
    device.read(change(5, RowOp::Delete));
    device.state.rejoin(Rules::ALL);
    device.read(change(9, RowOp::Insert(named("y"))));
    device.settle();
    assert_eq!(device.visible()[&key("lists", "a")], named("y"));
    assert!(!device.state.has_unsent());
}

/// Two histories: each column of a row has a time of its own, and what both logs had has lost already.
#[test]
fn columns_of_a_lost_log_keep_their_times() {
    let t = key("tasks", "t");
    for (is_in_both, lost) in [(true, vec![]), (false, vec![task("a", "old")])] {
        let mut device = Device::new(OnDelete::Cascade);
        let before = || {
            vec![
                (key("lists", "a"), 1, RowOp::Insert(named("x"))),
                (key("lists", "b"), 1, RowOp::Insert(named("y"))),
                (t.clone(), 10, RowOp::Insert(task("a", "old"))),
            ]
        };
        device.read(before());
        device.read(vec![(t.clone(), 90, RowOp::Update(task("b", "old")))]);
        device.state.rejoin(Rules::ALL);
        device.read(before());
        if is_in_both {
            device.state.note_in_both(&t, Timestamp::from_micros(10));
        }
        device.read(vec![(t.clone(), 50, RowOp::Update(task("a", "theirs")))]);
        device.settle();
        assert_eq!(device.visible()[&t], task("b", "theirs"));
        let lost_columns: Vec<&str> = device
            .state
            .conflicts
            .iter()
            .flat_map(|conflict| conflict.lost.iter())
            .map(|(column, _)| column)
            .collect();
        let expected: Vec<&str> = lost.iter().flat_map(Row::iter).map(|(column, _)| column).collect();
        assert_eq!(lost_columns, expected);
    }
}

/// An edit moves the time of what it changes only, also if it goes back.
#[test]
fn edits_of_two_columns_have_two_times() {
    let (t, mut device) = (key("tasks", "t"), Device::new(OnDelete::Cascade));
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("lists", "b"), 1, RowOp::Insert(named("y"))),
        (t.clone(), 2, RowOp::Insert(task("a", "old"))),
    ]);
    let mut edit = |row: Row, clock: i64| {
        let mut rows = device.visible();
        rows.insert(t.clone(), row);
        device.capture_at(&rows, &[], clock);
        device.state.unsent[&t].clone()
    };
    edit(task("a", "mine"), 5);
    let unsent = edit(task("b", "mine"), 9);
    let time = |unsent: &Unsent, column: &str| unsent.changed.get(column).copied().unwrap_or(unsent.time).as_micros();
    assert_eq!((time(&unsent, "list"), time(&unsent, "note")), (9, 5));
    let unsent = edit(task("a", "mine"), 12);
    assert_eq!((time(&unsent, "list"), time(&unsent, "note")), (12, 5));
}

#[test]
fn deletion_found_without_a_note_waits() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    let rows = device.without(&[key("lists", "a")]);
    let held = device.capture(&rows, &[]);
    assert_eq!(held, [key("lists", "a")].into());
    assert!(!device.state.has_unsent());
    device.state.delete(&device.schema, &held, Timestamp::from_micros(100));
    assert!(device.state.has_unsent() && device.visible().is_empty());
}

#[test]
fn noted_deletion_is_sent() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    let rows = device.without(&[key("lists", "a")]);
    assert!(device.capture(&rows, &[key("lists", "a")]).is_empty());
    assert!(device.state.has_unsent());
}

#[test]
fn mass_deletion_waits_although_it_is_noted() {
    let mut device = Device::new(OnDelete::Cascade);
    let keys: Vec<Key> = (0..200).map(|number| key("lists", &number.to_string())).collect();
    let insert = |key: &Key| (key.clone(), 1, RowOp::Insert(named(key.id.as_str())));
    device.read(keys.iter().map(insert).collect());
    let rows = device.without(&keys[..21]);
    assert_eq!(device.capture(&rows, &keys).len(), 21);
    let rows = device.without(&keys[..20]);
    assert!(device.capture(&rows, &keys).is_empty());
}

#[test]
fn mass_is_more_than_twenty_and_than_a_tenth() {
    let cases = [
        (20, 20, false),
        (21, 21, true),
        (21, 209, true),
        (21, 210, false),
        (usize::MAX, usize::MAX, true),
    ];
    for (deleted, rows, is_mass) in cases {
        assert_eq!(is_mass_deletion(deleted, rows), is_mass, "{deleted} of {rows}");
    }
}

#[test]
fn leaving_row_makes_room_before_its_children_move() {
    // The new list needs the name of the old one, which has a task; the task needs the new list.
    let (old, new, task_key) = (key("lists", "b"), key("lists", "c"), key("tasks", "s"));
    let found = [(old.clone(), named("x")), (task_key.clone(), task("b", "Milk"))].into();
    let moved = task("c", "Milk");
    let visible = [(new.clone(), named("x")), (task_key.clone(), moved.clone())].into();
    let said = View {
        visible,
        parked: BTreeMap::new(),
    };
    let steps = plan(&schema(OnDelete::Cascade), Rules::ALL, &found, &said);
    let expected = [
        Step::TakeOut(old.clone()),
        Step::Put(new, named("x")),
        Step::Put(task_key, moved),
        Step::Delete(old),
    ];
    assert_eq!(steps, expected);
}

impl Device {
    /// Gives a row that was in the file before it was tracked: it began as `base`, and the log never had its id.
    fn stranger(&mut self, key: Key, base: Row, row: Row) {
        let unsent = Unsent {
            row: Some(row),
            base: Base::Row(base),
            time: Timestamp::from_micros(5),
            changed: BTreeMap::new(),
        };
        self.state.unsent.insert(key, unsent);
    }

    fn frozen(&mut self) -> Vec<RowChange> {
        let outbox = self.state.freeze(&self.schema, BatchId::from_bytes([9; 16]), 500);
        outbox.map(|outbox| outbox.changes.clone()).unwrap_or_default()
    }

    fn table(&mut self, name: &str) -> &mut Table {
        self.schema.tables.get_mut(name).unwrap()
    }
}

#[test]
fn only_changed_rows_are_captured() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 200, RowOp::Insert(named("x")))]);
    let mut rows = device.visible();
    device.capture(&rows, &[]);
    assert!(device.state.unsent.is_empty());
    rows.insert(key("lists", "a"), named("y"));
    device.capture(&rows, &[]);
    let unsent = &device.state.unsent[&key("lists", "a")];
    assert_eq!(unsent.row, Some(named("y")));
    // The clock of the capture was at 99: an edit is later than what it replaces all the same.
    assert_eq!(unsent.time, Timestamp::from_micros(201));
}

#[test]
fn capture_keeps_columns_of_newer_apps() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(colored("x", "red")))]);
    device.capture(&[(key("lists", "a"), named("y"))].into(), &[]);
    assert_eq!(device.state.unsent[&key("lists", "a")].row, Some(colored("y", "red")));
}

#[test]
fn row_made_and_deleted_leaves_nothing() {
    let mut device = Device::new(OnDelete::Cascade);
    device.capture(&[(key("lists", "a"), named("x"))].into(), &[]);
    assert!(device.state.has_unsent());
    device.capture(&BTreeMap::new(), &[key("lists", "a")]);
    assert!(device.state.unsent.is_empty());
}

#[test]
fn deletion_after_a_rejoin_is_captured() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    device.state.rejoin(Rules::ALL);
    device.capture(&BTreeMap::new(), &[key("lists", "a")]);
    device.settle();
    // Other devices may have it from the log that is gone.
    assert_eq!(device.frozen()[0].op, RowOp::Delete);
}

#[test]
fn deletion_of_a_tenth_does_not_wait() {
    let mut device = Device::new(OnDelete::Cascade);
    let keys: Vec<Key> = (0..210).map(|number| key("lists", &number.to_string())).collect();
    let insert = |key: &Key| (key.clone(), 1, RowOp::Insert(named(key.id.as_str())));
    device.read(keys.iter().map(insert).collect());
    let rows = device.without(&keys[..21]);
    assert!(device.capture(&rows, &keys).is_empty());
}

#[test]
fn later_edit_of_one_column_wins() {
    for (time, name) in [(10, "mine"), (9, "theirs"), (8, "theirs")] {
        let mut device = Device::new(OnDelete::Cascade);
        device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
        device.edit(key("lists", "a"), time, Some(named("mine")));
        device.read(vec![(key("lists", "a"), 9, RowOp::Update(named("theirs")))]);
        device.settle();
        assert_eq!(device.visible()[&key("lists", "a")], named(name), "at {time}");
    }
}

#[test]
fn column_has_the_time_of_its_own_change() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("lists", "b"), 1, RowOp::Insert(named("y"))),
        (key("tasks", "t"), 1, RowOp::Insert(task("a", "old"))),
    ]);
    device.edit(key("tasks", "t"), 10, Some(task("a", "mine")));
    device.read(vec![(key("tasks", "t"), 9, RowOp::Update(task("a", "theirs")))]);
    device.read(vec![(key("tasks", "t"), 12, RowOp::Update(task("b", "theirs")))]);
    device.settle();
    assert_eq!(device.visible()[&key("tasks", "t")], task("b", "mine"));
}

#[test]
fn parents_are_sent_first_and_deletions_last() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    device.edit(key("lists", "a"), 5, None);
    device.edit(key("lists", "b"), 5, Some(named("y")));
    device.edit(key("tasks", "t"), 5, Some(task("b", "Milk")));
    device.edit(key("tasks", "u"), 5, None);
    let sent: Vec<_> = device
        .frozen()
        .into_iter()
        .map(|change| (change.id, change.op))
        .collect();
    let expected = [
        (RowId::new("b"), RowOp::Insert(named("y"))),
        (RowId::new("t"), RowOp::Insert(task("b", "Milk"))),
        (RowId::new("a"), RowOp::Delete),
    ];
    assert_eq!(sent, expected, "nobody ever heard of the task u");
}

#[test]
fn edit_outlives_a_deletion_that_did_not_know_it() {
    let (a, x) = (key("lists", "a"), named("x"));
    // What the edit began with, its row and time, whether it stays, and whether it becomes a conflict.
    for (base, row, time, stays, is_lost) in [
        (Base::Nothing, named("y"), 1, true, false),
        (Base::Row(x.clone()), named("y"), 1, true, false),
        (Base::Row(x.clone()), x.clone(), 9, false, false),
        (Base::Unknown(Timestamp::from_micros(0)), x.clone(), 6, true, false),
        (Base::Unknown(Timestamp::from_micros(0)), x.clone(), 5, false, true),
    ] {
        let mut device = Device::new(OnDelete::Cascade);
        device.read(vec![
            (a.clone(), 1, RowOp::Insert(x.clone())),
            (a.clone(), 5, RowOp::Delete),
        ]);
        let time = Timestamp::from_micros(time);
        let unsent = Unsent {
            row: Some(row),
            base: base.clone(),
            time,
            changed: BTreeMap::new(),
        };
        device.state.unsent.insert(a.clone(), unsent);
        device.settle();
        assert_eq!(device.visible().contains_key(&a), stays, "{base:?} {time:?}");
        assert_eq!(device.state.conflicts.is_empty(), !is_lost, "{base:?} {time:?}");
    }
}

#[test]
fn deletion_yields_to_an_edit_that_it_did_not_know() {
    let (a, x) = (key("lists", "a"), named("x"));
    for (base, theirs, time, is_deleted, is_lost) in [
        (Base::Nothing, x.clone(), 9, false, false),
        (Base::Row(x.clone()), named("y"), 9, false, false),
        (Base::Row(x.clone()), x.clone(), 1, true, false),
        (Base::Unknown(Timestamp::from_micros(0)), x.clone(), 5, true, true),
        (Base::Unknown(Timestamp::from_micros(0)), x.clone(), 4, false, false),
    ] {
        let mut device = Device::new(OnDelete::Cascade);
        device.read(vec![(a.clone(), 5, RowOp::Insert(theirs))]);
        let time = Timestamp::from_micros(time);
        let unsent = Unsent {
            row: None,
            base: base.clone(),
            time,
            changed: BTreeMap::new(),
        };
        device.state.unsent.insert(a.clone(), unsent);
        device.settle();
        assert_eq!(!device.visible().contains_key(&a), is_deleted, "{base:?} {time:?}");
        assert_eq!(device.state.conflicts.is_empty(), !is_lost, "{base:?} {time:?}");
    }
}

#[test]
fn row_of_before_becomes_the_equal_row() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("tasks", "bread"), 1, RowOp::Insert(task("a", "Bread"))),
        (key("tasks", "milk"), 1, RowOp::Insert(task("a", "Milk"))),
    ]);
    device.stranger(key("tasks", "1"), task("a", "Milk"), task("a", "Milk, two"));
    device.stranger(key("tasks", "2"), task("a", "Eggs"), task("a", "Eggs"));
    assert!(device.state.has_strangers());
    device.settle();
    assert_eq!(device.state.renamed, [(key("tasks", "1"), key("tasks", "milk"))]);
    let visible = device.visible();
    assert_eq!(visible[&key("tasks", "milk")], task("a", "Milk, two"));
    assert_eq!(visible[&key("tasks", "2")], task("a", "Eggs"));
    assert_eq!(visible.len(), 4);
}

#[test]
fn rows_that_refer_to_a_found_row_are_found_too() {
    let mut device = Device::with_colors();
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(colored("x", "red"))),
        (key("tasks", "t"), 1, RowOp::Insert(task("a", "Milk"))),
    ]);
    // By its unique name, although its color differs.
    device.stranger(key("lists", "1"), colored("x", "blue"), colored("x", "blue"));
    device.stranger(key("tasks", "1"), task("1", "Milk"), task("1", "Milk"));
    device.settle();
    assert_eq!(device.visible().len(), 2);
    let renamed = [
        (key("lists", "1"), key("lists", "a")),
        (key("tasks", "1"), key("tasks", "t")),
    ];
    assert_eq!(device.state.renamed, renamed);
    assert!(!device.state.has_strangers());
}

#[test]
fn row_with_a_key_is_found_by_its_id_alone() {
    let mut device = Device::new(OnDelete::Cascade);
    device.table("tasks").key = vec!["note".into()];
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("tasks", "t"), 1, RowOp::Insert(task("a", "Milk"))),
    ]);
    device.stranger(key("tasks", "1"), task("a", "Milk"), task("a", "Milk"));
    device.settle();
    assert_eq!(device.state.renamed, []);
    assert_eq!(device.visible().len(), 3);
}

#[test]
fn edit_to_a_taken_name_goes_back() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("lists", "b"), 1, RowOp::Insert(named("y"))),
    ]);
    device.edit(key("lists", "b"), 5, Some(named("x")));
    device.settle();
    assert_eq!(device.visible()[&key("lists", "b")], named("y"));
    assert_eq!(device.state.conflicts[0].lost, named("x"));
    assert!(!device.state.has_unsent());
}

/// A list with a color.
fn colored(name: &str, color: &str) -> Row {
    Row::from_iter([("name", Value::text(name)), ("color", Value::text(color))])
}

/// A row of a table whose key is made of a list and a person.
fn member(list: &str, note: &str) -> Row {
    let list = Value::Row(RowId::new(list));
    Row::from_iter([
        ("list", list),
        ("person", Value::text("Ann")),
        ("note", Value::text(note)),
    ])
}

fn member_key(list: &str) -> Key {
    let id = RowId::of_key(&[Value::Row(RowId::new(list)), Value::text("Ann")]);
    key("members", id.as_str())
}

impl Device {
    fn with_colors() -> Self {
        let mut device = Self::new(OnDelete::Cascade);
        let columns = &mut device.table("lists").columns;
        columns.insert("color".into(), column(Value::Null));
        device
    }

    fn with_members() -> Self {
        let mut device = Self::new(OnDelete::Cascade);
        let mut members = device.table("tasks").clone();
        members.columns.insert("person".into(), column(Value::Null));
        members.key = vec!["list".into(), "person".into()];
        device.schema.tables.insert("members".into(), members);
        device
    }
}

#[test]
fn captured_edit_keeps_its_time() {
    let mut device = Device::new(OnDelete::Cascade);
    device.edit(key("lists", "a"), 50, Some(named("x")));
    device.capture(&device.visible(), &[]);
    assert_eq!(device.state.unsent[&key("lists", "a")].time, Timestamp::from_micros(50));
}

#[test]
fn what_is_not_sent_takes_no_place_in_a_batch() {
    let first = |device: &mut Device| {
        let outbox = device.state.freeze(&device.schema, BatchId::from_bytes([9; 16]), 1);
        outbox.unwrap().changes[0].id.clone()
    };
    let mut device = Device::new(OnDelete::Cascade);
    device.edit(key("lists", "a"), 5, Some(named("x")));
    device.edit(key("lists", "b"), 5, Some(named("y")));
    device.state.unsendable.insert(key("lists", "a"), "too large".into());
    assert_eq!(first(&mut device), RowId::new("b"));

    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "b"), 1, RowOp::Insert(named("y")))]);
    // Nobody ever heard of the first.
    device.edit(key("lists", "a"), 5, None);
    device.edit(key("lists", "b"), 5, None);
    assert_eq!(first(&mut device), RowId::new("b"));
}

#[test]
fn new_rows_wait_for_a_parent_that_stays_here() {
    let mut device = Device::new(OnDelete::Cascade);
    let notes = Table {
        columns: [("task".into(), column(Value::Null))].into(),
        references: vec![Reference {
            column: "task".into(),
            parent: "tasks".into(),
            on_delete: OnDelete::Cascade,
        }],
        ..Table::default()
    };
    device.schema.tables.insert("notes".into(), notes);
    device.read(vec![(key("lists", "logged"), 1, RowOp::Insert(named("logged")))]);
    for name in ["a", "b", "logged"] {
        device.edit(key("lists", name), 5, Some(named(&format!("new {name}"))));
        device.edit(key("tasks", name), 5, Some(task(name, "x")));
        let note = Row::from_iter([("task", Value::Row(RowId::new(name)))]);
        device.edit(key("notes", name), 5, Some(note));
    }
    for refused in ["a", "logged"] {
        device
            .state
            .unsendable
            .insert(key("lists", refused), "too large".into());
    }
    let schema = device.schema.clone();
    let batch = device.state.freeze(&schema, BatchId::from_bytes([7; 16]), 99).unwrap();
    let sent: Vec<_> = batch
        .changes
        .iter()
        .map(|change| (&*change.table, change.id.as_str()))
        .collect();
    // All devices have the other list that was refused.
    let expected = [
        ("lists", "b"),
        ("tasks", "b"),
        ("notes", "b"),
        ("tasks", "logged"),
        ("notes", "logged"),
    ];
    assert_eq!(sent, expected);
}

#[test]
fn refused_row_is_sent_again_only_as_another_row() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("a"))),
        (key("lists", "b"), 1, RowOp::Insert(named("b"))),
        (key("tasks", "t"), 1, RowOp::Insert(task("a", "old"))),
        (key("tasks", "u"), 1, RowOp::Insert(task("a", "old"))),
    ]);
    for name in ["t", "u"] {
        device.edit(key("tasks", name), 5, Some(task("a", "mine")));
        device.state.unsendable.insert(key("tasks", name), "refused".into());
    }
    device.read(vec![(key("tasks", "u"), 9, RowOp::Update(task("b", "old")))]);
    device.settle();
    assert_eq!(device.visible()[&key("tasks", "u")], task("b", "mine"));
    let refused: Vec<&Key> = device.state.unsendable.keys().collect();
    assert_eq!(refused, [&key("tasks", "t")]);
}

#[test]
fn returned_batch_acknowledges_what_it_carried() {
    let mut device = Device::new(OnDelete::Cascade);
    let (a, b) = (key("lists", "a"), key("lists", "b"));
    device.edit(a.clone(), 5, Some(named("x")));
    device.edit(b.clone(), 5, Some(named("sent")));
    let changes = device.frozen();
    device.edit(b.clone(), 2, Some(named("newer")));
    let id = BatchId::from_bytes([9; 16]);
    let batch = Batch { id, changes };
    device
        .state
        .read(&device.schema, Rules::ALL, &|_, row| row.clone(), &batch);
    assert_eq!(device.state.outbox, None);
    assert!(!device.state.unsent.contains_key(&a));
    let unsent = Unsent {
        row: Some(named("newer")),
        base: Base::Row(named("sent")),
        time: Timestamp::from_micros(6),
        changed: BTreeMap::new(),
    };
    assert_eq!(device.state.unsent[&b], unsent);
}

#[test]
fn later_deletion_in_a_restored_server_beats_an_edit() {
    let mut device = Device::new(OnDelete::Cascade);
    device.read(vec![(key("lists", "a"), 1, RowOp::Insert(named("x")))]);
    device.edit(key("lists", "a"), 5, Some(named("mine")));
    device.state.rejoin(Rules::ALL);
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (key("lists", "a"), 9, RowOp::Delete),
    ]);
    device.settle();
    assert!(device.visible().is_empty() && !device.state.has_unsent());
    assert_eq!(device.state.conflicts[0].lost, named("mine"));
}

#[test]
fn row_of_a_lost_log_stays_one_as_it_takes_in_another() {
    let mut device = Device::with_colors();
    let a = key("lists", "a");
    device.read(vec![(a.clone(), 1, RowOp::Insert(named("x")))]);
    device.state.rejoin(Rules::ALL);
    device.edit(key("lists", "b"), 5, Some(colored("x", "red")));
    device.settle();
    assert_eq!(device.visible(), [(a.clone(), colored("x", "red"))].into());
    assert!(matches!(device.state.unsent[&a].base, Base::Unknown(_)));
}

#[test]
fn new_rows_find_their_rows_after_an_edit_went_back() {
    let mut device = Device::new(OnDelete::Cascade);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| key("lists", id));
    device.read(vec![
        (a.clone(), 1, RowOp::Insert(named("x"))),
        (b.clone(), 1, RowOp::Insert(named("y"))),
    ]);
    device.edit(a.clone(), 5, Some(named("y")));
    device.edit(c.clone(), 5, Some(named("x")));
    device.edit(d.clone(), 5, Some(named("y")));
    device.settle();
    let visible = [(a.clone(), named("x")), (b.clone(), named("y"))];
    assert_eq!(device.visible(), visible.into());
    assert_eq!(device.state.renamed, [(c, a), (d, b)]);
    assert!(!device.state.has_unsent());
}

#[test]
fn edited_row_of_the_log_becomes_no_other_row() {
    let mut device = Device::with_colors();
    let (a, b) = (key("lists", "a"), key("lists", "b"));
    device.read(vec![
        (a.clone(), 1, RowOp::Insert(named("x"))),
        (b.clone(), 1, RowOp::Insert(named("x"))),
    ]);
    device.edit(b.clone(), 5, Some(colored("x", "red")));
    device.settle();
    let view = device.state.view(&device.schema, Rules::ALL);
    assert_eq!(view.parked, [(b.clone(), Parked::Unique { by: a })].into());
    assert_eq!(device.state.unsent[&b].row, Some(colored("x", "red")));
    assert_eq!(device.state.renamed, []);
}

#[test]
fn row_named_by_its_parent_moves_with_it() {
    let mut device = Device::with_members();
    device.edit(key("lists", "mine"), 5, Some(named("x")));
    device.edit(member_key("mine"), 5, Some(member("mine", "first")));
    device.read(vec![(key("lists", "theirs"), 1, RowOp::Insert(named("x")))]);
    device.settle();
    let visible = [
        (key("lists", "theirs"), named("x")),
        (member_key("theirs"), member("theirs", "first")),
    ];
    assert_eq!(device.visible(), visible.into());
    let renamed = [
        (key("lists", "mine"), key("lists", "theirs")),
        (member_key("mine"), member_key("theirs")),
    ];
    assert_eq!(device.state.renamed, renamed);
}

#[test]
fn row_that_moves_becomes_the_row_that_is_there() {
    let mut device = Device::with_members();
    device.edit(key("lists", "mine"), 5, Some(named("x")));
    device.edit(member_key("mine"), 5, Some(member("mine", "first")));
    device.read(vec![
        (key("lists", "theirs"), 1, RowOp::Insert(named("x"))),
        (member_key("theirs"), 1, RowOp::Insert(member("theirs", "second"))),
    ]);
    device.settle();
    let visible = [
        (key("lists", "theirs"), named("x")),
        (member_key("theirs"), member("theirs", "second")),
    ];
    assert_eq!(device.visible(), visible.into());
    assert_eq!(device.state.conflicts[0].key, member_key("theirs"));
    assert_eq!(device.state.renamed[1], (member_key("mine"), member_key("theirs")));
}

#[test]
fn deletion_of_a_row_of_before_finds_it_in_the_log() {
    let mut device = Device::with_members();
    device.read(vec![
        (key("lists", "a"), 1, RowOp::Insert(named("x"))),
        (member_key("a"), 1, RowOp::Insert(member("a", "first"))),
    ]);
    device.stranger(key("lists", "1"), named("x"), named("x"));
    device.stranger(member_key("1"), member("1", "first"), member("1", "first"));
    device.state.unsent.get_mut(&member_key("1")).unwrap().row = None;
    device.settle();
    assert_eq!(device.visible(), [(key("lists", "a"), named("x"))].into());
    assert_eq!(device.frozen()[0].op, RowOp::Delete);
}

#[test]
fn reference_by_key_leads_to_the_row_that_was_found() {
    let mut device = Device::new(OnDelete::Cascade);
    device.table("lists").columns.insert("code".into(), column(Value::Null));
    device.table("lists").key = vec!["code".into()];
    let list = |code| Row::from_iter([("name", Value::text("x")), ("code", Value::text(code))]);
    let task = |code| Row::from_iter([("list", Value::text(code)), ("note", Value::text("Milk"))]);
    let list_key = |code| key("lists", RowId::of_key(&[Value::text(code)]).as_str());
    device.edit(list_key("mine"), 5, Some(list("mine")));
    device.edit(key("tasks", "t"), 5, Some(task("mine")));
    device.read(vec![(list_key("theirs"), 1, RowOp::Insert(list("theirs")))]);
    device.settle();
    let visible = [
        (list_key("theirs"), list("theirs")),
        (key("tasks", "t"), task("theirs")),
    ];
    assert_eq!(device.visible(), visible.into());
}

#[test]
fn row_goes_when_its_last_child_is_gone() {
    let (old, new, child) = (key("lists", "b"), key("lists", "c"), key("tasks", "s"));
    let found = [(old.clone(), named("x")), (child.clone(), task("b", "Milk"))].into();
    let said = View {
        visible: [(new.clone(), named("x"))].into(),
        parked: BTreeMap::new(),
    };
    let steps = plan(&schema(OnDelete::Cascade), Rules::ALL, &found, &said);
    let expected = [Step::Delete(child), Step::Delete(old), Step::Put(new, named("x"))];
    assert_eq!(steps, expected);
}

#[test]
fn row_goes_after_a_loose_reference_to_it_left() {
    let (old, new, child) = (key("lists", "a"), key("lists", "b"), key("tasks", "t"));
    let found = [(old.clone(), named("x")), (child.clone(), task("a", "Milk"))].into();
    let steps = |visible: BTreeMap<Key, Row>| {
        let parked = BTreeMap::new();
        plan(&schema(OnDelete::Dangle), Rules::ALL, &found, &View { visible, parked })
    };
    let moved = task("b", "Milk");
    let expected = [
        Step::Put(new.clone(), named("y")),
        Step::Put(child.clone(), moved.clone()),
        Step::Delete(old.clone()),
    ];
    assert_eq!(steps([(new, named("y")), (child.clone(), moved)].into()), expected);
    // One that stays leads nowhere afterwards, so that nothing waits for it.
    let edited = task("a", "Bread");
    let expected = [Step::Delete(old), Step::Put(child.clone(), edited.clone())];
    assert_eq!(steps([(child, edited)].into()), expected);
}

#[test]
fn ledgers_with_the_same_entries_are_equal() {
    let mut written = Ledger::default();
    written.insert(key("lists", "a"), 1);
    let touched = written.clone();
    written.settle();
    assert_eq!(written, touched);
    written.insert(key("lists", "b"), 2);
    assert_ne!(written, touched);
}

#[test]
fn ledger_names_what_was_touched_since_it_settled() {
    let mut ledger = Ledger::default();
    let [a, b, c] = ["a", "b", "c"].map(|id| key("lists", id));
    ledger.insert(a.clone(), 1);
    ledger.insert(b.clone(), 2);
    let touched = |ledger: &Ledger<i64>| -> Vec<(Key, Option<i64>)> {
        ledger
            .touched()
            .map(|(key, value)| (key.clone(), value.copied()))
            .collect()
    };
    assert_eq!(touched(&ledger), [(a.clone(), Some(1)), (b.clone(), Some(2))]);
    ledger.settle();
    assert_eq!(touched(&ledger), []);
    assert_eq!(ledger.get_mut(&c), None);
    assert_eq!(ledger.remove(&c), None);
    assert_eq!(touched(&ledger), []);
    *ledger.get_mut(&a).unwrap() = 3;
    assert_eq!(ledger.remove(&b), Some(2));
    assert_eq!(touched(&ledger), [(a.clone(), Some(3)), (b, None)]);
    ledger.settle();
    assert_eq!(ledger.take(), [(a.clone(), 3)].into());
    assert_eq!(touched(&ledger), [(a, None)]);
}

#[test]
fn column_that_an_entry_lacks_keeps_its_value() {
    let missing = Rules::danger_without(Rule::Columns);
    for (rules, color) in [(Rules::ALL, Value::text("red")), (missing, Value::Null)] {
        let mut device = Device::with_colors();
        device.read(vec![(key("lists", "a"), 1, RowOp::Insert(colored("x", "red")))]);
        let change = RowChange {
            table: "lists".into(),
            id: RowId::new("a"),
            time: Timestamp::from_micros(2),
            op: RowOp::Update(named("y")),
        };
        let image = |_: &str, row: &Row| row.clone();
        device.state.fold_in(&device.schema, rules, &image, &change);
        let row = Row::from_iter([("name", Value::text("y")), ("color", color)]);
        assert_eq!(device.state.fold[&key("lists", "a")].row, Some(row));
    }
}
