//! How a database and the directory of objects agree.

use std::{
    collections::HashMap,
    fs, io,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
};

use synckit_protocol::{ObjectKey, SealedHash};

use crate::{
    StoreError,
    objects::hash_of_file,
    records::{Executor, params},
};

/// Objects that one step compares.
const OBJECTS_AT_ONCE: u64 = 500_000;
/// Objects that a sample compares, about.
const OBJECTS_SAMPLED: u64 = 10_000;
/// Objects that a survey names.
const EXAMPLES_MAX: usize = 5;
/// Directories that objects are spread over by the first byte of their keys.
const SHARDS: u64 = 256;

/// Which objects a survey compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectExtent {
    /// All if they are few, or else some thousands.
    Sample,
    /// All, with the hash of every one: reads every file.
    All,
}

/// How the database and the directory of objects agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectSurvey {
    /// Objects that the database knows.
    pub known: u64,
    /// Those that were compared.
    pub compared: u64,
    /// Compared ones whose file is missing.
    pub missing: u64,
    /// Compared ones whose file has another size.
    pub wrong_size: u64,
    /// Compared ones of the right size whose bytes are not those that were stored. Only where all are compared.
    pub rotten: u64,
    /// Files that the database does not know.
    pub orphaned: u64,
    /// The bytes of those.
    pub orphaned_bytes: u64,
    /// Some of the objects that are missing or have another size.
    pub examples: Vec<ObjectKey>,
}

/// The state of a survey of objects.
#[derive(Debug)]
pub(crate) struct ObjectWalk<'a> {
    pub(crate) survey: ObjectSurvey,
    directory: &'a Path,
    extent: ObjectExtent,
    /// The shards that are left, and how many a step takes.
    left: Range<u64>,
    at_once: u64,
}

impl<'a> ObjectWalk<'a> {
    /// Counts the objects that the database knows.
    pub(crate) async fn begin(
        db: &impl Executor,
        directory: &'a Path,
        extent: ObjectExtent,
    ) -> Result<Self, StoreError> {
        let row = db
            .query_one(
                "SELECT (SELECT count(*) FROM blobs) + (SELECT count(*) FROM uploads)
                     + (SELECT count(*) FROM condemned_objects)",
                &[],
            )
            .await?;
        let known: u64 = row.map_or(Ok(0), |row| row.get(0))?;
        let shards_of = |objects: u64| (SHARDS * objects / known.max(1)).clamp(1, SHARDS);
        let (left, at_once) = match extent {
            ObjectExtent::All => (0..SHARDS, shards_of(OBJECTS_AT_ONCE)),
            ObjectExtent::Sample => {
                let shards = shards_of(OBJECTS_SAMPLED);
                // Keys are random, so any directory is as good a sample as another; not always the same one, though.
                let first = u64::from(rand::random::<u8>()) % (SHARDS - shards + 1);
                (first..first + shards, shards)
            }
        };
        Ok(Self {
            survey: ObjectSurvey {
                known,
                ..ObjectSurvey::default()
            },
            directory,
            extent,
            left,
            at_once,
        })
    }

