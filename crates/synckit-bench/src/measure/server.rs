//! The server of the bench: `synckit serve`, so that its process is accounted for apart.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use synckit_store::{PostgresOptions, PostgresStore, Store as _};

use super::process::{self, Memory, Usage};
use crate::cli::DatabaseUrl;

/// Differences from the default settings: room for the idle connections, time for them to rest, users who sign up from
/// one address all at once, and drivers that send more requests than one app on one device, as if through a proxy.
const CONFIG: &str = "connections_max = 65536
request_head_timeout = \"10 min\"
guesses_per_address = 100000
session_requests_per_second = 1000000
session_request_burst = 1000000
address_requests_per_second = 1000000
address_request_burst = 1000000
trusted_proxies = [\"127.0.0.1\"]
";

/// Room for the event streams.
pub(super) const EVENTS_CONFIG: &str = "event_streams_max = 65536
event_streams_per_account_max = 65536
";

/// A server in a process of its own, killed when it is dropped.
#[derive(Debug)]
pub(super) struct ServerProcess {
    program: PathBuf,
    data_dir: PathBuf,
    database: Option<DatabaseUrl>,
    pub(super) url: String,
    child: Child,
    /// Kept open, so that the server can still write.
    output: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts a server with one app, on the embedded database or on an empty PostgreSQL; returns the API key.
    pub(super) fn start(
        program: &Path,
        data_dir: &Path,
        database: Option<&DatabaseUrl>,
        more_config: &str,
    ) -> anyhow::Result<(Self, String)> {
        let create_app = ["--json", "app", "create", "SyncKit bench"];
        let created = command(program, &create_app, data_dir, database).output()?;
        ensure!(
            created.status.success(),
            "no app can be created: {}",
            String::from_utf8_lossy(&created.stderr).trim()
        );
        let app: Value = serde_json::from_slice(&created.stdout)?;
        let api_key = app["api_key"].as_str().context("`app create` prints no API key")?;
        fs::write(config_file(data_dir), [CONFIG, more_config].concat())?;
        Ok((
            Self::spawn(program, data_dir, database, "127.0.0.1:0")?,
            api_key.to_owned(),
        ))
    }

    fn spawn(program: &Path, data_dir: &Path, database: Option<&DatabaseUrl>, listen: &str) -> anyhow::Result<Self> {
        let mut child = command(program, &["serve", "--listen", listen], data_dir, database)
            .arg("--config")
            .arg(config_file(data_dir))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the server cannot be started")?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut this = Self {
            program: program.to_owned(),
            data_dir: data_dir.to_owned(),
            database: database.cloned(),
            url: String::new(),
            child,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        while this.output.read_line(&mut line)? > 0 {
            if let Some(rest) = line.trim_end().strip_prefix("listening on ") {
                rest.split_once(',')
                    .map_or(rest, |(url, _)| url)
                    .clone_into(&mut this.url);
                return Ok(this);
            }
            line.clear();
        }
        bail!("the server ended before it listened: {}", this.child.wait()?)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processor time of the server, and of a PostgreSQL on this machine.
    pub(super) fn usage(&self) -> Option<Usage> {
        let server = process::usage(self.pid())?;
        Some(match self.database {
            Some(_) => server.and(process::usage_of_program("postgres")),
            None => server,
        })
    }

    /// The time on a core since `earlier`.
    pub(super) fn cpu_since(&self, earlier: &Option<Usage>) -> Option<Duration> {
        Some(self.usage()?.since(earlier.as_ref()?))
    }

    /// The command by which an operator copies the server's data into a directory.
    pub(super) fn backup(&self, target: &Path) -> Command {
        let mut backup = command(&self.program, &["backup"], &self.data_dir, self.database.as_ref());
        backup.arg(target).stdin(Stdio::null());
        backup
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        process::memory(self.pid())
    }

    /// Stops the server, so that everything is in its files and nothing twice, adds their sizes up, and starts it again
    /// at the same address.
    pub(super) async fn restart_and_measure(&mut self) -> anyhow::Result<u64> {
        self.stop()?;
        let mut bytes = size_of_files(&self.data_dir)?;
        if let Some(database) = &self.database {
            let store = PostgresStore::open(&database.url, PostgresOptions::default()).await?;
            bytes += store.figures().await?.database_bytes;
            store.close().await?;
        }
        let listen = self.address().to_owned();
        *self = Self::spawn(&self.program, &self.data_dir, self.database.as_ref(), &listen)?;
        Ok(bytes)
    }

    /// Stops the server after the requests that are running.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        if cfg!(unix) {
            let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
            if asked.is_ok_and(|status| status.success()) {
                let status = self.child.wait()?;
                return if status.success() {
                    Ok(())
                } else {
                    bail!("the server ended with {status}")
                };
            }
        }
        // A killed server has lost nothing that it acknowledged, only the tidying up.
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail if the server has already ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program on a data directory, in an empty environment: variables of the caller must not change a figure.
fn command(program: &Path, arguments: &[&str], data_dir: &Path, database: Option<&DatabaseUrl>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(arguments).arg("--data-dir").arg(data_dir);
    if let Some(database) = database {
        // Not as a flag, which would show its password.
        command.env("SYNCKIT_DATABASE", database.text.expose());
    }
    command
}

/// Beside the data directory, whose size is measured.
fn config_file(data_dir: &Path) -> PathBuf {
    data_dir.with_extension("toml")
}

fn size_of_files(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            size_of_files(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}
