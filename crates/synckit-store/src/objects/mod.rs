//! Objects: the sealed bytes of blobs, in a directory of this machine or in a [`Bucket`].
//!
//! The directory has them as `blobs/<first byte of the key>/<key>`, in hexadecimal.
//! An upload is written to `blobs/incoming/` and appears under its key only when it is whole and on disk. A hard link
//! makes it appear, because a link, unlike a rename, never replaces a file.

use std::{
    fs::{self, File},
    io::{self, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use synckit_protocol::{ObjectKey, SealedHash};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    runtime::Handle,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::io::ReaderStream;

use self::hashes::RecentHashes;
use crate::{
    TaskLost,
    private_files::{create_private_dir, create_private_file, sync_dir},
};

mod bucket;
mod bucket_address;
mod copy;
mod hashes;
mod range;

pub use bucket::{Bucket, BucketAccess, BucketCheckError, BucketError, BucketKeys, BucketObject};
pub use bucket_address::{BucketAddress, BucketAddressError};
pub use copy::{ObjectCopy, copy_object, remove_other_objects, sync_objects};
pub use hashes::hash_of_file;
pub use range::{ByteRange, RangeError};

/// Bytes that are read from the disk at a time.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of an object after which its file is flushed.
const FLUSH_BYTES: u64 = 16 * 1024 * 1024;
/// Pieces that wait for the disk. A piece is one read from the connection, also at most 256 KiB.
const PIECES_WAITING_MAX: usize = 4;

/// A directory of objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectDirectory {
    root: PathBuf,
    /// Of the objects that were written last: a confirmation follows, and wants them.
    hashes: Arc<RecentHashes>,
}

/// The failures of an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// An object under this key exists.
    #[error("the object already exists")]
    Exists,
    /// The number of bytes is not the signed one.
    #[error("the upload is not as long as the signed length")]
    Length,
    /// The bytes are not the signed ones.
    #[error("the upload has not the signed hash")]
    Hash,
    /// The disk is full.
    #[error("the disk is full")]
    Full(#[source] io::Error),
    /// The disk failed.
    #[error("the directory of objects failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ObjectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

impl ObjectDirectory {
    /// Opens the directory, and removes unfinished uploads of an earlier run. Only the process that serves may call this:
    /// it removes the running uploads of any other.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let this = Self {
            root,
            hashes: Arc::default(),
        };
        create_private_dir(&this.root)?;
        create_private_dir(&this.incoming())?;
        for entry in fs::read_dir(this.incoming())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(this)
    }

    /// The size of an object; `None` if it does not exist.
    pub async fn size(&self, key: ObjectKey) -> io::Result<Option<u64>> {
        match tokio::fs::metadata(self.path(key)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// SHA-256 of an object; `None` if it does not exist. Reads it, unless it was written a short while ago.
    pub async fn hash(&self, key: ObjectKey) -> io::Result<Option<SealedHash>> {
        if let Some(hash) = self.hashes.of(&key) {
            return Ok(Some(hash));
        }
        let path = self.path(key);
        on_disk(move || match hash_of_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            hash => hash.map(Some),
        })
        .await
    }

    /// Opens an object; `None` if it does not exist.
    pub async fn read(&self, key: ObjectKey) -> io::Result<Option<StoredObject>> {
        let path = self.path(key);
        on_disk(move || {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let size = file.metadata()?.len();
            Ok(Some(StoredObject { file, size }))
        })
        .await
    }

    /// Begins to write an object of exactly `size` bytes, with this hash if one is given.
    pub async fn write(
        &self,
        key: ObjectKey,
        size: u64,
        expected: Option<SealedHash>,
    ) -> Result<ObjectWriter, ObjectError> {
        if self.size(key).await?.is_some() {
            return Err(ObjectError::Exists);
        }
        let suffix = rand::random::<u64>();
        let incoming = Incoming {
            path: self.incoming().join(format!("{key}.{suffix:016x}")),
        };
        let target = self.path(key);
        let written_bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written_bytes);
        let hashes = Arc::clone(&self.hashes);
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES_WAITING_MAX);
        // One thread for the whole upload: handing every piece to the pool on its own costs more than writing it.
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = create_private_file(&incoming.path)?;
            let mut written = 0_u64;
            let mut hash = Sha256::new();
            let mut flush = Flush::default();
            while let Some(piece) = waiting.blocking_recv() {
                written += piece.len() as u64;
                if written > size {
                    return Err(ObjectError::Length);
                }
                file.write_all(&piece)?;
                hash.update(&piece);
                counter.store(written, Ordering::Relaxed);
                flush.after(&file, written)?;
            }
            if written != size {
                return Err(ObjectError::Length);
            }
            let hash = SealedHash::from_bytes(hash.finalize().into());
            if expected.is_some_and(|expected| expected != hash) {
                return Err(ObjectError::Hash);
            }
            flush.end()?;
            file.sync_all()?;
            Ok(WrittenObject {
                incoming,
                target,
                key,
                hash,
                hashes,
            })
        });
        Ok(ObjectWriter {
            pieces,
            size,
            written: written_bytes,
            writing,
        })
    }

    /// Removes an object. Succeeds if it does not exist.
    pub async fn remove(&self, key: ObjectKey) -> io::Result<()> {
        match tokio::fs::remove_file(self.path(key)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    fn path(&self, key: ObjectKey) -> PathBuf {
        let name = key.to_string();
        self.root.join(&name[..2]).join(name)
    }
}

/// An object that is open for reading.
#[derive(Debug)]
pub struct StoredObject {
    file: File,
    /// Its size in bytes.
    pub size: u64,
}

impl StoredObject {
    /// Reads a part of the object, piece by piece, as fast as the pieces are taken. `held` is dropped after the
    /// last piece, or with the stream.
    pub async fn pieces(
        self,
        part: ByteRange,
        held: impl Send + 'static,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>>> {
        let mut file = tokio::fs::File::from_std(self.file);
        file.seek(SeekFrom::Start(part.start)).await?;
        let pieces = ReaderStream::with_capacity(file.take(part.length), READ_BYTES);
        Ok(pieces.map(move |piece| {
            let _held = &held;
            piece
        }))
    }
}

/// An object that is being written. Dropped before [`ObjectWriter::finish`], it leaves no file behind.
#[derive(Debug)]
pub struct ObjectWriter {
    pieces: mpsc::Sender<Bytes>,
    size: u64,
    /// Bytes that are in the file.
    written: Arc<AtomicU64>,
    writing: JoinHandle<Result<WrittenObject, ObjectError>>,
}

impl ObjectWriter {
    /// Writes a piece. `false` once the object has failed; [`ObjectWriter::finish`] says why.
    pub async fn put(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// The number of bytes that the file still lacks.
    pub fn missing_bytes(&self) -> u64 {
        self.size.saturating_sub(self.written.load(Ordering::Relaxed))
    }

    /// Waits until every byte is on disk. The object appears by [`WrittenObject::publish`].
    pub async fn finish(self) -> Result<WrittenObject, ObjectError> {
        drop(self.pieces);
        self.writing
            .await
            .map_err(|error| io::Error::other(TaskLost::from(error)))?
    }
}

/// An object that is whole and on disk, but not under its key yet.
#[derive(Debug)]
pub struct WrittenObject {
    incoming: Incoming,
    target: PathBuf,
    key: ObjectKey,
    hash: SealedHash,
    hashes: Arc<RecentHashes>,
}

impl WrittenObject {
    /// Makes the object appear under its key, durably.
    pub async fn publish(self) -> Result<(), ObjectError> {
        on_disk(move || {
            let directory = self.target.parent().unwrap_or(Path::new("."));
            create_private_dir(directory)?;
            fs::hard_link(&self.incoming.path, &self.target)?;
            sync_dir(directory)?;
            // The directory itself may be new.
            sync_dir(directory.parent().unwrap_or(Path::new(".")))?;
            self.hashes.remember(self.key, self.hash);
            Ok(())
        })
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ObjectError::Exists,
            _ => error.into(),
        })
    }
}

