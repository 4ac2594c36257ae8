//! `synckit serve`: where it listens, which setting wins, why it does not start, how it stops.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::program::{Server, on_data_dir, run, synckit};

/// The status line and body of a GET, without an HTTP client.
fn get(url: &str, path: &str) -> String {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn first_start_names_address_and_next_step() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = synckit();
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(directory.path());
    let server = Server::spawn(command, directory);
    assert!(get(&server.url, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.directory.path().join("synckit-data/synckit.db").is_file());
    #[cfg(unix)]
    {
        let (rest, status) = server.terminate("-INT");
        insta::assert_snapshot!(rest, @r#"
        this server has no app yet; in another terminal, create one and get its API key:
            synckit app create "My app"
        stopping after the running requests; a second signal stops at once
        stopped
        "#);
        assert!(status.success());
    }
}

#[cfg(unix)]
#[test]
fn sigterm_ends_a_server_in_order_and_it_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let start = || {
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir);
        Server::spawn(command, tempfile::tempdir().unwrap())
    };
    let server = start();
    on_data_dir(&data_dir, &["app", "create", "Notes"]).expect_code(0);
    let (rest, status) = server.terminate("-TERM");
    assert!(status.success() && rest.ends_with("stopped\n"), "{status} {rest}");
    let leftovers = ["synckit.db-wal", "synckit.db-shm"].map(|name| data_dir.join(name).exists());
    assert_eq!(
        leftovers, [false; 2],
        "a server that stopped in order leaves one database file"
    );
    let (rest, status) = start().terminate("-TERM");
    assert!(status.success() && !rest.contains("no app yet"), "{status} {rest}");
}

