//! What nodes on one database tell each other: the streams that have new positions.
//!
//! A notice carries no position. A node that hears of one asks for the heads of the streams that it needs, so that a notice
//! that is lost, doubled or forged costs a query and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use synckit_protocol::{AppId, UserId};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::StreamId;

/// The most streams that one notice names: its text must be shorter than the 8,000 bytes that PostgreSQL takes.
pub const NOTICE_STREAMS_MAX: usize = 120;
/// Notices that wait for their reader. Past it, the reader is told that any stream may have changed.
const WAITING_MAX: usize = 256;
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// A node, for as long as its process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// The node of these random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// What a node tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The node that tells it: it hears its own notices, too.
    pub from: NodeId,
    /// The streams that have new positions.
    pub streams: ChangedStreams,
}

/// The streams of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedStreams {
    /// These, at most [`NOTICE_STREAMS_MAX`]. None of them: a sign of life.
    These(Vec<StreamId>),
    /// Too many to name.
    Any,
}

impl Notice {
    /// The notice as the text of a message.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        push_hex(&mut text, &self.from.0);
        match &self.streams {
            ChangedStreams::These(streams) if streams.len() <= NOTICE_STREAMS_MAX => {
                for stream in streams {
                    push_hex(&mut text, stream.app_id.as_bytes());
                    push_hex(&mut text, stream.user_id.as_bytes());
                }
            }
            ChangedStreams::These(_) | ChangedStreams::Any => text.push('*'),
        }
        text
    }

    /// Reads the text of a message; `None` if a node of another version sent it, or somebody else.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let (from, rest) = text.as_bytes().split_at_checked(ID_DIGITS)?;
        let from = NodeId(id_of_hex(from)?);
        if rest == b"*" {
            let streams = ChangedStreams::Any;
            return Some(Self { from, streams });
        }
        let (streams, []) = rest.as_chunks::<{ 2 * ID_DIGITS }>() else {
            return None;
        };
        if streams.len() > NOTICE_STREAMS_MAX {
            return None;
        }
        let streams = streams.iter().map(|stream| {
            let (app_id, user_id) = stream.split_at(ID_DIGITS);
            Some(StreamId {
                app_id: AppId::from_bytes(id_of_hex(app_id)?),
                user_id: UserId::from_bytes(id_of_hex(user_id)?),
            })
        });
        let streams = ChangedStreams::These(streams.collect::<Option<_>>()?);
        Some(Self { from, streams })
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
}

fn id_of_hex(text: &[u8]) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    for (byte, digits) in id.iter_mut().zip(text.chunks(2)) {
        for digit in digits {
            *byte = (*byte << 4) | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(id)
}

/// Notices as they arrive. Dropping it ends the connection that brings them.
#[derive(Debug)]
pub struct Notices {
    waiting: mpsc::Receiver<Notice>,
    has_missed: Arc<AtomicBool>,
    bringing: AbortHandle,
}

/// The other end of [`Notices`].
#[derive(Debug)]
pub(crate) struct NoticeSender {
    waiting: mpsc::Sender<Notice>,
    has_missed: Arc<AtomicBool>,
}

impl Notices {
    /// Notices that a task brings; `start` starts the task with the end that it sends to.
    pub(crate) fn brought_by(start: impl FnOnce(NoticeSender) -> AbortHandle) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let has_missed = Arc::new(AtomicBool::new(false));
        let sender = NoticeSender {
            waiting: sender,
            has_missed: Arc::clone(&has_missed),
        };
        Self {
            waiting,
            has_missed,
            bringing: start(sender),
        }
    }

    /// The next notice; `None` when the connection is lost. Loses nothing if it is dropped before it resolves.
    pub async fn next(&mut self) -> Option<Notice> {
        let mut notice = self.waiting.recv().await?;
        if self.has_missed.swap(false, Ordering::Relaxed) {
            notice.streams = ChangedStreams::Any;
        }
        Some(notice)
    }
}

impl NoticeSender {
    /// Passes a notice on, or notes that one was missed.
    pub(crate) fn send(&self, notice: Notice) {
        if self.waiting.try_send(notice).is_err() {
            self.has_missed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.bringing.abort();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(n: u8) -> StreamId {
        StreamId {
            app_id: AppId::from_bytes([n; 16]),
            user_id: UserId::from_bytes([n.wrapping_add(1); 16]),
        }
    }

    #[test]
    fn notices_come_back_as_they_were_sent() {
        let from = NodeId([0xa7; 16]);
        let most = (0..NOTICE_STREAMS_MAX).map(|n| stream(n as u8)).collect();
        for streams in [Vec::new(), vec![stream(0xf0)], most].map(ChangedStreams::These) {
            let notice = Notice { from, streams };
            let text = notice.encode();
            assert!(text.len() < 8000, "PostgreSQL refuses a longer one");
            assert_eq!(Notice::decode(&text), Some(notice));
        }
        let many = (0..=NOTICE_STREAMS_MAX).map(|n| stream(n as u8)).collect();
        let any = Notice {
            from,
            streams: ChangedStreams::Any,
        };
        for streams in [ChangedStreams::These(many), ChangedStreams::Any] {
            assert_eq!(Notice::decode(&Notice { from, streams }.encode()), Some(any.clone()));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_notice_or_none(text in "[0-9a-fA-F*é]{0,200}") {
            if let Some(notice) = Notice::decode(&text) {
                prop_assert_eq!(notice.encode(), text.to_lowercase());
            }
        }
    }

    #[tokio::test]
    async fn slow_reader_is_told_that_it_missed_some() {
        let mut end = None;
        let mut notices = Notices::brought_by(|sender| {
            end = Some(sender);
            tokio::spawn(std::future::pending::<()>()).abort_handle()
        });
        let sender = end.unwrap();
        let notice = |n| Notice {
            from: NodeId([1; 16]),
            streams: ChangedStreams::These(vec![stream(n)]),
        };
        for _ in 0..WAITING_MAX {
            sender.send(notice(1));
        }
        sender.send(notice(2));
        assert_eq!(notices.next().await.unwrap().streams, ChangedStreams::Any);
        assert_eq!(notices.next().await, Some(notice(1)));
        drop(sender);
        while notices.next().await.is_some() {}
    }
}
