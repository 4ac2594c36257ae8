//! The server's work for a request, from its head to the last byte of the answer: the real router on a copy of a
//! prepared data directory, without a network.
//!
//! The accounts, the tokens and the sealed batches come from `synckit-bench prepare`, because Argon2id would take
//! minutes under Valgrind. Writing the log back into the database counts too: the store does it when it is closed.

use std::{fs, io, path::Path};

use anyhow::{Context as _, ensure};
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use synckit_protocol::MEDIA_TYPE_CBOR;
use synckit_server::{Config, Server};
use tempfile::TempDir;
use tower::ServiceExt as _;

const PUSH: &str = "/api/sync/push";
const PULL: &str = "/api/sync/pull";

/// Batches of 500 entries are stored, one after the other.
pub(super) fn push_batch(times: u32, fixture: &Path) -> anyhow::Result<()> {
    let requests = Requests::read(fixture)?;
    run(fixture, async |server| {
        server.send_each(PUSH, requests.batches(times)?).await
    })
}

/// Batches of one entry are stored, one after the other.
pub(super) fn push_entry(times: u32, fixture: &Path) -> anyhow::Result<()> {
    let requests = Requests::read(fixture)?;
    run(fixture, async |server| {
        // They were sealed on top of the full ones.
        server.send_each(PUSH, &requests.batches).await?;
        let entries = requests.singles.get(..times as usize);
        server
            .send_each(PUSH, entries.context("the fixture has too few entries")?)
            .await
    })
}

/// Pages of 500 entries are read.
pub(super) fn pull_page(times: u32, fixture: &Path) -> anyhow::Result<()> {
    let requests = Requests::read(fixture)?;
    run(fixture, async |server| {
        server.send_each(PUSH, &requests.batches).await?;
        let pages = requests.pulls.get(..times as usize);
        server
            .send_each(PULL, pages.context("the fixture has too few pages")?)
            .await
    })
}

/// The bodies of the fixture, in the order in which they are to be sent.
struct Requests {
    batches: Vec<Bytes>,
    singles: Vec<Bytes>,
    pulls: Vec<Bytes>,
}

impl Requests {
    fn read(fixture: &Path) -> anyhow::Result<Self> {
        let all = |name: &str| -> anyhow::Result<Vec<Bytes>> {
            let folder = fixture.join(name);
            let files = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
            let mut paths = files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
            paths.sort();
            Ok(paths
                .into_iter()
                .map(fs::read)
                .map(|bytes| bytes.map(Bytes::from))
                .collect::<io::Result<_>>()?)
        };
        Ok(Self {
            batches: all("batches")?,
            singles: all("singles")?,
            pulls: all("pulls")?,
        })
    }

    fn batches(&self, times: u32) -> anyhow::Result<&[Bytes]> {
        self.batches
            .get(..times as usize)
            .context("the fixture has too few batches")
    }
}

/// A server on a copy of the fixture's data directory.
struct Running {
    router: Router,
    authorization: HeaderValue,
}

impl Running {
    async fn send_each(&self, path: &'static str, bodies: &[Bytes]) -> anyhow::Result<()> {
        let content_type = HeaderValue::from_static(MEDIA_TYPE_CBOR);
        for body in bodies {
            let request = Request::post(path)
                .header(header::AUTHORIZATION, &self.authorization)
                .header(header::ACCEPT, &content_type)
                .header(header::CONTENT_TYPE, &content_type)
                .header(header::CONTENT_LENGTH, body.len())
                .body(Body::from(body.clone()))?;
            let answer = self.router.clone().oneshot(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            ensure!(
                status.is_success(),
                "{path} was refused: {}",
                String::from_utf8_lossy(&body)
            );
        }
        Ok(())
    }
}

fn run(fixture: &Path, work: impl AsyncFnOnce(&Running) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let data_dir = TempDir::new()?;
    copy_folder(&fixture.join("server"), data_dir.path())?;
    let authorization = fs::read_to_string(fixture.join("authorization"))?;
    // One thread beside the store's own, so that how the system divides the work changes little.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::open(Config::new(data_dir.path())).await?;
        let running = Running {
            router: server.router(),
            authorization: authorization.trim().parse()?,
        };
        work(&running).await
    })
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            // Keeps the mode, which the server checks for its keys.
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
