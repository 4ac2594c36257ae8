//! Live events: who waits for news of a stream, and the event streams that carry them.
//!
//! The news of a stream is its newest position, nothing else. Each subscriber has one slot for it, so that a slow reader
//! costs no memory, and hears of the newest position when it reads again.
//!
//! Invariant: a slot never goes back to a smaller sequence.

mod body;
mod outbox;
mod subscribers;

pub(crate) use body::event_body;
pub(crate) use outbox::Outbox;
pub(crate) use subscribers::{Subscribers, Subscription};
