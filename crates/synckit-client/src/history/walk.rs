//! The check of every history that the server tells.
//!
//! Positions are believed only after they were hashed forward from a believed one; what the server claims is evidence
//! until then.

use synckit_protocol::{BatchDigest, Position, ProblemCode};

use crate::{
    error::{Error, Result},
    tampering::{HistoryEvidence, Tampering},
};

/// Walks a history from a believed position and compares it with the newest one that was known before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    at: Position,
    known: Option<Position>,
}

impl Walk {
    /// Starts at `from`, which the caller believes. `known` was read before the request that is checked was sent: what
    /// this device learned meanwhile says nothing about an answer that was made before.
    pub(crate) fn new(from: Position, known: Option<Position>) -> Result<Self> {
        let walk = Self { at: from, known };
        walk.compare()?;
        Ok(walk)
    }

    pub(crate) fn at(&self) -> Position {
        self.at
    }

    pub(crate) fn known(&self) -> Option<Position> {
        self.known
    }

    /// Goes past one batch.
    pub(crate) fn step(&mut self, digest: &BatchDigest) -> Result<()> {
        let before = self.at;
        self.at = before.advance(digest).ok_or(Error::Protocol {
            status: 200,
            reason: "a batch that follows the one before",
        })?;
        match self.known {
            // Every known position lies between two batches; a batch across it is of another history.
            Some(known) if before.seq < known.seq && known.seq < self.at.seq => Err(self.forked(known)),
            _ => self.compare(),
        }
    }

    /// Checks that the server's own claim of where this ends is where it does end.
    pub(crate) fn expect(&self, claimed: Position) -> Result<()> {
        if claimed == self.at {
            Ok(())
        } else {
            Err(Error::Tampering(Tampering::HistoryForked(HistoryEvidence {
                known: self.at,
                claimed,
            })))
        }
    }

    /// Checks, where the server says that nothing follows, that nothing is missing.
    pub(crate) fn end(&self) -> Result<()> {
        match self.known {
            Some(known) if self.at.seq < known.seq => {
                Err(Error::Tampering(Tampering::HistoryRewound(HistoryEvidence {
                    known,
                    claimed: self.at,
                })))
            }
            _ => Ok(()),
        }
    }

    fn compare(&self) -> Result<()> {
        match self.known {
            Some(known) if known.seq == self.at.seq && known.head != self.at.head => Err(self.forked(known)),
            _ => Ok(()),
        }
    }

    fn forked(&self, known: Position) -> Error {
        Error::Tampering(Tampering::HistoryForked(HistoryEvidence {
            known,
            claimed: self.at,
        }))
    }
}

/// What an error means that answers a request from `known`, a position which this device had verified.
pub(crate) fn diverged(known: Position, error: Error) -> Error {
    match error {
        Error::Problem(problem) if problem.known_code() == Some(ProblemCode::HistoryDiverged) => match problem.latest {
            Some(claimed) => contradiction(known, claimed),
            None => Error::Problem(problem),
        },
        error => error,
    }
}

/// What a server means that says that its history does not lead through `known`, but to `claimed`.
pub(crate) fn contradiction(known: Position, claimed: Position) -> Error {
    let evidence = HistoryEvidence { known, claimed };
    if claimed.seq < known.seq {
        Error::Tampering(Tampering::HistoryRewound(evidence))
    } else {
        Error::Tampering(Tampering::HistoryForked(evidence))
    }
}
