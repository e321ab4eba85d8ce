"""What the calls of the SDK return: frozen, typed, and tolerant of values this release does not know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from json import loads
from typing import Any

from speedsms.text import Costly, Savings, Segments
from speedsms.wire import Progress


@dataclass(frozen=True, slots=True)
class Raw:
    """The reply itself, for the last word. `headers`: lower-case names; the token is struck out of both.

    The body may hold numbers and PINs, so it does not stand in the `repr`.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The decoded body. Raises ValueError if it is not JSON."""
        return loads(self.body)


@dataclass(frozen=True, slots=True)
class Account:
    """`balance_vnd`: what can be spent now, in whole đồng; money on hold is not in it (protocol D18)."""

    email: str
    balance_vnd: int
    currency: str
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """An accepted send, voice call or MMS.

    `total_sms` counts messages, one per number (protocol D19), and `parts` what is billed, None if the
    service does not say. `total_vnd`: money held now. `invalid_phones`: refused entries as they were
    written. `notices`: what was changed, such as `nfc` or `duplicates=2` (protocol §1.3). `replayed`: the
    key was known and nothing was sent or charged again.
    """

    tran_id: int
    total_sms: int
    total_vnd: int
    invalid_phones: tuple[str, ...]
    parts: int | None
    notices: tuple[str, ...]
    replayed: bool
    key: str
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PinSent:
    """A PIN is on its way. `pin_code` is None unless the application shows it (protocol D22)."""

    tran_id: int
    price_vnd: int
    parts: int | None
    notices: tuple[str, ...]
    replayed: bool
    key: str
    pin_code: str | None = field(repr=False)
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PinCheck:
    """The answer to one guess; it is true only if the PIN was right.

    `remaining_attempts`: checks left. The reply's own `status` says `success` for wrong PINs too (protocol
    §5.5), which is why nobody should look at that.
    """

    verified: bool
    remaining_attempts: int
    raw: Raw = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.verified


@dataclass(frozen=True, slots=True)
class NumberStatus:
    """How far the message to one number is (protocol §14.1). An unknown progress stays a plain int."""

    phone: str
    progress: Progress | int

    @property
    def final(self) -> bool:
        """Nothing will change any more."""
        return self.progress in (Progress.DELIVERED, Progress.FAILED)


class EntryState(StrEnum):
    """What became of one entry of `send_many`.

    *invalid* and *rejected* were certainly not sent, *duplicate* repeats an earlier entry's number, of
    *unknown* nobody can tell.
    """

    ACCEPTED = "accepted"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Totals:
    """Where a `send_many` stands: entries by their state, money held in VND, entries a second."""

    done: int
    accepted: int
    invalid: int
    duplicate: int
    rejected: int
    unknown: int
    total_vnd: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """What a send would be, told offline by the code that prices.

    `carriers`: numbers by carrier id; `invalid`: entries as written; `duplicates`: entries that repeat a
    number; `parts`: billed parts of all numbers; `too_long`: more parts to one number than the type takes
    unless set otherwise (protocol §10.4); `costly` and `savings`: see `speedsms.text`.
    """

    segments: Segments
    carriers: Mapping[str, int]
    invalid: tuple[str, ...]
    duplicates: int
    parts: int
    too_long: bool
    total_vnd: int
    costly: tuple[Costly, ...]
    savings: Savings


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it, for `on_exchange`: no token, no content, no number.

    `attempt` counts from 1; `status` is None if no reply came, and `failure` says why.
    """

    method: str
    path: str
    attempt: int
    status: int | None
    failure: str | None
    elapsed_s: float
