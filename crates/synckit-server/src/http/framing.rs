//! Requests that are exactly HTTP/1.1, or are refused.
//!
//! hyper is lenient: it accepts a head without `Host` or with two of them, unknown transfer codings before `chunked`,
//! and lines that end with LF alone. A proxy in front may read such a request differently, and then one user's body
//! becomes another user's request. So a second, strict reader of heads and framing (RFC 9112) checks every received
//! byte. Refused bytes never reach hyper: a byte that no head may contain replaces them, and hyper answers 400 and
//! closes.
//!
//! The reader is deliberately not a parser. It keeps a line at a time and three facts of a head.
//!
//! Invariant: if both readers accept a request, they agree on its end.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::turn::Turn;

/// The largest head of a request, and the most of the lines around chunks.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A stream whose input is checked.
pub(super) struct HeadGuard<T> {
    stream: T,
    turn: Turn,
    framing: Framing,
    headers_max: usize,
    /// The bytes that hyper still reads in place of a refused request.
    verdict: Vec<u8>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Violation {
    /// It is not HTTP/1.1.
    Malformed,
    /// Its head is too large.
    TooLarge,
}

impl<T> HeadGuard<T> {
    /// Guards a stream for a reader that takes at most so many header lines.
    pub(super) fn new(stream: T, headers_max: usize) -> Self {
        Self {
            stream,
            turn: Turn::default(),
            framing: Framing::default(),
            headers_max,
            verdict: Vec::new(),
        }
    }

    /// The stream, if a request on it was refused.
    pub(super) fn into_refused(self) -> Option<T> {
        self.framing.is_refused().then_some(self.stream)
    }

    /// The bytes that make hyper give the right answer: 400 for a byte that no head and no chunk may contain, 431 for
    /// too many headers. They end with an empty line, before which hyper does not parse a head again.
    fn verdict_on(&self, violation: Violation) -> Vec<u8> {
        match violation {
            Violation::Malformed => b"\0\r\n\r\n".to_vec(),
            // Wherever the head broke off, these are more headers than it may have when the empty line completes it.
            Violation::TooLarge => [b"x:\r\n".repeat(self.headers_max + 2).as_slice(), b"\r\n"].concat(),
        }
    }

    fn give_verdict(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.verdict.len().min(buf.remaining());
        buf.put_slice(&self.verdict[..length]);
        self.verdict.drain(..length);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadGuard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.framing.is_refused() {
            // After the verdict nothing comes any more.
            self.give_verdict(buf);
            return Poll::Ready(Ok(()));
        }
        ready!(self.turn.poll_room(cx));
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(_) => self.turn.moved(buf.filled().len() - before),
            Poll::Pending => self.turn.end(),
        }
        if matches!(polled, Poll::Ready(Ok(())))
            && let Err((good, violation)) = self.framing.check(&buf.filled()[before..])
        {
            buf.set_filled(before + good);
            self.verdict = self.verdict_on(violation);
            self.give_verdict(buf);
        }
        polled
    }
}

/// Where in a sequence of requests the input is.
#[derive(Debug, Default)]
struct Framing {
    place: Place,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// Bytes of this head, or of these lines around a chunk.
    head_bytes: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Before a request line.
    #[default]
    Start,
    Headers(Head),
    /// In a body, or a chunk, of which so many bytes are to come.
    Body {
        remaining: u64,
        chunked: bool,
    },
    ChunkSize,
    /// In the line end after the bytes of a chunk.
    ChunkEnd,
    Trailers,
    Refused,
}

/// The framing fields of a head so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    is_1_1: bool,
    hosts: u8,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    fn is_refused(&self) -> bool {
        self.place == Place::Refused
    }

    /// Checks received bytes. An error contains the number of bytes that may still be passed on.
    fn check(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Place::Body { remaining, chunked } = self.place {
                let taken = remaining.min(rest.len() as u64);
                self.place = match (remaining - taken, chunked) {
                    (0, true) => Place::ChunkEnd,
                    (0, false) => Place::Start,
                    (remaining, chunked) => Place::Body { remaining, chunked },
                };
                // No more than the length of a slice.
                at += taken as usize;
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(rest.len(), |end| end + 1);
            self.head_bytes += length;
            if self.head_bytes > HEAD_BYTES_MAX {
                return Err(self.refuse(at, Violation::TooLarge));
            }
            self.line.extend_from_slice(&rest[..length]);
            at += length;
            if end.is_some() {
                let line = mem::take(&mut self.line);
                // All but the end of the line may be seen: with it the head could be complete.
                self.line_ended(&line)
                    .map_err(|violation| self.refuse(at - 1, violation))?;
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn refuse(&mut self, good: usize, violation: Violation) -> (usize, Violation) {
        self.place = Place::Refused;
        (good, violation)
    }

    fn line_ended(&mut self, line: &[u8]) -> Result<(), Violation> {
        let line = line.strip_suffix(b"\r\n").ok_or(Violation::Malformed)?;
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Violation::Malformed);
        }
        let next = match self.place {
            // A server ignores an empty line before a request (RFC 9112, section 2.2).
            Place::Start if line.is_empty() => Place::Start,
            Place::Start => Place::Headers(Head::of_request_line(line)?),
            Place::Headers(head) if line.is_empty() => head.body()?,
            Place::Headers(mut head) => {
                head.header(line)?;
                Place::Headers(head)
            }
            Place::ChunkSize => match chunk_size(line)? {
                0 => Place::Trailers,
                remaining => Place::Body {
                    remaining,
                    chunked: true,
                },
            },
            Place::ChunkEnd if line.is_empty() => Place::ChunkSize,
            Place::Trailers if line.is_empty() => Place::Start,
            Place::Trailers => {
                name_and_value(line)?;
                Place::Trailers
            }
            Place::ChunkEnd | Place::Body { .. } | Place::Refused => return Err(Violation::Malformed),
        };
        // A head with what comes before it, the lines of one chunk, and the trailers are bounded each.
        let goes_on = matches!(next, Place::Headers(_) | Place::Trailers) || self.place == Place::Start;
        if !goes_on {
            self.head_bytes = 0;
        }
        self.place = next;
        Ok(())
    }
}

