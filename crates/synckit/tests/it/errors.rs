//! Errors and results as programs read them, completions, and manual pages.

use std::fs;

use serde_json::Value;

use crate::program::{Server, on_data_dir, run, run_with, synckit};

fn error_of(stderr: &str) -> Value {
    let line = stderr.lines().last().unwrap();
    serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} in {stderr}"))["error"].take()
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let codes = |arguments: &[&str], code: i32| {
        let ended = on_data_dir(&directory.path().join("none"), arguments).expect_code(code);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        error_of(&ended.stderr)
    };
    insta::assert_json_snapshot!(codes(&["app", "list", "--json"], 1)["code"], @r#""no_data""#);
    insta::assert_json_snapshot!(codes(&["--json", "app", "create", " "], 1), @r#"
    {
      "code": "invalid_value",
      "hint": null,
      "message": "an app cannot have this name: a name has a visible character"
    }
    "#);
    insta::assert_json_snapshot!(codes(&["app", "rotate-key", "Ntoes", "--json"], 1), @r#"
    {
      "code": "not_found",
      "hint": "`synckit app list` shows the apps of this server",
      "message": "there is no app named Ntoes"
    }
    "#);
    insta::assert_json_snapshot!(codes(&["app", "lsit", "--json"], 2), @r#"
    {
      "code": "usage",
      "hint": "--help shows the correct usage",
      "message": "unrecognized subcommand 'lsit'"
    }
    "#);
    insta::assert_json_snapshot!(codes(&["serve", "--listen", "localhost", "--json"], 2), @r#"
    {
      "code": "usage",
      "hint": "--help shows the correct usage",
      "message": "invalid value 'localhost' for '--listen <ADDR>': expected an IP address and a port, such as 127.0.0.1:8080 or [::]:8080"
    }
    "#);
    // Help is no error, and not for programs.
    let help = run_with(["app", "--help", "--json"]).expect_code(0);
    assert!(help.stdout.starts_with("Create and list apps"), "{}", help.stdout);
}

#[test]
fn start_errors_have_stable_codes() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let refused = |arguments: &[&str]| {
        let ended = on_data_dir(&data_dir, arguments).expect_code(1);
        let error = error_of(&ended.stderr);
        assert!(error["hint"].is_string(), "{error:#}");
        error["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        refused(&["serve", "--listen", "127.0.0.1:0", "--json"]),
        "data_dir_in_use"
    );
    let address = server.url.trim_start_matches("http://");
    assert_eq!(refused(&["serve", "--listen", address, "--json"]), "address_in_use");
    let config = data_dir.join("synckit.toml");
    fs::write(&config, "stall_timeout = \"0 s\"\n").unwrap();
    assert_eq!(
        refused(&["serve", "--config", config.to_str().unwrap(), "--json"]),
        "configuration"
    );
    let database = rusqlite::Connection::open(data_dir.join("synckit.db")).unwrap();
    database
        .execute(
            "UPDATE refinery_schema_history SET version = 99
             WHERE version = (SELECT max(version) FROM refinery_schema_history)",
            [],
        )
        .unwrap();
    assert_eq!(refused(&["app", "list", "--json"]), "newer_schema");
}

/// As root, another user has to be played; as anybody else, a directory that nobody may look into is enough.
#[cfg(unix)]
#[test]
fn the_data_directory_of_another_user_is_left_alone() {
    use std::os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    };
    let server = Server::start();
    let (outer, data_dir) = (server.directory.path(), server.data_dir());
    let is_root = fs::metadata(outer).unwrap().uid() == 0;
    let program = outer.join("synckit");
    fs::copy(env!("CARGO_BIN_EXE_synckit"), &program).unwrap();
    fs::set_permissions(outer, fs::Permissions::from_mode(0o755)).unwrap();
    let mut list = std::process::Command::new(&program);
    list.env_clear()
        .args(["app", "list", "--json", "--data-dir"])
        .arg(&data_dir);
    if is_root {
        list.uid(65_534);
    } else {
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let ended = run(&mut list).expect_code(1);
    let error = error_of(&ended.stderr);
    assert_eq!(error["code"], "permission_denied", "{error:#}");
    assert!(
        error["hint"].as_str().unwrap().contains("run it as the user who owns"),
        "{error:#}"
    );
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).unwrap();
    if is_root {
        // The other way round: what root writes there, the server could not read.
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("synckit.db"), "").unwrap();
        chown(foreign.path(), Some(65_534), None).unwrap();
        let new = foreign.path().join("new/data");
        for (place, arguments) in [
            (foreign.path(), &["app", "list", "--json"][..]),
            (foreign.path(), &["app", "create", "Notes", "--json"]),
            // What root makes inside would be root's, too.
            (&new, &["app", "create", "Notes", "--json"]),
        ] {
            let ended = on_data_dir(place, arguments).expect_code(1);
            let error = error_of(&ended.stderr);
            assert_eq!(error["code"], "permission_denied", "{error:#}");
            assert!(
                error["hint"].as_str().unwrap().contains("sudo -u '#65534'"),
                "{error:#}"
            );
        }
        assert!(!new.exists());
    }
}

#[test]
fn a_server_tells_programs_where_it_listens() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let mut child = synckit()
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&event["event"], &event["has_apps"]),
        (&"listening".into(), &false.into())
    );
    assert!(
        event["url"].as_str().unwrap().starts_with("http://127.0.0.1:"),
        "{event:#}"
    );
}

#[test]
fn shells_and_man_get_what_they_want() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run_with(["completions", shell]).expect_code(0).stdout;
        assert!(
            script.contains("rotate-key") && script.contains("password-stdin"),
            "{shell}"
        );
    }
    let page = run_with(["man"]).expect_code(0).stdout;
    assert!(page.contains(".TH synckit 1"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    run_with(["man", directory.path().to_str().unwrap()]).expect_code(0);
    assert!(directory.path().join("synckit-device-revoke.1").is_file());
}
