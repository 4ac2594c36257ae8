//! The directory of an export: its file names, its progress, and the lock against other processes.
//!
//! ```text
//! changes.jsonl, export.sqlite   the export, when complete
//! *.part                         the same file, while it grows
//! blobs/                         files by their SHA-256
//! .synckit-export.json           the progress; removed when the export is complete
//! .synckit-export.lock           locked while an export runs
//! ```
//!
//! Invariant: all data that the state file records is on the disk.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use synckit_client::{AppId, BatchId, BlobHash, BlobId, Cursor, DeviceId, SyncKitClient, UserId};

use crate::{
    cli::{ExportArgs, ExportFormat},
    failure::Failure,
};

const STATE_FILE: &str = ".synckit-export.json";
const LOCK_FILE: &str = ".synckit-export.lock";

/// The user and app whose data is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) user_id: UserId,
    pub(super) app_id: AppId,
}

/// The progress of the changes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) cursor: Cursor,
    pub(super) changes: u64,
    /// The length of the file, if the format continues by length.
    pub(super) bytes: u64,
}

impl Saved {
    pub(super) const NOTHING: Self = Self {
        cursor: Cursor::START,
        changes: 0,
        bytes: 0,
    };
}

/// The progress of the files, which the server lists by id.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct SavedBlobs {
    pub(super) after: Option<BlobId>,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Unreadable batches that the export leaves out: the first of a span, and those after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LeftOut {
    pub(super) batch_id: BatchId,
    /// The device that pushed the batch, as the server claims.
    pub(super) device_id: DeviceId,
    /// The sequence of the first change in the first batch.
    pub(super) first_seq: u64,
    /// The number of unreadable batches, including the first. Readable batches in between are exported.
    pub(super) batches: u64,
    /// The number of changes in all of them.
    pub(super) changes: u64,
    /// Why the first one is unreadable.
    pub(super) reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    owner: Owner,
    format: String,
    device_name: String,
    saved: Saved,
    left_out: Vec<LeftOut>,
    is_pulled: bool,
    blobs: SavedBlobs,
}

/// The directory before sign-in, when its owner is not known yet.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    format: ExportFormat,
    /// The state of an earlier run.
    earlier: Option<State>,
    _lock: File,
}

/// The directory during an export.
#[derive(Debug)]
pub(super) struct Progress {
    place: Place,
    state: State,
}

impl Place {
    /// Prepares the directory, and finds the state of an earlier run. Fails before the user is asked for a password.
    pub(super) fn open(args: &ExportArgs) -> Result<Self, Failure> {
        let directory = std::path::absolute(&args.out)?;
        let name = directory.display().to_string();
        create_private_directory(&directory).with_context(|| format!("cannot use the directory {name}"))?;
        let lock = open_private_file(&directory.join(LOCK_FILE))
            .with_context(|| format!("cannot write to the directory {name}"))?;
        if lock.try_lock().is_err() {
            let error = anyhow!("another export is running in {name}");
            return Err(exists(error, "wait for it, or choose another directory with --out"));
        }
        let mut place = Self {
            directory,
            format: args.format,
            earlier: None,
            _lock: lock,
        };
        if args.force {
            place.clear()?;
        }
        place.earlier = place.read_state()?;
        place.check(args)?;
        Ok(place)
    }

    fn check(&self, args: &ExportArgs) -> Result<(), Failure> {
        let directory = self.directory.display();
        match &self.earlier {
            Some(state) if state.format != format_name(args.format) => Err(exists(
                anyhow!("an export as {} was interrupted in {directory}", state.format),
                format!("continue with --format {}, or use --force to start again", state.format),
            )),
            Some(_) => Ok(()),
            None if args.force => Ok(()),
            None if self.target().exists() => Err(exists(
                anyhow!("an export exists already: {}", self.target().display()),
                "use --force to replace it, or choose another directory with --out",
            )),
            None if args.blobs && !self.exported_blobs()?.is_empty() => Err(exists(
                anyhow!("files of an export exist already: {}", self.blobs().display()),
                "use --force to replace them, or choose another directory with --out",
            )),
            None => Ok(()),
        }
    }

    /// Continues the export of the signed-in user, or starts one.
    pub(super) fn begin(mut self, owner: Owner) -> Result<Progress, Failure> {
        let state = match self.earlier.take() {
            Some(mut state) if state.owner == owner => {
                // A power cut may have come between the rename and its record.
                let was_published = state.saved.changes > 0 && !self.part().exists() && self.target().exists();
                state.is_pulled |= was_published;
                state
            }
            Some(_) => {
                let directory = self.directory.display();
                return Err(exists(
                    anyhow!("an export of another account or app was interrupted in {directory}"),
                    "choose another directory with --out, or use --force to start again",
                ));
            }
            None => {
                // A unique name: two exports at once are two devices.
                let id = SyncKitClient::new_batch_id().to_string();
                let suffix = id.get(id.len().saturating_sub(8)..).unwrap_or_default();
                State {
                    owner,
                    format: format_name(self.format).to_owned(),
                    device_name: format!("synckit export {suffix}"),
                    saved: Saved::NOTHING,
                    left_out: Vec::new(),
                    is_pulled: false,
                    blobs: SavedBlobs::default(),
                }
            }
        };
        let progress = Progress { place: self, state };
        progress.write()?;
        Ok(progress)
    }

