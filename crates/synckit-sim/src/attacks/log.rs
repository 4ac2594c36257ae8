//! Lies about batches, told to a device that knows nothing yet: only the seal can tell.

use anyhow::{Context as _, ensure};
use rand::rngs::OsRng;
use synckit_client::{Cursor, DeviceId, Error, Tampering};
use synckit_crypto::KeyRing;
use synckit_protocol::wire::log::{Page, PulledBatch};

use super::{
    Evidence, caught, passes,
    stage::{Forger, Opened, Stage, change, pull_all, rewriting},
};

const PULL: &str = "/api/sync/pull";
const HONEST: [&str; 6] = ["one", "last", "two", "last", "three", "last"];

/// A way to arrange the batches of a page, whatever a batch is: sealed ones for the attack, open ones, which are then
/// sealed in their new places, for the control.
trait Arrange: Copy + Send + Sync + 'static {
    fn arrange<T: Clone>(self, batches: &mut Vec<T>);
}

/// Lies about the page of three batches to a device that never pulled, which refuses it after `refused_at`; then tells a
/// forgery of a holder of the key, which believes these rows.
async fn lie_about(
    stage: Stage,
    lie: impl Fn(&mut Vec<PulledBatch>) + Send + Sync + 'static,
    refused_at: u64,
    forge: impl Fn(&mut Vec<Opened>) + Send + Sync + 'static,
    believed: &[&str],
    control: impl Into<String>,
) -> anyhow::Result<Evidence> {
    let honest = stage.victim(1, rewriting::<Page>(PULL, |_| {}))?;
    let rows = passes("the honest run", pull_all(&honest, Cursor::START).await)?.0;
    ensure!(rows == HONEST, "the honest run brought {rows:?}");

    let forger = stage.forger.clone();
    let liar = stage.victim(
        2,
        rewriting::<Page>(PULL, move |page| {
            let mut batches = page.batches.clone();
            lie(&mut batches);
            forger.fill(page, batches, forger.start());
        }),
    )?;
    let caught = caught(
        pull_all(&liar, Cursor::START).await,
        |error| matches!(error, Error::Tampering(Tampering::BatchForged(evidence)) if evidence.parent.seq == refused_at),
    )?;

    let forger = stage.forger.clone();
    let keyed = stage.victim(
        3,
        rewriting::<Page>(PULL, move |page| {
            let mut open = forger.open(&page.batches, forger.start());
            forge(&mut open);
            let sealed = forger.seal(&open, forger.start());
            forger.fill(page, sealed, forger.start());
        }),
    )?;
    let rows = passes("the control", pull_all(&keyed, Cursor::START).await)?.0;
    ensure!(rows == believed, "the control brought {rows:?}");
    Ok(Evidence::new(caught, control))
}

/// Tells the batches in another arrangement, without the key and with it.
async fn arranged(stage: Stage, arrange: impl Arrange, refused_at: u64, believed: &[&str]) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let control = format!("with the user's key, believed: {}", believed.join(", "));
    let lie = move |batches: &mut Vec<_>| arrange.arrange(batches);
    let forge = move |batches: &mut Vec<_>| arrange.arrange(batches);
    lie_about(stage, lie, refused_at, forge, believed, control).await
}

/// Makes an [`Arrange`] of an expression.
macro_rules! arrange {
    (|$batches:ident| $body:expr) => {{
        #[derive(Clone, Copy)]
        struct This;
        impl Arrange for This {
            fn arrange<T: Clone>(self, $batches: &mut Vec<T>) {
                $body
            }
        }
        This
    }};
}

pub(super) async fn swapped(stage: Stage) -> anyhow::Result<Evidence> {
    let arrange = arrange!(|batches| batches.swap(0, 1));
    arranged(stage, arrange, 0, &["two", "last", "one", "last", "three", "last"]).await
}

pub(super) async fn replayed_at_the_tail(stage: Stage) -> anyhow::Result<Evidence> {
    let arrange = arrange!(|batches| batches.extend(batches.first().cloned()));
    let believed = ["one", "last", "two", "last", "three", "last", "one", "last"];
    arranged(stage, arrange, 6, &believed).await
}

