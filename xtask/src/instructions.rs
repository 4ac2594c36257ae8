//! `cargo xtask instructions`: counts the instructions of the hot paths, and compares them with the committed figures.
//!
//! Each path of `synckit-bench` runs under Valgrind's callgrind twice, with few and with more times; the difference is
//! the path alone. A path that takes [`REGRESSION_PERCENT`] more than the committed figure fails; `--update` writes new
//! figures, whose change is then reviewed as code is.
//!
//! Figures are of one kind of processor: Valgrind emulates neither AVX-512 nor the SHA instructions, so the libraries
//! choose the same code on every x86-64 machine with AVX2, and different code outside Valgrind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::Value;

use crate::{cargo, packages, repository_root};

/// The allowed growth of a path. Compilers and libraries move figures by a few percent.
const REGRESSION_PERCENT: u64 = 15;
/// The figures, beside the program that they are of.
const BASELINE: &str = "crates/synckit-bench/instructions.json";
/// The profile that the program is built in.
const PROFILE: &str = "instructions";

/// The paths, and the number of extra repetitions in the second run. Those of the server take bodies from the fixture,
/// which has [`FIXTURE_BODIES`] of each kind.
const PATHS: &[(&str, u32)] = &[
    ("seal-batch", 4),
    ("open-batch", 4),
    ("chain-step", 4),
    ("open-snapshot-part", 4),
    ("open-envelope", 40),
    ("seal-file", 2),
    ("push-batch", 10),
    ("push-entry", 40),
    ("pull-page", 10),
];
const FIXTURE_BODIES: [(&str, &str); 2] = [("--batches-per-user", "12"), ("--pushes-per-stream", "42")];

/// Whether the figures are written or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    Compare,
    Update,
}

type Figures = BTreeMap<String, u64>;

/// Counts every path. `Ok(false)` if one takes too many instructions, which was then said.
pub(crate) fn run(baseline: Baseline) -> anyhow::Result<bool> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        eprintln!("xtask: the figures are of x86-64 Linux; nothing is compared here");
        return Ok(true);
    }
    packages::ensure_installed()?;
    let root = repository_root()?;
    let program = build()?;
    let folder = program.with_file_name("fixture");
    prepare(&folder)?;
    let found = count_all(&program, &folder)?;
    let path = root.join(BASELINE);
    if baseline == Baseline::Update {
        fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&found)?))?;
    }
    let before: Figures = fs::read_to_string(&path)
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(serde_json::from_str(&text)?))
        .with_context(|| format!("{BASELINE} cannot be read; `cargo xtask instructions --update` writes it"))?;
    let comparison = compare(&before, &found);
    for line in &comparison.lines {
        println!("{line}");
    }
    if comparison.regressed {
        println!(
            "A path takes over {REGRESSION_PERCENT} % more instructions than {BASELINE} says. If that is what the change \
             is worth, run `cargo xtask instructions --update` and commit the file; where they go, \
             `callgrind_annotate {}` shows.",
            folder.join("<path>.callgrind").display()
        );
    }
    Ok(!comparison.regressed)
}

/// Builds the program; returns its path.
fn build() -> anyhow::Result<PathBuf> {
    let output = cargo()?
        .args(["build", "--profile", PROFILE, "-p", "synckit-bench"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    ensure!(output.status.success(), "synckit-bench was not built");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "synckit-bench")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    executable.context("cargo does not say where synckit-bench is")
}

/// Lets the SDK sign up and seal the requests for the server's paths, without Valgrind.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let status = cargo()?
        .args(["run", "--quiet", "-p", "synckit-bench", "--", "prepare"])
        .arg(folder)
        .args(FIXTURE_BODIES.iter().flat_map(|(flag, count)| [flag, count]))
        .status()
        .context("cargo did not start")?;
    ensure!(status.success(), "the requests for the server were not prepared");
    Ok(())
}

/// Counts the paths, in parallel on all cores.
fn count_all(program: &Path, folder: &Path) -> anyhow::Result<Figures> {
    let open = Mutex::new(PATHS.iter());
    let found = Mutex::new(Vec::new());
    let poisoned = |_| anyhow!("a thread panicked");
    let work = || -> anyhow::Result<()> {
        loop {
            let Some((path, times)) = open.lock().map_err(|_| anyhow!("a thread panicked"))?.next() else {
                return Ok(());
            };
            let once = count(program, folder, path, 1)?;
            let more = count(program, folder, path, 1 + times)?;
            let each = more.saturating_sub(once) / u64::from(*times);
            let mut found = found.lock().map_err(|_| anyhow!("a thread panicked"))?;
            found.push(((*path).to_owned(), each));
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let found = found.into_inner().map_err(poisoned)?;
    Ok(found.into_iter().collect())
}

/// The instructions of one run.
fn count(program: &Path, folder: &Path, path: &str, times: u32) -> anyhow::Result<u64> {
    let mut profile = std::ffi::OsString::from("--callgrind-out-file=");
    profile.push(folder.join(format!("{path}.callgrind")));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(profile)
        .arg(program)
        .args(["run", path, &times.to_string()])
        .arg(folder)
        .output()
        .context("valgrind did not start")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{path} failed under Valgrind:\n{text}");
    }
    collected(&text).with_context(|| format!("callgrind says nothing about {path}:\n{text}"))
}

/// The number in callgrind's line `==123== Collected : 4567`.
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

/// The report about the figures, and whether one is too large.
struct Comparison {
    lines: Vec<String>,
    regressed: bool,
}

fn compare(before: &Figures, found: &Figures) -> Comparison {
    let mut regressed = false;
    let mut lines = Vec::new();
    for (path, now) in found {
        let line = match before.get(path) {
            None => {
                regressed = true;
                "not in the baseline: run with --update".to_owned()
            }
            Some(then) => {
                let change = (*now as f64 / *then as f64 - 1.0) * 100.0;
                let too_many = now * 100 > then * (100 + REGRESSION_PERCENT);
                regressed |= too_many;
                let verdict = if too_many {
                    ", too many"
                } else if *now * 100 < then * (100 - REGRESSION_PERCENT) {
                    ", better: record it with --update, so that it stays"
                } else {
                    ""
                };
                format!("{change:+.1} %{verdict}")
            }
        };
        lines.push(format!("{path:<20} {now:>12} instructions  {line}"));
    }
    for path in before.keys().filter(|path| !found.contains_key(*path)) {
        regressed = true;
        lines.push(format!("{path:<20} is in the baseline only: run with --update"));
    }
    Comparison { lines, regressed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&str, u64)]) -> Figures {
        pairs.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect()
    }

    #[test]
    fn the_sum_of_callgrind_is_found() {
        let text = "==7== Events    : Ir\n==7== Collected : 3141592\n==7== \n==7== I   refs:      3,141,592\n";
        assert_eq!(collected(text), Some(3_141_592));
        assert_eq!(collected("valgrind: command not found"), None);
    }

    #[test]
    fn more_than_fifteen_percent_fails_and_fifteen_do_not() {
        let before = figures(&[("push-batch", 1000)]);
        assert!(!compare(&before, &figures(&[("push-batch", 1150)])).regressed);
        assert!(compare(&before, &figures(&[("push-batch", 1151)])).regressed);
        let better = compare(&before, &figures(&[("push-batch", 700)]));
        assert!(!better.regressed && better.lines[0].contains("--update"));
    }

    #[test]
    fn path_and_figure_must_match() {
        let one = figures(&[("push-batch", 1000)]);
        assert!(compare(&Figures::new(), &one).regressed);
        assert!(compare(&one, &Figures::new()).regressed);
    }
}
