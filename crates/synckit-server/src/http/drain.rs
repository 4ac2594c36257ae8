//! Request bodies that are read to their end even if the handler does not want them.
//!
//! A server that answers early and closes while the client still sends makes the client's system throw the answer away
//! (RFC 9112, section 9.6): "your token has expired" would arrive as a broken connection. So the rest of a refused body is
//! read and dropped, up to a bound in bytes and time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// The most that is read of a body that nobody wants.
const DRAIN_BYTES_MAX: u64 = 8 << 20;
/// Time limit for draining.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// The same body, read to its end when it is dropped before.
pub(crate) fn drained_when_dropped(body: Body) -> Body {
    if body.is_end_stream() {
        body
    } else {
        Body::new(Drained { inner: Some(body) })
    }
}

struct Drained {
    inner: Option<Body>,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.inner.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // Larger bodies are cut off: reading 500 MB to deliver one sentence would be the attack.
        if body.size_hint().lower() > DRAIN_BYTES_MAX {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let draining = async {
                let mut read = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    read += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if read > DRAIN_BYTES_MAX {
                        break;
                    }
                }
            };
            // Cut off or read to the end: the body is dropped either way.
            let _ = tokio::time::timeout(DRAIN_TIME_MAX, draining).await;
        });
    }
}
