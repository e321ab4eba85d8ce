"""SMPP octets ↔ structs, pure (channels §3.3): the annotations of a struct are the table of its PDU.

The table of each PDU is compiled into one regular expression, so reading its fields is one call into C. What
peers write against the standard is read as far as it can be and named in Frame.flags (SM-4, SM-5).
"""

import re
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import lru_cache, partial
from operator import call, methodcaller
from struct import Struct as Binary
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeAlias, get_type_hints

from msgspec import Struct
from msgspec.structs import astuple

RESPONSE: Final = 0x80000000  # the bit that makes a response's command of its request's
LONGEST_PDU: Final = 65_536
LAST_SEQUENCE: Final = 0x7FFFFFFF
HEADER: Final = Binary(">IIII")
TLV: Final = Binary(">HH")
_LENGTH: Final = Binary(">I")


class Command(IntEnum):
    """command_id (SM-9)."""

    GENERIC_NACK = 0x80000000
    BIND_RECEIVER = 0x01
    BIND_RECEIVER_RESP = 0x80000001
    BIND_TRANSMITTER = 0x02
    BIND_TRANSMITTER_RESP = 0x80000002
    QUERY_SM = 0x03
    QUERY_SM_RESP = 0x80000003
    SUBMIT_SM = 0x04
    SUBMIT_SM_RESP = 0x80000004
    DELIVER_SM = 0x05
    DELIVER_SM_RESP = 0x80000005
    UNBIND = 0x06
    UNBIND_RESP = 0x80000006
    REPLACE_SM = 0x07
    REPLACE_SM_RESP = 0x80000007
    CANCEL_SM = 0x08
    CANCEL_SM_RESP = 0x80000008
    BIND_TRANSCEIVER = 0x09
    BIND_TRANSCEIVER_RESP = 0x80000009
    OUTBIND = 0x0B
    ENQUIRE_LINK = 0x15
    ENQUIRE_LINK_RESP = 0x80000015
    ALERT_NOTIFICATION = 0x102
    DATA_SM = 0x103
    DATA_SM_RESP = 0x80000103


class Status(IntEnum):
    """command_status, by the standard's names without ESME_; from 0x100 those of 5.0."""

    ROK = 0x00
    RINVMSGLEN = 0x01
    RINVCMDLEN = 0x02
    RINVCMDID = 0x03
    RINVBNDSTS = 0x04
    RALYBND = 0x05
    RINVPRTFLG = 0x06
    RINVREGDLVFLG = 0x07
    RSYSERR = 0x08
    RINVSRCADR = 0x0A
    RINVDSTADR = 0x0B
    RINVMSGID = 0x0C
    RBINDFAIL = 0x0D
    RINVPASWD = 0x0E
    RINVSYSID = 0x0F
    RCANCELFAIL = 0x11
    RREPLACEFAIL = 0x13
    RMSGQFUL = 0x14
    RINVSERTYP = 0x15
    RINVNUMDESTS = 0x33
    RINVDLNAME = 0x34
    RINVDESTFLAG = 0x40
    RINVSUBREP = 0x42
    RINVESMCLASS = 0x43
    RCNTSUBDL = 0x44
    RSUBMITFAIL = 0x45
    RINVSRCTON = 0x48
    RINVSRCNPI = 0x49
    RINVDSTTON = 0x50
    RINVDSTNPI = 0x51
    RINVSYSTYP = 0x53
    RINVREPFLAG = 0x54
    RINVNUMMSGS = 0x55
    RTHROTTLED = 0x58
    RINVSCHED = 0x61
    RINVEXPIRY = 0x62
    RINVDFTMSGID = 0x63
    RX_T_APPN = 0x64
    RX_P_APPN = 0x65
    RX_R_APPN = 0x66
    RQUERYFAIL = 0x67
    RINVOPTPARSTREAM = 0xC0
    ROPTPARNOTALLWD = 0xC1
    RINVPARLEN = 0xC2
    RMISSINGOPTPARAM = 0xC3
    RINVOPTPARAMVAL = 0xC4
    RDELIVERYFAILURE = 0xFE
    RUNKNOWNERR = 0xFF
    RSERTYPUNAUTH = 0x100
    RPROHIBITED = 0x101
    RSERTYPUNAVAIL = 0x102
    RSERTYPDENIED = 0x103
    RINVDCS = 0x104
    RINVSRCADDRSUBUNIT = 0x105
    RINVDSTADDRSUBUNIT = 0x106
    RINVBCASTFREQINT = 0x107
    RINVBCASTALIAS_NAME = 0x108
    RINVBCASTAREAFMT = 0x109
    RINVNUMBCAST_AREAS = 0x10A
    RINVBCASTCNTTYPE = 0x10B
    RINVBCASTMSGCLASS = 0x10C
    RBCASTFAIL = 0x10D
    RBCASTQUERYFAIL = 0x10E
    RBCASTCANCELFAIL = 0x10F
    RINVBCAST_REP = 0x110
    RINVBCASTSRVGRP = 0x111
    RINVBCASTCHANIND = 0x112


