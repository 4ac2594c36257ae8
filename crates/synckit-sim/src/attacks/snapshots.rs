//! Lies about snapshots: told to a device that starts, in place of the log's beginning. The liar says that the log is cut,
//! to any request, so that no device can avoid the snapshot: a device that can read the log instead does so.
//!
//! The liar cannot seal. The liar of a control can.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::OsRng;
use serde::Serialize;
use synckit_client::{ChangeEntry, Cursor, Error, FoldOutcome, Head, Position, SnapshotId, Tampering};
use synckit_crypto::{
    KeyRing,
    snapshot::{Manifest, PartBody, PartDigest, SnapshotContext},
};
use synckit_protocol::wire::{
    log::{Page, Pull},
    snapshots::{SnapshotAnswer, SnapshotInfo, SnapshotPartAnswer},
};

use super::{
    Evidence, caught, passes,
    stage::{Actor, Forger, Stage, change, invented, pull_all},
};
use crate::{
    direct::{Lie, Sent},
    endpoint::Answer,
    golden::{credential_file, stored_key_ring},
};

const PULL: &str = "/api/sync/pull";
const SNAPSHOTS: &str = "/api/sync/snapshots/";

/// The rows of the newer snapshot.
const TRUE_ROWS: [&str; 3] = ["one 1", "two 1", "three 2"];

const NOT_THE_PART: &str = "this is not the part that its manifest names";
const NOT_THE_MANIFEST: &str = "its manifest was not sealed by a device of this user for this position";

fn row(name: &str, version: u32) -> ChangeEntry {
    ChangeEntry {
        data: Some(serde_json::json!({ "version": version })),
        ..change(name)
    }
}

/// A snapshot as a server tells it.
#[derive(Clone)]
struct Told {
    info: SnapshotInfo,
    manifest: Vec<u8>,
    parts: Vec<Vec<u8>>,
}

impl Told {
    /// The answers of a server with this snapshot, where they differ from before.
    fn answer(&self, sent: &Sent, offered_to: impl Fn(Cursor) -> bool) -> Option<Vec<u8>> {
        if sent.path() == PULL {
            let pull: Pull = minicbor_serde::from_slice(&sent.body).ok()?;
            return offered_to(pull.cursor).then(|| encoded(&self.page()))?;
        }
        let rest = sent.path().strip_prefix(SNAPSHOTS)?;
        let rest = rest.strip_prefix(&self.info.snapshot_id.to_string())?;
        if rest.is_empty() {
            return encoded(&SnapshotAnswer {
                snapshot: self.info,
                manifest: self.manifest.clone().into(),
            });
        }
        let part: usize = rest.strip_prefix("/parts/")?.parse().ok()?;
        let sealed = self.parts.get(part)?.clone().into();
        encoded(&SnapshotPartAnswer { sealed })
    }

    fn page(&self) -> Page {
        Page {
            batches: Vec::new(),
            cursor: Cursor::at(self.info.position),
            has_more: true,
            snapshot: Some(self.info),
        }
    }
}

fn encoded(answer: &impl Serialize) -> Option<Vec<u8>> {
    minicbor_serde::to_vec(answer).ok()
}

/// Lies about a snapshot to requests from such a cursor, and is honest otherwise.
fn telling_at(
    told: &Told,
    offered_to: impl Fn(Cursor) -> bool + Send + Sync + 'static,
) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static {
    let told = told.clone();
    move |sent, answer| {
        if answer.is_some() || sent.head.method == http::Method::PUT {
            return Lie::Truth;
        }
        match told.answer(sent, &offered_to) {
            Some(body) => invented(200, &[("content-type", "application/cbor")], body),
            None => Lie::Truth,
        }
    }
}

/// Lies about a snapshot to every device that starts, even if it avoids snapshots.
fn telling(told: &Told) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static {
    telling_at(told, |cursor| cursor == Cursor::START)
}

