//! Where an attack happens: a server, honest devices of Ada's, her keys in the liar's hands, and Eve.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::OsRng;
use serde::{Serialize, de::DeserializeOwned};
use synckit_client::{BatchId, ChangeEntry, ChangeOp, Cursor, DeviceId, Error, Position, SyncKitClient, Timestamp};
use synckit_crypto::{
    KeyRing, StreamKeys, StreamScope,
    batch::{BatchBody, BatchContext},
};
use synckit_protocol::{
    BatchDigest, ByteString, SealedHash,
    wire::log::{Page, PulledBatch, Push},
};
use tempfile::TempDir;

use crate::{
    direct::{Direct, Lie, Sent, response_of},
    endpoint::{Answer, Endpoint, SimClock, copy_data_dir},
    golden::{Golden, run_directory},
};

/// A device and everything that it sent.
#[derive(Debug)]
pub(super) struct Actor {
    /// The SDK.
    pub(super) client: SyncKitClient,
    pub(super) id: DeviceId,
    /// Its requests.
    pub(super) sent: Arc<Mutex<Vec<Sent>>>,
}

/// A world for one attack.
#[derive(Debug)]
pub struct Stage {
    pub(super) golden: Arc<Golden>,
    directory: TempDir,
    pub(super) server: Arc<Endpoint>,
    pub(super) forger: Forger,
}

impl Stage {
    /// A copy of the golden world with a server on it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn open(golden: &Arc<Golden>) -> anyhow::Result<Self> {
        let directory = run_directory("attack")?;
        golden.copy_to(directory.path())?;
        let server = open_endpoint(&directory.path().join("data"), golden).await?;
        let forger = Forger::new(golden.scope(&golden.ada), &golden.key_ring(&golden.ada)?);
        Ok(Self {
            golden: Arc::clone(golden),
            directory,
            server,
            forger,
        })
    }

    /// Another server, on a copy of the current database: later it is an older server.
    pub(super) async fn copy_of_server(&self, name: &str) -> anyhow::Result<Arc<Endpoint>> {
        let copy = self.directory.path().join(name);
        copy_data_dir(&self.server.data_dir(), &copy)?;
        open_endpoint(&copy, &self.golden).await
    }

    /// A directory of the attack's own.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A device of Ada's over an honest connection.
    pub(super) fn honest(&self, device: usize) -> anyhow::Result<Actor> {
        self.device_at(device, &self.server, |_, _| Lie::Truth)
    }

    /// A device of Ada's over a connection to a liar.
    pub(super) fn victim(
        &self,
        device: usize,
        tell: impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static,
    ) -> anyhow::Result<Actor> {
        self.device_at(device, &self.server, tell)
    }

    /// A device of Ada's over any connection to any server.
    pub(super) fn device_at(
        &self,
        device: usize,
        server: &Arc<Endpoint>,
        tell: impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static,
    ) -> anyhow::Result<Actor> {
        let member = self.golden.ada.devices.get(device).context("no such device")?;
        let transport = Direct::lying(Arc::clone(server), tell);
        let sent = transport.sent();
        let client = self
            .golden
            .client(self.path(), &member.name)
            .transport(Arc::new(transport))
            .build();
        client.try_load_key_from_keychain()?;
        // The apps of the attacks keep no cursor.
        client.resume_at(Cursor::START);
        Ok(Actor {
            client,
            id: member.id,
            sent,
        })
    }

    /// Three batches of two changes each, pushed by Ada's first device. Returns where the stream ends.
    pub(super) async fn three_batches(&self) -> anyhow::Result<Cursor> {
        let author = self.honest(0)?;
        for name in ["one", "two", "three"] {
            let changes = vec![change(name), change("last")];
            author.client.push(author.id, changes).await?;
        }
        Ok(pull_all(&author, Cursor::START).await?.1)
    }
}

async fn open_endpoint(data_dir: &Path, golden: &Golden) -> anyhow::Result<Arc<Endpoint>> {
    Ok(Arc::new(
        Endpoint::open(data_dir, SimClock::starting_at(golden.made_at)).await?,
    ))
}

