//! Sign-in of machines without a browser: what the SDK does with codes, refusals and silence.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use synckit_client::{
    AppId, Cursor, DeviceCode, Error, KeyKind, MemoryStore, SyncKitClient, SyncKitConfig, transport::RequestBody,
};
use synckit_doctest::allow_machine;
use synckit_protocol::ApiKey;
use tokio::time::Instant;

use crate::{
    interference::{Fate, Interference},
    world::{World, changes},
};

#[tokio::test]
async fn an_allowed_machine_reads_with_the_password() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    let machine = client(&world.url(), &world.api_key, None);
    let (email, password) = (user.email.clone(), user.password.clone());
    let allow = move |code: &DeviceCode| {
        assert_eq!(code.expires_in, Duration::from_secs(600));
        let page = code.verification_uri_complete.clone();
        tokio::spawn(async move { allow_machine(&page, &email, &password).await.unwrap() });
    };
    machine.login_with_device_code("rack 7", allow).await.unwrap();
    // A session alone opens nothing.
    let closed = machine.pull(laptop_id, Cursor::START).await;
    assert!(matches!(closed, Err(Error::EncryptionNotSetUp)), "{closed:?}");
    machine.setup_encryption_existing(&user.password).await.unwrap();
    let device = machine.register_device("rack 7", "linux").await.unwrap().id;
    assert_eq!(machine.pull(device, Cursor::START).await.unwrap().0.len(), 3);
}

fn client(url: &str, api_key: &str, transport: Option<Arc<Interference>>) -> SyncKitClient {
    let builder = SyncKitClient::builder(SyncKitConfig {
        server_url: url.to_owned(),
        api_key: api_key.to_owned(),
    });
    let builder = builder.credential_store(MemoryStore::default());
    match transport {
        Some(transport) => builder.transport(transport).build(),
        None => builder.build(),
    }
}

fn answered(status: u16, body: &Value) -> Fate {
    Fate::Answered(status, body.to_string().into_bytes())
}

fn refused(error: &str) -> Fate {
    answered(400, &json!({ "error": error, "error_description": "so it is" }))
}

fn codes(changed: &[(&str, Value)]) -> Value {
    let mut codes = json!({
        "device_code": "d", "user_code": "BCDF-GHJK", "verification_uri": "https://sync.example.com/oauth/device",
        "verification_uri_complete": "https://sync.example.com/oauth/device?user_code=BCDF-GHJK",
        "expires_in": 600, "interval": 5,
    });
    for (name, value) in changed {
        codes[*name] = value.clone();
    }
    codes
}

/// A server that gives out these codes, and answers polls by a script: the end of a sign-in, the seconds between its polls, and
/// whether anything was shown.
async fn scripted(codes: Value, script: Vec<Fate>) -> (Error, Vec<u64>, bool) {
    let (script, polls) = (Mutex::new(VecDeque::from(script)), Arc::new(Mutex::new(Vec::new())));
    let (begun, seen) = (Instant::now(), Arc::clone(&polls));
    let server = Interference::new(move |request: &http::Request<RequestBody>| {
        if request.uri().path() == "/oauth/device_authorization" {
            return answered(200, &codes);
        }
        assert_eq!(request.uri().path(), "/oauth/token");
        seen.lock().unwrap().push(begun.elapsed());
        let next = script.lock().unwrap().pop_front();
        next.unwrap_or_else(|| refused("authorization_pending"))
    });
    let key = ApiKey::new(KeyKind::Publishable, AppId::from_bytes([7; 16]), [7; 16]).to_text();
    let client = client("https://sync.example.com", key.expose(), Some(server));
    let mut shown = false;
    let ended = client.login_with_device_code("rack 7", |_| shown = true).await;
    let times: Vec<u64> = polls.lock().unwrap().iter().map(Duration::as_secs).collect();
    let pauses = std::iter::once(0).chain(times.iter().copied());
    let pauses = pauses.zip(&times).map(|(before, after)| after - before).collect();
    (ended.unwrap_err(), pauses, shown)
}

#[tokio::test(start_paused = true)]
async fn polls_keep_the_pace_of_the_server() {
    let script = vec![
        refused("authorization_pending"),
        refused("slow_down"),
        refused("authorization_pending"),
        refused("slow_down"),
        refused("authorization_pending"),
        refused("access_denied"),
    ];
    let (error, pauses, _) = scripted(codes(&[]), script).await;
    assert!(matches!(error, Error::DeviceSignInDenied), "{error:?}");
    assert_eq!(pauses, [5, 5, 10, 10, 15, 15]);

    // A server that does not answer is asked half as often, one that names a time after that.
    let script = vec![
        Fate::RequestLost,
        Fate::RequestLost,
        Fate::Busy(45),
        refused("expired_token"),
    ];
    let (error, pauses, _) = scripted(codes(&[("interval", json!(2))]), script).await;
    assert!(matches!(error, Error::DeviceSignInExpired), "{error:?}");
    assert_eq!(pauses, [2, 4, 8, 45]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_gives_up_at_the_end_of_its_code() {
    let (error, pauses, _) = scripted(codes(&[("expires_in", json!(21))]), Vec::new()).await;
    assert!(matches!(error, Error::DeviceSignInExpired), "{error:?}");
    assert_eq!(pauses, [5, 5, 5, 5]);
    let lost = (0..100).map(|_| Fate::RequestLost).collect();
    let (error, pauses, _) = scripted(codes(&[]), lost).await;
    assert!(matches!(error, Error::DeviceSignInExpired), "{error:?}");
    assert_eq!(pauses[..5], [5, 10, 20, 40, 60]);
}

#[tokio::test(start_paused = true)]
async fn other_refusals_end_the_sign_in() {
    let invalid = |error: &Error| matches!(error, Error::BrowserSignIn { code, .. } if code == "invalid_grant");
    let (error, ..) = scripted(codes(&[]), vec![refused("invalid_grant")]).await;
    assert!(invalid(&error), "{error:?}");
    let (error, ..) = scripted(codes(&[]), vec![refused("invalid_client")]).await;
    assert!(matches!(error, Error::ApiKeyInvalid), "{error:?}");
    let (error, ..) = scripted(codes(&[]), vec![answered(200, &json!({ "access_token": 1 }))]).await;
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn impossible_codes_are_not_shown() {
    for (name, value) in [
        ("interval", json!(0)),
        ("interval", json!(61)),
        ("expires_in", json!(0)),
        ("expires_in", json!(3601)),
        ("expires_in", json!(u64::MAX)),
        ("user_code", json!("")),
        ("user_code", json!("\u{1b}]0;owned\u{7}")),
        ("verification_uri", json!("https://sync.example.com\r\nrun this")),
        ("verification_uri_complete", json!("\u{202e}")),
    ] {
        let (error, pauses, shown) = scripted(codes(&[(name, value.clone())]), Vec::new()).await;
        assert!(matches!(error, Error::Protocol { .. }), "{name} {value}: {error:?}");
        assert!(pauses.is_empty() && !shown, "{name} {value}");
    }
    // The control: what is possible is shown.
    let (_, pauses, shown) = scripted(codes(&[]), vec![refused("access_denied")]).await;
    assert!(shown && pauses.len() == 1);
}