class Tag(IntEnum):
    """Tags of optional parameters that a peer is likely to send."""

    DEST_ADDR_SUBUNIT = 0x0005
    SOURCE_ADDR_SUBUNIT = 0x000D
    QOS_TIME_TO_LIVE = 0x0017
    PAYLOAD_TYPE = 0x0019
    ADDITIONAL_STATUS_INFO_TEXT = 0x001D
    RECEIPTED_MESSAGE_ID = 0x001E
    MS_MSG_WAIT_FACILITIES = 0x0030
    PRIVACY_INDICATOR = 0x0201
    SOURCE_SUBADDRESS = 0x0202
    DEST_SUBADDRESS = 0x0203
    USER_MESSAGE_REFERENCE = 0x0204
    USER_RESPONSE_CODE = 0x0205
    SOURCE_PORT = 0x020A
    DESTINATION_PORT = 0x020B
    SAR_MSG_REF_NUM = 0x020C
    LANGUAGE_INDICATOR = 0x020D
    SAR_TOTAL_SEGMENTS = 0x020E
    SAR_SEGMENT_SEQNUM = 0x020F
    SC_INTERFACE_VERSION = 0x0210
    NUMBER_OF_MESSAGES = 0x0304
    CALLBACK_NUM = 0x0381
    DPF_RESULT = 0x0420
    SET_DPF = 0x0421
    MS_AVAILABILITY_STATUS = 0x0422
    NETWORK_ERROR_CODE = 0x0423
    MESSAGE_PAYLOAD = 0x0424
    DELIVERY_FAILURE_REASON = 0x0425
    MORE_MESSAGES_TO_SEND = 0x0426
    MESSAGE_STATE = 0x0427
    CONGESTION_STATE = 0x0428
    USSD_SERVICE_OP = 0x0501
    DISPLAY_TIME = 0x1201
    SMS_SIGNAL = 0x1203
    MS_VALIDITY = 0x1204
    ALERT_ON_MESSAGE_DELIVERY = 0x130C


_COMMANDS: Final = {int(command): command.name.lower() for command in Command}
_STATUSES: Final = {int(status): status.name for status in Status}


def command_name(command: int) -> str:
    return _COMMANDS.get(command) or f"command 0x{command:08X}"


def status_name(status: int) -> str:
    return _STATUSES.get(status) or f"status 0x{status:X}"


class BadPdu(ValueError):  # noqa: N818 - what came, as the session's owner names it
    """Octets that are no PDU. status: what to answer; fatal: the borders of the PDUs are lost."""

    def __init__(self, status: int, cause: str, *, fatal: bool = False) -> None:
        super().__init__(cause)
        self.status = status
        self.fatal = fatal


# --- Fields ---------------------------------------------------------------------------------------


class Address(NamedTuple):
    """A number or name with its type of number and numbering plan."""

    ton: int
    npi: int
    digits: str


class Field(NamedTuple):
    """How one field looks as the standard has it, how it is found in what peers send, and how it is coded."""

    standard: bytes
    found: bytes
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


_latin1: Final = methodcaller("decode", "latin-1")  # transparent for any octet


def terminated(text: str, limit: int) -> bytes:
    """A C-octet string of at most `limit` octets, its NUL counted. Raises ValueError."""
    if len(text) >= limit or "\0" in text:
        raise ValueError(f"a string of {len(text)} characters: at most {limit - 1}, none of them NUL")
    return text.encode("ascii") + b"\0"


def _text(limit: int) -> Field:
    """A C-octet string of at most `limit` octets, its NUL counted."""

    def write(text: str) -> bytes:
        return terminated(text, limit)

    found = rb"([^\0]*+)(?:\0|\Z)"
    return Field(rb"([\x01-\x7f]{0,%d}+)\0" % (limit - 1), found, _latin1, lru_cache(1024)(write))