/// The rows that an app gets from the start, with their versions, and how it ended.
async fn read(actor: &Actor) -> (Vec<String>, Result<(), Error>) {
    let (mut rows, mut cursor) = (Vec::new(), Cursor::START);
    loop {
        let (changes, next, has_more) = match actor.client.pull(actor.id, cursor).await {
            Ok(pulled) => pulled,
            Err(error) => return (rows, Err(error)),
        };
        rows.extend(changes.iter().map(|change| {
            let version = change.data.as_ref().map(|data| data["version"].to_string());
            format!("{} {}", change.row_id, version.unwrap_or_default())
        }));
        cursor = next;
        if !has_more {
            return (rows, Ok(()));
        }
    }
}

async fn read_all(what: &'static str, actor: &Actor, expected: &[&str]) -> anyhow::Result<()> {
    let (rows, ended) = read(actor).await;
    passes(what, ended)?;
    ensure!(rows == expected, "{what} brought {rows:?}");
    Ok(())
}

impl Forger {
    /// A snapshot under the forger's key, with each row in a part of its own.
    fn tell(&self, stage: &Stage, info: SnapshotInfo, rows: &[ChangeEntry]) -> anyhow::Result<Told> {
        let keys = self.keys();
        let context = SnapshotContext {
            scope: stage.golden.scope(&stage.golden.ada),
            snapshot_id: info.snapshot_id,
            position: info.position,
        };
        let total = u32::try_from(rows.len())?;
        let (mut parts, mut digests) = (Vec::new(), Vec::new());
        for (index, row) in (0..).zip(rows) {
            let (_, body) = PartBody::encode_prefix(std::slice::from_ref(row))?;
            let sealed = keys
                .snapshot
                .seal_part(&keys.key_id, &context, index, total, &body, &mut OsRng);
            digests.push(PartDigest::of(&body, &sealed));
            parts.push(sealed);
        }
        let manifest = Manifest::new(digests).context("not a snapshot")?;
        Ok(Told {
            info: SnapshotInfo {
                key_id: keys.key_id,
                parts: total,
                ..info
            },
            manifest: keys
                .snapshot
                .seal_manifest(&keys.key_id, &context, &manifest, &mut OsRng),
            parts,
        })
    }
}

/// A stream of three rows that was folded, edited once, and folded again. The SDK puts the rows into one part.
struct Folded {
    stage: Stage,
    older: Told,
    newer: Told,
}

impl Folded {
    async fn make(stage: Stage) -> anyhow::Result<Self> {
        let author = stage.honest(0)?;
        let rows = vec![row("one", 1), row("two", 1), row("three", 1)];
        author.client.push(author.id, rows).await?;
        let older = fold(&stage, &author).await?;
        author.client.push(author.id, vec![row("three", 2)]).await?;
        let newer = fold(&stage, &author).await?;
        Ok(Self { stage, older, newer })
    }

    /// The same two snapshots as a device of the user would have made them that puts each row into a part of its own:
    /// the SDK begins another part after 4 MiB only.
    async fn in_three_parts(stage: Stage) -> anyhow::Result<Self> {
        let folded = Self::make(stage).await?;
        let older = folded.forged(folded.older.info, &[("one", 1), ("two", 1), ("three", 1)])?;
        let newer = folded.forged(folded.newer.info, &[("one", 1), ("two", 1), ("three", 2)])?;
        Ok(Self { older, newer, ..folded })
    }

    /// A snapshot by a holder of the user's key, with these rows, each in its own part.
    fn forged(&self, info: SnapshotInfo, rows: &[(&str, u32)]) -> anyhow::Result<Told> {
        let rows: Vec<ChangeEntry> = rows.iter().map(|(name, version)| row(name, *version)).collect();
        self.stage.forger.tell(&self.stage, info, &rows)
    }

