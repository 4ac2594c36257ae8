//! Partial configurations, and how they become a whole one.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde::{Deserialize, Deserializer, de};
use synckit_protocol::SecretText;
use synckit_store::{PostgresUrl, objects::BucketKeys};

use super::{BlobPlace, Config, Database, MailDelivery, Setting, SettingKind};

/// Some keys of a configuration; a lower layer or the default has the others. As a file it is TOML with the keys of
/// [`Setting::all`] at the top level; a key that does not exist is an error.
///
/// # Examples
/// ```
/// use synckit_server::{Config, config::Settings};
///
/// let from_flags = Settings::default().with("data_dir", "data")?;
/// let from_file = Settings::from_toml("registration = \"invite\"", "synckit.toml".as_ref())?;
/// let config = Config::resolve([from_flags, from_file])?;
/// assert_eq!(config.registration, synckit_server::config::Registration::Invite);
/// # Ok::<(), synckit_server::config::ConfigError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, SecretText>,
    /// The one value that need not be UTF-8.
    data_dir: Option<PathBuf>,
}

const DATA_DIR: &str = "data_dir";
/// The settings of the mail server. Each needs the others.
const MAIL: [&str; 2] = ["smtp_url", "mail_from"];

/// Maximum size of a configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The settings of the bucket. Each needs the others.
const BUCKET: [&str; 4] = [
    "blobs",
    "bucket_access_key",
    "bucket_secret_key",
    "bucket_secret_key_file",
];
/// Maximum size of a file with one secret, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 4096;

/// An error in a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML, or has a key or a value that is not allowed; the cause shows the line.
    #[error("the configuration file {} is not valid", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The place, and the allowed values.
        source: toml::de::Error,
    },
    /// The key is unknown.
    #[error("unknown setting {key}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key has a value that is not allowed.
    #[error("{key} = {value}: {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// The file with a secret cannot be read.
    #[error("cannot read {key} from {}", path.display())]
    SecretFile {
        /// The key of the secret.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
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
        let text = read_text(path, FILE_BYTES_MAX).map_err(|source| ConfigError::Read {
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
        toml::from_str(text).map_err(|mut source: toml::de::Error| {
            if source.span().is_some_and(|span| is_secret(text, span.start)) {
                // The error would show the whole line, and with it a password.
                source.set_input(None);
            }
            ConfigError::File {
                path: path.to_owned(),
                source,
            }
        })
    }

    /// These settings, and a value for a key.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`] and [`ConfigError::Value`].
    pub fn with(mut self, key: &str, value: &str) -> Result<Self, ConfigError> {
        let setting = Setting::of_key(key).ok_or_else(|| ConfigError::UnknownKey { key: key.to_owned() })?;
        self.insert(setting, value)?;
        Ok(self)
    }

    /// These settings, and a data directory, whose name need not be UTF-8.
    #[must_use]
    pub fn with_data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    /// These settings without those of the mail server and the bucket, for a command that uses neither. Its environment and its
    /// file may have only some of them: the server has the others from flags.
    #[must_use]
    pub fn without_services(mut self) -> Self {
        for key in MAIL.iter().chain(&BUCKET) {
            self.values.remove(key);
        }
        self
    }

    /// Whether these settings say that the blobs are in a bucket; `None` if they do not say where.
    pub fn has_bucket(&self) -> Option<bool> {
        let place = super::forms::blob_place(self.value("blobs")?).ok()?;
        Some(place != BlobPlace::Directory)
    }

    /// The data directory, if these settings have one.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Whether these settings have a value that others must not see.
    pub fn holds_secrets(&self) -> bool {
        self.values
            .keys()
            .any(|key| Setting::of_key(key).is_some_and(|setting| setting.kind == SettingKind::Secret))
            || has_password(self)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(SecretText::expose)
    }

    /// These settings, and those of `lower` for the keys that these do not have.
    #[must_use]
    pub fn over(mut self, lower: Self) -> Self {
        for (key, value) in lower.values {
            self.values.entry(key).or_insert(value);
        }
        self.data_dir = self.data_dir.or(lower.data_dir);
        self
    }

    fn insert(&mut self, setting: &'static Setting, value: &str) -> Result<(), ConfigError> {
        setting
            .check(value)
            .map_err(|allowed| refused(setting, value, allowed))?;
        if setting.key == DATA_DIR {
            self.data_dir = Some(value.into());
        } else {
            self.values.insert(setting.key, SecretText::new(value));
        }
        Ok(())
    }
}

/// Whether the line at a place sets a secret.
fn is_secret(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or(text);
    let line = text.get(before.rfind('\n').map_or(0, |end| end + 1)..).unwrap_or(text);
    let key = line.split('=').next().unwrap_or(line).trim().trim_matches(['"', '\'']);
    Setting::of_key(key).is_some_and(|setting| matches!(setting.kind, SettingKind::Secret | SettingKind::Guarded))
}

fn refused(setting: &Setting, value: &str, allowed: String) -> ConfigError {
    let value = match setting.kind {
        SettingKind::Secret | SettingKind::Guarded => "(not shown)".to_owned(),
        _ => value.to_owned(),
    };
    ConfigError::Value {
        key: setting.key,
        value,
        allowed,
    }
}

impl fmt::Debug for Settings {
    /// The keys alone: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.values.keys())
            .entries(&self.data_dir)
            .finish()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> de::Visitor<'de> for Keys {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                while let Some(key) = map.next_key::<KnownKey>()? {
                    let KnownKey(setting) = key;
                    map.next_value_seed(ValueOf(setting, &mut settings))?;
                }
                Ok(settings)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// A key that exists. Any other is an error at its line.
struct KnownKey(&'static Setting);

impl<'de> Deserialize<'de> for KnownKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static KEYS: LazyLock<Vec<&'static str>> =
            LazyLock::new(|| Setting::all().map(|setting| setting.key).collect());
        let key = String::deserialize(deserializer)?;
        Setting::of_key(&key)
            .map(Self)
            .ok_or_else(|| de::Error::unknown_field(&key, &KEYS))
    }
}

