"""Wireshark's dissector reads what we write (channels §3.17): nothing malformed, the same fields."""

import shutil
import struct
import subprocess

import pytest
from pdus import CONVERSATION

from speedsms.gateway.channels.smpp.pdu import (
    HEADER,
    RESPONSE,
    Command,
    Status,
    Tag,
    command_name,
    decode,
    encode,
    encode_bare,
)

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")

PORT = 2775
BARE = [
    encode_bare(command, 90) for command in (Command.ENQUIRE_LINK, Command.ENQUIRE_LINK_RESP, Command.UNBIND)
]
BARE += [encode_bare(Command.UNBIND_RESP, 91), encode_bare(Command.GENERIC_NACK, 92, Status.RINVCMDID)]
BARE += [encode_bare(Command.SUBMIT_SM_RESP, 100 + status, status) for status in Status if status]
AS_TEXT = {
    Tag.RECEIPTED_MESSAGE_ID: lambda octets: octets[:-1].decode(),
    Tag.MESSAGE_STATE: lambda octets: str(octets[0]),
    Tag.USER_MESSAGE_REFERENCE: lambda octets: f"0x{octets.hex()}",
    Tag.MESSAGE_PAYLOAD: bytes.hex,
}
STREAM = [encode(pdu, number) for number, pdu in enumerate(CONVERSATION, 1)] + BARE
RAW_IP = 101  # pcap's link type for packets that begin with the IP header


def pcap(pdus):
    """A capture with each PDU in a TCP segment of its own, all in one direction of one connection."""
    packets, number = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, RAW_IP)], 1
    for second, pdu in enumerate(pdus):
        tcp = struct.pack(">HHIIBBHHH", 40_000, PORT, number, 1, 5 << 4, 0x18, 65_535, 0, 0)
        size = 40 + len(pdu)
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, size, 1, 0, 64, 6, 0, 0x7F000001, 0x7F000002)
        packets += [struct.pack("<IIII", second, 0, size, size), ip, tcp, pdu]
        number += len(pdu)
    return b"".join(packets)


def tshark(*arguments):
    return subprocess.run(
        ["tshark", *arguments], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def dissected(tmp_path_factory):
    """Field → its text, one dictionary per PDU of STREAM."""
    capture = tmp_path_factory.mktemp("tshark") / "conversation.pcap"
    capture.write_bytes(pcap(STREAM))
    fields = [f"-e{name}" for name in FIELDS]
    lines = tshark("-r", capture, "-d", f"tcp.port=={PORT},smpp", "-T", "fields", *fields).splitlines()
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]


FIELDS = (
    "smpp.command_id", "smpp.command_status", "smpp.sequence_number", "smpp.command_length",
    "smpp.system_id", "smpp.message_id", "smpp.service_type", "smpp.data_coding", "smpp.sm_length",
    "smpp.source_addr", "smpp.source_addr_ton", "smpp.destination_addr", "smpp.dest_addr_ton",
    "smpp.source_addr_npi", "smpp.dest_addr_npi", "smpp.message",
    "smpp.message_payload", "smpp.receipted_message_id", "smpp.message_state", "smpp.user_message_reference",
    "_ws.malformed", "_ws.expert.message",
)  # fmt: skip


def expected(octets):
    """Those of FIELDS that a PDU has, as tshark prints them."""
    frame = decode(octets)
    pdu, fields = frame.pdu, {}
    if frame.command & RESPONSE:
        fields["command_status"] = f"0x{frame.status:08x}"
    for name in ("system_id", "message_id"):
        fields[name] = getattr(pdu, name, "")
    for party, ton, npi, digits in (
        ("source", "source_addr_ton", "source_addr_npi", "source_addr"),
        ("destination", "dest_addr_ton", "dest_addr_npi", "destination_addr"),
    ):
        if address := getattr(pdu, party, None):
            fields |= {ton: f"0x{address.ton:02x}", npi: f"0x{address.npi:02x}", digits: address.digits}
    if hasattr(pdu, "service_type"):
        fields["service_type"] = pdu.service_type or "(Default)"
    if hasattr(pdu, "message_state"):
        fields["message_state"] = str(pdu.message_state)
    if hasattr(pdu, "data_coding"):
        fields["data_coding"] = f"0x{pdu.data_coding:02x}"
    if hasattr(pdu, "short_message"):
        fields |= {"sm_length": str(len(pdu.short_message)), "message": pdu.short_message.hex()}
    for tag, value in getattr(pdu, "tlvs", {}).items():
        if tag in AS_TEXT:
            fields[Tag(tag).name.lower()] = AS_TEXT[tag](value)
    return {f"smpp.{name}": value for name, value in fields.items() if value}


def test_nothing_is_malformed(dissected):
    """Each PDU is one PDU, whole, with the header that we wrote, and no remark about it."""
    assert not [row for row in dissected if row["_ws.malformed"] or row["_ws.expert.message"]]
    names = ("smpp.command_length", "smpp.command_id", "smpp.sequence_number")
    headers = [tuple(int(row[name], 0) for name in names) for row in dissected]
    assert headers == [(len(octets), *HEADER.unpack_from(octets)[1::2]) for octets in STREAM]


def test_the_fields_are_ours(dissected):
    """Addresses, codings, lengths, texts, ids, statuses and optional parameters of each PDU."""
    header = {"smpp.command_length", "smpp.command_id", "smpp.sequence_number"}
    found = [{name: row[name] for name in FIELDS if name not in header and row[name]} for row in dissected]
    assert found == [expected(octets) for octets in STREAM]


def test_commands_and_statuses_have_the_standards_numbers():
    """Every status that tshark does not call reserved is named here and no other, commands likewise."""
    rows = [line.split("\t") for line in tshark("-G", "values").splitlines() if "\tsmpp.command_" in line]
    commands = {int(row[2], 16): row[3] for row in rows if row[1] == "smpp.command_id"}
    for command in Command:
        assert commands[command].lower().replace(" - ", "_") == command_name(command)
    statuses = [row for row in rows if row[1] == "smpp.command_status" and "[" not in row[4]]
    assert {int(row[2], 16) for row in statuses} == set(Status)
