//! CBOR to entries; refuses everything that the encoder would not write.

use minicbor::{Decoder, data::Type};
use serde_json::{Map, Number, Value};
use synckit_protocol::limits::DATA_DEPTH_MAX;
use uuid::Uuid;

use super::{
    ChangeEntry, ChangeOp, Timestamp,
    encode::{head_len, parse_uuid},
};
use crate::OpenError;

/// The most elements that are allocated because of a claimed length. Beyond it, a container grows with its actual
/// elements, so that nested false lengths cost no memory.
const PREALLOCATED_MAX: usize = 512;

/// Decodes a body of at most `entries_max` entries.
pub(crate) fn decode_body(body: &[u8], entries_max: u32) -> Result<Vec<ChangeEntry>, OpenError> {
    let mut cbor = Canonical(Decoder::new(body));
    let entries = read_body(&mut cbor, entries_max as usize).map_err(|Rule(reason)| OpenError::Malformed { reason })?;
    if cbor.0.position() == body.len() {
        Ok(entries)
    } else {
        Err(OpenError::Malformed {
            reason: "bytes after the body",
        })
    }
}

/// The rule that a body breaks.
struct Rule(&'static str);

/// A body that is not CBOR, or contains an unexpected item.
const NOT_CBOR: Rule = Rule("not the CBOR item expected here");

impl From<minicbor::decode::Error> for Rule {
    fn from(_: minicbor::decode::Error) -> Self {
        NOT_CBOR
    }
}

fn read_body(cbor: &mut Canonical<'_>, entries_max: usize) -> Result<Vec<ChangeEntry>, Rule> {
    if cbor.array()? != 2 {
        return Err(Rule("a body has two parts"));
    }
    let mut names = ReadNames::read(cbor)?;
    let count = cbor.array()?;
    if count == 0 || count > entries_max {
        return Err(Rule("too many entries, or none"));
    }
    let mut entries = Vec::with_capacity(count.min(PREALLOCATED_MAX));
    for _ in 0..count {
        entries.push(read_entry(cbor, &mut names)?);
    }
    if names.used == names.list.len() {
        Ok(entries)
    } else {
        Err(Rule("a name that is not used"))
    }
}

fn read_entry(cbor: &mut Canonical<'_>, names: &mut ReadNames<'_>) -> Result<ChangeEntry, Rule> {
    let has_data = match cbor.array()? {
        4 => false,
        5 => true,
        _ => return Err(Rule("an entry has four or five parts")),
    };
    let (_, table) = names.look_up(cbor.unsigned()?)?;
    let op = match cbor.unsigned()? {
        0 => ChangeOp::Insert,
        1 => ChangeOp::Update,
        2 => ChangeOp::Delete,
        _ => return Err(Rule("unknown operation")),
    };
    let row_id = match cbor.0.datatype()? {
        Type::Bytes => {
            let uuid = Uuid::from_slice(cbor.bytes()?).map_err(|_| Rule("a row id of bytes is a UUID"))?;
            uuid.as_hyphenated().to_string()
        }
        _ => {
            let text = cbor.text()?;
            if parse_uuid(text).is_some() {
                return Err(Rule("a row id that is a UUID is 16 bytes"));
            }
            text.to_owned()
        }
    };
    let timestamp = Timestamp::from_micros(cbor.signed()?);
    let data = match has_data.then(|| cbor.0.datatype()).transpose()? {
        None => None,
        Some(Type::Map) => Some(Value::Object(read_row(cbor, names)?)),
        Some(_) => Some(read_value(cbor, 0)?),
    };
    Ok(ChangeEntry {
        table: table.to_owned(),
        op,
        row_id,
        timestamp,
        data,
    })
}

/// An object at the top of the data, whose keys are indexes into the names.
fn read_row(cbor: &mut Canonical<'_>, names: &mut ReadNames<'_>) -> Result<Map<String, Value>, Rule> {
    let count = cbor.map()?;
    let mut row = Map::new();
    let mut previous_index = None;
    let mut previous_fresh = None;
    for _ in 0..count {
        let index = cbor.unsigned()?;
        if previous_index.is_some_and(|previous| previous >= index) {
            return Err(Rule("fields that are not in ascending order"));
        }
        previous_index = Some(index);
        let (fresh, name) = names.look_up(index)?;
        if fresh {
            if previous_fresh.is_some_and(|previous| previous >= name) {
                return Err(Rule("new names that are not in ascending order"));
            }
            previous_fresh = Some(name);
        }
        row.insert(name.to_owned(), read_value(cbor, 1)?);
    }
    Ok(row)
}

/// Any value below the top of the data. `depth` counts the arrays and objects around it.
fn read_value(cbor: &mut Canonical<'_>, depth: usize) -> Result<Value, Rule> {
    Ok(match cbor.0.datatype()? {
        Type::Null => {
            cbor.0.null()?;
            Value::Null
        }
        Type::Bool => Value::Bool(cbor.0.bool()?),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::Number(cbor.unsigned()?.into()),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Value::Number(cbor.signed()?.into()),
        Type::F64 => {
            // `from_f64` refuses infinities and NaN.
            Value::Number(Number::from_f64(cbor.0.f64()?).ok_or(Rule("a float that is not finite"))?)
        }
        Type::String => Value::String(cbor.text()?.to_owned()),
        Type::Array => {
            let depth = deeper(depth)?;
            let count = cbor.array()?;
            let mut items = Vec::with_capacity(count.min(PREALLOCATED_MAX));
            for _ in 0..count {
                items.push(read_value(cbor, depth)?);
            }
            Value::Array(items)
        }
        Type::Map => {
            let depth = deeper(depth)?;
            let count = cbor.map()?;
            let mut fields = Map::new();
            let mut previous: Option<&str> = None;
            for _ in 0..count {
                let name = cbor.text()?;
                if previous.is_some_and(|previous| (previous.len(), previous) >= (name.len(), name)) {
                    return Err(Rule("keys that are not in ascending order"));
                }
                previous = Some(name);
                fields.insert(name.to_owned(), read_value(cbor, depth)?);
            }
            Value::Object(fields)
        }
        _ => return Err(NOT_CBOR),
    })
}

const fn deeper(depth: usize) -> Result<usize, Rule> {
    if depth < DATA_DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(Rule("nested too deeply"))
    }
}

