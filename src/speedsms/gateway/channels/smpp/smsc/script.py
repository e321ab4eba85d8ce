"""What a simulated carrier does, as data: in Python for tests, in TOML for people (channels §3.17).

Delays are seconds, or (least, most) of which one is drawn. A status is a number or a name such as RTHROTTLED.
"""

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from speedsms.gateway.channels.smpp.pdu import Status
from speedsms.gateway.channels.smpp.smsc.shapes import SHAPES, STATES

_Amount: TypeAlias = Annotated[float, Meta(ge=0)]
_Count: TypeAlias = Annotated[int, Meta(ge=0)]
_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Delay: TypeAlias = float | tuple[float, float]
Code: TypeAlias = int | str
IdForm: TypeAlias = Literal[
    "decimal", "padded", "hex", "HEX", "padded_hex", "PADDED_HEX", "uuid", "UUID", "long", "none"
]
Concat: TypeAlias = Literal["udh8", "udh16", "sar", "payload"]
# unbind: politely; cut: RST in the middle of a PDU; deaf: reads nothing more; mute: answers nothing more.
End: TypeAlias = Literal["", "unbind", "close", "reset", "cut", "deaf", "mute"]


def code(status: Code) -> int:
    """The number of a command_status. Raises ValueError for a name nobody knows."""
    if isinstance(status, int):
        return status
    if status in Status.__members__:
        return Status[status]
    try:
        return int(status, 0)
    except ValueError:
        raise ValueError(f"{status!r} is no command_status: write 0x58 or RTHROTTLED") from None


class Receipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing the carrier says of a message.

    after_s counts from the response, below 0 it comes before it. state: DELIVRD and so on; shape: a name in
    SHAPES or a template with braces. carry: where id and state stand; tlv_state: what the TLV says instead of
    the state, to contradict. bind: the connection it comes on, if there is another. intermediate: as the
    notification of esm_class 0x20. unasked: even where registered_delivery did not ask for it.
    """

    state: str = "DELIVRD"
    err: str = "000"
    after_s: Delay = 0.05
    times: _Count = 1
    id_form: IdForm | None = None
    shape: str = "standard"
    carry: Literal["both", "text", "tlv"] = "both"
    tlv_state: str = ""
    network_error: str = ""
    coding: Literal["default", "ucs2"] = "default"
    place: Literal["short_message", "payload"] = "short_message"
    pdu: Literal["deliver_sm", "data_sm"] = "deliver_sm"
    bind: Literal["same", "other"] = "same"
    intermediate: bool = False
    unasked: bool = False

    def __post_init__(self) -> None:
        if self.shape not in SHAPES and "{" not in self.shape:
            raise ValueError(f"shape {self.shape!r} is none of {', '.join(SHAPES)}")
        if self.tlv_state and self.tlv_state not in STATES:
            raise ValueError(f"tlv_state {self.tlv_state!r} is none of {', '.join(STATES)}")
        bytes.fromhex(self.network_error)

    @property
    def final(self) -> bool:
        return not self.intermediate and self.state not in {"ENROUTE", "ACCEPTD", "SCHEDULED", "BUFFERED"}


class Play(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of one submit_sm.

    answers: a response under each of these sequence numbers, so () is none and two of `own` a repetition.
    shuffle: so many responses are gathered, then sent in any order. refusals: how often a number gets
    `status` before its message is taken, 0 is always. then: how the connection ends after the response.
    """

    status: Code = 0
    delay_s: Delay = 0.0
    answers: tuple[Literal["own", "unknown", "zero", "nack"], ...] = ("own",)
    shuffle: _Count = 0
    refusals: _Count = 0
    id_form: IdForm = "hex"
    congestion: Annotated[int, Meta(ge=0, le=99)] | None = None
    receipts: tuple[Receipt, ...] = (Receipt(),)
    reply: str = ""
    reply_s: _Amount = 0.3
    then: End = ""

    def __post_init__(self) -> None:
        code(self.status)


