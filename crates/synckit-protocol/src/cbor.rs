//! Well-formed CBOR (RFC 8949, section 5.3.1 and appendix C).
//!
//! Decoders skip the values of unknown fields, take a break in the place of a value there, and stop after the first
//! value. So server and client check a body as a whole before they decode it. Texts are not read here: the decoder refuses
//! those that are not UTF-8.
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

/// Whether bytes are one well-formed CBOR item and nothing else (section 8.1).
///
/// # Examples
/// ```
/// use synckit_protocol::is_well_formed_cbor;
///
/// assert!(is_well_formed_cbor(b"\x82\x01\x02")); // [1, 2]
/// assert!(!is_well_formed_cbor(b"\x82\x01\xff")); // a break in the place of the second item
/// ```
pub fn is_well_formed_cbor(bytes: &[u8]) -> bool {
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
