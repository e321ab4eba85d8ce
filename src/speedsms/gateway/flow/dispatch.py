"""Dispatch: claim → mark started → hand to the channel → record (design §6).

One Pump per channel and process. It claims only what the channel may take now; outcomes are recorded at once
when the recorder is idle and gather only while a commit is in flight. No timer adds latency.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, islice, takewhile
from operator import itemgetter
from typing import Any, Final, TypeVar

import structlog

from speedsms.contract.senders import Lane
from speedsms.gateway import failpoint
from speedsms.gateway.channels.base import (
    Accepted,
    Channel,
    Health,
    Outcome,
    Outgoing,
    Reason,
    Refused,
    Unknown,
)
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules import state
from speedsms.gateway.rules.pace import claim_rest_s, rest_s
from speedsms.gateway.store import attempts
from speedsms.gateway.store.attempts import GRACE, Claimed, Result, Taken
from speedsms.gateway.store.db import Database, persist, settle_backend
from speedsms.text import Encoding, split

_REPEAT: Final = timedelta(seconds=1)  # an attempt that a peer may see twice is made again (channels §1.8)
_POLL_S: Final = 0.5  # beside the notification: scheduled messages come due without one
_PAUSE_S: Final = (1.0, 30.0)  # first and longest pause after a throttle, doubling (SM-21)
_JITTER: Final = 0.2
_OTP_NEAR: Final = timedelta(seconds=60)  # so near its end an OTP does not wait for a throttled channel
_OTP_SEEN_S: Final = 60.0
_OTP_RESERVE: Final = 0.2  # never given to other lanes while OTP traffic is about (channels §1.6)
_MOST_DOUBTFUL: Final = 10_000
_SLOW_S: Final = 0.5  # most answers come sooner
_WHOLE_S: Final = 0.5  # so often a claim looks at the whole queue
_BESIDE: Final = timedelta(seconds=1)  # what is due that much earlier is committed by now

_Long = dict[int, tuple[int, frozenset[int]]]
_Entry = TypeVar("_Entry", bound=tuple[Any, ...])
_Recorded = Callable[[Sequence[Claimed]], None]
_Ended = tuple[Claimed, int, _Recorded, Result | None]
_Write = Callable[[Any, list[_Ended], int, datetime], Awaitable[int]]


def outgoing(claimed: Claimed, concat_ref: int = 0, done: frozenset[int] = frozenset()) -> Outgoing:
    one = claimed.parts == 1
    return Outgoing(
        claimed.message,
        claimed.attempt,
        str(claimed.number),
        claimed.sender,
        claimed.lane,
        claimed.expires_at,
        (claimed.content,) if one else tuple(split(claimed.content, Encoding(claimed.encoding))),
        claimed.encoding,
        concat_ref,
        done,
    )


def result_of(
    claimed: Claimed, outcome: Outcome, channel: Channel, next_pool: int | None, now: datetime
) -> Result:
    """What an outcome means for the message and its money (protocol §11, channels §1.3).

    next_pool: the routes that are left without this channel, None if there are none.
    """
    result = Result(
        claimed.message,
        claimed.attempt,
        claimed.account_id,
        claimed.price_vnd,
        event="sent",
        test=claimed.test,
        tries=claimed.tries,
        pool=claimed.pool,
        number=claimed.number,
        parts=claimed.made,
    )
    match outcome:
        case Accepted():
            result.post = True
            result.references = _references(outcome, claimed.made)
            if channel.traits.receipts == "none":
                result.status = channel.traits.no_receipt_status
                result.cause = "accepted" if result.status == state.DELIVERED else "no_receipt"
        case Unknown("raised") if channel.traits.idempotent:
            result.event, result.detail = "lost", outcome.detail
            result.again, result.repeat = now + _REPEAT, True
        case Unknown():
            result.event, result.detail = "unknown", f"{outcome.stage} {outcome.detail}".strip()
            result.look = state.unknown_look(claimed.lane, now, claimed.expires_at + GRACE)
        case Refused():
            _refused(result, claimed, outcome, next_pool, now)
    return result


def _references(accepted: Accepted, parts: int) -> tuple[tuple[int, str, str], ...]:
    """An empty reference finds nothing, but among several parts it says which one was taken."""
    keys = accepted.keys or accepted.references
    named = zip(range(1, len(keys) + 1), keys, accepted.references, strict=True)
    return tuple(named) if parts > 1 else tuple(x for x in named if x[1])


def _refused(
    result: Result, claimed: Claimed, outcome: Refused, next_pool: int | None, now: datetime
) -> None:
    """Same channel later, next route, or the end (channels §1.4). Parts that went bind it to the channel."""
    ruling = state.RULINGS[outcome.reason]
    result.event, result.detail = "refused", f"{outcome.reason} {outcome.detail}".strip()
    elsewhere = None if outcome.done else next_pool
    hurried = claimed.lane == Lane.OTP and claimed.expires_at - now < _OTP_NEAR
    urgent = ruling.route == "at once" or (ruling.route == "if near" and hurried)
    if urgent and elsewhere is not None:
        result.again, result.pool, result.tries = now, elsewhere, 0
    elif ruling.waits:
        # It keeps its place: the channel as a whole pauses, or this message waits for its number's queue.
        pause_s = outcome.retry_after_s or 0
        result.again = now + timedelta(seconds=pause_s) if outcome.single or pause_s else claimed.due
        result.tries = claimed.tries + outcome.single
    elif claimed.tries < len(ruling.delays_s):
        result.again = now + timedelta(seconds=outcome.retry_after_s or ruling.delays_s[claimed.tries])
        result.tries = claimed.tries + 1
    elif ruling.route and elsewhere is not None and (ruling.route != "once" or not claimed.moved):
        result.again, result.pool, result.tries = now, elsewhere, 0
    else:
        result.status, result.cause, result.void = ruling.status, str(outcome.reason), True


def _of_one_node(queue: deque[_Entry], most: int) -> tuple[int, list[_Entry]]:
    """The node of the first entry (its second field), and what it has there: a statement is for one node."""
    node_id, same = next(groupby(islice(queue, most), itemgetter(1)))
    return node_id, list(same)


def _no_twins(batch: list[_Ended]) -> list[_Ended]:
    """Up to the second outcome of one attempt: after "unknown", a late answer has to find that written."""
    seen: set[tuple[int, int]] = set()
    for n, (claimed, *_) in enumerate(batch):
        if (claimed.message, claimed.attempt) in seen:
            return batch[:n]
        seen.add((claimed.message, claimed.attempt))
    return batch


class Recorder:
    """Writes outcomes in batches; what arrives while a commit is in flight goes in the next one."""

    def __init__(self, db: Database, now: Callable[[], datetime], metrics: Metrics, batch: int) -> None:
        self._db = db
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._metrics = metrics
        self._batch = batch
        self._accepted: deque[_Ended] = deque()
        self._results: deque[_Ended] = deque()
        self._taken: deque[tuple[Taken, int]] = deque()
        self._writing: tuple[int, deque[_Ended], list[_Ended], datetime] | None = None  # server process, time
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, claimed: Claimed, recorded: _Recorded, result: Result | None = None) -> None:
        """What became of an attempt; without result the peer has taken its one part.

        recorded: called after the commit, with all that it wrote.
        """
        queue = self._accepted if result is None else self._results
        queue.append((claimed, claimed.node_id, recorded, result))
        self._idle.clear()
        self._arrived.set()

    def settle(self, taken: Taken, node_id: int) -> None:
        """A part that a peer has taken, while its message is still on its way (CH-4)."""
        self._taken.append((taken, node_id))
        self._idle.clear()
        self._arrived.set()

    async def flushed(self) -> None:
        await self._idle.wait()

    async def run(self) -> None:
        await persist(self._run)

    async def _run(self) -> None:
        session = await self._db.connect(hot=True)
        try:
            await self._look_after(session)
            while True:
                await self._arrived.wait()
                count = len(self._accepted) + len(self._results)
                if self._accepted:
                    await self._record(session, self._accepted, _write_accepted)
                while self._taken:  # before the ends of their messages, which take them out of flight
                    node_id, settled = _of_one_node(self._taken, self._batch)
                    await attempts.settle(session, [taken for taken, _ in settled], node_id)
                    for _ in settled:
                        self._taken.popleft()
                if self._results:
                    await self._record(session, self._results, _write_results)
                if not self._accepted and not self._results and not self._taken:
                    self._arrived.clear()
                    self._idle.set()
                await asyncio.sleep(rest_s(count))
        finally:
            await session.close()

    async def _look_after(self, session: Any) -> None:
        """A commit whose answer was lost may have been one. Written twice, a reference fits no receipt."""
        if self._writing:
            backend, queue, batch, at = self._writing
            await settle_backend(self._db, backend)
            if await attempts.written(session, [claimed for claimed, _, _, _ in batch], at):
                self._written(queue, batch)
            self._writing = None

    async def _record(self, session: Any, queue: deque[_Ended], write: _Write) -> None:
        node_id, batch = _of_one_node(queue, self._batch)
        batch = _no_twins(batch) if queue is self._results else batch
        started, at = self._clock(), self._now()
        self._writing = session.backend, queue, batch, at
        await write(session, batch, node_id, at)
        self._writing = None
        failpoint.hit("S11")
        self._written(queue, batch)
        self._metrics.commit("dispatch", len(batch), self._clock() - started)

    @staticmethod
    def _written(queue: deque[_Ended], batch: list[_Ended]) -> None:
        for _ in batch:
            queue.popleft()
        for recorded, ended in groupby(batch, itemgetter(2)):
            recorded([claimed for claimed, _, _, _ in ended])


async def _write_accepted(session: Any, batch: list[_Ended], node_id: int, now: datetime) -> int:
    return await attempts.record_taken(session, [claimed for claimed, _, _, _ in batch], node_id, now)


async def _write_results(session: Any, batch: list[_Ended], node_id: int, now: datetime) -> int:
    return await attempts.record(session, [x for _, _, _, x in batch if x], node_id, now)


class Pump:
    """Keeps one channel as busy as its capacity allows.

    next_pool: the routes that a pool has left without this channel, None if it has none. random: 0 ≤ x < 1.
    """

    def __init__(
        self,
        *,
        db: Database,
        channel: Channel,
        channel_id: int,
        node_id: Callable[[], int | None],
        pools: Callable[[], Collection[int]],
        next_pool: Callable[[int], int | None],
        recorder: Recorder,
        now: Callable[[], datetime],
        random: Callable[[], float],
        log: Any = None,
        metrics: Metrics,
        batch: int,
    ) -> None:
        self._db = db
        self._channel = channel
        self._channel_id = channel_id
        self._node_id = node_id
        self._pools = pools
        self._next_pool = next_pool
        self._recorder = recorder
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._random = random
        self._log = log or structlog.get_logger()
        self._metrics = metrics
        self._batch = batch
        self._woken = asyncio.Event()
        self._blocked = False  # by the channel's capacity or by what is not recorded yet
        self._freed = 0  # how often either gave way
        self._stopping = False
        self._ended = asyncio.Event()
        self._paused_at = self._paused_until = 0.0
        self._pause_told = Health("paused")
        self._pause_s = _PAUSE_S[0]
        self._otp_seen = -_OTP_SEEN_S
        self._poll_s = _POLL_S
        self._unrecorded = 0  # parts
        self._open: dict[tuple[int, int], Claimed] = {}  # until it is recorded
        self._outcomes: Counter[str] = Counter()  # since the last claim
        self._unanswered = 0
        self._doubtful: dict[tuple[int, int], Claimed] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._claiming: tuple[int, int, datetime] | None = None  # server process, node, time
        self._since: dict[tuple[int, int], datetime] = {}  # where the next claim begins, by lane and pool
        self._whole_at = 0.0

    def wake(self) -> None:
        self._woken.set()

    @property
    def pause(self) -> Health | None:
        """What the channel waits for, with the reason of refusal as its cause; None if it does not wait."""
        waiting = self._clock() < self._paused_until
        return self._pause_told if waiting else None

    def slow(self) -> list[int]:
        """Numbers of messages whose outcome is long in coming: a receipt for one may be there already."""
        since = self._clock() - _SLOW_S
        return [claimed.number for claimed in takewhile(lambda x: x.began < since, self._open.values())]

    def _unblock(self) -> None:
        self._freed += 1
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
        await self._none_open.wait()

    async def _run(self) -> None:
        session = await self._db.connect(hot=True)
        try:
            await self._unclaim(session)
            while not self._stopping:
                self._woken.clear()
                began = self._clock()
                more = await self._claim(session)
                await asyncio.sleep(claim_rest_s(self._clock() - began))
                if not more:
                    await self._wait()
        finally:
            await session.close()

    async def _unclaim(self, session: Any) -> None:
        """A claim that lost its connection may have taken messages that we never saw."""
        if self._claiming:
            backend, node_id, at = self._claiming
            await settle_backend(self._db, backend)
            await attempts.unclaim(session, channel_id=self._channel_id, node_id=node_id, at=at)
            self._claiming = None

    async def _wait(self) -> None:
        """Until a notification, a free slot, the end of a pause, or the poll."""
        pause_s = self._paused_until - self._clock()
        try:
            async with asyncio.timeout(min(_POLL_S, pause_s) if pause_s > 0 else self._poll_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _claim(self, session: Any) -> bool:
        """Start what may start now; whether more may be waiting."""
        clock = self._clock()
        node_id = self._node_id()
        pools = list(self._pools())
        self._poll_s = _POLL_S
        if node_id is None or not pools or clock < self._paused_until:
            return False
        capacity = self._channel.capacity(clock)
        most = min(capacity.free, self._channel.traits.unrecorded - self._unrecorded, self._batch)
        self._blocked = most <= 0
        if self._blocked:
            self._poll_s = min(capacity.wait_s or _POLL_S, _POLL_S)
            return False
        at, freed = self._now(), self._freed
        lanes = self._lanes(most, clock)
        self._claiming = (session.backend, node_id, at)
        rows = await attempts.claim(
            session,
            channel_id=self._channel_id,
            node_id=node_id,
            pools=pools,
            lanes=lanes,
            at=at,
            since=self._places(clock),
        )
        for row in rows:
            row.made = self._channel.cuts(row.content, row.encoding, row.parts)
        long = await self._long(session, rows, at)
        if rows:
            failpoint.hit("S7")
            last = {(row.lane, row.pool): row.due for row in rows}
            self._since |= {place: due - _BESIDE for place, due in last.items()}
            if self._node_id() == node_id:
                self._begin(rows, node_id, long)
            else:  # not sure of its place any more; what a dead node has is left to the sweep (CH-9)
                await attempts.unclaim(session, channel_id=self._channel_id, node_id=node_id, at=at)
        self._claiming = None
        self._count(len(rows))
        # What only the reserve holds back goes on as soon as something is recorded.
        self._blocked = len(rows) >= lanes[-1][1] < most
        if self._blocked and freed != self._freed:
            self._woken.set()  # it was recorded while the claim ran, and may have been the last
        return len(rows) == most

    def _count(self, claimed: int) -> None:
        self._metrics.dispatched(self._channel.name, claimed)
        for outcome, count in self._outcomes.items():
            self._metrics.outcome(self._channel.name, outcome, count)
        self._outcomes.clear()

    def _places(self, clock: float) -> dict[tuple[int, int], datetime]:
        """Where the claims before have come to in each range; what takes a place behind waits for its turn.

        That is what comes back to its old place, or from a machine whose clock is slow: seldom enough.
        """
        if clock >= self._whole_at:
            self._whole_at = clock + _WHOLE_S
            self._since.clear()
        return self._since

    def _lanes(self, most: int, clock: float) -> list[tuple[int, int]]:
        """(lane, at most); the reserve is kept from others while an OTP was seen in the last minute."""
        others = most
        if clock - self._otp_seen < _OTP_SEEN_S:
            reserve = int(self._channel.traits.unrecorded * _OTP_RESERVE)
            others = max(0, min(most, self._channel.traits.unrecorded - self._unrecorded - reserve))
        urgent = (Lane.OTP, Lane.VOICE)
        return [(int(lane), most if lane in urgent else others) for lane in Lane]

    async def _long(self, session: Any, rows: list[Claimed], at: datetime) -> _Long:
        several = [row for row in rows if row.made > 1]
        if not several:
            return {}
        start = int(self._random() * 65536)
        return await attempts.long_messages(session, several, self._channel_id, start, at)

    def _begin(self, rows: list[Claimed], node_id: int, long: _Long) -> None:
        now, began = self._now(), self._clock()
        for claimed in rows:
            if claimed.lane == Lane.OTP:
                self._otp_seen = began
            claimed.node_id, claimed.began = node_id, began
            self._unrecorded += claimed.made
            if forbidden := self._forbidden(claimed, now):
                self._put(claimed, self._result(claimed, forbidden))
            else:
                self._submit(claimed, outgoing(claimed, *long.get(claimed.message, ())))

    def _submit(self, claimed: Claimed, out: Outgoing) -> None:
        """Hand one attempt to the channel; its outcome calls back. No coroutine is made for it."""
        self._open[claimed.message, claimed.attempt] = claimed
        self._unanswered += 1
        self._none_open.clear()
        try:
            failpoint.hit("S8")
            outcome = self._channel.submit(out)
        except Exception as error:  # noqa: BLE001 - keeps the message moving: bytes may have left, so it is unknown
            cause = type(error).__name__  # its text may hold what must not be logged
            self._log.warning("submit raised", action="submit", channel=self._channel.name, cause=cause)
            self._end(claimed, Unknown("raised", repr(error)))
            return
        if outcome.done():
            self._end(claimed, outcome.result())
        else:
            outcome.add_done_callback(partial(self._answered, claimed))

    def _answered(self, claimed: Claimed, outcome: asyncio.Future[Outcome]) -> None:
        if outcome.cancelled():  # the process ends, and the sweep will see to it
            self._close(claimed)
            return
        try:
            failpoint.hit("S10")
            self._end(claimed, outcome.result())
        except Exception as error:  # noqa: BLE001 - as above
            self._end(claimed, Unknown("raised", repr(error)))

    def _end(self, claimed: Claimed, outcome: Outcome) -> None:
        self._close(claimed)
        if isinstance(outcome, Accepted):
            if claimed.began >= self._paused_until:
                self._pause_s = _PAUSE_S[0]
            if claimed.made == 1 and self._channel.traits.receipts != "none":
                self._take(claimed, outcome)
                return
        elif isinstance(outcome, Refused):
            ruling = state.RULINGS[outcome.reason]
            if ruling.pauses and not outcome.single:
                self._pause(outcome.reason, outcome.retry_after_s or ruling.pause_s, claimed.began)
        else:
            if len(self._doubtful) >= _MOST_DOUBTFUL:
                del self._doubtful[next(iter(self._doubtful))]
            self._doubtful[claimed.message, claimed.attempt] = claimed
        self._put(claimed, self._result(claimed, outcome))

    def _close(self, claimed: Claimed) -> None:
        if not claimed.answered:
            claimed.answered = True
            self._unanswered -= 1
        if not self._unanswered:
            self._none_open.set()

    def _take(self, claimed: Claimed, accepted: Accepted) -> None:
        """Nearly every message ends so: of its outcome only two names are kept."""
        if accepted.references:
            claimed.reference = accepted.references[0]
            claimed.key = accepted.keys[0] if accepted.keys else claimed.reference
        self._recorder.put(claimed, self._recorded)
        self._unblock()
        self._outcomes["sent"] += 1

    def _result(self, claimed: Claimed, outcome: Outcome) -> Result:
        return result_of(claimed, outcome, self._channel, self._next_pool(claimed.pool), self._now())

    def _put(self, claimed: Claimed, result: Result) -> None:
        self._recorder.put(claimed, self._recorded, result)
        self._unblock()
        self._outcomes[result.event] += 1

    def _recorded(self, ended: Sequence[Claimed]) -> None:
        for claimed in ended:
            self._unrecorded -= claimed.made
            self._open.pop((claimed.message, claimed.attempt), None)
        self._unblock()

    def settle(self, message: int, attempt: int, part: int, outcome: Outcome) -> None:
        """A part's end before its message's; part 0: the late end of a message of several parts."""
        doubtful = self._doubtful.get((message, attempt))
        claimed = self._open.get((message, attempt))
        if claimed is None or claimed.answered:
            claimed = doubtful
        node_id = self._node_id()
        if claimed is None or node_id is None:
            return
        if isinstance(outcome, Accepted) and part and claimed.made > 1:
            key = (outcome.keys or outcome.references or ("",))[0]
            reference = (outcome.references or ("",))[0]
            taken = Taken(message, attempt, claimed.number, part, claimed.made, key, reference)
            self._recorder.settle(taken, node_id)
        elif doubtful and not isinstance(outcome, Unknown):
            del self._doubtful[message, attempt]
            self._late(doubtful, outcome)

    def _late(self, claimed: Claimed, outcome: Outcome) -> None:
        result = self._result(claimed, outcome)
        result.late = True
        if result.again is None and result.status is None:
            result.look = claimed.expires_at + GRACE
        self._recorder.put(claimed, self._late_recorded, result)
        self._outcomes["late"] += 1

    def _late_recorded(self, _: Sequence[Claimed]) -> None:
        self._unblock()

    @staticmethod
    def _forbidden(claimed: Claimed, now: datetime) -> Refused | None:
        """What must not leave any more: expired, opted out since, or ended by a late report (CH-7)."""
        if claimed.ended or claimed.expires_at <= now:
            return Refused(Reason.EXPIRED)
        if claimed.opted_out:
            return Refused(Reason.CANCELLED, "opted out")
        return None

    def _pause(self, reason: Reason, pause_s: float | None, began: float) -> None:
        """A throttle pauses the channel as a whole, not one message (SM-21).

        What was on its way when the pause began does not lengthen it.
        """
        if began < self._paused_at:
            return
        pause_s = pause_s or self._pause_s * (1 + _JITTER * (2 * self._random() - 1))
        self._pause_s = min(self._pause_s * 2, _PAUSE_S[1])
        self._paused_at = self._clock()
        self._paused_until = self._paused_at + pause_s
        until = self._now() + timedelta(seconds=pause_s)
        self._pause_told = Health(state.RULINGS[reason].pauses, str(reason), until)
        tell = self._log.error if state.RULINGS[reason].pause_s else self._log.warning
        tell(
            "channel paused",
            action="pause",
            channel=self._channel.name,
            seconds=round(pause_s, 1),
            cause=str(reason),
        )
