//! Entries to CBOR (RFC 8949), in the only form that the protocol allows.

use std::{collections::BTreeMap, convert::Infallible};

use minicbor::{
    Encoder,
    encode::{self, Write},
};
use serde_json::{Map, Number, Value};
use synckit_protocol::limits::{BATCH_PLAINTEXT_BYTES_MAX, DATA_DEPTH_MAX, ENTRY_BYTES_MAX};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    ChangeEntry, ChangeOp,
    body::{FRAME_BYTES, begin_frame, end_frame},
    number::{NumberKind, kind_of},
};
use crate::padded_len;

/// An entry that cannot be pushed.
///
/// # Examples
/// ```
/// use synckit_crypto::batch::{BatchBody, ChangeEntry, ChangeOp, EncodeErrorKind, Timestamp};
///
/// # let change = |data| ChangeEntry {
/// #     table: "notes".into(), op: ChangeOp::Insert, row_id: "1".into(),
/// #     timestamp: Timestamp::default(), data: Some(data),
/// # };
/// let deep = (0..200).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
/// let error = BatchBody::encode(&[change(serde_json::json!({})), change(deep)]).unwrap_err();
/// assert_eq!((error.index, error.kind), (1, EncodeErrorKind::TooDeep)); // the second of the two
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} cannot be encoded")]
pub struct EncodeError {
    /// The index of the entry in the given slice.
    pub index: usize,
    /// The reason.
    #[source]
    pub kind: EncodeErrorKind,
}

/// The reason why an entry cannot be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The list of entries is empty: a batch holds at least one.
    #[error("there are no entries")]
    NoEntries,

    /// The entry exceeds [`ENTRY_BYTES_MAX`]: its encoding, with the names of its table and fields.
    #[error("the entry is larger than 3 MiB: store its large value as a blob")]
    EntryTooLarge,

    /// The entry and the earlier ones do not fit one batch.
    #[error("the entries do not fit one batch: 500 entries and 4 MiB")]
    BatchTooLarge,

    /// A number is neither a `u64` nor an `i64`, and no finite `f64` has its value: the shortest decimal form of the
    /// nearest one is a different number.
    #[error("a number of the entry is not a u64, an i64 or a finite f64")]
    UnsupportedNumber,

    /// The data is nested deeper than [`DATA_DEPTH_MAX`] arrays and objects.
    #[error("the data is nested deeper than 128 levels")]
    TooDeep,
}

/// Encodes as many entries as fit `entries_max` and 4 MiB of padded plaintext. Returns their number, and the plaintext.
pub(crate) fn encode_prefix(entries: &[ChangeEntry], entries_max: u32) -> Result<(usize, Vec<u8>), EncodeError> {
    let mut encoder = BodyEncoder::new();
    let mut taken = 0;
    for (index, entry) in entries.iter().take(entries_max as usize).enumerate() {
        match encoder.push(entry) {
            Ok(Pushed::Fits) => taken += 1,
            Ok(Pushed::Full) => break,
            Err(kind) => return Err(EncodeError { index, kind }),
        }
    }
    if taken == 0 {
        return Err(EncodeError {
            index: 0,
            kind: EncodeErrorKind::NoEntries,
        });
    }
    Ok((taken, encoder.finish()))
}

/// The most bytes that an entry can add to a body, whatever the earlier entries: as if no other entry used its names,
/// and each of them had the longest index.
pub(crate) fn entry_len_max(entry: &ChangeEntry) -> Result<usize, EncodeErrorKind> {
    /// The most bytes of an index after the first.
    const INDEX_GROWTH: usize = 4;
    let mut encoder = BodyEncoder::new();
    let names_len = encoder.entry(entry)?;
    let names = 1 + entry.data.as_ref().and_then(Value::as_object).map_or(0, Map::len);
    Ok(encoder
        .entries
        .bytes
        .len()
        .saturating_add(names_len)
        .saturating_add(INDEX_GROWTH.saturating_mul(names)))
}

/// Whether an entry fit.
enum Pushed {
    Fits,
    Full,
}

/// A body under construction. The names come first in the body but are known last, so entries are collected separately.
struct BodyEncoder<'a> {
    names: Names<'a>,
    entries: SecretBuffer,
    count: usize,
    /// The fields of the current entry, kept to save an allocation for each.
    fields: Vec<(u32, &'a Value)>,
    /// The fields among them whose names are new.
    fresh: Vec<(&'a str, &'a Value)>,
}

