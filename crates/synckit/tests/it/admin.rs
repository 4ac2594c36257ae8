//! `synckit app`, `synckit account` and `synckit token`, beside a running server and without one.

use serde_json::Value;
use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};

use crate::program::{Server, field, on_data_dir, run, run_with, synckit};

#[test]
fn apps_are_managed_while_the_server_runs() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let created = on_data_dir(&data_dir, &["app", "create", "Notes"]).expect_code(0);
    let (id, key) = (field(&created.stdout, "app id"), field(&created.stdout, "API key"));
    assert!(key.starts_with("skp_"), "{key}");

    let listed = on_data_dir(&data_dir, &["app", "list"]).expect_code(0);
    assert!(
        listed.stdout.contains(id) && listed.stdout.contains(key),
        "{}",
        listed.stdout
    );

    let rotated = on_data_dir(&data_dir, &["app", "rotate-key", "Notes", "--overlap", "12h"]).expect_code(0);
    assert_ne!(field(&rotated.stdout, "API key"), key);
    assert!(
        rotated.stdout.contains("older keys of the app work until"),
        "{}",
        rotated.stdout
    );
    let listed = on_data_dir(&data_dir, &["app", "list", "--json"]).expect_code(0);
    let apps: Value = serde_json::from_str(&listed.stdout).unwrap();
    let keys = apps[0]["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys[0]["ends_at"].is_null() && keys[1]["ends_at"].is_u64(), "{apps:#}");

    let rotated = on_data_dir(&data_dir, &["app", "rotate-key", id, "--overlap", "0s"]).expect_code(0);
    assert!(rotated.stdout.contains("have ended"), "{}", rotated.stdout);
    let listed = on_data_dir(&data_dir, &["app", "list", "--json"]).expect_code(0);
    let apps: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(apps[0]["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn a_plan_is_given_shown_and_taken_away() {
    let server = Server::start();
    let data_dir = server.data_dir();
    on_data_dir(&data_dir, &["app", "create", "Notes"]).expect_code(0);
    let usage = || {
        let shown = on_data_dir(&data_dir, &["app", "usage", "Notes", "--json"]).expect_code(0);
        serde_json::from_str::<Value>(&shown.stdout).unwrap()
    };
    assert!(usage()["plan"].is_null());
    let given = on_data_dir(&data_dir, &["app", "plan", "Notes", "--gb", "25", "--burst", "2.5"]).expect_code(0);
    let expected = "Notes may store 25.0 GB and move 62.5 GB a month";
    assert!(given.stdout.contains(expected), "{}", given.stdout);
    let plan = &usage()["plan"];
    assert_eq!(
        (&plan["gigabytes"], &plan["burst_hundredths"]),
        (&25.into(), &250.into())
    );
    let shown = on_data_dir(&data_dir, &["app", "usage", "Notes"]).expect_code(0);
    assert!(
        shown.stdout.contains("62.5 GB") && shown.stdout.contains("0 %"),
        "{}",
        shown.stdout
    );
    on_data_dir(&data_dir, &["app", "plan", "Notes", "--none"]).expect_code(0);
    let shown = on_data_dir(&data_dir, &["app", "usage", "Notes"]).expect_code(0);
    assert!(shown.stdout.contains("no limits"), "{}", shown.stdout);
    for wrong in [&["--gb", "0"][..], &["--burst", "3"], &["--gb", "5", "--none"], &[]] {
        let arguments = [&["app", "plan", "Notes"], wrong].concat();
        on_data_dir(&data_dir, &arguments).expect_code(2);
    }
}

#[test]
fn users_of_an_app_are_limited_and_no_longer() {
    let server = Server::start();
    let data_dir = server.data_dir();
    on_data_dir(&data_dir, &["app", "create", "Notes"]).expect_code(0);
    let usage = |more: &[&str]| {
        let arguments = [&["app", "usage", "Notes"], more].concat();
        on_data_dir(&data_dir, &arguments).expect_code(0).stdout
    };
    let limited = on_data_dir(&data_dir, &["app", "user-limit", "Notes", "--mb", "500"]).expect_code(0);
    let expected = "each user may store 500.0 MB and move 2.5 GB in 30 days";
    assert!(limited.stdout.contains(expected), "{}", limited.stdout);
    assert!(usage(&[]).contains(expected), "{}", usage(&[]));
    let shown: Value = serde_json::from_str(&usage(&["--json"])).unwrap();
    assert_eq!(shown["user_limit"]["transfer_bytes"], 2_500_000_000_u64);
    on_data_dir(&data_dir, &["app", "user-limit", "Notes", "--none"]).expect_code(0);
    assert!(!usage(&[]).contains("each user"), "{}", usage(&[]));
    for wrong in [
        &["--mb", "0"][..],
        &["--mb", "1.5"],
        &["--burst", "3"],
        &["--mb", "5", "--none"],
        &[],
    ] {
        let arguments = [&["app", "user-limit", "Notes"], wrong].concat();
        on_data_dir(&data_dir, &arguments).expect_code(2);
    }
}

/// Half of what one is creating looks to the other like a database that was lost, so each waits for the other.
#[test]
fn a_server_and_commands_start_in_one_new_place() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let commands = ["Notes", "Tasks", "Photos"].map(|name| {
            let data_dir = data_dir.clone();
            std::thread::spawn(move || on_data_dir(&data_dir, &["app", "create", name]))
        });
        let server = Server::start_in(directory, &[]);
        for command in commands {
            command.join().unwrap().expect_code(0);
        }
        let listed = on_data_dir(&server.data_dir(), &["app", "list"]).expect_code(0);
        assert!(listed.stdout.contains("Photos"), "{}", listed.stdout);
    }
}

/// The server has the other settings of its mail server from flags, or from the environment.
#[test]
fn commands_need_no_settings_of_mail() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("synckit.toml");
    std::fs::write(&file, "mail_from = 'sync@example.com'\n").unwrap();
    let data_dir = directory.path().join("data");
    for (arguments, variable) in [
        (["app", "create", "Notes"].as_slice(), "SYNCKIT_SMTP_URL"),
        (&["app", "list"], "SYNCKIT_SMTP_URL"),
        (&["app", "list", "--config"], "SYNCKIT_LOG"),
    ] {
        let mut command = synckit();
        command.args(arguments);
        if arguments.contains(&"--config") {
            command.arg(&file);
        }
        command.arg("--data-dir").arg(&data_dir);
        command.env(variable, "smtp://mail.example.com");
        run(&mut command).expect_code(0);
    }
}

