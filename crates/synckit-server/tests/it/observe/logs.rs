//! What the log says, and what it never says.

use std::{
    io,
    sync::{Arc, Mutex},
};

use reqwest::Method;
use synckit_protocol::{
    BlobId, Cursor, SealedHash,
    wire::blobs::{BlobUpload, BlobUploadAnswer},
};

use crate::support::{KEY_ID, PASSWORD, World};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_routes_and_request_ids_and_no_secret() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, tracing asks whichever thread first meets a log line whether anybody listens, and the
    // threads of other tests would say no for this one. A second subscriber makes it ask the subscribers.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // The test, its server and its connections all run on this one thread.
    let _guard = tracing::subscriber::set_default(subscriber);

    let world = World::start_with(|config| config.allow_password_login = true).await;
    let mut user = world.ready_user("ada@example.com").await;
    user.push(&world, 1, 100).await;
    user.page(&world, Cursor::START).await;
    world
        .sign_in("ada@example.com", "a wrong guess")
        .await
        .map(|_| ())
        .unwrap_err();
    let body = serde_json::json!({ "api_key": world.api_key(), "email": "ada@example.com", "password": PASSWORD });
    world.post("/api/sync/auth").json(&body).send().await;
    let body = BlobUpload {
        hash: BlobId::from_bytes([1; 32]),
        size: 100,
        sealed_hash: Some(SealedHash::of(&[1; 100])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let upload = world
        .post("/api/sync/blobs/upload")
        .bearer(&user.user.token)
        .cbor(&body)
        .send()
        .await;
    let url = upload.ok::<BlobUploadAnswer>().upload_url.unwrap();
    world.call(Method::PUT, &url).raw(vec![1; 100]).send().await;
    let device = format!("/api/sync/devices/{}", user.device_id);
    let revoked = world
        .call(Method::DELETE, &device)
        .bearer(&user.user.token)
        .send()
        .await;

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains(revoked.header("x-request-id")))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["fields"]["route"], "/api/sync/devices/{id}");
    assert_eq!(line["fields"]["method"], "DELETE");
    assert_eq!(line["fields"]["status"], 204);
    assert_eq!(line["fields"]["app_id"], world.app.app_id.to_string());
    let refused = log.lines().find(|line| line.contains("invalid_credentials")).unwrap();
    assert!(refused.contains("\"status\":401"), "{refused}");

    let object_key = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let signature = url.rsplit("sig=").next().unwrap();
    let secrets = [
        "ada@example.com",
        PASSWORD,
        "a wrong guess",
        &user.user.token,
        &user.user.account_token,
        user.user.refresh.expose(),
        &world.api_key(),
        &user.device_id.to_string(),
        object_key,
        signature,
    ];
    for secret in secrets {
        // hyper's client, which is the test's and not the server's, may log what it likes.
        let found = log
            .lines()
            .find(|line| line.contains(secret) && line.contains("\"target\":\"synckit"));
        assert_eq!(found, None, "{secret}");
    }
}
