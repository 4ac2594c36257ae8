//! Output that is lost ends with an exit code that says so.
#![cfg(target_os = "linux")]

use std::{
    fs::OpenOptions,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::program::{Server, on_data_dir, synckit};

fn to_full_disk(command: &mut Command) -> (Option<i32>, String) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn to_closed_pipe(command: &mut Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_lost_api_key_is_an_error_that_says_so() {
    let server = Server::start();
    let data_dir = server.data_dir();
    for json in [None, Some("--json")] {
        for lose in [to_full_disk, to_closed_pipe] {
            let mut create = synckit();
            let name = format!("Notes {json:?} {lose:?}");
            create.args(["app", "create", &name]).args(json);
            let (code, stderr) = lose(create.arg("--data-dir").arg(&data_dir));
            assert_eq!(code, Some(1), "{stderr}");
            assert!(stderr.contains("the API key was not shown"), "{stderr}");
            assert!(stderr.contains("`synckit app list` shows its key"), "{stderr}");
        }
    }
    let mut invite = synckit();
    let (code, stderr) = to_full_disk(invite.args(["account", "invite", "--data-dir"]).arg(&data_dir));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the invitation was not shown"), "{stderr}");
    // The hint works: every app is there, with its key.
    let apps = on_data_dir(&data_dir, &["app", "list", "--json"]).expect_code(0);
    let apps: Value = serde_json::from_str(&apps.stdout).unwrap();
    assert_eq!(apps.as_array().unwrap().len(), 4);
    assert!(apps[0]["keys"][0]["api_key"].as_str().unwrap().starts_with("skp_"));
}

#[test]
fn lost_output_is_exit_code_1() {
    let server = Server::start();
    server.create_app();
    let list = || {
        let mut command = synckit();
        command.args(["app", "list", "--data-dir"]).arg(server.data_dir());
        command
    };
    let (code, stderr) = to_full_disk(&mut list());
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(stderr, @r"
    error: standard output cannot be written: No space left on device (os error 28)
    hint: free some space on the disk, or use another one
    ");
    for arguments in [&["--help"][..], &["--version"], &["completions", "bash"], &["man"]] {
        assert_eq!(to_full_disk(synckit().args(arguments)).0, Some(1), "{arguments:?}");
    }
    // `| head -1` needs no explanation.
    assert_eq!(to_closed_pipe(&mut list()), (Some(1), String::new()));
}
