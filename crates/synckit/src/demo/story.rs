//! The output of the demo: a line for each step, bars for slow steps, a table at the end.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{screen, units};

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was done, and had nothing to compare.
    Done,
    /// Its comparison succeeded.
    Passed,
    /// Its comparison failed.
    Failed,
    /// It is impossible here.
    NotPossible,
}

impl Verdict {
    pub(super) const fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::NotPossible => "not possible here",
        }
    }
}

/// The unit of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    Rows,
    Bytes,
}

/// A running step.
#[derive(Debug)]
pub(super) struct Step {
    name: &'static str,
    started: Instant,
    rows: Option<u64>,
    bytes: Option<u64>,
}

impl Step {
    pub(super) fn begin(name: &'static str) -> Self {
        Self {
            name,
            started: Instant::now(),
            rows: None,
            bytes: None,
        }
    }

    pub(super) fn rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }

    pub(super) fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

#[derive(Debug)]
struct Told {
    step: Step,
    elapsed: Duration,
    verdict: Verdict,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    told: Vec<Told>,
}

impl Story {
    /// Ends a step and prints it.
    pub(super) fn end(&mut self, step: Step, verdict: Verdict, text: &str) {
        let elapsed = step.started.elapsed();
        self.told.push(Told { step, elapsed, verdict });
        let mark = if verdict == Verdict::Failed { "FAILED: " } else { "" };
        screen::line(format_args!(
            "{:>2}. {mark}{text} ({})",
            self.told.len(),
            units::duration(elapsed)
        ));
    }

    /// A note on the step that was just printed.
    pub(super) fn note(&self, text: &str) {
        screen::line(format_args!("    {text}"));
    }

    /// A bar for a step that may take long. It shows only on a terminal, and disappears at the end.
    pub(super) fn bar(&self, what: &'static str, length: u64, counting: Counting) -> ProgressBar {
        let numbers = match counting {
            Counting::Rows => "{human_pos} of {human_len} rows",
            Counting::Bytes => "{decimal_bytes} of {decimal_total_bytes}",
        };
        let template = format!("    {{msg}} [{{bar:32}}] {numbers} {{eta}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(length)
            .with_style(style.progress_chars("=> "))
            .with_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// Whether nothing failed.
    pub(super) fn passed(&self) -> bool {
        self.told.iter().all(|told| told.verdict != Verdict::Failed)
    }

    /// Whether every step was possible.
    pub(super) fn is_whole(&self) -> bool {
        self.told.iter().all(|told| told.verdict != Verdict::NotPossible)
    }

    /// The whole demo as JSON, for programs.
    pub(super) fn report(&self) -> serde_json::Value {
        let steps: Vec<serde_json::Value> = self
            .told
            .iter()
            .map(|told| {
                serde_json::json!({
                    "step": told.step.name, "result": told.verdict.word(), "rows": told.step.rows,
                    "bytes": told.step.bytes, "milliseconds": told.elapsed.as_millis() as u64,
                })
            })
            .collect();
        serde_json::json!({ "passed": self.passed(), "whole": self.is_whole(), "steps": steps })
    }

    /// The table at the end.
    pub(super) fn summary(&self) {
        let or_nothing = |number: Option<u64>, text: fn(u64) -> String| number.map_or_else(String::new, text);
        let mut rows: Vec<Vec<String>> = self
            .told
            .iter()
            .map(|told| {
                vec![
                    told.step.name.to_owned(),
                    or_nothing(told.step.rows, units::count),
                    or_nothing(told.step.bytes, units::bytes),
                    units::duration(told.elapsed),
                    told.verdict.word().to_owned(),
                ]
            })
            .collect();
        let total: Duration = self.told.iter().map(|told| told.elapsed).sum();
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        rows.push(vec![
            "all".into(),
            String::new(),
            String::new(),
            units::duration(total),
            verdict.into(),
        ]);
        screen::line("");
        screen::table(&["step", "rows", "bytes", "time", "result"], &rows, &[1, 2, 3]);
        screen::line("");
    }
}
