//! A thief of a user's token, without the key, or with a retired one. The server is honest here, and refuses. At stake
//! is the data that only the server holds.

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use http::Method;
use rand::rngs::OsRng;
use serde::{Serialize, de::DeserializeOwned};
use synckit_client::{Cursor, Error, Position, SnapshotId, Tampering};
use synckit_crypto::{MasterKey, OwnerSigningKey};
use synckit_protocol::{
    KeyId, OwnerSignature, Problem,
    wire::{
        devices::{Platform, RegisterDevice},
        keys::{EnvelopeAnswer, PutEnvelope},
        log::{Pull, Push, Status},
        snapshots::PutSnapshot,
    },
};

use super::{
    Evidence, caught,
    guesses::sign_in,
    passes,
    stage::{Actor, Stage, change, pull_all},
};
use crate::{
    direct::Lie,
    endpoint::{Answer, SERVER_URL},
    golden::{credential_file, stored_key_ring},
};

const DEVICES: &str = "/api/sync/devices";
const ENVELOPE: &str = "/api/sync/keys";
/// In the place of a signature: no key verifies it.
const UNSIGNED: OwnerSignature = OwnerSignature::from_bytes([0; 64]);
const SNAPSHOT: SnapshotId = SnapshotId::from_bytes([9; 16]);

/// A holder of a token of Ada's, and nothing else.
pub(super) struct Thief<'a> {
    stage: &'a Stage,
    token: http::HeaderValue,
}

impl<'a> Thief<'a> {
    /// Reads the token from a request of Ada's device.
    pub(super) async fn robbing(stage: &'a Stage) -> anyhow::Result<Self> {
        let device = stage.honest(0)?;
        passes("the honest run", pull_all(&device, Cursor::START).await)?;
        let token = token_of(&device).context("nothing with a token was sent")?;
        Ok(Self { stage, token })
    }

    /// The holder of a session's token.
    fn holding(stage: &'a Stage, token: &str) -> anyhow::Result<Self> {
        let token = http::HeaderValue::try_from(format!("Bearer {token}"))?;
        Ok(Self { stage, token })
    }

    /// Registers the session of the token for a device of this name.
    async fn register(&self, name: &str) -> anyhow::Result<Result<(), Problem>> {
        let body = RegisterDevice {
            device_name: name.to_owned(),
            platform: Platform::Linux,
            installation_id: None,
        };
        self.send(Method::POST, DEVICES, &body).await
    }

    /// The header that it comes in.
    pub(super) fn token(&self) -> &str {
        self.token.to_str().unwrap_or_default()
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{SERVER_URL}{path}"))
            .header(http::header::AUTHORIZATION, self.token.clone())
            .header(http::header::CONTENT_TYPE, "application/cbor")
            .header(http::header::ACCEPT, "application/cbor");
        self.stage.server.call(request.body(Body::from(body))?).await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.call(Method::GET, path, Vec::new()).await?;
        ensure!(answer.head.status.is_success(), "{path}: {}", answer.head.status);
        Ok(minicbor_serde::from_slice(&answer.body)?)
    }

