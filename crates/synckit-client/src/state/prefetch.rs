//! A page that was requested while the app stores the one before it.

use synckit_protocol::{Cursor, DeviceId, Position, wire::log::Page};

use crate::{error::Result, runtime::Task};

/// The page after the last one.
#[derive(Debug)]
pub(crate) struct Prefetch {
    pub(crate) device_id: DeviceId,
    pub(crate) cursor: Cursor,
    /// What was known when it was requested.
    pub(crate) known: Option<Position>,
    pub(crate) page: Task<Result<Page>>,
}