#[cfg(unix)]
#[test]
fn a_service_manager_is_told_and_a_hangup_ignored() {
    use std::{os::unix::net::UnixDatagram, process, time::Duration};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let at_path = (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned());
    let mut managers = vec![at_path];
    #[cfg(target_os = "linux")]
    {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
        let name = format!("synckit-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        managers.push((UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}")));
    }
    for (manager, address) in managers {
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let told = || {
            let mut message = [0; 64];
            let length = manager.recv(&mut message).unwrap();
            String::from_utf8_lossy(&message[..length]).into_owned()
        };
        let data = tempfile::tempdir().unwrap();
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .env("NOTIFY_SOCKET", &address);
        let server = Server::spawn(command, tempfile::tempdir().unwrap());
        assert_eq!(told(), "READY=1");
        assert!(get(&server.url, "/readyz").starts_with("HTTP/1.1 200"));
        let hangup = process::Command::new("kill")
            .args(["-HUP", &server.process_id().to_string()])
            .status();
        assert!(hangup.unwrap().success());
        assert!(get(&server.url, "/readyz").starts_with("HTTP/1.1 200"));
        let (_, status) = server.terminate("-TERM");
        assert!(status.success(), "{status}");
        assert_eq!(told(), "STOPPING=1");
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start();
    let ended = on_data_dir(&server.data_dir(), &["serve", "--listen", "127.0.0.1:0"]).expect_code(1);
    let stderr = ended.stderr.replace(server.directory.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(stderr, @"
    error: another process serves from DIR/data: stop it first, or choose another data directory
    hint: administration (`synckit app`, `synckit account`) works beside a running server
    ");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let server = Server::start();
    let address = server.url.trim_start_matches("http://");
    let other = tempfile::tempdir().unwrap();
    let ended = on_data_dir(other.path(), &["serve", "--listen", address]).expect_code(1);
    let stderr = ended.stderr.replace(address, "ADDRESS");
    assert!(stderr.starts_with("error: cannot listen at ADDRESS: "), "{stderr}");
    assert!(
        stderr.ends_with("hint: choose another address with --listen; 127.0.0.1:0 takes any free port\n"),
        "{stderr}"
    );
}

#[test]
fn flag_beats_environment_beats_file() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("synckit.toml");
    let place = |name: &str| directory.path().join(name);
    std::fs::write(
        &config,
        format!(
            "data_dir = {:?}\npublic_url = \"https://file.example\"\nlisten = \"127.0.0.1:0\"\n",
            place("file")
        ),
    )
    .unwrap();
    let start = |environment: &[(&str, &str)], flags: &[&str]| {
        let mut command = synckit();
        command
            .arg("serve")
            .args(flags)
            .env("SYNCKIT_CONFIG", &config)
            .envs(environment.iter().copied());
        let server = Server::spawn(command, tempfile::tempdir().unwrap());
        // The second line, about the public URL, follows at once.
        let line = server.first_lines.last().unwrap().clone();
        #[cfg(unix)]
        let rest = server.terminate("-TERM").0;
        #[cfg(not(unix))]
        let rest = String::new();
        format!("{line}\n{rest}")
    };
    let from_file = start(&[], &[]);
    assert!(
        from_file.contains("/file\n") && from_file.contains("clients reach it at https://file.example\n"),
        "{from_file}"
    );
    let environment = [
        ("SYNCKIT_DATA_DIR", place("environment")),
        ("SYNCKIT_PUBLIC_URL", "https://env.example".into()),
    ];
    let environment = environment
        .each_ref()
        .map(|(name, value)| (*name, value.to_str().unwrap()));
    let from_environment = start(&environment, &[]);
    assert!(from_environment.contains("/environment\n"), "{from_environment}");
    assert!(
        from_environment.contains("clients reach it at https://env.example\n"),
        "{from_environment}"
    );
    let flag = place("flag");
    let from_flag = start(&environment, &["--data-dir", flag.to_str().unwrap()]);
    assert!(from_flag.contains("/flag\n"), "{from_flag}");
    assert!(
        from_flag.contains("clients reach it at https://env.example\n"),
        "{from_flag}"
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("synckit.toml");
    let serve = || {
        let ended = run(synckit().arg("serve").arg("--config").arg(&config)).expect_code(1);
        assert!(ended.stdout.is_empty(), "{}", ended.stdout);
        ended.stderr.replace(directory.path().to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!(serve(), @"
    error: cannot read the configuration file DIR/synckit.toml: No such file or directory (os error 2)
    hint: check the path that --config or SYNCKIT_CONFIG names
    ");
    std::fs::write(&config, "data_dir = \"x\"\nregistrations = \"open\"\n").unwrap();
    let unknown_key = serve();
    assert!(
        unknown_key.contains("unknown field `registrations`") && unknown_key.contains("`registration`"),
        "{unknown_key}"
    );
    assert!(
        unknown_key.contains("\nhint: the keys are those of `synckit serve --help`"),
        "{unknown_key}"
    );
    std::fs::write(&config, "stall_timeout = \"0 s\"\n").unwrap();
    insta::assert_snapshot!(serve(), @r#"
    error: the configuration file DIR/synckit.toml is not valid: TOML parse error at line 1, column 17
          |
        1 | stall_timeout = "0 s"
          |                 ^^^^^
        stall_timeout = 0 s: must be longer than nothing

    hint: the keys are those of `synckit serve --help`, with _ in place of -
    "#);
    std::fs::write(&config, "smtp_url = \"smtps://example.com\"\n").unwrap();
    insta::assert_snapshot!(serve(), @"
    error: mail_from is missing: mails need a sender
    hint: `synckit serve --help` lists the allowed values
    ");
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ended = on_data_dir(directory.path(), &["serve", "--log", "synckit=loud"]).expect_code(1);
    assert!(
        ended.stderr.starts_with("error: \"synckit=loud\" is not a log filter"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("\nhint: use error, warn, info"),
        "{}",
        ended.stderr
    );
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let data_dir = server.data_dir();
    let keys = std::fs::read_dir(data_dir.join("keys")).unwrap();
    let key = keys
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    // The running server has read it; the next start must not.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&data_dir, copy.path());
    let ended = on_data_dir(copy.path(), &["serve", "--listen", "127.0.0.1:0"]).expect_code(1);
    assert!(
        ended.stderr.contains("can be read by others (mode 644)"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .ends_with("hint: only the server's own user may read its keys\n"),
        "{}",
        ended.stderr
    );
}

#[cfg(unix)]
#[test]
fn data_that_others_can_read_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let copy = tempfile::tempdir().unwrap();
    let data_dir = copy.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    copy_dir(&server.data_dir(), &data_dir);
    drop(server);
    let database = data_dir.join("synckit.db");
    let set_mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let log = copy.path().join("log");
    let start = || {
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir);
        Server::spawn_logging(
            command,
            tempfile::tempdir().unwrap(),
            std::fs::File::create(&log).unwrap(),
        )
        .stop();
        std::fs::read_to_string(&log).unwrap()
    };
    for (path, mode) in [(&data_dir, 0o700), (&database, 0o600)] {
        set_mode(path, mode);
    }
    assert!(!start().contains("warning"), "nothing to name");
    set_mode(&database, 0o640);
    let said = start();
    assert!(
        said.contains("warning: other users have access to ")
            && said.contains("synckit.db: ")
            && said.contains("chmod -R go= the data directory"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn settings_that_expose_data_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("synckit.toml"), directory.path().join("log"));
    let start = |settings: &str, mode: u32| {
        std::fs::write(&file, settings).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(directory.path().join("data"));
        let said = std::fs::File::create(&log).unwrap();
        Server::spawn_logging(command, tempfile::tempdir().unwrap(), said).stop();
        let said = std::fs::read_to_string(&log).unwrap();
        let warnings = said.lines().filter_map(|line| line.strip_prefix("warning: "));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(start("trusted_proxies = [\"10.0.0.0/8\"]", 0o644), [""; 0]);
    let named = start(
        "trusted_proxies = [\"0.0.0.0/0\"]\nmail_from = \"sync@example.com\"\n\
         smtp_url = \"smtp://u:p@mail.example.com\"\n",
        0o644,
    );
    let expected = [
        "trusted_proxies includes",
        "smtp_url is plain",
        "synckit.toml contains secrets",
    ];
    assert_eq!(named.len(), expected.len(), "{named:#?}");
    for (said, expected) in named.iter().zip(expected) {
        assert!(said.contains(expected), "{named:#?}");
    }
}

#[cfg(unix)]
fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn json_log_has_one_object_a_line_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = synckit();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
        .arg(directory.path().join("data"));
    let server = Server::spawn_logging(
        command,
        tempfile::tempdir().unwrap(),
        std::fs::File::create(&log).unwrap(),
    );
    get(&server.url, "/api/sync/status?secret-in-a-query");
    server.terminate("-TERM");
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let request = lines.iter().find(|line| line["route"] == "/api/sync/status").unwrap();
    assert_eq!(
        (&request["status"], &request["method"]),
        (&401.into(), &"GET".into()),
        "{request:#}"
    );
    assert!(
        request["request_id"].is_string() && !log.contains("secret-in-a-query"),
        "{log}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_data_directory_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join(std::ffi::OsStr::from_bytes(b"data \xff"));
    let mut command = synckit();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir);
    let server = Server::spawn(command, directory);
    assert!(get(&server.url, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.terminate("-TERM").1.success());
    let mut command = synckit();
    command
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(event["data_dir"].as_str().unwrap().ends_with("data \u{fffd}"), "{line}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = synckit();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"));
    // Of every type: an address, a path, a choice, a number, a time, a size, a list, a text.
    for name in [
        "CONFIG",
        "PUBLIC_URL",
        "REGISTRATION",
        "TRUSTED_PROXIES",
        "GUESSES_PER_ADDRESS",
        "STALL_TIMEOUT",
        "PAGE_MEMORY",
        "LOG",
        "MAIL_FROM",
        "ALLOW_PASSWORD_LOGIN",
        "SMTP_URL",
    ] {
        command.env(format!("SYNCKIT_{name}"), "");
    }
    let server = Server::spawn(command, directory);
    assert!(get(&server.url, "/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_wrong_variable_is_named() {
    let ended = run(synckit().arg("serve").env("SYNCKIT_STALL_TIMEOUT", "soon")).expect_code(2);
    assert!(
        ended
            .stderr
            .ends_with("hint: the value is that of the environment variable SYNCKIT_STALL_TIMEOUT\n"),
        "{}",
        ended.stderr
    );
    let flag = run(synckit()
        .args(["serve", "--stall-timeout", "soon"])
        .env("SYNCKIT_STALL_TIMEOUT", "1s"))
    .expect_code(2);
    assert!(!flag.stderr.contains("environment variable"), "{}", flag.stderr);
}
