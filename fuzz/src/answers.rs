//! The body of the fuzz target for answers: status, headers and body from a server, or from an intermediary.
//!
//! It drives the SDK itself through its transport, with a clock that jumps over every wait. No answer makes a call panic, and
//! none makes it last longer, or ask more often, than the SDK promises.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use synckit_client::{
    AppId, KeyKind, MemoryStore, SyncKitClient, SyncKitConfig,
    transport::{BodyStream, Exchange, RequestBody, Transport, TransportError},
};
use synckit_protocol::ApiKey;

/// Time limit for all retries of one call.
const RETRY_BUDGET: Duration = Duration::from_secs(60);
/// The most requests of one call: the first, and three retries.
const REQUESTS_MAX: usize = 4;

/// A status line, headers, an empty line and a body, as text. Invalid headers are skipped.
pub(crate) fn answer(data: &[u8]) {
    let Some(answers) = Answers::parse(data) else { return };
    let answers = Arc::new(answers);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let key = ApiKey::new(KeyKind::Publishable, AppId::from_bytes([1; 16]), [0; 16]).to_text();
    let config = SyncKitConfig {
        server_url: "https://sync.example.com".into(),
        api_key: key.expose().to_owned(),
    };
    let client = SyncKitClient::builder(config)
        .credential_store(MemoryStore::default())
        .transport(Arc::clone(&answers) as Arc<dyn Transport>)
        .build();
    runtime.block_on(async {
        // One call whose answer has no body, and one whose answer has fields.
        answers.bounded(client.request_password_reset("me@example.com")).await;
        answers
            .bounded(client.create_account("me@example.com", "password"))
            .await;
        // One whose answer is JSON, and says how long to wait.
        answers.bounded(client.login_with_device_code("machine", |_| {})).await;
    });
}

/// Gives one answer to every request.
#[derive(Debug)]
struct Answers {
    status: http::StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
    requests: AtomicUsize,
}

impl Answers {
    fn parse(data: &[u8]) -> Option<Self> {
        let mut lines = data.splitn(64, |byte| *byte == b'\n');
        let status = http::StatusCode::from_bytes(lines.next()?).ok()?;
        let mut headers = http::HeaderMap::new();
        let mut body = Bytes::new();
        while let Some(line) = lines.next() {
            if line.is_empty() {
                body = lines.collect::<Vec<_>>().join(&b'\n').into();
                break;
            }
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let name = parts.next().and_then(|name| http::HeaderName::from_bytes(name).ok());
            let value = parts
                .next()
                .and_then(|value| http::HeaderValue::from_bytes(value.trim_ascii()).ok());
            if let (Some(name), Some(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        Some(Self {
            status,
            headers,
            body,
            requests: AtomicUsize::new(0),
        })
    }

    async fn bounded<T>(&self, call: impl Future<Output = T>) {
        let (begun, before) = (tokio::time::Instant::now(), self.requests.load(Ordering::Relaxed));
        call.await;
        assert!(begun.elapsed() <= RETRY_BUDGET, "{:?}", begun.elapsed());
        assert!(self.requests.load(Ordering::Relaxed) - before <= REQUESTS_MAX);
    }
}

impl Transport for Answers {
    fn send(&self, _request: http::Request<RequestBody>) -> Exchange {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let chunk = Ok::<_, TransportError>(self.body.clone());
        let body: BodyStream<TransportError> = Box::pin(futures_util::stream::iter([chunk]));
        let mut answer = http::Response::new(body);
        *answer.status_mut() = self.status;
        answer.headers_mut().clone_from(&self.headers);
        Box::pin(async move { Ok(answer) })
    }
}
