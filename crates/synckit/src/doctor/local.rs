//! A server's machine: configuration, clock, disk, mail, address, limits; and the order of all checks.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use synckit_protocol::PROTOCOL_VERSION;
use synckit_server::{
    Config,
    config::{BlobPlace, Database, MailDelivery, PublicUrl, Registration},
    inspect::{DatabaseFacts, DatabaseInspection, Inspection, check_mail_settings, connect_to_mail_server},
};

use super::{Report, data, environment, files, probe::Probe};
use crate::{cli::DoctorArgs, exposure::exposures, serve, system, units};

/// Free space at which a server soon refuses new data, and free space at which the operator should add some.
const FREE_BYTES_FAIL: u64 = 256 << 20;
const FREE_BYTES_WARN: u64 = 2 << 30;
/// A clock before this was never set: 2026-01-01.
const EARLIEST_NOW: u64 = 1_767_225_600;
/// Maximum distance of rows ahead of the clock: the same clock has written them.
const AHEAD_SECONDS_MAX: u64 = 60;
/// Descriptors for the database, the log and other files, besides connections and blobs.
const OTHER_FILES: u64 = 64;

pub(super) async fn check(args: &DoctorArgs, report: &mut Report) {
    let own = env!("CARGO_PKG_VERSION");
    let schema = DatabaseInspection::known_schema();
    report.ok(
        "program",
        format_args!("synckit {own}, protocol {PROTOCOL_VERSION}, database schema {schema}"),
    );
    environment::check(report);
    let config = match serve::resolve(&args.serve) {
        Ok(config) => config,
        Err(failure) => {
            let hint = failure
                .hint()
                .unwrap_or("`synckit serve --help` lists the allowed values");
            return report.fail("configuration", failure.message(), hint);
        }
    };
    configuration(&config, args, report);
    let inspection = Inspection::of(&config.data_dir);
    let is_served = files::directory(&inspection, report) && {
        let is_served = inspection.is_served().unwrap_or(false);
        let facts = match &config.database {
            Database::Postgres(url) => data::postgresql(url, &inspection, (args, &config.blobs), report).await,
            _ => data::database(&inspection, (args, &config.blobs), is_served, report).await,
        };
        if let BlobPlace::Bucket(access) = &config.blobs {
            data::bucket(access, report).await;
        }
        data::keys(&inspection, facts.as_ref(), report);
        clock(facts.as_ref(), report);
        is_served
    };
    disk(&config, &inspection, report);
    mail(&config, &inspection, args, report).await;
    address(&config, is_served, report).await;
    file_limit(&config, report);
}

fn configuration(config: &Config, args: &DoctorArgs, report: &mut Report) {
    const CHECK: &str = "configuration";
    let from = match args.serve.config_file() {
        Some(path) => format!("flags, environment and {}", path.display()),
        None => "flags and environment".to_owned(),
    };
    let url = config
        .public_url
        .as_ref()
        .map_or("the listen address", PublicUrl::as_str);
    report.ok(
        CHECK,
        format_args!(
            "from {from}: data in {}, listens at {}, URL of clients {url}",
            config.data_dir.display(),
            config.listen
        ),
    );
    let is_public = match &config.public_url {
        Some(url) => !url.as_str().starts_with("http://127.") && !url.as_str().starts_with("http://localhost"),
        None => !config.listen.ip().is_loopback(),
    };
    if is_public && config.public_url.is_none() {
        report.warn(
            CHECK,
            "public_url is not set, and other machines reach the server: their blob transfers fail",
            "set public_url to the https:// address of apps",
        );
    }
    if let Some(url) = config
        .public_url
        .as_ref()
        .filter(|url| url.as_str().starts_with("http://"))
        && is_public
    {
        report.warn(
            CHECK,
            format_args!("public_url is {url}: the SDK refuses plain http except to loopback"),
            "put a proxy with TLS in front, and set public_url to its https:// address",
        );
    }
    if is_public && config.registration == Registration::Open {
        report.warn(
            CHECK,
            "registration is open: everybody with access to the server may store data on it",
            "set registration = \"invite\", unless you want this",
        );
    }
    if is_public && config.trusted_proxies.is_empty() {
        report.warn(
            CHECK,
            "trusted_proxies is empty: behind a proxy all users share one allowance of sign-ins",
            "name the proxy's address in trusted_proxies, unless clients connect without one",
        );
    }
    for exposure in exposures(config, args.serve.config_file().map(AsRef::as_ref)) {
        report.warn(CHECK, exposure.what, exposure.advice);
    }
    if config.allow_password_login {
        report.warn(
            CHECK,
            "allow_password_login is on: the server sees the passwords of scripts",
            "turn it off unless a script needs it",
        );
    }
    if config.accept_new_oprf_seed {
        report.warn(
            CHECK,
            "accept_new_oprf_seed is on: the server would silently replace a lost key file",
            "it is for one start; remove it from the file and the environment",
        );
    }
}

fn clock(facts: Option<&DatabaseFacts>, report: &mut Report) {
    const CHECK: &str = "clock";
    const ADVICE: &str = "set the clock by NTP: tokens, presigned URLs and codes depend on it";
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let newest = facts.and_then(|facts| facts.newest_time).unwrap_or(0);
    if now < EARLIEST_NOW {
        report.fail(CHECK, format_args!("it shows {}", units::date(now)), ADVICE);
    } else if newest > now + AHEAD_SECONDS_MAX {
        report.fail(
            CHECK,
            format_args!(
                "it shows {}, but the database has rows of {}: it is slow now, or was fast then",
                units::date(now),
                units::date(newest)
            ),
            ADVICE,
        );
    } else {
        let compared = if newest > 0 { ", later than every row" } else { "" };
        report.ok(CHECK, format_args!("{}{compared}", units::date(now)));
    }
}

