//! A body has one encoding. Every other that a CBOR reader would take is refused, with its rule.

use synckit_crypto::{OpenError, batch::BatchBody, padded_len};

/// Frames and pads a body as a batch's plaintext.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut plaintext = vec![0];
    plaintext.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    plaintext.extend_from_slice(body);
    plaintext.resize(padded_len(plaintext.len()), 0);
    plaintext
}

/// Bytes of hexadecimal digits; anything else, such as spaces, only separates.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    digits
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Bodies that break one rule each, and the rule. They are part of `vectors/batch.json`.
pub(crate) fn refused() -> Vec<(String, &'static str)> {
    let written = REFUSED.iter().map(|(body, rule)| ((*body).to_owned(), *rule));
    written.chain(nested_too_deeply()).collect()
}

/// Arrays and objects that are nested one level too deep, empty ones included.
fn nested_too_deeply() -> impl Iterator<Item = (String, &'static str)> {
    let arrays = |count: usize| "81".repeat(count);
    // An array at the top of the data, and an object there.
    let array = |data: String| format!("82 81 6174 81 85 00 00 6172 00 {data}");
    let object = |value: String| format!("82 82 6174 6161 81 85 00 00 6172 00 a1 01 {value}");
    [
        array(arrays(128) + "80"),
        array(arrays(128) + "a0"),
        array(arrays(129) + "00"),
        array(arrays(1) + &"a16161".repeat(127) + "a0"),
        object(arrays(127) + "80"),
        object(arrays(127) + "a0"),
        object(arrays(128) + "00"),
    ]
    .into_iter()
    .map(|body| (body, "nested too deeply"))
}

