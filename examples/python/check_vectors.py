"""Runs every vector of `vectors/` against this client: `python check_vectors.py [FOLDER [NAME...]]`.

What is drawn at random is taken from the vectors, everything else must come out as it stands there.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any, Callable

from synckit_client import opaque
from synckit_client import rows as rows_
from synckit_client.api_key import ApiKey
from synckit_client.body import ENTRIES_MAX, Entry, decode_body, encode_body, frame, padme, unframe
from synckit_client.client import open_file, open_manifest
from synckit_client.errors import (BatchForged, BlobForged, HistoryForked, HistoryRewound, KeyMalformed,
                                   KeyMaterialForged, NotARow, NotThisProtocol, SnapshotForged, UnsupportedFormat, WrongPassword)
from synckit_client.item import is_one_item
from synckit_client.keys import (PASSWORD, RECOVERY, KeyRing, Stream, make_envelope, make_vault, open_envelope,
                                 open_vault, recovery_entropy)
from synckit_client.owner import envelope_message, owner_key, snapshot_message
from synckit_client.position import Digest, Position, Walk
from synckit_client.primitives import hmac_sha256, seal, sha256, u32, unseal

raw = bytes.fromhex

FORGED = (KeyMaterialForged, UnsupportedFormat)


def check(what: str, got: Any, expected: Any) -> None:
    if not alike(got, expected):
        raise SystemExit(f"FAILED {what}:\n  got      {shown(got)}\n  expected {shown(expected)}")


def alike(got: Any, expected: Any) -> bool:
    """Equality that tells 1 from 1.0, 0.0 from -0.0 and True from 1."""
    if type(got) is not type(expected):
        return False
    if isinstance(got, dict):
        return got.keys() == expected.keys() and all(alike(got[key], expected[key]) for key in got)
    if isinstance(got, list):
        return len(got) == len(expected) and all(map(alike, got, expected))
    return repr(got) == repr(expected)


def shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)


def refuses(what: str, refusal: type[Exception] | tuple[type[Exception], ...], action: Callable[[], Any]) -> None:
    """The action must end with this refusal, and with no other failure."""
    try:
        taken = action()
    except refusal:
        return
    raise SystemExit(f"FAILED: {shown(taken)} was taken although: {what}")


def position_of(fields: dict) -> Position:
    return Position(fields["seq"], raw(fields["head"]))


def stream_of(vectors: dict) -> Stream:
    return Stream(raw(vectors["app_id"]), raw(vectors["user_id"]))


def scalar(wide: bytes) -> bytes:
    return opaque.reduce(wide)


def rfc9807(vectors: dict) -> int:
    """The RFC's own vectors. Those of an account that does not exist are for servers: they lack the client's part."""
    for real in vectors["real"]:
        suite = opaque.Suite(raw(real["context"]), stretch=lambda text: text,
                             client_identity=raw(real.get("client_identity", "")),
                             server_identity=raw(real.get("server_identity", "")))
        password = raw(real["password"])
        _, request = opaque.registration_start(password, raw(real["blind_registration"]))
        check("registration request", request, raw(real["registration_request"]))
        registration = opaque.registration_finish(password, raw(real["blind_registration"]),
                                                  raw(real["registration_response"]), suite, raw(real["envelope_nonce"]))
        check("registration upload", registration.record, raw(real["registration_upload"]))
        state, ke1 = opaque.login_start(password, raw(real["blind_login"]), raw(real["client_nonce"]),
                                        raw(real["client_keyshare_seed"]))
        check("KE1", ke1, raw(real["ke1"]))
        login = opaque.login_finish(state, raw(real["ke2"]), suite)
        check("KE3", login.ke3, raw(real["ke3"]))
        check("export key", login.export_key, raw(real["export_key"]))
        check("server key", login.server_public_key, raw(real["server_public_key"]))
    return len(vectors["real"])


def api_key(vectors: dict) -> int:
    for fields in vectors["keys"]:
        key = ApiKey(fields["prefix"], raw(fields["app_id"]), raw(fields["secret"]))
        check("key", key.text(), fields["key"])
        check("key read", ApiKey.parse(fields["key"]), key)
    for fields in vectors["refused_keys"]:
        try:
            key = ApiKey.parse(fields["key"])
        except KeyMalformed:
            continue
        raise SystemExit(f"FAILED: {key} was taken although: {fields['rule']}")
    return len(vectors["keys"]) + len(vectors["refused_keys"])


def cbor(vectors: dict) -> int:
    for item in vectors["items"]:
        check(item, is_one_item(raw(item)), True)
    for fields in vectors["refused"]:
        check(f"{fields['body']}: {fields['rule']}", is_one_item(raw(fields["body"])), False)
    return len(vectors["items"]) + len(vectors["refused"])


def login(vectors: dict) -> int:
    stretching = vectors["key_stretching"]
    check("Argon2id", opaque.argon2id(raw(stretching["input"])), raw(stretching["output"]))
    suite = opaque.Suite.of_app(raw(vectors["app_id"]))
    check("context", suite.context, raw(vectors["context"]))
    password = opaque.normalize(vectors["password"])
    check("NFC", password, raw(vectors["password_nfc_utf8"]))

    fields = vectors["registration"]
    blind, request = opaque.registration_start(password, scalar(raw(fields["client_start_random"])))
    check("registration request", request, raw(fields["request"]))
    registration = opaque.registration_finish(password, blind, raw(fields["response"]), suite,
                                              raw(fields["client_finish_random"]))
    check("record", registration.record, raw(fields["upload"]))
    check("export key", registration.export_key, raw(fields["export_key"]))

    fields = vectors["login"]
    random = raw(fields["client_random"])
    state, ke1 = opaque.login_start(password, scalar(random[:64]), nonce=random[96:], seed=random[64:96])
    check("KE1", ke1, raw(fields["ke1"]))
    finished = opaque.login_finish(state, raw(fields["ke2"]), suite)
    check("KE3", finished.ke3, raw(fields["ke3"]))
    check("export key", finished.export_key, raw(fields["export_key"]))
    check("server key", finished.server_public_key, raw(vectors["server"]["public_key"]))

    without = raw(vectors["login_without_record"]["ke2"])
    refuses("there is no account", WrongPassword, lambda: opaque.login_finish(state, without, suite))
    for fields in vectors["refused_ke2"]:
        refusal = NotThisProtocol if fields["malformed"] else WrongPassword
        refuses(fields["what"], refusal, lambda: opaque.login_finish(state, raw(fields["ke2"]), suite))
    return 5 + len(vectors["refused_ke2"])


def recovery_code(vectors: dict) -> int:
    for code in vectors["codes"]:
        check("entropy", recovery_entropy(code["words"]), raw(code["entropy"]))
        check("entropy", recovery_entropy(code["words"].upper().replace(" ", ",\n")), raw(code["entropy"]))
    for fields in vectors["refused"]:
        refuses(fields["what"], KeyMaterialForged, lambda: recovery_entropy(fields["words"]))
    return len(vectors["codes"]) + len(vectors["refused"])


def vault(vectors: dict) -> int:
    user_id = raw(vectors["user_id"])
    for fields in vectors["vaults"]:
        data = raw(fields["vault"])
        password = fields["password_slot"]
        opened = open_vault(data, user_id, PASSWORD, raw(password["secret"]))
        check("account key", opened.account_key, raw(fields.get("account_key", vectors["account_key"])))
        check("edition", [opened.generation, opened.count], [fields["generation"], fields["count"]])
        recovery = fields.get("recovery_slot")
        if recovery:
            check("recovery slot", open_vault(data, user_id, RECOVERY, raw(recovery["secret"])), opened)
        else:
            made = make_vault(user_id, opened.generation, opened.account_key, raw(password["secret"]),
                              raw(password["salt"]), raw(password["nonce"]))
            check("vault", made, data)
    refused = vectors["refused"]
    secrets = {PASSWORD: raw(refused["export_key"]), RECOVERY: raw(refused["recovery_entropy"])}
    for fields in refused["vaults"]:
        for kind, secret in secrets.items():
            refuses(fields["what"], FORGED, lambda: open_vault(raw(fields["vault"]), user_id, kind, secret))
    return len(vectors["vaults"]) + len(refused["vaults"])


def subkeys(vectors: dict) -> int:
    stream, master_key = stream_of(vectors), raw(vectors["master_key"])
    check("key id", stream.key_id(master_key), raw(vectors["key_id"]))
    for label, key in vectors["subkeys"].items():
        check(label, stream.subkey(master_key, label.encode()), raw(key))
    return len(vectors["subkeys"])


def envelope(vectors: dict) -> int:
    stream, account_key = stream_of(vectors), raw(vectors["account_key"])
    for fields in vectors["envelopes"]:
        ring = open_envelope(raw(fields["envelope"]), stream, account_key)
        check("key ring", ring.to_bytes(), raw(fields["key_ring"]))
        check("safety code", ring.safety_code(), fields["safety_code"])
        check("master key", ring.master_key, raw(fields["master_key"]))
        edition = (fields["vault_generation"], fields["vault_count"])
        made = make_envelope(ring, account_key, edition, fields["version"], raw(fields["salt"]), raw(fields["wrap_nonce"]), raw(fields["history_nonce"]))
        check("envelope", made, raw(fields["envelope"]))
        check("key ring", KeyRing.from_bytes(stream, raw(fields["key_ring"])), ring)
    for fields in vectors["refused_envelopes"]:
        data = raw(fields["envelope"])
        refuses(fields["what"], FORGED, lambda: open_envelope(data, stream, account_key))
    for fields in vectors["refused_key_rings"]:
        data = raw(fields["key_ring"])
        refuses(fields["what"], FORGED, lambda: KeyRing.from_bytes(stream, data))
    permissions = vectors["permissions"]
    ring = KeyRing.from_bytes(stream, raw(permissions["key_ring"]))
    for fields in permissions["verdicts"]:
        after = position_of(fields["after"])
        check(f"a key at {after.seq}", ring.permits(raw(fields["key_id"]), after), fields["permitted"])
    for fields in permissions["snapshots"]:
        position = position_of(fields["position"])
        permitted = ring.permits_snapshot(raw(fields["key_id"]), position, raw(fields["manifest_hash"]))
        check(f"a snapshot at {position.seq}", permitted, fields["permitted"])
    parts = ("envelopes", "refused_envelopes", "refused_key_rings")
    return sum(len(vectors[part]) for part in parts) + sum(len(permissions[part]) for part in ("verdicts", "snapshots"))


def owner(vectors: dict) -> int:
    stream = stream_of(vectors)
    keys = {}
    for fields in vectors["keys"]:
        key = owner_key(stream, raw(fields["master_key"]))
        check("key id", stream.key_id(raw(fields["master_key"])), raw(fields["key_id"]))
        check("seed", bytes(key), raw(fields["seed"]))
        check("owner", bytes(key.verify_key), raw(fields["owner"]))
        keys[fields["owner"]] = key
    for fields in vectors["envelopes"]:
        head = fields["head"] and position_of(fields["head"])
        message = envelope_message(stream, fields["expected_version"], raw(fields["key_id"]), raw(fields["owner"]),
                                   raw(fields["envelope"]), head,
                                   fields["snapshot"] and raw(fields["snapshot"]))
        check("message", message, raw(fields["message"]))
        check("signature", keys[fields["signed_by"]].sign(message).signature, raw(fields["signature"]))
    fields = vectors["snapshot"]
    message = snapshot_message(stream, raw(fields["snapshot_id"]), raw(fields["key_id"]),
                               position_of(fields["position"]), fields["parts"], raw(fields["manifest"]))
    check("message", message, raw(fields["message"]))
    check("signature", keys[fields["signed_by"]].sign(message).signature, raw(fields["signature"]))
    return len(keys) + len(vectors["envelopes"]) + 1


def padding(vectors: dict) -> int:
    for length, padded in vectors["lengths"]:
        check(f"padding of {length}", padme(length), padded)
    return len(vectors["lengths"])


def batch(vectors: dict) -> int:
    stream, key_id, key = stream_of(vectors), raw(vectors["key_id"]), raw(vectors["batch_key"])
    check("batch key", stream.subkey(raw(vectors["master_key"]), b"synckit/1 batch"), key)
    at = Position.start(stream.app_id, stream.user_id)
    check("start", at, position_of(vectors["start"]))
    for fields in vectors["batches"]:
        batch_id, device_id, count = raw(fields["batch_id"]), raw(fields["device_id"]), fields["count"]
        check("parent", at, position_of(fields["parent"]))
        aad = (b"synckit/1 batch\0" + stream.name() + device_id + batch_id + key_id + u32(count) + at.to_bytes())
        check("aad", aad, raw(fields["aad"]))
        sealed = raw(fields["sealed"])
        body = unframe(unseal(key, aad, sealed) or b"")
        check("body", body, raw(fields["body"]))
        entries = decode_body(body, count)
        check("entries", [entry.to_json() for entry in entries], fields["entries"])
        written = encode_body([Entry.from_json(entry) for entry in fields["entries"]])
        check("sealed", seal(key, aad, frame(written), raw(fields["nonce"])), sealed)
        at = at.advance(Digest(batch_id, device_id, key_id, count, sha256(sealed)))
        check("after", at, position_of(fields["after"]))
        check("cursor", at.cursor(), fields["cursor_after"])
        check("cursor", Position.from_cursor(at.cursor(), at), at)
    for fields in vectors["accepted_bodies"]:
        body = raw(fields["body"])
        check("a deep body", encode_body(decode_body(body, 1)), body)
    for fields in vectors["refused_bodies"]:
        refused(fields)
    for fields in vectors["refused_plaintexts"]:
        refuses(fields["rule"], BatchForged, lambda: unframe(raw(fields["plaintext"])))
    return sum(len(vectors[part]) for part in ("batches", "accepted_bodies", "refused_bodies", "refused_plaintexts"))


def refused(fields: dict) -> None:
    """With every count that a batch may have, so that it is not refused for its count alone."""
    for count in range(1, ENTRIES_MAX + 1):
        try:
            entries = decode_body(raw(fields["body"]), count)
        except BatchForged:
            continue
        raise SystemExit(f"FAILED: a body was taken as {entries} although: {fields['rule']}")


def snapshot(vectors: dict) -> int:
    stream, key_id, key = stream_of(vectors), raw(vectors["key_id"]), raw(vectors["snapshot_key"])
    aad = stream.name() + key_id + position_of(vectors["position"]).to_bytes() + raw(vectors["snapshot_id"])
    fields = vectors["manifest"]
    check("aad", b"synckit/1 snapshot manifest\0" + aad, raw(fields["aad"]))
    manifest = open_manifest(unseal(key, raw(fields["aad"]), raw(fields["sealed"])))
    check("parts", len(manifest), len(vectors["parts"]))
    for index, (fields, (sealed_hash, rows)) in enumerate(zip(vectors["parts"], manifest)):
        check("aad", b"synckit/1 snapshot\0" + aad + u32(index) + u32(len(manifest)), raw(fields["aad"]))
        check("hash", sha256(raw(fields["sealed"])), sealed_hash)
        check("rows", rows, fields["rows"])
        plaintext = unseal(key, raw(fields["aad"]), raw(fields["sealed"])) or b""
        entries = decode_body(unframe(plaintext), rows)
        check("part", seal(key, raw(fields["aad"]), frame(encode_body(entries)), raw(fields["nonce"])),
              raw(fields["sealed"]))
    check("a stream without rows", open_manifest(raw(vectors["empty_manifest"])), [])
    first = vectors["parts"][0]
    _, rows = open_manifest(raw(vectors["miscounted_manifest"]))[0]
    refuses("a part of another number of rows", BatchForged, lambda: decode_body(unframe(raw(first["plaintext"])), rows))
    for fields in vectors["refused_manifests"]:
        refuses(fields["what"], SnapshotForged, lambda: open_manifest(raw(fields["manifest"])))
    return 3 + len(manifest) + len(vectors["refused_manifests"])


def blob(vectors: dict) -> int:
    key_id, key = raw(vectors["key_id"]), raw(vectors["blob_key"])
    for fields in vectors["blobs"]:
        file = raw(fields["file"])
        check("hash", sha256(file), raw(fields["hash"]))
        blob_id = hmac_sha256(raw(vectors["blob_id_key"]), sha256(file))
        check("blob id", blob_id, raw(fields["blob_id"]))
        aad = b"synckit/1 blob\0" + blob_id + key_id
        check("aad", aad, raw(fields["aad"]))
        check("sealed", seal(key, aad, file, raw(fields["nonce"])), raw(fields["sealed"]))
        check("file", open_file(raw(fields["sealed"]), key, key_id, blob_id, sha256(file)), file)
    for fields in vectors["refused"]:
        hash_ = raw(fields["hash"])
        blob_id = hmac_sha256(raw(vectors["blob_id_key"]), hash_)
        refuses(fields["what"], BlobForged, lambda: open_file(raw(fields["sealed"]), key, key_id, blob_id, hash_))
    return len(vectors["blobs"]) + len(vectors["refused"])


def chain(vectors: dict) -> int:
    for fields in vectors["walks"]:
        refused = fields["refused"]
        if refused is None:
            check(fields["what"], walked(fields), position_of(fields["end"]))
        else:
            refuses(fields["what"], REFUSALS[refused], lambda: walked(fields))
    start = Position.start(bytes(16), bytes(16))
    for fields in vectors["cursors"]:
        if "snapshot_id" not in fields:
            check("cursor", Position.from_cursor(fields["cursor"], start), position_of(fields["position"]))
            check("cursor", position_of(fields["position"]).cursor(), fields["cursor"])
    for cursor in vectors["refused_cursors"]:
        refuses(f"the text {cursor!r}", NotThisProtocol, lambda: Position.from_cursor(cursor, start))
    return len(vectors["walks"]) + len(vectors["cursors"]) + len(vectors["refused_cursors"])


def rows(vectors: dict) -> int:
    for fields in vectors["values"]:
        value = stored(fields["stored"])
        check("value", rows_.to_json(value), fields["json"])
        check("value", rows_.from_json(fields["json"]), value)
    check("limit", rows_.INLINE_BYTES_MAX, vectors["longest_inline_bytes"])
    for kind in ("text", "blob"):
        inline = stored({"kind": kind, "bytes": "78" * vectors["longest_inline_bytes"]})
        check("the longest value", rows_.from_json(rows_.to_json(inline)), inline)
    for fields in vectors["files"]:
        long = stored({"kind": fields["kind"], "bytes": bytes([fields["byte"]] * fields["count"]).hex()})
        check("file", rows_.to_json(long), fields["json"])
        check("file", rows_.to_json(rows_.from_json(fields["json"])), fields["json"])
    refuses("a long text in an entry", NotARow, lambda: rows_.from_json("x" * 65_537))
    refuses("a long blob in an entry", NotARow, lambda: rows_.from_json({"blob": rows_.to_base64(bytes(65_537))}))
    for fields in vectors["refused_values"]:
        refuses(fields["rule"], NotARow, lambda: rows_.from_json(fields["json"]))
    for fields in vectors["random_ids"]:
        check("random id", rows_.random_id(raw(fields["random"])), fields["id"])
    for fields in vectors["key_ids"]:
        key = [stored(value) for value in fields["key"]]
        check("key id", rows_.key_id(key), fields["id"])
        if "hashed" in fields:
            check("hashed key", rows_.key_bytes(key), raw(fields["hashed"]))
    for fields in vectors["birth_ids"]:
        row = {column: rows_.from_json(value) for column, value in fields["row"].items()}
        check("hashed row", rows_.birth_bytes(fields["table"], row, fields["ordinal"]), raw(fields["hashed"]))
        check("birth id", rows_.birth_id(fields["table"], row, fields["ordinal"]), fields["id"])
    for fields in vectors["entries"]:
        if fields["op"] == "delete":
            continue
        row, since = rows_.columns(Entry.from_json(fields))
        row = {column: rows_.to_json(value) for column, value in row.items()}
        times = {column: time if kind == "changed" else {kind: time} for column, (kind, time) in since.items()}
        check("entry", [row, times] if type(fields["data"]) is list else row, fields["data"])
    for fields in vectors["refused_entries"]:
        refuses(fields["rule"], NotARow, lambda: rows_.columns(Entry.from_json(fields["entry"])))
    return sum(len(part) for part in vectors.values() if type(part) is list)


def stored(fields: dict) -> rows_.Value:
    """A value of a database, as the vectors describe it."""
    kind = fields["kind"]
    if kind == "integer":
        return int(fields["decimal"])
    if kind == "real":
        return struct.unpack(">d", raw(fields["ieee754"]))[0]
    if kind == "row":
        return rows_.RowRef(fields["id"])
    if kind == "null":
        return None
    text = raw(fields["bytes"])
    if kind == "blob":
        return text
    return text.decode() if rows_.is_utf8(text) else rows_.OddText(text)


REFUSALS = {"HistoryForked": HistoryForked, "HistoryRewound": HistoryRewound, "malformed": NotThisProtocol}


def walked(fields: dict) -> Position:
    walk = Walk(position_of(fields["from"]), fields["known"] and position_of(fields["known"]))
    for digest in fields["digests"]:
        walk.step(Digest(raw(digest["batch_id"]), raw(digest["device_id"]), raw(digest["key_id"]), digest["count"],
                         raw(digest["sealed_hash"])))
    walk.end()
    return walk.at


CHECKS: dict[str, Callable[[dict], int]] = {
    check_.__name__: check_
    for check_ in (rfc9807, login, api_key, cbor, recovery_code, vault, subkeys, envelope, owner, padding, batch, chain,
                   snapshot, blob, rows)
}


def main() -> None:
    here = Path(__file__).resolve().parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent.parent / "vectors"
    names = [file.stem for file in sorted(folder.glob("*.json"))]
    check("files", names, sorted(CHECKS))
    for name in sys.argv[2:] or names:
        vectors = json.loads((folder / f"{name}.json").read_text())
        print(f"{name}.json: {CHECKS[name](vectors)} checked")


if __name__ == "__main__":
    main()
