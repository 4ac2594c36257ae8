//! Every id of another tenant, in every place of every operation that takes one: answered exactly like an id that was
//! never given out. The places come from the OpenAPI document, so that a new operation is in here by itself.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use synckit_protocol::{
    BatchId, BlobId, InstallationId, KeyId, Position, SealedHash, SnapshotId, limits,
    wire::{
        accounts::SessionList,
        blobs::{BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobUpload, BlobUploadAnswer},
        devices::{Platform, RegisterDevice},
        keys::PutEnvelope,
        log::{Pushed, Status},
        snapshots::{PutSnapshot, PutSnapshotPart},
    },
};

use crate::{
    contract::{DocumentedOperation, document, operations, resolve},
    support::{Answer, OWNER_SEED, PASSWORD, Syncing, UNNAMED, UNSIGNED, User, World},
};

/// Kinds of ids and places, by the names of their schemas.
type Ids = BTreeMap<&'static str, String>;

/// The seed of the owner key of Ada's second master key.
const ADAS_OWNER_SEED: u8 = 0xad;

/// What Ada owns: one id of each kind.
async fn ada(world: &World) -> (Syncing, Ids) {
    let mut ada = world.ready_user("ada@example.com").await;
    // Everybody else's batches have the ids 1, 2, ...
    let mut push = ada.batch(3, 100);
    push.batch_id = BatchId::from_bytes([0xad; 16]);
    let pushed: Pushed = ada.send(world, &push).await.ok();
    ada.head = Position {
        seq: pushed.last_seq,
        head: pushed.head,
    };
    let key_id = KeyId::from_bytes([0xad; 16]);
    let rotation = PutEnvelope {
        envelope: b"another envelope".to_vec().into(),
        key_id,
        expected_version: 1,
        head: Some(ada.head),
        snapshot: None,
        owner: UNNAMED,
        signature: UNSIGNED,
    };
    let rotation = ada.user.signed_envelope(rotation, ADAS_OWNER_SEED, OWNER_SEED);
    put(world, &ada.user, "/api/sync/keys", &rotation).await;
    let snapshot_id = SnapshotId::from_bytes([0xad; 16]);
    let path = format!("/api/sync/snapshots/{snapshot_id}");
    let part = PutSnapshotPart {
        sealed: vec![1; 100].into(),
    };
    put(world, &ada.user, &format!("{path}/parts/0"), &part).await;
    let manifest = PutSnapshot {
        key_id,
        position: ada.head,
        parts: 1,
        manifest: vec![1; 100].into(),
        signature: UNSIGNED,
    };
    let manifest = ada.user.signed_snapshot(manifest, snapshot_id, ADAS_OWNER_SEED);
    put(world, &ada.user, &path, &manifest).await;
    let hash = BlobId::from_bytes([0xad; 32]);
    blob(world, &ada.user, hash, key_id).await;
    let in_parts = BlobUpload {
        hash,
        size: limits::UPLOAD_WHOLE_BYTES_MAX + 1,
        sealed_hash: None,
        hash_at_confirm: true,
        key_id,
        replace: true,
    };
    let call = world.post("/api/sync/blobs/upload").bearer(&ada.user.token);
    let upload: BlobUploadAnswer = call.json(&in_parts).send().await.ok();
    let download = BlobDownload { hash };
    let answer = world.post("/api/sync/blobs/download").bearer(&ada.user.token);
    let download: BlobDownloadAnswer = answer.json(&download).send().await.ok();
    let installation_id = InstallationId::from_bytes([0xad; 16]);
    let phone = RegisterDevice {
        device_name: "phone".to_owned(),
        platform: Platform::Ios,
        installation_id: Some(installation_id),
    };
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    assert!(other.register(world, &phone).await.status.is_success());
    let sessions: SessionList = world
        .get("/api/account/sessions")
        .bearer(&ada.user.account_token)
        .send()
        .await
        .ok();
    let ids = BTreeMap::from([
        ("DeviceId", ada.device_id.to_string()),
        ("InstallationId", installation_id.to_string()),
        ("BatchId", push.batch_id.to_string()),
        ("KeyId", key_id.to_string()),
        ("SnapshotId", snapshot_id.to_string()),
        ("BlobId", hash.to_string()),
        ("UploadId", upload.upload_id.unwrap().to_string()),
        ("ObjectKey", object_key(&download.download_url)),
        ("SessionId", sessions.sessions[0].id.to_string()),
        ("Cursor", synckit_protocol::Cursor::at(ada.head).to_string()),
        ("Head", ada.head.head.to_string()),
        ("UserId", ada.user.user_id.to_string()),
        ("AppId", ada.user.app_id.to_string()),
    ]);
    (ada, ids)
}

