//! Processes: found or built, started, read line by line, killed.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, bail, ensure};

/// Where the programs of a drill are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `synckit`, which serves.
    pub synckit: PathBuf,
    /// `synckit-sim`, which is the client.
    pub sim: PathBuf,
}

impl Programs {
    /// With `sim`, which is this program or was built by the test. Under cargo `synckit` is built first, so that it is
    /// never older than its sources; else it is looked for beside `sim`.
    ///
    /// # Errors
    /// If `synckit` cannot be built, or is not there.
    pub fn beside(sim: &Path) -> anyhow::Result<Self> {
        let synckit = match env::var_os("CARGO") {
            Some(cargo) => build_synckit(&cargo)?,
            None => sim.with_file_name(format!("synckit{}", env::consts::EXE_SUFFIX)),
        };
        ensure!(synckit.is_file(), "{} does not exist", synckit.display());
        Ok(Self {
            synckit,
            sim: sim.to_owned(),
        })
    }
}

fn build_synckit(cargo: &OsStr) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo);
    // Both packages, so that shared crates are built once, with the features of both.
    command
        .args([
            "build",
            "--quiet",
            "-p",
            "synckit",
            "-p",
            "synckit-sim",
            "--bin",
            "synckit",
        ])
        .arg("--message-format=json-render-diagnostics")
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
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "synckit" && message["reason"] == "compiler-artifact")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not say where synckit is")
}

/// A command whose environment holds nothing of the machine but where programs and temporary files are, and the keychain.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    for name in [
        "PATH",
        "TMPDIR",
        "TEMP",
        "TMP",
        "SYSTEMROOT",
        "HOME",
        "DBUS_SESSION_BUS_ADDRESS",
    ] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// If it does not start or does not succeed, with its output.
pub fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{} did not start", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            command.get_program().to_string_lossy(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A process whose lines on standard output are read; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// The file of its standard error.
    log: PathBuf,
}

impl Process {
    /// Starts a process. Its standard error is appended to `log`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let stderr: File = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("{} did not start", command.get_program().to_string_lossy()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            lines: read_lines(stdout),
            log: log.to_owned(),
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its next line; `None` once it has ended.
    pub fn next_line(&self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// SIGKILL; returns the lines that it had said and nobody had read.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(mut self) -> anyhow::Result<Vec<String>> {
        // A process that has ended by itself is as dead as one that was killed.
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(self.lines.iter().collect())
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn has_ended(&mut self) -> std::io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Errors
    /// If it failed, with the end of its log.
    pub fn finish(mut self) -> anyhow::Result<()> {
        while self.next_line().is_some() {}
        let status = self.child.wait()?;
        ensure!(status.success(), "{}", self.complaint(status));
        Ok(())
    }

    /// The message about a process that ended unexpectedly.
    #[must_use]
    pub fn complaint(&self, status: ExitStatus) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
        format!("a process ended with {status}: {}", tail.join(" / "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads on a thread, so that a full pipe never holds the process up.
fn read_lines(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The prefix of a command in another namespace: `nsenter` and its arguments, or nothing.
#[must_use]
pub fn wrapped(wrapper: &[OsString], program: &Path) -> Command {
    match wrapper.split_first() {
        None => command(program),
        Some((first, rest)) => {
            let mut command = command(first);
            command.args(rest).arg(program);
            command
        }
    }
}
