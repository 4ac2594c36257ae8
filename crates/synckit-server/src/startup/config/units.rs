//! Durations and sizes as people write them: `30s`, `15 min`, `64 MiB`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A duration with its unit: `500 ms`, `30 s`, `15 min`, `12 h`, `90 d`. A number without a unit is refused.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use synckit_server::config::Span;
///
/// let window: Span = "15 min".parse()?;
/// assert_eq!(window.0, Duration::from_secs(900));
/// assert!("900".parse::<Span>().is_err()); // of what?
/// # Ok::<(), synckit_server::config::UnitParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes with its unit: `512 B`, `64 KiB`, `64 MiB`, `2 GiB`, or decimal `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// A text that is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number and a unit, such as {example}; units: {units}")]
pub struct UnitParseError {
    example: &'static str,
    units: &'static str,
}

impl FromStr for Span {
    type Err = UnitParseError;

    fn from_str(text: &str) -> Result<Self, UnitParseError> {
        let error = UnitParseError {
            example: "\"30 s\"",
            units: "ms, s, min, h, d",
        };
        let (number, unit) = split_unit(text).ok_or_else(|| error.clone())?;
        let millis_per_unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "min" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return Err(error),
        };
        number
            .checked_mul(millis_per_unit)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or(error)
    }
}

impl FromStr for ByteSize {
    type Err = UnitParseError;

    fn from_str(text: &str) -> Result<Self, UnitParseError> {
        let error = UnitParseError {
            example: "\"64 MiB\"",
            units: "B, kB, KiB, MB, MiB, GB, GiB",
        };
        let (number, unit) = split_unit(text).ok_or_else(|| error.clone())?;
        let bytes_per_unit = match unit {
            "B" => 1,
            "kB" => 1000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            _ => return Err(error),
        };
        number.checked_mul(bytes_per_unit).map(Self).ok_or(error)
    }
}

/// The number and the unit of a text, with or without a space between them.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
