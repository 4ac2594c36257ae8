//! A backup of a data directory, whether a server runs on it or not.
//!
//! The database first, in one step, and the objects that this copy of it names second: an object that is replaced is kept
//! for an hour and a deleted one for 30 days, so they are still there. The database gets its name last, and only then are
//! the objects removed that an earlier backup in the same place needed. Key files go to a place of their own.
//!
//! Invariant: a `synckit.db` in the target is whole and checked, and so are the objects that it names, as far as the data
//! directory has them. A backup that was interrupted leaves the one before as it was.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use synckit_protocol::ObjectKey;
use synckit_store::{
    DatabaseInspection, StoreError,
    objects::{ObjectCopy, copy_object, remove_other_objects, sync_objects},
    private_files::{create_private_dir, sync_dir},
};

use crate::startup::{DataDir, DataDirError, KeyFileError, KeySurvey, copy_key_files};

/// Objects that a backup names if they are missing.
const EXAMPLES_MAX: usize = 5;

/// The contents of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The size of the copied database.
    pub database_bytes: u64,
    /// Objects that were copied.
    pub objects_copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Objects that an earlier backup in the same place had copied.
    pub objects_present: u64,
    /// Objects of an earlier backup that no blob names any more.
    pub objects_removed: u64,
    /// Objects that the data directory lacks, or has with another size or other bytes.
    pub objects_missing: u64,
    /// Some of these.
    pub missing: Vec<ObjectKey>,
}

/// The files that a backup copies beside the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectsToCopy {
    /// The objects of the data directory.
    Directory,
    /// None: they are in a bucket.
    Nothing,
}

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The data directory has no database.
    #[error("there is no server data in {}", path.display())]
    NoData {
        /// The data directory.
        path: PathBuf,
    },
    /// The target is the data directory of a server.
    #[error("{} is the data directory of a server: it has key files", path.display())]
    TargetIsDataDir {
        /// The target.
        path: PathBuf,
    },
    /// The key files would go into the backup, where a thief of one has both.
    #[error("the key files would be in the backup at {}: store them apart from it", path.display())]
    KeysInTarget {
        /// The target.
        path: PathBuf,
    },
    /// Another backup is being written to the target.
    #[error("another backup is being written to {}", path.display())]
    TargetInUse {
        /// The target.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database cannot be copied, or the copy is damaged.
    #[error("the database cannot be backed up")]
    Store(#[from] StoreError),
    /// A key file cannot be copied.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The key files are not those of the database.
    #[error("the key files are not those of the database: its passwords were made under another OPRF seed")]
    OtherKeys,
}

/// Backs a data directory up into `target`, which is new or has an earlier backup; and its key files into `keys`, if a
/// directory is named. Blocks for as long as it takes to read and write everything that is new.
///
/// # Examples
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let data_dir = directory.path().join("data");
/// # synckit_server::Admin::open(&data_dir)?;
/// use synckit_server::{
///     admin::{ObjectsToCopy, back_up},
///     inspect::Inspection,
/// };
///
/// let target = directory.path().join("backup");
/// let backup = back_up(&data_dir, &target, None, ObjectsToCopy::Directory)?;
/// assert_eq!(backup.objects_missing, 0);
/// assert_eq!(Inspection::of(&target).database()?.facts()?.accounts, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`BackupError`]. Missing objects are no error: see [`Backup::objects_missing`].
pub fn back_up(
    data_dir: &Path,
    target: &Path,
    keys: Option<&Path>,
    objects: ObjectsToCopy,
) -> Result<Backup, BackupError> {
    let source = DataDir::at(data_dir);
    let copy = DataDir::at(target);
    if !source.database().is_file() {
        return Err(BackupError::NoData {
            path: data_dir.to_owned(),
        });
    }
    if copy.keys().exists() {
        return Err(BackupError::TargetIsDataDir {
            path: target.to_owned(),
        });
    }
    if keys.is_some_and(|keys| keys.starts_with(target)) {
        return Err(BackupError::KeysInTarget {
            path: target.to_owned(),
        });
    }
    create_private_dir(target).map_err(in_place(target))?;
    // The lock of a server: nobody serves from a backup while it is written.
    let lock = copy
        .begin_opening_on_this_thread()
        .and_then(|opening| copy.lock(&opening));
    let _lock = lock.map_err(|error| match error {
        DataDirError::Io { path, source } => BackupError::Io { path, source },
        _ => BackupError::TargetInUse {
            path: target.to_owned(),
        },
    })?;

    let part = target.join("synckit.db.part");
    remove_if_there(&part)?;
    let inspection = DatabaseInspection::of_copy(&source.database(), &part)?;
    if let Some(keys) = keys {
        back_up_keys(&source.keys(), keys, &inspection)?;
    }
    let mut backup = Backup {
        database_bytes: fs::metadata(&part).map_err(in_place(&part))?.len(),
        ..Backup::default()
    };
    let ranges = match objects {
        ObjectsToCopy::Directory => inspection.object_ranges()?,
        ObjectsToCopy::Nothing => Vec::new(),
    };
    let objects = copy.blobs();
    for range in &ranges {
        for (key, stored) in inspection.objects(range)? {
            match copy_object(&source.blobs(), &objects, key, stored).map_err(in_place(&objects))? {
                ObjectCopy::Copied => {
                    backup.objects_copied += 1;
                    backup.copied_bytes = backup.copied_bytes.saturating_add(stored.0);
                }
                ObjectCopy::Present => backup.objects_present += 1,
                ObjectCopy::Missing => {
                    backup.objects_missing += 1;
                    if backup.missing.len() < EXAMPLES_MAX {
                        backup.missing.push(key);
                    }
                }
            }
        }
        sync_objects(&objects, range).map_err(in_place(&objects))?;
    }

    // The log of another database would be replayed into this one.
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&target.join(format!("synckit.db{suffix}")))?;
    }
    fs::rename(&part, copy.database()).map_err(in_place(&part))?;
    sync_dir(target).map_err(in_place(target))?;
    for range in &ranges {
        let wanted = inspection.objects(range)?;
        backup.objects_removed += remove_other_objects(&objects, range, &wanted).map_err(in_place(&objects))?;
    }
    Ok(backup)
}

fn back_up_keys(from: &Path, to: &Path, database: &DatabaseInspection) -> Result<(), BackupError> {
    create_private_dir(to).map_err(in_place(to))?;
    copy_key_files(from, to)?;
    // The copied keys are read back, as a server would read them.
    let copied = KeySurvey::of(to);
    let seed = copied.login?;
    copied.tokens?;
    copied.server?;
    match database.facts()?.seed_id {
        Some(bound) if seed != Some(bound) => Err(BackupError::OtherKeys),
        _ => Ok(()),
    }
}

fn in_place(path: &Path) -> impl Fn(io::Error) -> BackupError {
    move |source| BackupError::Io {
        path: path.to_owned(),
        source,
    }
}

fn remove_if_there(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(in_place(path)),
    }
}
