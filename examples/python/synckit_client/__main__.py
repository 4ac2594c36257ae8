"""`python -m synckit_client`: rows, changes and files of an account as JSON lines and bytes, and changes back."""

import argparse
import contextlib
import getpass
import json
import os
import re
import sys
import time
from pathlib import Path

from .api import Api
from .body import Entry
from .client import Client
from .errors import CannotPush, SyncKitError
from .sign_in import sign_in, sign_out, unlock
from .state import State


def main() -> int:
    arguments = parse()
    try:
        run(arguments)
    except (SyncKitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="synckit_client", description="Reads and writes a SyncKit stream.",
        epilog="SYNCKIT_API_KEY holds the API key. The password is asked for, or taken from SYNCKIT_PASSWORD.")
    parser.add_argument("--server", required=True, metavar="URL")
    parser.add_argument("--email", required=True)
    parser.add_argument("--device-name", default="Python", help="how this client is listed [default: Python]")
    parser.add_argument("--state", type=Path, default=Path("synckit-state.json"), metavar="FILE",
                        help="where the newest known position is kept [default: synckit-state.json]")
    parser.add_argument("--recovery-code", action="store_true",
                        help="after a reset of the password: ask for the 24 words, or take SYNCKIT_RECOVERY_CODE")
    parser.add_argument("--confirm", metavar="CODE",
                        help="the code that was mailed to the address of a new account: confirms it")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("rows", help="print every row as it stands")
    changes = commands.add_parser("changes", help="print the changes in their order; the last line is the cursor")
    changes.add_argument("--after", default="0", metavar="CURSOR", help="where to begin [default: at the start]")
    changes.add_argument("--follow", action="store_true", help="go on with every change that comes, without a last line")
    commands.add_parser("push", help="push changes, JSON lines of the form of `changes`, from standard input")
    blob = commands.add_parser("blob", help="download a file")
    blob.add_argument("sha256", type=sha256_of_text, help="the SHA-256 of the file, in hexadecimal")
    blob.add_argument("file", type=Path, help="where to put it")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    api_key = os.environ.get("SYNCKIT_API_KEY") or getpass.getpass("API key: ")
    password = os.environ.get("SYNCKIT_PASSWORD") or getpass.getpass("Password: ")
    recovery_code = None
    if arguments.recovery_code:
        recovery_code = os.environ.get("SYNCKIT_RECOVERY_CODE") or getpass.getpass("Recovery code: ")

    api = Api(arguments.server)
    state = State(arguments.state, api.url, api_key)
    session = sign_in(api, state, api_key, arguments.email, password, arguments.confirm)
    try:
        client = Client(api, state, unlock(api, state, session, recovery_code), arguments.device_name)
        if arguments.command == "rows":
            print_rows(client)
        elif arguments.command == "changes":
            print_changes(client, arguments.after, arguments.follow)
        elif arguments.command == "push":
            client.push([entry_of_line(line) for line in sys.stdin if line.strip()])
        else:
            write_new(arguments.file, client.blob(arguments.sha256))
    finally:
        # What went wrong before is what the user must hear of.
        with contextlib.suppress(SyncKitError, OSError):
            sign_out(api)


def print_rows(client: Client) -> None:
    """The fold of all changes in log order: the last one of a row counts."""
    rows: dict[tuple[str, str], Entry] = {}
    for entries, _ in client.pull():
        for entry in entries:
            if entry.op == "delete":
                rows.pop((entry.table, entry.row_id), None)
            else:
                rows[entry.table, entry.row_id] = entry
    for _, entry in sorted(rows.items()):
        fields = entry.to_json()
        del fields["op"]
        print_line(fields)


def print_changes(client: Client, cursor: str, follow: bool) -> None:
    if follow:
        for entries, _ in client.follow(cursor):
            for entry in entries:
                print_line(entry.to_json())
            sys.stdout.flush()
    for entries, cursor in client.pull(cursor):
        for entry in entries:
            print_line(entry.to_json())
    print_line({"cursor": cursor})


def print_line(fields: dict) -> None:
    # Escaped to ASCII, so that the output does not depend on the terminal's encoding.
    print(json.dumps(fields))


def entry_of_line(line: str) -> Entry:
    try:
        fields = {"timestamp": time.time_ns() // 1000, **json.loads(line)}
        return Entry.from_json(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise CannotPush("a line is no change: table, op, row_id and perhaps timestamp and data") from error


def write_new(path: Path, data: bytes) -> None:
    """The file appears whole and verified, or not at all."""
    new = path.with_name(path.name + ".part")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    os.replace(new, path)


def sha256_of_text(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError("not a SHA-256 in lower-case hexadecimal")
    return bytes.fromhex(text)


if __name__ == "__main__":
    sys.exit(main())
