//! `synckit login`: what it keeps, what it does not, and what goes before it.

use std::fs;

use serde_json::Value;
use synckit_client::Registration;
use synckit_server::config::MailDelivery;

use crate::{
    mail_server::MailServer,
    person::{EMAIL, PASSWORD, Person, block_on, client},
    program::{Server, run, synckit},
};

#[test]
fn login_keeps_server_key_and_address() {
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("synckit/login.json");
        let at_home = |arguments: &[&str]| {
            let mut command = synckit();
            command
                .args(arguments)
                .env("XDG_CONFIG_HOME", home.path())
                .env("SYNCKIT_PASSWORD", PASSWORD);
            command
        };
        let before = run(&mut at_home(&["device", "list"])).expect_code(1);
        insta::assert_snapshot!(before.stderr, @r"
        error: --server is missing
        hint: `synckit login` stores who signs in, for all commands; or give --server
        ");

        let login = [
            "login",
            "--server",
            &server.url,
            "--api-key",
            &person.api_key,
            "--email",
            EMAIL,
        ];
        // A wrong password is found at once, and nothing is kept.
        run(at_home(&login).env("SYNCKIT_PASSWORD", "another password")).expect_code(1);
        assert!(!file.exists());
        let kept = run(&mut at_home(&login)).expect_code(0);
        assert!(kept.stdout.contains("the password is not"), "{}", kept.stdout);
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(PASSWORD), "{text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["server"], &json["email"]),
            (&server.url.clone().into(), &EMAIL.into())
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }

        let listed = run(&mut at_home(&["device", "list"])).expect_code(0);
        assert!(listed.stdout.contains("laptop"), "{}", listed.stdout);
        // Flags and variables go before it.
        let other = run(at_home(&["device", "list"]).env("SYNCKIT_SERVER", "http://127.0.0.1:9")).expect_code(1);
        assert!(
            other.stderr.contains("the request to the server failed"),
            "{}",
            other.stderr
        );

        run(&mut at_home(&["logout"])).expect_code(0);
        assert!(!file.exists());
        let again = run(&mut at_home(&["logout"])).expect_code(0);
        assert_eq!(again.stdout, "nothing was stored\n");
        run(&mut at_home(&["device", "list"])).expect_code(1);
    });
}

#[test]
fn login_confirms_a_new_address() {
    block_on(async {
        let mail = MailServer::start().await.unwrap();
        let MailDelivery::Smtp { url, from } = mail.delivery().unwrap() else {
            panic!("mails would become files");
        };
        let directory = tempfile::tempdir().unwrap();
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--mail-from", &from, "--data-dir"])
            .arg(directory.path().join("data"))
            .env("SYNCKIT_SMTP_URL", url.expose());
        let server = Server::spawn(command, directory);
        let api_key = server.create_app();
        let app = client(&server.url, &api_key);
        assert_eq!(
            app.create_account(EMAIL, PASSWORD).await.unwrap(),
            Registration::Pending
        );

        let home = tempfile::tempdir().unwrap();
        let login = |more: &[&str]| {
            let place = [
                "login",
                "--server",
                &server.url,
                "--api-key",
                &api_key,
                "--email",
                EMAIL,
            ];
            let mut command = synckit();
            command
                .args(place)
                .args(more)
                .env("XDG_CONFIG_HOME", home.path())
                .env("SYNCKIT_PASSWORD", PASSWORD);
            run(&mut command)
        };
        let early = login(&[]).expect_code(1);
        assert!(
            early.stderr.starts_with("error: the e-mail or the password is wrong\n"),
            "{}",
            early.stderr
        );
        let wrong = login(&["--confirm", "a guess"]).expect_code(1);
        assert!(
            wrong.stderr.contains("mail_code_invalid")
                && wrong.stderr.contains("hint: take the code from the newest mail"),
            "{}",
            wrong.stderr
        );
        let code = mail.code(EMAIL, "Confirm your address", 1).await.unwrap();
        login(&["--confirm", &code]).expect_code(0);
        login(&[]).expect_code(0);
    });
}

#[test]
fn a_damaged_login_file_says_how_to_go_on() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("synckit")).unwrap();
    fs::write(home.path().join("synckit/login.json"), "{").unwrap();
    let ended = run(synckit().args(["device", "list"]).env("XDG_CONFIG_HOME", home.path())).expect_code(1);
    assert!(
        ended
            .stderr
            .ends_with("hint: `synckit logout` removes it, `synckit login` writes a new one\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn login_without_a_home_is_refused() {
    let ended = run(synckit().arg("login")).expect_code(1);
    insta::assert_snapshot!(ended.stderr, @r"
    error: this user has no directory for settings
    hint: set HOME or XDG_CONFIG_HOME; or give --server, --api-key and --email to each command
    ");
}
