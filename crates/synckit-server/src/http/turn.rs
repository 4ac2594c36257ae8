//! Turns of the connections on a thread: one that moves many bytes lets the others run in between.
//!
//! A page of 8 MiB is written as fast as the other side takes it. Done in one go, that is milliseconds in which the
//! thread serves nobody else; a small request beside many large answers would wait for all of them.

use std::task::{Context, Poll};

/// Bytes of one turn: about as many as a core moves in 50 µs.
pub(super) const TURN_BYTES: usize = 128 * 1024;

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

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn turn_ends_and_comes_again() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = Context::from_waker(&waker);
        let mut turn = Turn::default();
        assert_eq!(turn.poll_room(&cx), Poll::Ready(TURN_BYTES));
        turn.moved(TURN_BYTES - 1);
        assert_eq!(turn.poll_room(&cx), Poll::Ready(1));
        // A buffer of the other side may be larger than the rest of a turn.
        turn.moved(usize::MAX);
        assert_eq!(turn.poll_room(&cx), Poll::Pending);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(turn.poll_room(&cx), Poll::Ready(TURN_BYTES));
    }
}
