"""`serve`: PostgreSQL if it is embedded, then a process per role, restarted when it dies (design §3)."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from speedsms.gateway.app import declared
from speedsms.gateway.app import demo as demos
from speedsms.gateway.config import Loaded, Settings
from speedsms.gateway.store.db import Database, DatabaseAway
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings
from speedsms.gateway.store.failed import StoreFailed
from speedsms.gateway.store.migrate import migrate, pending

OK, REFUSED, MISCONFIGURED, UNREACHABLE = 0, 1, 3, 4
_PAUSE_S: Final = (0.2, 10.0)
_STEADY_S: Final = 5.0  # a child that lived so long starts again without a pause
_STOP_S: Final = 9.0  # after it a child is killed: everything has ended within 10 s (design §3)
_PORT_WAIT_S: Final = 12.0  # children of a killed supervisor let go of the port when they have drained


def _say(sentence: str) -> None:
    sys.stderr.write(f"speedsms: {sentence}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class _Child:
    """One process of the gateway. command: its arguments after `python -m speedsms.gateway.app`."""

    name: str
    role: str


class Supervisor:
    """Keeps the children alive until told to stop."""

    def __init__(
        self, settings: Settings, url: str, listening: socket.socket | None, stop: asyncio.Event
    ) -> None:
        self._settings = settings
        self._url = url
        self._listening = listening
        self._stop = stop
        self._pids: dict[str, int] = {}
        self._lifeline, self._own_end = os.pipe()

    async def living(self, db: Database) -> bool:
        """Whether every child has taken its place; those of an earlier start may still have theirs."""
        rows = await db.read(
            "SELECT count(*) FROM node"
            " WHERE host = %(host)s AND pid = ANY(%(pids)s::int[]) AND lease_until > now()",
            host=socket.gethostname(),
            pids=list(self._pids.values()),
        )
        return bool(self._pids) and rows[0][0] == len(self._pids)

    async def run(self, children: list[_Child]) -> None:
        self._pids = {child.name: 0 for child in children}
        try:
            await asyncio.gather(*(self._keep(child) for child in children))
        finally:
            os.close(self._own_end)
            os.close(self._lifeline)

    async def _keep(self, child: _Child) -> None:
        pause_s = _PAUSE_S[0]
        while not self._stop.is_set():
            started = time.monotonic()
            process = await self._start(child)
            ended = asyncio.create_task(process.wait())
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if self._stop.is_set():
                if self._listening:
                    self._listening.close()  # the port is free when the last process lets go of it
                await _end(process, ended)
                return
            if time.monotonic() - started > _STEADY_S:
                pause_s = _PAUSE_S[0]
            why = _why(process.returncode)
            _say(f"the {child.name} process ended ({why}); it is started again in {pause_s:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            pause_s = min(pause_s * 2, _PAUSE_S[1])

    async def _start(self, child: _Child) -> asyncio.subprocess.Process:
        fds = [self._lifeline]
        arguments = [child.role, child.name, str(self._lifeline)]
        if child.role == "api" and self._listening:
            fds.append(self._listening.fileno())
            arguments.append(str(self._listening.fileno()))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "speedsms.gateway.app", *arguments, pass_fds=fds, env=self._environment()
        )
        self._pids[child.name] = process.pid
        return process

    def _environment(self) -> dict[str, str]:
        """The children read the same settings; what was decided here is added."""
        own = {
            "SPEEDSMS_DATABASE_URL": self._url,
            "SPEEDSMS_DATA_DIR": str(self._settings.data_dir),
            "SPEEDSMS_HTTP_HOST": self._settings.http.host,
            "SPEEDSMS_HTTP_PORT": str(self._settings.http.port),
            "SPEEDSMS_WEBHOOKS_ALLOW_LOOPBACK": str(self._settings.webhooks.allow_loopback).lower(),
        }
        replaced = {name.replace("__", "_") for name in own}
        kept = {
            n: v for n, v in os.environ.items() if n.replace("__", "_").removesuffix("_FILE") not in replaced
        }
        return kept | own


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
    await asyncio.wait([ended], timeout=_STOP_S)
    if process.returncode is None:
        process.kill()
        await ended


async def listen_on(host: str, port: int) -> socket.socket:
    """The socket that all API processes accept from. Raises OSError if another program has the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + _PORT_WAIT_S
    while True:
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            sock.listen(2048)
            sock.setblocking(False)
            return sock


