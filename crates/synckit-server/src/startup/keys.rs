//! The server's secrets, in files of mode 0600 under `keys/`.
//!
//! ```text
//! opaque.key     OPRF seed and key pair of the login; losing it strands every password
//! tokens.json    signing keys of tokens: the newest signs, all of them verify
//! server.key     32 bytes, from which every other key is derived (HKDF-SHA256, one label a purpose)
//! ```
//!
//! They are no part of the database, so that a stolen database alone allows no guessing and forges no token.
//!
//! Invariant: a key that others than the server's user can read is refused, not used.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use synckit_login::ServerLogin;
use synckit_protocol::{SecretText, limits, wire::UnixSeconds};
use synckit_store::private_files::{PrivateRead, read_private_file, write_private_file};
use zeroize::Zeroizing;

use crate::platform::random_bytes;

const LOGIN_FILE: &str = "opaque.key";
const TOKENS_FILE: &str = "tokens.json";
const SERVER_FILE: &str = "server.key";

/// A key file that cannot be used.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use synckit_server::{Config, KeyFileError, ServeError, Server};
///
/// drop(Server::open(Config::new(directory.path())).await?);
/// let file = directory.path().join("keys/opaque.key");
/// std::fs::write(&file, "cut off")?;
/// match Server::open(Config::new(directory.path())).await {
///     Err(ServeError::Keys(KeyFileError::Damaged { path })) => assert_eq!(path, file), // restore it from a backup
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Others than the server's user may read or write the file.
    #[error("{} can be read by others (mode {mode:o}): chmod 600 it, and replace it if others may have read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file differs from every file that the server writes.
    #[error("{} is damaged: restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The database was made under login secrets that are missing.
    #[error(
        "{} is missing, but the database was made under one: restore it from a backup, or copy it from another node. Without \
         it no password works; --accept-new-oprf-seed continues with new secrets, and every password must be reset",
        path.display()
    )]
    LoginSecretsMissing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot use the key file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Whether missing login secrets may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingLogin {
    /// Yes: the server is new, or the operator gave the old ones up.
    Generate,
    /// No: the database was made under some.
    Refuse,
}

/// Every secret of the server.
pub(crate) struct ServerKeys {
    pub(crate) login: ServerLogin,
    pub(crate) tokens: Vec<TokenKey>,
    pub(crate) derived: DerivedKeys,
}

/// A key that signs or verifies tokens.
pub(crate) struct TokenKey {
    pub(crate) id: String,
    pub(crate) secret: Zeroizing<Vec<u8>>,
}

impl ServerKeys {
    /// Reads the other key files of a data directory, and makes those that are missing.
    pub(crate) fn open(directory: &Path, login: ServerLogin, now: UnixSeconds) -> Result<Self, KeyFileError> {
        let tokens = TokenKeyFile::open(&directory.join(TOKENS_FILE), now)?;
        let derived = DerivedKeys::open(&directory.join(SERVER_FILE))?;
        Ok(Self {
            login,
            tokens: tokens.usable(&directory.join(TOKENS_FILE))?,
            derived,
        })
    }
}

impl fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKeys").finish_non_exhaustive()
    }
}

/// The contents of a directory of keys.
#[derive(Debug)]
#[non_exhaustive]
pub struct KeySurvey {
    /// The id of the OPRF seed in `opaque.key`; `None` without this file.
    pub login: Result<Option<[u8; 16]>, KeyFileError>,
    /// The number of signing keys in `tokens.json`.
    pub tokens: Result<Option<usize>, KeyFileError>,
    /// Whether `server.key` exists.
    pub server: Result<bool, KeyFileError>,
}

impl KeySurvey {
    /// Reads every key file, as the server's start would, but makes none.
    pub(crate) fn of(directory: &Path) -> Self {
        let login = directory.join(LOGIN_FILE);
        let tokens = directory.join(TOKENS_FILE);
        Self {
            login: (|| match read(&login)? {
                None => Ok(None),
                Some(_) => Ok(Some(open_login(directory, MissingLogin::Refuse)?.seed_id())),
            })(),
            tokens: (|| match read(&tokens)? {
                None => Ok(None),
                Some(bytes) => Ok(Some(TokenKeyFile::decode(&bytes, &tokens)?.usable(&tokens)?.len())),
            })(),
            server: read(&directory.join(SERVER_FILE)).and_then(|secret| match secret {
                Some(secret) if secret.len() != 32 => Err(KeyFileError::Damaged {
                    path: directory.join(SERVER_FILE),
                }),
                secret => Ok(secret.is_some()),
            }),
        }
    }
}

