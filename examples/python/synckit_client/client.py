"""Sections 5.8 to 5.10, 6.4 and 7.2: pull, through snapshots too, push, and download of files."""

from typing import Iterator
from uuid import UUID, uuid4

from .api import Api
from .body import (ENTRIES_MAX, ENTRY_BYTES_MAX, PLAINTEXT_BYTES_MAX, Entry, decode_body, encode_body,
                   entry_bytes, frame, unframe)
from .errors import (BatchForged, BlobForged, CannotPush, HistoryForked, HistoryRewound, KeyRotated, NotThisProtocol,
                     Problem, SnapshotForged)
from .keys import KeyRing, envelope_header
from .position import Digest, Position, Walk
from .primitives import SEAL_OVERHEAD_BYTES, Reader, hmac_sha256, seal, sha256, u32, unseal
from .sign_in import fetch_envelope
from .state import State

PUSH_ATTEMPTS_MAX = 100
PART_ROWS_MAX = 50_000
PARTS_MAX = 16_384
# How often one pull begins again because its snapshot is gone.
RESTARTS_MAX = 4
BLOB_SEALED_BYTES_MAX = 500_000_040


class Client:
    """One device of one account in one app, whose keys are open."""

    def __init__(self, api: Api, state: State, ring: KeyRing, device_name: str):
        self._api, self._state, self._ring = api, state, ring
        self._start = Position.start(ring.stream.app_id, ring.stream.user_id)
        self._known = state.known(self._start, ring.stream.user_id)
        self._learn(ring.floor)
        device = api.call("POST", "/api/sync/devices", {"device_name": device_name, "platform": "linux"})
        self._device_id = device["id"]

    # Pull.

    def follow(self, cursor: str = "0") -> Iterator[tuple[list[Entry], str]]:
        """As `pull`, and then for ever: each time that the server tells of a new position."""
        for _ in self._api.positions():
            for entries, cursor in self.pull(cursor):
                yield entries, cursor

    def pull(self, cursor: str = "0") -> Iterator[tuple[list[Entry], str]]:
        """The changes after a cursor in verified pages, each with the cursor to go on from.

        From the start they begin with the rows of the newest snapshot. If a snapshot turns out to be damaged, the
        rows come once more from the start, by another way: applying them again changes nothing.
        """
        forged: dict[bytes, SnapshotForged] = {}
        restarts = 0
        while True:
            request = {"device_id": self._device_id, "cursor": cursor, "avoid_snapshot": bool(forged) or None}
            at = Position.from_cursor(cursor, self._start)
            known = self._known
            snapshot = None
            try:
                page = self._api.call("POST", "/api/sync/pull", request)
                snapshot = page.get("snapshot")
            except Problem as problem:
                if problem.code != "cursor_compacted":
                    raise self._diverged(problem, at) from problem
                snapshot = problem.body["snapshot"]
            if snapshot:
                try:
                    if snapshot["snapshot_id"] in forged:
                        raise forged[snapshot["snapshot_id"]]
                    cursor = yield from self._pull_snapshot(snapshot, at, known)
                except SnapshotForged as error:
                    if forged:
                        raise
                    forged[snapshot["snapshot_id"]] = error
                    cursor = "0"
                except Problem as problem:
                    # An honest server replaces a snapshot once in a while; another one would do it for ever.
                    restarts += 1
                    if problem.code != "snapshot_not_found" or restarts == RESTARTS_MAX:
                        raise
                    cursor = "0"
                continue

            entries, at = self._open_page(page, at, known)
            self._learn(at)
            cursor = at.cursor()
            yield entries, cursor
            if not page["has_more"]:
                return

    def _open_page(self, page: dict, at: Position, known: Position | None) -> tuple[list[Entry], Position]:
        walk = Walk(at, known)
        entries = []
        if not page["batches"] and page["has_more"]:
            raise NotThisProtocol("an empty page with more to come")
        for batch in page["batches"]:
            if batch["first_seq"] != walk.at.seq + 1 or not 1 <= batch["count"] <= ENTRIES_MAX:
                raise BatchForged("out of order")
            # Made first: it refuses ids of other lengths, which would move the bounds between the fields of the AAD.
            digest = digest_of(batch, sha256(batch["sealed"]))
            entries += self._open_batch(batch, walk.at)
            walk.step(digest)
            if not self._ring.permits(batch["key_id"], walk.at):
                raise BatchForged("under a key that was retired before")
        if page["cursor"] != walk.at.cursor():
            raise HistoryForked("the page ends elsewhere")
        if not page["has_more"]:
            walk.end()
        return entries, walk.at

    def _open_batch(self, batch: dict, parent: Position) -> list[Entry]:
        key = self._subkey(batch["key_id"], b"synckit/1 batch", BatchForged)
        plaintext = unseal(key, self._batch_aad(batch, parent), batch["sealed"])
        if plaintext is None:
            raise BatchForged(f"{batch['batch_id'].hex()} after {parent.seq}")
        return decode_body(unframe(plaintext), batch["count"])

    def _batch_aad(self, batch: dict, parent: Position) -> bytes:
        return (b"synckit/1 batch\0" + self._ring.stream.name() + batch["device_id"] + batch["batch_id"]
                + batch["key_id"] + u32(batch["count"]) + parent.to_bytes())

    def _subkey(self, key_id: bytes, label: bytes, forged: type[Exception]) -> bytes:
        key = self._ring.subkey(key_id, label)
        if key is None:
            # Another device changed the key, or the server made one up.
            if envelope_header(fetch_envelope(self._api)).key_version > self._ring.key_version:
                raise KeyRotated
            raise forged("under a key that no device made")
        return key

    def _diverged(self, problem: Problem, at: Position) -> Exception:
        """`history_diverged` for a position that was verified is what a server says that lost it, or lies."""
        if problem.code != "history_diverged":
            return problem
        latest = problem.body["latest"]["seq"]
        return HistoryRewound(f"to {latest}") if latest < at.seq else HistoryForked(f"at {at.seq}")

    def _learn(self, position: Position) -> None:
        """`known` never goes back."""
        if not self._known or position.seq > self._known.seq:
            self._known = position
            self._state.learn(self._ring.stream.user_id, position)

    # Snapshots.

    def _pull_snapshot(self, named: dict, asked_from: Position,
                       known: Position | None) -> Iterator[tuple[list[Entry], str]]:
        """The rows of a snapshot; returns the cursor after it. A place within it is not kept: read it to its end."""
        position = Position(named["position"]["seq"], named["position"]["head"])
        if asked_from.seq >= position.seq:
            raise HistoryRewound("the snapshot is older than the cursor")
        path = f"/api/sync/snapshots/{UUID(bytes=named['snapshot_id'])}"
        answer = self._api.call("GET", path)
        snapshot = answer["snapshot"]
        if (snapshot["snapshot_id"], snapshot["position"]) != (named["snapshot_id"], named["position"]):
            raise SnapshotForged("another one than was named")
        key = self._subkey(snapshot["key_id"], b"synckit/1 snapshot", SnapshotForged)
        if not self._ring.permits_snapshot(snapshot["key_id"], position, sha256(answer["manifest"])):
            raise SnapshotForged("under a key that was retired before, or not the snapshot that was there then")
        aad = (self._ring.stream.name() + snapshot["key_id"] + position.to_bytes() + snapshot["snapshot_id"])
        manifest = open_manifest(unseal(key, b"synckit/1 snapshot manifest\0" + aad, answer["manifest"]))
        # Only now is the position believed, because a device of the user sealed it.
        # And no row before the chain was seen to lead from there to what is known.
        self._walk_to_head(Walk(position, known))
        self._learn(position)
        for index, (sealed_hash, rows) in enumerate(manifest):
            sealed = self._api.call("GET", f"{path}/parts/{index}")["sealed"]
            part_aad = b"synckit/1 snapshot\0" + aad + u32(index) + u32(len(manifest))
            plaintext = unseal(key, part_aad, sealed) if sha256(sealed) == sealed_hash else None
            if plaintext is None:
                raise SnapshotForged(f"part {index}")
            try:
                entries = decode_body(unframe(plaintext), rows)
            except BatchForged as error:
                raise SnapshotForged(f"part {index}") from error
            yield entries, position.cursor()
        return position.cursor()

    # Push.

    def push(self, entries: list[Entry]) -> None:
        """Seals and stores the changes, batch by batch, each on top of what this client has verified."""
        for entry in entries:
            if entry_bytes(entry) > ENTRY_BYTES_MAX:
                raise CannotPush("an entry is too large: the value belongs in a file")
        while entries:
            count = min(len(entries), ENTRIES_MAX)
            while count > 1 and 5 + len(encode_body(entries[:count])) > PLAINTEXT_BYTES_MAX:
                count //= 2
            body = encode_body(entries[:count])
            # The server reads nothing: a body that no reader takes would end the stream for every device.
            decode_body(body, count)
            self._push_batch(body, count)
            entries = entries[count:]

    def _push_batch(self, body: bytes, count: int) -> None:
        key_id = self._ring.current_key_id()
        batch = {"device_id": self._device_id, "batch_id": new_batch_id(), "key_id": key_id, "count": count}
        key = self._subkey(key_id, b"synckit/1 batch", BatchForged)
        first_parent = parent = self._known or self._start
        for _ in range(PUSH_ATTEMPTS_MAX):
            # The batch keeps its id, so it is never stored twice; the nonce is fresh, because the text differs.
            sealed = seal(key, self._batch_aad(batch, parent), frame(body))
            expected = parent.advance(digest_of(batch, sha256(sealed)))
            position = {"seq": parent.seq, "head": parent.head}
            try:
                answer = self._api.call("POST", "/api/sync/push", {**batch, "parent": position, "sealed": sealed})
            except Problem as problem:
                if problem.code == "key_mismatch":
                    raise KeyRotated from problem
                if problem.code == "cursor_compacted":
                    raise CannotPush("this client was away for too long: pull, then push") from problem
                if problem.code != "behind":
                    raise self._diverged(problem, parent) from problem
                parent = self._catch_up(parent, problem.body["behind"])
                continue
            stored = Position(answer["last_seq"], answer["head"])
            if stored != expected:
                self._find(batch["batch_id"], first_parent, stored)
            self._learn(stored)
            return
        raise CannotPush("other devices were faster every time")

    def _catch_up(self, parent: Position, page: dict) -> Position:
        """The newest position, walked to from a parent that was refused as too old."""
        known = self._known
        walk = Walk(parent, known)
        while True:
            for digest in page["digests"]:
                walk.step(digest_of(digest, digest["sealed_hash"]))
            if not page["has_more"]:
                break
            if not page["digests"]:
                raise NotThisProtocol("an empty page with more to come")
            page = self._api.call("GET", f"/api/sync/chain?from={walk.at.cursor()}")
        if (page["latest"]["seq"], page["latest"]["head"]) != (walk.at.seq, walk.at.head):
            raise HistoryForked("the chain ends elsewhere")
        if walk.at.seq <= parent.seq or (known and walk.at.seq < known.seq):
            raise HistoryRewound(f"to {walk.at.seq}")
        self._learn(walk.at)
        return walk.at

    def _walk_to_head(self, walk: Walk) -> None:
        has_more = True
        while has_more:
            at = walk.at
            try:
                page = self._api.call("GET", f"/api/sync/chain?from={at.cursor()}")
            except Problem as problem:
                raise self._diverged(problem, at) from problem
            for digest in page["digests"]:
                walk.step(digest_of(digest, digest["sealed_hash"]))
            has_more = page["has_more"]
            if has_more and not page["digests"]:
                raise NotThisProtocol("an empty page with more to come")
        if (page["latest"]["seq"], page["latest"]["head"]) != (walk.at.seq, walk.at.head):
            raise HistoryForked("the chain ends elsewhere")
        walk.end()

    def _find(self, batch_id: bytes, first_parent: Position, stored: Position) -> None:
        """Believes that an earlier sealing of a batch was stored only if the chain shows it (section 5.10)."""
        walk = Walk(first_parent if first_parent.seq < stored.seq else self._start, self._known)
        has_more = True
        while has_more and walk.at.seq < stored.seq:
            page = self._api.call("GET", f"/api/sync/chain?from={walk.at.cursor()}")
            for digest in page["digests"]:
                parent = walk.at
                walk.step(digest_of(digest, digest["sealed_hash"]))
                if walk.at == stored and digest["batch_id"] == batch_id:
                    self._read_back(parent, stored)
                    return
            has_more = page["has_more"] and page["digests"]
        raise HistoryForked("the server calls a batch stored that is not")

    def _read_back(self, parent: Position, stored: Position) -> None:
        """The id of a batch proves nothing: who exchanged its bytes on their way gets the same answer. It must open."""
        request = {"device_id": self._device_id, "cursor": parent.cursor(), "ahead": True, "avoid_snapshot": True}
        page = self._api.call("POST", "/api/sync/pull", request)
        if not page["batches"]:
            raise NotThisProtocol("no batch where the chain has one")
        batch = page["batches"][0]
        if parent.advance(digest_of(batch, sha256(batch["sealed"]))) != stored:
            raise HistoryForked("another batch than the chain has")
        self._open_batch(batch, parent)

    # Files.

    def blob(self, file_hash: bytes) -> bytes:
        """The file with this SHA-256."""
        blob_id = hmac_sha256(self._ring.blob_id_key, file_hash)
        named = self._api.call("POST", "/api/sync/blobs/download", {"hash": blob_id})
        size = named["size"]
        if not SEAL_OVERHEAD_BYTES <= size <= BLOB_SEALED_BYTES_MAX:
            raise NotThisProtocol("a size that no sealed file has")
        key = self._subkey(named["key_id"], b"synckit/1 blob", BlobForged)
        sealed = self._api.download(named["download_url"], size)
        if len(sealed) != size:
            raise BlobForged(f"{len(sealed)} bytes in place of {size}")
        return open_file(sealed, key, named["key_id"], blob_id, file_hash)


