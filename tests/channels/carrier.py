"""A channel `smpp` against the simulated carrier over loopback, for tests of the client."""

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from speedsms.contract.senders import Lane
from speedsms.gateway.channels.base import Outgoing, Surroundings
from speedsms.gateway.channels.smpp.client import Smpp
from speedsms.gateway.channels.smpp.pdu import Command
from speedsms.gateway.channels.smpp.smsc import Script, Smsc

AROUND = Surroundings(
    now=lambda: datetime.now(UTC),
    random=random.Random(1).random,
    owner=lambda: 1,
    asked=lambda _: None,
    secret=str,
)


class Sink:
    """Keeps what a channel leaves. broken: commits fail; stalled: they do not end until `commit`."""

    def __init__(self):
        self.reports, self.incomings, self.settled = [], [], []
        self.broken = self.stalled = False
        self._open = []

    def report(self, report):
        return self._stored(self.reports, report)

    def incoming(self, incoming):
        return self._stored(self.incomings, incoming)

    def settle(self, *what):
        self.settled.append(what)

    def commit(self):
        for stored in self._open:
            stored.set_result(None)
        self._open.clear()

    def _stored(self, where, what):
        stored = asyncio.get_running_loop().create_future()
        if self.broken:
            stored.set_exception(OSError("the database is away"))
            return stored
        where.append(what)
        if self.stalled:
            self._open.append(stored)
        else:
            stored.set_result(None)
        return stored


def outgoing(message=1, *texts, **other):
    given = {
        "message": message,
        "attempt": 1,
        "to": f"849{message % 100_000_000:08}",
        "sender": "Notify",
        "lane": Lane.BULK,
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
        "parts": texts or ("hello",),
        "encoding": "gsm7",
        "concat_ref": 77,
    }
    return Outgoing(**given | other)


async def until(condition, within_s=20.0):
    """Until it holds, looked at in every millisecond."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what the client has understood stirs no event
            await asyncio.sleep(0.001)


@asynccontextmanager
async def carrier(script=None, **how):
    """A carrier that listens on `port`."""
    smsc = Smsc(script or Script())
    smsc.port = await smsc.start(**how)
    try:
        yield smsc
    finally:
        await smsc.stop()


@asynccontextmanager
async def client(port, sink=None, state="up", **settings):
    """A started channel with all its links, once its health is `state` (or `a|b`); stopped at the end."""
    given = {"hosts": [f"127.0.0.1:{port}"], "system_id": "esme", "password": "secret", "rate": 0}
    channel = Smpp("carrier", given | settings, AROUND)
    await channel.start(sink or Sink())
    channel.hold(range(channel.traits.links))
    try:
        await until(lambda: channel.health().state in state.split("|"))
        yield channel
    finally:
        await channel.stop()


@asynccontextmanager
async def exchange(script=None, **settings):
    """Carrier, bound channel and its sink."""
    sink = Sink()
    async with carrier(script) as smsc, client(smsc.port, sink, **settings) as channel:
        yield smsc, channel, sink


def submitted(smsc):
    """(time, connection, submit_sm) of each that the carrier got."""
    return [(line.at, line.connection, line.frame().pdu) for line in came(smsc, Command.SUBMIT_SM)]


def answered(smsc, command):
    """Statuses of our responses of a command."""
    return [line.frame().status for line in came(smsc, command)]


def came(smsc, command):
    """Lines of the journal with what the carrier got of a command."""
    return [line for line in smsc.journal.lines if line.way == "in" and line.command == command]
