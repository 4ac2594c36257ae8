//! The chain: how a client walks a history that a server tells, and which texts are cursors.

use serde_json::{Value, json};
use synckit_protocol::{
    BatchDigest, BatchId, Cursor, DeviceId, KeyId, Position, SealedHash, SnapshotId, SnapshotPlace,
};

use super::{by_hand, check, hex, place};
use crate::fixtures::{position, start};

/// A digest whose bytes follow from a number.
fn digest(number: u8, count: u32) -> BatchDigest {
    BatchDigest {
        batch_id: BatchId::from_bytes([number; 16]),
        device_id: DeviceId::from_bytes([0xc3; 16]),
        key_id: KeyId::from_bytes([0x1d; 16]),
        count,
        sealed_hash: SealedHash::from_bytes([number; 32]),
    }
}

fn digest_json(digest: &BatchDigest) -> Value {
    json!({
        "batch_id": hex(digest.batch_id.as_bytes()),
        "device_id": hex(digest.device_id.as_bytes()),
        "key_id": hex(digest.key_id.as_bytes()),
        "count": digest.count,
        "sealed_hash": hex(digest.sealed_hash.as_bytes()),
    })
}

/// Section 5.8, word by word: where a walk ends, or the name of the error that it ends with.
fn walk(from: Position, known: Option<Position>, digests: &[BatchDigest]) -> Result<Position, &'static str> {
    let compare = |at: Position| match known {
        Some(known) if known.seq == at.seq && known.head != at.head => Err("HistoryForked"),
        _ => Ok(at),
    };
    let mut at = compare(from)?;
    for digest in digests {
        let before = at;
        at = before.advance(digest).ok_or("malformed")?;
        if known.is_some_and(|known| before.seq < known.seq && known.seq < at.seq) {
            return Err("HistoryForked");
        }
        compare(at)?;
    }
    match known {
        // The server says that nothing follows.
        Some(known) if known.seq > at.seq => Err("HistoryRewound"),
        _ => Ok(at),
    }
}

#[test]
fn chain_vectors_match() {
    let digests = [digest(1, 2), digest(2, 3), digest(3, 1)];
    let mut positions = vec![start()];
    for digest in &digests {
        positions.push(positions[positions.len() - 1].advance(digest).unwrap());
    }
    let [first, second, third, last] = positions[..] else {
        panic!()
    };
    let elsewhere = |seq| Position { seq, ..position(99) };
    let overflow = Position {
        seq: u64::MAX - 2,
        ..position(9)
    };
    let walks: Vec<Value> = [
        ("the whole history, nothing known", first, None, &digests[..], Ok(last)),
        ("what is known is passed", first, Some(third), &digests, Ok(last)),
        (
            "what is known is the beginning",
            second,
            Some(second),
            &digests[1..],
            Ok(last),
        ),
        ("what is known is the end", second, Some(last), &digests[1..], Ok(last)),
        (
            "what is known lies before the beginning",
            second,
            Some(first),
            &digests[1..],
            Ok(last),
        ),
        (
            "nothing follows, and nothing more is known",
            last,
            Some(last),
            &[],
            Ok(last),
        ),
        (
            "another history at the beginning",
            second,
            Some(elsewhere(2)),
            &digests[1..],
            Err("HistoryForked"),
        ),
        (
            "another history on the way",
            first,
            Some(elsewhere(5)),
            &digests,
            Err("HistoryForked"),
        ),
        (
            "another history at the end",
            first,
            Some(elsewhere(6)),
            &digests,
            Err("HistoryForked"),
        ),
        (
            "a batch across what is known",
            first,
            Some(elsewhere(4)),
            &digests,
            Err("HistoryForked"),
        ),
        (
            "a first batch across what is known",
            first,
            Some(elsewhere(1)),
            &digests,
            Err("HistoryForked"),
        ),
        (
            "less than what is known",
            first,
            Some(last),
            &digests[..2],
            Err("HistoryRewound"),
        ),
        (
            "nothing, and more is known",
            first,
            Some(second),
            &[],
            Err("HistoryRewound"),
        ),
        (
            "two batches that changed places",
            first,
            Some(last),
            &[digests[0], digests[2], digests[1]],
            Err("HistoryForked"),
        ),
        ("a batch of no entries", first, None, &[digest(1, 0)], Err("malformed")),
        (
            "the last sequence that there is",
            overflow,
            None,
            &[digest(1, 2)],
            Ok(overflow.advance(&digest(1, 2)).unwrap()),
        ),
        (
            "a sequence beyond the last one",
            overflow,
            None,
            &[digest(1, 3)],
            Err("malformed"),
        ),
    ]
    .into_iter()
    .map(|(what, from, known, digests, expected)| {
        assert_eq!(walk(from, known, digests), expected, "{what}");
        json!({
            "what": what,
            "from": place(from),
            "known": known.map(place),
            "digests": digests.iter().map(digest_json).collect::<Vec<_>>(),
            "end": expected.ok().map(place),
            "refused": expected.err(),
        })
    })
    .collect();
    let hashed = [
        b"synckit/1 log\0".as_slice(),
        first.head.as_bytes(),
        &1_u64.to_be_bytes(),
        &2_u32.to_be_bytes(),
        &[1; 16],
        &[0xc3; 16],
        &[0x1d; 16],
        &[1; 32],
    ]
    .concat();
    assert_eq!(by_hand::sha256(&hashed), second.head.as_bytes());
    check(
        "chain.json",
        &json!({
            "description": "Walks of a history that a server tells (from a believed position, with the newest position \
                known before, to the end of the history): where each ends, or how it is refused. Then texts that are \
                cursors, and texts that are none. Byte strings in hexadecimal.",
            "walks": walks,
            "cursors": cursors(),
            "refused_cursors": refused_cursors(),
        }),
    );
}

