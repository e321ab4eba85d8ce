"""Starts, adopts, watches and stops one embedded PostgreSQL, as its only supervisor (stack.md §5)."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, TypeAlias
from urllib.parse import quote

import psycopg
from psycopg.rows import TupleRow

from speedsms.gateway.store.embedded import home as homes
from speedsms.gateway.store.embedded import tuning
from speedsms.gateway.store.embedded.binaries import Binaries, ClusterFailed, copied, locate, reachable
from speedsms.gateway.store.embedded.home import APPLICATION, OWNER, Home
from speedsms.gateway.store.embedded.postmaster import PidFile, Postmaster, adoptable, clean, survivors

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

FAST_STOP_S, QUICK_STOP_S = 30.0, 10.0
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STATUS_S = 5.0
# Recovery writes its progress every 5 s; the one long silence is the checkpoint at its end.
SILENCE_S = 300.0
# Limits of the application's sessions (stack.md DB-6), kept by the server itself.
LIMITS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """`unsafe_fsync_off` is for tests only: with it a power cut loses acknowledged messages."""

    data_dir: Path
    bin_dir: Path | None = None
    run_as: str | None = None
    unsafe_fsync_off: bool = False


class Cluster:
    """One PostgreSQL over one data directory. `tell` hears each change of state in one plain sentence."""

    def __init__(self, settings: ClusterSettings, tell: Callable[[str], None] = lambda _: None) -> None:
        self.first_start = False
        self._settings = settings
        self._tell = tell
        self._home = Home(settings.data_dir, None)
        self._lock: int | None = None
        self._socket_dir: Path | None = None
        self._server: Postmaster | None = None
        self._stopping = asyncio.Event()
        self._logged = 0

    @property
    def url(self) -> str:
        """For the application: it may not alter tables."""
        return self._url(APPLICATION, APPLICATION)

    @property
    def admin_url(self) -> str:
        """For migrations and backups: owns the database."""
        return self._url(OWNER, APPLICATION)

    @property
    def pid(self) -> int | None:
        """Of the running server."""
        return self._server.pid if self._server else None

    def binaries(self) -> Binaries:
        """The programs that fit the data directory; raises ClusterFailed."""
        major = self._home.major()
        if major is None:
            return locate(self._settings.bin_dir)
        try:
            return locate(self._settings.bin_dir, lambda found: found == major)
        except ClusterFailed as error:
            fix = "install that version, or move the data with backup and restore"
            raise ClusterFailed(
                f"{self._home.pgdata} was made by PostgreSQL {major}; {error.reason}", fix
            ) from None

    async def start(self) -> None:
        """Returns when the database answers; raises ClusterFailed with one line of reason."""
        self._stopping.clear()
        try:
            self._home = homes.open_home(self._settings.data_dir, self._settings.run_as)
            self._lock = homes.lock(self._home)
            self.first_start = self._home.major() is None
            await self._launch()
        except OSError as error:
            await self.stop()
            raise homes.explained(self._home, str(error)) from error
        except BaseException:
            await self.stop()
            raise

    async def watch(self) -> None:
        """Restarts the server whenever it dies, after 0.5 to 30 s; returns once `stop` is called."""
        clock = asyncio.get_running_loop().time
        pause_s, since = PAUSE_S, clock()
        while not await self._stopped_within(0.2):
            homes.rotate(self._home.log)
            if self._server and self._server.alive():
                continue
            # One that dies soon after each start, as on a full disk, is not started twice a second.
            pause_s = PAUSE_S if clock() - since > LONGEST_PAUSE_S else pause_s
            self._tell(f"PostgreSQL has ended; it is started again in {pause_s:g} s.")
            if await self._stopped_within(pause_s):
                return
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            try:
                await self._launch()
                self._tell("PostgreSQL is ready again.")
            except (OSError, ClusterFailed) as error:
                if self._stopping.is_set():
                    return
                self._tell(f"PostgreSQL could not be started: {error}.")
            since = clock()

    async def stop(self) -> None:
        """Ends sessions and stops cleanly; after 30 s at once, and the next start recovers."""
        self._stopping.set()
        for number, limit_s in ((signal.SIGINT, FAST_STOP_S), (signal.SIGQUIT, QUICK_STOP_S)):
            if self._server and self._server.alive():
                self._server.send(number)
                await self._ended_within(self._server, limit_s)
        if self._server and self._server.alive():
            raise ClusterFailed(f"PostgreSQL (process {self._server.pid}) does not end", "look at its disk")
        self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _launch(self) -> None:
        self._logged = self._home.log.stat().st_size if self._home.log.exists() else 0
        if await self._adopted():
            return
        self._server = await self._spawned()
        if not await self._ready(self._server):
            raise homes.explained(self._home, self._log_since_launch())
        await self._provide()

    async def _adopted(self) -> bool:
        """Takes over what a killed parent left, if it stays alive and lets us in (stack.md EP-3)."""
        self._server = server = adoptable(self._home.pgdata)
        if server is None or not await self._ready(server):
            return False
        try:
            await self._provide()
        except ClusterFailed:
            # A server that was killed with its parent looks alive and ready for another moment.
            await self._ended_within(server, 1.0)
            if server.alive():
                raise
            return False
        self._tell(f"PostgreSQL (process {server.pid}) was still running and is taken over.")
        return True

    async def _spawned(self) -> Postmaster:
        home = self._home
        binaries = await asyncio.to_thread(self._usable_binaries)
        if home.major() is None:
            await asyncio.to_thread(
                homes.give_birth, home, binaries, sync=not self._settings.unsafe_fsync_off
            )
        socket_dir = homes.make_socket_dir(home)
        await self._survivors_gone()
        clean(home.pgdata, socket_dir)
        arguments = [*homes.write_configuration(home, binaries), *self._fixed(socket_dir)]
        if self._stopping.is_set():
            raise ClusterFailed("PostgreSQL is being stopped", "start it again later")
        with os.fdopen(os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
            # A session of its own: Ctrl-C at a terminal is for us; the database must outlive our drain.
            child = subprocess.Popen(  # noqa: S603, ASYNC220 - a fork takes 1 ms; uvloop's own cannot drop root
                [binaries.program("postgres"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **home.identity,
            )
        return Postmaster(child.pid, home.pgdata, child)

    def _usable_binaries(self) -> Binaries:
        binaries, account = self.binaries(), self._home.account
        if account and not reachable(binaries, account):
            return copied(binaries, self._home.root / "binaries")
        return binaries

    def _fixed(self, socket_dir: Path) -> list[str]:
        """Settings above every file: no network, and the guards of acknowledged messages."""
        durable = "off" if self._settings.unsafe_fsync_off else "on"
        fixed = dict.fromkeys(tuning.DURABLE, durable) | {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(socket_dir),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
        }
        return [part for name, value in fixed.items() for part in ("-c", f"{name}={value}")]

    async def _ready(self, server: Postmaster) -> bool:
        """Waits while the server makes progress; False once it has ended (stack.md EP-8)."""
        waited_s = silent_s = 0.0
        size = 0
        while server.alive():
            state = PidFile.read(self._home.pgdata)
            if state and state.pid == server.pid and state.status == "ready":
                self._socket_dir = (
                    state.socket_dir
                )  # an adopted server's may differ from what we would choose
                return True
            await asyncio.sleep(0.01)
            waited_s += 0.01
            silent_s = silent_s + 0.01 if size == (size := self._home.log.stat().st_size) else 0.0
            if silent_s > SILENCE_S:
                raise ClusterFailed("PostgreSQL starts without any progress", f"see {self._home.log}")
            if waited_s >= STATUS_S:
                waited_s = 0.0
                self._tell(
                    f"PostgreSQL is still starting: {self._log_since_launch().rpartition(']')[2].strip()}."
                )
        return False

    async def _provide(self) -> None:
        """Refuses unsafe settings and makes the role and the database that the first start lacks."""
        try:
            async with await psycopg.AsyncConnection.connect(
                self._url(OWNER, "postgres"), autocommit=True, connect_timeout=5
            ) as connection:
                if not self._settings.unsafe_fsync_off:
                    await _refuse_unsafe(connection)
                await _provide_database(connection, self._home.password(APPLICATION))
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            raise ClusterFailed(f"PostgreSQL does not let us in ({said})", f"see {self._home.log}") from error

    async def _survivors_gone(self) -> None:
        for _ in range(300):
            if not survivors(self._home.pgdata):
                return
            await asyncio.sleep(0.01)
        left = ", ".join(map(str, survivors(self._home.pgdata)))
        raise ClusterFailed(f"processes {left} still work in {self._home.pgdata}", "end them")

    async def _ended_within(self, server: Postmaster, limit_s: float) -> None:
        for _ in range(int(limit_s / 0.01)):
            if not server.alive():
                return
            await asyncio.sleep(0.01)

    async def _stopped_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    def _url(self, role: str, database: str) -> str:
        socket_dir = self._socket_dir or self._home.socket_dir
        return (
            f"postgresql://{role}:{self._home.password(role)}@/{database}"
            f"?host={quote(str(socket_dir), safe='')}"
        )

    def _log_since_launch(self) -> str:
        with self._home.log.open("rb") as log:
            log.seek(self._logged)
            return log.read(100_000).decode("utf8", "replace")


async def _one(connection: Connection, statement: LiteralString, *values: Any) -> TupleRow | None:
    return await (await connection.execute(statement, values)).fetchone()


async def _provide_database(connection: Connection, password: str) -> None:
    """The application's role, with its limits, and the database; what is there already stays as it is."""
    if not await _one(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", APPLICATION):
        limits = "".join(
            f"ALTER ROLE {APPLICATION} SET {name} = '{value}';" for name, value in LIMITS.items()
        )
        # One implicit transaction: the role is never met without its limits.
        role = f"CREATE ROLE {APPLICATION} LOGIN PASSWORD '{password}'; {limits}"
        await connection.execute(role.encode())
    if not await _one(connection, "SELECT 1 FROM pg_database WHERE datname = %s", APPLICATION):
        await connection.execute(f"CREATE DATABASE {APPLICATION} OWNER {OWNER}")
        await connection.execute(f"REVOKE TEMPORARY ON DATABASE {APPLICATION} FROM PUBLIC")


async def _refuse_unsafe(connection: Connection) -> None:
    """Looks at what an adopted server runs with, and at files, though our arguments overrule these."""
    found = await _one(
        connection,
        """
        SELECT name, 'the running server' FROM pg_settings
         WHERE name = ANY(%s) AND setting <> 'on'
        UNION ALL
        SELECT name, sourcefile FROM pg_file_settings
         WHERE name = ANY(%s) AND lower(setting) NOT IN ('on', 'true', 'yes', '1')
        """,
        *(2 * [list(tuning.DURABLE)]),
    )
    if found:
        name, place = found
        raise ClusterFailed(
            f"{name} is switched off in {place}", "remove that: acknowledged messages rest on it"
        )
