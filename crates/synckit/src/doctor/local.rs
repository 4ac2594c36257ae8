//! A server's machine: configuration, directory, keys, database, blobs, clock, disk, mail, address, limits.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use synckit_server::{
    Config, PROTOCOL_VERSION,
    config::{MailDelivery, PublicUrl, Registration},
    inspect::{
        DatabaseFacts, DatabaseInspection, Inspection, ObjectExtent, check_mail_settings, connect_to_mail_server,
    },
};

use super::{Report, environment, files, probe::Probe};
use crate::{cli::DoctorArgs, failure::Failure, serve, system, units};

/// How long the integrity check may take unless everything is asked for.
const INTEGRITY_TIME_MAX: Duration = Duration::from_secs(30);
/// A write-ahead log of this size is not being emptied. A busy server's has about 45 MiB.
const WAL_BYTES_MAX: u64 = 128 << 20;
/// Free space below which a server is about to stop taking data, and below which it is time to make room.
const FREE_BYTES_FAIL: u64 = 256 << 20;
const FREE_BYTES_WARN: u64 = 2 << 30;
/// A clock before this was never set: 2026-01-01.
const EARLIEST_NOW: u64 = 1_767_225_600;
/// How far rows may be ahead of the clock: they are written by the same clock.
const AHEAD_SECONDS_MAX: u64 = 60;
/// Descriptors for the database, the log and what else is open, beside connections and blobs.
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
            let hint = failure.hint().unwrap_or("`synckit serve --help` shows what is allowed");
            return report.fail("configuration", failure.message(), hint);
        }
    };
    configuration(&config, args, report);
    let inspection = Inspection::of(&config.data_dir);
    let is_served = files::directory(&inspection, report) && {
        let is_served = inspection.is_served().unwrap_or(false);
        let facts = database(&inspection, args, is_served, report);
        keys(&inspection, facts.as_ref(), report);
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
            "from {from}: data in {}, listens at {}, reached at {url}",
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
            "public_url is not set, and the server is reached from elsewhere: blobs fail there",
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
            "registration is open: anybody who reaches the server may store data on it",
            "set registration = \"invite\", unless that is what you want",
        );
    }
    if is_public && config.trusted_proxies.is_empty() {
        report.warn(
            CHECK,
            "trusted_proxies is empty: behind a proxy all users share one allowance of sign-ins",
            "name the proxy's address in trusted_proxies, unless clients connect without one",
        );
    }
    if config.allow_password_login {
        report.warn(
            CHECK,
            "allow_password_login is on: the server sees passwords that scripts send",
            "turn it off unless a script needs it",
        );
    }
    if config.accept_new_oprf_seed {
        report.warn(
            CHECK,
            "accept_new_oprf_seed is on: a lost key file would be replaced without a word",
            "it is for one start; remove it from the file and the environment",
        );
    }
}

/// The database and the blobs that it knows. `None` if nothing could be read that says something.
fn database(inspection: &Inspection, args: &DoctorArgs, is_served: bool, report: &mut Report) -> Option<DatabaseFacts> {
    const CHECK: &str = "database";
    let path = inspection.database_path();
    if !path.is_file() {
        report.fail(
            CHECK,
            format_args!("{} is missing", path.display()),
            "restore it from a backup, or start the server to begin with an empty one",
        );
        return None;
    }
    let failed = |report: &mut Report, error: synckit_server::store::StoreError| {
        let failure = Failure::from(error);
        let hint = failure.hint().unwrap_or("restore a backup: see docs/operations.md");
        report.fail(CHECK, failure.message(), hint);
    };
    let database = match inspection.database() {
        Ok(database) => database,
        Err(error) => {
            failed(report, error);
            return None;
        }
    };
    let known = DatabaseInspection::known_schema();
    let schema = match database.schema() {
        Ok(schema) => schema.unwrap_or(0),
        Err(error) => {
            failed(report, error);
            return None;
        }
    };
    if schema > known {
        report.fail(
            CHECK,
            format_args!("it has schema {schema}, this program knows up to {known}"),
            "use the newer synckit that made it; going back needs a backup of before",
        );
    } else if schema < known {
        report.warn(
            CHECK,
            format_args!("it has schema {schema}, this program brings it to {known}"),
            "back it up, then start the server with this program",
        );
    }
    integrity(&database, args, report, schema);
    write_ahead_log(&path, is_served, report);
    if schema != known {
        return None;
    }
    let facts = match database.facts() {
        Ok(facts) => facts,
        Err(error) => {
            failed(report, error);
            return None;
        }
    };
    blobs(&database, inspection, args, report);
    if database.was_disturbed() {
        report.warn(
            CHECK,
            "a server or a command began to use it meanwhile: what is said of it may be wrong",
            "run the doctor again",
        );
    }
    Some(facts)
}

