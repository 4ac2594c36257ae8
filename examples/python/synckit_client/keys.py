"""Section 4: recovery code, account vault, envelope, and which key may seal what."""

import os
import re
from dataclasses import dataclass

from mnemonic import Mnemonic

from .errors import KeyMaterialForged, UnsupportedFormat
from .position import Position
from .primitives import Reader, hkdf, hmac_sha256, same, seal, sha256, u8, u16, u32, u64, unseal

FORMAT = 1
HEADER_BYTES = 77
RETIRED_BYTES = 104
NO_SNAPSHOT = bytes(32)
RETIRED_KEYS_MAX = 24
PASSWORD, RECOVERY = 1, 2
SLOT_BYTES = 136
OTHER_SLOTS_MAX = 8
OTHER_SLOT_BYTES_MAX = 400
SLOT_LABELS = {PASSWORD: b"synckit/1 vault password", RECOVERY: b"synckit/1 vault recovery"}


@dataclass(frozen=True)
class Stream:
    """Whose data in which app: part of every derivation and of every associated data."""

    app_id: bytes
    user_id: bytes

    def name(self) -> bytes:
        return self.app_id + self.user_id

    def subkey(self, master_key: bytes, label: bytes, length: int = 32) -> bytes:
        return hkdf(self.name(), master_key, label, length)

    def key_id(self, master_key: bytes) -> bytes:
        return self.subkey(master_key, b"synckit/1 key id", 16)


# Section 4.2.


def recovery_entropy(words: str) -> bytes:
    """The 32 bytes behind 24 words. Case and everything between the words do not matter."""
    listed = re.findall(r"[a-z]+", words.lower())
    try:
        if len(listed) != 24:
            raise ValueError
        return bytes(Mnemonic("english").to_entropy(listed))
    except (LookupError, ValueError) as error:
        raise KeyMaterialForged("not a recovery code") from error


# Section 4.3.


@dataclass(frozen=True)
class Vault:
    """The account key, and the edition of the vault that it came from."""

    generation: int
    count: int
    account_key: bytes


def vault_generation(vault: bytes) -> int:
    """Unverified: enough to choose among earlier vaults, of which the right one is then opened."""
    return int.from_bytes(vault[1:5], "big")


def open_vault(vault: bytes, user_id: bytes, kind: int, secret: bytes) -> Vault:
    """`secret` is the export key of a login, or the entropy of a recovery code."""
    reader = Reader(vault, KeyMaterialForged)
    if reader.number(1) > FORMAT:
        raise UnsupportedFormat("vault")
    generation, count = reader.number(4), reader.number(4)
    slots = [(reader.number(1), reader.take(reader.number(2))) for _ in range(reader.number(1))]
    mac = reader.take(32)
    reader.ended()
    check_slots(slots)
    if vault[0] != FORMAT or 0 in (generation, count):
        raise KeyMaterialForged("vault")
    contents = dict(slots).get(kind)
    if contents is None:
        raise KeyMaterialForged("the vault has no recovery code")

    salt, commitment, wrapped = contents[:32], contents[32:64], contents[64:]
    wrapping_key, expected = slot_keys(salt, kind, user_id, secret)
    # The commitment comes first: without it, one answer of the server could test many passwords.
    account_key = unseal(wrapping_key, slot_aad(user_id, generation, kind), wrapped) if same(
        commitment, expected) else None
    if account_key is None or not same(mac, vault_mac(account_key, user_id, vault[:-32])):
        raise KeyMaterialForged("vault")
    return Vault(generation, count, account_key)


def check_slots(slots: list[tuple[int, bytes]]) -> None:
    """A password slot first, at most one recovery slot, then slots of kinds that a newer version knows."""
    kinds = [kind for kind, _ in slots]
    known = [kind for kind in kinds if kind <= RECOVERY]
    others = [contents for kind, contents in slots if kind > RECOVERY]
    if kinds != sorted(kinds) or known not in ([PASSWORD], [PASSWORD, RECOVERY]):
        raise KeyMaterialForged("slots of a vault")
    if any(len(contents) != SLOT_BYTES for kind, contents in slots if kind <= RECOVERY):
        raise KeyMaterialForged("a slot of another length")
    if len(others) > OTHER_SLOTS_MAX or any(len(contents) > OTHER_SLOT_BYTES_MAX for contents in others):
        raise KeyMaterialForged("more slots than there can be")


