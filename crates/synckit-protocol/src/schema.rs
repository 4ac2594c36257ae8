//! JSON Schemas of the types with a handwritten encoding: their JSON form, for the server's OpenAPI document.
//!
//! The derived ones follow from serde. This module changes no type; a test of the server compares the schemas with the
//! server's answers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{
    AppId, BatchId, BlobId, ByteString, Cursor, DeviceId, Head, InstallationId, KeyId, ObjectKey, OwnerKey,
    OwnerSignature, ProblemCode, SealedHash, SecretText, SessionId, SnapshotId, UploadId, UserId,
};

/// Describes types whose JSON is a text.
macro_rules! texts {
    ($($name:ident: $description:literal, $schema:tt;)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("type".into(), "string".into());
                schema.insert("description".into(), $description.into());
                schema
            }
        })*
    };
}

/// The text of 16 bytes as a UUID.
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// The text of 16 bytes in hexadecimal.
const HEX_16: &str = "^[0-9a-f]{32}$";
/// The text of 32 bytes in hexadecimal.
const HEX_32: &str = "^[0-9a-f]{64}$";
/// The text of 32 bytes in base64url: the last character carries four bits.
const BASE64_32: &str = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$";
/// The text of 64 bytes in base64url: the last character carries two bits.
const BASE64_64: &str = "^[A-Za-z0-9_-]{85}[AQgw]$";
/// Any bytes in base64url without padding. The last characters carry no bits beyond the last byte.
const BASE64: &str = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$";
/// A place in the log or inside a snapshot.
const CURSOR: &str = "^(0|[1-9][0-9]{0,19}\\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]|s(0|[1-9][0-9]{0,9})\\.(0|[1-9][0-9]{0,9})\\.[A-Za-z0-9_-]{21}[AQgw]\\.[1-9][0-9]{0,19}\\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])$";

texts! {
    AppId: "A tenant of the server: one product of an app developer.", { "format": "uuid", "pattern": UUID };
    UserId: "An account.", { "format": "uuid", "pattern": UUID };
    DeviceId: "A label for one installation of an app.", { "format": "uuid", "pattern": UUID };
    InstallationId: "The installation of an app, by which its device is found again: random, kept by the client.", { "format": "uuid", "pattern": UUID };
    BatchId: "A batch: a random id, made once per batch by the client.", { "format": "uuid", "pattern": UUID };
    SessionId: "A signed-in session of one account in one app.", { "format": "uuid", "pattern": UUID };
    SnapshotId: "A snapshot.", { "format": "uuid", "pattern": UUID };
    UploadId: "One attempt to upload a blob.", { "format": "uuid", "pattern": UUID };
    KeyId: "The public id of a master key, in lower-case hexadecimal.", { "pattern": HEX_16 };
    BlobId: "The id of a blob, in lower-case hexadecimal.", { "pattern": HEX_32 };
    ObjectKey: "The name of one stored object, in lower-case hexadecimal.", { "pattern": HEX_32 };
    Head: "The hash of a history, in unpadded base64url.", { "pattern": BASE64_32 };
    SealedHash: "SHA-256 of sealed bytes, in unpadded base64url.", { "pattern": BASE64_32 };
    OwnerKey: "The public half of a stream's owner key (Ed25519), in unpadded base64url.", { "pattern": BASE64_32 };
    OwnerSignature: "A signature by an owner key, in unpadded base64url.", { "pattern": BASE64_64 };
    ByteString: "Bytes, in unpadded base64url (RFC 4648, section 5).", { "contentEncoding": "base64url", "pattern": BASE64 };
    SecretText: "A secret: a token, a code, a password.", { "format": "password" };
    Cursor: "A place in a stream: `0`, or a text from an earlier answer.", { "pattern": CURSOR };
}

impl JsonSchema for ProblemCode {
    fn schema_name() -> Cow<'static, str> {
        "ProblemCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let codes: Vec<&str> = Self::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({
            "type": "string",
            "description": "The stable code of a problem. New codes may be added: for an unknown code, the status decides.",
            "enum": codes,
        })
    }
}
