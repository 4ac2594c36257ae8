//! `synckit login` without an address: this machine becomes a device of the account, until `synckit logout`.

use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use synckit_client::ChangeOp;
use synckit_doctest::allow_machine;
use tempfile::TempDir;

use crate::{
    person::{EMAIL, PASSWORD, Person, block_on, note},
    program::{Ended, Server, field, on_data_dir, run, synckit},
};

/// The settings of a user of a machine.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("synckit").join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = synckit();
        command.args(arguments).env("XDG_CONFIG_HOME", self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// Begins to sign in, and waits for the code.
    fn begin(&self, server: &Server, api_key: &str, password: &str) -> Waiting {
        let mut command = self.command(&["login", "--json", "--server", &server.url, "--key", api_key]);
        command.env("SYNCKIT_PASSWORD", password);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let asked = printed(&mut stdout);
        Waiting { child, stdout, asked }
    }

    async fn sign_in(&self, server: &Server, api_key: &str) -> Value {
        let waiting = self.begin(server, api_key, PASSWORD);
        allow_machine(&waiting.page(), EMAIL, PASSWORD).await.unwrap();
        waiting.ends(0).0
    }

    fn is_empty(&self) -> bool {
        !self.file("login.json").exists() && !self.file("session.json").exists()
    }
}

/// The next document that a command prints; null at the end of its output.
fn printed(stdout: &mut BufReader<ChildStdout>) -> Value {
    let mut documents = serde_json::Deserializer::from_reader(stdout).into_iter();
    documents.next().map_or(Value::Null, Result::unwrap)
}

/// A sign-in that waits for its answer.
struct Waiting {
    child: Child,
    stdout: BufReader<ChildStdout>,
    asked: Value,
}

impl Waiting {
    fn page(&self) -> String {
        self.asked["verification_uri_complete"].as_str().unwrap().to_owned()
    }

    /// What it prints at its end.
    fn ends(mut self, code: i32) -> (Value, String) {
        let printed = printed(&mut self.stdout);
        let ended = self.child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{printed} {stderr}");
        (printed, stderr)
    }
}

fn names(listed: &Ended) -> Vec<String> {
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let devices = listed["devices"].as_array().unwrap().iter();
    devices
        .map(|device| device["name"].as_str().unwrap().to_owned())
        .collect()
}

#[cfg(unix)]
fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn login_makes_this_machine_a_device() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        person.push(vec![note(ChangeOp::Insert, "1", 1)]).await;
        let home = Home::new();
        let made = home.sign_in(&server, &person.api_key).await;
        let name = made["name"].as_str().unwrap().to_owned();
        assert_eq!(made["server"], json!(server.url));
        #[cfg(unix)]
        for file in ["login.json", "session.json"] {
            assert_eq!(mode(&home.file(file)), 0o600, "{file}");
        }
        let stored = fs::read_to_string(home.file("session.json")).unwrap();
        assert!(!stored.contains(PASSWORD), "{stored}");

        // No command needs the password now, and all of them are this one device.
        for _ in 0..2 {
            let out = home.0.path().join("export");
            let out = out.to_str().unwrap();
            let exported = home.run(&["export", "--force", "--out", out]).expect_code(0);
            assert!(exported.stdout.starts_with("1 change in "), "{}", exported.stdout);
            let lines = fs::read_to_string(format!("{out}/changes.jsonl")).unwrap();
            assert!(lines.contains("note 1"), "{lines}");
        }
        let code = home.run(&["device", "safety-code"]).expect_code(0).stdout;
        assert_eq!(code.trim(), person.client.safety_code().await.unwrap().to_string());
        let listed = home.run(&["--json", "device", "list"]).expect_code(0);
        let mut found = names(&listed);
        found.sort();
        let mut expected = vec!["laptop".to_owned(), name.clone()];
        expected.sort();
        assert_eq!(found, expected);
        let sessions: Value = serde_json::from_str(&listed.stdout).unwrap();
        assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "{sessions}");

        // What changes the account asks for it.
        let refused = home.run(&["device", "rotate-key", "--yes"]).expect_code(1);
        assert!(refused.stderr.contains("needs the password"), "{}", refused.stderr);
        let with_password = |arguments: &[&str]| run(home.command(arguments).env("SYNCKIT_PASSWORD", PASSWORD));
        with_password(&["device", "rotate-key", "--yes"]).expect_code(0);
        home.run(&["device", "safety-code"]).expect_code(0);
        let out = home.0.path().join("other");
        let with_code = ["export", "--recovery-code", "--out", out.to_str().unwrap()];
        let refused = run(home
            .command(&with_code)
            .env("SYNCKIT_RECOVERY_CODE", "abandon ".repeat(23) + "art"));
        assert!(refused.stderr.contains("has the keys already"), "{}", refused.stderr);

        home.run(&["logout"]).expect_code(0);
        assert!(home.is_empty());
        let left = person.client.devices().await.unwrap();
        assert_eq!(
            left.iter()
                .map(|device| device.device_name.as_str())
                .collect::<Vec<_>>(),
            ["laptop"]
        );
        assert_eq!(home.run(&["logout"]).expect_code(0).stdout, "nothing was stored\n");
    });
}

