//! Lies of the wire itself: destinations, sizes, and shapes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::ensure;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use synckit_client::{
    BlobHash, Cursor, Error, Tampering,
    transport::{BodyStream, TransportError},
};
use synckit_protocol::{
    limits,
    wire::{
        blobs::{BlobDownloadAnswer, BlobUploadAnswer},
        log::Page,
    },
};

use super::{
    Evidence, caught, passes,
    stage::{Actor, Stage, invented, pull_all, rewriting, rewriting_bytes},
};
use crate::{
    direct::{Lie, Sent, response_of},
    endpoint::{Answer, SERVER_URL},
};

const ELSEWHERE: &str = "https://elsewhere.example.test";
const OBJECTS: &str = "/blobs/";
const PULL: &str = "/api/sync/pull";

fn is_elsewhere(sent: &Sent) -> bool {
    !sent.head.uri.to_string().starts_with(SERVER_URL)
}

/// The number of requests to another host, and the number of those with a token.
fn gone_elsewhere(actor: &Actor) -> (usize, usize) {
    let sent = actor.sent.lock();
    let gone: Vec<&Sent> = sent.iter().filter(|sent| is_elsewhere(sent)).collect();
    (gone.len(), gone.iter().filter(|sent| sent.has_token()).count())
}

fn sent_tokens_home(actor: &Actor) -> bool {
    let sent = actor.sent.lock();
    sent.iter().any(|sent| !is_elsewhere(sent) && sent.has_token())
}

/// A server that sends uploads to a URL, with a header.
fn sending_uploads_to(
    url: String,
    header: Option<(&'static str, &'static str)>,
) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync {
    move |sent, answer| match answer {
        None if is_elsewhere(sent) => invented(200, &[], Bytes::new()),
        answer => {
            let url = url.clone();
            rewriting::<BlobUploadAnswer>("/api/sync/blobs/upload", move |answer| {
                answer.upload_url = Some(url.clone());
                let header = header.map(|(name, value)| (name.to_owned(), value.to_owned()));
                answer.headers.extend(header);
            })(sent, answer)
        }
    }
}

/// An upload to another host, as an honest server with an object store asks for it. By the time that confirming fails,
/// because the object never arrived, everything was sent.
async fn uploads_to_an_object_store(stage: &Stage, device: usize) -> anyhow::Result<()> {
    let store = sending_uploads_to(format!("{ELSEWHERE}/bucket/object"), Some(("x-amz-acl", "private")));
    let actor = stage.victim(device, store)?;
    let put = actor.client.blob_put(b"a file".to_vec(), |_| {}).await;
    ensure!(put.is_err(), "an upload that went elsewhere was confirmed");
    let (gone, with_token) = gone_elsewhere(&actor);
    ensure!(gone == 1, "{gone} requests went elsewhere");
    ensure!(with_token == 0, "the token left its origin");
    let sent = actor.sent.lock();
    let kept_header = sent
        .iter()
        .any(|sent| is_elsewhere(sent) && sent.head.headers.contains_key("x-amz-acl"));
    ensure!(kept_header, "what the object store signed does not reach it");
    Ok(())
}

/// Uploads that must be refused before anything is sent to where the server wants them.
async fn refused_upload(
    stage: &Stage,
    url: String,
    header: Option<(&'static str, &'static str)>,
) -> anyhow::Result<String> {
    let victim = stage.victim(1, sending_uploads_to(url.clone(), header))?;
    let put = victim.client.blob_put(b"a file".to_vec(), |_| {}).await;
    let caught = caught(put, |error| {
        matches!(error, Error::Tampering(Tampering::UnsafeUrl { .. }))
    })?;
    ensure!(gone_elsewhere(&victim).0 == 0, "something was sent to {url}");
    ensure!(sent_tokens_home(&victim), "the detector of tokens does not work");
    Ok(caught)
}

