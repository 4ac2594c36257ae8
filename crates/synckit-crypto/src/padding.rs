//! Padmé, which hides the low bits of a length (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
//! Communication with PURBs", PETS 2019).

/// The length that `len` is padded to.
///
/// With `e = floor(log2 len)` and `s = floor(log2 e) + 1`, the last `e - s` bits become zero, rounding up. The result
/// reveals only the magnitude and `s` bits of a length, for at most 12 % of growth. It is never below `len`, grows with
/// it, and padding it again changes nothing. Saturates at `usize::MAX`.
///
/// # Examples
/// ```
/// use synckit_crypto::padded_len;
///
/// assert_eq!(padded_len(1000), 1024);
/// assert_eq!(padded_len(1001), padded_len(1024)); // an observer cannot tell them apart
/// assert!(padded_len(1_000_000) < 1_120_000);
/// ```
pub const fn padded_len(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let e = len.ilog2();
    // Never above `e`, because `e` is at least 1 here.
    let s = e.ilog2() + 1;
    let mask = (1_usize << (e - s)) - 1;
    match len.checked_add(mask) {
        Some(sum) => sum & !mask,
        None => usize::MAX,
    }
}
