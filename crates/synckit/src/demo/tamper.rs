//! A lying server, simulated by a transport that flips one bit in the pages that a device pulls.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::{Request, Response, StatusCode, header};
use synckit_client::transport::{BodyStream, Exchange, RequestBody, Transport, TransportError};
use synckit_protocol::wire::log::Page;

/// While switched on, flips a bit in the first batch of every pulled page.
#[derive(Debug)]
pub(super) struct TamperingTransport<T> {
    inner: T,
    tampers: Arc<AtomicBool>,
}

impl<T: Transport> TamperingTransport<T> {
    /// Starts switched on; the switch is returned.
    pub(super) fn new(inner: T) -> (Self, Arc<AtomicBool>) {
        let tampers = Arc::new(AtomicBool::new(true));
        (
            Self {
                inner,
                tampers: Arc::clone(&tampers),
            },
            tampers,
        )
    }
}

impl<T: Transport> Transport for TamperingTransport<T> {
    fn send(&self, request: Request<RequestBody>) -> Exchange {
        let tampers = self.tampers.load(Ordering::Relaxed) && request.uri().path().ends_with("/api/sync/pull");
        let answer = self.inner.send(request);
        if !tampers {
            return answer;
        }
        Box::pin(async move {
            let (mut parts, body) = answer.await?.into_parts();
            let mut body = Bytes::from(body.try_collect::<Vec<Bytes>>().await?.concat());
            if parts.status == StatusCode::OK
                && let Some(forged) = forge(&body)
            {
                body = forged;
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            let chunks: BodyStream<TransportError> = Box::pin(stream::iter([Ok(body)]));
            Ok(Response::from_parts(parts, chunks))
        })
    }
}

/// The same page with one bit of its first batch flipped; `None` if it contains no batch.
fn forge(body: &[u8]) -> Option<Bytes> {
    let mut page: Page = minicbor_serde::from_slice(body).ok()?;
    let sealed = &mut page.batches.first_mut()?.sealed.0;
    let middle = sealed.len() / 2;
    *sealed.get_mut(middle)? ^= 1;
    minicbor_serde::to_vec(&page).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use synckit_client::{BatchId, Cursor, DeviceId, KeyId};
    use synckit_protocol::wire::log::PulledBatch;

    use super::*;

    #[test]
    fn one_bit_of_a_page_is_flipped_and_nothing_else() {
        let batch = PulledBatch {
            batch_id: BatchId::from_bytes([1; 16]),
            device_id: DeviceId::from_bytes([2; 16]),
            key_id: KeyId::from_bytes([3; 16]),
            first_seq: 1,
            count: 1,
            sealed: vec![0; 100].into(),
        };
        let mut page = Page {
            batches: vec![batch.clone(), batch],
            cursor: Cursor::START,
            has_more: false,
            snapshot: None,
        };
        let forged = forge(&minicbor_serde::to_vec(&page).unwrap()).unwrap();
        page.batches[0].sealed.0[50] = 1;
        assert_eq!(minicbor_serde::from_slice::<Page>(&forged).unwrap(), page);
    }

    #[test]
    fn a_page_without_batches_stays_as_it_is() {
        let page = Page {
            batches: Vec::new(),
            cursor: Cursor::START,
            has_more: false,
            snapshot: None,
        };
        assert_eq!(forge(&minicbor_serde::to_vec(&page).unwrap()), None);
        assert_eq!(forge(b"no page"), None);
    }
}
