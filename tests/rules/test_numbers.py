"""Entries become the numbers of protocol §9, and nothing else becomes a number."""

import json
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speedsms import numbers
from speedsms.contract.carriers import carrier_name, carrier_of
from speedsms.numbers import Number, country_code, magic, parse

VECTORS = Path(__file__).parents[1] / "wire" / "vectors" / "table_numbers.json"
CASES = json.loads(VECTORS.read_text(encoding="utf8"))["cases"]
NOISE = (
    " \t-.()\u00a0\u202f\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2069\ufeff"
)
VALID = st.builds("{}{:06}".format, st.sampled_from(sorted(numbers.BLOCKS)), st.integers(0, 999_999))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_numbers(case):
    """Every row of the golden table gives its number, carrier and conversion, or is invalid."""
    number = parse(case["entry"], case.get("countries", ()))
    assert case["expect"] == (
        {
            "e164": number.e164,
            "national": number.national,
            "carrier": carrier_name(carrier_of(number.e164, {}), number.e164),
            "converted": number.converted,
        }
        if number
        else {"invalid": True}
    )


def test_plan_agrees_with_phonenumbers():
    """All 900 blocks of nine-digit numbers: ours are those that phonenumbers calls mobile."""
    ours = {str(block) for block in range(100, 1000) if parse(f"84{block}123456")}
    theirs = {
        str(block) for block in range(100, 1000) if any(map(_is_mobile, (f"{block}123456", f"{block}012345")))
    }
    # Ranges of nine digits beginning with 1 that phonenumbers lists as mobile and the plan of §9.2 does not
    # have; taking them would also read an old number with a lost digit as another subscriber's.
    assert theirs == ours | {"121", "140", "160"}


def _is_mobile(national):
    number = phonenumbers.PhoneNumber(84, int(national))
    return phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE


def test_calling_codes_are_those_of_phonenumbers():
    """Each assigned code is known, but for freephone (800) and shared cost (808), and none begins another."""
    assigned = {str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    assert assigned - numbers.COUNTRY_CODES == {"800", "808"}
    assert not numbers.COUNTRY_CODES - assigned
    assert all(country_code(code + "0" * 8) == code for code in numbers.COUNTRY_CODES)


@pytest.mark.parametrize(("old", "new"), numbers.CONVERTED.items())
@pytest.mark.parametrize("form", ["0{}", "{}", "84{}", "840{}", "+84{}", "0084{}", "+840{}", "00840{}"])
def test_old_prefixes_are_converted(old, new, form):
    """Every prefix of 2018 is converted in every form, and its last seven digits are kept."""
    assert parse(form.format(old + "7654321")) == Number(f"84{new}7654321", converted=True)


def test_no_other_old_prefix_is_converted():
    """Ten digits beginning with 1 are a number only under the 21 prefixes of the conversion."""
    converted = {str(p) for p in range(100, 200) if parse(f"0{p}7654321")}
    assert converted == set(numbers.CONVERTED)
    assert len(converted) == 21


@given(VALID, st.sampled_from(["0", "84", "", "+84", "0084", "840", "+840", "00840"]), st.data())
@settings(max_examples=60)
def test_every_spelling_is_one_number(national, form, data):
    """Form and noise never change which number is meant; a valid number is its own canonical spelling."""
    spelled = list(form + national)
    for _ in range(data.draw(st.integers(0, 4))):
        spelled.insert(data.draw(st.integers(0, len(spelled))), data.draw(st.sampled_from(NOISE)))
    number = parse("".join(spelled))
    assert number == Number("84" + national)
    assert parse(number.national) == parse(number.e164) == number


@given(st.text(alphabet="0123456789+84 -x٠９²\u200b", max_size=20), st.sampled_from([(), ("66",), ("*",)]))
@settings(max_examples=200)
def test_what_is_parsed_is_e164(entry, countries):
    """Whatever is written, a number is 8 to 15 ASCII digits, Vietnamese or of an opened country."""
    number = parse(entry, countries)
    if number is not None:
        assert number.e164.isascii()
        assert number.e164.isdigit()
        assert 8 <= len(number.e164) <= 15
        assert number.e164[2:5] in numbers.BLOCKS or (number.is_foreign and countries)


@pytest.mark.parametrize("code", ["870", "878", "881", "882", "883", "888", "979"])
def test_fraud_ranges_are_never_opened_by_a_wildcard(code):
    """Satellite and premium ranges need their own name on the list of countries."""
    assert parse(f"+{code}12345678", ["*"]) is None
    assert parse(f"+{code}12345678", [code]) == Number(f"{code}12345678")
    assert parse("+66812345678", ["*"]) == Number("66812345678")


def test_opening_vietnam_as_foreign_opens_nothing():
    """An account whose list holds 84, or everything, still gets only numbers of the plan."""
    assert [parse(e, ["84", "*"]) for e in ("+842438251234", "842438251234", "84000000001")] == [None] * 3


@pytest.mark.parametrize("form", ["84{}", "+84{}", "0084{}", "0{}", "840{}", "+84 {}", "\u202a84.{}"])
def test_magic_numbers_in_any_spelling(form):
    """1 to 26 are magic in every spelling, their neighbours are not, and none of them is a valid number."""
    spelled = [form.format(f"{n:09}") for n in range(28)]
    assert [magic(entry) for entry in spelled] == [None, *range(1, 27), None]
    assert not any(map(parse, spelled))
    assert magic("84912345678") is None


def test_two_zeros_mean_abroad_from_eleven_digits():
    """Ten digits beginning with 00 are a national form, and outside the plan."""
    assert parse("0012345678", ["1"]) is None
    assert parse("00123456789", ["1"]) == Number("123456789")
