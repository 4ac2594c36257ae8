//! Copying objects from one directory of objects to another, for a backup.
//!
//! An object never changes, so an existing one of the right size is not copied again.

use std::{
    collections::HashMap,
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use synckit_protocol::{ObjectKey, SealedHash};

use super::{hash_of_file, parts::remove_if_there};
use crate::private_files::{create_private_dir, create_private_file, sync_dir};

/// The result of copying an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectCopy {
    /// Copied.
    Copied,
    /// The target has it already.
    Present,
    /// The source lacks it, or has it with another size or other bytes.
    Missing,
}

/// Copies an object of this size and hash between two directories of objects, durably but for the name: see [`sync_objects`].
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_object(from: &Path, to: &Path, key: ObjectKey, (size, hash): (u64, SealedHash)) -> io::Result<ObjectCopy> {
    let target = path_of(to, key);
    if length_of(&target)? == Some(size) {
        return Ok(ObjectCopy::Present);
    }
    let mut source = match fs::File::open(path_of(from, key)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ObjectCopy::Missing),
        other => other?,
    };
    if source.metadata()?.len() != size {
        return Ok(ObjectCopy::Missing);
    }
    create_private_dir(to)?;
    create_private_dir(target.parent().unwrap_or(to))?;
    let part = target.with_extension("part");
    remove_if_there(&part)?;
    let mut file = create_private_file(&part)?;
    io::copy(&mut source, &mut file)?;
    file.sync_all()?;
    if hash_of_file(&part)? != hash {
        fs::remove_file(&part)?;
        return Ok(ObjectCopy::Missing);
    }
    fs::rename(&part, &target)?;
    Ok(ObjectCopy::Copied)
}

/// Makes the names of copied objects durable.
///
/// # Errors
/// If a directory cannot be synced.
pub fn sync_objects(directory: &Path, range: &RangeInclusive<u8>) -> io::Result<()> {
    let shards = range.clone().map(|shard| directory.join(format!("{shard:02x}")));
    for path in shards.chain([directory.to_owned()]).filter(|path| path.is_dir()) {
        sync_dir(&path)?;
    }
    Ok(())
}

/// Removes every unwanted file of some shards, including unfinished copies. Returns the number of removed objects.
/// Never for the directory of a server.
///
/// # Errors
/// If the directory cannot be read, or a file not removed.
pub fn remove_other_objects(
    directory: &Path,
    range: &RangeInclusive<u8>,
    wanted: &HashMap<ObjectKey, (u64, SealedHash)>,
) -> io::Result<u64> {
    let mut removed = 0;
    for shard in range.clone() {
        let entries = match fs::read_dir(directory.join(format!("{shard:02x}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let key: Option<ObjectKey> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if key.is_some_and(|key| wanted.contains_key(&key)) {
                continue;
            }
            fs::remove_file(entry.path())?;
            removed += u64::from(key.is_some());
        }
    }
    Ok(removed)
}

fn path_of(directory: &Path, key: ObjectKey) -> PathBuf {
    let name = key.to_string();
    directory.join(name.get(..2).unwrap_or_default()).join(&name)
}

fn length_of(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
