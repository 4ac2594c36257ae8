//! A network that delays, drops, duplicates and cuts, in simulated time, as its seed says.
//!
//! A request is on its own once it was sent: it may arrive after its sender gave up, or died, and twice.
//!
//! The network is deliberately not malicious. It changes no byte; a cut shortens a body. Lies are in [`crate::direct`].
//!
//! Invariant: at any simulated millisecond at most one request is in the server, and never one of two devices. So the
//! operating system's threads, which nobody can seed, have nothing to race for.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};
use synckit_client::transport::{BodyStream, Exchange, RequestBody, Transport, TransportError};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    crash::Fuse,
    direct::{Sent, broken, read_request, response_in_pieces, response_of},
    endpoint::{Answer, Endpoint, SERVER_URL},
    trace::{Lane, Trace},
};

/// Simulated milliseconds are dealt out in turns of so many: requests of a device arrive at the first of the
/// milliseconds that are its own, answers reach it at the second.
const TURN_MS: u64 = 16;
/// Where the answers of a device are in a turn.
const ANSWERS_FROM_MS: u64 = 8;

/// How rough the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Messages of a thousand that something happens to.
    pub trouble_per_mille: u32,
    /// The longest usual delay of a message.
    pub delay_max: Duration,
}

impl Weather {
    /// Everything arrives, soon.
    pub const CALM: Self = Self {
        trouble_per_mille: 0,
        delay_max: Duration::from_millis(20),
    };
}

/// The fate of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It arrives, and so does its answer.
    Delivered,
    /// It arrives after its sender has given up.
    Late,
    /// It arrives twice, and the first answer is taken.
    Twice,
    /// It never arrives; its sender notices, or waits in vain.
    RequestLost(Silence),
    /// It is cut in the middle of its body.
    RequestCut,
    /// It arrives, and its answer does not.
    AnswerLost(Silence),
    /// It arrives, and its answer is cut in the middle of the body.
    AnswerCut,
    /// A gateway answers in place of the server, before it asked, with this status.
    Refused(u16),
    /// A gateway answers in place of the server, after it asked, with this status.
    Replaced(u16),
}

/// How somebody learns that a message is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// The connection breaks.
    Noticed,
    /// Nothing happens at all.
    Kept,
}

/// The shared state of all links of a run.
#[derive(Debug)]
pub struct Network {
    endpoint: Arc<Endpoint>,
    started: Instant,
    /// The events.
    pub trace: Trace,
    /// Set when the network becomes reliable for the rest of the run.
    healed: Mutex<bool>,
    used_ms: Mutex<HashSet<u64>>,
}

impl Network {
    /// A network in front of a server, for so many devices. Simulated time begins now.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>, devices: usize) -> Self {
        Self {
            endpoint,
            started: Instant::now(),
            trace: Trace::new(devices),
            healed: Mutex::new(false),
            used_ms: Mutex::default(),
        }
    }

    /// The server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Lets every message that is sent from now on arrive.
    pub fn heal(&self) {
        *self.healed.lock() = true;
    }

    /// Simulated milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        // A run is over after some simulated hours.
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The first free millisecond of a device's own at or after a time, taken.
    fn take_ms(&self, device: usize, offset: u64, earliest_ms: u64) -> u64 {
        let own = device as u64 + offset;
        let mut at = earliest_ms - earliest_ms % TURN_MS + own;
        let mut used = self.used_ms.lock();
        while at < earliest_ms || !used.insert(at) {
            at += TURN_MS;
        }
        at
    }

    /// Waits until a time at which no request is in the server, at or after the given one.
    pub async fn sleep_until_nobody_asks(&self, at_ms: u64) {
        self.sleep_until(at_ms - at_ms % TURN_MS + TURN_MS - 1).await;
    }

    async fn sleep_until(&self, at_ms: u64) {
        tokio::time::sleep_until(self.started + Duration::from_millis(at_ms)).await;
    }
}

/// The connection of one device, as the SDK's transport. It outlives the app's process.
pub struct Link {
    network: Arc<Network>,
    device: usize,
    weather: Weather,
    rng: Mutex<StdRng>,
    fuse: Arc<Fuse>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.device)
    }
}

