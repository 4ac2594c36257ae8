//! Configuration: layers, units, and errors that help.

use std::{path::Path, time::Duration};

use synckit_server::{
    Config,
    config::{AddressBlock, ByteSize, MailDelivery, Registration, Settings, Span},
};

fn file(text: &str) -> Result<Settings, String> {
    Settings::from_toml(text, Path::new("synckit.toml")).map_err(|error| {
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{error}: {source}")
    })
}

fn resolve(text: &str) -> Result<Config, String> {
    Config::resolve([file(text)?]).map_err(|error| error.to_string())
}

#[test]
fn flags_go_before_environment_before_file_before_default() {
    let file = file(
        "data_dir = '/file'\nlisten = '127.0.0.1:1'\nregistration = 'closed'\nguess_window = '1 h'\n\
         trusted_proxies = ['10.0.0.0/8']",
    )
    .unwrap();
    let environment = Settings {
        listen: Some("127.0.0.1:2".parse().unwrap()),
        registration: Some(Registration::Invite),
        ..Settings::default()
    };
    let flags = Settings {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..Settings::default()
    };
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
        request_head_timeout = "10s"
        request_body_timeout = "20 s"
        request_timeout = "40 s"
        stall_timeout = "500 ms"
        shutdown_grace = "0 s"
        connections_max = 100
        requests_max = 50
        transfers_max = 10
        push_body_memory = "32 MiB"
        page_memory = "1 GB"
        database_max = "10 GiB"
        sweep_interval = "5 min"
        snapshot_settle_time = "1 d"
        device_active_time = "7 d"
        snapshot_upload_time = "1 h"
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
    assert!(matches!(&config.mail, MailDelivery::Smtp { from, .. } if from == "Sync <sync@example.com>"));
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn errors_name_the_key_and_what_is_allowed() {
    let error = |text: &str| resolve(text).unwrap_err();
    assert_eq!(
        error(""),
        "data_dir is missing: the server must know where to keep its data"
    );
    insta::assert_snapshot!(error("data_dir = '/d'\nregistratoin = 'open'").replace("unknown field `registratoin`, expected one of ", "").lines().take(6).collect::<Vec<_>>().join("\n"), @"
    the configuration file synckit.toml is not valid: TOML parse error at line 2, column 1
      |
    2 | registratoin = 'open'
      | ^^^^^^^^^^^^
    `data_dir`, `listen`, `public_url`, `registration`, `allow_password_login`, `accept_new_oprf_seed`, `trusted_proxies`, `guess_window`, `guesses_per_account_and_address`, `guesses_per_address`, `guesses_per_account_from_strangers`, `session_requests_per_second`, `session_request_burst`, `address_requests_per_second`, `address_request_burst`, `metrics_token`, `request_head_timeout`, `request_body_timeout`, `request_timeout`, `stall_timeout`, `shutdown_grace`, `connections_max`, `requests_max`, `transfers_max`, `push_body_memory`, `page_memory`, `database_max`, `sweep_interval`, `snapshot_settle_time`, `device_active_time`, `snapshot_upload_time`, `log_format`, `smtp_url`, `mail_from`
    ");
    assert!(error("data_dir = '/d'\nregistration = 'maybe'").contains("expected one of `open`, `invite`, `closed`"));
    assert!(error("data_dir = '/d'\nguess_window = '15'").contains("units: ms, s, min, h, d"));
    assert!(error("data_dir = '/d'\npage_memory = 5").contains("page_memory"));
    assert_eq!(
        error("data_dir = '/d'\nguesses_per_address = 0"),
        "guesses_per_address = 0: must be at least 1"
    );
    assert_eq!(
        error("data_dir = '/d'\nrequest_timeout = '0 s'"),
        "request_timeout = 0 ms: must be longer than nothing"
    );
    assert_eq!(
        error("data_dir = '/d'\npage_memory = '1 MiB'"),
        "page_memory = 1048576 B: must be 16 MiB to 256 GiB"
    );
    assert_eq!(
        error("data_dir = '/d'\npublic_url = 'sync.example.com'"),
        "public_url = sync.example.com: expected http:// or https:// and a host, without user, query or fragment"
    );
    assert_eq!(
        error("data_dir = '/d'\nsession_request_burst = 0"),
        "session_request_burst = 0: must be at least 1"
    );
    for token in ["0123456789", "with a space 0123456789"] {
        let shown = error(&format!("data_dir = '/d'\nmetrics_token = '{token}'"));
        assert_eq!(
            shown,
            "metrics_token = (not shown): must have at least 16 letters, digits or any of - . _ ~ + / ="
        );
    }
    assert_eq!(
        error("data_dir = '/d'\nsmtp_url = 'smtp://x'"),
        "mail_from is missing: mails need a sender"
    );
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
