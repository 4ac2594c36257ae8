//! Being asked to stop: Ctrl-C, and on Unix SIGTERM.

use std::io;

use crate::screen;

/// Ctrl-C, and on Unix SIGTERM.
#[derive(Debug)]
pub(crate) struct StopSignal {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Installed before anything is said to listen, so that no signal meets the default action.
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
            // Nobody can ask this server to stop; it runs until it is killed.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves at the first signal. The second one ends the process at once.
    pub(crate) async fn received(mut self) {
        self.next().await;
        screen::event(&serde_json::json!({ "event": "stopping" }));
        screen::line("stopping after the requests that are running; once more stops at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(1);
        });
    }
}
