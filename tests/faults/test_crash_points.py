"""The crash points S1 to S17 of invariants §2, each killed, broken and stalled: simulator, then `smpp`."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from carriers import DEFAULTS, FULL, PLAIN, drained_by_policy, submits
from checker import check, drained
from journals import Client, Sink

from speedsms.gateway.app import demo
from speedsms.gateway.channels.smpp.smsc import Smsc
from speedsms.gateway.store import admin, endpoints, routing
from speedsms.gateway.store.db import Database

pytestmark = [pytest.mark.anyio, pytest.mark.faults, pytest.mark.timeout(60)]

STALL_S = 5 if FULL else 1
REACHED_S = 20
ACTIONS = ["kill", "raise", f"stall:{STALL_S}"]
# With a carrier each kill costs ten seconds, so only the full count has them all.
CARRIED = [
    (f"S{n}", action)
    for n in range(7, 16)
    for at, action in enumerate(ACTIONS)
    if FULL or at == n % len(ACTIONS)
]


class Processes:
    """An API process and a worker that are started again as soon as they end; `failpoint` arms both."""

    def __init__(self, folder, database_url):
        self.failpoint = folder / "failpoint"
        self._log = (folder / "log").open("wb")
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.base = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._lifeline, self._own_end = os.pipe()
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("SPEEDSMS_")} | {
            "SPEEDSMS_DATABASE_URL": database_url,
            "SPEEDSMS_DATA_DIR": str(folder),
            "SPEEDSMS_LOG_LEVEL": "warning",
            "SPEEDSMS_WEBHOOKS_ALLOW_LOOPBACK": "true",
            "SPEEDSMS_FAILPOINT_FILE": str(self.failpoint),
        }

    @asynccontextmanager
    async def running(self):
        keepers = [asyncio.create_task(self._keep(role)) for role in ("api", "worker")]
        try:
            yield self
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            os.close(self._own_end)
            os.close(self._lifeline)
            self._listening.close()
            self._log.close()

    async def _keep(self, role):
        fds = [self._lifeline, self._listening.fileno()]
        command = [sys.executable, "-m", "speedsms.gateway.app", role, role, *map(str, fds)]
        while True:
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=fds, env=self._environment, stdout=subprocess.DEVNULL, stderr=self._log
            )
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise

    async def reached(self):
        """Wait until a process took the failpoint: a case whose point is never reached proves nothing."""
        deadline = time.monotonic() + REACHED_S
        while self.failpoint.exists():
            assert time.monotonic() < deadline, f"{self.failpoint.read_text()} was not reached"
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
async def world(server, tmp_path_factory):
    """(processes, client, client of a token with a spend cap, sink, database url)"""
    name = server.clone()
    url = server.app_url.replace("/speedsms?", f"/{name}?")
    folder = tmp_path_factory.mktemp("crash")
    (folder / "run").mkdir()
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(Sink().open())
        tokens = await prepare(url, folder, sink)
        processes = await stack.enter_async_context(Processes(folder, url).running())
        client, capped = (Client(processes.base, token, random.Random(1)) for token in tokens)
        capped.sent = client.sent
        await stack.enter_async_context(client.open())
        await stack.enter_async_context(capped.open())
        yield processes, client, capped, sink, url


async def prepare(url, folder, sink):
    """Makes an account with money and a webhook. Its token, and one whose requests go alone."""
    capped = admin.new_token()
    async with Database(url, name="test") as db:
        ready = await demo.welcome(db, folder, "", demo=True)
        async with db.transaction() as connection:
            await admin.add_token(connection, "demo", capped, spend_cap_day_vnd=10**9)
            await admin.set_account(connection, "demo", {"rate_limit": 1_000_000})
        await endpoints.add(db, 1, "report", sink.url, "whsec_" + "A" * 43 + "=")
    return ready["token"], capped


@pytest.fixture(scope="module")
async def carriers(world):
    """A carrier for the numbers 0913…, and their next route; from now on the simulator takes nothing."""
    *_, url = world
    async with AsyncExitStack() as stack:
        async with Database(url, name="test") as db, db.transaction() as connection:
            for route in await routing.routes(connection):
                await routing.remove_route(connection, route.id)
        both = Smsc(PLAIN), Smsc(PLAIN)
        for priority, smsc in enumerate(both):
            port = await smsc.start()
            stack.push_async_callback(smsc.stop)
            settings = DEFAULTS | {"hosts": [f"127.0.0.1:{port}"]}
            async with Database(url, name="test") as db, db.transaction() as connection:
                await routing.add_channel(connection, f"carrier{priority}", "smpp", settings)
                await routing.add_route(
                    connection, f"carrier{priority}", priority=priority, prefixes=["84913"]
                )
        for smsc in both:
            await smsc.until(lambda: smsc.counts["binds"], REACHED_S)  # noqa: B023 - awaited at once
        yield both


@pytest.mark.parametrize("step", [f"S{n}" for n in range(1, 18)])
@pytest.mark.parametrize("action", ACTIONS)
async def test_a_process_that_ends_between_two_steps(world, step, action):
    """A keyed request, repeated until it succeeds, is executed once, ended and told; the books agree."""
    processes, client, capped, sink, url = world
    # Only a request that goes alone has a transaction open between S3 and S5.
    sender = capped if step == "S4" else client
    sent = client.make(keyed=True)
    await play(processes, step, action, sender.insist(sent))
    await drained(url)
    print(check(url, client.sent, sink))
    assert delivered(url, sent)


@pytest.mark.parametrize(("step", "action"), CARRIED)
async def test_a_process_that_ends_with_a_carrier(world, carriers, step, action):
    """The same on the channel `smpp`; what carriers got twice was unknown, and came once more at most."""
    processes, client, _, sink, url = world
    sent = client.make(keyed=True)
    sent.phones = [f"0913{len(client.sent):06d}"]
    await play(processes, step, action, client.insist(sent))
    await drained_by_policy(url)
    print(check(url, client.sent, sink))
    assert delivered(url, sent)
    taken = [s for s in submits(*carriers) if s.taken and s.number[2:] == sent.phones[0][1:]]
    assert 1 <= len(taken) <= 2
    assert len(taken) == 1 or "unknown" in happened(url, sent)


async def play(processes, step, action, sending):
    """Arm the step, send, and wait until a process met it."""
    began = datetime.now(UTC)
    armed = processes.failpoint.with_suffix(".new")
    armed.write_text(f"{step}={action}")
    armed.rename(processes.failpoint)
    await sending
    await processes.reached()
    print(f"{(datetime.now(UTC) - began).total_seconds():.1f} s")


def delivered(url, sent):
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT count(*) FROM final f JOIN request r ON r.id = f.message >> 7"
            " WHERE r.content = %s AND f.status = 0",
            [sent.content],
        ).fetchone() == (1,)


def happened(url, sent):
    """Kinds of its events."""
    with psycopg.connect(url) as connection:
        sql = "SELECT e.kind FROM event e JOIN request r ON r.id = e.message >> 7 WHERE r.content = %s"
        return {kind for (kind,) in connection.execute(sql, [sent.content])}
