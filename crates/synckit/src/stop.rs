//! Signals that stop the program: Ctrl-C, and on Unix SIGTERM; for interactive commands also SIGHUP, which a server
//! ignores.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::anyhow;

use crate::{failure::Failure, screen};

/// Ctrl-C, and on Unix SIGTERM.
#[derive(Debug)]
pub(crate) struct StopSignal {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Installed before the server reports that it listens, so that no signal meets the default action.
    #[cfg(unix)]
    pub(crate) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Resolves at the next signal.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the server runs until it is killed.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves at the first signal. The second one ends the process at once.
    pub(crate) async fn received(mut self) {
        self.next().await;
        screen::event(&serde_json::json!({ "event": "stopping" }));
        screen::line("stopping after the running requests; a second signal stops at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(1);
        });
    }
}

/// Whether a signal is ending the process.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Never returns if a signal is ending the process: the command's own end would report what the signal caused, and might
/// come before the end of `tidy_up`.
pub(crate) fn wait_if_ending() {
    while IS_ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Ends the process at the first signal, after `tidy_up`, even if the rest of the process is busy: Ctrl-C, and on Unix
/// SIGTERM and SIGHUP, which a closed terminal sends.
pub(crate) fn end_at_signal(tidy_up: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // On a separate thread and runtime, because the command may block all others.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = runtime.block_on(async { StopSignal::listen() })?;
    #[cfg(unix)]
    let mut hangup =
        runtime.block_on(async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) })?;
    thread::Builder::new()
        .name("synckit-signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                #[cfg(unix)]
                tokio::select! {
                    () = stop.next() => {}
                    _ = hangup.recv() => {}
                }
                #[cfg(not(unix))]
                stop.next().await;
            });
            IS_ENDING.store(true, Ordering::SeqCst);
            Failure::from(anyhow!("interrupted")).with_code("interrupted").report();
            // Last: the other threads run until the exit, and may create again what is removed.
            tidy_up();
            std::process::exit(1);
        })?;
    Ok(())
}

/// Ignores SIGHUP until dropped. Service managers and terminals send it, for example to make a program reload its
/// configuration and reopen its log. The server has neither open, and the default action would kill it.
#[derive(Debug)]
pub(crate) struct HangupIgnored {
    #[cfg(unix)]
    _signal: tokio::signal::unix::Signal,
}

impl HangupIgnored {
    /// Ignores SIGHUP from now on.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            _signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }
}
