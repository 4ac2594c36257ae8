//! The server's clock: where "now" comes from.
//!
//! Everything that expires asks this one place, so that a simulation or a test moves time instead of waiting for it.
//! Time-outs of connections are not its business: they belong to the runtime's timer.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use synckit_protocol::wire::UnixSeconds;

/// A source of the time of day. Cheap to clone; clones show the same time.
///
/// # Examples
/// ```
/// use std::{sync::{Arc, atomic::{AtomicU64, Ordering}}, time::{Duration, UNIX_EPOCH}};
/// use synckit_server::{Clock, Config};
///
/// // A test moves time instead of waiting for it.
/// let seconds = Arc::new(AtomicU64::new(1_767_225_600));
/// let shown = Arc::clone(&seconds);
/// let mut config = Config::new("data");
/// config.clock = Clock::from_fn(move || UNIX_EPOCH + Duration::from_secs(shown.load(Ordering::Relaxed)));
/// seconds.fetch_add(3600, Ordering::Relaxed);
/// assert_eq!(config.clock.now(), 1_767_229_200);
/// ```
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The clock of the operating system.
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that asks `now` for the time.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since 1970. A clock set before 1970 reads as 1970.
    pub fn now(&self) -> UnixSeconds {
        (self.0)()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
