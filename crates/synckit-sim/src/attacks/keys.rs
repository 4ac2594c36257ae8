//! Lies about key material, told while a device joins.

use anyhow::{Context as _, bail, ensure};
use synckit_client::{Cursor, Error, KeyId, MemoryStore, SyncKitClient, Tampering};
use synckit_protocol::{
    ByteString, ProblemCode,
    wire::{accounts::VaultAnswer, keys::EnvelopeAnswer, log::Page},
};

use super::{
    Evidence, caught, passes,
    stage::{Actor, Forger, Opened, Stage, change, invented, pull_all, rewriting},
};
use crate::{
    direct::{Direct, Lie, Sent},
    endpoint::Answer,
    golden::{Account, credential_file, stored_key_ring},
};

const ENVELOPE: &str = "/api/sync/keys";
const VAULT: &str = "/api/account/vault";

impl Stage {
    /// A new device of an account that has signed in and not joined yet, over a connection to a liar.
    async fn joining(
        &self,
        account: &Account,
        tell: impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static,
    ) -> anyhow::Result<Actor> {
        let transport = Direct::lying(std::sync::Arc::clone(&self.server), tell);
        let sent = transport.sent();
        let client = self
            .golden
            .client(self.path(), "unused")
            .credential_store(MemoryStore::default())
            .transport(std::sync::Arc::new(transport))
            .build();
        client.authenticate(&account.email, &account.password).await?;
        let id = client.register_device("joining", "linux").await?.id;
        Ok(Actor { client, id, sent })
    }

    /// The server's answer to an account for a path: an honest copy for a liar to show to another account.
    async fn answer_for<T: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + 'static>(
        &self,
        account: &Account,
        path: &'static str,
    ) -> anyhow::Result<T> {
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(None));
        let keep = std::sync::Arc::clone(&seen);
        let reading = self
            .joining(
                account,
                rewriting::<T>(path, move |value| *keep.lock() = Some(value.clone())),
            )
            .await?;
        reading.client.setup_encryption_existing(&account.password).await?;
        let value = seen.lock().take();
        value.context("the answer was never asked for")
    }
}

fn is_forged(error: &Error) -> bool {
    matches!(error, Error::Tampering(Tampering::KeyMaterialForged(_)))
}

/// Whether a client holds a key.
async fn holds_key(client: &SyncKitClient, actor: &Actor) -> bool {
    client.pull(actor.id, Cursor::START).await.is_ok()
}

/// Joins through a liar who changes the answer with the envelope, and through an honest connection.
async fn joins_through(
    stage: Stage,
    change: impl Fn(&mut EnvelopeAnswer) + Send + Sync + 'static,
    control: &'static str,
) -> anyhow::Result<Evidence> {
    let password = &stage.golden.ada.password;
    let ada = &stage.golden.ada;
    let honest = stage
        .joining(ada, rewriting::<EnvelopeAnswer>(ENVELOPE, |_| {}))
        .await?;
    passes(
        "the honest run",
        honest.client.setup_encryption_existing(password).await,
    )?;
    ensure!(holds_key(&honest.client, &honest).await, "the honest run holds no key");

    let liar = stage
        .joining(ada, rewriting::<EnvelopeAnswer>(ENVELOPE, change))
        .await?;
    let caught = caught(liar.client.setup_encryption_existing(password).await, is_forged)?;
    ensure!(
        !holds_key(&liar.client, &liar).await,
        "a key was taken from it all the same"
    );
    Ok(Evidence::new(caught, control))
}

pub(super) async fn foreign_envelope(stage: Stage) -> anyhow::Result<Evidence> {
    let eves: EnvelopeAnswer = stage.answer_for(&stage.golden.eve, ENVELOPE).await?;
    let control = "for Eve herself, the same bytes open";
    let eve = &stage.golden.eve;
    let shown = eves.clone();
    let hers = stage
        .joining(
            eve,
            rewriting::<EnvelopeAnswer>(ENVELOPE, move |answer| *answer = shown.clone()),
        )
        .await?;
    passes(
        "the control",
        hers.client.setup_encryption_existing(&eve.password).await,
    )?;
    joins_through(stage, move |answer| *answer = eves.clone(), control).await
}

pub(super) async fn changed_envelope(stage: Stage) -> anyhow::Result<Evidence> {
    // The last byte is the MAC's, which a reader that only decrypts would never look at.
    let flip = |answer: &mut EnvelopeAnswer| {
        if let Some(byte) = answer.envelope.0.last_mut() {
            *byte ^= 1;
        }
    };
    joins_through(stage, flip, "without the changed bit, the same answer opens").await
}

pub(super) async fn wrong_key_id(stage: Stage) -> anyhow::Result<Evidence> {
    let control = "beside its own key id, the same envelope opens";
    joins_through(stage, |answer| answer.key_id = KeyId::from_bytes([5; 16]), control).await
}

