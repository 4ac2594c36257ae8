//! Configuration: layers, units, and errors that help.

use std::{path::Path, time::Duration};

use synckit_protocol::limits;
use synckit_server::{
    Config,
    config::{
        AddressBlock, BlobPlace, ByteSize, ConfigError, MailDelivery, Registration, Setting, SettingKind, Settings,
        Span,
    },
};

fn file(text: &str) -> Result<Settings, String> {
    Settings::from_toml(text, Path::new("synckit.toml")).map_err(|error| {
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{error}: {source}")
    })
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let with = |settings: Settings, (key, value): &(&str, &str)| settings.with(key, value).unwrap();
    pairs.iter().fold(Settings::default(), with)
}

fn resolve(text: &str) -> Result<Config, String> {
    Config::resolve([file(text)?]).map_err(|error| error.to_string())
}

#[test]
fn flags_win_over_environment_file_and_default() {
    let file = file(
        "data_dir = '/file'\nlisten = '127.0.0.1:1'\nregistration = 'closed'\nguess_window = '1 h'\n\
         trusted_proxies = ['10.0.0.0/8']",
    )
    .unwrap();
    let environment = settings(&[("listen", "127.0.0.1:2"), ("registration", "invite")]);
    let flags = settings(&[("listen", "127.0.0.1:3")]);
    let config = Config::resolve([flags, environment, file]).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.registration, Registration::Invite);
    assert_eq!(config.data_dir, Path::new("/file"));
    assert_eq!(config.guesses.window, Duration::from_secs(3600));
    assert_eq!(config.guesses.per_address, 60);
    assert!(config.trusted_proxies[0].contains("10.1.2.3".parse().unwrap()));
    assert!(!config.allow_password_login);
}

