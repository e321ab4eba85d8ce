"""Report: a receipt → stored → state, post or refund, outbox in one commit; then the peer is answered."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from speedsms.gateway import failpoint
from speedsms.gateway.channels.base import Report
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules.pace import rest_s
from speedsms.gateway.store import reports
from speedsms.gateway.store.db import Database, persist
from speedsms.gateway.store.receipts import Receipt
from speedsms.gateway.store.reports import Slow

BATCH: Final = 500
_POLL_S: Final = 1.0


class Reporter:
    """Gathers what channels report while a commit is in flight, and looks again at what waits.

    matched: told the channel, the reference and the key of some reports that found their message. reported:
    told how many of a channel found theirs, and how many hardly will.
    """

    def __init__(
        self,
        db: Database,
        now: Callable[[], datetime],
        metrics: Metrics,
        *,
        matched: Callable[[int, str, str], None],
        reported: Callable[[int, int, int], None],
        slow: Slow,
    ) -> None:
        self._db = db
        self._now = now
        self._metrics = metrics
        self._matched = matched
        self._reported = reported
        self._slow = slow
        self._waiting: list[tuple[Receipt, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()
        self._parked_due = asyncio.Event()
        self._loop = asyncio.get_running_loop()  # asking for it is a system call each time on Python 3.11

    def put(self, channel_id: int, report: Report) -> asyncio.Future[None]:
        """Ends after the commit, or with what the database raised: the peer is told to repeat (CH-5)."""
        receipt = Receipt(
            channel_id,
            report.reference,
            report.keys,
            int(report.number) if report.number.isascii() and report.number.isdigit() else None,
            report.message,
            report.attempt,
            report.part,
            report.parts,
            report.whole,
            report.status,
            report.cause,
            report.raw,
            report.peer_time,
            report.received_at,
            report.due or report.received_at,
        )
        stored: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((receipt, stored))
        self._arrived.set()
        return stored

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(persist(self._store))
            group.create_task(persist(self._look_again))

    def wake(self) -> None:
        self._parked_due.set()

    async def _store(self) -> None:
        session = await reports.connect(self._db)
        batch: list[tuple[Receipt, asyncio.Future[None]]] = []
        try:
            while True:
                await self._arrived.wait()
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                failpoint.hit("S12")
                applied = await reports.apply(session, [r for r, _ in batch], self._now(), self._slow)
                failpoint.hit("S13")
                for _, stored in batch:
                    if not stored.done():
                        stored.set_result(None)
                failpoint.hit("S14")
                self._note(applied)
                if not self._waiting:
                    self._arrived.clear()
                await asyncio.sleep(rest_s(len(batch)))
        except Exception as error:
            for _, stored in batch:
                if not stored.done():
                    stored.set_exception(error)
            raise
        finally:
            await session.close()

    def _note(self, applied: reports.Applied) -> None:
        if applied.ended:
            failpoint.hit("S15")
        for receipt, key in applied.matched:
            if receipt.keys:
                self._matched(receipt.channel_id, receipt.reference, receipt.keys[key])
        for channel_id in applied.found.keys() | applied.strays.keys():
            self._reported(channel_id, applied.found[channel_id], applied.strays[channel_id])
        self._metrics.receipt("seen", applied.seen)
        self._metrics.receipt("parked", applied.parked)
        self._metrics.receipt("ended", applied.ended)
        if applied.next_due is not None:
            # A little late: a timer that fires a little early finds nothing due and leaves it to the poll.
            pause_s = max(0.0, (applied.next_due - self._now()).total_seconds()) + 0.005
            self._loop.call_later(pause_s, self._parked_due.set)

    async def _look_again(self) -> None:
        session = await reports.connect(self._db)
        try:
            while True:
                self._parked_due.clear()
                applied = await reports.apply_parked(session, self._now(), BATCH, self._slow)
                self._note(applied)
                if applied.seen < BATCH:
                    try:
                        async with asyncio.timeout(_POLL_S):
                            await self._parked_due.wait()
                    except TimeoutError:
                        continue
        finally:
            await session.close()