/// Everything that is decided about a request when it is sent.
#[derive(Debug, Clone, Copy)]
struct Plan {
    fate: Fate,
    /// Simulated milliseconds until it arrives.
    there_ms: u64,
    /// Simulated milliseconds from there until its answer arrives.
    back_ms: u64,
    /// Simulated milliseconds from its arrival to that of its double.
    again_ms: u64,
    /// The place of a cut, in thousandths of the body.
    cut_per_mille: usize,
}

impl Link {
    /// The connection of a device.
    #[must_use]
    pub fn new(network: Arc<Network>, device: usize, weather: Weather, rng: StdRng) -> Arc<Self> {
        Arc::new(Self {
            network,
            device,
            weather,
            rng: Mutex::new(rng),
            fuse: Arc::default(),
        })
    }

    /// The counter of answers.
    pub fn fuse(&self) -> &Arc<Fuse> {
        &self.fuse
    }

    fn plan(&self) -> Plan {
        let mut rng = self.rng.lock();
        let healed = *self.network.healed.lock();
        let weather = if healed { Weather::CALM } else { self.weather };
        let delay_max = u64::try_from(weather.delay_max.as_millis()).unwrap_or(u64::MAX).max(1);
        // Everything is drawn whatever the fate, so that one fate does not move the next.
        let trouble = rng.gen_range(0..1000) < weather.trouble_per_mille;
        let silence = if rng.gen_bool(0.7) {
            Silence::Noticed
        } else {
            Silence::Kept
        };
        let status = [429, 502, 503, 504][rng.gen_range(0..4)];
        let kind = rng.gen_range(0..9);
        let plan = Plan {
            fate: Fate::Delivered,
            there_ms: rng.gen_range(1..=delay_max),
            back_ms: rng.gen_range(1..=delay_max),
            again_ms: rng.gen_range(1..=60_000),
            cut_per_mille: rng.gen_range(0..1000),
        };
        let fate = match kind {
            _ if !trouble => Fate::Delivered,
            0 => Fate::Late,
            1 | 2 => Fate::Twice,
            3 => Fate::RequestLost(silence),
            4 => Fate::RequestCut,
            5 => Fate::AnswerLost(silence),
            6 => Fate::AnswerCut,
            7 => Fate::Refused(status),
            _ => Fate::Replaced(status),
        };
        let there_ms = match fate {
            Fate::Late => plan.there_ms + 30_000,
            _ => plan.there_ms,
        };
        Plan { fate, there_ms, ..plan }
    }
}

/// The result of a request for its sender.
type Outcome = Result<http::Response<BodyStream<TransportError>>, TransportError>;

impl Transport for Link {
    fn send(&self, request: http::Request<RequestBody>) -> Exchange {
        let plan = self.plan();
        let (network, fuse, device) = (Arc::clone(&self.network), Arc::clone(&self.fuse), self.device);
        Box::pin(async move {
            // By a task of its own, so that the app waits once, however many pieces a thread makes the body in.
            let reading = tokio::spawn(read_request(request));
            let sent = reading.await.map_err(broken)??;
            let journey = Journey {
                network,
                device,
                plan,
                sent,
            };
            let (tell, outcome) = oneshot::channel();
            tokio::spawn(journey.run(tell));
            let Ok(outcome) = outcome.await else {
                // Nobody will ever answer.
                return std::future::pending().await;
            };
            if fuse.answer_arrives() {
                tokio::task::yield_now().await;
            }
            outcome
        })
    }
}

/// A request under way.
struct Journey {
    network: Arc<Network>,
    device: usize,
    plan: Plan,
    sent: Sent,
}

