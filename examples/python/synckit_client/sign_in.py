"""Sections 3.4 and 4.6: from an address and a password to the keys of a stream."""

from dataclasses import dataclass

from . import opaque
from .api import Api
from .api_key import ApiKey, check_publishable
from .errors import (EnvelopeReplaced, KeyMaterialForged, NoServerKey, NotThisProtocol, PasswordWasReset, Problem,
                     VaultReplaced, WrongPassword)
from .keys import (PASSWORD, RECOVERY, KeyRing, Stream, envelope_header, open_envelope, open_vault, recovery_entropy,
                   vault_generation)
from .state import State


@dataclass(frozen=True)
class Session:
    """Who signed in, and what opens the vault of that account."""

    stream: Stream
    account_token: str
    export_key: bytes


def sign_in(api: Api, state: State, api_key: str, email: str, password: str, code: str | None = None) -> Session:
    """OPAQUE: the server learns neither the password nor the export key. The app's token stays in `api`.

    With the code that was mailed to the address of a pending account, this confirms the address (section 3.3).
    """
    check_publishable(api_key)
    login_state, ke1 = opaque.login_start(opaque.normalize(password))
    begun = api.call("POST", "/api/sync/auth/start",
                     {"api_key": api_key, "email": email, "suite": opaque.SUITE, "ke1": ke1, "code": code})
    app_id = ApiKey.parse(api_key).app_id
    login = opaque.login_finish(login_state, begun["ke2"], opaque.Suite.of_app(app_id))
    # Before KE3 is sent and before the export key is used.
    state.pin_server_key(login.server_public_key)
    try:
        answer = api.call("POST", "/api/sync/auth", {"api_key": api_key, "login": begun["login"], "ke3": login.ke3})
    except Problem as problem:
        if problem.code == "invalid_credentials":
            raise WrongPassword from problem
        raise
    if answer["app_id"] != app_id:
        raise NotThisProtocol("the server signed in to another app than the API key names")
    api.token = answer["token"]
    return Session(Stream(answer["app_id"], answer["user_id"]), answer["account_token"], login.export_key)


def sign_out(api: Api) -> None:
    api.call("DELETE", "/api/sync/auth")


def fetch_envelope(api: Api) -> bytes:
    """The envelope; `NoServerKey` only for the one answer that means so."""
    try:
        answer = api.call("GET", "/api/sync/keys")
    except Problem as problem:
        if problem.code == "no_envelope":
            raise NoServerKey from problem
        raise
    # The version beside it may differ: an older envelope may have been put back by the operator.
    if envelope_header(answer["envelope"]).key_id != answer["key_id"]:
        raise KeyMaterialForged("the server names another envelope than it sends")
    return answer["envelope"]


def unlock(api: Api, state: State, session: Session, recovery_code: str | None = None) -> KeyRing:
    """The key ring, through the vault. With the recovery code also when the password was reset; nothing is written."""
    user_id = session.stream.user_id
    envelope = fetch_envelope(api)
    header = envelope_header(envelope)
    if header.key_version < state.key_version(user_id):
        raise EnvelopeReplaced

    answer = api.call("GET", "/api/account/vault", token=session.account_token)
    if recovery_code:
        vaults = [answer["vault"], *answer["earlier"]]
        vault = next((vault for vault in vaults if vault_generation(vault) == header.vault_generation), None)
        if vault is None:
            raise KeyMaterialForged("no vault of the envelope's generation")
        opened = open_vault(vault, user_id, RECOVERY, recovery_entropy(recovery_code))
    else:
        opened = open_vault(answer["vault"], user_id, PASSWORD, session.export_key)
        # An older vault than this client or the envelope's writer knew brings a replaced password or code back.
        if (opened.generation, opened.count) < state.vault_edition(user_id):
            raise VaultReplaced
        state.learn_vault_edition(user_id, (opened.generation, opened.count))
    if (opened.generation, opened.count) < (header.vault_generation, header.vault_count):
        raise VaultReplaced
    if opened.generation != header.vault_generation:
        raise PasswordWasReset
    ring = open_envelope(envelope, session.stream, opened.account_key)
    state.learn_key_version(user_id, ring.key_version)
    return ring
