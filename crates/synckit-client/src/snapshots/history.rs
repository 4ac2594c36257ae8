//! A whole history in pieces, for a fold: the current snapshot, if any, and the log after it.
//!
//! Invariant: everything is verified as in a pull, and a second run over a history ends exactly at the end of the
//! first.

use std::sync::Arc;

use synckit_crypto::batch::ChangeEntry;
use synckit_protocol::{Cursor, DeviceId, Position, ProblemCode, wire::log::Page};

use crate::{
    error::{Error, Result},
    history::walk::Walk,
    state::{keys::Keys, snapshot::OpenSnapshot},
    stream::{
        handle::Stream,
        log::{Avoid, Request},
        snapshot::snapshot_part,
    },
};

/// The beginning of a history.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The log's first batch.
    Log,
    Snapshot(Arc<OpenSnapshot>),
}

/// A reader of a whole history.
pub(super) struct History<'a> {
    stream: &'a Stream,
    keys: Arc<Keys>,
    device_id: DeviceId,
    origin: Origin,
    next: Next,
    /// The end of a second run.
    until: Option<Position>,
}

enum Next {
    Part(u32, Walk),
    Log(Walk),
    End(Position),
}

/// A piece of a history. `Overtaken`: another device folded, and the server deleted this history during the read.
pub(super) enum Piece {
    Entries(Vec<ChangeEntry>),
    End(Position),
    Overtaken,
}

impl<'a> History<'a> {
    /// Begins at the server's beginning of the history. [`Avoid::Newest`] avoids the newest snapshot, which was
    /// useless.
    pub(super) async fn begin(
        stream: &'a Stream,
        keys: Arc<Keys>,
        device_id: DeviceId,
        avoid: Avoid,
    ) -> Result<Option<Self>> {
        let known = stream.state.known();
        let request = Request {
            avoid,
            ..Request::ahead(device_id, Cursor::START)
        };
        let snapshot = match request.send(&stream.connection).await {
            Ok(Page { snapshot, .. }) => snapshot,
            Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::CursorCompacted) => {
                match problem.snapshot {
                    Some(snapshot) => Some(snapshot),
                    None => return Err(Error::Problem(problem)),
                }
            }
            Err(error) => return Err(error),
        };
        let origin = match snapshot {
            None => Origin::Log,
            Some(claimed) => {
                let opened = stream.open_snapshot(&keys, claimed.snapshot_id, claimed.position);
                match opened.await? {
                    Some(snapshot) => Origin::Snapshot(snapshot),
                    None => return Ok(None),
                }
            }
        };
        Self::new(stream, keys, device_id, origin, known, None).map(Some)
    }

    /// Restarts the same history, up to the end of the first run.
    pub(super) fn again(self, until: Position) -> Result<Self> {
        Self::new(
            self.stream,
            self.keys,
            self.device_id,
            self.origin,
            Some(until),
            Some(until),
        )
    }

    fn new(
        stream: &'a Stream,
        keys: Arc<Keys>,
        device_id: DeviceId,
        origin: Origin,
        known: Option<Position>,
        until: Option<Position>,
    ) -> Result<Self> {
        let next = match &origin {
            Origin::Log => Next::Log(Walk::new(stream.start(), known)?),
            Origin::Snapshot(snapshot) => Next::Part(0, Walk::new(snapshot.position(), known)?),
        };
        Ok(Self {
            stream,
            keys,
            device_id,
            origin,
            next,
            until,
        })
    }

    /// The next piece: a part or a page.
    pub(super) async fn piece(&mut self) -> Result<Piece> {
        loop {
            match (&self.origin, &self.next) {
                (Origin::Snapshot(snapshot), Next::Part(part, walk)) if *part < snapshot.parts() => {
                    let Some(rows) = snapshot_part(&self.stream.connection, snapshot, *part).await? else {
                        return Ok(Piece::Overtaken);
                    };
                    self.next = Next::Part(part + 1, *walk);
                    return Ok(Piece::Entries(rows));
                }
                (_, Next::Part(_, walk)) => self.next = Next::Log(*walk),
                (_, Next::End(position)) => return Ok(Piece::End(*position)),
                (_, Next::Log(walk)) if self.until == Some(walk.at()) => self.next = Next::End(walk.at()),
                (_, Next::Log(walk)) => {
                    let walk = *walk;
                    return self.page(walk).await;
                }
            }
        }
    }

    async fn page(&mut self, walk: Walk) -> Result<Piece> {
        let request = Request {
            // Another device may have folded meanwhile; this history continues as it began.
            avoid: Avoid::Newest,
            ..Request::ahead(self.device_id, Cursor::at(walk.at()))
        };
        let mut page = match request.send(&self.stream.connection).await {
            Ok(page) if page.snapshot.is_none() => page,
            Ok(_) => return Ok(Piece::Overtaken),
            Err(error) if error.is_problem(ProblemCode::CursorCompacted) => return Ok(Piece::Overtaken),
            Err(error) => return Err(error),
        };
        let all = page.batches.len();
        if let Some(until) = self.until {
            // Later batches belong to the next fold. A batch across the end does not pass the walk.
            page.batches.retain(|batch| batch.first_seq <= until.seq);
        }
        let cut = page.batches.len() < all;
        let (claimed, has_more) = (page.cursor, page.has_more);
        if has_more && page.batches.is_empty() {
            return Err(Error::Protocol {
                status: 200,
                reason: "a page with changes, because more pages follow",
            });
        }
        let (entries, walk) = self.stream.open(Arc::clone(&self.keys), walk, page).await?;
        if !cut {
            walk.expect(claimed.position().unwrap_or(self.stream.start()))?;
        }
        self.next = if has_more || cut {
            Next::Log(walk)
        } else {
            walk.end()?;
            Next::End(walk.at())
        };
        Ok(Piece::Entries(entries))
    }
}
