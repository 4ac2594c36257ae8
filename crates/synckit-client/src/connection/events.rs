//! The event stream of one user: opened once, read until it ends.
//!
//! Nothing here retries. A stream tells that the server may have something new, and a pull verifies that, so that no event
//! needs to be believed.

use std::time::Duration;

use futures_util::StreamExt as _;
use synckit_protocol::{
    Cursor, EventReader, Heard,
    limits::{EVENT_COMMENT_SECONDS, EVENT_RETRY_MS_MAX},
    wire::log::Status,
};

use super::{
    call::Call,
    session::Connection,
    transport::{BodyStream, TransportError},
};
use crate::{
    error::{Error, Result},
    runtime,
};

/// Time limit for the first position of a stream. The server sends it at once; a proxy that holds events back sends
/// nothing.
const FIRST_POSITION_MAX: Duration = Duration::from_secs(10);
/// Time without a byte after which a stream counts as broken: three comments.
const SILENCE_MAX: Duration = Duration::from_secs(3 * EVENT_COMMENT_SECONDS);

/// What one stream brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StreamReport {
    /// Whether there was a position.
    pub(crate) has_position: bool,
    /// Whether it lived long enough for a comment: no proxy cuts it off at once.
    pub(crate) is_proven: bool,
    /// The pause that the server asked for.
    pub(crate) retry: Duration,
}

impl Connection {
    /// Opens an event stream and gives each position to `hear`, until the stream ends, for whatever reason.
    pub(crate) async fn hear_events(&self, mut hear: impl FnMut(Cursor)) -> StreamReport {
        let mut report = StreamReport::default();
        let mut stream = EventStream::default();
        // A body that holds the connection open must not keep the client from polling.
        let opening = async {
            stream.body = Some(self.open_events().await.ok()?);
            loop {
                let heard = stream.next().await?;
                report.note(heard);
                if let Some(newest) = heard.newest {
                    break Some(newest);
                }
            }
        };
        let Some(Some(first)) = runtime::timeout(FIRST_POSITION_MAX, opening).await else {
            return report;
        };
        hear(first);
        while let Some(Some(heard)) = runtime::timeout(SILENCE_MAX, stream.next()).await {
            report.note(heard);
            if let Some(newest) = heard.newest {
                hear(newest);
            }
            if heard.is_going {
                break;
            }
        }
        report
    }

    /// Whether the user is still signed in, as far as this client knows.
    pub(crate) fn is_signed_in(&self) -> bool {
        self.current_session().is_ok()
    }

    /// Asks for the newest position. Refreshes the token if it must.
    pub(crate) async fn poll_position(&self) -> Result<Cursor> {
        let answer = self.authorized(Call::get("/api/sync/status").once()).await?;
        Ok(Cursor::at(answer.decode::<Status>()?.latest))
    }

    async fn open_events(&self) -> Result<BodyStream<TransportError>> {
        let session = self.current_session()?;
        let call = Call::get("/api/sync/events").bearer(&session.tokens.token).once();
        self.api().stream(&call, SILENCE_MAX).await
    }
}

impl StreamReport {
    fn note(&mut self, heard: Heard) {
        self.has_position |= heard.newest.is_some();
        self.is_proven |= heard.has_comment;
        if let Some(milliseconds) = heard.retry_ms {
            // Any number: a server must not silence a client for ever.
            self.retry = Duration::from_millis(milliseconds.min(EVENT_RETRY_MS_MAX));
        }
    }
}

#[derive(Default)]
struct EventStream {
    body: Option<BodyStream<TransportError>>,
    reader: EventReader,
}

impl EventStream {
    /// The events of the next piece; `None` at the end, and after an error.
    async fn next(&mut self) -> Option<Heard> {
        let piece = self.body.as_mut()?.next().await?.ok()?;
        self.reader.read(&piece).ok()
    }
}

/// Whether an error ends a subscription: nobody is signed in any more, or the configuration is wrong. Everything else may
/// pass.
pub(crate) fn ends_subscription(error: &Error) -> bool {
    matches!(
        error,
        Error::NotSignedIn
            | Error::SessionEnded
            | Error::AccountGone
            | Error::InvalidServerUrl { .. }
            | Error::InvalidArgument { .. }
            | Error::Tampering(_)
    )
}
