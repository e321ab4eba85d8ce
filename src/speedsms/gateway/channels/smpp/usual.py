"""What nearly all octets of a carrier are, read by one expression each: taken parts, and receipts in the text
of nearly every carrier. All else goes to pdu.decode, and what is read here is what it would have given.
"""

import re
from typing import Final

from speedsms.gateway.channels.smpp import pdu
from speedsms.gateway.channels.smpp.pdu import HEADER, Command, Frame, SubmitSmResp, tlvs_of
from speedsms.gateway.channels.smpp.receipt_text import COMMON, Text

_SUBMIT_SM_RESP: Final = Command.SUBMIT_SM_RESP.value
_DELIVER_SM: Final = Command.DELIVER_SM.value
_TAKEN: Final = re.compile(rb"([\x01-\x7f]{0,64}+)\0", re.DOTALL)  # message_id and no parameters
_RECEIPT: Final = re.compile(
    rb"[\x01-\x7f]{0,5}+\0"  # service_type
    rb"..([\x01-\x7f]{0,20}+)\0..[\x01-\x7f]{0,20}+\0"  # source, destination
    rb"\x04.."  # esm_class of a receipt, protocol_id, priority_flag
    rb"[\x01-\x7f]{0,16}+\0[\x01-\x7f]{0,16}+\0"  # schedule_delivery_time, validity_period
    rb"....(.)" + COMMON,  # registered_delivery to default_msg_id, sm_length
    re.DOTALL,
)


class UsualReceipt(Text, frozen=True, kw_only=True):
    """A receipt, and what its text says. source: whom it is about, as written; body: octets of the text."""

    source: str
    body: bytes
    tlvs: dict[int, bytes]


def decode(octets: bytes) -> Frame:
    """One whole PDU as a Splitter cuts it; of a usual receipt pdu is a UsualReceipt. Raises as pdu.decode."""
    _, command, status, sequence = HEADER.unpack_from(octets)
    if command == _SUBMIT_SM_RESP:
        if taken := _TAKEN.fullmatch(octets, 16):
            return Frame(command, status, sequence, SubmitSmResp(taken[1].decode()))
    elif command == _DELIVER_SM and (receipt := _receipt(octets)):
        return Frame(command, status, sequence, receipt)
    return pdu.decode(octets)


def _receipt(octets: bytes) -> UsualReceipt | None:
    found = _RECEIPT.match(octets, 16)
    if not found:
        return None
    source, length, *text = found.groups()
    start = found.end(2)
    end = start + length[0]
    if not found.end() <= end <= len(octets):
        return None
    tlvs, flags = tlvs_of(octets, end)
    if flags:
        return None
    reference, done, stat, err = text
    return UsualReceipt(
        reference.decode("latin-1"),
        done.decode(),
        stat.decode(),
        err.decode(),
        source=source.decode(),
        body=octets[start:end],
        tlvs=tlvs,
    )
