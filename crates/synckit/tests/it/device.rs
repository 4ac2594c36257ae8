//! `synckit device`: a user at the command line, without a keychain and without a trace.

use std::{io::Write as _, process::Stdio};

use serde_json::Value;
use synckit_client::{ChangeOp, Cursor, Error};

use crate::{
    person::{EMAIL, PASSWORD, Person, block_on, note},
    program::{Server, UNKNOWN_KEY, run, synckit},
};

#[test]
fn user_lists_renames_and_revokes_devices() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let (phone, phone_device) = person.device("phone").await;

        let listed = person.run(&["device", "list"]).expect_code(0);
        assert!(
            listed.stdout.contains("laptop") && listed.stdout.contains("phone"),
            "{}",
            listed.stdout
        );
        let json: Value =
            serde_json::from_str(&person.run(&["device", "list", "--json"]).expect_code(0).stdout).unwrap();
        let devices = json["devices"].as_array().unwrap();
        assert_eq!(devices.len(), 2, "the command itself is no device: {json:#}");
        assert_eq!(
            (&devices[1]["name"], &devices[1]["platform"], &devices[1]["device_id"]),
            (&"phone".into(), &"ios".into(), &phone_device.id.to_string().into())
        );

        let renamed = person.run(&["device", "rename", "phone", "old phone"]).expect_code(0);
        insta::assert_snapshot!(renamed.stdout, @"phone is now called old phone");
        let taken = person.run(&["device", "rename", "old phone", "laptop"]).expect_code(1);
        assert!(
            taken.stderr.contains("another device has this name"),
            "{}",
            taken.stderr
        );

        // Without a person to ask, nothing happens that cannot be taken back.
        for arguments in [&["device", "revoke", "old phone"][..], &["device", "rotate-key"]] {
            let asked = person.run(arguments).expect_code(1);
            assert!(
                asked.stderr.starts_with("error: confirmation is needed")
                    && asked.stderr.ends_with("hint: add --yes\n"),
                "{}",
                asked.stderr
            );
        }
        phone.pull(phone_device.id, Cursor::START).await.unwrap();
        let revoked = person.run(&["device", "revoke", "old phone", "--yes"]).expect_code(0);
        insta::assert_snapshot!(revoked.stdout, @r"
        old phone is revoked: all of its sessions end within 5 seconds. It keeps the data that it already holds.
        If it was lost or stolen, replace the master key as well: `synckit device rotate-key`.
        ");
        let shut_out = phone.pull(phone_device.id, Cursor::START).await.unwrap_err();
        assert!(matches!(shut_out, Error::SessionEnded), "{shut_out:?}");
        let missing = person.run(&["device", "revoke", "old phone", "--yes"]).expect_code(1);
        insta::assert_snapshot!(missing.stderr, @r#"
        error: this account has no device "old phone" in this app
        hint: `synckit device list` shows the devices of this account
        "#);
    });
}

#[test]
fn names_of_a_hostile_server_cannot_steer_a_terminal() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        // The server accepts no such name from a client, but a hostile server could answer with one.
        let database = rusqlite::Connection::open(server.data_dir().join("synckit.db")).unwrap();
        let name = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}gnp.\nhint: run this";
        database.execute("UPDATE devices SET name = ?1", [name]).unwrap();
        let listed = person.run(&["device", "list"]).expect_code(0);
        let line = listed.stdout.lines().nth(2).unwrap();
        assert!(
            line.starts_with(r"x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}gnp.\u{a}hint: run this  linux"),
            "{line}"
        );
        let renamed = person
            .run(&["device", "rename", &person.laptop.id.to_string(), "laptop"])
            .expect_code(0);
        assert!(
            renamed.stdout.starts_with(r"x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}gnp."),
            "{}",
            renamed.stdout
        );
        assert!(!renamed.stdout.contains("\nhint"), "{}", renamed.stdout);
        database.execute("UPDATE devices SET name = ?1", [name]).unwrap();
        let json = person.run(&["device", "list", "--json"]).expect_code(0).stdout;
        assert!(!json.chars().any(|c| c.is_control() && c != '\n'), "{json:?}");
        assert!(!json.contains('\u{202e}'), "{json:?}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["devices"][0]["name"], name, "programs get the name as it is");
    });
}

#[test]
fn sessions_without_a_device_are_listed_and_ended() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let none = person.run(&["device", "list"]).expect_code(0);
        assert!(!none.stdout.contains("without a device"), "{}", none.stdout);
        let stranger = person.signed_in().await;
        let listed = person.run(&["device", "list", "--json"]).expect_code(0);
        let json: Value = serde_json::from_str(&listed.stdout).unwrap();
        let sessions = json["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 2, "{json:#}");
        assert_eq!(sessions[1]["device_id"], person.laptop.id.to_string());
        let id = sessions[0]["session_id"].as_str().unwrap();
        let listed = person.run(&["device", "list"]).expect_code(0);
        assert!(listed.stdout.contains(&format!("\n{id}  ")), "{}", listed.stdout);

        let ended = person.run(&["device", "end-session", id]).expect_code(0);
        insta::assert_snapshot!(ended.stdout, @"The session has ended.");
        assert!(matches!(stranger.devices().await, Err(Error::SessionEnded)));
        for unknown in [id, "nonsense"] {
            let missing = person.run(&["device", "end-session", unknown]).expect_code(1);
            assert!(
                missing.stderr.starts_with("error: this account has no session"),
                "{}",
                missing.stderr
            );
        }
    });
}

