"""Contents become the texts, units and parts of protocol §10."""

import json
from pathlib import Path
from unicodedata import normalize

import pytest
import smsutil
from gsm0338 import Codec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speedsms.text import (
    GSM7_BASIC,
    GSM7_EXTENSION,
    Encoding,
    NotSendable,
    TextMode,
    costly,
    fold,
    normalise,
    segments,
    split,
)

VECTORS = Path(__file__).parents[1] / "wire" / "vectors" / "table_text.json"
CASES = json.loads(VECTORS.read_text(encoding="utf8"))["cases"]
VOWELS = "aăâeêioôơuưy"
TONES = ["", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323"]
ACCENTED = [*sorted({normalize("NFC", v + t) for v in VOWELS for t in TONES} - set("aeiouy")), "đ"]
LETTERS = [*ACCENTED, *(letter.upper() for letter in ACCENTED)]
GSM = Codec()
# Contents of all kinds, dense in what matters: pairs, letters on the border of GSM-7, line ends, marks.
CONTENT = st.text(
    st.one_of(
        st.sampled_from(
            [*GSM7_BASIC, *GSM7_EXTENSION, *LETTERS, *"\r\n\t\u2028`çα…–“”\u200b\u0301\u0323😀🇻𠀀"]
        ),
        st.characters(blacklist_categories=["Cc", "Cs", "Cn"]),
    ),
    max_size=90,
)
GSM_TEXT = st.text(st.sampled_from([*GSM7_BASIC, *GSM7_EXTENSION]), min_size=140, max_size=330)
UCS_TEXT = st.text(st.sampled_from([*"aạ😀\u0323"]), min_size=60, max_size=150)


def written(case):
    if "input_utf16" in case:
        units = b"".join(unit.to_bytes(2, "little") for unit in case["input_utf16"])
        return units.decode("utf-16-le", "surrogatepass")
    repeat = case.get("input_repeat")
    return repeat["before"] + repeat["unit"] * repeat["times"] + repeat["after"] if repeat else case["input"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_texts(case):
    """Every row of the golden table gives its encoding, units, parts and text, or is refused."""
    expected = case["expect"]
    if "code" in expected:
        with pytest.raises(NotSendable):
            segments(written(case), TextMode(case["text_mode"]))
        return
    found = segments(written(case), TextMode(case["text_mode"]))
    assert {key: getattr(found, key) for key in expected} == expected


def test_alphabet_agrees_with_gsm0338():
    """Over all of the basic plane a character is GSM-7, at one septet or two, exactly as gsm0338 says."""
    for character in map(
        chr, [*range(0x20, 0x7F), *range(0xA0, 0xD800), *range(0xE000, 0xFDD0), *range(0xFDF0, 0xFFFE)]
    ):
        if normalise(character)[0] != character:
            continue  # counted as what it becomes
        found = segments(character)
        septets = len(GSM.encode(character, "ignore")[0])
        assert (found.encoding, found.units) == (
            (Encoding.GSM7, septets) if septets else (Encoding.UCS2, 1)
        ), character


@given(st.one_of(CONTENT, GSM_TEXT, UCS_TEXT), st.sampled_from(TextMode))
@settings(max_examples=150)
def test_counts_agree_with_smsutil(content, mode):
    """Encoding, units and the very cuts are those of an independent splitter."""
    found = segments(content, mode)
    assume(found.text)  # smsutil gives no part for nothing
    oracle = smsutil.split(found.text)
    unit_bytes = 1 if oracle.encoding == "gsm0338" else 2
    assert found.encoding == (Encoding.GSM7 if unit_bytes == 1 else Encoding.UCS2)
    assert found.units == oracle.total_bytes // unit_bytes
    assert split(found.text, found.encoding) == [part.content for part in oracle.parts]
    assert found.parts == len(oracle.parts)


@given(st.one_of(CONTENT, GSM_TEXT, UCS_TEXT), st.sampled_from(TextMode))
@settings(max_examples=100)
def test_parts_lose_nothing(content, mode):
    """Parts joined are the text, as many as billed, and no part is empty or too large."""
    found = segments(content, mode)
    parts = split(found.text, found.encoding)
    assert "".join(parts) == found.text
    assert len(parts) == found.parts
    limit = {Encoding.GSM7: 153, Encoding.UCS2: 67}[found.encoding]
    assert len(parts) == 1 or all(0 < cost(part, found.encoding) <= limit for part in parts)


def cost(part, encoding):
    return len(GSM.encode(part)[0]) if encoding is Encoding.GSM7 else len(part.encode("utf-16-le")) // 2


@given(CONTENT, st.sampled_from(TextMode))
@settings(max_examples=150)
def test_normalising_twice_changes_nothing(content, mode):
    """What a preview shows can be sent as it stands: no step changes it again, and it is in NFC."""
    text, changed = normalise(content, mode)
    assert normalise(text, mode) == (text, ())
    assert normalize("NFC", text) == text
    assert (text != content) or not changed


@pytest.mark.parametrize("letter", LETTERS)
def test_vietnamese_letters(letter):
    """All 134 accented letters: NFD costs what NFC does, only seven are GSM-7, and each folds to ASCII."""
    composed, decomposed = segments(letter), segments(normalize("NFD", letter))
    assert decomposed.text == composed.text == letter
    assert decomposed.units == composed.units == 1
    assert composed.encoding is (Encoding.GSM7 if letter in "àèéìòùÉ" else Encoding.UCS2)
    assert ("nfc" in decomposed.changed) == (letter not in "đĐ")
    plain = segments(letter, TextMode.UNACCENT)
    assert plain.text.isascii()
    assert plain.text.isalpha()
    assert plain.text.isupper() == letter.isupper()


def test_there_are_134_letters():
    """The list above is the whole Vietnamese alphabet of accented letters."""
    assert len(set(LETTERS)) == 134


def test_every_forbidden_code_point_is_refused():
    """Controls, surrogates and noncharacters are refused with their position; their neighbours are sent."""
    forbidden = {*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)}
    forbidden |= {
        *range(0xFDD0, 0xFDF0),
        *(plane + end for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF)),
    }
    for point in forbidden:
        with pytest.raises(NotSendable) as refused:
            segments(f"mã{chr(point)}")
        assert (refused.value.position, refused.value.code_point) == (2, point)
    for point in {other + step for other in forbidden for step in (-1, 1)} & set(range(0x110000)) - forbidden:
        assert segments(f"mã{chr(point)}").text


