//! Lies about the history, told to a device that remembers, and, as the control, to one that does not.
//! `docs/threat-model.md` lists the lies that a device without a memory cannot detect.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use synckit_client::{Cursor, Error, Head, Position, Tampering};
use synckit_protocol::{
    BatchDigest, Problem, SealedHash,
    wire::log::{Chain, Page, Push, Pushed},
};

use super::{
    Evidence, caught, passes,
    stage::{Forger, Stage, change, pull_all, rewriting},
};
use crate::{
    direct::{Lie, Sent, response_of},
    endpoint::Answer,
};

const PULL: &str = "/api/sync/pull";

fn position(cursor: Cursor) -> anyhow::Result<Position> {
    cursor.position().context("the start of the stream")
}

pub(super) async fn truncated_page(stage: Stage) -> anyhow::Result<Evidence> {
    let end = position(stage.three_batches().await?)?;
    let truncating = || {
        let forger = stage.forger.clone();
        rewriting::<Page>(PULL, move |page| {
            let mut batches = page.batches.clone();
            batches.pop();
            forger.fill(page, batches, forger.start());
        })
    };
    // It read everything once, and reads again from the start.
    let remembering = stage.honest(1)?;
    passes("the honest run", pull_all(&remembering, Cursor::START).await)?;
    let victim = stage.victim(1, truncating())?;
    let caught = caught(
        pull_all(&victim, Cursor::START).await,
        |error| matches!(error, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.known == end && evidence.claimed.seq == 4),
    )?;
    let forgetful = stage.victim(2, truncating())?;
    let rows = passes("the control", pull_all(&forgetful, Cursor::START).await)?.0;
    ensure!(rows.len() == 4, "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "a device that never saw the batch does not miss it: newest batches can be withheld",
    ))
}

pub(super) async fn page_ends_elsewhere(stage: Stage) -> anyhow::Result<Evidence> {
    let end = position(stage.three_batches().await?)?;
    let honest = stage.victim(1, rewriting::<Page>(PULL, |_| {}))?;
    passes("the honest run", pull_all(&honest, Cursor::START).await)?;
    let other = Position {
        head: Head::from_bytes([3; 32]),
        ..end
    };
    let liar = stage.victim(2, rewriting::<Page>(PULL, move |page| page.cursor = Cursor::at(other)))?;
    let caught = caught(
        pull_all(&liar, Cursor::START).await,
        |error| matches!(error, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.known == end && evidence.claimed == other),
    )?;
    // The same cursor, if it is the hash of the page's contents.
    let forger = stage.forger.clone();
    let fitting = stage.victim(
        3,
        rewriting::<Page>(PULL, move |page| {
            let batches = page.batches.clone();
            page.cursor = Cursor::at(other);
            forger.fill(page, batches, forger.start());
        }),
    )?;
    passes("the control", pull_all(&fitting, Cursor::START).await)?;
    Ok(Evidence::new(caught, "a head that is the hash of the page is believed"))
}

pub(super) async fn older_head(stage: Stage) -> anyhow::Result<Evidence> {
    let older = stage.copy_of_server("older").await?;
    let end = stage.three_batches().await?;
    let honest = stage.honest(1)?;
    let rows = passes("the honest run", pull_all(&honest, Cursor::START).await)?.0;
    ensure!(rows.len() == 6, "the honest run brought {rows:?}");

    let known = position(end)?;
    let rewound = |error: &Error| matches!(error, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.known == known && evidence.claimed.seq == 0);
    // From its cursor, and, with the cursor lost, from the position in its keychain.
    let victim = stage.device_at(1, &older, |_, _| Lie::Truth)?;
    caught(pull_all(&victim, end).await, rewound)?;
    let victim = stage.device_at(1, &older, |_, _| Lie::Truth)?;
    caught(pull_all(&victim, Cursor::START).await, rewound)?;
    // And when it pushes.
    let victim = stage.device_at(1, &older, |_, _| Lie::Truth)?;
    let pushed = victim.client.push(victim.id, vec![change("four")]).await;
    let caught = caught(pushed.map_err(Error::from), rewound)?;

    let fresh = stage.device_at(2, &older, |_, _| Lie::Truth)?;
    let rows = passes("the control", pull_all(&fresh, Cursor::START).await)?.0;
    ensure!(rows.is_empty(), "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "a device that knows nothing later believes the older history",
    ))
}

pub(super) async fn other_history(stage: Stage) -> anyhow::Result<Evidence> {
    let other = stage.copy_of_server("other").await?;
    let end = stage.three_batches().await?;
    let author = stage.device_at(3, &other, |_, _| Lie::Truth)?;
    for name in ["uno", "due", "tre"] {
        author
            .client
            .push(author.id, vec![change(name), change("last")])
            .await?;
    }
    let honest = stage.honest(1)?;
    passes("the honest run", pull_all(&honest, Cursor::START).await)?;

    let known = position(end)?;
    let forked = |error: &Error| {
        matches!(
            error,
            Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.known == known && evidence.claimed.seq == known.seq
        )
    };
    let victim = stage.device_at(1, &other, |_, _| Lie::Truth)?;
    caught(pull_all(&victim, end).await, forked)?;
    let victim = stage.device_at(1, &other, |_, _| Lie::Truth)?;
    let caught = caught(pull_all(&victim, Cursor::START).await, forked)?;

    let fresh = stage.device_at(2, &other, |_, _| Lie::Truth)?;
    let rows = passes("the control", pull_all(&fresh, Cursor::START).await)?.0;
    ensure!(
        rows == ["uno", "last", "due", "last", "tre", "last"],
        "the control brought {rows:?}"
    );
    Ok(Evidence::new(
        caught,
        "a device that was never shown the first history believes the second",
    ))
}

