//! Brings the app's tables to the state of the merge.
//!
//! Every row is written by its own statement, in the order of the merge's plan. A row that the database refuses waits outside its
//! table. The app's triggers run, so that its full-text indexes stay right; what they change in tracked rows is changed back, for
//! it comes through the log from the device where it was made.

mod renamed;
mod statements;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use self::renamed::follow_renamed;
pub(crate) use self::writer::Writer;
use crate::{
    capture::clear_notes,
    error::Error,
    layout::Layout,
    merge::{Key, Parked, Rules, View},
    rows::Row,
    shadow::book::{BETWEEN, Book, HELD},
};

/// Where the log was read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To its end, and what is unsent was merged onto it.
    Head,
    /// Somewhere: rows that were edited here stay in their tables as they are, until they are merged.
    Between,
}

/// Writes what differs between the tables as they are, `before`, and the book. Returns the rows that changed.
pub(crate) fn apply(
    connection: &Connection,
    layout: &Layout,
    book: &mut Book,
    mut before: BTreeMap<Key, Row>,
    place: Place,
) -> Result<BTreeSet<Key>, Error> {
    if place == Place::Between && book.state.has_strangers() {
        // Rows of the log may be rows that are here already: that is known at its head.
        note_outside(layout, book, &before);
        return Ok(BTreeSet::new());
    }
    follow_renamed(connection, layout, book, &mut before)?;
    let mut writer = Writer::new(connection, layout, before);
    // What a table refused may have become possible.
    book.state.refused.clear();
    loop {
        let mut said = said(layout, book);
        if place == Place::Between {
            let edited = writer
                .present
                .iter()
                .filter(|(key, _)| book.state.unsent.contains_key(*key));
            let edited: Vec<(Key, Row)> = edited.map(|(key, row)| (key.clone(), row.clone())).collect();
            said.visible.extend(edited);
        }
        let refused = writer.write(&said)?;
        if refused.is_empty() {
            writer.undo_triggers(&said)?;
            break;
        }
        book.state.refused.extend(refused);
    }
    note_outside(layout, book, &writer.present);
    clear_notes(connection, layout)?;
    Ok(writer.changed)
}

/// The tables as they should be, with the columns that they have. A row whose deletion waits for a decision stays deleted.
fn said(layout: &Layout, book: &Book) -> View {
    let mut view = book.state.view(&layout.schema, Rules::ALL);
    view.visible
        .retain(|key, _| layout.tables.contains_key(&key.table) && !book.is_held(key));
    for (key, row) in &mut view.visible {
        *row = layout.known(&key.table, row);
    }
    view
}

/// Every row that is not in its table is outside, for whatever reason.
fn note_outside(layout: &Layout, book: &mut Book, present: &BTreeMap<Key, Row>) {
    let rows = book
        .state
        .rows()
        .map(|(key, _)| key)
        .filter(|key| layout.tables.contains_key(&key.table) && !present.contains_key(*key));
    let rows: Vec<&Key> = rows.collect();
    let parked = match rows.is_empty() {
        true => BTreeMap::new(),
        false => book.state.view(&layout.schema, Rules::ALL).parked,
    };
    let outside = rows.into_iter().map(|key| {
        let why = match parked.get(key) {
            _ if book.is_held(key) => HELD.to_owned(),
            Some(Parked::Unique { by }) => format!("unique: {} {}", by.table, by.id),
            Some(Parked::Parent { missing }) => format!("parent: {} {}", missing.table, missing.id),
            Some(Parked::Refused { message }) => format!("refused: {message}"),
            None => BETWEEN.to_owned(),
        };
        (key.clone(), why)
    });
    book.outside = outside.collect();
}