/// Copies every existing key file to another directory, and replaces those of an earlier copy.
pub(crate) fn copy_key_files(from: &Path, to: &Path) -> Result<(), KeyFileError> {
    for name in [LOGIN_FILE, TOKENS_FILE, SERVER_FILE] {
        if let Some(contents) = read(&from.join(name))? {
            write(&to.join(name), &contents)?;
        }
    }
    Ok(())
}

/// Reads the login secrets in a directory of keys.
pub(crate) fn open_login(directory: &Path, missing: MissingLogin) -> Result<ServerLogin, KeyFileError> {
    let path = directory.join(LOGIN_FILE);
    match read(&path)? {
        Some(bytes) => ServerLogin::from_bytes(&bytes).map_err(|_| KeyFileError::Damaged { path }),
        None if missing == MissingLogin::Refuse => Err(KeyFileError::LoginSecretsMissing { path }),
        None => {
            let login = ServerLogin::generate(&mut OsRng);
            write(&path, &login.to_bytes())?;
            Ok(login)
        }
    }
}

/// The signing keys as they stand in their file, newest last.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenKeyFile {
    keys: Vec<StoredTokenKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTokenKey {
    id: String,
    created_at: UnixSeconds,
    secret: SecretText,
}

impl TokenKeyFile {
    fn open(path: &Path, now: UnixSeconds) -> Result<Self, KeyFileError> {
        let Some(bytes) = read(path)? else {
            let file = Self {
                keys: vec![StoredTokenKey::generate(now)],
            };
            file.write(path)?;
            return Ok(file);
        };
        Self::decode(&bytes, path)
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, KeyFileError> {
        let damaged = || KeyFileError::Damaged { path: path.to_owned() };
        let file: Self = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        if file.keys.is_empty() {
            return Err(damaged());
        }
        Ok(file)
    }

    fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| KeyFileError::Io {
            path: path.to_owned(),
            source: error.into(),
        })?;
        write(path, &Zeroizing::new(text))
    }

    fn usable(&self, path: &Path) -> Result<Vec<TokenKey>, KeyFileError> {
        self.keys
            .iter()
            .map(|key| {
                let secret = URL_SAFE_NO_PAD.decode(key.secret.expose()).unwrap_or_default();
                // RFC 7518, section 3.2: a key of HS256 has at least the size of the hash.
                if secret.len() < 32 {
                    return Err(KeyFileError::Damaged { path: path.to_owned() });
                }
                Ok(TokenKey {
                    id: key.id.clone(),
                    secret: Zeroizing::new(secret),
                })
            })
            .collect()
    }
}

impl StoredTokenKey {
    fn generate(now: UnixSeconds) -> Self {
        let secret = Zeroizing::new(random_bytes::<32>());
        Self {
            id: URL_SAFE_NO_PAD.encode(random_bytes::<6>()),
            created_at: now,
            secret: SecretText::new(URL_SAFE_NO_PAD.encode(*secret)),
        }
    }
}

/// Adds a signing key, which signs from the server's next start on, and drops those whose last token has expired.
pub(crate) fn rotate_token_key(directory: &Path, now: UnixSeconds) -> Result<(), KeyFileError> {
    let path = directory.join(TOKENS_FILE);
    let mut file = TokenKeyFile::open(&path, now)?;
    // A key signed its last token when its successor came, at the earliest; that token lived for TOKEN_SECONDS.
    while file.keys.len() > 1 && file.keys[1].created_at + limits::TOKEN_SECONDS < now {
        file.keys.remove(0);
    }
    file.keys.push(StoredTokenKey::generate(now));
    file.write(&path)
}

