//! The `synckit` program whose server is measured: the one that operators install, in a process of its own.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The program that was named; else, under cargo, the one that cargo builds from these sources; else the one beside this
/// program.
pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let program = match (named, env::var_os("CARGO")) {
        (Some(named), _) => named.to_owned(),
        (None, Some(cargo)) => build(&cargo)?,
        (None, None) => env::current_exe()?.with_file_name(format!("synckit{}", env::consts::EXE_SUFFIX)),
    };
    ensure!(program.is_file(), "there is no {}", program.display());
    // A relative path would be looked for along PATH.
    Ok(std::path::absolute(program)?)
}

fn build(cargo: &OsStr) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]);
    if cfg!(debug_assertions) {
        // As the tests were built, so that nothing is built twice.
        command.arg("--workspace");
    } else {
        // Together with this package, so that shared crates are built once, and without features that only other
        // packages enable.
        command.args(["-p", "synckit", "-p", "synckit-bench"]);
    }
    command
        .args(["--bin", "synckit", "--message-format=json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().context("cargo did not start")?;
    ensure!(output.status.success(), "synckit cannot be built");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == "synckit")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not say where synckit is")
}
