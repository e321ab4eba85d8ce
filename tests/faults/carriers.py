"""J2, what carriers saw (invariants §3), and the carriers: one per fault, each with its own channel."""

import asyncio
import json
import os
import platform
import random
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from types import MappingProxyType
from typing import NamedTuple

import psycopg
from checker import check, drained
from gateway import Gateway
from journals import Client, Sink
from page import publish
from proxy import Proxy

from speedsms.gateway.channels.smpp.pdu import Address, Command, DeliverSm
from speedsms.gateway.channels.smpp.smsc import Script, Smsc
from speedsms.gateway.store import admin, endpoints, ledger, routing
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.reports import first_message

LEVEL = os.environ.get("SPEEDSMS_FAULTS", "")  # full: the counts of a release; tenth: a tenth of them
FULL = LEVEL in ("full", "tenth")
COUNTS = " at a tenth of its counts" if LEVEL == "tenth" else ""


def often(full, reduced):
    """How often a row is played."""
    return {"full": full, "tenth": max(reduced, full // 10)}.get(LEVEL, reduced)


WINDOW = 10
DEFAULTS = {"system_id": "esme", "password": "secret", "rate": 0, "window": WINDOW, "reconnect_s": [0.2, 1]}
BOUND_S = 10  # P4
BACK_S = 30  # D1
_AT_ONCE = 200  # requests
PLAIN = Script(magic=False)

# Time is moved on rather than waited for: what has no answer is looked at now, by the policy of its lane, and
# what was accepted and never reported has come to its end (channels §1.8, ST-6).
_OVERDUE = """
UPDATE flight f SET due = now() WHERE EXISTS (
    SELECT FROM event e WHERE e.account_id = f.account_id AND e.message = f.message AND e.attempt = f.attempt
        AND (e.kind = 'unknown' AND f.attempt = 1 AND f.lane < 3 AND e.at < now() - interval '2 seconds'
            OR e.kind = 'sent' AND %(silent)s))
"""

_EVENTS = """
SELECT m.number, e.kind
FROM event e JOIN message m ON m.account_id = e.account_id AND m.id = e.message WHERE true
"""
_FINALS = """
SELECT m.number, f.status
FROM final f JOIN message m ON m.account_id = f.account_id AND m.id = f.message WHERE true
"""


class Submit(NamedTuple):
    """One submit_sm of J2. status: of its first response, None without one."""

    at: float
    connection: int
    number: str
    octets: bytes
    registered: int
    status: int | None

    @property
    def taken(self):
        """Whether the handset may have got it: anything but a refusal."""
        return not self.status


def submits(*smscs):
    found = []
    for smsc in smscs:
        statuses = {}
        for line in seen(smsc, "out", Command.SUBMIT_SM_RESP):
            frame = line.frame()
            statuses.setdefault((line.connection, frame.sequence), frame.status)
        for line in seen(smsc, "in", Command.SUBMIT_SM):
            pdu, sequence = line.frame().pdu, line.frame().sequence
            status = statuses.get((line.connection, sequence))
            found.append(
                Submit(
                    line.at,
                    line.connection,
                    pdu.destination.digits,
                    pdu.short_message,
                    pdu.registered_delivery,
                    status,
                )
            )
    return found


def seen(smsc, way, *commands):
    """Lines of J2, of these commands if there are any."""
    return [x for x in smsc.journal.lines if x.way == way and (not commands or x.command in commands)]


async def drained_by_policy(url, *, silent=False, within_s=60):
    """Wait until all is final and told, moving time on; silent: what is not reported never will be."""
    waiting = asyncio.create_task(drained(url, within_s))
    while not waiting.done():
        with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_OVERDUE, {"silent": silent})
        await asyncio.wait([waiting], timeout=0.3)
    await waiting


class Traffic(Client):
    """J1 whose numbers belong to the carrier of the moment. text: stands behind each content."""

    prefix = "091200"
    text = ""
    numbers = count()

    def make(self, phones=1, *, keyed=False):
        sent = super().make(phones, keyed=keyed)
        sent.phones = [f"{self.prefix}{next(self.numbers) % 10_000:04d}" for _ in sent.phones]
        sent.content += self.text
        return sent

    async def send(self, requests, phones=1):
        """So many requests, each acknowledged."""
        made = [self.make(phones) for _ in range(requests)]
        for start in range(0, requests, _AT_ONCE):
            await asyncio.gather(*map(self.post, made[start : start + _AT_ONCE]))
        assert all(sent.acked for sent in made), [sent for sent in made if not sent.acked][:3]
        return made


@dataclass
class Figures:
    """One row of the published table. losses: unclean ones; worst_s: until it worked again."""

    row: str
    fault: str
    times: int = 0
    messages: int = 0
    losses: int = 0
    unknown: int = 0
    duplicates: int = 0
    took_s: list[float] = field(default_factory=list)

    def __str__(self):
        worst = f"{max(self.took_s):.1f} s" if self.took_s else ""
        counts = (self.times, self.messages, self.losses, self.unknown, self.duplicates)
        return f"| {' | '.join([self.row, self.fault, *map(str, counts), worst])} |"


class World:
    """A gateway under load by J1 and J3, and a second carrier, the reserve, where nothing ever goes wrong."""

    def __init__(self, folder, seed):
        self.dice = random.Random(seed)
        self.gateway = Gateway(folder)
        self.reserve = Smsc(PLAIN)
        self.figures = []
        self.turns = count(1)
        self._log = folder / "log"

    @asynccontextmanager
    async def open(self):
        async with AsyncExitStack() as stack:
            settings = DEFAULTS | {"hosts": [f"127.0.0.1:{await self.reserve.start()}"], "window": 1000}
            stack.push_async_callback(self.reserve.stop)
            # In a thread: the carriers of this process have to answer while it drains.
            stack.push_async_callback(asyncio.to_thread, self.gateway.stop)
            await self.gateway.start()
            self.sink = await stack.enter_async_context(Sink().open())
            traffic = Traffic(self.gateway.base, self.gateway.token, self.dice)
            self.traffic = await stack.enter_async_context(traffic.open())
            async with self.admin() as connection:
                account = await admin.account_id(connection, "demo")
                await admin.set_account(connection, "demo", {"rate_limit": 1_000_000})
                await ledger.topup(connection, account, 10**9, "faults", datetime.now(UTC))
                for route in await routing.routes(connection):
                    await routing.remove_route(connection, route.id)
                await routing.add_channel(connection, "reserve", "smpp", settings)
            async with Database(self.gateway.url, name="test") as db:
                await endpoints.add(db, account, "report", self.sink.url, f"whsec_{'A' * 43}=")
            yield self

    @asynccontextmanager
    async def admin(self):
        async with Database(self.gateway.url, name="test") as db, db.transaction() as connection:
            yield connection

    def rows(self, sql, **params):
        with psycopg.connect(self.gateway.url, autocommit=True) as connection:
            found = connection.execute(sql, params)
            return found.fetchall() if found.description else []

    async def works(self):
        """Wait until a message sent from now on is ended and told; the seconds it took."""
        began, probes = time.monotonic(), set()
        while not probes & self.sink.trans:
            probe = await self.traffic.post(self.traffic.make())
            if probe.acked:
                probes.add(probe.tran_id)
            await asyncio.sleep(0.05)
            assert time.monotonic() - began < BACK_S, probes
        return time.monotonic() - began

    def alarms(self, event, channel):
        """Lines of the log."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event and line.get("channel") == channel]

    @asynccontextmanager
    async def carrier(
        self,
        figures,
        script,
        *,
        reserve=False,
        bound=True,
        proxied=False,
        listen=MappingProxyType({}),
        **settings,
    ):
        """A carrier under a fault; at the end everything is drained, joined and counted.

        reserve: its messages have a next route; bound: wait for that; proxied: its line can be cut.
        """
        number = next(self.turns) % 1000
        carrier = Carrier(self, figures, Smsc(script, seed=number), number)
        port = await carrier.smsc.start(**listen)
        if proxied:
            port = await carrier.line.start(port)
        settings = DEFAULTS | {"hosts": [f"127.0.0.1:{port}"]} | settings
        carrier.window = settings["window"]
        routes = [(carrier.name, 10)] + [("reserve", 50)] * reserve
        async with self.admin() as connection:
            await routing.add_channel(connection, carrier.name, "smpp", settings)
            for name, priority in routes:
                await routing.add_route(connection, name, priority=priority, prefixes=[carrier.prefix])
        try:
            if bound:
                await carrier.bound()
            yield carrier
            await carrier.end()
            print(f"{figures} {self.traffic.left_out} left out")
        finally:
            async with self.admin() as connection:
                await routing.set_channel(connection, carrier.name, {}, enabled=False)
            if proxied:
                await carrier.line.stop()
            await carrier.smsc.stop()


class Carrier:
    """One simulated carrier, its channel, its numbers."""

    window = WINDOW

    def __init__(self, world, figures, smsc, number):
        self.world = world
        self.figures = figures
        self.smsc = smsc
        self.line = Proxy(world.dice)
        self.name = f"carrier-{number}-{len(world.traffic.sent)}"
        self.prefix = f"8491{number:03d}"
        self._numbers = range(int(self.prefix) * 10_000, (int(self.prefix) + 1) * 10_000)
        self._began = len(world.traffic.sent)
        self._before = datetime.now(UTC)
        self.choose()

    def choose(self):
        """From now on messages go to its numbers."""
        self.world.traffic.prefix = f"0{self.prefix[2:]}"

    async def set(self, **settings):
        async with self.world.admin() as connection:
            await routing.set_channel(connection, self.name, settings)

    @property
    def binds(self):
        return self.smsc.counts["binds"]

    async def bound(self, more_than=0, within_s=BOUND_S):
        """Wait until it has been bound so often; the seconds it took."""
        began = time.monotonic()
        await self.smsc.until(lambda: self.binds > more_than, within_s)
        return time.monotonic() - began

    async def fill(self):
        """Send more than the window holds, and wait until it is full."""
        await self.world.traffic.send(2 * self.window)
        await self.smsc.until(lambda: any(c.opened >= self.window for c in self.smsc.connections.values()))

    async def told(self, *states):
        """Wait until the worker has told one of these states of health."""
        deadline = time.monotonic() + BOUND_S
        sql = "SELECT health->>'state' FROM channel WHERE name = %(name)s"
        while (state := self.world.rows(sql, name=self.name)[0][0]) not in states:
            self.world.rows("SELECT pg_notify('config', '')")  # channels are looked at now
            assert time.monotonic() < deadline, state
            await asyncio.sleep(0.1)

    def submits(self):
        """Those to its numbers, whatever way they went."""
        return [s for s in submits(self.smsc, self.world.reserve) if int(s.number) in self._numbers]

    async def drained(self, *, silent=False, within_s=60):
        await drained_by_policy(self.world.gateway.url, silent=silent, within_s=within_s)

    async def end(self):
        """Nothing lost, no part, no đồng; what the carrier got twice was unknown, and is bounded (I13)."""
        await self.drained()
        check(self.world.gateway.url, self.world.traffic.sent, self.world.sink)
        figures, found = self.figures, self.submits()
        taken = Counter((int(s.number), s.octets) for s in found if s.taken)
        doubtful = self.ever("unknown")
        figures.messages += len(self._in("SELECT number, id FROM message m WHERE true"))
        figures.unknown += len(doubtful)
        figures.duplicates += sum(taken.values()) - len(taken)
        most = self.window * figures.losses
        assert figures.duplicates <= most, f"I13 {figures.duplicates} twice in {figures.losses} losses"
        assert figures.unknown <= most, f"§1.8 {figures.unknown} unknown in {figures.losses} losses"
        twice = {number for (number, _), times in taken.items() if times > 1}
        assert twice <= doubtful, f"I13 twice, and nobody is told: {twice - doubtful}"
        delivered = {number for number, status in self.ended() if status == 0}
        assert delivered <= {number for number, _ in taken}, "delivered, and no carrier was given it"

    def ever(self, event):
        """Numbers of messages that something happened to, since this carrier began."""
        return {number for number, kind in self._in(_EVENTS) if kind == event}

    def ended(self):
        """(number, status) of its final messages."""
        return self._in(_FINALS)

    def _in(self, sql):
        numbers = self._numbers
        return self.world.rows(
            f"{sql} AND m.number >= %(first)s AND m.number < %(stop)s AND m.id >= %(since)s",
            first=numbers.start,
            stop=numbers.stop,
            since=first_message(self._before),
        )


def row(world, name, fault):
    figures = Figures(name, fault)
    world.figures.append(figures)
    return figures


async def ends(carrier, many, within_s=30):
    """Wait until so many of its messages are final."""
    deadline = time.monotonic() + within_s
    while len(carrier.ended()) < many:
        assert time.monotonic() < deadline, f"{len(carrier.ended())} of {many} are final"
        await asyncio.sleep(0.05)


def foreign_receipt(carrier, n):
    text = f"id:foreign{n} sub:001 dlvrd:001 stat:DELIVRD err:000 text:"
    number = Address(1, 1, f"{carrier.prefix}{n:04d}")
    return DeliverSm(
        source=number, destination=Address(5, 0, "Verify"), esm_class=4, short_message=text.encode()
    )


def write_report(figures, seed):
    """Their section of the page that a release publishes (invariants §15)."""
    publish(
        [
            "## Carriers",
            "",
            f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make faults`{COUNTS}, seed {seed}, Python",
            f"{platform.python_version()}: a whole gateway with the channel `smpp`, window {WINDOW},",
            "and a simulated carrier per row. After each: acknowledged messages lost 0, ledger",
            "difference 0 đ, final messages without webhook 0. Unknown: messages whose fate nobody",
            "knew when their link died unanswered. Twice: parts that carriers took twice. Both are at",
            "most a window for each unclean loss of a link.",
            "",
            "| row | fault | times | messages | unclean losses | unknown | twice | slowest recovery |",
            "|---|---|---|---|---|---|---|---|",
            *map(str, figures),
        ]
    )
