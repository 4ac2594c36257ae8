//! Partial configurations, and how they become a whole one.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use synckit_protocol::SecretText;

use super::{AddressBlock, ByteSize, Config, LogFormat, MailDelivery, PublicUrl, Registration, Span};

/// Declares the keys once: the struct, and the rule by which one set of settings goes before another.
macro_rules! settings {
    ($($(#[doc = $doc:literal])* $key:ident: $kind:ty,)*) => {
        /// Some keys of a configuration; the others are left to a lower layer or to the default. As a file it is TOML
        /// with these keys at the top; a key that does not exist is an error.
        ///
        /// # Examples
        /// ```
        /// use synckit_server::{Config, config::Settings};
        ///
        /// let from_flags = Settings { data_dir: Some("data".into()), ..Settings::default() };
        /// let from_file = Settings::from_toml("registration = \"invite\"", "synckit.toml".as_ref())?;
        /// let config = Config::resolve([from_flags, from_file])?;
        /// assert_eq!(config.registration, synckit_server::config::Registration::Invite);
        /// # Ok::<(), synckit_server::config::ConfigError>(())
        /// ```
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[doc = $doc])* pub $key: Option<$kind>,)*
        }

        impl Settings {
            /// These settings, and `lower` where they say nothing.
            #[must_use]
            pub fn over(self, lower: Self) -> Self {
                Self { $($key: self.$key.or(lower.$key),)* }
            }
        }
    };
}

settings! {
    /// See [`Config::data_dir`].
    data_dir: PathBuf,
    /// See [`Config::listen`].
    listen: SocketAddr,
    /// See [`Config::public_url`].
    public_url: String,
    /// See [`Config::registration`].
    registration: Registration,
    /// See [`Config::allow_password_login`].
    allow_password_login: bool,
    /// See [`Config::accept_new_oprf_seed`].
    accept_new_oprf_seed: bool,
    /// See [`Config::trusted_proxies`].
    trusted_proxies: Vec<AddressBlock>,
    /// See [`super::GuessLimits::window`].
    guess_window: Span,
    /// See [`super::GuessLimits::per_account_and_address`].
    guesses_per_account_and_address: u32,
    /// See [`super::GuessLimits::per_address`].
    guesses_per_address: u32,
    /// See [`super::GuessLimits::per_account_from_strangers`].
    guesses_per_account_from_strangers: u32,
    /// See [`super::RequestRates::session_per_second`].
    session_requests_per_second: u32,
    /// See [`super::RequestRates::session_burst`].
    session_request_burst: u32,
    /// See [`super::RequestRates::address_per_second`].
    address_requests_per_second: u32,
    /// See [`super::RequestRates::address_burst`].
    address_request_burst: u32,
    /// See [`Config::metrics_token`]: at least 16 characters.
    metrics_token: SecretText,
    /// See [`super::Timeouts::request_head`].
    request_head_timeout: Span,
    /// See [`super::Timeouts::request_body`].
    request_body_timeout: Span,
    /// See [`super::Timeouts::request`].
    request_timeout: Span,
    /// See [`super::Timeouts::stall`].
    stall_timeout: Span,
    /// See [`super::Timeouts::shutdown_grace`].
    shutdown_grace: Span,
    /// See [`super::Bounds::connections`].
    connections_max: u32,
    /// See [`super::Bounds::requests`].
    requests_max: u32,
    /// See [`super::Bounds::transfers`].
    transfers_max: u32,
    /// See [`super::Bounds::push_body_bytes`].
    push_body_memory: ByteSize,
    /// See [`super::Bounds::page_bytes`].
    page_memory: ByteSize,
    /// See [`Config::database_bytes_max`].
    database_max: ByteSize,
    /// See [`Config::sweep_interval`].
    sweep_interval: Span,
    /// See [`super::RetentionAges::snapshot_settle`].
    snapshot_settle_time: Span,
    /// See [`super::RetentionAges::device_active`].
    device_active_time: Span,
    /// See [`super::RetentionAges::snapshot_upload`].
    snapshot_upload_time: Span,
    /// See [`Config::log_format`].
    log_format: LogFormat,
    /// The URL of an SMTP server: see [`MailDelivery::Smtp`]. Needs `mail_from`.
    smtp_url: SecretText,
    /// The sender of mails. Needs `smtp_url`.
    mail_from: String,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that is not allowed; the cause shows the line.
    #[error("the configuration file {} is not valid", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where, and what would be allowed.
        source: toml::de::Error,
    },
    /// A key has a value that is not allowed.
    #[error("{key} = {value}: {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A key is missing.
    #[error("{key} is missing: {reason}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::File`].
    pub fn read_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text, path)
    }

    /// Reads the text of a configuration file; `path` is only for errors.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })
    }
}

