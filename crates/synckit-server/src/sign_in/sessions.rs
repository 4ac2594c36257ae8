//! Which sessions live, remembered for a few seconds so that not every request asks the store.
//!
//! Invariant: a session that ended on another node is refused within [`limits::REVOCATION_SECONDS`], one that ended
//! here at once. An ended session never comes back, so that "ended" wins over every answer that was read before.

use std::collections::HashMap;

use parking_lot::Mutex;
use synckit_protocol::{DeviceId, SessionId, limits, wire::UnixSeconds};
use synckit_store::StreamId;

/// Maximum number of cached sessions; past it the cache is cleared, which costs one read of the store for each.
const SESSIONS_MAX: usize = 100_000;

/// The facts about its session that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveSession {
    pub(crate) stream: StreamId,
    /// The device that it belongs to; `None` until it registers one.
    pub(crate) device_id: Option<DeviceId>,
}

#[derive(Debug, Clone, Copy)]
enum Remembered {
    Live { session: LiveSession, read_at: UnixSeconds },
    Ended { at: UnixSeconds },
}

/// The memory of one node.
#[derive(Debug, Default)]
pub(crate) struct SessionCache {
    sessions: Mutex<HashMap<SessionId, Remembered>>,
}

/// The cached facts about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Live(LiveSession),
    Ended,
    /// Nothing fresh enough: ask the store.
    Unknown,
}

impl SessionCache {
    pub(crate) fn look_up(&self, id: SessionId, now: UnixSeconds) -> Known {
        match self.sessions.lock().get(&id) {
            Some(Remembered::Live { session, read_at })
                if *read_at <= now && now - read_at < limits::REVOCATION_SECONDS =>
            {
                Known::Live(*session)
            }
            Some(Remembered::Ended { .. }) => Known::Ended,
            _ => Known::Unknown,
        }
    }

    /// Remembers a session that the store said was alive, when it was asked at `read_at`.
    pub(crate) fn remember(&self, id: SessionId, session: LiveSession, read_at: UnixSeconds) {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, entry| match entry {
                Remembered::Live { read_at: then, .. } | Remembered::Ended { at: then } => {
                    then.saturating_add(limits::REVOCATION_SECONDS) > read_at
                }
            });
            if sessions.len() >= SESSIONS_MAX {
                sessions.clear();
            }
        }
        let entry = sessions.entry(id).or_insert(Remembered::Live { session, read_at });
        if let Remembered::Live { .. } = entry {
            *entry = Remembered::Live { session, read_at };
        }
    }

    /// Ends sessions here at once, whatever a read under way will say.
    pub(crate) fn end(&self, ids: &[SessionId], now: UnixSeconds) {
        let mut sessions = self.sessions.lock();
        for id in ids {
            sessions.insert(*id, Remembered::Ended { at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use synckit_protocol::{AppId, UserId};

    use super::*;

    const ID: SessionId = SessionId::from_bytes([1; 16]);

    fn session() -> LiveSession {
        LiveSession {
            stream: StreamId {
                app_id: AppId::from_bytes([2; 16]),
                user_id: UserId::from_bytes([3; 16]),
            },
            device_id: None,
        }
    }

    #[test]
    fn a_session_is_asked_for_again_after_five_seconds() {
        let cache = SessionCache::default();
        cache.remember(ID, session(), 100);
        assert_eq!(cache.look_up(ID, 104), Known::Live(session()));
        assert_eq!(cache.look_up(ID, 105), Known::Unknown);
        assert_eq!(
            cache.look_up(ID, 99),
            Known::Unknown,
            "a clock that went back makes nothing fresh"
        );
    }

    #[test]
    fn a_slow_read_does_not_revive_an_ended_session() {
        let cache = SessionCache::default();
        cache.end(&[ID], 100);
        cache.remember(ID, session(), 100);
        assert_eq!(cache.look_up(ID, 101), Known::Ended);
    }
}