    /// Writes something. `Err` is the code that the server refused it with.
    async fn write(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Result<(), Problem>> {
        self.send(Method::PUT, path, body).await
    }

    async fn send(&self, method: Method, path: &str, body: &impl Serialize) -> anyhow::Result<Result<(), Problem>> {
        let answer = self.call(method, path, minicbor_serde::to_vec(body)?).await?;
        if answer.head.status.is_success() {
            return Ok(Ok(()));
        }
        Ok(Err(serde_json::from_slice(&answer.body)?))
    }

    /// An envelope that nobody can open, in the place of the current one.
    async fn garbage_envelope(&self) -> anyhow::Result<PutEnvelope> {
        let current: EnvelopeAnswer = self.read(ENVELOPE).await?;
        Ok(PutEnvelope {
            envelope: vec![1; current.envelope.0.len()].into(),
            key_id: current.key_id,
            expected_version: current.version,
            head: None,
            snapshot: None,
            owner: current.owner,
            signature: UNSIGNED,
        })
    }

    /// A snapshot of the whole stream without any rows.
    async fn garbage_snapshot(&self, key_id: KeyId) -> anyhow::Result<PutSnapshot> {
        let status: Status = self.read("/api/sync/status").await?;
        let position: Position = status.latest;
        Ok(PutSnapshot {
            key_id,
            position,
            parts: 0,
            manifest: vec![1; 100].into(),
            signature: UNSIGNED,
        })
    }

    fn sign_envelope(&self, body: &mut PutEnvelope, key: &OwnerSigningKey) {
        let scope = self.stage.golden.scope(&self.stage.golden.ada);
        body.signature = key.sign_envelope(&body.claim(scope.app_id, scope.user_id));
    }

    fn sign_snapshot(&self, body: &mut PutSnapshot, key: &OwnerSigningKey) {
        let scope = self.stage.golden.scope(&self.stage.golden.ada);
        body.signature = key.sign_snapshot(&body.claim(scope.app_id, scope.user_id, SNAPSHOT));
    }

    /// The owner key of Ada's first master key, and one of the thief's own.
    fn keys(&self) -> anyhow::Result<(OwnerSigningKey, OwnerSigningKey)> {
        let golden = &self.stage.golden;
        let scope = golden.scope(&golden.ada);
        let adas = golden.key_ring(&golden.ada)?.current().owner_signing_key(&scope);
        let own = MasterKey::generate(&mut OsRng).owner_signing_key(&scope);
        Ok((adas, own))
    }
}

fn token_of(device: &Actor) -> Option<http::HeaderValue> {
    let sent = device.sent.lock();
    sent.iter()
        .find_map(|sent| sent.head.headers.get(http::header::AUTHORIZATION).cloned())
}

fn snapshot_path() -> String {
    format!("/api/sync/snapshots/{SNAPSHOT}")
}

/// The refusal that was to be expected.
pub(super) fn refused(written: Result<(), Problem>, code: &str) -> anyhow::Result<String> {
    match written {
        Ok(()) => bail!("the attack was not noticed"),
        Err(problem) if problem.code == code => Ok(format!("`{code}` (by the server): {}", problem.title)),
        Err(problem) => bail!("refused as something else: {}", problem.code),
    }
}

pub(super) async fn garbage_envelope(stage: Stage) -> anyhow::Result<Evidence> {
    let thief = Thief::robbing(&stage).await?;
    let (adas, own) = thief.keys()?;
    let mut body = thief.garbage_envelope().await?;
    refused(thief.write(ENVELOPE, &body).await?, "owner_proof_invalid")?;
    thief.sign_envelope(&mut body, &own);
    let caught = refused(thief.write(ENVELOPE, &body).await?, "owner_proof_invalid")?;
    let device = stage.honest(1)?;
    let password = &stage.golden.ada.password;
    passes("the honest run", device.client.rotate_keys(password).await)?;

    // On an earlier copy, by a holder of the key as well.
    let stage = Stage::open(&stage.golden).await?;
    let thief = Thief::robbing(&stage).await?;
    let mut body = thief.garbage_envelope().await?;
    thief.sign_envelope(&mut body, &adas);
    if let Err(problem) = thief.write(ENVELOPE, &body).await? {
        bail!("the control was refused: {}", problem.code);
    }
    let device = stage.honest(1)?;
    match device
        .client
        .setup_encryption_existing(&stage.golden.ada.password)
        .await
    {
        Err(Error::Tampering(Tampering::KeyMaterialForged(_))) => {}
        other => bail!("the control did no harm: {other:?}"),
    }
    Ok(Evidence::new(
        caught,
        "signed by the user's owner key, the garbage is stored, and no device can join",
    ))
}

pub(super) async fn garbage_snapshot(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let thief = Thief::robbing(&stage).await?;
    let (adas, own) = thief.keys()?;
    let key_id = stage.golden.key_ring(&stage.golden.ada)?.key_id();
    let mut body = thief.garbage_snapshot(key_id).await?;
    refused(thief.write(&snapshot_path(), &body).await?, "owner_proof_invalid")?;
    thief.sign_snapshot(&mut body, &own);
    let caught = refused(thief.write(&snapshot_path(), &body).await?, "owner_proof_invalid")?;
    let status: Status = thief.read("/api/sync/status").await?;
    ensure!(status.snapshot.is_none(), "it was stored all the same");
    thief.sign_snapshot(&mut body, &adas);
    if let Err(problem) = thief.write(&snapshot_path(), &body).await? {
        bail!("the control was refused: {}", problem.code);
    }
    let status: Status = thief.read("/api/sync/status").await?;
    ensure!(
        status.snapshot.map(|snapshot| snapshot.snapshot_id) == Some(SNAPSHOT),
        "the control was not stored"
    );
    Ok(Evidence::new(
        caught,
        "signed by the user's owner key, the garbage is the newest snapshot, and the log below it could be deleted",
    ))
}

pub(super) async fn garbage_batches(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let honest = passes("the honest run", pull_all(&stage.honest(1)?, Cursor::START).await)?.0;
    // The thief has the token and the tools of a device, but no key: its batches open nowhere.
    let thief = stage.victim(3, |sent, answer| {
        let Ok(mut push) = minicbor_serde::from_slice::<Push>(&sent.body) else {
            return Lie::Truth;
        };
        if answer.is_some() || sent.path() != "/api/sync/push" {
            return Lie::Truth;
        }
        push.sealed.0.iter_mut().for_each(|byte| *byte ^= 1);
        minicbor_serde::to_vec(&push).map_or(Lie::Truth, |body| Lie::Asking(body.into()))
    })?;
    let author = stage.honest(0)?;
    for round in 0..6 {
        for _ in 0..50 {
            let pushed = thief.client.push(thief.id, vec![change("garbage")]).await;
            ensure!(pushed.is_err(), "the garbage was readable");
        }
        author
            .client
            .push(author.id, vec![change(&format!("row {round}"))])
            .await?;
    }
    let victim = stage.honest(2)?;
    let Err(refused) = pull_all(&victim, Cursor::START).await else {
        bail!("the attack was not noticed")
    };
    let evidence = refused.rejoin_evidence();
    let caught = caught(Err::<(), _>(refused), |error| {
        matches!(error, Error::Tampering(Tampering::BatchForged(_)))
    })?;
    let evidence = evidence.context("no evidence for the user")?;
    passes("the control", victim.client.rejoin(&evidence, Cursor::START).await)?;
    let rows = passes("the control", pull_all(&victim, Cursor::START).await)?.0;
    ensure!(rows.len() == honest.len() + 6, "the control brought {rows:?}");
    Ok(Evidence {
        caught,
        control: "one decision of the user skips all of them, and the honest batches between them are read".to_owned(),
    })
}

pub(super) async fn retired_owner(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let thief = Thief::robbing(&stage).await?;
    let (retired, _) = thief.keys()?;
    let author = stage.honest(0)?;
    passes(
        "the rotation",
        author.client.rotate_keys(&stage.golden.ada.password).await,
    )?;
    let scope = stage.golden.scope(&stage.golden.ada);
    let file = credential_file(stage.path(), &stage.golden.ada.devices[0].name);
    let ring = stored_key_ring(&file, &scope)?;

    let mut envelope = thief.garbage_envelope().await?;
    thief.sign_envelope(&mut envelope, &retired);
    refused(thief.write(ENVELOPE, &envelope).await?, "owner_proof_invalid")?;
    let mut snapshot = thief.garbage_snapshot(ring.key_id()).await?;
    thief.sign_snapshot(&mut snapshot, &retired);
    let caught = refused(thief.write(&snapshot_path(), &snapshot).await?, "owner_proof_invalid")?;
    thief.sign_snapshot(&mut snapshot, &ring.current().owner_signing_key(&scope));
    if let Err(problem) = thief.write(&snapshot_path(), &snapshot).await? {
        bail!("the control was refused: {}", problem.code);
    }
    Ok(Evidence::new(
        caught,
        "signed by the key that took its place, the same snapshot is stored",
    ))
}

pub(super) async fn past_the_revocation(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let thief = Thief::robbing(&stage).await?;
    let (lost, other) = (stage.honest(0)?, stage.honest(1)?);
    // The owner registers at every start, in the same session.
    let name = &ada.devices[0].name;
    passes("the honest run", lost.client.register_device(name, "linux").await)?;
    for name in [&ada.devices[1].name, "a new name"] {
        refused(thief.register(name).await?, "device_mismatch")?;
    }
    // The control has the password: a session that never had a device takes any name.
    let fresh = sign_in(&stage, &ada.email, &ada.password).await?;
    let fresh = Thief::holding(&stage, fresh.token.expose())?;
    if let Err(problem) = fresh.register("a new name").await? {
        bail!("the control was refused: {}", problem.code);
    }
    passes("the revocation", other.client.revoke_device(lost.id).await)?;
    let answer = thief.call(Method::GET, "/api/sync/status", Vec::new()).await?;
    ensure!(!answer.head.status.is_success(), "the token goes on");
    let caught = refused(Err(serde_json::from_slice(&answer.body)?), "session_ended")?;
    fresh.read::<Status>("/api/sync/status").await?;
    Ok(Evidence {
        caught,
        control: "a session that had no device yet takes another name, and outlives the revocation".to_owned(),
    })
}

pub(super) async fn in_the_name_of_another(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let thief = Thief::robbing(&stage).await?;
    // A pull reports how far a device has read, which allows the server to delete the log before that.
    let pull = async |device: usize| {
        let body = Pull {
            device_id: stage.golden.ada.devices[device].id,
            cursor: Cursor::START,
            max_bytes: None,
            ahead: false,
            avoid_snapshot: false,
        };
        thief.send(Method::POST, "/api/sync/pull", &body).await
    };
    let caught = refused(pull(1).await?, "device_mismatch")?;
    if let Err(problem) = pull(0).await? {
        bail!("the control was refused: {}", problem.code);
    }
    Ok(Evidence {
        caught,
        control: "in the name of the device that it was stolen from, the same request is answered".to_owned(),
    })
}
