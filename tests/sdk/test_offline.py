"""What the SDK says without a network: parts, numbers, prices; equal to the golden tables of the gateway."""

import json
import unicodedata
from pathlib import Path

import pytest

import speedsms
from speedsms import Number, TextMode, parse_number, preview, segments
from speedsms.contract.carriers import carrier_name, carrier_of
from speedsms.text import NotSendable, savings

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
TEXTS, NUMBERS = (
    json.loads((VECTORS / f"table_{name}.json").read_text("utf8"))["cases"] for name in ("text", "numbers")
)
SENTENCE = "Mã xác thực của bạn là 493027, hết hạn sau 5 phút. Không cho ai biết"


def written(case):
    if "input_utf16" in case:
        units = b"".join(unit.to_bytes(2, "little") for unit in case["input_utf16"])
        return units.decode("utf-16-le", "surrogatepass")
    repeat = case.get("input_repeat")
    return repeat["before"] + repeat["unit"] * repeat["times"] + repeat["after"] if repeat else case["input"]


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case["id"])
def test_segments_equal_the_golden_table(case):
    """The public function gives what the gateway bills (experience §3.2)."""
    mode = TextMode(case["text_mode"])
    if "code" in case["expect"]:
        with pytest.raises(NotSendable):
            segments(written(case), mode)
        return
    counted = segments(written(case), mode, case.get("reserved", 0))
    expected = {name: case["expect"][name] for name in ("encoding", "units", "parts")}
    assert {"encoding": counted.encoding, "units": counted.units, "parts": counted.parts} == expected


@pytest.mark.parametrize("case", NUMBERS, ids=lambda case: case["id"])
def test_numbers_equal_the_golden_table(case):
    """The public function reads entries as the gateway does (experience §3.2)."""
    number = parse_number(case["entry"], case.get("countries", ()))
    if number is None:
        assert case["expect"] == {"invalid": True}
        return
    found = {"e164": number.e164, "national": number.national, "converted": number.converted}
    found["carrier"] = carrier_name(carrier_of(number.e164, {}), number.e164)
    assert found == case["expect"]


def test_a_preview_counts_and_prices():
    """Numbers by carrier, invalid and repeated entries, parts and đồng of all together."""
    to = ["0912345678", "84912345678", "0981234567", Number("84901234567"), "12"]
    seen = preview(to, "a" * 161, price_vnd={"vinaphone": 250, "viettel": 300, "mobifone": 1})
    assert seen.carriers == {"vinaphone": 1, "viettel": 1, "mobifone": 1}
    assert (seen.invalid, seen.duplicates, seen.segments.parts, seen.parts) == (("12",), 1, 2, 6)
    assert seen.total_vnd == 2 * (250 + 300 + 1)
    assert preview("0912345678", "hi", price_vnd=250).total_vnd == 250
    with pytest.raises(KeyError):
        preview("0912345678", "hi", price_vnd={"viettel": 1})


def test_a_preview_says_what_costs_and_what_would_save():
    """Costly characters by position; parts saved by NFC, tidy, unaccent (experience §3.2)."""
    seen = preview("0912345678", unicodedata.normalize("NFD", SENTENCE))
    assert (seen.segments.parts, seen.segments.changed) == (1, ("nfc",))
    assert seen.savings == (1, 0, 0)
    assert seen.costly[0] == (1, "ã", 1)
    long = preview("0912345678", SENTENCE * 3, type=4)
    assert (long.segments.parts, long.savings.unaccent, long.too_long) == (4, 2, True)
    assert not preview("0912345678", SENTENCE * 3, type=2).too_long
    assert savings("“" + "a" * 100) == (0, 1, 1)
    assert savings("plain") == (0, 0, 0)


def test_no_network_is_needed():
    """Not even the HTTP client is loaded for it."""
    import subprocess
    import sys

    script = (
        "import speedsms, sys; speedsms.segments('a'); speedsms.parse_number('1'); speedsms.preview('1', 'a')"
    )
    script += "; print('httpx2' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_public_name_exists():
    """The lazy names are those that are promised, and a wrong one says so."""
    assert [name for name in speedsms.__all__ if not getattr(speedsms, name)] == []
    with pytest.raises(AttributeError, match="nonsense"):
        _ = speedsms.nonsense
