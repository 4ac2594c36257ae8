//! Retention: to which snapshot a log may be cut, and how far one step deletes.

use synckit_protocol::wire::UnixSeconds;

use crate::Retention;

/// Batches that one transaction deletes.
pub const STEP_BATCHES: u32 = 200;
/// Sealed bytes of batches that one transaction deletes, unless a single batch has more. SQLite reads every page that it
/// frees, and pushes wait meanwhile.
pub const STEP_BYTES: u64 = 512 * 1024;
/// Snapshot parts that one transaction deletes, each of up to 4 MiB.
pub const STEP_PARTS: u32 = 1;
/// Unfinished snapshots that one transaction condemns.
pub const STEP_UNFINISHED: u32 = 100;
/// Pending accounts, or sign-ins of machines, that one transaction deletes.
pub const STEP_PENDING: u32 = 200;
/// Allowances that are whole again, in one step.
pub const STEP_ALLOWANCES: u32 = 1_000;
/// Places that are familiar no more, in one step.
pub const STEP_PLACES: u32 = 1_000;
/// Rows of a deleted account that one transaction deletes.
pub const STEP_ROWS: u32 = 200;

/// A complete snapshot that a log could be cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The sequence of its position.
    pub seq: u64,
    /// When its manifest came.
    pub at: UnixSeconds,
    /// The sequence that its stream's log begins after.
    pub base_seq: u64,
}

/// A device that was not revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// When it was last seen.
    pub last_seen_at: UnixSeconds,
    /// A sequence that its app has reached.
    pub pulled_seq: u64,
}

/// Whether a log may be cut to a snapshot: it has settled, it is above the base, and every active device has passed it.
///
/// # Examples
/// ```
/// use synckit_store::{Retention, rules::retention::{Candidate, Reader, may_cut}};
///
/// let ages = Retention { settled_before: 100, active_since: 50, unfinished_before: 0, ended_until: 0, now: 0 };
/// let candidate = Candidate { seq: 7, at: 90, base_seq: 0 };
/// assert!(may_cut(&candidate, &[Reader { last_seen_at: 80, pulled_seq: 7 }], &ages));
/// assert!(!may_cut(&candidate, &[Reader { last_seen_at: 80, pulled_seq: 6 }], &ages));
/// ```
pub fn may_cut(candidate: &Candidate, readers: &[Reader], ages: &Retention) -> bool {
    candidate.at <= ages.settled_before
        && candidate.seq > candidate.base_seq
        && !readers
            .iter()
            .any(|reader| reader.last_seen_at > ages.active_since && reader.pulled_seq < candidate.seq)
}

/// A batch below the base of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Below {
    /// The sequence of its last entry.
    pub end: u64,
    /// Its sealed bytes.
    pub sealed_bytes: u64,
}

/// The number of found batches, up to [`STEP_BATCHES`], that a step deletes, and the sequence up to which it deletes:
/// the end of the last one, or the base if nothing is left below it.
pub fn step(base_seq: u64, found: &[Below]) -> (usize, u64) {
    let mut bytes = 0_u64;
    let fitting = found
        .iter()
        .take_while(|batch| {
            bytes = bytes.saturating_add(batch.sealed_bytes);
            bytes <= STEP_BYTES
        })
        .count();
    let batches = fitting.max(1).min(found.len());
    match found.get(batches.saturating_sub(1)) {
        Some(last) if batches < found.len() || batches >= STEP_BATCHES as usize => (batches, last.end),
        _ => (batches, base_seq),
    }
}
