//! The events of a run, in simulated time: the evidence that a seed replays.
//!
//! Events hold no ids, no keys and no ciphertext, which differ from run to run although nothing else does.
//!
//! Invariant: each lane is written by one device or by the server alone. Two lanes may be written within the same
//! simulated millisecond, in an order that the operating system decides, so no order between lanes is kept.

use std::fmt::Write as _;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// A lane of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The requests to the server, in order of arrival.
    Server,
    /// The steps of a device.
    Device(usize),
}

/// The events of one run.
#[derive(Debug)]
pub struct Trace {
    lanes: Vec<Mutex<Vec<Event>>>,
}

#[derive(Debug)]
struct Event {
    at_ms: u64,
    text: String,
}

impl Trace {
    /// An empty trace with a lane for the server and for each of `devices`.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        Self {
            lanes: (0..=devices).map(|_| Mutex::default()).collect(),
        }
    }

    /// Adds an event.
    pub fn note(&self, lane: Lane, at_ms: u64, text: String) {
        let index = match lane {
            Lane::Server => 0,
            Lane::Device(device) => device + 1,
        };
        if let Some(lane) = self.lanes.get(index) {
            lane.lock().push(Event { at_ms, text });
        }
    }

    /// SHA-256 of everything, in hexadecimal: equal for two runs of one seed.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for lane in &self.lanes {
            for event in &*lane.lock() {
                hash.update(event.at_ms.to_be_bytes());
                hash.update(&event.text);
                hash.update([0]);
            }
            hash.update([1]);
        }
        hash.finalize().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Every event in order of time, for people.
    #[must_use]
    pub fn story(&self) -> String {
        let mut lines = Vec::new();
        for (index, lane) in self.lanes.iter().enumerate() {
            let name = match index {
                0 => "server".to_owned(),
                device => format!("device {}", device - 1),
            };
            let events = lane.lock();
            lines.extend(
                events
                    .iter()
                    .map(|event| (event.at_ms, format!("{:>9} ms  {name:<8}  {}", event.at_ms, event.text))),
            );
        }
        lines.sort_by_key(|(at_ms, _)| *at_ms);
        lines.into_iter().fold(String::new(), |mut story, (_, line)| {
            story.push_str(&line);
            story.push('\n');
            story
        })
    }

    /// The number of requests that reached the server.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.lanes.first().map_or(0, |lane| lane.lock().len())
    }
}