#[test]
fn safety_code_is_that_of_the_devices() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let code = person.client.safety_code().await.unwrap().to_string();
        let shown = person.run(&["device", "safety-code"]).expect_code(0);
        assert_eq!(shown.stdout, format!("{code}\n"));
        let json = person.run(&["device", "safety-code", "--json"]).expect_code(0);
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json, serde_json::json!({ "safety_code": code }));
    });
}

#[test]
fn revocation_with_rotation_changes_the_key() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let (_, phone) = person.device("phone").await;
        let id = phone.id.to_string();
        let revoked = person
            .run(&["device", "revoke", &id, "--rotate", "--yes", "--json"])
            .expect_code(0);
        let json: Value = serde_json::from_str(&revoked.stdout).unwrap();
        assert_eq!((&json["revoked"], &json["rotated"]), (&true.into(), &true.into()));
        let refused = person
            .client
            .push(person.laptop.id, vec![note(ChangeOp::Insert, "1", 1)])
            .await
            .unwrap_err();
        assert!(matches!(refused.source, Error::KeyRotated { .. }), "{refused:?}");
        person.run(&["device", "rotate-key", "--yes"]).expect_code(0);
        let asked = person.run(&["device", "replace-account-key"]).expect_code(1);
        assert!(asked.stderr.contains("add --yes"), "{}", asked.stderr);
        person.run(&["device", "replace-account-key", "--yes"]).expect_code(0);
        person.client.setup_encryption_existing(PASSWORD).await.unwrap();
        person.push(vec![note(ChangeOp::Insert, "1", 1)]).await;
    });
}

#[test]
fn password_comes_from_stdin_or_environment_only() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let with_stdin = |text: &str| {
            let mut child = person
                .command()
                .env_remove("SYNCKIT_PASSWORD")
                .args(["device", "list", "--password-stdin"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        assert_eq!(
            with_stdin(&format!("{PASSWORD}\nnot this line\n")),
            (Some(0), String::new())
        );
        let (code, empty) = with_stdin("");
        assert_eq!(code, Some(1));
        insta::assert_snapshot!(empty, @r"
        error: standard input contains no password
        hint: with --password-stdin the first line of standard input is the password
        ");
        let nowhere = run(person.command().env_remove("SYNCKIT_PASSWORD").args(["device", "list"])).expect_code(1);
        insta::assert_snapshot!(nowhere.stderr, @r"
        error: the command needs the password, and has no terminal to ask for it
        hint: use --password-stdin, or set SYNCKIT_PASSWORD
        ");
        run(person.command().args(["device", "list", "--password", PASSWORD])).expect_code(2);

        let wrong = run(person
            .command()
            .env("SYNCKIT_PASSWORD", "wrong")
            .args(["device", "list"]))
        .expect_code(1);
        insta::assert_snapshot!(wrong.stderr, @r"
        error: the e-mail or the password is wrong
        hint: check the address and the password; after ten wrong ones the server refuses sign-ins for some minutes
        ");
        let key = run(person
            .command()
            .env("SYNCKIT_API_KEY", UNKNOWN_KEY)
            .args(["device", "list"]))
        .expect_code(1);
        insta::assert_snapshot!(key.stderr, @r"
        error: the API key is not valid on this server
        hint: show the apps with `synckit app list`, make a new key with `synckit app rotate-key`
        ");
        let sessions_left = person.client.devices().await.unwrap().len();
        assert_eq!(sessions_left, 1);
    });
}

#[test]
fn bad_url_and_unreachable_server_differ() {
    let to = |url: &str| {
        run(synckit()
            .args([
                "device",
                "list",
                "--server",
                url,
                "--api-key",
                UNKNOWN_KEY,
                "--email",
                EMAIL,
            ])
            .env("SYNCKIT_PASSWORD", "x"))
        .expect_code(1)
        .stderr
    };
    insta::assert_snapshot!(to("http://sync.example.com"), @r#"
    error: the server URL "http://sync.example.com" cannot be used: plain http is allowed to loopback only: use https
    hint: give the server's address as --server https://sync.example.com
    "#);
    let unreachable = to("http://127.0.0.1:9");
    assert!(
        unreachable.starts_with("error: the request to the server failed: "),
        "{unreachable}"
    );
    assert!(
        unreachable.contains("\nhint: check the address, and that the server runs"),
        "{unreachable}"
    );
}
