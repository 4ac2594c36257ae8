//! Processes that die: the future of an app is dropped at a moment that the seed chooses.
//!
//! A moment is either a simulated time, or "so many awaits after so many answers". The second reaches every await of
//! the SDK that no simulated time passes in: those that wait for work on another thread. Whether such work is done by
//! the time it is first asked for is the operating system's whim, so while awaits are counted, none of it may begin
//! before the app has come to wait for it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::Poll,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

/// Threads for blocking work in a simulation's runtime. Enough for everything that waits for one another at one moment:
/// a request in the server, the writing of an object, and the sealing or opening of a blob, for each of two devices.
pub const BLOCKING_THREADS: usize = 12;

/// When an app dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Not in this turn.
    Never,
    /// At a simulated time.
    At(Instant),
    /// After so many answers reached it, at the await with this number from there.
    AfterAnswers {
        /// Answers, from 1.
        answers: i64,
        /// Awaits, from 1.
        awaits: u32,
    },
}

/// Counts the answers that an app gets.
#[derive(Debug, Default)]
pub struct Fuse {
    answers_left: AtomicI64,
}

impl Fuse {
    /// Notes that an answer is about to be handed over. True if the app is to die soon after: the caller must then
    /// return to the runtime once before it continues.
    pub fn answer_arrives(&self) -> bool {
        self.answers_left.fetch_sub(1, Ordering::SeqCst) == 1
    }

    fn set(&self, answers: i64) {
        self.answers_left.store(answers, Ordering::SeqCst);
    }

    fn is_burning(&self) -> bool {
        self.answers_left.load(Ordering::SeqCst) <= 0
    }
}

/// Runs an app until it is done, or dies: then `None`.
pub async fn run_until_crash<F: Future>(app: F, crash: Crash, fuse: &Arc<Fuse>) -> Option<F::Output> {
    let mut awaits_left = match crash {
        Crash::AfterAnswers { answers, awaits } => {
            fuse.set(answers);
            awaits
        }
        Crash::Never | Crash::At(_) => {
            fuse.set(i64::MAX);
            0
        }
    };
    let mut death = pin!(async {
        match crash {
            Crash::At(at) => tokio::time::sleep_until(at).await,
            Crash::Never | Crash::AfterAnswers { .. } => std::future::pending().await,
        }
    });
    // Dropped by the end of this function, whatever ends it: that is the crash.
    let mut app = pin!(app);
    poll_fn(|cx| {
        if death.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if !fuse.is_burning() {
            return app.as_mut().poll(cx).map(Some);
        }
        let gate = Gate::close();
        let polled = app.as_mut().poll(cx);
        drop(gate);
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                awaits_left = awaits_left.saturating_sub(1);
                if awaits_left == 0 {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                }
            }
        }
    })
    .await
}

/// Keeps blocking work that is asked for from now on from beginning, until it is dropped: the pool hands out its work
/// in order, and as many tasks as it has threads wait in front.
struct Gate {
    opener: Arc<Opener>,
}

#[derive(Default)]
struct Opener {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn close() -> Self {
        let opener = Arc::<Opener>::default();
        for _ in 0..BLOCKING_THREADS {
            let opener = Arc::clone(&opener);
            tokio::task::spawn_blocking(move || {
                let mut is_open = opener.is_open.lock();
                while !*is_open {
                    opener.changed.wait(&mut is_open);
                }
            });
        }
        Self { opener }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        *self.opener.is_open.lock() = true;
        self.opener.changed.notify_all();
    }
}