@lru_cache(4096)  # one sender stands in thousands of messages
def _address(octets: bytes) -> Address:
    return Address(octets[0], octets[1], octets[2:].decode("latin-1"))


def _party(limit: int) -> Field:
    def write(address: Address) -> bytes:
        ton, npi, digits = address
        return bytes((ton, npi)) + terminated(digits, limit)

    found = rb"(..[^\0]*+)(?:\0|\Z)"
    return Field(rb"(..[\x01-\x7f]{0,%d}+)\0" % (limit - 1), found, _address, lru_cache(4096)(write))


def counted(octets: bytes) -> bytes:
    """A short_message behind its sm_length. Raises ValueError."""
    if len(octets) > 254:
        raise ValueError(f"a short_message of {len(octets)} octets: at most 254, else message_payload")
    return len(octets).to_bytes() + octets


def optional(tlvs: dict[int, bytes]) -> bytes:
    """The octets of optional parameters, by tag."""
    return b"".join([TLV.pack(tag, len(value)) + value for tag, value in tlvs.items()])


def _one(value: int) -> bytes:
    return bytes((value,))


_OCTET: Final = Field(b"(.)", b"(.)", ord, lru_cache(256)(_one))
_SHORT: Final = Field(b"(.)", b"(.)", ord, counted)  # its group is sm_length; the octets stand behind it
_OPTIONAL: Final = Field(b"", b"", bytes, optional)

Octet: TypeAlias = Annotated[int, _OCTET]
Tlvs: TypeAlias = Annotated[dict[int, bytes], _OPTIONAL]
System: TypeAlias = Annotated[str, _text(16)]
Service: TypeAlias = Annotated[str, _text(6)]
Time: TypeAlias = Annotated[str, _text(17)]
MessageId: TypeAlias = Annotated[str, _text(65)]
Party: TypeAlias = Annotated[Address, _party(21)]
LongParty: TypeAlias = Annotated[Address, _party(65)]
Mode: TypeAlias = Literal["transmitter", "receiver", "transceiver"]
NOBODY: Final = Address(0, 0, "")

# --- PDUs: fields in the order of the standard ----------------------------------------------------


class Bind(Struct, frozen=True):
    mode: Mode
    system_id: System
    # Eight by the standard; carriers that follow newer advice hand out longer ones (`long_password`, §3.2).
    password: Annotated[str, _text(65)]
    system_type: Annotated[str, _text(13)] = ""
    interface_version: Octet = 0x34
    address: Annotated[Address, _party(41)] = NOBODY

    @property
    def command(self) -> int:
        return BINDS[self.mode]

    def __repr__(self) -> str:
        return f"Bind({self.mode!r}, {self.system_id!r}, ...)"  # logs never show a password


class BindResp(Struct, frozen=True):
    mode: Mode
    system_id: System = ""
    tlvs: Tlvs = {}

    @property
    def command(self) -> int:
        return BINDS[self.mode] | RESPONSE


class ShortMessage(Struct, frozen=True):
    """The fields that submit_sm and deliver_sm share. short_message: at most 254 octets."""

    service_type: Service = ""
    source: Party = NOBODY
    destination: Party = NOBODY
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: Time = ""
    validity_period: Time = ""
    registered_delivery: Octet = 0
    replace_if_present: Octet = 0
    data_coding: Octet = 0
    default_msg_id: Octet = 0
    short_message: Annotated[bytes, _SHORT] = b""
    tlvs: Tlvs = {}


class SubmitSm(ShortMessage, frozen=True):
    command: ClassVar[int] = Command.SUBMIT_SM


class DeliverSm(ShortMessage, frozen=True):
    command: ClassVar[int] = Command.DELIVER_SM


class SubmitSmResp(Struct, frozen=True):
    command: ClassVar[int] = Command.SUBMIT_SM_RESP
    message_id: MessageId = ""
    tlvs: Tlvs = {}


class DeliverSmResp(Struct, frozen=True):
    command: ClassVar[int] = Command.DELIVER_SM_RESP
    message_id: MessageId = ""
    tlvs: Tlvs = {}


class DataSm(Struct, frozen=True):
    command: ClassVar[int] = Command.DATA_SM
    service_type: Service = ""
    source: LongParty = NOBODY
    destination: LongParty = NOBODY
    esm_class: Octet = 0
    registered_delivery: Octet = 0
    data_coding: Octet = 0
    tlvs: Tlvs = {}