/// Ids in the same forms that nobody was ever given.
fn never_issued(ids: &Ids) -> Ids {
    let other = |text: &String| {
        // In the form of a UUID, of hexadecimal and of base64url alike. The sequence of a cursor and the last character
        // of base64url, which has spare bits, stay.
        let (kept, changed) = text
            .rsplit_once('.')
            .map_or((String::new(), text.as_str()), |(seq, head)| (format!("{seq}."), head));
        let last = changed.len() - 1;
        let letters = changed.char_indices().map(|(place, letter)| match letter {
            '-' if changed.len() == 36 => letter,
            _ if place == last => letter,
            'e' => 'f',
            _ => 'e',
        });
        kept + &letters.collect::<String>()
    };
    ids.iter().map(|(kind, text)| (*kind, other(text))).collect()
}

fn object_key(url: &str) -> String {
    let (path, _) = url.split_once('?').unwrap();
    path.rsplit_once('/').unwrap().1.to_owned()
}

async fn put(world: &World, user: &User, path: &str, body: &impl serde::Serialize) {
    let answer = world
        .call(Method::PUT, path)
        .bearer(&user.token)
        .json(body)
        .send()
        .await;
    assert!(answer.status.is_success(), "{}", answer.code());
}

/// A confirmed blob.
async fn blob(world: &World, user: &User, hash: BlobId, key_id: KeyId) -> BlobUploadAnswer {
    let body = BlobUpload {
        hash,
        size: 100,
        sealed_hash: Some(SealedHash::of(&[1; 100])),
        key_id,
        hash_at_confirm: false,
        replace: true,
    };
    let call = world.post("/api/sync/blobs/upload").bearer(&user.token);
    let upload: BlobUploadAnswer = call.json(&body).send().await.ok();
    let url = upload.upload_url.as_ref().unwrap();
    world.call(Method::PUT, url).raw(vec![1; 100]).send().await;
    let body = BlobConfirm {
        hash,
        size: 100,
        upload_id: upload.upload_id,
        sealed_hash: None,
    };
    let call = world.post("/api/sync/blobs/confirm").bearer(&user.token);
    call.json(&body).send().await.empty();
    upload
}

/// Where an id stands in a request.
#[derive(Debug, Clone)]
enum Place {
    Path(String),
    Query(String),
    /// Names from the outside in.
    Body(Vec<String>),
}

/// The ids that an operation takes, with their kinds.
fn places(document: &Value, operation: &DocumentedOperation<'_>) -> Vec<(Place, String)> {
    let kind = |schema: &Value| {
        // One that may be left out is one of two things: an id, or nothing.
        let reference = schema["$ref"].as_str().or_else(|| schema["anyOf"][0]["$ref"].as_str());
        Some(reference?.rsplit('/').next()?.to_owned())
    };
    let mut places = Vec::new();
    for parameter in operation.value["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap().to_owned();
        if let Some(kind) = kind(&parameter["schema"]) {
            let place = if parameter["in"] == "path" {
                Place::Path(name)
            } else {
                Place::Query(name)
            };
            places.push((place, kind));
        }
    }
    let body = &operation.value["requestBody"]["content"]["application/json"]["schema"];
    let mut open = vec![(Vec::new(), body)];
    while let Some((names, schema)) = open.pop() {
        for choice in schema["anyOf"].as_array().into_iter().flatten() {
            open.push((names.clone(), choice));
        }
        for (name, property) in resolve(document, schema)["properties"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let names = [names.as_slice(), std::slice::from_ref(name)].concat();
            if let Some(kind) = kind(property) {
                places.push((Place::Body(names.clone()), kind));
            }
            open.push((names, property));
        }
    }
    places
}

