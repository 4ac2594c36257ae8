//! Lines for a reader that may be slow, stuck or absent: the log and the messages of a server.
//!
//! A server must outlive its log. A write to a pipe without a reader blocks for ever, and a write to a full disk fails;
//! neither may affect a request. So lines are queued, and a separate thread writes them.
//!
//! Invariant: [`Outlet::write`] neither blocks nor fails, and the queue never exceeds [`QUEUE_BYTES_MAX`].

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

/// Memory for queued lines: some thousands of requests, so that short pauses of the disk lose nothing.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// The memory of a queued line in addition to its text.
const LINE_OVERHEAD_BYTES: usize = 64;

/// A queue of lines, and the thread that writes them.
#[derive(Debug)]
pub(crate) struct Outlet {
    lines: Sender<Message>,
    queued_bytes: Arc<AtomicUsize>,
    on_loss: fn(),
}

enum Message {
    Line(Vec<u8>),
    /// Answered after every earlier line was written or lost.
    Flush(Sender<()>),
}

impl Outlet {
    /// Starts the thread. `on_loss` is called for each line that is dropped, because the queue is full or the write fails.
    pub(crate) fn new(file: File, on_loss: fn()) -> io::Result<Self> {
        let (lines, waiting) = mpsc::channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&queued_bytes);
        thread::Builder::new()
            .name("synckit-outlet".to_owned())
            .spawn(move || write_all(file, &waiting, &written, on_loss))?;
        Ok(Self {
            lines,
            queued_bytes,
            on_loss,
        })
    }

    /// Queues a line, which ends with its newline, or drops it.
    pub(crate) fn write(&self, line: &[u8]) {
        let cost = cost_of(line);
        let reserved = self
            .queued_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
                queued.checked_add(cost).filter(|sum| *sum <= QUEUE_BYTES_MAX)
            });
        // The thread outlives this sender. If it had ended, the line would be lost, too.
        if reserved.is_err() || self.lines.send(Message::Line(line.to_vec())).is_err() {
            (self.on_loss)();
        }
    }

    /// Waits until all queued lines are written, or until the time limit.
    pub(crate) fn flush(&self, timeout: Duration) {
        let (done, flushed) = mpsc::channel();
        if self.lines.send(Message::Flush(done)).is_ok() {
            // A stuck reader keeps its lines queued, and the caller must not wait for it.
            let _ = flushed.recv_timeout(timeout);
        }
    }
}

const fn cost_of(line: &[u8]) -> usize {
    line.len().saturating_add(LINE_OVERHEAD_BYTES)
}

fn write_all(mut file: File, waiting: &Receiver<Message>, queued_bytes: &AtomicUsize, on_loss: fn()) {
    for message in waiting {
        match message {
            Message::Line(line) => {
                if file.write_all(&line).is_err() {
                    on_loss();
                }
                queued_bytes.fetch_sub(cost_of(&line), Ordering::Relaxed);
            }
            Message::Flush(done) => drop(done.send(())),
        }
    }
}
