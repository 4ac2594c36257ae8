//! Pushes that are sealed before the clock starts.
//!
//! A driver that seals while it measures the server measures itself. So the SDK seals for a transport that records
//! pushes and answers as the server will: the answer follows from the request alone. All other requests reach the
//! server. The recorded requests are sent later unchanged.

use std::{mem, pin::Pin, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, header};
use synckit_client::{
    Position,
    transport::{BodyStream, Exchange, HttpTransport, RequestBody, Transport, TransportError},
};
use synckit_protocol::{
    BatchDigest, MEDIA_TYPE_CBOR, SealedHash,
    wire::log::{Push, Pushed},
};

use std::sync::Mutex;

/// A push that is ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The request's body.
    pub(super) body: Bytes,
    /// Where the stream is once it is stored.
    pub(super) after: Position,
}

/// The transport.
#[derive(Debug)]
pub(super) struct Recorder {
    server: Arc<HttpTransport>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pushes: Vec<Prepared>,
    /// The `Authorization` of the last request that had one.
    authorization: Option<HeaderValue>,
}

impl Recorder {
    pub(super) fn new(server: Arc<HttpTransport>) -> Self {
        Self {
            server,
            kept: Mutex::default(),
        }
    }

    /// The requests kept since the last call.
    pub(super) fn take(&self) -> anyhow::Result<Vec<Prepared>> {
        let mut kept = self.kept.lock().map_err(|_| Poisoned)?;
        Ok(mem::take(&mut kept.pushes))
    }

    /// The header that authorises a request as this client.
    pub(super) fn authorization(&self) -> anyhow::Result<HeaderValue> {
        let kept = self.kept.lock().map_err(|_| Poisoned)?;
        kept.authorization.clone().context("the client sent no token yet")
    }

    /// Keeps a push, and answers it.
    fn keep(&self, body: Bytes) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let push: Push = minicbor_serde::from_slice(&body)?;
        let digest = BatchDigest {
            batch_id: push.batch_id,
            device_id: push.device_id,
            key_id: push.key_id,
            count: push.count,
            sealed_hash: SealedHash::of(push.sealed.as_ref()),
        };
        let after = push.parent.advance(&digest).ok_or("a batch that follows none")?;
        let answer = minicbor_serde::to_vec(Pushed {
            first_seq: push.parent.seq + 1,
            last_seq: after.seq,
            head: after.head,
        })?;
        self.kept
            .lock()
            .map_err(|_| Poisoned)?
            .pushes
            .push(Prepared { body, after });
        Ok(answer.into())
    }
}

impl Transport for Recorder {
    fn send(&self, request: Request<RequestBody>) -> Exchange {
        if let (Some(value), Ok(mut kept)) = (request.headers().get(header::AUTHORIZATION), self.kept.lock()) {
            kept.authorization = Some(value.clone());
        }
        let answer = match request.body() {
            RequestBody::Full(body) if request.uri().path() == "/api/sync/push" => self.keep(body.clone()),
            _ => return self.server.send(request),
        };
        Box::pin(async move {
            let chunk = answer.map_err(TransportError::Connection)?;
            let body: BodyStream<TransportError> =
                Pin::from(Box::new(stream::once(async move { Ok(chunk) })) as Box<_>);
            let mut response = Response::new(body);
            let content_type = HeaderValue::from_static(MEDIA_TYPE_CBOR);
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            Ok(response)
        })
    }
}

/// Another thread panicked while it held the lock.
#[derive(Debug, thiserror::Error)]
#[error("a task of the bench panicked")]
struct Poisoned;