/// The names of a body, and how many were used so far: names are in the order of first use.
struct ReadNames<'b> {
    list: Vec<&'b str>,
    used: usize,
}

impl<'b> ReadNames<'b> {
    fn read(cbor: &mut Canonical<'b>) -> Result<Self, Rule> {
        let count = cbor.array()?;
        let mut list = Vec::with_capacity(count.min(PREALLOCATED_MAX));
        for _ in 0..count {
            list.push(cbor.text()?);
        }
        let mut sorted = list.clone();
        sorted.sort_unstable();
        if sorted
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if one == other))
        {
            return Err(Rule("a name that occurs twice"));
        }
        Ok(Self { list, used: 0 })
    }

    /// The name at an index, and whether this is its first use.
    fn look_up(&mut self, index: u64) -> Result<(bool, &'b str), Rule> {
        let index = usize::try_from(index).map_err(|_| Rule("an index beyond the names"))?;
        let name = self.list.get(index).ok_or(Rule("an index beyond the names"))?;
        if index > self.used {
            return Err(Rule("names that are not in the order of first use"));
        }
        let fresh = index == self.used;
        if fresh {
            self.used += 1;
        }
        Ok((fresh, name))
    }
}

/// A decoder that refuses forms that RFC 8949, section 4.2.1, calls non-preferred: lengths and integers longer than
/// needed, and indefinite lengths.
struct Canonical<'b>(Decoder<'b>);

impl<'b> Canonical<'b> {
    /// Fails unless the item that began at `start` took `head_len(argument) + content` bytes.
    fn check(&self, start: usize, argument: u64, content: usize) -> Result<(), Rule> {
        if self.0.position() == start + head_len(argument) + content {
            Ok(())
        } else {
            Err(Rule("an integer or a length that is not in its shortest form"))
        }
    }

    fn unsigned(&mut self) -> Result<u64, Rule> {
        let start = self.0.position();
        let value = self.0.u64()?;
        self.check(start, value, 0)?;
        Ok(value)
    }

    fn signed(&mut self) -> Result<i64, Rule> {
        let start = self.0.position();
        let value = self.0.i64()?;
        // A negative n is encoded as -1 - n, whose bits are those of n inverted.
        let argument = if value < 0 { !value } else { value };
        self.check(start, argument.unsigned_abs(), 0)?;
        Ok(value)
    }

    fn text(&mut self) -> Result<&'b str, Rule> {
        let start = self.0.position();
        let value = self.0.str()?;
        self.check(start, value.len() as u64, value.len())?;
        Ok(value)
    }

    fn bytes(&mut self) -> Result<&'b [u8], Rule> {
        let start = self.0.position();
        let value = self.0.bytes()?;
        self.check(start, value.len() as u64, value.len())?;
        Ok(value)
    }

    fn array(&mut self) -> Result<usize, Rule> {
        let start = self.0.position();
        let count = self.0.array()?.ok_or(Rule("an indefinite length"))?;
        self.check(start, count, 0)?;
        usize::try_from(count).map_err(|_| NOT_CBOR)
    }

    fn map(&mut self) -> Result<usize, Rule> {
        let start = self.0.position();
        let count = self.0.map()?.ok_or(Rule("an indefinite length"))?;
        self.check(start, count, 0)?;
        usize::try_from(count).map_err(|_| NOT_CBOR)
    }
}