#[test]
fn an_app_that_is_not_there_is_named_in_the_error() {
    let server = Server::start();
    let ended = on_data_dir(&server.data_dir(), &["app", "rotate-key", "Ntoes"]).expect_code(1);
    insta::assert_snapshot!(ended.stderr, @r#"
    error: there is no app named Ntoes
    hint: `synckit app list` shows the apps of this server
    "#);
}

#[test]
fn a_name_that_another_app_has_is_refused() {
    let server = Server::start();
    server.create_app();
    let taken = on_data_dir(&server.data_dir(), &["app", "create", "Notes"]).expect_code(1);
    insta::assert_snapshot!(taken.stderr, @r#"
    error: there is already an app named "Notes"
    hint: choose another name; `synckit app list` shows the apps and their keys
    "#);
    on_data_dir(&server.data_dir(), &["app", "create", "Tasks"]).expect_code(0);
    on_data_dir(&server.data_dir(), &["app", "rename", "Tasks", "Notes"]).expect_code(1);
    let renamed = on_data_dir(&server.data_dir(), &["app", "rename", "Tasks", "To do"]).expect_code(0);
    insta::assert_snapshot!(renamed.stdout, @"the app Tasks is now named To do");
    let listed = on_data_dir(&server.data_dir(), &["app", "list", "--json"]).expect_code(0);
    let apps: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((&apps[0]["name"], &apps[1]["name"]), (&"Notes".into(), &"To do".into()));
}

#[test]
fn a_deleted_app_admits_nobody() {
    let server = Server::start();
    let key = server.create_app();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(rotated(&server.url, &key));
    let unconfirmed = on_data_dir(&server.data_dir(), &["app", "delete", "Notes"]).expect_code(1);
    insta::assert_snapshot!(unconfirmed.stderr, @"
    error: confirmation is needed, but standard input is not a terminal: This deletes the app Notes and all data that its users keep in it, for good. Their accounts stay.
    hint: add --yes
    ");
    let deleted = on_data_dir(&server.data_dir(), &["app", "delete", "Notes", "--yes"]).expect_code(0);
    insta::assert_snapshot!(deleted.stdout, @"
    the app Notes is deleted: its keys and sessions have ended
    The server deletes its data in the background, and its files two hours later. Backups are yours to delete.
    ");
    let listed = on_data_dir(&server.data_dir(), &["app", "list", "--json"]).expect_code(0);
    assert_eq!(listed.stdout.trim(), "[]");
    let accounts = on_data_dir(&server.data_dir(), &["account", "list"]).expect_code(0);
    assert!(accounts.stdout.contains("ada@example.com"), "{}", accounts.stdout);
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: server.url.clone(),
        api_key: key,
    })
    .credential_store(MemoryStore::default())
    .build();
    let refused = runtime.block_on(client.authenticate("ada@example.com", "correct horse battery"));
    insta::assert_snapshot!(refused.unwrap_err(), @"the API key is not valid on this server");
}

#[test]
fn a_name_that_no_app_can_have_is_refused() {
    let server = Server::start();
    let ended = on_data_dir(&server.data_dir(), &["app", "create", "  "]).expect_code(1);
    insta::assert_snapshot!(ended.stderr, @"error: an app cannot have this name: a name has a visible character");
}

/// A user whose device has rotated the master key once.
async fn rotated(url: &str, api_key: &str) {
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: url.to_owned(),
        api_key: api_key.to_owned(),
    })
    .credential_store(MemoryStore::default())
    .build();
    let (email, password) = ("ada@example.com", "correct horse battery");
    client.create_account(email, password).await.unwrap();
    client.authenticate(email, password).await.unwrap();
    client.setup_encryption_new(password).await.unwrap();
    client.rotate_keys(password).await.unwrap();
}

