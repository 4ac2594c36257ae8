//! The credential stores: a real Secret Service, a private file, and neither.

use std::process::Command;

use synckit_client::{AppId, CredentialError, Cursor, Error, FileStore, KeyKind, SyncKitClient, SyncKitConfig};
use synckit_protocol::ApiKey;

use crate::world::{World, changes, pull_all};

#[tokio::test]
async fn keychain_restores_session_and_key_silently() {
    // The keychain restores session and key without a prompt.
    let world = World::start().await;
    let user = world.user().await;
    let client = SyncKitClient::new(world.config());
    client.authenticate(&user.email, &user.password).await.unwrap();
    client.setup_encryption_new(&user.password).await.unwrap();
    let device = client.register_device("laptop", "linux").await.unwrap();
    client.push(device.id, changes(3)).await.unwrap();
    let (_, cursor) = pull_all(&client, device.id, Cursor::START).await.unwrap();
    drop(client);

    let restarted = SyncKitClient::new(world.config());
    restarted.try_load_key_from_keychain().unwrap();
    assert!(restarted.user_id().is_some());
    assert_eq!(
        pull_all(&restarted, device.id, Cursor::START).await.unwrap(),
        (changes(3), cursor)
    );

    restarted.sign_out().await.unwrap();
    assert!(matches!(restarted.status().await, Err(Error::NotSignedIn)));
    let after = SyncKitClient::new(world.config());
    assert!(matches!(after.try_load_key_from_keychain(), Err(Error::NoStoredKey)));
}

#[tokio::test]
async fn apps_and_users_do_not_share_a_keychain_record() {
    let world = World::start().await;
    let (first, second) = (world.user().await, world.user().await);
    let mut ids = Vec::new();
    for user in [&first, &second] {
        let client = SyncKitClient::new(world.config());
        let (id, _) = client.authenticate(&user.email, &user.password).await.unwrap();
        client.setup_encryption_new(&user.password).await.unwrap();
        ids.push(id);
    }
    // The last one who signed in comes back; the first one finds the own key after signing in.
    let client = SyncKitClient::new(world.config());
    client.try_load_key_from_keychain().unwrap();
    assert_eq!(client.user_id(), Some(ids[1]));
    client.authenticate(&first.email, &first.password).await.unwrap();
    let device = client.register_device("laptop", "linux").await.unwrap();
    let error = client.push(device.id, changes(1)).await.unwrap_err();
    assert!(
        matches!(error.source, Error::EncryptionNotSetUp),
        "another user's key was dropped: {error:?}"
    );
    client.try_load_key_from_keychain().unwrap();
    client.push(device.id, changes(1)).await.unwrap();

    let other_app = SyncKitClient::new(SyncKitConfig {
        api_key: "another".into(),
        ..world.config()
    });
    assert!(matches!(
        other_app.try_load_key_from_keychain(),
        Err(Error::NoStoredKey)
    ));
}

#[tokio::test]
async fn credential_file_is_private_and_complete() {
    // A credential file is private and restores everything.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let file = world.file(&format!("{} laptop.json", user.email));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let restarted = world.another_client(&user).await;
    assert_eq!(
        pull_all(&restarted, laptop_id, Cursor::START).await.unwrap().0,
        changes(2)
    );

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let client = SyncKitClient::builder(world.config())
            .credential_store(FileStore::new(file.clone()))
            .build();
        let error = client.try_load_key_from_keychain().unwrap_err();
        assert!(
            matches!(error, Error::Credentials(CredentialError::FileNotPrivate(_))),
            "{error:?}"
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    std::fs::write(&file, "{").unwrap();
    let client = SyncKitClient::builder(world.config())
        .credential_store(FileStore::new(file))
        .build();
    let error = client.try_load_key_from_keychain().unwrap_err();
    assert!(
        matches!(error, Error::Credentials(CredentialError::FileDamaged { .. })),
        "{error:?}"
    );
}

/// Runs itself without a session bus, because the bus of a process is chosen once.
#[test]
fn without_a_keychain_the_error_says_what_to_do() {
    const CHILD: &str = "SYNCKIT_TEST_WITHOUT_KEYCHAIN";
    if std::env::var_os(CHILD).is_some() {
        let key = ApiKey::new(KeyKind::Publishable, AppId::from_bytes([9; 16]), [0; 16]);
        let config = SyncKitConfig {
            server_url: "https://sync.example.com".into(),
            api_key: key.to_text().expose().to_owned(),
        };
        let client = SyncKitClient::new(config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // Found out before anything is sent: there is no such server.
        let error = runtime
            .block_on(client.authenticate("user@example.com", "password"))
            .unwrap_err();
        assert!(
            matches!(error, Error::Credentials(CredentialError::NoKeychain(_))),
            "{error:?}"
        );
        let text = synckit_client::ErrorChain(&error).to_string();
        assert!(
            text.contains("Secret Service") && text.contains("another credential store"),
            "{text}"
        );
        assert!(matches!(
            client.try_load_key_from_keychain(),
            Err(Error::Credentials(CredentialError::NoKeychain(_)))
        ));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "keychain::without_a_keychain_the_error_says_what_to_do",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
