//! `synckit-bench`, with few records: it measures what it says; how much does not matter here.

use std::process::Command;

use serde_json::Value;

/// Little of everything.
const LITTLE: [&str; 18] = [
    "--records",
    "1200",
    "--users",
    "3",
    "--batches-per-user",
    "2",
    "--streams",
    "2",
    "--pushes-per-stream",
    "4",
    "--idle-connections",
    "30",
    "--quiet-pushes",
    "20",
    "--blob-mb",
    "1",
    "--blob-rounds",
    "1",
];

/// Every row, in the order of the report.
const ROWS: [&str; 61] = [
    "push",
    "pull",
    "push_cpu",
    "pull_cpu",
    "disk",
    "wire_up",
    "wire_down",
    "row_data",
    "memory",
    "fresh_device",
    "fresh_device_rate",
    "fold",
    "arrival_p50",
    "arrival_p95",
    "event_p50",
    "event_p95",
    "event_p99",
    "blob_up",
    "blob_up_client_memory",
    "blob_up_server_memory",
    "blob_down",
    "blob_down_client_memory",
    "blob_down_server_memory",
    "blob_up_whole",
    "blob_up_in_parts",
    "push_users",
    "push_users_cpu",
    "push_users_p99",
    "pull_users",
    "pull_users_cpu",
    "pull_users_p99",
    "push_singles",
    "push_singles_p50",
    "push_singles_p99",
    "quiet_alone_p50",
    "quiet_alone_p99",
    "quiet_beside_batches_p50",
    "quiet_beside_batches_p99",
    "quiet_beside_large_p50",
    "quiet_beside_large_p99",
    "quiet_beside_pulls_p50",
    "quiet_beside_pulls_p99",
    "quiet_beside_trickle_p50",
    "quiet_beside_trickle_p99",
    "quiet_beside_one_batches_p50",
    "quiet_beside_one_batches_p99",
    "quiet_beside_one_large_p50",
    "quiet_beside_one_large_p99",
    "quiet_beside_one_pulls_p50",
    "quiet_beside_one_pulls_p99",
    "quiet_beside_one_exports_p50",
    "quiet_beside_one_exports_p99",
    "quiet_beside_exports_p50",
    "quiet_beside_exports_p99",
    "quiet_beside_backups_p50",
    "quiet_beside_backups_p99",
    "quiet_beside_deletion_p50",
    "quiet_beside_deletion_p99",
    "push_unsubscribed",
    "push_subscribed",
    "idle_event_stream",
];

/// A run of the program.
struct Ended {
    stdout: String,
    stderr: String,
}

fn run(code: i32, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_synckit-bench"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    Ended { stdout, stderr }
}

fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter()
        .find(|row| row["id"] == id)
        .unwrap_or_else(|| panic!("no row {id}: {report:#}"))
}

