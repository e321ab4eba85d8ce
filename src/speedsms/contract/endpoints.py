"""Paths, methods, scopes and idempotency keys of the vendor endpoints (protocol §1.1, §2, §15.1)."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from speedsms.contract.decode import without_token
from speedsms.contract.request import Key
from speedsms.wire import PREFIX, Endpoint

MAX_TARGET: Final = 16 * 1024  # octets, as headers and body are (protocol §1.2)
MAX_HEADERS: Final = 32 * 1024  # of the header block
MAX_FIELDS: Final = 100
MAX_BODY: Final = 1_048_576
KEY_LIFE: Final = timedelta(hours=24)
_FIELD_OCTETS: Final = len(": \r\n")
_TRAN_ID: Final = re.compile(rb"[0-9]{1,10}")
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
METHODS: Final[Mapping[Endpoint, tuple[str, ...]]] = {
    Endpoint.USER_INFO: ("GET", "HEAD"),
    Endpoint.SMS_SEND: ("POST", "GET"),
    Endpoint.VOICE_OTP: ("POST",),
    Endpoint.PIN_CREATE: ("POST",),
    Endpoint.PIN_VERIFY: ("POST",),
    Endpoint.SMS_STATUS: ("GET", "HEAD"),
    Endpoint.MMS_SEND: ("POST",),
}
SCOPES: Final[Mapping[Endpoint, str]] = {
    Endpoint.USER_INFO: "info",
    Endpoint.SMS_SEND: "send",
    Endpoint.VOICE_OTP: "voice",
    Endpoint.PIN_CREATE: "pin",
    Endpoint.PIN_VERIFY: "pin",
    Endpoint.SMS_STATUS: "status",
    Endpoint.MMS_SEND: "mms",
}


_PATHS: Final[Mapping[bytes, tuple[Endpoint, bytes]]] = {
    (prefix + endpoint + slash).encode(): (endpoint, b"")
    for prefix in (PREFIX, "/")
    for endpoint in Endpoint
    for slash in ("", "/")
}
_STATUS: Final = re.compile(rb"(?:/index\.php)?/sms/status/([^/;]+)/?")


class Call(NamedTuple):
    """One HTTP request whose path, method and size are right; the body is whole and not yet read."""

    endpoint: Endpoint
    method: str
    argument: bytes  # what follows `sms/status/`, undecoded
    query: bytes
    content_type: bytes
    keys: tuple[bytes, ...]  # every Idempotency-Key field
    body: bytes


def find(path: bytes) -> tuple[Endpoint, bytes] | None:
    """The endpoint of an undecoded path and what follows `sms/status/`; None is 404 (protocol §1.1)."""
    if found := _PATHS.get(path):
        return found
    status = _STATUS.fullmatch(path)
    if status is None or unquote_to_bytes(status[1]) in (b".", b".."):
        return None
    return Endpoint.SMS_STATUS, status[1]


def key(call: Call) -> Key | None:
    """The Idempotency-Key with its scope and fingerprint (protocol §15.1), or None if it is malformed."""
    if len(call.keys) != 1 or not _KEY.fullmatch(call.keys[0]):
        return None
    print_ = sha256()
    for piece in (call.method.encode(), call.endpoint.encode(), without_token(call.query), call.body):
        print_.update(b"%d:" % len(piece))
        print_.update(piece)
    return Key(call.endpoint, call.keys[0].decode("ascii"), print_.digest())


def tran_id(argument: bytes) -> int:
    """What follows `sms/status/` as a number; 0 is nobody's (protocol §5.6)."""
    found = int(argument) if _TRAN_ID.fullmatch(argument) else 0
    return found if found < 1 << 31 else 0


def octets(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Of a header block as it was sent, give or take white space around values."""
    return sum(len(name) + len(value) + _FIELD_OCTETS for name, value in headers)
