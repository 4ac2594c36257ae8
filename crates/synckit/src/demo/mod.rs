//! `synckit demo`: a laptop, a phone, and a server that cannot read their data.
//!
//! Everything is real: the server, the SDK, HTTP, SQLite files. The demo checks its claims byte by byte, and fails if
//! one is false.

mod changes;
mod dataset;
mod device;
mod edits;
mod local;
mod local_server;
mod play;
mod received;
mod scan;
mod story;
mod tamper;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{cli::DemoArgs, failure::Failure, runtime, screen, stop};

use self::{play::Play, story::Story};

pub(crate) use self::dataset::{Unreadable, open_without_a_trace};

/// Attempts to remove the directory. Each one removes the files that threads of the demo created since the last.
const REMOVALS_MAX: u32 = 50;
/// How often the directory must be found missing, and how long apart: a thread that was creating a directory in it also
/// creates the directory again.
const MISSING_LOOKS: u32 = 5;
const MISSING_PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let workspace = Workspace::create()?;
    let mut story = Story::default();
    let keep = args.keep;
    if !keep {
        let directory = workspace.path().to_owned();
        stop::end_at_signal(move || remove_while_used(&directory))?;
    }
    let ended = runtime()?.block_on(play(args, workspace.path(), &mut story));
    let account = match ended {
        Ok(account) => account,
        Err(failure) => {
            if keep {
                workspace.keep()?;
            }
            return Err(failure);
        }
    };
    story.summary();
    if screen::is_for_programs() {
        screen::json(&story.report())?;
    }
    screen::line(match (story.passed(), story.is_whole()) {
        (true, true) => "The demo passed: both devices hold the same, and the server could read none of it.",
        (true, false) => {
            "The demo passed: both devices hold the same, and a forged batch was refused. The stored data was not \
             searched, because the server's disk is not on this machine."
        }
        (false, _) => "The demo FAILED: see the failed steps above.",
    });
    if keep {
        workspace.keep()?;
        screen::line(account);
    }
    Ok(if story.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Plays every scene; returns the credentials for the kept data.
async fn play(args: DemoArgs, workspace: &Path, story: &mut Story) -> Result<String, Failure> {
    screen::line("SyncKit demo: two devices, and a server that cannot read what they sync");
    screen::line("");
    let mut play = Play::begin(args, workspace, story).await?;
    play.sign_in().await?;
    play.push().await?;
    play.join().await?;
    play.converge().await?;
    play.show_what_the_server_holds()?;
    play.search().await?;
    play.tamper().await?;
    play.end().await
}

/// Removes the directory of a demo whose threads still write to it.
fn remove_while_used(directory: &Path) {
    let mut missing = 0;
    for _ in 0..REMOVALS_MAX {
        if !directory.exists() {
            missing += 1;
            if missing == MISSING_LOOKS {
                return;
            }
            thread::sleep(MISSING_PAUSE);
            continue;
        }
        missing = 0;
        // Errors are ignored: the next attempt may succeed, and leftovers are in a temporary directory.
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// A temporary directory for everything that the demo writes.
#[derive(Debug)]
struct Workspace(TempDir);

impl Workspace {
    fn create() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("synckit-demo-").tempdir();
        Ok(Self(directory.context("no temporary directory can be made")?))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Keeps all files.
    fn keep(self) -> anyhow::Result<()> {
        let path: PathBuf = self.0.keep();
        screen::line("");
        screen::line(format_args!("kept in {}:", path.display()));
        for (name, what) in [
            ("server", "the server's data directory (synckit serve --data-dir ...)"),
            ("laptop/data.sqlite", "the laptop's database"),
            ("phone/data.sqlite", "the phone's database"),
            ("phone/files", "the files that the phone downloaded"),
        ] {
            if path.join(name).exists() {
                screen::line(format_args!("    {name:<20} {what}"));
            }
        }
        Ok(())
    }
}
