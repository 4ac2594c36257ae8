"""Sections 5.4, 5.5 and 5.8: positions, the hash chain, cursors, and what a client believes."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from .errors import HistoryForked, HistoryRewound, NotThisProtocol
from .primitives import sha256, u32, u64

SEQ_MAX = 2**64 - 1
COUNT_MAX = 2**32 - 1
CURSOR = re.compile(r"(?a:(0)|([1-9]\d{0,19})\.([A-Za-z0-9_-]{43}))")


@dataclass(frozen=True)
class Digest:
    """What the chain needs of a batch."""

    batch_id: bytes
    device_id: bytes
    key_id: bytes
    count: int
    sealed_hash: bytes

    def __post_init__(self) -> None:
        lengths = [len(self.batch_id), len(self.device_id), len(self.key_id), len(self.sealed_hash)]
        if lengths != [16, 16, 16, 32]:
            raise NotThisProtocol("an id of another length")
        if not 1 <= self.count <= COUNT_MAX:
            raise NotThisProtocol("a count that no batch has")


@dataclass(frozen=True)
class Position:
    """A place in a log: everything up to `seq`, whose content `head` stands for."""

    seq: int
    head: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.seq <= SEQ_MAX or len(self.head) != 32:
            raise NotThisProtocol("not a position")

    @classmethod
    def start(cls, app_id: bytes, user_id: bytes) -> "Position":
        return cls(0, sha256(b"synckit/1 stream\0", app_id, user_id))

    def advance(self, digest: Digest) -> "Position":
        if self.seq + digest.count > SEQ_MAX:
            raise NotThisProtocol("a count that the chain does not have")
        head = sha256(b"synckit/1 log\0", self.head, u64(self.seq + 1), u32(digest.count), digest.batch_id,
                      digest.device_id, digest.key_id, digest.sealed_hash)
        return Position(self.seq + digest.count, head)

    def follows(self, other: "Position") -> bool:
        return self.seq > other.seq or self == other

    def to_bytes(self) -> bytes:
        return u64(self.seq) + self.head

    @classmethod
    def from_bytes(cls, data: bytes) -> "Position":
        return cls(int.from_bytes(data[:8], "big"), data[8:])

    def cursor(self) -> str:
        if self.seq == 0:
            return "0"
        return f"{self.seq}.{urlsafe_b64encode(self.head).rstrip(b'=').decode()}"

    @classmethod
    def from_cursor(cls, cursor: str, start: "Position") -> "Position":
        """One text for each position: a cursor that would be written otherwise is refused."""
        match = CURSOR.fullmatch(cursor)
        if not match:
            raise NotThisProtocol("not a cursor")
        if match[1]:
            return start
        position = cls(int(match[2]), urlsafe_b64decode(match[3] + "="))
        if position.cursor() != cursor:
            raise NotThisProtocol("not a cursor")
        return position


class Walk:
    """Hashes forward from a believed position, and compares with the newest known one on the way."""

    def __init__(self, start: Position, known: Position | None):
        self.at = start
        self._known = known
        self._compare()

    def step(self, digest: Digest) -> None:
        before, self.at = self.at, self.at.advance(digest)
        if self._known and before.seq < self._known.seq < self.at.seq:
            raise HistoryForked("a batch reaches over the known position")
        self._compare()

    def end(self) -> None:
        """The server says that nothing follows: then nothing may be missing."""
        if self._known and self._known.seq > self.at.seq:
            raise HistoryRewound(f"the server holds {self.at.seq}, known is {self._known.seq}")

    def _compare(self) -> None:
        if self._known and self._known.seq == self.at.seq and self._known.head != self.at.head:
            raise HistoryForked(f"two histories at {self.at.seq}")
