//! Byte strings and secret texts in their wire form.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroize;

/// Opaque bytes: a byte string in CBOR, unpadded base64url (RFC 4648, section 5) in JSON.
///
/// # Examples
/// ```
/// use synckit_protocol::ByteString;
///
/// let sealed = ByteString(vec![0xfb, 0xff]);
/// assert_eq!(serde_json::to_string(&sealed)?, r#""-_8""#); // base64url, without padding
/// assert_eq!(minicbor_serde::to_vec(&sealed)?, [0x42, 0xfb, 0xff]); // a byte string of 2
/// assert_eq!(serde_json::from_str::<ByteString>(r#""-_8""#)?, sealed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ByteString(pub Vec<u8>);

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteString({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for ByteString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for ByteString {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_bytes(deserializer, |bytes| Ok(Self(bytes.to_vec())))
    }
}

/// A secret that travels as text: a password, a refresh secret, a token. Erased when dropped, redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself. The name makes every place that reads it easy to find.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// A type for a fixed number of public bytes: base64url in JSON, a byte string in CBOR.
macro_rules! fixed_bytes {
    ($(#[doc = $doc:literal])* $name:ident, $len:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            #[doc = concat!("Wraps the ", $len, " raw bytes.")]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            #[doc = concat!("The ", $len, " raw bytes.")]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::bytes::base64url(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::bytes::serialize_bytes(&self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::bytes::deserialize_bytes(deserializer, |bytes| {
                    let array = bytes
                        .try_into()
                        .map_err(|_| format!(concat!("expected ", $len, " bytes, found {}"), bytes.len()))?;
                    Ok(Self(array))
                })
            }
        }
    };
}
pub(crate) use fixed_bytes;

/// Unpadded base64url (RFC 4648, section 5).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes bytes as base64url in formats for people, as a byte string in others.
pub(crate) fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&base64url(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

/// Reads the output of [`serialize_bytes`] and passes it to `build`, whose error is a text for the sender.
pub(crate) fn deserialize_bytes<'de, D, T, F>(deserializer: D, build: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: FnOnce(&[u8]) -> Result<T, String>,
{
    struct BytesVisitor<F>(F);

    impl<'de, T, F: FnOnce(&[u8]) -> Result<T, String>> de::Visitor<'de> for BytesVisitor<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string, or unpadded base64url text")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            (self.0)(bytes).map_err(E::custom)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(E::custom)?;
            (self.0)(&bytes).map_err(E::custom)
        }
    }

    if deserializer.is_human_readable() {
        deserializer.deserialize_str(BytesVisitor(build))
    } else {
        deserializer.deserialize_bytes(BytesVisitor(build))
    }
}
