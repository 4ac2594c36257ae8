//! The chain: every request to the server about positions of the log, verified hash by hash.
//!
//! Invariant: a returned position was hashed forward from one that this device believes.

use std::ops::ControlFlow;

use synckit_protocol::{
    BatchDigest, BatchId, Behind, Cursor, DeviceId, Position, Problem, ProblemCode,
    wire::log::{Chain, Pushed},
};

use super::handle::Stream;
use crate::{
    connection::call::Call,
    error::{Error, Result},
    history::walk::{Walk, contradiction, diverged},
    state::keys::Keys,
    tampering::{HistoryEvidence, Tampering},
};

/// A batch that this device sealed, for comparison with the server's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) batch_id: BatchId,
    pub(crate) device_id: DeviceId,
    /// The known position when the push began.
    pub(crate) base: Position,
    /// The position of the stream after this sealing.
    pub(crate) after: Position,
}

/// The server's claim about a position.
pub(crate) enum Place {
    OnChain,
    NotOnChain { latest: Position },
    BelowBase { base: Position },
}

impl Stream {
    /// One page of the chain, as the server claims it.
    pub(crate) async fn chain_page(&self, from: Position) -> Result<Chain> {
        let call = Call::get(format!("/api/sync/chain?from={}", Cursor::at(from)));
        match self.connection.authorized(call).await {
            Ok(answer) => answer.decode(),
            Err(error) => Err(diverged(from, error)),
        }
    }

    /// Follows the chain to its end, or until `visit` stops. The only loop over pages of the chain.
    async fn follow(
        &self,
        walk: &mut Walk,
        first: Option<Chain>,
        mut visit: impl FnMut(&BatchDigest, Position) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut page = match first {
            Some(page) => page,
            None => self.chain_page(walk.at()).await?,
        };
        loop {
            for digest in &page.digests {
                walk.step(digest)?;
                if visit(digest, walk.at()).is_break() {
                    return Ok(());
                }
            }
            if !page.has_more {
                walk.expect(page.latest)?;
                return walk.end();
            }
            if page.digests.is_empty() {
                // A server that always claims this would keep this device in an endless loop.
                return Err(Error::Protocol {
                    status: 200,
                    reason: "a page of the chain with digests",
                });
            }
            page = self.chain_page(walk.at()).await?;
        }
    }

    /// Follows the chain to its end, starting at the snapshot if the beginning is deleted.
    pub(crate) async fn walk_to_head(&self, keys: &Keys, mut walk: Walk) -> Result<Position> {
        loop {
            let problem = match self.follow(&mut walk, None, |_, _| ControlFlow::Continue(())).await {
                Ok(()) => return Ok(walk.at()),
                Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::CursorCompacted) => problem,
                Err(error) => return Err(error),
            };
            let position = self.snapshot_position(keys, walk.known(), *problem).await?;
            if position.seq <= walk.at().seq {
                return Err(contradiction(walk.at(), position));
            }
            walk = Walk::new(position, walk.known())?;
        }
    }

    /// Checks that the chain leads from one position through another, verified one.
    pub(crate) async fn leads_to(&self, from: Position, through: Position) -> Result<()> {
        let mut walk = Walk::new(from, Some(through))?;
        if from.seq >= through.seq {
            return Ok(());
        }
        self.follow(&mut walk, None, |_, at| {
            if at.seq >= through.seq {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await
    }

    /// The stream's newest position, verified from the known one.
    pub(crate) async fn newest(&self, keys: &Keys) -> Result<Position> {
        let known = self.state.known();
        let newest = self.walk_to_head(keys, Walk::new(self.newest_known(), known)?).await?;
        self.state.know(newest);
        Ok(newest)
    }

    /// Verifies the answer `behind` to a write on top of `parent`, and returns the stream's newest position. `known`
    /// was read before the write was sent.
    pub(crate) async fn hash_forward(
        &self,
        parent: Position,
        known: Option<Position>,
        problem: Problem,
    ) -> Result<Position> {
        let Behind {
            latest,
            digests,
            has_more,
        } = problem.behind.ok_or(Error::Protocol {
            status: problem.status,
            reason: "the digests after the parent",
        })?;
        let first = Chain {
            digests,
            latest,
            has_more,
        };
        let mut walk = Walk::new(parent, known)?;
        self.follow(&mut walk, Some(first), |_, _| ControlFlow::Continue(()))
            .await?;
        if walk.at() == parent {
            return Err(Error::Protocol {
                status: 409,
                reason: "a head after the parent",
            });
        }
        Ok(walk.at())
    }

    /// The position of a stored batch, checked against this device's sealing.
    ///
    /// The answer may belong to an earlier sealing of the same batch, whose own answer was lost, or which an earlier
    /// run of the app pushed. Then the chain must show the batch at that position, and must lead through the known
    /// position: otherwise a server could claim that a batch is stored by inventing a history for it. The stored batch
    /// must also open: an attacker who replaces the bytes of a push in transit, and keeps its id, gets the same answer,
    /// and the changes would be lost.
    pub(crate) async fn stored_at(&self, sent: Sent, pushed: &Pushed) -> Result<Position> {
        let Sent {
            batch_id,
            device_id,
            base,
            after,
        } = sent;
        let claimed = Position {
            seq: pushed.last_seq,
            head: pushed.head,
        };
        if claimed == after {
            return Ok(claimed);
        }
        let from = if base.seq < claimed.seq { base } else { self.start() };
        let known = self.state.known().filter(|known| known.seq > base.seq);
        let known = known.unwrap_or(base);
        let mut walk = Walk::new(from, Some(known))?;
        let (mut parent, mut before_it, mut is_known) = (from, None, false);
        self.follow(&mut walk, None, |digest, at| {
            if digest.batch_id == batch_id && at == claimed {
                before_it = Some(parent);
            }
            parent = at;
            // An earlier position belongs to this history only if the known position follows from it.
            is_known = at.seq >= known.seq;
            if is_known && (before_it.is_some() || at.seq >= claimed.seq) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await?;
        let Some(parent) = before_it.filter(|_| is_known) else {
            return Err(Error::Tampering(Tampering::HistoryForked(HistoryEvidence {
                known: after,
                claimed,
            })));
        };
        self.read_back(device_id, parent, claimed).await?;
        Ok(claimed)
    }

    /// The place of a position on the server's chain.
    pub(crate) async fn place_of(&self, position: Position) -> Result<Place> {
        match self.chain_page(position).await {
            Ok(_) => Ok(Place::OnChain),
            Err(Error::Tampering(Tampering::HistoryRewound(evidence) | Tampering::HistoryForked(evidence))) => {
                Ok(Place::NotOnChain {
                    latest: evidence.claimed,
                })
            }
            Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::CursorCompacted) => {
                let base = problem.snapshot.map(|snapshot| snapshot.position);
                base.map_or(Err(Error::Problem(problem)), |base| Ok(Place::BelowBase { base }))
            }
            Err(error) => Err(error),
        }
    }
}
