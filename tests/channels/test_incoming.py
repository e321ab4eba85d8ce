"""Messages from phones are read whatever their coding, header and parameters are (channels §3.14, M18)."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway.channels.base import Piece
from speedsms.gateway.channels.smpp.incoming import Header, party, read, split_udh
from speedsms.gateway.channels.smpp.pdu import Address, DataSm, DeliverSm, Tag
from speedsms.gateway.rules.alphabet import Flag, decode, encode

NOW = datetime(2025, 11, 22, 6, 50, tzinfo=UTC)
PHONE, SERVICE = Address(1, 1, "84912345678"), Address(3, 0, "8079")
TEXT = "Tu choi"
UDH8 = bytes.fromhex("050003fe0302")
UDH16 = bytes.fromhex("060804fffe0302")
SAR = {
    Tag.SAR_MSG_REF_NUM: b"\xff\xfe",
    Tag.SAR_TOTAL_SEGMENTS: b"\x03",
    Tag.SAR_SEGMENT_SEQNUM: b"\x02",
}


def message(octets=b"", coding=0, default="gsm7", now=NOW, **fields):
    fields = {"source": PHONE, "destination": SERVICE, "short_message": octets, **fields}
    return read(DeliverSm(data_coding=coding, **fields), default, now)


@pytest.mark.parametrize(
    ("coding", "name"),
    [
        *[(0, "gsm7"), (1, "ascii"), (3, "latin1"), (8, "ucs2"), (2, "data"), (4, "data")],
        *[(0x10, "gsm7"), (0x13, "gsm7"), (0x14, "data"), (0x17, "data"), (0x18, "ucs2"), (0x1B, "ucs2")],
        *[(0xF0, "gsm7"), (0xF3, "gsm7"), (0xF4, "data"), (0xF7, "data"), (0xF8, "gsm7"), (0xFF, "data")],
    ],
)
def test_data_codings(coding, name):
    """Each data_coding of SM-40, message classes included, is read in its alphabet without complaint."""
    text = TEXT.encode().hex() if name == "data" else TEXT
    found = message(encode(text, name), coding)
    assert (found.incoming.text, found.oddities) == (text, frozenset())


@pytest.mark.parametrize("coding", range(256))
def test_every_data_coding_is_read(coding):
    """An unlisted data_coding is read as Latin-1 and counted; the octets are kept."""
    listed = coding in {0, 1, 2, 3, 4, 8} or 0x10 <= coding <= 0x1B or coding >= 0xF0
    found = message(b"caf\xe9 caf\xe9", coding)
    assert ("data_coding" in found.oddities) == (not listed)
    assert listed or found.incoming.text == "café café"
    assert found.incoming.raw == b"caf\xe9 caf\xe9"


@pytest.mark.parametrize("default", ["gsm7", "gsm7_packed", "ascii", "latin1"])
def test_default_alphabet_is_the_links(default):
    """data_coding 0 and the classes without an alphabet of their own mean what the link was told."""
    for coding in (0, 0x10, 0xF1):
        assert message(encode(TEXT, default), coding, default).incoming.text == TEXT


def test_odd_octets_are_counted():
    """Little-endian text and high octets are read and named."""
    turned = message("Từ chối".encode("utf-16-le"), 8)
    assert (turned.incoming.text, turned.oddities) == ("Từ chối", {Flag.BYTE_ORDER})
    assert message(b"caf\xe9").oddities == {Flag.HIGH_OCTET}
    assert message(b"TC\0\0", 1).incoming.text == "TC"


@pytest.mark.parametrize(
    ("header", "tlvs", "reference", "width"),
    [(UDH8, {}, 0xFE, 8), (UDH16, {}, 0xFFFE, 16), (b"", SAR, 0xFFFE, 16)],
)
@pytest.mark.parametrize("where", ["short_message", "message_payload", "data_sm"])
def test_parts(header, tlvs, reference, width, where):
    """A part by either header or by parameters, wherever its octets are, is a piece with its own text."""
    esm_class = 0x40 if header else 0
    payload = {Tag.MESSAGE_PAYLOAD: header + b"hai"}
    found = {
        "short_message": lambda: message(header + b"hai", esm_class=esm_class, tlvs=tlvs),
        "message_payload": lambda: message(esm_class=esm_class, tlvs=tlvs | payload),
        "data_sm": lambda: read(
            DataSm(source=PHONE, destination=SERVICE, esm_class=esm_class, tlvs=tlvs | payload), "gsm7", NOW
        ),
    }[where]()
    assert found.oddities == frozenset()
    assert found.incoming.piece == Piece(reference, width, 3, 2, b"hai", "gsm7")
    assert found.incoming.text == "hai"


@given(st.text(st.sampled_from("aạ€😀[đ "), min_size=2, max_size=60), st.integers(1, 59), st.booleans())
def test_parts_join_as_octets(text, cut, packed):
    """A pair that straddles two parts is whole again once their octets are joined (SM-42)."""
    name = "gsm7_packed" if packed else "ucs2"
    text = text.replace("ạ", "à").replace("😀", "{").replace("đ", "ñ") if packed else text
    octets = encode(text, "gsm7" if packed else "ucs2")
    at = cut % len(octets) or 1
    pieces = []
    for part, some in ((1, octets[:at]), (2, octets[at:])):
        body = bytes((5, 0, 3, 7, 2, part)) + (pack(some) if packed else some)
        pieces.append(message(body, 0 if packed else 8, name, esm_class=0x40).incoming.piece)
    assert [piece.part for piece in pieces] == [1, 2]
    joined = b"".join(piece.octets for piece in pieces)
    found, flags = decode(joined, pieces[0].alphabet)
    assert found == text or Flag.BYTE_ORDER in flags


def pack(septets):
    """Septets as they travel behind a header of six octets; CR fills what would read as `@`."""
    bits = "".join(f"{septet:07b}" for septet in reversed(septets)) + "0"
    if -len(bits) % 8 == 7:
        bits = "0001101" + bits
    return int(bits, 2).to_bytes(-(-len(bits) // 8), "little")


@pytest.mark.parametrize(
    ("octets", "header", "body"),
    [
        ("0041", Header(1), "41"),
        ("050003fe030241", Header(6, 0xFE, 8, 3, 2), "41"),
        ("060804fffe030241", Header(7, 0xFFFE, 16, 3, 2), "41"),
        ("0605040b8423f041", Header(7, ported=True), "41"),
        ("040402010241", Header(5, ported=True), "41"),
        ("0b0003fe030205040b8423f041", Header(12, 0xFE, 8, 3, 2, ported=True), "41"),
        ("02250041", Header(3), "41"),  # an element without octets
        ("040102030441", Header(5), "41"),  # an element that we skip
        ("050003fe030041", Header(6), "41"),  # no part is numbered zero
        ("050003fe030441", Header(6), "41"),  # nor beyond the total
        ("050003fe010141", Header(6), "41"),  # one part is a whole
        ("050003fe000041", Header(6), "41"),
        ("040002fe0341", Header(5), "41"),  # two octets where three belong
        ("", None, ""),
        ("05", None, "05"),
        ("0500", None, "0500"),
        ("050004fe030241", None, "050004fe030241"),
        ("010041", None, "010041"),
        ("ff0003fe030241", None, "ff0003fe030241"),
    ],
)
def test_headers(octets, header, body):
    """Elements 00, 08, 04, 05 are understood, others skipped; a broken header is text (SM-41)."""
    assert split_udh(bytes.fromhex(octets)) == (header, bytes.fromhex(body))


def test_broken_header_is_text_and_counted():
    """Nothing of a message with a broken header is lost."""
    found = message(b"\x7fTu choi", esm_class=0x40)
    assert (found.incoming.text, found.oddities) == ("àTu choi", {"broken_header"})
    assert found.incoming.piece is None


def test_ported_message_is_data():
    """A message to a port is for a program: its octets are kept as they are."""
    found = message(bytes.fromhex("0605040b8423f0") + b"\x01\x06", esm_class=0x40)
    assert found.incoming.text == "0106"


@pytest.mark.parametrize("missing", [*SAR])
def test_incomplete_sar_is_no_part(missing):
    """Two of the three parameters say nothing: the text stands alone."""
    tlvs = {tag: value for tag, value in SAR.items() if tag != missing}
    assert message(b"hai", tlvs=tlvs).incoming.piece is None


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (Address(1, 1, "84912345678"), "84912345678"),
        (Address(1, 1, "+84912345678"), "84912345678"),
        (Address(2, 1, "0912345678"), "84912345678"),
        (Address(2, 1, "912345678"), "84912345678"),
        (Address(0, 0, "0912345678"), "84912345678"),
        (Address(0, 1, "01212345678"), "84792345678"),
        (Address(1, 1, "14155550123"), "14155550123"),
        (Address(1, 1, "0014155550123"), "14155550123"),
        (Address(3, 0, "8079"), "8079"),
        (Address(0, 0, "19001234"), "19001234"),
        (Address(5, 0, "VietinBank"), "VietinBank"),
        (Address(5, 0, "0912345678"), "0912345678"),
        (Address(0, 0, ""), ""),
        (Address(0, 0, "x" * 300), "x" * 64),
    ],
)
def test_parties(address, written):
    """A sender is E.164 digits by type of number, else its text; never longer than an index takes (SM-44)."""
    assert party(address) == written


def test_repetitions_share_a_key():
    """The same octets between the same two parties within a minute are one message, on any bind."""
    start = NOW.replace(minute=0, second=0)
    keys = {
        message(b"TC", now=start + timedelta(seconds=after_s)).incoming.dedup_key for after_s in (0, 5, 60)
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"octets": b"TC1"},
        {"coding": 1},
        {"source": Address(1, 1, "84912345679")},
        {"destination": Address(3, 0, "8179")},
        {"now": NOW + timedelta(minutes=3)},
        {"tlvs": {Tag.USER_MESSAGE_REFERENCE: b"\0\1"}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_messages_have_other_keys(other):
    """Another text, party, reference of the peer, or the same text minutes later, is another message."""
    assert message(**{"octets": b"TC", **other}).incoming.dedup_key != message(b"TC").incoming.dedup_key


def test_keys_of_parts():
    """A repeated part has its key at any time; another part, reference, width or sender has another."""
    one = message(UDH8 + b"hai", esm_class=0x40).incoming
    later = message(UDH8 + b"hai", esm_class=0x40, now=NOW + timedelta(hours=1)).incoming
    assert later.dedup_key == one.dedup_key
    others = [
        message(UDH16 + b"hai", esm_class=0x40),
        message(UDH8[:-1] + b"\x03hai", esm_class=0x40),
        message(UDH8[:3] + b"\x00\x03\x02hai", esm_class=0x40),
        message(UDH8 + b"hai", esm_class=0x40, source=Address(1, 1, "84912345679")),
        message(b"hai", tlvs=SAR),
        message(b"hai", tlvs=SAR | {Tag.SAR_SEGMENT_SEQNUM: b"\x03"}),
    ]
    keys = [one.dedup_key, *(found.incoming.dedup_key for found in others)]
    assert len(set(keys)) == len(keys)


def test_mutated_messages_never_raise():
    """Random headers, codings and parameters give a message that can be stored."""
    random = Random(20251122)
    names = ["gsm7", "gsm7_packed", "ascii", "latin1"]
    for _ in range(10_000):
        body = random.choice([UDH8, UDH16, b"\x06\x05\x04\x0b\x84\x23\xf0", b""]) + random.randbytes(8)
        body = bytes(octet if random.random() < 0.9 else random.randrange(256) for octet in body)
        tlvs = {tag: random.randbytes(random.randrange(4)) for tag in random.sample([*SAR, 0x424, 0x204], 2)}
        source = Address(random.randrange(7), 1, random.randbytes(random.randrange(9)).decode("latin-1"))
        pdu = DeliverSm(
            source=source,
            destination=SERVICE,
            esm_class=random.choice((0, 0x40)),
            data_coding=random.randrange(256),
            short_message=body[: random.randrange(len(body) + 1)],
            tlvs=tlvs,
        )
        incoming = read(pdu, random.choice(names), NOW).incoming
        incoming.text.encode()
        assert "\0" not in incoming.text
        piece = incoming.piece
        assert piece is None or (1 <= piece.part <= piece.total and piece.reference < 1 << piece.width)
