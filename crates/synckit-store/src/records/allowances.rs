//! Allowances, and the places that accounts are used from.

use synckit_protocol::wire::UnixSeconds;

use super::{Executor, accounts, params};
use crate::{
    Charge, Counted, Draw, Place, StoreError,
    rules::allowances::{FAMILIAR_PER_ACCOUNT_MAX, Rest, familiar_since},
};

/// [`crate::Store::count`].
///
/// # Errors
/// Those of the engine.
pub async fn count(db: &impl Executor, attempt: &Charge, now: UnixSeconds) -> Result<Counted, StoreError> {
    if let Some(once) = &attempt.once {
        let left = left(db, once, now).await?;
        if once.allowance.wait(left).is_some() {
            return Ok(Counted::Repeated);
        }
    }
    let stranger = of_stranger(db, attempt, now).await?;
    let mut drawn = Vec::new();
    let mut wait = None;
    for draw in attempt.draws.iter().chain(stranger) {
        let left = left(db, draw, now).await?;
        wait = wait.max(draw.allowance.wait(left));
        drawn.push((draw, left));
    }
    if let Some(wait_seconds) = wait {
        // Kept as of now: the clock may have been ahead when it was counted.
        for (draw, left) in drawn {
            correct(db, draw, left).await?;
        }
        return Ok(Counted::Refused { wait_seconds });
    }
    for (draw, left) in drawn {
        put(db, draw, draw.allowance.drawn(left)).await?;
    }
    if let Some(once) = &attempt.once {
        let left = left(db, once, now).await?;
        put(db, once, once.allowance.drawn(left)).await?;
    }
    Ok(Counted::First)
}

/// [`crate::Store::give_back`].
///
/// # Errors
/// Those of the engine.
pub async fn give_back(db: &impl Executor, attempt: &Charge, now: UnixSeconds) -> Result<(), StoreError> {
    let stranger = of_stranger(db, attempt, now).await?;
    for draw in attempt.draws.iter().chain(stranger) {
        let left = left(db, draw, now).await?;
        put(db, draw, draw.allowance.given_back(left)).await?;
    }
    match &attempt.from_strangers {
        Some((_, place)) => note_place(db, *place, now).await,
        None => Ok(()),
    }
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

/// What is left of an allowance now.
async fn left(db: &impl Executor, draw: &Draw, now: UnixSeconds) -> Result<Rest, StoreError> {
    let row = db
        .query_one(
            "SELECT left_micro, counted_at FROM allowances WHERE allowance = $1",
            params![&draw.of],
        )
        .await?;
    let rest = row.map(|row| {
        Ok::<_, StoreError>(Rest {
            micro_tokens: row.get(0)?,
            at: row.get(1)?,
        })
    });
    Ok(draw.allowance.left(rest.transpose()?, now))
}

async fn put(db: &impl Executor, draw: &Draw, left: Rest) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO allowances (allowance, left_micro, counted_at, whole_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (allowance) DO UPDATE SET
             left_micro = excluded.left_micro, counted_at = excluded.counted_at, whole_at = excluded.whole_at",
        params![&draw.of, left.micro_tokens, left.at, draw.allowance.whole_at(left)],
    )
    .await?;
    Ok(())
}

/// Moves a count of a clock that was ahead to now. Writes nothing otherwise: a refusal is cheap.
async fn correct(db: &impl Executor, draw: &Draw, left: Rest) -> Result<(), StoreError> {
    db.execute(
        "UPDATE allowances SET counted_at = $2, whole_at = $3 WHERE allowance = $1 AND counted_at > $2",
        params![&draw.of, left.at, draw.allowance.whole_at(left)],
    )
    .await?;
    Ok(())
}
