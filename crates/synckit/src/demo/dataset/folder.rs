//! A folder as a dataset: its files, in all folders below it.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::DatasetFile;

/// Every regular file below `root`, in order of their paths, and the skipped entries. Links are not followed: they may
/// lead out of the folder, or form a circle.
pub(super) fn walk(root: &Path) -> anyhow::Result<(Vec<DatasetFile>, Vec<String>)> {
    let mut files = Vec::new();
    let mut left_out = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(DatasetFile::of(&entry.path(), root)?);
            } else {
                left_out.push(format!("{}: neither a file nor a folder", entry.path().display()));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    left_out.sort();
    Ok((files, left_out))
}
