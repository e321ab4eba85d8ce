"""The worker process: channels with their pumps, recorder, reports, incoming, webhooks, sweep."""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from speedsms import __version__
from speedsms.contract.carriers import Carrier, carrier_name
from speedsms.gateway.channels import kinds
from speedsms.gateway.channels.base import Channel, Health, Incoming, Outcome, Report, Surroundings, Traits
from speedsms.gateway.config import Settings, secret
from speedsms.gateway.flow.dispatch import Pump, Recorder
from speedsms.gateway.flow.inbound import Inbound
from speedsms.gateway.flow.notify import Notifier
from speedsms.gateway.flow.report import Reporter
from speedsms.gateway.flow.sweep import Around, Sweeper
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.net import Net
from speedsms.gateway.rules import state
from speedsms.gateway.rules.route import SIMULATOR_POOL, pools_of, without
from speedsms.gateway.store import links, messages, routing, sim
from speedsms.gateway.store.accounts import Directory, Tariff
from speedsms.gateway.store.db import Database, listen, persist
from speedsms.gateway.store.nodes import Node

DRAIN_S: Final = 7.0  # the supervisor waits 9 s, and has to be gone itself after 10
_LAST_POSTS_S: Final = 1.0
_LOOK_S: Final = 2.0
_RESCUE: Final = 1000


@dataclass(slots=True)
class _Sink:
    """One channel's way in. pump: set as soon as there is one, before the channel takes anything."""

    channel_id: int
    reporter: Reporter
    inbound: Inbound
    pump: Pump | None = None

    def report(self, report: Report) -> asyncio.Future[None]:
        return self.reporter.put(self.channel_id, report)

    def incoming(self, incoming: Incoming) -> asyncio.Future[None]:
        return self.inbound.put(self.channel_id, incoming)

    def settle(self, message: int, attempt: int, part: int, outcome: Outcome) -> None:
        if self.pump:
            self.pump.settle(message, attempt, part, outcome)


@dataclass(slots=True)
class _Running:
    """A channel with its pump. row: what it was built from, to see whether it changed.

    leaving: it was changed or is no longer used, and finishes what it began.
    """

    row: tuple[Any, ...]
    channel: Channel
    pump: Pump
    loop: asyncio.Task[None]
    pools: list[int]
    links: set[int] = field(default_factory=set)
    leaving: asyncio.Task[None] | None = None

    @property
    def health(self) -> Health:
        """The channel's own, with what dispatch knows of it."""
        if self.leaving:
            return Health("draining")
        own = self.channel.health()
        return (self.pump.pause or own) if own.state in state.TAKING else own

    @property
    def elsewhere(self) -> bool:
        """Whether all its links are with other processes: those say how it is."""
        return bool(self.channel.traits.links) and not self.links


