"""A PDU in plain words, one line, for `channel test` and journals. Passwords and contents are never shown."""

import re
from collections.abc import Iterator
from typing import Final

from speedsms.gateway.channels.smpp.pdu import (
    RESPONSE,
    Address,
    BadPdu,
    Bind,
    DataSm,
    Frame,
    ShortMessage,
    Status,
    Tag,
    command_name,
    decode,
    status_name,
)

_MEANING: Final[dict[int, str]] = {
    Status.ROK: "ok",
    Status.RINVMSGLEN: "the message is too long",
    Status.RINVCMDLEN: "the PDU has a wrong length",
    Status.RINVCMDID: "the command is not known",
    Status.RINVBNDSTS: "not allowed on this bind",
    Status.RALYBND: "already bound: an old connection may still live there",
    Status.RSYSERR: "a fault of the peer",
    Status.RINVSRCADR: "the sender is not accepted",
    Status.RINVDSTADR: "the number is not accepted",
    Status.RBINDFAIL: "the bind is refused",
    Status.RINVPASWD: "the password is wrong",
    Status.RINVSYSID: "the system_id is not known",
    Status.RMSGQFUL: "the queue is full",
    Status.RINVSYSTYP: "the system_type is wrong",
    Status.RTHROTTLED: "too fast",
    Status.RX_T_APPN: "not now, again later",
    Status.RX_P_APPN: "not this message",
    Status.RX_R_APPN: "rejected",
}
_RECEIPT_TYPES: Final[dict[int, str]] = {0x04: "receipt", 0x20: "intermediate notification"}
_SHOWN_AS_TEXT: Final = {Tag.ADDITIONAL_STATUS_INFO_TEXT, Tag.RECEIPTED_MESSAGE_ID}
_SAID_ELSEWHERE: Final = {"mode", "password", "tlvs", "short_message", "source", "destination", "esm_class"}
_TAGS: Final = {int(tag): tag.name.lower() for tag in Tag}


def explain(frame: Frame) -> str:
    """Such as `submit_sm #7: SHOP → 84912345678, 64 octets, registered_delivery 1`."""
    words = [*_answer(frame), *_body(frame), *(f"odd: {flag}" for flag in frame.flags)]
    return f"{command_name(frame.command)} #{frame.sequence}" + (": " + ", ".join(words) if words else "")


def explain_octets(octets: bytes) -> str:
    """The same for octets that may be no PDU."""
    try:
        return explain(decode(octets))
    except BadPdu as bad:
        return f"no PDU: {bad} ({len(octets)} octets)"


def _answer(frame: Frame) -> Iterator[str]:
    if frame.command & RESPONSE:
        if frame.status:
            yield status_name(frame.status)
        if frame.status in _MEANING:
            yield _MEANING[frame.status]


def _body(frame: Frame) -> Iterator[str]:
    pdu = frame.pdu
    if isinstance(pdu, Bind):
        yield f"as {pdu.mode}"
    if isinstance(pdu, ShortMessage | DataSm):
        yield f"{pdu.source.digits or 'nobody'} → {pdu.destination.digits or 'nobody'}"
        yield from _content(pdu)
    for name in getattr(pdu, "__struct_fields__", ()):
        value = getattr(pdu, name)
        shown = value.digits if isinstance(value, Address) else value
        if shown and name not in _SAID_ELSEWHERE:
            yield f"{name} 0x{shown:x}" if name == "interface_version" else f"{name} {shown}"
    for tag, value in getattr(pdu, "tlvs", {}).items():
        yield _tlv(tag, value)


def _content(pdu: ShortMessage | DataSm) -> Iterator[str]:
    """How much text, and a receipt's own words: what its `text:` repeats is the client's."""
    octets = getattr(pdu, "short_message", b"") or pdu.tlvs.get(Tag.MESSAGE_PAYLOAD, b"")
    kind = _RECEIPT_TYPES.get(pdu.esm_class & 0x3C)
    if kind:
        said = octets.replace(b"\0", b"").decode("latin-1")  # some send receipts as UCS-2
        said = re.split(r"text\s*[:=]", said, maxsplit=1, flags=re.IGNORECASE)[0]
        yield f"{kind} {said.strip()!r}"
    else:
        yield f"{len(octets)} octets"
        if pdu.esm_class:
            yield f"esm_class 0x{pdu.esm_class:02x}"


def _tlv(tag: int, value: bytes) -> str:
    name = _TAGS.get(tag, f"tag 0x{tag:04X}")
    if tag == Tag.MESSAGE_PAYLOAD:
        return f"{name} of {len(value)} octets"
    if tag in _SHOWN_AS_TEXT:
        return f"{name} {value.rstrip(bytes(1)).decode('latin-1')!r}"
    return f"{name} {value.hex()}"
