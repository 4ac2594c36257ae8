//! One request to a server, sent as the SDK sends it: over its transport, without following redirects.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use synckit_client::transport::{HttpTransport, RequestBody, Transport as _};

/// Time limit for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes that are read of an answer: valid ones are small.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A client for requests to a server.
#[derive(Debug)]
pub(super) struct Probe {
    transport: HttpTransport,
    base: String,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// From the first byte of the request to the head of the answer.
    pub(super) took: Duration,
    /// How far the server's clock is ahead of this machine's, in seconds; negative if it is behind. Exact to a second
    /// plus half of the answer's time.
    pub(super) ahead_seconds: Option<i64>,
}

/// The answer of `/healthz`. Older servers omit their version.
#[derive(Debug, Deserialize)]
pub(super) struct Health {
    pub(super) status: String,
    pub(super) version: Option<String>,
    pub(super) protocol: Option<u32>,
}

impl Probe {
    pub(super) fn new(url: &str) -> Self {
        Self {
            transport: HttpTransport::new(PATIENCE),
            base: url.trim_end_matches('/').to_owned(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let request = http::Request::get(format!("{}{path}", self.base)).body(RequestBody::Empty)?;
        let (sent_at, clock) = (SystemTime::now(), tokio::time::Instant::now());
        let exchange = async {
            let answer = self.transport.send(request).await?;
            let took = clock.elapsed();
            let (head, mut chunks) = answer.into_parts();
            let mut body = Vec::new();
            while let Some(chunk) = chunks.next().await.transpose()? {
                body.extend_from_slice(&chunk);
                if body.len() > BODY_BYTES_MAX {
                    return Err(anyhow!("the answer is larger than any answer of a SyncKit server"));
                }
            }
            let date = head.headers.get(header::DATE).and_then(|date| date.to_str().ok());
            let ahead_seconds = date
                .and_then(|date| httpdate::parse_http_date(date).ok())
                .map(|date| seconds_between(sent_at + took / 2, date));
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
                took,
                ahead_seconds,
            })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("no answer within {} seconds", PATIENCE.as_secs()))?
    }

    /// The content of `/healthz`, if a SyncKit server answered.
    pub(super) async fn health(&self) -> anyhow::Result<(Answer, Option<Health>)> {
        let answer = self.get("/healthz").await?;
        let health = serde_json::from_slice::<Health>(&answer.body)
            .ok()
            .filter(|health| answer.status == StatusCode::OK && health.status == "ok");
        Ok((answer, health))
    }
}

fn seconds_between(earlier: SystemTime, later: SystemTime) -> i64 {
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match later.duration_since(earlier) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    }
}
