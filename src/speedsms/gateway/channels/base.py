"""The channel contract: what dispatch hands over, what comes back (channels §1).

A channel knows nothing of accounts, prices, routes, webhooks or tables. Clock, randomness and the sink are
handed to it by the composition root.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

_Shape = TypeVar("_Shape", bound=Struct)


def settings_from(raw: Mapping[str, Any], shape: type[_Shape], what: str) -> _Shape:
    """Settings of `what`, such as "a sim channel", from their stored form.

    Raises ValueError with the path of the bad key (CH-11).
    """
    known = shape.__struct_fields__
    if strange := sorted(set(raw) - set(known)):
        raise ValueError(f"{strange[0]}: unknown setting of {what}; known are {', '.join(known)}")
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$.")
        if missing := re.fullmatch(r"Object missing required field `(\w+)`", said):
            raise ValueError(f"{where.rstrip('`')}{missing[1]}: is missing") from None
        raise ValueError(f"{where.rstrip('`')}: {said}") from None


class Reason(StrEnum):
    """Why a peer, or we on its behalf, refused (channels §1.4)."""

    THROTTLED = "throttled"
    QUEUE_FULL = "queue_full"
    NOT_WRITTEN = "not_written"
    AUTH = "auth"
    NO_BALANCE = "no_balance"
    PEER_ERROR = "peer_error"
    SENDER_REFUSED = "sender_refused"
    CONTENT_REFUSED = "content_refused"
    UNSUPPORTED = "unsupported"
    TOO_LONG = "too_long"
    NUMBER_REFUSED = "number_refused"
    OPTED_OUT = "opted_out"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Outgoing(Struct, frozen=True):
    """One started attempt. parts: the text as it is cut (protocol §10.3); after expires_at it must not go.

    concat_ref: of a message of several parts, the same in each attempt (§3.9); done: the numbers of parts
    that the peer took in an earlier attempt, which must not go again (CH-8).
    """

    message: int
    attempt: int
    to: str
    sender: str
    lane: int
    expires_at: datetime
    parts: tuple[str, ...]
    encoding: str
    concat_ref: int = 0
    done: frozenset[int] = frozenset()


class Accepted(Struct, frozen=True):
    """The peer has taken all parts. references: one per part, as received, may be empty; none: it names none.

    keys: what a report is found by, one per reference, where that is not the reference itself (§3.11).
    """

    references: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


class Refused(Struct, frozen=True):
    """Certain: no part outside `done` will reach the handset from this attempt.

    retry_after_s: when the same channel may be asked again. single: a reason that else pauses the channel is
    about this one message (a full queue of one number, SM-21).
    """

    reason: Reason
    detail: str = ""
    retry_after_s: float | None = None
    done: frozenset[int] = frozenset()
    single: bool = False


class Unknown(Struct, frozen=True):
    """Bytes may have left and no certain answer came. `raised`: the channel or its sink broke down."""

    stage: Literal["written", "timeout", "unreadable", "raised"]
    detail: str = ""


Outcome: TypeAlias = Accepted | Refused | Unknown


class Report(Struct, frozen=True):
    """What a peer says of one part later. status: TP-Status (channels §2), None if it gave none.

    It names its part by reference, or by message, attempt and part where the peer knows those. keys: what the
    reference may be filed under, best first (§3.11); number: whom it is about, digits, "" if it does not say.
    whole: it stands for all parts of its message (SM-36). due: a peer of ours that lives in this process
    stores what it will say later instead of remembering it.
    """

    reference: str
    status: int | None
    received_at: datetime
    message: int | None = None
    attempt: int = 0
    part: int = 1
    parts: int = 1
    cause: str = ""
    peer_time: datetime | None = None
    raw: bytes = b""
    due: datetime | None = None
    keys: tuple[str, ...] = ()
    number: str = ""
    whole: bool = False


class Piece(Struct, frozen=True):
    """One part of a long incoming message: its number of `total`, and its octets, to be joined and decoded.

    reference and width: its concatenation reference and the bits of it. alphabet: a name of rules/alphabet.
    """

    reference: int
    width: int
    total: int
    part: int
    octets: bytes
    alphabet: str


class Incoming(Struct, frozen=True):
    """A message from a phone. dedup_key: the same for each repetition of the same message.

    reply_to: the message of ours it answers, when the peer can tell. piece: set for a part of a long message;
    text is then what this part says alone.
    """

    sender: str
    recipient: str
    text: str
    received_at: datetime
    dedup_key: str
    partial: bool = False
    reply_to: int | None = None
    peer_time: datetime | None = None
    raw: bytes = b""
    piece: Piece | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """What a kind of channel can do. idempotent: the peer drops a repeated attempt.

    unrecorded: parts started whose outcome is not committed, at most: the bound of §1.8. links: connections
    of which each belongs to one process (CH-9); 0: it has none, and works in every process.
    """

    receipts: Literal["handset", "submit", "none"] = "handset"
    idempotent: bool = False
    no_receipt_status: int = 98  # the end of an accepted message without final report (ST-6)
    unrecorded: int = 2000
    links: int = 0


class Capacity(Struct, frozen=True):
    """Parts that may go now; seconds until one may, when none may."""

    free: int
    wait_s: float = 0.0


class Health(Struct, frozen=True):
    """starting, up, degraded, paused, down, blocked, draining or stopped, and why (channels §1.7).

    until: the end of a pause.
    """

    state: str
    cause: str = ""
    until: datetime | None = None


class Sink(Protocol):
    """Where a channel leaves what peers say; what it gets back ends after the commit (CH-5)."""

    def report(self, report: Report) -> asyncio.Future[None]: ...
    def incoming(self, incoming: Incoming) -> asyncio.Future[None]: ...
    def settle(self, message: int, attempt: int, part: int, outcome: Outcome) -> None:
        """One part's end before its message's (CH-4), or the late answer to an unknown one.

        Part 0: the last late answer of a message of several parts, and with it the whole outcome.
        """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the composition root gives every channel. now: wall time; random: 0 ≤ x < 1.

    owner: this process's place among the living, None if it has none: what was begun under another one must
    not be written any more (CH-9).

    asked: the outcome wanted for the next message to a number (simulator); secret: the value behind a
    setting such as `env:NAME`.
    """

    now: Callable[[], datetime]
    random: Callable[[], float]
    owner: Callable[[], int | None]
    asked: Callable[[str], str | None]
    secret: Callable[[str], str]


class Channel(Protocol):
    """One configured way out. counts: what happened, by name, for metrics and the console."""

    name: str
    kind: str
    traits: Traits
    counts: Counter[str]

    async def start(self, sink: Sink) -> None: ...
    def hold(self, links: Collection[int]) -> None:
        """Which of its links (0 … traits.links - 1) are ours now; those no longer named end by drain."""

    def capacity(self, now: float) -> Capacity: ...
    def cuts(self, text: str, encoding: str, parts: int, /) -> int:
        """How many parts it makes of a text of so many billed ones; each has a reference and a report."""

    def submit(self, out: Outgoing) -> asyncio.Future[Outcome]:
        """Begins at once; never raises, and the future never fails (CH-1)."""

    def matched(self, reference: str, key: str) -> None:
        """A report with this reference was found under that key."""

    def reported(self, matched: int, strays: int) -> None:
        """So many reports found their message, and so many hardly will any more."""

    def health(self) -> Health: ...
    def figures(self) -> dict[str, object]:
        """What `channel show` tells beside health and counts, such as round_trip_s."""

    async def drain(self, within_s: float) -> None: ...
    async def stop(self) -> None: ...
