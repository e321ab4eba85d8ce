"""Sweep: what dead processes left, what stayed unknown, what outlived its time."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from speedsms.contract.senders import Lane
from speedsms.gateway.channels.base import Traits
from speedsms.gateway.rules import state
from speedsms.gateway.store import attempts, listeners, reports, sweeps
from speedsms.gateway.store.attempts import GRACE, Result
from speedsms.gateway.store.db import Database, persist
from speedsms.gateway.store.sweeps import SWEEPER, Left

BATCH: Final = 500
_EVERY_S: Final = 1.0
_EXPIRED_EVERY: Final = 10  # rounds: a queue with no channel up is walked, not looked up
_TIDY_EVERY: Final = 3600
_PATIENCE: Final = 3


@dataclass(frozen=True, slots=True)
class Around:
    """What the sweep asks of the channels. traits: by channel; next_pool: of a pool without a channel."""

    traits: Callable[[], Mapping[int, Traits]]
    next_pool: Callable[[int, int], int | None]


def _result(left: Left, event: str, detail: str) -> Result:
    return Result(
        left.message,
        left.attempt,
        left.account_id,
        left.price_vnd,
        event,
        detail,
        test=left.test,
        tries=left.tries,
        pool=left.pool,
    )


def abandoned(left: Left, around: Around, now: datetime) -> Result:
    """A process died between *started* and the outcome: bytes may have left (CH-2, channels §1.8)."""
    result = _result(left, "unknown", "the process that sent it died")
    traits = around.traits().get(left.channel_id)
    if traits and traits.idempotent:
        result.event, result.again, result.repeat = "lost", now, True
    else:
        result.look = state.unknown_look(left.lane, now, left.expires_at + GRACE)
    return result


def overdue(left: Left, around: Around, now: datetime) -> Result:
    """By policy an unknown attempt gets one successor; at the end of life silence ends the message (ST-6)."""
    if left.expires_at + GRACE > now and left.said != "sent":
        return _successor(left, around, now)
    if left.said == "sent":
        result = _result(left, "silence", "no final receipt in its life")
        traits = around.traits().get(left.channel_id)
        result.status, result.cause = traits.no_receipt_status if traits else state.NO_ANSWER, "no_receipt"
        return result
    result = _result(left, "silence", "unknown to the end")
    result.status, result.cause, result.void = state.NO_ANSWER, "unknown", True
    return result


def _successor(left: Left, around: Around, now: datetime) -> Result:
    """Once, and within its life: an OTP by the next route, never again by the same channel; others by any."""
    pool = around.next_pool(left.pool, left.channel_id) if left.lane == Lane.OTP else left.pool
    if pool is None or left.retried or left.expires_at <= now:
        result = _result(left, "unknown", "no new attempt: it waits for a receipt")
        result.look = left.expires_at + GRACE
        return result
    result = _result(left, "retried", "no answer and no receipt: one new attempt")
    result.pool, result.again = pool, now
    return result


def expired(left: Left, _around: Around, _now: datetime) -> Result:
    result = _result(left, "refused", "its life ended in the queue")
    result.status, result.cause, result.void = state.EXPIRED, "expired", True
    return result


class Sweeper:
    """One per worker process; several do no harm, since every row is taken under a lock."""

    def __init__(
        self,
        db: Database,
        *,
        now: Callable[[], datetime],
        around: Around,
        messages_days: int,
        attempts_days: int,
        log: Any = None,
    ) -> None:
        self._db = db
        self._now = now
        self._around = around
        self._days = {"messages_days": messages_days, "attempts_days": attempts_days}
        self._log = log or structlog.get_logger()

    async def run(self) -> None:
        await persist(self._run)

    async def _run(self) -> None:
        count = 0
        while True:
            # After an outage of the database everybody comes back within seconds: nobody is dead before that.
            await self.step(whole=count % _EXPIRED_EVERY == 0, dead=count >= _PATIENCE)
            if count % _TIDY_EVERY == 0:
                await self.tidy()
            count += 1
            await asyncio.sleep(_EVERY_S)

    async def tidy(self) -> None:
        gone = await sweeps.tidy(self._db, self._now(), **self._days)
        if gone:
            self._log.info("old rows removed", action="tidy", removed=gone)

    async def step(self, *, whole: bool = True, dead: bool = True) -> int:
        """Do what is due now; how many messages were touched."""
        touched = await self._bury_dead() if dead else 0
        touched += await self._settle(sweeps.due_flights, overdue)
        touched += await reports.adopt(self._db, self._now())
        if whole:
            touched += await self._settle(sweeps.claim_expired, expired) + await self._complete_parts()
            await self._end_listeners()
        return touched

    async def _end_listeners(self) -> None:
        for listener, account_id, dropped in await listeners.sweep(self._db, self._now()):
            self._log.warning(
                "listener_slow", action="sweep", listener=listener, account=account_id, dropped=dropped
            )

    async def _bury_dead(self) -> int:
        async with self._db.transaction() as session:
            dead = await sweeps.dead_nodes(session)
            if not dead:
                return 0
            left = await sweeps.left_by(session, dead)
            await self._record(session, left, abandoned)
            await sweeps.bury_nodes(session, dead)
        self._log.warning("dead process swept", action="sweep", nodes=dead, attempts=len(left))
        return len(left)

    async def _settle(self, take: Any, rule: Any) -> int:
        touched = 0
        while True:
            async with self._db.transaction() as session:
                left = await take(session, self._now(), BATCH)
                await self._record(session, left, rule)
            touched += len(left)
            if len(left) < BATCH:
                return touched

    async def _record(self, session: Any, left: list[Left], rule: Any) -> None:
        now = self._now()
        results = [rule(one, self._around, now) for one in left]
        for start in range(0, len(results), BATCH):
            await attempts.record(session, results[start : start + BATCH], SWEEPER, now)

    async def _complete_parts(self) -> int:
        async with self._db.transaction() as session:
            receipts = await sweeps.complete_parts(session, self._now(), BATCH)
            if receipts:
                await reports.apply(session, receipts, self._now())
        return len(receipts)
