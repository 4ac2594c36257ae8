//! The snippets of the product page, letter for letter, with only URL, key and credentials replaced.

use std::{cell::RefCell, collections::BTreeMap, error::Error, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use synckit_client::{BlobHash, ChangeEntry, ChangeOp, Cursor, MemoryStore, SyncKitClient, SyncKitConfig};

use url::Url;

use crate::world::{World, changes};

/// The app's own database, as the page supposes it.
#[derive(Default)]
struct Database {
    rows: RefCell<BTreeMap<(String, String), Option<Value>>>,
    pending: RefCell<Vec<ChangeEntry>>,
}

impl Database {
    fn upsert(&self, table: &str, row_id: &str, data: &Option<Value>) {
        self.rows
            .borrow_mut()
            .insert((table.to_owned(), row_id.to_owned()), data.clone());
    }

    fn delete(&self, table: &str, row_id: &str) {
        self.rows.borrow_mut().remove(&(table.to_owned(), row_id.to_owned()));
    }

    fn pending_changes_since(&self, _last_push: Cursor) -> Vec<ChangeEntry> {
        self.pending.take()
    }
}

#[tokio::test]
async fn the_snippets_of_the_page_work_as_shown() -> Result<(), Box<dyn Error>> {
    let world = World::start().await;
    let user = world.user().await;
    let (url, key) = (world.url(), world.api_key.as_str());
    let (email, pass) = (user.email.as_str(), user.password.as_str());
    let changes = changes(3);

    // Five lines.
    let client = SyncKitClient::new(SyncKitConfig {
        server_url: url.as_str().into(),
        api_key: key.into(),
    });
    let (user_id, app_id) = client.authenticate(email, pass).await?;
    client.setup_encryption_new(pass).await?; // generates + wraps master key
    let device = client.register_device("MacBook", "macos").await?;
    let cursor = client.push(device.id, changes).await?; // encrypted, retried, done

    assert_eq!((client.user_id(), client.app_id()), (Some(user_id), Some(app_id)));
    let db = Database::default();
    db.pending.borrow_mut().extend(crate::world::changes(5));
    let last_push = cursor;

    // The sync loop.
    // Pull remote changes (auto-decrypted)
    let (changes, new_cursor, has_more) = client.pull(device.id, cursor).await?;
    for change in &changes {
        match change.op {
            ChangeOp::Insert => db.upsert(&change.table, &change.row_id, &change.data),
            ChangeOp::Update => db.upsert(&change.table, &change.row_id, &change.data),
            ChangeOp::Delete => db.delete(&change.table, &change.row_id),
        }
    }
    // Push local changes (auto-encrypted)
    let local_changes = db.pending_changes_since(last_push);
    let cursor = client.push(device.id, local_changes).await?;

    assert_eq!((db.rows.borrow().len(), has_more), (3, false));
    assert_eq!(cursor, new_cursor);

    // Blobs.
    let data = b"a file".to_vec();
    let (hash, size) = (BlobHash::of(&data), data.len() as u64);
    let original = data.clone();
    // Upload: hash locally, request URL, upload encrypted, confirm
    let resp = client.blob_upload_url(&hash, size).await?;
    if !resp.already_exists {
        client.blob_upload(&resp.upload_url, data).await?; // encrypted on wire
    }
    client.blob_confirm(&hash, size).await?;
    // Download: request URL, download + decrypt
    let url = client.blob_download_url(&hash).await?;
    let plaintext = client.blob_download(&url).await?;

    assert_eq!(plaintext, original);
    assert!(client.blob_upload_url(&hash, size).await?.already_exists);
    client.blob_confirm(&hash, size).await?;

    // Start of the app, three times: a later start of the first device, a new device, and the very first device.
    for known in ["keychain", "server", "nothing"] {
        let user = if known == "nothing" {
            world.user().await
        } else {
            user.clone()
        };
        let config = SyncKitConfig {
            server_url: world.url(),
            api_key: key.to_owned(),
        };
        let client = if known == "server" {
            // Another device has another keychain.
            SyncKitClient::builder(config)
                .credential_store(MemoryStore::default())
                .build()
        } else {
            SyncKitClient::new(config)
        };
        client.authenticate(&user.email, &user.password).await?;
        let password = user.password.clone();
        let mut way = "keychain";
        // Try keychain first (no password prompt needed)
        if client.try_load_key_from_keychain().is_ok() {
            // Master key cached from previous session — ready to sync
        } else if client.has_server_key().await? {
            // Existing account on new device — ask for password once
            client.setup_encryption_existing(&password).await?;
            way = "server";
        } else {
            // First device ever — generate master key, wrap with password
            client.setup_encryption_new(&password).await?;
            way = "nothing";
        }
        assert_eq!(way, known);
        let device = client.register_device("MacBook", "macos").await?;
        let expected = if known == "nothing" { 0 } else { 8 };
        assert_eq!(client.pull(device.id, Cursor::START).await?.0.len(), expected);
    }

    // OAuth2 PKCE also supported (browser-based auth)
    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    let (port, state, verifier) = (
        4_000,
        "state",
        String::from("the-43-characters-or-more-that-the-app-drew-at-random"),
    );
    let challenge = &URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let url = client.build_authorize_url(port, state, challenge);
    // ... redirect user, receive code ...
    let back = synckit_doctest::allow(&url, &user.email, &user.password).await.unwrap();
    let fields = Url::parse(&back)?;
    let code = fields.query_pairs().find(|(name, _)| name == "code").unwrap().1;
    let signed_in = client.authenticate_with_code(&code, &verifier, port).await?;
    assert_eq!(signed_in, (user_id, app_id));
    client.setup_encryption_existing(&user.password).await?;
    let device = client.register_device("tablet", "android").await?;
    assert_eq!(client.pull(device.id, Cursor::START).await?.0.len(), 8);
    Ok(())
}

#[test]
fn the_client_is_shared_between_threads() {
    fn send_and_sync<T: Send + Sync + Clone + 'static>() {}
    send_and_sync::<SyncKitClient>();
    send_and_sync::<Arc<SyncKitClient>>();
}
