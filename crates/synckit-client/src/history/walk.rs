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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::Value;
    use synckit_protocol::{BatchId, DeviceId, Head, KeyId, Problem, SealedHash};

    use super::*;

    fn bytes<const N: usize>(hex: &Value) -> [u8; N] {
        let hex = hex.as_str().unwrap();
        assert_eq!(hex.len(), 2 * N);
        std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
    }

    fn position(json: &Value) -> Position {
        Position {
            seq: json["seq"].as_u64().unwrap(),
            head: Head::from_bytes(bytes(&json["head"])),
        }
    }

    fn digest(json: &Value) -> BatchDigest {
        BatchDigest {
            batch_id: BatchId::from_bytes(bytes(&json["batch_id"])),
            device_id: DeviceId::from_bytes(bytes(&json["device_id"])),
            key_id: KeyId::from_bytes(bytes(&json["key_id"])),
            count: u32::try_from(json["count"].as_u64().unwrap()).unwrap(),
            sealed_hash: SealedHash::from_bytes(bytes(&json["sealed_hash"])),
        }
    }

    fn walked(json: &Value) -> Result<Position> {
        let known = Some(&json["known"]).filter(|known| !known.is_null());
        let mut walk = Walk::new(position(&json["from"]), known.map(position))?;
        for json in json["digests"].as_array().unwrap() {
            walk.step(&digest(json))?;
        }
        walk.end()?;
        walk.expect(walk.at())?;
        assert_eq!(walk.known(), known.map(position));
        Ok(walk.at())
    }

    #[test]
    fn walks_of_the_vectors_end_as_told() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/chain.json");
        let vectors: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for walk in vectors["walks"].as_array().unwrap() {
            let what = &walk["what"];
            match (walk["refused"].as_str(), walked(walk)) {
                (None, Ok(end)) => assert_eq!(end, position(&walk["end"]), "{what}"),
                (Some("malformed"), Err(Error::Protocol { .. })) => {}
                (
                    Some("HistoryForked"),
                    Err(Error::Tampering(Tampering::HistoryForked(HistoryEvidence { known, claimed }))),
                ) => {
                    assert_eq!(known, position(&walk["known"]), "{what}");
                    assert_ne!(claimed, known, "{what}");
                }
                (
                    Some("HistoryRewound"),
                    Err(Error::Tampering(Tampering::HistoryRewound(HistoryEvidence { known, claimed }))),
                ) => {
                    assert_eq!(known, position(&walk["known"]), "{what}");
                    assert!(claimed.seq < known.seq, "{what}");
                }
                (refused, end) => panic!("{what}: {refused:?}, {end:?}"),
            }
        }
    }

    fn at(seq: u64, head: u8) -> Position {
        Position {
            seq,
            head: Head::from_bytes([head; 32]),
        }
    }

    #[test]
    fn walk_ends_at_the_claimed_position_only() {
        let walk = Walk::new(at(5, 1), None).unwrap();
        walk.expect(at(5, 1)).unwrap();
        for claimed in [at(5, 2), at(6, 1), at(4, 1)] {
            let Error::Tampering(Tampering::HistoryForked(evidence)) = walk.expect(claimed).unwrap_err() else {
                panic!("{claimed:?}")
            };
            assert_eq!((evidence.known, evidence.claimed), (at(5, 1), claimed));
        }
    }

    #[test]
    fn diverged_answer_is_evidence_if_it_names_a_position() {
        let problem = |code, latest| {
            let mut problem = Problem::new(code);
            problem.latest = latest;
            diverged(at(5, 1), Error::Problem(Box::new(problem)))
        };
        let rewound = problem(ProblemCode::HistoryDiverged, Some(at(4, 9)));
        assert!(
            matches!(&rewound, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.claimed == at(4, 9)),
            "{rewound:?}"
        );
        for claimed in [at(5, 2), at(6, 2)] {
            let forked = problem(ProblemCode::HistoryDiverged, Some(claimed));
            assert!(
                matches!(&forked, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.claimed == claimed),
                "{forked:?}"
            );
        }
        for (code, latest) in [
            (ProblemCode::HistoryDiverged, None),
            (ProblemCode::Behind, Some(at(4, 9))),
        ] {
            assert!(matches!(problem(code, latest), Error::Problem(_)), "{code:?}");
        }
    }
}
