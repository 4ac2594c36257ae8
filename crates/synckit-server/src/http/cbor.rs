//! Well-formed CBOR (RFC 8949, section 5.3.1 and appendix C).
//!
//! The decoder skips the values of unknown fields, and takes a break in the place of a value there. Bodies are therefore
//! checked as a whole before they are decoded. Texts are not read here: the decoder refuses those that are not UTF-8.
//!
//! Invariant: without recursion. The memory is bounded by the length of the body.

/// The initial byte that ends an array, a map or a string of indefinite length.
const BREAK: u8 = 0xff;

/// An array or a map whose items are being read.
enum Open {
    /// Items that are missing: 1 or more.
    Items(u32),
    Array,
    Map {
        is_value_next: bool,
    },
}

/// Whether bytes are one data item and nothing else.
pub(crate) fn is_well_formed(bytes: &[u8]) -> bool {
    let mut rest = Rest(bytes);
    rest.item().is_some() && rest.0.is_empty()
}

/// The bytes that were not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Reads one item; `None` if it is not well-formed.
    fn item(&mut self) -> Option<()> {
        let mut open = Vec::new();
        let mut is_tagged = false;
        loop {
            let initial = self.byte()?;
            let (major, is_indefinite) = (initial >> 5, initial & 0x1f == 0x1f);
            if initial == BREAK {
                match open.pop()? {
                    Open::Array | Open::Map { is_value_next: false } if !is_tagged => {}
                    _ => return None,
                }
            } else if is_indefinite {
                match major {
                    2 | 3 => self.pieces(major)?,
                    4 => open.push(Open::Array),
                    5 => open.push(Open::Map { is_value_next: false }),
                    _ => return None,
                }
                if matches!(major, 4 | 5) {
                    is_tagged = false;
                    continue;
                }
            } else {
                let argument = self.argument(initial)?;
                match major {
                    2 | 3 => self.skip(argument)?,
                    4 | 5 => {
                        let items = argument.checked_mul(u64::from(major) - 3)?;
                        // Each has a byte at least.
                        if items > self.0.len() as u64 {
                            return None;
                        }
                        if items > 0 {
                            open.push(Open::Items(items.try_into().ok()?));
                            is_tagged = false;
                            continue;
                        }
                    }
                    6 => {
                        is_tagged = true;
                        continue;
                    }
                    // A simple value has one form.
                    7 if initial & 0x1f == 24 && argument < 32 => return None,
                    _ => {}
                }
            }
            is_tagged = false;
            if Self::is_last(&mut open) {
                return Some(());
            }
        }
    }

    /// Counts an item that is complete. Whether all that was begun is complete, too.
    fn is_last(open: &mut Vec<Open>) -> bool {
        loop {
            match open.last_mut() {
                None => return true,
                Some(Open::Items(1)) => {
                    open.pop();
                }
                Some(Open::Items(missing)) => {
                    *missing -= 1;
                    return false;
                }
                Some(Open::Array) => return false,
                Some(Open::Map { is_value_next }) => {
                    *is_value_next = !*is_value_next;
                    return false;
                }
            }
        }
    }

    /// The pieces of a string of indefinite length, each of definite length.
    fn pieces(&mut self, major: u8) -> Option<()> {
        loop {
            let initial = self.byte()?;
            if initial == BREAK {
                return Some(());
            }
            if initial >> 5 != major {
                return None;
            }
            let length = self.argument(initial)?;
            self.skip(length)?;
        }
    }

    /// The argument of an initial byte; `None` for those that are reserved or have none.
    fn argument(&mut self, initial: u8) -> Option<u64> {
        let length = match initial & 0x1f {
            small @ 0..=23 => return Some(small.into()),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return None,
        };
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, length: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(length).ok()?..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        let pairs = hex.as_bytes().chunks(2);
        pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    #[test]
    fn well_formed_items_are_taken() {
        let items = "00 17 1800 190000 1a00000000 1bffffffffffffffff 20 3bffffffffffffffff 40 4101 5800 5f4101420203ff \
             5fff 60 6161 7f6161ff 7fff 80 820102 9800 9fff 9f01ff 9f9fffff a0 a16161f6 b90001616101 bfff \
             bf616101ff c000 c1c100 d9d9f7a0 c180 c19fff e0 f4 f6 f7 f820 f8ff f97e00 fa7fc00000 \
             fb7ff0000000000000 829fff9fff bf61619f01ffff";
        for item in items.split(' ') {
            assert!(is_well_formed(&bytes(item)), "{item}");
        }
        for (open, close) in [(0x81, None), (0x9f, Some(0xff)), (0xc1, None)] {
            let mut deep = vec![open; 100_000];
            deep.push(0);
            deep.extend(close.into_iter().flat_map(|byte| [byte; 100_000]));
            assert!(is_well_formed(&deep), "{open:x}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let items = "ff 18 19 1900 1c 1d 1e 1f 3c 3f 41 5801 5c 5f 5f4101 5f01ff 5f6161ff 5f5f4101ffff \
             5b7fffffffffffffff 61 7f4101ff 81 81ff 8201ff 8201 9f 9f01 9bffffffffffffffff 9a7fffffff a1 a1ff \
             a16161 a16161ff a2616101ff bb8000000000000000 bf bf6161ff bf616101 bbffffffffffffffff c0 c0ff \
             9fc0ff dc00 df00 f8 f800 f81f f9 f97e fc fd fe 0000 80ff 9fffff 8000";
        for item in items.split(' ').chain([""]) {
            assert!(!is_well_formed(&bytes(item)), "{item}");
        }
    }

    proptest! {
        /// The decoder takes what this takes, apart from texts that are not UTF-8.
        #[test]
        fn decoder_skips_what_is_well_formed(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let mut decoder = minicbor::Decoder::new(&bytes);
            let skipped = decoder.skip().is_ok() && decoder.position() == bytes.len();
            if is_well_formed(&bytes) && !bytes.iter().any(|byte| *byte >= 0x60 && *byte < 0x80) {
                prop_assert!(skipped);
            }
        }
    }
}
