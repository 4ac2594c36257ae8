//! The rules of section 8.1 for bodies, the same in JSON and in CBOR, for every operation that takes a body.

use std::collections::BTreeSet;

use minicbor::{Decoder, Encoder, data::Type};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use synckit_protocol::{
    BatchId, BlobId, ByteString, Cursor, DeviceId, Head, InstallationId, KeyId, Position, SealedHash, SecretText,
    SnapshotId, UploadId,
    wire::{
        accounts::{
            PasswordChangeFinish, PasswordChangeStart, PutVault, RegisterFinish, RegisterStart, ResetRequest,
            ResetStart,
        },
        auth::{LoginFinish, LoginStart, PasswordLogin, Refresh, UnlockFinish, UnlockStart},
        blobs::{BlobConfirm, BlobDownload, BlobUpload, UploadPart},
        devices::{Platform, RegisterDevice, RenameDevice},
        keys::PutEnvelope,
        log::{Pull, Push},
        oauth::{BrowserSignIn, PageLoginFinish, PageLoginStart},
        snapshots::{PutSnapshot, PutSnapshotPart},
    },
};

use crate::{
    contract::{document, operations},
    support::{Answer, UNNAMED, UNSIGNED, User, World},
};

/// A suite that no server speaks.
const NO_SUITE: u16 = 9;

/// A request with every field, well-formed and refused for its values: so it has the same answer each time.
struct Sample {
    method: Method,
    /// As in the document.
    path: &'static str,
    json: Value,
    cbor: Tree,
}

fn sample<T: Serialize>(method: Method, path: &'static str, body: &T) -> Sample {
    let cbor = minicbor_serde::to_vec(body).unwrap();
    Sample {
        method,
        path,
        json: serde_json::to_value(body).unwrap(),
        cbor: Tree::read(&mut Decoder::new(&cbor)),
    }
}

fn bytes() -> ByteString {
    ByteString(vec![7; 9])
}

fn text() -> SecretText {
    SecretText::new("nothing")
}

fn accounts() -> Vec<Sample> {
    let email = "nobody".to_owned();
    let finish = RegisterFinish {
        registration: bytes(),
        record: bytes(),
        vault: bytes(),
    };
    let register = RegisterStart {
        email: email.clone(),
        suite: NO_SUITE,
        request: bytes(),
        invite: Some(text()),
    };
    let reset = ResetStart {
        code: text(),
        suite: NO_SUITE,
        request: bytes(),
    };
    let vault = PutVault {
        vault: bytes(),
        expected_version: 1,
        keep_replaced: true,
    };
    let change = PasswordChangeStart {
        suite: NO_SUITE,
        request: bytes(),
    };
    let changed = PasswordChangeFinish {
        registration: bytes(),
        record: bytes(),
        vault: bytes(),
        expected_version: 1,
    };
    vec![
        sample(Method::POST, "/api/accounts/start", &register),
        sample(Method::POST, "/api/accounts", &finish),
        sample(Method::POST, "/api/accounts/reset/request", &ResetRequest { email }),
        sample(Method::POST, "/api/accounts/reset/start", &reset),
        sample(Method::POST, "/api/accounts/reset", &finish),
        sample(Method::PUT, "/api/account/vault", &vault),
        sample(Method::POST, "/api/account/password/start", &change),
        sample(Method::POST, "/api/account/password", &changed),
    ]
}

fn sessions() -> Vec<Sample> {
    let (api_key, email) = ("nothing".to_owned(), "nobody".to_owned());
    let start = LoginStart {
        api_key: api_key.clone(),
        email: email.clone(),
        suite: NO_SUITE,
        ke1: bytes(),
        code: Some(text()),
    };
    let finish = LoginFinish {
        api_key: api_key.clone(),
        login: bytes(),
        ke3: bytes(),
    };
    let password = PasswordLogin {
        api_key,
        email,
        password: text(),
    };
    let unlock = UnlockStart {
        suite: NO_SUITE,
        ke1: bytes(),
    };
    let unlocked = UnlockFinish {
        login: bytes(),
        ke3: bytes(),
    };
    let refresh = Refresh { refresh: text() };
    vec![
        sample(Method::POST, "/api/sync/auth/start", &start),
        sample(Method::POST, "/api/sync/auth", &finish),
        sample(Method::POST, "/api/sync/auth", &password),
        sample(Method::POST, "/api/sync/auth/unlock/start", &unlock),
        sample(Method::POST, "/api/sync/auth/unlock", &unlocked),
        sample(Method::POST, "/api/sync/auth/refresh", &refresh),
    ]
}