class DataSmResp(Struct, frozen=True):
    command: ClassVar[int] = Command.DATA_SM_RESP
    message_id: MessageId = ""
    tlvs: Tlvs = {}


class QuerySm(Struct, frozen=True):
    command: ClassVar[int] = Command.QUERY_SM
    message_id: MessageId = ""
    source: Party = NOBODY


class QuerySmResp(Struct, frozen=True):
    command: ClassVar[int] = Command.QUERY_SM_RESP
    message_id: MessageId = ""
    final_date: Time = ""
    message_state: Octet = 0
    error_code: Octet = 0


class CancelSm(Struct, frozen=True):
    command: ClassVar[int] = Command.CANCEL_SM
    service_type: Service = ""
    message_id: MessageId = ""
    source: Party = NOBODY
    destination: Party = NOBODY


class ReplaceSm(Struct, frozen=True):
    command: ClassVar[int] = Command.REPLACE_SM
    message_id: MessageId = ""
    source: Party = NOBODY
    schedule_delivery_time: Time = ""
    validity_period: Time = ""
    registered_delivery: Octet = 0
    default_msg_id: Octet = 0
    short_message: Annotated[bytes, _SHORT] = b""


class AlertNotification(Struct, frozen=True):
    command: ClassVar[int] = Command.ALERT_NOTIFICATION
    source: LongParty = NOBODY
    esme: LongParty = NOBODY
    tlvs: Tlvs = {}


class Outbind(Struct, frozen=True):
    command: ClassVar[int] = Command.OUTBIND
    system_id: System = ""
    password: Annotated[str, _text(9)] = ""

    def __repr__(self) -> str:
        return f"Outbind({self.system_id!r}, ...)"


Pdu: TypeAlias = (
    Bind
    | BindResp
    | SubmitSm
    | SubmitSmResp
    | DeliverSm
    | DeliverSmResp
    | DataSm
    | DataSmResp
    | QuerySm
    | QuerySmResp
    | CancelSm
    | ReplaceSm
    | AlertNotification
    | Outbind
)


class Frame(Struct, frozen=True):
    """One PDU as it came. pdu: one of Pdu, or what another reader makes of the octets; None: a response
    without body, or a command that has none.

    flags: what in it was against the standard, in words.
    """

    command: int
    status: int
    sequence: int
    pdu: Struct | None
    flags: tuple[str, ...] = ()


BINDS: Final[dict[str, int]] = {
    "transmitter": Command.BIND_TRANSMITTER,
    "receiver": Command.BIND_RECEIVER,
    "transceiver": Command.BIND_TRANSCEIVER,
}


class Layout:
    """The compiled table of one struct. first: values its command stands for (a bind's mode)."""

    def __init__(self, shape: type[Struct], first: tuple[str, ...] = ()) -> None:
        hints = get_type_hints(shape, include_extras=True)
        self.names = shape.__struct_fields__[len(first) :]
        self.fields = [hints[name].__metadata__[0] for name in self.names]
        self.make: Callable[..., Any] = partial(shape, *first)
        self.skip = len(first)
        self.read = [field.read for field in self.fields if field is not _OPTIONAL]
        self.write = [field.write for field in self.fields]
        self.standard = re.compile(b"".join(field.standard for field in self.fields), re.DOTALL)
        self.found = re.compile(b"".join(field.found for field in self.fields), re.DOTALL)
        self.short = _SHORT in self.fields
        self.optional = _OPTIONAL in self.fields

    def faults(self, groups: tuple[bytes, ...]) -> tuple[str, ...]:
        """Why the standard's expression did not fit, field by field."""
        seen = zip(self.names, self.fields, groups, strict=False)
        bad = [
            name for name, field, octets in seen if not re.fullmatch(field.standard + b"?", octets, re.DOTALL)
        ]
        return tuple(f"{name}: too long or not ASCII" for name in bad) or ("no NUL at the end",)


_SHAPES: Final[tuple[Any, ...]] = (
    *(SubmitSm, SubmitSmResp, DeliverSm, DeliverSmResp, DataSm, DataSmResp, QuerySm, QuerySmResp),
    *(CancelSm, ReplaceSm, AlertNotification, Outbind),
)
_LAYOUTS: Final[dict[int, Layout]] = {
    **{int(shape.command): Layout(shape) for shape in _SHAPES},
    **{int(command): Layout(Bind, (mode,)) for mode, command in BINDS.items()},
    **{command | RESPONSE: Layout(BindResp, (mode,)) for mode, command in BINDS.items()},
}

