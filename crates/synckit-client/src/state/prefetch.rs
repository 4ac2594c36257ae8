//! The next page, requested while the app stores the current one.

use synckit_protocol::{Cursor, DeviceId, Position, wire::log::Page};

use crate::{error::Result, runtime::Task};

/// The page after the one that the app has.
#[derive(Debug)]
pub(crate) struct Prefetch {
    pub(crate) device_id: DeviceId,
    pub(crate) cursor: Cursor,
    /// The known position at the time of the request.
    pub(crate) known: Option<Position>,
    pub(crate) page: Task<Result<Page>>,
}
