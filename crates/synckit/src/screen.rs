//! What goes to standard output, and what to standard error.
//!
//! Output that nobody reads any more (`synckit app list | head -1`) is dropped without a fuss: `println!` would panic.
//!
//! Invariant: with `--json`, standard output holds JSON and nothing else; what people read goes to standard error then.

use std::{
    fmt,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether programs read the output. Set once, before anything is written.
static FOR_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// From now on programs read the output.
pub(crate) fn write_for_programs() {
    FOR_PROGRAMS.store(true, Ordering::Relaxed);
}

/// Whether programs read the output: whether `--json` was given.
pub(crate) fn is_for_programs() -> bool {
    FOR_PROGRAMS.load(Ordering::Relaxed)
}

/// Writes one line for people.
pub(crate) fn line(text: impl fmt::Display) {
    if is_for_programs() {
        note(text);
    } else {
        write(&mut io::stdout().lock(), text);
    }
}

/// Writes one line beside the result: to standard error, for people, always.
pub(crate) fn note(text: impl fmt::Display) {
    write(&mut io::stderr().lock(), text);
}

fn write(out: &mut impl Write, text: impl fmt::Display) {
    // A reader that went away is its own business, and there is no other place to complain at.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes the result as one JSON document, for programs.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    write(&mut io::stdout().lock(), serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Writes something that happened as one line of JSON, if programs read the output.
pub(crate) fn event(value: &serde_json::Value) {
    if is_for_programs() {
        write(&mut io::stdout().lock(), value);
    }
}

/// Lines in columns: the first to the left, the others to the right if `right` says so.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) {
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
    for row in rows {
        write(&mut row.iter().map(String::as_str));
    }
}