    /// Tells the true snapshot, the lie, and the same lie with the missing key.
    async fn refuses(self, lie: Told, part: Option<u32>, keyed: Told, believed: Believed) -> anyhow::Result<Evidence> {
        let honest = self.stage.victim(1, telling(&self.newer))?;
        read_all("the honest run", &honest, &TRUE_ROWS).await?;

        let reason = if part.is_some() { NOT_THE_PART } else { NOT_THE_MANIFEST };
        let victim = self.stage.victim(2, telling(&lie))?;
        let (seen, ended) = read(&victim).await;
        let caught = caught(
            ended,
            |error| matches!(error, Error::Tampering(Tampering::SnapshotForged(evidence)) if evidence.part == part && evidence.reason == reason),
        )?;
        // With several parts, each is a row: those before the forged one are verified by themselves, and
        // nothing else came.
        let verified = part.unwrap_or_default() as usize;
        ensure!(seen == TRUE_ROWS[..verified], "the victim was given {seen:?}");

        let fooled = self.stage.victim(3, telling(&keyed))?;
        read_all("the control", &fooled, believed.rows).await?;
        Ok(Evidence::new(caught, believed.control))
    }
}

/// The result of the control.
struct Believed {
    rows: &'static [&'static str],
    control: &'static str,
}

/// Folds, and returns the snapshot as the honest server gives it to a device that starts.
async fn fold(stage: &Stage, author: &Actor) -> anyhow::Result<Told> {
    let report = passes("the fold", author.client.fold(author.id).await)?;
    ensure!(report.outcome == FoldOutcome::Stored, "the fold was not stored");
    let seen: Arc<Mutex<BTreeMap<String, Bytes>>> = Arc::default();
    let keep = Arc::clone(&seen);
    let reader = stage.victim(4, move |sent, answer| {
        if let Some(answer) = answer.filter(|answer| answer.head.status.is_success())
            && let Some(rest) = sent.path().strip_prefix(SNAPSHOTS)
        {
            keep.lock().insert(rest.to_owned(), answer.body);
        }
        Lie::Truth
    })?;
    passes("the honest run", pull_all(&reader, Cursor::START).await)?;
    let seen = seen.lock();
    // The parts' paths begin with the manifest's, so that it is the first.
    let (id, manifest) = seen.first_key_value().context("no snapshot was read")?;
    let manifest: SnapshotAnswer = minicbor_serde::from_slice(manifest)?;
    let mut parts = Vec::new();
    while let Some(part) = seen.get(&format!("{id}/parts/{}", parts.len())) {
        let part: SnapshotPartAnswer = minicbor_serde::from_slice(part)?;
        parts.push(part.sealed.0);
    }
    Ok(Told {
        info: manifest.snapshot,
        manifest: manifest.manifest.0,
        parts,
    })
}

pub(super) async fn left_out(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::in_three_parts(stage).await?;
    let mut lie = folded.newer.clone();
    lie.parts.remove(1);
    let keyed = folded.forged(folded.newer.info, &[("one", 1), ("three", 2)])?;
    let believed = Believed {
        rows: &["one 1", "three 2"],
        control: "with the user's key, a snapshot without the row is believed",
    };
    folded.refuses(lie, Some(1), keyed, believed).await
}

pub(super) async fn stale_part(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::in_three_parts(stage).await?;
    let mut lie = folded.newer.clone();
    // The same place in a snapshot of as many parts, under the same key.
    lie.parts[2].clone_from(&folded.older.parts[2]);
    let keyed = folded.forged(folded.newer.info, &[("one", 1), ("two", 1), ("three", 1)])?;
    let believed = Believed {
        rows: &["one 1", "two 1", "three 1"],
        control: "with the user's key, the row as it was before is believed",
    };
    folded.refuses(lie, Some(2), keyed, believed).await
}

pub(super) async fn stale_under_the_newest_id(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::make(stage).await?;
    let mut lie = folded.older.clone();
    lie.info.snapshot_id = folded.newer.info.snapshot_id;
    let keyed = folded.forged(lie.info, &[("one", 1), ("two", 1), ("three", 1)])?;
    let believed = Believed {
        rows: &["one 1", "two 1", "three 1", "three 2"],
        control: "sealed for this id with the user's key, it is believed, and the log continues from its own position",
    };
    folded.refuses(lie, None, keyed, believed).await
}

