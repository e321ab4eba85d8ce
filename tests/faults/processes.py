"""An API process and a worker over any database, what they need there, and two carriers for them."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager

from carriers import DEFAULTS, PLAIN

from speedsms.gateway.app import demo
from speedsms.gateway.channels.smpp.smsc import Smsc
from speedsms.gateway.store import admin, endpoints, routing
from speedsms.gateway.store.db import Database

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


@asynccontextmanager
async def two_carriers(url):
    """A carrier for the numbers 0913…, and their next route; from now on the simulator takes nothing."""
    async with Database(url, name="test") as db, db.transaction() as connection:
        for route in await routing.routes(connection):
            await routing.remove_route(connection, route.id)
    both = Smsc(PLAIN), Smsc(PLAIN)
    try:
        for priority, smsc in enumerate(both):
            settings = DEFAULTS | {"hosts": [f"127.0.0.1:{await smsc.start()}"]}
            async with Database(url, name="test") as db, db.transaction() as connection:
                await routing.add_channel(connection, f"carrier{priority}", "smpp", settings)
                await routing.add_route(
                    connection, f"carrier{priority}", priority=priority, prefixes=["84913"]
                )
        for smsc in both:
            await smsc.until(lambda: smsc.counts["binds"], REACHED_S)  # noqa: B023 - awaited at once
        yield both
    finally:
        for smsc in both:
            await smsc.stop()