    /// The file of the changes.
    pub(super) fn target(&self) -> PathBuf {
        self.directory.join(match self.format {
            ExportFormat::Jsonl => "changes.jsonl",
            ExportFormat::Sqlite => "export.sqlite",
        })
    }

    /// The file while it grows.
    pub(super) fn part(&self) -> PathBuf {
        with_suffix(&self.target(), ".part")
    }

    /// The directory of the files.
    pub(super) fn blobs(&self) -> PathBuf {
        self.directory.join("blobs")
    }

    /// Creates the directory of the files, without incomplete files of a killed run.
    pub(super) fn prepare_blobs(&self) -> anyhow::Result<PathBuf> {
        let directory = self.blobs();
        create_private_directory(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            // The SDK's own temporary files.
            if entry.file_name().to_string_lossy().starts_with(".tmp") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(directory)
    }

    /// Removes an earlier export. Its complete changes stay until new ones replace them.
    fn clear(&self) -> anyhow::Result<()> {
        let part = self.part();
        for path in [
            self.directory.join(STATE_FILE),
            with_suffix(&part, "-wal"),
            with_suffix(&part, "-shm"),
            part,
        ] {
            remove_if_there(&path)?;
        }
        self.exported_blobs()?.iter().try_for_each(|path| remove_if_there(path))
    }

    /// Files in `blobs/` with the names of exported files.
    fn exported_blobs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.blobs()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().parse::<BlobHash>().is_ok() {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    fn read_state(&self) -> Result<Option<State>, Failure> {
        let path = self.directory.join(STATE_FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let error = anyhow::Error::from(error).context(format!("{} is damaged", path.display()));
            Failure::new(error, "use --force to start again")
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a completed or refused export, the lock file is useless. If it cannot be removed, it blocks nobody.
        if !self.directory.join(STATE_FILE).exists() {
            let _ = fs::remove_file(self.directory.join(LOCK_FILE));
        }
    }
}

impl Progress {
    /// The name of the export's device, equal in every run that continues it.
    pub(super) fn device_name(&self) -> &str {
        &self.state.device_name
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn owner(&self) -> Owner {
        self.state.owner
    }

    /// Whether the changes are complete under their final name.
    pub(super) fn is_pulled(&self) -> bool {
        self.state.is_pulled
    }

    pub(super) fn saved(&self) -> Saved {
        self.state.saved
    }

    pub(super) fn saved_blobs(&self) -> SavedBlobs {
        self.state.blobs
    }

    /// Records the data that is on the disk.
    pub(super) fn save(&mut self, saved: Saved) -> anyhow::Result<()> {
        self.state.saved = saved;
        self.write()
    }

    /// The batches that were left out, including those of earlier runs.
    pub(super) fn left_out(&self) -> &[LeftOut] {
        &self.state.left_out
    }

    /// Records a left-out batch, once: a run that continues an earlier one may meet it again.
    pub(super) fn leave_out(&mut self, batch: LeftOut) -> anyhow::Result<()> {
        let place = (batch.first_seq, batch.batch_id);
        self.state
            .left_out
            .retain(|known| (known.first_seq, known.batch_id) != place);
        self.state.left_out.push(batch);
        self.write()
    }

    /// Records the files that are on the disk.
    pub(super) fn save_blobs(&mut self, blobs: SavedBlobs) -> anyhow::Result<()> {
        self.state.blobs = blobs;
        self.write()
    }

    /// Renames the changes to their final name.
    pub(super) fn publish(&mut self) -> anyhow::Result<()> {
        let (part, target) = (self.place.part(), self.place.target());
        fs::rename(part, &target).with_context(|| format!("cannot write {}", target.display()))?;
        sync_directory(&self.place.directory)?;
        self.state.is_pulled = true;
        self.write()
    }

    /// Marks the export as complete.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let directory = &self.place.directory;
        fs::remove_file(directory.join(STATE_FILE))?;
        Ok(sync_directory(directory)?)
    }

    /// Writes atomically: a reader finds the old state or the new one.
    fn write(&self) -> anyhow::Result<()> {
        let directory = &self.place.directory;
        let write = || -> anyhow::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(&serde_json::to_vec(&self.state)?)?;
            file.as_file().sync_all()?;
            file.persist(directory.join(STATE_FILE))?;
            Ok(())
        };
        write().with_context(|| format!("cannot write to {}", directory.display()))
    }
}

fn exists(error: anyhow::Error, hint: impl Into<String>) -> Failure {
    Failure::new(error, hint).with_code("export_exists")
}

/// The name of a format on the command line.
pub(super) const fn format_name(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::Jsonl => "jsonl",
        ExportFormat::Sqlite => "sqlite",
    }
}

/// Opens a file, or creates it for this user only.
pub(super) fn open_private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the file names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}