fn stream() -> Vec<Sample> {
    let position = Position {
        seq: 5,
        head: Head::from_bytes([6; 32]),
    };
    let (device_id, key_id) = (DeviceId::from_bytes([1; 16]), KeyId::from_bytes([3; 16]));
    let register = RegisterDevice {
        device_name: " ".to_owned(),
        platform: Platform::Linux,
        installation_id: Some(InstallationId::from_bytes([4; 16])),
    };
    let rename = RenameDevice {
        device_name: " ".to_owned(),
    };
    let envelope = PutEnvelope {
        envelope: ByteString(Vec::new()),
        key_id,
        expected_version: 1,
        head: Some(position),
        snapshot: Some(SnapshotId::from_bytes([2; 16])),
        owner: UNNAMED,
        signature: UNSIGNED,
    };
    let push = Push {
        device_id,
        batch_id: BatchId::from_bytes([2; 16]),
        key_id,
        count: 1,
        parent: position,
        sealed: bytes(),
    };
    let pull = Pull {
        device_id,
        cursor: Cursor::START,
        max_bytes: Some(1),
        ahead: true,
        avoid_snapshot: true,
    };
    let part = PutSnapshotPart { sealed: bytes() };
    let manifest = PutSnapshot {
        key_id,
        position,
        parts: 0,
        manifest: bytes(),
        signature: UNSIGNED,
    };
    let hash = BlobId::from_bytes([8; 32]);
    let upload = BlobUpload {
        hash,
        size: 1,
        sealed_hash: Some(SealedHash::of(&[1; 100])),
        key_id,
        hash_at_confirm: false,
        replace: true,
    };
    let part_of_upload = UploadPart {
        number: 1,
        sealed_hash: SealedHash::of(b""),
    };
    let confirm = BlobConfirm {
        hash,
        size: 1,
        upload_id: Some(UploadId::from_bytes([5; 16])),
        sealed_hash: None,
    };
    let browser_sign_in = BrowserSignIn {
        request: vec![1].into(),
        login: vec![2].into(),
        ke3: vec![3; 64].into(),
    };
    let page_login_start = PageLoginStart {
        email: "ada@example.com".to_owned(),
        suite: NO_SUITE,
        ke1: vec![1].into(),
    };
    let page_login_finish = PageLoginFinish {
        login: vec![2].into(),
        ke3: vec![3; 64].into(),
    };
    vec![
        sample(Method::POST, "/api/sync/devices", &register),
        sample(Method::PATCH, "/api/sync/devices/{id}", &rename),
        sample(Method::PUT, "/api/sync/keys", &envelope),
        sample(Method::POST, "/api/sync/push", &push),
        sample(Method::POST, "/api/sync/pull", &pull),
        sample(Method::PUT, "/api/sync/snapshots/{id}/parts/{part}", &part),
        sample(Method::PUT, "/api/sync/snapshots/{id}", &manifest),
        sample(Method::POST, "/api/sync/blobs/upload", &upload),
        sample(
            Method::POST,
            "/api/sync/blobs/uploads/{upload_id}/parts",
            &part_of_upload,
        ),
        sample(Method::POST, "/api/sync/blobs/confirm", &confirm),
        sample(Method::POST, "/api/sync/blobs/download", &BlobDownload { hash }),
        sample(Method::POST, "/oauth/sign-in", &browser_sign_in),
        sample(Method::POST, "/account/sign-in/start", &page_login_start),
        sample(Method::POST, "/account/sign-in", &page_login_finish),
    ]
}

fn samples() -> Vec<Sample> {
    [accounts(), sessions(), stream()].into_iter().flatten().collect()
}

/// A CBOR value: maps with the order of their fields, and the encoding of everything else.
#[derive(Clone)]
enum Tree {
    Map(Vec<(String, Self)>),
    Encoded(Vec<u8>),
}

impl Tree {
    fn read(decoder: &mut Decoder<'_>) -> Self {
        if decoder.datatype().unwrap() != Type::Map {
            let from = decoder.position();
            decoder.skip().unwrap();
            return Self::Encoded(decoder.input()[from..decoder.position()].to_vec());
        }
        let fields = decoder.map().unwrap().unwrap();
        let fields = (0..fields).map(|_| (decoder.str().unwrap().to_owned(), Self::read(decoder)));
        Self::Map(fields.collect())
    }

