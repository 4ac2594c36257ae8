//! The state that all requests share.

use std::{fmt, sync::Arc};

use synckit_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    blobs::Objects,
    limits::{Capacity, DeviceCodes, DiskReserve, Guesses, Mails, Rates},
    live::{Outbox, Subscribers},
    mail::Mailer,
    metering::Meter,
    metrics::Metrics,
    oauth::Pages,
    sign_in::{SealedStates, SessionCache, Tokens},
    startup::{DerivedKeys, Readiness, config::Config},
};

/// The shared state of one server. Handlers hold it as `Arc<ServerState>`.
pub(crate) struct ServerState {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) login: synckit_login::ServerLogin,
    pub(crate) derived: DerivedKeys,
    pub(crate) tokens: Tokens,
    pub(crate) states: SealedStates,
    pub(crate) sessions: SessionCache,
    pub(crate) guesses: Guesses,
    pub(crate) mails: Mails,
    pub(crate) device_codes: DeviceCodes,
    pub(crate) rates: Rates,
    pub(crate) meter: Meter,
    pub(crate) metrics: Metrics,
    pub(crate) objects: Objects,
    pub(crate) mailer: Mailer,
    pub(crate) pages: Pages,
    pub(crate) capacity: Capacity,
    pub(crate) live: Arc<Subscribers>,
    /// News for other nodes on the same database; `None` if there cannot be any.
    pub(crate) outbox: Option<Outbox>,
    pub(crate) readiness: Readiness,
    pub(crate) disk: Arc<DiskReserve>,
    /// Cancelled when the server is told to stop.
    pub(crate) stopping: CancellationToken,
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState").finish_non_exhaustive()
    }
}
