"""Section 3.1: the client's side of OPAQUE (RFC 9807) in login suite 1.

The group is libsodium's ristretto255, by way of `rbcl`; everything else of the RFC is here. Names follow the RFC.
"""

import hashlib
import hmac
import os
import unicodedata
from dataclasses import dataclass
from typing import Callable

import rbcl
from nacl.bindings import crypto_pwhash_ALG_ARGON2ID13, crypto_pwhash_alg

from .errors import NotThisProtocol, WrongPassword
from .primitives import same, u8, u16

SUITE = 1
CONTEXT_LABEL = b"synckit/1 login suite 1"
OPRF_CONTEXT = b"OPRFV1-\x00-ristretto255-SHA512"
KE2_BYTES = 320


def normalize(password: str) -> bytes:
    """NFC and UTF-8, 1 to 1024 bytes. Nothing is trimmed."""
    text = unicodedata.normalize("NFC", password).encode()
    if not 1 <= len(text) <= 1024:
        raise WrongPassword("a password has 1 to 1024 bytes")
    return text


def argon2id(text: bytes) -> bytes:
    """The key stretching function of suite 1: a second of work for whoever guesses, and 64 MiB."""
    return crypto_pwhash_alg(64, text, bytes(16), 3, 64 * 1024 * 1024, crypto_pwhash_ALG_ARGON2ID13)


@dataclass(frozen=True)
class Suite:
    """What RFC 9807 leaves open. The RFC's own vectors choose otherwise: no key stretching, and identities."""

    context: bytes
    stretch: Callable[[bytes], bytes] = argon2id
    client_identity: bytes | None = None
    server_identity: bytes | None = None

    @classmethod
    def of_app(cls, app_id: bytes) -> "Suite":
        """Suite 1. The context names the app, so that nobody leads one app into the stream of another."""
        return cls(CONTEXT_LABEL + app_id)

    def identities(self, client_public_key: bytes, server_public_key: bytes) -> tuple[bytes, bytes]:
        """Without identities of their own, client and server are their public keys."""
        return (prefixed(self.client_identity or client_public_key),
                prefixed(self.server_identity or server_public_key))


@dataclass(frozen=True)
class LoginState:
    """The client's memory between KE1 and KE2."""

    password: bytes
    blind: bytes
    secret: bytes
    ke1: bytes


@dataclass(frozen=True)
class Login:
    """The end of a login."""

    ke3: bytes
    export_key: bytes
    server_public_key: bytes


@dataclass(frozen=True)
class Registration:
    """The end of a registration."""

    record: bytes
    export_key: bytes
    server_public_key: bytes


def login_start(password: bytes, blind: bytes | None = None, nonce: bytes | None = None, seed: bytes | None = None):
    """KE1. The randomness is given only to reproduce a vector."""
    blind = blind or random_scalar()
    secret, public = derive_key_pair(seed or os.urandom(32))
    ke1 = blinded(password, blind) + (nonce or os.urandom(32)) + public
    return LoginState(password, blind, secret, ke1), ke1


def login_finish(state: LoginState, ke2: bytes, suite: Suite) -> Login:
    """KE3 and the export key, or `WrongPassword`. The caller compares the server's key with the pinned one first."""
    if len(ke2) != KE2_BYTES:
        raise NotThisProtocol("KE2 has another length")
    evaluated, masking_nonce, masked_response = ke2[:32], ke2[32:64], ke2[64:192]
    server_share, server_mac = ke2[224:256], ke2[256:]

    randomized_password = randomize(state.password, state.blind, evaluated, suite)
    pad = expand(expand(randomized_password, b"MaskingKey", 64), masking_nonce + b"CredentialResponsePad", 128)
    response = bytes(a ^ b for a, b in zip(masked_response, pad))
    server_public_key, envelope_nonce, auth_tag = response[:32], response[32:64], response[64:]
    keys = envelope_keys(randomized_password, envelope_nonce)
    if not same(auth_tag, envelope_tag(keys, envelope_nonce, server_public_key, suite)):
        raise WrongPassword

    client, server = suite.identities(keys.client_public_key, server_public_key)
    preamble = b"OPAQUEv1-" + prefixed(suite.context) + client + state.ke1 + server + ke2[:256]
    shared = (multiply(state.secret, server_share) + multiply(state.secret, server_public_key)
              + multiply(keys.client_secret_key, server_share))
    handshake_secret = derive_secret(mac(b"", shared), b"HandshakeSecret", sha512(preamble))
    expected = mac(derive_secret(handshake_secret, b"ServerMAC", b""), sha512(preamble))
    if not same(server_mac, expected):
        raise WrongPassword
    ke3 = mac(derive_secret(handshake_secret, b"ClientMAC", b""), sha512(preamble + expected))
    return Login(ke3, keys.export_key, server_public_key)


