//! The configuration of a server: typed, and checked before anything starts.
//!
//! A [`Config`] comes from up to three [`Settings`], in which every key is optional: flags win over the environment, the
//! environment over the file, the file over the default. Which keys exist, and everything about each, is in one table
//! ([`Setting::all`]). This module reads neither flags nor environment: the binary does. Nothing here is printed.
//!
//! Invariant: a `Config` that [`Config::resolve`] returned holds no value that the server cannot run with.

mod addresses;
mod forms;
mod settings;
mod table;
mod units;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::Deserialize;
use synckit_protocol::{SecretText, limits};
use synckit_store::{PostgresUrl, objects::BucketAccess};

pub(crate) use addresses::network_of;
pub use addresses::{AddressBlock, AddressBlockParseError};
pub use settings::{ConfigError, Settings};
pub use table::{
    AccountQuotas, Bounds, DatabaseLimits, GuessLimits, MailLimits, RequestRates, RetentionAges, Setting, SettingKind,
    Timeouts,
};
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
    /// Where keys and mail live, the embedded database, and the blobs without a bucket. Created on first start.
    pub data_dir: PathBuf,
    /// Where accounts, apps and the log live. Default [`Database::Embedded`].
    pub database: Database,
    /// Where the sealed files are. Default [`BlobPlace::Directory`].
    pub blobs: BlobPlace,
    /// Limits of the work with a PostgreSQL.
    pub database_limits: DatabaseLimits,
    /// The address to listen at. Default `127.0.0.1:8080`; [`crate::serve`] takes a listener that is bound already.
    pub listen: SocketAddr,
    /// The URL under which clients reach the server, without a slash at the end. Presigned URLs and mails contain it,
    /// and it is the issuer of tokens. Default: `http://` and the address of the listener.
    pub public_url: Option<PublicUrl>,
    /// The people who may register. Default [`Registration::Open`].
    pub registration: Registration,
    /// Whether `POST /api/sync/auth` takes a password in its body, which the server then sees. Default `false`.
    pub allow_password_login: bool,
    /// Whether a database that was made under another OPRF seed is taken over: every password must then be reset.
    /// Default `false`.
    pub accept_new_oprf_seed: bool,
    /// Proxies whose `X-Forwarded-For` is believed. Default none: then the address of the connection counts.
    pub trusted_proxies: Vec<AddressBlock>,
    /// Limits of failed sign-ins.
    pub guesses: GuessLimits,
    /// Limits of mails.
    pub mails: MailLimits,
    /// Limits of requests of sessions and addresses.
    pub rates: RequestRates,
    /// Bearer token for `GET /metrics`. Default none: then it answers only connections from the same machine that did not
    /// come through a proxy.
    pub metrics_token: Option<SecretText>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Limits of concurrent work.
    pub bounds: Bounds,
    /// Quotas of one account.
    pub quotas: AccountQuotas,
    /// Maximum size of the database file, in bytes; past it, requests that would store more get `server_full`. Blobs do not
    /// count. Default: the free space of the disk.
    pub database_bytes_max: Option<u64>,
    /// Interval between runs of the background jobs. Default 60 s.
    pub sweep_interval: Duration,
    /// Interval between additions of what moved to the use of each app, after which limits of plans hold and lift. 3 s, which only tests
    /// change: no setting.
    pub meter_interval: Duration,
    /// How long data that is no longer needed is kept.
    pub retention: RetentionAges,
    /// The form of the log. The binary sets the subscriber up; the server only carries the value.
    pub log_format: LogFormat,
    /// How mails are delivered. Default: as files into `mail/` in the data directory.
    pub mail: MailDelivery,
    /// The time of day.
    pub clock: Clock,
}

impl Config {
    /// Where data is kept if nobody says otherwise, below the current directory.
    pub const DEFAULT_DATA_DIR: &'static str = "synckit-data";

    /// The defaults, with everything in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            database: Database::Embedded,
            blobs: BlobPlace::Directory,
            database_limits: DatabaseLimits::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            registration: Registration::Open,
            allow_password_login: false,
            accept_new_oprf_seed: false,
            trusted_proxies: Vec::new(),
            guesses: GuessLimits::default(),
            mails: MailLimits::default(),
            rates: RequestRates::default(),
            metrics_token: None,
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            quotas: AccountQuotas::default(),
            database_bytes_max: None,
            sweep_interval: Duration::from_secs(60),
            meter_interval: Duration::from_secs(limits::METER_SECONDS),
            retention: RetentionAges::default(),
            log_format: LogFormat::Text,
            mail: MailDelivery::Directory,
            clock: Clock::system(),
        }
    }
}

/// The database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Database {
    /// One file in the data directory, for one node.
    Embedded,
    /// A PostgreSQL, which other nodes may use, too.
    Postgres(PostgresUrl),
}

/// Where the sealed files of a server are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobPlace {
    /// In the data directory, for one node.
    Directory,
    /// In an S3-compatible store, which other nodes may use, too.
    Bucket(Box<BucketAccess>),
}

/// The people who may register an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Anybody. The default, so that a first run needs no second command; a server on the Internet wants `invite`.
    Open,
    /// Anybody with an invitation.
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
