//! `/api/account`: its figures, the export of everything, and its deletion.

use reqwest::{Method, StatusCode};
use synckit_protocol::{
    BlobId, Cursor, SealedHash, SessionId,
    wire::{
        accounts::AccountInfo,
        blobs::{BlobConfirm, BlobUpload, BlobUploadAnswer},
        export::{ExportLine, ExportedBlob},
    },
};
use synckit_server::{admin::AdminError, config::Config};

use crate::support::{Answer, KEY_ID, PASSWORD, Syncing, User, World};

const HASH: BlobId = BlobId::from_bytes([0xab; 32]);

/// Somebody with a device, an envelope, a batch and a blob of 100 bytes.
async fn somebody(world: &World, email: &str) -> Syncing {
    let mut user = world.ready_user(email).await;
    user.push(world, 3, 100).await;
    let token = user.user.token.clone();
    let body = BlobUpload {
        hash: HASH,
        size: 100,
        sealed_hash: Some(SealedHash::of(&[1; 100])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let post = async |path: &str, body: &serde_json::Value| world.post(path).bearer(&token).json(body).send().await;
    let upload: BlobUploadAnswer = post("/api/sync/blobs/upload", &serde_json::to_value(&body).unwrap())
        .await
        .ok();
    let put = world
        .call(Method::PUT, upload.upload_url.as_ref().unwrap())
        .raw(vec![1; 100])
        .send()
        .await;
    assert_eq!(put.status, StatusCode::OK);
    let body = BlobConfirm {
        hash: HASH,
        size: 100,
        upload_id: upload.upload_id,
        sealed_hash: None,
    };
    post("/api/sync/blobs/confirm", &serde_json::to_value(&body).unwrap())
        .await
        .empty();
    user
}

async fn export(world: &World, user: &User) -> Answer {
    world
        .get("/api/account/export")
        .bearer(&user.account_token)
        .send()
        .await
}

fn lines(body: &[u8]) -> Vec<ExportLine> {
    let text = std::str::from_utf8(body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn delete(world: &World, user: &User) -> Answer {
    world
        .call(Method::DELETE, "/api/account")
        .bearer(&user.account_token)
        .send()
        .await
}

#[tokio::test]
async fn an_account_is_shown_with_what_it_keeps_in_each_app() {
    let world = World::start().await;
    let ada = somebody(&world, "Ada@Example.com").await;
    let mut shown = world
        .get("/api/account")
        .bearer(&ada.user.account_token)
        .send()
        .await
        .json();
    for id in ["/user_id", "/apps/0/app_id"] {
        *shown.pointer_mut(id).unwrap() = "...".into();
    }
    insta::assert_json_snapshot!(shown, @r#"
    {
      "apps": [
        {
          "app_id": "...",
          "app_name": "Notes",
          "change_count": 3,
          "devices": 1,
          "stored_bytes": 200
        }
      ],
      "created_at": 1767225600,
      "email": "ada@example.com",
      "user_id": "..."
    }
    "#);
}

#[tokio::test]
async fn an_export_is_lines_of_json_from_begin_to_end() {
    let world = World::start().await;
    let ada = somebody(&world, "ada@example.com").await;
    somebody(&world, "bob@example.com").await;
    let answer = export(&world, &ada.user).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (StatusCode::OK, "application/x-ndjson")
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!String::from_utf8_lossy(&answer.body).contains("bob@"));
    let lines = lines(&answer.body);
    let user_id = ada.user.user_id;
    assert!(
        matches!(&lines[0], ExportLine::Begin { format: 1, user_id: of, .. } if *of == user_id),
        "{lines:?}"
    );
    assert!(matches!(&lines[1], ExportLine::Account(account) if account.email == "ada@example.com"));
    let before = lines.len() as u64 - 1;
    assert_eq!(lines.last(), Some(&ExportLine::End { lines: before }));
    let blob = lines.iter().find_map(|line| match line {
        ExportLine::Blob(blob) => Some(blob),
        _ => None,
    });
    let ExportedBlob {
        download_url,
        hash,
        size,
        ..
    } = blob.unwrap();
    assert_eq!((*hash, *size), (HASH, 100));
    let downloaded = world.get(download_url.as_ref().unwrap()).send().await;
    assert_eq!((downloaded.status, downloaded.body), (StatusCode::OK, vec![1; 100]));
}

#[tokio::test]
async fn account_requests_need_a_fresh_password() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let session = format!("/api/account/sessions/{}", SessionId::from_bytes([1; 16]));
    let calls = [
        (Method::GET, "/api/account"),
        (Method::GET, "/api/account/export"),
        (Method::DELETE, session.as_str()),
        (Method::DELETE, "/api/account"),
    ];
    for (method, path) in &calls {
        let call = || world.call(method.clone(), path);
        assert_eq!(call().send().await.code(), "token_invalid", "{method} {path}");
        assert_eq!(
            call().bearer(&ada.token).send().await.code(),
            "fresh_login_required",
            "{method} {path}"
        );
    }
    world.clock.advance(301);
    for (method, path) in &calls {
        let call = world.call(method.clone(), path).bearer(&ada.account_token);
        assert_eq!(call.send().await.code(), "fresh_login_required", "{method} {path}");
    }
    assert_eq!(
        world.sign_in("ada@example.com", PASSWORD).await.unwrap().user_id,
        ada.user_id
    );
}

#[tokio::test]
async fn a_deleted_account_signs_in_like_an_unknown_address() {
    let world = World::start().await;
    let ada = somebody(&world, "ada@example.com").await;
    delete(&world, &ada.user).await.empty();
    let mut problems = Vec::new();
    for email in ["ada@example.com", "nobody@example.com"] {
        let mut problem = world.sign_in(email, PASSWORD).await.map(|_| ()).unwrap_err();
        problem.request_id = None;
        problems.push(problem);
    }
    assert_eq!(problems[0].code, "invalid_credentials");
    assert_eq!(problems[0], problems[1]);
}

#[tokio::test]
async fn devices_of_a_deleted_account_get_account_gone() {
    let world = World::start().await;
    let mut laptop = somebody(&world, "ada@example.com").await;
    let phone = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    delete(&world, &phone).await.empty();
    for token in [&phone.token, &laptop.user.token] {
        let answer = world.get("/api/sync/status").bearer(token).send().await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "account_gone"));
    }
    let push = laptop.batch(1, 100);
    assert_eq!(laptop.send(&world, &push).await.code(), "account_gone");
    assert_eq!(laptop.pull(&world, Cursor::START, None).await.code(), "account_gone");
    let refresh = serde_json::json!({ "refresh": laptop.user.refresh });
    let refreshed = world.post("/api/sync/auth/refresh").json(&refresh).send().await;
    assert_eq!(refreshed.code(), "session_ended");
    let account = &laptop.user.account_token;
    assert_eq!(
        world.get("/api/account").bearer(account).send().await.code(),
        "account_gone"
    );
    // An answer may be lost: whoever asks again has what they asked for.
    delete(&world, &phone).await.empty();
    delete(&world, &laptop.user).await.empty();
}

#[tokio::test]
async fn deleted_address_starts_anew_and_sees_nothing() {
    let world = World::start().await;
    let before = somebody(&world, "ada@example.com").await;
    let bob = somebody(&world, "bob@example.com").await;
    delete(&world, &before.user).await.empty();
    let after = world.ready_user("ada@example.com").await;
    assert_ne!(after.user.user_id, before.user.user_id);
    assert!(after.page(&world, Cursor::START).await.batches.is_empty());
    let info: AccountInfo = world
        .get("/api/account")
        .bearer(&after.user.account_token)
        .send()
        .await
        .ok();
    assert_eq!((info.apps[0].stored_bytes, info.apps[0].devices), (0, 1));
    assert_eq!(bob.page(&world, Cursor::START).await.batches.len(), 1);
    let old = world
        .get("/api/account")
        .bearer(&before.user.account_token)
        .send()
        .await;
    assert_eq!(old.code(), "account_gone");
}

#[tokio::test]
async fn files_of_a_deleted_account_are_swept_from_the_disk() {
    let world =
        World::start_with(|config: &mut Config| config.sweep_interval = std::time::Duration::from_millis(20)).await;
    let ada = somebody(&world, "ada@example.com").await;
    let object = |blob: &ExportedBlob| {
        let key = blob.object_key.to_string();
        world.path().join("blobs").join(&key[..2]).join(key)
    };
    let exported = lines(&export(&world, &ada.user).await.body);
    let file = exported.iter().find_map(|line| match line {
        ExportLine::Blob(blob) => Some(object(blob)),
        _ => None,
    });
    let file = file.unwrap();
    assert!(file.is_file());
    delete(&world, &ada.user).await.empty();
    world.clock.advance(2 * 3600);
    while file.exists() {
        tokio::task::yield_now().await;
    }
}

/// A reader that takes its time holds the export where it is; the account ends meanwhile.
#[tokio::test]
async fn export_of_a_deleted_account_is_not_whole() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    for _ in 0..12 {
        ada.push(&world, 1, 4_000_000).await;
    }
    let mut answer = reqwest::Client::new()
        .get(format!("{}/api/account/export", world.url))
        .bearer_auth(&ada.user.account_token)
        .send()
        .await
        .unwrap();
    let first = answer.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(br#"{"kind":"begin""#));
    delete(&world, &ada.user).await.empty();
    let rest = loop {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(rest.is_err(), "a cut-off answer must not look whole");
}

#[tokio::test]
async fn operator_exports_and_deletes_beside_the_server() {
    let world = World::start().await;
    let ada = somebody(&world, "ada@example.com").await;
    let admin = world.admin().await;
    let user_id = admin.account_of("ada@example.com").await.unwrap().unwrap();
    let mut written = Vec::new();
    let count = admin.export_account(user_id, &mut written).await.unwrap();
    let lines = lines(&written);
    assert_eq!(lines.len() as u64, count);
    assert_eq!(lines.last(), Some(&ExportLine::End { lines: count - 1 }));
    assert!(!String::from_utf8_lossy(&written).contains("download_url"));

    assert_eq!(admin.delete_account(user_id).await.unwrap(), 1);
    assert_eq!(admin.account_of("ada@example.com").await.unwrap(), None);
    let again = admin.delete_account(user_id).await;
    assert!(
        matches!(again, Err(AdminError::NoSuchAccount(id)) if id == user_id),
        "{again:?}"
    );
    let export = admin.export_account(user_id, Vec::new()).await;
    assert!(matches!(export, Err(AdminError::NoSuchAccount(_))), "{export:?}");
    // What the server remembers of the session is at most five seconds old.
    world.clock.advance(5);
    let answer = world.get("/api/sync/status").bearer(&ada.user.token).send().await;
    assert_eq!(answer.code(), "account_gone");
}