def make_vault(user_id: bytes, generation: int, account_key: bytes, export_key: bytes, salt: bytes | None = None,
               nonce: bytes | None = None) -> bytes:
    """The first vault of a generation, without a recovery slot."""
    salt = salt or os.urandom(32)
    wrapping_key, commitment = slot_keys(salt, PASSWORD, user_id, export_key)
    slot = salt + commitment + seal(wrapping_key, slot_aad(user_id, generation, PASSWORD), account_key, nonce)
    body = u8(FORMAT) + u32(generation) + u32(1) + u8(1) + u8(PASSWORD) + u16(len(slot)) + slot
    return body + vault_mac(account_key, user_id, body)


def slot_keys(salt: bytes, kind: int, user_id: bytes, secret: bytes) -> tuple[bytes, bytes]:
    both = hkdf(salt, secret, SLOT_LABELS[kind] + user_id, 64)
    return both[:32], both[32:]


def slot_aad(user_id: bytes, generation: int, kind: int) -> bytes:
    return b"synckit/1 vault\0" + user_id + u32(generation) + u8(kind)


def vault_mac(account_key: bytes, user_id: bytes, body: bytes) -> bytes:
    return hmac_sha256(hkdf(user_id, account_key, b"synckit/1 vault mac", 32), body)


# Section 4.4.


@dataclass(frozen=True)
class RetiredKey:
    """A replaced master key: where it ends, and the hash of the only snapshot that it may have sealed (or zeros)."""

    until: Position
    snapshot: bytes
    key: bytes

    def to_bytes(self) -> bytes:
        return self.until.to_bytes() + self.snapshot + self.key

    @classmethod
    def read(cls, reader: Reader) -> "RetiredKey":
        return cls(Position.from_bytes(reader.take(40)), reader.take(32), reader.take(32))


@dataclass(frozen=True)
class KeyRing:
    """The keys of a stream, the retired ones oldest first."""

    stream: Stream
    key_version: int
    master_key: bytes
    blob_id_key: bytes
    floor: Position
    retired: tuple[RetiredKey, ...]

    def current_key_id(self) -> bytes:
        return self.stream.key_id(self.master_key)

    def master_key_of(self, key_id: bytes) -> bytes | None:
        for key in [self.master_key, *(retired.key for retired in self.retired)]:
            if self.stream.key_id(key) == key_id:
                return key
        return None

    def permits(self, key_id: bytes, after: Position) -> bool:
        """Whether a batch under this key may end at this position."""
        if key_id == self.current_key_id():
            return True
        return any(retired.until.follows(after) for retired in self.retired_as(key_id))

    def permits_snapshot(self, key_id: bytes, position: Position, manifest: bytes) -> bool:
        """Whether this sealed manifest may be under this key: a retired one has sealed a single snapshot that counts."""
        if not self.permits(key_id, position):
            return False
        return key_id == self.current_key_id() or any(
            retired.snapshot != NO_SNAPSHOT and same(retired.snapshot, manifest) for retired in self.retired_as(key_id))

    def retired_as(self, key_id: bytes) -> list[RetiredKey]:
        return [retired for retired in self.retired if self.stream.key_id(retired.key) == key_id]

    def subkey(self, key_id: bytes, label: bytes) -> bytes | None:
        master_key = self.master_key_of(key_id)
        return master_key and self.stream.subkey(master_key, label)

    def safety_code(self) -> str:
        """Six words to compare with those of another device (section 4.8)."""
        digest = sha256(b"synckit/1 safety code\0" + self.stream.name() + u32(self.key_version)
                        + self.current_key_id() + self.floor.to_bytes())
        bits = int.from_bytes(digest, "big") >> 256 - 66
        return " ".join(Mnemonic("english").wordlist[bits >> shift & 0x7FF] for shift in range(55, -1, -11))

    def to_bytes(self) -> bytes:
        """The form in which a device keeps it (section 4.5)."""
        retired = b"".join(retired.to_bytes() for retired in self.retired)
        return (u8(FORMAT) + u32(self.key_version) + self.master_key + self.blob_id_key + self.floor.to_bytes()
                + u8(len(self.retired)) + retired)

    @classmethod
    def from_bytes(cls, stream: Stream, data: bytes) -> "KeyRing":
        """Reads what `to_bytes` wrote."""
        reader = Reader(data, KeyMaterialForged)
        if reader.number(1) != FORMAT:
            raise KeyMaterialForged("key ring")
        key_version, master_key, blob_id_key = reader.number(4), reader.take(32), reader.take(32)
        floor = Position.from_bytes(reader.take(40))
        retired = tuple(RetiredKey.read(reader) for _ in range(reader.number(1)))
        reader.ended()
        ring = cls(stream, key_version, master_key, blob_id_key, floor, retired)
        check_ring(ring)
        return ring


