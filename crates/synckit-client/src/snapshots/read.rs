//! Pulling through a snapshot: its rows in pages of the app's usual size, and then the log.
//!
//! While the app stores the rows of one part, the next is fetched and opened. A row is handed out once: whoever asks for
//! the same place again has the part fetched again.

use std::{collections::VecDeque, sync::Arc};

use synckit_crypto::batch::{ChangeEntry, ChangeOp};
use synckit_protocol::{Cursor, SnapshotId, SnapshotPlace, limits::PAGE_ENTRIES_MAX};

use super::OpenSnapshot;
use crate::{
    client::Inner,
    error::{Error, Result},
    history::walk::Walk,
    pull::{AbortOnDrop, Pulled},
};

/// What a client that pulls through a snapshot keeps in memory of it: the rest of one part, and the next one.
#[derive(Debug)]
pub(crate) struct SnapshotReading {
    snapshot: Arc<OpenSnapshot>,
    /// Where the first of `rows` is.
    part: u32,
    row: u32,
    rows: VecDeque<ChangeEntry>,
    /// The part after that, on its way.
    next: Option<AbortOnDrop<Result<Option<Vec<ChangeEntry>>>>>,
}

impl Inner {
    /// The page at a place in a snapshot. `None` if the server does not hold the snapshot any more.
    pub(crate) async fn pull_rows(self: &Arc<Self>, place: SnapshotPlace) -> Result<Option<Pulled>> {
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
            let Some(mut reading) = self.reading_at(&snapshot, place).await? else {
                return Ok(None);
            };
            let page = reading.take_page(place)?;
            if page.1.snapshot().is_some() {
                self.stream.lock().reading = Some(reading);
            }
            page
        };
        self.stream.lock().apply_rows(next, snapshot.position());
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

    /// The part of a place, with the place's row as the first, taken from where the client keeps it between two pulls.
    async fn reading_at(
        self: &Arc<Self>,
        snapshot: &Arc<OpenSnapshot>,
        place: SnapshotPlace,
    ) -> Result<Option<SnapshotReading>> {
        if place.part >= snapshot.parts() {
            return Err(outside());
        }
        let reading = self.stream.lock().reading.take();
        let reading = reading.filter(|reading| is(&reading.snapshot, place.snapshot_id));
        let ahead = match reading {
            Some(reading) if reading.part == place.part && reading.row == place.row => return Ok(Some(reading)),
            Some(reading) if reading.part + 1 == place.part && place.row == 0 => reading.next,
            _ => None,
        };
        let ahead = match ahead {
            // A request in advance that failed says nothing: the one that the app asked for decides what is reported.
            Some(mut ahead) => (&mut ahead.0).await.ok().and_then(Result::ok).flatten(),
            None => None,
        };
        let rows = match ahead {
            Some(rows) => rows,
            None => match self.snapshot_part(snapshot, place.part).await? {
                Some(rows) => rows,
                None => return Ok(None),
            },
        };
        let mut rows = VecDeque::from(rows);
        if place.row as usize >= rows.len() {
            return Err(outside());
        }
        rows.drain(..place.row as usize);
        let next = (place.part + 1 < snapshot.parts()).then(|| self.part_ahead(snapshot, place.part + 1));
        Ok(Some(SnapshotReading {
            snapshot: Arc::clone(snapshot),
            part: place.part,
            row: place.row,
            rows,
            next,
        }))
    }

    fn part_ahead(
        self: &Arc<Self>,
        snapshot: &Arc<OpenSnapshot>,
        part: u32,
    ) -> AbortOnDrop<Result<Option<Vec<ChangeEntry>>>> {
        let (inner, snapshot) = (Arc::clone(self), Arc::clone(snapshot));
        AbortOnDrop(tokio::spawn(async move { inner.snapshot_part(&snapshot, part).await }))
    }
}

impl SnapshotReading {
    /// The rows of one page, and the place after them.
    fn take_page(&mut self, place: SnapshotPlace) -> Result<(Vec<ChangeEntry>, Cursor)> {
        if self.rows.is_empty() {
            return Err(outside());
        }
        let taken = self.rows.len().min(PAGE_ENTRIES_MAX as usize);
        let page = self.rows.drain(..taken).map(as_pulled).collect();
        // Past the last row of a part, too: whoever asks for the same place again must not find nothing there.
        self.row = place.row.saturating_add(PAGE_ENTRIES_MAX);
        let next = if !self.rows.is_empty() {
            Cursor::in_snapshot(SnapshotPlace { row: self.row, ..place })
        } else if place.part + 1 < self.snapshot.parts() {
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

/// A row that is there is new to whoever pulls it; one that is gone is deleted. Deletions are never left out: an app
/// that starts again may have rows that it pushed itself and that others deleted since.
fn as_pulled(row: ChangeEntry) -> ChangeEntry {
    let op = match row.op {
        ChangeOp::Insert | ChangeOp::Update => ChangeOp::Insert,
        ChangeOp::Delete => ChangeOp::Delete,
    };
    ChangeEntry { op, ..row }
}
