//! Owners and permissions of the files in a data directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use synckit_server::inspect::Inspection;

use super::Report;
use crate::system;

const CHECK: &str = "directory";
/// The most files named in a finding.
const NAMED_MAX: usize = 3;

/// Checks owners and modes; returns whether the other checks of the directory are possible.
pub(super) fn directory(inspection: &Inspection, report: &mut Report) -> bool {
    let root = inspection.root();
    let found = match fs::metadata(root) {
        Ok(metadata) if !metadata.is_dir() => Err((
            format!("{} is not a directory", root.display()),
            "name the data directory with --data-dir",
        )),
        Ok(metadata) => fs::read_dir(root).map(|_| system::owner(&metadata)).map_err(|error| {
            let owner = system::owner(&metadata);
            let whose = owner
                .map(|owner| format!(" (it belongs to the user {owner})"))
                .unwrap_or_default();
            (format!("{}{whose}: {error}", root.display()), ADVICE_OTHER_USER)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err((
            format!("no server data in {}", root.display()),
            "name the data directory with --data-dir; `synckit serve` creates a new one",
        )),
        Err(error) => Err((format!("{}: {error}", root.display()), ADVICE_OTHER_USER)),
    };
    match found {
        Ok(owner) => {
            owners_and_modes(inspection, owner, report);
            true
        }
        Err((what, advice)) => {
            report.fail(CHECK, what, advice);
            false
        }
    }
}

fn owners_and_modes(inspection: &Inspection, owner: Option<u32>, report: &mut Report) {
    let root = inspection.root();
    let mut of_others = Vec::new();
    let mut open = Vec::new();
    for path in std::iter::once(root.to_owned()).chain(private_files(inspection)) {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if system::owner(&metadata) != owner {
            of_others.push(path.clone());
        }
        if !metadata.is_symlink() && system::mode(&metadata).is_some_and(|mode| mode & 0o077 != 0) {
            open.push(path);
        }
    }
    let mut is_good = true;
    if !of_others.is_empty() {
        is_good = false;
        let owner = owner.unwrap_or_default();
        report.fail(
            CHECK,
            format_args!("files of other users than {owner}: {}", named(&of_others)),
            format!(
                "chown -R {owner} {}; run commands as that user, not as root",
                root.display()
            ),
        );
    }
    if !open.is_empty() {
        is_good = false;
        report.warn(
            CHECK,
            format_args!("other users have access to {}", named(&open)),
            format!("chmod -R go= {}", root.display()),
        );
    }
    let written = [root.to_owned(), inspection.database_path()];
    let written = written
        .into_iter()
        .chain([inspection.keys_path(), inspection.blobs_path()]);
    // Another user cannot tell whether the owner may write.
    let written =
        written.filter(|path| path.exists() && (owner == system::this_user() || system::this_user() == Some(0)));
    for path in written {
        if let Err(error) = system::may_write(&path) {
            is_good = false;
            report.fail(
                CHECK,
                format_args!("{} cannot be written: {error}", path.display()),
                "make it writable for the server's user; if the file system is read-only, read `dmesg` before you remount it",
            );
            break;
        }
    }
    if is_good {
        let whose = match (owner, system::this_user()) {
            (Some(owner), Some(this)) if owner != this => format!(", of the user {owner}"),
            _ => String::new(),
        };
        report.ok(CHECK, format_args!("{}{whose}, private", root.display()));
    }
}

const ADVICE_OTHER_USER: &str =
    "run the doctor as the user who owns the data directory, or name another one with --data-dir";

/// All files that must be private, except the objects, which are in a private directory.
fn private_files(inspection: &Inspection) -> Vec<PathBuf> {
    let root = inspection.root();
    let mut files: Vec<PathBuf> = ["synckit.db", "synckit.db-wal", "synckit.db-shm"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    files.extend([inspection.keys_path(), inspection.blobs_path(), inspection.mail_path()]);
    for directory in [inspection.keys_path(), inspection.mail_path()] {
        let entries = fs::read_dir(directory).into_iter().flatten();
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files
}

fn named(paths: &[PathBuf]) -> String {
    let mut text = paths
        .iter()
        .take(NAMED_MAX)
        .map(|path| shown(path))
        .collect::<Vec<_>>()
        .join(", ");
    if paths.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", paths.len() - NAMED_MAX));
    }
    text
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
