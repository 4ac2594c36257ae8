//! The subscribers of a node, by stream.
//!
//! Bounded by the pool that a subscription's permit comes from (`Capacity::event_streams`).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use synckit_protocol::{Position, SessionId};
use synckit_store::StreamId;
use tokio::sync::watch;

/// The subscribers of one node.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    by_stream: HashMap<StreamId, Vec<Subscriber>>,
    next_id: u64,
}

#[derive(Debug)]
struct Subscriber {
    id: u64,
    session_id: SessionId,
    slot: watch::Sender<Slot>,
}

/// The news for one subscriber.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    newest: Option<Position>,
    /// Whether the session has ended.
    is_over: bool,
}

/// One subscriber's end. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct Subscription {
    subscribers: Arc<Subscribers>,
    stream: StreamId,
    id: u64,
    slot: watch::Receiver<Slot>,
}

impl Subscribers {
    /// Subscribes a session to its stream.
    pub(crate) fn subscribe(self: &Arc<Self>, stream: StreamId, session_id: SessionId) -> Subscription {
        let (sender, slot) = watch::channel(Slot::default());
        let mut inside = self.0.lock();
        let id = inside.next_id;
        inside.next_id = id.wrapping_add(1);
        inside.by_stream.entry(stream).or_default().push(Subscriber {
            id,
            session_id,
            slot: sender,
        });
        Subscription {
            subscribers: Arc::clone(self),
            stream,
            id,
            slot,
        }
    }

    /// Tells the subscribers of a stream that it has reached a position. Positions may come in any order.
    pub(crate) fn announce(&self, stream: StreamId, position: Position) {
        let inside = self.0.lock();
        for subscriber in inside.by_stream.get(&stream).into_iter().flatten() {
            subscriber.slot.send_if_modified(|slot| {
                let is_news = slot.newest.is_none_or(|newest| newest.seq < position.seq);
                if is_news {
                    slot.newest = Some(position);
                }
                is_news
            });
        }
    }

    /// The sessions that are subscribed, each once.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        let inside = self.0.lock();
        let all = inside.by_stream.values().flatten();
        let sessions: HashSet<SessionId> = all.map(|subscriber| subscriber.session_id).collect();
        sessions.into_iter().collect()
    }

    /// Those of these streams that are subscribed to.
    pub(crate) fn subscribed(&self, streams: Vec<StreamId>) -> Vec<StreamId> {
        let inside = self.0.lock();
        let mut streams = streams;
        streams.retain(|stream| inside.by_stream.contains_key(stream));
        streams
    }

    /// The streams that are subscribed to, each once.
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        self.0.lock().by_stream.keys().copied().collect()
    }

    /// Ends the subscriptions of sessions that have ended.
    pub(crate) fn end(&self, sessions: &HashSet<SessionId>) {
        let inside = self.0.lock();
        let all = inside.by_stream.values().flatten();
        for subscriber in all.filter(|subscriber| sessions.contains(&subscriber.session_id)) {
            subscriber.slot.send_modify(|slot| slot.is_over = true);
        }
    }

    fn unsubscribe(&self, stream: StreamId, id: u64) {
        let mut inside = self.0.lock();
        if let Some(of_stream) = inside.by_stream.get_mut(&stream) {
            of_stream.retain(|subscriber| subscriber.id != id);
            if of_stream.is_empty() {
                inside.by_stream.remove(&stream);
            }
        }
    }
}

impl Subscription {
    /// The next news: a newer position, or `None` when the session has ended. Loses nothing if it is dropped before it
    /// resolves.
    pub(crate) async fn next(&mut self) -> Option<Position> {
        loop {
            // The sender lives as long as this subscription.
            self.slot.changed().await.ok()?;
            let slot = *self.slot.borrow_and_update();
            if slot.is_over {
                return None;
            }
            if slot.newest.is_some() {
                return slot.newest;
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.unsubscribe(self.stream, self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use synckit_protocol::{AppId, Head, UserId};

    use super::*;

    const SESSION: SessionId = SessionId::from_bytes([1; 16]);

    fn stream(n: u8) -> StreamId {
        StreamId {
            app_id: AppId::from_bytes([9; 16]),
            user_id: UserId::from_bytes([n; 16]),
        }
    }

    fn at(seq: u64) -> Position {
        Position {
            seq,
            head: Head::from_bytes([7; 32]),
        }
    }

    /// What is there without waiting.
    fn heard(subscription: &mut Subscription) -> Option<Option<Position>> {
        subscription.next().now_or_never()
    }

    #[test]
    fn slow_reader_hears_the_newest_position_alone() {
        let subscribers = Arc::new(Subscribers::default());
        let mut subscription = subscribers.subscribe(stream(1), SESSION);
        assert_eq!(heard(&mut subscription), None);
        for seq in [1, 3, 1000, 2] {
            subscribers.announce(stream(1), at(seq));
        }
        assert_eq!(heard(&mut subscription), Some(Some(at(1000))));
        subscribers.announce(stream(1), at(999));
        assert_eq!(heard(&mut subscription), None);
    }

    #[test]
    fn start_of_a_stream_is_news_once() {
        let subscribers = Arc::new(Subscribers::default());
        let mut subscription = subscribers.subscribe(stream(1), SESSION);
        for _ in 0..2 {
            subscribers.announce(stream(1), at(0));
        }
        assert_eq!(heard(&mut subscription), Some(Some(at(0))));
        assert_eq!(heard(&mut subscription), None);
    }

    #[test]
    fn other_streams_are_not_heard() {
        let subscribers = Arc::new(Subscribers::default());
        let mut subscription = subscribers.subscribe(stream(1), SESSION);
        subscribers.announce(stream(2), at(5));
        assert_eq!(heard(&mut subscription), None);
    }

    #[test]
    fn ended_session_hears_nothing_more() {
        let subscribers = Arc::new(Subscribers::default());
        let mut ended = subscribers.subscribe(stream(1), SESSION);
        let mut other = subscribers.subscribe(stream(1), SessionId::from_bytes([2; 16]));
        subscribers.end(&HashSet::from([SESSION]));
        subscribers.announce(stream(1), at(5));
        assert_eq!(heard(&mut ended), Some(None));
        assert_eq!(heard(&mut other), Some(Some(at(5))));
    }

    #[test]
    fn dropped_subscription_leaves_nothing_behind() {
        let subscribers = Arc::new(Subscribers::default());
        let (first, second) = (
            subscribers.subscribe(stream(1), SESSION),
            subscribers.subscribe(stream(1), SESSION),
        );
        assert_eq!(subscribers.sessions(), [SESSION]);
        drop(first);
        assert_eq!(subscribers.0.lock().by_stream[&stream(1)].len(), 1);
        drop(second);
        assert!(subscribers.0.lock().by_stream.is_empty());
    }
}
