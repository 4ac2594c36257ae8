//! Exports, as a store returns them.

use synckit_protocol::wire::export::ExportLine;

/// A page of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// The lines, without `begin` and `end`. Blobs have no URL yet, which a store cannot make.
    pub lines: Vec<ExportLine>,
    /// Where to go on; `None` if nothing is left.
    pub next: Option<ExportCursor>,
}

/// A place in an export. Only the store that gave it out can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportCursor {
    /// The stream.
    pub(super) stream_key: i64,
    /// Which of the kinds of things that a stream has.
    pub(super) section: usize,
    /// The last one that was read.
    pub(super) after: ExportedLast,
}

/// What a section is ordered by, of the last thing that was read. Less than every key to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ExportedLast {
    pub(super) number: i64,
    pub(super) second: i64,
    pub(super) bytes: Vec<u8>,
}
