//! The body of an event stream.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use prometheus_client::metrics::counter::Counter;
use rand::Rng as _;
use synckit_protocol::{
    Cursor, Event,
    limits::{EVENT_COMMENT_SECONDS, EVENT_RETRY_MS_MAX, EVENT_RETRY_MS_MIN},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use super::Subscription;
use crate::limits::Permit;

const COMMENT_INTERVAL: Duration = Duration::from_secs(EVENT_COMMENT_SECONDS);

/// One event stream.
struct EventStream {
    subscription: Subscription,
    retry: Option<Event>,
    comments: Interval,
    end: Pin<Box<Sleep>>,
    stopping: CancellationToken,
    sent: Counter,
    _place: Permit,
}

/// A piece of the stream, and whether it is the last one.
enum Piece {
    Event(Event),
    Last(Event),
    End,
}

/// The body of an event stream that the server closes after `lifetime` ± 10 %. `sent` counts its positions; `place` is given
/// back when it ends.
pub(crate) fn event_body(
    subscription: Subscription,
    lifetime: Duration,
    stopping: CancellationToken,
    sent: Counter,
    place: Permit,
) -> Body {
    // Streams that were opened together, after a restart say, must neither end nor come back together.
    let mut random = rand::thread_rng();
    let lifetime = lifetime.mul_f64(random.gen_range(0.9..=1.1));
    let retry = Event::Retry(random.gen_range(EVENT_RETRY_MS_MIN..=EVENT_RETRY_MS_MAX));
    let mut comments = interval_at(Instant::now() + COMMENT_INTERVAL, COMMENT_INTERVAL);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = EventStream {
        subscription,
        retry: Some(retry),
        comments,
        end: Box::pin(sleep(lifetime)),
        stopping,
        sent,
        _place: place,
    };
    Body::from_stream(stream::unfold(Some(events), async |events| {
        let mut events = events?;
        let (event, rest) = match events.next().await {
            Piece::Event(event) => (event, Some(events)),
            Piece::Last(event) => (event, None),
            Piece::End => return None,
        };
        Some((Ok::<_, Infallible>(Bytes::from(event.encode())), rest))
    }))
}

impl EventStream {
    async fn next(&mut self) -> Piece {
        // At once: a client and every proxy see that the stream has begun.
        if let Some(retry) = self.retry.take() {
            return Piece::Event(retry);
        }
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Piece::Last(Event::Going),
            () = &mut self.end => Piece::End,
            newest = self.subscription.next() => match newest {
                Some(position) => {
                    self.sent.inc();
                    Piece::Event(Event::Newest(Cursor::at(position)))
                }
                None => Piece::End,
            },
            _ = self.comments.tick() => Piece::Event(Event::Comment),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use synckit_protocol::{AppId, EventReader, Heard, SessionId, UserId};
    use synckit_store::StreamId;

    use super::*;
    use crate::{
        limits::{Owners, Pool},
        live::Subscribers,
    };

    const HOUR: Duration = Duration::from_secs(3600);
    const STREAM: StreamId = StreamId {
        app_id: AppId::from_bytes([1; 16]),
        user_id: UserId::from_bytes([2; 16]),
    };

    fn body(subscribers: &Arc<Subscribers>, pool: &Pool, stopping: &CancellationToken) -> Body {
        let subscription = subscribers.subscribe(STREAM, SessionId::from_bytes([3; 16]));
        let place = pool.try_take(Owners::NOBODY, 1).unwrap();
        event_body(subscription, HOUR, stopping.clone(), Counter::default(), place)
    }

    async fn next(body: &mut Body) -> Option<Heard> {
        let frame = body.frame().await?.unwrap();
        Some(EventReader::default().read(frame.data_ref().unwrap()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn idle_stream_has_a_comment_every_15_s_for_an_hour() {
        let (subscribers, pool) = (Arc::default(), Pool::new("test", 1, 1));
        let begun = Instant::now();
        let mut body = body(&subscribers, &pool, &CancellationToken::new());
        let retry = next(&mut body).await.unwrap().retry_ms.unwrap();
        assert!((EVENT_RETRY_MS_MIN..=EVENT_RETRY_MS_MAX).contains(&retry));
        assert_eq!(begun.elapsed(), Duration::ZERO, "the first bytes come at once");
        let mut comments = 0;
        while let Some(heard) = next(&mut body).await {
            comments += 1;
            assert!(heard.has_comment);
            // The timer counts whole milliseconds.
            let late = begun.elapsed() - comments * COMMENT_INTERVAL;
            assert!(late < Duration::from_millis(100 * u64::from(comments)), "{late:?}");
        }
        let lifetime = begun.elapsed();
        assert!(
            lifetime >= HOUR.mul_f64(0.9) && lifetime <= HOUR.mul_f64(1.11),
            "{lifetime:?}"
        );
        assert_eq!(pool.taken(), 0, "its place is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_server_says_so_and_ends_the_stream() {
        let (subscribers, pool) = (Arc::default(), Pool::new("test", 1, 1));
        let stopping = CancellationToken::new();
        let mut body = body(&subscribers, &pool, &stopping);
        next(&mut body).await.unwrap();
        stopping.cancel();
        assert!(next(&mut body).await.unwrap().is_going);
        assert_eq!(next(&mut body).await, None);
        assert_eq!(pool.taken(), 0, "its place is given back");
    }
}
