"""Connections to PostgreSQL, and the one place where the driver's errors become ours (DB-8).

DatabaseAway     nothing happened: no connection, or the server refused before it did anything
CommitUnknown    the connection died while a statement ran: it may or may not have committed
Everything else the driver raises is a bug of ours and stays as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from typing import Any, Self, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg.pq import TransactionStatus

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = AsyncConnection[Row]

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_S = 30
RETRIES = 5
_HOT = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"

# The server's answers that mean "try again, nothing happened" (DB-8) …
_RETRY = (pg.SerializationFailure, pg.DeadlockDetected)
# … and those of a server that starts, stops, is full or read-only (D1, D2, D7, D11).
_AWAY = (
    pg.AdminShutdown,
    pg.CannotConnectNow,
    pg.CrashShutdown,
    pg.DiskFull,
    pg.InsufficientResources,
    pg.LockNotAvailable,
    pg.QueryCanceled,
    pg.ReadOnlySqlTransaction,
    pg.TooManyConnections,
)


class Lock(IntEnum):
    """Classes of advisory locks, all there are beside `migrate.ONE_RUNNER`, and what the second key names."""

    NODE = 7302  # a node, as long as it lives
    OUTBOX = 7303  # a shard of the outbox
    CONCAT = 7304  # 0: who gives out concatenation references
    INCOMING = 7305  # the parts of one long incoming message
    LISTENERS = 7306  # an account, whose listeners are counted


class DatabaseAway(Exception):  # noqa: N818 - it names a state of the world, not a mistake
    """Nothing happened, and the same call may work later."""


class CommitUnknown(Exception):  # noqa: N818 - see above
    """The connection died around COMMIT: the effect has to be looked up before anything is said."""

    def __init__(self, backend: int) -> None:
        super().__init__(f"connection of server process {backend} lost while a statement ran")
        self.backend = backend


def _translate(connection: Connection | None, error: psycopg.Error) -> Exception:
    if isinstance(error, _AWAY + _RETRY):
        return DatabaseAway(str(error).strip())
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        if connection is None:
            return DatabaseAway(str(error).strip())
        if connection.closed or connection.broken:
            return CommitUnknown(getattr(connection, "backend", 0))
    return error


class Session(AsyncConnection[Row]):
    """A connection that remembers its server process, which is asked after when the link is lost."""

    backend = 0


async def fetch(connection: Connection, sql: str, params: dict[str, Any] | None = None) -> list[Row]:
    """Run one statement and give its rows; retries what certainly did nothing."""
    for attempt in range(RETRIES + 1):
        try:
            cursor = await connection.execute(sql, params, binary=True)
            # Not `description`, which describes each column.
            return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []
        except _RETRY as error:
            # Inside a transaction the whole of it has to begin again, which is its owner's matter.
            if attempt == RETRIES or connection.info.transaction_status != TransactionStatus.IDLE:
                raise _translate(connection, error) from error
        except psycopg.Error as error:
            raise _translate(connection, error) from error
    raise AssertionError


@asynccontextmanager
async def within(connection: Connection) -> AsyncIterator[None]:
    """BEGIN … COMMIT on a connection of one's own; rolled back when the block raises."""
    try:
        async with connection.transaction():
            yield
    except psycopg.Error as error:
        raise _translate(connection, error) from error


class Database:
    """A few pooled connections, and dedicated ones for the loops that live on one."""

    def __init__(self, url: str, *, name: str, prepare: bool = True, size: int = 6) -> None:
        self.url = url
        self._name = name
        self._prepare_threshold = 1 if prepare else None
        self._idle: list[Session] = []
        self._slots = asyncio.Semaphore(size)
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Prove that the database answers. Raises DatabaseAway."""
        await self.rows("SELECT 1")

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def connect(self, *, hot: bool = False, off: Iterable[str] = ()) -> Session:
        """A connection of one's own, in autocommit. hot: for the few statements that run all the time.

        Those are planned once and always walk their indexes: planning each claim anew costs three times the
        claim, and a plan made for an empty queue must not read a full one from end to end (DB-4).
        off: settings of the server that are off here, in force from the first statement on.
        """
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c timezone=UTC -c jit=off"
        options += (_HOT if hot else "") + "".join(f" -c {name}=off" for name in off)
        try:
            session = await Session.connect(
                self.url,
                autocommit=True,
                prepare_threshold=self._prepare_threshold,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name=self._name,
                options=options,
            )
        except psycopg.Error as error:
            raise _translate(None, error) from error
        session.prepared_max = 200
        session.backend = session.info.backend_pid
        return session

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A pooled connection in autocommit, for a few statements that need no transaction."""
        async with self._slots:
            session = self._idle.pop() if self._idle else await self.connect()
            try:
                yield session
            finally:
                if session.broken or session.closed or self._closed:
                    await session.close()
                else:
                    self._idle.append(session)

    async def rows(self, sql: str, **params: Any) -> list[Row]:
        """One statement on a pooled connection."""
        async with self.session() as session:
            return await fetch(session, sql, params)

    async def read(self, sql: str, **params: Any) -> list[Row]:
        """Like `rows`, for statements without effect: a connection lost on the way is tried again once."""
        try:
            return await self.rows(sql, **params)
        except CommitUnknown:
            self._forget_idle()
        try:
            return await self.rows(sql, **params)
        except CommitUnknown as error:
            raise DatabaseAway(str(error)) from error

    async def execute(self, sql: str, **params: Any) -> int:
        """Run one statement without result; the number of rows it touched."""
        async with self.session() as session:
            try:
                return (await session.execute(sql, params)).rowcount
            except psycopg.Error as error:
                raise _translate(session, error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """BEGIN … COMMIT on a pooled connection; rolled back when the block raises."""
        async with self.session() as session, within(session):
            yield session

    def _forget_idle(self) -> None:
        """After a server restart every idle connection is dead; finding out one by one costs a call each."""
        stale, self._idle = self._idle, []
        for session in stale:
            session.pgconn.finish()


async def settle_backend(db: Database, backend: int) -> None:
    """Make sure that a lost connection's server process does nothing more. Raises DatabaseAway.

    Without this a statement could still commit after it was looked up and not found.
    """
    while await db.read(  # noqa: ASYNC110 - the event is another process's end
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid = %(pid)s AND usename = current_user AND pid <> pg_backend_pid()",
        pid=backend,
    ):
        await asyncio.sleep(0.01)


async def listen(db: Database, channels: tuple[str, ...], wake: Callable[[str, str], None]) -> None:
    """Call wake(channel, payload) at each notification, until cancelled or the connection is lost (DB-5)."""
    connection = await db.connect()
    try:
        for channel in channels:
            await connection.execute(f"LISTEN {channel}")
        async for notice in connection.notifies():
            wake(notice.channel, notice.payload)
    except psycopg.Error as error:
        raise DatabaseAway(str(error)) from error
    finally:
        with suppress(psycopg.Error):
            await connection.close()


async def persist(work: Callable[[], Awaitable[None]], first_s: float = 0.1, most_s: float = 2.0) -> None:
    """Run a loop that needs the database, and begin it again whenever the database comes back."""
    pause = first_s
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await work()
        except (DatabaseAway, CommitUnknown):
            if asyncio.get_running_loop().time() - started > most_s:
                pause = first_s
            await asyncio.sleep(pause)
            pause = min(pause * 2, most_s)
        else:
            return
