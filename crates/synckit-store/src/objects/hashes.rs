//! Hashes of objects: it detects bytes that changed since they were stored.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use parking_lot::Mutex;
use synckit_protocol::{ObjectKey, SealedHash, SealedHasher};

/// Maximum number of remembered hashes.
const REMEMBERED_MAX: usize = 10_000;
/// Size of one read.
const READ_BYTES: usize = 256 * 1024;

/// The hashes of the most recently written objects.
#[derive(Debug, Default)]
pub(super) struct RecentHashes(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    hashes: HashMap<ObjectKey, SealedHash>,
    /// Oldest first.
    order: VecDeque<ObjectKey>,
}

impl RecentHashes {
    pub(super) fn of(&self, key: &ObjectKey) -> Option<SealedHash> {
        self.0.lock().hashes.get(key).copied()
    }

    pub(super) fn remember(&self, key: ObjectKey, hash: SealedHash) {
        let mut recent = self.0.lock();
        if recent.hashes.insert(key, hash).is_none() {
            recent.order.push_back(key);
        }
        if recent.order.len() > REMEMBERED_MAX
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.hashes.remove(&oldest);
        }
    }
}

/// Reads the file of an object, piece by piece, and hashes it.
///
/// # Errors
/// If it cannot be read.
pub fn hash_of_file(path: &Path) -> io::Result<SealedHash> {
    let mut file = File::open(path)?;
    let mut hash = SealedHasher::new(file.metadata()?.len());
    let mut piece = vec![0; READ_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finish()),
            length => hash.update(piece.get(..length).unwrap_or_default()),
        }
    }
}
