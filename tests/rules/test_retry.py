"""Delays are those of the protocol, spread by 20 % and never beyond their bounds."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway.rules import retry

NOW = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
RANDOM = st.floats(0, 1, exclude_max=True)


def test_ten_attempts_over_three_days():
    """Nine delays that add up to 75.6 h, then the event is buried (invariants §5)."""
    delays = [retry.webhook_delay_s(attempts, 0.5) for attempts in range(1, 11)]
    assert delays == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None]
    assert round(sum(filter(None, delays)) / 3600, 1) == 75.6


@given(st.integers(1, 9), RANDOM)
def test_jitter_stays_within_a_fifth(attempts, random):
    """What failed together comes back spread, and not outside ± 20 %."""
    exact = retry.WEBHOOK_S[attempts - 1]
    assert 0.8 * exact <= retry.webhook_delay_s(attempts, random) <= 1.2 * exact


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        ("0", 5),
        ("-5", 5),
        ("1000000000", 86400),
        ("9" * 18, 86400),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("9" * 4000, None),
        (format_datetime(NOW + timedelta(minutes=10), usegmt=True), 600),
        (format_datetime(NOW - timedelta(days=400), usegmt=True), 5),
        ("Fri, 20 Nov 2026 08:02:00 -0000", 120),
        ("Fri, 99 Nov 2026 08:02:00 GMT", None),
    ],
)
def test_retry_after(header, seconds):
    """Seconds and dates are read and kept within 5 s and 24 h; garbage says nothing (W2)."""
    assert retry.retry_after_s(header, NOW) == seconds


@given(st.text(max_size=60))
def test_retry_after_never_fails(header):
    """Any header value gives a wait within bounds or none."""
    asked_s = retry.retry_after_s(header, NOW)
    assert asked_s is None or 5 <= asked_s <= 86_400


@given(st.integers(1, 9), RANDOM, st.integers(5, 86_400))
def test_a_receiver_can_only_ask_for_more_time(attempts, random, asked_s):
    """Retry-After is waited for, and the schedule is never shortened by it."""
    delay_s = retry.webhook_delay_s(attempts, random, asked_s)
    assert delay_s == max(asked_s, retry.webhook_delay_s(attempts, random))


def test_backoff_doubles_up_to_a_minute():
    """1, 2, 4 … 60 s, however often it fails."""
    assert [retry.backoff_s(n, 0.5) for n in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]