impl Config {
    /// The configuration that layers of settings describe, the strongest first: flags, environment, file.
    ///
    /// # Errors
    /// [`ConfigError::Value`] or [`ConfigError::Missing`] for the first key that the server cannot run with.
    pub fn resolve(layers: impl IntoIterator<Item = Settings>) -> Result<Self, ConfigError> {
        let settings = layers.into_iter().fold(Settings::default(), Settings::over);
        let data_dir = settings.data_dir.clone().ok_or(ConfigError::Missing {
            key: "data_dir",
            reason: "the server must know where to keep its data",
        })?;
        let mut config = Self::new(data_dir);
        config.apply_identity(&settings)?;
        config.apply_limits(&settings)?;
        config.mail = mail_delivery(&settings)?;
        Ok(config)
    }

    fn apply_identity(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        replace(&mut self.listen, settings.listen);
        replace(&mut self.registration, settings.registration);
        replace(&mut self.allow_password_login, settings.allow_password_login);
        replace(&mut self.accept_new_oprf_seed, settings.accept_new_oprf_seed);
        replace(&mut self.trusted_proxies, settings.trusted_proxies.clone());
        replace(&mut self.log_format, settings.log_format);
        self.metrics_token = metrics_token(settings)?;
        self.database_bytes_max = settings.database_max.map(|size| size.0);
        if let Some(text) = &settings.public_url {
            let url: PublicUrl = text
                .parse()
                .map_err(|error: super::PublicUrlParseError| ConfigError::Value {
                    key: "public_url",
                    value: text.clone(),
                    allowed: error.to_string(),
                })?;
            self.public_url = Some(url);
        }
        Ok(())
    }

    fn apply_limits(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        let guesses = &mut self.guesses;
        let rates = &mut self.rates;
        replace(&mut guesses.window, span("guess_window", settings.guess_window)?);
        let counts = [
            (
                "guesses_per_account_and_address",
                settings.guesses_per_account_and_address,
                &mut guesses.per_account_and_address,
            ),
            (
                "guesses_per_address",
                settings.guesses_per_address,
                &mut guesses.per_address,
            ),
            (
                "guesses_per_account_from_strangers",
                settings.guesses_per_account_from_strangers,
                &mut guesses.per_account_from_strangers,
            ),
            (
                "session_requests_per_second",
                settings.session_requests_per_second,
                &mut rates.session_per_second,
            ),
            (
                "session_request_burst",
                settings.session_request_burst,
                &mut rates.session_burst,
            ),
            (
                "address_requests_per_second",
                settings.address_requests_per_second,
                &mut rates.address_per_second,
            ),
            (
                "address_request_burst",
                settings.address_request_burst,
                &mut rates.address_burst,
            ),
        ];
        for (key, value, target) in counts {
            replace(target, positive(key, value)?);
        }
        let spans = [
            (
                "request_head_timeout",
                settings.request_head_timeout,
                &mut self.timeouts.request_head,
            ),
            (
                "request_body_timeout",
                settings.request_body_timeout,
                &mut self.timeouts.request_body,
            ),
            ("request_timeout", settings.request_timeout, &mut self.timeouts.request),
            ("stall_timeout", settings.stall_timeout, &mut self.timeouts.stall),
            ("sweep_interval", settings.sweep_interval, &mut self.sweep_interval),
            (
                "snapshot_settle_time",
                settings.snapshot_settle_time,
                &mut self.retention.snapshot_settle,
            ),
            (
                "device_active_time",
                settings.device_active_time,
                &mut self.retention.device_active,
            ),
            (
                "snapshot_upload_time",
                settings.snapshot_upload_time,
                &mut self.retention.snapshot_upload,
            ),
        ];
        for (key, value, target) in spans {
            replace(target, span(key, value)?);
        }
        // No grace at all is a choice that an operator may make.
        replace(
            &mut self.timeouts.shutdown_grace,
            settings.shutdown_grace.map(|span| span.0),
        );
        let bounds = [
            (
                "connections_max",
                settings.connections_max,
                &mut self.bounds.connections,
            ),
            ("requests_max", settings.requests_max, &mut self.bounds.requests),
            ("transfers_max", settings.transfers_max, &mut self.bounds.transfers),
        ];
        for (key, value, target) in bounds {
            replace(target, positive(key, value)?.map(|count| count as usize));
        }
        let memory = [
            (
                "push_body_memory",
                settings.push_body_memory,
                &mut self.bounds.push_body_bytes,
            ),
            ("page_memory", settings.page_memory, &mut self.bounds.page_bytes),
        ];
        for (key, value, target) in memory {
            replace(target, memory_size(key, value)?);
        }
        Ok(())
    }
}

