//! The configuration of a server: typed, and checked before anything starts.
//!
//! A [`Config`] comes from up to three [`Settings`], in which every key is optional: what flags say wins over what the
//! environment says, that over the file, that over the default. This module reads neither flags nor environment: the
//! binary does, and hands over typed values. Nothing here is printed.
//!
//! Invariant: a `Config` that [`Config::resolve`] returned holds no value that the server cannot run with.

mod addresses;
mod settings;
mod units;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::Deserialize;
use synckit_protocol::{SecretText, limits};

pub(crate) use addresses::network_of;
pub use addresses::{AddressBlock, AddressBlockParseError};
pub use settings::{ConfigError, Settings};
pub use units::{ByteSize, Span, UnitParseError};

use crate::platform::Clock;

/// How one server runs. Made by [`Config::new`] with the defaults, or by [`Config::resolve`] from settings.
///
/// # Examples
/// ```
/// use synckit_server::{Config, config::Registration};
///
/// let mut config = Config::new("/var/lib/synckit");
/// config.registration = Registration::Invite;
/// config.public_url = Some("https://sync.example.com".parse()?);
/// assert!(config.listen.ip().is_loopback()); // a proxy in front ends TLS
/// # Ok::<(), synckit_server::config::PublicUrlParseError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where everything lives: database, keys, blobs, mail. Created on first start.
    pub data_dir: PathBuf,
    /// The address to listen at. Default `127.0.0.1:8080`; [`crate::serve`] takes a listener that is bound already.
    pub listen: SocketAddr,
    /// The URL under which clients reach the server, without a slash at the end. It stands in presigned URLs and mails,
    /// and is the issuer of tokens. Default: `http://` and the address of the listener.
    pub public_url: Option<PublicUrl>,
    /// Who may register. Default [`Registration::Open`].
    pub registration: Registration,
    /// Whether `POST /api/sync/auth` takes a password in its body, which the server then sees. Default `false`.
    pub allow_password_login: bool,
    /// Whether a database that was made under another OPRF seed is taken over: every password must then be reset.
    /// Default `false`.
    pub accept_new_oprf_seed: bool,
    /// Proxies whose `X-Forwarded-For` is believed. Default none: then the address of the connection counts.
    pub trusted_proxies: Vec<AddressBlock>,
    /// How many sign-ins may fail.
    pub guesses: GuessLimits,
    /// How many requests may come.
    pub rates: RequestRates,
    /// What `GET /metrics` asks for as a bearer token. Default none: then it answers to connections from the same
    /// machine that did not come through a proxy, and to nobody else.
    pub metrics_token: Option<SecretText>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much may happen at once.
    pub bounds: Bounds,
    /// The most that the database file may take, in bytes; past it, what would store more is refused with `server_full`.
    /// Blobs do not count. Default: what the disk holds.
    pub database_bytes_max: Option<u64>,
    /// How often expired objects are swept, and the log below settled snapshots. Default 60 s.
    pub sweep_interval: Duration,
    /// How long what is not needed any more is kept.
    pub retention: RetentionAges,
    /// The form of the log. The binary sets the subscriber up; the server only carries the value.
    pub log_format: LogFormat,
    /// Where mails go. Default: as files into `mail/` in the data directory.
    pub mail: MailDelivery,
    /// The time of day.
    pub clock: Clock,
}

impl Config {
    /// The defaults, with everything in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            registration: Registration::Open,
            allow_password_login: false,
            accept_new_oprf_seed: false,
            trusted_proxies: Vec::new(),
            guesses: GuessLimits::default(),
            rates: RequestRates::default(),
            metrics_token: None,
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            database_bytes_max: None,
            sweep_interval: Duration::from_secs(60),
            retention: RetentionAges::default(),
            log_format: LogFormat::Text,
            mail: MailDelivery::Directory,
            clock: Clock::system(),
        }
    }
}

/// Who may register an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Anybody. The default, so that a first run needs no second command; a server on the Internet wants `invite`.
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Nobody.
    Closed,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A word that is not one of the allowed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {allowed}")]
pub struct WordParseError {
    allowed: &'static str,
}

impl FromStr for Registration {
    type Err = WordParseError;

    fn from_str(text: &str) -> Result<Self, WordParseError> {
        match text {
            "open" => Ok(Self::Open),
            "invite" => Ok(Self::Invite),
            "closed" => Ok(Self::Closed),
            _ => Err(WordParseError {
                allowed: "open, invite, closed",
            }),
        }
    }
}

impl FromStr for LogFormat {
    type Err = WordParseError;

    fn from_str(text: &str) -> Result<Self, WordParseError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(WordParseError { allowed: "text, json" }),
        }
    }
}