/// The keys that are derived from `server.key`, one a purpose.
pub(crate) struct DerivedKeys {
    /// Seals the state that the client carries between two requests.
    pub(crate) sealing: Zeroizing<[u8; 32]>,
    /// Authenticates refresh secrets.
    pub(crate) refresh: MacKey,
    /// Signs the URLs of objects.
    pub(crate) urls: MacKey,
    /// Names what is counted in the database, so that it tells of nobody.
    pub(crate) counted: MacKey,
    /// Hashes the codes that people type for machines: they are short.
    pub(crate) user_codes: MacKey,
    /// Names this server where no public URL does.
    pub(crate) server_id: [u8; 16],
}

impl DerivedKeys {
    fn open(path: &Path) -> Result<Self, KeyFileError> {
        let secret = match read(path)? {
            Some(bytes) => bytes,
            None => {
                let secret = Zeroizing::new(random_bytes::<32>().to_vec());
                write(path, &secret)?;
                secret
            }
        };
        if secret.len() != 32 {
            return Err(KeyFileError::Damaged { path: path.to_owned() });
        }
        let root = Hkdf::<Sha256>::new(None, &secret);
        let mut server_id = [0; 16];
        server_id.copy_from_slice(&derive(&root, "synckit/1 server id")[..16]);
        Ok(Self {
            sealing: derive(&root, "synckit/1 sealed state"),
            refresh: MacKey(derive(&root, "synckit/1 refresh")),
            urls: MacKey(derive(&root, "synckit/1 url")),
            counted: MacKey(derive(&root, "synckit/1 counted")),
            user_codes: MacKey(derive(&root, "synckit/1 user codes")),
            server_id,
        })
    }
}

fn derive(root: &Hkdf<Sha256>, label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF fails only for outputs longer than 255 hashes")]
    root.expand(label.as_bytes(), key.as_mut_slice())
        .expect("32 bytes are one hash");
    key
}

/// A key of HMAC-SHA256.
#[derive(Clone)]
pub(crate) struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The MAC of some parts. Callers give parts of fixed length, or a single one at the end.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether `tag` is the MAC of some parts, in constant time.
    pub(crate) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.over(parts).verify_slice(tag).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of every length");
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    match read_private_file(path) {
        Ok(PrivateRead::Contents(contents)) => Ok(Some(contents)),
        Ok(PrivateRead::Absent) => Ok(None),
        Ok(PrivateRead::Exposed { mode }) => Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode,
        }),
        Err(source) => Err(KeyFileError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, contents: &[u8]) -> Result<(), KeyFileError> {
    write_private_file(path, contents).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_key_is_kept_until_its_last_token_expires() {
        let directory = tempfile::TempDir::new().unwrap();
        let ids = || -> Vec<String> {
            let login = open_login(directory.path(), MissingLogin::Generate).unwrap();
            let keys = ServerKeys::open(directory.path(), login, 1000).unwrap();
            keys.tokens.into_iter().map(|key| key.id).collect()
        };
        let first = ids();
        rotate_token_key(directory.path(), 2000).unwrap();
        let both = ids();
        assert_eq!((both.len(), &both[0]), (2, &first[0]));
        rotate_token_key(directory.path(), 2000 + limits::TOKEN_SECONDS).unwrap();
        assert_eq!(ids().len(), 3, "a token of the first may live for this second still");
        rotate_token_key(directory.path(), 2001 + limits::TOKEN_SECONDS).unwrap();
        assert_eq!((ids().len(), &ids()[0]), (3, &both[1]));
    }

    #[test]
    fn every_purpose_has_a_key_of_its_own() {
        let directory = tempfile::TempDir::new().unwrap();
        let keys = DerivedKeys::open(&directory.path().join(SERVER_FILE)).unwrap();
        let again = DerivedKeys::open(&directory.path().join(SERVER_FILE)).unwrap();
        let tags = [keys.refresh.sign(&[b"x"]), keys.urls.sign(&[b"x"])];
        assert!(tags[0] != tags[1] && !keys.urls.verify(&[b"x"], &tags[0]));
        assert_eq!(
            (again.refresh.sign(&[b"x"]), again.server_id),
            (tags[0], keys.server_id)
        );
        assert!(keys.urls.verify(&[b"x"], &tags[1]) && !keys.urls.verify(&[b"y"], &tags[1]));
    }
}
