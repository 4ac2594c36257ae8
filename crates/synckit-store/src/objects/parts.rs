//! The parts of unfinished uploads in the directory of objects.
//!
//! A part appears whole and durably, like an object. Its file ends with its hash, so that a list of parts reads no part.
//! Joining copies them into an object, and compares its hash with the one that the client named.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use synckit_protocol::{ObjectKey, Parts, SealedHash, SealedHasher, limits::UPLOAD_PARTS_MAX};

use super::{Flush, ObjectDirectory, ObjectError, ObjectWriter, Place, READ_BYTES, WrittenObject, on_disk};
use crate::{TaskLost, private_files::create_private_file};

/// The hash at the end of a part's file.
const HASH_BYTES: u64 = 32;

/// A part that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPart {
    /// Its number, from 1.
    pub number: u32,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub hash: SealedHash,
}

/// The hash of an object from these parts; `None` unless they are all of its parts, in their order, each of its size.
pub(super) fn hash_of_parts(size: u64, found: &[StoredPart]) -> Option<SealedHash> {
    let parts = Parts::of(size)?;
    let are_all = found.len() as u64 == parts.count()
        && found
            .iter()
            .zip(1..)
            .all(|(part, number)| part.number == number && parts.size_of(number) == Some(part.size));
    are_all.then(|| SealedHasher::of_parts(found.iter().map(|part| part.hash)))
}

impl ObjectDirectory {
    /// Begins to write a part of exactly `size` bytes, with this hash.
    pub async fn write_part(
        &self,
        key: ObjectKey,
        number: u32,
        size: u64,
        hash: SealedHash,
    ) -> Result<ObjectWriter, ObjectError> {
        self.begin(Place::Part(key, number), size, Some(hash)).await
    }

    /// The parts of an object that have arrived, in order.
    pub async fn parts(&self, key: ObjectKey) -> io::Result<Vec<StoredPart>> {
        let directory = self.parts_path(key);
        on_disk(move || list(&directory)).await
    }

    /// Makes an object of its parts, if they are there and have this hash. `false` if not; `true` also if the object is there.
    ///
    /// `room` reserves as much of the disk as the object takes. It is called only if there is something to copy, when it is
    /// the turn of this object: others could reserve nothing while it waits.
    pub async fn join_parts<R>(
        &self,
        key: ObjectKey,
        (size, hash): (u64, SealedHash),
        room: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Result<bool, ObjectError> {
        let turn = Arc::clone(&self.joining).lock_owned().await;
        let this = self.clone();
        // It goes on if the request ends, and the next one finds the object.
        let joining = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            this.join_now(key, (size, hash), room)
        });
        joining.await.map_err(|error| io::Error::other(TaskLost::from(error)))?
    }

    fn join_now<R>(
        &self,
        key: ObjectKey,
        (size, hash): (u64, SealedHash),
        room: impl FnOnce() -> io::Result<R>,
    ) -> Result<bool, ObjectError> {
        let target = self.path(key);
        if target.try_exists()? {
            return Ok(true);
        }
        let directory = self.parts_path(key);
        let parts = list(&directory)?;
        if hash_of_parts(size, &parts) != Some(hash) {
            return Ok(false);
        }
        let _room = room()?;
        let incoming = self.new_incoming();
        let mut file = create_private_file(&incoming.path)?;
        let (mut found, mut flush) = (SealedHasher::new(size), Flush::default());
        let (mut piece, mut written) = (vec![0; READ_BYTES], 0);
        for part in parts {
            let Some(from) = open_if_there(&directory.join(part.number.to_string()))? else {
                // They were swept meanwhile.
                return Ok(false);
            };
            let mut from = from.take(part.size);
            loop {
                let length = from.read(&mut piece)?;
                let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else {
                    break;
                };
                file.write_all(read)?;
                found.update(read);
                written += length as u64;
                flush.after(&file, written)?;
            }
        }
        flush.end()?;
        if written != size || found.finish() != hash {
            // The disk has not kept a part.
            return Ok(false);
        }
        file.sync_all()?;
        let joined = WrittenObject {
            incoming,
            target,
            place: Place::Object(key),
            hash,
            directory: self.clone(),
        };
        joined.publish_now()?;
        Ok(true)
    }

    /// Removes the parts of an object. Succeeds if there are none.
    pub async fn remove_parts(&self, key: ObjectKey) -> io::Result<()> {
        let this = self.clone();
        on_disk(move || this.remove_parts_now(key)).await
    }

    pub(super) fn remove_parts_now(&self, key: ObjectKey) -> io::Result<()> {
        let directory = self.parts_path(key);
        // A part may appear while the others are removed. There are only so many.
        for _ in 0..UPLOAD_PARTS_MAX {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                other => return other,
            }
        }
        fs::remove_dir_all(&directory)
    }

    pub(super) fn parts_path(&self, key: ObjectKey) -> PathBuf {
        self.root.join("parts").join(key.to_string())
    }
}

/// `None` where there is no file, or none any more: the sweep or another confirmation may remove parts at any time.
fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn list(directory: &Path) -> io::Result<Vec<StoredPart>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut parts = Vec::new();
    for entry in entries {
        let entry = entry?;
        let number: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        let Some(mut file) = open_if_there(&entry.path())? else {
            continue;
        };
        let Some(size) = file.metadata()?.len().checked_sub(HASH_BYTES) else {
            continue;
        };
        let mut hash = [0; HASH_BYTES as usize];
        file.seek(SeekFrom::Start(size))?;
        file.read_exact(&mut hash)?;
        parts.push(StoredPart {
            number,
            size,
            hash: SealedHash::from_bytes(hash),
        });
    }
    parts.sort_unstable_by_key(|part| part.number);
    Ok(parts)
}
