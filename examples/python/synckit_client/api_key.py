"""Section 3.12: API keys."""

import re
from dataclasses import dataclass

from .errors import KeyKind, KeyMalformed
from .primitives import sha256

PUBLISHABLE = "skp_"
FORM = re.compile(r"(sk[pstw]_)([0-9a-f]{72})")


@dataclass(frozen=True)
class ApiKey:
    prefix: str
    app_id: bytes
    secret: bytes

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        form = FORM.fullmatch(text)
        if form is None:
            raise KeyMalformed
        fields = bytes.fromhex(form[2])
        key = cls(form[1], fields[:16], fields[16:32])
        if key.text() != text:
            raise KeyMalformed
        return key

    def text(self) -> str:
        fields = self.app_id + self.secret
        checksum = sha256(b"synckit/1 api key\0" + self.prefix.encode() + fields)[:4]
        return self.prefix + (fields + checksum).hex()


def check_publishable(text: str) -> None:
    """Before a key is sent: a secret that was put into an app by mistake stays on the machine."""
    prefix = ApiKey.parse(text).prefix
    if prefix != PUBLISHABLE:
        raise KeyKind(f"an app takes a key that begins with {PUBLISHABLE}, this one begins with {prefix}")
