//! Owners and permissions of the files in a data directory.

use std::{fs, io, path::PathBuf};

use synckit_server::inspect::Inspection;

use super::Report;
use crate::{
    exposure::{named, private_files, readable_by_others},
    system,
};

const CHECK: &str = "directory";

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
    let is_of_others =
        |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|metadata| system::owner(&metadata) != owner);
    let of_others: Vec<_> = private_files(inspection).into_iter().filter(is_of_others).collect();
    let open = readable_by_others(inspection);
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
