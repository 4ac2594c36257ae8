//! The CBOR of pushes and pages, coded by hand so that sealed bytes are never copied.
//!
//! A push keeps its sealed batch as a slice of the received body; a page is sent as small headers between the stored
//! batches. Every CBOR decoder reads this output as the types of `wire::log`, and a test compares the two.

use std::{
    cell::Cell,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use minicbor::{Decoder, Encoder, data::Type, decode, encode};
use synckit_protocol::{BatchId, Cursor, DeviceId, Head, KeyId, Position, is_well_formed_cbor, wire::log::Push};
use synckit_store::StoredBatch;

use crate::{http::held_until_sent, limits::Permit};

/// A push whose sealed batch is a slice of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PushBody {
    pub(super) device_id: DeviceId,
    pub(super) batch_id: BatchId,
    pub(super) key_id: KeyId,
    pub(super) count: u32,
    pub(super) parent: Position,
    pub(super) sealed: Bytes,
}

impl From<Push> for PushBody {
    fn from(push: Push) -> Self {
        Self {
            device_id: push.device_id,
            batch_id: push.batch_id,
            key_id: push.key_id,
            count: push.count,
            parent: push.parent,
            sealed: push.sealed.0.into(),
        }
    }
}

/// Decodes a push in CBOR. Unknown fields are ignored, as everywhere; a field that comes twice is refused.
pub(super) fn decode_push(body: &Bytes) -> Result<PushBody, decode::Error> {
    let mut decoder = Decoder::new(body);
    let (mut device_id, mut batch_id, mut key_id) = (None, None, None);
    let (mut count, mut parent, mut sealed) = (None, None, None);
    let has_unknown = Cell::new(false);
    decode_fields(&mut decoder, |decoder, name| match name {
        "device_id" => once(&mut device_id, DeviceId::from_bytes(fixed(decoder)?)),
        "batch_id" => once(&mut batch_id, BatchId::from_bytes(fixed(decoder)?)),
        "key_id" => once(&mut key_id, KeyId::from_bytes(fixed(decoder)?)),
        "count" => once(&mut count, decoder.u32()?),
        "parent" => once(&mut parent, decode_position(decoder, &has_unknown)?),
        "sealed" => once(&mut sealed, body.slice_ref(decoder.bytes()?)),
        _ => skip(decoder, &has_unknown),
    })?;
    if decoder.position() != body.len() {
        return Err(decode::Error::message("there are bytes after the value"));
    }
    // Known fields are read by their types, in one form each.
    if has_unknown.get() && !is_well_formed_cbor(body) {
        return Err(decode::Error::message("the body is not one value in well-formed CBOR"));
    }
    Ok(PushBody {
        device_id: device_id.ok_or_else(|| missing("device_id"))?,
        batch_id: batch_id.ok_or_else(|| missing("batch_id"))?,
        key_id: key_id.ok_or_else(|| missing("key_id"))?,
        count: count.ok_or_else(|| missing("count"))?,
        parent: parent.ok_or_else(|| missing("parent"))?,
        sealed: sealed.ok_or_else(|| missing("sealed"))?,
    })
}

/// Passes over the value of an unknown field. It takes what is no value, too.
fn skip(decoder: &mut Decoder<'_>, has_unknown: &Cell<bool>) -> Result<(), decode::Error> {
    has_unknown.set(true);
    decoder.skip()
}

fn decode_position(decoder: &mut Decoder<'_>, has_unknown: &Cell<bool>) -> Result<Position, decode::Error> {
    let (mut seq, mut head) = (None, None);
    decode_fields(decoder, |decoder, name| match name {
        "seq" => once(&mut seq, decoder.u64()?),
        "head" => once(&mut head, Head::from_bytes(fixed(decoder)?)),
        _ => skip(decoder, has_unknown),
    })?;
    Ok(Position {
        seq: seq.ok_or_else(|| missing("parent.seq"))?,
        head: head.ok_or_else(|| missing("parent.head"))?,
    })
}

/// Hands every field of a map to `take`.
fn decode_fields<'b>(
    decoder: &mut Decoder<'b>,
    mut take: impl FnMut(&mut Decoder<'b>, &str) -> Result<(), decode::Error>,
) -> Result<(), decode::Error> {
    let length = decoder.map()?;
    let mut read = 0;
    loop {
        match length {
            Some(length) if read == length => return Ok(()),
            None if decoder.datatype()? == Type::Break => return decoder.skip(),
            _ => {}
        }
        let name = decoder.str()?;
        take(decoder, name)?;
        read += 1;
    }
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), decode::Error> {
    if field.replace(value).is_some() {
        Err(decode::Error::message("a field comes twice"))
    } else {
        Ok(())
    }
}

fn missing(name: &str) -> decode::Error {
    decode::Error::message(format!("missing field `{name}`"))
}

fn fixed<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], decode::Error> {
    let bytes = decoder.bytes()?;
    bytes
        .try_into()
        .map_err(|_| decode::Error::message(format!("expected {N} bytes, found {}", bytes.len())))
}

