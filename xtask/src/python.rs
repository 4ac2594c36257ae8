//! What tests need from the Python Package Index: programs, each in an environment of its own, and files. Made once from a list of
//! pinned versions.
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
    let folder = made(name, requirements, |folder, requirements| {
        ensure_venv()?;
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(pip(&interpreter(folder)).arg("--requirement").arg(requirements))
    })?;
    Ok(interpreter(&folder))
}

/// Returns the folder `name`, into which `pip` has unpacked the packages of the file `requirements` and nothing that they
/// depend on: for files in them that are no Python.
///
/// # Errors
///
/// pip failed; its output names the reason.
pub(crate) fn unpacked(pip_of: &Path, name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    made(name, requirements, |folder, requirements| {
        let mut install = pip(pip_of);
        install.args(["--no-deps", "--require-hashes", "--target"]).arg(folder);
        run(install.arg("--requirement").arg(requirements))
    })
}

/// A folder of `target/tools` that is made from a file, unless it was made from the very same before.
fn made(
    name: &str,
    requirements: &str,
    make: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let root = repository_root()?;
    let requirements = root.join(requirements);
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("{} cannot be read", requirements.display()))?;
    let folder = root.join("target/tools").join(name);
    // Written last, so that a folder without it was cut off.
    let stamp = folder.join("made-from.txt");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(folder);
    }
    eprintln!("xtask: making {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    make(&folder, &requirements)?;
    fs::write(&stamp, wanted).with_context(|| format!("{} cannot be written", stamp.display()))?;
    Ok(folder)
}

fn pip(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    command
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
