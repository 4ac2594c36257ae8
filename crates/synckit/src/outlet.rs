//! Lines for a reader that may be slow, stuck or absent: the log and the messages of a server.
//!
//! A server must outlive its log. A write to a pipe without a reader blocks for ever, and a write to a full disk fails;
//! neither may affect a request. So lines are queued, and a separate thread writes them, many at a time: a thread that
//! woke for each line would cost a busy server more than the lines.
//!
//! Invariant: [`Outlet::write`] neither blocks nor fails, and the queue never exceeds [`QUEUE_BYTES_MAX`].

use std::{
    fs::File,
    io::{self, Write as _},
    mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Memory for queued lines: some thousands of requests, so that short pauses of the disk lose nothing.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// How long the thread collects lines before it writes them.
const COLLECT: Duration = Duration::from_millis(5);
/// So many queued bytes are written at once.
const COLLECTED_BYTES_MAX: usize = 64 * 1024;

/// A queue of lines, and the thread that writes them.
#[derive(Debug)]
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    on_loss: fn(),
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is a first line, or no reason to collect more.
    work: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Bytes that the thread has taken and is writing.
    writing_bytes: usize,
    /// All bytes ever queued, and those of them that were written or lost.
    queued: u64,
    done: u64,
    /// Somebody waits until all that is queued is written.
    is_awaited: bool,
    /// No more lines come.
    is_closed: bool,
}

impl Queue {
    /// Whether the queued lines are to be written without collecting more.
    fn is_urgent(&self) -> bool {
        self.is_awaited || self.is_closed || self.lines.len() >= COLLECTED_BYTES_MAX
    }
}

impl Outlet {
    /// Starts the thread. `on_loss` is called for each line that is dropped, because the queue is full or the write fails.
    pub(crate) fn new(file: File, on_loss: fn()) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        thread::Builder::new()
            .name("synckit-outlet".to_owned())
            .spawn(move || queue.write_all(file, on_loss))?;
        Ok(Self { shared, on_loss })
    }

    /// Queues a line, which ends with its newline, or drops it.
    pub(crate) fn write(&self, line: &[u8]) {
        let mut queue = self.shared.queue.lock();
        if queue
            .lines
            .len()
            .saturating_add(queue.writing_bytes)
            .saturating_add(line.len())
            > QUEUE_BYTES_MAX
        {
            drop(queue);
            (self.on_loss)();
            return;
        }
        let was_urgent = queue.is_urgent();
        let is_first = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        queue.queued += line.len() as u64;
        if is_first || queue.is_urgent() && !was_urgent {
            self.shared.work.notify_one();
        }
    }

    /// Waits until all lines that are queued now are written, or until the time limit.
    pub(crate) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut queue = self.shared.queue.lock();
        let wanted = queue.queued;
        while queue.done < wanted {
            queue.is_awaited = true;
            self.shared.work.notify_one();
            // A stuck reader keeps its lines queued, and the caller must not wait for it.
            if self.shared.written.wait_until(&mut queue, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    /// The work of the thread: until the outlet is dropped and everything is written.
    fn write_all(&self, mut file: File, on_loss: fn()) {
        let mut broken_off = false;
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            for _ in 0..write_lines(&mut file, &lines, &mut broken_off) {
                on_loss();
            }
            let mut queue = self.queue.lock();
            queue.done += mem::take(&mut queue.writing_bytes) as u64;
            queue.is_awaited = false;
            self.written.notify_all();
        }
    }

    /// Waits for lines, collects more for a moment, and takes them all. `false` once there are no more.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut queue = self.queue.lock();
        while queue.lines.is_empty() {
            if queue.is_closed {
                return false;
            }
            self.work.wait(&mut queue);
        }
        let deadline = Instant::now() + COLLECT;
        while !queue.is_urgent() && !self.work.wait_until(&mut queue, deadline).timed_out() {}
        lines.clear();
        lines.shrink_to(COLLECTED_BYTES_MAX);
        mem::swap(lines, &mut queue.lines);
        queue.writing_bytes = lines.len();
        true
    }
}

/// Writes lines and returns the number of those that were lost. A line that broke off ends before the next one begins.
fn write_lines(file: &mut File, lines: &[u8], broken_off: &mut bool) -> usize {
    let mut rest = lines;
    if *broken_off && file.write(b"\n").is_ok_and(|written| written == 1) {
        *broken_off = false;
    }
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(written @ 1..) => {
                let (done, later) = rest.split_at(written.min(rest.len()));
                *broken_off = !done.ends_with(b"\n");
                rest = later;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    rest.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::Read as _,
        os::fd::OwnedFd,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(File::from(OwnedFd::from(writer)), || {}).unwrap();
        let mut expected = String::new();
        for n in 0..2_000 {
            let line = format!("line {n}\n");
            outlet.write(line.as_bytes());
            expected.push_str(&line);
        }
        outlet.flush(Duration::from_secs(60));
        drop(outlet);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, expected);
    }

    #[test]
    fn every_line_that_no_one_reads_is_counted() {
        static LOST: AtomicUsize = AtomicUsize::new(0);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let outlet = Outlet::new(full, || {
            LOST.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..3_000 {
            outlet.write(&line);
        }
        outlet.flush(Duration::from_secs(60));
        assert_eq!(LOST.load(Ordering::Relaxed), 3_000);
    }

    #[test]
    fn a_stuck_reader_stops_nobody() {
        static LOST: AtomicUsize = AtomicUsize::new(0);
        let (_reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(File::from(OwnedFd::from(writer)), || {
            LOST.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..3_000 {
            outlet.write(&line);
        }
        // A megabyte is queued, and the pipe holds a little.
        let lost = LOST.load(Ordering::Relaxed);
        assert!((1_700..2_000).contains(&lost), "{lost} lines were lost");
        outlet.flush(Duration::from_millis(1));
    }
}