fn cursors() -> Vec<Value> {
    let snapshot = SnapshotPlace {
        snapshot_id: SnapshotId::from_bytes([0xe5; 16]),
        position: position(77),
        part: 1,
        row: 499,
    };
    let in_log = [1, 9, 10, 4_294_967_296, u64::MAX].map(|seq| {
        let at = Position { seq, ..position(9) };
        json!({"cursor": Cursor::at(at).to_string(), "position": place(at)})
    });
    let in_snapshot = json!({
        "cursor": Cursor::in_snapshot(snapshot).to_string(),
        "position": place(snapshot.position),
        "snapshot_id": hex([0xe5; 16]),
        "part": 1,
        "row": 499,
    });
    [in_log.to_vec(), vec![in_snapshot]].concat()
}

fn refused_cursors() -> Vec<String> {
    let (head, id) = ("A".repeat(43), "A".repeat(22));
    let good = format!("1.{head}");
    assert!(good.parse::<Cursor>().is_ok());
    let refused = vec![
        String::new(),
        "00".to_owned(),
        "1".to_owned(),
        "1.".to_owned(),
        " 0".to_owned(),
        format!("0.{head}"),
        format!("01.{head}"),
        format!("+1.{head}"),
        format!("-1.{head}"),
        format!("1 .{head}"),
        format!("\u{661}.{head}"),
        format!("18446744073709551616.{head}"),
        format!("1.{head}="),
        format!("1.{head}A"),
        format!("1.{}", "A".repeat(42)),
        // The last character of 32 bytes carries two bits that must be zero.
        format!("1.{}B", "A".repeat(42)),
        format!("1.{}+", "A".repeat(42)),
        format!("1.{}/", "A".repeat(42)),
        format!("1.{head}.1"),
        format!("1.{head}\n"),
        format!("S0.0.{id}.1.{head}"),
        format!("s00.0.{id}.1.{head}"),
        format!("s0.0.{id}.0.{head}"),
        format!("s4294967296.0.{id}.1.{head}"),
        format!("s0.0.{}B.1.{head}", "A".repeat(21)),
    ];
    assert!(refused.iter().all(|text| text.parse::<Cursor>().is_err()));
    refused
}
