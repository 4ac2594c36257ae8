//! A private, throw-away Secret Service (the keychain of Linux desktops) for tests.
//!
//! It has its own D-Bus session and its own unlocked keyring in its own folder, so that tests neither read nor change
//! the developer's keychain, and need no desktop or prompt. Dropping it ends both daemons and deletes the folder.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// How long the daemons may take to answer. They need about a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running session.
pub(crate) struct SecretService {
    // Fields drop in this order: the daemon before its bus, the bus before the folder that holds its socket.
    _keyring: Daemon,
    _bus: Daemon,
    _home: Folder,
    bus_address: String,
}

impl SecretService {
    /// Starts the session and returns when its keychain can be used.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let home = Folder::create()?;
        let (bus, bus_address) = start_bus(&home.0)?;
        let keyring = start_keyring(&home.0, &bus_address)?;
        wait_for_name(&bus_address).with_context(|| {
            format!(
                "the keychain did not come up:\n{}{}",
                read_log(&home.0, "bus"),
                read_log(&home.0, "keyring")
            )
        })?;
        Ok(Self {
            _keyring: keyring,
            _bus: bus,
            _home: home,
            bus_address,
        })
    }

    /// The address of the bus, for `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) fn bus_address(&self) -> &str {
        &self.bus_address
    }
}

fn start_bus(home: &Path) -> anyhow::Result<(Daemon, String)> {
    // Without service folders no message can start a service. Otherwise an early call to the keychain would start a
    // second, locked one.
    let config = format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
        home.join("bus").display()
    );
    let config_file = home.join("bus.conf");
    fs::write(&config_file, config).context("the configuration of the session bus cannot be written")?;
    let mut child = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", config_file.display()))
        .args(["--nofork", "--nopidfile", "--print-address=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log(home, "bus")?)
        .spawn()
        .context("dbus-daemon did not start")?;
    let stdout = child.stdout.take();
    let daemon = Daemon(child);
    let mut address = String::new();
    BufReader::new(stdout.context("dbus-daemon has no standard output")?)
        .read_line(&mut address)
        .context("the address of the session bus cannot be read")?;
    let address = address.trim().to_owned();
    ensure!(
        !address.is_empty(),
        "dbus-daemon ended without an address:\n{}",
        read_log(home, "bus")
    );
    Ok((daemon, address))
}

fn start_keyring(home: &Path, bus_address: &str) -> anyhow::Result<Daemon> {
    let mut command = Command::new("gnome-keyring-daemon");
    command
        .args(["--foreground", "--unlock", "--components=secrets"])
        .env("HOME", home)
        .env("DBUS_SESSION_BUS_ADDRESS", bus_address)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log(home, "keyring")?);
    for (variable, name) in [
        ("XDG_RUNTIME_DIR", "run"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "cache"),
    ] {
        let folder = home.join(name);
        private_folder(&folder)?;
        command.env(variable, folder);
    }
    // A desktop's own variables would connect the daemon to the desktop's keychain.
    for variable in ["DISPLAY", "WAYLAND_DISPLAY", "GNOME_KEYRING_CONTROL", "SSH_AUTH_SOCK"] {
        command.env_remove(variable);
    }
    let mut child = command.spawn().context("gnome-keyring-daemon did not start")?;
    let stdin = child.stdin.take();
    let daemon = Daemon(child);
    // The first password makes the keyring; nobody needs it again. Closing the pipe ends it.
    stdin
        .context("gnome-keyring-daemon has no standard input")?
        .write_all(random_hex()?.as_bytes())
        .context("gnome-keyring-daemon did not read its password")?;
    Ok(daemon)
}

/// A file for the messages of a daemon. Both daemons complain even in good health, so it is shown only if the start
/// fails.
fn log(home: &Path, daemon: &str) -> anyhow::Result<fs::File> {
    fs::File::create(home.join(format!("{daemon}.log"))).context("a log file cannot be created")
}

fn read_log(home: &Path, daemon: &str) -> String {
    fs::read_to_string(home.join(format!("{daemon}.log"))).unwrap_or_default()
}

/// Waits until the keychain has its name on the bus. Asking the bus, and not the keychain, has no side effect.
fn wait_for_name(bus_address: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let output = Command::new("dbus-send")
            .args([
                "--session",
                "--print-reply=literal",
                "--dest=org.freedesktop.DBus",
                "/org/freedesktop/DBus",
            ])
            .args(["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"])
            .env("DBUS_SESSION_BUS_ADDRESS", bus_address)
            .stdin(Stdio::null())
            .output()
            .context("dbus-send did not start")?;
        if output.status.success() && String::from_utf8_lossy(&output.stdout).contains("true") {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "gnome-keyring-daemon was not on its bus after {} s: {}",
                START_TIMEOUT.as_secs(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A process that ends with this value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, and nobody is left to hear of it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A private folder that is deleted with this value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> anyhow::Result<Self> {
        // A random name in the shared folder, created by a call that fails if the name exists. The build folder is
        // unsuitable: the path of a Unix socket holds 108 bytes.
        let path = env::temp_dir().join(format!("synckit-keychain-{}", random_hex()?));
        private_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {} could not be deleted: {error}", self.0.display());
        }
    }
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the folder {} cannot be created", path.display()))
}

fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("the system gave no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_has_a_keychain_and_leaves_nothing() {
        let session =
            SecretService::start().expect("run the tests through `cargo xtask test`, which installs what this needs");
        let output = Command::new("dbus-send")
            .args(["--session", "--print-reply=literal", "--dest=org.freedesktop.secrets"])
            .args([
                "/org/freedesktop/secrets/aliases/default",
                "org.freedesktop.DBus.Properties.Get",
            ])
            .args(["string:org.freedesktop.Secret.Collection", "string:Locked"])
            .env("DBUS_SESSION_BUS_ADDRESS", session.bus_address())
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(
            answer.contains("boolean false"),
            "{answer}{}",
            String::from_utf8_lossy(&output.stderr)
        );

        let home = session._home.0.clone();
        let processes = [session._bus.0.id(), session._keyring.0.id()];
        drop(session);
        assert!(!home.exists());
        for process in processes {
            assert!(
                !Path::new(&format!("/proc/{process}")).exists(),
                "process {process} is still there"
            );
        }
    }
}
