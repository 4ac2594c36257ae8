"""Puts ids that exist into half of the requests that fit the schema, so that the answers are not all "not found", and
sends what would end the session or the account with the tokens of another account."""

import os

import schemathesis

KNOWN = {
    "device_id": os.environ["SYNCKIT_DEVICE_ID"],
    "key_id": os.environ["SYNCKIT_KEY_ID"],
    "api_key": os.environ["SYNCKIT_API_KEY"],
}

# Operations after which a token is worth nothing.
ENDING = {("DELETE", "/api/sync/auth"), ("DELETE", "/api/account")}
SPARE = {
    "Bearer " + os.environ["SYNCKIT_APP_TOKEN"]: "Bearer " + os.environ["SYNCKIT_SPARE_APP_TOKEN"],
    "Bearer " + os.environ["SYNCKIT_ACCOUNT_TOKEN"]: "Bearer " + os.environ["SYNCKIT_SPARE_ACCOUNT_TOKEN"],
}


def every_other(case):
    """The same choice for the same request."""
    return sum(str(case.body).encode()) % 2 == 0


@schemathesis.hook
def map_case(context, case):
    fits = case.meta is None or case.meta.generation.mode.is_positive
    if fits and isinstance(case.body, dict) and every_other(case):
        case.body.update({name: value for name, value in KNOWN.items() if name in case.body})
        if "cursor" in case.body:
            case.body["cursor"] = "0"
    return case


@schemathesis.hook
def before_call(context, case, kwargs):
    if (case.operation.method.upper(), case.operation.path) in ENDING and case.headers:
        token = case.headers.get("Authorization")
        if token in SPARE:
            case.headers["Authorization"] = SPARE[token]
