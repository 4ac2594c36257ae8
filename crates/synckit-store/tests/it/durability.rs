//! What was acknowledged stays: through a kill, and, as far as system calls can show it, through a power cut.
//!
//! Both tests run this test binary again as a child process that appends and writes `ack <batch> <sequence>` for every
//! answer.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use futures_util::future::join_all;
use synckit_protocol::Position;
use synckit_store::{Append, NewBatch, SqliteOptions, SqliteStore, Store};

use crate::fixture::{batch, batch_id, read_all, ready_stream, stream_of};

/// Names the database to the child.
const DATABASE: &str = "SYNCKIT_TEST_DATABASE";
/// Lets the child append so many batches to one stream. Without it, it appends to all streams until it is killed.
const BATCHES: &str = "SYNCKIT_TEST_BATCHES";
/// Streams that the child writes to at the same time. Each has batches of its own numbers.
const STREAMS: u64 = 3;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

/// Prepares a database for the child.
async fn prepare(path: &Path) {
    let store = open(path);
    for n in 1..=STREAMS {
        ready_stream(&store, n).await;
    }
    store.close().await.unwrap();
}

/// The child of the tests below, and nothing without them.
#[tokio::test]
async fn child_appends() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let store = open(Path::new(&path));
    match std::env::var(BATCHES) {
        Ok(batches) => append_and_acknowledge(&store, 1, batches.parse().unwrap()).await,
        Err(_) => drop(join_all((1..=STREAMS).map(|n| append_and_acknowledge(&store, n, u64::MAX))).await),
    }
}

async fn append_and_acknowledge(store: &SqliteStore, n: u64, batches: u64) {
    let stream = stream_of(n, n);
    let mut parent = store.status(stream).await.unwrap().latest;
    for _ in 0..batches {
        let batch = next_batch(n, parent);
        let number = parent.seq;
        match store.append_batch(batch).await.unwrap() {
            Append::Stored { position, .. } => parent = position,
            other => panic!("{other:?}"),
        }
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "ack {n} {number} {}", parent.seq).unwrap();
        stdout.flush().unwrap();
    }
}

/// The batch that stream `n` gets next: its number is the sequence before it.
fn next_batch(n: u64, parent: Position) -> NewBatch {
    let size = usize::try_from(parent.seq * 37 % 20_000).unwrap() + 1;
    batch(stream_of(n, n), parent, n, parent.seq, 7, size)
}

/// This test binary as a child, by way of `wrapper` if that is not empty.
fn child(path: &Path, wrapper: &[&str]) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&this);
            command
        }
    };
    command
        .args([
            "--exact",
            "durability::child_appends",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DATABASE, path)
        .stdout(Stdio::piped());
    command
}

/// `(stream, number, sequence)` of an acknowledgement.
fn acknowledgement(line: &str) -> Option<(u64, u64, u64)> {
    let (_, rest) = line.split_once("ack ")?;
    let mut numbers = rest.split(' ').map(|number| number.parse().unwrap());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}

/// Kills the child without warning after so many acknowledgements, and returns all that it managed to write.
fn kill_after(mut child: Child, count: usize) -> Vec<(u64, u64, u64)> {
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The last line may be cut off.
        acknowledged.extend(acknowledgement(&line.unwrap()));
        if acknowledged.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= count, "the child stopped by itself");
    acknowledged
}

#[tokio::test]
async fn a_killed_server_has_all_acknowledged_batches() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    prepare(&path).await;
    let mut acknowledged = Vec::new();
    for count in [1, 30, 100] {
        acknowledged.extend(kill_after(child(&path, &[]).spawn().unwrap(), count));
        let store = open(&path);
        for n in 1..=STREAMS {
            let stream = stream_of(n, n);
            let log = read_all(&store, stream, n).await;
            let mut position = crate::fixture::start(stream);
            for stored in &log {
                assert_eq!(*stored, crate::fixture::stored(&next_batch(n, position)));
                position = position.advance(&stored.digest()).unwrap();
            }
            assert_eq!(store.status(stream).await.unwrap().latest, position);
            for (_, number, seq) in acknowledged.iter().filter(|(stream, ..)| *stream == n) {
                let found: Vec<_> = log
                    .iter()
                    .filter(|stored| stored.batch_id == batch_id(*number))
                    .collect();
                assert_eq!(found.len(), 1, "batch {number} of stream {n}");
                assert_eq!(found[0].first_seq + u64::from(found[0].count) - 1, *seq);
            }
        }
        store.close().await.unwrap();
    }
}

