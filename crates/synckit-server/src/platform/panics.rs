//! What a panic may say: a text that was written into the program, and where it happened. Never a text that was made
//! while it ran.
//!
//! No request panics the server on purpose, and none is known to. But where a bug lets one, the text of the panic is made
//! of what was at hand: `unwrap` shows the error, an error may quote what it could not read, and cutting a text in the
//! middle of a letter shows the text. That would carry a password or a token into a log that others read.
//!
//! Invariant: the text of a panic reaches the log as a `&'static str` or not at all.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, AssertUnwindSafe},
};

use futures_util::FutureExt as _;
use synckit_store::{TaskLost, panic_text};

/// Makes panics log their place in the source, and their text only if it was written into the program. Without this, Rust
/// prints the whole text to standard error, which mostly is the log.
///
/// For a program that is a server, once, before it serves: the panic hook is the process's. With `RUST_BACKTRACE=1` the
/// log has a backtrace, too, which names functions and no values.
///
/// # Examples
/// ```
/// synckit_server::log_panics();
/// // The log says "src/main.rs:3:1" and "(a text that may quote a request, withheld)".
/// let secret = "a password".to_owned();
/// assert!(std::thread::spawn(move || panic!("cannot read {secret:?}")).join().is_err());
/// ```
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(tracing::field::display);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(backtrace));
        tracing::error!(location, text = panic_text(panic.payload()), backtrace, "panic");
    }));
}

/// Does work that must not take along whoever asked for it: a panic in it is an error.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, TaskLost> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|payload| TaskLost::by_panic(payload.as_ref()))
}