#[test]
fn json_has_every_row_with_target_and_limits() {
    let ended = run(0, &[&["measure", "--json"], &LITTLE[..]].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["schema"], 4);
    assert_eq!(report["load"]["records"], 1200);
    for id in ROWS {
        assert!(row(&report, id)["unit"].is_string());
    }
    // What is measured on every system, and is never nothing.
    for id in [
        "push",
        "pull",
        "disk",
        "wire_up",
        "fresh_device",
        "arrival_p95",
        "event_p95",
        "push_subscribed",
        "blob_up",
        "blob_up_in_parts",
        "push_users",
        "pull_users",
    ] {
        assert!(row(&report, id)["value"].as_f64().unwrap() > 0.0, "{id}: {report:#}");
    }
    for (limit, value) in report["machine"].as_object().unwrap() {
        assert!(value.as_f64().unwrap() > 0.0, "{limit}: {report:#}");
    }
    let push = row(&report, "push");
    assert_eq!(push["target"]["at_least"], 250_000.0);
    assert!(push["met"].is_boolean());
    for limit in push["limits"].as_array().unwrap() {
        let share = push["value"].as_f64().unwrap() / limit["value"].as_f64().unwrap();
        assert!((limit["share"].as_f64().unwrap() - share).abs() < 1e-9, "{push:#}");
    }
    // Sealed rows are neither smaller than their data nor much larger.
    let wire = row(&report, "wire_down")["value"].as_f64().unwrap();
    assert!((150.0..400.0).contains(&wire), "{report:#}");
    assert_eq!(row(&report, "row_data")["value"], 200.0);
    if cfg!(target_os = "linux") {
        for id in [
            "push_cpu",
            "push_users_cpu",
            "push_singles_cpu",
            "memory",
            "blob_up_server_memory",
            "idle_connection",
            "idle_event_stream",
        ] {
            assert!(row(&report, id)["value"].is_number(), "{id}: {report:#}");
        }
    }
    if cfg!(debug_assertions) {
        assert!(
            ended.stderr.starts_with("warning: this is a debug build"),
            "{}",
            ended.stderr
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_postgresql_is_measured_in_the_same_run() {
    let server = std::env::var("SYNCKIT_TEST_POSTGRES").expect(
        "a PostgreSQL: run `cargo xtask test -- -p synckit-bench`, or `cargo xtask with-keychain -- cargo test ...`",
    );
    let name = format!("bench_{}", std::process::id());
    let create = format!("CREATE DATABASE {name}");
    let created = Command::new("psql").args(["-q", "-c", &create, &server]).status();
    assert!(created.expect("psql: `apt-get install postgresql`").success());
    let (place, _) = server.rsplit_once('/').unwrap();
    let url = format!("{place}/{name}");
    let only = ["measure", "--json", "--only", "sdk,singles", "--database", &url];
    let ended = run(0, &[&only, &LITTLE[..]].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    for id in ["push", "pull", "push_cpu", "pull_cpu", "disk", "push_singles"] {
        for id in [id.to_owned(), format!("postgresql_{id}")] {
            assert!(row(&report, &id)["value"].as_f64().unwrap() > 0.0, "{id}: {report:#}");
        }
    }
    assert_eq!(row(&report, "push")["target"]["at_least"], 250_000.0);
    assert_eq!(row(&report, "postgresql_push")["target"]["at_least"], 150_000.0);
    assert_eq!(row(&report, "postgresql_disk")["target"], Value::Null);
    let password = place.split_once("postgres:").unwrap().1.split_once('@').unwrap().0;
    assert!(!ended.stdout.contains(password) && !ended.stderr.contains(password));
}

#[test]
fn only_the_wanted_rows_are_measured() {
    let ended = run(0, &["measure", "--only", "idle", "--idle-connections", "10"]);
    assert!(ended.stdout.contains("10 idle connections"), "{}", ended.stdout);
    assert!(ended.stdout.contains("this machine: SHA-256"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("push through the SDK"), "{}", ended.stdout);
}

#[test]
fn the_report_is_a_table_in_markdown() {
    let ended = run(0, &["measure", "--only", "sdk", "--records", "500"]);
    let mut lines = ended.stdout.lines();
    let cells = |line: Option<&str>| -> Vec<String> {
        let cells = line.unwrap().trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    assert_eq!(
        cells(lines.next()),
        ["", "figure", "target", "", "of the machine's limit"]
    );
    let rule = cells(lines.next());
    assert_eq!(
        rule.iter().map(|cell| cell.ends_with(':')).collect::<Vec<_>>(),
        [false, true, true, false, false]
    );
    assert!(lines.clone().count() > 10, "{}", ended.stdout);
    for line in lines {
        assert_eq!(line.matches('|').count(), 6, "{line}");
    }
}

#[test]
fn a_fixture_holds_a_server_and_sealed_requests() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = folder.path().join("fixture");
    let path = fixture.to_str().unwrap();
    let arguments = ["prepare", path, "--batches-per-user", "2", "--pushes-per-stream", "3"];
    run(0, &arguments);
    let files = |name: &str| std::fs::read_dir(fixture.join(name)).unwrap().count();
    assert_eq!((files("batches"), files("singles"), files("pulls")), (2, 3, 2));
    assert!(fixture.join("server/synckit.db").is_file());
    let token = std::fs::read_to_string(fixture.join("authorization")).unwrap();
    assert!(token.starts_with("Bearer "));
    // A second fixture in the same place would mix with the first.
    run(1, &arguments);
}
