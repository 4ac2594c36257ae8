//! A real server under requests that a program makes from its OpenAPI document: valid ones, invalid ones, and those at the
//! edges of every limit. No answer may be a server error, and none other than the document says.

use std::{ffi::OsString, path::Path, process::Command};

use serde_json::{Value, json};
use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};

use crate::program::Server;

const PASSWORD: &str = "correct horse battery staple";

/// The Python interpreter that has it.
fn interpreter() -> OsString {
    std::env::var_os("SYNCKIT_TEST_SCHEMATHESIS")
        .expect("run the tests through `cargo xtask test`, which installs schemathesis and names it")
}

/// An account with a device and a key, through the SDK. Returns the device.
async fn account(server: &Server, api_key: &str, email: &str) -> String {
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key: api_key.to_owned(),
    };
    let client = SyncKitClient::builder(config)
        .credential_store(MemoryStore::default())
        .build();
    client.create_account(email, PASSWORD).await.unwrap();
    client.authenticate(email, PASSWORD).await.unwrap();
    client.setup_encryption_new(PASSWORD).await.unwrap();
    let device = client.register_device("laptop", "linux").await.unwrap();
    device.id.to_string()
}

/// Signs in with the password, as a script does: the answer.
fn sign_in(server: &Server, api_key: &str, email: &str) -> Value {
    let body = json!({ "api_key": api_key, "email": email, "password": PASSWORD });
    crate::http::post(&server.url, "/api/sync/auth", None, &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_requests_get_documented_answers() {
    let python = interpreter();
    // Limits on guesses and requests would answer in place of what is tried.
    let mut arguments = vec!["--allow-password-login", "--log=error"];
    // Every answer has an end.
    arguments.extend(["--event-stream-time", "10 ms"]);
    for limit in [
        "--guesses-per-address",
        "--guesses-per-account-and-address",
        "--guesses-per-account-from-strangers",
        "--session-requests-per-second",
        "--session-request-burst",
        "--address-requests-per-second",
        "--address-request-burst",
    ] {
        arguments.extend([limit, "1000000"]);
    }
    let server = Server::start_with(&arguments);
    let api_key = server.create_app();
    let (ada, eve) = ("ada@example.com", "eve@example.com");
    let device_id = account(&server, &api_key, ada).await;
    // For operations that end a session or an account.
    account(&server, &api_key, eve).await;
    let signed_in = sign_in(&server, &api_key, ada);
    let spare = sign_in(&server, &api_key, eve);
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap().to_owned();
    let token = text(&signed_in, "token");
    let envelope = crate::http::get(&server.url, "/api/sync/keys", Some(&token)).json();

    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let output = Command::new(python)
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(files.join("schemathesis.toml"))
        .args(["run", "--no-color", "--url", &server.url])
        .arg(format!("{}/api/openapi.json", server.url))
        .current_dir(server.directory.path())
        .env("SYNCKIT_HOOKS", files.join("hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SYNCKIT_APP_TOKEN", &token)
        .env("SYNCKIT_ACCOUNT_TOKEN", text(&signed_in, "account_token"))
        .env("SYNCKIT_SPARE_APP_TOKEN", text(&spare, "token"))
        .env("SYNCKIT_SPARE_ACCOUNT_TOKEN", text(&spare, "account_token"))
        .env("SYNCKIT_API_KEY", &api_key)
        .env("SYNCKIT_DEVICE_ID", device_id)
        .env("SYNCKIT_KEY_ID", text(&envelope, "key_id"))
        .output()
        .unwrap();
    let report = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{report}");
    // A run in which every request is refused at the door proves nothing.
    let figures = crate::http::get(&server.url, "/metrics", None).body;
    let good: Vec<&str> = figures
        .lines()
        .filter(|line| line.starts_with("synckit_requests_total") && line.contains("status=\"20"))
        .collect();
    assert!(
        good.len() >= 20,
        "too few operations were reached:\n{}\n{report}",
        good.join("\n")
    );
}
