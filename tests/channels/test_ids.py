"""Ids of responses and receipts find each other in every form a carrier gives them (channels §3.11, I25)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway.channels.smpp.ids import filed, key, keys, rule_name

FORMS = ["auto", "exact", "plain", "hex_dec", "dec_hex"]
NUMBER = st.integers(1, 2**64 - 1)
ZEROS = st.integers(0, 8)
WORD = st.text(st.sampled_from("0123456789abcdefghijklmnopqrstuvwxyzABCDEF-_."), min_size=1, max_size=64)
UNCASED = [str.lower, str.upper]


def matches(response, receipt, form):
    return filed(response, form) in keys(receipt, form)


@pytest.mark.parametrize(
    ("response", "receipt", "form"),
    [
        ("7220bb6b-41", "7220bb6b-41", "exact"),
        ("00A1B2", "a1b2", "plain"),
        ("1f4a", "8010", "hex_dec"),
        ("8010", "1F4A", "dec_hex"),
        ("8010", "00001f4a", "dec_hex"),
        ("0123456789", "123456789", "plain"),
        ("F" * 64, "f" * 64, "plain"),
        ("f" * 64, str(int("f" * 64, 16)), "hex_dec"),
        ("1" * 64, f"{int('1' * 64):X}", "dec_hex"),
        ("abc\0", " ABC ", "plain"),
        ("0000", "0", "plain"),
        ("7220BB6B-41D2-4C1E-9D6B-3A2F8F0A9C11", "7220bb6b-41d2-4c1e-9d6b-3a2f8f0a9c11", "plain"),
    ],
)
def test_the_twelve_forms(response, receipt, form):
    """Hexadecimal and decimal, case, zeros, padding and 64 characters match by setting and by auto."""
    assert matches(response, receipt, form)
    assert matches(response, receipt, "auto")


@given(WORD, ZEROS, st.sampled_from(UNCASED), st.sampled_from(UNCASED))
def test_plain(word, zeros, ours, theirs):
    """Case and leading zeros on either side do not count."""
    for form in ("plain", "auto"):
        assert matches("0" * zeros + ours(word), theirs(word), form)
        assert matches(ours(word), "0" * zeros + theirs(word), form)


@given(NUMBER, ZEROS, ZEROS, st.sampled_from("xX"))
def test_hexadecimal_and_decimal(number, zeros, more, case):
    """One number, written in base sixteen here and in base ten there, is one id."""
    hexadecimal, decimal = "0" * zeros + f"{number:{case}}", "0" * more + str(number)
    for form in ("hex_dec", "auto"):
        assert matches(hexadecimal, decimal, form)
    for form in ("dec_hex", "auto"):
        assert matches(decimal, hexadecimal, form)


@given(WORD, WORD)
def test_exact_means_exact(one, other):
    """Under `exact` nothing matches but the same octets."""
    assert matches(one, other, "exact") == (one == other)


@given(NUMBER, NUMBER)
def test_other_numbers_do_not_match(one, other):
    """Two numbers in the forms that a setting names match only if they are equal."""
    assert matches(f"{one:x}", str(other), "hex_dec") == (one == other)
    assert matches(str(one), f"{other:x}", "dec_hex") == (one == other)


@given(NUMBER.filter(lambda number: f"{number:x}" != str(number)))
def test_a_setting_names_one_direction(number):
    """Where responses are hexadecimal a hexadecimal receipt is another message, and the other way round."""
    hexadecimal = f"{number:x}"
    assert not matches(hexadecimal, str(number), "dec_hex")
    assert not matches(str(number), hexadecimal, "hex_dec")


@given(st.text(st.characters(max_codepoint=255), max_size=400), st.sampled_from(FORMS))
def test_any_text_is_an_id(reference, form):
    """Any octets give keys, each at most twice as long as what is kept, and none for no id."""
    found = keys(reference, form)
    assert all(found)
    assert all(len(each) <= 510 for each in found)
    assert (form in ("hex_dec", "dec_hex") and not found) or bool(found) == bool(filed(reference, form))
    assert len(found) == len(set(found)) <= 3


@given(WORD)
def test_a_key_is_its_own_key(word):
    """What is filed once is filed the same when it is read again."""
    assert key(key(word)) == key(word)


def test_the_best_rule_is_named():
    """The console learns which rule matched: as written before another base."""
    assert keys("8010", "auto") == ("8010", "1f4a", "32784")
    assert [rule_name("8010", each, "auto") for each in keys("8010", "auto")] == [
        "plain",
        "hex_dec",
        "dec_hex",
    ]
    assert rule_name("1F4A", "8010", "auto") == "dec_hex"
    assert rule_name("x-1", "x-1", "exact") == "exact"
    assert keys("5", "auto") == ("5",)


def test_a_key_of_another_id_names_no_rule():
    """A receipt may name two ids; what the second one matched says nothing about the form of the first."""
    assert rule_name("x-1", "8010", "auto") == ""
