//! Hearing of other devices' changes at once.
//!
//! One task for all subscriptions of a client on a runtime repeats one cycle: it reads an event stream until that ends; if
//! the stream brought nothing, it asks for the newest position once; it pauses. So a proxy that breaks streams turns the
//! subscription into polling, and polling ends by itself when streams work again.
//!
//! Invariant: the server's claim only wakes the app. What it pulls then is verified as always.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    client::SyncKitClient,
    connection::{
        events::{StreamReport, ends_subscription},
        retry::Jitter,
        session::Connection,
    },
    error::Result,
    runtime::{self, watch},
    state::news::{Found, News, NewsTask},
    stream::handle::Stream,
};

/// The longest pause between two cycles: where streams are broken, the interval of polling.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl SyncKitClient {
    /// Subscribes to news of the signed-in user's data: [`Subscription::changed`] returns whenever the server may have
    /// something to pull. Call it as often as parts of the app need it: all subscriptions of a client share one connection.
    ///
    /// The connection belongs to the runtime that this call runs on, and ends with the last subscription.
    ///
    /// # Errors
    /// [`Error::NotSignedIn`](crate::Error::NotSignedIn). A server that cannot be reached is no error: the subscription waits for it.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (laptop, laptop_device) = world.device("laptop").await?;
    /// # let (client, device) = world.device("phone").await?;
    /// # use synckit_doctest::note;
    /// use synckit_client::Cursor;
    ///
    /// let mut cursor = Cursor::START; // stored beside the app's data
    /// let mut news = client.subscribe().await?;
    /// # laptop.push(laptop_device.id, vec![note("1", "Buy milk")]).await?;
    /// let mut received = Vec::new();
    /// while received.is_empty() {
    ///     news.changed().await?; // the first time at once
    ///     let mut has_more = true;
    ///     while has_more {
    ///         let (changes, next, more) = client.pull(device.id, cursor).await?;
    ///         received.extend(changes); // in one transaction with the cursor
    ///         (cursor, has_more) = (next, more);
    ///     }
    /// }
    /// assert_eq!(received.len(), 1);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn subscribe(&self) -> Result<Subscription> {
        let stream = self.stream()?;
        let (task, news) = join(&stream).await;
        Ok(Subscription { stream, task, news })
    }
}

/// Tells when the server may have something to pull. Made by [`SyncKitClient::subscribe`].
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use synckit_client::Error;
///
/// let mut news = client.subscribe().await?;
/// news.changed().await?;
/// client.sign_out().await?;
/// // The subscription belongs to the user who was signed in.
/// assert!(matches!(news.changed().await, Err(Error::NotSignedIn | Error::SessionEnded)));
/// # Ok(())
/// # });
/// ```
pub struct Subscription {
    stream: Arc<Stream>,
    /// Keeps the task running.
    task: Arc<NewsTask>,
    news: watch::Receiver<News>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("user_id", &self.stream.scope().user_id)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// Returns when the server may have something that this subscription was not told of yet: the first time as soon as
    /// the server answers, then after every push of a device of the user, the app's own ones included. Pull until
    /// nothing more follows, then call it again. Changes in between are not lost, and many of them are told as one.
    ///
    /// It may return without a change, and a server that lies may make it do so; the pull then returns nothing. It can be
    /// cancelled at any time, for example in a `select!`.
    ///
    /// # Errors
    /// [`Error::SessionEnded`](crate::Error::SessionEnded), [`Error::AccountGone`](crate::Error::AccountGone), [`Error::NotSignedIn`](crate::Error::NotSignedIn): sign in, and
    /// subscribe again. While the server cannot be reached, this waits.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// let mut news = client.subscribe().await?;
    /// news.changed().await?; // pull here
    /// // An app with other things to do.
    /// tokio::select! {
    ///     changed = news.changed() => changed?,
    ///     pushed = client.push(device.id, vec![note("1", "Buy milk")]) => {
    ///         pushed?;
    ///     }
    /// }
    /// # Ok(())
    /// # });
    /// ```
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            if self.news.changed().await.is_ok() && !self.news.borrow_and_update().is_over {
                return Ok(());
            }
            // The session has ended, or the runtime of the task: the server knows.
            match self.stream.connection.poll_position().await {
                Err(error) if ends_subscription(&error) => return Err(error),
                _ => (self.task, self.news) = join(&self.stream).await,
            }
        }
    }
}

/// The task of this runtime, and a receiver of its news.
async fn join(stream: &Stream) -> (Arc<NewsTask>, watch::Receiver<News>) {
    let found = stream.news.find_or_start(runtime::id(), || {
        let (sender, news) = watch::channel(News::default());
        let connection = Arc::clone(&stream.connection);
        NewsTask::new(
            news,
            runtime::spawn(async move { bring_news(&connection, &sender).await }),
        )
    });
    let task = match found {
        Found::Running(task) => task,
        Found::Started(task) => {
            runtime::first_poll().await;
            task
        }
    };
    let news = task.news();
    (task, news)
}

/// Brings news until the session ends.
async fn bring_news(connection: &Connection, news: &watch::Sender<News>) {
    let hear = |newest| {
        news.send_if_modified(|news| {
            let is_news = news.newest != Some(newest);
            news.newest = Some(newest);
            is_news
        });
    };
    let mut attempt = 0_u32;
    loop {
        let report = connection.hear_events(hear).await;
        // The server closes the stream of a user who signed out: no reason for a pause.
        if !connection.is_signed_in() {
            break;
        }
        if report.is_proven {
            attempt = 0;
        }
        if !report.has_position {
            match connection.poll_position().await {
                Ok(newest) => hear(newest),
                Err(error) if ends_subscription(&error) => break,
                Err(error) => tracing::debug!(%error, "the newest position cannot be read"),
            }
        }
        runtime::sleep(pause(&connection.api().jitter, report, attempt)).await;
        attempt = attempt.saturating_add(1);
    }
    news.send_modify(|news| news.is_over = true);
}

/// The pause after a cycle: the one that the server asked for, and longer after streams that ended early.
fn pause(jitter: &Jitter, report: StreamReport, attempt: u32) -> Duration {
    jitter.backoff(attempt, PAUSE_MAX).max(report.retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_never_shorter_than_the_servers() {
        let jitter = Jitter::new(Some(1));
        let report = StreamReport {
            retry: Duration::from_secs(7),
            ..StreamReport::default()
        };
        for _ in 0..100 {
            // Devices that heard different pauses from a server that stops come back at different times.
            assert_eq!(pause(&jitter, report, 0), report.retry);
            assert!(pause(&jitter, report, 40) >= PAUSE_MAX / 2);
        }
    }

    #[test]
    fn pauses_of_devices_differ_and_have_a_bound() {
        let jitter = Jitter::new(Some(1));
        let mut pauses: Vec<Duration> = (0..100).map(|_| pause(&jitter, StreamReport::default(), 40)).collect();
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 90, "{}", pauses.len());
        assert!(pauses.iter().all(|pause| (PAUSE_MAX / 2..=PAUSE_MAX).contains(pause)));
    }
}
