//! The declarations of a manifest, as an app would make them.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::Value as Json;
use synckit_sqlite::{
    inspect::{Finding, SchemaReport, inspect},
    track::{Identity, Track},
};

use crate::schemas;

/// The declarations of all tables that are synced, and what is known of the tables with them.
pub(crate) fn declared(app: &Connection, manifest: &Json) -> (Vec<Track>, SchemaReport) {
    let local = schemas::local_tables(manifest);
    let names = inspect(app, &[]).unwrap().tables.into_iter().map(|table| table.name);
    let names: BTreeSet<String> = names.filter(|name| !local.contains(name)).collect();
    let tracks = names.iter().map(|name| {
        let track = track(name, manifest, &names, true);
        let found = inspect(app, std::slice::from_ref(&track)).unwrap();
        let findings = found.table(name).into_iter().flat_map(|table| table.findings.clone());
        // The manifest says what the app means, and nothing enforces it.
        match findings
            .into_iter()
            .any(|finding| matches!(finding, Finding::EqualKeys { .. }))
        {
            true => self::track(name, manifest, &names, false),
            false => track,
        }
    });
    let tracks: Vec<Track> = tracks.collect();
    let tracks: Vec<Track> = inspect(app, &tracks)
        .unwrap()
        .tables
        .iter()
        .filter(|table| names.contains(&table.name))
        .map(|table| {
            let mut track = of(&tracks, &table.name).unwrap().clone();
            for reference in table.references.iter().filter(|known| !names.contains(&known.parent)) {
                track = track.plain(&reference.column);
            }
            table.findings.iter().fold(track, answered)
        })
        .collect();
    let mut report = inspect(app, &tracks).unwrap();
    report.tables.retain(|table| names.contains(&table.name));
    (tracks, report)
}

/// The declaration of a table.
pub(crate) fn of<'a>(tracks: &'a [Track], table: &str) -> Option<&'a Track> {
    tracks.iter().find(|track| track.table() == table)
}

fn track(table: &str, manifest: &Json, synced: &BTreeSet<String>, is_unique: bool) -> Track {
    let mut track = Track::new(table);
    if let Some(identity) = manifest["identity"][table]
        .as_str()
        .and_then(identity)
        .filter(|identity| is_unique || !matches!(identity, Identity::Columns(_)))
    {
        track = track.identity(identity);
    }
    for reference in manifest["references"].as_array().into_iter().flatten() {
        let [child, column, parent] = [0, 1, 2].map(|place| reference[place].as_str().unwrap());
        // `parent.column` refers to a text, which is the same everywhere.
        if child == table && synced.contains(parent) {
            track = track.references(column, parent);
        }
    }
    let local = manifest["local_columns"][table].as_array().into_iter().flatten();
    local.fold(track, |track, column| track.local(column.as_str().unwrap()))
}

fn identity(text: &str) -> Option<Identity> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let columns = rest.split(['(', ';']).next().unwrap_or_default().split(',');
    match kind {
        "verbatim" => Some(Identity::Verbatim),
        "row" => Some(Identity::WholeRow),
        "columns" => Some(Identity::Columns(columns.map(|name| name.trim().to_owned()).collect())),
        _ => None,
    }
}

/// What the manifest does not name is no reference, and a key that it does not call data is counted.
fn answered(track: Track, finding: &Finding) -> Track {
    match finding {
        Finding::GuessedReference { column, .. } => track.plain(column),
        Finding::KeyLooksLikeData { .. } => track.identity(Identity::Mapped),
        Finding::NoKey => track.identity(Identity::WholeRow),
        _ => track,
    }
}
