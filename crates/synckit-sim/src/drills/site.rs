//! A server in a process of its own: on a directory and a port that it keeps when it dies and is started again.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use rand::Rng as _;
use synckit_client::{CredentialStore, Cursor, FileStore, SyncKitClient, SyncKitConfig};
use tempfile::TempDir;

use super::process::{Process, Programs, command, output_of, wrapped};
use crate::golden::{self, Account, Member, credential_file};

/// Ports below the range that systems take for outgoing connections: a client that knocks at a dead server's port must
/// not be given that very port for its own end.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A server, its app and the files of its clients.
#[derive(Debug)]
pub struct Site {
    programs: Programs,
    directory: TempDir,
    launch: Launch,
    port: u16,
    server: Option<Process>,
    /// The key of its app.
    pub api_key: String,
}

/// How the server is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Another data directory than the site's own.
    pub data_dir: Option<PathBuf>,
    /// Where clients reach it, if not at its own address.
    pub public_url: Option<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The command that starts this command, such as `nsenter`.
    pub wrapper: Vec<OsString>,
    /// Variables of its environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Site {
    /// Starts a server and makes an app.
    ///
    /// # Errors
    /// If it does not start.
    pub fn open(programs: &Programs, launch: Launch) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("synckit-drill-").tempdir()?;
        let mut site = Self {
            programs: programs.clone(),
            directory,
            launch,
            port: free_port()?,
            server: None,
            api_key: String::new(),
        };
        site.start()?;
        let app = site.admin(&["app", "create", "drill", "--json"])?;
        let app: serde_json::Value = serde_json::from_str(&app)?;
        site.api_key = app["api_key"].as_str().context("no API key")?.to_owned();
        Ok(site)
    }

    /// Where clients reach the server.
    #[must_use]
    pub fn url(&self) -> String {
        let own = || format!("http://127.0.0.1:{}", self.port);
        self.launch.public_url.clone().unwrap_or_else(own)
    }

    /// The port that the server listens at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The programs of the drill.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where the clients' files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server's data directory, as the server calls it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.launch
            .data_dir
            .clone()
            .unwrap_or_else(|| self.directory.path().join("data"))
    }

    /// How the server is started the next time.
    pub fn launch_mut(&mut self) -> &mut Launch {
        &mut self.launch
    }

    /// Starts the server, and returns when it listens.
    ///
    /// # Errors
    /// If it ends instead.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.server.is_none(), "the server runs already");
        let mut serve = self.synckit();
        serve
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--log", "warn"])
            .args(self.launch.public_url.iter().flat_map(|url| ["--public-url", url]))
            .args(&self.launch.arguments);
        let mut server = Process::start(serve, &self.directory.path().join("server.log"))?;
        while let Some(line) = server.next_line() {
            if line.starts_with("listening on ") {
                self.server = Some(server);
                return Ok(());
            }
        }
        let status = server.wait()?;
        bail!("the server does not start: {}", server.complaint(status))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Without a server.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.take().context("no server to kill")?.kill().map(drop)
    }

    /// Asks the server to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let server = self.server.take().context("no server to stop")?;
        output_of(Command::new("kill").args(["-TERM", &server.id().to_string()]))?;
        server.finish()
    }

    /// Runs another command of `synckit` on the data directory.
    ///
    /// # Errors
    /// If it fails.
    pub fn admin(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output_of(self.synckit().args(arguments).arg("--data-dir").arg(self.data_dir()))
    }

    /// As [`Site::admin`], whatever its exit code.
    ///
    /// # Errors
    /// If it does not start.
    pub fn output_of_admin(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .synckit()
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts another command of `synckit` on the data directory, to be waited for.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_admin(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.synckit();
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        Process::start(command, &self.directory().join("admin.log"))
    }

    fn synckit(&self) -> Command {
        let mut command = wrapped(&self.launch.wrapper, &self.programs.synckit);
        command.envs(self.launch.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The app on a device: a client with the device's stored credentials.
    #[must_use]
    pub fn client(&self, device: &str) -> SyncKitClient {
        client(
            &self.url(),
            &self.api_key,
            FileStore::new(credential_file(self.directory(), device)),
        )
    }

    /// As [`Site::client`], with session and key loaded.
    ///
    /// # Errors
    /// If they are not there.
    pub fn resumed(&self, device: &str) -> anyhow::Result<SyncKitClient> {
        let client = self.client(device);
        client.try_load_key_from_keychain()?;
        // The apps of the drills keep no cursor.
        client.resume_at(Cursor::START);
        Ok(client)
    }

    /// The app on a device in its own process: `synckit-sim drill-client` with the arguments that every client needs;
    /// its role follows.
    #[must_use]
    pub fn client_command(&self, member: &Member) -> Command {
        let mut command = command(&self.programs.sim);
        command
            .arg("drill-client")
            .args(["--url", &self.url(), "--api-key", &self.api_key])
            .args(["--device", &member.name, "--device-id", &member.id.to_string()])
            .args([OsStr::new("--directory"), self.directory().as_os_str()]);
        command
    }

    /// Starts a client's process.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_client(&self, command: Command) -> anyhow::Result<Process> {
        Process::start(command, &self.directory().join("clients.log"))
    }

    /// Makes an account with devices that are signed in and hold the key.
    ///
    /// # Errors
    /// If anything fails.
    pub async fn sign_up(&self, name: &str, devices: usize) -> anyhow::Result<Account> {
        golden::sign_up(name, devices, |device| self.client(device)).await
    }

    /// Whether SQLite finds the database whole. The server must be stopped.
    ///
    /// # Errors
    /// If it is not whole.
    pub fn check_database(&self) -> anyhow::Result<()> {
        let database = rusqlite::Connection::open(self.data_dir().join("synckit.db"))?;
        let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(verdict == "ok", "the database is damaged: {verdict}");
        Ok(())
    }

    /// Files of uploads that were begun and never ended.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn unfinished_uploads(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.data_dir().join("blobs/incoming"))?.count())
    }
}

/// A client with a credential store of its own.
#[must_use]
pub fn client(url: &str, api_key: &str, store: impl CredentialStore) -> SyncKitClient {
    SyncKitClient::builder(SyncKitConfig {
        server_url: url.to_owned(),
        api_key: api_key.to_owned(),
    })
    .credential_store(store)
    .build()
}

/// A port of loopback that nobody uses.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let mut rng = rand::thread_rng();
    for _ in 0..100 {
        let port = rng.gen_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
