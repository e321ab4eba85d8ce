"""The SMPP codec: octets of the standard, rules SM-1 to SM-9 (channels §3.3)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdus import CONVERSATION, KINDS, PHONE, SHOP, anything, sequence

from speedsms.gateway.channels.smpp.pdu import (
    LONGEST_PDU,
    RESPONSE,
    Address,
    BadPdu,
    Bind,
    BindResp,
    CancelSm,
    Command,
    DeliverSm,
    Frame,
    Outbind,
    QuerySm,
    Splitter,
    Status,
    SubmitSm,
    SubmitSmResp,
    command_name,
    decode,
    encode,
    encode_bare,
    status_name,
)
from speedsms.gateway.channels.smpp.words import explain, explain_octets

# Written by hand from the tables of the standard, field by field.
GOLDEN = {
    "bind_transceiver": (
        Bind("transceiver", "me", "pw", "sms", 0x34, Address(1, 1, "84")),
        "00000020 00000009 00000000 00000001 6d6500 707700 736d7300 34 01 01 383400",
    ),
    "bind_receiver_resp": (
        BindResp("receiver", "smsc", {0x0210: b"\x34"}),
        "0000001a 80000001 00000000 00000001 736d736300 0210 0001 34",
    ),
    "submit_sm": (
        SubmitSm(
            "", Address(5, 0, "SHOP"), Address(1, 1, "84912"), registered_delivery=1, short_message=b"Hi"
        ),
        """0000002c 00000004 00000000 00000001 00 05 00 53484f5000 01 01 383439313200
        00 00 00 00 00 01 00 00 00 02 4869""",
    ),
    "deliver_sm with message_state": (
        DeliverSm("", Address(1, 1, "84"), Address(3, 0, "9"), 4, data_coding=8, tlvs={0x0427: b"\2"}),
        """00000029 00000005 00000000 00000001 00 01 01 383400 03 00 3900
        04 00 00 00 00 00 00 08 00 00 0427 0001 02""",
    ),
    "submit_sm_resp": (SubmitSmResp("1f4a"), "00000015 80000004 00000000 00000001 3166346100"),
    "query_sm": (QuerySm("1f", Address(5, 0, "S")), "00000017 00000003 00000000 00000001 316600 05 00 5300"),
    "cancel_sm": (
        CancelSm("", "7", Address(1, 1, "8"), Address(1, 1, "9")),
        "0000001b 00000008 00000000 00000001 00 3700 01 01 3800 01 01 3900",
    ),
    "outbind": (Outbind("a", "b"), "00000014 0000000b 00000000 00000001 6100 6200"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_octets_of_the_standard(name):
    """Both ways, an example written by hand for each form of field."""
    pdu, octets = GOLDEN[name]
    octets = bytes.fromhex(octets)
    assert encode(pdu, 1) == octets
    assert decode(octets) == Frame(pdu.command, 0, 1, pdu)


@settings(deadline=None)
@given(anything, sequence, st.sampled_from(Status))
def test_what_is_encoded_is_decoded(pdu, number, status):
    """SM-8, of every kind of PDU: the same fields, and the same octets again."""
    octets = encode(pdu, number, status)
    frame = decode(memoryview(octets))
    assert frame == Frame(pdu.command, status, number, pdu)
    assert encode(frame.pdu, frame.sequence, frame.status) == octets


@pytest.mark.parametrize("pdu", CONVERSATION, ids=lambda pdu: type(pdu).__name__)
def test_a_pdu_cut_short_is_declared_bad(pdu):
    """SM-8: wherever the octets end, either what is there is read or BadPdu says why not."""
    whole = encode(pdu, 7)
    for end in range(16, len(whole)):
        cut = (end).to_bytes(4) + whole[4:end]
        try:
            frame = decode(cut)
        except BadPdu as bad:
            assert (bad.status, bad.fatal) == (Status.RINVCMDLEN, False)  # noqa: PT017 - either is right
        else:
            assert frame.flags or len(encode(frame.pdu, 7) if frame.pdu else cut[:16]) == end


def split(octets, sizes):
    splitter, at, found = Splitter(), 0, []
    for size in sizes:
        found += splitter.feed(octets[at : at + size])
        at += size
    return [*found, *splitter.feed(octets[at:])]


@settings(deadline=None)
@given(st.lists(anything, min_size=1, max_size=6), st.lists(st.integers(1, 400), max_size=60))
def test_any_split_gives_the_same_pdus(pdus, sizes):
    """SM-2: however the stream is cut."""
    whole = [encode(pdu, number) for number, pdu in enumerate(pdus, 1)]
    assert split(b"".join(whole), sizes) == whole


def test_one_octet_at_a_time():
    """SM-2: the slowest peer and the fastest are read alike."""
    whole = [encode(pdu, number) for number, pdu in enumerate(CONVERSATION, 1)]
    octets = b"".join(whole)
    assert split(octets, [1] * len(octets)) == split(octets, []) == whole


@pytest.mark.parametrize("length", [*range(16), LONGEST_PDU + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_impossible_lengths_end_the_stream(length):
    """SM-1: at the fourth octet, after the good PDUs before it, with nothing kept waiting."""
    good = encode_bare(Command.ENQUIRE_LINK, 1)
    stream = Splitter().feed(good + length.to_bytes(4))
    assert next(stream) == good
    with pytest.raises(BadPdu) as raised:
        next(stream)
    assert raised.value.fatal
    assert raised.value.status == Status.RINVCMDLEN


@pytest.mark.parametrize("length", [16, LONGEST_PDU])
def test_the_shortest_and_the_longest_pdu(length):
    """SM-1: both limits are inside."""
    octets = length.to_bytes(4) + encode_bare(Command.ENQUIRE_LINK, 1)[4:] + bytes(length - 16)
    assert list(Splitter().feed(octets)) == [octets]
    assert decode(octets).sequence == 1


@pytest.mark.parametrize("octets", [b"", bytes(15), bytes(16), encode_bare(Command.UNBIND, 1) + b"x"])
def test_not_one_pdu(octets):
    """Octets whose length is not their command_length are no PDU at all."""
    with pytest.raises(BadPdu) as raised:
        decode(octets)
    assert raised.value.fatal


def test_unknown_commands():
    """SM-3: 0x03, and the stream goes on."""
    with pytest.raises(BadPdu) as raised:
        decode(encode_bare(0x111, 1))
    assert (raised.value.status, raised.value.fatal) == (Status.RINVCMDID, False)
    assert (command_name(0x111), command_name(5)) == ("command 0x00000111", "deliver_sm")
    assert (status_name(0x58), status_name(0x403)) == ("RTHROTTLED", "status 0x403")


def body(command, octets):
    return decode((16 + len(octets)).to_bytes(4) + encode_bare(command, 1)[4:] + octets)


def test_strings_against_the_standard_are_read():
    """SM-4: too long, not ASCII, without NUL: read to the end of the field and flagged."""
    too_long = body(Command.SUBMIT_SM_RESP, b"x" * 80 + b"\0")
    assert (too_long.pdu.message_id, too_long.flags) == ("x" * 80, ("message_id: too long or not ASCII",))
    foreign = body(Command.SUBMIT_SM_RESP, b"\xe9\xff\0")
    assert (foreign.pdu.message_id.encode("latin-1"), len(foreign.flags)) == (b"\xe9\xff", 1)
    endless = body(Command.SUBMIT_SM_RESP, b"1f4a")
    assert (endless.pdu.message_id, endless.flags) == ("1f4a", ("no NUL at the end",))
    sender = body(
        Command.SUBMIT_SM, encode(SubmitSm("", SHOP, PHONE), 1)[16:].replace(b"SPEED", b"SP\xc9ED" * 5)
    )
    assert sender.pdu.source.digits == "SP\xc9ED" * 5 + "SMS"
    assert sender.flags == ("source: too long or not ASCII",)
    assert sender.pdu.destination == PHONE


@pytest.mark.parametrize(
    "pdu",
    [
        SubmitSm(service_type="123456"),
        SubmitSm(source=Address(1, 1, "8" * 21)),
        SubmitSm(source=Address(1, 256, "8")),
        SubmitSm(esm_class=256),
        SubmitSm(data_coding=-1),
        SubmitSm(short_message=bytes(255)),
        SubmitSmResp("x" * 65),
        SubmitSmResp("a\0b"),
        Bind("receiver", "\N{LATIN SMALL LETTER E WITH ACUTE}", ""),
        Bind("receiver", "x" * 16, ""),
    ],
    ids=repr,
)
def test_ours_keep_the_limits(pdu):
    """SM-4: what the standard does not allow is not sent."""
    with pytest.raises(ValueError, match=r"."):
        encode(pdu, 1)


def test_optional_parts():
    """SM-5: any order, unknown tags kept, the first of a repeated one wins, an overrun ends it."""
    tlvs = bytes.fromhex("fffe 0002 aabb 0427 0001 02 0427 0001 05")
    frame = body(Command.SUBMIT_SM_RESP, b"1\0" + tlvs)
    assert (frame.pdu.tlvs, frame.flags) == ({0xFFFE: b"\xaa\xbb", 0x0427: b"\2"}, ("a tag twice",))
    overrun = body(Command.SUBMIT_SM_RESP, b"1\0" + tlvs[:6] + bytes.fromhex("0424 0100 41"))
    assert overrun.pdu.tlvs == {0xFFFE: b"\xaa\xbb"}
    assert overrun.flags == ("a TLV reaches beyond the PDU",)
    assert body(Command.SUBMIT_SM_RESP, b"1\0\0").flags == ("a TLV reaches beyond the PDU",)


def test_responses_without_body():
    """SM-6: an error without body, and success without message_id."""
    refused = decode(encode_bare(Command.SUBMIT_SM_RESP, 3, Status.RTHROTTLED))
    assert refused == Frame(Command.SUBMIT_SM_RESP, Status.RTHROTTLED, 3, None)
    assert decode(encode_bare(Command.BIND_TRANSCEIVER_RESP, 3)).pdu is None
    assert decode(encode_bare(Command.SUBMIT_SM_RESP, 3)) == Frame(Command.SUBMIT_SM_RESP, 0, 3, None)
    assert body(Command.SUBMIT_SM_RESP, b"\0").pdu == SubmitSmResp("")


def test_requests_need_their_body():
    """Only a response may leave its body away (and an outbind, which nobody answers)."""
    for shape in KINDS.keys() - {Outbind, BindResp}:
        command = Command.BIND_RECEIVER if shape is Bind else shape.command
        if not command & RESPONSE:
            with pytest.raises(BadPdu) as raised:
                decode(encode_bare(command, 1))
            assert raised.value.status == Status.RINVCMDLEN


def test_a_text_of_255_octets_is_read():
    """An sm_length beyond the standard's 254 is believed when the octets are there."""
    octets = encode(SubmitSm("", SHOP, PHONE), 1)[16:-1] + b"\xff"
    assert body(Command.SUBMIT_SM, octets + b"x" * 255).pdu.short_message == b"x" * 255
    with pytest.raises(BadPdu):
        body(Command.SUBMIT_SM, octets + b"x" * 254)