/// The last thing that happened to the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    Untouched,
    Written,
    Synced,
}

/// Counts the acknowledgements in a trace (`strace -f -y`) of a child with one stream, or returns the first line that acknowledges something while
/// the log has bytes that were not synced.
fn acknowledgements_after_sync(trace: &str) -> Result<usize, String> {
    let mut log = Log::Untouched;
    let mut syncing = Vec::new();
    let mut acknowledged = 0;
    for line in trace.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        let on_log = line.contains("-wal>");
        let is_sync = line.contains("fdatasync") || line.contains("fsync");
        let is_resumed = line.contains("resumed>");
        if line.contains("\"ack ") {
            if log != Log::Synced {
                return Err(format!("{log:?}: {line}"));
            }
            acknowledged += 1;
        } else if is_sync && is_resumed {
            // Only a sync that began after the last write, and has returned, covers it.
            if let Some(index) = syncing.iter().position(|started| *started == thread) {
                syncing.swap_remove(index);
                log = Log::Synced;
            }
        } else if is_sync && on_log && line.contains("<unfinished") {
            syncing.push(thread);
        } else if is_sync && on_log && line.ends_with("= 0") {
            log = Log::Synced;
        } else if on_log && line.contains("write") && !is_resumed {
            log = Log::Written;
            syncing.clear();
        }
    }
    Ok(acknowledged)
}

#[test]
fn a_trace_without_a_sync_is_noticed() {
    let write = "7 pwrite64(5</d/store.db-wal>, \"\\0\"..., 24, 4096) = 24\n";
    let sync = "7 fdatasync(5</d/store.db-wal>) = 0\n";
    let sync_begins = "7 fdatasync(5</d/store.db-wal> <unfinished ...>\n";
    let sync_ends = "7 <... fdatasync resumed>) = 0\n";
    let other_sync = "7 fdatasync(4</d/store.db>) = 0\n";
    let ack = "9 write(1<pipe:[1]>, \"ack 1 0 7\\n\", 10) = 10\n";
    let accepted = |lines: &[&str]| acknowledgements_after_sync(&lines.concat()).ok();
    assert_eq!(
        accepted(&[write, sync, ack, write, write, sync_begins, sync_ends, ack]),
        Some(2)
    );
    assert_eq!(accepted(&[write, ack]), None);
    assert_eq!(accepted(&[write, sync, write, ack]), None);
    assert_eq!(accepted(&[write, other_sync, ack]), None);
    assert_eq!(accepted(&[write, sync_begins, ack, sync_ends]), None);
    assert_eq!(accepted(&[sync_begins, write, sync_ends, ack]), None);
    assert_eq!(accepted(&[ack]), None);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_log_is_synced_before_any_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let trace = directory.path().join("trace");
    prepare(&path).await;
    let calls = "trace=write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync";
    let strace = ["strace", "-f", "-y", "-e", calls, "-o", trace.to_str().unwrap()];
    let output = child(&path, &strace)
        .env(BATCHES, "20")
        .output()
        .unwrap_or_else(|error| {
            panic!("this test traces system calls and needs strace (apt-get install strace): {error}")
        });
    assert!(
        output.status.success(),
        "strace or the traced process failed; does this system permit ptrace (CAP_SYS_PTRACE, kernel.yama.ptrace_scope)? {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let trace = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(acknowledgements_after_sync(&trace), Ok(20));
}
