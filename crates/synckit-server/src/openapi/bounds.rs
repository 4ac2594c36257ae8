//! The limits of fields, as the schemas say them. serde knows the type of a field, and not how long it may be.

use serde_json::{Value, json};
use synckit_protocol::{LOGIN_SUITE, limits};

/// The keywords that a field of a schema gets beside its type: schema, field, keywords.
pub(super) fn bounds() -> Vec<(&'static str, &'static str, Value)> {
    let email = || json!({ "format": "email", "minLength": 3, "maxLength": limits::EMAIL_BYTES_MAX });
    let suite = || json!({ "enum": [LOGIN_SUITE] });
    let vault = || bytes(1, limits::VAULT_BYTES_MAX);
    // The sizes of OPAQUE's messages in suite 1: docs/protocol.md, section 3.1.
    let registration_request = || bytes(32, 32);
    let record = || bytes(192, 192);
    let (ke1, ke3) = (|| bytes(96, 96), || bytes(64, 64));
    let name = || json!({ "minLength": 1, "maxLength": limits::DEVICE_NAME_BYTES_MAX });
    let blob_size = || json!({ "minimum": limits::SEAL_OVERHEAD_BYTES, "maximum": limits::BLOB_SEALED_BYTES_MAX });
    let sealed = |max| bytes(limits::SEAL_OVERHEAD_BYTES + 1, max);
    let items = |max: u32| json!({ "maxItems": max });
    let url = || json!({ "format": "uri" });
    let version = || json!({ "minimum": 1 });
    vec![
        ("RegisterStart", "email", email()),
        ("RegisterStart", "suite", suite()),
        ("RegisterStart", "request", registration_request()),
        ("RegisterFinish", "record", record()),
        ("RegisterFinish", "vault", vault()),
        ("ResetRequest", "email", email()),
        ("ResetStart", "suite", suite()),
        ("ResetStart", "request", registration_request()),
        ("VaultAnswer", "vault", vault()),
        ("VaultAnswer", "version", version()),
        ("VaultAnswer", "earlier", items(10)),
        ("PutVault", "vault", vault()),
        ("PasswordChangeStart", "suite", suite()),
        ("PasswordChangeStart", "request", registration_request()),
        ("PasswordChangeFinish", "record", record()),
        ("PasswordChangeFinish", "vault", vault()),
        ("LoginStart", "email", email()),
        ("LoginStart", "suite", suite()),
        ("LoginStart", "ke1", ke1()),
        ("UnlockStart", "suite", suite()),
        ("UnlockStart", "ke1", ke1()),
        ("LoginStarted", "ke2", bytes(320, 320)),
        ("LoginFinish", "ke3", ke3()),
        ("UnlockFinish", "ke3", ke3()),
        ("PasswordLogin", "email", email()),
        ("RegisterDevice", "device_name", name()),
        ("RenameDevice", "device_name", name()),
        ("Device", "device_name", name()),
        ("DeviceList", "devices", items(limits::DEVICES_MAX)),
        ("PutEnvelope", "envelope", bytes(1, limits::ENVELOPE_BYTES_MAX)),
        ("EnvelopeAnswer", "envelope", bytes(1, limits::ENVELOPE_BYTES_MAX)),
        ("EnvelopeAnswer", "version", version()),
        (
            "Push",
            "count",
            json!({ "minimum": 1, "maximum": limits::BATCH_ENTRIES_MAX }),
        ),
        ("Push", "sealed", sealed(limits::BATCH_SEALED_BYTES_MAX)),
        ("Pushed", "first_seq", json!({ "minimum": 1 })),
        ("Page", "batches", items(limits::PAGE_ENTRIES_MAX)),
        ("PulledBatch", "sealed", sealed(limits::BATCH_SEALED_BYTES_MAX)),
        ("Chain", "digests", items(limits::CHAIN_PAGE_DIGESTS_MAX)),
        ("Behind", "digests", items(limits::CHAIN_PAGE_DIGESTS_MAX)),
        ("PutSnapshot", "parts", json!({ "maximum": limits::SNAPSHOT_PARTS_MAX })),
        (
            "PutSnapshot",
            "manifest",
            sealed(limits::SNAPSHOT_MANIFEST_SEALED_BYTES_MAX),
        ),
        (
            "PutSnapshotPart",
            "sealed",
            sealed(limits::SNAPSHOT_PART_SEALED_BYTES_MAX),
        ),
        ("BlobUpload", "size", blob_size()),
        ("BlobUploadAnswer", "upload_url", url()),
        (
            "UploadPart",
            "number",
            json!({ "minimum": 1, "maximum": limits::UPLOAD_PARTS_MAX }),
        ),
        ("UploadPartAnswer", "upload_url", url()),
        ("UploadStatus", "parts", items(limits::UPLOAD_PARTS_MAX)),
        ("BlobConfirm", "size", blob_size()),
        ("BlobDownloadAnswer", "download_url", url()),
        ("BlobDownloadAnswer", "size", blob_size()),
        ("BlobInfo", "size", blob_size()),
        ("BlobList", "blobs", items(limits::BLOB_PAGE_MAX)),
        ("Problem", "status", json!({ "minimum": 400, "maximum": 599 })),
    ]
}

/// Bytes as unpadded base64url, which has four characters for three bytes.
fn bytes(min: usize, max: usize) -> Value {
    let characters = |bytes: usize| (bytes * 4).div_ceil(3);
    json!({ "minLength": characters(min), "maxLength": characters(max) })
}
