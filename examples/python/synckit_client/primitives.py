"""Sections 2.1 and 4.1: integers, the seal, HKDF and the subkeys of a master key."""

import hashlib
import hmac
import os

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

NONCE_BYTES = 24
SEAL_OVERHEAD_BYTES = 40


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def same(left: bytes, right: bytes) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(left, right)


def hkdf(salt: bytes, key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 with both steps (RFC 5869)."""
    extracted = hmac_sha256(salt, key)
    block, out, number = b"", b"", 1
    while len(out) < length:
        block = hmac_sha256(extracted, block + info + u8(number))
        out += block
        number += 1
    return out[:length]


def seal(key: bytes, aad: bytes, text: bytes, nonce: bytes | None = None) -> bytes:
    """`nonce` is given only to reproduce a vector: a nonce that is used twice under one key gives both texts away."""
    nonce = nonce or os.urandom(NONCE_BYTES)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(text, aad, nonce, key)


def unseal(key: bytes, aad: bytes, sealed: bytes) -> bytes | None:
    """What was sealed, or `None` if it was not sealed under this key with this associated data."""
    if len(sealed) < SEAL_OVERHEAD_BYTES:
        return None
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[NONCE_BYTES:], aad, sealed[:NONCE_BYTES], key)
    except CryptoError:
        return None


class Reader:
    """Takes fields off the front of a byte string; `ended` must be asked at the end, so that nothing trails."""

    def __init__(self, data: bytes, failure: type[Exception]):
        self._rest = data
        self._failure = failure

    def take(self, length: int) -> bytes:
        if len(self._rest) < length:
            raise self._failure("too short")
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def ended(self) -> None:
        if self._rest:
            raise self._failure("trailing bytes")
