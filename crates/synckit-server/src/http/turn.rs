//! Turns of the connections on a thread: one that moves many bytes lets the others run in between.
//!
//! A page of 8 MiB is written as fast as the other side takes it. Done in one go, that is milliseconds in which the
//! thread serves nobody else; a small request beside many large answers would wait for all of them.

use std::task::{Context, Poll};

/// Bytes of one turn: about as many as a core moves in 50 µs.
const TURN_BYTES: usize = 128 * 1024;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Turn {
    moved_bytes: usize,
}

impl Turn {
    /// How many bytes may move now. Pending, and woken again behind all that wait, where the turn is over.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<usize> {
        if self.moved_bytes < TURN_BYTES {
            return Poll::Ready(TURN_BYTES - self.moved_bytes);
        }
        self.moved_bytes = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
    }

    /// The stream has no room, or no more bytes: the others run anyway.
    pub(super) fn end(&mut self) {
        self.moved_bytes = 0;
    }
}