@pytest.mark.parametrize(("units", "parts"), [(122, 1), (123, 2), (268, 2), (269, 3), (421, 3), (422, 4)])
def test_reserved_units_are_billed(units, parts):
    """Where the carrier labels, 38 units go to the label: 122, 268 and 421 for 1, 2 and 3 parts."""
    assert segments("a" * units, reserved=38).parts == parts
    assert segments("a" * (units - 2) + "€", reserved=38).parts == parts
    assert segments("a" * units, reserved=38).units == units


def test_notices_name_the_steps_that_changed_the_text():
    """Notices stand in the protocol's order, each only if its step changed the text."""
    content = normalize("NFD", "“Đường về”")
    assert segments(content).changed == ("nfc",)
    assert segments(content, TextMode.TIDY).changed == ("nfc", "tidied")
    assert segments(content, TextMode.UNACCENT).changed == ("nfc", "tidied", "unaccented")
    assert segments("Duong\tve", TextMode.UNACCENT).changed == ()


def test_costly_characters():
    """A preview names the characters that force UCS-2; without any, those of two septets."""
    assert costly("mà {1} ố😀") == [(7, "ố", 1), (8, "😀", 2)]
    assert costly("à {€") == [(2, "{", 2), (3, "€", 2)]
    assert costly("ma 123") == []


def test_fold():
    """Accents go, case stays, letters without accents stay."""
    assert fold("Từ CHỐI đặng Ø 😀") == "Tu CHOI dang Ø 😀"


def test_tidy_joins_a_letter_with_its_mark():
    """A zero-width space between a letter and its accent goes, and the two are one unit."""
    assert segments("a\u200b\u0301", TextMode.TIDY).text == "á"
