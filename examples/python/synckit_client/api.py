"""Section 8: requests and answers, in CBOR, with the retries of section 8.2, and event streams (section 8.12)."""

import contextlib
import http.client
import ipaddress
import json
import math
import random
import socket
import ssl
import time
import uuid
from base64 import urlsafe_b64decode
from typing import Any, Callable, Iterator
from urllib.parse import urlsplit

import cbor2

from .errors import NotThisProtocol, Problem, UnsafeUrl
from .item import is_one_item
from .position import CURSOR, Position

RETRIES = 3
RETRY_STATUS = (408, 429, 500, 502, 503, 504, *range(520, 531))
RETRY_SECONDS_MAX = 60
TIMEOUT_SECONDS = 60
# The largest answer is a page of `PAGE_BYTES_MAX` sealed bytes. A server that sends more is lying.
ANSWER_BYTES_MAX = 16 * 1024 * 1024
EVENT_COMMENT_SECONDS = 15
EVENT_LINE_BYTES_MAX = 256
# A retry counts at most this much, in milliseconds.
EVENT_RETRY_MS_MAX = 10_000
FIRST_POSITION_SECONDS = 10
EVENT_PAUSE_SECONDS_MAX = 30

# How JSON writes what CBOR has as bytes (section 2.2), for the fields that a problem can hold.
JSON_BYTES = {
    **dict.fromkeys(("batch_id", "device_id", "snapshot_id"), lambda text: uuid.UUID(text).bytes),
    "key_id": bytes.fromhex,
    **dict.fromkeys(("head", "sealed_hash"), lambda text: urlsafe_b64decode(text + "=")),
}


# The type of each field that this client reads, wherever it occurs. A number is the length of bytes.
ID, HASH = 16, 32
TYPES = {
    **dict.fromkeys(("app_id", "user_id", "device_id", "batch_id", "snapshot_id", "key_id", "id"), ID),
    **dict.fromkeys(("head", "sealed_hash"), HASH),
    **dict.fromkeys(("login", "ke2", "vault", "envelope", "sealed", "manifest"), bytes),
    **dict.fromkeys(("token", "account_token", "cursor", "download_url", "code", "title", "detail"), str),
    **dict.fromkeys(("seq", "first_seq", "last_seq", "count", "size"), int),
    "has_more": bool,
    "earlier": [bytes],
}


class Answer(dict):
    """The fields of an answer, of the types above. Unknown ones are ignored, a missing one is not this protocol."""

    def __init__(self, fields: dict = {}):
        super().__init__(fields)
        for name, value in fields.items():
            if name in TYPES and not is_of(TYPES[name], value):
                raise NotThisProtocol(f"an answer with another type of {name}")

    def __missing__(self, name: str) -> None:
        raise NotThisProtocol(f"an answer without {name}")


# An object inside an answer has a type, too.
TYPES |= {**dict.fromkeys(("position", "latest", "snapshot", "behind"), Answer),
          **dict.fromkeys(("batches", "digests"), [Answer])}


def is_of(kind: Any, value: Any) -> bool:
    if type(kind) is list:
        return type(value) is list and all(is_of(kind[0], item) for item in value)
    if type(kind) is int:
        return type(value) is bytes and len(value) == kind
    return type(value) is kind and (kind is not int or 0 <= value < 2**64)