/// A change of one row, with its name in it.
pub(super) fn change(name: &str) -> ChangeEntry {
    ChangeEntry {
        table: "notes".to_owned(),
        op: ChangeOp::Update,
        row_id: name.to_owned(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        data: Some(serde_json::json!({ "name": name })),
    }
}

/// More pages than any attack has.
const PAGES_MAX: u32 = 200;

/// Pulls until nothing more follows; the names of the rows, and the cursor after them.
pub(super) async fn pull_all(actor: &Actor, mut cursor: Cursor) -> Result<(Vec<String>, Cursor), Error> {
    let mut rows = Vec::new();
    // A liar could lead a device that misses a check in a circle; then the rows up to here are returned.
    for _ in 0..PAGES_MAX {
        let (changes, next, has_more) = actor.client.pull(actor.id, cursor).await?;
        rows.extend(changes.into_iter().map(|change| change.row_id));
        cursor = next;
        if !has_more {
            break;
        }
    }
    Ok((rows, cursor))
}

/// Changes the decoded body of successful answers of one path.
pub(super) fn rewriting<T: Serialize + DeserializeOwned>(
    path: &'static str,
    change: impl Fn(&mut T) + Send + Sync + 'static,
) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static {
    move |sent, answer| {
        let Some(answer) = answer else { return Lie::Truth };
        if sent.path() != path || !answer.head.status.is_success() {
            return Lie::Truth;
        }
        let Ok(mut value) = minicbor_serde::from_slice::<T>(&answer.body) else {
            return Lie::Truth;
        };
        change(&mut value);
        match minicbor_serde::to_vec(&value) {
            Ok(body) => Lie::Instead(response_of(answer.head, Bytes::from(body))),
            Err(_) => Lie::Truth,
        }
    }
}

/// Changes the raw body of successful answers whose path begins so.
pub(super) fn rewriting_bytes(
    path: &'static str,
    change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static {
    move |sent, answer| match answer {
        Some(answer) if sent.path().starts_with(path) && answer.head.status.is_success() => {
            let body = change(answer.body.to_vec());
            Lie::Instead(response_of(answer.head, Bytes::from(body)))
        }
        _ => Lie::Truth,
    }
}

/// An answer that no server gave.
pub(super) fn invented(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Lie {
    let mut builder = http::Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    match builder.body(()) {
        Ok(response) => Lie::Instead(response_of(response.into_parts().0, body.into())),
        Err(_) => Lie::Truth,
    }
}

/// The contents of a batch.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    batch_id: BatchId,
    device_id: DeviceId,
    pub(super) entries: Vec<ChangeEntry>,
}

impl Opened {
    /// A batch of these changes, by nobody in particular.
    pub(super) fn new(entries: Vec<ChangeEntry>) -> Self {
        Self {
            batch_id: SyncKitClient::new_batch_id(),
            device_id: DeviceId::from_bytes([1; 16]),
            entries,
        }
    }
}

/// A holder of a user's keys, which no server is: the liar of the controls.
#[derive(Clone)]
pub(super) struct Forger {
    scope: StreamScope,
    keys: Arc<StreamKeys>,
}

impl std::fmt::Debug for Forger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forger")
    }
}

impl Forger {
    /// With the keys of a stream, or with others.
    pub(super) fn new(scope: StreamScope, ring: &KeyRing) -> Self {
        Self {
            scope,
            keys: Arc::new(ring.current().subkeys(&scope)),
        }
    }

    pub(super) fn keys(&self) -> &StreamKeys {
        &self.keys
    }

    /// The same stream under other keys.
    pub(super) fn with_keys(&self, ring: &KeyRing) -> Self {
        Self::new(self.scope, ring)
    }

    /// The start of the stream.
    pub(super) fn start(&self) -> Position {
        Position::start_of(self.scope.app_id, self.scope.user_id)
    }

    /// Opens batches that follow each other.
    pub(super) fn open(&self, batches: &[PulledBatch], mut at: Position) -> Vec<Opened> {
        let mut opened = Vec::new();
        for batch in batches {
            let context = self.context(batch.batch_id, batch.device_id, at);
            let entries = self
                .keys
                .batch
                .open(&batch.key_id, &context, batch.count, batch.sealed.as_ref());
            let (Ok(entries), Some(after)) = (entries, at.advance(&digest(batch))) else {
                break;
            };
            at = after;
            opened.push(Opened {
                batch_id: batch.batch_id,
                device_id: batch.device_id,
                entries,
            });
        }
        opened
    }

    /// Seals batches, each as the next.
    pub(super) fn seal(&self, batches: &[Opened], mut at: Position) -> Vec<PulledBatch> {
        let mut sealed = Vec::new();
        for opened in batches {
            let Ok(body) = BatchBody::encode(&opened.entries) else {
                break;
            };
            let context = self.context(opened.batch_id, opened.device_id, at);
            let bytes = self.keys.batch.seal(&self.keys.key_id, &context, &body, &mut OsRng);
            let batch = PulledBatch {
                batch_id: opened.batch_id,
                device_id: opened.device_id,
                key_id: self.keys.key_id,
                first_seq: at.seq + 1,
                count: body.count(),
                sealed: bytes.into(),
            };
            let Some(after) = at.advance(&digest(&batch)) else {
                break;
            };
            at = after;
            sealed.push(batch);
        }
        sealed
    }

    /// The bytes of a push, sealed once more.
    pub(super) fn seal_anew(&self, push: &Push) -> ByteString {
        let context = self.context(push.batch_id, push.device_id, push.parent);
        let keys = &self.keys;
        let sealed = keys
            .batch
            .open(&push.key_id, &context, push.count, push.sealed.as_ref())
            .ok()
            .and_then(|entries| BatchBody::encode(&entries).ok())
            .map(|body| keys.batch.seal(&keys.key_id, &context, &body, &mut OsRng));
        sealed.unwrap_or_default().into()
    }

    /// Puts batches into a page so that everything agrees which needs no key: sequences, heads, the cursor.
    pub(super) fn fill(&self, page: &mut Page, mut batches: Vec<PulledBatch>, from: Position) {
        let mut at = from;
        for batch in &mut batches {
            batch.first_seq = at.seq + 1;
            at = at.advance(&digest(batch)).unwrap_or(at);
        }
        page.batches = batches;
        page.cursor = Cursor::at(at);
    }

    fn context(&self, batch_id: BatchId, device_id: DeviceId, parent: Position) -> BatchContext {
        BatchContext {
            scope: self.scope,
            device_id,
            batch_id,
            parent,
        }
    }
}

/// The digest of a batch.
pub(super) fn digest(batch: &PulledBatch) -> BatchDigest {
    BatchDigest {
        batch_id: batch.batch_id,
        device_id: batch.device_id,
        key_id: batch.key_id,
        count: batch.count,
        sealed_hash: SealedHash::of(batch.sealed.as_ref()),
    }
}