fn disk(config: &Config, inspection: &Inspection, report: &mut Report) {
    const CHECK: &str = "disk";
    let mut seen = Vec::new();
    for path in [inspection.root().to_owned(), inspection.blobs_path()] {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let device = system::device(&metadata);
        if seen.contains(&device) {
            continue;
        }
        seen.push(device);
        let space = match system::space(&path) {
            Ok(Some(space)) => space,
            Ok(None) => continue,
            Err(error) => {
                report.warn(
                    CHECK,
                    format_args!("the free space of {} cannot be read: {error}", path.display()),
                    "check with `df`",
                );
                continue;
            }
        };
        let text = format!(
            "{} of {} free for {}",
            units::bytes(space.free),
            units::bytes(space.total),
            path.display()
        );
        const ADVICE: &str = "free some space; a full disk refuses new data (507 server_full) and loses none";
        if space.free < FREE_BYTES_FAIL {
            report.fail(CHECK, text, ADVICE);
        } else if space.free < FREE_BYTES_WARN || space.free < space.total / 10 {
            report.warn(CHECK, text, ADVICE);
        } else {
            report.ok(CHECK, text);
        }
    }
    let size = fs::metadata(inspection.database_path()).map_or(0, |metadata| metadata.len());
    if let Some(limit) = config.database_bytes_max.filter(|limit| size > limit / 10 * 9) {
        report.warn(
            CHECK,
            format_args!(
                "the database has {} of database_max = {}",
                units::bytes(size),
                units::bytes(limit)
            ),
            "raise database_max; past it the server refuses new data (507 server_full)",
        );
    }
}

async fn mail(config: &Config, inspection: &Inspection, args: &DoctorArgs, report: &mut Report) {
    const CHECK: &str = "mail";
    if let MailDelivery::Directory = config.mail {
        let waiting = fs::read_dir(inspection.mail_path()).map_or(0, Iterator::count);
        if waiting > 0 {
            report.warn(
                CHECK,
                format_args!("{} in mail/, not sent", units::counted(waiting as u64, "mail")),
                "forward and remove them, or set smtp_url and mail_from",
            );
        } else {
            report.ok(CHECK, "is written to files in mail/; it is empty");
        }
        return;
    }
    let checked = if args.full {
        connect_to_mail_server(&config.mail).await
    } else {
        check_mail_settings(&config.mail)
    };
    match checked {
        Ok(()) if args.full => report.ok(CHECK, "the mail server answers and accepts the password"),
        Ok(()) => report.ok(CHECK, "the settings are valid; --full connects to the mail server"),
        Err(error) => report.fail(
            CHECK,
            format_args!("{:#}", anyhow::Error::from(error)),
            "check smtp_url, mail_from, and the connection from here to the mail server",
        ),
    }
}

async fn address(config: &Config, is_served: bool, report: &mut Report) {
    const CHECK: &str = "address";
    let listen = config.listen;
    if listen.port() == 0 {
        return report.ok(CHECK, "any free port, as configured");
    }
    if !somebody_listens(listen) {
        if is_served {
            return report.warn(
                CHECK,
                format_args!("a server runs on this directory, but not at {listen}"),
                "it runs with other settings: give the doctor the same ones",
            );
        }
        // Only if no server runs that would occupy the port.
        return match TcpListener::bind(listen) {
            Ok(_) => report.ok(CHECK, format_args!("{listen} is free; no server runs")),
            Err(error) => report.fail(
                CHECK,
                format_args!("the server could not listen at {listen}: {error}"),
                "choose another address or port; ports below 1024 need a privilege",
            ),
        };
    }
    let reachable = SocketAddr::new(
        match listen.ip() {
            std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        },
        listen.port(),
    );
    let health = Probe::new(&format!("http://{reachable}")).health().await;
    let own = env!("CARGO_PKG_VERSION");
    match health {
        Ok((_, Some(health))) if !is_served => report.warn(
            CHECK,
            format_args!(
                "a SyncKit server {} listens at {listen}, but not on this directory",
                health.version.unwrap_or_default()
            ),
            "name its directory with --data-dir, or choose another address",
        ),
        Ok((_, Some(health))) => match health.version {
            Some(version) if version == own => report.ok(CHECK, format_args!("synckit {version} serves at {listen}")),
            version => report.warn(
                CHECK,
                format_args!(
                    "synckit {} serves at {listen}, this program is {own}",
                    version.as_deref().unwrap_or("of an older version")
                ),
                "restart the server to finish an upgrade, or use the program of the running server",
            ),
        },
        Ok((answer, None)) => report.fail(
            CHECK,
            format_args!("another program listens at {listen} (it answers {})", answer.status),
            "stop it, or choose another address with --listen",
        ),
        Err(error) => report.fail(
            CHECK,
            format_args!("a process listens at {listen} and does not answer: {error:#}"),
            "read the server's log; `ss -ltnp` shows the process",
        ),
    }
}

fn somebody_listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

fn file_limit(config: &Config, report: &mut Report) {
    let needed = config.bounds.connections as u64 + config.bounds.transfers as u64 + OTHER_FILES;
    let Some(limit) = system::file_limit() else { return };
    if limit < needed {
        report.warn(
            "files",
            format_args!(
                "this shell may open {} files, the settings allow for {}",
                units::count(limit),
                units::count(needed)
            ),
            "raise it (systemd: LimitNOFILE=16384; shell: ulimit -n 16384), or lower connections_max",
        );
    } else {
        report.ok(
            "files",
            format_args!(
                "{} may be open, {} are needed at most",
                units::count(limit),
                units::count(needed)
            ),
        );
    }
}
