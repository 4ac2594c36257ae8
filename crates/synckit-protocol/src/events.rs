//! Live events: the text of an event stream, written by the server and read by clients.
//!
//! The form is that of server-sent events (WHATWG HTML, section 9.2). An event names the newest position of a stream as the
//! server claims it, and nothing else: a client that hears of one pulls, and the pull verifies.
//!
//! Invariant: [`EventReader`] holds at most one line and the data of one event, whatever the other side sends.

use crate::{Cursor, limits::EVENT_LINE_BYTES_MAX};

/// The name of the event that carries a position.
const POSITION: &str = "position";
/// The name of the last event of a server that stops.
const GOING: &str = "going";

/// Something that the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// How many milliseconds a client waits before it opens the next stream, once this one has ended.
    Retry(u64),
    /// The newest position of the stream; a cursor in the log, or the start.
    Newest(Cursor),
    /// The server stops. The stream ends.
    Going,
    /// Nothing: it shows both sides and every proxy that the connection is alive.
    Comment,
}

impl Event {
    /// The text of the event, with the empty line that ends it.
    ///
    /// # Examples
    /// ```
    /// use synckit_protocol::{Cursor, Event};
    ///
    /// assert_eq!(Event::Newest(Cursor::START).encode(), "event: position\nid: 0\ndata: 0\n\n");
    /// ```
    pub fn encode(self) -> String {
        match self {
            Self::Retry(milliseconds) => format!("retry: {milliseconds}\n\n"),
            // The `id` is for clients that are built into browsers; a reader of ours needs the data alone.
            Self::Newest(cursor) => format!("event: {POSITION}\nid: {cursor}\ndata: {cursor}\n\n"),
            // An event without data is no event.
            Self::Going => format!("event: {GOING}\ndata: {GOING}\n\n"),
            Self::Comment => ":\n\n".to_owned(),
        }
    }
}

/// The events in a piece of a stream. Of several of a kind, only the last one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// The newest position.
    pub newest: Option<Cursor>,
    /// The pause before the next stream, in milliseconds. Any number.
    pub retry_ms: Option<u64>,
    /// Whether the server says that it stops.
    pub is_going: bool,
    /// Whether there was a comment.
    pub has_comment: bool,
}

/// A text that is not an event stream of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// A line is longer than any line of this protocol.
    #[error("a line of the event stream is longer than {EVENT_LINE_BYTES_MAX} bytes")]
    LongLine,
    /// A position is not one.
    #[error("an event of the stream does not carry a position")]
    NoPosition,
}

/// Reads a stream of events piece by piece.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return: a line feed after it ends no further line.
    after_return: bool,
    name: EventName,
    /// The data of the event so far. No event of this protocol has two lines of it.
    data: Data,
}

#[derive(Debug, Default, Clone, Copy)]
enum EventName {
    Position,
    Going,
    /// None, or that of an event of a later version.
    #[default]
    Other,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    Line(String),
    Lines,
}

impl EventReader {
    /// Reads the next piece. Its borders may lie anywhere.
    ///
    /// # Errors
    /// [`EventError`]: the rest of the stream is useless.
    pub fn read(&mut self, piece: &[u8]) -> Result<Heard, EventError> {
        let mut heard = Heard::default();
        for &byte in piece {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_line(&mut heard)?,
                _ if self.line.len() >= EVENT_LINE_BYTES_MAX => return Err(EventError::LongLine),
                _ => self.line.push(byte),
            }
        }
        Ok(heard)
    }

    fn end_line(&mut self, heard: &mut Heard) -> Result<(), EventError> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event(heard);
        }
        // Names and values of this protocol are ASCII. Anything else belongs to a field that is ignored.
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((line.as_ref(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => heard.has_comment = true,
            "event" => {
                self.name = match value {
                    POSITION => EventName::Position,
                    GOING => EventName::Going,
                    _ => EventName::Other,
                };
            }
            "data" => {
                self.data = match self.data {
                    Data::None => Data::Line(value.to_owned()),
                    Data::Line(_) | Data::Lines => Data::Lines,
                };
            }
            // Digits alone: `parse` also takes a sign.
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                heard.retry_ms = value.parse().ok().or(heard.retry_ms);
            }
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self, heard: &mut Heard) -> Result<(), EventError> {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        match (name, data) {
            (_, Data::None) | (EventName::Other, _) => {}
            (EventName::Going, _) => heard.is_going = true,
            (EventName::Position, Data::Line(text)) => {
                let cursor: Cursor = text.parse().map_err(|_| EventError::NoPosition)?;
                if cursor.snapshot().is_some() {
                    return Err(EventError::NoPosition);
                }
                heard.newest = Some(cursor);
            }
            (EventName::Position, Data::Lines) => return Err(EventError::NoPosition),
        }
        Ok(())
    }
}
