//! The cursor: a position that an app stores and pulls from.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Head, Position};

/// A place in a stream that an app can pull from: a small value to store beside the app's data.
///
/// As text it is `0` for the start, else `seq.head` with `seq` in canonical decimal and `head` in unpadded base64url.
/// Because it carries the head, a server that went back or tells another history is noticed at the next pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor(Option<Position>);

impl Cursor {
    /// The start of a stream, before its first entry.
    pub const START: Self = Self(None);

    /// The cursor of a position in the log. Sequence 0 is the start, whose head every client computes itself.
    pub const fn at(position: Position) -> Self {
        if position.seq == 0 {
            Self::START
        } else {
            Self(Some(position))
        }
    }

    /// The position, or `None` at the start.
    pub const fn position(&self) -> Option<Position> {
        self.0
    }

    /// How many entries come before this place.
    pub const fn seq(&self) -> u64 {
        match self.0 {
            None => 0,
            Some(position) => position.seq,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("0"),
            Some(Position { seq, head }) => write!(f, "{seq}.{head}"),
        }
    }
}

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: expected \"0\" or a text that an earlier pull returned")]
pub struct CursorParseError;

impl FromStr for Cursor {
    type Err = CursorParseError;

    fn from_str(text: &str) -> Result<Self, CursorParseError> {
        if text == "0" {
            return Ok(Self::START);
        }
        let (seq_text, head_text) = text.split_once('.').ok_or(CursorParseError)?;
        let seq: u64 = seq_text.parse().map_err(|_| CursorParseError)?;
        // One text per cursor: no leading zeros, no plus sign, and zero is written "0".
        if seq == 0 || seq.to_string() != seq_text {
            return Err(CursorParseError);
        }
        let head = URL_SAFE_NO_PAD.decode(head_text).map_err(|_| CursorParseError)?;
        let head = head.try_into().map_err(|_| CursorParseError)?;
        Ok(Self(Some(Position {
            seq,
            head: Head::from_bytes(head),
        })))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CursorVisitor;

        impl de::Visitor<'_> for CursorVisitor {
            type Value = Cursor;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cursor text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cursor, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(CursorVisitor)
    }
}