/// What stands in for the ids that are not tried at the moment: the asking user's own.
struct Own {
    user: Syncing,
    ids: Ids,
    status: Status,
}

/// Somebody else, with one of everything. What depends on the head of the stream is read anew for each request.
async fn own(world: &World, mut user: Syncing) -> Own {
    let hash = BlobId::from_bytes([0xee; 32]);
    let upload = blob(world, &user.user, hash, crate::support::KEY_ID).await;
    user.push(world, 1, 100).await;
    let ids = BTreeMap::from([
        ("DeviceId", user.device_id.to_string()),
        ("SnapshotId", SnapshotId::from_bytes([0x55; 16]).to_string()),
        ("BlobId", hash.to_string()),
        ("UploadId", upload.upload_id.unwrap().to_string()),
        ("ObjectKey", object_key(upload.upload_url.as_ref().unwrap())),
        ("SessionId", "55555555-5555-5555-5555-555555555555".to_owned()),
    ]);
    let status = status(world, &user.user).await;
    Own { user, ids, status }
}

async fn status(world: &World, user: &User) -> Status {
    world.get("/api/sync/status").bearer(&user.token).send().await.ok()
}

/// A body that the operation takes, with the user's own ids.
fn body_of(operation: &DocumentedOperation<'_>, own: &Own, nth: usize) -> Option<Value> {
    let ids = &own.ids;
    let position = json!(own.status.latest);
    let key_id = crate::support::KEY_ID.to_string();
    let sealed = "A".repeat(80);
    let (hash, device_id) = (&ids["BlobId"], &ids["DeviceId"]);
    Some(match (operation.method.as_str(), operation.path) {
        ("POST", "/api/sync/devices") => json!({
            "device_name": "mine now", "platform": "linux", "installation_id": "55555555-5555-5555-5555-555555555555",
        }),
        ("PATCH", "/api/sync/devices/{id}") => json!({ "device_name": "mine now" }),
        ("PUT", "/api/sync/keys") => json!({
            "envelope": "AAAA", "key_id": key_id, "expected_version": 1, "head": position,
            "owner": UNNAMED, "signature": UNSIGNED,
        }),
        ("POST", "/api/sync/push") => json!({
            "device_id": device_id, "batch_id": format!("00000000-0000-7000-8000-{nth:012}"), "key_id": key_id,
            "count": 1, "parent": position, "sealed": sealed,
        }),
        ("POST", "/api/sync/pull") => json!({ "device_id": device_id, "cursor": "0" }),
        ("PUT", "/api/sync/snapshots/{id}") => json!({
            "key_id": key_id, "position": position, "parts": 1, "manifest": sealed, "signature": UNSIGNED,
        }),
        ("PUT", "/api/sync/snapshots/{id}/parts/{part}") => json!({ "sealed": sealed }),
        ("POST", "/api/sync/blobs/upload") => json!({
            "hash": hash, "size": 100, "key_id": key_id, "sealed_hash": SealedHash::of(&[1; 100]),
        }),
        ("POST", "/api/sync/blobs/confirm") => json!({ "hash": hash, "size": 100, "upload_id": ids["UploadId"] }),
        ("POST", "/api/sync/blobs/uploads/{upload_id}/parts") => json!({
            "number": 1, "sealed_hash": SealedHash::of(&[1; 100]),
        }),
        ("POST", "/api/sync/blobs/download") => json!({ "hash": hash }),
        ("GET" | "DELETE", _) | ("PUT", "/blobs/{object_key}") => return None,
        _ => panic!(
            "{} {} takes an id: add a body that it takes to body_of in tenant_matrix.rs",
            operation.method, operation.path
        ),
    })
}

