//! Ids of short-lived requests that count once: what their repeats must not do again.

use std::collections::HashMap;

use synckit_protocol::wire::UnixSeconds;

use super::token_buckets::ENTRIES_MAX;

/// Ids, until their requests have expired. Bounded: a full table takes no further id.
#[derive(Debug, Default)]
pub(super) struct Once(HashMap<[u8; 16], UnixSeconds>);

impl Once {
    pub(super) fn contains(&self, id: &[u8; 16], now: UnixSeconds) -> bool {
        self.0.get(id).is_some_and(|until| *until > now)
    }

    /// Keeps an id whose request is valid for a time. `false` if it is known already, or if there is no room.
    pub(super) fn insert(&mut self, id: [u8; 16], seconds: u64, now: UnixSeconds) -> bool {
        if self.contains(&id, now) {
            return false;
        }
        if self.0.len() >= ENTRIES_MAX {
            self.0.retain(|_, until| *until > now);
            if self.0.len() >= ENTRIES_MAX {
                return false;
            }
        }
        // Twice as long as the request is valid, for clocks that are set back.
        let until = now.saturating_add(seconds.saturating_mul(2));
        self.0.insert(id, until);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_new_once_and_again_when_it_expired() {
        let mut once = Once::default();
        assert!(once.insert([1; 16], 60, 0));
        assert!(!once.insert([1; 16], 60, 119));
        assert!(once.insert([2; 16], 60, 0));
        assert!(once.insert([1; 16], 60, 120));
    }

    #[test]
    fn full_table_takes_no_further_id() {
        let mut once = Once::default();
        for n in 0..ENTRIES_MAX as u128 {
            assert!(once.insert(n.to_be_bytes(), 60, 0));
        }
        assert!(!once.insert([0xff; 16], 60, 119));
        assert!(once.insert([0xff; 16], 60, 120));
        assert_eq!(once.0.len(), 1);
    }
}
