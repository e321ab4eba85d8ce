"""The life of a message as one total table, and what a refusal, a report or silence makes of it.

Sources: protocol §11 and §14.1, channels §1.4, §1.8 and §2 (ST-1 … ST-6). docs/explanation/lifecycle.md is
drawn from TRANSITIONS.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal


class State(StrEnum):
    """Where a message is. held, queued: a row in `ready`; sending, sent, unknown: `flight`; else `final`."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    FAILED = "failed"


class Event(StrEnum):
    """What can happen to it."""

    CLAIM = "claim"
    ACCEPT = "accept"
    REQUEUE = "requeue"
    LOSE = "lose"
    REFUSE = "refuse"
    TEMPORARY = "temporary"
    DELIVER = "deliver"
    FAIL = "fail"
    SILENCE = "silence"


_S, _E = State, Event
_FINAL_ROW: Final = dict.fromkeys(Event)

# None: the event changes nothing in that state. A final state never changes (ST-3).
TRANSITIONS: Final[dict[State, dict[Event, State | None]]] = {
    State.QUEUED: {
        _E.CLAIM: _S.SENDING,
        _E.ACCEPT: None,
        _E.REQUEUE: None,
        _E.LOSE: None,
        _E.REFUSE: None,
        _E.TEMPORARY: None,  # of an attempt that was given up
        _E.DELIVER: _S.DELIVERED,
        _E.FAIL: _S.FAILED,
        _E.SILENCE: _S.FAILED,
    },
    State.SENDING: {
        _E.CLAIM: None,
        _E.ACCEPT: _S.SENT,
        _E.REQUEUE: _S.QUEUED,
        _E.LOSE: _S.UNKNOWN,
        _E.REFUSE: _S.FAILED,
        _E.TEMPORARY: _S.SENDING,
        _E.DELIVER: _S.DELIVERED,  # a receipt may come before the answer
        _E.FAIL: _S.FAILED,
        _E.SILENCE: _S.UNKNOWN,
    },
    State.SENT: {
        _E.CLAIM: None,
        _E.ACCEPT: None,
        _E.REQUEUE: None,
        _E.LOSE: None,
        _E.REFUSE: None,
        _E.TEMPORARY: _S.SENT,
        _E.DELIVER: _S.DELIVERED,
        _E.FAIL: _S.FAILED,
        _E.SILENCE: _S.FAILED,
    },
    State.UNKNOWN: {
        _E.CLAIM: None,
        _E.ACCEPT: _S.SENT,  # a late answer on the same link
        _E.REQUEUE: _S.QUEUED,  # by the lane's policy, once
        _E.LOSE: None,
        _E.REFUSE: _S.FAILED,
        _E.TEMPORARY: _S.SENT,
        _E.DELIVER: _S.DELIVERED,
        _E.FAIL: _S.FAILED,
        _E.SILENCE: _S.FAILED,
    },
    State.DELIVERED: _FINAL_ROW,
    State.FAILED: _FINAL_ROW,
}


# TP-Status values that we originate (protocol §14.1, channels §2).
DELIVERED: Final = 0
NO_DETAIL: Final = 64
INCOMPATIBLE: Final = 65
NOT_IN_SERVICE: Final = 67
EXPIRED: Final = 70
CANCELLED: Final = 71
CONGESTION: Final = 96
BUSY: Final = 97
NO_ANSWER: Final = 98
REJECTED: Final = 99


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a reason of refusal leads to (channels §1.4).

    waits: the same channel again, the try is not counted.

    pauses: the state of the channel, which waits as a whole. delays_s: when it is tried again there, one
    entry per try. route: when the next route is taken; "if near" is for an OTP whose life is nearly over.
    Else it ends, with `status`.
    """

    status: int
    delays_s: tuple[float, ...] = ()
    waits: bool = False
    pauses: Literal["", "paused", "blocked"] = ""
    pause_s: float | None = None  # how long, where doubling from one second is too eager: a person is needed
    route: Literal["", "if near", "at once", "after tries", "once"] = ""


RULINGS: Final[dict[str, Ruling]] = {
    "throttled": Ruling(EXPIRED, waits=True, pauses="paused", route="if near"),
    "queue_full": Ruling(EXPIRED, waits=True, pauses="paused", route="if near"),
    "not_written": Ruling(EXPIRED, waits=True, route="at once"),
    "auth": Ruling(EXPIRED, waits=True, pauses="blocked", pause_s=300.0, route="at once"),
    "no_balance": Ruling(EXPIRED, waits=True, pauses="paused", pause_s=300.0, route="at once"),
    "peer_error": Ruling(CONGESTION, (1.0, 5.0, 30.0), route="after tries"),
    "sender_refused": Ruling(REJECTED, route="at once"),
    "content_refused": Ruling(REJECTED, route="at once"),
    "unsupported": Ruling(INCOMPATIBLE, route="at once"),
    "too_long": Ruling(INCOMPATIBLE, route="at once"),
    "number_refused": Ruling(NOT_IN_SERVICE),
    "opted_out": Ruling(REJECTED),
    "busy": Ruling(BUSY),
    "no_answer": Ruling(NO_ANSWER),
    "rejected": Ruling(REJECTED),
    "expired": Ruling(EXPIRED),
    "cancelled": Ruling(CANCELLED),
    "failed": Ruling(NO_DETAIL, route="once"),
}

TAKING: Final = ("up", "degraded")  # states in which a channel takes messages (channels §1.7)


def keeps(channel: str, cause: str) -> bool:
    """Whether a channel in this state keeps the messages that come first to it, or the next route has them.

    What a throttled one is asked to slow down with waits in its place for seconds (SM-21). Any other pause
    sends a refused message on at once, so the next ones need not be refused first (channels §1.4).
    """
    ruling = RULINGS.get(cause) if channel == "paused" else None
    return channel in TAKING or (ruling is not None and ruling.route == "if near")


# Seconds until an unknown attempt gets its one successor, by lane; None: never (channels §1.8).
_UNKNOWN_S: Final[dict[int, float | None]] = {0: 5.0, 1: 35.0, 2: 120.0, 3: None}


def unknown_look(lane: int, now: datetime, end: datetime) -> datetime:
    """When an unknown attempt is looked at again: by its lane's policy, else at the end of life."""
    delay_s = _UNKNOWN_S[lane]
    return end if delay_s is None else min(now + timedelta(seconds=delay_s), end)
