"""The channel contract: what dispatch hands over, what comes back (channels §1).

A channel knows nothing of accounts, prices, routes, webhooks or tables. Clock, randomness and the sink are
handed to it by the composition root.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct


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
    """One started attempt. parts: the text as it is cut (protocol §10.3); after expires_at it must not go."""

    message: int
    attempt: int
    to: str
    sender: str
    lane: int
    expires_at: datetime
    parts: tuple[str, ...]
    encoding: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The peer has taken all parts. references: one per part, may be empty."""

    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Certain: nothing of this attempt will reach the handset."""

    reason: Reason
    detail: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Bytes may have left and no certain answer came. `raised`: the channel or its sink broke down."""

    stage: Literal["written", "timeout", "unreadable", "raised"]
    detail: str = ""


Outcome: TypeAlias = Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Report:
    """What a peer says of one part later. status: TP-Status (channels §2), None if it gave none.

    It names its part by reference, or by message, attempt and part where the peer knows those. due: a peer of
    ours that lives in this process stores what it will say later instead of remembering it.
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


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from a phone. dedup_key: the same for each repetition of the same message.

    reply_to: the message of ours it answers, when the peer can tell.
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


@dataclass(frozen=True, slots=True)
class Traits:
    """What a kind of channel can do. idempotent: the peer drops a repeated attempt."""

    receipts: Literal["handset", "submit", "none"] = "handset"
    idempotent: bool = False
    no_receipt_status: int = 98  # the end of an accepted message without final report (ST-6)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Parts that may go now; seconds until one may, when none may."""

    free: int
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """starting, up, degraded, paused, down, blocked, draining or stopped, and why (channels §1.7)."""

    state: str
    cause: str = ""


class Sink(Protocol):
    """Where a channel leaves what peers say; each call returns only after the commit."""

    async def report(self, report: Report) -> None: ...
    async def incoming(self, incoming: Incoming) -> None: ...


class Channel(Protocol):
    """One configured way out."""

    name: str
    kind: str
    traits: Traits

    async def start(self, sink: Sink) -> None: ...
    def capacity(self, now: float) -> Capacity: ...
    async def submit(self, out: Outgoing) -> Outcome: ...
    def health(self) -> Health: ...
    async def drain(self, within_s: float) -> None: ...
    async def stop(self) -> None: ...
