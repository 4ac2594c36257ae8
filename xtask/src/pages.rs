//! `cargo xtask pages`: compiles what the pages compute: the client's side of OPAQUE, and vaults.
//!
//! The result is checked in, so that nobody needs the target to build the server. `tidy` notices when it is older than its
//! sources.

use std::{fs, process::Command};

use anyhow::{Context as _, ensure};

use crate::{cargo, repository_root, tidy};

const TARGET: &str = "wasm32-unknown-unknown";

pub(crate) fn run() -> anyhow::Result<bool> {
    let root = repository_root()?;
    // Where rustup manages the compiler. Elsewhere the target is there, or the build says so.
    let _ = Command::new("rustup").args(["target", "add", TARGET]).status();
    let manifest = root.join("pages/Cargo.toml");
    let built = cargo()?
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
            "target/pages",
            "--manifest-path",
        ])
        .arg(&manifest)
        // The paths of this machine are no part of the result.
        .env("RUSTFLAGS", format!("--remap-path-prefix={}=.", root.display()))
        .status()
        .context("cargo did not start")?;
    ensure!(built.success(), "what the pages compute was not compiled");
    let compiled = root
        .join("target/pages")
        .join(TARGET)
        .join("release/synckit_pages.wasm");
    fs::copy(&compiled, root.join("crates/synckit-server/assets/opaque.wasm")).context("the compiled file")?;
    tidy::record_pages()?;
    Ok(true)
}
