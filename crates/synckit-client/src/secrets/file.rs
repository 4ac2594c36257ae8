//! Secrets in a file that one user of the machine can read.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{error::CredentialError, store::CredentialStore};

/// A file that only this user can read (mode 0600). It is not encrypted: another person who reads the file reads the
/// user's data. For machines without a keychain, by the developer's decision.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (config, email, password) = (world.config(), world.email, world.password);
/// # world.signed_in().await?;
/// use synckit_client::{FileStore, SyncKitClient};
///
/// // A service on a machine without a keychain.
/// let file = FileStore::new(world.path("credentials.json"));
/// let client = SyncKitClient::builder(config.clone()).credential_store(file.clone()).build();
/// client.authenticate(email, password).await?;
/// client.setup_encryption_new(password).await?;
///
/// // Its next start needs no password.
/// let client = SyncKitClient::builder(config).credential_store(file).build();
/// client.try_load_key_from_keychain()?;
/// assert!(client.user_id().is_some());
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// A store in this file, which the first write creates.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("credentials.json");
    /// use synckit_client::{CredentialStore, FileStore};
    ///
    /// let store = FileStore::new(&path);
    /// assert!(store.read("session")?.is_none()); // no file yet is an empty store
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl CredentialStore for FileStore {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        let Some(text) = read_file(&self.path)?.remove(name) else {
            return Ok(None);
        };
        let bytes = STANDARD
            .decode(&*text)
            .map_err(|_| CredentialError::Damaged("credential file"))?;
        Ok(Some(Zeroizing::new(bytes)))
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        change_file(&self.path, |records| {
            records.insert(name.to_owned(), Zeroizing::new(STANDARD.encode(value)));
        })
    }

    fn delete(&self, name: &str) -> Result<(), CredentialError> {
        change_file(&self.path, |records| {
            records.remove(name);
        })
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
