//! A sync in the background: when it begins again.
//!
//! Invariant: whatever the last sync ended with, there is a time at which the next one begins.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::{database::SyncedDatabase, status::SyncStatus};

/// How often a running sync looks whether another program committed to the file.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The first pause after a sync that failed; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause after syncs that failed, and while somebody must do something.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A sync in the background. It ends when this is dropped.
#[derive(Debug)]
pub struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SyncedDatabase {
    /// Syncs in the background, on the runtime of the caller, until the value is dropped: within a moment after a program
    /// committed to the file or another device pushed.
    ///
    /// After a failure it tries again in one second, later in up to a minute, and at once when the server can be reached again. While
    /// the user must do something, it waits for that: for [`SyncedDatabase::decide`], [`SyncedDatabase::unlock`], or a call of
    /// [`SyncedDatabase::sync`] that succeeds after a new sign-in; it also looks once a minute.
    #[must_use = "the sync ends when this is dropped"]
    pub fn spawn(&self) -> Running {
        let database = self.clone();
        Running(tokio::spawn(async move { database.run().await }).abort_handle())
    }

    /// Never returns.
    async fn run(&self) {
        let (mut pause, mut news) = (PAUSE_MIN, None);
        // Beside the sync, which does not wait for it. Dropped with it, too.
        let mut fold = JoinSet::new();
        let mut status = self.0.status.subscribe();
        loop {
            let version = self.with(|replica| replica.data_version()).await;
            let done = self.sync_quietly().await;
            while fold.try_join_next().is_some() {}
            if self.is_fold_due() && fold.is_empty() {
                let database = self.clone();
                fold.spawn(async move {
                    if database.fold_if_due().await {
                        database.0.woken.notify_one();
                    }
                });
            }
            if news.is_none() {
                news = self.0.client.subscribe().await.ok();
            }
            let changed = async {
                match &mut news {
                    Some(news) => news.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            let now = status.borrow_and_update().clone();
            match done.err().filter(|_| !now.is_live()) {
                // What comes still comes, and what fits is sent.
                None => {
                    pause = PAUSE_MIN;
                    tokio::select! {
                        goes_on = changed => if !goes_on { news = None },
                        () = self.local_commit(version.unwrap_or_default()) => {}
                        () = self.0.woken.notified() => {}
                        // No more often than that is a server asked that cannot send news.
                        () = sleep(PAUSE_MAX) => {}
                    }
                }
                Some(error) if now.is_passing() => {
                    tracing::debug!(%error, "a sync failed");
                    // A server that always has news does not make this faster.
                    sleep(PAUSE_MIN).await;
                    tokio::select! {
                        goes_on = changed => if !goes_on { news = None },
                        () = self.0.woken.notified() => {}
                        () = sleep(pause.saturating_sub(PAUSE_MIN)) => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Some(error) => {
                    tracing::debug!(%error, "a sync waits for the user");
                    drop(changed);
                    tokio::select! {
                        () = passing(&mut status) => {}
                        () = self.0.woken.notified() => {}
                        () = sleep(PAUSE_MAX) => {}
                    }
                    news = None;
                }
            }
        }
    }

    /// Waits for a commit of another connection.
    async fn local_commit(&self, version: i64) {
        loop {
            sleep(LOOK_EVERY).await;
            if self
                .with(|replica| replica.data_version())
                .await
                .is_ok_and(|now| now != version)
            {
                return;
            }
        }
    }
}

/// Waits until nobody must do anything any more: after a sign-in, the app calls `sync`.
async fn passing(status: &mut watch::Receiver<SyncStatus>) {
    // The sender lives as long as the database.
    drop(status.wait_for(SyncStatus::is_done).await);
}
