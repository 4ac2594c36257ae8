//! What stands between an app and its server, and answers in its place.

use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use synckit_client::{BlobHash, ChangeEntry, Error, Quota, SyncKitClient};

use crate::{
    interference::{Fate, Interference},
    world::{User, World, change, changes},
};

const PAGE: &[u8] = b"<html>Welcome to the hotel</html>";

/// Answers one endpoint with the page that is set, once there is one.
#[derive(Default)]
struct Portal(Mutex<Option<(u16, &'static [u8])>>);

impl Portal {
    fn of(self: &Arc<Self>, method: Method, path: &'static str) -> Arc<Interference> {
        let portal = Arc::clone(self);
        Interference::new(move |request| {
            let is_meant = request.method() == method && request.uri().path().starts_with(path);
            match *portal.0.lock() {
                Some((status, body)) if is_meant => Fate::Answered(status, body.to_vec()),
                _ => Fate::Delivered,
            }
        })
    }
}

async fn call(client: &SyncKitClient, user: &User, call: &str) -> Result<(), Error> {
    let (data, hash) = (b"a file".to_vec(), BlobHash::of(b"a file"));
    match call {
        "revoke_device" => {
            let device = client.register_device("phone", "ios").await?;
            client.revoke_device(device.id).await
        }
        "revoke_session" => {
            let sessions = client.sessions().await?;
            client.revoke_session(sessions[0].id).await
        }
        "sign_out" => client.sign_out().await,
        "blob_upload" => {
            let ticket = client.blob_upload_url(&hash, data.len() as u64).await?;
            client.blob_upload(&ticket.upload_url, data).await
        }
        "blob_confirm" => client.blob_confirm(&hash, data.len() as u64).await,
        "blob_delete" => client.blob_delete(&hash).await,
        "request_password_reset" => client.request_password_reset(&user.email).await,
        "delete_account" => client.delete_account(&user.password).await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn only_the_documented_answer_is_a_success() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    for (name, method, path) in [
        ("revoke_device", Method::DELETE, "/api/sync/devices/"),
        ("revoke_session", Method::DELETE, "/api/account/sessions/"),
        ("blob_upload", Method::PUT, "/blobs/"),
        ("blob_confirm", Method::POST, "/api/sync/blobs/confirm"),
        ("blob_delete", Method::DELETE, "/api/sync/blobs/"),
        ("request_password_reset", Method::POST, "/api/accounts/reset/request"),
        ("delete_account", Method::DELETE, "/api/account"),
        ("sign_out", Method::DELETE, "/api/sync/auth"),
    ] {
        let portal = Arc::new(Portal::default());
        let client = world.signed_in_over(&user, portal.of(method, path)).await;
        client.setup_encryption_existing(&user.password).await.unwrap();
        for page in [(202, b"" as &[u8]), (200, b""), (204, PAGE), (200, PAGE)] {
            if name == "blob_upload" && page.1.is_empty() {
                continue; // the answer of an object store
            }
            *portal.0.lock() = Some(page);
            let error = call(&client, &user, name).await.unwrap_err();
            assert!(
                matches!(error, Error::Protocol { status, .. } if status == page.0),
                "{name} after {page:?}: {error:?}"
            );
            if name == "sign_out" {
                break; // the device has forgotten the session all the same
            }
        }
    }
}

/// Decoders take a break in the place of an unknown field's value, and stop after the first value.
#[tokio::test]
async fn answer_that_is_not_one_value_is_refused() {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    fn with_unknown(value: u8, body: &[u8]) -> Vec<u8> {
        // A map of few fields, in the form of any encoder.
        let (head, fields) = body.split_first().unwrap();
        let head = if *head == 0xbf { 0xbf } else { head + 1 };
        assert!(matches!(head, 0xa1..=0xb7 | 0xbf), "{head:x}");
        [&[head, 0x61, b'x', value], fields].concat()
    }
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let over = async |change: Change| {
        let transport = Interference::changing("/api/sync/status", change);
        let client = world.signed_in_over(&user, transport).await;
        client.status().await
    };
    // The controls: what else an answer may hold.
    over(|body| body).await.unwrap();
    over(|body| with_unknown(0xf6, &body)).await.unwrap();
    let refused: [Change; 3] = [
        |body| with_unknown(0xff, &body),
        |body| [body, vec![0xf6]].concat(),
        |body| [body, vec![0xff]].concat(),
    ];
    for change in refused {
        let error = over(change).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { status: 200, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn full_account_is_a_typed_error() {
    let world = World::start_with(|config| config.quotas.bytes = 4_096).await;
    let user = world.user().await;
    let (client, device) = world.first_device(&user).await;
    let large = ChangeEntry {
        data: Some(serde_json::json!("x".repeat(10_000))),
        ..change("notes", "1")
    };
    let error = client.push(device, vec![large]).await.unwrap_err();
    assert!(
        matches!(error.source, Error::QuotaExceeded { quota: Quota::Bytes }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "nothing was pushed: a limit of this server is reached: stored bytes"
    );
}

#[tokio::test]
async fn unusable_password_is_refused_before_sending() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let (_, phone) = world.next_device(&user, "phone").await;
    let transport = Interference::new(|_| Fate::Delivered);
    let client = world.resumed_over(&user, transport.clone());
    let before = transport.requests();
    for password in [String::new(), "x".repeat(1_025), "\u{301}".repeat(100_000)] {
        let password = password.as_str();
        let refused = [
            client.authenticate(&user.email, password).await.map(drop),
            client.create_account("new@example.com", password).await.map(drop),
            client.setup_encryption_new(password).await,
            client.setup_encryption_existing(password).await,
            client.restore_envelope(password).await,
            client.change_password(password, "a new password").await,
            client.change_password(&user.password, password).await,
            client.reset_password("code", password).await.map(drop),
            client.recovery_code(password).await.map(drop),
            client.confirm_password(password).await,
            client.delete_account(password).await,
            client.rotate_keys(password).await,
            client.revoke_device_and_rotate(phone, password).await,
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::InvalidArgument {
                        argument: "password",
                        ..
                    }
                ),
                "{error:?}"
            );
        }
    }
    assert_eq!(transport.requests(), before);
    client.authenticate(&user.email, &user.password).await.unwrap();
}

#[tokio::test]
async fn failed_push_says_why() {
    let world = World::start().await;
    let user = world.user().await;
    let (client, device) = world.first_device(&user).await;
    let mut sent = changes(501);
    sent[500].data = Some((0..200).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner])));
    let error = client.push(device, sent).await.unwrap_err();
    let said = format!("{:#}", anyhow::Error::from(error));
    assert!(
        said.starts_with("only the first 500 changes were pushed: a change cannot be pushed: ")
            && said.contains("nested"),
        "{said}"
    );
}