pub(super) async fn stale_at_a_later_position(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::make(stage).await?;
    let mut lie = folded.older.clone();
    lie.info.position = folded.newer.info.position;
    let keyed = folded.forged(lie.info, &[("one", 1), ("two", 1), ("three", 1)])?;
    let believed = Believed {
        rows: &["one 1", "two 1", "three 1"],
        control: "sealed for this position with the user's key, it is believed, and the edit in between is lost",
    };
    folded.refuses(lie, None, keyed, believed).await
}

pub(super) async fn reordered(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::in_three_parts(stage).await?;
    let mut lie = folded.newer.clone();
    lie.parts.swap(0, 1);
    let keyed = folded.forged(folded.newer.info, &[("two", 1), ("one", 1), ("three", 2)])?;
    let believed = Believed {
        rows: &["two 1", "one 1", "three 2"],
        control: "with the user's key, the parts are believed in this order",
    };
    folded.refuses(lie, Some(0), keyed, believed).await
}

pub(super) async fn mixed(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::in_three_parts(stage).await?;
    // By a device of the user, for the same id, position, place and number of parts, with the same row in it: only the
    // hash in the manifest tells them apart.
    let other = folded.forged(folded.newer.info, &[("one", 1), ("two", 1), ("three", 2)])?;
    let mut lie = folded.newer.clone();
    lie.parts[1].clone_from(&other.parts[1]);
    let believed = Believed {
        rows: &TRUE_ROWS,
        control: "with the manifest and the other parts of its own attempt, the same part is believed",
    };
    folded.refuses(lie, Some(1), other, believed).await
}

pub(super) async fn truncated(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::make(stage).await?;
    let mut lie = folded.newer.clone();
    lie.parts[0].pop();
    let keyed = folded.forged(folded.newer.info, &[("one", 1)])?;
    let believed = Believed {
        rows: &["one 1"],
        control: "with the user's key, a part that ends sooner is believed",
    };
    folded.refuses(lie, Some(0), keyed, believed).await
}

pub(super) async fn changed_manifest(stage: Stage) -> anyhow::Result<Evidence> {
    let folded = Folded::make(stage).await?;
    let mut lie = folded.newer.clone();
    if let Some(byte) = lie.manifest.last_mut() {
        *byte ^= 1;
    }
    let keyed = folded.forged(folded.newer.info, &[("one", 1), ("two", 1), ("three", 2)])?;
    let believed = Believed {
        rows: &TRUE_ROWS,
        control: "another manifest, with every byte different, is believed when it is sealed with the user's key",
    };
    folded.refuses(lie, None, keyed, believed).await
}

/// A device that has pushed two rows.
async fn author_of_two(stage: &Stage) -> anyhow::Result<Actor> {
    let author = stage.honest(0)?;
    author
        .client
        .push(author.id, vec![change("one"), change("two")])
        .await?;
    Ok(author)
}

/// A refusal that names the key.
fn refused_key(ended: Result<(), Error>, reason: &'static str) -> anyhow::Result<String> {
    caught(
        ended,
        |error| matches!(error, Error::Tampering(Tampering::SnapshotForged(evidence)) if evidence.part.is_none() && evidence.reason == reason),
    )
}

pub(super) async fn server_made_key(stage: Stage) -> anyhow::Result<Evidence> {
    let author = author_of_two(&stage).await?;
    let snapshot = fold(&stage, &author).await?;
    let honest = stage.victim(1, telling(&snapshot))?;
    let rows = passes("the honest run", pull_all(&honest, Cursor::START).await)?.0;
    ensure!(rows == ["one", "two"], "the honest run brought {rows:?}");

    let own = KeyRing::generate(&stage.golden.scope(&stage.golden.ada), &mut OsRng);
    let forged = [change("forged")];
    let lie = stage.forger.with_keys(&own).tell(&stage, snapshot.info, &forged)?;
    let (seen, ended) = read(&stage.victim(2, telling(&lie))?).await;
    let caught = refused_key(ended, "no device of this user ever had its key")?;
    ensure!(seen.is_empty(), "the victim was given {seen:?}");

    let keyed = stage.forger.tell(&stage, snapshot.info, &forged)?;
    let fooled = stage.victim(3, telling(&keyed))?;
    let rows = passes("the control", pull_all(&fooled, Cursor::START).await)?.0;
    ensure!(rows == ["forged"], "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "under the user's key, the same rows are believed",
    ))
}

