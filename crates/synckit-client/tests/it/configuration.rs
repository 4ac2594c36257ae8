//! What is wrong with a configuration is said by the first call, and nothing is ever sent in the clear.

use std::time::Duration;

use synckit_client::{ApiKeyError, AppId, Error, KeyKind, MemoryStore, ProblemCode, SyncKitClient, SyncKitConfig};
use synckit_protocol::ApiKey;

use crate::world::World;

/// Well-formed, and of no app.
fn unknown_key() -> String {
    let key = ApiKey::new(KeyKind::Publishable, AppId::from_bytes([9; 16]), [0; 16]);
    key.to_text().expose().to_owned()
}

fn client(server_url: &str) -> SyncKitClient {
    SyncKitClient::builder(SyncKitConfig {
        server_url: server_url.into(),
        api_key: unknown_key(),
    })
    .credential_store(MemoryStore::default())
    .build()
}

#[tokio::test]
async fn unusable_url_fails_the_first_call() {
    // A URL that cannot be used is the error of the first call.
    for (url, hint) in [
        ("", "it is not a URL"),
        ("sync.example.com", "it is not a URL"),
        ("ftp://sync.example.com", "the scheme is not https"),
        ("http://sync.example.com", "plain http is allowed to loopback only"),
        ("http://10.0.0.1:8080", "plain http is allowed to loopback only"),
        ("http://localhost.example.com", "plain http is allowed to loopback only"),
        ("https://user:pass@sync.example.com", "user name or a password"),
        ("https://sync.example.com/?x=1", "query or a fragment"),
    ] {
        let error = client(url)
            .authenticate("user@example.com", "password")
            .await
            .unwrap_err();
        assert!(matches!(error, Error::InvalidServerUrl { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains(hint), "{url}: {error}");
        assert!(
            matches!(
                client(url).try_load_key_from_keychain(),
                Err(Error::InvalidServerUrl { .. })
            ),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_network_error() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let client = SyncKitClient::builder(SyncKitConfig {
            server_url: format!("http://{host}:{port}"),
            api_key: unknown_key(),
        })
        .credential_store(MemoryStore::default())
        .connect_timeout(Duration::from_secs(2))
        .build();
        let error = client.authenticate("user@example.com", "password").await.unwrap_err();
        assert!(matches!(error, Error::Network(_)), "{error:?}");
    }
}

#[tokio::test]
async fn calls_before_their_time_say_what_to_call_first() {
    let world = World::start().await;
    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, Error::NotSignedIn), "{error:?}");
    assert!(error.to_string().contains("authenticate"));
    assert!(matches!(client.try_load_key_from_keychain(), Err(Error::NoStoredKey)));

    let user = world.user().await;
    client.authenticate(&user.email, &user.password).await.unwrap();
    let device = client.register_device("laptop", "linux").await.unwrap();
    let error = client.push(device.id, crate::world::changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::EncryptionNotSetUp), "{error:?}");
    assert!(!client.has_server_key().await.unwrap());
    assert!(matches!(
        client.setup_encryption_existing(&user.password).await,
        Err(Error::NoServerKey)
    ));
}

#[tokio::test]
async fn a_wrong_api_key_is_named() {
    let world = World::start().await;
    let user = world.user().await;
    let sign_in = async |api_key: &str| {
        let client = SyncKitClient::builder(SyncKitConfig {
            api_key: api_key.into(),
            ..world.config()
        })
        .credential_store(MemoryStore::default())
        .build();
        client.authenticate(&user.email, &user.password).await
    };
    let key = |kind| ApiKey::new(kind, world.app_id, [0; 16]).to_text();
    let error = sign_in(key(KeyKind::Publishable).expose()).await.unwrap_err();
    assert!(matches!(error, Error::ApiKeyInvalid), "{error:?}");

    let error = sign_in(&world.api_key[..world.api_key.len() - 1]).await.unwrap_err();
    assert!(
        matches!(error, Error::ApiKeyUnusable(ApiKeyError::Malformed)),
        "{error:?}"
    );
    sign_in(&world.api_key).await.unwrap();
}

#[tokio::test]
async fn a_secret_key_is_never_sent() {
    let key = ApiKey::new(KeyKind::ServerSecret, AppId::from_bytes([1; 16]), [0; 16]).to_text();
    // Nothing listens there: a request would fail as one.
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: "http://127.0.0.1:9".into(),
        api_key: key.expose().to_owned(),
    })
    .credential_store(MemoryStore::default())
    .build();
    for error in [
        client.authenticate("ada@example.com", "password").await.unwrap_err(),
        client
            .authenticate_with_code("code", "verifier", 49152)
            .await
            .unwrap_err(),
    ] {
        let kind = ApiKeyError::Kind(KeyKind::ServerSecret);
        assert!(
            matches!(error, Error::ApiKeyUnusable(found) if found == kind),
            "{error:?}"
        );
        assert!(!format!("{error} {error:?}").contains(key.expose()));
    }
}

#[tokio::test]
async fn another_service_at_the_url_is_noticed() {
    // Another service at the url is not taken for the server.
    let world = World::start().await;
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: format!("{}/blobs", world.url()),
        ..world.config()
    })
    .credential_store(MemoryStore::default())
    .build();
    let error = client.authenticate("user@example.com", "password").await.unwrap_err();
    assert!(
        matches!(error, Error::Protocol { .. })
            || matches!(
                error.problem_code(),
                Some(ProblemCode::NotFound | ProblemCode::MethodNotAllowed)
            ),
        "{error:?}"
    );
}

#[test]
fn debug_output_shows_no_key() {
    let config = SyncKitConfig {
        server_url: "https://sync.example.com".into(),
        api_key: "secret-key".into(),
    };
    assert!(!format!("{config:?}").contains("secret-key"));
    assert!(!format!("{:?}", SyncKitClient::new(config)).contains("secret-key"));
}
