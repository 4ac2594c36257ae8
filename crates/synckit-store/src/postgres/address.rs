//! The address of a PostgreSQL database: a URL, of which nothing but host, port, user and database is ever shown.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio_postgres::config::{Host, SslMode};

/// Where a PostgreSQL database is, and how to prove that it is the right one.
///
/// `postgres://user:password@host:port/database`, as libpq reads it. The password may come from elsewhere:
/// [`PostgresUrl::with_password`]. A host that begins with `%2F` is the directory of a socket. `sslmode` is `verify-full`
/// or `disable`; without it TLS is off for sockets and loopback, and `verify-full` for every other host. `sslrootcert` is
/// a file of certificates in PEM that are trusted in place of those of the operating system.
///
/// # Examples
/// ```
/// use synckit_store::PostgresUrl;
///
/// let url: PostgresUrl = "postgres://synckit:secret@db.example.com/synckit".parse()?;
/// assert_eq!(url.to_string(), "postgres://synckit@db.example.com:5432/synckit");
/// // Encryption without a check of the certificate keeps nobody out who can redirect the connection.
/// assert!("postgres://db.example.com/synckit?sslmode=require".parse::<PostgresUrl>().is_err());
/// # Ok::<(), synckit_store::PostgresUrlError>(())
/// ```
#[derive(Clone)]
pub struct PostgresUrl {
    pub(super) config: Box<tokio_postgres::Config>,
    pub(super) tls: Tls,
}

/// How the server is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tls {
    /// Not at all.
    Off,
    /// By its certificate and its name. The file holds the trusted certificates; `None` for those of the system.
    VerifyFull(Option<PathBuf>),
}

/// A text that is not the address of a PostgreSQL database. It never shows the text, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresUrlError {
    /// It is no URL of PostgreSQL, or a parameter of it is unknown.
    #[error("expected postgres://user:password@host:port/database, with special characters written as %40")]
    Syntax(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A mode of TLS that does not verify the server.
    #[error("sslmode is verify-full or disable: every other mode leaves the server unverified")]
    SslMode,
    /// The host is missing.
    #[error("the URL names no host")]
    NoHost,
    /// The user is missing.
    #[error("the URL names no user")]
    NoUser,
}

impl PostgresUrl {
    /// The same database with this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Whether a text is meant as such an address, and not as a path.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }
}

impl FromStr for PostgresUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, PostgresUrlError> {
        if !Self::is_meant(text) {
            return Err(PostgresUrlError::Syntax("another scheme".into()));
        }
        // The driver knows neither of the two parameters of libpq.
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut rest = Vec::new();
        let (mut mode, mut roots) = (None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(decoded(value)?)),
                _ => rest.push(parameter),
            }
        }
        let base = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        let mut config: tokio_postgres::Config = base
            .parse()
            .map_err(|error| PostgresUrlError::Syntax(Box::new(error)))?;
        if config.get_hosts().is_empty() {
            return Err(PostgresUrlError::NoHost);
        }
        if config.get_user().is_none() {
            return Err(PostgresUrlError::NoUser);
        }
        let tls = match mode.as_deref() {
            Some("verify-full") => Tls::VerifyFull(roots),
            Some("disable") => Tls::Off,
            None if roots.is_none() && config.get_hosts().iter().all(is_this_machine) => Tls::Off,
            None => Tls::VerifyFull(roots),
            Some(_) => return Err(PostgresUrlError::SslMode),
        };
        config.ssl_mode(match tls {
            Tls::Off => SslMode::Disable,
            Tls::VerifyFull(_) => SslMode::Require,
        });
        Ok(Self {
            config: Box::new(config),
            tls,
        })
    }
}

fn decoded(text: &str) -> Result<String, PostgresUrlError> {
    let syntax = || PostgresUrlError::Syntax("sslrootcert is not a path".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or_else(syntax)?, rest.next().ok_or_else(syntax)?];
            let digits = std::str::from_utf8(&digits).map_err(|_| syntax())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| syntax())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| syntax())
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    }
}

impl fmt::Display for PostgresUrl {
    /// Without the password and without options, which may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.config.get_user().unwrap_or_default();
        write!(f, "postgres://{user}@")?;
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) if name.contains(':') => write!(f, "{comma}[{name}]:{port}")?,
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}:{port}", socket(path))?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or(user))
    }
}

fn socket(path: &Path) -> String {
    path.to_string_lossy().replace('/', "%2F")
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.tls == other.tls
    }
}

impl Eq for PostgresUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PostgresUrl {
        text.parse().unwrap()
    }

    #[test]
    fn every_other_host_is_verified() {
        for here in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(parsed(&format!("postgres://a@{here}/b")).tls, Tls::Off, "{here}");
        }
        for elsewhere in ["db", "10.0.0.1", "localhost,db", "localhost.example.com"] {
            let url = parsed(&format!("postgres://a@{elsewhere}/b"));
            assert_eq!(url.tls, Tls::VerifyFull(None), "{elsewhere}");
            assert_eq!(url.config.get_ssl_mode(), SslMode::Require);
        }
        assert_eq!(parsed("postgres://a@db/b?sslmode=disable").tls, Tls::Off);
        let roots = parsed("postgres://a@localhost/b?connect_timeout=3&sslrootcert=/a%20b.pem");
        assert_eq!(roots.tls, Tls::VerifyFull(Some("/a b.pem".into())));
    }

    #[test]
    fn unverified_tls_is_refused() {
        for mode in ["allow", "prefer", "require", "verify-ca", ""] {
            let refused = format!("postgres://a@db/b?sslmode={mode}").parse::<PostgresUrl>();
            assert!(matches!(refused, Err(PostgresUrlError::SslMode)), "{mode}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://a:hunter2@db/b",
            "postgres://a@db/b?password=hunter2",
            "postgres://a:hunter2@db/b?options=hunter2",
        ] {
            let url = parsed(text);
            assert!(!format!("{url} {url:?}").contains("hunter2"), "{url}");
        }
        for text in [
            "postgres://a:hunter2@db:hunter2/b",
            "postgres://a:hunter2@db/b?hunter=hunter2",
            "hunter2",
        ] {
            let error = text.parse::<PostgresUrl>().unwrap_err();
            let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
