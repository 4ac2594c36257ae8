"""Section 4.7: the owner key of a stream, and what it signs.

This client writes neither envelopes nor snapshots, so only `check_vectors.py` uses this.
"""

from nacl.signing import SigningKey

from .keys import Stream
from .position import Position
from .primitives import sha256, u32, u64


def owner_key(stream: Stream, master_key: bytes) -> SigningKey:
    return SigningKey(stream.subkey(master_key, b"synckit/1 owner"))


def envelope_message(stream: Stream, expected_version: int, key_id: bytes, owner: bytes, envelope: bytes,
                     head: Position | None, snapshot_id: bytes | None) -> bytes:
    return (b"synckit/1 envelope put\0" + stream.name() + u64(expected_version) + key_id + owner + sha256(envelope)
            + (head.to_bytes() if head else b"") + (snapshot_id or b""))


def snapshot_message(stream: Stream, snapshot_id: bytes, key_id: bytes, position: Position, parts: int,
                     manifest: bytes) -> bytes:
    return (b"synckit/1 snapshot put\0" + stream.name() + snapshot_id + key_id + position.to_bytes() + u32(parts)
            + sha256(manifest))
