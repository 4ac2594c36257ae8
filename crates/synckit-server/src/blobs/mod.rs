//! Objects: the sealed bytes of blobs, in a directory that the server itself serves through presigned URLs.
//!
//! What a blob id points at, the store knows; here are only objects, each written once under a fresh key and never
//! changed. What is deliberately absent: any knowledge of users, apps and blob ids.
//!
//! Invariant: an object is there whole, with exactly the signed length and durably, or it is not there at all.

mod url;

pub(crate) use synckit_store::objects::{ByteRange, ObjectDirectory, ObjectError, ObjectWriter, RangeError};
pub(crate) use url::{ObjectUrl, UrlError, UrlMethod, UrlSigner};
