"""An exact rate: never above it in any second, hardly ever below it (channels §1.6)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway.rules.pace import Pace

JUST_UNDER_S = 1 - 1e-6  # times are binary fractions


def sent(rate, seconds, late_s, at_once=64):
    """Send times of somebody who always has parts and comes back when told, up to `late_s()` too late."""
    pace, now, times = Pace(rate), 1000.0, []
    while now < 1000.0 + seconds:
        free = min(pace.free(now), at_once)
        pace.take(free, now)
        times += [now] * free
        now += max(pace.wait_s(now), 0.0005) + late_s()
    return times


@given(
    st.one_of(st.integers(1, 3000), st.sampled_from([0.1, 0.25, 0.5])),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.001, 0.02, 0.5]),
)
def test_no_second_holds_more_than_the_rate(rate, seed, latest_s):
    """Wherever the second starts, and whenever the sender comes (below 1/s: so many seconds)."""
    dice = random.Random(seed)
    times = sent(rate, 3 if rate >= 1 else 30, lambda: dice.random() * latest_s)
    span_s, most = (1.0, int(rate)) if rate >= 1 else (1 / rate, 1)
    gaps = [late - early for early, late in zip(times, times[most:], strict=False)]
    assert all(gap >= span_s * JUST_UNDER_S for gap in gaps)


@pytest.mark.parametrize("rate", [1, 10, 50, 100, 1000, 5000])
def test_the_rate_is_used(rate):
    """A sender that comes up to a millisecond late gets 98 % of the rate."""
    dice = random.Random(7)
    times = sent(rate, 20, lambda: dice.random() / 1000)
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.98 * rate


def test_traffic_is_even():
    """After a pause no more than a fiftieth of the rate leaves at once."""
    pace = Pace(1000)
    assert pace.free(500.0) == 20
    pace.take(20, 500.0)
    assert pace.free(500.0) == 0
    assert pace.free(500.01) == 10


def test_no_rate_is_no_limit():
    """Rate 0 never waits."""
    pace = Pace(0)
    pace.take(10_000, 1.0)
    assert pace.free(1.0) > 10_000
    assert pace.wait_s(1.0) == 0
