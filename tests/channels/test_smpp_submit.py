"""A message → its submit_sm: addresses, coding, long messages, life (channels §3.7–3.9)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.contract.senders import Lane
from speedsms.gateway.channels.base import Outgoing, Reason, Refused
from speedsms.gateway.channels.smpp.pdu import HEADER, Address, Command, Tag, decode, encode
from speedsms.gateway.channels.smpp.settings import settings_of
from speedsms.gateway.channels.smpp.submit import count, cut, fixed
from speedsms.gateway.rules import alphabet
from speedsms.text import GSM7_BASIC, GSM7_EXTENSION, Encoding, split

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def made(text="hello", *, encoding="gsm7", now=NOW, settings=None, **other):
    """What the channel makes of a text: the refusal, or the parts as a peer reads them."""
    given = {
        "message": 0x12345,
        "attempt": 1,
        "to": "84912345678",
        "sender": "Notify",
        "lane": Lane.BULK,
        "expires_at": NOW + timedelta(minutes=5),
        "parts": tuple(split(text, Encoding(encoding))),
        "encoding": encoding,
        "concat_ref": 0xABCD,
    }
    raw = {"hosts": ["h:1"], "system_id": "us"} | (settings or {})
    found = cut(Outgoing(**given | other), fixed(settings_of(raw)), now)
    return found if isinstance(found, Refused) else [(number, read(body)) for number, body in found]


def read(body):
    """A submit_sm of ours: what it says is within the standard, and written as the codec writes it."""
    octets = HEADER.pack(16 + len(body), Command.SUBMIT_SM, 0, 1) + body
    frame = decode(octets)
    assert not frame.flags
    assert encode(frame.pdu, 1) == octets
    return frame.pdu


def only(*args, **named):
    ((number, pdu),) = made(*args, **named)
    assert number == 1
    return pdu


# ----------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("sender", "address"),
    [
        ("Notify", Address(5, 0, "Notify")),
        ("Shop 24h", Address(5, 0, "Shop 24h")),
        ("19001234", Address(1, 1, "19001234")),
        ("8077", Address(3, 0, "8077")),
        ("+84901234567", Address(1, 1, "84901234567")),
        ("0901234567", Address(2, 1, "0901234567")),
        ("", Address(0, 0, "")),
    ],
)
def test_source(sender, address):
    """TON and NPI by the form of the sender (§3.7)."""
    assert only(sender=sender).source == address


@pytest.mark.parametrize("sender", ["Twelve chars", "Nhà", "1" * 21])
def test_senders_that_no_carrier_takes(sender):
    """Refused before anything is sent."""
    assert made(sender=sender).reason is Reason.SENDER_REFUSED


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, Address(1, 1, "84912345678")),
        ({"dest_format": "national"}, Address(2, 1, "0912345678")),
        ({"dest_format": "plus"}, Address(1, 1, "+84912345678")),
        ({"dest_ton_npi": [0, 1]}, Address(0, 1, "84912345678")),
    ],
)
def test_destination(settings, address):
    """By dest_format; TON and NPI can be set."""
    assert only(settings=settings).destination == address


def test_a_foreign_number_has_no_national_form():
    """It stays international."""
    found = only(settings={"dest_format": "national"}, to="66812345678").destination
    assert found == Address(1, 1, "66812345678")


def test_source_numbering_can_be_set():
    """For carriers that want their own TON and NPI."""
    assert only(settings={"source_ton_npi": [0, 0]}).source == Address(0, 0, "Notify")


# -------------------------------------------------------------------------------------------- other fields


def test_fields_by_setting():
    """Those of §3.7 and §3.2."""
    settings = {
        "service_type": "OTP",
        "protocol_id": 7,
        "priority_flag": {"otp": 3},
        "receipts": "failures",
        "intermediate": True,
        "user_message_reference": True,
        "tlv": [
            {"tag": 0x1400, "type": "cstring", "value": "PE1"},
            {"tag": 0x1401, "type": "int16", "value": 9},
        ],
    }
    pdu = only(settings=settings, lane=Lane.OTP)
    assert (pdu.service_type, pdu.protocol_id, pdu.priority_flag) == ("OTP", 7, 3)
    assert pdu.registered_delivery == 0x12
    assert pdu.tlvs == {0x1400: b"PE1\0", 0x1401: b"\0\x09", Tag.USER_MESSAGE_REFERENCE: b"\x23\x45"}
    assert only(settings=settings).priority_flag == 0
    assert (pdu.schedule_delivery_time, pdu.replace_if_present, pdu.default_msg_id) == ("", 0, 0)


@pytest.mark.parametrize(
    ("validity", "life_s", "written"),
    [
        ("relative", 300, "000000000500000R"),
        ("relative", 5, "000000000100000R"),
        ("relative", 86_400, "000001000000000R"),
        ("relative", 90_061, "000001010101000R"),
        ("absolute", 300, "261122120500000+"),
        ("absolute", -5, "261122120100000+"),
        ("none", 300, ""),
    ],
)
def test_validity(validity, life_s, written):
    """The remaining life, at least a minute."""
    pdu = only(settings={"validity": validity}, expires_at=NOW + timedelta(seconds=life_s))
    assert pdu.validity_period == written


# ---------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "encoding", "settings", "coding", "octets"),
    [
        ("a@€", "gsm7", {}, 0, b"a\x00\x1be"),
        ("hello", "gsm7", {"gsm_packing": "packed"}, 0, bytes.fromhex("e8329bfd06")),
        ("Chào ạ", "ucs2", {}, 8, "Chào ạ".encode("utf-16-be")),
        ("à la", "gsm7", {"alphabet": "latin1"}, 0, b"\xe0 la"),
        ("Ω", "gsm7", {"alphabet": "latin1", "dcs_ucs2": 0x18}, 0x18, b"\x03\xa9"),
        ("é", "gsm7", {"alphabet": "ascii"}, 8, b"\x00\xe9"),
        ("plain", "gsm7", {"alphabet": "ascii", "dcs_gsm": 1}, 1, b"plain"),
    ],
)
def test_coding(text, encoding, settings, coding, octets):
    """data_coding and octets by the carrier's alphabet; what it cannot hold goes as UCS-2 (§3.8)."""
    pdu = only(text, encoding=encoding, settings=settings)
    assert (pdu.data_coding, pdu.short_message, pdu.esm_class) == (coding, octets, 0)


