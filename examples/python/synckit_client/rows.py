"""`docs/rows.md`: rows of SQLite tables as entries.

A value of a database is None, int, float, str (text in UTF-8), bytes (a blob), or one of the three classes below.
"""

import base64
import binascii
import math
import re
import struct
import uuid
from dataclasses import dataclass
from typing import Any

from .body import Entry
from .errors import NotARow
from .primitives import sha256, u8, u64

INLINE_BYTES_MAX = 65_536
OWN_ID_BYTES_MAX = 255
HASHED_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class OddText:
    """A text that is not UTF-8."""

    bytes: bytes


@dataclass(frozen=True)
class RowRef:
    """A reference to another row."""

    id: str


@dataclass(frozen=True)
class FileRef:
    """A long text or blob."""

    kind: str
    sha256: bytes
    size: int


Value = Any


def columns(entry: Entry) -> tuple[dict[str, Value], dict[str, tuple[str, int]]]:
    """The columns of an insertion or update, and when those of a snapshot's row got their values: "changed" or "added", and the time."""
    row, times = entry.data, {}
    if entry.op == "insert" and type(row) is list and len(row) == 2:
        row, times = row
    if entry.op == "delete" or type(row) is not dict or type(times) is not dict:
        raise NotARow("no columns")
    since = {column: since_of(time) for column, time in times.items()}
    if not since.keys() <= row.keys() or ("changed", entry.timestamp) in since.values():
        raise NotARow("a time of no column, or of the entry")
    return {column: from_json(value) for column, value in row.items()}, since


def since_of(json: Any) -> tuple[str, int]:
    kind, time = ("changed", json) if type(json) is int else ("added", json.get("added")) if is_one_field(json) else ("", None)
    if type(time) is not int or not -(2**63) <= time < 2**63:
        raise NotARow("no time")
    return kind, time


def is_one_field(json: Any) -> bool:
    return type(json) is dict and len(json) == 1


def to_json(value: Value) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return {"real": "inf" if value > 0 else "-inf"}
    if isinstance(value, (str, bytes)) and len(raw(value)) > INLINE_BYTES_MAX:
        kind = "text" if isinstance(value, str) else "blob"
        return {"file": {"as": kind, "sha256": sha256(raw(value)).hex(), "size": len(raw(value))}}
    if isinstance(value, bytes):
        return {"blob": to_base64(value)}
    if isinstance(value, OddText):
        return {"text": to_base64(value.bytes)}
    if isinstance(value, RowRef):
        return {"row": value.id}
    if isinstance(value, FileRef):
        return {"file": {"as": value.kind, "sha256": value.sha256.hex(), "size": value.size}}
    return value


def from_json(json: Any) -> Value:
    """The value of a field. `NotARow` for what no writer makes."""
    if json is None:
        return None
    if type(json) is int and -(2**63) <= json < 2**63:
        return json
    if type(json) is float and math.isfinite(json) and not (json == 0 and math.copysign(1, json) < 0):
        return json
    if type(json) is str and len(json.encode()) <= INLINE_BYTES_MAX:
        return json
    if type(json) is dict and len(json) == 1:
        (field, content), = json.items()
        return from_object(field, content)
    raise NotARow("no value of SQLite")


def from_object(field: str, content: Any) -> Value:
    if field == "real" and content in ("inf", "-inf"):
        return float(content)
    if field == "blob":
        return inline(from_base64(content))
    if field == "text":
        text = inline(from_base64(content))
        if is_utf8(text):
            raise NotARow("valid UTF-8 in an object")
        return OddText(text)
    if field == "row" and type(content) is str:
        return RowRef(content)
    if field == "file":
        return from_file(content)
    raise NotARow("an object that is no value")


def from_file(content: Any) -> FileRef:
    if type(content) is not dict or content.keys() != {"as", "sha256", "size"}:
        raise NotARow("not the fields of a file")
    kind, digest, size = content["as"], content["sha256"], content["size"]
    if kind not in ("text", "blob") or type(digest) is not str or not re.fullmatch("[0-9a-f]{64}", digest):
        raise NotARow("no kind, or no hash")
    if type(size) is not int or not INLINE_BYTES_MAX < size < 2**64:
        raise NotARow("not the size of a file")
    return FileRef(kind, bytes.fromhex(digest), size)


def key_id(key: list[Value]) -> str:
    """The id of a row whose key has these values."""
    if len(key) == 1:
        if type(key[0]) is int:
            return str(key[0])
        if isinstance(key[0], RowRef):
            return key[0].id
        if isinstance(key[0], str) and is_own_id(key[0]):
            return key[0]
    return hashed_id(key_bytes(key))


def key_bytes(key: list[Value]) -> bytes:
    return b"synckit/1 row key\0" + b"".join(map(item, map(as_key, key)))


def birth_id(table: str, row: dict[str, Value], ordinal: int) -> str:
    return hashed_id(birth_bytes(table, row, ordinal))


def birth_bytes(table: str, row: dict[str, Value], ordinal: int) -> bytes:
    columns = sorted(row, key=lambda column: column.encode())
    fields = b"".join(name(column) + item(row[column]) for column in columns)
    return b"synckit/1 row birth\0" + name(table) + u64(ordinal) + fields


def random_id(random: bytes) -> str:
    return str(uuid.UUID(bytes=random, version=4))


def hashed_id(hashed: bytes) -> str:
    first = bytearray(sha256(hashed)[:16])
    first[6] = first[6] & 0x0F | 0x80
    first[8] = first[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(first)))


def as_key(value: Value) -> Value:
    """SQLite takes 1 and 1.0 for one key."""
    if isinstance(value, float) and value.is_integer() and -(2.0**63) <= value < 2.0**63:
        return int(value)
    return value


def is_own_id(text: str) -> bool:
    if len(text.encode()) > OWN_ID_BYTES_MAX or HASHED_ID.fullmatch(text):
        return False
    is_integer = re.fullmatch("0|-?[1-9][0-9]{0,18}", text) and -(2**63) <= int(text) < 2**63
    return not is_integer


def item(value: Value) -> bytes:
    if value is None:
        return u8(0)
    if type(value) is int:
        return u8(1) + value.to_bytes(8, "big", signed=True)
    if isinstance(value, float):
        return u8(2) + struct.pack(">d", value)
    if isinstance(value, (str, OddText)):
        return u8(3) + sized(raw(value))
    if isinstance(value, bytes):
        return u8(4) + sized(value)
    if isinstance(value, RowRef):
        return u8(5) + sized(value.id.encode())
    return u8(6) + u8(3 if value.kind == "text" else 4) + u64(value.size) + value.sha256


def raw(value: str | bytes | OddText) -> bytes:
    if isinstance(value, OddText):
        return value.bytes
    return value.encode() if isinstance(value, str) else value


def name(text: str) -> bytes:
    return sized(text.encode())


def sized(field: bytes) -> bytes:
    return u64(len(field)) + field


def inline(field: bytes) -> bytes:
    if len(field) > INLINE_BYTES_MAX:
        raise NotARow("too long for an entry")
    return field


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def to_base64(field: bytes) -> str:
    return base64.urlsafe_b64encode(field).rstrip(b"=").decode()


def from_base64(text: Any) -> bytes:
    """Unpadded base64url in its only form."""
    if type(text) is not str or not re.fullmatch("[A-Za-z0-9_-]*", text):
        raise NotARow("no base64url")
    try:
        field = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise NotARow("no base64url") from error
    if to_base64(field) != text:
        raise NotARow("bits after the last byte")
    return field
