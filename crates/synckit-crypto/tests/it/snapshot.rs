//! Snapshots: manifest and parts.

use serde_json::json;
use synckit_crypto::{
    KeyRing, OpenError,
    batch::ChangeEntry,
    snapshot::{Manifest, PART_ROW_BYTES_MAX, PART_ROWS_MAX, PARTS_MAX, PartBody, PartDigest, SnapshotContext},
};
use synckit_protocol::{KeyId, SealedHash, SnapshotId, limits::BATCH_PLAINTEXT_BYTES_MAX};

use crate::{
    fixtures::{OTHER_SCOPES, SCOPE, entries, entry, position},
    rng::VectorRng,
};

const CONTEXT: SnapshotContext = SnapshotContext {
    scope: SCOPE,
    snapshot_id: SnapshotId::from_bytes([0xe5; 16]),
    position: position(900),
};

fn rows() -> Vec<ChangeEntry> {
    (0..1200)
        .map(|row| entry(&format!("row {row}"), Some(json!({"n": row, "text": "x".repeat(5000)}))))
        .collect()
}

#[test]
fn parts_of_a_snapshot_open_to_all_rows_in_order() {
    let mut rng = VectorRng::new("snapshot");
    let keys = KeyRing::generate(&SCOPE, &mut rng).current().subkeys(&SCOPE);
    let all = rows();
    let mut bodies = Vec::new();
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let (taken, body) = PartBody::encode_prefix(rest).unwrap();
        assert_eq!(taken, body.rows() as usize);
        bodies.push(body);
        rest = &rest[taken..];
    }
    let total = u32::try_from(bodies.len()).unwrap();
    assert!(total > 1);
    let parts: Vec<_> = (0..)
        .zip(&bodies)
        .map(|(index, body)| {
            keys.snapshot
                .seal_part(&keys.key_id, &CONTEXT, index, total, body, &mut rng)
        })
        .collect();
    let digests = bodies
        .iter()
        .zip(&parts)
        .map(|(body, sealed)| PartDigest::of(body, sealed))
        .collect();
    let manifest = Manifest::new(digests).unwrap();
    let sealed = keys.snapshot.seal_manifest(&keys.key_id, &CONTEXT, &manifest, &mut rng);

    let opened = keys.snapshot.open_manifest(&keys.key_id, &CONTEXT, &sealed).unwrap();
    assert_eq!(opened, manifest);
    assert_eq!((opened.total(), opened.rows()), (total, 1200));
    let mut found = Vec::new();
    for (index, sealed) in (0..).zip(&parts) {
        found.extend(
            keys.snapshot
                .open_part(&keys.key_id, &CONTEXT, &opened, index, sealed)
                .unwrap(),
        );
    }
    assert_eq!(found, all);
}

#[test]
fn parts_open_in_their_place_only() {
    let mut rng = VectorRng::new("snapshot");
    let keys = KeyRing::generate(&SCOPE, &mut rng).current().subkeys(&SCOPE);
    let (_, body) = PartBody::encode_prefix(&entries()).unwrap();
    let seal = |context: &SnapshotContext, index, total, rng: &mut VectorRng| {
        keys.snapshot.seal_part(&keys.key_id, context, index, total, &body, rng)
    };
    let (first, second) = (seal(&CONTEXT, 0, 2, &mut rng), seal(&CONTEXT, 1, 2, &mut rng));
    let digests = [&first, &second].map(|sealed| PartDigest::of(&body, sealed)).to_vec();
    let manifest = Manifest::new(digests).unwrap();
    let open = |context: &SnapshotContext, manifest: &Manifest, index, sealed: &[u8]| {
        keys.snapshot.open_part(&keys.key_id, context, manifest, index, sealed)
    };
    assert_eq!(open(&CONTEXT, &manifest, 0, &first).unwrap(), entries());
    let refused = Err(OpenError::Authentication);
    assert_eq!(open(&CONTEXT, &manifest, 1, &first), refused, "swapped");
    assert_eq!(open(&CONTEXT, &manifest, 2, &first), refused, "beyond the last");
    // The same rows sealed again under the same id: another attempt, which the manifest does not name.
    assert_eq!(
        open(&CONTEXT, &manifest, 0, &seal(&CONTEXT, 0, 2, &mut rng)),
        refused,
        "another attempt"
    );

    // Even with a manifest that names them, parts sealed for another place do not open.
    let place = |sealed: &[u8]| {
        let digests = vec![PartDigest::of(&body, sealed), PartDigest::of(&body, &second)];
        open(&CONTEXT, &Manifest::new(digests).unwrap(), 0, sealed)
    };
    assert_eq!(place(&seal(&CONTEXT, 1, 2, &mut rng)), refused);
    assert_eq!(place(&seal(&CONTEXT, 0, 3, &mut rng)), refused);
    let elsewhere = [
        SnapshotContext {
            snapshot_id: SnapshotId::from_bytes([0; 16]),
            ..CONTEXT
        },
        SnapshotContext {
            position: position(901),
            ..CONTEXT
        },
        SnapshotContext {
            scope: OTHER_SCOPES[0],
            ..CONTEXT
        },
        SnapshotContext {
            scope: OTHER_SCOPES[1],
            ..CONTEXT
        },
    ];
    for context in &elsewhere {
        assert_eq!(place(&seal(context, 0, 2, &mut rng)), refused, "{context:?}");
        let sealed = keys.snapshot.seal_manifest(&keys.key_id, context, &manifest, &mut rng);
        assert_eq!(
            keys.snapshot.open_manifest(&keys.key_id, &CONTEXT, &sealed),
            Err(OpenError::Authentication)
        );
    }
    let sealed = keys.snapshot.seal_manifest(&keys.key_id, &CONTEXT, &manifest, &mut rng);
    let other_id = KeyId::from_bytes([0; 16]);
    assert_eq!(
        keys.snapshot.open_manifest(&other_id, &CONTEXT, &sealed),
        Err(OpenError::Authentication)
    );
    // A part is no manifest, and the other way round.
    assert!(keys.snapshot.open_manifest(&keys.key_id, &CONTEXT, &first).is_err());
}

