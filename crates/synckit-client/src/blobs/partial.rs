//! The temporary file of a download, before it appears at its path.
//!
//! A killed process leaves such a file behind, and nothing else would ever remove it. So its name contains the name of
//! the result, and its process holds a lock on it: the next download to the same path removes the files that nobody
//! locks. This is deliberately no way to resume an interrupted download: nothing of it is trusted.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// The suffix of such files.
const SUFFIX: &str = ".synckit-part";

/// A temporary file for a path: removed when dropped, or by the next download if its process is killed.
#[derive(Debug)]
pub(super) struct PartialFile {
    file: NamedTempFile,
}

impl PartialFile {
    /// Creates a file for `target`, in its directory, so that the rename is atomic; private from the moment of its
    /// creation.
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        let directory = directory_of(target);
        let prefix = prefix_of(target);
        sweep(&directory, &prefix);
        loop {
            let file = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .tempfile_in(&directory)?;
            // Between the two lines another process may have swept the new file: then it has no name any more.
            file.as_file().lock()?;
            if file.path().try_exists()? {
                return Ok(Self { file });
            }
        }
    }

    /// Renames the file to its path, whole and flushed to the disk.
    pub(super) fn publish(self, target: &Path) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(target).map_err(|error| error.error)?;
        Ok(())
    }
}

impl io::Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn directory_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Hidden, and specific to this target.
fn prefix_of(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // A name may have 255 bytes, including the random part and the suffix.
    let name: String = name.chars().take(40).collect();
    format!(".{name}.")
}

/// Removes the files of killed processes. A file that cannot be read, locked or removed stays: it harms nobody.
fn sweep(directory: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_partial = name
            .to_str()
            .is_some_and(|name| name.starts_with(prefix) && name.ends_with(SUFFIX));
        // Skip links, and pipes, whose opening would never return.
        if is_partial && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            remove_if_nobody_holds(&entry.path());
        }
    }
}

fn remove_if_nobody_holds(path: &Path) {
    let opened: io::Result<File> = OpenOptions::new().write(true).open(path);
    if let Ok(file) = opened
        && file.try_lock().is_ok()
    {
        let _ = fs::remove_file(path);
    }
}
