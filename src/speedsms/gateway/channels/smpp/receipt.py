"""A receipt in a deliver_sm or data_sm → the part it is about and its TP-Status (channels §3.12, §3.13).

Carriers write receipts as a text that no standard fixes, as optional parameters, or both. Pure; nothing
that a peer sends raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from speedsms.gateway.channels.smpp import ids, outcome
from speedsms.gateway.channels.smpp.incoming import body_of, number_of
from speedsms.gateway.channels.smpp.pdu import DataSm, DeliverSm, Tag
from speedsms.gateway.channels.smpp.receipt_text import Text, read, times
from speedsms.gateway.rules.alphabet import Name


@dataclass(frozen=True, slots=True)
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

_TYPE_BITS: Final = 0x3C  # of esm_class
_FINAL, _INTERMEDIATE = 0x04, 0x20
_USER_ACKNOWLEDGEMENTS: Final = (0x08, 0x10)

_TEMPORARY: Final = 34  # no response: the peer is still trying
_NO_DETAIL: Final = 64
_UNDELIVERED: Final = 69
_OF_STATE: Final = {State.DELIVRD: 0, State.EXPIRED: 70, State.DELETED: 72, State.SKIPPED: 72}
_OF_UNKNOWN: Final = {"failed": _NO_DETAIL, "delivered": 0, "wait": None}
_OF_FAILURE_REASON: Final = {0: 69, 1: 67, 2: 64, 3: 98}
_GSM, _SMPP = 3, 7  # types of network_error_code
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


class _Parameters(NamedTuple):
    """What the optional parameters say. network: type and code."""

    id: str = ""
    state: State | None = None
    network: tuple[int, int] = (0, 0)
    reason: int | None = None


_NO_PARAMETERS: Final = _Parameters()


def parse(pdu: DeliverSm | DataSm, rules: ReceiptRules, now: datetime) -> Receipt | None:
    """What a receipt says; None: it is none, but a message from a phone."""
    kind = pdu.esm_class & _TYPE_BITS
    receipt = kind in (_FINAL, _INTERMEDIATE) or Tag.RECEIPTED_MESSAGE_ID in pdu.tlvs
    acknowledgement = kind in _USER_ACKNOWLEDGEMENTS
    if not (receipt or acknowledgement or rules.sniff_receipts):
        return None
    text = read(body_of(pdu), rules.alphabet if pdu.data_coding == 0 else "latin1")
    if not (receipt or acknowledgement or (text.id and _state(text.stat) is not None)):
        return None
    return _receipt(pdu, text, rules, now, intermediate=kind == _INTERMEDIATE, mute=acknowledgement)


def _receipt(
    pdu: DeliverSm | DataSm,
    text: Text,
    rules: ReceiptRules,
    now: datetime,
    *,
    intermediate: bool,
    mute: bool,
) -> Receipt:
    """mute: a person's acknowledgement, which states nothing about the delivery (§3.12)."""
    parameters = _parameters(pdu.tlvs) if pdu.tlvs else _NO_PARAMETERS
    written = _state(text.stat)
    state = written if parameters.state is None else parameters.state
    keys, differs = _keys(parameters.id, text.id, rules.id_form)
    word = text.stat if state is written else state.name if state is not None else ""
    err = text.err or (str(parameters.network[1]) if parameters.network[1] else "")
    return Receipt(
        parameters.id or text.id,
        keys,
        None if mute or state is None else _status(state, err, parameters, rules, intermediate=intermediate),
        f"{word} err {err}".lstrip() if err else word,
        _peer_time(text.done, rules.receipt_tz, now) if text.done else None,
        number_of(pdu.source.digits),
        bool(keys) and state is not None and not mute,
        intermediate,
        differs or (written is not None and state is not written),
    )


def _keys(parameter: str, written: str, form: ids.IdForm) -> tuple[tuple[str, ...], bool]:
    """What either id may be filed under, the parameter's first; whether they name different messages."""
    if not (parameter and written) or parameter == written:
        return ids.keys(parameter or written, form), False
    first, second = ids.keys(parameter, form), ids.keys(written, form)
    return tuple(dict.fromkeys(first + second)), set(first).isdisjoint(second)


def _status(
    state: State, err: str, parameters: _Parameters, rules: ReceiptRules, *, intermediate: bool
) -> int | None:
    """The table of §3.13. In an intermediate notification a failure is one of this try, never final."""
    match state:
        case State.DELIVRD:
            return 0
        case State.ACCEPTD:
            return 0 if rules.acceptd_final and not intermediate else None
        case _ if intermediate:
            return _TEMPORARY
        case State.UNDELIV | State.REJECTD:
            return _failure(state, err, parameters, rules.err_map)
        case State.UNKNOWN:
            return _OF_UNKNOWN[rules.unknown_state]
    return _OF_STATE.get(state)


def _failure(state: State, err: str, parameters: _Parameters, err_map: Mapping[str, int]) -> int:
    mapped = err_map.get(ids.key(err)) if err_map and err else None
    if mapped is not None or state is State.REJECTD:
        return 99 if mapped is None else mapped
    network, code = parameters.network
    if code and network == _GSM:  # a code of zero is no error
        return _OF_MAP_ERROR.get(code, _NO_DETAIL)
    if code and network == _SMPP:
        return outcome.status_at_end(code)
    return _OF_FAILURE_REASON.get(-1 if parameters.reason is None else parameters.reason, _UNDELIVERED)


def _parameters(tlvs: dict[int, bytes]) -> _Parameters:
    state = tlvs.get(Tag.MESSAGE_STATE, b"")
    network = tlvs.get(Tag.NETWORK_ERROR_CODE, b"")
    reason = tlvs.get(Tag.DELIVERY_FAILURE_REASON, b"")
    return _Parameters(
        tlvs.get(Tag.RECEIPTED_MESSAGE_ID, b"").partition(b"\0")[0].decode("latin-1").strip()[: ids.LONGEST],
        _BY_NUMBER.get(int.from_bytes(state[:4])) if state else None,
        (network[0], int.from_bytes(network[1:])) if len(network) == 3 else (0, 0),
        int.from_bytes(reason[:4]) if reason else None,
    )


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
