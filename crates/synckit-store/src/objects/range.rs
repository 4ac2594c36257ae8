//! `Range` headers (RFC 9110, section 14): one range of bytes.

/// A range within an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The number of bytes, at least one.
    pub length: u64,
}

/// The range lies outside the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeError;

impl ByteRange {
    /// Reads a header for an object of `size` bytes. `None` means the whole object: a header that is not understood, or
    /// that asks for several ranges, is ignored, as the RFC allows.
    pub fn parse(header: &str, size: u64) -> Result<Option<Self>, RangeError> {
        let Some(spec) = header.trim().strip_prefix("bytes=") else {
            return Ok(None);
        };
        let Some((first, last)) = spec.trim().split_once('-') else {
            return Ok(None);
        };
        match (number(first), number(last)) {
            (Number::Some(start), Number::None) => Self::between(start, size.saturating_sub(1), size),
            (Number::Some(start), Number::Some(end)) if start <= end => Self::between(start, end, size),
            (Number::None, Number::Some(length)) => {
                if length == 0 || size == 0 {
                    return Err(RangeError);
                }
                Self::between(size.saturating_sub(length), size - 1, size)
            }
            _ => Ok(None),
        }
    }

    fn between(start: u64, end: u64, size: u64) -> Result<Option<Self>, RangeError> {
        if start >= size {
            return Err(RangeError);
        }
        let end = end.min(size - 1);
        Ok(Some(Self {
            start,
            length: end - start + 1,
        }))
    }

    /// The value of `Content-Range`.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.start + self.length - 1)
    }
}

enum Number {
    Some(u64),
    None,
    Malformed,
}

fn number(text: &str) -> Number {
    match text {
        "" => Number::None,
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => Number::Malformed,
        // A number past u64 lies behind every object.
        _ => Number::Some(text.parse().unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> Result<Option<(u64, u64)>, RangeError> {
        ByteRange::parse(header, 100).map(|range| range.map(|range| (range.start, range.length)))
    }

    #[test]
    fn one_range_is_cut_to_the_object() {
        assert_eq!(parse("bytes=0-0"), Ok(Some((0, 1))));
        assert_eq!(parse("bytes=10-19"), Ok(Some((10, 10))));
        assert_eq!(parse("bytes=90-1000"), Ok(Some((90, 10))));
        assert_eq!(parse("bytes=90-"), Ok(Some((90, 10))));
        assert_eq!(parse("bytes=-10"), Ok(Some((90, 10))));
        assert_eq!(parse("bytes=-1000"), Ok(Some((0, 100))));
        assert_eq!(parse("bytes=5-99999999999999999999999"), Ok(Some((5, 95))));
    }

    #[test]
    fn a_range_outside_is_an_error() {
        assert_eq!(parse("bytes=100-"), Err(RangeError));
        assert_eq!(parse("bytes=-0"), Err(RangeError));
        assert_eq!(ByteRange::parse("bytes=0-", 0), Err(RangeError));
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-1",
            "bytes=a-b",
            "bytes=0-1,5-6",
            "items=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(parse(header), Ok(None), "{header}");
        }
    }
}
