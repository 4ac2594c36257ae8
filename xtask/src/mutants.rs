//! `cargo xtask mutants`: changes the code one place at a time, and shows which changes no test notices.
//!
//! `.cargo/mutants.toml` explains every change that makes no difference. A whole run takes hours, so it is no part of
//! `cargo xtask test`. Arguments replace the list of files: `-- -f crates/synckit-crypto/src/vault.rs`.

use std::{env, ffi::OsString, process::Command};

use anyhow::{Context as _, bail};

use crate::{cargo, repository_root};

/// The version whose mutants `.cargo/mutants.toml` explains.
const VERSION: &str = "27.1.0";

/// The packages whose tests must notice a change of their code.
const PACKAGES: &[&str] = &["synckit-crypto", "synckit-login", "synckit-protocol"];

/// The changed files: those that decide about keys, seals and history.
const FILES: &[&str] = &[
    "crates/synckit-crypto/src/**",
    "crates/synckit-login/src/**",
    "crates/synckit-protocol/src/chain.rs",
    "crates/synckit-protocol/src/cursor.rs",
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
    let mut command = Command::new(&program);
    command.current_dir(repository_root()?);
    command.args(["mutants", "--jobs", "1", "--output", "target"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    if arguments.is_empty() {
        command.args(FILES.iter().flat_map(|file| ["--file", file]));
    }
    // The documentation's examples notice nothing that the tests do not, and double the time.
    command.args(arguments).args(["--", "--lib", "--test", "it"]);
    let status = command.status().context("cargo-mutants did not start")?;
    Ok(status.success())
}
