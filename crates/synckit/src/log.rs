//! The log of a server, on standard error, as text or as JSON.
//!
//! Invariant: logging neither blocks nor fails (see [`crate::outlet`]). A panic is written without the usual logging
//! code, because that code may have panicked. Of libraries only warnings and errors are logged, at every level: the driver of
//! the database writes the values of each statement at the level `debug`, and with them addresses and records of passwords.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::json;
use synckit_server::{PanicReport, config::LogFormat};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    failure::{Failure, WithHint as _},
    screen,
};

/// Time limit for writing the last lines, after the server has stopped.
pub(crate) const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the log and the hook that reports panics.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("{filter:?} is not a log filter"))
        .hint("use error, warn, info, debug or trace, or a list like synckit_server=debug,info")?;
    let filter = filter.and(filter_fn(is_loggable));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| Line)
        // Otherwise it would write to standard error itself, and panic if that fails.
        .log_internal_errors(false);
    let log = match format {
        LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => log.with_ansi(may_colour()).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(log).init();
    synckit_server::report_panics(move |panic| screen::note(line_of(panic, format)));
    Ok(())
}

/// Whether an event may be logged, whatever the operator chose: libraries do not know which values are secret.
fn is_loggable(event: &Metadata<'_>) -> bool {
    event.target().starts_with("synckit") || *event.level() <= Level::WARN
}

/// A writer that receives each event in one piece.
struct Line;

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        screen::raw_note(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line_of(panic: &PanicReport<'_>, format: LogFormat) -> String {
    let mut time = String::new();
    // Even without the time, the line is worth writing.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    match format {
        LogFormat::Text => format!("{time} ERROR panic {panic}"),
        LogFormat::Json => json!({
            "timestamp": time, "level": "ERROR", "message": "panic", "text": panic.text,
            "location": panic.location.map(ToString::to_string),
            "backtrace": panic.backtrace.as_ref().map(ToString::to_string),
        })
        .to_string(),
    }
}

/// Whether the log may have colours: only on a terminal, and not if NO_COLOR is set (<https://no-color.org>).
fn may_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