    fn fields(&self) -> &[(String, Self)] {
        match self {
            Self::Map(fields) => fields,
            Self::Encoded(_) => &[],
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Encoded(bytes) => out.extend_from_slice(bytes),
            Self::Map(fields) => {
                Encoder::new(&mut *out).map(fields.len() as u64).unwrap();
                for (name, value) in fields {
                    Encoder::new(&mut *out).str(name).unwrap();
                    value.write(out);
                }
            }
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn as_array(&self) -> Self {
        let mut out = Vec::new();
        Encoder::new(&mut out).array(self.fields().len() as u64).unwrap();
        for (_, value) in self.fields() {
            value.write(&mut out);
        }
        Self::Encoded(out)
    }
}

/// The values of an object's fields, in the order of the program.
fn as_array(json: &Value, order: &Tree) -> Value {
    let values = order.fields().iter().map(|(name, _)| json[name].clone());
    Value::Array(values.collect())
}

/// The operations of the document, and those whose token has an account.
struct Prober {
    world: World,
    user: User,
}

impl Prober {
    async fn start() -> Self {
        let world = World::start().await;
        let user = world.user("ada@example.com").await;
        Self { world, user }
    }

    async fn send(&self, sample: &Sample, content_type: &str, body: Vec<u8>) -> Answer {
        let id = BatchId::from_bytes([9; 16]).to_string();
        let path = sample
            .path
            .replace("{id}", &id)
            .replace("{upload_id}", &id)
            .replace("{part}", "1");
        let token = if sample.path.starts_with("/api/account/") {
            &self.user.account_token
        } else {
            &self.user.token
        };
        let call = self.world.call(sample.method.clone(), &path).bearer(token);
        call.bytes(content_type, body).send().await
    }

    async fn json(&self, sample: &Sample, body: impl Into<Vec<u8>>) -> String {
        self.send(sample, "application/json", body.into()).await.code()
    }

    async fn cbor(&self, sample: &Sample, body: &Tree) -> String {
        self.send(sample, "application/cbor", body.encoded()).await.code()
    }
}

#[tokio::test]
async fn every_operation_with_a_body_has_a_sample() {
    let takes_a_body = |method: &Method, path: &str| format!("{method} {path}");
    let sampled: BTreeSet<String> = samples()
        .iter()
        .map(|sample| takes_a_body(&sample.method, sample.path))
        .collect();
    let documented: BTreeSet<String> = operations(document().await)
        .into_iter()
        .filter(|operation| operation.value["requestBody"]["content"]["application/json"].is_object())
        .map(|operation| takes_a_body(&operation.method, operation.path))
        .collect();
    assert_eq!(sampled, documented);
}

#[tokio::test]
async fn array_is_no_object_in_either_encoding() {
    let prober = Prober::start().await;
    for sample in samples() {
        let what = format!("{} {}", sample.method, sample.path);
        let expected = prober.json(&sample, sample.json.to_string()).await;
        assert_ne!(expected, "malformed_body", "{what}");
        assert_eq!(prober.cbor(&sample, &sample.cbor).await, expected, "{what}");

        let array = as_array(&sample.json, &sample.cbor).to_string();
        for array in [array.clone(), format!(" \n{array}"), "[]".to_owned()] {
            assert_eq!(prober.json(&sample, array).await, "malformed_body", "{what}");
        }
        let array = sample.cbor.as_array();
        assert_eq!(prober.cbor(&sample, &array).await, "malformed_body", "{what}");

        // And inside.
        for (n, (name, value)) in sample.cbor.fields().iter().enumerate() {
            if !matches!(value, Tree::Map(_)) {
                continue;
            }
            let mut json = sample.json.clone();
            json[name] = as_array(&json[name], value);
            assert_eq!(
                prober.json(&sample, json.to_string()).await,
                "malformed_body",
                "{what}: {name}"
            );
            let mut fields = sample.cbor.fields().to_vec();
            fields[n].1 = value.as_array();
            assert_eq!(
                prober.cbor(&sample, &Tree::Map(fields)).await,
                "malformed_body",
                "{what}: {name}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_in_either_encoding() {
    let deep =
        |open: &[u8], close: &[u8], middle: &[u8]| [open.repeat(200), middle.to_vec(), close.repeat(200)].concat();
    let json_values = [
        b"null".to_vec(),
        b"1e400".to_vec(),
        b"{\"a\":1,\"a\":2}".to_vec(),
        "\"\u{1f4bb}\"".as_bytes().to_vec(),
        deep(b"[", b"]", b""),
    ];
    let malformed_json = [b"\"\xff\"".to_vec(), b"nan".to_vec(), b"[1".to_vec(), b"'a'".to_vec()];
    let cbor_values = [
        vec![0xf6],
        // A tag, a half float, a text and bytes in pieces, undefined.
        vec![0xc1, 0x01],
        vec![0xf9, 0x3c, 0x00],
        vec![0x7f, 0x61, b'a', 0xff],
        vec![0x5f, 0x41, 1, 0xff],
        vec![0xf7],
        deep(&[0x81], &[], &[0xf6]),
        deep(&[0x9f], &[0xff], &[]),
    ];
    let malformed_cbor = [
        vec![0x61, 0xff],
        vec![0x1c],
        vec![0x82, 0x01],
        vec![0x5f, 0x01, 0xff],
        // A break in the place of a value, and a simple value in a second form.
        vec![0xff],
        vec![0x81, 0xff],
        vec![0xbf, 0x61, b'a', 0xff],
        vec![0xf8, 0x14],
    ];
    let prober = Prober::start().await;
    for sample in samples() {
        let what = format!("{} {}", sample.method, sample.path);
        let expected = prober.json(&sample, sample.json.to_string()).await;
        let json = sample.json.to_string();
        let with = |value: &[u8]| {
            let unknown = [b"{\"unknown\":", value, b",\"unknown\":", value, b","].concat();
            [&unknown, &json.as_bytes()[1..]].concat()
        };
        for value in &json_values {
            let shown = String::from_utf8_lossy(value);
            assert_eq!(prober.json(&sample, with(value)).await, expected, "{what}: {shown}");
        }
        for value in &malformed_json {
            let shown = String::from_utf8_lossy(value);
            assert_eq!(
                prober.json(&sample, with(value)).await,
                "malformed_body",
                "{what}: {shown}"
            );
        }
        let with = |value: &[u8]| {
            let unknown = ("unknown".to_owned(), Tree::Encoded(value.to_vec()));
            let fields = [&[unknown.clone(), unknown], sample.cbor.fields()].concat();
            Tree::Map(fields)
        };
        for value in &cbor_values {
            assert_eq!(prober.cbor(&sample, &with(value)).await, expected, "{what}: {value:x?}");
        }
        for value in &malformed_cbor {
            assert_eq!(
                prober.cbor(&sample, &with(value)).await,
                "malformed_body",
                "{what}: {value:x?}"
            );
        }
    }
}

#[tokio::test]
async fn known_field_occurs_once_in_either_encoding() {
    let prober = Prober::start().await;
    for sample in samples() {
        let what = format!("{} {}", sample.method, sample.path);
        let json = sample.json.to_string();
        for (name, value) in sample.cbor.fields() {
            let twice = format!("{{\"{name}\":{},{}", sample.json[name], &json[1..]);
            assert_eq!(prober.json(&sample, twice).await, "malformed_body", "{what}: {name}");
            let twice = [&[(name.clone(), value.clone())], sample.cbor.fields()].concat();
            assert_eq!(
                prober.cbor(&sample, &Tree::Map(twice)).await,
                "malformed_body",
                "{what}: {name}"
            );
        }
    }
}

/// `null` is no value of a field that must be there.
#[tokio::test]
async fn null_is_no_value_in_either_encoding() {
    let prober = Prober::start().await;
    let document = document().await;
    for sample in samples() {
        let what = format!("{} {}", sample.method, sample.path);
        let expected = prober.json(&sample, sample.json.to_string()).await;
        let operation = &document["paths"][sample.path][sample.method.as_str().to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        // `POST /api/sync/auth` takes one of two.
        if schema["$ref"].is_null() {
            continue;
        }
        let required = crate::contract::resolve(document, schema)["required"].clone();
        for (n, (name, _)) in sample.cbor.fields().iter().enumerate() {
            let is_required = required.as_array().unwrap().iter().any(|required| required == name);
            let expected = if is_required { "malformed_body" } else { &expected };
            let mut json = sample.json.clone();
            json[name] = Value::Null;
            assert_eq!(prober.json(&sample, json.to_string()).await, expected, "{what}: {name}");
            let mut fields = sample.cbor.fields().to_vec();
            fields[n].1 = Tree::Encoded(vec![0xf6]);
            assert_eq!(
                prober.cbor(&sample, &Tree::Map(fields)).await,
                expected,
                "{what}: {name}"
            );
        }
    }
}
