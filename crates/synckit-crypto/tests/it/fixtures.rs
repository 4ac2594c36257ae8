//! Ids, keys and entries that many tests use.

use serde_json::{Value, json};
use synckit_crypto::{
    KeyEnd, StreamScope, VaultEdition,
    batch::{BatchContext, ChangeEntry, ChangeOp, Timestamp},
};
use synckit_login::ExportKey;
use synckit_protocol::{AppId, BatchId, DeviceId, Head, Position, SealedHash, UserId};

pub(crate) const SCOPE: StreamScope = StreamScope {
    app_id: AppId::from_bytes([0xa1; 16]),
    user_id: UserId::from_bytes([0xb2; 16]),
};

pub(crate) const OTHER_SCOPES: [StreamScope; 2] = [
    StreamScope {
        app_id: AppId::from_bytes([0xa2; 16]),
        ..SCOPE
    },
    StreamScope {
        user_id: UserId::from_bytes([0xb3; 16]),
        ..SCOPE
    },
];

pub(crate) fn start() -> Position {
    Position::start_of(SCOPE.app_id, SCOPE.user_id)
}

pub(crate) const fn position(seq: u64) -> Position {
    Position {
        seq,
        head: Head::from_bytes([seq as u8; 32]),
    }
}

/// The edition of a vault.
pub(crate) const fn edition(generation: u32) -> VaultEdition {
    VaultEdition { generation, count: 5 }
}

/// The end of a key at a position, with a snapshot that was there.
pub(crate) const fn ending(until: Position) -> KeyEnd {
    KeyEnd {
        until,
        snapshot: Some(SealedHash::from_bytes([0xf6; 32])),
    }
}

pub(crate) fn export_key() -> ExportKey {
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
    ExportKey::from_bytes(bytes)
}

pub(crate) const fn context() -> BatchContext {
    BatchContext {
        scope: SCOPE,
        device_id: DeviceId::from_bytes([0xc3; 16]),
        batch_id: BatchId::from_bytes([0xd4; 16]),
        parent: position(41),
    }
}

pub(crate) fn entry(row_id: &str, data: Option<Value>) -> ChangeEntry {
    ChangeEntry {
        table: "notes".to_owned(),
        op: ChangeOp::Update,
        row_id: row_id.to_owned(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        data,
    }
}

/// One entry of every shape.
pub(crate) fn entries() -> Vec<ChangeEntry> {
    vec![
        ChangeEntry {
            op: ChangeOp::Insert,
            ..entry(
                "0190c2a4-7d1e-7f00-8a00-0123456789ab",
                Some(json!({"title": "Caf\u{e9}", "done": false, "rank": 3, "weight": 0.25, "parent": null})),
            )
        },
        ChangeEntry {
            table: "tags".to_owned(),
            ..entry(
                "urgent",
                Some(json!({"title": "Urgent", "color": {"rgb": [255, 0, 16], "a": -1}})),
            )
        },
        ChangeEntry {
            op: ChangeOp::Delete,
            timestamp: Timestamp::from_micros(-1),
            ..entry("7", None)
        },
        entry("0190C2A4-7D1E-7F00-8A00-0123456789AB", Some(Value::Null)),
        entry(
            "",
            Some(json!([u64::MAX, i64::MIN, -0.0, 1.5e300, "text", true, [], {}])),
        ),
        entry("row", Some(json!({}))),
    ]
}