class Rule(Play, frozen=True, kw_only=True):
    """A play for some messages: of a number, of a pattern such as 8491*, the next n, or a share of these."""

    number: str = ""
    pattern: str = ""
    next: _Count = 0
    share: _Share = 1.0


class Welcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to a bind. answer: whether there is one at all; version: sc_interface_version, 0 is none."""

    status: Code = 0
    delay_s: Delay = 0.0
    answer: bool = True
    system_id: str = "speedsms"
    version: Annotated[int, Meta(ge=0, le=255)] = 0x34
    then: End = ""

    def __post_init__(self) -> None:
        code(self.status)


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the contract allows; 0 is no limit.

    rate: messages taken in any second; window: submits open on one connection; queue: messages of one number
    without final receipt; binds: of one system_id.
    """

    rate: _Amount = 0.0
    rate_status: Code = "RTHROTTLED"
    window: _Count = 0
    window_status: Code = "RTHROTTLED"
    queue: _Count = 0
    binds: _Count = 0

    def __post_init__(self) -> None:
        code(self.rate_status)
        code(self.window_status)


class Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How connections behave. octet_s: one octet each so many seconds. end: after `end_after` received PDUs.

    garbage: octets in hex, sent once bound. enquire_link_s: silence before the carrier asks, 0 is never;
    flood: enquire_link each second.
    """

    octet_s: _Amount = 0.0
    end: End = ""
    end_after: _Count = 0
    garbage: tuple[str, ...] = ()
    enquire_link_s: _Amount = 0.0
    answers_enquire_link: bool = True
    flood: _Amount = 0.0

    def __post_init__(self) -> None:
        for octets in self.garbage:
            bytes.fromhex(octets)


class Deliver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How receipts and incoming messages are pushed: at most `window` open on a connection.

    What gets a temporary error, or no answer within response_s, is said again after retry_s, `tries` times.
    """

    window: Annotated[int, Meta(ge=1)] = 1000
    response_s: _Amount = 60.0
    retry_s: _Amount = 1.0
    tries: Annotated[int, Meta(ge=1)] = 1000


class Speech(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages of a handset, `after_s` after the first bind that receives. `{n}` in the text counts from 1.

    lost: numbers of the parts that never come; times: how often each part comes; alphabet: by the text if
    it is not given.
    """

    sender: str = "84912345678"
    recipient: str = "19001234"
    text: str = "Xin chao {n}"
    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    after_s: _Amount = 0.5
    concat: Concat = "udh8"
    alphabet: Literal["", "gsm7", "latin1", "ucs2"] = ""
    shuffled: bool = False
    lost: tuple[int, ...] = ()
    times: _Count = 1


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole carrier. Rules are asked in their order, before them the magic numbers; `play` is for the rest.

    accounts: system_id → password, none lets everybody in. binds: answers to the first binds, then `bind`.
    id_cycle: after so many message ids they begin again, 0 is never.
    """

    accounts: Mapping[str, str] = {}
    bind: Welcome = Welcome()
    binds: tuple[Welcome, ...] = ()
    limits: Limits = Limits()
    wire: Wire = Wire()
    deliver: Deliver = Deliver()
    play: Play = Play()
    rules: tuple[Rule, ...] = ()
    speech: tuple[Speech, ...] = ()
    magic: bool = True
    id_cycle: _Count = 0


def script_of(raw: Mapping[str, Any]) -> Script:
    """A script from its TOML form, where a rule takes from `play` what it leaves out.

    Raises ValueError with the path of the bad key.
    """
    play = raw.get("play", {})
    rules = [{**play, **rule} for rule in raw.get("rules", ())]
    try:
        return msgspec.convert({**raw, "rules": rules}, Script)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$.")
        raise ValueError(f"{where.rstrip('`')}: {said}" if where else said) from None


def load(path: Path) -> Script:
    """Raises OSError, or ValueError with the line or the key that is wrong."""
    return script_of(tomllib.loads(path.read_text("utf8")))


def matches(rule: Rule, number: str) -> bool:
    """Whether a rule is about a number; share and next are not looked at."""
    if rule.number:
        return rule.number == number
    return not rule.pattern or fnmatchcase(number, rule.pattern)