/// A value as text, checked where its line is still known.
struct ValueOf<'a>(&'static Setting, &'a mut Settings);

impl<'de> de::DeserializeSeed<'de> for ValueOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let text = match FileValue::deserialize(deserializer)? {
            FileValue::Text(text) => text,
            FileValue::Truth(truth) => truth.to_string(),
            FileValue::Number(number) => number.to_string(),
            FileValue::Texts(texts) => texts.join(","),
        };
        self.1.insert(self.0, &text).map_err(de::Error::custom)
    }
}

/// The types of TOML that a setting may have in a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a number, true, false, or an array of texts")]
enum FileValue {
    Text(String),
    Truth(bool),
    Number(i64),
    Texts(Vec<String>),
}

impl Config {
    /// The configuration that layers of settings describe, the strongest first: flags, environment, file.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if one of two keys that need each other is missing.
    pub fn resolve(layers: impl IntoIterator<Item = Settings>) -> Result<Self, ConfigError> {
        let settings = layers.into_iter().fold(Settings::default(), Settings::over);
        let mut config = Self::new(settings.data_dir().unwrap_or(Path::new(Self::DEFAULT_DATA_DIR)));
        for setting in Setting::all() {
            if let Some(value) = settings.value(setting.key) {
                setting
                    .apply(&mut config, value)
                    .map_err(|allowed| refused(setting, value, allowed))?;
            }
        }
        config.mail = mail_delivery(&settings)?;
        config.database = with_password(config.database, &settings)?;
        config.blobs = with_keys(config.blobs, &settings)?;
        Ok(config)
    }
}

/// Whether the URL of the database holds a password.
fn has_password(settings: &Settings) -> bool {
    let url = settings
        .value("database")
        .and_then(|text| text.parse::<PostgresUrl>().ok());
    url.is_some_and(|url| url.has_password())
}

/// Reads a small file. The name of another one, such as that of a device without an end, must not take all memory.
fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        let message = format!("it is larger than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// A secret from its setting, or from the file that another setting names.
fn secret(settings: &Settings, key: &'static str, file_key: &str) -> Result<Option<SecretText>, ConfigError> {
    if let Some(secret) = settings.value(key) {
        return Ok(Some(SecretText::new(secret)));
    }
    let Some(path) = settings.value(file_key) else {
        return Ok(None);
    };
    let text = read_text(path.as_ref(), SECRET_FILE_BYTES_MAX);
    let text = SecretText::new(text.map_err(|source| ConfigError::SecretFile {
        key,
        path: path.into(),
        source,
    })?);
    let line = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    Ok(Some(SecretText::new(line.strip_suffix('\r').unwrap_or(line))))
}

/// The place of the blobs with the keys that stand apart from its address.
fn with_keys(place: BlobPlace, settings: &Settings) -> Result<BlobPlace, ConfigError> {
    let access_key = settings.value("bucket_access_key");
    let secret_key = secret(settings, "bucket_secret_key", "bucket_secret_key_file")?;
    match (place, access_key, secret_key) {
        (BlobPlace::Bucket(mut access), Some(access_key), Some(secret_key)) => {
            access.keys = BucketKeys {
                access_key: access_key.to_owned(),
                secret_key,
            };
            Ok(BlobPlace::Bucket(access))
        }
        (BlobPlace::Bucket(_), None, _) => Err(ConfigError::Missing {
            key: "bucket_access_key",
            reason: "a bucket needs its keys",
        }),
        (BlobPlace::Bucket(_), Some(_), None) => Err(ConfigError::Missing {
            key: "bucket_secret_key",
            reason: "a bucket needs its keys",
        }),
        (BlobPlace::Directory, None, None) => Ok(BlobPlace::Directory),
        (BlobPlace::Directory, _, _) => Err(ConfigError::Missing {
            key: "blobs",
            reason: "a key of a bucket is set, but no bucket that it is for",
        }),
    }
}

/// The database with the password that stands apart from its URL.
fn with_password(database: Database, settings: &Settings) -> Result<Database, ConfigError> {
    let password = secret(settings, "database_password", "database_password_file")?;
    match (database, password) {
        (Database::Postgres(url), Some(password)) => Ok(Database::Postgres(url.with_password(password.expose()))),
        (Database::Embedded, Some(_)) => Err(ConfigError::Missing {
            key: "database",
            reason: "a password is set, but no PostgreSQL that it is for",
        }),
        (database, None) => Ok(database),
    }
}

fn mail_delivery(settings: &Settings) -> Result<MailDelivery, ConfigError> {
    match (settings.value("smtp_url"), settings.value("mail_from")) {
        (Some(url), Some(from)) => Ok(MailDelivery::Smtp {
            url: SecretText::new(url),
            from: from.to_owned(),
        }),
        (None, None) => Ok(MailDelivery::Directory),
        (Some(_), None) => Err(ConfigError::Missing {
            key: "mail_from",
            reason: "mails need a sender",
        }),
        (None, Some(_)) => Err(ConfigError::Missing {
            key: "smtp_url",
            reason: "mail_from names the sender, but no mail server is set",
        }),
    }
}