/// Encodes a page as a body of pieces: `{batches: […], cursor, has_more}`.
pub(super) fn encode_page(
    batches: Vec<StoredBatch>,
    cursor: &Cursor,
    has_more: bool,
    memory: Permit,
) -> Result<PageBody, encode::Error<Infallible>> {
    let mut pieces = VecDeque::with_capacity(batches.len() * 2 + 1);
    let mut encoder = Encoder::new(Vec::with_capacity(192));
    encoder.map(3)?.str("batches")?.array(batches.len() as u64)?;
    for batch in batches {
        encoder.map(6)?;
        encoder.str("batch_id")?.bytes(batch.batch_id.as_bytes())?;
        encoder.str("device_id")?.bytes(batch.device_id.as_bytes())?;
        encoder.str("key_id")?.bytes(batch.key_id.as_bytes())?;
        encoder.str("first_seq")?.u64(batch.first_seq)?;
        encoder.str("count")?.u32(batch.count)?;
        encoder.str("sealed")?.bytes_len(batch.sealed.len() as u64)?;
        pieces.push_back(Bytes::from(std::mem::replace(
            encoder.writer_mut(),
            Vec::with_capacity(192),
        )));
        pieces.push_back(batch.sealed);
    }
    encoder
        .str("cursor")?
        .str(&cursor.to_string())?
        .str("has_more")?
        .bool(has_more)?;
    // Sent last, so that the memory is given back when all of the page is.
    pieces.push_back(held_until_sent(encoder.into_writer(), memory));
    let remaining = pieces.iter().map(|piece| piece.len() as u64).sum();
    Ok(PageBody { pieces, remaining })
}

/// A page that is being sent. Its last piece holds its share of the memory for pages until it is sent.
#[derive(Debug)]
pub(super) struct PageBody {
    pieces: VecDeque<Bytes>,
    remaining: u64,
}

impl http_body::Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        if let Some(piece) = &piece {
            self.remaining -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use synckit_protocol::{ByteString, wire::log::Page};

    use super::*;
    use crate::limits::{Owners, Pool};

    fn push(sealed: &[u8]) -> Push {
        Push {
            device_id: DeviceId::from_bytes([1; 16]),
            batch_id: BatchId::from_bytes([2; 16]),
            key_id: KeyId::from_bytes([3; 16]),
            count: 500,
            parent: Position {
                seq: u64::MAX,
                head: Head::from_bytes([4; 32]),
            },
            sealed: ByteString(sealed.to_vec()),
        }
    }

    #[test]
    fn push_decodes_like_serde_and_shares_the_body() {
        for length in [0, 1, 23, 24, 255, 256, 70_000] {
            let push = push(&vec![9; length]);
            let body = Bytes::from(minicbor_serde::to_vec(&push).unwrap());
            let decoded = decode_push(&body).unwrap();
            assert_eq!(decoded, PushBody::from(push));
            assert!(length == 0 || body.as_ptr_range().contains(&decoded.sealed.as_ptr()));
        }
    }

    #[test]
    fn cut_and_extended_pushes_are_refused() {
        let body = minicbor_serde::to_vec(push(&[9; 40])).unwrap();
        for length in 0..body.len() {
            assert!(
                decode_push(&Bytes::copy_from_slice(&body[..length])).is_err(),
                "{length}"
            );
        }
        let mut longer = body;
        longer.push(0);
        assert!(decode_push(&Bytes::from(longer)).is_err());
    }

    #[test]
    fn push_may_have_unknown_fields_but_none_twice() {
        let mut encoder = Encoder::new(Vec::new());
        encoder.begin_map().unwrap();
        encoder
            .str("new")
            .unwrap()
            .array(2)
            .unwrap()
            .null()
            .unwrap()
            .str("x")
            .unwrap();
        encoder.str("device_id").unwrap().bytes(&[1; 16]).unwrap();
        encoder.str("batch_id").unwrap().bytes(&[2; 16]).unwrap();
        encoder.str("key_id").unwrap().bytes(&[3; 16]).unwrap();
        encoder.str("count").unwrap().u32(500).unwrap();
        encoder.str("parent").unwrap().map(2).unwrap();
        encoder
            .str("head")
            .unwrap()
            .bytes(&[4; 32])
            .unwrap()
            .str("seq")
            .unwrap()
            .u64(u64::MAX)
            .unwrap();
        encoder.str("sealed").unwrap().bytes(&[5]).unwrap();
        let mut twice = Encoder::new(encoder.writer().clone());
        encoder.end().unwrap();
        assert_eq!(
            decode_push(&encoder.into_writer().into()).unwrap(),
            PushBody::from(push(&[5]))
        );
        twice.str("count").unwrap().u32(500).unwrap().end().unwrap();
        assert!(decode_push(&twice.into_writer().into()).is_err());
    }

    #[tokio::test]
    async fn a_page_is_what_serde_decodes() {
        let batches: Vec<StoredBatch> = (0_u8..3)
            .map(|n| StoredBatch {
                batch_id: BatchId::from_bytes([n; 16]),
                device_id: DeviceId::from_bytes([n + 1; 16]),
                key_id: KeyId::from_bytes([n + 2; 16]),
                first_seq: u64::from(n) << 40,
                count: u32::from(n) * 200,
                sealed: vec![n; usize::from(n) * 40_000].into(),
            })
            .collect();
        let cursor = Cursor::at(Position {
            seq: 7,
            head: Head::from_bytes([8; 32]),
        });
        for (batches, has_more) in [(batches, true), (Vec::new(), false)] {
            let permit = Pool::new("test", 1, 1).try_take(Owners::NOBODY, 1).unwrap();
            let body = encode_page(batches.clone(), &cursor, has_more, permit).unwrap();
            let announced = http_body::Body::size_hint(&body).exact().unwrap();
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(announced, bytes.len() as u64);
            let page: Page = minicbor_serde::from_slice(&bytes).unwrap();
            assert_eq!((page.cursor, page.has_more), (cursor, has_more));
            let sealed: Vec<_> = page.batches.iter().map(|batch| batch.sealed.0.clone()).collect();
            assert_eq!(
                sealed,
                batches.iter().map(|batch| batch.sealed.to_vec()).collect::<Vec<_>>()
            );
            assert_eq!(minicbor_serde::to_vec(&page).unwrap(), bytes);
        }
    }
}
