"""What can go wrong, by the names that the document uses."""


class SyncKitError(Exception):
    """Everything that this client reports. The name of the class says what happened."""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{type(self).__name__}: {text}" if text else type(self).__name__


class WrongPassword(SyncKitError):
    """Address or password is wrong; nobody says which."""


class KeyMalformed(SyncKitError):
    """The API key is incomplete or mistyped."""


class KeyKind(SyncKitError):
    """The API key is of another kind than an app takes."""


class ServerKeyChanged(SyncKitError):
    """The server has another OPAQUE key than the one that was pinned (section 3.1)."""


class NoServerKey(SyncKitError):
    """No device of this account has set up encryption in this app yet."""


class PasswordWasReset(SyncKitError):
    """The envelope is sealed under an earlier account key: the recovery code opens it (section 4.6)."""


class KeyMaterialForged(SyncKitError):
    """Vault or envelope are not what a device of this account wrote."""


class UnsupportedFormat(SyncKitError):
    """Written by a newer version than this one."""


class EnvelopeReplaced(SyncKitError):
    """The envelope holds an older master key than one that this client has seen."""


class VaultReplaced(SyncKitError):
    """The vault is older than one that this client, or the writer of the envelope, has seen."""


class KeyRotated(SyncKitError):
    """Another device changed the master key meanwhile: start again."""


class BatchForged(SyncKitError):
    """A batch is not what a device of this account sealed at this place."""


class SnapshotForged(SyncKitError):
    """No device of this account sealed this snapshot."""


class BlobForged(SyncKitError):
    """A file is not the requested one."""


class HistoryForked(SyncKitError):
    """The server's history differs from the known one."""


class HistoryRewound(SyncKitError):
    """The server holds less history than is known."""


class UnsafeUrl(SyncKitError):
    """A URL that is neither https nor http to loopback."""


class CannotPush(SyncKitError):
    """A change that the format does not hold: too large, too deep, or a number that is not a 64-bit one."""


class NotARow(SyncKitError):
    """A value of an entry that is not one of docs/rows.md."""


class NotThisProtocol(SyncKitError):
    """An answer that no server of this protocol gives."""


class Problem(SyncKitError):
    """An error answer of the server (section 9)."""

    def __init__(self, status: int, body: dict):
        self.status = status
        self.body = body
        self.code = body.get("code")
        super().__init__(f"{status} {self.code or ''} {body.get('detail') or body.get('title') or ''}".rstrip())
