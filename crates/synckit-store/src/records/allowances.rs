//! Allowances, and the places that accounts are used from.

use synckit_protocol::wire::UnixSeconds;

use super::{Executor, ImpossibleValue, Row, accounts, params};
use crate::{
    Charge, Counted, Draw, Place, StoreError,
    rules::allowances::{FAMILIAR_PER_ACCOUNT_MAX, Rest, familiar_since},
};

/// [`crate::Store::count`]. Needs a transaction whose statements see what is committed: it locks the rows itself, in the order
/// of their keys, so that two that draw on the same ones wait for each other and not in a ring. A transaction that a database
/// undoes because others wrote beside what it read would be undone by counts of other accounts.
///
/// # Errors
/// Those of the engine.
pub async fn count(db: &impl Executor, attempt: &Charge, now: UnixSeconds) -> Result<Counted, StoreError> {
    let stranger = of_stranger(db, attempt, now).await?;
    let mut draws: Vec<&Draw> = attempt.once.iter().chain(&attempt.draws).chain(stranger).collect();
    draws.sort_unstable_by_key(|draw| draw.of);

    // A refusal is cheap: it locks nothing.
    let mut seen = Vec::new();
    let is_familiar = attempt.from_strangers.is_some() && stranger.is_none();
    for draw in &draws {
        let rest = find(db, draw).await?;
        if rest.is_none() && !attempt.may_grow && !is_familiar {
            return Err(StoreError::Full("the last of the disk is not for strangers".into()));
        }
        seen.push(Seen::of(draw, rest, now));
    }
    if let Some(answer) = refusal(attempt, &seen, now)
        && !seen.iter().any(|seen| seen.starts_anew)
    {
        return Ok(answer);
    }
    let mut held = Vec::new();
    for draw in &draws {
        held.push(Seen::of(draw, Some(lock(db, draw, now).await?), now));
    }
    if let Some(answer) = refusal(attempt, &held, now) {
        // A clock that was far ahead counted them: kept as of now, or they would never grow.
        for seen in held.iter().filter(|seen| seen.starts_anew) {
            put(db, seen.draw, seen.left).await?;
        }
        return Ok(answer);
    }
    for seen in &held {
        put(db, seen.draw, seen.draw.allowance.drawn(seen.left)).await?;
    }
    Ok(Counted::First)
}

/// [`crate::Store::give_back`]. As [`count`].
///
/// # Errors
/// Those of the engine.
pub async fn give_back(db: &impl Executor, attempt: &Charge, now: UnixSeconds) -> Result<(), StoreError> {
    let stranger = of_stranger(db, attempt, now).await?;
    let mut draws: Vec<&Draw> = attempt.draws.iter().chain(stranger).collect();
    draws.sort_unstable_by_key(|draw| draw.of);
    for draw in draws {
        // One without a row is whole.
        if find(db, draw).await?.is_some() {
            let left = draw.allowance.left(Some(lock(db, draw, now).await?), now);
            put(db, draw, draw.allowance.given_back(left)).await?;
        }
    }
    match &attempt.from_strangers {
        Some((_, place)) => note_place(db, *place, now).await,
        None => Ok(()),
    }
}

/// An allowance, and what is left of it now.
struct Seen<'a> {
    draw: &'a Draw,
    left: Rest,
    /// Its time was moved back to now.
    starts_anew: bool,
}

impl<'a> Seen<'a> {
    fn of(draw: &'a Draw, rest: Option<Rest>, now: UnixSeconds) -> Self {
        let left = draw.allowance.left(rest, now);
        Self {
            draw,
            left,
            starts_anew: rest.is_some_and(|rest| rest.at > left.at),
        }
    }
}