pub(super) async fn retired_key(stage: Stage) -> anyhow::Result<Evidence> {
    let password = &stage.golden.ada.password;
    let author = author_of_two(&stage).await?;
    let before = fold(&stage, &author).await?;
    passes("the rotation", author.client.rotate_keys(password).await)?;
    author.client.push(author.id, vec![change("three")]).await?;
    let told = stage.honest(2)?;
    passes("the honest run", told.client.setup_encryption_existing(password).await)?;

    // Under the same key, a snapshot of a position from the key's own time is still valid.
    let honest = stage.victim(2, telling(&before))?;
    let rows = passes("the honest run", pull_all(&honest, Cursor::START).await)?.0;
    ensure!(rows == ["one", "two", "three"], "the honest run brought {rows:?}");

    // The thief of the key keeps folding with the server's help, and omits rows.
    let info = SnapshotInfo {
        snapshot_id: SnapshotId::from_bytes([9; 16]),
        position: passes("the status", author.client.status().await)?.latest,
        ..before.info
    };
    let forged = [change("one")];
    let lie = stage.forger.tell(&stage, info, &forged)?;
    let (seen, ended) = read(&stage.victim(2, telling(&lie))?).await;
    let caught = refused_key(ended, "its key was retired before this place")?;
    ensure!(seen.is_empty(), "the victim was given {seen:?}");

    let file = credential_file(stage.path(), &stage.golden.ada.devices[0].name);
    let ring = stored_key_ring(&file, &stage.golden.scope(&stage.golden.ada))?;
    let keyed = stage.forger.with_keys(&ring).tell(&stage, info, &forged)?;
    let fooled = stage.victim(2, telling(&keyed))?;
    let rows = passes("the control", pull_all(&fooled, Cursor::START).await)?.0;
    ensure!(rows == ["one"], "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "under the key that took its place, the same snapshot is believed",
    ))
}

pub(super) async fn retired_past(stage: Stage) -> anyhow::Result<Evidence> {
    let password = &stage.golden.ada.password;
    let author = stage.honest(0)?;
    author
        .client
        .push(author.id, vec![change("one"), change("two")])
        .await?;
    let there = fold(&stage, &author).await?;
    passes("the rotation", author.client.rotate_keys(password).await)?;
    author.client.push(author.id, vec![change("three")]).await?;
    let told = stage.honest(2)?;
    passes("the honest run", told.client.setup_encryption_existing(password).await)?;
    let rows = passes(
        "the honest run",
        pull_all(&stage.victim(2, telling(&there))?, Cursor::START).await,
    )?
    .0;
    ensure!(rows == ["one", "two", "three"], "the honest run brought {rows:?}");

    // A position at which the key was in use, and rows that nobody wrote.
    let info = SnapshotInfo {
        snapshot_id: SnapshotId::from_bytes([9; 16]),
        ..there.info
    };
    let invented_rows = [change("invented")];
    let lie = stage.forger.tell(&stage, info, &invented_rows)?;
    let (seen, ended) = read(&stage.victim(2, telling(&lie))?).await;
    let caught = refused_key(
        ended,
        "its key was retired, and this is not the newest snapshot of that time",
    )?;
    ensure!(seen.is_empty(), "the victim was given {seen:?}");

    let file = credential_file(stage.path(), &stage.golden.ada.devices[0].name);
    let ring = stored_key_ring(&file, &stage.golden.scope(&stage.golden.ada))?;
    let keyed = stage.forger.with_keys(&ring).tell(&stage, info, &invented_rows)?;
    let fooled = stage.victim(2, telling(&keyed))?;
    let rows = passes("the control", pull_all(&fooled, Cursor::START).await)?.0;
    ensure!(rows == ["invented", "three"], "the control brought {rows:?}");
    Ok(Evidence {
        caught,
        control: "under the key that took its place, the same rows are believed".to_owned(),
    })
}

