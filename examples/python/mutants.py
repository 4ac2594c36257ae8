"""Checks the vectors: each of these careless clients must fail on them: `python mutants.py`.

A mutant is this client with one place changed. Whoever writes a client in another language can make the same mistakes
in it, one at a time, and run the vectors: those that still pass are where the vectors were not wired up.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "vectors"


@dataclass(frozen=True)
class Mutant:
    """A mistake: where the text `right` of a module is `wrong` instead, the vectors of `file` must notice it."""

    mistake: str
    file: str
    module: str
    right: str
    wrong: str


MUTANTS = [
    # Section 5.2.
    Mutant("names sorted by UTF-16", "batch", "body", "key=lambda name: name.encode()):",
           'key=lambda name: name.encode("utf-16-be")):'),
    Mutant("names in the order of the app", "batch", "body",
           "sorted(entry.data.keys() - names.keys(), key=lambda name: name.encode())",
           "[name for name in entry.data if name not in names]"),
    Mutant("fields in the order of the app", "batch", "body",
           "sorted((names[name], name) for name in entry.data)", "[(names[name], name) for name in entry.data]"),
    Mutant("nested keys sorted by bytes alone", "batch", "body", "(len(key.encode()), key.encode())", "key.encode()"),
    Mutant("nested keys sorted by length in letters", "batch", "body", "(len(key.encode()), key.encode())",
           "(len(key), key.encode())"),
    Mutant("nested keys of one length sorted by UTF-16", "batch", "body", "(len(key.encode()), key.encode())",
           '(len(key.encode()), key.encode("utf-16-be"))'),
    Mutant("nested keys in the order of the app", "batch", "body",
           "sorted(value, key=lambda key: (len(key.encode()), key.encode()))", "list(value)"),
    Mutant("no limit of the depth", "batch", "body", "DEPTH_MAX = 128", "DEPTH_MAX = 500"),
    Mutant("a level too few", "batch", "body", "DEPTH_MAX = 128", "DEPTH_MAX = 127"),
    Mutant("a level too many", "batch", "body", "DEPTH_MAX = 128", "DEPTH_MAX = 129"),
    Mutant("the object at the top does not count", "batch", "body", "ordered(entry.data[name], 1)",
           "ordered(entry.data[name], 0)"),
    Mutant("1.0 written as 1", "batch", "body", "        return value\n    if type(value) in (list, dict)",
           "        return int(value) if value == int(value) else value\n    if type(value) in (list, dict)"),
    Mutant("-0.0 written as 0.0", "batch", "body", "        return value\n    if type(value) in (list, dict)",
           "        return value + 0.0\n    if type(value) in (list, dict)"),
    Mutant("floats in fewer bytes", "batch", "body", "cbor2.dumps([list(names), arrays])",
           "cbor2.dumps([list(names), arrays], canonical=True)"),
    Mutant("integers beyond 64 bits taken", "batch", "body", "type(value) is int and -(2**63) <= value < 2**64",
           "type(value) is int"),
    Mutant("a leading U+FEFF dropped", "batch", "body", "    if value is None or type(value) in (bool, str):",
           '    if type(value) is str:\n        return value.lstrip("\\ufeff")\n    if value is None or type(value) is bool:'),
    Mutant("texts normalised", "batch", "body", "    if value is None or type(value) in (bool, str):",
           '    if type(value) is str:\n        import unicodedata\n        return unicodedata.normalize("NFC", value)\n'
           "    if value is None or type(value) is bool:"),
    Mutant("UUIDs in upper case as 16 bytes", "batch", "body", 'r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")',
           'r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)'),
    Mutant("UUIDs as texts", "batch", "body", "if UUID.fullmatch(entry.row_id) else", "if False else"),
    Mutant("absent data written as null", "batch", "body", "if entry.data is ABSENT:\n        return array",
           "if entry.data is ABSENT:\n        return [*array, None]"),
    Mutant("null data left out", "batch", "body", "if entry.data is ABSENT:\n        return array",
           "if entry.data is ABSENT or entry.data is None:\n        return array"),
    Mutant("any encoding of a body taken", "batch", "body", "if encode_body(entries) != body:", "if False:"),
    Mutant("the number of entries unchecked", "snapshot", "body", "if len(arrays) != count:", "if False:"),
    # Section 5.3.
    Mutant("the padding unchecked", "batch", "body", "frame(body) != plaintext", "False"),
    Mutant("the padding's content unchecked", "batch", "body", "frame(body) != plaintext",
           "len(frame(body)) != len(plaintext) or plaintext[0] != 0"),
    Mutant("the padding's length unchecked", "batch", "body", "frame(body) != plaintext",
           "plaintext[0] != 0 or any(plaintext[5 + len(body):]) or len(plaintext) < 5"),
    Mutant("the method unchecked", "batch", "body", "frame(body) != plaintext",
           "frame(body)[1:] != plaintext[1:]"),
    Mutant("padding to powers of two", "padding", "body", "step = 1 << (exponent - exponent.bit_length())",
           "step = 1 << exponent"),
    # Sections 5.4, 5.5 and 5.8.
    Mutant("the first sequence is the parent's", "batch", "position", "u64(self.seq + 1)", "u64(self.seq)"),
    Mutant("a batch of no entries", "chain", "position", "not 1 <= self.count", "not 0 <= self.count"),
    Mutant("a batch across what is known", "chain", "position", "before.seq < self._known.seq < self.at.seq", "False"),
    Mutant("the beginning not compared", "chain", "position", "self._known = known\n        self._compare()",
           "self._known = known"),
    Mutant("heads not compared", "chain", "position", "self._known.head != self.at.head", "False"),
    Mutant("what is missing at the end", "chain", "position", "self._known.seq > self.at.seq", "False"),
    Mutant("a cursor in another text", "chain", "position", "if position.cursor() != cursor:", "if False:"),
    # Section 3.1.
    Mutant("KE2's server MAC unchecked", "login", "opaque", "if not same(server_mac, expected):", "if False:"),
    Mutant("KE2's auth tag unchecked", "login", "opaque",
           "if not same(auth_tag, envelope_tag(keys, envelope_nonce, server_public_key, suite)):", "if False:"),
    Mutant("the app left out of the context", "login", "opaque", "cls(CONTEXT_LABEL + app_id)", "cls(CONTEXT_LABEL)"),
    Mutant("passwords not normalised", "login", "opaque", 'unicodedata.normalize("NFC", password)', "password"),
    # Sections 4.2 to 4.4.
    Mutant("the checksum of a recovery code unchecked", "recovery_code", "keys",
           'bytes(Mnemonic("english").to_entropy(listed))',
           'int("".join(f"{Mnemonic(\'english\').wordlist.index(word):011b}" for word in listed)[:256], 2).to_bytes(32, "big")'),
    Mutant("a vault's commitment unchecked", "vault", "keys", "        commitment, expected) else None",
           "        commitment, commitment) else None"),
    Mutant("a vault's MAC unchecked", "vault", "keys", "not same(mac, vault_mac(account_key, user_id, vault[:-32]))",
           "False"),
    Mutant("a vault's edition unchecked", "vault", "keys", "0 in (generation, count)", "False"),
    Mutant("the order of slots unchecked", "vault", "keys", "kinds != sorted(kinds) or ", ""),
    Mutant("slots of one kind twice", "vault", "keys", " or known not in ([PASSWORD], [PASSWORD, RECOVERY])", ""),
    Mutant("unknown slots refused", "vault", "keys", "OTHER_SLOTS_MAX = 8", "OTHER_SLOTS_MAX = 0"),
    Mutant("unknown slots without a limit", "vault", "keys", "OTHER_SLOTS_MAX = 8", "OTHER_SLOTS_MAX = 255"),
    Mutant("an envelope's commitment unchecked", "envelope", "keys", "if not same(commitment, both[32:]):",
           "if False:"),
    Mutant("an envelope's MAC unchecked", "envelope", "keys",
           " or not same(mac, hmac_sha256(mac_key, envelope[:-32]))", ""),
    Mutant("an envelope's key id unchecked", "envelope", "keys", "stream.key_id(master_key) != header.key_id or ", ""),
    Mutant("an envelope's counts unchecked", "envelope", "keys",
           " or 0 in (header.vault_generation, header.vault_count, header.version, header.key_version)", ""),
    Mutant("a sealed history of no keys", "envelope", "keys", "if not listed or len(listed) % RETIRED_BYTES:",
           "if listed is None:"),
    Mutant("the key ring unchecked", "envelope", "keys", "def check_ring(ring: KeyRing) -> None:",
           "def check_ring(ring: KeyRing) -> None:\n    return"),
    Mutant("retired keys without a limit", "envelope", "keys", "RETIRED_KEYS_MAX = 24", "RETIRED_KEYS_MAX = 255"),
    Mutant("more retired keys than versions", "envelope", "keys", " or len(ring.retired) >= ring.key_version", ""),
    Mutant("a key twice in a ring", "envelope", "keys", "if len(ids) != len(ring.retired) + 1:", "if False:"),
    Mutant("positions of a ring out of order", "envelope", "keys", "if not position.follows(before):", "if False:"),
    Mutant("the floor of a ring unchecked", "envelope", "keys", "[*(retired.until for retired in ring.retired), ring.floor]",
           "[retired.until for retired in ring.retired]"),
    Mutant("bytes after a key ring", "envelope", "keys", "reader.ended()\n        ring = cls(", "ring = cls("),
    Mutant("a retired key valid for ever", "envelope", "keys", "any(retired.until.follows(after) for", "any(True for"),
    Mutant("a retired key valid at `until` in any history", "envelope", "keys", "any(retired.until.follows(after) for",
           "any(retired.until.seq >= after.seq for"),
    Mutant("a retired key never valid", "envelope", "keys", "any(retired.until.follows(after) for", "any(False for"),
    Mutant("a key that the ring does not hold", "envelope", "keys", "if key_id == self.current_key_id():",
           "if self.master_key_of(key_id) is None or key_id == self.current_key_id():"),
    Mutant("a safety code that leaves the floor out", "envelope", "keys",
           "+ self.current_key_id() + self.floor.to_bytes())", "+ self.current_key_id())"),
    Mutant("any snapshot under a retired key", "envelope", "keys", " and same(retired.snapshot, manifest)", ""),
    Mutant("zeros taken for the hash of a snapshot", "envelope", "keys", "retired.snapshot != NO_SNAPSHOT and ", ""),
    Mutant("the position of a retired key's snapshot unchecked", "envelope", "keys",
           "if not self.permits(key_id, position):", "if False:"),
    # Section 6.
    Mutant("the rows of a manifest unchecked", "snapshot", "client", "sum(count for _, count in parts) != rows or ",
           ""),
    Mutant("parts without rows", "snapshot", "client", "1 <= count <= PART_ROWS_MAX", "count <= PART_ROWS_MAX"),
    Mutant("parts of any number of rows", "snapshot", "client", "1 <= count <= PART_ROWS_MAX", "1 <= count"),
    Mutant("bytes after a manifest", "snapshot", "client", "    reader.ended()\n    if sum(", "    if sum("),
    Mutant("the format of a manifest unchecked", "snapshot", "client", "format_ != 1 or ", ""),
    # Section 8.1.
    Mutant("a break taken as a value", "cbor", "item",
           'if tagged or not open_ or open_.pop() not in ("array", "key"):\n                    return False',
           'if open_ and open_[-1] in ("array", "key"):\n                    open_.pop()'),
    Mutant("a break in the place of a map's value", "cbor", "item", 'not in ("array", "key"):',
           'not in ("array", "key", "value"):'),
    Mutant("a break in the place of what is tagged", "cbor", "item", "tagged or not open_", "not open_"),
    Mutant("bytes after the item", "cbor", "item", "return place == len(body)", "return True"),
    Mutant("an item that ends too early", "cbor", "item", "return place == len(body)", "return place >= len(body)"),
    Mutant("pieces of another type", "cbor", "item", "if initial >> 5 != major:", "if False:"),
    Mutant("a simple value in two forms", "cbor", "item", "and number < 32", "and number < 0"),
    # Section 7.
    Mutant("the hash of a file unchecked", "blob", "client", " or sha256(file) != file_hash", ""),
    # docs/rows.md.
    Mutant("an integer beyond 64 signed bits taken", "rows", "rows", "-(2**63) <= json < 2**63", "True"),
    Mutant("-0.0 taken", "rows", "rows", " and not (json == 0 and math.copysign(1, json) < 0)", ""),
    Mutant("a boolean taken for an integer", "rows", "rows", "type(json) is int and", "isinstance(json, int) and"),
    Mutant("an object of two fields taken", "rows", "rows", "type(json) is dict and len(json) == 1:\n        (field, content), =",
           "type(json) is dict and json:\n        (field, content), *_ ="),
    Mutant("valid UTF-8 in an object taken", "rows", "rows", "if is_utf8(text):", "if False:"),
    Mutant("base64 with loose bits taken", "rows", "rows", "if to_base64(field) != text:", "if False:"),
    Mutant("a short file taken", "rows", "rows", "INLINE_BYTES_MAX < size < 2**64", "0 <= size < 2**64"),
    Mutant("a file with more fields taken", "rows", "rows", 'content.keys() != {"as", "sha256", "size"}',
           'not content.keys() >= {"as", "sha256", "size"}'),
    Mutant("a long value taken", "rows", "rows", "if len(field) > INLINE_BYTES_MAX:", "if False:"),
    Mutant("a time of no column taken", "rows", "rows", "not since.keys() <= row.keys()", "False"),
    Mutant("the time of the entry taken", "rows", "rows", '("changed", entry.timestamp) in since.values()', "False"),
    Mutant("a snapshot's row in an update taken", "rows", "rows", 'entry.op == "insert" and ', ""),
    Mutant("a time of two kinds taken", "rows", "rows", "type(json) is dict and len(json) == 1\n", "type(json) is dict\n"),
    Mutant("the longest inline value a file", "rows", "rows", "len(raw(value)) > INLINE_BYTES_MAX", "len(raw(value)) >= INLINE_BYTES_MAX"),
    Mutant("a text that looks like a number is its own id", "rows", "rows", "return not is_integer", "return True"),
    Mutant("every text of digits is the id of a number", "rows", "rows", "0|-?[1-9][0-9]{0,18}", "-?[0-9]{1,19}"),
    Mutant("a text that looks like a hash is its own id", "rows", "rows", " or HASHED_ID.fullmatch(text)", ""),
    Mutant("the length of an own id in letters", "rows", "rows", "len(text.encode()) > OWN_ID_BYTES_MAX", "len(text) > OWN_ID_BYTES_MAX"),
    Mutant("1.0 another key than 1", "rows", "rows", "map(item, map(as_key, key))", "map(item, key)"),
    Mutant("2^63 rounded into the integers", "rows", "rows", "-(2.0**63) <= value < 2.0**63", "-(2.0**63) <= value <= 2.0**63"),
    Mutant("columns of a birth by UTF-16", "rows", "rows", "key=lambda column: column.encode())", 'key=lambda column: column.encode("utf-16-be"))'),
    Mutant("items without their lengths", "rows", "rows", "return u64(len(field)) + field", "return field"),
    Mutant("no ordinal in a birth", "rows", "rows", " + u64(ordinal) + fields", " + fields"),
]


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether the vectors pass although the mistake was made."""
    for name in ("synckit_client", "check_vectors.py"):
        copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
        copy(HERE / name, folder / name)
    module = folder / "synckit_client" / f"{mutant.module}.py"
    text = module.read_text()
    if text.count(mutant.right) != 1:
        raise SystemExit(f"FAILED: the place of {mutant.mistake!r} occurs {text.count(mutant.right)} times")
    module.write_text(text.replace(mutant.right, mutant.wrong))
    command = [sys.executable, "-B", str(folder / "check_vectors.py"), str(VECTORS), mutant.file]
    ended = subprocess.run(command, capture_output=True, text=True)
    if "SyntaxError" in ended.stderr or "IndentationError" in ended.stderr:
        raise SystemExit(f"FAILED: {mutant.mistake!r} is no program:\n{ended.stderr}")
    return ended.returncode == 0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(index) for index, _ in enumerate(MUTANTS)]
        for place in places:
            place.mkdir()
        with ThreadPoolExecutor(2) as pool:
            survived = list(pool.map(survives, MUTANTS, places))
    for mutant, alive in zip(MUTANTS, survived):
        if alive:
            print(f"SURVIVED {mutant.file}.json: {mutant.mistake}")
    print(f"{len(MUTANTS)} mutants, {sum(survived)} survived")
    sys.exit(any(survived))


if __name__ == "__main__":
    main()
