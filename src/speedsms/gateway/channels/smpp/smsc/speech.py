"""PDUs that a carrier sends on its own: receipts, and messages of handsets whole or in parts."""

from dataclasses import dataclass
from typing import Final, Literal

from speedsms.gateway.channels.smpp.pdu import Address, DataSm, DeliverSm, Tag, Tlvs
from speedsms.gateway.channels.smpp.smsc.carrier import spelt
from speedsms.gateway.channels.smpp.smsc.script import Concat, Play, Receipt, Speech
from speedsms.gateway.channels.smpp.smsc.shapes import STATES, written
from speedsms.gateway.rules import alphabet
from speedsms.text import Encoding, segments

_FINAL, _INTERMEDIATE, _UDHI = 0x04, 0x20, 0x40
_CODINGS: Final = {"gsm7": 0, "latin1": 3, "ucs2": 8}
# Octets of a part's text. A pair may be cut in two: carriers do, so readers must join before they decode.
_PART_OCTETS: Final = {
    "udh8": {"gsm7": 153, "latin1": 134, "ucs2": 134},
    "udh16": {"gsm7": 152, "latin1": 133, "ucs2": 132},
    "sar": {"gsm7": 153, "latin1": 134, "ucs2": 134},
    "payload": {"gsm7": 64_000, "latin1": 64_000, "ucs2": 64_000},
}
_SINGLE_OCTETS: Final = {"gsm7": 160, "latin1": 140, "ucs2": 140}


@dataclass(slots=True)
class Taken:
    """A message that the carrier took. number: of its id; submitted_at: seconds since 1970.

    connection: the number of the one that brought it, whose system_id it belongs to. life: until its first
    final receipt it is open.
    """

    number: int
    play: Play
    source: Address
    destination: Address
    registered: int
    text: str
    submitted_at: float
    connection: int
    system_id: str
    life: Literal["open", "ended", "cancelled"] = "open"


def asked_for(receipt: Receipt, registered: int) -> bool:
    """Whether registered_delivery asks for it: 1 for all final ones, 2 of failures, 0x10 intermediate."""
    if receipt.unasked:
        return True
    if receipt.intermediate:
        return bool(registered & 0x10)
    return registered & 3 == 1 or (registered & 3 == 2 and receipt.state != "DELIVRD")


def receipt_pdu(receipt: Receipt, taken: Taken, now: float) -> DeliverSm | DataSm:
    """What the carrier says of a message; `now`: seconds since 1970."""
    form = receipt.id_form or ("hex" if taken.play.id_form == "none" else taken.play.id_form)
    message_id = spelt(taken.number, form)
    tlvs = {} if receipt.carry == "text" else _facts(receipt, message_id)
    octets, coding = b"", 0
    if receipt.carry != "tlv":
        octets, coding = _receipt_text(receipt, message_id, taken, now)
    esm_class = _INTERMEDIATE if receipt.intermediate else _FINAL
    if octets and (receipt.place == "payload" or receipt.pdu == "data_sm"):
        tlvs[Tag.MESSAGE_PAYLOAD] = octets
        octets = b""
    if receipt.pdu == "data_sm":
        return DataSm(
            source=taken.destination,
            destination=taken.source,
            esm_class=esm_class,
            data_coding=coding,
            tlvs=tlvs,
        )
    return DeliverSm(
        source=taken.destination,
        destination=taken.source,
        esm_class=esm_class,
        data_coding=coding,
        short_message=octets,
        tlvs=tlvs,
    )


def _receipt_text(receipt: Receipt, message_id: str, taken: Taken, now: float) -> tuple[bytes, int]:
    text = written(
        receipt.shape,
        taken.submitted_at,
        now,
        id=message_id,
        sub="001",
        dlvrd="001" if receipt.state == "DELIVRD" else "000",
        state=receipt.state,
        err=receipt.err,
        text=taken.text,
    )
    if receipt.coding == "ucs2":
        return text.encode("utf-16-be"), _CODINGS["ucs2"]
    return text.encode("latin-1", "replace"), 0


def _facts(receipt: Receipt, message_id: str) -> Tlvs:
    state = STATES.get(receipt.tlv_state or receipt.state)
    tlvs: Tlvs = {Tag.RECEIPTED_MESSAGE_ID: message_id.encode() + b"\0"} if message_id else {}
    if state is not None:
        tlvs[Tag.MESSAGE_STATE] = bytes([state])
    if receipt.network_error:
        tlvs[Tag.NETWORK_ERROR_CODE] = bytes.fromhex(receipt.network_error)
    return tlvs


def reply(taken: Taken) -> Speech:
    """The answer of the handset that got a message."""
    return Speech(sender=taken.destination.digits, recipient=taken.source.digits, text=taken.play.reply)


def parts(speech: Speech, at: int, reference: int) -> list[DeliverSm]:
    """The PDUs of one message in their order, `at` standing for {n}; what is lost is left out."""
    text = speech.text.replace("{n}", str(at))
    name = speech.alphabet or ("gsm7" if segments(text).encoding is Encoding.GSM7 else "ucs2")
    octets, coding = alphabet.encode(text, name), _CODINGS[name]
    size = _PART_OCTETS[speech.concat][name]
    pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
    if len(octets) <= _SINGLE_OCTETS[name] and speech.concat != "payload":
        return [_said(speech, coding, octets)] * speech.times
    kept = [(n, piece) for n, piece in enumerate(pieces, 1) if n not in speech.lost]
    return [
        _part(speech, coding, piece, (reference, n, len(pieces)))
        for n, piece in kept
        for _ in range(speech.times)
    ]


def _part(speech: Speech, coding: int, octets: bytes, place: tuple[int, int, int]) -> DeliverSm:
    reference, number, total = place
    concat: Concat = speech.concat
    match concat:
        case "udh8":
            header = bytes([5, 0, 3, reference & 0xFF, total, number])
            return _said(speech, coding, header + octets, esm_class=_UDHI)
        case "udh16":
            header = bytes([6, 8, 4, reference >> 8 & 0xFF, reference & 0xFF, total, number])
            return _said(speech, coding, header + octets, esm_class=_UDHI)
        case "sar":
            tlvs: Tlvs = {
                Tag.SAR_MSG_REF_NUM: (reference & 0xFFFF).to_bytes(2, "big"),
                Tag.SAR_TOTAL_SEGMENTS: bytes([total]),
                Tag.SAR_SEGMENT_SEQNUM: bytes([number]),
            }
            return _said(speech, coding, octets, tlvs=tlvs)
        case "payload":
            return _said(speech, coding, b"", tlvs={Tag.MESSAGE_PAYLOAD: octets})


def _said(
    speech: Speech, coding: int, octets: bytes, *, esm_class: int = 0, tlvs: Tlvs | None = None
) -> DeliverSm:
    return DeliverSm(
        source=address(speech.sender),
        destination=address(speech.recipient),
        esm_class=esm_class,
        data_coding=coding,
        short_message=octets,
        tlvs=tlvs or {},
    )


def address(text: str) -> Address:
    """With the TON and NPI that carriers give it: brandname, short code, national or international number."""
    if not text.lstrip("+").isdigit():
        return Address(5, 0, text)
    if len(text) <= 6:
        return Address(3, 0, text)
    return Address(2 if text.startswith("0") else 1, 1, text.lstrip("+"))