/// Sends a request of `own` with one id replaced.
async fn ask(
    world: &World,
    own: &mut Own,
    operation: &DocumentedOperation<'_>,
    place: &Place,
    id: &str,
    nth: usize,
) -> Answer {
    own.status = status(world, &own.user.user).await;
    let mut body = body_of(operation, own, nth);
    let mut path = operation.path.to_owned();
    let mut query = String::new();
    let parameters = operation.value["parameters"].as_array().into_iter().flatten();
    for parameter in parameters.filter(|parameter| parameter["in"] == "path") {
        let name = parameter["name"].as_str().unwrap();
        let kind = parameter["schema"]["$ref"]
            .as_str()
            .and_then(|name| name.rsplit('/').next());
        let text = match (place, kind) {
            (Place::Path(replaced), _) if replaced == name => id.to_owned(),
            (_, Some(kind)) => own.ids[kind].clone(),
            _ => "0".to_owned(),
        };
        path = path.replace(&format!("{{{name}}}"), &text);
    }
    match place {
        Place::Path(_) => {}
        Place::Query(name) => query = format!("?{name}={id}"),
        Place::Body(names) => {
            let slot = names
                .iter()
                .fold(body.as_mut().unwrap(), |value, name| &mut value[name]);
            *slot = id.into();
        }
    }
    if operation.path == "/blobs/{object_key}" {
        let signature = "A".repeat(43);
        let op = operation.method.as_str().to_lowercase();
        query = format!("?op={op}&size=100&expires=99999999999&sig={signature}");
    }
    let user = &own.user.user;
    let token = match operation.value["security"][0]
        .as_object()
        .and_then(|way| way.keys().next())
    {
        Some(scheme) if scheme == "accountToken" => &user.account_token,
        _ => &user.token,
    };
    if let Some(body) = &mut body {
        sign(user, operation, &path, body);
    }
    let call = world
        .call(operation.method.clone(), &format!("{path}{query}"))
        .bearer(token);
    match body {
        Some(body) => call.json(&body).send().await,
        None => call.send().await,
    }
}

/// Proves the asking user's own master key, where that is asked for.
fn sign(user: &User, operation: &DocumentedOperation<'_>, path: &str, body: &mut Value) {
    match (operation.method.as_str(), operation.path) {
        ("PUT", "/api/sync/keys") => {
            let envelope: PutEnvelope = serde_json::from_value(body.take()).unwrap();
            *body = json!(user.signed_envelope(envelope, OWNER_SEED, OWNER_SEED));
        }
        ("PUT", "/api/sync/snapshots/{id}") => {
            let manifest: PutSnapshot = serde_json::from_value(body.take()).unwrap();
            let id = path.rsplit('/').next().unwrap().parse().unwrap();
            *body = json!(user.signed_snapshot(manifest, id, OWNER_SEED));
        }
        _ => {}
    }
}

/// An answer without what differs between any two answers: the request id, and, in good ones and in what the server says
/// of the asking user's own stream, texts that are drawn or hashed.
fn comparable(answer: &Answer) -> Value {
    fn mask(value: &mut Value, good: bool) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let drawn = ["request_id", "head", "sealed_hash", "device_id"].contains(&name.as_str());
                    let long = value.as_str().is_some_and(|text| good && text.len() >= 32);
                    if drawn || long {
                        *value = "masked".into();
                    }
                    mask(value, good);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| mask(item, good)),
            _ => {}
        }
    }
    let mut body = if answer.body.is_empty() {
        Value::Null
    } else {
        answer.json()
    };
    mask(&mut body, answer.status.is_success());
    let length = answer.header("content-length").to_owned();
    json!({ "status": answer.status.as_u16(), "type": answer.header("content-type"), "length": length, "body": body })
}

/// Kinds whose id selects one thing of the user, wherever it stands: there is no such thing.
const SELECTING: [&str; 3] = ["DeviceId", "SessionId", "ObjectKey"];

