//! Sessions and their refresh secrets.

use synckit_protocol::{
    AppId,
    limits::{CONSENT_SECONDS, PAGE_SESSION_SECONDS, REFRESH_SECONDS},
    wire::UnixSeconds,
};

use crate::PAGES_APP;

/// A session of this app that was last refreshed at this time, or earlier, has ended. Sessions of the pages are never refreshed.
pub fn expired(app_id: AppId, now: UnixSeconds) -> UnixSeconds {
    if app_id == PAGES_APP {
        now.saturating_sub(PAGE_SESSION_SECONDS)
    } else {
        oldest(now)
    }
}

/// A session of any app that was last refreshed at this time, or earlier, has ended.
pub const fn oldest(now: UnixSeconds) -> UnixSeconds {
    now.saturating_sub(REFRESH_SECONDS)
}

/// A login, or a grant of a browser sign-in, that was finished before this time cannot be finished again, because its sealed
/// half has expired. Twice as long as the longer of them is valid, for clocks that are set back.
pub const fn login_forgotten(now: UnixSeconds) -> UnixSeconds {
    now.saturating_sub(2 * CONSENT_SECONDS)
}

/// The counter after which no secret that was given out counts any more: past the one after the current one, because the
/// secret before the current one still does.
pub const fn replaced(current: u64) -> u64 {
    current.saturating_add(2)
}

/// The decision about a session whose refresh secret is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// It continues with this counter.
    Continue(u64),
    /// It ends: only a copied secret can be that old.
    End,
    /// Nothing changes.
    Refuse,
}

/// Decides by the session's current counter and the time of its last refresh, when the secret of `counter` is used.
///
/// A counter past the current one was never given out by this database, which then is an older copy: the session is not
/// at fault and stays. A session that looks expired stays too, because the clock may be ahead. The counter before the
/// current one is used by a device that lost the answer, and by its second process.
///
/// # Examples
/// ```
/// use synckit_store::rules::sessions::{Refresh, refresh};
///
/// assert_eq!(refresh(5, 1_000, 5, 2_000), Refresh::Continue(6));
/// assert_eq!(refresh(5, 1_000, 4, 2_000), Refresh::Continue(5));
/// assert_eq!(refresh(5, 1_000, 3, 2_000), Refresh::End);
/// ```
pub const fn refresh(current: u64, refreshed_at: UnixSeconds, counter: u64, now: UnixSeconds) -> Refresh {
    if counter > current || (refreshed_at <= oldest(now)) {
        return Refresh::Refuse;
    }
    match current - counter {
        0 if counter > 0 => Refresh::Continue(current.saturating_add(1)),
        1 if counter > 0 => Refresh::Continue(current),
        _ => Refresh::End,
    }
}