#[test]
fn every_key_of_a_file_is_understood() {
    let config = resolve(
        r#"
        data_dir = "/data"
        listen = "[::1]:9000"
        public_url = "https://sync.example.com/"
        registration = "invite"
        allow_password_login = true
        accept_new_oprf_seed = true
        trusted_proxies = ["10.0.0.0/8", "2001:db8::1"]
        guess_window = "30 min"
        guesses_per_account_and_address = 5
        guesses_per_address = 30
        guesses_per_account_from_strangers = 50
        reset_mail_burst = 2
        reset_mails_per_day = 48
        registration_mail_burst = 3
        registration_mails_per_day = 6
        request_head_timeout = "10s"
        request_body_timeout = "20 s"
        request_timeout = "40 s"
        stall_timeout = "500 ms"
        shutdown_grace = "0 s"
        event_stream_time = "90 s"
        connections_max = 100
        requests_max = 50
        transfers_max = 10
        event_streams_max = 60
        event_streams_per_account_max = 7
        pending_accounts_max = 70
        push_body_memory = "32 MiB"
        page_memory = "1 GB"
        database_max = "10 GiB"
        account_bytes_max = "1 GB"
        account_blobs_max = 5000
        account_pending_uploads_max = 20
        account_sessions_max = 30
        account_revoked_devices_max = 40
        sweep_interval = "5 min"
        snapshot_settle_time = "1 d"
        device_active_time = "7 d"
        snapshot_upload_time = "1 h"
        pending_account_time = "2 h"
        log_format = "json"
        smtp_url = "smtps://user:secret@mail.example.com"
        mail_from = "Sync <sync@example.com>"
        "#,
    )
    .unwrap();
    assert_eq!(config.public_url.as_ref().unwrap().as_str(), "https://sync.example.com");
    assert_eq!(config.timeouts.shutdown_grace, Duration::ZERO);
    assert_eq!(config.database_bytes_max, Some(10 << 30));
    assert_eq!(
        (config.bounds.push_body_bytes, config.bounds.page_bytes),
        (32 << 20, 1_000_000_000)
    );
    assert_eq!(config.retention.pending_account, Duration::from_secs(7200));
    assert_eq!(config.bounds.pending_accounts, 70);
    assert_eq!(config.timeouts.event_stream, Duration::from_secs(90));
    assert_eq!(
        (config.bounds.event_streams, config.bounds.event_streams_per_account),
        (60, 7)
    );
    let mails = config.mails;
    assert_eq!((mails.reset_burst, mails.resets_per_day), (2, 48));
    assert_eq!((mails.registration_burst, mails.registrations_per_day), (3, 6));
    let quotas = config.quotas;
    assert_eq!(
        (quotas.bytes, quotas.blobs, quotas.pending_uploads),
        (1_000_000_000, 5000, 20)
    );
    assert_eq!((quotas.sessions, quotas.revoked_devices), (30, 40));
    assert!(matches!(&config.mail, MailDelivery::Smtp { from, .. } if from == "Sync <sync@example.com>"));
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn errors_name_the_key_and_what_is_allowed() {
    let error = |text: &str| resolve(text).unwrap_err();
    assert_eq!(resolve("").unwrap().data_dir, Path::new(Config::DEFAULT_DATA_DIR));
    let unknown = error("data_dir = '/d'\nregistratoin = 'open'");
    assert!(
        unknown.contains("at line 2, column 1") && unknown.contains("unknown field `registratoin`"),
        "{unknown}"
    );
    assert!(
        Setting::all().all(|setting| unknown.contains(&format!("`{}`", setting.key))),
        "{unknown}"
    );
    assert!(error("data_dir = '/d'\nregistration = 'maybe'").contains("expected one of open, invite, closed"));
    assert!(error("data_dir = '/d'\nguess_window = '15'").contains("units: ms, s, min, h, d"));
    assert!(error("data_dir = '/d'\npage_memory = 5").contains("page_memory"));
    let refused = |line: &str| {
        let shown = error(&format!("data_dir = '/d'\n{line}"));
        assert!(shown.contains("line 2"), "{shown}");
        shown.lines().last().unwrap().to_owned()
    };
    assert_eq!(
        refused("guesses_per_address = 0"),
        "guesses_per_address = 0: must be at least 1"
    );
    assert_eq!(
        refused("request_timeout = '0 s'"),
        "request_timeout = 0 s: must be longer than nothing"
    );
    assert_eq!(
        refused("database_connections = 10001"),
        "database_connections = 10001: must be at most 10000"
    );
    assert_eq!(
        refused("database_statement_timeout = '25 h'"),
        "database_statement_timeout = 25 h: must be at most 24 h"
    );
    assert_eq!(
        refused("page_memory = '1 MiB'"),
        "page_memory = 1 MiB: must be 16 MiB to 256 GiB"
    );
    assert_eq!(
        refused("public_url = 'sync.example.com'"),
        "public_url = sync.example.com: expected http:// or https:// and a host, without user, query or fragment"
    );
    assert_eq!(
        refused("session_request_burst = 0"),
        "session_request_burst = 0: must be at least 1"
    );
    assert_eq!(
        refused("listen = 'localhost:80'").split(": ").next(),
        Some("listen = localhost:80")
    );
    assert!(refused("listen = 1.5").contains("expected a text, a number, true, false, or an array of texts"));
    for token in ["0123456789", "with a space 0123456789"] {
        let shown = error(&format!("data_dir = '/d'\nmetrics_token = '{token}'"));
        let refusal = "metrics_token = (not shown): must have at least 16 letters, digits or any of - . _ ~ + / =\n";
        assert!(shown.contains(refusal), "{shown}");
        assert!(!shown.contains(token), "{shown}");
    }
    assert_eq!(
        error("data_dir = '/d'\nsmtp_url = 'smtp://x'"),
        "mail_from is missing: mails need a sender"
    );
}

#[test]
fn every_setting_is_in_the_table_once() {
    let keys: Vec<&str> = Setting::all().map(|setting| setting.key).collect();
    let unique: std::collections::BTreeSet<&str> = keys.iter().copied().collect();
    assert_eq!(unique.len(), keys.len(), "{keys:?}");
    for setting in Setting::all() {
        let file = format!("{} = 'no value of any setting \u{1}'", setting.key);
        assert!(
            !setting.help.ends_with('.') && !setting.help.is_empty(),
            "{}",
            setting.key
        );
        // Every form refuses something, but for names of directories.
        assert!(
            setting.key == "data_dir" || self::file(&file).is_err(),
            "{}",
            setting.key
        );
        if setting.kind == SettingKind::Secret {
            assert!(
                !self::file(&file).unwrap_err().contains("no value of any"),
                "{}",
                setting.key
            );
        }
    }
}

/// The default that help and document name is the one that the server uses.
#[test]
fn named_defaults_are_the_defaults() {
    let config = |settings| {
        format!("{:?}", Config::resolve([settings]).unwrap())
            .split("clock")
            .next()
            .unwrap()
            .to_owned()
    };
    let default = config(Settings::default());
    let mut named = 0;
    for setting in Setting::all() {
        // Some defaults are words: no limit, or the address of the listener.
        if let Ok(settings) = Settings::default().with(setting.key, setting.default) {
            assert_eq!(config(settings), default, "{}", setting.key);
            named += 1;
        }
    }
    assert!(named >= Setting::all().count() - 11, "{named}");
    let retention = Config::new("").retention;
    assert_eq!(retention.snapshot_settle.as_secs(), limits::SNAPSHOT_SETTLE_SECONDS);
    assert_eq!(retention.device_active.as_secs(), limits::DEVICE_ACTIVE_SECONDS);
    assert_eq!(retention.snapshot_upload.as_secs(), limits::SNAPSHOT_UPLOAD_SECONDS);
}

/// `UPDATE_DOCUMENTS=1` writes the table.
#[test]
fn the_document_shows_the_table_of_settings() {
    const BEGIN: &str = "| key | default | meaning |\n| --- | --- | --- |\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once("\n\n").unwrap();
    let rows: Vec<String> = Setting::all().map(Setting::documentation).collect();
    let rows = rows.join("\n");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{rows}\n\n{after}")).unwrap();
    } else {
        assert_eq!(shown, rows, "UPDATE_DOCUMENTS=1 writes the table");
    }
}

