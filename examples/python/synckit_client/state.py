"""Section 4.5: what a device keeps. Here that is what protects it, and no key: the password is asked for every time."""

import hashlib
import json
import os
from pathlib import Path

from .errors import NotThisProtocol, ServerKeyChanged
from .position import Position


class State:
    """A file, per server and API key: the server's OPAQUE key, and per user the newest position and key version."""

    def __init__(self, path: Path, server_url: str, api_key: str):
        self._path = path
        self._all = json.loads(path.read_text()) if path.exists() else {}
        place = f"{server_url} {hashlib.sha256(api_key.encode()).hexdigest()}"
        self._here = self._all.setdefault(place, {"streams": {}})

    def pin_server_key(self, key: bytes) -> None:
        """Another key than the first one is another server, which would learn to guess the password."""
        if self._here.setdefault("server_key", key.hex()) != key.hex():
            raise ServerKeyChanged
        self._write()

    def known(self, start: Position, user_id: bytes) -> Position | None:
        text = self._stream(user_id).get("known")
        return text and Position.from_cursor(text, start)

    def learn(self, user_id: bytes, position: Position) -> None:
        self._stream(user_id)["known"] = position.cursor()
        self._write()

    def key_version(self, user_id: bytes) -> int:
        return self._stream(user_id).get("key_version", 0)

    def learn_key_version(self, user_id: bytes, key_version: int) -> None:
        self._stream(user_id)["key_version"] = key_version
        self._write()

    def vault_edition(self, user_id: bytes) -> tuple[int, int]:
        return tuple(self._stream(user_id).get("vault_edition", (0, 0)))

    def learn_vault_edition(self, user_id: bytes, edition: tuple[int, int]) -> None:
        self._stream(user_id)["vault_edition"] = edition
        self._write()

    def _stream(self, user_id: bytes) -> dict:
        if len(user_id) != 16:
            raise NotThisProtocol("a user id of another length")
        return self._here["streams"].setdefault(user_id.hex(), {})

    def _write(self) -> None:
        """A crash leaves the old file or the new one."""
        new = self._path.with_name(self._path.name + ".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self._all, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
