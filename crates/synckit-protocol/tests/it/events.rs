//! The text of an event stream.

use proptest::prelude::*;
use synckit_protocol::{
    Cursor, Event, EventError, EventReader, Head, Heard, Position, SnapshotId, SnapshotPlace,
    limits::EVENT_LINE_BYTES_MAX,
};

fn cursor(seq: u64) -> Cursor {
    Cursor::at(Position {
        seq,
        head: Head::from_bytes([7; 32]),
    })
}

fn read(text: &str) -> Result<Heard, EventError> {
    EventReader::default().read(text.as_bytes())
}

#[test]
fn events_have_one_text() {
    let head = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    assert_eq!(
        Event::Newest(cursor(12)).encode(),
        format!("event: position\nid: 12.{head}\ndata: 12.{head}\n\n")
    );
    assert_eq!(Event::Going.encode(), "event: going\ndata: going\n\n");
    assert_eq!(Event::Retry(4211).encode(), "retry: 4211\n\n");
    assert_eq!(Event::Comment.encode(), ":\n\n");
}

#[test]
fn longest_line_fits_the_limit() {
    for line in Event::Newest(cursor(u64::MAX)).encode().lines() {
        assert!(line.len() <= EVENT_LINE_BYTES_MAX, "{line}");
    }
}

#[test]
fn of_several_positions_the_last_counts() {
    let text: String = [
        Event::Retry(5),
        Event::Newest(cursor(1)),
        Event::Comment,
        Event::Newest(cursor(2)),
    ]
    .map(Event::encode)
    .concat();
    let heard = Heard {
        newest: Some(cursor(2)),
        retry_ms: Some(5),
        is_going: false,
        has_comment: true,
    };
    assert_eq!(read(&text), Ok(heard));
}

#[test]
fn unfinished_event_counts_for_nothing() {
    let text = Event::Newest(cursor(1)).encode();
    let mut reader = EventReader::default();
    let (first, last) = text.split_at(text.len() - 1);
    assert_eq!(reader.read(first.as_bytes()), Ok(Heard::default()));
    assert_eq!(reader.read(last.as_bytes()).unwrap().newest, Some(cursor(1)));
}

#[test]
fn unknown_events_and_fields_are_skipped() {
    let other =
        "event: presence\ndata: a\ndata: b\nfuture: 1\nretry: -1\nretry: +1\nretry: 1e3\n\nno colon\n\ndata: 0\n\n";
    assert_eq!(read(other), Ok(Heard::default()));
    // A name ends with its event.
    assert_eq!(read("event: position\n\ndata: no cursor\n\n"), Ok(Heard::default()));
}

#[test]
fn what_is_no_position_is_refused() {
    let inside = Cursor::in_snapshot(SnapshotPlace {
        snapshot_id: SnapshotId::from_bytes([1; 16]),
        position: cursor(3).position().unwrap(),
        part: 0,
        row: 0,
    });
    for data in ["", "x", "1", "0\ndata: 0", &inside.to_string()] {
        let text = format!("event: position\ndata: {data}\n\n");
        assert_eq!(read(&text), Err(EventError::NoPosition), "{data:?}");
    }
}

#[test]
fn long_line_is_refused_before_its_end() {
    let mut reader = EventReader::default();
    assert_eq!(reader.read(&[b'x'; EVENT_LINE_BYTES_MAX]), Ok(Heard::default()));
    assert_eq!(reader.read(b"x"), Err(EventError::LongLine));
}

/// What several pieces told, as one.
fn together(pieces: &[&[u8]]) -> Result<Heard, EventError> {
    let mut reader = EventReader::default();
    let mut all = Heard::default();
    for piece in pieces {
        let heard = reader.read(piece)?;
        all.newest = heard.newest.or(all.newest);
        all.retry_ms = heard.retry_ms.or(all.retry_ms);
        all.is_going |= heard.is_going;
        all.has_comment |= heard.has_comment;
    }
    Ok(all)
}

proptest! {
    #[test]
    fn borders_of_pieces_do_not_matter(seqs in prop::collection::vec(0_u64.., 0..4), end in 0_usize..3, at in 0.0..1.0) {
        let line_end = ["\n", "\r\n", "\r"][end];
        let mut text: String = seqs.iter().map(|seq| Event::Newest(cursor(*seq)).encode()).collect();
        text.push_str(&Event::Going.encode());
        let text = text.replace('\n', line_end);
        let (first, last) = text.as_bytes().split_at((text.len() as f64 * at) as usize);
        let whole = read(&text);
        prop_assert_eq!(together(&[first, last]), whole);
        let heard = whole.unwrap();
        prop_assert_eq!(heard.newest, seqs.last().map(|seq| cursor(*seq)));
        prop_assert!(heard.is_going);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0_usize..600) {
        let (first, last) = bytes.split_at(at.min(bytes.len()));
        prop_assert_eq!(together(&[first, last]), together(&[&bytes]));
    }
}
