//! Where a session and its keys live between two starts of the app.
//!
//! Credentials are named records of bytes. Every store keeps a record whole or not at all, and a record that cannot be
//! read is an error, never an absent one: an app must not create a second key because a keychain was locked.
//!
//! Invariant: items stay under the 2,560 bytes that Windows allows, so longer records are stored in pieces.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use rand::RngCore as _;
use zeroize::Zeroizing;

use crate::config::CredentialStore;

/// What a keychain item may hold everywhere: Windows stops at 2,560 bytes.
const ITEM_BYTES_MAX: usize = 2_400;
/// The first piece of a record: how many pieces there are, and the mark that they share.
const HEADER_BYTES: usize = 5;

/// A keychain or a credential file that failed.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (config, email, password) = (world.config(), world.email, world.password);
/// # world.signed_in().await?;
/// use synckit_client::{CredentialError, CredentialStore, Error, SyncKitClient};
///
/// // A folder, by mistake.
/// # let folder = world.path("");
/// let store = CredentialStore::File(folder.clone());
/// let client = SyncKitClient::builder(config).credential_store(store).build();
/// match client.authenticate(email, password).await {
///     Err(Error::Credentials(CredentialError::Locked(_))) => println!("unlock the keychain, then try again"),
///     Err(Error::Credentials(CredentialError::File { path, .. })) => assert_eq!(path, folder),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// There is no keychain to talk to.
    #[error(
        "there is no keychain on this machine (on Linux: no Secret Service on the session bus). Start one, or build the \
         client with another CredentialStore"
    )]
    NoKeychain(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The keychain is locked, or refused access.
    #[error("the keychain is locked or refused access")]
    Locked(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The keychain failed.
    #[error("the keychain failed")]
    Keychain(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The credential file could not be read or written.
    #[error("the credential file {path:?} could not be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The credential file can be read by other users of the machine.
    #[error("the credential file {0:?} can be read by others: give it mode 0600")]
    FileNotPrivate(PathBuf),
    /// A record is there and is not what this SDK wrote.
    #[error("the stored record {0:?} is damaged: sign in again")]
    Damaged(&'static str),
}

/// The records of one app on one server.
#[derive(Debug)]
pub(crate) struct Credentials {
    store: CredentialStore,
    /// `origin` and fingerprint of the API key: apps and servers never share a record.
    scope: String,
    memory: Mutex<BTreeMap<String, Zeroizing<Vec<u8>>>>,
}

impl Credentials {
    pub(crate) fn new(store: CredentialStore, origin: &str, app_fingerprint: &str) -> Self {
        Self {
            store,
            scope: format!("{origin} {app_fingerprint}"),
            memory: Mutex::default(),
        }
    }

    /// Fails if the store cannot be used, before anything depends on it.
    pub(crate) fn probe(&self) -> Result<(), CredentialError> {
        match &self.store {
            CredentialStore::Keychain => self.read_item("probe").map(|_| ()),
            CredentialStore::File(path) => read_file(path).map(|_| ()),
            CredentialStore::Memory => Ok(()),
        }
    }

    /// Reads a record; `None` if there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        match &self.store {
            CredentialStore::Memory => Ok(self.memory.lock().get(name).cloned()),
            CredentialStore::File(path) => {
                let mut records = read_file(path)?;
                let Some(text) = records.remove(&self.file_name(name)) else {
                    return Ok(None);
                };
                let bytes = STANDARD
                    .decode(&*text)
                    .map_err(|_| CredentialError::Damaged("credential file"))?;
                Ok(Some(Zeroizing::new(bytes)))
            }
            CredentialStore::Keychain => self.read_pieces(name),
        }
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        match &self.store {
            CredentialStore::Memory => {
                self.memory
                    .lock()
                    .insert(name.to_owned(), Zeroizing::new(value.to_vec()));
                Ok(())
            }
            CredentialStore::File(path) => change_file(path, |records| {
                records.insert(self.file_name(name), Zeroizing::new(STANDARD.encode(value)));
            }),
            CredentialStore::Keychain => self.write_pieces(name, value),
        }
    }

    /// Deletes a record; it is no error if there is none.
    pub(crate) fn delete(&self, name: &str) -> Result<(), CredentialError> {
        match &self.store {
            CredentialStore::Memory => {
                self.memory.lock().remove(name);
                Ok(())
            }
            CredentialStore::File(path) => change_file(path, |records| {
                records.remove(&self.file_name(name));
            }),
            CredentialStore::Keychain => {
                // The first piece goes first: without it the others are no record.
                let pieces = self
                    .read_item(name)?
                    .and_then(|first| first.first().copied())
                    .unwrap_or(0);
                self.delete_item(name)?;
                (1..pieces).try_for_each(|piece| self.delete_item(&format!("{name}#{piece}")))
            }
        }
    }

    fn file_name(&self, name: &str) -> String {
        format!("{} {name}", self.scope)
    }

    fn read_pieces(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        let Some(first) = self.read_item(name)? else {
            return Ok(None);
        };
        let damaged = || CredentialError::Damaged("keychain item");
        let (header, head) = first.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
        let mut value = Zeroizing::new(head.to_vec());
        for piece in 1..header[0] {
            let item = self.read_item(&format!("{name}#{piece}"))?.ok_or_else(damaged)?;
            // A write that was cut off leaves pieces of two records; the mark tells them apart.
            let rest = item.strip_prefix(&header[1..]).ok_or_else(damaged)?;
            value.extend_from_slice(rest);
        }
        Ok(Some(value))
    }

    fn write_pieces(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        let mut mark = [0; HEADER_BYTES - 1];
        rand::thread_rng().fill_bytes(&mut mark);
        let (head, rest) = value.split_at(value.len().min(ITEM_BYTES_MAX - HEADER_BYTES));
        let pieces = rest.chunks(ITEM_BYTES_MAX - mark.len());
        let count = u8::try_from(pieces.len() + 1).map_err(|_| CredentialError::Damaged("record of this size"))?;
        for (index, piece) in pieces.enumerate() {
            let item = Zeroizing::new([&mark, piece].concat());
            self.write_item(&format!("{name}#{}", index + 1), &item)?;
        }
        let first = Zeroizing::new([&[count][..], &mark, head].concat());
        self.write_item(name, &first)
    }

    fn entry(&self, item: &str) -> Result<keyring::Entry, CredentialError> {
        if let Err(error) = keyring::Entry::store_status() {
            return Err(CredentialError::NoKeychain(Box::new(io::Error::other(
                error.to_string(),
            ))));
        }
        keyring::Entry::new("synckit", &format!("{} {item}", self.scope)).map_err(keychain_error)
    }

    fn read_item(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        match self.entry(item)?.get_secret() {
            Ok(secret) => Ok(Some(Zeroizing::new(secret))),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(keychain_error(error)),
        }
    }

    fn write_item(&self, item: &str, secret: &[u8]) -> Result<(), CredentialError> {
        self.entry(item)?.set_secret(secret).map_err(keychain_error)
    }

    fn delete_item(&self, item: &str) -> Result<(), CredentialError> {
        match self.entry(item)?.delete_credential() {
            Ok(()) | Err(keyring::Error::NoEntry) => Ok(()),
            Err(error) => Err(keychain_error(error)),
        }
    }
}

fn keychain_error(error: keyring::Error) -> CredentialError {
    match error {
        keyring::Error::NoDefaultStore => CredentialError::NoKeychain(Box::new(error)),
        keyring::Error::NoStorageAccess(cause) => CredentialError::Locked(cause),
        keyring::Error::PlatformFailure(cause) => CredentialError::Keychain(cause),
        // The other variants can carry a secret; their kind is all that may be told.
        _ => CredentialError::Keychain("the item cannot be used".into()),
    }
}

type Records = BTreeMap<String, Zeroizing<String>>;

fn file_error(path: &Path) -> impl Fn(io::Error) -> CredentialError {
    move |source| CredentialError::File {
        path: path.to_owned(),
        source,
    }
}

fn read_file(path: &Path) -> Result<Records, CredentialError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Records::new()),
        Err(error) => return Err(file_error(path)(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).map_err(file_error(path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CredentialError::FileNotPrivate(path.to_owned()));
        }
    }
    let records: BTreeMap<String, String> =
        serde_json::from_str(&text).map_err(|_| CredentialError::Damaged("credential file"))?;
    Ok(records
        .into_iter()
        .map(|(name, value)| (name, Zeroizing::new(value)))
        .collect())
}

/// Reads, changes and replaces the file under a lock, so that two processes of one app lose nothing of each other.
fn change_file(path: &Path, change: impl FnOnce(&mut Records)) -> Result<(), CredentialError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let replace = || -> io::Result<Result<(), CredentialError>> {
        fs::create_dir_all(directory)?;
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = fs::File::create(lock_path)?;
        lock.lock()?;
        let mut records = match read_file(path) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        change(&mut records);
        let plain: BTreeMap<&str, &str> = records
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let text = Zeroizing::new(serde_json::to_string(&plain)?);
        // Under the lock nobody else writes: what a killed process left holds secrets, and would stay for ever.
        let prefix = temporary_prefix(path);
        remove_leftovers(directory, &prefix)?;
        // Made with mode 0600 from its first moment.
        let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(Ok(()))
    };
    replace().map_err(file_error(path))?
}

/// How the files begin that a credential file is written to before it takes its place.
fn temporary_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(40).collect();
    format!(".{name}.new-")
}

fn remove_leftovers(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
