//! Pulling through a snapshot: its rows in pages of the app's usual size, and then the log.

use std::sync::Arc;

use synckit_crypto::batch::{ChangeEntry, ChangeOp};
use synckit_protocol::{Cursor, SnapshotId, SnapshotPlace, limits::PAGE_ENTRIES_MAX};

use super::OpenSnapshot;
use crate::{
    client::Inner,
    error::{Error, Result},
    history::Walk,
    pull::Pulled,
};

/// What a client that pulls through a snapshot keeps in memory of it: one part.
#[derive(Debug)]
pub(crate) struct SnapshotReading {
    snapshot: Arc<OpenSnapshot>,
    part: u32,
    rows: Arc<Vec<ChangeEntry>>,
}

impl Inner {
    /// The page at a place in a snapshot. `None` if the server does not hold the snapshot any more.
    pub(crate) async fn pull_rows(&self, place: SnapshotPlace) -> Result<Option<Pulled>> {
        let known = self.stream.lock().known();
        let Some(snapshot) = self.snapshot_at(place).await? else {
            return Ok(None);
        };
        // Rows say nothing of the history before them; that this position is the known one's is all that can be seen
        // here. Whether the log goes on to what was known is seen where it ends.
        Walk::new(snapshot.position(), known)?;
        let nothing = place.part == 0 && place.row == 0 && snapshot.parts() == 0;
        let (rows, next) = if nothing {
            (Vec::new(), Cursor::at(snapshot.position()))
        } else {
            let Some(part) = self.rows_at(&snapshot, place).await? else {
                return Ok(None);
            };
            page_of(&part, place, snapshot.parts())?
        };
        {
            let mut stream = self.stream.lock();
            if next.snapshot().is_none() {
                stream.reading = None;
            }
            stream.apply_rows(next, snapshot.position());
        }
        self.save_position().await?;
        Ok(Some((rows, next, true)))
    }

    async fn snapshot_at(&self, place: SnapshotPlace) -> Result<Option<Arc<OpenSnapshot>>> {
        let reading = self
            .stream
            .lock()
            .reading
            .as_ref()
            .map(|reading| Arc::clone(&reading.snapshot));
        match reading {
            Some(open) if is(&open, place.snapshot_id) && open.position() == place.position => Ok(Some(open)),
            _ => {
                self.open_snapshot(&*self.keys()?, place.snapshot_id, place.position)
                    .await
            }
        }
    }

    async fn rows_at(
        &self,
        snapshot: &Arc<OpenSnapshot>,
        place: SnapshotPlace,
    ) -> Result<Option<Arc<Vec<ChangeEntry>>>> {
        if place.part >= snapshot.parts() {
            return Err(outside());
        }
        if let Some(reading) = &self.stream.lock().reading
            && is(&reading.snapshot, place.snapshot_id)
            && reading.part == place.part
        {
            return Ok(Some(Arc::clone(&reading.rows)));
        }
        let Some(rows) = self.snapshot_part(snapshot, place.part).await? else {
            return Ok(None);
        };
        let rows = Arc::new(rows);
        self.stream.lock().reading = Some(SnapshotReading {
            snapshot: Arc::clone(snapshot),
            part: place.part,
            rows: Arc::clone(&rows),
        });
        Ok(Some(rows))
    }
}

fn is(snapshot: &OpenSnapshot, id: SnapshotId) -> bool {
    snapshot.context.snapshot_id == id
}

fn outside() -> Error {
    Error::InvalidArgument {
        argument: "cursor",
        reason: "it lies outside its snapshot: this is not a cursor that a pull returned".into(),
    }
}

/// The rows of one page, and the place after them.
fn page_of(part: &[ChangeEntry], place: SnapshotPlace, parts: u32) -> Result<(Vec<ChangeEntry>, Cursor)> {
    let from = place.row as usize;
    let rows = part.get(from..).filter(|rows| !rows.is_empty()).ok_or_else(outside)?;
    let taken = rows.len().min(PAGE_ENTRIES_MAX as usize);
    let next = if taken < rows.len() {
        Cursor::in_snapshot(SnapshotPlace {
            row: place.row + PAGE_ENTRIES_MAX,
            ..place
        })
    } else if place.part + 1 < parts {
        Cursor::in_snapshot(SnapshotPlace {
            part: place.part + 1,
            row: 0,
            ..place
        })
    } else {
        Cursor::at(place.position)
    };
    Ok((rows.iter().take(taken).map(as_pulled).collect(), next))
}

/// A row that is there is new to whoever pulls it; one that is gone is deleted. Deletions are never left out: an app
/// that starts again may have rows that it pushed itself and that others deleted since.
fn as_pulled(row: &ChangeEntry) -> ChangeEntry {
    let op = match row.op {
        ChangeOp::Insert | ChangeOp::Update => ChangeOp::Insert,
        ChangeOp::Delete => ChangeOp::Delete,
    };
    ChangeEntry { op, ..row.clone() }
}