pub(super) async fn chosen_headers(stage: Stage) -> anyhow::Result<Evidence> {
    let mut caught = String::new();
    for header in [
        ("Authorization", "Bearer yes please"),
        ("Cookie", "session=1"),
        ("Host", "internal.example.test"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Transfer-Encoding", "chunked"),
        ("x-object-store", "yes\r\nX-Injected: yes"),
    ] {
        caught = refused_upload(&stage, format!("{ELSEWHERE}/bucket/object"), Some(header)).await?;
    }
    uploads_to_an_object_store(&stage, 2).await?;
    Ok(Evidence::new(
        caught,
        "with a header that object stores sign, the upload goes to another host, sealed and without the token",
    ))
}

pub(super) async fn into_the_machine(stage: Stage) -> anyhow::Result<Evidence> {
    let mut caught = String::new();
    for place in [
        "https://user:password@elsewhere.example.test/",
        "http://127.0.0.1/",
        "https://localhost/",
        "https://printer.localhost/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://127.0.0.1:9200/_all",
    ] {
        caught = refused_upload(&stage, place.to_owned(), None).await?;
    }
    uploads_to_an_object_store(&stage, 2).await?;
    Ok(Evidence::new(
        caught,
        "to a host on the Internet, the upload goes, sealed and without the token",
    ))
}

/// The control of a download: an honest one brings the file.
async fn downloads(device: &Actor, file: &[u8]) -> anyhow::Result<()> {
    let url = passes(
        "the control",
        device.client.blob_download_url(&BlobHash::of(file)).await,
    )?;
    ensure!(device.client.blob_download(&url).await? == file, "another file came");
    Ok(())
}

pub(super) async fn plain_http(stage: Stage) -> anyhow::Result<Evidence> {
    let author = stage.honest(0)?;
    let hash = author.client.blob_put(b"a file".to_vec(), |_| {}).await?;
    let victim = stage.victim(
        1,
        rewriting::<BlobDownloadAnswer>("/api/sync/blobs/download", |answer| {
            answer.download_url = answer.download_url.replacen("https://", "http://", 1);
        }),
    )?;
    let caught = caught(victim.client.blob_download_url(&hash).await, |error| {
        matches!(error, Error::Tampering(Tampering::UnsafeUrl { .. }))
    })?;
    let honest = stage.victim(2, rewriting::<BlobDownloadAnswer>("/api/sync/blobs/download", |_| {}))?;
    downloads(&honest, b"a file").await?;
    Ok(Evidence::new(caught, "with TLS, the same URL is used"))
}

fn redirecting(path: &'static str) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync {
    move |sent, answer| {
        if answer.is_some() || !sent.path().starts_with(path) {
            return Lie::Truth;
        }
        let location = format!("{ELSEWHERE}{}", sent.path());
        invented(307, &[("location", location.as_str())], Bytes::new())
    }
}

pub(super) async fn redirect(stage: Stage) -> anyhow::Result<Evidence> {
    let victim = stage.victim(1, redirecting(PULL))?;
    let caught = caught(pull_all(&victim, Cursor::START).await, |error| {
        matches!(error, Error::Protocol { status: 307, .. })
    })?;
    ensure!(gone_elsewhere(&victim).0 == 0, "the redirect was followed");
    let honest = stage.victim(2, redirecting("/no/such/path"))?;
    passes("the honest run", pull_all(&honest, Cursor::START).await)?;
    ensure!(sent_tokens_home(&honest), "the detector of tokens does not work");
    Ok(Evidence::new(
        caught,
        "the same request without the redirect is answered",
    ))
}

pub(super) async fn redirected_download(stage: Stage) -> anyhow::Result<Evidence> {
    let author = stage.honest(0)?;
    let hash = author.client.blob_put(b"a file".to_vec(), |_| {}).await?;
    let victim = stage.victim(1, redirecting(OBJECTS))?;
    let url = victim.client.blob_download_url(&hash).await?;
    let caught = caught(victim.client.blob_download(&url).await, |error| {
        matches!(error, Error::Protocol { status: 307, .. })
    })?;
    ensure!(gone_elsewhere(&victim).0 == 0, "the redirect was followed");
    let honest = stage.honest(2)?;
    downloads(&honest, b"a file").await?;
    Ok(Evidence::new(caught, "the same download without the redirect arrives"))
}

const PIECE: usize = 64 * 1024;
const GIGABYTE: usize = 1 << 30;

/// A body of a gigabyte, made as it is read. `read` counts the bytes read.
fn flood(read: &Arc<AtomicUsize>) -> BodyStream<TransportError> {
    let read = Arc::clone(read);
    read.store(0, Ordering::SeqCst);
    let bytes = Bytes::from(vec![0x80; PIECE]);
    let body = stream::iter(0..GIGABYTE / PIECE).map(move |_| {
        read.fetch_add(PIECE, Ordering::SeqCst);
        Ok(bytes.clone())
    });
    Box::pin(body)
}

/// Answers requests to a path with a flood.
fn flooding(
    path: &'static str,
    status: u16,
    read: &Arc<AtomicUsize>,
) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + use<> {
    let read = Arc::clone(read);
    move |sent, answer| {
        if answer.is_some() || !sent.path().starts_with(path) {
            return Lie::Truth;
        }
        match http::Response::builder().status(status).body(flood(&read)) {
            Ok(response) => Lie::Instead(response),
            Err(_) => Lie::Truth,
        }
    }
}

/// A page of the largest size, and the fields around it.
const ANSWER_ROOM: usize = limits::PAGE_BYTES_MAX as usize + 2 * 1024 * 1024;

pub(super) async fn gigabyte(stage: Stage) -> anyhow::Result<Evidence> {
    stage.three_batches().await?;
    let read = Arc::default();
    let victim = stage.victim(1, flooding(PULL, 200, &read))?;
    let caught = caught(pull_all(&victim, Cursor::START).await, |error| {
        matches!(error, Error::Network(TransportError::TooLarge { .. }))
    })?;
    ensure!(
        read.load(Ordering::SeqCst) <= ANSWER_ROOM,
        "{} bytes were read",
        read.load(Ordering::SeqCst)
    );
    let honest = stage.victim(2, rewriting::<Page>(PULL, |_| {}))?;
    passes("the control", pull_all(&honest, Cursor::START).await)?;
    Ok(Evidence::new(
        format!("{caught} (after {} MiB)", read.load(Ordering::SeqCst) >> 20),
        "a page that fits is read",
    ))
}

pub(super) async fn gigabyte_problem(stage: Stage) -> anyhow::Result<Evidence> {
    let author = stage.honest(0)?;
    let hash = author.client.blob_put(b"a file".to_vec(), |_| {}).await?;
    let read = Arc::default();
    let victim = stage.victim(1, flooding(OBJECTS, 500, &read))?;
    let url = victim.client.blob_download_url(&hash).await?;
    let caught = caught(victim.client.blob_download(&url).await, |error| {
        matches!(error, Error::Network(TransportError::TooLarge { .. }))
    })?;
    ensure!(
        read.load(Ordering::SeqCst) <= 4 * PIECE,
        "{} bytes were read",
        read.load(Ordering::SeqCst)
    );
    let honest = stage.honest(2)?;
    downloads(&honest, b"a file").await?;
    Ok(Evidence::new(
        format!("{caught} (after {} KiB)", read.load(Ordering::SeqCst) >> 10),
        "the same file without the flood arrives",
    ))
}

/// More than is read of a blob without an end: its real length, and the pieces that wait for the thread that opens them.
const BLOB_ROOM: usize = 64 * PIECE;

pub(super) async fn endless_blob(stage: Stage) -> anyhow::Result<Evidence> {
    let author = stage.honest(0)?;
    let file = vec![7; 3 * PIECE];
    let hash = author.client.blob_put(file.clone(), |_| {}).await?;
    let read = Arc::default();
    let victim = stage.victim(1, flooding(OBJECTS, 200, &read))?;
    let url = victim.client.blob_download_url(&hash).await?;
    let caught = caught(victim.client.blob_download(&url).await, |error| {
        matches!(error, Error::Tampering(Tampering::BlobForged { .. }))
    })?;
    ensure!(
        read.load(Ordering::SeqCst) < BLOB_ROOM,
        "{} bytes were read",
        read.load(Ordering::SeqCst)
    );
    let honest = stage.honest(2)?;
    downloads(&honest, &file).await?;
    Ok(Evidence::new(
        format!("{caught} (within {} MiB)", BLOB_ROOM >> 20),
        "the same file without the flood arrives",
    ))
}

/// A pull that is answered with these bytes.
async fn page_of(stage: &Stage, device: usize, body: Vec<u8>) -> anyhow::Result<Result<usize, Error>> {
    let victim = stage.victim(device, rewriting_bytes(PULL, move |_| body.clone()))?;
    Ok(pull_all(&victim, Cursor::START).await.map(|(rows, _)| rows.len()))
}

/// The start of a page in CBOR, with one field more than there should be; its value follows.
fn page_with_extra_field() -> Vec<u8> {
    let mut body = vec![0xa4];
    body.extend_from_slice(b"\x67batches\x80\x66cursor\x610\x68has_more\xf4\x65extra");
    body
}

pub(super) async fn lying_length(stage: Stage) -> anyhow::Result<Evidence> {
    // A byte string, and an array, that claim 2^60.
    let mut refusals = Vec::new();
    for major in [0x5b_u8, 0x9b] {
        let mut body = vec![0xa3];
        body.extend_from_slice(b"\x66cursor\x610\x68has_more\xf4\x67batches");
        if major == 0x5b {
            body.extend_from_slice(b"\x81\xa1\x66sealed");
        }
        body.push(major);
        body.extend_from_slice(&(1_u64 << 60).to_be_bytes());
        let refusal = caught(page_of(&stage, 1, body).await?, |error| {
            matches!(error, Error::Protocol { status: 200, .. })
        })?;
        refusals.push(refusal);
    }
    let mut honest = page_with_extra_field();
    honest.push(0x00);
    passes("the control", page_of(&stage, 2, honest).await?)?;
    Ok(Evidence::new(
        refusals.pop().unwrap_or_default(),
        "a page written by hand in the same way, with true lengths, is read",
    ))
}

pub(super) async fn lying_blob_size(stage: Stage) -> anyhow::Result<Evidence> {
    let author = stage.honest(0)?;
    let hash = author.client.blob_put(b"a file".to_vec(), |_| {}).await?;
    let victim = stage.victim(
        1,
        rewriting::<BlobDownloadAnswer>("/api/sync/blobs/download", |answer| {
            answer.size = limits::BLOB_SEALED_BYTES_MAX;
        }),
    )?;
    let url = victim.client.blob_download_url(&hash).await?;
    let caught = caught(
        victim.client.blob_download(&url).await,
        |error| matches!(error, Error::Tampering(Tampering::BlobForged { reason }) if *reason == "it is too short"),
    )?;
    let victim = stage.victim(
        2,
        rewriting::<BlobDownloadAnswer>("/api/sync/blobs/download", |answer| answer.size = u64::MAX),
    )?;
    ensure!(
        matches!(
            victim.client.blob_download_url(&hash).await,
            Err(Error::Protocol { .. })
        ),
        "a size that no blob has was believed"
    );
    let honest = stage.honest(3)?;
    downloads(&honest, b"a file").await?;
    Ok(Evidence::new(caught, "with its true size, the same blob is read"))
}

const DEPTH: usize = 200_000;

pub(super) async fn deep_nesting(stage: Stage) -> anyhow::Result<Evidence> {
    let mut body = page_with_extra_field();
    body.extend(std::iter::repeat_n(0x81, DEPTH));
    // Never closed: the end of the arrays is missing.
    let refused = caught(page_of(&stage, 1, body).await?, |error| {
        matches!(error, Error::Protocol { status: 200, .. })
    })?;
    // The same in JSON, as a problem.
    let problem = format!(
        r#"{{"type":"x","code":"x","title":"x","status":400,"behind":{}"#,
        "[".repeat(DEPTH)
    );
    let tell = move |sent: &Sent, answer: Option<Answer>| match answer {
        Some(answer) if sent.path() == PULL => {
            let mut head = answer.head;
            head.status = http::StatusCode::BAD_REQUEST;
            Lie::Instead(response_of(head, Bytes::from(problem.clone())))
        }
        _ => Lie::Truth,
    };
    let victim = stage.victim(2, tell)?;
    caught(pull_all(&victim, Cursor::START).await, |error| {
        matches!(error, Error::Protocol { status: 400, .. })
    })?;
    let mut shallow = page_with_extra_field();
    shallow.extend_from_slice(&[0x81, 0x81, 0x81, 0x00]);
    passes("the control", page_of(&stage, 3, shallow).await?)?;
    Ok(Evidence::new(refused, "an unknown field of three levels is skipped"))
}
