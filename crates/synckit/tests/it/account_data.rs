//! `synckit account export` and `synckit account delete`.

use serde_json::Value;
use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};

use crate::program::{Server, on_data_dir};

fn create_account(server: &Server, email: &str) {
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key: server.create_app(),
    };
    let client = SyncKitClient::builder(config)
        .credential_store(MemoryStore::default())
        .build();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        client.create_account(email, "a long password").await.unwrap();
        client.authenticate(email, "a long password").await.unwrap();
    });
}

#[test]
fn an_account_is_exported_to_a_new_private_file() {
    let server = Server::start();
    create_account(&server, "ada@example.com");
    let out = server.directory.path().join("ada.jsonl");
    let export = ["account", "export", "ADA@example.com", "--out", out.to_str().unwrap()];
    let ended = on_data_dir(&server.data_dir(), &export).expect_code(0);
    assert!(ended.stdout.contains(" lines written to "), "{}", ended.stdout);
    let text = std::fs::read_to_string(&out).unwrap();
    let kinds: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["begin", "account", "familiar_place", "stream", "session", "end"]
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    let again = on_data_dir(&server.data_dir(), &export).expect_code(1);
    assert!(again.stderr.contains("exists already\nhint: "), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
}

#[test]
fn an_account_is_deleted_when_that_was_confirmed() {
    let server = Server::start();
    create_account(&server, "ada@example.com");
    let delete = ["account", "delete", "ada@example.com"];
    let refused = on_data_dir(&server.data_dir(), &delete).expect_code(1);
    insta::assert_snapshot!(refused.stderr, @"
    error: confirmation is needed, but standard input is not a terminal: This deletes ada@example.com and all of the account's data, in every app, for good.
    hint: add --yes
    ");
    let ended = on_data_dir(&server.data_dir(), &[&delete[..], &["--yes"]].concat()).expect_code(0);
    insta::assert_snapshot!(ended.stdout, @"
    ada@example.com is deleted, and 1 session ended
    The server sweeps the account's files within two hours. Backups, and mails in mail/, are yours to clear.
    ");
    let again = on_data_dir(&server.data_dir(), &[&delete[..], &["--yes", "--json"]].concat()).expect_code(1);
    insta::assert_snapshot!(again.stderr, @r#"{"error":{"code":"not_found","hint":"`synckit account list` shows the accounts of this server","message":"there is no account with the address ada@example.com"}}"#);
}