pub(super) async fn off_the_chain(stage: Stage) -> anyhow::Result<Evidence> {
    let author = stage.honest(0)?;
    author
        .client
        .push(author.id, vec![change("one"), change("two")])
        .await?;
    let there = fold(&stage, &author).await?;
    let honest = stage.victim(1, telling(&there))?;
    let rows = passes("the honest run", pull_all(&honest, Cursor::START).await)?.0;
    ensure!(rows == ["one", "two"], "the honest run brought {rows:?}");

    // With the user's key, so that only the chain can tell.
    let position = Position {
        head: Head::from_bytes([7; 32]),
        ..there.info.position
    };
    let info = SnapshotInfo { position, ..there.info };
    let lie = stage.forger.tell(&stage, info, &[change("invented")])?;
    let (seen, ended) = read(&stage.victim(2, telling(&lie))?).await;
    let caught = caught(
        ended,
        |error| matches!(error, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.known == position),
    )?;
    ensure!(seen.is_empty(), "the victim was given {seen:?}");

    let keyed = stage.forger.tell(&stage, there.info, &[change("invented")])?;
    let fooled = stage.victim(3, telling(&keyed))?;
    let rows = passes("the control", pull_all(&fooled, Cursor::START).await)?.0;
    ensure!(rows == ["invented"], "the control brought {rows:?}");
    Ok(Evidence {
        caught,
        control: "at a position on the chain, the same rows under the same key are believed".to_owned(),
    })
}

pub(super) async fn older_to_who_is_past_it(stage: Stage) -> anyhow::Result<Evidence> {
    let author = author_of_two(&stage).await?;
    let older = fold(&stage, &author).await?;
    author.client.push(author.id, vec![change("three")]).await?;
    let honest = stage.honest(1)?;
    let end = passes("the honest run", pull_all(&honest, Cursor::START).await)?.1;

    let always = telling_at(&older, |cursor| cursor.snapshot().is_none());
    let victim = stage.victim(1, always)?;
    let (known, claimed) = (end.position().context("an empty stream")?, older.info.position);
    let caught = caught(
        pull_all(&victim, end).await,
        |error| matches!(error, Error::Tampering(Tampering::HistoryRewound(evidence)) if evidence.known == known && evidence.claimed == claimed),
    )?;
    let fresh = stage.victim(2, telling(&older))?;
    let rows = passes("the control", pull_all(&fresh, Cursor::START).await)?.0;
    ensure!(rows == ["one", "two", "three"], "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "a new device accepts it, and continues with the log from there",
    ))
}

pub(super) async fn other_history(stage: Stage) -> anyhow::Result<Evidence> {
    let other = stage.copy_of_server("other").await?;
    let author = author_of_two(&stage).await?;
    fold(&stage, &author).await?;
    let honest = stage.honest(1)?;
    let end = passes("the honest run", pull_all(&honest, Cursor::START).await)?.1;

    let author = stage.device_at(3, &other, |_, _| Lie::Truth)?;
    author
        .client
        .push(author.id, vec![change("uno"), change("due")])
        .await?;
    let folded = passes("the fold", author.client.fold(author.id).await)?;
    ensure!(folded.outcome == FoldOutcome::Stored, "the fold was not stored");

    let victim = stage.device_at(1, &other, |_, _| Lie::Truth)?;
    let (known, claimed) = (end.position().context("an empty stream")?, folded.position);
    let caught = caught(
        pull_all(&victim, Cursor::START).await,
        |error| matches!(error, Error::Tampering(Tampering::HistoryForked(evidence)) if evidence.known == known && evidence.claimed == claimed),
    )?;
    let fresh = stage.device_at(2, &other, |_, _| Lie::Truth)?;
    let rows = passes("the control", pull_all(&fresh, Cursor::START).await)?.0;
    ensure!(rows == ["uno", "due"], "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "a device that was never shown the first history believes it",
    ))
}