@dataclass(frozen=True)
class EnvelopeHeader:
    """What an envelope says about itself in the clear; bound to its content when it is opened."""

    vault_generation: int
    vault_count: int
    version: int
    key_version: int
    key_id: bytes
    floor: Position


def envelope_header(envelope: bytes) -> EnvelopeHeader:
    reader = Reader(envelope, KeyMaterialForged)
    format_ = reader.number(1)
    if format_ > FORMAT:
        raise UnsupportedFormat("envelope")
    header = EnvelopeHeader(reader.number(4), reader.number(4), reader.number(8), reader.number(4), reader.take(16),
                            Position.from_bytes(reader.take(40)))
    if format_ != FORMAT or 0 in (header.vault_generation, header.vault_count, header.version, header.key_version):
        raise KeyMaterialForged("envelope")
    return header


def open_envelope(envelope: bytes, stream: Stream, account_key: bytes) -> KeyRing:
    header = envelope_header(envelope)
    reader = Reader(envelope, KeyMaterialForged)
    header_bytes, salt, commitment = reader.take(HEADER_BYTES), reader.take(32), reader.take(32)
    wrapped = reader.take(104)
    history = reader.take(reader.number(2))
    mac = reader.take(32)
    reader.ended()

    both = hkdf(salt, account_key, b"synckit/1 kek" + stream.name(), 64)
    if not same(commitment, both[32:]):
        raise KeyMaterialForged("envelope")
    keys = unseal(both[:32], b"synckit/1 envelope\0" + stream.name() + header_bytes, wrapped)
    if keys is None or len(keys) != 64:
        raise KeyMaterialForged("envelope")
    master_key, blob_id_key = keys[:32], keys[32:]
    mac_key = stream.subkey(master_key, b"synckit/1 envelope mac")
    if stream.key_id(master_key) != header.key_id or not same(mac, hmac_sha256(mac_key, envelope[:-32])):
        raise KeyMaterialForged("envelope")

    retired = []
    if history:
        history_key = stream.subkey(master_key, b"synckit/1 envelope history")
        listed = unseal(history_key, b"synckit/1 envelope history\0" + stream.name() + header_bytes, history)
        # A history without keys has another encoding: none at all.
        if not listed or len(listed) % RETIRED_BYTES:
            raise KeyMaterialForged("envelope")
        entries = Reader(listed, KeyMaterialForged)
        retired = [RetiredKey.read(entries) for _ in range(len(listed) // RETIRED_BYTES)]
    ring = KeyRing(stream, header.key_version, master_key, blob_id_key, header.floor, tuple(retired))
    check_ring(ring)
    return ring


def check_ring(ring: KeyRing) -> None:
    if len(ring.retired) > RETIRED_KEYS_MAX or len(ring.retired) >= ring.key_version:
        raise KeyMaterialForged("more retired keys than there can be")
    ids = {ring.stream.key_id(retired.key) for retired in ring.retired} | {ring.current_key_id()}
    if len(ids) != len(ring.retired) + 1:
        raise KeyMaterialForged("a key occurs twice")
    before = Position.start(ring.stream.app_id, ring.stream.user_id)
    for position in [*(retired.until for retired in ring.retired), ring.floor]:
        if not position.follows(before):
            raise KeyMaterialForged("positions out of order")
        before = position


def make_envelope(ring: KeyRing, account_key: bytes, edition: tuple[int, int], version: int, salt: bytes | None = None,
                  wrap_nonce: bytes | None = None, history_nonce: bytes | None = None) -> bytes:
    stream = ring.stream
    header = (u8(FORMAT) + u32(edition[0]) + u32(edition[1]) + u64(version) + u32(ring.key_version) + ring.current_key_id()
              + ring.floor.to_bytes())
    salt = salt or os.urandom(32)
    both = hkdf(salt, account_key, b"synckit/1 kek" + stream.name(), 64)
    wrapped = seal(both[:32], b"synckit/1 envelope\0" + stream.name() + header, ring.master_key + ring.blob_id_key,
                   wrap_nonce)
    history = b""
    if ring.retired:
        history_key = stream.subkey(ring.master_key, b"synckit/1 envelope history")
        history = seal(history_key, b"synckit/1 envelope history\0" + stream.name() + header,
                       b"".join(retired.to_bytes() for retired in ring.retired), history_nonce)
    body = header + salt + both[32:] + wrapped + u16(len(history)) + history
    return body + hmac_sha256(stream.subkey(ring.master_key, b"synckit/1 envelope mac"), body)