pub(super) async fn foreign_vault(stage: Stage) -> anyhow::Result<Evidence> {
    let eves: VaultAnswer = stage.answer_for(&stage.golden.eve, VAULT).await?;
    let ada = &stage.golden.ada;
    let honest = stage.joining(ada, rewriting::<VaultAnswer>(VAULT, |_| {})).await?;
    passes(
        "the honest run",
        honest.client.setup_encryption_existing(&ada.password).await,
    )?;
    let liar = stage
        .joining(
            ada,
            rewriting::<VaultAnswer>(VAULT, move |answer| {
                answer.vault = ByteString(eves.vault.0.clone());
                answer.version = eves.version;
            }),
        )
        .await?;
    let caught = caught(liar.client.setup_encryption_existing(&ada.password).await, is_forged)?;
    Ok(Evidence::new(caught, "for Eve herself, the same bytes open"))
}

pub(super) async fn older_vault(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let owner = stage.honest(0)?;
    passes(
        "the sign-in",
        owner.client.authenticate(&ada.email, &ada.password).await,
    )?;
    passes("the first code", owner.client.recovery_code(&ada.password).await)?;
    let older: VaultAnswer = stage.answer_for(ada, VAULT).await?;
    let older_envelope: EnvelopeAnswer = stage.answer_for(ada, ENVELOPE).await?;
    passes("the second code", owner.client.recovery_code(&ada.password).await)?;
    let showing_older = |envelope: Option<EnvelopeAnswer>| {
        let older = older.clone();
        let vault = rewriting::<VaultAnswer>(VAULT, move |answer| *answer = older.clone());
        let keys = rewriting::<EnvelopeAnswer>(ENVELOPE, move |answer| {
            if let Some(envelope) = &envelope {
                *answer = envelope.clone();
            }
        });
        move |sent: &Sent, answer: Option<Answer>| match vault(sent, answer.clone()) {
            Lie::Truth => keys(sent, answer),
            lie => lie,
        }
    };
    let honest = stage.joining(ada, |_, _| Lie::Truth).await?;
    passes(
        "the honest run",
        honest.client.setup_encryption_existing(&ada.password).await,
    )?;
    let victim = stage.joining(ada, showing_older(None)).await?;
    let caught = caught(
        victim.client.setup_encryption_existing(&ada.password).await,
        |error| matches!(error, Error::Tampering(Tampering::VaultReplaced { known, found }) if found < known),
    )?;
    let fresh = stage.joining(ada, showing_older(Some(older_envelope))).await?;
    passes(
        "the control",
        fresh.client.setup_encryption_existing(&ada.password).await,
    )?;
    Ok(Evidence {
        caught,
        control: "beside an envelope of its own time, a device that joins believes the older vault".to_owned(),
    })
}

pub(super) async fn retired_key(stage: Stage) -> anyhow::Result<Evidence> {
    let password = &stage.golden.ada.password;
    let end = stage.three_batches().await?.position().context("an empty stream")?;
    let author = stage.honest(0)?;
    passes("the rotation", author.client.rotate_keys(password).await)?;
    let told = stage.honest(2)?;
    passes("the honest run", told.client.setup_encryption_existing(password).await)?;
    passes("the honest run", pull_all(&told, Cursor::START).await)?;

    // The thief of the key, from before its retirement, keeps writing with the server's help.
    let thief = stage.forger.clone();
    let appending = move |forger: Forger| {
        let thief = thief.clone();
        rewriting::<Page>("/api/sync/pull", move |page| {
            let mut batches = page.batches.clone();
            batches.extend(forger.seal(&[Opened::new(vec![change("forged")])], end));
            thief.fill(page, batches, thief.start());
        })
    };
    let victim = stage.victim(2, appending(stage.forger.clone()))?;
    let caught = caught(
        pull_all(&victim, Cursor::START).await,
        |error| matches!(error, Error::Tampering(Tampering::BatchForged(evidence)) if evidence.parent == end && evidence.reason.contains("retired")),
    )?;
    // Under the key that took its place, which the thief does not have.
    let scope = stage.golden.scope(&stage.golden.ada);
    let file = credential_file(stage.path(), &stage.golden.ada.devices[0].name);
    let current = stage.forger.with_keys(&stored_key_ring(&file, &scope)?);
    let keyed = stage.victim(2, appending(current))?;
    let rows = passes("the control", pull_all(&keyed, Cursor::START).await)?.0;
    ensure!(rows.len() == 7, "the control brought {rows:?}");
    Ok(Evidence::new(
        caught,
        "under the key that took its place, the same batch is believed",
    ))
}

