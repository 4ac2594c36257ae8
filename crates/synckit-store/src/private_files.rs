//! Files and directories that only the server's own user may read.
//!
//! On systems without Unix permissions, files inherit the permissions of their directory; the operator must keep the
//! data directory private.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

/// The most that a key file may hold. A larger one is not a key file.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Creates a directory of mode 0700, and its parents as the system does by default. An existing one is not changed.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Opens a new file of mode 0600 for writing; fails if it exists.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    private(fs::OpenOptions::new().write(true).create_new(true)).open(path)
}

/// Opens a file for its lock; creates it with mode 0600.
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    private(fs::OpenOptions::new().write(true).create(true).truncate(false)).open(path)
}

/// A file that is created gets the mode 0600.
fn private(options: &mut fs::OpenOptions) -> &fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Writes a whole file of mode 0600 durably: after a crash the old or the new file is complete, never half of one.
pub fn write_private_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let suffix = rand::random::<u64>();
    let temporary = path.with_extension(format!("{suffix:016x}.new"));
    let written = (|| {
        let mut file = create_private_file(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(directory)
    })();
    if written.is_err() {
        // The first error is the one to report; a leftover is named so that nobody takes it for a key.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

/// Why a private file was not read.
#[derive(Debug)]
pub enum PrivateRead {
    /// Here it is.
    Contents(Zeroizing<Vec<u8>>),
    /// The file does not exist.
    Absent,
    /// Others than its owner may read or write it.
    Exposed {
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a small secret file, unless others than its owner can get at it.
pub fn read_private_file(path: &Path) -> io::Result<PrivateRead> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PrivateRead::Absent),
        other => other?,
    };
    #[cfg(unix)]
    {
        // The open file is asked, not the path, so that it cannot be exchanged in between.
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o7777;
        if mode & 0o077 != 0 {
            return Ok(PrivateRead::Exposed { mode });
        }
    }
    let mut contents = Zeroizing::new(Vec::with_capacity(1024));
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is too large to be a key file",
        ));
    }
    Ok(PrivateRead::Contents(contents))
}
