"""Notify: outbox rows become POSTs, each endpoint in a lane of its own, so none slows another (design §8)."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from logging import INFO
from typing import Final

from structlog.typing import FilteringBoundLogger

from speedsms.contract import webhook
from speedsms.gateway import failpoint
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.net import Answer, Failed, Net
from speedsms.gateway.rules import retry
from speedsms.gateway.rules.pace import rest_s
from speedsms.gateway.store import endpoints, outbox
from speedsms.gateway.store.db import Connection, Database, listen, persist
from speedsms.gateway.store.endpoints import Endpoint
from speedsms.gateway.store.outbox import DELIVERED, Due, Room, Tried

PER_ENDPOINT: Final = 10  # in flight; also the least that is read ahead
IN_FLIGHT: Final = 500
TROUBLED_IN_FLIGHT: Final = 300  # of these, for endpoints that have not answered well of late
READ_AHEAD: Final = 500  # rows of one endpoint
HELD: Final = 5_000  # rows of all, beyond which none reads further ahead
FEW_HELD: Final = 64  # so many can be left out of a read by name; beyond it goes on behind the last row
SETTLE: Final = 500  # attempts of one commit
POLL_S: Final = 1
RELOAD_POLLS: Final = 5
DRAIN_S: Final = 8
DISABLE_AFTER: Final = timedelta(days=5)
NOTICES: Final = frozenset({50, 70, 90, 100})  # failures in a row that are told

RECENT: Final = 20  # attempts by which an endpoint is judged
GONE: Final = 410
REMOVED: Final = "removed"


@dataclass(slots=True)
class _Lane:
    """One endpoint. `stirring`: there may be due rows that were not read yet; `failures`: in a row.

    held: ids of rows at hand, in flight, or tried and not settled. read_to: behind it is nothing to be read,
    but for what was committed late; None: look at everything.
    """

    endpoint: Endpoint
    failing_since: datetime | None
    stirring: bool = True
    held: set[int] = field(default_factory=set)
    read_to: tuple[datetime, int] | None = None
    ahead: int = PER_ENDPOINT  # rows to have at hand
    rows: deque[Due] = field(default_factory=deque)
    couriers: int = 0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    bad: int = 0  # of the recent
    failures: int = 0
    probe_at: float = 0.0

    def answered(self, *, well: bool) -> None:
        if len(self.recent) == RECENT and not self.recent[0]:
            self.bad -= 1
        self.recent.append(well)
        self.bad += not well

    @property
    def healthy(self) -> bool:
        """It has answered well of late; before the first good answer it has not."""
        return self.bad < len(self.recent) and not self.breaks

    @property
    def breaks(self) -> bool:
        """70 % of at least ten attempts failed: from now on it is only probed (invariants §5)."""
        return len(self.recent) >= 10 and self.bad >= 0.7 * len(self.recent)


class Notifier:
    """Posts what is due. One per process.

    random: gives numbers of [0, 1). monotonic: seconds. per_endpoint: posts in flight to one endpoint.
    node_id: this process's place among the living.
    """

    def __init__(
        self,
        db: Database,
        net: Net,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        random: Callable[[], float],
        log: FilteringBoundLogger,
        metrics: Metrics,
        agent: str,
        per_endpoint: int = PER_ENDPOINT,
        node_id: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._db = db
        self._net = net
        self._now = now
        self._monotonic = monotonic
        self._random = random
        self._log = log.bind()  # a logger that still has to be configured looks for its level at each line
        self._metrics = metrics
        self._agent = agent
        self._per_endpoint = per_endpoint
        self._node_id = node_id
        self._wake = asyncio.Event()
        self._closing = False
        self._stale = True  # shards and endpoints are to be read again
        self._shards: set[int] = set()
        self._lanes: dict[int, _Lane] = {}
        self._couriers: set[asyncio.Task[None]] = set()
        self._troubled = 0  # couriers of lanes that are not healthy
        self._tried: list[Tried] = []
        self._disable: dict[int, str] = {}
        self._posted = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Post what falls due until told to stop; then let what is in flight end."""
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(persist(self._work))
                beside = [
                    group.create_task(persist(lambda: listen(self._db, ("outbox", "config"), self._hear))),
                    group.create_task(self._poll()),
                ]
                await stop.wait()
                self._closing = True
                self._wake.set()
                await asyncio.wait([work], timeout=DRAIN_S)
                for task in (work, *beside):
                    task.cancel()
        finally:
            for courier in self._couriers:
                courier.cancel()

    async def drain(self) -> int:
        """Post everything that is due now, unless another process owns it; how many attempts were made."""
        before = self._posted
        connection = await outbox.connect(self._db)
        try:
            self._stale = True
            self._stir()
            await self._turn(connection)
            while self._couriers or self._tried:
                if self._couriers:
                    await asyncio.wait(self._couriers)
                await self._turn(connection)
        finally:
            await self._let_go(connection)
        return self._posted - before

    def _hear(self, channel: str, _payload: str) -> None:
        if channel == "config":
            self._stale = True
        self._stir()

    async def _poll(self) -> None:
        """Retries fall due without a notification, and a notification can be lost (DB-5)."""
        polls = 0
        while True:
            await asyncio.sleep(POLL_S)
            polls += 1
            self._stale = self._stale or polls % RELOAD_POLLS == 0
            for lane in self._lanes.values():
                lane.read_to = None
            self._stir()

    def wake(self) -> None:
        """Look now: for those who wait until nothing is due."""
        self._stir()

    def _stir(self) -> None:
        for lane in self._lanes.values():
            lane.stirring = True
        self._wake.set()

    async def _work(self) -> None:
        """The life of one connection, which owns the shards: when it is lost, others may have them."""
        connection = await outbox.connect(self._db)
        try:
            self._stale = True
            self._wake.set()
            while not self._closing or self._couriers or self._tried:
                await self._wake.wait()
                self._wake.clear()
                tried = len(self._tried)
                await self._turn(connection)
                await asyncio.sleep(rest_s(tried))
        finally:
            await self._let_go(connection)

    async def _let_go(self, connection: Connection) -> None:
        self._shards = set()
        for lane in self._lanes.values():
            self._release(lane)
        await connection.close()

    async def _turn(self, connection: Connection) -> None:
        """Write down what came of attempts, look for due rows, post. What comes meanwhile gathers."""
        await self._settle(connection)
        if self._stale:
            await self._reload(connection)
        if not self._closing:
            await self._read(connection)
            self._start()

    async def _settle(self, connection: Connection) -> None:
        while batch := self._tried[:SETTLE]:
            started = self._monotonic()
            await outbox.settle(connection, batch)
            failpoint.hit("S17")
            self._metrics.commit("notify", len(batch), self._monotonic() - started)
            del self._tried[: len(batch)]
            for tried in batch:
                if lane := self._lanes.get(tried.row.endpoint_id):
                    lane.held.discard(tried.row.id)
        changed = [lane for lane in self._lanes.values() if lane.failing_since != lane.endpoint.failing_since]
        if marks := {lane.endpoint.id: lane.failing_since for lane in changed}:
            await endpoints.mark(connection, marks)
            for lane in changed:
                lane.endpoint = replace(lane.endpoint, failing_since=marks[lane.endpoint.id])
        for endpoint_id, why in list(self._disable.items()):
            await endpoints.disable(self._db, endpoint_id, why)
            del self._disable[endpoint_id]
            self._stale = True

    async def _reload(self, connection: Connection) -> None:
        self._stale = False
        self._shards = await outbox.share_shards(connection, self._shards, self._now(), self._node_id())
        found = {endpoint.id: endpoint for endpoint in await endpoints.enabled(connection, self._shards)}
        for endpoint_id in self._lanes.keys() - found.keys():
            self._release(self._lanes.pop(endpoint_id))
        for endpoint_id, endpoint in found.items():
            if lane := self._lanes.get(endpoint_id):
                lane.endpoint = endpoint
            else:
                self._lanes[endpoint_id] = _Lane(endpoint, endpoint.failing_since)

    def _release(self, lane: _Lane) -> None:
        """Forget what was read ahead; it is still in the outbox."""
        lane.held.difference_update(row.id for row in lane.rows)
        lane.rows.clear()
        lane.read_to = None
        lane.stirring = True

    async def _read(self, connection: Connection) -> None:
        """Read due rows for all lanes at once; who had all that was asked for is asked for twice as many."""
        if not (room := self._room()):
            return
        for endpoint_id in room:
            self._lanes[endpoint_id].stirring = False  # before the read: what stirs during it counts
        rooms = [Room(endpoint, rows, self._lanes[endpoint].read_to) for endpoint, rows in room.items()]
        held = [held for r in rooms if r.after is None for held in self._lanes[r.endpoint_id].held]
        rows = await outbox.due(connection, rooms, held, self._now())
        for row in rows:
            if lane := self._lanes.get(row.endpoint_id):  # it may have been given up meanwhile
                lane.held.add(row.id)
                lane.rows.append(row)
                # Behind its last row, or else with all that is held left out by name: never in between.
                lane.read_to = (row.due, row.id) if len(lane.held) > FEW_HELD else None
        found = Counter(row.endpoint_id for row in rows)
        for endpoint_id, asked in room.items():
            if lane := self._lanes.get(endpoint_id):
                full = found[endpoint_id] == asked
                lane.stirring |= full
                further = full and self._held < HELD
                lane.ahead = min(2 * lane.ahead, READ_AHEAD) if further else PER_ENDPOINT

    @property
    def _held(self) -> int:
        return sum(len(lane.held) for lane in self._lanes.values())

    def _room(self) -> dict[int, int]:
        """How many rows may be read for whom: far ahead for the healthy, one at a time for the others."""
        now = self._monotonic()
        room: dict[int, int] = {}
        for endpoint_id, lane in self._lanes.items():
            if lane.stirring and len(lane.rows) <= lane.ahead // 2 and now >= lane.probe_at:
                wanted = lane.ahead if lane.healthy else 1 - lane.couriers
                if (free := wanted - len(lane.rows)) > 0:
                    room[endpoint_id] = free
        return room

    def _start(self) -> None:
        """Send couriers where there are rows and slots. After its turn a troubled one stands last."""
        for endpoint_id, lane in list(self._lanes.items()):
            healthy = lane.healthy
            slots = self._per_endpoint if healthy else 1
            while lane.rows and lane.couriers < slots:
                if len(self._couriers) >= IN_FLIGHT or not (healthy or self._troubled < TROUBLED_IN_FLIGHT):
                    break
                self._send(lane, lane.rows.popleft(), healthy=healthy)
            if not healthy and lane.couriers:
                self._lanes[endpoint_id] = self._lanes.pop(endpoint_id)

    def _send(self, lane: _Lane, row: Due, *, healthy: bool) -> None:
        lane.couriers += 1
        self._troubled += not healthy
        courier = asyncio.create_task(self._carry(lane, row, healthy=healthy))
        self._couriers.add(courier)
        courier.add_done_callback(self._couriers.discard)

    async def _carry(self, lane: _Lane, first: Due, *, healthy: bool) -> None:
        """Make one attempt after the other, as long as the endpoint answers well."""
        row: Due | None = first
        try:
            while row:
                await self._attempt(lane, row)
                more = healthy and lane.healthy and lane.rows and not self._closing
                row = lane.rows.popleft() if more else None
        finally:
            lane.couriers -= 1
            self._troubled -= not healthy
            self._wake.set()

    async def _attempt(self, lane: _Lane, row: Due) -> None:
        at, started = self._now(), self._monotonic()
        outcome, detail, answer = await self._post(lane.endpoint, row, at)
        seconds = self._monotonic() - started
        next_due, buried = None, None
        if outcome == REMOVED:
            buried = "what it tells of was removed by age"
        else:
            self._note(
                lane, at, delivered=outcome == DELIVERED, gone=answer is not None and answer.status == GONE
            )
            if outcome != DELIVERED and (next_due := self._next_due(row, answer, at)) is None:
                buried = "the schedule ended"
        tried = Tried(
            row, at, answer.status if answer else None, int(seconds * 1000), outcome, detail, next_due, buried
        )
        self._tried.append(tried)
        self._tell(tried, seconds)
        self._wake.set()

    async def _post(self, endpoint: Endpoint, row: Due, at: datetime) -> tuple[str, str, Answer | None]:
        """Outcome, what people are shown of it, and the answer if one came."""
        if row.webhook is None:
            return REMOVED, "", None
        try:
            body = row.webhook.body
            headers = webhook.headers(
                row.webhook,
                body,
                event=webhook.event_name(row.event_id),
                timestamp=int(at.timestamp()),
                secrets=endpoint.secrets,
                legacy_secret=endpoint.legacy_secret,
                agent=self._agent,
            )
            answer = await self._net.post(endpoint.url, body, headers)
            failpoint.hit("S16")
        except Failed as failed:
            return str(failed.kind), failed.detail, None
        except Exception as error:  # noqa: BLE001 - keeps the lane alive: one odd event must not end it
            return "error", repr(error), None
        detail = answer.body.decode("utf-8", "replace")
        return DELIVERED if 200 <= answer.status < 300 else "failed", detail, answer

    def _tell(self, tried: Tried, seconds: float) -> None:
        self._posted += 1
        self._metrics.webhook(tried.outcome, seconds)
        if not self._log.is_enabled_for(INFO):  # to put the line together costs more than the attempt
            return
        self._log.info(
            "webhook",
            action="notify",
            endpoint=tried.row.endpoint_id,
            event_id=str(tried.row.event_id),
            attempt=tried.row.attempt + 1,
            outcome=tried.outcome,
            http_status=tried.http_status,
            duration_ms=tried.duration_ms,
            next_due=tried.next_due and tried.next_due.isoformat(),
            buried=tried.buried,
        )

    def _next_due(self, row: Due, answer: Answer | None, at: datetime) -> datetime | None:
        asked_s = retry.retry_after_s(answer.retry_after, at) if answer else None
        delay_s = retry.webhook_delay_s(row.attempt + 1, self._random(), asked_s)
        return None if delay_s is None else at + timedelta(seconds=delay_s)

    def _note(self, lane: _Lane, at: datetime, *, delivered: bool, gone: bool) -> None:
        """What an attempt says of its endpoint: health, breaker, the end of its patience (protocol §14.5)."""
        lane.answered(well=delivered)
        if delivered:
            lane.failures, lane.failing_since, lane.probe_at = 0, None, 0.0
            return
        lane.failures += 1
        lane.failing_since = lane.failing_since or at
        if lane.failures in NOTICES:
            self._log.warning("endpoint_failing", endpoint=lane.endpoint.id, failures=lane.failures)
        if lane.breaks:
            lane.probe_at = self._monotonic() + retry.backoff_s(max(lane.failures - 9, 1), self._random())
        if not lane.healthy:
            self._release(lane)
        if gone:
            self._give_up(lane, "the receiver answered 410 Gone")
        elif at - lane.failing_since >= DISABLE_AFTER:
            self._give_up(lane, "every attempt failed for 5 days")

    def _give_up(self, lane: _Lane, why: str) -> None:
        """Disable an endpoint; what is in its outbox waits until the account enables it again."""
        self._release(lane)
        if self._lanes.pop(lane.endpoint.id, None):
            self._disable[lane.endpoint.id] = why
            self._log.warning("endpoint_disabled", endpoint=lane.endpoint.id, why=why)
