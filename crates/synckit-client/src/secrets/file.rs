//! Secrets in a file that one user of the machine can read.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{error::CredentialError, store::CredentialStore};

/// A file that only this user can read (mode 0600). It is not encrypted: anybody who reads the file can read the user's
/// data. For machines without a keychain, by the developer's decision.
///
/// The file may be a symbolic link, or a single file mounted into a container. A damaged file is an error
/// ([`CredentialError::FileDamaged`]) until the next sign-in, which renames it to `.damaged` and starts a new one.
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

    fn mend(&self) -> Result<(), CredentialError> {
        mend_file(&self.path)
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
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Records::new()),
        Err(error) => return Err(file_error(path)(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Checks the open file, not the path, which could lead to another file by now.
        let found = file.metadata().map_err(file_error(path))?;
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            return Err(CredentialError::FileNotPrivate(path.to_owned()));
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes).map_err(file_error(path))?;
    // Created by `touch` for a mount, for example, or truncated by an in-place write that a crash interrupted.
    if bytes.is_empty() {
        return Ok(Records::new());
    }
    // Editors on Windows put a byte order mark before a text.
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let records: BTreeMap<String, String> = serde_json::from_slice(text).map_err(|_| CredentialError::FileDamaged {
        path: path.to_owned(),
        aside: aside(path),
    })?;
    Ok(records
        .into_iter()
        .map(|(name, value)| (name, Zeroizing::new(value)))
        .collect())
}

/// The name under which a damaged file is kept.
fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    aside.into()
}

/// Reads, changes and replaces the file under a lock, so that two processes of one app do not overwrite each other's
/// records.
fn change_file(path: &Path, change: impl FnOnce(&mut Records)) -> Result<(), CredentialError> {
    under_lock(path, |target, beside| {
        let mut records = match read_file(target) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        change(&mut records);
        let plain: BTreeMap<&str, &str> = records
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let text = Zeroizing::new(serde_json::to_string(&plain)?);
        beside.remove_leftovers()?;
        // Has mode 0600 from the moment of its creation.
        let mut file = tempfile::Builder::new()
            .prefix(&beside.temporary_prefix())
            .tempfile_in(&beside.directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist(target) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::ResourceBusy => overwrite(target, text.as_bytes())?,
            Err(error) => return Err(error.error),
        }
        Ok(Ok(()))
    })
}

/// Keeps a damaged file under another name, for inspection.
fn mend_file(path: &Path) -> Result<(), CredentialError> {
    under_lock(path, |target, _| {
        let Err(CredentialError::FileDamaged { aside, .. }) = read_file(target) else {
            return Ok(Ok(()));
        };
        match fs::rename(target, &aside) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                fs::copy(target, &aside)?;
                overwrite(target, &[])?;
            }
            renamed => renamed?,
        }
        Ok(Ok(()))
    })
}

/// Runs an action on the file behind a path, and on the files beside it, exclusively among all processes.
fn under_lock(
    path: &Path,
    work: impl FnOnce(&Path, &Beside) -> io::Result<Result<(), CredentialError>>,
) -> Result<(), CredentialError> {
    let target = target_of(path);
    let beside = Beside::of(&target);
    let locked = || {
        fs::create_dir_all(&beside.directory)?;
        let lock = beside.open_lock()?;
        lock.lock()?;
        work(&target, &beside)
    };
    locked().map_err(file_error(path))?
}

/// The target of a symbolic link, which may not exist yet: the link stays, and its target is replaced.
fn target_of(path: &Path) -> PathBuf {
    fs::canonicalize(path)
        .or_else(|_| fs::read_link(path).map(|link| path.parent().unwrap_or(Path::new("")).join(link)))
        .unwrap_or_else(|_| path.to_owned())
}

/// Overwrites a file in place, because a single file that is mounted into a container cannot be replaced. The file is
/// truncated first: after a crash it is empty or invalid JSON, and never a mixture of two records.
fn overwrite(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(0)?;
    file.sync_all()?;
    file.write_all(text)?;
    file.sync_all()
}

/// The companion files of a credential file. Long file names with an equal beginning still have separate companions.
struct Beside {
    directory: PathBuf,
    /// The beginning of the file's name, for people, and a hash of the whole name.
    name: String,
}

impl Beside {
    fn of(path: &Path) -> Self {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = path.file_name().unwrap_or_default();
        let hash = Sha256::digest(name.as_encoded_bytes());
        let begin: String = name.to_string_lossy().chars().take(40).collect();
        Self {
            directory: directory.to_owned(),
            name: format!(".{begin}.{}", URL_SAFE_NO_PAD.encode(&hash[..9])),
        }
    }

    /// Opens the lock file of a change. It is never removed, because other processes may wait for it.
    fn open_lock(&self) -> io::Result<fs::File> {
        let path = self.directory.join(format!("{}.lock", self.name));
        let mut options = fs::OpenOptions::new();
        options.create(true).write(true).truncate(false);
        // A person with write access to this directory may have placed a link here, to a file that this line would create or
        // lock, or a pipe, whose opening would block. The system refuses both while it opens the file: an earlier check would
        // leave time for an exchange.
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options.mode(0o600).custom_flags(flags.bits().cast_signed());
        }
        #[cfg(windows)]
        {
            use std::os::windows::fs::OpenOptionsExt as _;
            // FILE_FLAG_OPEN_REPARSE_POINT: the link itself, which is no regular file.
            options.custom_flags(0x0020_0000);
        }
        let file = options.open(&path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("{} is not a regular file", path.display())));
        }
        Ok(file)
    }

    /// The prefix of temporary files, which are written before they replace the credential file.
    fn temporary_prefix(&self) -> String {
        format!("{}.new-", self.name)
    }

    /// Removes the temporary files of killed processes: they hold secrets and would stay for ever. The lock excludes
    /// other writers.
    fn remove_leftovers(&self) -> io::Result<()> {
        let prefix = self.temporary_prefix();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
