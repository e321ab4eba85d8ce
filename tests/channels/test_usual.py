"""The quick reader of what nearly all octets are says what the whole one says (channels §3.3, §3.12)."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pdus import CONVERSATION, anything, sequence
from test_pdu_hostile import mutation

from speedsms.gateway.channels.smpp import pdu, receipt, usual
from speedsms.gateway.channels.smpp.incoming import body_of
from speedsms.gateway.channels.smpp.pdu import Address, BadPdu, Command, DeliverSm, Splitter, SubmitSmResp
from speedsms.gateway.channels.smpp.usual import UsualReceipt

NOW = datetime(2026, 11, 22, 12, 5, tzinfo=UTC)
(USUAL,) = (said for said in CONVERSATION if isinstance(said, DeliverSm))
RULES = (receipt.ReceiptRules(), receipt.ReceiptRules(id_form="hex_dec", err_map={"1": 67}, alphabet="ascii"))

_ids = st.one_of(
    st.integers(0, 2**64).map(lambda number: b"%d" % number),
    st.integers(0, 2**64).map(lambda number: b"%X" % number),
    st.binary(min_size=1, max_size=40),
)
_dates = st.one_of(
    st.integers(-400, 100).map(lambda hours: f"{NOW + timedelta(hours=hours):%y%m%d%H%M}".encode()),
    st.integers(0, 10**15).map(lambda number: b"%d" % number),
)
_tlvs = st.one_of(
    st.just({}),
    st.builds(lambda told, state: {0x1E: told + b"\0", 0x427: bytes([state])}, _ids, st.integers(0, 11)),
    st.dictionaries(st.sampled_from([0x1E, 0x423, 0x424, 0x425, 0x427]), st.binary(max_size=5), max_size=4),
)
_texts = st.builds(
    lambda told, done, stat, err, text: (
        b"id:%s sub:001 dlvrd:001 submit date:2611221200 done date:%s stat:%s err:%s %s"
        % (told, done, stat, err, text)
    )[:254],
    _ids,
    _dates,
    st.sampled_from([b"DELIVRD", b"UNDELIV", b"REJECTD", b"ENROUTE", b"ACCEPTD", b"GONE", b"Odd", b""]),
    st.sampled_from([b"000", b"1", b"069", b"abc", b"-1", b""]),
    st.sampled_from([b"text:", b"Text:Your code", b"text:\0", b"text", b"text:" + b"x" * 200]),
)
_parties = st.sampled_from(
    [Address(1, 1, "84912345678"), Address(0, 0, "0912345678"), Address(5, 0, "Shop"), pdu.NOBODY]
)
receipts = st.builds(
    lambda source, esm_class, coding, text, tlvs: DeliverSm(
        "", source, pdu.NOBODY, esm_class, data_coding=coding, short_message=text, tlvs=tlvs
    ),
    _parties,
    st.sampled_from([4, 4, 4, 0x20, 0x44, 0]),
    st.sampled_from([0, 3, 8]),
    _texts,
    _tlvs,
)


def read(decode, octets):
    """The frame, or the status of the error."""
    try:
        return decode(octets)
    except BadPdu as bad:
        return bad.status


def agree(octets):
    """Both readers of a PDU, as a splitter cuts it, say the same; whether the quick one did it."""
    whole, found = read(pdu.decode, octets), read(usual.decode, octets)
    if not isinstance(getattr(found, "pdu", None), UsualReceipt):
        assert found == whole
        return False
    assert (found.command, found.status, found.sequence) == (whole.command, whole.status, whole.sequence)
    assert (found.flags, whole.flags) == ((), ())
    assert found.pdu.body == body_of(whole.pdu)
    for rules in RULES:
        assert receipt.of_usual(found.pdu, rules, NOW) == receipt.parse(whole.pdu, rules, NOW)
    return True


@given(st.one_of(receipts, anything), sequence, st.data())
def test_whatever_comes_is_read_the_same(said, number, data):
    """Receipts of many shapes and every other PDU, whole or with some octets changed."""
    octets = pdu.encode(said, number)
    agree(octets)
    at = data.draw(st.integers(4, len(octets) - 1))
    agree(octets[:at] + data.draw(st.sampled_from([b"\0", b"\1", b":", b"\xff"])) + octets[at + 1 :])


def test_hostile_octets_are_read_the_same():
    """Cut, spliced, overrun: what has become of PDUs on a bad line."""
    random = Random(20261122)
    for _ in range(5_000):
        with suppress(BadPdu):
            for octets in Splitter().feed(mutation(random)):
                agree(octets)


@pytest.mark.parametrize("tlvs", [USUAL.tlvs, {}], ids=["parameters", "text"])
def test_each_octet_of_a_usual_receipt_counts(tlvs):
    """Whichever is another one: either the quick reader says what the whole one says, or it does not read."""
    octets = pdu.encode(replace(USUAL, tlvs=tlvs), 7)
    quick = [
        agree(octets[:at] + bytes([value]) + octets[at + 1 :])
        for at in range(16, len(octets))
        for value in (0, 1, 4, 8, 32, 58, 65, 103, 128, 255)
    ]
    assert 0 < sum(quick) < len(quick)


def test_a_text_that_ends_early_is_no_usual_one():
    """What goes on as a receipt behind sm_length is a parameter, which may even have the length it says."""
    text = USUAL.short_message
    for size in range(len(text)):
        rest = text[size:].ljust(4, b"\0")
        rest = rest.ljust(4 + int.from_bytes(rest[2:4]), b"\0")
        body = pdu.encode(replace(USUAL, short_message=text[:size], tlvs={}), 7)[16:] + rest
        assert not agree(pdu.HEADER.pack(16 + len(body), Command.DELIVER_SM, 0, 7) + body)


def test_the_usual_receipt_is_read_at_once():
    """Its text with the parameters of most carriers needs no other reader."""
    found = usual.decode(pdu.encode(USUAL, 7)).pdu
    assert isinstance(found, UsualReceipt)
    assert (found.id, found.stat, found.err, found.done) == ("7220bb6b-41", "DELIVRD", "000", "2611221201")
    assert (found.source, found.body, found.tlvs) == ("84912345678", USUAL.short_message, USUAL.tlvs)


def test_a_taken_part():
    """Its id, and nothing behind it."""
    octets = pdu.encode(SubmitSmResp("7220bb6b-41"), 7)
    assert usual.decode(octets) == pdu.Frame(Command.SUBMIT_SM_RESP, 0, 7, SubmitSmResp("7220bb6b-41"))
