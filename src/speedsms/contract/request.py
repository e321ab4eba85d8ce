"""A request as every dialect of the wire is read (protocol §4), and what is answered to it."""

from datetime import datetime
from typing import NamedTuple


class Send(NamedTuple):
    """One `sms/send`: types and presence are checked, sender, text and numbers are not yet."""

    entries: tuple[str, ...]  # exactly as written: `invalidPhone` echoes them
    content: str
    sms_type: int
    sender: str
    send_at: datetime | None = None  # aware; only moments still to come
    validity_s: int | None = None
    reference: str | None = None
    notices: tuple[str, ...] = ()  # from the reader: percent_decoded, literal_escapes


class Voice(NamedTuple):
    """One `voice/otp`: the digits that are read aloud to one number."""

    entry: str
    content: str
    send_at: datetime | None = None
    validity_s: int | None = None
    reference: str | None = None
    notices: tuple[str, ...] = ()


class PinCreate(NamedTuple):
    """One `pin/create`; `content` has its placeholder still."""

    entry: str
    content: str
    app_id: str
    notices: tuple[str, ...] = ()


class PinVerify(NamedTuple):
    """One `pin/verify`; `phone` as the caller wrote it."""

    phone: str
    pin: str
    app_id: str


class Mms(NamedTuple):
    """One `mms/send`."""

    entries: tuple[str, ...]
    content: str
    link: str
    sender: str
    send_at: datetime | None = None
    validity_s: int | None = None
    reference: str | None = None
    notices: tuple[str, ...] = ()


class Key(NamedTuple):
    """An Idempotency-Key in its scope; its fingerprint tells a repeat from a reuse (protocol §15.1)."""

    endpoint: str
    key: str
    fingerprint: bytes


class Accepted(NamedTuple):
    """What an accepted request says of itself; notices stand in the order of protocol §1.3."""

    tran_id: int
    total_sms: int
    total_vnd: int
    invalid: tuple[str, ...]
    parts: int
    notices: tuple[str, ...]


class Reply(NamedTuple):
    """One answer: what is sent, and what is stored under a key."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]
