//! A connection that must keep moving: a client that stops reading an answer, or reads too slowly, is disconnected.
//!
//! Without it, clients that read slowly could hold every connection, and the pages behind them, for ever. Received
//! heads, bodies and blobs have their own time limits.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::AsyncWrite,
    net::tcp::OwnedWriteHalf,
    time::{Instant, Sleep, sleep},
};

use super::{Pace, turn::Turn};

/// The writing half of a TCP stream, whose writes fail when the other side takes less than the minimum rate.
pub(crate) struct StallGuard {
    stream: OwnedWriteHalf,
    turn: Turn,
    pace: Pace,
    deadline: Pin<Box<Sleep>>,
    waiting_since: Option<Instant>,
}

impl StallGuard {
    pub(crate) fn new(stream: OwnedWriteHalf, patience: Duration) -> Self {
        Self {
            stream,
            turn: Turn::default(),
            pace: Pace::new(patience),
            deadline: Box::pin(sleep(patience)),
            waiting_since: None,
        }
    }

    /// Passes progress on; fails when there has been too little for too long.
    fn watch(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = polled {
            self.turn.moved(*written.as_ref().unwrap_or(&0));
            let waited = self
                .waiting_since
                .take()
                .map_or(Duration::ZERO, |since| since.elapsed());
            self.pace.moved(waited, *written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        self.turn.end();
        if self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
            self.deadline.as_mut().reset(self.pace.deadline());
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The slices at the start that hold no more than `room` bytes.
fn fitting<'a, 'b>(bufs: &'a [io::IoSlice<'b>], room: usize) -> &'a [io::IoSlice<'b>] {
    let mut bytes = 0_usize;
    let count = bufs.iter().take_while(|buf| {
        bytes = bytes.saturating_add(buf.len());
        bytes <= room
    });
    &bufs[..count.count()]
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.turn.poll_room(cx));
        let polled = Pin::new(&mut self.stream).poll_write(cx, &buf[..buf.len().min(room)]);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.turn.poll_room(cx));
        let polled = match bufs {
            [first, ..] if first.len() > room => Pin::new(&mut self.stream).poll_write(cx, &first[..room]),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, fitting(bufs, room)),
        };
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
