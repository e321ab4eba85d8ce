"""A whole gateway in the test's process: the real application, worker and database, a clock that stands
still.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from speedsms.contract import write
from speedsms.contract.request import Accepted, Key, Reply, Send
from speedsms.gateway.app.api import ApiProcess
from speedsms.gateway.app.drain import until_done
from speedsms.gateway.app.worker import Worker
from speedsms.gateway.channels.smpp.smsc import Script, Smsc
from speedsms.gateway.config import Settings, WebhookSettings
from speedsms.gateway.net import Net
from speedsms.gateway.store import admin, endpoints, ledger, routing
from speedsms.gateway.store.accounts import Caller
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.routing import PriceRow

PRICE_VND = 250


class Clock:
    """Wall time of the gateway under test. step: by so much it goes on each time it is looked at."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.step = timedelta()

    def __call__(self) -> datetime:
        self.now += self.step
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(slots=True)
class Gateway:
    """One account `alice` with money, everything routed to a simulator channel, a sink for her webhooks."""

    db: Database
    process: ApiProcess
    worker: Worker
    clock: Clock
    settings: Settings
    sink: "Sink"
    account: int = 0
    test: bool = False
    callers: dict[bool, Caller] = field(default_factory=dict)

    async def send(
        self, *to: str, content: str = "Xin chao", key: Key | None = None, test: bool = False, **more: Any
    ) -> Reply:
        send = Send(to, content, more.pop("sms_type", 2), more.pop("sender", ""), **more)
        return await self.process.acceptor.send(self.callers[test], send, key, write.accepted)

    async def accept(self, *to: str, **more: Any) -> Accepted:
        """Like `send`, but gives what was accepted instead of its bytes."""
        seen: list[Accepted] = []
        send = Send(
            to, more.pop("content", "Xin chao"), more.pop("sms_type", 2), more.pop("sender", ""), **more
        )

        def render(accepted: Accepted) -> Reply:
            seen.append(accepted)
            return write.accepted(accepted)

        await self.process.acceptor.send(self.callers[False], send, None, render)
        return seen[-1]

    async def drain(self) -> dict[str, int]:
        return await until_done(self.db, self.worker, self.clock)

    async def play(self) -> None:
        """Send what waits, let the carrier's second pass, and take in what it says."""
        await self.drain()
        self.clock.advance(seconds=1)
        await self.drain()

    async def one(self, sql: str, **params: Any) -> Any:
        return (await self.db.read(sql, **params))[0][0]

    async def finals(self) -> list[tuple[int, str]]:
        """(status, cause) of each final message, in order."""
        rows = await self.db.read("SELECT status, cause FROM final ORDER BY message")
        return [(status, cause) for status, cause in rows]

    async def check_ledger(self) -> None:
        """Balance is the sum of transfers, holding is what is in flight: difference 0 đ (I5, I11)."""
        async with await self.db.connect() as connection:
            differences = [d async for d in ledger.check(connection)]
        assert all(d.agrees for d in differences), differences

    async def configure(self, channel: str = "simulator", **settings: Any) -> None:
        """Change the settings of a channel; what it was before has ended, and claims nothing more."""
        async with self.db.transaction() as connection:
            await routing.set_channel(connection, channel, settings)
        await self.worker.load()
        async with asyncio.timeout(20):
            while any(running.leaving for running in self.worker._running.values()):
                await self.worker.load()

    async def add(self, name: str, settings: dict[str, Any] | None = None, **route: Any) -> int:
        """A channel with a route to it, a simulated one unless its settings name hosts; its id."""
        kind = "smpp" if settings and "hosts" in settings else "sim"
        async with self.db.transaction() as connection:
            channel_id = await routing.add_channel(connection, name, kind, settings or {})
            await routing.add_route(connection, name, **route)
        self.process.directory.forget()
        await self.worker.load()
        return channel_id

    async def bind(self, smsc: Smsc, name: str = "carrier", **settings: Any) -> int:
        """A bound SMPP channel to a carrier; alone, unless there are others beside the simulator."""
        await self.db.execute("DELETE FROM route USING channel c WHERE channel_id = c.id AND kind = 'sim'")
        given = {"hosts": [f"127.0.0.1:{smsc.port}"], "system_id": name, "password": "secret", "rate": 0}
        channel_id = await self.add(name, given | {"window": 100} | settings)
        await self.up(name)
        return channel_id

    async def up(self, name: str, state: str = "up") -> dict[str, Any]:
        """Until the worker says so of a channel, and lets it have its messages; what it said."""
        sql = "SELECT health FROM channel WHERE name = %(name)s"
        async with asyncio.timeout(20):
            while (said := await self.one(sql, name=name)).get("state") != state:
                await self.worker.load()
        await self.worker.load()  # a channel may come up between the sharing of pools and the telling
        return dict(said)

    async def silence(self, name: str = "simulator") -> None:
        """Until nothing is claimed for a channel any more, nor is a claim on its way."""
        await self.worker.loaded.wait()
        await self.db.execute("UPDATE channel SET enabled = false WHERE name = %(name)s", name=name)
        await self.up(name, "stopped")

    async def until(self, sql: str, expected: Any, **params: Any) -> None:
        """Until a query says so; the worker is kept awake."""
        async with asyncio.timeout(20):
            while await self.one(sql, **params) != expected:
                self.worker.wake()

    async def taken(self) -> list[tuple[str, int, str]]:
        """(channel, attempt, event) of all attempts, in order."""
        rows = await self.db.read(
            "SELECT name, attempt, e.kind FROM event e JOIN channel c ON c.id = channel_id"
            " ORDER BY message, attempt, at"
        )
        return [(name, attempt, kind) for name, attempt, kind in rows]