/// The answer, unless each has a token.
fn refusal(attempt: &Charge, all: &[Seen<'_>], now: UnixSeconds) -> Option<Counted> {
    let is_once = |seen: &&Seen<'_>| attempt.once.as_ref() == Some(seen.draw);
    let wait = |seen: &Seen<'_>| seen.draw.allowance.wait(seen.left, now);
    if all.iter().filter(is_once).any(|seen| wait(seen).is_some()) {
        return Some(Counted::Repeated);
    }
    let wait_seconds = all.iter().filter_map(wait).max()?;
    Some(Counted::Refused { wait_seconds })
}

/// [`crate::Store::note_place`].
///
/// # Errors
/// Those of the engine.
pub async fn note_place(db: &impl Executor, place: Place, now: UnixSeconds) -> Result<(), StoreError> {
    let Some(account_key) = accounts::key(db, place.user_id).await? else {
        return Ok(());
    };
    db.execute(
        "INSERT INTO familiar_places (account_key, address, used_at) VALUES ($1, $2, $3)
         ON CONFLICT (account_key, address) DO UPDATE SET used_at = excluded.used_at",
        params![account_key, &place.address, now],
    )
    .await?;
    db.execute(
        "DELETE FROM familiar_places WHERE account_key = $1 AND address NOT IN
         (SELECT address FROM familiar_places WHERE account_key = $1 ORDER BY used_at DESC, address LIMIT $2)",
        params![account_key, FAMILIAR_PER_ACCOUNT_MAX],
    )
    .await?;
    Ok(())
}

/// The draw of an attempt that is only for strangers, if it comes from one.
async fn of_stranger<'a>(
    db: &impl Executor,
    attempt: &'a Charge,
    now: UnixSeconds,
) -> Result<Option<&'a Draw>, StoreError> {
    match &attempt.from_strangers {
        Some((draw, place)) if !is_familiar(db, *place, now).await? => Ok(Some(draw)),
        _ => Ok(None),
    }
}

async fn is_familiar(db: &impl Executor, place: Place, now: UnixSeconds) -> Result<bool, StoreError> {
    let found = db
        .query_one(
            "SELECT used_at FROM familiar_places JOIN accounts USING (account_key)
             WHERE user_id = $1 AND address = $2 AND used_at > $3",
            params![&place.user_id, &place.address, familiar_since(now)],
        )
        .await?;
    Ok(found.is_some())
}

/// What was left of an allowance. `None` if it is whole.
async fn find(db: &impl Executor, draw: &Draw) -> Result<Option<Rest>, StoreError> {
    let row = db
        .query_one(
            "SELECT left_micro, counted_at FROM allowances WHERE allowance = $1",
            params![&draw.of],
        )
        .await?;
    row.map(|row| read(&row)).transpose()
}

/// The same, and nobody else writes it until the transaction ends. A whole one gets a row.
async fn lock(db: &impl Executor, draw: &Draw, now: UnixSeconds) -> Result<Rest, StoreError> {
    let whole = draw.allowance.left(None, now);
    let row = db
        .query_one(
            "INSERT INTO allowances (allowance, left_micro, counted_at, kept_until) VALUES ($1, $2, $3, $4)
             ON CONFLICT (allowance) DO UPDATE SET left_micro = allowances.left_micro
             RETURNING left_micro, counted_at",
            params![&draw.of, whole.micro_tokens, whole.at, draw.allowance.kept_until(whole)],
        )
        .await?;
    read(&row.ok_or(ImpossibleValue("allowance without a row"))?)
}

fn read(row: &Row) -> Result<Rest, StoreError> {
    Ok(Rest {
        micro_tokens: row.get(0)?,
        at: row.get(1)?,
    })
}

/// Writes one that is locked.
async fn put(db: &impl Executor, draw: &Draw, left: Rest) -> Result<(), StoreError> {
    db.execute(
        "UPDATE allowances SET left_micro = $2, counted_at = $3, kept_until = $4 WHERE allowance = $1",
        params![&draw.of, left.micro_tokens, left.at, draw.allowance.kept_until(left)],
    )
    .await?;
    Ok(())
}