const REFUSED: &[(&str, &str)] = &[
    // names ["t"], entries [["t", insert, "r", 0]] is 82 81 6174 81 84 00 00 6172 00.
    ("", "not the CBOR item expected here"),
    ("81 81 6174", "a body has two parts"),
    ("83 81 6174 81 84 00 00 6172 00 00", "a body has two parts"),
    ("82 81 6174 81 84 00 00 6172", "not the CBOR item expected here"),
    ("82 81 6174 81 84 00 00 6172 00 00", "bytes after the body"),
    ("82 80 80", "too many entries, or none"),
    ("82 81 6174 81 83 00 00 6172", "an entry has four or five parts"),
    (
        "82 81 6174 81 86 00 00 6172 00 00 00",
        "an entry has four or five parts",
    ),
    // Names.
    ("82 82 6174 6174 81 84 00 00 6172 00", "a name that occurs twice"),
    ("82 82 6174 6175 81 84 00 00 6172 00", "a name that is not used"),
    (
        "82 82 6174 6175 81 84 01 00 6172 00",
        "names that are not in the order of first use",
    ),
    ("82 81 6174 81 84 01 00 6172 00", "an index beyond the names"),
    ("82 81 4174 81 84 00 00 6172 00", "not the CBOR item expected here"),
    ("82 81 61ff 81 84 00 00 6172 00", "not the CBOR item expected here"),
    ("82 80 81 84 6174 00 6172 00", "not the CBOR item expected here"),
    // Operation, row id, timestamp.
    ("82 81 6174 81 84 00 03 6172 00", "unknown operation"),
    ("82 81 6174 81 84 00 20 6172 00", "not the CBOR item expected here"),
    ("82 81 6174 81 84 00 00 4172 00", "a row id of bytes is a UUID"),
    ("82 81 6174 81 84 00 00 07 00", "not the CBOR item expected here"),
    (
        "82 81 6174 81 84 00 00 7824 30313930633261342d376431652d376630302d386130302d303132333435363738396162 00",
        "a row id that is a UUID is 16 bytes",
    ),
    (
        "82 81 6174 81 84 00 00 6172 1b8000000000000000",
        "not the CBOR item expected here",
    ),
    ("82 81 6174 81 84 00 00 6172 f90000", "not the CBOR item expected here"),
    // Lengths and integers in more bytes than they need, and indefinite lengths.
    (
        "9802 81 6174 81 84 00 00 6172 00",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 9801 6174 81 84 00 00 6172 00",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 780174 81 84 00 00 6172 00",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 6174 81 84 1800 00 6172 00",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 6174 81 84 00 1800 6172 00",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 6174 81 84 00 00 6172 1900ff",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 6174 81 84 00 00 6172 3817",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 1a0000ffff",
        "an integer or a length that is not in its shortest form",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 1b00000000ffffffff",
        "an integer or a length that is not in its shortest form",
    ),
    ("9f 81 6174 81 84 00 00 6172 00 ff", "an indefinite length"),
    ("82 81 6174 9f 84 00 00 6172 00 ff", "an indefinite length"),
    ("82 81 7f6174ff 81 84 00 00 6172 00", "not the CBOR item expected here"),
    ("82 81 6174 81 85 00 00 6172 00 9fff", "not the CBOR item expected here"),
    ("82 81 6174 81 85 00 00 6172 00 bfff", "not the CBOR item expected here"),
    (
        "82 81 6174 81 85 00 00 6172 00 81 9f00ff",
        "not the CBOR item expected here",
    ),
    // Values that are none of JSON's, or not in the form that they must have.
    ("82 81 6174 81 85 00 00 6172 00 f7", "not the CBOR item expected here"),
    ("82 81 6174 81 85 00 00 6172 00 f800", "not the CBOR item expected here"),
    (
        "82 81 6174 81 85 00 00 6172 00 f93c00",
        "not the CBOR item expected here",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 fa3f800000",
        "not the CBOR item expected here",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 fb7ff0000000000000",
        "a float that is not finite",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 fb7ff8000000000000",
        "a float that is not finite",
    ),
    ("82 81 6174 81 85 00 00 6172 00 4101", "not the CBOR item expected here"),
    ("82 81 6174 81 85 00 00 6172 00 c001", "not the CBOR item expected here"),
    (
        "82 81 6174 81 85 00 00 6172 00 c24101",
        "not the CBOR item expected here",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 3b8000000000000000",
        "not the CBOR item expected here",
    ),
    // Objects at the top: indexes ascending; new names of one entry ascending.
    (
        "82 82 6174 6161 81 85 00 00 6172 00 a2 01 00 01 00",
        "fields that are not in ascending order",
    ),
    (
        "82 83 6174 6161 6162 81 85 00 00 6172 00 a2 02 00 01 00",
        "names that are not in the order of first use",
    ),
    (
        "82 83 6174 6162 6161 81 85 00 00 6172 00 a2 01 00 02 00",
        "new names that are not in ascending order",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 a1 6161 00",
        "not the CBOR item expected here",
    ),
    (
        "82 82 6174 6161 81 85 00 00 6172 00 b801 01 00",
        "an integer or a length that is not in its shortest form",
    ),
    // Objects below: text keys, shorter first, then by bytes.
    (
        "82 81 6174 81 85 00 00 6172 00 81 a1 00 00",
        "not the CBOR item expected here",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 81 a2 6161 00 6161 00",
        "keys that are not in ascending order",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 81 a2 6162 00 6161 00",
        "keys that are not in ascending order",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 81 a2 626161 00 6162 00",
        "keys that are not in ascending order",
    ),
    // The order of UTF-16 puts U+1F600 before U+FF5E, that of UTF-8 behind it.
    (
        "82 83 6174 64f09f9880 63efbd9e 81 85 00 00 6172 00 a2 01 00 02 00",
        "new names that are not in ascending order",
    ),
    (
        "82 81 6174 81 85 00 00 6172 00 81 a2 64f09f9880 00 64efbd9e61 00",
        "keys that are not in ascending order",
    ),
    // A key of one letter in three bytes stands after one of two letters in two bytes.
    (
        "82 81 6174 81 85 00 00 6172 00 81 a2 63e282ac 00 626162 00",
        "keys that are not in ascending order",
    ),
];

