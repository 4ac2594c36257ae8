//! Repeating what another transaction or a broken connection undid.

use std::time::Duration;

use super::{
    failure::{is_conflict, is_lost, is_read_only},
    pool::Pool,
};
use crate::StoreError;

/// How often a transaction runs at most.
const TRIES_MAX: u32 = 12;
/// The longest pause before the second try; it doubles with every further one.
const PAUSE: Duration = Duration::from_millis(4);
/// The longest pause at all.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// What may be repeated after a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// All of it: it only reads, or a second run finds what the first one did.
    Always,
    /// Nothing that was sent to be committed: it may be stored.
    UnlessCommitted,
}

/// Counts the tries of one request.
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Whether to try again after an error; waits before it says so.
    pub(super) async fn again(
        &mut self,
        pool: &Pool,
        error: &StoreError,
        was_committing: bool,
        repeat: Repeat,
    ) -> bool {
        if is_read_only(error) {
            pool.renew();
        }
        let may_repeat = is_conflict(error) || (is_lost(error) && (repeat == Repeat::Always || !was_committing));
        self.0 += 1;
        if !may_repeat || self.0 >= TRIES_MAX {
            return false;
        }
        self.pause().await;
        true
    }

    /// Whether to look again after another append came in between.
    pub(super) async fn once_more(&mut self) -> bool {
        self.0 += 1;
        if self.0 >= TRIES_MAX {
            return false;
        }
        self.pause().await;
        true
    }

    /// At random, so that two transactions that conflicted do not do so again.
    async fn pause(&self) {
        let longest = PAUSE.saturating_mul(1 << self.0.min(16)).min(PAUSE_MAX);
        tokio::time::sleep(longest.mul_f64(rand::random::<f64>())).await;
    }
}

/// Runs work in a transaction, and again where that is safe.
macro_rules! transaction {
    ($store:expr, $isolation:ident $($brief:ident)?, |$db:ident| $work:expr) => {{
        let _request = $store.pool.admit()?;
        $store.writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut tries = $crate::postgres::retry::Tries::default();
        let mut _turn = None;
        loop {
            let mut is_committing = false;
            let done = async {
                let connection = $store
                    .pool
                    .begin($crate::postgres::connection::Isolation::$isolation)
                    .await?$(.$brief())?;
                let $db = &connection;
                let answer = $work.await?;
                is_committing = true;
                connection.commit().await?;
                Ok::<_, $crate::StoreError>(answer)
            };
            let done = done.await;
            let Err(error) = &done else { break done };
            let repeat = $crate::postgres::retry::Repeat::UnlessCommitted;
            if !tries.again(&$store.pool, error, is_committing, repeat).await {
                break done.map_err($crate::postgres::failure::given_up);
            }
            if _turn.is_none() && $crate::postgres::failure::is_conflict(error) {
                _turn = Some($store.pool.repeat().await);
            }
        }
    }};
}

/// Reads from one snapshot of the database, and again if the connection breaks.
macro_rules! snapshot {
    ($store:expr, |$db:ident| $work:expr) => {
        read!($store, begin(Snapshot), |$db| $work)
    };
}

/// Reads a little by a single statement, whose answer must come soon.
macro_rules! brief {
    ($store:expr, |$db:ident| $work:expr) => {
        read!($store, brief(), |$db| $work)
    };
}

/// Reads by a single statement.
macro_rules! single {
    ($store:expr, |$db:ident| $work:expr) => {
        read!($store, single(), |$db| $work)
    };
}

macro_rules! read {
    ($store:expr, $open:ident($($isolation:ident)?), |$db:ident| $work:expr) => {{
        let _request = $store.pool.admit()?;
        let mut tries = $crate::postgres::retry::Tries::default();
        loop {
            let done = async {
                let connection = $store
                    .pool
                    .$open($($crate::postgres::connection::Isolation::$isolation)?)
                    .await?;
                let $db = &connection;
                $work.await
            };
            let done: Result<_, $crate::StoreError> = done.await;
            let Err(error) = &done else { break done };
            let repeat = $crate::postgres::retry::Repeat::Always;
            if !tries.again(&$store.pool, error, false, repeat).await {
                break done.map_err($crate::postgres::failure::given_up);
            }
        }
    }};
}

pub(super) use {brief, read, single, snapshot, transaction};
