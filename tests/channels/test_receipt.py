"""A receipt is about one part and gives it a TP-Status, whatever the peer writes (channels §3.12, §3.13)."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import process_time
from zoneinfo import ZoneInfo

import msgspec
import pytest

from speedsms.gateway.channels.smpp.pdu import Address, DataSm, DeliverSm, Tag
from speedsms.gateway.channels.smpp.receipt import ReceiptRules, State, parse

CORPUS = json.loads((Path(__file__).parent / "receipts.json").read_text("utf8"))
NOW = datetime(2025, 11, 22, 6, 50, tzinfo=UTC)
VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
PHONE = Address(1, 1, "84912345678")
HOSTILE = [
    b"id:" * 21_845,
    b"id:" + b" " * 65_532,
    b"id" + b" " * 65_533,
    (b"id" + b" " * 100) * 640,
    b"message message_" * 4_096,
    b"submit date:done date:" * 2_978,
    b"id:a sub:1 dlvrd:1 submit date:" + b"1" * 65_500,
    b"id:" + b"f" * 65_532,
    b"stat:" + b"A " * 32_000,
    b"text:" * 13_107,
    b"\0" * 65_535,
    bytes(range(256)) * 255,
]


def octets_of(row):
    return bytes.fromhex(row["hex"]) if "hex" in row else row.get("text", "").encode("latin-1")


def pdu_of(row):
    tlvs = {int(tag, 16): bytes.fromhex(value) for tag, value in row.get("tlvs", {}).items()}
    esm_class, data_coding = row.get("esm_class", 4), row.get("data_coding", 0)
    if row.get("data_sm"):
        return DataSm(source=PHONE, esm_class=esm_class, data_coding=data_coding, tlvs=tlvs)
    return DeliverSm(
        source=PHONE,
        esm_class=esm_class,
        data_coding=data_coding,
        short_message=octets_of(row),
        tlvs=tlvs,
    )


def rules_of(row):
    given = row.get("rules", {})
    return ReceiptRules(
        **{**given, "receipt_tz": ZoneInfo(given["receipt_tz"]) if "receipt_tz" in given else VIETNAM}
    )


def receipt(text="", rules=None, now=NOW, **fields):
    pdu = DeliverSm(**{"source": PHONE, "esm_class": 4, "short_message": text.encode("latin-1"), **fields})
    return parse(pdu, rules or ReceiptRules(receipt_tz=VIETNAM), now)


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: row["name"])
def test_corpus(row):
    """Each shape gives exactly the id, keys, status, cause, time and marks that stand beside it."""
    found = parse(pdu_of(row), rules_of(row), NOW)
    if row["expect"] is None:
        assert found is None
        return
    expected = {"peer_time": None, "intermediate": False, "differs": False, **row["expect"]}
    said = msgspec.json.decode(msgspec.json.encode(found))
    assert {key: said[key] for key in expected} == expected


def test_corpus_is_large_and_mostly_readable():
    """At least sixty shapes of text, and all that name an id and a state of §3.13 are parsed (M12)."""
    shapes = [row for row in CORPUS if row["expect"] and {"text", "hex"} & row.keys()]
    assert len(shapes) >= 60
    assert sum(row["expect"]["parsed"] for row in shapes) >= 60


@pytest.mark.parametrize(
    "shape", ["id:{} stat:{} err:{}", "stat:{1} err:{2} id:{0}", "ID={}, STAT={}, ERR={}"]
)
@pytest.mark.parametrize("state", [*State], ids=lambda state: state.name)
def test_text_and_parameter_say_the_same(shape, state):
    """A state written as a word and the same state as message_state have the same status."""
    written = receipt(shape.format("a1", state.name, "000"))
    tlvs = {Tag.RECEIPTED_MESSAGE_ID: b"a1\0", Tag.MESSAGE_STATE: bytes([state])}
    told = receipt(tlvs=tlvs)
    assert (written.reference, written.status, written.parsed) == (told.reference, told.status, True)


@pytest.mark.parametrize("rules", [{}, {"acceptd_final": True}, {"unknown_state": "delivered"}])
def test_nothing_ends_before_its_end(rules):
    """ENROUTE, SCHEDULED, ACCEPTD and every failure in an intermediate notification leave it open (M13)."""
    rules = ReceiptRules(**rules)
    for state in State:
        tlvs = {Tag.RECEIPTED_MESSAGE_ID: b"a1\0", Tag.MESSAGE_STATE: bytes([state])}
        early = receipt(rules=rules, tlvs=tlvs, esm_class=0x20).status
        assert state is State.DELIVRD or early in (None, 34)
        if state in (State.ENROUTE, State.SCHEDULED):
            assert receipt(rules=rules, tlvs=tlvs).status is None


@pytest.mark.parametrize("status", [state.name for state in State] + ["delivered", "FAILED", "GONE"])
def test_statuses_are_of_the_scale(status):
    """Whatever a peer writes, the status is a TP-Status that the scale names, or none (ST-1)."""
    assert receipt(f"id:1 stat:{status} err:1").status in {None, 0, 64, 69, 70, 72, 99}


@pytest.mark.parametrize(
    ("address", "number"),
    [
        (PHONE, "84912345678"),
        (Address(1, 1, "+84912345678"), "84912345678"),
        (Address(2, 1, "0912345678"), "84912345678"),
        (Address(2, 1, "912345678"), "84912345678"),
        (Address(0, 0, "0084912345678"), "84912345678"),
        (Address(1, 1, "841212345678"), "84792345678"),
        (Address(1, 1, "6591234567"), "6591234567"),
        (Address(5, 0, "Verify"), ""),
        (Address(3, 0, "8079"), ""),
        (Address(0, 0, ""), ""),
        (Address(1, 1, "9" * 65_000), ""),
    ],
)
def test_whom_a_receipt_is_about(address, number):
    """The source address, however the peer types it, is our destination as we write it (§3.11)."""
    assert receipt("id:1 stat:DELIVRD err:0", source=address).number == number


@pytest.mark.parametrize("ahead_s", [-8 * 86_400, -86_400, 0, 3_540, 3_660])
@pytest.mark.parametrize("form", ["%y%m%d%H%M", "%y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H%M%S"])
def test_dates_count_near_now(ahead_s, form):
    """A date of any form is believed within the past week and one hour ahead, and no other (SM-35)."""
    done = NOW + timedelta(seconds=ahead_s)
    found = receipt(f"id:1 stat:DELIVRD done date:{done.astimezone(VIETNAM):{form}}").peer_time
    assert found == (done if -7 * 86_400 < ahead_s < 3_600 else None)


@pytest.mark.parametrize("octets", HOSTILE, ids=lambda octets: octets[:12].hex())
@pytest.mark.parametrize("alphabet", ["gsm7", "gsm7_packed"])
def test_hostile_text_is_quick(octets, alphabet):
    """65,535 octets of anything cost at most 50 ms, as payload and as id (CH-6): the best of five."""
    rules = ReceiptRules(sniff_receipts=True, alphabet=alphabet)
    tlvs = {Tag.MESSAGE_PAYLOAD: octets, Tag.RECEIPTED_MESSAGE_ID: octets}
    took_s = []
    for _ in range(5):
        started = process_time()
        found = parse(DataSm(source=PHONE, esm_class=4, tlvs=tlvs), rules, NOW)
        took_s.append(process_time() - started)
    assert min(took_s) < 0.05
    assert len(found.reference) <= 255
    assert len(found.cause) <= 41


def test_mutated_receipts_never_raise():
    """Receipts cut, spliced and overwritten give a receipt or none, and what they give can be stored."""
    random = Random(20251122)
    bodies = [octets_of(row) for row in CORPUS]
    rules = [ReceiptRules(), ReceiptRules(sniff_receipts=True, alphabet="gsm7_packed", err_map={"a": 67})]
    for _ in range(10_000):
        one, other = random.choices(bodies, k=2)
        body = bytearray(one[: random.randrange(len(one) + 1)] + other[random.randrange(len(other) + 1) :])
        for _ in range(random.randrange(4) if body else 0):
            body[random.randrange(len(body))] = random.randrange(256)
        tags = random.sample([0x1E, 0x423, 0x425, 0x427, 0x424], random.randrange(4))
        tlvs = {tag: random.randbytes(random.randrange(6)) for tag in tags}
        esm_class = random.randrange(256)
        pdu = DeliverSm(source=PHONE, esm_class=esm_class, short_message=bytes(body), tlvs=tlvs)
        found = parse(pdu, random.choice(rules), NOW)
        assert found is None or found.status in {None, 0, *range(32, 128)}
        assert found is None or "\0" not in found.reference + found.cause
