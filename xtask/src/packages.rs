//! Programs that tests need and cargo cannot provide: found, or installed on Debian.
//!
//! An existing program is never installed again, and nothing is installed outside Linux.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// A program that some test runs, and its Debian packages.
struct Tool {
    command: &'static str,
    packages: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    // Shows that the sync of the disk comes before the answer.
    Tool {
        command: "strace",
        packages: &["strace"],
    },
    // Counts the instructions of the hot paths.
    Tool {
        command: "valgrind",
        packages: &["valgrind"],
    },
    // Moves the clock of a server for the drill of that name.
    Tool {
        command: "faketime",
        packages: &["faketime"],
    },
    // The other engine of the store. Its own programs are not on the path, those of the package around them are.
    Tool {
        command: "pg_lsclusters",
        packages: &["postgresql"],
    },
    // What a server must not be put behind: see `PostgresUrl`.
    Tool {
        command: "pgbouncer",
        packages: &["pgbouncer"],
    },
    // A proxy as most servers have one, for event streams.
    Tool {
        command: "nginx",
        packages: &["nginx"],
    },
    // A browser, and what drives it, for the sign-in page.
    Tool {
        command: "chromium",
        packages: &["chromium"],
    },
    Tool {
        command: "chromedriver",
        packages: &["chromium-driver"],
    },
    // The keychain. Without dbus-x11, apt chooses the session bus of systemd, and with it a whole init system.
    Tool {
        command: "gnome-keyring-daemon",
        packages: &["gnome-keyring", "dbus-x11"],
    },
    Tool {
        command: "dbus-daemon",
        packages: &["dbus-x11"],
    },
    Tool {
        command: "dbus-send",
        packages: &["dbus-x11"],
    },
];

/// Ensures that every tool exists, and installs missing ones.
///
/// # Errors
///
/// Names the packages when they cannot be installed: no `apt-get`, no right to use it, or it failed.
pub(crate) fn ensure_installed() -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        eprintln!("xtask: the tests of the keychain and of durable writes need Linux; they will not pass here");
        return Ok(());
    }
    let packages = missing_packages(is_on_path);
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages)?;
    let still = missing_packages(is_on_path);
    if !still.is_empty() {
        bail!(
            "apt-get reports success, but programs of {} are still missing",
            still.join(", ")
        );
    }
    Ok(())
}

/// Installs Debian packages.
///
/// # Errors
///
/// As [`ensure_installed`].
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    if !is_on_path("apt-get") {
        bail!(
            "the tests need programs that are missing, and there is no apt-get to install {}",
            packages.join(", ")
        );
    }
    let Some(mut prefix) = privilege() else {
        bail!(
            "the tests need packages that only root can install; run this, then try again:\n  \
             apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    };
    eprintln!("xtask: installing {}", packages.join(", "));
    prefix.push("apt-get");
    // The lists may be absent, as in a fresh container, or so old that the archive no longer has their packages.
    if apt_get(&prefix, &install_arguments(packages, Simulate::Yes)) {
        if apt_get(&prefix, &install_arguments(packages, Simulate::No)) {
            return Ok(());
        }
        eprintln!("xtask: the installation failed; trying again with fresh package lists");
    }
    if !apt_get(&prefix, &["-q".into(), "update".into()]) {
        bail!("apt-get update failed; the tests need {}", packages.join(", "));
    }
    if !apt_get(&prefix, &install_arguments(packages, Simulate::No)) {
        bail!("apt-get could not install {}", packages.join(", "));
    }
    Ok(())
}

/// The packages whose programs are missing, each once, in order.
fn missing_packages(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for tool in TOOLS.iter().filter(|tool| !is_there(tool.command)) {
        for package in tool.packages {
            if !packages.contains(package) {
                packages.push(*package);
            }
        }
    }
    packages
}

fn is_on_path(command: &str) -> bool {
    let Some(path) = env::var_os("PATH") else {
        return false;
    };
    // Debian puts servers where only root's path leads.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.into_iter().any(|folder| folder.join(command).is_file())
}

/// The prefix of a command that needs root: nothing for root, `sudo -n` if it asks for no password, else `None`.
fn privilege() -> Option<Vec<&'static str>> {
    if is_root() {
        return Some(Vec::new());
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success()).then(|| vec!["sudo", "-n"])
}

#[cfg(target_os = "linux")]
fn is_root() -> bool {
    use std::os::linux::fs::MetadataExt as _;

    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.st_uid() == 0)
}

#[cfg(not(target_os = "linux"))]
fn is_root() -> bool {
    false
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Simulate {
    Yes,
    No,
}

fn install_arguments(packages: &[&str], simulate: Simulate) -> Vec<String> {
    let mut arguments: Vec<String> = ["-q", "-y", "-o", "DPkg::Lock::Timeout=120"].map(String::from).into();
    if simulate == Simulate::Yes {
        arguments.push("--simulate".to_owned());
    }
    arguments.extend(["install", "--no-install-recommends"].map(String::from));
    arguments.extend(packages.iter().map(ToString::to_string));
    arguments
}

/// Runs `apt-get` (behind the prefix). Its output appears only when it failed, and not for a simulation.
fn apt_get(prefix: &[&str], arguments: &[String]) -> bool {
    let Some((program, before)) = prefix.split_first() else {
        return false;
    };
    let mut command = Command::new(program);
    // Behind sudo the variable would be dropped, so `env` sets it there.
    if *program == "sudo" {
        let (flags, rest) = before.split_at(1);
        command
            .args(flags)
            .args(["env", "DEBIAN_FRONTEND=noninteractive"])
            .args(rest);
    } else {
        command.args(before).env("DEBIAN_FRONTEND", "noninteractive");
    }
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("apt-get did not start");
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            if !arguments.iter().any(|argument| argument == "--simulate") {
                eprint!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            false
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_that_is_there() {
        assert!(missing_packages(|_| true).is_empty());
    }

    #[test]
    fn each_missing_package_is_named_once() {
        assert_eq!(
            missing_packages(|_| false),
            [
                "strace",
                "valgrind",
                "faketime",
                "postgresql",
                "pgbouncer",
                "nginx",
                "chromium",
                "chromium-driver",
                "gnome-keyring",
                "dbus-x11"
            ]
        );
        assert_eq!(missing_packages(|command| command != "dbus-send"), ["dbus-x11"]);
    }
}