def test_headers_of_long_messages():
    """§3.9: the four ways to say which part it is."""
    text = "x" * 200
    first, second = (pdu for _, pdu in made(text))
    assert (first.esm_class, first.short_message[:6]) == (0x40, bytes([5, 0, 3, 0xCD, 2, 1]))
    assert second.short_message == bytes([5, 0, 3, 0xCD, 2, 2]) + b"x" * 47
    first, second = (pdu for _, pdu in made(text, settings={"concat": "udh16"}))
    assert (first.esm_class, first.short_message[:7]) == (0x40, bytes([6, 8, 4, 0xAB, 0xCD, 2, 1]))
    assert len(second.short_message) == 7 + 48
    first, second = (pdu for _, pdu in made(text, settings={"concat": "sar"}))
    assert (first.esm_class, first.short_message) == (0, b"x" * 153)
    assert second.tlvs == {0x20C: b"\xab\xcd", 0x20E: b"\x02", 0x20F: b"\x02"}
    whole = only(text, settings={"concat": "payload"})
    assert (whole.esm_class, whole.short_message, whole.tlvs) == (0, b"", {0x424: b"x" * 200})
    assert made(text, settings={"concat": "none"}).reason is Reason.UNSUPPORTED


def test_a_message_of_one_part_needs_no_header():
    """Whatever `concat` says."""
    for concat in ("udh8", "udh16", "sar", "payload", "none"):
        pdu = only("x" * 160, settings={"concat": concat})
        assert (pdu.esm_class, pdu.short_message, pdu.tlvs) == (0, b"x" * 160, {})


def test_parts_done_before_are_left_out():
    """A later attempt sends the rest under the same numbers."""
    numbers = [number for number, _ in made("x" * 400, done=frozenset({1, 3}))]
    assert numbers == [2]


def test_a_text_that_becomes_too_long_in_ucs2():
    """More parts than a header can count."""
    refused = made("Ω" * 20_000, settings={"alphabet": "ascii"})
    assert refused == Refused(Reason.TOO_LONG, "299 parts")


_gsm = st.text(st.sampled_from(GSM7_BASIC.replace("\r", "") + GSM7_EXTENSION), min_size=1, max_size=700)
_ucs2 = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300)


@given(st.one_of(_gsm.map(lambda t: ("gsm7", t)), _ucs2.map(lambda t: ("ucs2", t))), st.data())
def test_decoded_it_is_the_text_again(said, data):
    """Whatever the settings: parts joined and decoded are the text, and each fits its limits."""
    encoding, text = said
    settings = {
        "concat": data.draw(st.sampled_from(["udh8", "udh16", "sar", "payload"])),
        "gsm_packing": data.draw(st.sampled_from(["unpacked", "packed"])),
        "alphabet": data.draw(st.sampled_from(["gsm7", "latin1", "ascii"])),
    }
    found = []
    for _, pdu in made(text, encoding=encoding, settings=settings):
        body = pdu.tlvs.get(Tag.MESSAGE_PAYLOAD, pdu.short_message)
        header = body[0] + 1 if pdu.esm_class else 0
        name = "ucs2" if pdu.data_coding == 8 else settings["alphabet"]
        packed = name == "gsm7" and settings["gsm_packing"] == "packed"
        if Tag.MESSAGE_PAYLOAD not in pdu.tlvs:
            assert len(body) <= (140 if packed or name == "ucs2" else 160)
        part, flags = alphabet.decode(body[header:], "gsm7_packed" if packed else name, header=header)
        assert not flags
        found.append(part)
    assert "".join(found) == text


@given(
    st.one_of(_gsm.map(lambda t: ("gsm7", t)), _ucs2.map(lambda t: ("ucs2", t))),
    st.sampled_from(["gsm7", "ascii", "latin1"]),
    st.sampled_from(["udh8", "udh16", "sar", "payload"]),
)
def test_parts_are_counted_as_they_are_made(said, letters, concat):
    """What is known of a message's parts beforehand is what goes out, whatever it was billed as."""
    encoding, text = said
    settings = {"alphabet": letters, "concat": concat}
    billed = len(split(text, Encoding(encoding)))
    whole = fixed(settings_of({"hosts": ["h:1"], "system_id": "us"} | settings))
    assert count(text, encoding, billed, whole) == len(made(text, encoding=encoding, settings=settings))
