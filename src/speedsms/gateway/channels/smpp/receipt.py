"""A receipt in a deliver_sm or data_sm → the part it is about and its TP-Status (channels §3.12, §3.13).

Carriers write receipts as a text that no standard fixes, as optional parameters, or both. Pure; nothing
that a peer sends raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from speedsms.gateway.channels.smpp import ids, outcome
from speedsms.gateway.channels.smpp.incoming import body_of, number_of
from speedsms.gateway.channels.smpp.pdu import DataSm, DeliverSm, Tag
from speedsms.gateway.channels.smpp.receipt_text import Text, read, times
from speedsms.gateway.channels.smpp.usual import UsualReceipt
from speedsms.gateway.rules.alphabet import Name


@dataclass(frozen=True, slots=True, eq=False)  # each is itself, which is quick to look up
class ReceiptRules:
    """Settings of a channel that say how its receipts are read (channels §3.2).

    err_map: `err` of a text, else the network's error in decimal, → TP-Status; case and leading zeros do not
    count. receipt_tz: the zone of dates. alphabet: of data_coding 0.
    """

    id_form: ids.IdForm = "auto"
    acceptd_final: bool = False
    unknown_state: Literal["failed", "delivered", "wait"] = "failed"
    err_map: Mapping[str, int] = field(default_factory=dict)
    receipt_tz: tzinfo = UTC
    sniff_receipts: bool = False
    alphabet: Name = "gsm7"

    def __post_init__(self) -> None:
        object.__setattr__(self, "err_map", {ids.key(err): status for err, status in self.err_map.items()})


class Receipt(Struct, frozen=True):
    """What a receipt says. reference: the id as received, "" if it names none; keys: what it may mean (ids).

    status: TP-Status, None if it makes no statement. cause: the peer's own words, for operators. peer_time:
    when it was done, in UTC. number: whom it is about, E.164 digits, "" if it does not say. parsed: it has
    an id and a state that we know. differs: text and parameters contradict each other.
    """

    reference: str
    keys: tuple[str, ...]
    status: int | None
    cause: str
    peer_time: datetime | None
    number: str
    parsed: bool
    intermediate: bool = False
    differs: bool = False


class State(IntEnum):
    """message_state, under the names that texts use."""

    SCHEDULED = 0
    ENROUTE = 1
    DELIVRD = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIV = 5
    ACCEPTD = 6
    UNKNOWN = 7
    REJECTD = 8
    SKIPPED = 9


_SPELLINGS: Final = {
    State.SCHEDULED: "SCHEDULED SCHEDLD",
    State.ENROUTE: "ENROUTE BUFFERED BUFFERD BUFFRED PENDING",
    State.DELIVRD: "DELIVRD DELIVERED DELIVERD DELIVRED",
    State.EXPIRED: "EXPIRED EXPIRD",
    State.DELETED: "DELETED DELETD",
    State.UNDELIV: "UNDELIV UNDELIVERED UNDELIVERABLE UNDELIVRD UNDELIVERD UNDELIVD NOTDELIVERED FAILED FAIL",
    State.ACCEPTD: "ACCEPTD ACCEPTED",
    State.UNKNOWN: "UNKNOWN UNKNOWND UNKNWN",
    State.REJECTD: "REJECTD REJECTED REJECT",
    State.SKIPPED: "SKIPPED SKIPPD",
}
_STATES: Final = {
    **{word: state for state, words in _SPELLINGS.items() for word in words.split()},
    **{str(state.value): state for state in State},
}
_BY_NUMBER: Final = {state.value: state for state in State}

# As plain numbers: a member of an enum is slow to reach.
_ID: Final = Tag.RECEIPTED_MESSAGE_ID.value
_MESSAGE_STATE: Final = Tag.MESSAGE_STATE.value
_NETWORK: Final = Tag.NETWORK_ERROR_CODE.value
_REASON: Final = Tag.DELIVERY_FAILURE_REASON.value

_TYPE_BITS: Final = 0x3C  # of esm_class
_FINAL, _INTERMEDIATE = 0x04, 0x20
_USER_ACKNOWLEDGEMENTS: Final = (0x08, 0x10)

_TEMPORARY: Final = 34  # no response: the peer is still trying
_NO_DETAIL: Final = 64
_UNDELIVERED: Final = 69
_OF_STATE: Final = {State.DELIVRD: 0, State.EXPIRED: 70, State.DELETED: 72, State.SKIPPED: 72}
_OF_UNKNOWN: Final = {"failed": _NO_DETAIL, "delivered": 0, "wait": None}
_OF_FAILURE_REASON: Final = {0: 69, 1: 67, 2: 64, 3: 98}
_GSM, _SMPP = b"\3", b"\7"  # types of network_error_code
# MAP errors of TS 29.002: 1 and 5 name no subscriber; 6, 13, 27, 32 one who cannot be reached or is barred;
# 9, 11, 12, 21 a service the handset or the network has not; 31 a busy one.
_OF_MAP_ERROR: Final = {
    **dict.fromkeys((1, 5), 67),
    **dict.fromkeys((6, 13, 27, 32), 69),
    **dict.fromkeys((9, 11, 12, 21), 65),
    31: 97,
}

# SM-35. When the message was submitted is not known here, so the past ends where no message can be from.
_OLDEST: Final = timedelta(days=7)
_AHEAD: Final = timedelta(hours=1)


# message_state, network_error_code and delivery_failure_reason; b"" where the receipt has none.
_Parameters: TypeAlias = tuple[bytes, bytes, bytes]
_NO_PARAMETERS: Final = (b"", b"", b"")


class _Said(NamedTuple):
    """What a receipt says besides its id, its time and its number. sure: it names a state that we know."""

    status: int | None
    cause: str
    sure: bool
    differs: bool


def parse(pdu: DeliverSm | DataSm, rules: ReceiptRules, now: datetime) -> Receipt | None:
    """What a receipt says; None: it is none, but a message from a phone."""
    kind = pdu.esm_class & _TYPE_BITS
    receipt = kind in (_FINAL, _INTERMEDIATE) or _ID in pdu.tlvs
    acknowledgement = kind in _USER_ACKNOWLEDGEMENTS
    if not (receipt or acknowledgement or rules.sniff_receipts):
        return None
    text = read(body_of(pdu), rules.alphabet if pdu.data_coding == 0 else "latin1")
    if not (receipt or acknowledgement or (text.id and _state(text.stat) is not None)):
        return None
    return _receipt(pdu.source.digits, text, pdu.tlvs, rules, now, kind)


def of_usual(usual: UsualReceipt, rules: ReceiptRules, now: datetime) -> Receipt:
    """As `parse` of the same PDU, whole."""
    return _receipt(usual.source, usual, usual.tlvs, rules, now)


def _receipt(  # noqa: PLR0917 - all a receipt is made of, for every one of them
    source: str,
    text: Text,
    tlvs: dict[int, bytes],
    rules: ReceiptRules,
    now: datetime,
    kind: int = _FINAL,
) -> Receipt:
    told = _id(tlvs)
    keys, differs = _keys(told, text.id, rules.id_form)
    said = _said(rules, kind, text.stat, text.err, _parameters(tlvs))
    return Receipt(
        told or text.id,
        keys,
        said.status,
        said.cause,
        _peer_time(text.done, rules.receipt_tz, now) if text.done else None,
        number_of(source),
        said.sure and bool(keys),
        kind == _INTERMEDIATE,
        differs or said.differs,
    )


def _id(tlvs: dict[int, bytes]) -> str:
    octets = tlvs.get(_ID)
    return octets.partition(b"\0")[0].decode("latin-1").strip()[: ids.LONGEST] if octets else ""


def _keys(parameter: str, written: str, form: ids.IdForm) -> tuple[tuple[str, ...], bool]:
    """What either id may be filed under, the parameter's first; whether they name different messages."""
    if not (parameter and written) or parameter == written:
        return ids.keys(parameter or written, form), False
    first, second = ids.keys(parameter, form), ids.keys(written, form)
    return tuple(dict.fromkeys(first + second)), set(first).isdisjoint(second)


