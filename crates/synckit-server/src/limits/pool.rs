//! A bounded resource that requests hold for a while: memory, slots, transfers.
//!
//! No client takes more than a share of it: a session an eighth, an account or an address a quarter. Waiting requests are
//! served in the order of arrival; a request that waits for its own client's share does not block those behind it.
//!
//! Invariants: all permits together never exceed the total, and those of one owner never its share. The table of owners
//! is never larger than the number of issued permits.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use synckit_protocol::{SessionId, UserId};
use tokio::{sync::oneshot, time::Instant};

use super::AddressPrefix;

/// The share of a session: one in so many.
const SESSION_DIVISOR: u64 = 8;
/// The share of an account, and of an address: one in so many.
const OWNER_DIVISOR: u64 = 4;
/// How long a pool counts as used up after it turned somebody away.
const USED_UP_TIME: Duration = Duration::from_secs(5);
/// How often the log says that a pool is used up.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Whose share something counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Session(SessionId),
    Account(UserId),
    /// The account of a presigned URL, by the tag that the URL carries.
    Tag([u8; 16]),
    Address(AddressPrefix),
}

/// Everybody whose share something counts against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owners([Option<Owner>; 2]);

impl Owners {
    /// Nobody: only the total counts.
    pub(crate) const NOBODY: Self = Self([None, None]);

    /// An account, whichever of its sessions asks.
    pub(crate) const fn account(account: UserId) -> Self {
        Self([Some(Owner::Account(account)), None])
    }

    /// A session and its account.
    pub(crate) const fn session(account: UserId, session: SessionId) -> Self {
        Self([Some(Owner::Account(account)), Some(Owner::Session(session))])
    }

    /// An address, for requests without another owner.
    pub(crate) const fn address(prefix: AddressPrefix) -> Self {
        Self([Some(Owner::Address(prefix)), None])
    }

    /// The account behind a presigned URL.
    pub(crate) const fn tag(tag: [u8; 16]) -> Self {
        Self([Some(Owner::Tag(tag)), None])
    }

    /// Whether a session asks, and not just an address.
    pub(crate) fn has_session(&self) -> bool {
        self.iter().any(|owner| matches!(owner, Owner::Session(_)))
    }

    fn iter(&self) -> impl Iterator<Item = Owner> {
        self.0.into_iter().flatten()
    }
}

/// Why a pool gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// All of it is held.
    Total,
    /// One owner holds a whole share.
    Share,
}

/// A bounded amount, shared.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    name: &'static str,
    total: u64,
    /// The least that every owner may hold: the largest single amount that is ever asked for.
    share_min: u64,
    /// The share of an account, if it is not one in [`OWNER_DIVISOR`].
    account_share: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: u64,
    by_owner: HashMap<Owner, u64>,
    waiting: VecDeque<Waiter>,
    /// When the pool as a whole last turned somebody away.
    used_up_at: Option<Instant>,
    warned_at: Option<Instant>,
}

struct Waiter {
    owners: Owners,
    amount: u64,
    grant: oneshot::Sender<Permit>,
}

/// A part of a pool, given back when it is dropped.
pub(crate) struct Permit {
    pool: Pool,
    owners: Owners,
    amount: u64,
}

impl Pool {
    /// A pool of so much, of which the largest single amount is `amount_max`.
    pub(crate) fn new(name: &'static str, total: u64, amount_max: u64) -> Self {
        Self(Arc::new(Inner {
            name,
            total,
            share_min: amount_max.min(total),
            account_share: None,
            state: Mutex::default(),
        }))
    }

    /// A pool that is taken from one by one, and of which an account may hold so much.
    pub(crate) fn with_account_share(name: &'static str, total: u64, account_share: u64) -> Self {
        Self(Arc::new(Inner {
            name,
            total,
            share_min: 1.min(total),
            account_share: Some(account_share),
            state: Mutex::default(),
        }))
    }

    /// Takes a part at once, or not at all.
    pub(crate) fn try_take(&self, owners: Owners, amount: u64) -> Result<Permit, Exhausted> {
        let mut state = self.0.state.lock();
        if self.is_free(&state, owners, amount) {
            return Ok(self.give(&mut state, owners, amount));
        }
        Err(self.exhausted(&mut state, owners, amount))
    }

