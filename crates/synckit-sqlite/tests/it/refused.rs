//! Entries that no writer makes: each is refused, with its reason.

use serde_json::json;
use synckit_crypto::batch::{ChangeEntry, ChangeOp, Timestamp};
use synckit_sqlite::rows::{RowChange, RowError};

fn refusal(op: ChangeOp, data: Option<serde_json::Value>) -> RowError {
    RowChange::from_entry(&ChangeEntry {
        table: "tasks".into(),
        op,
        row_id: "1".into(),
        timestamp: Timestamp::default(),
        data,
    })
    .unwrap_err()
}

#[test]
fn row_is_an_object() {
    for data in [None, Some(json!(null)), Some(json!([1])), Some(json!("text"))] {
        assert_eq!(refusal(ChangeOp::Insert, data.clone()), RowError::NoColumns);
        assert_eq!(refusal(ChangeOp::Update, data), RowError::NoColumns);
    }
}

#[test]
fn deletion_has_no_data() {
    assert_eq!(refusal(ChangeOp::Delete, Some(json!({}))), RowError::DataOfDeletion);
    assert_eq!(refusal(ChangeOp::Delete, Some(json!(null))), RowError::DataOfDeletion);
}

#[test]
fn refused_value_names_its_column() {
    let error = refusal(ChangeOp::Update, Some(json!({"done": true, "title": "Milk"})));
    assert_eq!(error.to_string(), "the column `done` has no value of SQLite");
}
