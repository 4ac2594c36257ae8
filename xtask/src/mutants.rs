//! `cargo xtask mutants`: changes the code one place at a time, and shows which changes no test notices.
//!
//! `.cargo/mutants.toml` explains every change that makes no difference. A whole run takes hours, so it is no part of
//! `cargo xtask test`. Arguments replace the list of files: `-- -f crates/synckit-crypto/src/vault.rs`.

use std::{env, ffi::OsString, fs, process::Command};

use anyhow::{Context as _, bail};

use crate::{cargo, repository_root};

/// The version whose mutants `.cargo/mutants.toml` explains.
const VERSION: &str = "27.1.0";

/// Its exit code when the tests never ended after a change, whether or not others survived.
const TIMED_OUT: i32 = 3;

/// Files that decide about keys, seals, history and rows, the packages that they belong to, and the tests of these
/// packages that must notice a change.
struct Part {
    packages: &'static [&'static str],
    files: &'static [&'static str],
    tests: &'static [&'static str],
}

const PARTS: &[Part] = &[
    Part {
        packages: &["synckit-crypto", "synckit-login", "synckit-protocol"],
        files: &[
            "crates/synckit-crypto/src/**",
            "crates/synckit-login/src/**",
            "crates/synckit-protocol/src/cbor.rs",
            "crates/synckit-protocol/src/chain.rs",
            "crates/synckit-protocol/src/cursor.rs",
            "crates/synckit-protocol/src/name.rs",
            "crates/synckit-protocol/src/vault.rs",
        ],
        // The documentation's examples notice nothing that the tests do not, and double the time.
        tests: &["--lib", "--test", "it"],
    },
    Part {
        packages: &["synckit-client"],
        files: &["crates/synckit-client/src/history/**"],
        // The others need a server, and minutes for each change.
        tests: &["--lib"],
    },
    Part {
        packages: &["synckit-store"],
        files: &["crates/synckit-store/src/rules/**"],
        // They need no database.
        tests: &["--lib", "--test", "it", "--", "rules::"],
    },
    Part {
        packages: &["synckit-sqlite"],
        files: &["crates/synckit-sqlite/src/merge/**"],
        // Without a server and without Python.
        tests: &[
            "--test",
            "it",
            "--",
            "merge::",
            "model::",
            "properties::",
            "refused::",
            "vectors::",
        ],
    },
];

/// Installs cargo-mutants into `target/tools` if it is missing there, and runs it. `Ok(false)`: a mutant survived.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<bool> {
    let tools = repository_root()?.join("target/tools");
    let program = tools
        .join("bin")
        .join(format!("cargo-mutants{}", env::consts::EXE_SUFFIX));
    let installed = Command::new(&program).args(["mutants", "--version"]).output();
    let is_current = installed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim().ends_with(VERSION));
    if !is_current {
        eprintln!("xtask: installing cargo-mutants {VERSION}");
        let mut install = cargo()?;
        install
            .args(["install", "cargo-mutants", "--locked", "--debug", "--force", "--quiet"])
            .args(["--version", VERSION])
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(tools.join("target"));
        let status = install.status().context("cargo did not start")?;
        if !status.success() {
            bail!("cargo-mutants {VERSION} could not be installed");
        }
    }
    let survivors = repository_root()?.join("target/mutants.out/missed.txt");
    let mut is_noticed = true;
    for part in PARTS {
        let mut command = Command::new(&program);
        command.current_dir(repository_root()?);
        command.args(["mutants", "--jobs", "1", "--output", "target"]);
        command.args(part.packages.iter().flat_map(|package| ["--package", package]));
        if arguments.is_empty() {
            command.args(part.files.iter().flat_map(|file| ["--file", file]));
        }
        command.args(arguments).arg("--").args(part.tests);
        let status = command.status().context("cargo-mutants did not start")?;
        let survivors = fs::read_to_string(&survivors).ok();
        is_noticed &= noticed(status.code(), survivors.as_deref());
    }
    Ok(is_noticed)
}

/// Whether every change was noticed, by how cargo-mutants ended and its list of survivors. A change that makes a loop endless
/// is noticed.
fn noticed(code: Option<i32>, survivors: Option<&str>) -> bool {
    match code {
        Some(TIMED_OUT) => survivors.is_some_and(str::is_empty),
        code => code == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::{TIMED_OUT, noticed};

    #[test]
    fn endless_tests_notice_a_change() {
        let cases = [
            (Some(0), None, true),
            (Some(2), Some("a.rs:1: replace a -> bool with true\n"), false),
            (Some(TIMED_OUT), Some(""), true),
            (Some(TIMED_OUT), Some("a.rs:1: replace a -> bool with true\n"), false),
            (Some(TIMED_OUT), None, false),
            (None, Some(""), false),
        ];
        for (code, survivors, is_noticed) in cases {
            assert_eq!(noticed(code, survivors), is_noticed, "{code:?} {survivors:?}");
        }
    }
}
