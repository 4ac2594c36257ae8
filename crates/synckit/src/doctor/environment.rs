//! Variables that look like settings and are not: a misspelt one would be ignored silently.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use super::Report;
use crate::{cli::Cli, settings::secret_variables};

/// Variables without a flag, because they contain secrets.
const WITHOUT_FLAG: [&str; 2] = ["SYNCKIT_PASSWORD", "SYNCKIT_RECOVERY_CODE"];

pub(super) fn check(report: &mut Report) {
    let mut known: BTreeSet<String> = WITHOUT_FLAG
        .into_iter()
        .chain(secret_variables())
        .map(str::to_owned)
        .collect();
    collect(&Cli::command(), &mut known);
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("SYNCKIT_") && !known.contains(name))
        .collect();
    unknown.sort_unstable();
    if unknown.is_empty() {
        return;
    }
    report.warn(
        "environment",
        format_args!("unknown variables, ignored by the server: {}", unknown.join(", ")),
        "compare the spelling with `synckit serve --help`, or unset them",
    );
}

fn collect(command: &Command, known: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(variables.filter_map(|name| name.to_str()).map(str::to_owned));
    for command in command.get_subcommands() {
        collect(command, known);
    }
}
