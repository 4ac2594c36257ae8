//! A cursor has one text, and a text that is none is refused.

use proptest::prelude::*;
use synckit_protocol::{Cursor, Head, Position, SnapshotId, SnapshotPlace};

#[test]
fn the_start_is_written_zero() {
    assert_eq!(Cursor::START.to_string(), "0");
    assert_eq!("0".parse(), Ok(Cursor::START));
    assert_eq!(Cursor::default(), Cursor::START);
    assert_eq!(
        Cursor::at(Position {
            seq: 0,
            head: Head::from_bytes([7; 32])
        }),
        Cursor::START
    );
}

#[test]
fn a_text_that_is_no_cursor_is_refused() {
    let head = "A".repeat(43);
    let good = format!("1.{head}");
    assert!(good.parse::<Cursor>().is_ok());
    for bad in [
        String::new(),
        " 0".to_owned(),
        "1".to_owned(),
        "00".to_owned(),
        format!("0.{head}"),
        format!("01.{head}"),
        format!("+1.{head}"),
        format!("-1.{head}"),
        format!("1.{head}="),
        format!("1.{}", "A".repeat(42)),
        format!("1.{}", "A".repeat(44)),
        // The last character of 32 bytes in base64 carries two bits that must be zero.
        format!("1.{}B", "A".repeat(42)),
        format!("1.{}+", "A".repeat(42)),
        format!("18446744073709551616.{head}"),
        format!("1.{head}.1"),
    ] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_text_that_is_no_place_in_a_snapshot_is_refused() {
    let (id, head) = ("A".repeat(22), "A".repeat(43));
    let good = format!("s0.0.{id}.1.{head}");
    assert!(good.parse::<Cursor>().is_ok());
    for bad in [
        format!("S0.0.{id}.1.{head}"),
        format!("0.0.{id}.1.{head}"),
        format!("ss0.0.{id}.1.{head}"),
        format!("s00.0.{id}.1.{head}"),
        format!("s0.+1.{id}.1.{head}"),
        format!("s.0.{id}.1.{head}"),
        format!("s0.0.{id}.0.{head}"),
        format!("s0.0.{id}.01.{head}"),
        format!("s4294967296.0.{id}.1.{head}"),
        format!("s0.4294967296.{id}.1.{head}"),
        format!("s0.0.{}.1.{head}", "A".repeat(21)),
        // The last character of 16 bytes in base64 carries four bits that must be zero.
        format!("s0.0.{}B.1.{head}", "A".repeat(21)),
        format!("s0.0.{id}.1.{head}.1"),
        format!("s0.0.{id}.0"),
        format!("s0.0.{id}"),
    ] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_place_in_a_snapshot_is_no_position_of_the_log() {
    let place = SnapshotPlace {
        snapshot_id: SnapshotId::from_bytes([5; 16]),
        position: Position {
            seq: 9,
            head: Head::from_bytes([7; 32]),
        },
        part: 1,
        row: 2,
    };
    let cursor = Cursor::in_snapshot(place);
    assert_eq!((cursor.position(), cursor.seq()), (None, 0));
    assert_eq!(cursor.snapshot(), Some(place));
    assert!(size_of::<Cursor>() <= 72);
    // There is no snapshot of the start.
    let start = Position {
        seq: 0,
        ..place.position
    };
    let at_start = Cursor::in_snapshot(SnapshotPlace {
        position: start,
        ..place
    });
    assert_eq!(at_start, Cursor::START);
    assert_eq!(Cursor::START.snapshot(), None);
    assert_eq!(
        (Cursor::at(place.position).snapshot(), Cursor::START.position()),
        (None, None)
    );
}

proptest! {
    #[test]
    fn a_place_in_a_snapshot_and_its_text_are_one(
        seq in 1u64.., head: [u8; 32], id: [u8; 16], part: u32, row: u32
    ) {
        let cursor = Cursor::in_snapshot(SnapshotPlace {
            snapshot_id: SnapshotId::from_bytes(id),
            position: Position { seq, head: Head::from_bytes(head) },
            part,
            row,
        });
        prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
    }

    #[test]
    fn text_and_value_are_one(seq in 1u64.., head: [u8; 32]) {
        let cursor = Cursor::at(Position { seq, head: Head::from_bytes(head) });
        let text = cursor.to_string();
        prop_assert_eq!(text.parse::<Cursor>(), Ok(cursor));
        prop_assert_eq!(cursor.seq(), seq);
    }

    #[test]
    fn whatever_parses_is_written_the_same(text in "s?[0-9.A-Za-z_-]{0,60}") {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert_eq!(cursor.to_string(), text);
        }
    }
}

#[test]
fn cursor_of_the_log_names_its_position() {
    let position = Position {
        seq: 7,
        head: Head::from_bytes([1; 32]),
    };
    assert_eq!(Cursor::at(position).position(), Some(position));
    assert_eq!(Cursor::START.position(), None);
}

#[test]
fn place_of_another_type_says_what_is_expected() {
    let error = serde_json::from_str::<Cursor>("5").unwrap_err().to_string();
    assert!(error.contains("expected a cursor text"), "{error}");
    let error = serde_json::from_str::<Position>("5").unwrap_err().to_string();
    assert!(error.contains("expected a position"), "{error}");
}
