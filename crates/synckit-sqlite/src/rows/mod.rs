//! Rows in the log: the encoding of `docs/rows.md`, section by section.
//!
//! Invariant: a value, a row id and a row each have exactly one encoding, and the decoder refuses every other one.

mod change;
mod compaction;
mod digest;
mod json;
mod row_id;
mod value;

pub use change::{Row, RowChange, RowError, RowOp, Since};
pub use compaction::Compaction;
pub use json::ValueError;
pub use row_id::RowId;
pub use value::{FileKind, FileValue, INLINE_BYTES_MAX, Real, Value};
