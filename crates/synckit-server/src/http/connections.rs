//! Accepting connections, and letting them end.
//!
//! HTTP/1.1 on plain TCP: TLS and HTTP/2 are a reverse proxy's business. hyper is driven directly rather than through
//! `axum::serve`, which has no time-out for request heads and no bound on connections.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::Request;
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use synckit_protocol::{MEDIA_TYPE_PROBLEM, Problem, ProblemCode};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{PeerAddress, framing::HeadGuard, stall::StallGuard};
use crate::{
    limits::{AddressPrefix, Owners},
    startup::config::Config,
    state::ServerState,
};

/// The largest buffer of a connection. Request heads have a bound of their own ([`HeadGuard`]).
const BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Header lines of one request.
const HEADERS_MAX: usize = 100;
/// Concurrent connections that get an answer that the server is full; further ones are closed.
const TURNED_AWAY_MAX: usize = 32;
/// Time limit for ending a refused connection.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);
/// The most bytes that are read from a refused connection.
const UNREAD_BYTES_MAX: u64 = 1 << 20;

/// How long a connection without a running request may stay open after the server stops: for the last bytes of an
/// answer, and for a partially received request.
const STOP_PAUSE: Duration = Duration::from_secs(1);

/// Serves connections until `stopping`, then lets running requests end within the grace time.
pub(crate) async fn serve_connections(
    listener: TcpListener,
    router: Router,
    state: &ServerState,
    stopping: CancellationToken,
) {
    let config = &state.config;
    let turning_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let Ok(permit) = state.capacity.connections.try_take(owners_of(peer.ip(), config), 1) else {
                    // More than these are closed without a word.
                    if let Ok(turn) = Arc::clone(&turning_away).try_acquire_owned() {
                        connections.spawn(async move {
                            let _ = timeout(REFUSAL_TIME_MAX, turn_away(stream)).await;
                            drop(turn);
                        });
                    }
                    continue;
                };
                let connection = Connection {
                    stream,
                    peer: PeerAddress(peer),
                    router: router.clone(),
                    stopping: stopping.clone(),
                };
                let (head, stall) = (config.timeouts.request_head, config.timeouts.stall);
                let open = OpenConnection::counted_in(&state.metrics.connections);
                connections.spawn(async move {
                    connection.serve(head, stall).await;
                    drop(open);
                    drop(permit);
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(config.timeouts.shutdown_grace, all_ended).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections were cut off at the end of the grace time"
        );
    }
    connections.shutdown().await;
}

/// Whose share a connection counts against. A proxy speaks for many, so that only the total bounds it.
fn owners_of(peer: IpAddr, config: &Config) -> Owners {
    if config.trusted_proxies.iter().any(|block| block.contains(peer)) {
        Owners::NOBODY
    } else {
        Owners::address(AddressPrefix::of(peer))
    }
}

/// Answers any request of a client that the server has no room for its connection.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    let problem = Problem::new(ProblemCode::Overloaded);
    let body = serde_json::to_string(&problem)?;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {MEDIA_TYPE_PROBLEM}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    let (reader, writer) = stream.into_split();
    close_after_unread(reader, writer).await
}

/// Closes a connection on which the client may still send. One that is closed over unread bytes loses the answer on its
/// way (RFC 9112, section 9.6).
async fn close_after_unread(reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    writer.shutdown().await?;
    let mut unread = reader.take(UNREAD_BYTES_MAX);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Some failures of `accept` belong to one connection; the others (no file descriptors left, say) would make a loop
/// spin.
async fn pause_after(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if !of_one_connection {
        tracing::error!(%error, "cannot accept a connection");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Counts a connection for as long as it lives, also if its task is cut off.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn counted_in(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The requests of one connection that are not answered to the last byte.
#[derive(Debug, Clone, Default)]
struct RequestCount(Arc<AtomicUsize>);

/// One of them.
struct RunningRequest(Arc<AtomicUsize>);

impl RequestCount {
    fn begin(&self) -> RunningRequest {
        self.0.fetch_add(1, Ordering::Relaxed);
        RunningRequest(Arc::clone(&self.0))
    }

    /// Resolves when two checks in a row find no connection, with this pause before each.
    async fn none_for(&self, pause: Duration) {
        let mut looks = 0;
        while looks < 2 {
            sleep(pause).await;
            looks = if self.0.load(Ordering::Relaxed) == 0 {
                looks + 1
            } else {
                0
            };
        }
    }
}

impl RunningRequest {
    /// A body that counts as a running request until it was taken, or dropped.
    fn until_sent(self, body: Body) -> impl HttpBody<Data = Bytes, Error = axum::Error> {
        body.map_frame(move |frame| {
            let _running = &self;
            frame
        })
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection {
    stream: TcpStream,
    peer: PeerAddress,
    router: Router,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve(self, head_timeout: Duration, stall_timeout: Duration) {
        let Self {
            stream,
            peer,
            router,
            stopping,
        } = self;
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let requests = RequestCount::default();
        let counted = requests.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let running = counted.begin();
            let answer = router.clone().oneshot(request);
            async move {
                answer
                    .await
                    .map(|response| response.map(|body| running.until_sent(body)))
            }
        });
        let (reader, writer) = stream.into_split();
        let (reader, writer) = (
            HeadGuard::new(reader, HEADERS_MAX),
            StallGuard::new(writer, stall_timeout),
        );
        let io = TokioIo::new(tokio::io::join(reader, writer));
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(io, service);
        let served = tokio::select! {
            served = &mut connection => served,
            () = stopping.cancelled() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                tokio::select! {
                    served = &mut connection => served,
                    () = requests.none_for(STOP_PAUSE) => return,
                }
            }
        };
        if let Err(error) = served {
            // Broken connections are everyday; their errors carry no contents of requests.
            tracing::debug!(%error, "a connection ended early");
            let (reader, writer) = connection.into_parts().io.into_inner().into_inner();
            if let Some(reader) = reader.into_refused() {
                let _ = timeout(REFUSAL_TIME_MAX, close_after_unread(reader, writer)).await;
            }
        }
    }
}
