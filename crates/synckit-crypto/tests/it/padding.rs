//! Padmé.

use synckit_crypto::padded_len;

#[test]
fn known_lengths_pad_as_the_paper_has_it() {
    // 9 is the example of the paper: e = 3, s = 2, so one bit is cleared.
    for (len, padded) in [
        (0, 0),
        (1, 1),
        (2, 2),
        (8, 8),
        (9, 10),
        (100, 104),
        (1000, 1024),
        (1025, 1088),
    ] {
        assert_eq!(padded_len(len), padded, "{len}");
    }
    assert_eq!(padded_len(4 * 1024 * 1024), 4 * 1024 * 1024);
    assert_eq!(padded_len(usize::MAX), usize::MAX);
}

#[test]
fn padding_is_monotone_idempotent_and_small() {
    let mut previous = 0;
    for len in (0..70_000).chain((1 << 22) - 1000..(1 << 22) + 1000) {
        let padded = padded_len(len);
        assert!(padded >= len && padded >= previous, "{len}");
        assert_eq!(padded_len(padded), padded, "{len}");
        assert!((padded - len) * 100 <= len * 12, "{len} to {padded}");
        previous = if len == 69_999 { 0 } else { padded };
    }
}
