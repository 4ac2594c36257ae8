//! A transport that loses and changes messages, around the real one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use synckit_client::transport::{BodyStream, Exchange, HttpTransport, RequestBody, Transport, TransportError};

/// What happens to one request.
pub(crate) enum Fate {
    /// It arrives, and so does its answer.
    Delivered,
    /// It never arrives.
    RequestLost,
    /// It arrives, and its answer does not.
    AnswerLost,
    /// Nothing ever happens.
    Unanswered,
    /// It never arrives, and this status and body are the answer.
    Answered(u16, Vec<u8>),
    /// It never arrives, and the answer asks to wait for so many seconds.
    Busy(u64),
    /// Something else arrives in its place.
    Rewritten(Vec<u8>),
    /// It arrives with one other byte, the last of each piece.
    Garbled,
    /// It arrives, and its answer is changed on the way.
    Changed(Box<dyn FnOnce(Vec<u8>) -> Vec<u8> + Send>),
}

type Decide = dyn Fn(&http::Request<RequestBody>) -> Fate + Send + Sync;

/// Decides every request's fate, and counts them.
pub(crate) struct Interference {
    inner: HttpTransport,
    decide: Box<Decide>,
    requests: AtomicUsize,
}

impl fmt::Debug for Interference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interference")
    }
}

impl Interference {
    pub(crate) fn new(decide: impl Fn(&http::Request<RequestBody>) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner: HttpTransport::new(Duration::from_secs(10)),
            decide: Box::new(decide),
            requests: AtomicUsize::new(0),
        })
    }

    /// Changes the answers of one path, whatever the query.
    pub(crate) fn changing(
        path: &'static str,
        change: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(move |request| {
            if request.uri().path() == path {
                let change = change.clone();
                Fate::Changed(Box::new(change))
            } else {
                Fate::Delivered
            }
        })
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Transport for Interference {
    fn send(&self, request: http::Request<RequestBody>) -> Exchange {
        self.requests.fetch_add(1, Ordering::SeqCst);
        match (self.decide)(&request) {
            Fate::Delivered => self.inner.send(request),
            Fate::RequestLost => Box::pin(async { Err(lost()) }),
            Fate::Unanswered => Box::pin(std::future::pending()),
            Fate::AnswerLost => {
                let exchange = self.inner.send(request);
                Box::pin(async move {
                    // The whole answer is read, so the server has done what was asked.
                    drain(exchange.await?.into_body()).await?;
                    Err(lost())
                })
            }
            Fate::Answered(status, body) => Box::pin(async move { Ok(answer(status, body)) }),
            Fate::Busy(seconds) => Box::pin(async move {
                let mut busy = answer(503, b"<html>busy</html>".to_vec());
                busy.headers_mut().insert("retry-after", seconds.into());
                Ok(busy)
            }),
            Fate::Rewritten(body) => self.inner.send(request.map(|_| RequestBody::Full(Bytes::from(body)))),
            Fate::Garbled => self.inner.send(request.map(garbled)),
            Fate::Changed(change) => {
                let exchange = self.inner.send(request);
                Box::pin(async move {
                    let (parts, body) = exchange.await?.into_parts();
                    let body = change(drain(body).await?);
                    Ok(answer(parts.status.as_u16(), body))
                })
            }
        }
    }
}

fn garbled(body: RequestBody) -> RequestBody {
    let flip = |piece: Bytes| {
        let mut piece = piece.to_vec();
        if let Some(last) = piece.last_mut() {
            *last ^= 1;
        }
        Bytes::from(piece)
    };
    match body {
        RequestBody::Stream { length, chunks } => RequestBody::Stream {
            length,
            chunks: Box::pin(chunks.map(move |piece| piece.map(flip))),
        },
        RequestBody::Full(body) => RequestBody::Full(flip(body)),
        empty @ RequestBody::Empty => empty,
    }
}

fn lost() -> TransportError {
    TransportError::Connection("the connection was cut".into())
}

fn answer(status: u16, body: Vec<u8>) -> http::Response<BodyStream<TransportError>> {
    let chunks: BodyStream<TransportError> = Box::pin(stream::iter([Ok(Bytes::from(body))]));
    http::Response::builder().status(status).body(chunks).unwrap()
}

pub(crate) async fn drain(mut body: BodyStream<TransportError>) -> Result<Vec<u8>, TransportError> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.next().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole)
}
