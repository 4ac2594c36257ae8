//! `cargo xtask test`: every test of the workspace, with the services that the tests need.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context as _;

use crate::{cargo, packages, python, repository_root};

/// The workspace of crates that are built with features that the product's workspace keeps off.
const FOREIGN_FEATURES: &str = "foreign-features/Cargo.toml";

/// Installs missing tools, runs `cargo test`, and ends with the line `N passed, N failed`.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<bool> {
    packages::ensure_installed()?;
    let session = Session::start()?;
    let mut tally = Tally::default();
    let whole = !chooses_packages(arguments);
    let mut command = cargo()?;
    command.arg("test");
    if whole {
        command.arg("--workspace");
    }
    // One failing binary must not hide the results of the others.
    command.arg("--no-fail-fast").args(arguments);
    session.apply(&mut command);
    tally.add(&tested(command)?);
    #[cfg(target_os = "linux")]
    if whole {
        let mut command = server_tests()?;
        session.apply(&mut command);
        // Once more, on the other engine. The tests that are skipped open the file of the embedded one.
        command
            .args(["--skip", "embedded_"])
            .env("SYNCKIT_TEST_DATABASE", "postgres");
        tally.add(&tested(command)?);
    }
    if whole {
        let mut command = cargo()?;
        let target = repository_root()?.join("target");
        command.args(["test", "--locked", "--manifest-path", FOREIGN_FEATURES, "--target-dir"]);
        command.arg(target).args(arguments);
        tally.add(&tested(command)?);
    }
    drop(session);

    if tally.ignored > 0 {
        println!("{} ignored", tally.ignored);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// The server's test binary, as the run of the whole workspace built it.
#[cfg(target_os = "linux")]
fn server_tests() -> anyhow::Result<Command> {
    let mut command = cargo()?;
    command.args([
        "test",
        "--workspace",
        "--test",
        "it",
        "--no-run",
        "--message-format=json",
    ]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    let output = String::from_utf8_lossy(&output.stdout);
    let built = output.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let manifest = message.get("manifest_path")?.as_str()?;
        let program = message.get("executable")?.as_str()?;
        (manifest.ends_with("synckit-server/Cargo.toml")).then(|| PathBuf::from(program))
    });
    let mut command = Command::new(built.context("cargo did not build the tests of synckit-server")?);
    command.current_dir(repository_root()?.join("crates/synckit-server"));
    Ok(command)
}

/// Runs a `cargo test` and adds up its results. A run without results that fails counts as one failure.
fn tested(mut command: Command) -> anyhow::Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo did not start")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let mut tally = tee(BufReader::new(stdout), &mut io::stdout().lock()).context("the output of cargo was cut off")?;
    let status = child.wait().context("cargo did not end")?;
    if !status.success() && tally.failed == 0 {
        // Neither a build error nor a killed test process prints a result, but both are failures.
        eprintln!("xtask: cargo test failed without a failed test: a build error, or a test process that died");
        tally.failed = 1;
    }
    Ok(tally)
}

/// Runs any command in the session that the tests get.
pub(crate) fn run_with_keychain(command_line: &[OsString]) -> anyhow::Result<bool> {
    let (program, arguments) = command_line
        .split_first()
        .context("no command given: put it after `--`")?;
    packages::ensure_installed()?;
    let mut command = Command::new(program);
    command.args(arguments);
    let session = Session::start()?;
    session.apply(&mut command);
    let status = command
        .status()
        .with_context(|| format!("{} did not start", program.to_string_lossy()))?;
    drop(session);
    Ok(status.success())
}

/// The surroundings of a test run.
struct Session {
    #[cfg(target_os = "linux")]
    keychain: crate::secret_service::SecretService,
    #[cfg(target_os = "linux")]
    postgres: crate::postgres::Postgres,
    /// The interpreter for `examples/python`.
    python: PathBuf,
    /// The interpreter that has schemathesis, which sends generated requests to a server.
    schemathesis: PathBuf,
    /// axe-core, which finds in a page what keeps people from using it.
    axe: PathBuf,
}

impl Session {
    fn start() -> anyhow::Result<Self> {
        let schemathesis = python::environment("schemathesis", "xtask/schemathesis.txt")?;
        let axe = python::unpacked(&schemathesis, "axe", "xtask/axe.txt")?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            keychain: crate::secret_service::SecretService::start()?,
            #[cfg(target_os = "linux")]
            postgres: crate::postgres::Postgres::start()?,
            python: python::environment("python-client", "examples/python/requirements.txt")?,
            schemathesis,
            axe: axe.join("axe_playwright_python/axe.min.js"),
        })
    }

    /// Only variables that tests read: `HOME` stays, because cargo and rustup need it.
    fn apply(&self, command: &mut Command) {
        command.env("SYNCKIT_TEST_PYTHON", &self.python);
        command.env("SYNCKIT_TEST_SCHEMATHESIS", &self.schemathesis);
        command.env("SYNCKIT_TEST_AXE", &self.axe);
        #[cfg(target_os = "linux")]
        command
            .env("DBUS_SESSION_BUS_ADDRESS", self.keychain.bus_address())
            .env("SYNCKIT_TEST_POSTGRES", self.postgres.url());
    }
}

/// Whether the arguments for cargo (those before a second `--`) say which packages to test.
fn chooses_packages(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != OsStr::new("--"))
        .any(|argument| {
            let text = argument.to_string_lossy();
            text.starts_with("--package") || (text.starts_with("-p") && !text.starts_with("--"))
        })
}

/// The sums over every test binary.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Adds a line if it is a result line, as libtest and rustdoc print one for each binary:
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
    fn add_line(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace().rev();
            let (Some(what), Some(number)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Passes the output on line by line and adds up the results in it.
fn tee(mut input: impl BufRead, output: &mut impl io::Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        output.write_all(&line)?;
        output.flush()?;
        tally.add_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let output = "running 2 tests\ntest a ... ok\n\n\
            test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.20s\n\
            a test that prints test result: ok. 100 passed;\n";
        let mut passed_on = Vec::new();
        let tally = tee(output.as_bytes(), &mut passed_on).unwrap();
        assert_eq!(
            tally,
            Tally {
                passed: 12,
                failed: 2,
                ignored: 1
            }
        );
        assert_eq!(passed_on, output.as_bytes());
    }

    #[test]
    fn output_that_is_not_text_is_passed_on_unchanged() {
        let output = b"\xff\xfe\ntest result: ok. 1 passed; 0 failed\nno newline at the end";
        let mut passed_on = Vec::new();
        assert_eq!(tee(&output[..], &mut passed_on).unwrap().passed, 1);
        assert_eq!(passed_on, output);
    }

    #[test]
    fn a_chosen_package_replaces_the_workspace() {
        let chooses = |arguments: &[&str]| chooses_packages(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(chooses(&["-p", "synckit-client"]));
        assert!(chooses(&["-psynckit-client"]));
        assert!(chooses(&["--package=synckit-client"]));
        assert!(!chooses(&["--doc"]));
        assert!(!chooses(&["--", "-p"]));
    }
}
