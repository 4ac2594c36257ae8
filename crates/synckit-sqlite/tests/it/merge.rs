//! Single facts of the merge. `model` shows that its rules hold together.

use std::collections::{BTreeMap, BTreeSet};

use synckit_crypto::batch::Timestamp;
use synckit_protocol::BatchId;
use synckit_sqlite::{
    merge::{
        Base, Batch, Column, ColumnMerge, Found, Key, OnDelete, Parked, Reference, Rules, Schema, State, Step, Table,
        Unsent, View, is_mass_deletion, plan,
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
        let said = self.state.view(&self.schema, Rules::ALL);
        let noted = noted.iter().cloned().collect();
        let found = Found {
            rows,
            noted: &noted,
            looked_for: None,
            missing: &BTreeSet::new(),
        };
        self.state
            .capture(&self.schema, Rules::ALL, &said, &found, Timestamp::from_micros(99))
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