fn integrity(database: &DatabaseInspection, args: &DoctorArgs, report: &mut Report, schema: u32) {
    const CHECK: &str = "database";
    let limit = (!args.full).then_some(INTEGRITY_TIME_MAX);
    match database.quick_check(limit) {
        Ok(Some(findings)) if findings.is_empty() => {
            report.ok(CHECK, format_args!("opens, schema {schema}, and is not damaged"));
        }
        Ok(Some(findings)) => report.fail(
            CHECK,
            format_args!("it is damaged: {}", findings.join("; ")),
            "stop the server, keep a copy of the directory, restore a backup, and distrust the disk",
        ),
        Ok(None) => report.warn(
            CHECK,
            format_args!(
                "opens, schema {schema}; {} were not enough to look for damage in all of it",
                units::counted(INTEGRITY_TIME_MAX.as_secs(), "second")
            ),
            "--full takes the time that it needs; best on a copy, or at a quiet hour",
        ),
        Err(error) => report.fail(
            CHECK,
            Failure::from(error).message(),
            "restore a backup: see docs/operations.md",
        ),
    }
}

fn write_ahead_log(database: &Path, is_served: bool, report: &mut Report) {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if bytes > WAL_BYTES_MAX {
        report.warn(
            "database",
            format_args!("its write-ahead log has grown to {}", units::bytes(bytes)),
            "look for a backup or another reader that has been at work for long; it is emptied once that ends",
        );
    } else if bytes > 0 && !is_served {
        report.ok(
            "database",
            "the last server was ended abruptly; the next start finds everything that was acknowledged",
        );
    }
}

fn blobs(database: &DatabaseInspection, inspection: &Inspection, args: &DoctorArgs, report: &mut Report) {
    const CHECK: &str = "blobs";
    let extent = if args.full {
        ObjectExtent::All
    } else {
        ObjectExtent::Sample
    };
    let survey = match database.survey_objects(&inspection.blobs_path(), extent) {
        Ok(survey) => survey,
        Err(error) => {
            let failure = Failure::from(error);
            return report.fail(
                CHECK,
                failure.message(),
                failure.hint().unwrap_or("check the directory blobs/"),
            );
        }
    };
    let compared = format!(
        "{} of {} compared",
        units::count(survey.compared),
        units::counted(survey.known, "object")
    );
    if survey.missing + survey.wrong_size == 0 {
        report.ok(CHECK, format_args!("{compared}, all there"));
    } else {
        let examples: Vec<String> = survey.examples.iter().map(ToString::to_string).collect();
        report.fail(
            CHECK,
            format_args!(
                "{compared}: {} missing, {} of another size, such as {}",
                units::count(survey.missing),
                units::count(survey.wrong_size),
                examples.join(", ")
            ),
            "copy blobs/ back from a backup; devices that still have a file can upload it again (blob_replace)",
        );
    }
    if survey.orphaned > 0 {
        report.warn(
            CHECK,
            format_args!(
                "{} ({}) that the database does not know: a restored database is older than its blobs",
                units::counted(survey.orphaned, "file"),
                units::bytes(survey.orphaned_bytes)
            ),
            "they do no harm and are never swept; keep them until no newer backup of the database will be restored",
        );
    }
}