impl<'a> BodyEncoder<'a> {
    fn new() -> Self {
        Self {
            names: Names::default(),
            entries: SecretBuffer::default(),
            count: 0,
            fields: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// Adds an entry; an entry that does not fit changes nothing. After an error the body is useless.
    fn push(&mut self, entry: &'a ChangeEntry) -> Result<Pushed, EncodeErrorKind> {
        let (bytes_before, names_before) = (self.entries.bytes.len(), self.names.list.len());
        self.entry(entry)?;
        self.count += 1;
        if padded_len(FRAME_BYTES + self.body_len()) <= BATCH_PLAINTEXT_BYTES_MAX {
            return Ok(Pushed::Fits);
        }
        self.count -= 1;
        self.entries.truncate(bytes_before);
        self.names.truncate(names_before);
        Ok(Pushed::Full)
    }

    /// Writes an entry. Returns the encoded length of the names that it uses.
    fn entry(&mut self, entry: &'a ChangeEntry) -> Result<usize, EncodeErrorKind> {
        let bytes_before = self.entries.bytes.len();
        // Without its names, so that a larger entry stops early.
        self.entries.limit = bytes_before.saturating_add(ENTRY_BYTES_MAX);
        let table = self.names.table(&entry.table);
        let mut names_len = text_len(entry.table.len());
        let mut encoder = Encoder::new(&mut self.entries);
        encoder.array(4 + u64::from(entry.data.is_some()))?.u32(table)?;
        encoder.u8(match entry.op {
            ChangeOp::Insert => 0,
            ChangeOp::Update => 1,
            ChangeOp::Delete => 2,
        })?;
        match parse_uuid(&entry.row_id) {
            Some(uuid) => encoder.bytes(uuid.as_bytes())?,
            None => encoder.str(&entry.row_id)?,
        };
        encoder.i64(entry.timestamp.as_micros())?;
        match &entry.data {
            None => {}
            Some(Value::Object(row)) => names_len += self.row(row)?,
            Some(value) => encode_value(&mut encoder, value, 0)?,
        }
        let entry_len = self.entries.bytes.len() - bytes_before;
        if entry_len.saturating_add(names_len) > ENTRY_BYTES_MAX {
            return Err(EncodeErrorKind::EntryTooLarge);
        }
        Ok(names_len)
    }

    /// Writes an object at the top of the data: indexes of names as keys, ascending. Returns as [`Self::entry`].
    fn row(&mut self, row: &'a Map<String, Value>) -> Result<usize, EncodeErrorKind> {
        self.fields.clear();
        self.fresh.clear();
        let mut names_len = 0;
        for (position, (name, value)) in row.iter().enumerate() {
            names_len += text_len(name.len());
            match self.names.field(position, name) {
                Some(index) => self.fields.push((index, value)),
                None => self.fresh.push((name, value)),
            }
        }
        // New names are numbered in byte order, whatever order serde_json keeps (which depends on its features).
        self.fresh.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in &self.fresh {
            self.fields.push((self.names.add(name), value));
        }
        self.fields.sort_unstable_by_key(|(index, _)| *index);
        let mut encoder = Encoder::new(&mut self.entries);
        encoder.map(self.fields.len() as u64)?;
        for (index, value) in &self.fields {
            encoder.u32(*index)?;
            encode_value(&mut encoder, value, 1)?;
        }
        Ok(names_len)
    }

    /// The length of the body so far.
    fn body_len(&self) -> usize {
        1 + head_len(self.names.list.len() as u64)
            + self.names.encoded_len
            + head_len(self.count as u64)
            + self.entries.bytes.len()
    }

    /// The framed and padded plaintext.
    fn finish(self) -> Vec<u8> {
        let mut encoder = Encoder::new(begin_frame(self.body_len()));
        let written = self.head(&mut encoder);
        debug_assert!(written.is_ok(), "a Vec refuses no write");
        let mut plaintext = encoder.into_writer();
        plaintext.extend_from_slice(&self.entries.bytes);
        end_frame(&mut plaintext);
        plaintext
    }

    /// Writes everything before the entries.
    fn head(&self, encoder: &mut Encoder<Vec<u8>>) -> Result<(), encode::Error<Infallible>> {
        encoder.array(2)?.array(self.names.list.len() as u64)?;
        for name in &self.names.list {
            encoder.str(name)?;
        }
        encoder.array(self.count as u64)?.ok()
    }
}

/// Each distinct table and top-level field name once, in the order of first use.
#[derive(Default)]
struct Names<'a> {
    list: Vec<&'a str>,
    /// A tree instead of a hash table: it needs no random seed, and no input makes it slow.
    index: BTreeMap<&'a str, u32>,
    /// The encoded length of the list.
    encoded_len: usize,
    /// The index of the last table, and of the last field at each position. Rows of a table mostly have the same
    /// fields, so one comparison finds most names.
    last_table: u32,
    last_fields: Vec<u32>,
}

impl<'a> Names<'a> {
    fn table(&mut self, name: &'a str) -> u32 {
        if !self.is_at(self.last_table, name) {
            self.last_table = match self.index.get(name) {
                Some(index) => *index,
                None => self.add(name),
            };
        }
        self.last_table
    }

