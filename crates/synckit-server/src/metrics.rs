//! The figures of one server, as OpenMetrics text for Prometheus.
//!
//! A registry belongs to a server, not to the process, because tests run many servers in one process. Counters of
//! events are here; other figures (of the store, the disk, the process) are collected at each scrape.
//!
//! Invariant: labels come from the program and never from a request: routes of the table, known methods and codes,
//! statuses. So nobody can make the registry grow, and no figure is about a user.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Method;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use synckit_protocol::ProblemCode;
use synckit_store::StoreFigures;

use crate::{
    limits::GuessTotals,
    platform::{ProcessFigures, lost_log_lines},
};

/// The upper bounds of the times that requests took, in seconds.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Counters of events.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    problems: Family<ProblemLabels, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) pushed_entries: Counter,
    pub(crate) pushed_bytes: Counter,
    pub(crate) pulled_entries: Counter,
    pub(crate) pulled_bytes: Counter,
    pub(crate) event_positions: Counter,
    pub(crate) swept_objects: Counter,
    /// Rounds of the meter that ended well.
    pub(crate) meter_rounds: Counter,
    /// 1 while this node hears of pushes at other nodes at once, else 0.
    pub(crate) listens_to_nodes: Gauge,
    started: SystemTime,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    code: &'static str,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered<'a> {
    /// The template of the route; `None` without a route.
    pub(crate) route: Option<&'static str>,
    pub(crate) method: &'a Method,
    pub(crate) status: u16,
    pub(crate) code: Option<ProblemCode>,
    pub(crate) duration: Duration,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("synckit");
        let requests = Family::default();
        let durations: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(|| Histogram::new(SECONDS));
        let problems = Family::default();
        let [connections, listens_to_nodes] = [(); 2].map(|()| Gauge::default());
        let [
            pushed_entries,
            pushed_bytes,
            pulled_entries,
            pulled_bytes,
            event_positions,
            swept_objects,
            meter_rounds,
        ] = [(); 7].map(|()| Counter::default());
        registry.register("requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time until the headers of the answer were ready",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("problems", "Refused and failed requests", problems.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("pushed_entries", "Entries stored by pushes", pushed_entries.clone());
        registry.register_with_unit(
            "pushed",
            "Sealed bytes stored by pushes",
            Unit::Bytes,
            pushed_bytes.clone(),
        );
        registry.register("pulled_entries", "Entries sent to pulls", pulled_entries.clone());
        registry.register_with_unit(
            "pulled",
            "Sealed bytes sent to pulls",
            Unit::Bytes,
            pulled_bytes.clone(),
        );
        registry.register(
            "listens_to_nodes",
            "Whether pushes at other nodes are heard of at once",
            listens_to_nodes.clone(),
        );
        registry.register(
            "event_positions",
            "Positions sent over event streams",
            event_positions.clone(),
        );
        registry.register(
            "swept_objects",
            "Objects deleted because no blob points at them",
            swept_objects.clone(),
        );
        registry.register(
            "meter_rounds",
            "Rounds in which the use of apps was added to the database, and their plans were read",
            meter_rounds.clone(),
        );
        Self {
            registry,
            requests,
            durations,
            problems,
            connections,
            pushed_entries,
            pushed_bytes,
            pulled_entries,
            pulled_bytes,
            event_positions,
            swept_objects,
            meter_rounds,
            listens_to_nodes,
            started: SystemTime::now(),
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, answered: Answered<'_>) {
        let route = answered.route.unwrap_or("(none)");
        let method = known_method(answered.method);
        let labels = RequestLabels {
            route,
            method,
            status: answered.status,
        };
        self.requests.get_or_create(&labels).inc();
        self.durations
            .get_or_create(&RouteLabels { route, method })
            .observe(answered.duration.as_secs_f64());
        if let Some(code) = answered.code {
            self.problems
                .get_or_create(&ProblemLabels { code: code.as_str() })
                .inc();
        }
    }

    /// Everything as OpenMetrics text.
    pub(crate) fn encode(&self, scraped: Scraped) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode_registry(&mut out, &self.registry)?;
        text::encode_registry(&mut out, &scraped.registry())?;
        text::encode_registry(&mut out, &process_registry(scraped.process, self.started))?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

/// The methods that some route takes; whatever else a client made up is one.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Figures that are collected at a scrape.
#[derive(Debug)]
pub(crate) struct Scraped {
    /// `None` if the store did not answer.
    pub(crate) store: Option<StoreFigures>,
    pub(crate) guesses: GuessTotals,
    pub(crate) requests_at_work: u64,
    pub(crate) transfers: u64,
    pub(crate) event_streams: u64,
    pub(crate) push_memory_bytes: u64,
    pub(crate) page_memory_bytes: u64,
    /// Bytes of the disk under the data directory: free for the server, and in all.
    pub(crate) disk: Option<(u64, u64)>,
    pub(crate) process: ProcessFigures,
}

impl Scraped {
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("synckit");
        let counters = [
            (
                "sign_in_guesses",
                "Started sign-ins, registrations and uses of mailed codes",
                self.guesses.counted,
            ),
            (
                "sign_in_refusals",
                "Sign-ins, registrations and mailed codes refused by a limit",
                self.guesses.refused,
            ),
            (
                "log_lines_lost",
                "Log lines dropped because their reader was too slow or failed",
                lost_log_lines(),
            ),
        ];
        let gauges = [
            ("requests_at_work", "Concurrent API requests", self.requests_at_work),
            ("transfers", "Concurrent blob transfers", self.transfers),
            ("event_streams", "Open event streams", self.event_streams),
            (
                "store_answers",
                "1 if the store told its figures, else 0: they are missing then",
                u64::from(self.store.is_some()),
            ),
        ];
        let mut bytes = vec![
            (
                "push_memory",
                "Memory used by the bodies of pushes",
                self.push_memory_bytes,
            ),
            (
                "page_memory",
                "Memory used by the pages of pulls",
                self.page_memory_bytes,
            ),
        ];
        if let Some((free, size)) = self.disk {
            bytes.push(("disk_free", "Free bytes of the disk under the data directory", free));
            bytes.push(("disk_size", "Size of the disk under the data directory", size));
        }
        register(&mut registry, &counters, &gauges, &bytes);
        if let Some(store) = &self.store {
            register_store(&mut registry, store);
        }
        registry
    }
}

/// The figures of the store.
fn register_store(registry: &mut Registry, store: &StoreFigures) {
    let counters = [
        ("writes", "Completed writes of the store", store.writes),
        ("checkpoints", "Checkpoints taken", store.checkpoints),
        ("retention_cuts", "Logs deleted up to a snapshot", store.retention_cuts),
    ];
    let gauges = [
        ("write_queue", "Queued writes", store.queued_writes),
        ("streams", "Streams", store.streams),
    ];
    let bytes = [
        ("write_queue", "Sealed bytes of queued writes", store.queued_bytes),
        ("database", "Size of the database file", store.database_bytes),
        (
            "write_ahead_log",
            "Size of the write-ahead log",
            store.write_ahead_log_bytes,
        ),
        ("stored_batches", "Sealed bytes of batches", store.batch_bytes),
        ("stored_snapshots", "Sealed bytes of snapshots", store.snapshot_bytes),
        ("stored_blobs", "Sealed bytes of blobs", store.blob_bytes),
    ];
    register(registry, &counters, &gauges, &bytes);
    registry.register_collector(Box::new(CommitGroupSizes {
        groups: store.commits.0.clone(),
        writes: store.writes,
    }));
}

/// A name, its help, its value.
type Figure = (&'static str, &'static str, u64);

fn register(registry: &mut Registry, counters: &[Figure], gauges: &[Figure], bytes: &[Figure]) {
    for &(name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    for &(name, help, value) in gauges {
        registry.register(name, help, ConstGauge::new(value));
    }
    for &(name, help, value) in bytes {
        registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(value));
    }
}

/// Transactions by their number of writes. The store counts them, so a histogram that counts by itself cannot be used.
#[derive(Debug)]
struct CommitGroupSizes {
    groups: Vec<(u64, u64)>,
    writes: u64,
}

impl Collector for CommitGroupSizes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "commit_group_size",
            "Writes that shared one transaction",
            None,
            MetricType::Histogram,
        )?;
        let mut buckets: Vec<(f64, u64)> = self.groups.iter().map(|(size, count)| (*size as f64, *count)).collect();
        buckets.push((f64::INFINITY, 0));
        let count = self.groups.iter().map(|(_, count)| count).sum();
        metric.encode_histogram::<[(&str, &str); 0]>(self.writes as f64, count, &buckets, None)
    }
}

/// The figures of a process, under the names of Prometheus' own clients.
fn process_registry(process: ProcessFigures, started: SystemTime) -> Registry {
    let mut registry = Registry::with_prefix("process");
    let since_1970 = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register_with_unit(
        "start_time",
        "Start time of the server, as Unix time",
        Unit::Seconds,
        ConstGauge::new(since_1970.as_secs_f64()),
    );
    if let Some(seconds) = process.cpu_seconds {
        registry.register_with_unit("cpu", "Processor time", Unit::Seconds, ConstCounter::new(seconds));
    }
    if let Some(bytes) = process.resident_bytes {
        registry.register_with_unit(
            "resident_memory",
            "Resident memory",
            Unit::Bytes,
            ConstGauge::new(bytes),
        );
    }
    if let Some(count) = process.open_fds {
        registry.register("open_fds", "Open file descriptors", ConstGauge::new(count));
    }
    registry
}