pub(super) async fn crossed(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let other = stage.copy_of_server("other").await?;
    // Two devices that both know the first three batches continue, each on a different server.
    let (left, right) = (stage.honest(1)?, stage.device_at(2, &other, |_, _| Lie::Truth)?);
    let mut cursors = Vec::new();
    for (actor, name) in [(&left, "left"), (&right, "right")] {
        pull_all(actor, Cursor::START).await?;
        actor.client.push(actor.id, vec![change(name)]).await?;
        cursors.push(passes("the honest run", pull_all(actor, Cursor::START).await)?.1);
    }
    let [left_end, right_end] = [position(cursors[0])?, position(cursors[1])?];
    // Then they are crossed, the one when it pulls, the other when it pushes.
    let crossed_left = stage.device_at(1, &other, |_, _| Lie::Truth)?;
    let caught_left = caught(
        pull_all(&crossed_left, Cursor::at(left_end)).await,
        |error| matches!(error, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.known == left_end && evidence.claimed == right_end),
    )?;
    let crossed_right = stage.honest(2)?;
    crossed_right.client.resume_at(Cursor::at(right_end));
    let pushed = crossed_right.client.push(crossed_right.id, vec![change("more")]).await;
    caught(
        pushed.map_err(Error::from),
        |error| matches!(error, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.known == right_end && evidence.claimed == left_end),
    )?;
    // Kept apart for ever, nobody can know.
    for (actor, cursor) in [(&left, left_end), (&right, right_end)] {
        passes("the control", pull_all(actor, Cursor::at(cursor)).await)?;
    }
    Ok(Evidence::new(
        caught_left,
        "two devices that are kept apart for ever do not notice",
    ))
}

pub(super) async fn push_not_stored(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let honest = stage.honest(1)?;
    passes(
        "the honest run",
        honest
            .client
            .push(honest.id, vec![change("four")])
            .await
            .map_err(Error::from),
    )?;
    // The server claims the place of the batch without storing it, from its answer to another device's push.
    let end = position(pull_all(&honest, Cursor::START).await?.1)?;
    let lying = move |pushed: &mut Pushed| {
        pushed.first_seq = end.seq;
        pushed.last_seq = end.seq;
        pushed.head = end.head;
    };
    let victim = stage.victim(2, rewriting::<Pushed>("/api/sync/push", lying))?;
    pull_all(&victim, Cursor::START).await?;
    let pushed = victim.client.push(victim.id, vec![change("five")]).await;
    let caught = caught(
        pushed.map_err(Error::from),
        |error| matches!(error, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.claimed == end),
    )?;
    // The true answer to this very push, told a second time to the app that did not hear it the first time.
    let again = stage.honest(3)?;
    let batch_id = synckit_client::SyncKitClient::new_batch_id();
    let (_, applied) = pull_all(&again, Cursor::START).await?;
    for _ in 0..2 {
        let changes = vec![change("six")];
        let pushed = again.client.push_at(again.id, applied, Some(batch_id), changes).await;
        passes("the control", pushed.map_err(Error::from))?;
    }
    Ok(Evidence::new(
        caught,
        "an older answer is believed where the chain shows the batch at that place",
    ))
}

