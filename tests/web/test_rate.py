"""The rate limit of an account: exact in every window, shared by processes (protocol §7)."""

import asyncio
from collections import deque
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speedsms.gateway.store.db import Database, DatabaseAway
from speedsms.gateway.web.rate import Rate

pytestmark = pytest.mark.anyio
START = datetime(2026, 12, 7, 3, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


async def test_every_window_is_exact(db, clock):
    """At any moment at most `limit` requests lie within the last 60 s, and not one fewer is let in."""
    rate, counted = Rate(db, clock, lambda: 1), deque()
    for step_s in (0, 0, 10, 0.5, 29.5, 19.9, 0.1, 0, 5, 25, 0, 60, 0, 0, 0, 0, 59.99, 0.01):
        clock.forward(step_s)
        now = clock().timestamp()
        while counted and counted[0] <= now - 60:
            counted.popleft()
        window = await rate.take(1, 4)
        assert window.allowed is (len(counted) < 4)
        if window.allowed:
            counted.append(now)
        assert (window.limit, window.remaining) == (4, 4 - len(counted))
        assert 0 <= window.reset_s - (counted[0] + 60 - now) < 1


async def test_processes_share_a_window(db, database_url, clock):
    """Simultaneous requests through two processes get exactly the limit together."""
    async with Database(database_url, name="second") as other:
        rates = [Rate(db, clock, lambda: 2), Rate(other, clock, lambda: 2)]
        windows = await asyncio.gather(*(rates[n % 2].take(n % 3, 20) for n in range(120)))
    assert sum(window.allowed for window in windows) == 60
    assert {window.remaining for window in windows} == set(range(20))


async def test_looking_counts_nothing(db, clock):
    """A request that is refused for its address leaves the window as it is (§3 step 4)."""
    rate = Rate(db, clock, lambda: 1)
    for limit in (60, 700):
        assert (await rate.look(1, limit)).remaining == limit
        assert (await rate.look(1, limit)).reset_s == 0
        await rate.take(1, limit)
        assert (await rate.look(1, limit)).remaining == limit - 1
        assert (await rate.look(1, limit)).reset_s == 60


async def test_database_away(clock):
    """Without the database nobody is let in silently."""
    rate = Rate(Database("postgresql://nobody@127.0.0.1:1/none", name="dead"), clock, lambda: 1)
    with pytest.raises(DatabaseAway):
        await rate.take(1, 60)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 400)), min_size=1, max_size=12), st.integers(1, 4))
async def test_large_windows_err_by_less_than_a_tenth(bursts, nodes):
    """Above 600 each process keeps its share with an error under 10 % (D28)."""
    clock = Clock()
    rate, counted, limit = Rate(None, clock, lambda: nodes), deque(), 800
    for pause_s, requests in bursts:
        clock.forward(pause_s)
        now = clock().timestamp()
        for _ in range(requests):
            if (await rate.take(1, limit)).allowed:
                counted.append(now)
        while counted and counted[0] <= now - 60:
            counted.popleft()
        assert len(counted) <= limit / nodes * 1.1
