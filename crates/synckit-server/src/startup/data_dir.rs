//! The data directory: its files, and the process that may serve from it.
//!
//! ```text
//! opening        held by a process while it opens or creates what is below
//! lock           held by the one process that serves
//! synckit.db     the database (with -wal and -shm beside it while it is open)
//! keys/          secrets, mode 0600: see `keys`
//! blobs/         objects, by the first byte of their key
//! mail/          mails that are not sent by SMTP
//! ```
//!
//! Invariant: at most one process serves from a data directory. Administration is not serving: it works on the same
//! database beside a running server.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use synckit_store::{
    SqliteStore, StoreError,
    private_files::{create_private_dir, open_lock_file},
};

/// The file whose lock is the right to open.
const OPENING: &str = "opening";
/// The file whose lock is the right to serve.
const LOCK: &str = "lock";

/// A data directory that exists.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// The right to open or create what a data directory holds, given back when it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Opening {
    _file: File,
}

/// The right to serve from a data directory, given back when it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct ServeLock {
    _file: File,
}

/// A data directory that cannot be used.
///
/// # Examples
/// ```
/// use synckit_server::{Admin, DataDirError, admin::AdminError};
///
/// # let directory = tempfile::tempdir()?;
/// let file = directory.path().join("a file");
/// std::fs::write(&file, "")?;
/// match Admin::open(&file) {
///     Err(AdminError::DataDir(DataDirError::Io { path, .. })) => assert_eq!(path, file),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// It cannot be created or read.
    #[error("cannot use the data directory {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It holds data of a server, but no database.
    #[error(
        "{} {}, but {}: restore the database from a backup, or name an empty directory to begin with a new server",
        database,
        if *is_empty { "is empty" } else { "is missing" },
        of_before.join(" and ")
    )]
    DatabaseMissing {
        /// Where the database should be.
        database: String,
        /// Whether it exists and is empty.
        is_empty: bool,
        /// The existing data.
        of_before: Vec<&'static str>,
    },
    /// Another process serves from it.
    #[error("another process serves from {}: stop it first, or choose another data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
}

impl DataDir {
    /// Opens a data directory, or creates it with mode 0700.
    pub(crate) fn open(root: &Path) -> Result<Self, DataDirError> {
        let this = Self { root: root.to_owned() };
        for path in [this.root.clone(), this.keys(), this.blobs()] {
            create_private_dir(&path).map_err(|source| DataDirError::Io { path, source })?;
        }
        Ok(this)
    }

    /// Refuses a directory that lost its database. A new database beside existing keys and files would answer every
    /// device that its account is gone.
    pub(crate) fn check_database<E: From<DataDirError> + From<StoreError>>(&self) -> Result<(), E> {
        let database = self.database();
        // SQLite deletes the log of a database without a byte, so such a file must not even be opened.
        let length = fs::metadata(&database).ok().map(|metadata| metadata.len());
        if length != Some(0) && SqliteStore::schema(&database)?.found.is_some() {
            return Ok(());
        }
        let log = self.root.join("synckit.db-wal");
        let mut of_before = self.data_of_before();
        if length.is_none_or(|length| length == 0) && fs::metadata(log).is_ok_and(|log| log.len() > 0) {
            of_before.push("its write-ahead log is not");
        }
        if of_before.is_empty() {
            return Ok(());
        }
        let is_empty = length.is_some();
        Err(DataDirError::DatabaseMissing {
            database: database.display().to_string(),
            is_empty,
            of_before,
        }
        .into())
    }

    /// Refuses a directory with data of a server beside a database elsewhere that is empty, for the same reason.
    pub(super) fn check_is_new(&self, database: &str) -> Result<(), DataDirError> {
        let of_before = self.data_of_before();
        if of_before.is_empty() {
            return Ok(());
        }
        Err(DataDirError::DatabaseMissing {
            database: database.to_owned(),
            is_empty: true,
            of_before,
        })
    }

    /// What a server without a database leaves in the directory.
    fn data_of_before(&self) -> Vec<&'static str> {
        [
            (has_entries(&self.keys()), "keys/ has key files"),
            (has_objects(&self.blobs()), "blobs/ has files of users"),
        ]
        .into_iter()
        .filter_map(|(is_there, what)| is_there.then_some(what))
        .collect()
    }

    /// A data directory as it is; nothing is created.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether a process serves from it. Nothing is created.
    pub(crate) fn is_served(&self) -> io::Result<bool> {
        let open = |name| match File::open(self.root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let (Some(opening), Some(file)) = (open(OPENING)?, open(LOCK)?) else {
            return Ok(false);
        };
        // For an instant this shares the lock. A server that starts in just that instant waits here, and is not refused.
        opening.lock_shared()?;
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the right to open or create what it holds. Half of it, as another process is just creating it, looks like
    /// a database that was lost.
    pub(crate) async fn begin_opening(&self) -> Result<Opening, DataDirError> {
        let this = self.clone();
        let waiting = tokio::task::spawn_blocking(move || this.begin_opening_on_this_thread());
        waiting.await.unwrap_or_else(|error| {
            Err(DataDirError::Io {
                path: self.root.join(OPENING),
                source: io::Error::other(error),
            })
        })
    }

    /// [`DataDir::begin_opening`] for a thread that may be blocked.
    pub(crate) fn begin_opening_on_this_thread(&self) -> Result<Opening, DataDirError> {
        let (path, file) = self.lock_file(OPENING)?;
        match file.lock() {
            Ok(()) => Ok(Opening { _file: file }),
            Err(source) => Err(DataDirError::Io { path, source }),
        }
    }

    /// Takes the right to serve.
    pub(crate) fn lock(&self, _opening: &Opening) -> Result<ServeLock, DataDirError> {
        let (path, file) = self.lock_file(LOCK)?;
        match file.try_lock() {
            Ok(()) => Ok(ServeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse {
                path: self.root.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(DataDirError::Io { path, source }),
        }
    }

    /// A file to lock. The lock lives on the open file, not in it: a file that a dead process left behind locks nobody
    /// out.
    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), DataDirError> {
        let path = self.root.join(name);
        match open_lock_file(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(DataDirError::Io { path, source }),
        }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("synckit.db")
    }

    /// The directory of the key files.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The directory of the objects.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The directory of the mails; created when the first one is written.
    pub(crate) fn mail(&self) -> PathBuf {
        self.root.join("mail")
    }
}

fn has_entries(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether any of the directories that objects are spread over has one.
fn has_objects(blobs: &Path) -> bool {
    let shards = fs::read_dir(blobs).into_iter().flatten().filter_map(Result::ok);
    shards
        .filter(|shard| shard.file_name().len() == 2)
        .any(|shard| has_entries(&shard.path()))
}