/// One stranger asks for Ada's ids, another, who did all the same things before, for ids that nobody ever had.
async fn compare(world: &World, ada: &Ids, foreign: Syncing, never: Syncing) {
    let never_issued = never_issued(ada);
    let (mut foreign, mut never) = (own(world, foreign).await, own(world, never).await);
    let document = document().await;
    let mut tried = Vec::new();
    let mut operations = operations(document);
    // Another master key makes later requests fail before they come to their ids.
    operations.sort_by_key(|operation| operation.path == "/api/sync/keys");
    // Pages take a cookie: `sign_in::console` and `sign_in::account_page` walk theirs.
    operations.retain(|operation| !operation.value["security"][0]["pageSession"].is_array());
    // An account is the same in every app: Ada may end any of her own sessions from each.
    let same_account = ada["UserId"] == foreign.user.user.user_id.to_string();
    operations.retain(|operation| !(same_account && operation.value["security"][0]["accountToken"].is_array()));
    for operation in &operations {
        for (place, kind) in places(document, operation) {
            let (Some(theirs), Some(nobodys)) = (ada.get(kind.as_str()), never_issued.get(kind.as_str())) else {
                continue;
            };
            let nth = tried.len();
            let what = format!("{} {} {place:?} {kind}", operation.method, operation.path);
            let one = ask(world, &mut foreign, operation, &place, theirs, nth).await;
            let other = ask(world, &mut never, operation, &place, nobodys, nth).await;
            assert_eq!(comparable(&one), comparable(&other), "{what}");
            let selects = SELECTING.contains(&kind.as_str()) || matches!(&place, Place::Path(_));
            if selects && operation.method != Method::PUT {
                // A device that is named in a body is the session's own, or none.
                let is_named = kind == "DeviceId" && matches!(&place, Place::Body(_));
                let status = if kind == "ObjectKey" || is_named { 403 } else { 404 };
                assert_eq!(one.status.as_u16(), status, "{what}: {}", one.code());
            }
            tried.push(what);
        }
    }
    assert!(tried.len() > 25, "{tried:#?}");
}

/// Everything of Ada's is as it was.
async fn is_untouched(world: &World, ada: &Syncing, ids: &Ids) {
    let status = status(world, &ada.user).await;
    assert_eq!((status.latest, status.devices), (ada.head, 2));
    for path in [
        format!("/api/sync/snapshots/{}", ids["SnapshotId"]),
        format!("/api/sync/snapshots/{}/parts/0", ids["SnapshotId"]),
        format!("/api/sync/blobs/uploads/{}", ids["UploadId"]),
    ] {
        assert_eq!(world.get(&path).bearer(&ada.user.token).send().await.code(), "200");
    }
    let download = BlobDownload {
        hash: ids["BlobId"].parse().unwrap(),
    };
    let call = world.post("/api/sync/blobs/download").bearer(&ada.user.token);
    let download: BlobDownloadAnswer = call.json(&download).send().await.ok();
    assert_eq!(world.get(&download.download_url).send().await.body, vec![1; 100]);
}

#[tokio::test]
async fn ids_of_another_user_are_like_unknown_ids() {
    let world = World::start().await;
    let (ada, ids) = ada(&world).await;
    let eve = world.ready_user("eve@example.com").await;
    let mallory = world.ready_user("mallory@example.com").await;
    compare(&world, &ids, eve, mallory).await;
    is_untouched(&world, &ada, &ids).await;
}

#[tokio::test]
async fn ids_in_another_app_are_like_unknown_ids() {
    let world = World::start().await;
    let (ada, ids) = ada(&world).await;
    world.register("bob@example.com", PASSWORD).await;
    let other = world.admin().await.create_app("Photos").await.unwrap();
    let mut elsewhere = Vec::new();
    for email in ["ada@example.com", "bob@example.com"] {
        let user = world.sign_in_to(other.api_key.expose(), email, PASSWORD).await.unwrap();
        let device = user.register_device(&world, "laptop").await;
        user.put_envelope(&world).await;
        elsewhere.push(Syncing::new(user, device.id));
    }
    let (bob, ada_elsewhere) = (elsewhere.pop().unwrap(), elsewhere.pop().unwrap());
    compare(&world, &ids, ada_elsewhere, bob).await;
    is_untouched(&world, &ada, &ids).await;
}
