//! What stands between an app and its server.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use synckit_client::transport::{BodyStream, Exchange, HttpTransport, RequestBody, Transport, TransportError};
use synckit_protocol::{MEDIA_TYPE_PROBLEM, Problem, ProblemCode, wire::log::Push};

const PUSH: &str = "/api/sync/push";

/// What becomes of a request.
pub(crate) enum Fate {
    Delivered,
    /// A proxy with a limit answers.
    TooLarge,
    /// Other bytes arrive, which nobody can open.
    Garbled,
    /// It arrives, and the answer does not.
    Unanswered,
    /// It does not arrive.
    Dropped,
    /// The app has moved as much as it may.
    Slowed,
    /// The answer is another one.
    Changed(fn(Vec<u8>) -> Vec<u8>),
}

/// By the path and the body.
type Decide = dyn Fn(&str, &[u8]) -> Fate + Send + Sync;

/// Decides about each request, and counts pushes and uploads that were asked for.
pub(crate) struct Gateway {
    inner: HttpTransport,
    decide: Box<Decide>,
    pushes: AtomicUsize,
    uploads: AtomicUsize,
}

impl Gateway {
    /// Decides about the body of each push.
    pub(crate) fn new(decide: impl Fn(&[u8]) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Self::on(PUSH, decide)
    }

    /// Decides about requests to one path.
    pub(crate) fn on(path: &'static str, decide: impl Fn(&[u8]) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Self::by_path(move |asked, body| match asked == path {
            true => decide(body),
            false => Fate::Delivered,
        })
    }

    pub(crate) fn by_path(decide: impl Fn(&str, &[u8]) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner: HttpTransport::new(Duration::from_secs(10)),
            decide: Box::new(decide),
            pushes: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
        })
    }

    /// The first pushes have these fates, and the others arrive.
    pub(crate) fn first(fates: impl IntoIterator<Item = Fate>) -> Arc<Self> {
        let fates: Mutex<VecDeque<Fate>> = Mutex::new(fates.into_iter().collect());
        Self::new(move |_| fates.lock().unwrap().pop_front().unwrap_or(Fate::Delivered))
    }

    /// A proxy that refuses bodies of more bytes.
    pub(crate) fn with_limit(bytes_max: usize) -> Arc<Self> {
        Self::new(move |body| match body.len() > bytes_max {
            true => Fate::TooLarge,
            false => Fate::Delivered,
        })
    }

    pub(crate) fn pushes(&self) -> usize {
        self.pushes.load(Ordering::SeqCst)
    }

    pub(crate) fn uploads(&self) -> usize {
        self.uploads.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}

impl Transport for Gateway {
    fn send(&self, request: Request<RequestBody>) -> Exchange {
        let path = request.uri().path();
        match path {
            PUSH => drop(self.pushes.fetch_add(1, Ordering::SeqCst)),
            "/api/sync/blobs/upload" => drop(self.uploads.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        let body: &[u8] = match request.body() {
            RequestBody::Full(body) => body,
            _ => &[],
        };
        let fate = (self.decide)(path, body);
        match fate {
            Fate::Delivered => self.inner.send(request),
            Fate::TooLarge => Box::pin(async { Ok(page(413)) }),
            Fate::Garbled => self.inner.send(request.map(garbled)),
            Fate::Unanswered => {
                let sent = self.inner.send(request);
                Box::pin(async {
                    drop(sent.await?);
                    Ok(page(418))
                })
            }
            Fate::Slowed => Box::pin(async { Ok(slowed()) }),
            Fate::Dropped => Box::pin(async { Ok(page(418)) }),
            Fate::Changed(change) => {
                let sent = self.inner.send(request);
                Box::pin(async move {
                    let (parts, mut body) = sent.await?.into_parts();
                    let mut bytes = Vec::new();
                    while let Some(chunk) = body.next().await {
                        bytes.extend(chunk?);
                    }
                    let changed = Bytes::from(change(bytes));
                    let body: BodyStream<TransportError> = Box::pin(stream::iter([Ok(changed)]));
                    Ok(Response::from_parts(parts, body))
                })
            }
        }
    }
}

/// A proxy's page in the place of an answer.
fn page(status: u16) -> Response<BodyStream<TransportError>> {
    let body: BodyStream<TransportError> = Box::pin(stream::iter([Ok(Bytes::from_static(b"<html></html>"))]));
    Response::builder().status(status).body(body).unwrap()
}

fn slowed() -> Response<BodyStream<TransportError>> {
    let problem = Problem::new(ProblemCode::TransferLimit);
    let text = serde_json::to_vec(&problem).unwrap();
    let body: BodyStream<TransportError> = Box::pin(stream::iter([Ok(Bytes::from(text))]));
    let answer = Response::builder()
        .status(problem.status)
        .header("content-type", MEDIA_TYPE_PROBLEM)
        .header("retry-after", "3600");
    answer.body(body).unwrap()
}

fn garbled(body: RequestBody) -> RequestBody {
    let RequestBody::Full(body) = body else { return body };
    let mut push: Push = minicbor_serde::from_slice(&body).unwrap();
    push.sealed.0.iter_mut().for_each(|byte| *byte ^= 0x55);
    RequestBody::Full(minicbor_serde::to_vec(&push).unwrap().into())
}
