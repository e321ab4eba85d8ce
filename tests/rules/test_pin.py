"""The PIN of a verification, its checks and its sends (protocol §13)."""

import hmac
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.contract import pin
from speedsms.contract.pin import Application

NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)
KEY = bytes(range(32))
APP = Application("app")


@given(st.binary(min_size=16, max_size=16), st.integers(4, 8))
def test_a_pin_is_derived_as_in_rfc_4226(verification_id, digits):
    """Dynamic truncation of HMAC-SHA-256; leading zeros are kept."""
    digest = hmac.new(KEY, verification_id, "sha256").digest()
    o = digest[31] & 15
    number = (digest[o] & 127) << 24 | digest[o + 1] << 16 | digest[o + 2] << 8 | digest[o + 3]
    assert pin.pin_of(verification_id, KEY, digits) == str(number)[-digits:].zfill(digits)


@given(st.lists(st.integers(0, 700), max_size=12))
def test_sends_are_apart_and_few(gaps_s):
    """However often a phone asks: at most 5 sends of one verification, 30 s apart, within its life."""
    past, now, sends = [], NOW, []
    for n, gap_s in enumerate(gaps_s):
        now += timedelta(seconds=gap_s)
        after, wait_s = pin.sent(past, APP, n.to_bytes(16), now)
        if not wait_s:
            past = after
            sends.append((after[-1].id, now))
    for verification in past:
        times = [at for found, at in sends if found == verification.id]
        assert 1 <= len(times) <= 5
        assert all(b - a >= timedelta(seconds=30) for a, b in pairwise(times))
        assert times[-1] - times[0] < timedelta(seconds=600)


@pytest.mark.parametrize(("digits", "checks"), [(4, 3), (5, 3), (6, 5), (8, 5)])
def test_checks_are_counted_down(digits, checks):
    """So many wrong ones close it; the right PIN then comes too late, with the one negative answer."""
    app = Application("app", digits=digits)
    (verification,), _ = pin.sent([], app, bytes(16), NOW)
    right = pin.pin_of(bytes(16), KEY, digits)
    wrong = str((int(right[0]) + 1) % 10) + right[1:]
    for left in reversed(range(checks)):
        verification, check = pin.checked(verification, app, wrong, KEY, NOW)
        assert check == pin.Check(verified=False, remaining=left)
    assert pin.checked(verification, app, right, KEY, NOW)[1] == pin.Check(verified=False, remaining=0)
