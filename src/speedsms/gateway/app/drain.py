"""Drain: a worker that runs until nothing is due."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from speedsms.gateway.app.worker import Worker
from speedsms.gateway.config import Settings
from speedsms.gateway.net import Net
from speedsms.gateway.store.db import Database

_LOOK_S: Final = 0.02
_NO_PROGRESS_S: Final = 5.0  # what no channel takes and no endpoint answers stays where it is

_DUE: Final = """
SELECT (SELECT count(*) FROM ready WHERE due <= %(at)s), (SELECT count(*) FROM receipt WHERE due <= %(at)s),
    (SELECT count(*) FROM flight f WHERE NOT EXISTS (
        SELECT FROM event e WHERE e.account_id = f.account_id AND e.message = f.message
            AND e.attempt = f.attempt
            AND e.kind IN ('sent', 'unknown'))),
    (SELECT count(*) FROM outbox o JOIN endpoint p ON p.id = o.endpoint_id AND p.enabled
        WHERE due <= %(at)s AND p.listener IS NULL)
"""


async def drain(
    db: Database,
    settings: Settings,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    net: Net | None = None,
) -> dict[str, int]:
    """Send, record, report and post until nothing is due; what is left, by kind."""
    stop = asyncio.Event()
    async with net or Net(allow_loopback=settings.webhooks.allow_loopback) as client:
        worker = Worker(Database(db.url, name="speedsms drain"), settings, now=now, net=client)
        running = asyncio.create_task(worker.run(stop))
        try:
            return await until_done(db, worker, now)
        finally:
            stop.set()
            await running


async def until_done(db: Database, worker: Worker, now: Callable[[], datetime]) -> dict[str, int]:
    """Returns once nothing is due, or nothing moves any more; what is left, by kind."""
    clock = asyncio.get_running_loop().time
    await worker.loaded.wait()
    await worker.sweep()
    before: tuple[int, ...] = ()
    since = clock()
    while True:
        rows = await db.read(_DUE, at=now())
        due = tuple(rows[0])
        if due != before:
            before, since = due, clock()
        if not any(due) or clock() - since > _NO_PROGRESS_S:
            names = ("messages waiting", "receipts waiting", "attempts open", "webhooks waiting")
            return dict(zip(names, due, strict=True))
        worker.wake()
        await asyncio.sleep(_LOOK_S)
