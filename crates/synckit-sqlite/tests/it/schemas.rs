//! Twelve databases as applications and ORMs leave them (`tests/schemas`), inspected without a word from anybody.

use std::{collections::BTreeSet, path::Path, process::Command, sync::OnceLock};

use rusqlite::{Connection, functions::FunctionFlags};
use serde_json::Value as Json;
use synckit_sqlite::{
    inspect::{Finding, ReferenceSource, SchemaReport, Severity, TableReport, inspect},
    track::{Identity, Track},
};

/// The names of the databases, and how many of their tables need nothing, need a word, and cannot be synced: the table
/// of `docs/schemas.md`.
const TALLY: &[(&str, [usize; 3])] = &[
    ("01-notebook", [7, 0, 0]),
    ("02-flashcards", [2, 8, 0]),
    ("03-references", [13, 3, 0]),
    ("04-ebooks", [10, 10, 0]),
    ("05-mail", [1, 4, 0]),
    ("06-budget", [15, 0, 0]),
    ("07-household", [6, 7, 0]),
    ("08-website", [12, 0, 0]),
    ("09-messenger", [5, 3, 0]),
    ("10-podcasts", [1, 5, 0]),
    ("11-tasks", [12, 1, 0]),
    ("12-trading", [14, 0, 0]),
];

struct Schema {
    connection: Connection,
    manifest: Json,
}

/// Made once for all tests.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let python = std::env::var_os("SYNCKIT_TEST_PYTHON")
            .expect("SYNCKIT_TEST_PYTHON is set by `cargo xtask test` and `cargo xtask with-keychain -- cargo test`");
        let folder = tempfile::tempdir().unwrap();
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/make.py");
        let made = Command::new(python)
            .arg(make)
            .arg(folder.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    });
    made.path()
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files
        .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    assert_eq!(names.len(), 12);
    names
}

/// What the apps register on their connections.
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_collation("unicase", |a, b| a.to_lowercase().cmp(&b.to_lowercase()))?;
    let flags = FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function("title_key", 1, flags, |context| context.get::<String>(0))?;
    connection.create_scalar_function("make_uuid", 0, flags, |_| Ok("uuid".to_owned()))
}

/// What the schema of a database does not say.
pub(crate) fn manifest(name: &str) -> Json {
    let manifest = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&manifest).unwrap()
}

/// The tables that belong to one device.
pub(crate) fn local_tables(manifest: &Json) -> BTreeSet<String> {
    let local = manifest["local_tables"].as_array().into_iter().flatten();
    local.filter_map(Json::as_str).map(str::to_owned).collect()
}

fn open(name: &str) -> Schema {
    let connection = Connection::open(folder().join(format!("{name}.sqlite"))).unwrap();
    register(&connection).unwrap();
    Schema {
        connection,
        manifest: manifest(name),
    }
}

/// The tables that an app would sync.
fn synced(schema: &Schema, report: &SchemaReport) -> Vec<TableReport> {
    let local = local_tables(&schema.manifest);
    report
        .tables
        .iter()
        .filter(|table| !local.contains(&table.name))
        .cloned()
        .collect()
}

fn tally(tables: &[TableReport]) -> [usize; 3] {
    let count = |wanted: fn(&TableReport) -> bool| tables.iter().filter(|table| wanted(table)).count();
    [
        count(TableReport::is_ready),
        count(|table| table.severity() == Some(Severity::Question)),
        count(|table| table.severity() == Some(Severity::Refusal)),
    ]
}