    /// Reads about as many objects as fit into memory; `None` after the last one. Blocks its thread on the directory.
    ///
    /// Lists the files first and reads the rows second. An object that appears in between is in the rows only, so it is
    /// looked up once more before it counts as missing; one that is deleted in between is looked up before its file counts
    /// as an orphan.
    pub(crate) async fn read(&mut self, db: &impl Executor) -> Result<Option<Objects>, StoreError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let shards = self.left.start..(self.left.start + self.at_once).min(self.left.end);
        self.left.start = shards.end;
        let mut objects = Objects::default();
        for shard in shards.clone() {
            list_shard(self.directory, shard, &mut objects.files).map_err(failed)?;
        }
        objects.read(db, &shards).await?;
        Ok(Some(objects))
    }

    /// Compares objects that were read. Outside of any transaction, because hashing every file takes its time.
    pub(crate) fn compare(&mut self, mut objects: Objects) -> Result<(), StoreError> {
        for (key, size, stored) in objects.stored {
            let found = objects.files.remove(&key).or_else(|| size_of(self.directory, &key));
            self.survey.compared += 1;
            match found {
                Some(found) if found == size => {
                    if self.extent == ObjectExtent::Sample || is_whole(self.directory, &key, stored)? {
                        continue;
                    }
                    self.survey.rotten += 1;
                }
                Some(_) => self.survey.wrong_size += 1,
                None => self.survey.missing += 1,
            }
            if self.survey.examples.len() < EXAMPLES_MAX {
                self.survey.examples.push(key);
            }
        }
        for (key, size) in objects.files {
            if size_of(self.directory, &key).is_some() {
                self.survey.orphaned += 1;
                self.survey.orphaned_bytes += size;
            }
        }
        Ok(())
    }
}

/// Some of the objects, as the directory and the database have them.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Files whose names are keys, with their sizes; once the rows are read, without those of uploads and of deleted blobs.
    files: HashMap<ObjectKey, u64>,
    /// The objects of blobs.
    stored: Vec<(ObjectKey, u64, SealedHash)>,
}

impl Objects {
    async fn read(&mut self, db: &impl Executor, shards: &Range<u64>) -> Result<(), StoreError> {
        let byte = |shard: u64| [u8::try_from(shard).unwrap_or(u8::MAX)];
        let (first, last) = (byte(shards.start), byte(shards.end - 1));
        let bounds = params![&first, &last];
        db.each(
            "SELECT object_key, size_bytes, sealed_hash FROM blobs WHERE substr(object_key, 1, 1) BETWEEN $1 AND $2",
            bounds,
            &mut |row| {
                self.stored.push((row.get(0)?, row.get(1)?, row.get(2)?));
                Ok(ControlFlow::Continue(()))
            },
        )
        .await?;
        db.each(
            "SELECT object_key FROM uploads WHERE substr(object_key, 1, 1) BETWEEN $1 AND $2
             UNION ALL SELECT object_key FROM condemned_objects WHERE substr(object_key, 1, 1) BETWEEN $1 AND $2",
            bounds,
            &mut |row| {
                self.files.remove(&row.get(0)?);
                Ok(ControlFlow::Continue(()))
            },
        )
        .await
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

/// The names of a shard's directory that are keys of the shard, with the sizes of their files. A directory is made with its
/// first object.
fn list_shard(directory: &Path, shard: u64, files: &mut HashMap<ObjectKey, u64>) -> io::Result<()> {
    let entries = match fs::read_dir(directory.join(format!("{shard:02x}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let key: Option<ObjectKey> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // Nobody finds an object in another directory than its own.
        let key = key.filter(|key| key.as_bytes().first().copied().map(u64::from) == Some(shard));
        // A file that went in the meantime is none.
        if let (Some(key), Ok(metadata)) = (key, entry.metadata()) {
            files.insert(key, metadata.len());
        }
    }
    Ok(())
}

/// Whether an object has the bytes that were stored. One that cannot be read has not, and one that was removed meanwhile is
/// no business of a survey.
fn is_whole(directory: &Path, key: &ObjectKey, stored: SealedHash) -> Result<bool, StoreError> {
    match hash_of_file(&path_of(directory, key)) {
        Ok(found) => Ok(found == stored),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // The disk can no longer read the file.
        Err(error) if error.raw_os_error().is_some() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn path_of(directory: &Path, key: &ObjectKey) -> PathBuf {
    let name = key.to_string();
    directory.join(name.get(..2).unwrap_or_default()).join(&name)
}

fn size_of(directory: &Path, key: &ObjectKey) -> Option<u64> {
    fs::metadata(path_of(directory, key))
        .ok()
        .map(|metadata| metadata.len())
}
