//! The results of the bench: rows of one shape, each beside its target and the machine's own limits.
//!
//! The JSON is described in `docs/performance.md`; programs read rows by `id`, which never changes its meaning.

use std::{
    array,
    io::{self, Write as _},
};

use serde::Serialize;

use super::machine::Machine;
use crate::cli::MeasureArgs;

/// Columns of the table.
const COLUMNS: usize = 5;

/// The version of the JSON: it changes when a field or an id does.
const SCHEMA: u32 = 4;

/// The whole report, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    version: &'static str,
    debug_build: bool,
    load: Load,
    machine: Machine,
    rows: Vec<Row>,
}

/// The load on the server.
#[derive(Debug, Serialize)]
struct Load {
    records: u64,
    record_bytes: u64,
    users: u32,
    batches_per_user: u32,
    streams: u32,
    pushes_per_stream: u32,
    idle_connections: u32,
    quiet_pushes: u32,
    blob_mb: u64,
    blob_rounds: u32,
    seed: u64,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    /// `null` where this system does not tell.
    value: Option<f64>,
    unit: Unit,
    target: Option<Target>,
    /// Whether the target is met; `null` without a target or a value.
    met: Option<bool>,
    limits: Vec<Limit>,
}

/// The target. It is reported, never enforced: a busy machine is not a defect.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// The machine's best figure for one thing that the row needs, in the row's unit.
#[derive(Debug, Serialize)]
struct Limit {
    of: &'static str,
    value: f64,
    /// How near the row comes: 1 is the machine's limit itself, for rates and for times.
    share: Option<f64>,
}

/// The unit of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    #[serde(rename = "records/s")]
    RecordsPerSecond,
    #[serde(rename = "pushes/s")]
    PushesPerSecond,
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    #[serde(rename = "us/record")]
    MicrosecondsPerRecord,
    #[serde(rename = "us/push")]
    MicrosecondsPerPush,
    #[serde(rename = "B/record")]
    BytesPerRecord,
    #[serde(rename = "B")]
    Bytes,
    #[serde(rename = "B/connection")]
    BytesPerConnection,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "s")]
    Seconds,
}

impl Row {
    pub(super) fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        unit: Unit,
        value: impl Into<Option<f64>>,
    ) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            value: value.into().filter(|value| value.is_finite()),
            unit,
            target: None,
            met: None,
            limits: Vec::new(),
        }
    }

    pub(super) fn at_least(mut self, target: f64) -> Self {
        self.target = Some(Target::AtLeast(target));
        self.met = self.value.map(|value| value >= target);
        self
    }

    pub(super) fn at_most(mut self, target: f64) -> Self {
        self.target = Some(Target::AtMost(target));
        self.met = self.value.map(|value| value <= target);
        self
    }

    /// The same figure of another server, whose target is another one.
    pub(super) fn of_other_server(self, id: String, name: String) -> Self {
        Self {
            id,
            name,
            target: None,
            met: None,
            ..self
        }
    }

    /// Adds a limit of the machine, in the unit of this row.
    pub(super) fn beside(mut self, of: &'static str, value: f64) -> Self {
        let share = self
            .value
            .filter(|own| *own > 0.0 && value > 0.0)
            .map(|own| if self.unit.is_rate() { own / value } else { value / own });
        self.limits.push(Limit { of, value, share });
        self
    }
}

impl Unit {
    /// Whether more is better.
    const fn is_rate(self) -> bool {
        matches!(
            self,
            Self::RecordsPerSecond | Self::PushesPerSecond | Self::MegabytesPerSecond
        )
    }

    fn format(self, value: f64) -> String {
        let whole = |name: &str| format!("{} {name}", with_separators(value.round() as u64));
        match self {
            Self::RecordsPerSecond => whole("records/s"),
            Self::PushesPerSecond => whole("pushes/s"),
            Self::MegabytesPerSecond => whole("MB/s"),
            Self::MicrosecondsPerRecord => format!("{value:.2} µs a record"),
            Self::MicrosecondsPerPush => format!("{value:.0} µs a push"),
            Self::BytesPerRecord => format!("{value:.0} B a record"),
            Self::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::BytesPerConnection => format!("{:.1} kB each", value / 1e3),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Seconds => format!("{value:.2} s"),
        }
    }
}