/// Brings a file to the disk while it is still being written, so that its end has little to wait for, and the disk gets
/// no burst of hundreds of megabytes that all other writers wait for.
#[derive(Debug, Default)]
struct Flush {
    /// Bytes of the file that were there when it was flushed last.
    flushed: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Flush {
    /// Begins to flush if [`FLUSH_BYTES`] were written since the last time, unless that still runs.
    fn after(&mut self, file: &File, written: u64) -> io::Result<()> {
        let is_running = self.running.as_ref().is_some_and(|flush| !flush.is_finished());
        if written - self.flushed < FLUSH_BYTES || is_running {
            return Ok(());
        }
        self.end()?;
        let file = file.try_clone()?;
        self.flushed = written;
        self.running = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the last one. A failure must be taken from here: the system reports it once for each open file, so that
    /// a later flush of the same file succeeds.
    fn end(&mut self) -> io::Result<()> {
        match self.running.take() {
            None => Ok(()),
            Some(running) => Handle::current()
                .block_on(running)
                .map_err(|error| io::Error::other(TaskLost::from(error)))?,
        }
    }
}

/// A file under `incoming/`, removed when it is dropped.
#[derive(Debug)]
struct Incoming {
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // If this fails, the next start removes the file.
        let _ = fs::remove_file(&self.path);
    }
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| io::Error::other(TaskLost::from(error)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_failed_flush_is_told() {
        // A device that cannot be flushed.
        let ended = on_disk(|| {
            let file = File::options().write(true).open("/dev/null")?;
            let mut flush = Flush::default();
            flush.after(&file, FLUSH_BYTES - 1)?;
            assert!(flush.running.is_none());
            flush.after(&file, FLUSH_BYTES)?;
            flush.end()
        });
        assert!(ended.await.is_err());
    }
}
