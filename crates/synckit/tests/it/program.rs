//! Running the program.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use tempfile::TempDir;

/// The program, with an environment that holds nothing of the machine but where its temporary files go.
pub(crate) fn synckit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synckit"));
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A well-formed API key of no app.
pub(crate) const UNKNOWN_KEY: &str = "skp_0909090909090909090909090909090900000000000000000000000000000000c6add4db";

/// What a run of the program ended with.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Longer than any command takes. A server that should have refused to start would never end.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// Runs a command that ends by itself.
pub(crate) fn run(command: &mut Command) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let (ended, waiting) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let is_late = waiting.recv_timeout(ENDS_WITHIN) == Err(RecvTimeoutError::Timeout);
        if is_late {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
        is_late
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watch.join().unwrap(), "the command did not end: {output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

pub(crate) fn run_with<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    run(synckit().args(arguments))
}

/// The value of a line such as `API key  skp_...`.
#[track_caller]
pub(crate) fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).trim()
}

/// A server on a temporary directory, killed when it is dropped.
pub(crate) struct Server {
    pub(crate) directory: TempDir,
    pub(crate) url: String,
    pub(crate) first_lines: Vec<String>,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server, and waits until it listens.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// The same with the data directory `data` of a directory.
    pub(crate) fn start_in(directory: TempDir, arguments: &[&str]) -> Self {
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory.path().join("data"))
            .args(arguments);
        Self::spawn(command, directory)
    }

    pub(crate) fn spawn(command: Command, directory: TempDir) -> Self {
        Self::spawn_logging(command, directory, Stdio::null())
    }

    pub(crate) fn spawn_logging(mut command: Command, directory: TempDir, log: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self {
            directory,
            url: String::new(),
            first_lines: Vec::new(),
            child,
            stdout,
        };
        while server.url.is_empty() {
            let mut line = String::new();
            let length = server.stdout.read_line(&mut line).unwrap();
            assert!(length > 0, "the server ended: {:?}", server.child.wait());
            server.first_lines.push(line.trim_end().to_owned());
            if let Some(rest) = line.strip_prefix("listening on ") {
                server.url = rest.split(',').next().unwrap().to_owned();
            }
        }
        server
    }

    /// The id of its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// Stops it in order where that can be asked for.
    pub(crate) fn stop(self) {
        #[cfg(unix)]
        assert!(self.terminate("-TERM").1.success());
    }

    /// Asks it to stop, and returns what else it said and how it ended.
    #[cfg(unix)]
    pub(crate) fn terminate(mut self, signal: &str) -> (String, ExitStatus) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (rest, status)
    }

    /// Creates an app and returns its key.
    pub(crate) fn create_app(&self) -> String {
        let ended = run_with([
            OsStr::new("app"),
            OsStr::new("create"),
            OsStr::new("Notes"),
            OsStr::new("--data-dir"),
            self.data_dir().as_os_str(),
        ]);
        let ended = ended.expect_code(0);
        field(&ended.stdout, "API key").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with the data directory of a server.
pub(crate) fn on_data_dir(data_dir: &Path, arguments: &[&str]) -> Ended {
    run(synckit().args(arguments).arg("--data-dir").arg(data_dir))
}
