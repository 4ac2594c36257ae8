//! Standard output and standard error.
//!
//! A reader that closes the pipe early (`synckit app list | head -1`) must not cause a panic, as `println!` would. Lost
//! output makes the exit code 1, because scripts must not mistake half a list for a whole one.
//!
//! Invariant: with `--json`, standard output contains only JSON; text for people goes to standard error. No control
//! character reaches a terminal, not even from the server's texts: see [`crate::shown`].

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{self, Write},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    outlet::Outlet,
    shown::{in_json, on_one_line, shown},
};

/// Whether programs read the output. Set once, before anything is written.
static FOR_PROGRAMS: AtomicBool = AtomicBool::new(false);
/// The first error of standard output that was not reported yet.
static LOST_OUTPUT: Mutex<Option<io::Error>> = Mutex::new(None);
/// Standard output and standard error of a server, which must not wait for a reader.
static OUTLETS: OnceLock<Outlets> = OnceLock::new();

struct Outlets {
    out: Outlet,
    err: Outlet,
}

/// Switches to output for programs.
pub(crate) fn write_for_programs() {
    FOR_PROGRAMS.store(true, Ordering::Relaxed);
}

/// Whether programs read the output: whether `--json` was given.
pub(crate) fn is_for_programs() -> bool {
    FOR_PROGRAMS.load(Ordering::Relaxed)
}

/// Switches to background output: no write waits for a reader, and lines are dropped if nobody reads. Serving has
/// priority over output.
pub(crate) fn write_in_background() -> io::Result<()> {
    let outlets = Outlets {
        out: Outlet::new(file_of(&io::stdout())?, || {})?,
        err: Outlet::new(file_of(&io::stderr())?, synckit_server::count_lost_log_line)?,
    };
    // A second call keeps the first call's outlets.
    let _ = OUTLETS.set(outlets);
    Ok(())
}

#[cfg(unix)]
fn file_of(stream: &impl std::os::fd::AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn file_of(stream: &impl std::os::windows::io::AsHandle) -> io::Result<File> {
    Ok(stream.as_handle().try_clone_to_owned()?.into())
}

/// Waits until the background lines are written, or until the time limit.
pub(crate) fn flush_background(timeout: Duration) {
    if let Some(outlets) = OUTLETS.get() {
        outlets.out.flush(timeout);
        outlets.err.flush(timeout);
    }
}

/// Fails if some output was lost since the last call.
pub(crate) fn all_written() -> io::Result<()> {
    let lost = LOST_OUTPUT.lock().unwrap_or_else(PoisonError::into_inner).take();
    lost.map_or(Ok(()), Err)
}

/// Writes one line for people.
pub(crate) fn line(text: impl fmt::Display) {
    marked_line("", text);
}

/// Writes one line for people after a mark of the program, which may be coloured.
pub(crate) fn marked_line(mark: impl fmt::Display, text: impl fmt::Display) {
    let text = text.to_string();
    let text = shown(&text);
    if is_for_programs() {
        raw_note(format!("{mark}{text}\n").as_bytes());
    } else {
        output(format_args!("{mark}{text}\n"));
    }
}

/// Writes one line for people to standard error, beside the result.
pub(crate) fn note(text: impl fmt::Display) {
    raw_note(format!("{}\n", shown(&text.to_string())).as_bytes());
}

/// Writes one line of JSON to standard error, for programs.
pub(crate) fn json_note(value: &serde_json::Value) {
    raw_note(format!("{}\n", in_json(&value.to_string())).as_bytes());
}

/// Writes lines that end with a newline to standard error.
pub(crate) fn raw_note(lines: &[u8]) {
    match OUTLETS.get() {
        Some(outlets) => outlets.err.write(lines),
        // No other output is left for this error.
        None => drop(io::stderr().lock().write_all(lines)),
    }
}

/// Writes to standard output, and notes an error for [`all_written`].
fn output(text: fmt::Arguments<'_>) {
    raw_output(text.to_string().as_bytes());
}

/// Writes bytes to standard output, and notes an error for [`all_written`].
pub(crate) fn raw_output(bytes: &[u8]) {
    if let Some(outlets) = OUTLETS.get() {
        outlets.out.write(bytes);
        return;
    }
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        LOST_OUTPUT
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

/// Writes the result as one JSON document, for programs.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    output(format_args!("{}\n", in_json(&serde_json::to_string_pretty(value)?)));
    Ok(())
}

/// Writes an event as one line of JSON, if programs read the output.
pub(crate) fn event(value: &serde_json::Value) {
    if is_for_programs() {
        output(format_args!("{}\n", in_json(&value.to_string())));
    }
}

/// Prints a table: columns in `right` are aligned to the right, the others to the left.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) {
    let rows: Vec<Vec<Cow<'_, str>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| on_one_line(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let write = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((column, cell), width) in cells.enumerate().zip(&widths) {
            if column > 0 {
                text.push_str("  ");
            }
            let cell = if right.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            text.push_str(&cell);
        }
        line(text.trim_end());
    };
    write(&mut head.iter().copied());
    write(
        &mut widths
            .iter()
            .map(|width| "-".repeat(*width))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str),
    );
    for row in &rows {
        write(&mut row.iter().map(AsRef::as_ref));
    }
}
