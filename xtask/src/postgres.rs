//! A throw-away PostgreSQL for tests: started once for a run, with a database for each test that wants one.
//!
//! It listens on a private socket and on a free port of loopback, and loses everything with the machine's power. Dropping it
//! ends the server and deletes its folder.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// Where Debian's packages put the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The password of the user `postgres`. It guards nothing: tests need one that is checked.
const PASSWORD: &str = "of the tests";
/// A folder of a server, before the number of the process that started it.
const FOLDER: &str = "synckit-postgres-";

/// A running server.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts a server and returns when it takes connections.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let programs = newest_programs()?;
        for folder in left_behind(&std::env::temp_dir()) {
            // Ends a server that still runs, and deletes gigabytes of databases.
            drop(Self {
                programs: programs.clone(),
                folder,
                port: 0,
            });
        }
        let folder = std::env::temp_dir().join(format!("{FOLDER}{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        // Freed at once, and taken again by the server: no other program is known to want just this port.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self { programs, folder, port };
        fs::write(server.folder.join("password"), PASSWORD)?;
        if is_root() {
            // PostgreSQL refuses to run as root.
            run(Command::new("chown").arg("-R").arg("postgres").arg(&server.folder))?;
        }
        let mut initdb = server.program("initdb");
        initdb.args([
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        initdb.arg(format!("--pwfile={}", server.folder.join("password").display()));
        run(initdb.arg("-D").arg(server.data()))?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c synchronous_commit=off \
             -c full_page_writes=off -c autovacuum=off -c shared_buffers=64MB -c max_connections=400",
            server.folder.display()
        );
        let mut start = server.program("pg_ctl");
        start.args(["-w", "-t", "60", "-o", &options, "-l"]);
        start.arg(server.folder.join("log")).arg("-D").arg(server.data());
        run(start.arg("start")).with_context(|| fs::read_to_string(server.folder.join("log")).unwrap_or_default())?;
        Ok(server)
    }

    /// The URL of a database whose user may make more of them.
    pub(crate) fn url(&self) -> String {
        let password = PASSWORD.replace(' ', "%20");
        format!("postgres://postgres:{password}@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // The user postgres may not look into the folder of the repository.
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        let mut stop = self.program("pg_ctl");
        let _ = run(stop.args(["-m", "immediate", "-w", "stop", "-D"]).arg(data));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folders in `parent` of servers whose run was killed.
fn left_behind(parent: &Path) -> Vec<PathBuf> {
    let lives = |process: &str| Path::new("/proc").join(process).exists();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_left(name, lives)))
        .map(|entry| entry.path())
        .collect()
}

fn is_left(name: &str, lives: impl Fn(&str) -> bool) -> bool {
    let process = name
        .strip_prefix(FOLDER)
        .filter(|process| process.parse::<u32>().is_ok());
    process.is_some_and(|process| !lives(process))
}

fn newest_programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).with_context(|| format!("no PostgreSQL in {VERSIONS}"))?;
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .with_context(|| format!("no version of PostgreSQL in {VERSIONS}"))?;
    Ok(Path::new(VERSIONS).join(newest.to_string()).join("bin"))
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&match fs::metadata("/proc/self") {
        Ok(metadata) => metadata,
        Err(_) => return false,
    }) == 0
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    // `pg_ctl` leaves a server behind that would hold a pipe open.
    let status = command.stdout(Stdio::null()).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_left;

    #[test]
    fn only_folders_of_dead_runs_are_left_behind() {
        for (name, is_expected) in [
            ("synckit-postgres-12", true),
            ("synckit-postgres-13", false),
            ("synckit-postgres-x", false),
            ("other-12", false),
        ] {
            assert_eq!(is_left(name, |process| process == "13"), is_expected, "{name}");
        }
    }
}