impl Head {
    fn of_request_line(line: &[u8]) -> Result<Self, Violation> {
        let is_1_1 = line.ends_with(b" HTTP/1.1");
        if !is_1_1 && !line.ends_with(b" HTTP/1.0") {
            return Err(Violation::Malformed);
        }
        Ok(Self {
            is_1_1,
            hosts: 0,
            length: None,
            chunked: false,
        })
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Violation> {
        let (name, value) = name_and_value(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts = self.hosts.saturating_add(1);
            if self.hosts > 1 || !is_host(value) {
                return Err(Violation::Malformed);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // Two that agree might be merged; nobody sends them.
            if self.length.replace(decimal(value)?).is_some() {
                return Err(Violation::Malformed);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !self.is_1_1 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::Malformed);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// The body after this head.
    fn body(self) -> Result<Place, Violation> {
        if self.is_1_1 && self.hosts == 0 {
            return Err(Violation::Malformed);
        }
        match (self.chunked, self.length) {
            // A request with both may be an attempt to smuggle another (RFC 9112, section 6.1).
            (true, Some(_)) => Err(Violation::Malformed),
            (true, None) => Ok(Place::ChunkSize),
            (false, None | Some(0)) => Ok(Place::Start),
            (false, Some(remaining)) => Ok(Place::Body {
                remaining,
                chunked: false,
            }),
        }
    }
}

/// A header line: a token, a colon at once, and a value. A line that continues the previous one has no token.
fn name_and_value(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Violation::Malformed)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(Violation::Malformed);
    }
    Ok((name, value))
}

/// Whether a text can be a host and perhaps a port (RFC 3986, section 3.2), roughly: nothing of another part of a URL.
fn is_host(value: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    !value.is_empty() && value.iter().all(allowed)
}

fn decimal(value: &[u8]) -> Result<u64, Violation> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok()).ok_or(Violation::Malformed)
}

/// The size of a chunk: hexadecimal digits, and extensions that nobody reads.
fn chunk_size(line: &[u8]) -> Result<u64, Violation> {
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_number = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(size).ok().filter(|_| is_number);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(Violation::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n";

    /// Checks a text in pieces of every size, all of which must agree.
    fn check(text: &str) -> Result<Place, Violation> {
        let whole = in_pieces(text, text.len());
        for size in 1..text.len().min(40) {
            assert_eq!(in_pieces(text, size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    fn in_pieces(text: &str, size: usize) -> Result<Place, Violation> {
        let mut framing = Framing::default();
        for piece in text.as_bytes().chunks(size.max(1)) {
            framing.check(piece).map_err(|(_, violation)| violation)?;
        }
        Ok(framing.place)
    }

    #[test]
    fn well_formed_requests_are_taken_one_after_another() {
        for text in [
            format!("{GET}\r\n"),
            format!("\r\n{GET}\r\n{GET}accept: */*\r\n\r\n"),
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            format!("{GET}content-length: 4\r\n\r\n\n\n\n\n{GET}\r\n"),
            format!(
                "{GET}Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\n\n\r\n\r\n0A\r\n0123456789\r\n0\r\nx: y\r\n\r\n{GET}\r\n"
            ),
        ] {
            assert_eq!(check(&text), Ok(Place::Start), "{text:?}");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for head in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\nHost: y\r\n",
            "GET / HTTP/1.1\r\nhost:\r\n",
            "GET / HTTP/1.1\r\nhost: x/y\r\n",
            "GET / HTTP/1.0\r\nhost: x\r\nhost: x\r\n",
            "GET / HTTP/1.1\nhost: x\r\n",
            "GET / HTTP/1.1\r\nhost: x\n",
            "GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n",
            "GET / HTTP/1.1\r\nhost : x\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\na: b\rc\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n",
            "GET / HTTP/2.0\r\nhost: x\r\n",
            "GET /\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\n",
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 3\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3, 3\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n",
        ] {
            assert_eq!(check(&format!("{head}\r\n")), Err(Violation::Malformed), "{head:?}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for body in [
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "0x3\r\nabc\r\n",
            "\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "3 \r\nabc\r\n",
        ] {
            let text = format!("{GET}transfer-encoding: chunked\r\n\r\n{body}");
            assert_eq!(check(&text), Err(Violation::Malformed), "{body:?}");
        }
    }

    #[test]
    fn large_heads_are_refused_before_they_end() {
        let long = "y".repeat(HEAD_BYTES_MAX);
        for text in [
            format!("GET /{long}"),
            format!("{GET}x: {long}"),
            "\r\n".repeat(HEAD_BYTES_MAX),
            format!("{GET}transfer-encoding: chunked\r\n\r\n1;{long}"),
            format!("{GET}transfer-encoding: chunked\r\n\r\n0\r\nx: {long}"),
        ] {
            assert_eq!(in_pieces(&text, 1000), Err(Violation::TooLarge), "{text:.60}");
        }
        // Many short heads are no large one.
        assert_eq!(check(&format!("{GET}\r\n").repeat(3)), Ok(Place::Start));
    }
}
