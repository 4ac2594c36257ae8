//! One scenario for each rule.

use synckit_sqlite::{
    merge::{Column, ColumnMerge, Key, OnDelete, Reference, Rule, Schema, Table},
    rows::{Row, RowId, Value},
};

use super::{
    Scenario,
    table::App,
    world::{Cell, Op, World},
};

/// Every scenario.
pub(crate) fn all() -> [Scenario; 12] {
    [
        images(),
        three_ways(),
        unique_of_unsent(),
        unique_of_joined(),
        unique_of_log(),
        writing_order(),
        foreign_keys(),
        triggers(),
        columns(),
        outbox(),
        rejoin(),
        brakes(),
    ]
}

fn table(columns: &[&str]) -> Table {
    let column = |name: &&str| {
        (
            (*name).to_owned(),
            Column {
                default: Value::Null,
                merge: ColumnMerge::Latest,
            },
        )
    };
    Table {
        columns: columns.iter().map(column).collect(),
        ..Table::default()
    }
}

fn unique(mut table: Table, columns: &[&str]) -> Table {
    table
        .uniques
        .push(columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into());
    table
}

fn refers(mut table: Table, column: &str, parent: &str, on_delete: OnDelete) -> Table {
    table.references.push(Reference {
        column: column.into(),
        parent: parent.into(),
        on_delete,
    });
    table
}

fn app(tables: Vec<(&str, Table)>) -> App {
    let tables = tables
        .into_iter()
        .map(|(name, table)| (name.to_owned(), table))
        .collect();
    App {
        schema: Schema { tables },
        store: |_, row| row.clone(),
        trigger: |_, _, _| {},
    }
}

fn scenario(rule: Rule, world: World, before: Vec<Op>, ops: Vec<Op>, depth: usize) -> Scenario {
    Scenario {
        rule,
        world,
        before,
        ops,
        depth,
    }
}

