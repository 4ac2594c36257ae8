//! Single facts of an inspection. `schemas` tries it on whole databases.

use rusqlite::Connection;
use synckit_sqlite::{
    inspect::{Finding, InspectError, LeftOutReason, ReferenceSource, SchemaReport, Severity, TableReport, inspect},
    track::{Identity, Track},
};

fn database(sql: &str) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn report(sql: &str, tracks: &[Track]) -> SchemaReport {
    inspect(&database(sql), tracks).unwrap()
}

fn table(sql: &str, name: &str) -> TableReport {
    report(sql, &[]).table(name).unwrap().clone()
}

fn columns(names: &[&str]) -> Identity {
    Identity::Columns(names.iter().map(|name| (*name).to_owned()).collect())
}

fn identity(sql: &str) -> Identity {
    table(sql, "t").identity
}

#[test]
fn rowid_alias_is_a_local_number() {
    assert_eq!(identity("CREATE TABLE t (id integer PRIMARY KEY, a)"), Identity::Mapped);
    assert_eq!(
        identity("CREATE TABLE t (a, id INTEGER, PRIMARY KEY (id))"),
        Identity::Mapped
    );
    assert_eq!(
        identity("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)"),
        Identity::Mapped
    );
    assert_eq!(
        identity("CREATE TABLE t (id INTEGER PRIMARY KEY, UNIQUE (id))"),
        Identity::Mapped
    );
}

#[test]
fn integer_key_that_is_no_alias_is_data() {
    assert_eq!(identity("CREATE TABLE t (id INT PRIMARY KEY)"), columns(&["id"]));
    assert_eq!(
        identity("CREATE TABLE t (id INTEGER PRIMARY KEY DESC)"),
        columns(&["id"])
    );
    assert_eq!(
        identity("CREATE TABLE t (id INTEGER PRIMARY KEY) WITHOUT ROWID"),
        columns(&["id"])
    );
}

#[test]
fn key_that_is_a_reference_is_its_parent() {
    let sql = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY REFERENCES P (ID))";
    assert_eq!(identity(sql), Identity::OfParent { parent: "p".into() });
    let own = "CREATE TABLE t (id INTEGER PRIMARY KEY REFERENCES t (id))";
    assert_eq!(identity(own), Identity::Mapped);
}

#[test]
fn key_that_refers_to_a_unique_text_is_itself() {
    let sql = "CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
               CREATE TABLE t (name TEXT PRIMARY KEY REFERENCES p (name))";
    assert_eq!(identity(sql), columns(&["name"]));
}

#[test]
fn composite_key_has_its_own_order() {
    assert_eq!(
        identity("CREATE TABLE t (a, b, c, PRIMARY KEY (c, a))"),
        columns(&["c", "a"])
    );
}

#[test]
fn unique_without_null_serves_as_a_key() {
    assert_eq!(
        identity("CREATE TABLE t (a UNIQUE, b); INSERT INTO t VALUES (1, 2)"),
        columns(&["a"])
    );
    assert_eq!(
        identity("CREATE TABLE t (a UNIQUE, b); INSERT INTO t VALUES (NULL, 2)"),
        Identity::WholeRow
    );
    let partial = "CREATE TABLE t (a, b); CREATE UNIQUE INDEX i ON t (a) WHERE b > 0";
    assert_eq!(identity(partial), Identity::WholeRow);
    let expression = "CREATE TABLE t (a, b); CREATE UNIQUE INDEX i ON t (lower(a))";
    assert_eq!(identity(expression), Identity::WholeRow);
}

#[test]
fn table_without_a_key_asks() {
    let sql = "CREATE TABLE t (a)";
    assert_eq!(table(sql, "t").findings, [Finding::NoKey]);
    let declared = report(sql, &[Track::new("t").identity(Identity::WholeRow)]);
    assert!(declared.table("t").unwrap().is_ready());
}

#[test]
fn large_integer_keys_ask() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1700000000000), (1700000000007)";
    let asked = table(sql, "t");
    assert_eq!(asked.findings, [Finding::KeyLooksLikeData { column: "id".into() }]);
    assert_eq!(asked.suggestion(), Track::new("t").identity(Identity::Verbatim));
    let counted = "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (1700000000007)";
    assert!(table(counted, "t").is_ready());
}

const LISTS: &str = "
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO lists VALUES (1, 'a'), (2, 'b'), (3, 'c');";