async def prepare(settings: Settings, cluster: Cluster | None) -> str:
    """The URL that the processes use, once the schema is there. Raises StoreFailed."""
    if cluster:
        await migrate(cluster.admin_url, app_role="speedsms")
        return cluster.url
    url = settings.database.url
    if await pending(url):
        raise StoreFailed("the database's schema is older than this release", "run `speedsms migrate`")
    return url


async def _declare(url: str, loaded: Loaded) -> None:
    """The channels of the file are there before anything sends."""
    async with Database(url, name="speedsms serve", size=1) as db:
        for line in await declared.apply(db, loaded.channels):
            _say(line)


async def _serve(loaded: Loaded, *, role: str, demo: bool, ready_file: Path | None) -> int:
    settings = loaded.settings
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listening = None
    if role in ("all", "api"):
        listening = await listen_on(settings.http.host, settings.http.port)
    cluster = None
    watching: asyncio.Task[None] | None = None
    if not settings.database.url:
        cluster = Cluster(
            ClusterSettings(settings.data_dir, settings.embedded.bin_dir, settings.embedded.run_as), tell=_say
        )
        await cluster.start()
        watching = asyncio.create_task(cluster.watch())
    try:
        url = await prepare(settings, cluster)
        if role != "api" and not demo:  # the demo reaches no real handset
            await _declare(url, loaded)
        supervisor = Supervisor(settings, url, listening, stop)
        children = asyncio.create_task(supervisor.run(_children(settings, role)))
        greeting = asyncio.create_task(
            _greet(settings, url, supervisor, serving=role != "worker", demo=demo, ready_file=ready_file)
        )
        await asyncio.wait([children, greeting], return_when=asyncio.FIRST_COMPLETED)
        if not children.done() and not greeting.exception():
            await asyncio.wait([children])
        stop.set()
        await children
        if greeting.done():
            greeting.result()
        greeting.cancel()
    finally:
        if cluster:
            await cluster.stop()
        if watching:
            await watching
        if listening:
            listening.close()
    return OK


def _children(settings: Settings, role: str) -> list[_Child]:
    apis = [_Child(f"api{n}" if n else "api", "api") for n in range(settings.http.processes)]
    workers = [_Child(f"worker{n}" if n else "worker", "worker") for n in range(settings.worker.processes)]
    return {"all": apis + workers, "api": apis, "worker": workers}[role]


async def _greet(
    settings: Settings,
    url: str,
    supervisor: Supervisor,
    *,
    serving: bool,
    demo: bool,
    ready_file: Path | None,
) -> None:
    """Say where everything is, once everything answers."""
    db = Database(url, name="speedsms serve", size=1)
    try:
        living = False
        while not living:
            await asyncio.sleep(0.05)
            with suppress(DatabaseAway):
                living = await supervisor.living(db)
        if not serving:
            return
        host = f"[{settings.http.host}]" if ":" in settings.http.host else settings.http.host
        base = settings.http.public_url or f"http://{host}:{settings.http.port}"
        ready = await demos.welcome(db, settings.data_dir, base, demo=demo)
        sys.stdout.write(demos.text(ready))
        sys.stdout.flush()
        if ready_file:
            written = ready_file.with_suffix(".new")
            written.write_text(json.dumps(ready))
            written.replace(ready_file)
    finally:
        await db.close()


def serve(loaded: Loaded, *, role: str, demo: bool, ready_file: Path | None) -> int:
    """Run until SIGTERM or Ctrl-C; the exit code of the command."""
    if demo:
        loaded = replace(loaded, settings=demos.settings_of(loaded.settings))
    settings = loaded.settings
    try:
        return asyncio.run(_serve(loaded, role=role, demo=demo, ready_file=ready_file))
    except StoreFailed as error:
        _say(str(error))
        return MISCONFIGURED
    except DatabaseAway as error:
        _say(f"the database does not answer ({error})")
        return UNREACHABLE
    except OSError as error:
        at = f"{settings.http.host}:{settings.http.port}"
        _say(f"{at} cannot be listened on ({error.strerror}); use another port")
        return MISCONFIGURED
