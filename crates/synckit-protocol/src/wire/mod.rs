//! Request and response bodies, a module for each resource.
//!
//! The same types serve JSON and CBOR: ids, hashes and byte strings are texts in JSON and byte strings in CBOR. Unknown
//! fields are ignored, so that either side can be older.

pub mod accounts;
pub mod auth;
pub mod blobs;
pub mod console;
pub mod devices;
pub mod export;
pub mod keys;
pub mod log;
pub mod oauth;
pub mod snapshots;

use serde::{Deserialize as _, Deserializer};

/// A time on the wire: seconds since 1970-01-01T00:00:00Z.
pub type UnixSeconds = u64;

/// Reads an optional flag. A missing field and `null` both mean `false`, as for other optional fields.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or_default())
}
