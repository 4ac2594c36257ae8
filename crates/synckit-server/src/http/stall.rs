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
        // Nothing written would mean that the stream is closed.
        let bufs = &bufs[bufs.iter().take_while(|buf| buf.is_empty()).count()..];
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

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::IoSlice};

    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http::turn::TURN_BYTES;

    /// A guard, and the other end of its stream.
    async fn connection() -> (StallGuard, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // The reading half is not needed, and its end ends nothing.
        let (_, writer) = stream.into_split();
        (StallGuard::new(writer, Duration::from_secs(60)), peer)
    }

    #[tokio::test]
    async fn large_answer_is_written_in_turns() {
        const ANSWER_BYTES: usize = 4 << 20;
        let (mut guard, mut peer) = connection().await;
        let reading = tokio::spawn(async move {
            let mut received = vec![0; ANSWER_BYTES];
            peer.read_exact(&mut received).await.unwrap();
            received
        });
        let answer: Vec<u8> = (0..ANSWER_BYTES).map(|at| (at / 1000 % 251) as u8).collect();
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            // One turn: until the guard lets others run.
            let turn = poll_fn(|cx| {
                let mut written = 0;
                while let Poll::Ready(bytes) = Pin::new(&mut guard).poll_write(cx, &rest[written..]) {
                    written += bytes.unwrap();
                    if written == rest.len() {
                        break;
                    }
                }
                if written == 0 {
                    Poll::Pending
                } else {
                    Poll::Ready(written)
                }
            });
            let written = turn.await;
            assert!(written <= TURN_BYTES, "{written} bytes in one turn");
            rest = &rest[written..];
        }
        assert!(reading.await.unwrap() == answer);
    }

    #[tokio::test]
    async fn slices_are_written_in_order() {
        let (mut guard, mut peer) = connection().await;
        let (small, large) = (vec![1; 10], vec![2; 2 * TURN_BYTES]);
        let mut rest = [
            IoSlice::new(&[]),
            IoSlice::new(&large),
            IoSlice::new(&[]),
            IoSlice::new(&small),
        ];
        let mut rest = rest.as_mut_slice();
        let expected = [large.as_slice(), &small].concat();
        let length = expected.len();
        let reading = tokio::spawn(async move {
            let mut received = vec![0; length];
            peer.read_exact(&mut received).await.unwrap();
            received
        });
        while rest.iter().any(|slice| !slice.is_empty()) {
            let written = poll_fn(|cx| Pin::new(&mut guard).poll_write_vectored(cx, rest)).await;
            let written = written.unwrap();
            assert!(written > 0);
            IoSlice::advance_slices(&mut rest, written);
        }
        assert!(reading.await.unwrap() == expected);
    }
}
