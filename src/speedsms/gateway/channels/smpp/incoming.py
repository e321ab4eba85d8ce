"""deliver_sm or data_sm → a message from a phone, or a part of one (channels §3.14). Pure, total."""

from datetime import datetime
from hashlib import blake2b
from typing import Final, NamedTuple

from speedsms.gateway.channels.base import Incoming, Piece
from speedsms.gateway.channels.smpp.pdu import Address, DataSm, DeliverSm, Tag
from speedsms.gateway.rules import alphabet
from speedsms.gateway.rules.alphabet import Name
from speedsms.numbers import BLOCKS, VIETNAM, parse

RAW_OCTETS: Final = 4096

_UDHI: Final = 0x40
_ALPHANUMERIC: Final = 5  # TON
_LONGEST_ADDRESS: Final = 64
_DIGITS: Final = range(8, 16)  # of E.164; a shorter row of digits is a service, no subscriber
_CODINGS: Final[dict[int, Name]] = {
    1: "ascii",
    2: "data",
    3: "latin1",
    4: "data",
    8: "ucs2",
    0x14: "data",
    0x18: "ucs2",
}
# A peer that misses our response repeats the message within its time-out, seldom over a minute; people who
# write the same again do so later. deliver_sm has no id, so a repetition is the same octets between the same
# two addresses in one stretch of this length. At its border a repetition is delivered twice: better than
# losing an honest one.
_SAME_S: Final = 120


class Header(NamedTuple):
    """What a user data header says. reference, width, total, part: of a long message; total 0: it is none."""

    octets: int = 0  # its own length
    reference: int = 0
    width: int = 0  # bits of the reference
    total: int = 0
    part: int = 0
    ported: bool = False


class Read(NamedTuple):
    """A message, and what in its octets was against the standard, by name, to be counted."""

    incoming: Incoming
    oddities: frozenset[str]


def read(pdu: DeliverSm | DataSm, default: Name, now: datetime) -> Read:
    """The message of a PDU that is no receipt. default: the alphabet of data_coding 0 on this link.

    A part of a long message has a piece; the store joins pieces as octets (SM-42).
    """
    body = body_of(pdu)
    name, oddities = _alphabet_of(pdu.data_coding, default)
    header, content = split_udh(body) if pdu.esm_class & _UDHI else (Header(), body)
    if header is None:
        header, oddities = Header(), oddities | {"broken_header"}
    if header.ported:
        name = "data"
    text, flags = alphabet.decode(content, name, header=header.octets)
    sender, recipient = party(pdu.source), party(pdu.destination)
    piece = _piece(header if header.total else _sar(pdu.tlvs), content, name, header.octets)
    incoming = Incoming(
        sender=sender,
        recipient=recipient,
        text=text.replace("\0", ""),  # the filling of some peers, and nothing a database can store
        received_at=now,
        dedup_key=_dedup_key(pdu, sender, recipient, body, None if piece else now),
        raw=body[:RAW_OCTETS],
        piece=piece,
    )
    return Read(incoming, oddities | flags)


def body_of(pdu: DeliverSm | DataSm) -> bytes:
    """The octets of the message with its header, wherever the peer put them."""
    short = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    return short or pdu.tlvs.get(Tag.MESSAGE_PAYLOAD, b"")


def split_udh(octets: bytes) -> tuple[Header | None, bytes]:
    """The user data header in front of a message, and the rest; None and all octets if it is broken (SM-41).

    Elements other than parts and ports are skipped.
    """
    end = octets[0] + 1 if octets else 1
    if end > len(octets):
        return None, octets
    header, at = Header(end), 1
    while at < end:
        after = at + 2 + octets[at + 1] if at + 1 < end else end + 1
        if after > end:
            return None, octets
        header, at = _with_element(header, octets[at], octets[at + 2 : after]), after
    return header, octets[end:]


def _with_element(header: Header, element: int, value: bytes) -> Header:
    match element, len(value):
        case (0x00, 3) | (0x08, 4):
            *reference, total, part = value
            if 1 <= part <= total and total > 1:  # else it is no part, and the text stands alone
                number, width = int.from_bytes(reference), 8 * len(reference)
                return header._replace(reference=number, width=width, total=total, part=part)
        case (0x04, 2) | (0x05, 4):
            return header._replace(ported=True)
    return header


def _sar(tlvs: dict[int, bytes]) -> Header:
    """The three sar_ parameters: one of them alone says nothing."""
    reference, total, part = (
        int.from_bytes(tlvs.get(tag, b"")[-2:])
        for tag in (Tag.SAR_MSG_REF_NUM, Tag.SAR_TOTAL_SEGMENTS, Tag.SAR_SEGMENT_SEQNUM)
    )
    complete = Tag.SAR_MSG_REF_NUM in tlvs and 1 <= part <= total <= 255 and total > 1
    return Header(0, reference, 16, total, part) if complete else Header()


def _piece(header: Header, content: bytes, name: Name, header_octets: int) -> Piece | None:
    if not header.total:
        return None
    if name == "gsm7_packed":  # each part is packed for itself, so packed octets cannot be joined
        name, content = "gsm7", alphabet.unpack(content, header_octets)
    return Piece(header.reference, header.width, header.total, header.part, content, name)


def _alphabet_of(coding: int, default: Name) -> tuple[Name, frozenset[str]]:
    """The alphabet of a data_coding (SM-40); of a message class the bits beside it say it (TS 23.038 §4)."""
    if coding >= 0xF0:
        return "data" if coding & 0x04 else default, frozenset()
    known = _CODINGS.get(coding & ~0x03 if coding & 0xF0 == 0x10 else coding)
    if known is None and coding != 0 and coding & ~0x03 != 0x10:
        return "latin1", frozenset({"data_coding"})
    return known or default, frozenset()


def party(address: Address) -> str:
    """An address as we write it: a number as E.164 digits, a name or a service as it stands (SM-44)."""
    written = address.digits[:_LONGEST_ADDRESS].strip()
    return written if address.ton == _ALPHANUMERIC else number_of(written) or written


def number_of(written: str) -> str:
    """E.164 digits of an address whatever its TON, which peers often get wrong; "" if it is no number."""
    if len(written) == 11 and written[:2] == VIETNAM and written[2:5] in BLOCKS and written.isdecimal():
        return written  # as nearly all are; an address is Latin-1, of which only 0 to 9 are decimal
    if number := parse(written):
        return number.e164
    digits = written.removeprefix("+").removeprefix("00")
    return digits if len(digits) in _DIGITS and digits.isascii() and digits.isdigit() else ""


def _dedup_key(
    pdu: DeliverSm | DataSm, sender: str, recipient: str, body: bytes, now: datetime | None
) -> str:
    """The same for each repetition. Of a part without time: its set (SM-42) knows how long it may repeat."""
    hashed = blake2b(f"{sender}\0{recipient}\0{pdu.data_coding}\0".encode(), digest_size=16)
    for tag in (Tag.SAR_MSG_REF_NUM, Tag.SAR_SEGMENT_SEQNUM, Tag.USER_MESSAGE_REFERENCE):
        value = pdu.tlvs.get(tag, b"")
        hashed.update(len(value).to_bytes(2) + value)
    hashed.update(body)
    stretch = f".{int(now.timestamp()) // _SAME_S}" if now else ""
    return hashed.hexdigest() + stretch