def registration_start(password: bytes, blind: bytes | None = None) -> tuple[bytes, bytes]:
    """The blind to remember, and the request."""
    blind = blind or random_scalar()
    return blind, blinded(password, blind)


def registration_finish(password: bytes, blind: bytes, response: bytes, suite: Suite,
                        nonce: bytes | None = None) -> Registration:
    """The record for the server, and the export key."""
    if len(response) != 64:
        raise NotThisProtocol("the registration response has another length")
    nonce = nonce or os.urandom(32)
    evaluated, server_public_key = response[:32], response[32:]
    randomized_password = randomize(password, blind, evaluated, suite)
    keys = envelope_keys(randomized_password, nonce)
    masking_key = expand(randomized_password, b"MaskingKey", 64)
    record = keys.client_public_key + masking_key + nonce + envelope_tag(keys, nonce, server_public_key, suite)
    return Registration(record, keys.export_key, server_public_key)


# RFC 9807, section 4: the envelope.


@dataclass(frozen=True)
class EnvelopeKeys:
    auth_key: bytes
    export_key: bytes
    client_secret_key: bytes
    client_public_key: bytes


def envelope_keys(randomized_password: bytes, nonce: bytes) -> EnvelopeKeys:
    secret, public = derive_key_pair(expand(randomized_password, nonce + b"PrivateKey", 32))
    return EnvelopeKeys(expand(randomized_password, nonce + b"AuthKey", 64),
                        expand(randomized_password, nonce + b"ExportKey", 64), secret, public)


def envelope_tag(keys: EnvelopeKeys, nonce: bytes, server_public_key: bytes, suite: Suite) -> bytes:
    client, server = suite.identities(keys.client_public_key, server_public_key)
    return mac(keys.auth_key, nonce + server_public_key + server + client)


def randomize(password: bytes, blind: bytes, evaluated: bytes, suite: Suite) -> bytes:
    """The output of the OPRF, made expensive to guess."""
    unblinded = multiply(rbcl.crypto_core_ristretto255_scalar_invert(blind), evaluated)
    oprf_output = sha512(prefixed(password) + prefixed(unblinded) + b"Finalize")
    return mac(b"", oprf_output + suite.stretch(oprf_output))


def derive_secret(secret: bytes, label: bytes, transcript_hash: bytes) -> bytes:
    label = b"OPAQUE-" + label
    return expand(secret, u16(64) + u8(len(label)) + label + u8(len(transcript_hash)) + transcript_hash, 64)


# RFC 9497: the OPRF, and RFC 9380's hash to the group with SHA-512.


def blinded(password: bytes, blind: bytes) -> bytes:
    element = rbcl.crypto_core_ristretto255_from_hash(expand_message(password, b"HashToGroup-" + OPRF_CONTEXT))
    return multiply(blind, element)


def derive_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    for counter in range(256):
        text = seed + prefixed(b"OPAQUE-DeriveDiffieHellmanKeyPair") + u8(counter)
        scalar = reduce(expand_message(text, b"DeriveKeyPair" + OPRF_CONTEXT))
        if any(scalar):
            return scalar, rbcl.crypto_scalarmult_ristretto255_base(scalar)
    raise NotThisProtocol("no key from this seed")


def expand_message(message: bytes, domain: bytes) -> bytes:
    """`expand_message_xmd` of RFC 9380 for the one length that is needed, 64 bytes."""
    domain += u8(len(domain))
    first = sha512(bytes(128) + message + u16(64) + u8(0) + domain)
    return sha512(first + u8(1) + domain)


def multiply(scalar: bytes, element: bytes) -> bytes:
    """Refuses what is not an element of the group, and the identity: both give nothing but an attack."""
    try:
        return rbcl.crypto_scalarmult_ristretto255(scalar, element)
    except (RuntimeError, TypeError, ValueError) as error:
        raise NotThisProtocol("not an element of ristretto255") from error


def random_scalar() -> bytes:
    return reduce(os.urandom(64))


def reduce(wide: bytes) -> bytes:
    """64 bytes, little-endian, modulo the order of the group."""
    return rbcl.crypto_core_ristretto255_scalar_reduce(wide)


def sha512(text: bytes) -> bytes:
    return hashlib.sha512(text).digest()


def mac(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA-512, which is also HKDF's extract step."""
    return hmac.digest(key, text, "sha512")


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-512's expand step."""
    block, out, number = b"", b"", 1
    while len(out) < length:
        block = mac(key, block + info + u8(number))
        out += block
        number += 1
    return out[:length]


def prefixed(text: bytes) -> bytes:
    return u16(len(text)) + text