#[test]
fn only_the_canonical_encoding_of_a_body_decodes() {
    let canonical = framed(&unhex("82 81 6174 81 84 00 00 6172 00"));
    assert_eq!(BatchBody::decode(&canonical, 1).unwrap().len(), 1);
    for (body, rule) in refused() {
        let result = BatchBody::decode(&framed(&unhex(&body)), 1);
        assert_eq!(result, Err(OpenError::Malformed { reason: rule }), "{body}");
    }
}

#[test]
fn lies_about_lengths_cost_no_memory() {
    // 127 arrays inside each other, each of which claims 2^32 elements, and the same with maps.
    for head in ["9affffffff", "baffffffff6161", "9bffffffffffffffff"] {
        let body = format!("82 81 6174 81 85 00 00 6172 00 {}", head.repeat(127));
        assert!(BatchBody::decode(&framed(&unhex(&body)), 1).is_err());
    }
    assert!(BatchBody::decode(&framed(&unhex("82 9affffffff")), 1).is_err());
    assert!(BatchBody::decode(&framed(&unhex("82 81 6174 9affffffff")), 1).is_err());
}

#[test]
fn nesting_beyond_the_limit_is_refused_flat() {
    let body = format!("82 81 6174 81 85 00 00 6172 00 {} 00", "81".repeat(200_000));
    let result = BatchBody::decode(&framed(&unhex(&body)), 1);
    assert_eq!(
        result,
        Err(OpenError::Malformed {
            reason: "nested too deeply"
        })
    );
}

/// Plaintexts whose body is right and whose frame or padding is not, and the rule that each breaks. They are part of
/// `vectors/batch.json`.
pub(crate) fn refused_plaintexts() -> Vec<(Vec<u8>, &'static str)> {
    let good = framed(&unhex("82 81 6174 81 84 00 00 6172 00"));
    let row = |len: usize| {
        let text = [&[0x78, u8::try_from(len).unwrap()], "x".repeat(len).as_bytes()].concat();
        [&unhex("82 81 6174 81 84 00 00"), text.as_slice(), &[0]].concat()
    };
    // Long enough that there is padding to look at.
    let padded = (60..100)
        .map(|len| framed(&row(len)))
        .find(|plaintext| plaintext.ends_with(&[0, 0, 0]))
        .unwrap();
    assert!(BatchBody::decode(&padded, 1).is_ok());
    let changed = |plaintext: &[u8], at: usize, byte: u8| {
        let mut changed = plaintext.to_vec();
        changed[at] = byte;
        changed
    };
    vec![
        (Vec::new(), "plaintext too short"),
        (vec![0; 4], "plaintext too short"),
        (changed(&good, 0, 1), "unknown method"),
        (changed(&good, 4, 200), "body longer than the plaintext"),
        ([good.as_slice(), &[0]].concat(), "padding of the wrong length"),
        (padded[..padded.len() - 1].to_vec(), "padding of the wrong length"),
        ([padded.as_slice(), &[0; 4]].concat(), "padding of the wrong length"),
        (changed(&padded, padded.len() - 1, 1), "padding that is not zero"),
        (changed(&padded, padded.len() - 3, 1), "padding that is not zero"),
    ]
}

#[test]
fn frame_and_padding_are_exact() {
    for (plaintext, reason) in refused_plaintexts() {
        let error = BatchBody::decode(&plaintext, 1);
        assert_eq!(error, Err(OpenError::Malformed { reason }));
    }
    let too_long = vec![0; 4 * 1024 * 1024 + 1];
    let reason = "plaintext over 4 MiB";
    assert_eq!(BatchBody::decode(&too_long, 1), Err(OpenError::Malformed { reason }));
}
