//! Bodies that are one CBOR item, those that are not, and `vectors/cbor.json`, which is made again and compared.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use synckit_protocol::is_well_formed_cbor;

/// Items, as hexadecimal.
const ITEMS: &str = "00 17 1800 190000 1a00000000 1bffffffffffffffff 20 3bffffffffffffffff 40 4101 5800 590000 5f4101420203ff \
    5fff 60 6161 7f6161ff 7fff 80 820102 9800 9fff 9f01ff 9f9fffff a0 a16161f6 b90001616101 bfff bf616101ff c000 c1c100 \
    d9d9f7a0 c180 c19fff e0 f4 f6 f7 f820 f8ff f97e00 fa7fc00000 fb7ff0000000000000 829fff9fff bf61619f01ffff 82c100c100 5801ff";

/// Bytes that are none, by the rule that they break.
const REFUSED: &[(&str, &str)] = &[
    (
        "a break outside of an item of indefinite length",
        "ff 81ff 8201ff a1ff a16161ff c0ff 9fc0ff",
    ),
    ("a break in the place of a value", "bf6161ff bf6161016162ff"),
    (
        "bytes after the item",
        "0000 80ff 9fffff 8000 a000 5fffff 4100ff bf616101ffff f6f6",
    ),
    (
        "an item that ends too early",
        "18 19 1900 1a000000 1b00000000000000 41 5801 590001 5f4101 61 7f6161 81 8201 9f 9f01 a1 a16161 bf bf616101 c0 f8 \
         f9 f97e fa000000 fb00000000000000",
    ),
    (
        "a length beyond the end",
        "5b7fffffffffffffff 9bffffffffffffffff 9a7fffffff bb8000000000000000 bbffffffffffffffff 5bffffffffffffffff",
    ),
    (
        "a reserved initial byte",
        "1c 1d 1e 3c 5c 7e 9c bc dc fc fd fe 1f 3f df df00",
    ),
    (
        "pieces of another type or of indefinite length",
        "5f01ff 5f6161ff 7f4101ff 5f5f4101ffff 7f7f6161ffff",
    ),
    ("a simple value in a second form", "f800 f814 f81f"),
    ("nothing", ""),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// `UPDATE_VECTORS=1` writes the file after a deliberate change.
#[test]
fn cbor_vectors_match() {
    let items: Vec<&str> = ITEMS.split_whitespace().collect();
    for item in &items {
        assert!(is_well_formed_cbor(&bytes(item)), "{item}");
    }
    let refused: Vec<Value> = REFUSED
        .iter()
        .flat_map(|(rule, bodies)| {
            let bodies: Vec<&str> = bodies.split_whitespace().collect();
            let bodies = if bodies.is_empty() { vec![""] } else { bodies };
            bodies.into_iter().map(|body| json!({ "rule": *rule, "body": body }))
        })
        .collect();
    for refused in &refused {
        let body = refused["body"].as_str().unwrap();
        assert!(!is_well_formed_cbor(&bytes(body)), "{body}: {}", refused["rule"]);
    }
    let made = json!({
        "description": "Bodies (section 8.1): whether bytes are one well-formed CBOR item (RFC 8949, appendix C) and nothing else.",
        "items": items,
        "refused": refused,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/cbor.json");
    let made = serde_json::to_string_pretty(&made).unwrap() + "\n";
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), made);
}

#[test]
fn nesting_of_any_depth_needs_no_stack() {
    for (open, close) in [(0x81, None), (0x9f, Some(0xff)), (0xc1, None)] {
        let mut deep = vec![open; 100_000];
        deep.push(0);
        deep.extend(close.into_iter().flat_map(|byte| [byte; 100_000]));
        assert!(is_well_formed_cbor(&deep), "{open:x}");
        deep.push(0);
        assert!(!is_well_formed_cbor(&deep), "{open:x}");
    }
}

proptest! {
    /// The decoder takes what this takes, apart from texts that are not UTF-8.
    #[test]
    fn decoder_skips_what_is_well_formed(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        if is_well_formed_cbor(&bytes) && !bytes.iter().any(|byte| *byte >= 0x60 && *byte < 0x80) {
            prop_assert!(minicbor_serde::from_slice::<IgnoredAny>(&bytes).is_ok());
        }
    }
}
