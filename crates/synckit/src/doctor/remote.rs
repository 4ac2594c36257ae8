//! A server from outside, as an app sees it: reachable, safe, of this protocol, with a correct clock.

use http::{StatusCode, header};
use synckit_client::{Error, MemoryStore, Problem, SyncKitClient, SyncKitConfig, transport::TransportError};
use synckit_protocol::PROTOCOL_VERSION;

use super::{
    Report,
    probe::{Answer, Probe},
};
use crate::{
    failure::{Failure, NO_CERTIFICATES},
    units,
};

/// The SDK refreshes its tokens a day early, so a clock with a smaller error causes no problem.
const SKEW_SECONDS_MAX: u64 = 300;

pub(super) async fn check(url: &str, report: &mut Report) {
    if let Err(error) = is_usable(url) {
        let failure = Failure::from(error);
        return report.fail("address", failure.message(), failure.hint().unwrap_or_default());
    }
    report.ok("address", format_args!("the SDK accepts {url}"));
    let probe = Probe::new(url);
    // Every path of the API gives this answer to a request without a token; a proxy may hide /healthz.
    let answer = match probe.get("/api/sync/status").await {
        Ok(answer) => answer,
        Err(error) => return report.fail("connection", format_args!("{error:#}"), advice_for(&error)),
    };
    report.ok(
        "connection",
        format_args!(
            "answers in {}{}",
            units::duration(answer.took),
            if url.starts_with("https:") {
                ", with a valid certificate"
            } else {
                ", without TLS, which the SDK allows on this machine only"
            }
        ),
    );
    if !is_synckit(&answer, report) {
        return;
    }
    version(&probe, report).await;
    ready(&probe, report).await;
    clock(&answer, report);
}

/// Whether the SDK accepts this address.
fn is_usable(url: &str) -> Result<(), Error> {
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: url.to_owned(),
        api_key: String::new(),
    })
    .credential_store(MemoryStore::default())
    .build();
    match client.try_load_key_from_keychain() {
        // The memory is empty, so this call fails; but it parses the address first.
        Ok(()) | Err(Error::NoStoredKey) => Ok(()),
        Err(error) => Err(error),
    }
}

fn advice_for(error: &anyhow::Error) -> String {
    if let Some(TransportError::Tls(_)) = error.downcast_ref() {
        return NO_CERTIFICATES.to_owned();
    }
    let text = format!("{error:#}").to_lowercase();
    let advice = if text.contains("corrupt message") {
        "the program at this port speaks no TLS: check the port, or put a proxy with TLS in front of the server"
    } else if text.contains("certificate") || text.contains("tls") || text.contains("handshake") {
        "the proxy's certificate must be valid for this name, and not self-signed"
    } else if text.contains("dns") || text.contains("resolve") || text.contains("lookup") {
        "check the host name and its resolution on this machine"
    } else if text.contains("refused") {
        "no program listens at this port: start the server or its proxy, and check the port"
    } else {
        "check the address, the network, and whether the server or its proxy runs"
    };
    advice.to_owned()
}

fn is_synckit(answer: &Answer, report: &mut Report) -> bool {
    if answer.status.is_redirection() {
        let target = answer
            .headers
            .get(header::LOCATION)
            .and_then(|target| target.to_str().ok());
        report.fail(
            "protocol",
            format_args!("redirects to {}", target.unwrap_or("another address")),
            "the SDK follows no redirects: give apps the final address",
        );
        return false;
    }
    let is_problem =
        serde_json::from_slice::<Problem>(&answer.body).is_ok_and(|problem| problem.known_code().is_some());
    if answer.status != StatusCode::UNAUTHORIZED || !is_problem {
        report.fail(
            "protocol",
            format_args!(
                "answers a request of the API with {}, unlike a SyncKit server",
                answer.status
            ),
            "check the path of the address; a proxy must forward /api and /blobs unchanged",
        );
        return false;
    }
    report.ok("protocol", "answers like a SyncKit server");
    true
}

async fn version(probe: &Probe, report: &mut Report) {
    let own = env!("CARGO_PKG_VERSION");
    let Ok((_, Some(health))) = probe.health().await else {
        return report.ok("version", "unknown: /healthz is not reachable from here");
    };
    match (health.version, health.protocol) {
        (_, Some(protocol)) if protocol != u32::from(PROTOCOL_VERSION) => report.fail(
            "version",
            format_args!("the server speaks protocol {protocol}, this program {PROTOCOL_VERSION}"),
            "use a program and a server of the same protocol",
        ),
        (Some(version), _) if version == own => {
            report.ok("version", format_args!("synckit {version}, like this program"))
        }
        (Some(version), _) => report.ok("version", format_args!("synckit {version}; this program is {own}")),
        (None, _) => report.ok("version", "unknown: the server is older than this program"),
    }
}

async fn ready(probe: &Probe, report: &mut Report) {
    let Ok(answer) = probe.get("/readyz").await else { return };
    match answer.status {
        StatusCode::OK => report.ok("readiness", "the database can be read and written"),
        // A proxy may hide this path.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {}
        status => report.fail(
            "readiness",
            format_args!("the server is not ready ({status})"),
            "run `synckit doctor` on its machine; 507 means a full disk",
        ),
    }
}

fn clock(answer: &Answer, report: &mut Report) {
    match answer.ahead_seconds {
        None => report.ok("clock", "unknown: the answers contain no date"),
        Some(ahead) if ahead.unsigned_abs() > SKEW_SECONDS_MAX => report.warn(
            "clock",
            format_args!(
                "the server's clock is {} {} this machine's",
                units::counted(ahead.unsigned_abs(), "second"),
                if ahead > 0 { "ahead of" } else { "behind" }
            ),
            "set both by NTP: tokens and presigned URLs depend on the server's clock",
        ),
        Some(_) => report.ok("clock", "the server's agrees with this machine's"),
    }
}
