"""Foreign codecs judge ours (channels §3.17): what they write we read as they meant it, and the other way."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pdus import KINDS, anything, text

from speedsms.gateway.channels.smpp.pdu import (
    Address,
    AlertNotification,
    BindResp,
    CancelSm,
    DataSm,
    DeliverSm,
    Outbind,
    QuerySm,
    ReplaceSm,
    SubmitSm,
    Tag,
    command_name,
    decode,
    encode,
)

FOLDER = Path(__file__).parent / "foreign"
# How the foreign codecs name our fields, and which optional parameters both know of a PDU.
PARTS = {
    "source": ("source_addr_ton", "source_addr_npi", "source_addr"),
    "destination": ("dest_addr_ton", "dest_addr_npi", "destination_addr"),
    "address": ("addr_ton", "addr_npi", "address_range"),
    "esme": ("esme_addr_ton", "esme_addr_npi", "esme_addr"),
    "replace_if_present": ("replace_if_present_flag",),
    "default_msg_id": ("sm_default_msg_id",),
}
SAR = (Tag.SAR_MSG_REF_NUM, Tag.SAR_TOTAL_SEGMENTS, Tag.SAR_SEGMENT_SEQNUM)
ALWAYS = (Tag.USER_MESSAGE_REFERENCE, Tag.SOURCE_PORT, *SAR, Tag.PRIVACY_INDICATOR, Tag.MORE_MESSAGES_TO_SEND)
TOLD = (*ALWAYS, Tag.MESSAGE_STATE, Tag.NETWORK_ERROR_CODE, Tag.RECEIPTED_MESSAGE_ID)
KNOWN = {SubmitSm: ALWAYS, DeliverSm: TOLD, DataSm: TOLD, BindResp: (Tag.SC_INTERFACE_VERSION,)}
TWO_OCTETS = {Tag.USER_MESSAGE_REFERENCE, Tag.SOURCE_PORT, Tag.SAR_MSG_REF_NUM}
OCTETS = {Tag.NETWORK_ERROR_CODE, Tag.MESSAGE_PAYLOAD}


def tlv(tag):
    if tag == Tag.RECEIPTED_MESSAGE_ID:
        return text(65).filter(bool).map(lambda value: value.encode() + b"\0")
    width = 3 if tag in OCTETS else 2 if tag in TWO_OCTETS else 1
    return st.binary(min_size=width, max_size=width)


def plain(tag, octets):
    """The value of an optional parameter as the foreign codecs have it."""
    if tag == Tag.RECEIPTED_MESSAGE_ID:
        return octets[:-1].decode()
    return octets if tag in OCTETS else int.from_bytes(octets)


def fields_of(pdu):
    """The fields of one of our structs as the foreign codecs name them."""
    fields = {}
    for name in pdu.__struct_fields__:
        value = getattr(pdu, name)
        if name == "tlvs":
            fields |= {Tag(tag).name.lower(): plain(tag, octets) for tag, octets in value.items()}
        elif name != "mode":
            names = PARTS.get(name, (name,))
            fields |= zip(names, value if isinstance(value, Address) else (value,), strict=True)
    return fields


def with_known_tlvs(pdu):
    """The same with optional parameters that the foreign codecs know, and its text in one place."""
    if not hasattr(pdu, "tlvs"):
        return st.just(pdu)
    tlvs = st.fixed_dictionaries({}, optional={tag: tlv(tag) for tag in KNOWN.get(type(pdu), ())})
    if type(pdu) in {SubmitSm, DeliverSm, DataSm} and not getattr(pdu, "short_message", b""):
        payload = st.binary(min_size=1, max_size=900)
        tlvs = st.builds(lambda known, octets: known | {Tag.MESSAGE_PAYLOAD: octets}, tlvs, payload)
    return tlvs.map(lambda chosen: replace(pdu, tlvs=chosen))


# --- smpplib (Python) -------------------------------------------------------------------------------------

BY_SMPPLIB = KINDS.keys() - {CancelSm, ReplaceSm, AlertNotification, Outbind}
LIMITS = {
    "password": 8,
    "source_addr": 20,
    "destination_addr": 20,
}  # of data_sm too, where the standard has 64


def within_smpplib(pdu):
    """It cuts what is longer than its limits, and wants a message_id to ask about."""
    fields = fields_of(pdu)
    askable = not isinstance(pdu, QuerySm) or pdu.message_id
    return askable and all(len(fields.get(name, "")) <= limit for name, limit in LIMITS.items())


supported = (
    st.one_of(*(KINDS[kind] for kind in KINDS if kind in BY_SMPPLIB))
    .flatmap(with_known_tlvs)
    .filter(within_smpplib)
)


@pytest.fixture(scope="module")
def smpplib():
    pytest.importorskip("smpplib", reason="smpplib is not installed")
    from smpplib import smpp

    return smpp


@settings(deadline=None)
@given(pdu=supported)
def test_we_read_what_smpplib_writes(smpplib, pdu):
    """The same fields of every kind that it knows."""
    theirs = smpplib.make_pdu(command_name(pdu.command), sequence=1)
    vars(theirs).update(fields_of(pdu))
    theirs.sequence = 77
    frame = decode(theirs.generate())
    assert (frame.pdu, frame.sequence, frame.flags) == (pdu, 77, ())


@settings(deadline=None)
@given(pdu=supported)
def test_smpplib_reads_what_we_write(smpplib, pdu):
    """The same fields, the status and the sequence."""
    theirs = smpplib.parse_pdu(encode(pdu, 77, 0x58), sequence=1)
    assert (theirs.command, theirs.status, theirs.sequence) == (command_name(pdu.command), 0x58, 77)
    for name, value in fields_of(pdu).items():
        found = getattr(theirs, name)
        assert (found.decode() if isinstance(value, str) else found) == value


# --- smpp (npm) -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def npm():
    """Asks the other codec, which runs beside us: a dictionary in, a dictionary out."""
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    if not (FOLDER / "node_modules/smpp").exists():
        pytest.skip("run `npm ci` in tests/channels/foreign")
    with subprocess.Popen(
        ["node", "codec.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:

        def ask(asked):
            node.stdin.write(json.dumps(asked, default=lambda octets: {"hex": octets.hex()}) + "\n")
            node.stdin.flush()
            return json.loads(node.stdout.readline(), object_hook=buffer)

        yield ask
        node.stdin.close()


def buffer(value):
    return bytes.fromhex(value["hex"]) if value.keys() == {"hex"} else value


@settings(deadline=None)
@given(pdu=anything.flatmap(with_known_tlvs))
def test_we_read_what_npm_writes(npm, pdu):
    """The same fields of every kind of PDU."""
    said = npm({"command": command_name(pdu.command), "fields": fields_of(pdu) | {"sequence_number": 77}})
    frame = decode(said["octets"])
    assert (frame.pdu, frame.sequence, frame.flags) == (pdu, 77, ())


@settings(deadline=None)
@given(pdu=anything.flatmap(with_known_tlvs))
def test_npm_reads_what_we_write(npm, pdu):
    """The same fields, the status and the sequence."""
    found = npm({"octets": encode(pdu, 77, 0x58)})
    expected = {"command": command_name(pdu.command), "command_status": 0x58, "sequence_number": 77}
    expected |= {"command_id": pdu.command, "command_length": len(encode(pdu, 77))}
    assert found == fields_of(pdu) | expected