/// How many sign-ins may fail within [`GuessLimits::window`]. Every start of a sign-in counts, a good finish gives it
/// back. Counters live in memory: they are bounded, and a restart forgets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuessLimits {
    /// The time in which a used-up allowance is whole again. Default 15 min.
    pub window: Duration,
    /// Guesses at one account from one address (IPv6: one /64). Default 10.
    pub per_account_and_address: u32,
    /// Guesses from one address at any account. Default 60.
    pub per_address: u32,
    /// Guesses at one account from all addresses that it was never used from. Default 100. Addresses from which the
    /// account signed in or synced within 90 days do not count here, so that strangers cannot lock its owner out.
    pub per_account_from_strangers: u32,
}

impl Default for GuessLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(15 * 60),
            per_account_and_address: 10,
            per_address: 60,
            per_account_from_strangers: 100,
        }
    }
}

/// How many requests a session, and an address without a token, may send. Past it: `rate_limited`. Counters live in
/// memory: they are bounded, and a restart forgets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestRates {
    /// Requests a second of one session, in the long run. Default 1,000: twice what an SDK sends at full speed.
    pub session_per_second: u32,
    /// Requests of one session at once. Default 2,000.
    pub session_burst: u32,
    /// Requests a second from one address (IPv6: one /64) to endpoints that need no token, in the long run. Default 200.
    pub address_per_second: u32,
    /// Requests from one address to such endpoints at once. Default 1,000.
    pub address_burst: u32,
}

impl Default for RequestRates {
    fn default() -> Self {
        Self {
            session_per_second: 1_000,
            session_burst: 2_000,
            address_per_second: 200,
            address_burst: 1_000,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until the head of a request is there; an idle connection is closed after as long. Default 60 s.
    pub request_head: Duration,
    /// Until the body of an API request is there. Default 30 s.
    pub request_body: Duration,
    /// Until an API request is answered, its body included. Default 60 s.
    pub request: Duration,
    /// Between two pieces of a blob, or of any answer, that a connection takes or gives. Default 30 s.
    pub stall: Duration,
    /// How long running requests may go on after the server was told to stop. Default 30 s.
    pub shutdown_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_head: Duration::from_secs(60),
            request_body: Duration::from_secs(30),
            request: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// How much may happen at once. What does not fit waits for a moment and is then shed with `overloaded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// Open connections; further ones wait in the listener's queue. Default 4096.
    pub connections: usize,
    /// API requests at work. Default 1024.
    pub requests: usize,
    /// Blobs on their way up or down. Default 128.
    pub transfers: usize,
    /// Memory for the bodies of pushes. Default 64 MiB.
    pub push_body_bytes: u64,
    /// Memory for the pages of pulls, until they are sent. Default 64 MiB.
    pub page_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 4096,
            requests: 1024,
            transfers: 128,
            push_body_bytes: 64 << 20,
            page_bytes: 64 << 20,
        }
    }
}

/// How long what is not needed any more is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionAges {
    /// How old a snapshot is before the log below it may go: the time in which a bad one can be gone around. Default 14
    /// days.
    pub snapshot_settle: Duration,
    /// How long a device that was not seen still holds the log that it has not pulled. Default 90 days.
    pub device_active: Duration,
    /// How long after its last part an unfinished snapshot is swept. Default 24 hours.
    pub snapshot_upload: Duration,
}

impl Default for RetentionAges {
    fn default() -> Self {
        Self {
            snapshot_settle: Duration::from_secs(limits::SNAPSHOT_SETTLE_SECONDS),
            device_active: Duration::from_secs(limits::DEVICE_ACTIVE_SECONDS),
            snapshot_upload: Duration::from_secs(limits::SNAPSHOT_UPLOAD_SECONDS),
        }
    }
}

/// Where mails go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailDelivery {
    /// Into `mail/` in the data directory, one `.eml` file each, for the operator to look at or to pass on.
    Directory,
    /// To an SMTP server.
    Smtp {
        /// `smtps://user:password@host:port` (TLS from the start) or `smtp://…?tls=required` (STARTTLS).
        url: SecretText,
        /// The sender, `Name <address>` or an address.
        from: String,
    },
}

/// The URL under which clients reach the server: scheme, host, perhaps a port and a path; no query, no slash at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL of a server that is reached by its address, without TLS.
    pub(crate) fn of_address(address: SocketAddr) -> Self {
        Self(format!("http://{address}"))
    }
}

/// A text that is not a URL to reach the server by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected http:// or https:// and a host, without user, query or fragment")]
pub struct PublicUrlParseError;

impl FromStr for PublicUrl {
    type Err = PublicUrlParseError;

    fn from_str(text: &str) -> Result<Self, PublicUrlParseError> {
        let text = text.trim_end_matches('/');
        let uri: http::Uri = text.parse().map_err(|_| PublicUrlParseError)?;
        let scheme_is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let host_is_plain = uri
            .authority()
            .is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        if !scheme_is_http || !host_is_plain || text.contains(['?', '#']) {
            return Err(PublicUrlParseError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
