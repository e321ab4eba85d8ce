"""The life of a message as one total table, and what a refusal, a report or silence makes of it.

Sources: protocol §11 and §14.1, channels §1.4, §1.8 and §2 (ST-1 … ST-6). docs/explanation/lifecycle.md is
drawn from TRANSITIONS.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


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
    """What a reason of refusal leads to. pauses: the channel waits, and the try is not counted.

    delays_s: when it is tried again, one entry per try; then the message ends with `status`.
    """

    status: int
    delays_s: tuple[float, ...] = ()
    pauses: bool = False


RULINGS: Final[dict[str, Ruling]] = {
    "throttled": Ruling(EXPIRED, pauses=True),
    "queue_full": Ruling(EXPIRED, pauses=True),
    "not_written": Ruling(EXPIRED, pauses=True),
    "auth": Ruling(EXPIRED, pauses=True),
    "no_balance": Ruling(EXPIRED, pauses=True),
    "peer_error": Ruling(CONGESTION, (1.0, 5.0, 30.0)),
    "sender_refused": Ruling(REJECTED),
    "content_refused": Ruling(REJECTED),
    "unsupported": Ruling(INCOMPATIBLE),
    "too_long": Ruling(INCOMPATIBLE),
    "number_refused": Ruling(NOT_IN_SERVICE),
    "opted_out": Ruling(REJECTED),
    "busy": Ruling(BUSY),
    "no_answer": Ruling(NO_ANSWER),
    "rejected": Ruling(REJECTED),
    "expired": Ruling(EXPIRED),
    "cancelled": Ruling(CANCELLED),
    "failed": Ruling(NO_DETAIL),
}

# Seconds until an unknown attempt gets its one successor, by lane; None: never (channels §1.8).
_UNKNOWN_S: Final[dict[int, float | None]] = {0: 5.0, 1: 35.0, 2: 120.0, 3: None}


def unknown_look(lane: int, attempt: int, now: datetime, end: datetime) -> datetime:
    """When an unknown attempt is looked at again: by its lane's policy once, then at the end of life."""
    delay_s = _UNKNOWN_S[lane]
    if delay_s is None or attempt > 1:
        return end
    return min(now + timedelta(seconds=delay_s), end)


def is_final(tp_status: int) -> bool:
    """0 to 31 and 64 to 127 end a message; 32 to 63 say that the carrier is still trying (ST-2)."""
    return tp_status < 32 or tp_status >= 64


def folded(tp_status: int) -> int:
    """A carrier's own TP-Status as we report it: every kind of *done* is 0 (channels §2)."""
    return DELIVERED if tp_status < 32 else tp_status
