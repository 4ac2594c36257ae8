//! Objects: the sealed bytes of blobs, in a directory of this machine or in a [`Bucket`].
//!
//! The directory has them as `blobs/<first byte of the key>/<key>`, in hexadecimal.
//! An upload is written to `blobs/incoming/` and appears under its key only when it is whole and on disk. A hard link
//! makes it appear, because a link, unlike a rename, never replaces a file. The parts of an unfinished upload are
//! `blobs/parts/<key>/<number>`, each with its hash behind its bytes; a part that is sent again replaces the earlier one.

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
use synckit_protocol::{ObjectKey, SealedHash, SealedHasher};
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
mod bucket_parts;
mod copy;
mod hashes;
mod parts;
mod range;

pub use bucket::{Bucket, BucketAccess, BucketCheckError, BucketError, BucketKeys, BucketObject};
pub use bucket_address::{BucketAddress, BucketAddressError};
pub use bucket_parts::BucketPart;
pub use copy::{ObjectCopy, copy_object, remove_other_objects, sync_objects};
pub use hashes::hash_of_file;
pub use parts::StoredPart;
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
    /// Held while parts are joined: that writes an object as large as any, for a request of a few bytes.
    joining: Arc<tokio::sync::Mutex<()>>,
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
            joining: Arc::default(),
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
        self.begin(Place::Object(key), size, expected).await
    }

    /// Begins to write what appears at a place when it is whole.
    async fn begin(&self, place: Place, size: u64, expected: Option<SealedHash>) -> Result<ObjectWriter, ObjectError> {
        let target = self.place(place);
        if tokio::fs::try_exists(self.path(place.key())).await? {
            return Err(ObjectError::Exists);
        }
        let incoming = self.new_incoming();
        let directory = self.clone();
        let written_bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written_bytes);
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES_WAITING_MAX);
        // One thread for the whole upload: handing every piece to the pool on its own costs more than writing it.
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = create_private_file(&incoming.path)?;
            let mut written = 0_u64;
            let mut hash = SealedHasher::new(size);
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
            let hash = hash.finish();
            if expected.is_some_and(|expected| expected != hash) {
                return Err(ObjectError::Hash);
            }
            if matches!(place, Place::Part(..)) {
                file.write_all(hash.as_bytes())?;
            }
            flush.end()?;
            file.sync_all()?;
            Ok(WrittenObject {
                incoming,
                target,
                place,
                hash,
                directory,
            })
        });
        Ok(ObjectWriter {
            pieces,
            size,
            written: written_bytes,
            writing,
        })
    }

    /// Removes an object, and its parts. Succeeds if there are none.
    pub async fn remove(&self, key: ObjectKey) -> io::Result<()> {
        self.remove_parts(key).await?;
        let object = self.path(key);
        on_disk(move || parts::remove_if_there(&object)).await
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// A name in `incoming/` that no other upload has.
    fn new_incoming(&self) -> Incoming {
        Incoming {
            path: self.incoming().join(format!("{:032x}", rand::random::<u128>())),
        }
    }

    fn path(&self, key: ObjectKey) -> PathBuf {
        let name = key.to_string();
        self.root.join(&name[..2]).join(name)
    }

    fn place(&self, place: Place) -> PathBuf {
        match place {
            Place::Object(key) => self.path(key),
            Place::Part(key, number) => self.parts_path(key).join(number.to_string()),
        }
    }
}

/// Where something that is being written will appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Object(ObjectKey),
    Part(ObjectKey, u32),
}

impl Place {
    fn key(self) -> ObjectKey {
        match self {
            Self::Object(key) | Self::Part(key, _) => key,
        }
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

/// An object, or a part of one, that is whole and on disk, but not at its place yet.
#[derive(Debug)]
pub struct WrittenObject {
    incoming: Incoming,
    target: PathBuf,
    place: Place,
    hash: SealedHash,
    directory: ObjectDirectory,
}

impl WrittenObject {
    /// Makes it appear at its place, durably.
    pub async fn publish(self) -> Result<(), ObjectError> {
        let published = tokio::task::spawn_blocking(move || self.publish_now());
        published
            .await
            .map_err(|error| io::Error::other(TaskLost::from(error)))?
    }

    fn publish_now(self) -> Result<(), ObjectError> {
        let appeared = self.appear();
        match self.place {
            Place::Object(key) => {
                appeared?;
                self.directory.hashes.remember(key, self.hash);
                Ok(())
            }
            // The parts were joined while this one was written, and then removed: nobody would ever remove this one.
            Place::Part(key, _) if self.directory.path(key).try_exists()? => {
                self.directory.remove_parts_now(key)?;
                Err(ObjectError::Exists)
            }
            Place::Part(..) => appeared,
        }
    }

    fn appear(&self) -> Result<(), ObjectError> {
        let root = &self.directory.root;
        // Below the root, each of them may be new.
        let directories = || {
            let above = self.target.ancestors().skip(1);
            above.take_while(|directory| directory.starts_with(root))
        };
        let mut missing: Vec<&Path> = directories().filter(|directory| directory != root).collect();
        missing.reverse();
        missing.into_iter().try_for_each(create_private_dir)?;
        let placed = match self.place {
            Place::Object(_) => fs::hard_link(&self.incoming.path, &self.target),
            // The last one with a number counts, as in a bucket: else a part of other bytes could never be corrected.
            Place::Part(..) => fs::rename(&self.incoming.path, &self.target),
        };
        placed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ObjectError::Exists,
            _ => error.into(),
        })?;
        directories().try_for_each(sync_dir)?;
        Ok(())
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