fn keys(inspection: &Inspection, facts: Option<&DatabaseFacts>, report: &mut Report) {
    const CHECK: &str = "keys";
    let keys = inspection.keys();
    let mut is_whole = true;
    match keys.login {
        Ok(Some(seed)) => {
            if facts.is_some_and(|facts| facts.seed_id.is_some_and(|bound| bound != seed)) {
                is_whole = false;
                report.fail(
                    CHECK,
                    "opaque.key is not the one that the passwords in the database were made under",
                    "restore the right opaque.key; see \"Losing the OPRF seed\" in docs/operations.md",
                );
            }
        }
        Ok(None) if facts.is_some_and(|facts| facts.accounts > 0) => {
            is_whole = false;
            report.fail(
                CHECK,
                "opaque.key is missing, and there are accounts: no password works without it",
                "restore it from a backup; see \"Losing the OPRF seed\" in docs/operations.md",
            );
        }
        Ok(None) => {
            is_whole = false;
            report.warn(
                CHECK,
                "opaque.key is not there yet",
                "the first start of the server makes it",
            );
        }
        Err(error) => {
            is_whole = false;
            key_file(error, report);
        }
    }
    match keys.tokens {
        Ok(Some(_)) => {}
        Ok(None) => {
            is_whole = false;
            report.warn(
                CHECK,
                "tokens.json is not there",
                "the next start makes it; tokens of before end, and clients get new ones by themselves",
            );
        }
        Err(error) => {
            is_whole = false;
            key_file(error, report);
        }
    }
    match keys.server {
        Ok(true) => {}
        Ok(false) => {
            is_whole = false;
            report.warn(
                CHECK,
                "server.key is not there",
                "the next start makes it; every session of before ends",
            );
        }
        Err(error) => {
            is_whole = false;
            key_file(error, report);
        }
    }
    if is_whole {
        report.ok(CHECK, "all there, private, and those of this database");
    }
}

fn key_file(error: synckit_server::KeyFileError, report: &mut Report) {
    report.fail(
        "keys",
        Failure::from(error).message(),
        "chmod 600 it, or restore it from a backup; it must belong to the server's user",
    );
}

fn clock(facts: Option<&DatabaseFacts>, report: &mut Report) {
    const CHECK: &str = "clock";
    const ADVICE: &str = "set the clock by NTP: tokens, presigned URLs and codes go by it";
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let newest = facts.and_then(|facts| facts.newest_time).unwrap_or(0);
    if now < EARLIEST_NOW {
        report.fail(CHECK, format_args!("it says {}", units::date(now)), ADVICE);
    } else if newest > now + AHEAD_SECONDS_MAX {
        report.fail(
            CHECK,
            format_args!(
                "it says {}, but the database has rows of {}: it went back, or was ahead",
                units::date(now),
                units::date(newest)
            ),
            ADVICE,
        );
    } else {
        report.ok(CHECK, format_args!("{}, later than every row", units::date(now)));
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
                    "look with `df`",
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
        const ADVICE: &str = "make room; a full disk takes no data (507 server_full), and loses none";
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
            "raise database_max, or make room; past it the server takes no more data",
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
                format_args!("{} in mail/ that nobody sent", units::counted(waiting as u64, "mail")),
                "pass them on and remove them, or set smtp_url and mail_from",
            );
        } else {
            report.ok(CHECK, "goes to files in mail/, none of which waits");
        }
        return;
    }
    let checked = if args.full {
        connect_to_mail_server(&config.mail).await
    } else {
        check_mail_settings(&config.mail)
    };
    match checked {
        Ok(()) if args.full => report.ok(CHECK, "the mail server answers and takes the password"),
        Ok(()) => report.ok(CHECK, "the settings can be used; --full connects to the mail server"),
        Err(error) => report.fail(
            CHECK,
            format_args!("{:#}", anyhow::Error::from(error)),
            "check smtp_url and mail_from, and that the mail server is reached from here",
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
                "it was started with other settings than these: give the doctor the same",
            );
        }
        // Only if nothing runs that this could be in the way of.
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
    let health = match Probe::new(&format!("http://{reachable}")) {
        Ok(probe) => probe.health().await,
        Err(error) => Err(error),
    };
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
            format_args!("something listens at {listen}, and does not answer: {error:#}"),
            "look at the server's log; `ss -ltnp` shows which process it is",
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
