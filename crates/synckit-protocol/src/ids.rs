//! A newtype for every id, so that no id can be used in the place of another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A text that is not an id of the expected kind.
///
/// # Examples
/// ```
/// use synckit_protocol::DeviceId;
///
/// let error = "C1C1C1C1-c1c1-c1c1-c1c1-c1c1c1c1c1c1".parse::<DeviceId>().unwrap_err();
/// assert_eq!(error.to_string(), "not a valid DeviceId: expected a lower-case hyphenated UUID");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: expected {expected}")]
pub struct IdParseError {
    kind: &'static str,
    expected: &'static str,
}

/// An id of raw bytes: a text in formats for people, a byte string in others. `Display` and `FromStr` of each kind
/// define the text.
macro_rules! raw_id {
    ($(#[doc = $doc:literal])* $name:ident, $length:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Wraps the raw bytes of an id.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_id(deserializer, stringify!($name), str::parse, Self)
            }
        }
    };
}

/// Ids of 16 raw bytes whose text is a hyphenated lower-case UUID.
macro_rules! uuid_id {
    ($(#[doc = $doc:literal])* $name:ident) => {
        raw_id!($(#[doc = $doc])* $name, 16);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            /// Accepts exactly the output of `Display`, so that an id has one text.
            fn from_str(text: &str) -> Result<Self, IdParseError> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if uuid.as_hyphenated().to_string() == text => Ok(Self(uuid.into_bytes())),
                    _ => Err(IdParseError {
                        kind: stringify!($name),
                        expected: "a lower-case hyphenated UUID",
                    }),
                }
            }
        }
    };
}

/// Ids that are the output of a hash or a MAC, whose text is lower-case hexadecimal.
macro_rules! hex_id {
    ($(#[doc = $doc:literal])* $name:ident, $length:literal) => {
        raw_id!($(#[doc = $doc])* $name, $length);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let mut bytes = [0; $length];
                if decode_hex(text.as_bytes(), &mut bytes) {
                    Ok(Self(bytes))
                } else {
                    Err(IdParseError {
                        kind: stringify!($name),
                        expected: concat!(stringify!($length), " bytes in lower-case hexadecimal"),
                    })
                }
            }
        }
    };
}

uuid_id!(
    /// A tenant of the server: one product of an app developer.
    AppId
);
uuid_id!(
    /// People who administer apps together.
    TeamId
);
uuid_id!(
    /// An account: a person, who signs in to every app on a server.
    UserId
);
uuid_id!(
    /// A label for one installation of an app.
    DeviceId
);
uuid_id!(
    /// The installation of an app, by which the server finds its device again: random, made and kept by the client, in
    /// no answer.
    InstallationId
);
uuid_id!(
    /// A batch: a random id, made once per batch by the client, which makes a repeated push idempotent.
    BatchId
);
uuid_id!(
    /// A signed-in session of one account in one app.
    SessionId
);
uuid_id!(
    /// A snapshot: the folded state of a stream at a position.
    SnapshotId
);
uuid_id!(
    /// One attempt to upload a blob.
    UploadId
);
hex_id!(
    /// The public id of a master key: the first 16 bytes of its `synckit/1 key id` subkey.
    KeyId, 16
);
hex_id!(
    /// A blob on the wire: HMAC-SHA256(blob id key, SHA-256(file)), so that the server cannot test for a known file.
    BlobId, 32
);
hex_id!(
    /// The name of a stored object: unique for every upload, so that no upload overwrites another.
    ObjectKey, 32
);

/// Reads an id from its text, or from its raw bytes in formats that are not for people.
fn deserialize_id<'de, D, T, const N: usize>(
    deserializer: D,
    kind: &'static str,
    parse: fn(&str) -> Result<T, IdParseError>,
    wrap: fn([u8; N]) -> T,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct IdVisitor<T, const N: usize> {
        kind: &'static str,
        parse: fn(&str) -> Result<T, IdParseError>,
        wrap: fn([u8; N]) -> T,
    }

    impl<T, const N: usize> de::Visitor<'_> for IdVisitor<T, N> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a {} ({N} bytes, or its text)", self.kind)
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            let array = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
            Ok((self.wrap)(array))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.parse)(text).map_err(E::custom)
        }
    }

    let visitor = IdVisitor { kind, parse, wrap };
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(visitor)
    } else {
        deserializer.deserialize_bytes(visitor)
    }
}

/// Decodes lower-case hexadecimal of exactly the length of `out`; `false` for any other text.
pub(crate) fn decode_hex(text: &[u8], out: &mut [u8]) -> bool {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    if text.len() != out.len() * 2 {
        return false;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return false,
        }
    }
    true
}
