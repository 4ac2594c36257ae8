//! What this node has to tell the others.
//!
//! Invariant: at most [`WAITING_MAX`] streams wait, however many are pushed to.

use std::{
    collections::{HashSet, VecDeque},
    mem,
};

use parking_lot::Mutex;
use synckit_store::{ChangedStreams, NOTICE_STREAMS_MAX, NodeId, Notice, StreamId};
use tokio::sync::Notify;

use crate::platform::random_bytes;

/// Streams that wait to be told of. Past it, the others are told that any stream may have changed: each of them then reads
/// the heads of all streams that it has subscribers of.
const WAITING_MAX: usize = 100 * NOTICE_STREAMS_MAX;

/// The streams that other nodes were not told of yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    node: NodeId,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    in_order: VecDeque<StreamId>,
    /// The same, to find each once.
    streams: HashSet<StreamId>,
    /// Too many to name.
    is_any: bool,
    /// A sign of life is due.
    has_sign: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            node: NodeId::from_bytes(random_bytes()),
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Whether a notice is this node's own.
    pub(crate) fn is_own(&self, notice: &Notice) -> bool {
        notice.from == self.node
    }

    /// Notes that a stream has a new position.
    pub(crate) fn put(&self, stream: StreamId) {
        let mut waiting = self.waiting.lock();
        if waiting.streams.len() >= WAITING_MAX {
            waiting.is_any = true;
        } else if waiting.streams.insert(stream) {
            waiting.in_order.push_back(stream);
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Notes that any stream may have a new position: a notice was not sent.
    pub(crate) fn put_any(&self) {
        self.waiting.lock().is_any = true;
        self.filled.notify_one();
    }

    /// Notes that a sign of life is due, which this node hears itself.
    pub(crate) fn put_sign(&self) {
        self.waiting.lock().has_sign = true;
        self.filled.notify_one();
    }

    /// The next notice, as soon as there is one.
    pub(crate) async fn next(&self) -> Notice {
        loop {
            if let Some(notice) = self.take() {
                return notice;
            }
            self.filled.notified().await;
        }
    }

    /// The next notice, if there is one.
    pub(crate) fn take(&self) -> Option<Notice> {
        let mut waiting = self.waiting.lock();
        let has_sign = mem::take(&mut waiting.has_sign);
        let streams = if waiting.is_any {
            *waiting = Waiting::default();
            ChangedStreams::Any
        } else {
            let count = waiting.in_order.len().min(NOTICE_STREAMS_MAX);
            let some: Vec<StreamId> = waiting.in_order.drain(..count).collect();
            for stream in &some {
                waiting.streams.remove(stream);
            }
            if some.is_empty() && !has_sign {
                return None;
            }
            ChangedStreams::These(some)
        };
        let from = self.node;
        Some(Notice { from, streams })
    }
}

#[cfg(test)]
mod tests {
    use synckit_protocol::{AppId, UserId};

    use super::*;

    fn stream(n: u16) -> StreamId {
        let mut user_id = [0; 16];
        user_id[..2].copy_from_slice(&n.to_be_bytes());
        StreamId {
            app_id: AppId::from_bytes([1; 16]),
            user_id: UserId::from_bytes(user_id),
        }
    }

    #[tokio::test]
    async fn streams_are_told_of_once() {
        let outbox = Outbox::new();
        for n in [1, 2, 1] {
            outbox.put(stream(n));
        }
        let notice = outbox.next().await;
        assert!(outbox.is_own(&notice));
        assert_eq!(notice.streams, ChangedStreams::These(vec![stream(1), stream(2)]));
        outbox.put_sign();
        assert_eq!(outbox.next().await.streams, ChangedStreams::These(Vec::new()));
    }

    #[test]
    fn streams_past_one_notice_are_in_the_next() {
        let outbox = Outbox::new();
        let all: Vec<StreamId> = (0..=NOTICE_STREAMS_MAX as u16).map(stream).collect();
        for stream in &all {
            outbox.put(*stream);
        }
        let (first, second) = all.split_at(NOTICE_STREAMS_MAX);
        for some in [first, second] {
            assert_eq!(outbox.take().unwrap().streams, ChangedStreams::These(some.to_vec()));
        }
        assert_eq!(outbox.take(), None);
        assert!(outbox.waiting.lock().streams.is_empty());
    }

    #[test]
    fn too_many_streams_are_any() {
        let outbox = Outbox::new();
        for n in 0..=WAITING_MAX as u16 {
            outbox.put(stream(n));
        }
        assert_eq!(outbox.take().unwrap().streams, ChangedStreams::Any);
        assert_eq!(outbox.take(), None);
        outbox.put(stream(1));
        assert_eq!(outbox.take().unwrap().streams, ChangedStreams::These(vec![stream(1)]));
    }
}