#[test]
fn most_tables_need_no_word() {
    let mut sum = [0; 3];
    for name in names() {
        let schema = open(&name);
        let found = tally(&synced(&schema, &inspect(&schema.connection, &[]).unwrap()));
        let known = TALLY.iter().find(|(known, _)| *known == name).map(|(_, tally)| *tally);
        assert_eq!(known, Some(found), "{name}");
        sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
    let all: usize = sum.iter().sum();
    assert!(sum[0] * 100 >= all * 60, "{sum:?} of {all}");
}

#[test]
fn document_has_the_same_numbers() {
    let document = include_str!("../../../../docs/schemas.md");
    for (name, [ready, asked, refused]) in TALLY {
        let line = format!("| {name} | {ready} | {asked} | {refused} |");
        assert!(document.contains(&line), "{line}");
    }
}

#[test]
fn suggestions_answer_every_question() {
    for name in names() {
        let schema = open(&name);
        let report = inspect(&schema.connection, &[]).unwrap();
        let suggestions: Vec<Track> = report.tables.iter().map(TableReport::suggestion).collect();
        let answered = inspect(&schema.connection, &suggestions).unwrap();
        let asked = answered
            .tables
            .iter()
            .filter(|table| table.severity() == Some(Severity::Question));
        assert_eq!(
            asked.map(|table| &table.name).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{name}"
        );
    }
}

/// References that the schema does not declare, as the manifest has them: each is known, or asked about, unless it needs no
/// translation because the parent's key is data.
#[test]
fn undeclared_references_are_asked_about() {
    let mut missed = Vec::new();
    for name in names() {
        let schema = open(&name);
        let report = inspect(&schema.connection, &[]).unwrap();
        for reference in schema.manifest["references"].as_array().into_iter().flatten() {
            let [table, column, parent] = [0, 1, 2].map(|index| reference[index].as_str().unwrap());
            let (Some(table), Some(parent)) = (report.table(table), report.table(parent)) else {
                continue;
            };
            let is_number = matches!(parent.identity, Identity::Mapped | Identity::OfParent { .. });
            let is_known = table
                .references
                .iter()
                .any(|known| known.column == column && known.parent == parent.name);
            let is_unreadable = matches!(table.findings[..], [Finding::NotWritable { .. }, ..]);
            if is_number && !is_known && !is_unreadable {
                missed.push(format!("{name}: {}.{column} -> {}", table.name, parent.name));
            }
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

/// A wrong suggestion would translate a number that is data.
#[test]
fn suggested_references_are_references() {
    let mut wrong = Vec::new();
    for name in names() {
        let schema = open(&name);
        let known = |table: &str, column: &str| {
            let lists = ["references", "polymorphic"].map(|list| schema.manifest[list].as_array());
            let mut all = lists.into_iter().flatten().flatten();
            all.any(|known| known[0] == table && known[1] == column)
        };
        for table in synced(&schema, &inspect(&schema.connection, &[]).unwrap()) {
            for guess in table
                .references
                .iter()
                .filter(|guess| guess.source == ReferenceSource::Guess)
            {
                if !known(&table.name, &guess.column) {
                    wrong.push(format!("{name}: {}.{} -> {}", table.name, guess.column, guess.parent));
                }
            }
        }
    }
    assert_eq!(wrong, NAMED_LIKE_REFERENCES);
}

/// Small numbers in columns whose names end or begin like a table: the developer says `plain`.
const NAMED_LIKE_REFERENCES: &[&str] = &[
    "03-references: item_annotation.type -> item_type",
    "03-references: item_tag.type -> item_type",
    "09-messenger: message_attachments.orderInMessage -> messages",
];

/// Keys that are data, as the manifest has them: each is taken for data, or asked about.
#[test]
fn integer_keys_that_are_data_are_asked_about() {
    let mut missed = Vec::new();
    for name in names() {
        let schema = open(&name);
        let report = inspect(&schema.connection, &[]).unwrap();
        for (table, identity) in schema.manifest["identity"].as_object().into_iter().flatten() {
            let Some(table) = report.table(table) else { continue };
            let is_data = identity
                .as_str()
                .is_some_and(|identity| identity.starts_with("verbatim"));
            if is_data && table.identity == Identity::Mapped && table.is_ready() {
                missed.push(format!("{name}: {}", table.name));
            }
        }
    }
    assert_eq!(missed, SMALL_LOOKUP_TABLES);
}

/// Tables with small fixed ids that nothing tells from counted ones. Birth ids make their seeded rows the same on every
/// device, so that a local number serves as well.
const SMALL_LOOKUP_TABLES: &[&str] = &[
    "02-flashcards: meta",
    "03-references: field",
    "03-references: field_format",
    "03-references: item_type",
    "03-references: library",
];

#[test]
fn what_apps_register_is_missed() {
    for (name, missing) in [("02-flashcards", "unicase"), ("04-ebooks", "title_key")] {
        drop(open(name));
        let bare = Connection::open(folder().join(format!("{name}.sqlite"))).unwrap();
        let report = inspect(&bare, &[]).unwrap();
        let findings = report.tables.iter().flat_map(|table| &table.findings);
        let mut named = findings.filter(|finding| finding.to_string().contains(missing));
        assert!(named.next().is_some(), "{name}");
    }
}
