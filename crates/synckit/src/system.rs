//! Facts of the operating system about files, disks and this process; absent on systems without them.

use std::{io, path::Path};

/// The space of a file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// Free space for this user, in bytes.
    pub(crate) free: u64,
    /// Total space, in bytes.
    pub(crate) total: u64,
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::Metadata,
        io,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
        path::Path,
    };

    use super::Space;

    pub(crate) fn owner(metadata: &Metadata) -> Option<u32> {
        Some(metadata.uid())
    }

    pub(crate) fn mode(metadata: &Metadata) -> Option<u32> {
        Some(metadata.permissions().mode() & 0o7777)
    }

    pub(crate) fn device(metadata: &Metadata) -> Option<u64> {
        Some(metadata.dev())
    }

    pub(crate) fn this_user() -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    pub(crate) fn space(path: &Path) -> io::Result<Option<Space>> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Some(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        }))
    }

    pub(crate) fn may_write(path: &Path) -> io::Result<()> {
        Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
    }

    pub(crate) fn file_limit() -> Option<u64> {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
}

#[cfg(not(unix))]
mod other {
    use std::{fs::Metadata, io, path::Path};

    use super::Space;

    pub(crate) fn owner(_: &Metadata) -> Option<u32> {
        None
    }

    pub(crate) fn mode(_: &Metadata) -> Option<u32> {
        None
    }

    pub(crate) fn device(_: &Metadata) -> Option<u64> {
        None
    }

    pub(crate) fn this_user() -> Option<u32> {
        None
    }

    pub(crate) fn space(_: &Path) -> io::Result<Option<Space>> {
        Ok(None)
    }

    pub(crate) fn may_write(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn file_limit() -> Option<u64> {
        None
    }
}

#[cfg(not(unix))]
pub(crate) use other::{device, file_limit, may_write, mode, owner, this_user};
#[cfg(unix)]
pub(crate) use unix::{device, file_limit, may_write, mode, owner, this_user};

/// The space of the file system that contains a path.
pub(crate) fn space(path: &Path) -> io::Result<Option<Space>> {
    #[cfg(unix)]
    return unix::space(path);
    #[cfg(not(unix))]
    return other::space(path);
}
