//! Python programs that tests run: each has its own environment, created once from a list of pinned versions.
//!
//! Nothing is installed outside `target/tools`, except Debian's `venv` module if it is missing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{packages, repository_root};

/// Returns the interpreter of the environment `name`, in which everything of the file `requirements` (a path in the
/// repository, in pip's format) is installed.
///
/// An environment is made again when the file has changed, and when making it was cut off.
///
/// # Errors
///
/// Python 3 with `venv` is missing and cannot be installed, or pip failed; its output names the reason.
pub(crate) fn environment(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let root = repository_root()?;
    let requirements = root.join(requirements);
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("{} cannot be read", requirements.display()))?;
    let folder = root.join("target/tools").join(name);
    let interpreter = interpreter(&folder);
    // Written last, so that a folder without it was cut off.
    let stamp = folder.join("made-from.txt");
    if interpreter.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(interpreter);
    }

    ensure_venv()?;
    eprintln!("xtask: making the Python environment {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&interpreter)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ])
        .arg("--requirement")
        .arg(&requirements))?;
    fs::write(&stamp, wanted).with_context(|| format!("{} cannot be written", stamp.display()))?;
    Ok(interpreter)
}

fn interpreter(folder: &Path) -> PathBuf {
    if cfg!(windows) {
        folder.join("Scripts").join("python.exe")
    } else {
        folder.join("bin").join("python")
    }
}

/// Debian has Python without the part of it that makes environments.
fn ensure_venv() -> anyhow::Result<()> {
    let makes_environments = || {
        Command::new("python3")
            .args(["-c", "import ensurepip, venv"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if makes_environments() {
        return Ok(());
    }
    if cfg!(target_os = "linux") {
        packages::install(&["python3-venv"])?;
    }
    if !makes_environments() {
        bail!("the tests need a python3 with its venv module, and there is none");
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} did not start"))?;
    if !output.status.success() {
        bail!(
            "{program} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
