"""The crash points S1 to S17 of invariants §2, each killed, broken and stalled, on the simulator channel."""

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
from checker import check, drained
from journals import Client, Sink

from speedsms.gateway.app import demo
from speedsms.gateway.store import admin, endpoints
from speedsms.gateway.store.db import Database

pytestmark = [pytest.mark.anyio, pytest.mark.faults, pytest.mark.timeout(60)]

STALL_S = 5 if os.environ.get("SPEEDSMS_FAULTS") == "full" else 1
REACHED_S = 20


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


@pytest.mark.parametrize("step", [f"S{n}" for n in range(1, 18)])
@pytest.mark.parametrize("action", ["kill", "raise", f"stall:{STALL_S}"])
async def test_a_process_that_ends_between_two_steps(world, step, action):
    """A keyed request, repeated until it succeeds, is executed once, ended and told; the books agree."""
    processes, client, capped, sink, url = world
    began = datetime.now(UTC)
    armed = processes.failpoint.with_suffix(".new")
    armed.write_text(f"{step}={action}")
    armed.rename(processes.failpoint)
    # Only a request that goes alone has a transaction open between S3 and S5.
    sender = capped if step == "S4" else client
    sent = client.make(keyed=True)
    await sender.insist(sent)
    await processes.reached()
    await drained(url)
    print(check(url, client.sent, sink), f"{(datetime.now(UTC) - began).total_seconds():.1f} s")
    with psycopg.connect(url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM final f JOIN request r ON r.id = f.message >> 7"
            " WHERE r.content = %s AND f.status = 0",
            [sent.content],
        ).fetchone() == (1,)
