"""Texts become octets and octets become texts, in the alphabets of short messages (channels §3.8, SM-40)."""

import pytest
from gsm0338 import Codec
from hypothesis import assume, given
from hypothesis import strategies as st

from speedsms.gateway.rules.alphabet import Flag, decode, encode, fits, unpack
from speedsms.text import GSM7_BASIC, GSM7_EXTENSION

GSM = Codec()
GSM_TEXT = st.text(st.sampled_from([*GSM7_BASIC, *GSM7_EXTENSION]), max_size=200)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
LATIN1 = st.text(st.characters(max_codepoint=0xFF), max_size=80)
OCTETS = st.binary(max_size=300)
NAMES = ["gsm7", "gsm7_packed", "ascii", "latin1", "ucs2", "data"]
HEADER = st.sampled_from([0, 6, 7, *range(1, 20)])


@given(GSM_TEXT)
def test_unpacked_septets_are_those_of_another_codec(text):
    """One septet per octet, escape pairs and all, exactly as gsm0338 writes them, and back."""
    octets = encode(text, "gsm7")
    assert octets == GSM.encode(text)[0]
    assert decode(octets, "gsm7") == (text, frozenset())


@given(st.binary(max_size=80).map(lambda octets: bytes(octet & 0x7F for octet in octets)))
def test_septets_read_as_another_codec_reads_them(octets):
    """Septets that gsm0338 can read are read alike."""
    assume(b"\x1b" not in octets and b"\r" not in octets)
    assert decode(octets, "gsm7")[0] == GSM.decode(octets)[0]


@given(GSM_TEXT, HEADER)
def test_packed_septets_come_back(text, header):
    """Seven bits each, behind a header of any length; a final `@` that fills the octets cannot be told."""
    octets = encode(text, "gsm7_packed", header=header)
    septets, fill = len(encode(text, "gsm7")), -header * 8 % 7
    assert len(octets) == -(-(septets * 7 + fill) // 8)
    assume(not text.endswith("@") or (septets * 7 + fill) % 8)
    assert decode(octets, "gsm7_packed", header=header) == (text, frozenset())


@pytest.mark.parametrize(
    ("text", "header", "octets"),
    [
        ("hellohello", 0, "e8329bfd4697d9ec37"),
        ("", 0, ""),
        ("a", 0, "61"),
        ("a", 6, "c2"),  # one bit of filling behind the six octets of `05 00 03 ref total n`
        ("1234567", 0, "31d98c56b3dd1a"),  # seven bits are left over: CR
        ("12345678", 0, "31d98c56b3dd70"),
    ],
)
def test_golden_packing(text, header, octets):
    """Packed texts as TS 23.038 §6.1.2 prints or implies them."""
    assert encode(text, "gsm7_packed", header=header).hex() == octets
    assert decode(bytes.fromhex(octets), "gsm7_packed", header=header)[0] == text


def test_zeros_as_filling():
    """A peer that fills the seven spare bits with zeros has not written an `@`."""
    assert decode(bytes.fromhex("31d98c56b3dd00"), "gsm7_packed")[0] == "1234567"


@given(UNICODE)
def test_units_come_back(text):
    """UCS-2 is big-endian UTF-16, pairs included; what is read is what was written."""
    octets = encode(text, "ucs2")
    assert octets == text.encode("utf-16-be")
    found, flags = decode(octets, "ucs2")
    assume(Flag.BYTE_ORDER not in flags)
    assert found == text


@pytest.mark.parametrize("text", ["Mã xác thực", "TC", "Tu choi nhan tin", "Đồng ý 😀", "Привет, мир"])
def test_byte_order_is_found_out(text):
    """Little-endian text is read with and without its mark, and flagged; big-endian text is not."""
    assert decode(text.encode("utf-16-be"), "ucs2") == (text, frozenset())
    if not text.startswith("П"):  # Cyrillic without a mark reads as well either way
        assert decode(text.encode("utf-16-le"), "ucs2") == (text, {Flag.BYTE_ORDER})
    for order in ("utf-16-be", "utf-16-le"):
        assert decode(("\ufeff" + text).encode(order), "ucs2") == (text, {Flag.BYTE_ORDER})


@pytest.mark.parametrize("text", ["你好", "一", "一二三", "中文 短信", "丠丠a", "ᄀ", "Āā"])
def test_other_text_is_not_turned_round(text):
    """East Asian text, and text that is likely both ways, stays as it stands."""
    assert decode(text.encode("utf-16-be"), "ucs2") == (text, frozenset())


@given(LATIN1)
def test_one_octet_alphabets(text):
    """Latin-1 is itself, and ASCII is where no octet is high."""
    assert decode(encode(text, "latin1"), "latin1") == (text, frozenset())
    assert fits(text, "ascii") == text.isascii()
    if text.isascii():
        assert decode(encode(text, "ascii"), "ascii") == (text, frozenset())


@given(OCTETS)
def test_data_is_hexadecimal(octets):
    """Binary content is a text of two digits per octet, both ways."""
    assert encode(decode(octets, "data")[0], "data") == octets


@given(OCTETS, st.sampled_from(NAMES), HEADER)
def test_any_octets_decode(octets, name, header):
    """Reading is total, and what it gives can be stored as UTF-8."""
    text, flags = decode(octets, name, header=header)
    text.encode()
    assert flags <= set(Flag)
    assert len(text) <= 2 * len(octets) + 1


@given(UNICODE, st.sampled_from(["gsm7", "ascii", "latin1", "ucs2"]))
def test_what_fits_comes_back(text, name):
    """A text fits an alphabet exactly if writing it does not raise, and then it is read as it was."""
    if not fits(text, name):
        with pytest.raises(ValueError, match=r"codec|character|ESC"):
            encode(text, name)
        return
    found, flags = decode(encode(text, name), name)
    assert found == text or Flag.BYTE_ORDER in flags


@pytest.mark.parametrize(
    ("octets", "text", "flags"),
    [
        (b"\x1b\x01", "£", set()),
        (b"a\x1b", "a", set()),
        (b"\x1b\x1be", "€", set()),
        (b"caf\xe9", "café", {Flag.HIGH_OCTET}),
        (b"\x80", "\ufffd", {Flag.HIGH_OCTET}),
    ],
)
def test_what_septets_leave_undefined(octets, text, flags):
    """Unknown escape pairs show as the plain letter, a last escape as nothing, high octets as Latin-1."""
    assert decode(octets, "gsm7") == (text, flags)


@pytest.mark.parametrize("octets", ["0041d8", "d8000041", "dc00", "00"])
def test_half_a_character(octets):
    """Half a unit or half a pair is U+FFFD, flagged."""
    text, flags = decode(bytes.fromhex(octets), "ucs2")
    assert "\ufffd" in text
    assert flags == {Flag.DAMAGED}


def test_unpacked_parts_join():
    """Two packed parts, each behind its header, give septets that read as one text when they are joined."""
    parts = [encode(part, "gsm7_packed", header=6) for part in ("[mot hai", "€ ba]")]
    assert decode(b"".join(unpack(part, 6) for part in parts), "gsm7")[0] == "[mot hai€ ba]"
