//! The plain data of the SyncKit protocol, shared by client and server.
//!
//! Ids, request and response types, limits, stable problem codes, the cursor and the log chain. The normative text is
//! `docs/protocol.md`; `xtask tidy` fails when this crate changes without it.
//!
//! This crate deliberately does no I/O, is not async, and holds no secret keys. Every function is pure, so the same
//! code runs in the client, in the server, in the test vectors and in WebAssembly.

mod api_key;
mod bytes;
mod cbor;
mod chain;
mod cursor;
mod events;
mod ids;
pub mod limits;
mod name;
mod owner;
mod parts;
mod problem;
#[cfg(feature = "schema")]
mod schema;
mod vault;
pub mod wire;

pub use api_key::{ApiKey, ApiKeyError, KeyKind};
pub use bytes::{ByteString, SecretText};
pub use cbor::is_well_formed_cbor;
pub use chain::{BatchDigest, Head, Position, SealedHash};
pub use cursor::{Cursor, CursorParseError, SnapshotPlace};
pub use events::{Event, EventError, EventReader, Heard};
pub use ids::{
    AppId, BatchId, BlobId, DeviceId, IdParseError, InstallationId, KeyId, ObjectKey, SessionId, SnapshotId, TeamId,
    UploadId, UserId,
};
pub use name::{NameError, check_name};
pub use owner::{EnvelopeClaim, OwnerKey, OwnerSignature, SnapshotClaim};
pub use parts::{Parts, SealedHasher};
pub use problem::{Behind, Problem, ProblemCode, UnknownProblemCode};
pub use vault::VaultEdition;

/// The version of the protocol, the one of `docs/protocol.md`. `/healthz` reports it.
pub const PROTOCOL_VERSION: u8 = 1;

/// The OPAQUE cipher suite of a login or a registration. Its parameters are compiled in; no parameter is negotiated.
///
/// Suite 1 is ristretto255, TripleDH with SHA-512, and Argon2id v1.3 with 64 MiB, t = 3, p = 1 (RFC 9807, RFC 9106).
pub const LOGIN_SUITE: u16 = 1;

/// The media type of CBOR bodies (RFC 8949), which the SDK uses.
pub const MEDIA_TYPE_CBOR: &str = "application/cbor";
/// The media type of an event stream.
pub const MEDIA_TYPE_EVENTS: &str = "text/event-stream";
/// The media type of JSON bodies.
pub const MEDIA_TYPE_JSON: &str = "application/json";
/// The media type of an export: one JSON object a line ([`wire::export`]).
pub const MEDIA_TYPE_JSON_LINES: &str = "application/x-ndjson";
/// The media type of every error (RFC 9457). Always JSON, whatever the request asked for.
pub const MEDIA_TYPE_PROBLEM: &str = "application/problem+json";
