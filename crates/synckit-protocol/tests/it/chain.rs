//! The chain commits to everything that the log holds.

use synckit_protocol::{AppId, BatchDigest, BatchId, DeviceId, Head, KeyId, Position, SealedHash, UserId};

fn start() -> Position {
    Position::start_of(AppId::from_bytes([1; 16]), UserId::from_bytes([2; 16]))
}

fn digest() -> BatchDigest {
    BatchDigest {
        batch_id: BatchId::from_bytes([3; 16]),
        device_id: DeviceId::from_bytes([4; 16]),
        key_id: KeyId::from_bytes([5; 16]),
        count: 7,
        sealed_hash: SealedHash::of(b"sealed"),
    }
}

#[test]
fn every_stream_starts_at_a_head_of_its_own() {
    let other_app = Position::start_of(AppId::from_bytes([9; 16]), UserId::from_bytes([2; 16]));
    let other_user = Position::start_of(AppId::from_bytes([1; 16]), UserId::from_bytes([9; 16]));
    assert_eq!(start().seq, 0);
    assert_ne!(start().head, other_app.head);
    assert_ne!(start().head, other_user.head);
    // Swapping the two ids is another stream too.
    assert_ne!(other_app.head, other_user.head);
}

#[test]
fn the_formulas_are_those_of_the_document() {
    // Computed by hashlib of Python from the formulas of docs/protocol.md.
    assert_eq!(
        hex(&start().head),
        "18ee5ceb848b8ed486459d8bc1a3d629a9a37dc6ba507ab1c940b8830959a34f"
    );
    let after = start().advance(&digest()).unwrap();
    assert_eq!(after.seq, 7);
    assert_eq!(
        hex(&after.head),
        "ea0618003f03dd8040cbea7d6825b6a9dffd7155eadddf8f5d0ae6f002d3c51a"
    );
}

#[test]
fn every_field_changes_the_head() {
    let after = start().advance(&digest()).unwrap();
    let changed = [
        BatchDigest {
            batch_id: BatchId::from_bytes([0; 16]),
            ..digest()
        },
        BatchDigest {
            device_id: DeviceId::from_bytes([0; 16]),
            ..digest()
        },
        BatchDigest {
            key_id: KeyId::from_bytes([0; 16]),
            ..digest()
        },
        BatchDigest { count: 8, ..digest() },
        BatchDigest {
            sealed_hash: SealedHash::of(b"other"),
            ..digest()
        },
    ];
    for other in changed {
        assert_ne!(start().advance(&other).unwrap().head, after.head, "{other:?}");
    }
    let elsewhere = Position { seq: 1, ..start() };
    assert_ne!(elsewhere.advance(&digest()).unwrap().head, after.head);
    let on_another_history = Position {
        head: Head::from_bytes([0; 32]),
        ..start()
    };
    assert_ne!(on_another_history.advance(&digest()).unwrap().head, after.head);
}

#[test]
fn empty_batch_and_last_sequence_end_the_chain() {
    assert_eq!(start().advance(&BatchDigest { count: 0, ..digest() }), None);
    let last = Position {
        seq: u64::MAX - 6,
        ..start()
    };
    assert_eq!(last.advance(&digest()), None);
    assert!(
        Position {
            seq: u64::MAX - 7,
            ..start()
        }
        .advance(&digest())
        .is_some()
    );
}

fn hex(head: &Head) -> String {
    head.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
