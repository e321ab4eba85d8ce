"""The rate limit of an account (protocol §7): a sliding window of 60 s, shared by all processes.

Up to 600 requests a window it is exact and kept in PostgreSQL; above, each process counts its own share.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from math import ceil
from typing import Final

import msgspec

from speedsms.gateway.store import rate as store
from speedsms.gateway.store.db import CommitUnknown, Database, DatabaseAway

EXACT_UP_TO: Final = 600
WINDOW_S: Final = 60.0
_GRAIN_S: Final = 0.5  # requests of one grain leave the local window together: an error below 1 %


class Window(msgspec.Struct, frozen=True):
    """Where an account stands after a request. reset_s: until its oldest counted request leaves."""

    limit: int
    remaining: int
    reset_s: int
    allowed: bool


class _Counted:
    """The large window of one account in this process: [first moment, hits] of each grain, and their sum."""

    __slots__ = ("grains", "hits")

    def __init__(self) -> None:
        self.grains: deque[list[float]] = deque()
        self.hits = 0

    def forget(self, since: float) -> None:
        while self.grains and self.grains[0][0] <= since:
            self.hits -= int(self.grains.popleft()[1])

    def add(self, now: float) -> None:
        self.hits += 1
        if self.grains and now - self.grains[-1][0] < _GRAIN_S:
            self.grains[-1][1] += 1
        else:
            self.grains.append([now, 1])


class Rate:
    """`api_nodes` gives the number of living api processes, which share the larger windows."""

    def __init__(self, db: Database, now: Callable[[], datetime], api_nodes: Callable[[], int]) -> None:
        self._db = db
        self._now = now
        self._api_nodes = api_nodes
        self._waiting: list[tuple[int, int, asyncio.Future[Window]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._local: dict[int, _Counted] = {}

    async def take(self, account_id: int, limit: int) -> Window:
        """Count one request. Raises DatabaseAway."""
        if limit > EXACT_UP_TO:
            return self._take_local(account_id, limit)
        answer: asyncio.Future[Window] = asyncio.get_running_loop().create_future()
        self._waiting.append((account_id, limit, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await answer

    async def look(self, account_id: int, limit: int) -> Window:
        """Where the account stands, without counting. Raises DatabaseAway."""
        now = self._now().timestamp()
        if limit > EXACT_UP_TO:
            return self._local_window(limit, self._live(account_id, now), now, allowed=True)
        hits = await store.hits(self._db, account_id, now - WINDOW_S)
        return _window(limit, len(hits), min(hits, default=now - WINDOW_S), now, allowed=True)

    async def _ask(self) -> None:
        """One question at a time: what arrives meanwhile is gathered into the next."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._answer(batch)
            except CommitUnknown as error:
                # A hit may be counted for a request that is refused: that errs to the safe side.
                _fail(batch, DatabaseAway(str(error)))
            except Exception as error:  # noqa: BLE001 - keeps the loop alive: each caller gets the error
                _fail(batch, error)

    async def _answer(self, batch: list[tuple[int, int, asyncio.Future[Window]]]) -> None:
        now = self._now().timestamp()
        limits = {account_id: limit for account_id, limit, _ in batch}
        callers: dict[int, list[asyncio.Future[Window]]] = {account_id: [] for account_id in limits}
        for account_id, _, answer in batch:
            callers[account_id].append(answer)
        asked = [(account_id, limits[account_id], len(answers)) for account_id, answers in callers.items()]
        taken = await store.take(self._db, asked, now, now - WINDOW_S)
        for account_id, answers in callers.items():
            limit = limits[account_id]
            granted, after, oldest = taken[account_id]
            for n, answer in enumerate(answers, 1):
                counted = after - granted + min(n, granted)
                if not answer.done():
                    answer.set_result(_window(limit, counted, oldest, now, allowed=n <= granted))

    # ------------------------------------------------------------ large windows

    def _take_local(self, account_id: int, limit: int) -> Window:
        now = self._now().timestamp()
        counted = self._live(account_id, now)
        allowed = counted.hits * self._nodes() < limit
        if allowed:
            counted.add(now)
        return self._local_window(limit, counted, now, allowed=allowed)

    def _live(self, account_id: int, now: float) -> _Counted:
        counted = self._local.get(account_id)
        if counted is None:
            counted = self._local[account_id] = _Counted()
        counted.forget(now - WINDOW_S)
        return counted

    def _nodes(self) -> int:
        return self._api_nodes() or 1

    def _local_window(self, limit: int, counted: _Counted, now: float, *, allowed: bool) -> Window:
        oldest = counted.grains[0][0] if counted.grains else now - WINDOW_S
        return _window(limit, counted.hits * self._nodes(), oldest, now, allowed=allowed)


def _window(limit: int, hits: int, oldest: float, now: float, *, allowed: bool) -> Window:
    return Window(limit, max(0, limit - hits), min(60, ceil(oldest + WINDOW_S - now)), allowed)


def _fail(batch: list[tuple[int, int, asyncio.Future[Window]]], error: Exception) -> None:
    for _, _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
