//! `synckit bench`, with few records: that it measures what it says, not how much.

use serde_json::Value;

use crate::program::run_with;

#[test]
fn the_report_in_json_has_every_figure() {
    let ended = run_with(["bench", "--records", "1200", "--blob-mb", "1", "--json"]).expect_code(0);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["rows"]["records"], 1200);
    assert_eq!(report["rows"]["row_bytes_per_record"], 200.0);
    assert_eq!(report["blobs"]["bytes"], 1_000_000);
    for figure in [
        &report["rows"]["push"]["records_per_second"],
        &report["rows"]["pull"]["records_per_second"],
        &report["rows"]["push"]["wire_bytes_per_record"],
        &report["rows"]["disk_bytes_per_record"],
        &report["blobs"]["up_mb_per_second"],
        &report["blobs"]["down_mb_per_second"],
        &report["machine"]["synced_appends_per_second"],
        &report["machine"]["seal_mb_per_second"],
        &report["machine"]["sha256_mb_per_second"],
    ] {
        assert!(figure.as_f64().unwrap() > 0.0, "{report:#}");
    }
    // Sealed rows are neither smaller than their data nor much larger.
    let wire = report["rows"]["pull"]["wire_bytes_per_record"].as_f64().unwrap();
    assert!((150.0..400.0).contains(&wire), "{report:#}");
    if cfg!(target_os = "linux") {
        assert!(
            report["rows"]["push"]["server_cpu_us_per_record"].is_number(),
            "{report:#}"
        );
        assert!(report["rows"]["server_peak_memory_bytes"].is_u64(), "{report:#}");
        assert!(report["blobs"]["up_growth"]["server_bytes"].is_u64(), "{report:#}");
    }
    if cfg!(debug_assertions) {
        assert!(
            ended.stderr.starts_with("warning: this is a debug build"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn the_report_for_people_is_a_table() {
    let ended = run_with(["bench", "--records", "500"]).expect_code(0);
    assert!(ended.stdout.starts_with("500 records of 200 B, "), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("push through the SDK, one user"),
        "{}",
        ended.stdout
    );
}