class Worker:
    """One worker process. `sweep` and `wake` hurry it along: for drain and tests."""

    def __init__(self, db: Database, settings: Settings, *, now: Callable[[], datetime], net: Net) -> None:
        self._db = db
        self._now = now
        self._log = structlog.get_logger()
        self.metrics = Metrics()
        self._directory = Directory(db)
        self._batch = settings.worker.batch
        self._recorder = Recorder(db, now, self.metrics, self._batch)
        self._reporter = Reporter(
            db, now, self.metrics, matched=self._matched, reported=self._reported, slow=self._slow
        )
        self.inbound = Inbound(db, self._directory, now, self.metrics)
        self._running: dict[int, _Running] = {}
        self._blocked: dict[int, tuple[tuple[Any, ...], Health]] = {}
        self._told: dict[int, Health] = {}
        self._figures: dict[int, dict[str, object]] = {}
        self._next_pools: dict[tuple[int, int], int] = {}
        self._asked: dict[str, tuple[str, int | None]] = {}
        self._spending: set[asyncio.Task[None]] = set()
        self._reload = asyncio.Event()
        self.loaded = asyncio.Event()
        self._loading = asyncio.Lock()
        self.node = Node(db, "worker", asyncio.get_running_loop().time)
        self._sweeper = Sweeper(
            db,
            now=now,
            around=Around(self._traits, self._next_pool),
            messages_days=settings.retention.messages_days,
            attempts_days=settings.retention.attempts_days,
        )
        self._net = net
        self._around = Surroundings(now, random.random, lambda: self.node.id, self._ask, secret)
        self._notifier = Notifier(
            db,
            net,
            now=now,
            monotonic=asyncio.get_running_loop().time,
            random=random.random,
            log=self._log,
            metrics=self.metrics,
            agent=f"speedsms/{__version__}",
            per_endpoint=settings.webhooks.in_flight,
            node_id=lambda: self.node.id,
        )

    def _matched(self, channel_id: int, reference: str, key: str) -> None:
        if running := self._running.get(channel_id):
            running.channel.matched(reference, key)

    def _reported(self, channel_id: int, matched: int, strays: int) -> None:
        if running := self._running.get(channel_id):
            running.channel.reported(matched, strays)

    def _slow(self) -> list[tuple[int, int]]:
        return [(i, number) for i, running in self._running.items() for number in running.pump.slow()]

    def _next_pool(self, pool: int, channel_id: int) -> int | None:
        return self._next_pools.get((pool, channel_id))

    def _traits(self) -> Mapping[int, Traits]:
        return {channel_id: running.channel.traits for channel_id, running in self._running.items()}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then finish what was begun, within DRAIN_S."""
        notifier_stop = asyncio.Event()
        loops = [
            asyncio.create_task(work)
            for work in (
                self.node.run(),
                self._recorder.run(),
                self._reporter.run(),
                self.inbound.run(),
                self._sweep(),
                persist(lambda: listen(self._db, ("ready", "config"), self._hear)),
                persist(self._keep_channels),
                self._notifier.run(notifier_stop),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        try:
            for ended in done - {stopped}:
                ended.result()  # a loop never ends by itself: whatever it raised ends the process
            notifier_stop.set()
            await self._drain()
            await asyncio.wait([loops[-1]], timeout=_LAST_POSTS_S)
        finally:
            for task in (*loops, *(r.leaving or r.loop for r in self._running.values())):
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._db.close()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(*(r.pump.drain() for r in self._running.values()))
                await asyncio.gather(*(r.channel.drain(DRAIN_S) for r in self._running.values()))
                await self._recorder.flushed()
        except TimeoutError:
            self._log.warning("stopped with attempts open; the next worker settles them", action="drain")

    async def sweep(self) -> None:
        await self._sweeper.step()

    def wake(self) -> None:
        """Look at everything now, without waiting for a notification or a poll."""
        for running in self._running.values():
            running.pump.wake()
        self._reporter.wake()
        self._notifier.wake()

    def _hear(self, channel: str, payload: str) -> None:
        """Of `ready` the payload names the pools, so a channel that serves none of them sleeps on."""
        if channel == "config":
            self._reload.set()
            return
        pools = set(map(int, payload.split(",")))
        for running in self._running.values():
            if pools.intersection(running.pools):
                running.pump.wake()

    # ------------------------------------------------------------------------------------ channels

    async def _keep_channels(self) -> None:
        """Build, restart and stop channels as the configuration says; look again at each change."""
        await self.node.registered.wait()
        while True:
            self._reload.clear()
            await self.load()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._reload.wait()
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        """The sweep asks the channels what may be repeated, so they are there first."""
        await self.loaded.wait()
        await self._sweeper.run()

    async def load(self) -> None:
        """Bring the running channels in line with the tables."""
        async with self._loading:
            await self._load()

    async def _load(self) -> None:
        for running in self._running.values():
            if running.loop.done():
                running.loop.result()  # a pump never ends by itself: whatever it raised ends the process
            if running.leaving and running.leaving.done():
                running.leaving.result()
        self._directory.forget()
        rows = await self._db.read("SELECT id, name, kind, settings FROM channel WHERE enabled ORDER BY id")
        self._asked = await sim.asked(self._db)
        wanted = {row[0]: row for row in rows}
        for channel_id, running in list(self._running.items()):
            if wanted.get(channel_id) != running.row and not running.leaving:
                running.leaving = asyncio.create_task(self._leave(channel_id, running))
        for channel_id, row in wanted.items():
            if channel_id not in self._running:
                await self._start(row)
        await self._rescue()
        await self._share_links()
        await self._share_pools()
        await self._tell_health(wanted)
        self.loaded.set()

    async def _tell_health(self, wanted: Collection[int]) -> None:
        """Write down what changed, for `channel list` and `doctor` (channels §1.7)."""
        health = dict.fromkeys(self._told.keys() - wanted, Health("stopped"))
        health |= {i: blocked for i, (_, blocked) in self._blocked.items() if i in wanted}
        for channel_id, running in self._running.items():
            if running.elsewhere:
                self._told.pop(channel_id, None)
            else:
                health[channel_id] = running.health
        for channel_id, told in health.items():
            if self._told.get(channel_id) != told:
                await routing.tell_health(
                    self._db, channel_id, told.state, told.cause, since=self._now(), until=told.until
                )
                self._told[channel_id] = told
        for channel_id, running in list(self._running.items()):
            channel = running.channel
            now = running.health.state
            self.metrics.channel(channel.name, channel.counts, now, up=now in state.TAKING)
            figures = channel.figures() | {"counts": dict(channel.counts)}
            if channel.counts and self._figures.get(channel_id) != figures:
                await routing.tell_figures(self._db, channel_id, figures)
                self._figures[channel_id] = figures

    async def _rescue(self) -> None:
        """Messages accepted before there was a route, or whose routes are gone, follow today's routes."""
        tariff = await self._directory.tariff()
        living = {route.id for route in tariff.routes}
        lost = [pool for routes, pool in tariff.pools.items() if not living.intersection(routes)]
        while lost and tariff.routes:
            async with self._db.transaction() as session:
                stranded = await messages.stranded(session, lost, _RESCUE)
                moved = []
                for message, kind, sms_type, carrier, number in stranded:
                    name = carrier_name(Carrier(carrier), str(number))
                    pool = await self._directory.pool(tariff, kind, sms_type, name, str(number))
                    if pool not in lost:
                        moved.append((message, pool))
                await messages.repool(session, moved)
            if len(moved) < _RESCUE:
                return

    async def _start(self, row: tuple[Any, ...]) -> None:
        channel_id, name, kind, settings = row
        if self._blocked.get(channel_id, (None,))[0] == row:
            return
        try:
            channel = kinds.build(kind, name, settings, self._around)
        except ValueError as error:
            self._log.error(
                "channel blocked by its settings", action="channel", channel=name, cause=str(error)
            )
            self._blocked[channel_id] = row, Health("blocked", str(error))
            return
        self._blocked.pop(channel_id, None)
        sink = _Sink(channel_id, self._reporter, self.inbound)
        pump = sink.pump = Pump(
            db=self._db,
            channel=channel,
            channel_id=channel_id,
            node_id=lambda: self.node.id,
            pools=lambda: self._running[channel_id].pools if channel_id in self._running else (),
            next_pool=lambda pool: self._next_pool(pool, channel_id),
            recorder=self._recorder,
            now=self._now,
            random=random.random,
            metrics=self.metrics,
            batch=self._batch,
        )
        await channel.start(sink)
        self._running[channel_id] = _Running(row, channel, pump, asyncio.create_task(pump.run()), [])
        self._log.info("channel started", action="channel", channel=name, kind=kind)

    def _ask(self, phone: str) -> str | None:
        """The outcome asked for the next message to a phone; a counted one is used up by it."""
        outcome, remaining = self._asked.get(phone, (None, None))
        if remaining is not None:
            if remaining <= 1:
                del self._asked[phone]
            else:
                self._asked[phone] = (str(outcome), remaining - 1)
            spending = asyncio.create_task(sim.spend(self._db, phone))
            self._spending.add(spending)
            spending.add_done_callback(self._spending.discard)
        return outcome

    async def _leave(self, channel_id: int, running: _Running) -> None:
        """Beside everything else: one channel's carrier that does not answer holds up no other's changes."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await running.pump.drain()
            await running.channel.stop()
        finally:
            running.loop.cancel()
            del self._running[channel_id]
            self._reload.set()  # what it is to be from now on is started

    async def _share_links(self) -> None:
        """Take and give up connections, so that each belongs to one process (CH-9)."""
        node_id = self.node.id
        for channel_id, running in list(self._running.items()):
            if (count := running.channel.traits.links) and not running.leaving:
                held = (
                    await links.share(self._db, channel_id, node_id, count, running.links)
                    if node_id is not None
                    else set()
                )
                if held != running.links:
                    running.channel.hold(held)
                    running.links = held

    async def _share_pools(self) -> None:
        tariff = await self._directory.tariff()
        await self._find_next_pools(tariff)
        pools = {pool: routes for routes, pool in tariff.pools.items()}
        told = [(i, r.health.state, r.health.cause) for i, r in self._running.items() if not r.elsewhere]
        if elsewhere := [i for i, r in self._running.items() if r.elsewhere]:
            sql = "SELECT id, health->>'state', health->>'cause' FROM channel WHERE id = ANY(%(ids)s)"
            told += await self._db.read(sql, ids=elsewhere)
        healthy = frozenset(i for i, now, cause in told if state.keeps(now, cause))
        simulators = [i for i, r in self._running.items() if r.channel.kind == "sim"]
        for channel_id, running in self._running.items():
            mine = pools_of(channel_id, tariff.routes, pools, healthy)
            if simulators[:1] == [channel_id]:
                mine.append(SIMULATOR_POOL)
            if mine != running.pools:
                running.pools = mine
                running.pump.wake()

    async def _find_next_pools(self, tariff: Tariff) -> None:
        """Where each pool's messages go when a channel of it refuses them; the answers are pools too."""
        channels = {route.channel_id for route in tariff.routes}
        waiting = list(tariff.pools)
        found: dict[tuple[int, int], int] = {}
        while waiting:
            routes = waiting.pop()
            for channel_id in channels:
                left = without(tariff.routes, routes, channel_id)
                if left and left != routes:
                    if left not in tariff.pools:
                        waiting.append(left)
                    found[tariff.pools[routes], channel_id] = await self._directory.intern(tariff, left)
        self._next_pools = found


async def run(settings: Settings, stop: asyncio.Event, metrics_dir: Path, name: str) -> None:
    """The life of a worker process."""
    db = Database(settings.database.url, name="speedsms worker", prepare=settings.database.prepare)
    allow, timeout_s = settings.webhooks.allow_loopback, settings.webhooks.timeout_s
    async with Net(allow_loopback=allow, timeout_s=timeout_s) as net:
        worker = Worker(db, settings, now=lambda: datetime.now(UTC), net=net)
        server = await worker.metrics.serve(metrics_dir, name)
        try:
            await worker.run(stop)
        finally:
            server.close()