class Api:
    """One server. Its token goes to its own origin only."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        check_url(self._url)
        self.token: str | None = None
        # Where the server answered from last: its URLs lead no further (section 7.4).
        self._peer: str | None = None

    @property
    def url(self) -> str:
        return self._url

    def call(self, method: str, path: str, body: dict | None = None, token: str | None = None) -> Answer:
        """The answer's fields, none for a 204. Raises `Problem`, and `OSError` if the server is not reached."""
        headers = {"Accept": "application/cbor"}
        if token or self.token:
            headers["Authorization"] = f"Bearer {token or self.token}"
        sent = None
        if body is not None:
            headers["Content-Type"] = "application/cbor"
            sent = cbor2.dumps({name: value for name, value in body.items() if value is not None})
        status, answer = retried(lambda: self._exchange(method, path, headers, sent))
        if status == 204:
            return Answer()
        if not is_one_item(answer):
            raise NotThisProtocol("an answer that is not one CBOR item")
        try:
            fields = as_answers(cbor2.loads(answer, allow_duplicate_keys=False))
        except (cbor2.CBORDecodeError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise NotThisProtocol("an answer that is not CBOR") from error
        if type(fields) is not Answer:
            raise NotThisProtocol("an answer that is not a map")
        return fields

    def _exchange(self, method: str, path: str, headers: dict,
                  body: bytes | None) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = connect(self._url, addresses_of(self._url))
        self._peer = connection.sock.getpeername()[0]
        return exchange(connection, method, self._url + path, headers, body, ANSWER_BYTES_MAX)

    def positions(self) -> Iterator[str]:
        """The newest position, first now and then whenever it changes: a claim, which tells only when to pull.

        Where event streams do not get through, it is asked for.
        """
        last, failures = None, 0
        while True:
            heard, retry_seconds = False, 0.0
            try:
                for name, value in self._events():
                    if name == "position":
                        heard = True
                        if value != last:
                            last = value
                            yield value
                    elif name == "retry":
                        retry_seconds = min(int(value), EVENT_RETRY_MS_MAX) / 1000
                    elif name == "comment":
                        failures = 0
            except (OSError, http.client.HTTPException, NotThisProtocol, Problem):
                pass
            if not heard:
                # This also finds out that the session has ended.
                with contextlib.suppress(OSError):
                    latest = self.call("GET", "/api/sync/status")["latest"]
                    value = Position(latest["seq"], latest["head"]).cursor()
                    if value != last:
                        last = value
                        yield value
            pause = min(0.5 * 2 ** min(failures, 16), EVENT_PAUSE_SECONDS_MAX)
            time.sleep(max(random.uniform(pause / 2, pause), retry_seconds))
            failures += 1

    def _events(self) -> Iterator[tuple[str, str]]:
        """One event stream, to its end."""
        connection = connect(self._url, addresses_of(self._url))
        try:
            # The connection releases its socket if the answer says that it closes.
            stream = connection.sock
            stream.settimeout(FIRST_POSITION_SECONDS)
            path = urlsplit(self._url).path + "/api/sync/events"
            connection.request("GET", path, None, {"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise problem_of(answer.status, answer.read(ANSWER_BYTES_MAX))
            name, data = "", []
            while line := answer.readline(EVENT_LINE_BYTES_MAX + 2):
                text = line.rstrip(b"\r\n")
                if text == line:
                    raise NotThisProtocol("an event stream with a long line, or one that was cut off")
                field, _, value = text.decode("utf-8", "replace").partition(":")
                value = value.removeprefix(" ")
                if not text:
                    if name == "position" and data:
                        if len(data) > 1 or not CURSOR.fullmatch(data[0]):
                            raise NotThisProtocol("an event without a position")
                        stream.settimeout(3 * EVENT_COMMENT_SECONDS)
                        yield name, data[0]
                    name, data = "", []
                elif field == "":
                    yield "comment", ""
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "retry" and value.isascii() and value.isdecimal():
                    yield "retry", value[:9]
        finally:
            connection.close()

    def download(self, url: str, size_bytes: int) -> bytes:
        """At most so many bytes from a presigned URL: without a token, without following it elsewhere (section 7.4)."""
        check_url(url)
        if urlsplit(url).username is not None:
            raise UnsafeUrl("it carries a user name")
        _, data = retried(lambda: exchange(connect(url, self._reachable(url)), "GET", url, {}, None, size_bytes))
        return data

    def _reachable(self, url: str) -> list[str]:
        """The addresses of a URL of the server that are no nearer than the server itself."""
        own = reach(self._peer) if self._peer else PUBLIC
        addresses = [address for address in addresses_of(url) if is_within(address, own)]
        if not addresses:
            raise UnsafeUrl("it leads where the server itself is not")
        return addresses


# How near an address is (section 7.4).
PUBLIC, LOCAL, LOOPBACK = range(3)
NOBODYS = [ipaddress.ip_network(text) for text in ("0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8")]
LOCALS = [ipaddress.ip_network(text) for text in (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "192.0.0.0/24",
    "198.18.0.0/15", "fc00::/7", "fe80::/10", "fec0::/10", "64:ff9b:1::/48", "2001::/32")]
# IPv4 inside IPv6: the network, and the bit where the address begins.
EMBEDDED = [(ipaddress.ip_network(text), bit) for text, bit in (
    ("::ffff:0:0/96", 96), ("::/96", 96), ("::ffff:0:0:0/96", 96), ("64:ff9b::/96", 96), ("2002::/16", 16))]


def is_within(address: str, own: int | None) -> bool:
    needed = reach(address)
    return needed is not None and own is not None and needed <= own


def reach(text: str) -> int | None:
    """What it takes to be led to an address; None if no server has it."""
    address = ipaddress.ip_address(text.split("%")[0])
    if address.is_loopback:
        return LOOPBACK
    if any(address in network for network in NOBODYS):
        return None
    for network, bit in EMBEDDED:
        if address in network:
            return reach(str(ipaddress.IPv4Address(int(address) >> (96 - bit) & 0xFFFFFFFF)))
    return LOCAL if any(address in network for network in LOCALS) else PUBLIC


def retried(attempt: Callable[[], tuple[int, bytes, http.client.HTTPMessage]]) -> tuple[int, bytes]:
    """Every request of this client may be sent again after a lost answer, so they all go through here."""
    deadline = time.monotonic() + RETRY_SECONDS_MAX
    for retry in range(RETRIES + 1):
        problem, wait = None, random.uniform(0, 0.2 * 2**retry)
        try:
            status, answer, headers = attempt()
            if status in (200, 204):
                return status, answer
            problem = problem_of(status, answer)
            # The server's own `internal` is a fault that it would meet again.
            if status not in RETRY_STATUS or problem.code == "internal":
                raise problem
            wait = retry_after(headers.get("Retry-After"), wait)
        except OSError:
            if retry == RETRIES:
                raise
        except http.client.HTTPException as error:
            if retry == RETRIES:
                raise NotThisProtocol("an answer that is not HTTP") from error
        if problem and (retry == RETRIES or time.monotonic() + wait > deadline):
            raise problem
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def retry_after(text: str | None, otherwise: float) -> float:
    """Seconds; any number that is longer than a wait may be is as good as endless."""
    text = text or ""
    if not (text.isascii() and text.isdecimal()):
        return otherwise
    return int(text) if len(text) < 9 else math.inf


def addresses_of(url: str) -> list[str]:
    parts = urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(address[0] for *_, address in found))


def connect(url: str, addresses: list[str]) -> http.client.HTTPConnection:
    """Connects to one of these addresses: the name is not resolved again, when it could lead elsewhere."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    for address in addresses:
        try:
            plain = socket.create_connection((address, port), TIMEOUT_SECONDS)
            break
        except OSError:
            if address == addresses[-1]:
                raise
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, port, timeout=TIMEOUT_SECONDS)
    connection.sock = plain
    if secure:
        try:
            connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
        except OSError:
            plain.close()
            raise
    return connection


def exchange(connection: http.client.HTTPConnection, method: str, url: str, headers: dict, body: bytes | None,
             size_max: int) -> tuple[int, bytes, http.client.HTTPMessage]:
    parts = urlsplit(url)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
        data = answer.read(size_max + 1)
        if len(data) > size_max:
            raise NotThisProtocol("an answer that is too large")
        return answer.status, data, answer.headers
    finally:
        connection.close()


def problem_of(status: int, answer: bytes) -> Problem:
    """Problems are always JSON; what a proxy answers may be anything, and then only the status counts."""
    try:
        body = json.loads(answer, object_hook=problem_fields)
    except (NotThisProtocol, RecursionError, ValueError):
        body = Answer()
    return Problem(status, body if type(body) is Answer else Answer())


def problem_fields(fields: dict) -> Answer:
    try:
        return Answer({name: JSON_BYTES.get(name, lambda same: same)(value) for name, value in fields.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise NotThisProtocol("a problem whose ids are none") from error


def as_answers(value: Any) -> Any:
    if type(value) is dict:
        return Answer({name: as_answers(field) for name, field in value.items()})
    return [as_answers(item) for item in value] if type(value) is list else value


def check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port
        parts.hostname.encode("idna")
    except (AttributeError, ValueError) as error:
        raise UnsafeUrl("not a URL") from error
    if not all("!" <= c <= "~" for c in url):
        raise UnsafeUrl("it has characters that no URL has")
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not is_loopback(parts.hostname or ""):
        raise UnsafeUrl("neither https nor http to loopback")


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