#[test]
fn an_older_envelope_is_listed_and_put_back() {
    let server = Server::start();
    let key = server.create_app();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(rotated(&server.url, &key));
    let on_stream = |command: &[&str], email: &str| {
        let arguments = [&["account"], command, &["--app", "Notes", "--email", email]].concat();
        on_data_dir(&server.data_dir(), &arguments)
    };
    let kept = || -> Value {
        let listed = on_stream(&["envelopes", "--json"], "ada@example.com").expect_code(0);
        serde_json::from_str(&listed.stdout).unwrap()
    };
    let before = kept();
    assert_eq!(
        (&before[0]["version"], &before[0]["current"], &before[1]["current"]),
        (&2.into(), &true.into(), &false.into())
    );
    assert_ne!(before[0]["owner"], before[1]["owner"]);
    let listed = on_stream(&["envelopes"], "ADA@example.com").expect_code(0);
    assert!(
        listed.stdout.contains("2 (current)") && listed.stdout.contains(before[1]["key_id"].as_str().unwrap()),
        "{}",
        listed.stdout
    );

    let restored = on_stream(&["restore-envelope", "--version", "1"], "ada@example.com").expect_code(0);
    insta::assert_snapshot!(restored.stdout, @"version 1 is the current envelope again, as version 3; devices take it at once");
    let after = kept();
    assert_eq!(after.as_array().unwrap().len(), 3);
    for field in ["key_id", "owner", "size_bytes"] {
        assert_eq!(after[0][field], before[1][field], "{field}");
    }

    let current = on_stream(&["restore-envelope", "--version", "3"], "ada@example.com").expect_code(1);
    insta::assert_snapshot!(current.stderr, @"
    error: version 3 of the envelope is the current one
    hint: `synckit account envelopes` shows the kept envelopes and the current one
    ");
    let unknown = on_stream(&["restore-envelope", "--version", "9"], "ada@example.com").expect_code(1);
    insta::assert_snapshot!(unknown.stderr, @"
    error: version 9 of the envelope is not kept
    hint: `synckit account envelopes` shows the kept envelopes and the current one
    ");
    let nobody = on_stream(&["envelopes"], "eve@example.com").expect_code(1);
    assert!(nobody.stderr.contains("eve@example.com"), "{}", nobody.stderr);
}

#[test]
fn listing_creates_no_server() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("mistyped");
    for arguments in [
        &["app", "list"][..],
        &["account", "list"],
        &["account", "invite"],
        &["token", "rotate-key"],
    ] {
        let ended = on_data_dir(&missing, arguments).expect_code(1);
        assert!(
            ended.stderr.contains("there is no server data in") && ended.stderr.contains("\nhint: "),
            "{}",
            ended.stderr
        );
        assert!(!missing.exists());
    }
    // The first app may be created before the first start.
    on_data_dir(&missing, &["app", "create", "Notes"]).expect_code(0);
    on_data_dir(&missing, &["app", "list"]).expect_code(0);
}

#[test]
fn account_needs_an_invitation_where_required() {
    let server = Server::start_with(&["--registration", "invite"]);
    let key = server.create_app();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note.txt"), "A note that nobody else should read.").unwrap();
    let folder = folder.path().to_str().unwrap();
    let demo = [
        "demo",
        folder,
        "--server",
        &server.url,
        "--api-key",
        &key,
        "--email",
        "Someone@Example.com",
    ];

    let refused = run_with(demo).expect_code(1);
    assert!(
        refused
            .stderr
            .contains("hint: get a code with `synckit account invite`"),
        "{}",
        refused.stderr
    );

    let invite = on_data_dir(&server.data_dir(), &["account", "invite", "--json"]).expect_code(0);
    let invite: Value = serde_json::from_str(&invite.stdout).unwrap();
    let with_invite = [&demo[..], &["--invite", invite["invite"].as_str().unwrap()]].concat();
    let passed = run_with(&with_invite).expect_code(0);
    assert!(passed.stdout.contains("The demo passed"), "{}", passed.stdout);
    assert!(
        passed.stdout.contains("can be searched only on its machine"),
        "{}",
        passed.stdout
    );
    run_with(&with_invite).expect_code(1);

    let accounts = on_data_dir(&server.data_dir(), &["account", "list"]).expect_code(0);
    assert!(accounts.stdout.contains("someone@example.com"), "{}", accounts.stdout);
    let ended = on_data_dir(&server.data_dir(), &["account", "sign-out", "SOMEONE@example.com"]).expect_code(0);
    insta::assert_snapshot!(ended.stdout, @"3 sessions ended; within 5 seconds a running server refuses their requests");
    let ended = on_data_dir(&server.data_dir(), &["account", "sign-out", "other@example.com"]).expect_code(1);
    insta::assert_snapshot!(ended.stderr, @"
    error: there is no account with the address other@example.com
    hint: `synckit account list` shows the accounts of this server
    ");
}

#[test]
fn the_key_of_tokens_rotates_beside_a_running_server() {
    let server = Server::start();
    let ended = on_data_dir(&server.data_dir(), &["token", "rotate-key"]).expect_code(0);
    insta::assert_snapshot!(ended.stdout, @"after its next start the server signs tokens with a new key; existing tokens stay valid until they expire");
}

#[test]
fn configuration_file_names_the_data_directory() {
    let server = Server::start();
    server.create_app();
    let config = server.directory.path().join("synckit.toml");
    std::fs::write(&config, format!("data_dir = {:?}\n", server.data_dir())).unwrap();
    let listed = run_with(["app", "list", "--config", config.to_str().unwrap()]).expect_code(0);
    assert!(listed.stdout.contains("Notes"), "{}", listed.stdout);
}

#[test]
fn addresses_to_return_to_are_listed_and_removed() {
    let server = Server::start();
    server.create_app();
    let app = |arguments: &[&str]| on_data_dir(&server.data_dir(), &[&["app"], arguments].concat());
    let uri = "com.example.notes:/callback";
    let added = app(&["add-redirect", "Notes", uri]).expect_code(0);
    insta::assert_snapshot!(added.stdout, @"a browser sign-in of Notes may return to com.example.notes:/callback");
    let listed = app(&["redirects", "Notes"]).expect_code(0);
    insta::assert_snapshot!(listed.stdout, @r"
    http://127.0.0.1/callback  (any port)
    http://[::1]/callback  (any port)
    com.example.notes:/callback
    ");
    let listed = app(&["redirects", "Notes", "--json"]).expect_code(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["redirects"], serde_json::json!([uri]));
    app(&["remove-redirect", "Notes", uri]).expect_code(0);
    let refused = app(&["remove-redirect", "Notes", uri]).expect_code(1);
    assert!(refused.stderr.contains("no return address"), "{}", refused.stderr);
    let refused = app(&["add-redirect", "Notes", "javascript:alert(1)"]).expect_code(1);
    assert!(refused.stderr.contains("https://HOST/"), "{}", refused.stderr);
}

#[test]
fn teams_are_managed_while_the_server_runs() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let key = server.create_app();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(rotated(&server.url, &key));
    let team = |arguments: &[&str]| on_data_dir(&data_dir, &[&["team"], arguments].concat());

    let refused = team(&["create", "Example Co", "--owner", "nobody@example.com"]).expect_code(1);
    insta::assert_snapshot!(refused.stderr, @r"
    error: there is no account with the address nobody@example.com
    hint: `synckit account list` shows the accounts of this server
    ");
    let created = team(&["create", "Example Co", "--owner", "ada@example.com"]).expect_code(0);
    let id = field(&created.stdout, "team id");
    let again = team(&["create", "Example Co", "--owner", "ada@example.com"]).expect_code(1);
    insta::assert_snapshot!(again.stderr, @r#"
    error: there is already a team named "Example Co"
    hint: choose another name; `synckit team list` shows the teams
    "#);
    let apps = on_data_dir(&data_dir, &["app", "list", "--json"]).expect_code(0);
    let apps: Value = serde_json::from_str(&apps.stdout).unwrap();
    let app = apps[0]["name"].as_str().unwrap();
    team(&["give", app, id]).expect_code(0);
    let kept = on_data_dir(&data_dir, &["account", "keep", "ada@example.com"]).expect_code(0);
    assert_eq!(kept.stdout.trim(), "the account ada@example.com is kept");
    let listed = team(&["list", "--json"]).expect_code(0);
    let teams: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(teams[0]["apps"], serde_json::json!([apps[0]["app_id"]]));
    assert_eq!(teams[0]["members"][0]["role"], "owner");
    let listed = team(&["list"]).expect_code(0);
    assert!(
        listed.stdout.contains("ada@example.com") && listed.stdout.contains("1 app"),
        "{}",
        listed.stdout
    );

    let last = team(&["add", "Example Co", "ada@example.com", "--role", "developer"]).expect_code(1);
    insta::assert_snapshot!(last.stderr, @r"
    error: the team would have no owner: make another member its owner first
    hint: `synckit team list` shows the teams
    ");
    let role = team(&["add", "Example Co", "ada@example.com", "--role", "admin"]).expect_code(2);
    assert!(role.stderr.contains("there are owner and developer"), "{}", role.stderr);
    team(&["delete", "Example Co"]).expect_code(1);
    on_data_dir(&data_dir, &["app", "delete", app, "--yes"]).expect_code(0);
    team(&["delete", "Example Co"]).expect_code(0);
    let gone = team(&["remove", "Example Co", "ada@example.com"]).expect_code(1);
    assert!(
        gone.stderr.contains("there is no team named Example Co"),
        "{}",
        gone.stderr
    );
}
