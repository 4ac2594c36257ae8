//! Objects: the sealed bytes of blobs, in a directory that the server itself serves through presigned URLs.
//!
//! The store knows which object a blob id points at. This module has only objects, each written once under a unique key
//! and never changed. It deliberately knows nothing of users, apps and blob ids.
//!
//! Invariant: an object exists whole, with exactly the signed length and durably, or it does not exist.

mod url;

pub(crate) use synckit_store::objects::{ByteRange, ObjectDirectory, ObjectError, ObjectWriter, RangeError};
pub(crate) use url::{ObjectUrl, UrlError, UrlMethod, UrlSigner};