#[test]
fn part_with_another_row_count_is_refused() {
    let mut rng = VectorRng::new("snapshot");
    let keys = KeyRing::generate(&SCOPE, &mut rng).current().subkeys(&SCOPE);
    let (_, body) = PartBody::encode_prefix(&entries()).unwrap();
    let sealed = keys.snapshot.seal_part(&keys.key_id, &CONTEXT, 0, 1, &body, &mut rng);
    let digest = PartDigest {
        sealed_hash: SealedHash::of(&sealed),
        rows: 5,
    };
    let manifest = Manifest::new(vec![digest]).unwrap();
    let error = keys.snapshot.open_part(&keys.key_id, &CONTEXT, &manifest, 0, &sealed);
    assert!(matches!(error, Err(OpenError::Malformed { .. })));
}

#[test]
fn manifest_has_one_encoding() {
    let digest = |byte, rows| PartDigest {
        sealed_hash: SealedHash::from_bytes([byte; 32]),
        rows,
    };
    let manifest = Manifest::new(vec![digest(1, 10), digest(2, PART_ROWS_MAX)]).unwrap();
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
    let empty = Manifest::new(Vec::new()).unwrap();
    assert_eq!(Manifest::decode(&empty.encode()).unwrap(), empty);
    for len in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(Manifest::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    // Format, sum of rows, count of parts, rows of a part.
    for position in [0, 8, 12, 48] {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        assert!(Manifest::decode(&changed).is_err(), "byte {position}");
    }
    assert_eq!(Manifest::new(vec![digest(1, 0)]), None);
    assert_eq!(Manifest::new(vec![digest(1, PART_ROWS_MAX + 1)]), None);
    let most = Manifest::new(vec![digest(1, 1); PARTS_MAX as usize]).unwrap();
    let mut bytes = most.encode();
    assert_eq!(Manifest::decode(&bytes).unwrap(), most);
    assert_eq!(Manifest::new(vec![digest(1, 1); PARTS_MAX as usize + 1]), None);
    // One part more, beside true sums of rows and parts.
    bytes.extend_from_within(bytes.len() - 36..);
    let sum = PARTS_MAX + 1;
    bytes[1..9].copy_from_slice(&u64::from(sum).to_be_bytes());
    bytes[9..13].copy_from_slice(&sum.to_be_bytes());
    assert!(Manifest::decode(&bytes).is_err());
}

#[test]
fn rows_whose_largest_lengths_fit_make_one_part() {
    // Many names, each used once: what makes indexes long. A part holds fewer rows than it may.
    let rows: Vec<_> = (0..30_000)
        .map(|row| {
            entry(
                &format!("row {row}"),
                Some(json!({ format!("field {row}"): "x".repeat(row % 300) })),
            )
        })
        .collect();
    let (mut start, mut parts) = (0, 0);
    while start < rows.len() {
        let mut bytes = 0;
        let planned = rows[start..]
            .iter()
            .take(PART_ROWS_MAX as usize)
            .take_while(|row| {
                bytes += PartBody::row_len_max(row).unwrap();
                bytes <= PART_ROW_BYTES_MAX
            })
            .count();
        let (taken, body) = PartBody::encode_prefix(&rows[start..start + planned]).unwrap();
        assert_eq!(taken, planned);
        assert!(planned < PART_ROWS_MAX as usize);
        // The bound is not far off: parts are more than half full.
        assert!(start + planned == rows.len() || body.plaintext().len() > PART_ROW_BYTES_MAX / 2);
        start += planned;
        parts += 1;
    }
    assert!(parts > 1);
}

#[test]
fn rows_of_the_largest_sum_fill_one_part() {
    let row = |row_id: &str, len| entry(row_id, Some(json!("x".repeat(len))));
    let len_max = |row: &ChangeEntry| PartBody::row_len_max(row).unwrap();
    let first = row("first", PART_ROW_BYTES_MAX / 2);
    let left = PART_ROW_BYTES_MAX - len_max(&first);
    let around = len_max(&row("second", left)) - left;
    let rows = [first, row("second", left - around)];
    assert_eq!(rows.iter().map(len_max).sum::<usize>(), PART_ROW_BYTES_MAX);
    let (taken, body) = PartBody::encode_prefix(&rows).unwrap();
    assert_eq!((taken, body.plaintext().len()), (2, BATCH_PLAINTEXT_BYTES_MAX));
}

/// Behind so many names that every index has its longest form.
#[test]
fn largest_length_of_a_row_is_reached() {
    let names: serde_json::Map<_, _> = (0..0x1_0000).map(|name| (format!("{name:x}"), json!(1))).collect();
    let before = entry("before", Some(names.into()));
    let row = ChangeEntry {
        table: "a table of its own".into(),
        ..entry("row", Some(json!({ "one": 1, "two": 2 })))
    };
    let body_len = |rows: &[ChangeEntry]| {
        let (taken, body) = PartBody::encode_prefix(rows).unwrap();
        assert_eq!(taken, rows.len());
        u32::from_be_bytes(body.plaintext()[1..5].try_into().unwrap()) as usize
    };
    let added = body_len(&[before.clone(), row.clone()]) - body_len(&[before]);
    assert_eq!(PartBody::row_len_max(&row), Ok(added));
}