/// A session that is sent to another server is that server's.
#[test]
fn a_session_goes_to_no_other_server() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let home = Home::new();
        home.sign_in(&server, &person.api_key).await;
        let made = on_data_dir(&server.data_dir(), &["app", "create", "Tasks"]).expect_code(0);
        let other_key = field(&made.stdout, "API key").to_owned();
        for other in [["--server", "http://127.0.0.1:9"], ["--api-key", &other_key]] {
            let refused = home.run(&["device", "list", other[0], other[1]]).expect_code(1);
            assert!(
                refused.stderr.starts_with("error: --email is missing\n"),
                "{}",
                refused.stderr
            );
        }
        // The control: naming the same ones changes nothing.
        let same = ["device", "list", "--server", &server.url, "--api-key", &person.api_key];
        home.run(&same).expect_code(0);
        let again = home.run(&["login", "--email", EMAIL]).expect_code(1);
        assert!(again.stderr.contains("signed in already"), "{}", again.stderr);
        assert!(
            again.stderr.ends_with("hint: `synckit logout` signs it out\n"),
            "{}",
            again.stderr
        );
    });
}

#[test]
fn a_sign_in_that_fails_leaves_nothing() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let home = Home::new();
        // Nobody goes to a browser in vain.
        let login = ["login", "--server", &server.url, "--key", &person.api_key];
        let refused = home.run(&login).expect_code(1);
        assert_eq!(refused.stdout, "");
        assert!(refused.stderr.contains("--password-stdin"), "{}", refused.stderr);

        let waiting = home.begin(&server, &person.api_key, "another password");
        let code = waiting.asked["user_code"].as_str().unwrap();
        assert!(waiting.page().ends_with(code) && waiting.asked["expires_in"] == 600);
        allow_machine(&waiting.page(), EMAIL, PASSWORD).await.unwrap();
        let (_, stderr) = waiting.ends(1);
        assert!(stderr.contains("invalid_credentials"), "{stderr}");
        assert!(home.is_empty());
        // Nor does its session go on.
        let sessions = person.client.device_sessions().await.unwrap();
        assert_eq!(sessions.len(), 1, "{sessions:?}");

        let waiting = home.begin(&server, "skp_nothing", PASSWORD);
        let (_, stderr) = waiting.ends(1);
        assert!(stderr.contains("key_malformed"), "{stderr}");
        assert!(home.is_empty());
    });
}

/// Between the page and the password, there is a session and no key.
#[test]
fn a_sign_in_that_was_cut_off_can_be_ended() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let home = Home::new();
        let login = ["--server", &server.url, "--key", &person.api_key, "--password-stdin"];
        let mut command = home.command(&["login", "--json"]);
        let command = command.args(login).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let asked = printed(&mut BufReader::new(child.stdout.take().unwrap()));
        let page = asked["verification_uri_complete"].as_str().unwrap();
        allow_machine(page, EMAIL, PASSWORD).await.unwrap();
        while !home.file("login.json").exists() {
            assert!(child.try_wait().unwrap().is_none());
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(person.client.device_sessions().await.unwrap().len(), 2);
        let refused = home.run(&["--json", "device", "list"]).expect_code(1);
        assert!(refused.stderr.contains("\"no_login\""), "{}", refused.stderr);
        let ended = home.run(&["--json", "logout"]).expect_code(0);
        let ended: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(ended, json!({ "forgotten": true, "signed_out": true }));
        assert!(home.is_empty());
        assert_eq!(person.client.device_sessions().await.unwrap().len(), 1);
    });
}

#[test]
fn a_revoked_machine_says_how_to_go_on() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let home = Home::new();
        let made = home.sign_in(&server, &person.api_key).await;
        let devices = person.client.devices().await.unwrap();
        let own = devices
            .iter()
            .find(|device| made["device_id"] == json!(device.id.to_string()))
            .unwrap();
        person.client.revoke_device(own.id).await.unwrap();
        let refused = home.run(&["device", "list"]).expect_code(1);
        assert!(
            refused.stderr.ends_with(
                "hint: `synckit logout` forgets the session of this machine, `synckit login` signs it in again\n"
            ),
            "{}",
            refused.stderr
        );
        home.run(&["logout"]).expect_code(0);
        assert!(home.is_empty());
        home.sign_in(&server, &person.api_key).await;
        home.run(&["device", "list"]).expect_code(0);

        // A server that is gone does not keep the session here.
        server.stop();
        let left = home.run(&["logout"]).expect_code(0);
        assert!(
            left.stderr.contains("do it on the page of the account"),
            "{}",
            left.stderr
        );
        assert!(home.is_empty());
    });
}
