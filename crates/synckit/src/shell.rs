//! `synckit completions` and `synckit man`: the command line as shell completions and manual pages.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, failure::Failure, screen};

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "synckit", &mut script);
    screen::raw_output(&script);
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages into a directory, or prints the main one.
pub(crate) fn manual(directory: Option<&Path>) -> Result<ExitCode, Failure> {
    match directory {
        Some(directory) => {
            let write = || {
                std::fs::create_dir_all(directory)?;
                clap_mangen::generate_to(Cli::command(), directory)
            };
            write().with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            screen::raw_output(&page);
        }
    }
    Ok(ExitCode::SUCCESS)
}