# --- Octets ↔ PDUs --------------------------------------------------------------------------------


def encode(pdu: Pdu, sequence: int, status: int = 0) -> bytes:
    """One whole PDU. Raises ValueError where a field is beyond the standard's limits (SM-4)."""
    body = encode_body(pdu)
    return HEADER.pack(16 + len(body), pdu.command, status, sequence) + body


def encode_body(pdu: Pdu) -> bytes:
    """What stands behind the header. Raises ValueError as encode does."""
    layout = _LAYOUTS[pdu.command]
    values = astuple(pdu)[layout.skip :] if layout.skip else astuple(pdu)
    return b"".join(map(call, layout.write, values))


def encode_bare(command: int, sequence: int, status: int = 0) -> bytes:
    """A PDU that is a header only."""
    return HEADER.pack(16, command, status, sequence)


def decode(octets: bytes | memoryview) -> Frame:
    """One whole PDU. Raises BadPdu, fatal only if the octets are not one PDU's by their own length."""
    octets = bytes(octets)
    if len(octets) < 16:
        raise BadPdu(Status.RINVCMDLEN, f"{len(octets)} octets are no header", fatal=True)
    length, command, status, sequence = HEADER.unpack_from(octets)
    if length != len(octets):
        raise BadPdu(Status.RINVCMDLEN, f"command_length {length} of {len(octets)} octets", fatal=True)
    layout = _LAYOUTS.get(command)
    if layout is None:
        if command not in _COMMANDS:
            raise BadPdu(Status.RINVCMDID, command_name(command))
        return Frame(command, status, sequence, None, ("a body where none belongs",) if length > 16 else ())
    if length == 16 and command & RESPONSE:
        return Frame(command, status, sequence, None)  # SM-6
    pdu, flags = _body(layout, octets)
    return Frame(command, status, sequence, pdu, flags)


def _body(layout: Layout, octets: bytes) -> tuple[Pdu, tuple[str, ...]]:
    flags: tuple[str, ...] = ()
    fields = layout.standard.match(octets, 16)
    if fields is None:
        fields = layout.found.match(octets, 16)
        if fields is None:
            raise BadPdu(Status.RINVCMDLEN, f"{len(octets)} octets end within the mandatory fields")
        flags = layout.faults(fields.groups())
    values = list(map(call, layout.read, fields.groups()))
    at = fields.end()
    if layout.short:
        end = at + values[-1]
        values[-1] = octets[at:end]
        at = end
    if layout.optional and at < len(octets):
        tlvs, more = tlvs_of(octets, at)
        return layout.make(*values, tlvs), flags + more
    if at != len(octets):
        if at > len(octets):
            raise BadPdu(Status.RINVCMDLEN, "sm_length reaches beyond the PDU")
        flags += ("octets behind the last field",)
    return layout.make(*values), flags


def tlvs_of(octets: bytes, at: int) -> tuple[dict[int, bytes], tuple[str, ...]]:
    """The optional parameters from `at` to the end of a PDU, and flags."""
    tlvs: dict[int, bytes] = {}
    flags: tuple[str, ...] = ()
    last = len(octets) - 4
    while at <= last:
        tag, length = TLV.unpack_from(octets, at)
        end = at + 4 + length
        if end > last + 4:
            break
        if tag in tlvs:
            flags = ("a tag twice",)
        else:
            tlvs[tag] = octets[at + 4 : end]
        at = end
    return tlvs, (*flags, "a TLV reaches beyond the PDU") if at < last + 4 else flags


class Splitter:
    """The stream of one connection, cut into PDUs (SM-1, SM-2). It never holds more than it was fed."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._need = 4

    def feed(self, octets: bytes) -> Iterator[bytes]:
        """The PDUs that are whole now; read them all. Raises a fatal BadPdu at an impossible length."""
        if self._rest:
            self._rest += octets
            if len(self._rest) < self._need:
                return
            octets = bytes(self._rest)
        at, held, self._need = 0, len(octets), 4
        try:
            while held - at >= 4:
                (length,) = _LENGTH.unpack_from(octets, at)
                if not 16 <= length <= LONGEST_PDU:
                    raise BadPdu(Status.RINVCMDLEN, f"command_length {length}", fatal=True)
                if held - at < length:
                    self._need = length
                    break
                at += length
                yield octets[at - length : at]
        finally:
            self._rest = bytearray(octets[at:])