pub(super) async fn older_envelope(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let older: EnvelopeAnswer = stage.answer_for(ada, ENVELOPE).await?;
    let author = stage.honest(0)?;
    passes("the rotation", author.client.rotate_keys(&ada.password).await)?;
    let told = stage.honest(2)?;
    passes(
        "the honest run",
        told.client.setup_encryption_existing(&ada.password).await,
    )?;

    let showing_older = || {
        let older = older.clone();
        rewriting::<EnvelopeAnswer>(ENVELOPE, move |answer| *answer = older.clone())
    };
    let victim = stage.victim(2, showing_older())?;
    let caught = caught(victim.client.setup_encryption_existing(&ada.password).await, |error| {
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 2,
                found_version: 1,
                ..
            })
        )
    })?;
    let fresh = stage.joining(ada, showing_older()).await?;
    passes(
        "the control",
        fresh.client.setup_encryption_existing(&ada.password).await,
    )?;
    Ok(Evidence::new(
        caught,
        "a device that joins, and holds no newer one, believes the older envelope",
    ))
}

pub(super) async fn older_envelope_at_a_recovery(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let author = stage.honest(0)?;
    passes(
        "the sign-in",
        author.client.authenticate(&ada.email, &ada.password).await,
    )?;
    let code = passes("the recovery code", author.client.recovery_code(&ada.password).await)?;
    let older: EnvelopeAnswer = stage.answer_for(ada, ENVELOPE).await?;
    passes("the rotation", author.client.rotate_keys(&ada.password).await)?;
    let told = stage.honest(2)?;
    passes("the sign-in", told.client.authenticate(&ada.email, &ada.password).await)?;
    passes(
        "the honest run",
        told.client.setup_encryption_with_recovery(&code).await,
    )?;

    let showing_older = || {
        let older = older.clone();
        rewriting::<EnvelopeAnswer>(ENVELOPE, move |answer| *answer = older.clone())
    };
    let victim = stage.victim(2, showing_older())?;
    passes(
        "the sign-in",
        victim.client.authenticate(&ada.email, &ada.password).await,
    )?;
    let caught = caught(victim.client.setup_encryption_with_recovery(&code).await, |error| {
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 2,
                found_version: 1,
                ..
            })
        )
    })?;
    let fresh = stage.joining(ada, showing_older()).await?;
    passes("the control", fresh.client.setup_encryption_with_recovery(&code).await)?;
    Ok(Evidence {
        caught,
        control: "a device that recovers, and holds no newer one, believes the older envelope".to_owned(),
    })
}

/// Answers for the envelope with a problem in place of the truth.
fn denying(code: &'static str, status: u16) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync {
    move |sent, answer| {
        if answer.is_some() || sent.path() != ENVELOPE || sent.head.method != http::Method::GET {
            return Lie::Truth;
        }
        let body = format!(r#"{{"type":"about:blank","code":"{code}","title":"none","status":{status}}}"#);
        invented(status, &[("content-type", "application/problem+json")], body)
    }
}

/// Whether anything was written to the server's keys.
fn wrote_a_key(actor: &Actor) -> bool {
    let sent = actor.sent.lock();
    sent.iter()
        .any(|sent| sent.path() == ENVELOPE && sent.head.method == http::Method::PUT)
}

pub(super) async fn no_key_while_joining(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let liar = stage.joining(ada, denying("no_envelope", 404)).await?;
    let caught = caught(liar.client.setup_encryption_existing(&ada.password).await, |error| {
        matches!(error, Error::NoServerKey)
    })?;
    ensure!(
        !wrote_a_key(&liar),
        "a second key was made without anybody asking for one"
    );
    // An app that then creates a key is stopped by the server's own version check, which only a server that lies to
    // both sides can suppress. Then this device is alone, and the others refuse its changes.
    match liar.client.setup_encryption_new(&ada.password).await {
        Err(Error::KeyAlreadyExists) => {}
        Err(error) if error.problem_code() == Some(ProblemCode::VersionConflict) => {}
        other => bail!("setup_encryption_new came to {other:?}"),
    }
    ensure!(wrote_a_key(&liar), "the detector of written keys does not work");
    Ok(Evidence::new(
        caught,
        "`setup_encryption_new`, which may create a key, tries it, and the envelope's version stops it",
    ))
}

pub(super) async fn other_not_found(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let liar = stage.joining(ada, denying("not_found", 404)).await?;
    let caught = caught(
        liar.client.setup_encryption_existing(&ada.password).await,
        |error| matches!(error, Error::Problem(problem) if problem.code == "not_found"),
    )?;
    ensure!(liar.client.has_server_key().await.is_err(), "taken for an answer");
    ensure!(!wrote_a_key(&liar), "a second key was made");
    let denied = stage.joining(ada, denying("no_envelope", 404)).await?;
    ensure!(
        !passes("the control", denied.client.has_server_key().await)?,
        "the code itself means absent"
    );
    Ok(Evidence::new(
        caught,
        "with the code `no_envelope`, the same answer means absent",
    ))
}