impl Journey {
    async fn run(self, tell: oneshot::Sender<Outcome>) {
        let plan = self.plan;
        let arrival = self
            .network
            .take_ms(self.device, 0, self.network.now_ms() + plan.there_ms);
        let label = || format!("{} {}", self.sent.head.method, route(self.sent.path()));
        let outcome = match plan.fate {
            Fate::RequestLost(silence) => {
                self.network.sleep_until(arrival).await;
                self.note(format!("{} is lost", label()));
                match silence {
                    Silence::Noticed => Err(broken("the request was lost")),
                    Silence::Kept => return,
                }
            }
            Fate::Refused(status) => {
                self.network.sleep_until(arrival).await;
                self.note(format!("{} is refused by a gateway with {status}", label()));
                Ok(gateway_answer(status))
            }
            _ => {
                self.network.sleep_until(arrival).await;
                let cut = matches!(plan.fate, Fate::RequestCut);
                let answer = self.ask(cut).await;
                if matches!(plan.fate, Fate::Twice) {
                    let again = self.again(arrival + plan.again_ms);
                    tokio::spawn(again);
                }
                let Some(outcome) = answer.and_then(|answer| self.outcome(answer)) else {
                    return;
                };
                outcome
            }
        };
        let back = self
            .network
            .take_ms(self.device, ANSWERS_FROM_MS, self.network.now_ms() + plan.back_ms);
        self.network.sleep_until(back).await;
        // A sender that died, or gave up, does not hear of it.
        let _ = tell.send(outcome);
    }

    /// The same request, once more, to whom nobody listens.
    fn again(&self, earliest_ms: u64) -> impl Future<Output = ()> + Send + use<> {
        let again = Self {
            network: Arc::clone(&self.network),
            device: self.device,
            plan: self.plan,
            sent: self.sent.clone(),
        };
        async move {
            let arrival = again.network.take_ms(again.device, 0, earliest_ms);
            again.network.sleep_until(arrival).await;
            again.ask(false).await;
        }
    }

    /// Hands the request to the server. `None` if that failed, which the trace says.
    async fn ask(&self, cut: bool) -> Option<Answer> {
        let body = if cut {
            let length = self.sent.body.len() * self.plan.cut_per_mille / 1000;
            let pieces = [
                Ok(self.sent.body.slice(..length)),
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            ];
            Body::from_stream(stream::iter(pieces))
        } else {
            Body::from(self.sent.body.clone())
        };
        let is_ours = self.sent.head.uri.to_string().starts_with(SERVER_URL);
        if !is_ours {
            self.note(format!("a request to another host: {}", self.sent.host()));
            return None;
        }
        let clock = self.network.endpoint.clock();
        clock.set_elapsed(self.network.started.elapsed());
        match self.network.endpoint.call(self.sent.to_request(body)).await {
            Ok(answer) => {
                let text = format!(
                    "{} {}{} of {} bytes: {}, {} bytes",
                    self.sent.head.method,
                    route(self.sent.path()),
                    if cut { ", cut," } else { "" },
                    self.sent.body.len(),
                    answer.head.status.as_u16(),
                    answer.body.len(),
                );
                self.note(text);
                Some(answer)
            }
            Err(error) => {
                self.note(format!("the server failed: {error:#}"));
                None
            }
        }
    }

    /// The outcome of an answer in transit. `None`: it never arrives.
    fn outcome(&self, answer: Answer) -> Option<Outcome> {
        Some(match self.plan.fate {
            Fate::RequestCut => Err(broken("the request was cut")),
            Fate::AnswerLost(Silence::Noticed) => Err(broken("the answer was lost")),
            Fate::AnswerLost(Silence::Kept) => return None,
            Fate::Replaced(status) => Ok(gateway_answer(status)),
            Fate::AnswerCut => {
                let length = answer.body.len() * self.plan.cut_per_mille / 1000;
                let pieces = vec![Ok(answer.body.slice(..length)), Err(broken("the answer was cut"))];
                Ok(response_in_pieces(answer.head, pieces))
            }
            _ => Ok(response_of(answer.head, answer.body)),
        })
    }

    fn note(&self, text: String) {
        let text = format!("from device {}: {text}", self.device);
        self.network.trace.note(Lane::Server, self.network.now_ms(), text);
    }
}

/// A path without the ids in it.
fn route(path: &str) -> &str {
    match path.strip_prefix("/api/sync/snapshots/") {
        Some(rest) if rest.contains("/parts/") => "/api/sync/snapshots/parts",
        Some(_) => "/api/sync/snapshots",
        None if path.starts_with("/blobs/") => "/blobs",
        None => path,
    }
}

/// The answer of a gateway, with its own page.
fn gateway_answer(status: u16) -> http::Response<BodyStream<TransportError>> {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    if status == 429 {
        head.headers
            .insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("2"));
    }
    response_of(head, Bytes::from_static(b"<html><body>gateway</body></html>"))
}