    /// Takes a part, and waits for it at most so long.
    pub(crate) async fn take(&self, owners: Owners, amount: u64, patience: Duration) -> Result<Permit, Exhausted> {
        let granted = {
            let mut state = self.0.state.lock();
            if self.is_free(&state, owners, amount) {
                return Ok(self.give(&mut state, owners, amount));
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.push_back(Waiter { owners, amount, grant });
            granted
        };
        if let Ok(Ok(permit)) = tokio::time::timeout(patience, granted).await {
            return Ok(permit);
        }
        // This one blocks the others no longer.
        self.serve_waiting();
        let mut state = self.0.state.lock();
        Err(self.exhausted(&mut state, owners, amount))
    }

    /// Whether a part is available at once. Waiters for the whole pool have priority.
    fn is_free(&self, state: &State, owners: Owners, amount: u64) -> bool {
        let queued = state.waiting.iter().any(|waiter| self.is_stuck(state, waiter));
        !queued && self.room(state, owners, amount).is_ok()
    }

    /// Why a part cannot be given.
    fn exhausted(&self, state: &mut State, owners: Owners, amount: u64) -> Exhausted {
        match self.room(state, owners, amount) {
            Err(Exhausted::Share) => Exhausted::Share,
            _ => {
                self.note_used_up(state);
                Exhausted::Total
            }
        }
    }

    /// The name of its resource.
    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    /// The amount that is held.
    pub(crate) fn taken(&self) -> u64 {
        self.0.state.lock().taken
    }

    /// Whether the pool as a whole turned somebody away within the last seconds.
    pub(crate) fn is_used_up(&self) -> bool {
        let used_up_at = self.0.state.lock().used_up_at;
        used_up_at.is_some_and(|at| at.elapsed() < USED_UP_TIME)
    }

    fn share(&self, owner: Owner) -> u64 {
        let divisor = match (owner, self.0.account_share) {
            (Owner::Account(_), Some(share)) => return share,
            (Owner::Session(_), _) => SESSION_DIVISOR,
            (Owner::Account(_) | Owner::Tag(_) | Owner::Address(_), _) => OWNER_DIVISOR,
        };
        (self.0.total / divisor).max(self.0.share_min)
    }

    fn room(&self, state: &State, owners: Owners, amount: u64) -> Result<(), Exhausted> {
        let over_share = owners.iter().any(|owner| {
            let held = state.by_owner.get(&owner).copied().unwrap_or(0);
            held.saturating_add(amount) > self.share(owner)
        });
        if over_share {
            Err(Exhausted::Share)
        } else if state.taken.saturating_add(amount) > self.0.total {
            Err(Exhausted::Total)
        } else {
            Ok(())
        }
    }

    /// Whether one waits for the whole pool, and not for a share of his own.
    fn is_stuck(&self, state: &State, waiter: &Waiter) -> bool {
        !waiter.grant.is_closed() && self.room(state, waiter.owners, waiter.amount) == Err(Exhausted::Total)
    }

    fn give(&self, state: &mut State, owners: Owners, amount: u64) -> Permit {
        state.taken += amount;
        for owner in owners.iter() {
            *state.by_owner.entry(owner).or_default() += amount;
        }
        Permit {
            pool: self.clone(),
            owners,
            amount,
        }
    }

    fn note_used_up(&self, state: &mut State) {
        let now = Instant::now();
        state.used_up_at = Some(now);
        if state.warned_at.is_none_or(|at| now - at >= WARNING_INTERVAL) {
            state.warned_at = Some(now);
            tracing::warn!(
                pool = self.0.name,
                total = self.0.total,
                "a pool is used up: requests are turned away"
            );
        }
    }

    /// Gives something back.
    fn put_back(&self, owners: Owners, amount: u64) {
        {
            let mut state = self.0.state.lock();
            state.taken -= amount;
            for owner in owners.iter() {
                if let Entry::Occupied(mut held) = state.by_owner.entry(owner) {
                    *held.get_mut() -= amount;
                    if *held.get() == 0 {
                        held.remove();
                    }
                }
            }
        }
        self.serve_waiting();
    }

    /// Gives free parts to waiters, and forgets waiters that gave up.
    fn serve_waiting(&self) {
        let mut grants = Vec::new();
        {
            let mut state = self.0.state.lock();
            let mut place = 0;
            while let Some(waiter) = state.waiting.get(place) {
                if waiter.grant.is_closed() {
                    state.waiting.remove(place);
                    continue;
                }
                match self.room(&state, waiter.owners, waiter.amount) {
                    Ok(()) => {
                        if let Some(waiter) = state.waiting.remove(place) {
                            let permit = self.give(&mut state, waiter.owners, waiter.amount);
                            grants.push((waiter.grant, permit));
                        }
                    }
                    // The next in line must not pass this one.
                    Err(Exhausted::Total) => break,
                    Err(Exhausted::Share) => place += 1,
                }
            }
        }
        for (grant, permit) in grants {
            // One that gave up in this moment gives it back: outside the lock, for it takes the lock.
            drop(grant.send(permit));
        }
    }
}

impl Permit {
    /// Returns everything beyond `amount`.
    pub(crate) fn keep_only(&mut self, amount: u64) {
        let surplus = self.amount.saturating_sub(amount);
        if surplus > 0 {
            self.amount -= surplus;
            self.pool.put_back(self.owners, surplus);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.put_back(self.owners, self.amount);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.0.name)
            .field("total", &self.0.total)
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("pool", &self.pool.0.name)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn account(n: u8) -> Owners {
        Owners::session(UserId::from_bytes([n; 16]), SessionId::from_bytes([n; 16]))
    }

    fn other_session(n: u8) -> Owners {
        Owners::session(UserId::from_bytes([n; 16]), SessionId::from_bytes([n + 100; 16]))
    }

    #[test]
    fn session_and_account_hold_a_share_each() {
        let pool = Pool::new("test", 80, 1);
        let first = pool.try_take(account(1), 10).unwrap();
        assert_eq!(pool.try_take(account(1), 1).unwrap_err(), Exhausted::Share);
        let second = pool.try_take(other_session(1), 10).unwrap();
        assert_eq!(pool.try_take(other_session(1), 1).unwrap_err(), Exhausted::Share);
        let third = Owners::session(UserId::from_bytes([1; 16]), SessionId::from_bytes([77; 16]));
        assert_eq!(pool.try_take(third, 1).unwrap_err(), Exhausted::Share);
        assert_eq!(pool.try_take(account(2), 10).map(|permit| permit.amount), Ok(10));
        assert!(!pool.is_used_up(), "a share is not the pool");
        drop((first, second));
        assert_eq!((pool.taken(), pool.0.state.lock().by_owner.len()), (0, 0));
    }

    #[test]
    fn account_holds_the_share_that_it_was_given() {
        let pool = Pool::with_account_share("test", 5, 3);
        let owner = |n| Owners::account(UserId::from_bytes([n; 16]));
        let held: Vec<_> = (0..3).map(|_| pool.try_take(owner(1), 1).unwrap()).collect();
        assert_eq!(pool.try_take(owner(1), 1).unwrap_err(), Exhausted::Share);
        let others: Vec<_> = (0..2).map(|_| pool.try_take(owner(2), 1).unwrap()).collect();
        assert_eq!(pool.try_take(owner(2), 1).unwrap_err(), Exhausted::Total);
        drop((held, others));
        assert_eq!(pool.taken(), 0);
    }

    #[test]
    fn pool_that_is_all_held_is_used_up() {
        let pool = Pool::new("test", 4, 1);
        let held: Vec<_> = (0..4).map(|n| pool.try_take(account(n), 1).unwrap()).collect();
        assert_eq!(pool.try_take(account(9), 1).unwrap_err(), Exhausted::Total);
        assert!(pool.is_used_up());
        drop(held);
        assert!(pool.try_take(account(9), 1).is_ok());
    }

    #[tokio::test]
    async fn waiters_for_a_share_hold_up_nobody() {
        let pool = Pool::new("test", 80, 1);
        let held = pool.try_take(account(1), 10).unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.take(account(1), 10, PATIENCE).await }
        });
        tokio::task::yield_now().await;
        assert!(pool.try_take(account(2), 10).is_ok());
        drop(held);
        assert!(waiting.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn waiters_for_the_pool_are_served_in_order() {
        let pool = Pool::new("test", 40, 40);
        let held = pool.try_take(account(1), 40).unwrap();
        let take = |owner, amount| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.take(owner, amount, PATIENCE).await })
        };
        let large = take(account(2), 40);
        tokio::task::yield_now().await;
        let small = take(account(3), 1);
        tokio::task::yield_now().await;
        drop(held);
        let large = large.await.unwrap().unwrap();
        assert!(!small.is_finished());
        drop(large);
        assert!(small.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn waiter_that_gave_up_leaves_nothing_behind() {
        let pool = Pool::new("test", 10, 10);
        let held = pool.try_take(account(1), 10).unwrap();
        assert_eq!(
            pool.take(account(2), 10, Duration::ZERO).await.unwrap_err(),
            Exhausted::Total
        );
        assert!(pool.0.state.lock().waiting.is_empty());
        drop(held);
        assert_eq!(pool.taken(), 0);
    }
}
