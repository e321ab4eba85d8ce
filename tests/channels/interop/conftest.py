"""What the tests with foreign peers share: our client with a sink, foreign programs, and waiting for both."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from speedsms.gateway.channels.base import Outgoing, Surroundings
from speedsms.gateway.channels.smpp.client import Smpp
from speedsms.text import segments, split

PATIENCE_S = 20


class Stirred:
    """Something that changes; `until` waits for a condition over it."""

    def __init__(self):
        self._stirred = asyncio.Event()

    def stir(self):
        self._stirred.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._stirred.clear()
                await self._stirred.wait()


class Sink(Stirred):
    """The worker's side of a channel: keeps what it brings, and the PDUs that went over the wire."""

    def __init__(self):
        super().__init__()
        self.reports, self.received, self.pdus = [], [], []

    def report(self, report):
        return self._taken(self.reports, report)

    def incoming(self, incoming):
        return self._taken(self.received, incoming)

    def settle(self, message, attempt, part, outcome):
        """Only messages of several parts settle; their outcome says the same later."""

    def see(self, way, octets):
        self.pdus.append((way, octets))
        self.stir()

    def _taken(self, kept, what):
        kept.append(what)
        self.stir()
        taken = asyncio.get_running_loop().create_future()
        taken.set_result(None)
        return taken


class Program(Stirred):
    """A running program; lines: what it has said."""

    def __init__(self, process):
        super().__init__()
        self.process = process
        self.lines = []

    async def read(self):
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())
            self.stir()

    @property
    def events(self):
        return [json.loads(line) for line in self.lines]

    async def said(self, words):
        await self.until(lambda: self.process.returncode is not None or any(words in x for x in self.lines))
        assert any(words in line for line in self.lines), "\n".join(self.lines[-20:])


@asynccontextmanager
async def _running(command, folder):
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=folder, stderr=asyncio.subprocess.STDOUT, **pipes
    )
    program = Program(process)
    reading = asyncio.create_task(program.read())
    try:
        yield program
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE_S)
        await reading


@pytest.fixture
async def start():
    """Starts a program, which ends with the test; the last one first."""
    async with AsyncExitStack() as stack:
        yield lambda command, folder=None: stack.enter_async_context(_running(command, folder))


@pytest.fixture
async def connect():
    """Our client, bound to a port, and its sink."""
    channels = []

    async def connect(port, **settings):
        raw = {"hosts": [f"127.0.0.1:{port}"], "system_id": "speedsms", "password": "secret", "rate": 0}
        around = Surroundings(
            now=lambda: datetime.now(UTC),
            random=lambda: 0.5,
            owner=lambda: 1,
            asked=lambda _: None,
            secret=str,
        )
        channel, sink = Smpp("carrier", raw | settings, around), Sink()
        channels.append(channel)
        channel.trace = sink.see
        await channel.start(sink)
        channel.hold(range(channel.traits.links))
        async with asyncio.timeout(PATIENCE_S):
            while not channel.capacity(asyncio.get_running_loop().time()).free:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        return channel, sink

    yield connect
    for channel in channels:
        await channel.stop()


@pytest.fixture
def outgoing():
    """A message to send, cut as acceptance cuts it."""

    def outgoing(message, text, to="84912345678", sender="SPEEDSMS"):
        cut = segments(text)
        parts = tuple(split(cut.text, cut.encoding))
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        return Outgoing(message, message, to, sender, 2, expires_at, parts, cut.encoding, message)

    return outgoing