/// An SDK reads one part of a snapshot ahead. Half of its reading would wait for the other half.
#[test]
fn a_session_may_read_two_parts_at_once() {
    let share = Config::new("data").bounds.page_bytes / 8;
    let part = (limits::SNAPSHOT_PART_SEALED_BYTES_MAX as u64).next_multiple_of(1024);
    assert!(share >= 2 * part, "{share} bytes for parts of {part}");
}

#[test]
fn public_urls_are_checked() {
    use synckit_server::config::PublicUrl;
    for good in [
        "https://a.example",
        "http://127.0.0.1:8080",
        "https://a.example/sync/",
        "http://[::1]:80",
    ] {
        good.parse::<PublicUrl>().unwrap();
    }
    for bad in [
        "",
        "a.example",
        "ftp://a.example",
        "https://",
        "https://u:p@a.example",
        "https://a/?x",
        "https://a/#x",
    ] {
        bad.parse::<PublicUrl>().unwrap_err();
    }
}

#[test]
fn units_are_required_and_understood() {
    let span = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
    assert_eq!(
        (span("500ms"), span("2 min"), span("1 d")),
        (Ok(500), Ok(120_000), Ok(86_400_000))
    );
    let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
    assert_eq!(
        (size("1 kB"), size("1 KiB"), size("2GiB")),
        (Ok(1000), Ok(1024), Ok(2 << 30))
    );
    for bad in [
        "",
        "5",
        "s",
        "-5 s",
        "1.5 h",
        "5 weeks",
        "99999999999999999999 s",
        "9999999999999999999 d",
    ] {
        span(bad).unwrap_err();
    }
}

#[test]
fn blocks_of_addresses_contain_what_they_say() {
    let contains = |block: &str, address: &str| {
        block
            .parse::<AddressBlock>()
            .unwrap()
            .contains(address.parse().unwrap())
    };
    assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
    assert!(
        contains("10.1.2.3/8", "10.0.0.1"),
        "bits behind the prefix do not count"
    );
    assert!(contains("0.0.0.0/0", "203.0.113.1") && !contains("0.0.0.0/0", "::1"));
    assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
    assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"));
    assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::1"));
    for bad in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "a/8"] {
        bad.parse::<AddressBlock>().unwrap_err();
    }
}

/// The keys of a bucket come from the environment, a file, or another file; never without the bucket, nor it without them.
#[test]
fn keys_of_a_bucket_stand_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "hunter2\n").unwrap();
    let bucket = Settings::default()
        .with("blobs", "s3://our-files?region=eu-west-1")
        .unwrap();
    let with_id = bucket.clone().with("bucket_access_key", "AKIA").unwrap();
    let apart = with_id.clone().with("bucket_secret_key", "hunter2").unwrap();
    let in_file = with_id
        .clone()
        .with("bucket_secret_key_file", file.to_str().unwrap())
        .unwrap();
    for settings in [apart.clone(), in_file] {
        assert_eq!(settings.has_bucket(), Some(true));
        let config = Config::resolve([settings]).unwrap();
        let BlobPlace::Bucket(access) = &config.blobs else {
            panic!("{:?}", config.blobs)
        };
        let keys = &access.keys;
        assert_eq!(
            (keys.access_key.as_str(), keys.secret_key.expose()),
            ("AKIA", "hunter2")
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    let without_bucket = Settings::default().with("bucket_secret_key", "hunter2").unwrap();
    for (settings, missing) in [
        (bucket, "bucket_access_key"),
        (with_id, "bucket_secret_key"),
        (without_bucket, "blobs"),
    ] {
        let error = Config::resolve([settings]).unwrap_err();
        assert!(
            matches!(error, ConfigError::Missing { key, .. } if key == missing),
            "{error}"
        );
    }
    // A command that uses no bucket needs none of this.
    let config = Config::resolve([apart.without_services()]).unwrap();
    assert_eq!(config.blobs, BlobPlace::Directory);
    let error = Settings::default()
        .with("blobs", "s3://AKIA:hunter2@our-files?region=r")
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}