impl Report {
    pub(super) fn new(args: &MeasureArgs, machine: Machine, rows: Vec<Row>) -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            load: Load {
                records: args.records,
                record_bytes: args.load.record_bytes,
                users: args.users,
                batches_per_user: args.load.batches_per_user,
                streams: args.streams,
                pushes_per_stream: args.load.pushes_per_stream,
                idle_connections: args.idle_connections,
                quiet_pushes: args.quiet_pushes,
                blob_mb: args.blob_mb,
                blob_rounds: args.blob_rounds,
                seed: args.load.seed,
            },
            machine,
            rows,
        }
    }

    /// Writes the report to standard output: as one JSON object, or as the table of `docs/performance.md`.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let text = if as_json {
            serde_json::to_string_pretty(self)?
        } else {
            self.markdown()
        };
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// A table whose columns also line up in a terminal.
    fn markdown(&self) -> String {
        let mut lines = self.lines();
        lines.insert(
            0,
            ["", "figure", "target", "", "of the machine's limit"].map(str::to_owned),
        );
        let widths: [usize; COLUMNS] = array::from_fn(|column| {
            let cells = lines.iter().map(|line| line[column].chars().count());
            cells.max().unwrap_or(0).max(4)
        });
        let rule = array::from_fn(|column| {
            let dashes = "-".repeat(widths[column] - 1);
            if is_number(column) { dashes + ":" } else { dashes + "-" }
        });
        lines.insert(1, rule);
        let lines = lines.iter().map(|line| {
            let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                if is_number(column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn lines(&self) -> Vec<[String; COLUMNS]> {
        let rows = self.rows.iter().map(|row| {
            let figure = match row.value {
                Some(value) => row.unit.format(value),
                None => "not measured here".to_owned(),
            };
            let target = match row.target {
                Some(Target::AtLeast(target)) => format!("≥ {}", row.unit.format(target)),
                Some(Target::AtMost(target)) => format!("≤ {}", row.unit.format(target)),
                None => String::new(),
            };
            let met = match row.met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            };
            // The limit that the row is nearest to is the one that explains it.
            let nearest = row
                .limits
                .iter()
                .filter_map(|limit| Some((limit.share?, limit.of)))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let limit = nearest.map_or_else(String::new, |(share, of)| format!("{:.0} % of {of}", share * 100.0));
            [row.name.clone(), figure, target, met.to_owned(), limit]
        });
        let machine = self.machine.figures().into_iter().map(|(name, figure)| {
            let nothing = String::new;
            [format!("this machine: {name}"), figure, nothing(), nothing(), nothing()]
        });
        rows.chain(machine).collect()
    }
}

/// Whether the cells of a column are aligned to the right.
const fn is_number(column: usize) -> bool {
    matches!(column, 1 | 2)
}

/// A whole number as people read it: `1,234,567`.
pub(super) fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The share of each of `count` in `total`.
pub(super) fn per(total: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_one_is_the_limit() {
        let rate = Row::new("r", "", Unit::RecordsPerSecond, 50.0)
            .beside("x", 200.0)
            .at_least(60.0);
        assert_eq!((rate.limits[0].share, rate.met), (Some(0.25), Some(false)));
        let time = Row::new("t", "", Unit::Milliseconds, 8.0).beside("x", 2.0).at_most(8.0);
        assert_eq!((time.limits[0].share, time.met), (Some(0.25), Some(true)));
        let unknown = Row::new("u", "", Unit::Bytes, None).at_most(1.0).beside("x", 1.0);
        assert_eq!((unknown.met, unknown.limits[0].share), (None, None));
    }
}