def test_bare_commands_may_carry_a_body():
    """Octets where none belong are flagged, not refused."""
    assert body(Command.ENQUIRE_LINK, b"\0").flags == ("a body where none belongs",)
    assert body(Command.QUERY_SM_RESP, b"1\0\0\2\0!").flags == ("octets behind the last field",)


@settings(deadline=None)
@given(anything)
def test_every_pdu_has_plain_words(pdu):
    """One line for each, that begins with what it is."""
    line = explain(decode(encode(pdu, 7)))
    assert line.startswith(f"{command_name(pdu.command)} #7")


@pytest.mark.parametrize("pdu", [Bind("receiver", "me", "hush"), Outbind("me", "hush")], ids=repr)
def test_passwords_are_never_shown(pdu):
    """Neither in plain words nor in a log that prints the struct."""
    frame = decode(encode(pdu, 7))
    assert "hush" not in explain(frame) + repr(pdu) + repr(frame)
    assert "me" in explain(frame)


def test_plain_words():
    """What an operator reads: who, whom, how much; receipts without the client's text; what errors mean."""
    said = [explain(decode(encode(pdu, 7))) for pdu in CONVERSATION]
    assert "submit_sm #7: SPEEDSMS → 84912345678, 19 octets, service_type CMT" in "\n".join(said)
    (receipt,) = (line for line in said if "deliver_sm #" in line)
    assert "receipt 'id:7220bb6b-41 sub:001" in receipt
    assert "text" not in receipt
    assert "message_payload of 1584 octets" in "".join(said)
    throttled = encode_bare(Command.SUBMIT_SM_RESP, 3, Status.RTHROTTLED)
    assert explain_octets(throttled) == "submit_sm_resp #3: RTHROTTLED, too fast"
    assert explain_octets(bytes(5)) == "no PDU: 5 octets are no header (5 octets)"
    assert explain_octets(encode_bare(Command.UNBIND, 3)) == "unbind #3"