fn replace<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn span(key: &'static str, value: Option<Span>) -> Result<Option<std::time::Duration>, ConfigError> {
    match value {
        Some(span) if span.0.is_zero() => Err(ConfigError::Value {
            key,
            value: span.to_string(),
            allowed: "must be longer than nothing".to_owned(),
        }),
        _ => Ok(value.map(|span| span.0)),
    }
}

fn positive(key: &'static str, value: Option<u32>) -> Result<Option<u32>, ConfigError> {
    match value {
        Some(0) => Err(ConfigError::Value {
            key,
            value: "0".to_owned(),
            allowed: "must be at least 1".to_owned(),
        }),
        _ => Ok(value),
    }
}

/// The smallest memory that lets one body or one page of the largest size through.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// The largest, so that it counts in KiB as a number of permits.
const MEMORY_BYTES_MAX: u64 = 256 << 30;

fn memory_size(key: &'static str, value: Option<ByteSize>) -> Result<Option<u64>, ConfigError> {
    match value {
        Some(size) if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&size.0) => Err(ConfigError::Value {
            key,
            value: size.to_string(),
            allowed: "must be 16 MiB to 256 GiB".to_owned(),
        }),
        _ => Ok(value.map(|size| size.0)),
    }
}

/// The shortest token: what is shorter is guessed.
const METRICS_TOKEN_CHARACTERS_MIN: usize = 16;

fn metrics_token(settings: &Settings) -> Result<Option<SecretText>, ConfigError> {
    match &settings.metrics_token {
        Some(token) if token.expose().len() < METRICS_TOKEN_CHARACTERS_MIN || !is_bearer(token.expose()) => {
            Err(ConfigError::Value {
                key: "metrics_token",
                value: "(not shown)".to_owned(),
                allowed: format!(
                    "must have at least {METRICS_TOKEN_CHARACTERS_MIN} letters, digits or any of - . _ ~ + / ="
                ),
            })
        }
        token => Ok(token.clone()),
    }
}

/// Whether a text can stand behind `Bearer` (RFC 6750, section 2.1).
fn is_bearer(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
}

fn mail_delivery(settings: &Settings) -> Result<MailDelivery, ConfigError> {
    match (&settings.smtp_url, &settings.mail_from) {
        (Some(url), Some(from)) => Ok(MailDelivery::Smtp {
            url: url.clone(),
            from: from.clone(),
        }),
        (None, None) => Ok(MailDelivery::Directory),
        (Some(_), None) => Err(ConfigError::Missing {
            key: "mail_from",
            reason: "mails need a sender",
        }),
        (None, Some(_)) => Err(ConfigError::Missing {
            key: "smtp_url",
            reason: "mail_from says who sends, but not through which server",
        }),
    }
}