def _parameters(tlvs: dict[int, bytes]) -> _Parameters:
    if not tlvs:
        return _NO_PARAMETERS
    network = tlvs.get(_NETWORK, b"")
    return (
        tlvs.get(_MESSAGE_STATE, b"")[:4],
        network if len(network) == 3 else b"",
        tlvs.get(_REASON, b"")[:4],
    )


@lru_cache(4096)  # a carrier says the same few things of nearly all messages
def _said(rules: ReceiptRules, kind: int, stat: str, err: str, parameters: _Parameters) -> _Said:
    """kind: of esm_class; stat, err: of the text."""
    told, network, reason = parameters
    written = _state(stat)
    known = _BY_NUMBER.get(int.from_bytes(told)) if told else None
    state = written if known is None else known
    word = stat if state is written else state.name if state is not None else ""
    code = int.from_bytes(network[1:])
    err = err or (str(code) if code else "")
    mute = kind in _USER_ACKNOWLEDGEMENTS  # a person's, which states nothing about the delivery (§3.12)
    failure = _Failure(err, network[:1], code, int.from_bytes(reason) if reason else None)
    return _Said(
        None if mute or state is None else _status(state, failure, rules, intermediate=kind == _INTERMEDIATE),
        f"{word} err {err}".lstrip() if err else word,
        state is not None and not mute,
        written is not None and state is not written,
    )


class _Failure(NamedTuple):
    """Why it was not delivered, in the carrier's words and numbers."""

    err: str
    network: bytes
    code: int
    reason: int | None


def _status(state: State, failure: _Failure, rules: ReceiptRules, *, intermediate: bool) -> int | None:
    """The table of §3.13. In an intermediate notification a failure is one of this try, never final."""
    match state:
        case State.DELIVRD:
            return 0
        case State.ACCEPTD:
            return 0 if rules.acceptd_final and not intermediate else None
        case _ if intermediate:
            return _TEMPORARY
        case State.UNDELIV | State.REJECTD:
            return _of_failure(state, failure, rules.err_map)
        case State.UNKNOWN:
            return _OF_UNKNOWN[rules.unknown_state]
    return _OF_STATE.get(state)


def _of_failure(state: State, failure: _Failure, err_map: Mapping[str, int]) -> int:
    err, network, code, reason = failure
    mapped = err_map.get(ids.key(err)) if err_map and err else None
    if mapped is not None or state is State.REJECTD:
        return 99 if mapped is None else mapped
    if code and network == _GSM:  # a code of zero is no error
        return _OF_MAP_ERROR.get(code, _NO_DETAIL)
    if code and network == _SMPP:
        return outcome.status_at_end(code)
    return _OF_FAILURE_REASON.get(-1 if reason is None else reason, _UNDELIVERED)


def _state(word: str) -> State | None:
    found = _STATES.get(word)
    if found is not None:
        return found
    letters = "".join(filter(str.isalnum, word.upper()))
    first = word.upper().partition(" ")[0]
    return next(
        (_STATES[w] for w in (letters, first, letters.lstrip("0") or letters[:1]) if w in _STATES), None
    )


def _peer_time(written: str, zone: tzinfo, now: datetime) -> datetime | None:
    for time in times(written[:32], zone):
        if now - _OLDEST <= time <= now + _AHEAD:
            return time
    return None
