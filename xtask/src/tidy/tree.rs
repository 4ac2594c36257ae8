//! The files of the repository, as git sees them: committed, or about to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};

/// Endings of the files whose text is checked. Data, vectors and images are not prose or code of ours.
const TEXT_ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".sql", ".sh", ".yml", ".yaml"];
/// Files without an ending that are text.
const TEXT_FILES: &[&str] = &[".ci/run", ".gitignore", "LICENSE", "pages/Cargo.lock"];

/// Every path of the repository, and the contents of those that are text. Paths are relative and use `/`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the working tree: tracked files and new ones that are not ignored.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("git did not start")?;
        ensure!(
            output.status.success(),
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
        let mut tree = Self::default();
        for path in listing.split_terminator('\0') {
            let file = root.join(path);
            // A tracked file may be deleted in the working tree.
            if !file.is_file() {
                continue;
            }
            if is_text(path) {
                let text = fs::read_to_string(&file).with_context(|| format!("{path} cannot be read as text"))?;
                tree.texts.insert(path.to_owned(), text);
            }
            tree.paths.insert(path.to_owned());
        }
        Ok(tree)
    }

    /// Adds a file, or replaces it.
    pub(super) fn insert(&mut self, path: &str, text: impl Into<String>) {
        self.paths.insert(path.to_owned());
        self.texts.insert(path.to_owned(), text.into());
    }

    /// The contents of a text file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Path and contents of each text file, in order of the paths.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The path of each file, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Whether a file of this path exists, or a folder with files in it. The empty path is the root.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty() || self.paths.contains(path) || self.paths.iter().any(|file| file.starts_with(&folder))
    }
}

fn is_text(path: &str) -> bool {
    TEXT_FILES.contains(&path) || TEXT_ENDINGS.iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.insert(path, text);
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_if_a_file_is_in_it() {
        let tree = Tree::from([("docs/adr/0001-x.md", "")]);
        assert!(tree.has("docs/adr") && tree.has("docs/adr/0001-x.md") && tree.has(""));
        assert!(!tree.has("docs/ad"));
    }

    #[test]
    fn data_is_not_text() {
        assert!(is_text("crates/synckit/src/main.rs") && is_text(".ci/run"));
        assert!(!is_text("vectors/batch.json") && !is_text("examples/zone1970.tab"));
    }
}