#[test]
fn declared_foreign_keys_are_references() {
    let sql = format!(
        "{LISTS} PRAGMA foreign_keys = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, l REFERENCES LISTS); INSERT INTO t VALUES (1, 9)"
    );
    let report = table(&sql, "t");
    assert_eq!(report.references[0].parent, "lists");
    assert_eq!(report.references[0].source, ReferenceSource::Schema);
    let dangling = Finding::Dangling {
        column: "l".into(),
        parent: "lists".into(),
        rows: 1,
    };
    assert_eq!(report.findings, [dangling]);
    assert!(report.is_ready());
}

#[test]
fn foreign_key_to_a_unique_text_needs_no_translation() {
    let sql = "CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT UNIQUE); CREATE TABLE t (id INTEGER PRIMARY KEY, p REFERENCES p (name))";
    assert_eq!(table(sql, "t").references, []);
}

#[test]
fn column_named_after_a_table_asks() {
    for column in ["list_id", "listId", "list", "lists", "list_uid"] {
        let sql = format!(
            "{LISTS} CREATE TABLE t (id INTEGER PRIMARY KEY, {column}); INSERT INTO t VALUES (1, 2), (2, 0), (3, NULL)"
        );
        let report = table(&sql, "t");
        assert_eq!(
            report.suggestion(),
            Track::new("t").references(column, "lists"),
            "{column}"
        );
        assert!(!report.is_ready());
    }
}

#[test]
fn column_with_other_values_is_no_guess() {
    let sql = format!("{LISTS} CREATE TABLE t (id INTEGER PRIMARY KEY, list_id); INSERT INTO t VALUES (1, 2), (2, 9)");
    assert_eq!(table(&sql, "t").references, []);
    let sql = format!("{LISTS} CREATE TABLE t (id INTEGER PRIMARY KEY, list_id); INSERT INTO t VALUES (1, '2')");
    assert_eq!(table(&sql, "t").references, []);
    let sql = format!(
        "{LISTS} CREATE TABLE t (id INTEGER PRIMARY KEY, priority); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)"
    );
    assert_eq!(table(&sql, "t").references, []);
}

#[test]
fn telling_values_need_no_telling_name() {
    let sql = "CREATE TABLE decks (id INTEGER PRIMARY KEY);
               INSERT INTO decks VALUES (1500000000001), (1500000000022), (1500000000333);
               CREATE TABLE t (id INTEGER PRIMARY KEY, x);
               INSERT INTO t VALUES (1, 1500000000001), (2, 1500000000022), (3, 1500000000333)";
    // The keys look like data, too: both are asked about.
    assert_eq!(table(sql, "t").references[0].parent, "decks");
    let verbatim = report(sql, &[Track::new("decks").identity(Identity::Verbatim)]);
    assert_eq!(verbatim.table("t").unwrap().references, [], "data needs no translation");
}

#[test]
fn answered_question_is_not_asked_again() {
    let sql = format!("{LISTS} CREATE TABLE t (id INTEGER PRIMARY KEY, list_id); INSERT INTO t VALUES (1, 2)");
    for track in [
        Track::new("t").plain("list_id"),
        Track::new("t").local("list_id"),
        Track::new("t").references("LIST_ID", "lists"),
    ] {
        assert!(
            report(&sql, std::slice::from_ref(&track))
                .table("t")
                .unwrap()
                .is_ready(),
            "{track}"
        );
    }
}

#[test]
fn wrong_declarations_are_refused() {
    let sql = format!("{LISTS} CREATE TABLE t (id INTEGER PRIMARY KEY, list_id)");
    let wrong = Track::new("t").local("lost").references("list_id", "gone");
    let report = report(&sql, &[wrong]);
    let expected = [
        Finding::UnknownColumn { column: "lost".into() },
        Finding::UnknownParent {
            column: "list_id".into(),
            parent: "gone".into(),
        },
    ];
    assert_eq!(report.table("t").unwrap().findings, expected);
    let error = inspect(&database(&sql), &["nothing".into()]).unwrap_err();
    assert!(matches!(error, InspectError::UnknownTable(table) if table == "nothing"));
}

#[test]
fn missing_function_of_a_trigger_is_named() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b);
               CREATE TRIGGER sorts AFTER INSERT ON t BEGIN UPDATE t SET b = title_key(NEW.a) WHERE id = NEW.id; END";
    let connection = database(sql);
    let report = inspect(&connection, &[]).unwrap();
    let findings = &report.table("t").unwrap().findings;
    assert!(
        matches!(&findings[..], [Finding::NotWritable { message }] if message.contains("title_key")),
        "{findings:?}"
    );
    let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
    connection
        .create_scalar_function("title_key", 1, flags, |_| Ok(1))
        .unwrap();
    let report = inspect(&connection, &[]).unwrap();
    let table = report.table("t").unwrap();
    let write = &table.trigger_writes[0];
    assert!(table.is_ready());
    assert_eq!(
        (write.trigger.as_str(), write.table.as_str(), write.column.as_deref()),
        ("sorts", "t", Some("b"))
    );
}

