//! Exports, as a store returns them.

use synckit_protocol::wire::export::ExportLine;

use crate::records::Column;

/// A page of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// The lines, without `begin` and `end`. Blobs have no URL: the server adds it.
    pub lines: Vec<ExportLine>,
    /// The place of the next page; `None` after the last page.
    pub next: Option<ExportCursor>,
}

/// A place in an export. Only the store that returned it can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportCursor {
    pub(super) stream_key: i64,
    /// The section of the stream, by its index.
    pub(super) section: usize,
    /// The place of the last row that was read in the section; `None` before its first row.
    pub(super) after: Option<Vec<Column>>,
}