    /// The index of a field's name, if it has one. `position` is the field's place in its row.
    fn field(&mut self, position: usize, name: &str) -> Option<u32> {
        if let Some(guess) = self.last_fields.get(position)
            && self.is_at(*guess, name)
        {
            return Some(*guess);
        }
        let index = *self.index.get(name)?;
        if self.last_fields.len() <= position {
            self.last_fields.resize(position + 1, index);
        }
        if let Some(guess) = self.last_fields.get_mut(position) {
            *guess = index;
        }
        Some(index)
    }

    fn is_at(&self, index: u32, name: &str) -> bool {
        self.list.get(index as usize).is_some_and(|at| *at == name)
    }

    fn add(&mut self, name: &'a str) -> u32 {
        // Below 4 Mi, because every name takes a byte of the plaintext.
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(name);
        self.index.insert(name, index);
        self.encoded_len = self.encoded_len.saturating_add(text_len(name.len()));
        index
    }

    fn truncate(&mut self, len: usize) {
        for name in self.list.drain(len..) {
            self.index.remove(name);
            self.encoded_len -= text_len(name.len());
        }
    }
}

/// Writes any value below the top of the data. `depth` counts the arrays and objects around it.
fn encode_value(encoder: &mut Encoder<&mut SecretBuffer>, value: &Value, depth: usize) -> Result<(), EncodeErrorKind> {
    match value {
        Value::Null => encoder.null()?.ok()?,
        Value::Bool(bool) => encoder.bool(*bool)?.ok()?,
        Value::Number(number) => encode_number(encoder, number)?,
        Value::String(text) => encoder.str(text)?.ok()?,
        Value::Array(items) => {
            let depth = deeper(depth)?;
            encoder.array(items.len() as u64)?;
            for item in items {
                encode_value(encoder, item, depth)?;
            }
        }
        Value::Object(fields) => {
            let depth = deeper(depth)?;
            encoder.map(fields.len() as u64)?;
            // RFC 8949, section 4.2.1: in the order of the bytes of the encoded keys, so shorter keys come first.
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| (name.len(), name.as_bytes()));
            for (name, value) in sorted {
                encoder.str(name)?;
                encode_value(encoder, value, depth)?;
            }
        }
    }
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, EncodeErrorKind> {
    if depth < DATA_DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(EncodeErrorKind::TooDeep)
    }
}

fn encode_number(encoder: &mut Encoder<&mut SecretBuffer>, number: &Number) -> Result<(), EncodeErrorKind> {
    match kind_of(number).ok_or(EncodeErrorKind::UnsupportedNumber)? {
        NumberKind::Unsigned(unsigned) => encoder.u64(unsigned)?,
        NumberKind::Signed(signed) => encoder.i64(signed)?,
        NumberKind::Float(float) => encoder.f64(float)?,
    };
    Ok(())
}

/// The UUID of a text that is a lower-case hyphenated UUID; `None` for any other text.
pub(super) fn parse_uuid(text: &str) -> Option<Uuid> {
    // At 36 bytes `try_parse` accepts only the hyphenated form, but in either case.
    if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse(text).ok()
}

/// The length of the head of a CBOR item with this argument.
pub(super) const fn head_len(argument: u64) -> usize {
    match argument {
        0..=0x17 => 1,
        0x18..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// The encoded length of a text.
const fn text_len(len: usize) -> usize {
    head_len(len as u64).saturating_add(len)
}

/// A growing buffer with a limit, which leaves no copy of its contents in memory.
#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct SecretBuffer {
    bytes: Vec<u8>,
    /// The limit in bytes.
    limit: usize,
}

impl SecretBuffer {
    fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.bytes.get_mut(len..) {
            rest.zeroize();
        }
        self.bytes.truncate(len);
    }

    /// Moves to a larger allocation and erases the present one, which `Vec` would free without erasing.
    #[cold]
    fn grow(&mut self, len: usize) {
        let mut larger = Vec::with_capacity(len.next_power_of_two().max(4096));
        larger.extend_from_slice(&self.bytes);
        self.bytes.zeroize();
        self.bytes = larger;
    }
}

/// The buffer is full, because the entry is too large.
#[derive(Debug)]
struct Full;

impl Write for &mut SecretBuffer {
    type Error = Full;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let len = self.bytes.len().saturating_add(bytes.len());
        if len > self.limit {
            return Err(Full);
        }
        if len > self.bytes.capacity() {
            self.grow(len);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl From<encode::Error<Full>> for EncodeErrorKind {
    fn from(_: encode::Error<Full>) -> Self {
        Self::EntryTooLarge
    }
}
