//! `synckit doctor`: finds problems of a server, and gives advice for each.
//!
//! The doctor deliberately repairs nothing. It changes nothing, and works with or without a running server.
//!
//! Invariant: every finding that is not good contains advice.

mod data;
mod environment;
mod files;
mod local;
mod probe;
mod remote;

use std::{fmt::Display, process::ExitCode};

use console::style;
use serde::Serialize;

use crate::{cli::DoctorArgs, failure::Failure, runtime, screen};

/// The result of a check, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    what: String,
    /// Advice; absent if all is well.
    advice: Option<String>,
}

/// All findings, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn ok(&mut self, check: &'static str, what: impl Display) {
        self.add(check, State::Ok, what, None);
    }

    fn warn(&mut self, check: &'static str, what: impl Display, advice: impl Into<String>) {
        self.add(check, State::Warn, what, Some(advice.into()));
    }

    fn fail(&mut self, check: &'static str, what: impl Display, advice: impl Into<String>) {
        self.add(check, State::Fail, what, Some(advice.into()));
    }

    fn add(&mut self, check: &'static str, state: State, what: impl Display, advice: Option<String>) {
        let what = what.to_string();
        if !screen::is_for_programs() {
            let word = match state {
                State::Ok => style("ok  ").green(),
                State::Warn => style("warn").yellow(),
                State::Fail => style("FAIL").red().bold(),
            };
            screen::marked_line(word, format_args!("  {check:<14} {what}"));
            if let Some(advice) = &advice {
                screen::line(format_args!("                     -> {advice}"));
            }
        }
        self.findings.push(Finding {
            check,
            state,
            what,
            advice,
        });
    }

    fn state(&self) -> State {
        let states = self.findings.iter().map(|finding| finding.state);
        states.max().unwrap_or(State::Ok)
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }
}

pub(crate) fn run(args: DoctorArgs) -> Result<ExitCode, Failure> {
    let mut report = Report::default();
    runtime()?.block_on(async {
        match &args.server {
            Some(url) => remote::check(url, &mut report).await,
            None => local::check(&args, &mut report).await,
        }
    });
    let state = report.state();
    if screen::is_for_programs() {
        let document = serde_json::json!({
            "state": state, "version": env!("CARGO_PKG_VERSION"), "findings": report.findings,
        });
        screen::json(&document)?;
    } else {
        screen::line("");
        screen::line(match (report.count(State::Fail), report.count(State::Warn)) {
            (0, 0) => "Everything is in order.".to_owned(),
            (0, warnings) => format!("{warnings} to check, no failures."),
            (failures, warnings) => format!("{failures} failed, {warnings} to check."),
        });
    }
    Ok(match state {
        State::Ok => ExitCode::SUCCESS,
        State::Warn => ExitCode::from(1),
        State::Fail => ExitCode::from(2),
    })
}
