//! Objects: the sealed bytes of blobs, in the data directory or in a bucket, moved by presigned URLs.
//!
//! The store of records knows which object a blob id points at. This module has only objects, each written once under a
//! unique key and never changed. It deliberately knows nothing of apps and blob ids.
//!
//! Invariant: an object exists whole, durably, and with exactly the signed length and hash, or it does not exist.

mod objects;
mod url;

pub(crate) use objects::{ObjectFailure, Objects};
pub(crate) use synckit_store::objects::{ByteRange, ObjectDirectory, ObjectError, ObjectWriter, RangeError};
pub(crate) use url::{ObjectUrl, UrlAction, UrlError, UrlSigner};
