"""What the fake gateway remembers: accounts and their switches, messages, webhooks that went out."""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from speedsms.contract.ads import AdLabel
from speedsms.contract.pin import Application, Verification
from speedsms.contract.request import Reply
from speedsms.contract.senders import Allowed, Lane, Sender, usable
from speedsms.numbers import Number, magic, parse
from speedsms.text import Encoding, TextMode
from speedsms.wire import Kind, Progress, SmsType

SCOPES: Final = frozenset({"info", "send", "voice", "pin", "status", "mms"})
_CODE: Final = re.compile(r"(?<![0-9])[0-9]{4,8}(?![0-9])")

# Where webhooks go: a URL, or a function that is called with the body and the headers.
Target: TypeAlias = str | Callable[[bytes, dict[str, str]], object]


@dataclass(slots=True)
class Token:
    """One access token with its switches (protocol §17). allow_ip: addresses and CIDR blocks."""

    token: str
    test: bool = False
    scopes: frozenset[str] = SCOPES
    allow_ip: tuple[str, ...] = ()
    allow_query_token: bool = True
    duplicate_window_s: int = 0
    spend_cap_day_vnd: int | None = None
    text_mode: TextMode | None = None


@dataclass(slots=True)
class Endpoint:
    """Where an account's webhooks go; several secrets give several signatures. events: report, sms."""

    target: Target
    secrets: tuple[str, ...]
    events: tuple[str, ...] = ("report", "sms")
    legacy_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """One webhook that was sent. status: 0 if there was no answer, and `error` says why."""

    target: Target
    body: bytes
    headers: Mapping[str, str]
    status: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A reply under an Idempotency-Key, or under what the duplicate guard compares."""

    at: datetime
    reply: Reply
    fingerprint: bytes = b""


@dataclass(slots=True)
class Account:
    """One account; a test changes what it needs. Numbers of `suppressed` and `blocked_numbers`: E.164 digits.

    The rate limit is generous: set 60, the gateway's default, to see your program meet it.
    """

    name: str = "test"
    email: str = "test@example.com"
    tokens: list[Token] = field(default_factory=list)
    balance_vnd: int = 1_000_000
    credit_vnd: int = 0
    blocked: bool = False
    api_enabled: bool = True
    rate_limit: int = 10_000
    enabled_types: frozenset[int] = frozenset(SmsType)
    default_shared_sender: str = "Notify"
    default_group: str = ""
    text_mode: TextMode = TextMode.KEEP
    percent_decode: bool = True
    raw_utf8_101: bool = False
    phone_form: str = "national"
    ads_label: AdLabel = AdLabel.REQUIRE
    ads_allow_other_types: bool = False
    countries: frozenset[str] = frozenset()
    spend_cap_minute_vnd: int | None = None
    senders: list[Sender] = field(default_factory=list)
    apps: list[Application] = field(default_factory=list)
    suppressed: set[str] = field(default_factory=set)
    blocked_numbers: set[str] = field(default_factory=set)
    endpoints: list[Endpoint] = field(default_factory=list)
    # What happened so far.
    hits: deque[datetime] = field(default_factory=deque)
    kept: dict[tuple[str, str], Kept] = field(default_factory=dict)
    spent: list[tuple[datetime, str, int]] = field(default_factory=list)
    ads_sent: list[tuple[datetime, str]] = field(default_factory=list)
    verifications: dict[tuple[str, str], list[Verification]] = field(default_factory=dict)

    @property
    def allowed(self) -> Allowed:
        """What the contract's rules ask about senders (protocol §8)."""
        return Allowed(
            frozenset(map(SmsType, self.enabled_types)),
            usable(self.senders),
            self.default_shared_sender,
            self.default_group,
        )

    def stops(self) -> dict[str, str]:
        """Numbers that get nothing, and why."""
        return dict.fromkeys(self.suppressed, "do_not_call") | dict.fromkeys(self.blocked_numbers, "blocked")


@dataclass(slots=True, eq=False)
class Message:
    """One accepted message, as the gateway stores it. `status` is on the scale of `sms/status`.

    units: septets or UTF-16 units; parts: billed ones, 0 for calls and MMS; sequence: reports so far.
    """

    account: Account = field(repr=False)
    tran_id: int
    kind: Kind
    e164: str
    entry: str
    carrier: str
    content: str
    sender: str
    sms_type: int | None
    encoding: Encoding
    units: int
    parts: int
    price_vnd: int
    lane: Lane
    validity_s: int
    due_at: datetime
    reference: str | None
    link: str | None
    test: bool
    status: Progress = Progress.PENDING
    sequence: int = 0

    def __str__(self) -> str:
        return f"{self.phone} <- {self.sender or self.kind}: {self.content!r}"

    @property
    def phone(self) -> str:
        """`0912345678`; a foreign number as its E.164 digits."""
        return Number(self.e164).national

    @property
    def shown(self) -> str:
        """The number as the account's webhooks and `sms/status` write it (protocol §9.5)."""
        form = self.account.phone_form
        return self.entry if form == "as_sent" else self.e164 if form == "international" else self.phone

    @property
    def otp(self) -> str | None:
        """The first run of 4 to 8 digits in a text; all that a call reads."""
        if self.kind is Kind.VOICE:
            return self.content
        found = _CODE.search(self.content)
        return found[0] if found else None


def e164_of(phone: str) -> str:
    """The digits that a phone in any spelling is stored under, foreign and magic ones too."""
    trick = magic(phone)
    number = parse(phone, ("*",))
    return f"840000000{trick:02d}" if trick else number.e164 if number else phone


class Outbox(list[Message]):
    """The messages that were accepted, oldest first."""

    @property
    def last(self) -> Message:
        """The newest message; an AssertionError if there is none."""
        assert self, "nothing was sent"  # noqa: S101 - what a test reads
        return self[-1]

    def to(self, phone: str) -> "Outbox":
        """Those to one phone, whatever its spelling."""
        return Outbox(message for message in self if message.e164 == e164_of(phone))

    def assert_sent(self, to: str, containing: str = "", *, sender: str | None = None) -> Message:
        """The newest message that fits; an AssertionError that lists what was sent instead."""
        for message in reversed(self.to(to)):
            if containing in message.content and sender in (None, message.sender):
                return message
        wanted = f"no message to {to}"
        wanted += f" from {sender!r}" if sender is not None else ""
        wanted += f" containing {containing!r}" if containing else ""
        raise AssertionError(f"{wanted}; {self.listed()}")

    def assert_count(self, count: int) -> None:
        """An AssertionError that lists what was sent if it was more or fewer."""
        assert len(self) == count, f"expected {count} messages; {self.listed()}"  # noqa: S101 - what a test reads

    def listed(self) -> str:
        """One line for each message, for people."""
        lines = [f"\n  {message}" for message in self[-20:]]
        return f"{len(self)} were sent" + (":" if lines else "") + "".join(lines)


def newest(messages: Sequence[Message], phone: str) -> Message | None:
    e164 = e164_of(phone)
    return next((message for message in reversed(messages) if message.e164 == e164), None)
