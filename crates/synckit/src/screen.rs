//! What goes to standard output.
//!
//! Output that nobody reads any more (`synckit app list | head -1`) is dropped without a fuss: `println!` would panic.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes one line.
pub(crate) fn line(text: impl fmt::Display) {
    let mut out = io::stdout().lock();
    // A reader that went away is its own business, and there is no other place to complain at.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a value as JSON, for programs.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
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
