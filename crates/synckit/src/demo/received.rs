//! Received files of a device: their paths, and their comparison with the sent files.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufReader, Read as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use synckit_client::BlobHash;

use super::dataset::{Cell, DatasetFile, Row};

/// The path below the device's folder, and the hash, of a file's row.
pub(super) fn file_of(row: &Row) -> anyhow::Result<(PathBuf, BlobHash)> {
    match row.cells.as_slice() {
        [Cell::Text(name), _, Cell::Text(hash), ..] => Ok((local_path(name)?, std::str::from_utf8(hash)?.parse()?)),
        _ => bail!("the row {} is not that of a file", row.id),
    }
}

/// A path below the device's folder. Another device of the same user sent it, and that device may be broken.
pub(super) fn local_path(name: &[u8]) -> anyhow::Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        let part = os_string(part)?;
        let mut components = Path::new(&part).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(only)), None) if only == part => path.push(part),
            _ => bail!("{} is not the path of a file", String::from_utf8_lossy(name)),
        }
    }
    Ok(path)
}

#[cfg(unix)]
fn os_string(name: &[u8]) -> anyhow::Result<OsString> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(name.to_vec()))
}

#[cfg(not(unix))]
fn os_string(name: &[u8]) -> anyhow::Result<OsString> {
    Ok(std::str::from_utf8(name)
        .context("a file name that this system does not have")?
        .into())
}

/// The first file that is missing or differs.
pub(super) fn first_difference(files: &[DatasetFile], received: &Path) -> anyhow::Result<Option<String>> {
    for file in files {
        let path = received.join(local_path(&file.name)?);
        if !path.is_file() {
            return Ok(Some(format!("the file {} is missing", file.shown_name())));
        }
        let open = |path: &Path| File::open(path).with_context(|| format!("cannot read {}", path.display()));
        if !same_bytes(BufReader::new(open(&file.path)?), BufReader::new(open(&path)?))? {
            return Ok(Some(format!("the file {} has other bytes", file.shown_name())));
        }
    }
    Ok(None)
}

fn same_bytes(mut a: BufReader<File>, mut b: BufReader<File>) -> anyhow::Result<bool> {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    loop {
        of_a.clear();
        of_b.clear();
        a.by_ref().take(1 << 20).read_to_end(&mut of_a)?;
        b.by_ref().take(1 << 20).read_to_end(&mut of_b)?;
        if of_a != of_b {
            return Ok(false);
        }
        if of_a.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_the_folder() {
        for name in ["", "/etc/passwd", "..", "a/../../b", ".", "a//b", "a/b/", "a/./b"] {
            assert!(local_path(name.as_bytes()).is_err(), "{name}");
        }
        assert_eq!(local_path(b"a/b.txt").unwrap(), Path::new("a").join("b.txt"));
    }

    #[test]
    fn changed_and_missing_files_are_named() {
        let (sent, received) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let content = vec![7; (2 << 20) + 1];
        let path = sent.path().join("file");
        std::fs::write(&path, &content).unwrap();
        let file = DatasetFile {
            path,
            name: b"file".to_vec(),
            size: content.len() as u64,
            modified_us: 0,
        };
        let difference = || first_difference(std::slice::from_ref(&file), received.path()).unwrap();
        assert_eq!(difference().as_deref(), Some("the file file is missing"));
        let copy = received.path().join("file");
        std::fs::write(&copy, &content).unwrap();
        assert_eq!(difference(), None);
        for changed in [
            [&content[..content.len() - 1], &[8]].concat(),
            content[1..].to_vec(),
            [&content[..], &[7]].concat(),
        ] {
            std::fs::write(&copy, changed).unwrap();
            assert_eq!(difference().as_deref(), Some("the file file has other bytes"));
        }
    }
}
