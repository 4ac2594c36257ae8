"""Sections 5.2 and 5.3: entries, their one CBOR form, the frame and its padding.

There is exactly one body for a list of entries. So a reader decodes with an ordinary library, which is lenient, encodes
what it got, and refuses whatever is not byte for byte the same: that is every rule about order, lengths, tags, names
and forms at once. Only what two different bodies could share has checks of its own: sizes, depth, numbers.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import cbor2

from .errors import BatchForged, CannotPush
from .primitives import u8, u32

ENTRIES_MAX = 500
PLAINTEXT_BYTES_MAX = 4_194_304
ENTRY_BYTES_MAX = 3_145_728
DEPTH_MAX = 128
OPS = ("insert", "update", "delete")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
"""No data, which is not the same as `None`: data that is `null`."""


@dataclass(frozen=True)
class Entry:
    """One change of one row."""

    table: str
    op: str
    row_id: str
    timestamp: int
    data: Any = ABSENT

    def to_json(self) -> dict:
        fields = {"table": self.table, "op": self.op, "row_id": self.row_id, "timestamp": self.timestamp}
        return fields if self.data is ABSENT else {**fields, "data": self.data}

    @classmethod
    def from_json(cls, fields: dict) -> "Entry":
        return cls(fields["table"], fields["op"], fields["row_id"], fields["timestamp"], fields.get("data", ABSENT))


def encode_body(entries: list[Entry]) -> bytes:
    """The body of these entries. `CannotPush` if the format does not hold one of them."""
    names: dict[str, int] = {}
    arrays = [encoded_entry(entry, names) for entry in entries]
    try:
        return cbor2.dumps([list(names), arrays])
    except (UnicodeError, cbor2.CBOREncodeError) as error:
        raise CannotPush("not a text") from error


def encoded_entry(entry: Entry, names: dict[str, int]) -> list:
    """The array of an entry; adds the names that it is the first to use."""
    if entry.op not in OPS:
        raise CannotPush(f"not an operation: {entry.op}")
    if type(entry.timestamp) is not int or not -(2**63) <= entry.timestamp < 2**63:
        raise CannotPush("not a timestamp")
    for text in (entry.table, entry.row_id):
        if type(text) is not str:
            raise CannotPush("not a text")
    table = names.setdefault(entry.table, len(names))
    row_id = bytes.fromhex(entry.row_id.replace("-", "")) if UUID.fullmatch(entry.row_id) else entry.row_id
    array = [table, OPS.index(entry.op), row_id, entry.timestamp]
    if entry.data is ABSENT:
        return array
    if type(entry.data) is dict:
        for name in sorted(entry.data.keys() - names.keys(), key=lambda name: name.encode()):
            names[name] = len(names)
        fields = sorted((names[name], name) for name in entry.data)
        return [*array, {index: ordered(entry.data[name], 1) for index, name in fields}]
    return [*array, ordered(entry.data, 0)]


def ordered(value: Any, depth: int) -> Any:
    """The value with the keys of its objects in order; refuses what JSON or the format does not have."""
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int and -(2**63) <= value < 2**64:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) in (list, dict) and depth < DEPTH_MAX:
        if type(value) is list:
            return [ordered(item, depth + 1) for item in value]
        if all(type(key) is str for key in value):
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: ordered(value[key], depth + 1) for key in keys}
    raise CannotPush("a number, a depth or a type that the format does not have")


def entry_bytes(entry: Entry) -> int:
    """What `ENTRY_BYTES_MAX` counts: the entry's array, and the names of its table and top-level fields."""
    names: dict[str, int] = {}
    array = encoded_entry(entry, names)
    return len(cbor2.dumps(array)) + sum(len(cbor2.dumps(name)) for name in names)


def decode_body(body: bytes, count: int) -> list[Entry]:
    """The `count` entries, or `BatchForged` for everything that `encode_body` would not have written.

    How many entries there may be is for the caller to check: a batch and a part of a snapshot have different limits.
    """
    try:
        names, arrays = cbor2.loads(body)
        if len(arrays) != count:
            raise BatchForged("another number of entries")
        entries = [decoded_entry(array, names) for array in arrays]
        if encode_body(entries) != body:
            raise BatchForged("not the encoding of its entries")
    # The library and the checks above meet values of every kind here; whichever it was, the body is not one of ours.
    except (CannotPush, cbor2.CBORDecodeError, AttributeError, LookupError, TypeError, ValueError,
            RecursionError) as error:
        raise BatchForged("not a body") from error
    return entries


def decoded_entry(array: list, names: list[str]) -> Entry:
    table, op, row_id, timestamp, *data = array
    if type(row_id) is bytes:
        if len(row_id) != 16:
            raise BatchForged("a row id of another length")
        digits = row_id.hex()
        row_id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if not data:
        return Entry(names[table], OPS[op], row_id, timestamp)
    (value,) = data
    if type(value) is dict:
        value = {names[index]: field for index, field in value.items()}
    return Entry(names[table], OPS[op], row_id, timestamp, value)


def padme(length: int) -> int:
    """The padded length: at most 12 % more, and few enough different ones that sizes say little."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return (length + step - 1) // step * step


def frame(body: bytes) -> bytes:
    text = u8(0) + u32(len(body)) + body
    return text + bytes(padme(len(text)) - len(text))


def unframe(plaintext: bytes) -> bytes:
    """The body in a frame; `BatchForged` unless the padding is exactly the one that `frame` writes."""
    body = plaintext[5:5 + int.from_bytes(plaintext[1:5], "big")]
    if len(plaintext) > PLAINTEXT_BYTES_MAX or frame(body) != plaintext:
        raise BatchForged("not a frame")
    return body
