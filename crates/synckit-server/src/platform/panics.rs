//! The message of a panic: a text from the program's source, and its place. Never a text that was made at run time.
//!
//! No request panics the server on purpose, and none is known to. But if a bug makes one, its text is made of runtime
//! values: `unwrap` prints the error, an error may quote its input, and slicing a text inside a letter prints the text.
//! Such a text would carry a password or a token into a log that others read.
//!
//! Invariant: the text of a panic reaches the log as a `&'static str` or not at all.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    panic::{self, AssertUnwindSafe, Location},
};

use futures_util::FutureExt as _;
use synckit_store::{TaskLost, panic_text};

/// A panic, as much of it as a log may hold.
#[derive(Debug)]
pub struct PanicReport<'a> {
    /// The place in the source.
    pub location: Option<&'a Location<'a>>,
    /// The text, if it was written into the program.
    pub text: &'static str,
    /// The functions that led there, without values, if `RUST_BACKTRACE` asks for them.
    pub backtrace: Option<Backtrace>,
}

impl fmt::Display for PanicReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = self.location {
            write!(f, "location={location} ")?;
        }
        write!(f, "text={:?}", self.text)?;
        match &self.backtrace {
            Some(backtrace) => write!(f, " backtrace={backtrace}"),
            None => Ok(()),
        }
    }
}

/// Gives every panic of this process to `report`, in place of Rust's own hook, which prints the whole text to standard
/// error.
/// For a program that is a server: call it once, before serving. `report` must not panic, which would abort the
/// process; so it must not use a logger that can, and should not use the program's own logger, which may have panicked.
///
/// # Examples
/// ```
/// synckit_server::report_panics(|panic| {
///     // "location=src/main.rs:3:1 text="(a text that may quote a request, withheld)""
///     let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{panic}\n"));
/// });
/// let secret = "a password".to_owned();
/// assert!(std::thread::spawn(move || panic!("cannot read {secret:?}")).join().is_err());
/// ```
pub fn report_panics(report: impl Fn(&PanicReport<'_>) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        report(&PanicReport {
            location: panic.location(),
            text: panic_text(panic.payload()),
            backtrace: (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace),
        });
    }));
}

/// Does work whose panic must not reach its caller: the panic becomes an error.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, TaskLost> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|payload| TaskLost::by_panic(payload.as_ref()))
}
