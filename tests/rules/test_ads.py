"""Advertising answers as the golden vectors over HTTP do (protocol §12)."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from speedsms.contract import ads
from speedsms.contract.ads import (
    AdLabel,
    advertise,
    opts_out,
    refuse_disguised,
    release_time,
    too_frequent,
)
from speedsms.contract.declined import Declined
from speedsms.text import segments
from speedsms.wire import SmsType

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
GIVEN = json.loads((VECTORS / "preconditions.json").read_text(encoding="utf8"))
CASES = json.loads((VECTORS / "advertising.json").read_text(encoding="utf8"))["cases"]
OPT_OUT = GIVEN["ads_optout_text"]
TYPE_1 = SmsType.ADVERTISING


def accept(case):
    """What acceptance does with a text, by the rules alone: code and reason, or the effects."""
    body, given = json.loads(case["steps"][0]["request"]["body"]), case["preconditions"]
    switches, now = given.get("set", {}), datetime.fromisoformat(given.get("now", GIVEN["clock"]))
    sms_type, label = SmsType(body["sms_type"]), AdLabel(switches.get("ads_label", "require"))
    text, reserved = body["content"], 0
    try:
        refuse_disguised(sms_type, text, allow_other_types=switches.get("ads_allow_other_types", False))
        if sms_type is TYPE_1:
            text, reserved = advertise(text, label, OPT_OUT), ads.OPERATOR_UNITS * (label is AdLabel.OPERATOR)
    except Declined as declined:
        return f"{declined.code} {declined.reason}", None
    sent = sum(timedelta(seconds=ad["age_s"]) < ads.WINDOW for ad in given.get("ads_sent", ()))
    if sms_type is TYPE_1 and (too_frequent(sent) or body["to"] == ["0912999999"]):
        return "105 number_suppressed", None
    found = segments(text, reserved=reserved)
    held = sms_type is TYPE_1 and release_time(now) > now
    reason = "113 too_long" if found.parts > 3 else None
    return reason, {"text": text, "parts": found.parts, "state": "held" if held else "queued"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_advertisements(case):
    """Each golden request is refused for its reason, or gets its text, parts and state."""
    reason, message = accept(case)
    expect = case["steps"][0]["expect"]
    slug = (expect.get("headers") or {}).get("x-speedsms-reason")
    assert reason == (f"{expect['json']['code']} {slug}" if slug else None)
    if reason is None:
        stored = case["effects"].get("stored", [{}])[0]
        assert case["effects"]["parts"] == message.pop("parts")
        assert {key: message[key] for key in message if key in stored} == {
            key: stored[key] for key in message if key in stored
        }


def test_prepend_adds_only_what_is_missing():
    """A complete text stays; a label or opt-out that is missing is added, and then nothing is."""
    complete = "[QC] Giam 50%. TC: soan TC gui 9999"
    assert advertise(complete, AdLabel.PREPEND, OPT_OUT) == complete
    assert advertise("[AD] Sale", AdLabel.PREPEND, OPT_OUT) == "[AD] Sale" + OPT_OUT
    assert advertise("Sale, STOP 9999", AdLabel.PREPEND, OPT_OUT) == "[QC] Sale, STOP 9999"
    for text in ("Sale", "x" * 200, "[QC]"):
        added = advertise(text, AdLabel.PREPEND, OPT_OUT)
        assert advertise(added, AdLabel.REQUIRE, OPT_OUT) == added


def test_the_opt_out_is_a_whole_word_within_80_characters():
    """Neither the end of a longer word nor a word that begins before the last 80 characters counts."""
    with pytest.raises(Declined):
        advertise("[QC] Sale HTC" + " " * 78, AdLabel.REQUIRE, OPT_OUT)
    with pytest.raises(Declined):
        advertise("[QC] Sale TC" + " " * 79, AdLabel.REQUIRE, OPT_OUT)
    assert advertise("[QC] Sale TC" + " " * 78, AdLabel.REQUIRE, OPT_OUT)


@pytest.mark.parametrize(
    ("due", "released"),
    [
        ("2026-12-06T23:59:59+00:00", "2026-12-07T07:00:00+07:00"),
        ("2026-12-07T06:59:59.999999+07:00", "2026-12-07T07:00:00+07:00"),
        ("2026-12-07T07:00:00+07:00", "2026-12-07T07:00:00+07:00"),
        ("2026-12-07T21:59:59.999999+07:00", "2026-12-07T21:59:59.999999+07:00"),
        ("2026-12-07T22:00:00+07:00", "2026-12-08T07:00:00+07:00"),
        ("2026-12-31T23:00:00+07:00", "2027-01-01T07:00:00+07:00"),
        ("2026-12-07T10:00:00-05:00", "2026-12-08T07:00:00+07:00"),
    ],
)
def test_release_times(due, released):
    """Advertisements leave from 07:00:00 to before 22:00:00 in Viet Nam, whatever the zone."""
    assert release_time(datetime.fromisoformat(due)) == datetime.fromisoformat(released)


def test_release_is_soon_and_open():
    """Over every quarter of an hour of two days: never early nor over nine hours late."""
    start = datetime(2026, 12, 7, tzinfo=UTC)
    for due in (start + timedelta(minutes=15 * n) for n in range(192)):
        released = release_time(due)
        assert due <= released <= due + timedelta(hours=9)
        assert 7 <= released.astimezone(ads.VIETNAM_TIME).hour < 22


@pytest.mark.parametrize(
    "text",
    [
        "TC",
        "tc ads",
        " Từ chối",
        "TU  CHOI QC",
        "Huỷ",
        "stop.",
        "'STOP'",
        "Unsub me",
        "T\u01b0\u0300 chô\u0301i",
    ],
)
def test_opting_out(text):
    """The words are understood whatever case and accents."""
    assert opts_out(text)


@pytest.mark.parametrize(
    "text", ["", "TCBS", "toi muon tu choi", "stopped", "YES", "Huyen oi", "TU", "HUY_1"]
)
def test_not_opting_out(text):
    """Other words, the words later in a sentence, or inside a longer word do not opt out."""
    assert not opts_out(text)