/// One row on both devices.
fn shared(cells: Vec<(&'static str, Cell)>) -> Vec<Op> {
    vec![Op::Insert(0, "tasks", "t", cells), Op::Sync(0), Op::Sync(1)]
}

/// The column stores texts on the first device and numbers on the second: what is `01001` here is 1001 there.
pub(crate) fn images() -> Scenario {
    let mut text = app(vec![("tasks", table(&["amount", "note"]))]);
    text.store = |_, row| stored(row, |amount| Value::text(amount.to_string()));
    let mut number = text.clone();
    number.store = |_, row| stored(row, Value::Integer);
    let ops = vec![
        Op::Set(0, "tasks", "t", "amount", Cell::TokenText),
        Op::Set(1, "tasks", "t", "note", Cell::Token),
        Op::Set(1, "tasks", "t", "amount", Cell::TokenText),
        Op::Sync(0),
        Op::Sync(1),
    ];
    let before = shared(vec![("amount", Cell::TokenText)]);
    scenario(Rule::Images, World::new(vec![text, number]), before, ops, 5)
}

/// A row as a column of one type stores its amount, if that looks like a number.
fn stored(row: &Row, as_type: fn(i64) -> Value) -> Row {
    let mut row = row.clone();
    let amount = match row.get("amount") {
        Some(Value::Text(text)) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Some(Value::Integer(amount)) => Some(*amount),
        _ => None,
    };
    if let Some(amount) = amount {
        row.set("amount", as_type(amount));
    }
    row
}

pub(crate) fn three_ways() -> Scenario {
    let app = app(vec![("tasks", table(&["title", "note"]))]);
    let ops = vec![
        Op::Set(0, "tasks", "t", "title", Cell::Token),
        Op::Set(0, "tasks", "t", "note", Cell::Token),
        Op::Set(1, "tasks", "t", "title", Cell::Token),
        Op::Delete(1, "tasks", "t"),
        Op::Sync(0),
        Op::Sync(1),
    ];
    let before = shared(vec![("title", Cell::Token), ("note", Cell::Token)]);
    scenario(Rule::ThreeWays, World::new(vec![app.clone(), app]), before, ops, 5)
}

pub(crate) fn unique_of_unsent() -> Scenario {
    let app = app(vec![("tags", unique(table(&["name", "note"]), &["name"]))]);
    let insert = |device, id, name| {
        Op::Insert(
            device,
            "tags",
            id,
            vec![("name", Cell::Text(name)), ("note", Cell::Token)],
        )
    };
    let ops = vec![
        insert(0, "a", "x"),
        insert(1, "b", "x"),
        insert(2, "c", "y"),
        Op::Set(1, "tags", "b", "name", Cell::Text("y")),
        Op::Set(2, "tags", "c", "name", Cell::Text("x")),
        Op::Delete(0, "tags", "a"),
        Op::Sync(0),
        Op::Sync(1),
        Op::Sync(2),
    ];
    let world = World::new(vec![app.clone(), app.clone(), app]);
    scenario(Rule::UniqueOfUnsent, world, vec![], ops, 5)
}

/// Tags by name, tasks, and a join table whose key is made of both: a unified tag moves its join rows.
pub(crate) fn unique_of_joined() -> Scenario {
    let tags = unique(table(&["name"]), &["name"]);
    let joined = refers(table(&["task", "tag", "note"]), "tag", "tags", OnDelete::Cascade);
    let mut joined = refers(joined, "task", "tasks", OnDelete::Cascade);
    joined.key = vec!["task".into(), "tag".into()];
    joined.uniques.push(joined.key.clone().into());
    let app = app(vec![("tags", tags), ("tasks", table(&["title"])), ("joined", joined)]);
    let join = |device, tag| {
        let cells = vec![("task", Cell::Row("t")), ("tag", Cell::Row(tag)), ("note", Cell::Token)];
        Op::InsertNamed(device, "joined", cells)
    };
    let ops = vec![
        Op::Insert(0, "tags", "a", vec![("name", Cell::Text("x"))]),
        Op::Insert(1, "tags", "b", vec![("name", Cell::Text("x"))]),
        join(0, "a"),
        join(1, "b"),
        Op::Delete(0, "tags", "a"),
        Op::Sync(0),
        Op::Sync(1),
    ];
    let world = World::new(vec![app.clone(), app]);
    scenario(
        Rule::UniqueOfUnsent,
        world,
        shared(vec![("title", Cell::Token)]),
        ops,
        6,
    )
}

/// The second device has an older version of the app, without the index.
pub(crate) fn unique_of_log() -> Scenario {
    let new = app(vec![("tags", unique(table(&["name", "note"]), &["name"]))]);
    let old = app(vec![("tags", table(&["name", "note"]))]);
    let insert = |device, id| {
        Op::Insert(
            device,
            "tags",
            id,
            vec![("name", Cell::Text("x")), ("note", Cell::Token)],
        )
    };
    let ops = vec![
        insert(0, "b"),
        insert(1, "a"),
        insert(1, "c"),
        Op::Delete(1, "tags", "a"),
        Op::Set(2, "tags", "b", "note", Cell::Token),
        Op::Sync(0),
        Op::Sync(1),
        Op::Sync(2),
    ];
    let mut world = World::new(vec![new.clone(), old, new]);
    world.may_park = true;
    scenario(Rule::UniqueOfLog, world, vec![], ops, 5)
}

pub(crate) fn writing_order() -> Scenario {
    let lists = unique(table(&["name"]), &["name"]);
    let tasks = refers(table(&["list", "note"]), "list", "z_lists", OnDelete::Cascade);
    // The children come first by name, and the parents are deleted last by name.
    let app = app(vec![("z_lists", lists), ("a_tasks", tasks)]);
    let before = vec![
        Op::Insert(0, "z_lists", "k", vec![("name", Cell::Text("x"))]),
        Op::Insert(0, "z_lists", "l", vec![("name", Cell::Text("y"))]),
        Op::Sync(0),
        Op::Sync(1),
    ];
    let ops = vec![
        Op::Swap(0, "z_lists", "k", "l", "name"),
        Op::Insert(0, "a_tasks", "t", vec![("list", Cell::Row("k")), ("note", Cell::Token)]),
        Op::Set(0, "a_tasks", "t", "list", Cell::Row("l")),
        Op::Delete(0, "z_lists", "k"),
        Op::Set(0, "z_lists", "l", "name", Cell::Text("x")),
        Op::Insert(0, "z_lists", "m", vec![("name", Cell::Text("y"))]),
        Op::Sync(0),
        Op::Sync(1),
    ];
    scenario(Rule::WritingOrder, World::new(vec![app.clone(), app]), before, ops, 5)
}

pub(crate) fn foreign_keys() -> Scenario {
    let lists = table(&["name"]);
    let tasks = refers(table(&["list", "note"]), "list", "lists", OnDelete::Cascade);
    let notes = refers(table(&["list", "note"]), "list", "lists", OnDelete::SetNull);
    let app = app(vec![("lists", lists), ("tasks", tasks), ("notes", notes)]);
    let before = vec![
        Op::Insert(0, "lists", "l", vec![("name", Cell::Token)]),
        Op::Sync(0),
        Op::Sync(1),
    ];
    let child =
        |device, table, id| Op::Insert(device, table, id, vec![("list", Cell::Row("l")), ("note", Cell::Token)]);
    let ops = vec![
        Op::Delete(0, "lists", "l"),
        Op::Set(1, "lists", "l", "name", Cell::Token),
        child(0, "tasks", "s"),
        child(1, "tasks", "t"),
        child(1, "notes", "n"),
        Op::Set(1, "tasks", "s", "note", Cell::Token),
        Op::Sync(0),
        Op::SyncHalf(1),
        Op::Sync(1),
    ];
    scenario(Rule::ForeignKeys, World::new(vec![app.clone(), app]), before, ops, 5)
}

/// A trigger sets a time at each write, and another one logs each insertion.
pub(crate) fn triggers() -> Scenario {
    let mut app = app(vec![("tasks", table(&["note", "changed"])), ("audit", table(&["at"]))]);
    app.trigger = |rows, key, clock| {
        let Some(row) = rows.get_mut(key).filter(|_| key.table == "tasks") else {
            return;
        };
        row.set("changed", Value::real(clock as f64));
        let audit = Key {
            table: "audit".into(),
            id: RowId::new(format!("{} at {clock}", key.id)),
        };
        rows.insert(audit, Row::from_iter([("at", Value::real(clock as f64))]));
    };
    let insert = |device, id| Op::Insert(device, "tasks", id, vec![("note", Cell::Token)]);
    let ops = vec![
        insert(0, "s"),
        insert(1, "t"),
        Op::Set(0, "tasks", "t", "note", Cell::Token),
        Op::Set(1, "tasks", "s", "note", Cell::Token),
        Op::Delete(1, "tasks", "s"),
        Op::Sync(0),
        Op::Sync(1),
    ];
    scenario(Rule::Triggers, World::new(vec![app.clone(), app]), vec![], ops, 6)
}

/// The second device has an older version of the app, without the column `color`.
pub(crate) fn columns() -> Scenario {
    let mut colored = table(&["note"]);
    let color = Column {
        default: Value::Integer(1),
        merge: ColumnMerge::Latest,
    };
    colored.columns.insert("color".into(), color);
    let new = app(vec![("tasks", colored)]);
    let old = app(vec![("tasks", table(&["note"]))]);
    let before = vec![
        Op::Insert(1, "tasks", "t", vec![("note", Cell::Token)]),
        Op::Sync(1),
        Op::Sync(0),
    ];
    let ops = vec![
        Op::Set(0, "tasks", "t", "color", Cell::Token),
        Op::Set(0, "tasks", "t", "note", Cell::Token),
        Op::Set(1, "tasks", "t", "note", Cell::Token),
        Op::Delete(1, "tasks", "t"),
        Op::Sync(0),
        Op::Sync(1),
    ];
    scenario(Rule::Columns, World::new(vec![new.clone(), old, new]), before, ops, 5)
}

pub(crate) fn outbox() -> Scenario {
    let mut counted = table(&["count", "note"]);
    counted.columns.insert(
        "count".into(),
        Column {
            default: Value::Integer(0),
            merge: ColumnMerge::Counter,
        },
    );
    let app = app(vec![("tasks", counted)]);
    let ops = vec![
        Op::Add(0, "tasks", "t", "count"),
        Op::Add(1, "tasks", "t", "count"),
        Op::Set(0, "tasks", "t", "note", Cell::Token),
        Op::Sync(0),
        Op::SyncLost(0),
        Op::Sync(1),
    ];
    let mut world = World::new(vec![app.clone(), app]);
    world.counter = Some(("tasks", "t", "count"));
    scenario(Rule::Outbox, world, shared(vec![("note", Cell::Token)]), ops, 5)
}

pub(crate) fn rejoin() -> Scenario {
    let app = app(vec![("tasks", table(&["title", "note"]))]);
    let ops = vec![
        Op::Set(0, "tasks", "t", "title", Cell::Token),
        Op::Set(1, "tasks", "t", "note", Cell::Token),
        Op::Insert(0, "tasks", "s", vec![("title", Cell::Token)]),
        Op::Delete(1, "tasks", "s"),
        Op::Sync(0),
        Op::Sync(1),
        Op::Restore,
    ];
    let before = shared(vec![("title", Cell::Token), ("note", Cell::Token)]);
    scenario(Rule::Rejoin, World::new(vec![app.clone(), app]), before, ops, 5)
}

pub(crate) fn brakes() -> Scenario {
    let app = app(vec![("tasks", table(&["title"])), ("notes", table(&["text"]))]);
    let ops = vec![
        Op::Drop(1, "tasks"),
        Op::Set(0, "tasks", "t", "title", Cell::Token),
        Op::Insert(1, "tasks", "u", vec![("title", Cell::Token)]),
        Op::Insert(1, "notes", "n", vec![("text", Cell::Token)]),
        Op::Sync(0),
        Op::Sync(1),
    ];
    scenario(
        Rule::Brakes,
        World::new(vec![app.clone(), app]),
        shared(vec![("title", Cell::Token)]),
        ops,
        5,
    )
}

/// Everything at once, on three devices: too many steps to take every sequence of them.
pub(crate) fn everything() -> Scenario {
    let mut lists = unique(table(&["name", "note", "count"]), &["name"]);
    let count = Column {
        default: Value::Integer(0),
        merge: ColumnMerge::Counter,
    };
    lists.columns.insert("count".into(), count);
    let tasks = refers(table(&["list", "note", "changed"]), "list", "lists", OnDelete::Cascade);
    let pins = refers(table(&["list", "note"]), "list", "lists", OnDelete::SetNull);
    let joined = refers(table(&["task", "list", "note"]), "list", "lists", OnDelete::Cascade);
    let mut joined = refers(joined, "task", "tasks", OnDelete::Cascade);
    joined.key = vec!["task".into(), "list".into()];
    joined.uniques.push(joined.key.clone().into());
    let mut app = app(vec![
        ("lists", lists),
        ("tasks", tasks),
        ("pins", pins),
        ("joined", joined),
    ]);
    app.trigger = |rows, key, clock| {
        if let Some(row) = rows.get_mut(key).filter(|_| key.table == "tasks") {
            row.set("changed", Value::real(clock as f64));
        }
    };
    let mut ops = vec![Op::Restore, Op::Sync(0), Op::Sync(1), Op::Sync(2)];
    for device in 0..3 {
        let id = |ids: [&'static str; 3]| ids[device];
        let (list, task, pin) = (id(["a", "b", "c"]), id(["r", "s", "t"]), id(["u", "v", "w"]));
        for name in ["x", "y"] {
            ops.push(Op::Insert(
                device,
                "lists",
                list,
                vec![("name", Cell::Text(name)), ("note", Cell::Token)],
            ));
            ops.push(Op::Set(device, "lists", "b", "name", Cell::Text(name)));
        }
        for parent in ["a", "b"] {
            ops.push(Op::Insert(
                device,
                "tasks",
                task,
                vec![("list", Cell::Row(parent)), ("note", Cell::Token)],
            ));
            ops.push(Op::Insert(
                device,
                "pins",
                pin,
                vec![("list", Cell::Row(parent)), ("note", Cell::Token)],
            ));
            let cells = vec![
                ("task", Cell::Row("s")),
                ("list", Cell::Row(parent)),
                ("note", Cell::Token),
            ];
            ops.push(Op::InsertNamed(device, "joined", cells));
            ops.push(Op::Set(device, "tasks", "s", "list", Cell::Row(parent)));
            ops.push(Op::Set(device, "lists", parent, "note", Cell::Token));
            ops.push(Op::Add(device, "lists", parent, "count"));
            ops.push(Op::Delete(device, "lists", parent));
        }
        ops.push(Op::Swap(device, "lists", "a", "b", "name"));
        ops.push(Op::Delete(device, "tasks", "s"));
        ops.extend([
            Op::Sync(device),
            Op::Sync(device),
            Op::SyncLost(device),
            Op::SyncHalf(device),
        ]);
    }
    let world = World::new(vec![app.clone(), app.clone(), app]);
    scenario(Rule::ThreeWays, world, vec![], ops, 10)
}

/// Everything at once, and the third device has an older app: no UNIQUE, no foreign keys of pins, a column less.
pub(crate) fn mixed_versions() -> Scenario {
    let mut scenario = everything();
    let mut old = (*scenario.world.devices[2].app).clone();
    let tables = &mut old.schema.tables;
    if let (Some(lists), Some(mut pins)) = (tables.remove("lists"), tables.remove("pins")) {
        pins.references.clear();
        tables.insert("pins".into(), pins);
        let columns = lists.columns.into_iter().filter(|(name, _)| name != "note").collect();
        tables.insert(
            "lists".into(),
            Table {
                columns,
                ..Table::default()
            },
        );
    }
    scenario.world.devices[2].app = old.into();
    scenario.world.may_park = true;
    scenario
}
