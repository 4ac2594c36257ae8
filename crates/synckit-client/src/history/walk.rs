//! The check of every history that a server claims.
//!
//! A position is believed only after it was hashed forward from a believed one. Until then, the server's claim is
//! evidence.

use synckit_protocol::{BatchDigest, Position, ProblemCode};

use crate::{
    error::{Error, Result},
    tampering::{HistoryEvidence, Tampering},
};

/// Walks a history from a believed position and compares it with the newest position that was known before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    at: Position,
    known: Option<Position>,
}

impl Walk {
    /// Starts at `from`, which the caller believes. `known` was read before the checked request was sent: an answer
    /// made before that moment cannot contain what this device learned later.
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

    /// Hashes forward over one batch.
    pub(crate) fn step(&mut self, digest: &BatchDigest) -> Result<()> {
        let before = self.at;
        self.at = before.advance(digest).ok_or(Error::Protocol {
            status: 200,
            reason: "a batch that follows the one before",
        })?;
        match self.known {
            // Every known position lies between two batches. A batch across it belongs to another history.
            Some(known) if before.seq < known.seq && known.seq < self.at.seq => Err(self.forked(known)),
            _ => self.compare(),
        }
    }

    /// Checks that the history ends where the server claims.
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

    /// Checks that nothing is missing, after the server claimed that nothing follows.
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

/// The error for an answer `diverged` to a request from `known`, a verified position.
pub(crate) fn diverged(known: Position, error: Error) -> Error {
    match error {
        Error::Problem(problem) if problem.known_code() == Some(ProblemCode::HistoryDiverged) => match problem.latest {
            Some(claimed) => contradiction(known, claimed),
            None => Error::Problem(problem),
        },
        error => error,
    }
}

/// The error for a server whose history leads to `claimed` instead of through `known`.
pub(crate) fn contradiction(known: Position, claimed: Position) -> Error {
    let evidence = HistoryEvidence { known, claimed };
    if claimed.seq < known.seq {
        Error::Tampering(Tampering::HistoryRewound(evidence))
    } else {
        Error::Tampering(Tampering::HistoryForked(evidence))
    }
}
