"""Dispatch: claim → mark started → hand to the channel → record (design §6).

One Pump per channel and process. It claims only what the channel may take now; outcomes are recorded at once
when the recorder is idle and gather only while a commit is in flight. No timer adds latency.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

import structlog

from speedsms.gateway import failpoint
from speedsms.gateway.channels.base import Accepted, Channel, Outcome, Outgoing, Reason, Refused, Unknown
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules import state
from speedsms.gateway.rules.senders import Lane
from speedsms.gateway.store import messages
from speedsms.gateway.store.db import Database, persist, settle_backend
from speedsms.gateway.store.messages import GRACE, Claimed, Result
from speedsms.text import Encoding, split

_REST_S: Final = (0.004, 0.01)  # after a claim: at least, at most
_REPEAT: Final = timedelta(seconds=1)  # an attempt that a peer may see twice is made again (channels §1.8)
_POLL_S: Final = 0.5  # beside the notification: scheduled messages come due without one
_PAUSE_S: Final = (1.0, 30.0)  # first and longest pause after a throttle, doubling (SM-21)


def outgoing(claimed: Claimed) -> Outgoing:
    one = claimed.parts == 1
    return Outgoing(
        message=claimed.message,
        attempt=claimed.attempt,
        to=str(claimed.number),
        sender=claimed.sender,
        lane=claimed.lane,
        expires_at=claimed.expires_at,
        parts=(claimed.content,) if one else tuple(split(claimed.content, Encoding(claimed.encoding))),
        encoding=claimed.encoding,
    )


def result_of(claimed: Claimed, outcome: Outcome, channel: Channel, now: datetime) -> Result:
    """What an outcome means for the message and its money (protocol §11, channels §1.3)."""
    result = Result(
        claimed.message,
        claimed.attempt,
        claimed.account_id,
        claimed.price_vnd,
        event="sent",
        test=claimed.test,
        tries=claimed.tries,
    )
    match outcome:
        case Accepted():
            result.post = True
            result.references = outcome.references
            if channel.traits.receipts == "none":
                result.status = channel.traits.no_receipt_status
                result.cause = "accepted" if result.status == state.DELIVERED else "no_receipt"
        case Unknown("raised") if channel.traits.idempotent:
            result.event, result.detail = "lost", outcome.detail
            result.again, result.repeat = now + _REPEAT, True
        case Unknown():
            result.event, result.detail = "unknown", f"{outcome.stage} {outcome.detail}".strip()
            result.look = state.unknown_look(claimed.lane, claimed.attempt, now, claimed.expires_at + GRACE)
        case Refused():
            _refused(result, claimed, outcome, now)
    return result


def _refused(result: Result, claimed: Claimed, outcome: Refused, now: datetime) -> None:
    ruling = state.RULINGS[outcome.reason]
    result.event, result.detail = "refused", f"{outcome.reason} {outcome.detail}".strip()
    if ruling.pauses:
        result.again = now + timedelta(seconds=outcome.retry_after_s or 0)
    elif claimed.tries < len(ruling.delays_s):
        result.again = now + timedelta(seconds=outcome.retry_after_s or ruling.delays_s[claimed.tries])
        result.tries = claimed.tries + 1
    else:
        result.status, result.cause, result.void = ruling.status, str(outcome.reason), True


class Recorder:
    """Writes outcomes in batches; what arrives while a commit is in flight goes in the next one."""

    def __init__(self, db: Database, now: Callable[[], datetime], metrics: Metrics, batch: int) -> None:
        self._db = db
        self._now = now
        self._metrics = metrics
        self._batch = batch
        self._waiting: deque[tuple[Result, int]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.unrecorded = 0
        self.when_freed: set[Callable[[], None]] = set()

    def put(self, result: Result, node_id: int) -> None:
        self._waiting.append((result, node_id))
        self._idle.clear()
        self._arrived.set()

    async def flushed(self) -> None:
        await self._idle.wait()

    async def run(self) -> None:
        await persist(self._run)

    async def _run(self) -> None:
        session = await self._db.connect(hot=True)
        try:
            while True:
                await self._arrived.wait()
                node_id, same = next(groupby(islice(self._waiting, self._batch), itemgetter(1)))
                batch = [result for result, _ in same]
                # Recording twice is harmless: only rows still in flight for this node are touched.
                started = asyncio.get_running_loop().time()
                await messages.record(session, batch, node_id, self._now())
                failpoint.hit("S11")
                for _ in batch:
                    self._waiting.popleft()
                self.unrecorded -= len(batch)
                for freed in self.when_freed:
                    freed()
                self._metrics.commit("dispatch", len(batch), asyncio.get_running_loop().time() - started)
                if not self._waiting:
                    self._arrived.clear()
                    self._idle.set()
        finally:
            await session.close()


class Pump:
    """Keeps one channel as busy as its capacity allows."""

    def __init__(
        self,
        *,
        db: Database,
        channel: Channel,
        channel_id: int,
        node_id: Callable[[], int | None],
        pools: Callable[[], Collection[int]],
        recorder: Recorder,
        now: Callable[[], datetime],
        log: Any = None,
        metrics: Metrics,
        batch: int,
        unrecorded: int = 2000,
    ) -> None:
        self._db = db
        self._channel = channel
        self._channel_id = channel_id
        self._node_id = node_id
        self._pools = pools
        self._recorder = recorder
        self._now = now
        self._log = log or structlog.get_logger()
        self._metrics = metrics
        self._batch = batch
        self._unrecorded = unrecorded
        self._woken = asyncio.Event()
        self._blocked = False  # by the channel's capacity or by what is not recorded yet
        self._stopping = False
        recorder.when_freed.add(self._unblock)
        self._ended = asyncio.Event()
        self._paused_until = 0.0
        self._pause_s = _PAUSE_S[0]
        self._poll_s = _POLL_S
        self._attempts: set[asyncio.Task[None]] = set()
        self._claiming: tuple[int, int, datetime] | None = None  # server process, node, time

    def wake(self) -> None:
        self._woken.set()

    def _unblock(self) -> None:
        if self._blocked:
            self._woken.set()

    async def run(self) -> None:
        await persist(self._run)
        self._ended.set()

    async def drain(self) -> None:
        """Claim nothing more; wait for the claim that is on its way, then for the attempts in hand.

        What is open when the caller loses patience is left to the sweep.
        """
        self._stopping = True
        self._woken.set()
        await self._ended.wait()
        self._recorder.when_freed.discard(self._unblock)
        if self._attempts:
            await asyncio.wait(self._attempts)

    async def _run(self) -> None:
        session = await self._db.connect(hot=True)
        try:
            await self._unclaim(session)
            clock = asyncio.get_running_loop().time
            while not self._stopping:
                self._woken.clear()
                began = clock()
                more = await self._claim(session)
                # A rest lets the next claim find more; the first message after a pause never waits for it.
                # Under load it spares two thirds of the statements and costs a few milliseconds.
                await asyncio.sleep(min(max(clock() - began, _REST_S[0]), _REST_S[1]))
                if not more:
                    await self._wait()
        finally:
            await session.close()

    async def _unclaim(self, session: Any) -> None:
        """A claim that lost its connection may have taken messages that we never saw."""
        if self._claiming:
            backend, node_id, at = self._claiming
            await settle_backend(self._db, backend)
            await messages.unclaim(session, channel_id=self._channel_id, node_id=node_id, at=at)
            self._claiming = None

    async def _wait(self) -> None:
        """Until a notification, a free slot, the end of a pause, or the poll."""
        pause_s = self._paused_until - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(_POLL_S, pause_s) if pause_s > 0 else self._poll_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _claim(self, session: Any) -> bool:
        """Start what may start now; whether more may be waiting."""
        clock = asyncio.get_running_loop().time()
        node_id = self._node_id()
        pools = list(self._pools())
        self._poll_s = _POLL_S
        if node_id is None or not pools or clock < self._paused_until:
            return False
        capacity = self._channel.capacity(clock)
        most = min(capacity.free, self._unrecorded - self._recorder.unrecorded, self._batch)
        self._blocked = most <= 0
        if self._blocked:
            self._poll_s = capacity.wait_s or _POLL_S
            return False
        at = self._now()
        self._claiming = (session.backend, node_id, at)
        rows = await messages.claim(
            session,
            channel_id=self._channel_id,
            node_id=node_id,
            pools=pools,
            lanes=[int(lane) for lane in Lane],
            most=most,
            at=at,
        )
        self._claiming = None
        if rows:
            failpoint.hit("S7")
        self._recorder.unrecorded += len(rows)
        self._metrics.dispatched(self._channel.name, len(rows))
        if len(rows) == 1 or self._channel.traits.receipts != "none":
            for row in rows:
                attempt = asyncio.create_task(self._attempt(row, node_id))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._attempts.discard)
        else:
            # A channel that answers at once needs no task per message.
            for row in rows:
                await self._attempt(row, node_id)
        return len(rows) == most

    async def _attempt(self, claimed: Claimed, node_id: int) -> None:
        now = self._now()
        outcome = self._forbidden(claimed, now) or await self._submit(claimed)
        if not isinstance(outcome, Accepted):
            now = self._now()  # what is tried or looked at again counts from the answer
        result = result_of(claimed, outcome, self._channel, now)
        if isinstance(outcome, Refused) and state.RULINGS[outcome.reason].pauses:
            self._pause(outcome.retry_after_s)
        else:
            self._pause_s = _PAUSE_S[0]
        self._recorder.put(result, node_id)
        self._unblock()
        self._metrics.outcome(self._channel.name, result.event)

    async def _submit(self, claimed: Claimed) -> Outcome:
        try:
            failpoint.hit("S8")
            outcome = await self._channel.submit(outgoing(claimed))
            failpoint.hit("S10")
        except Exception as error:  # noqa: BLE001 - keeps the message moving: bytes may have left, so it is unknown
            cause = type(error).__name__  # its text may hold what must not be logged
            self._log.warning("submit raised", action="submit", channel=self._channel.name, cause=cause)
            return Unknown("raised", repr(error))
        return outcome

    @staticmethod
    def _forbidden(claimed: Claimed, now: datetime) -> Refused | None:
        """What must not leave any more: expired, opted out since, or ended by a late report (CH-7)."""
        if claimed.ended or claimed.expires_at <= now:
            return Refused(Reason.EXPIRED)
        if claimed.opted_out:
            return Refused(Reason.CANCELLED, "opted out")
        return None

    def _pause(self, retry_after_s: float | None) -> None:
        """A throttle pauses the channel as a whole, not one message (SM-21)."""
        pause_s = retry_after_s or self._pause_s
        self._pause_s = min(self._pause_s * 2, _PAUSE_S[1])
        self._paused_until = asyncio.get_running_loop().time() + pause_s
        self._log.warning("channel paused", action="pause", channel=self._channel.name, seconds=pause_s)
