//! Pulling through a snapshot: its rows in pages of the app's usual size, and then the log.
//!
//! While the app stores the rows of one part, the next part is downloaded and opened. Memory holds a row until it is
//! returned; a second pull of the same place downloads the part again.

use std::{collections::VecDeque, sync::Arc};

use synckit_crypto::batch::{ChangeEntry, ChangeOp};
use synckit_protocol::{Cursor, SnapshotPlace, limits::PAGE_ENTRIES_MAX};

use crate::{
    error::{Error, Result},
    history::walk::Walk,
    runtime::{self, Task},
    state::snapshot::{OpenSnapshot, SnapshotReading},
    stream::{handle::Stream, snapshot::snapshot_part},
};

/// The changes of a page, the cursor after them, and whether more follow.
pub type Pulled = (Vec<ChangeEntry>, Cursor, bool);

/// The page at a place in a snapshot. `None` if the server no longer holds the snapshot.
pub(crate) async fn pull_rows(stream: &Stream, place: SnapshotPlace) -> Result<Option<Pulled>> {
    let known = stream.state.known();
    let Some(snapshot) = snapshot_at(stream, place).await? else {
        return Ok(None);
    };
    Walk::new(snapshot.position(), known)?;
    let nothing = place.part == 0 && place.row == 0 && snapshot.parts() == 0;
    let (rows, next) = if nothing {
        (Vec::new(), Cursor::at(snapshot.position()))
    } else {
        let Some(mut reading) = reading_at(stream, &snapshot, place).await? else {
            return Ok(None);
        };
        let page = take_page(&mut reading, place)?;
        if page.1.snapshot().is_some() {
            stream.state.keep_reading(reading);
        }
        page
    };
    stream.state.apply(next, snapshot.position());
    stream.save_position().await?;
    Ok(Some((rows, next, true)))
}

async fn snapshot_at(stream: &Stream, place: SnapshotPlace) -> Result<Option<Arc<OpenSnapshot>>> {
    match stream.state.open_snapshot() {
        Some(open) if open.has_id(place.snapshot_id) && open.position() == place.position => Ok(Some(open)),
        _ => {
            let (keys, known) = (stream.keys()?, stream.state.known());
            let opened = stream.open_snapshot(&keys, place.snapshot_id, place.position).await?;
            if let Some(snapshot) = &opened {
                // Rows do not prove the history before them. The chain must lead from their position to the known
                // position, before the app gets any of them.
                stream
                    .walk_to_head(&keys, Walk::new(snapshot.position(), known)?)
                    .await?;
            }
            Ok(opened)
        }
    }
}

/// The part that contains the place, from the place's row on, taken from the memory between two pulls if possible.
async fn reading_at(
    stream: &Stream,
    snapshot: &Arc<OpenSnapshot>,
    place: SnapshotPlace,
) -> Result<Option<SnapshotReading>> {
    if place.part >= snapshot.parts() {
        return Err(outside());
    }
    let reading = stream.state.take_reading();
    let reading = reading.filter(|reading| reading.snapshot.has_id(place.snapshot_id));
    let ahead = match reading {
        Some(reading) if reading.part == place.part && reading.row == place.row => return Ok(Some(reading)),
        Some(reading) if reading.part + 1 == place.part && place.row == 0 => reading.next,
        _ => None,
    };
    let ahead = match ahead {
        // A failed prefetch is ignored: the app's own request decides about the error.
        Some(ahead) => ahead.join().await.ok().and_then(Result::ok).flatten(),
        None => None,
    };
    let rows = match ahead {
        Some(rows) => rows,
        None => match snapshot_part(&stream.connection, snapshot, place.part).await? {
            Some(rows) => rows,
            None => return Ok(None),
        },
    };
    let mut rows = VecDeque::from(rows);
    if place.row as usize >= rows.len() {
        return Err(outside());
    }
    rows.drain(..place.row as usize);
    let next = if place.part + 1 < snapshot.parts() {
        Some(part_ahead(stream, snapshot, place.part + 1).await)
    } else {
        None
    };
    Ok(Some(SnapshotReading {
        snapshot: Arc::clone(snapshot),
        part: place.part,
        row: place.row,
        rows,
        next,
    }))
}

async fn part_ahead(
    stream: &Stream,
    snapshot: &Arc<OpenSnapshot>,
    part: u32,
) -> Task<Result<Option<Vec<ChangeEntry>>>> {
    let (connection, snapshot) = (Arc::clone(&stream.connection), Arc::clone(snapshot));
    runtime::start(async move { snapshot_part(&connection, &snapshot, part).await }).await
}

/// The rows of one page, and the place after them.
fn take_page(reading: &mut SnapshotReading, place: SnapshotPlace) -> Result<(Vec<ChangeEntry>, Cursor)> {
    if reading.rows.is_empty() {
        return Err(outside());
    }
    let taken = reading.rows.len().min(PAGE_ENTRIES_MAX as usize);
    let page = reading.rows.drain(..taken).map(as_pulled).collect();
    // Also past the last row of a part: a second request for the same place must not return an empty page.
    reading.row = place.row.saturating_add(PAGE_ENTRIES_MAX);
    let next = if !reading.rows.is_empty() {
        Cursor::in_snapshot(SnapshotPlace {
            row: reading.row,
            ..place
        })
    } else if place.part + 1 < reading.snapshot.parts() {
        Cursor::in_snapshot(SnapshotPlace {
            part: place.part + 1,
            row: 0,
            ..place
        })
    } else {
        Cursor::at(place.position)
    };
    Ok((page, next))
}

fn outside() -> Error {
    Error::InvalidArgument {
        argument: "cursor",
        reason: "it lies outside its snapshot: this is not a cursor that a pull returned".into(),
    }
}

/// An existing row is an insertion for the app, a deleted row a deletion. Deletions are always included: an app that
/// starts again may have rows that it pushed itself and that other devices deleted since.
fn as_pulled(row: ChangeEntry) -> ChangeEntry {
    let op = match row.op {
        ChangeOp::Insert | ChangeOp::Update => ChangeOp::Insert,
        ChangeOp::Delete => ChangeOp::Delete,
    };
    ChangeEntry { op, ..row }
}