pub(super) async fn reordered(stage: Stage) -> anyhow::Result<Evidence> {
    let arrange = arrange!(|batches| batches.rotate_left(1));
    arranged(stage, arrange, 0, &["two", "last", "three", "last", "one", "last"]).await
}

pub(super) async fn dropped_in_the_middle(stage: Stage) -> anyhow::Result<Evidence> {
    let arrange = arrange!(|batches| drop(batches.remove(1)));
    arranged(stage, arrange, 2, &["one", "last", "three", "last"]).await
}

/// Changes the second batch, so that all hashes agree. A holder of the key needs no such lie: it makes another second batch.
async fn with_changed_batch(
    stage: Stage,
    change: impl Fn(&mut PulledBatch) + Send + Sync + 'static,
    control: &'static str,
) -> anyhow::Result<Evidence> {
    let lie = move |batches: &mut Vec<PulledBatch>| batches.iter_mut().skip(1).take(1).for_each(&change);
    let forge = |batches: &mut Vec<Opened>| {
        for batch in batches.iter_mut().skip(1).take(1) {
            batch.entries.retain(|entry| entry.row_id != "two");
        }
    };
    let believed = ["one", "last", "last", "three", "last"];
    lie_about(stage, lie, 2, forge, &believed, control).await
}

const KEYED: &str = "with the user's key, another second batch is believed";

pub(super) async fn changed(stage: Stage) -> anyhow::Result<Evidence> {
    let flip = |batch: &mut PulledBatch| batch.sealed.0.iter_mut().skip(40).take(1).for_each(|byte| *byte ^= 1);
    stage.three_batches().await?;
    with_changed_batch(stage, flip, KEYED).await
}

pub(super) async fn relabelled(stage: Stage) -> anyhow::Result<Evidence> {
    let relabel = |batch: &mut PulledBatch| batch.device_id = DeviceId::from_bytes([7; 16]);
    stage.three_batches().await?;
    with_changed_batch(stage, relabel, KEYED).await
}

pub(super) async fn wrong_count(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    with_changed_batch(stage, |batch| batch.count += 1, KEYED).await
}

pub(super) async fn server_made_key(stage: Stage) -> anyhow::Result<Evidence> {
    let scope = stage.golden.scope(&stage.golden.ada);
    let own = stage.forger.with_keys(&KeyRing::generate(&scope, &mut OsRng));
    let (forger, users_key_id) = (stage.forger.clone(), stage.forger.keys().key_id);
    // Once under the id of the server's key, which no envelope introduced, and once under the id of the user's.
    stage.three_batches().await?;
    for pretend in [false, true] {
        let (own, forger) = (own.clone(), forger.clone());
        let liar = stage.victim(
            2,
            rewriting::<Page>(PULL, move |page| {
                let open = forger.open(&page.batches, forger.start());
                let mut sealed = own.seal(&open, own.start());
                if pretend {
                    sealed.iter_mut().for_each(|batch| batch.key_id = users_key_id);
                }
                own.fill(page, sealed, own.start());
            }),
        )?;
        caught(
            pull_all(&liar, Cursor::START).await,
            |error| matches!(error, Error::Tampering(Tampering::BatchForged(evidence)) if evidence.parent.seq == 0),
        )?;
    }
    with_changed_batch(
        stage,
        move |batch| batch.key_id = own.keys().key_id,
        "with the user's key in place of the server's own, another second batch is believed",
    )
    .await
}

pub(super) async fn foreign_stream(stage: Stage) -> anyhow::Result<Evidence> {
    // A batch as Eve's own device seals it for the same place of her stream.
    let eve = Forger::new(
        stage.golden.scope(&stage.golden.eve),
        &stage.golden.key_ring(&stage.golden.eve)?,
    );
    let hers = eve.seal(&[Opened::new(vec![change("one"), change("two")])], eve.start());
    let hers = hers.into_iter().next().context("nothing was sealed")?;
    stage.three_batches().await?;
    with_changed_batch(stage, move |batch| *batch = hers.clone(), KEYED).await
}