pub(super) async fn push_stored_long_ago(stage: Stage) -> anyhow::Result<Evidence> {
    let end = position(stage.three_batches().await?)?;
    // The server keeps nothing, and says that it stored this very batch long ago: at the start of a history that it
    // makes up when it is asked for the chain.
    let start = stage.forger.start();
    let invented = Arc::new(Mutex::new(None));
    let tell = move |sent: &Sent, answer: Option<Answer>| {
        let Some(answer) = answer else { return Lie::Truth };
        let body = match sent.path() {
            "/api/sync/push" => {
                let Ok(push) = minicbor_serde::from_slice::<Push>(&sent.body) else {
                    return Lie::Truth;
                };
                let digest = BatchDigest {
                    batch_id: push.batch_id,
                    device_id: push.device_id,
                    key_id: push.key_id,
                    count: push.count,
                    sealed_hash: SealedHash::of(push.sealed.as_ref()),
                };
                let Some(at) = start.advance(&digest) else {
                    return Lie::Truth;
                };
                *invented.lock() = Some((digest, at));
                minicbor_serde::to_vec(&Pushed {
                    first_seq: 1,
                    last_seq: at.seq,
                    head: at.head,
                })
            }
            "/api/sync/chain" => {
                let Some((digest, at)) = *invented.lock() else {
                    return Lie::Truth;
                };
                minicbor_serde::to_vec(&Chain {
                    digests: vec![digest],
                    latest: at,
                    has_more: false,
                })
            }
            _ => return Lie::Truth,
        };
        body.map_or(Lie::Truth, |body| Lie::Instead(response_of(answer.head, body.into())))
    };
    let victim = stage.victim(2, tell)?;
    pull_all(&victim, Cursor::START).await?;
    let pushed = victim.client.push(victim.id, vec![change("four")]).await;
    let caught = caught(
        pushed.map_err(Error::from),
        |error| matches!(error, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.known == end),
    )?;
    // A batch that was stored before everything that the device has read since, and whose answer was lost.
    let honest = stage.honest(3)?;
    let batch_id = synckit_client::SyncKitClient::new_batch_id();
    let (_, mut applied) = pull_all(&honest, Cursor::START).await?;
    for name in ["five", "six"] {
        let pushed = honest
            .client
            .push_at(honest.id, applied, Some(batch_id), vec![change("five")])
            .await;
        passes("the control", pushed.map_err(Error::from))?;
        pull_all(&honest, Cursor::START).await?;
        let author = stage.honest(0)?;
        author.client.push(author.id, vec![change(name)]).await?;
        (_, applied) = pull_all(&honest, Cursor::START).await?;
    }
    Ok(Evidence::new(
        caught,
        "an older place is believed where the chain leads from it to what the device knows",
    ))
}

pub(super) async fn push_exchanged(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    // Somebody between device and server exchanges the bytes of a push, and leaves its id.
    let exchanging = |seal_again: Option<Forger>| {
        move |sent: &Sent, answer: Option<Answer>| {
            let Ok(mut push) = minicbor_serde::from_slice::<Push>(&sent.body) else {
                return Lie::Truth;
            };
            if answer.is_some() || sent.path() != "/api/sync/push" {
                return Lie::Truth;
            }
            push.sealed = match &seal_again {
                None => push.sealed.0.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>().into(),
                Some(forger) => forger.seal_anew(&push),
            };
            minicbor_serde::to_vec(&push).map_or(Lie::Truth, |body| Lie::Asking(body.into()))
        }
    };
    let honest = stage.honest(1)?;
    let pushed = honest.client.push(honest.id, vec![change("four")]).await;
    passes("the honest run", pushed.map_err(Error::from))?;
    let victim = stage.victim(2, exchanging(None))?;
    let pushed = victim.client.push(victim.id, vec![change("five")]).await;
    let caught = caught(
        pushed.map_err(Error::from),
        |error| matches!(error, Error::Tampering(Tampering::BatchForged(evidence)) if evidence.device_id == victim.id),
    )?;
    // On an earlier copy, by a holder of the key: the same changes in other bytes.
    let stage = Stage::open(&stage.golden).await?;
    let keyed = stage.victim(2, exchanging(Some(stage.forger.clone())))?;
    let pushed = keyed.client.push(keyed.id, vec![change("five")]).await;
    passes("the control", pushed.map_err(Error::from))?;
    let rows = passes("the control", pull_all(&stage.honest(1)?, Cursor::START).await)?.0;
    ensure!(rows == ["five"], "the control brought {rows:?}");
    Ok(Evidence {
        caught,
        control: "sealed again with the user's key, other bytes of the same batch count as stored".to_owned(),
    })
}

pub(super) async fn forged_digests(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let victim_knows = stage.honest(1)?;
    pull_all(&victim_knows, Cursor::START).await?;
    let other = stage.honest(0)?;
    pull_all(&other, Cursor::START).await?;
    other.client.push(other.id, vec![change("four")]).await?;

    // Another device was faster; the server changes the digest of the batch in between.
    let forging = |keep_head: bool| {
        move |sent: &Sent, answer: Option<Answer>| {
            let Some(answer) = answer else { return Lie::Truth };
            let Ok(mut problem) = serde_json::from_slice::<Problem>(&answer.body) else {
                return Lie::Truth;
            };
            let Some(behind) = problem.behind.as_mut().filter(|_| sent.path() == "/api/sync/push") else {
                return Lie::Truth;
            };
            if keep_head {
                behind.digests.iter_mut().for_each(|digest| digest.count += 1);
            }
            match serde_json::to_vec(&problem) {
                Ok(body) => Lie::Instead(response_of(answer.head, body.into())),
                Err(_) => Lie::Truth,
            }
        }
    };
    let honest = stage.victim(1, forging(false))?;
    passes(
        "the honest run",
        honest
            .client
            .push(honest.id, vec![change("five")])
            .await
            .map_err(Error::from),
    )?;
    let liar = stage.victim(2, forging(true))?;
    let pushed = liar.client.push(liar.id, vec![change("six")]).await;
    let caught = caught(pushed.map_err(Error::from), |error| {
        matches!(error, Error::Tampering(Tampering::HistoryForked(_)))
    })?;
    Ok(Evidence::new(
        caught,
        "true digests through the same transport are accepted",
    ))
}