class Sink:
    """The customer's receiver: keeps every POST, answers what the test says."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.serving: set[asyncio.Task[Any]] = set()
        self.port = 0

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.posts]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self._one(reader, writer)
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.posts.append((headers, body))
        status = self.answers.pop(0) if self.answers else 200
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    server = await asyncio.start_server(sink.answer, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    yield sink
    server.close()
    for serving in sink.serving:  # what is left open would be complained of in another test
        serving.cancel()
    await asyncio.gather(*sink.serving, return_exceptions=True)


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    """A carrier that takes everything and reports it delivered, on `port`."""
    smsc = Smsc(Script(magic=False))
    with socket.socket() as held:  # bound, not listening: nobody else gets the port while it is stopped
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        smsc.port = await smsc.start(held.getsockname()[1])
        yield smsc
        await smsc.stop()


@pytest.fixture
async def gateway(database_url: str, sink: Sink, tmp_path: Any) -> AsyncIterator[Gateway]:
    clock = Clock()
    settings = Settings(data_dir=tmp_path, webhooks=WebhookSettings(allow_loopback=True))
    async with Database(database_url, name="test") as db:
        process = ApiProcess(Database(database_url, name="test api"), settings, now=clock)
        net = Net(allow_loopback=True)
        worker = Worker(Database(database_url, name="test worker"), settings, now=clock, net=net)
        gateway = Gateway(db, process, worker, clock, settings, sink)
        tokens = {False: "ss_live_alice_000000000000", True: "ss_test_alice_000000000000"}
        async with db.transaction() as connection:
            gateway.account = await admin.create_account(connection, "alice", "alice@example.test")
            await admin.set_account(connection, "alice", {"rate_limit": 100_000}, api_enabled=True)
            await ledger.topup(connection, gateway.account, 100_000, "first", clock())
            await routing.set_price(connection, PriceRow("sms", 2, "", "", PRICE_VND, False))
            await routing.add_route(connection, "simulator")
            for test, token in tokens.items():
                await admin.add_token(connection, "alice", token, test=test)
        for event in ("report", "sms"):
            await endpoints.add(
                db,
                gateway.account,
                event,
                f"http://127.0.0.1:{sink.port}/hook",
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            )
        for test, token in tokens.items():
            caller = await process.directory.caller(token.encode())
            assert caller
            gateway.callers[test] = caller
        stop = asyncio.Event()
        committer = asyncio.create_task(process.acceptor.run())
        working = asyncio.create_task(worker.run(stop))
        yield gateway
        stop.set()
        await working
        net.close()
        committer.cancel()
        await asyncio.gather(committer, return_exceptions=True)
        await process.db.close()