#[test]
fn real_number_in_a_composite_key_is_refused() {
    let refused = |sql: &str| table(sql, "t").severity() == Some(Severity::Refusal);
    assert!(refused(
        "CREATE TABLE t (a DOUBLE PRECISION, b TEXT, PRIMARY KEY (a, b))"
    ));
    assert!(refused("CREATE TABLE t (a REAL PRIMARY KEY) WITHOUT ROWID"));
    assert!(!refused("CREATE TABLE t (a REAL PRIMARY KEY)"));
    assert!(
        !refused("CREATE TABLE t (a FLOATING POINT, b TEXT, PRIMARY KEY (a, b))"),
        "INT inside POINT"
    );
}

#[test]
fn rows_without_a_key_are_counted() {
    let sql = "CREATE TABLE t (id TEXT PRIMARY KEY); INSERT INTO t VALUES (NULL), (NULL), ('a')";
    assert_eq!(table(sql, "t").findings, [Finding::NullKeys { rows: 2 }]);
    assert!(table(sql, "t").is_ready());
}

#[test]
fn tables_of_tools_are_left_out() {
    let sql = "CREATE TABLE t (a PRIMARY KEY);
               CREATE VIEW v AS SELECT no_such_function(a) FROM t;
               CREATE VIRTUAL TABLE f USING fts5(a);
               CREATE TABLE __diesel_schema_migrations (version TEXT PRIMARY KEY);
               CREATE TABLE Room_Master_Table (id INTEGER PRIMARY KEY)";
    let report = report(sql, &[]);
    let reason = |name: &str| {
        report
            .left_out
            .iter()
            .find(|left_out| left_out.name == name)
            .map(|left_out| left_out.reason)
    };
    assert_eq!(reason("v"), Some(LeftOutReason::View));
    assert_eq!(reason("f"), Some(LeftOutReason::Virtual));
    assert_eq!(reason("f_content"), Some(LeftOutReason::Shadow));
    assert_eq!(reason("__diesel_schema_migrations"), Some(LeftOutReason::Bookkeeping));
    assert_eq!(reason("Room_Master_Table"), Some(LeftOutReason::Bookkeeping));
    assert_eq!(report.tables.len(), 1);
}

#[test]
fn tables_of_core_data_are_left_out() {
    let report = report(
        "CREATE TABLE Z_PRIMARYKEY (Z_ENT INTEGER PRIMARY KEY); CREATE TABLE ZNOTE (Z_PK INTEGER PRIMARY KEY)",
        &[],
    );
    assert!(
        report
            .left_out
            .iter()
            .all(|left_out| left_out.reason == LeftOutReason::CoreData)
    );
    assert!(report.tables.is_empty());
}

#[test]
fn names_are_quoted() {
    let sql = r#"CREATE TABLE "a ""b""" (id INTEGER PRIMARY KEY, "order" TEXT); INSERT INTO "a ""b""" VALUES (1, 'x')"#;
    assert_eq!(table(sql, "a \"b\"").rows, Some(1));
}

#[test]
fn inspection_changes_nothing() {
    let connection = database(&format!("{LISTS} CREATE TABLE t (a)"));
    let before = connection.total_changes();
    inspect(&connection, &[]).unwrap();
    assert_eq!(connection.total_changes(), before);
    let version: i64 = connection
        .query_row("PRAGMA schema_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
}

#[test]
fn identity_that_rows_share_is_refused() {
    let app = Connection::open_in_memory().unwrap();
    app.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t (a, b) VALUES (1, 1), (1, 1), (1, 2), (1, NULL), (1, NULL)",
    )
    .unwrap();
    let declared = |columns: &[&str]| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let track = Track::new("t").identity(Identity::Columns(columns));
        inspect(&app, &[track]).unwrap().table("t").unwrap().findings.clone()
    };
    assert!(declared(&["a", "b"]).contains(&Finding::EqualKeys { rows: 1 }));
    app.execute_batch("DELETE FROM t WHERE id = 2").unwrap();
    assert!(
        !declared(&["a", "b"])
            .iter()
            .any(|finding| matches!(finding, Finding::EqualKeys { .. }))
    );
    assert!(
        declared(&["b", "id"])
            .iter()
            .all(|finding| !matches!(finding, Finding::EqualKeys { .. }))
    );
}
