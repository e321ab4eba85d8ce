"""command_status of a response → what it means for the message (channels §3.10): the one table of it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from speedsms.gateway.channels.base import Reason, Refused

OK: Final = 0x00
THROTTLED: Final = 0x58
QUEUE_FULL: Final = 0x14

_THEIRS, _OURS, _FAILED = Reason.PEER_ERROR, Reason.NOT_WRITTEN, Reason.FAILED
_SENDER, _NUMBER, _CONTENT = Reason.SENDER_REFUSED, Reason.NUMBER_REFUSED, Reason.CONTENT_REFUSED

_TABLE: Final[Mapping[int, tuple[Reason, str]]] = MappingProxyType(
    {
        0x01: (Reason.TOO_LONG, "message too long"),
        0x02: (_FAILED, "command length wrong"),
        0x03: (_FAILED, "command not known"),
        0x04: (_OURS, "not allowed in this state of the bind"),
        0x05: (_OURS, "already bound"),
        0x06: (_FAILED, "priority flag wrong"),
        0x07: (_FAILED, "registered_delivery wrong"),
        0x08: (_THEIRS, "system error"),
        0x0A: (_SENDER, "sender address refused"),
        0x0B: (_NUMBER, "destination address refused"),
        0x0C: (_FAILED, "message id wrong"),
        0x11: (_FAILED, "cancel failed"),
        0x13: (_FAILED, "replace failed"),
        QUEUE_FULL: (Reason.QUEUE_FULL, "message queue full"),
        0x15: (_FAILED, "service type wrong"),
        0x33: (_NUMBER, "number of destinations wrong"),
        0x34: (_FAILED, "distribution list name wrong"),
        0x40: (_FAILED, "destination flag wrong"),
        0x42: (_FAILED, "submit with replace not supported"),
        0x43: (_FAILED, "esm_class wrong"),
        0x44: (_FAILED, "cannot submit to a distribution list"),
        0x45: (_THEIRS, "submit failed"),
        0x48: (_SENDER, "sender TON wrong"),
        0x49: (_SENDER, "sender NPI wrong"),
        0x50: (_NUMBER, "destination TON wrong"),
        0x51: (_NUMBER, "destination NPI wrong"),
        0x53: (_FAILED, "system type wrong"),
        0x54: (_FAILED, "replace_if_present wrong"),
        0x55: (_FAILED, "number of messages wrong"),
        THROTTLED: (Reason.THROTTLED, "too fast"),
        0x61: (_FAILED, "scheduled time wrong"),
        0x62: (_FAILED, "validity period wrong"),
        0x63: (_FAILED, "predefined message wrong"),
        0x64: (_THEIRS, "receiver: temporary error"),
        0x65: (_CONTENT, "receiver: permanent error"),
        0x66: (_CONTENT, "receiver: message rejected"),
        0x67: (_FAILED, "query failed"),
        0xC0: (_FAILED, "optional part wrong"),
        0xC1: (_FAILED, "optional parameter not allowed"),
        0xC2: (_FAILED, "parameter length wrong"),
        0xC3: (_FAILED, "optional parameter missing"),
        0xC4: (_FAILED, "optional parameter value wrong"),
        0xFE: (_THEIRS, "delivery failed"),
        0xFF: (_THEIRS, "unknown error"),
        0x100: (_FAILED, "not authorised for the service type"),
        0x101: (_FAILED, "prohibited"),
        0x102: (_THEIRS, "service type unavailable"),
        0x103: (_FAILED, "service type denied"),
        0x104: (Reason.UNSUPPORTED, "data coding not supported"),
    }
)
# A setting of the link is wrong, or our octets are: messages fail until a person corrects it.
ALARMS: Final = frozenset(
    {0x02, 0x03, 0x06, 0x07, 0x15, 0x43, 0x48, 0x49, 0x53, 0x54, *range(0x61, 0x64), *range(0xC0, 0xC5)}
)
# After these the bind itself is in doubt and is made anew.
REBIND: Final = frozenset({0x04, 0x05})
_VENDOR: Final = range(0x400, 0x500)

# Status of a message that ends with a refusal (channels §1.4), for peers that state theirs in a receipt.
_STATUS_AT_END: Final[Mapping[Reason, int]] = MappingProxyType(
    {
        Reason.PEER_ERROR: 96,
        Reason.SENDER_REFUSED: 99,
        Reason.CONTENT_REFUSED: 99,
        Reason.UNSUPPORTED: 65,
        Reason.TOO_LONG: 65,
        Reason.NUMBER_REFUSED: 67,
        Reason.FAILED: 64,
    }
)
_LIFE_OVER: Final = 70


def refusal(status: int, status_map: Mapping[int, Reason] = MappingProxyType({})) -> Refused:
    """What a command_status other than 0 means; the operator's word (`status_map`) goes before ours."""
    reason = status_map.get(status) or _known(status)[0]
    return Refused(reason, f"0x{status:02x} {words(status)}")


def words(status: int) -> str:
    """A command_status for people: `too fast`."""
    return "ok" if status == OK else _known(status)[1]


def status_at_end(status: int) -> int:
    """The TP-Status of a message whose end is a command_status other than 0."""
    return _STATUS_AT_END.get(_known(status)[0], _LIFE_OVER)


def _known(status: int) -> tuple[Reason, str]:
    # What nobody listed is taken as temporary: three tries cost less than a message lost.
    return _TABLE.get(status) or (_THEIRS, "the carrier's own code" if status in _VENDOR else "unlisted code")
