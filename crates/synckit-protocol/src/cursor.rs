//! The cursor: a place that an app stores and pulls from, in the log or inside a snapshot.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Head, Position, SnapshotId};

/// A place in a stream that an app can pull from: a small value to store beside the app's data.
///
/// Its text is `0` for the start; `seq.head` in the log, with `seq` in canonical decimal and `head` in unpadded
/// base64url; and `s<part>.<row>.<snapshot id>.<seq>.<head>` inside a snapshot. Because it contains the head, the next
/// pull detects a server whose history went back or differs.
///
/// # Examples
/// ```
/// use synckit_protocol::Cursor;
///
/// let text = "6.RjV6e6CD_1xulA3xGydOVvD3ZLliZca8Di9E6ztI3Rs"; // beside the app's data
/// let cursor: Cursor = text.parse()?;
/// assert_eq!(cursor.seq(), 6);
/// assert_eq!(cursor.to_string(), text);
/// assert_eq!(Cursor::default(), Cursor::START);
/// # Ok::<(), synckit_protocol::CursorParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor(Place);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Place {
    #[default]
    Start,
    Log(Position),
    Snapshot(SnapshotPlace),
}

/// A place inside a snapshot: before a row of a part. Only clients write and read it; no request to the server contains
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotPlace {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The position of the snapshot: the log continues there after the snapshot's last row.
    pub position: Position,
    /// The part, from 0.
    pub part: u32,
    /// The row within the part, from 0.
    pub row: u32,
}

impl Cursor {
    /// The start of a stream, before its first entry.
    pub const START: Self = Self(Place::Start);

    /// The cursor of a position in the log. Sequence 0 is the start, whose head every client computes itself.
    pub const fn at(position: Position) -> Self {
        if position.seq == 0 {
            Self::START
        } else {
            Self(Place::Log(position))
        }
    }

    /// The cursor of a place inside a snapshot. A snapshot of the start does not exist: sequence 0 gives the start
    /// itself.
    pub const fn in_snapshot(place: SnapshotPlace) -> Self {
        if place.position.seq == 0 {
            Self::START
        } else {
            Self(Place::Snapshot(place))
        }
    }

    /// The position in the log, or `None` at the start and inside a snapshot.
    pub const fn position(&self) -> Option<Position> {
        match self.0 {
            Place::Log(position) => Some(position),
            Place::Start | Place::Snapshot(_) => None,
        }
    }

    /// The place inside a snapshot, if the cursor is one.
    pub const fn snapshot(&self) -> Option<SnapshotPlace> {
        match self.0 {
            Place::Snapshot(place) => Some(place),
            Place::Start | Place::Log(_) => None,
        }
    }

    /// The number of entries before this place in the log: 0 at the start, and inside a snapshot, which is incomplete
    /// before its last row.
    pub const fn seq(&self) -> u64 {
        match self.0 {
            Place::Log(position) => position.seq,
            Place::Start | Place::Snapshot(_) => 0,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Start => f.write_str("0"),
            Place::Log(Position { seq, head }) => write!(f, "{seq}.{head}"),
            Place::Snapshot(place) => {
                let id = URL_SAFE_NO_PAD.encode(place.snapshot_id.as_bytes());
                let Position { seq, head } = place.position;
                write!(f, "s{}.{}.{id}.{seq}.{head}", place.part, place.row)
            }
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
        match text.strip_prefix('s') {
            None => parse_position(text).map(|position| Self(Place::Log(position))),
            Some(text) => {
                let mut fields = text.splitn(4, '.');
                let mut next = || fields.next().ok_or(CursorParseError);
                Ok(Self(Place::Snapshot(SnapshotPlace {
                    part: parse_number(next()?)?,
                    row: parse_number(next()?)?,
                    snapshot_id: SnapshotId::from_bytes(parse_bytes(next()?)?),
                    position: parse_position(next()?)?,
                })))
            }
        }
    }
}

fn parse_position(text: &str) -> Result<Position, CursorParseError> {
    let (seq_text, head_text) = text.split_once('.').ok_or(CursorParseError)?;
    let seq: u64 = parse_number(seq_text)?;
    // Zero is always written as "0".
    if seq == 0 {
        return Err(CursorParseError);
    }
    Ok(Position {
        seq,
        head: Head::from_bytes(parse_bytes(head_text)?),
    })
}

/// One text per number: no leading zeros, no plus sign.
fn parse_number<N: FromStr + fmt::Display>(text: &str) -> Result<N, CursorParseError> {
    let number: N = text.parse().map_err(|_| CursorParseError)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(CursorParseError)
    }
}

fn parse_bytes<const N: usize>(text: &str) -> Result<[u8; N], CursorParseError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorParseError)?;
    bytes.try_into().map_err(|_| CursorParseError)
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