def open_file(sealed: bytes, key: bytes, key_id: bytes, blob_id: bytes, file_hash: bytes) -> bytes:
    """The file in a sealed blob. The tag alone is not enough: a device may have sealed another file in its place."""
    file = unseal(key, b"synckit/1 blob\0" + blob_id + key_id, sealed)
    if file is None or sha256(file) != file_hash:
        raise BlobForged(file_hash.hex())
    return file


def open_manifest(plaintext: bytes | None) -> list[tuple[bytes, int]]:
    """The hash and the number of rows of each part (section 6.1)."""
    if plaintext is None:
        raise SnapshotForged("manifest")
    reader = Reader(plaintext, SnapshotForged)
    format_, rows, total = reader.number(1), reader.number(8), reader.number(4)
    if format_ != 1 or total > PARTS_MAX:
        raise SnapshotForged("manifest")
    parts = [(reader.take(32), reader.number(4)) for _ in range(total)]
    reader.ended()
    if sum(count for _, count in parts) != rows or not all(1 <= count <= PART_ROWS_MAX for _, count in parts):
        raise SnapshotForged("manifest")
    return parts


def digest_of(batch: dict, sealed_hash: bytes) -> Digest:
    return Digest(batch["batch_id"], batch["device_id"], batch["key_id"], batch["count"], sealed_hash)


def new_batch_id() -> bytes:
    """Random, and without a time: the server must not learn when an edit was made offline."""
    return uuid4().bytes
