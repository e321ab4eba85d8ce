"""Who is alive: one row per process, held by a lease and a session lock (CH-9, invariants I16).

A node is dead when its lease has run out, or a few seconds after its connection is gone: the advisory lock
that it held is free then. A process that only lost the database takes its place again under the same number,
so it can still record what it knows. The number is the fence: what a dead node started, only the sweep
touches.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from speedsms.gateway.store.db import CommitUnknown, Connection, Database, DatabaseAway, Lock, fetch, persist

LEASE_S: Final = 30
_RENEW_S: Final = 2
QUIET_S: Final = 5  # not renewed for so long and its lock free: the process is gone
_MARGIN_S: Final = 10  # a process stopped and resumed must not start anything with what is left


def session_name(node_id: int) -> str:
    """How a session is called that holds locks for a node; whoever buries the node ends it."""
    return f"speedsms node {node_id}"


class Node:
    """This process's place among the living; `id` is None while it has none."""

    def __init__(self, db: Database, role: str, clock: Callable[[], float]) -> None:
        self._db = db
        self._role = role
        self._clock = clock
        self._number: int | None = None
        self._until = 0.0
        self.registered = asyncio.Event()

    @property
    def id(self) -> int | None:
        return self._number if self._clock() < self._until - _MARGIN_S else None

    async def run(self) -> None:
        await persist(self._run)

    async def _run(self) -> None:
        session = await self._db.connect()
        try:
            await self._take_place(session)
            self.registered.set()
            while True:
                await asyncio.sleep(_RENEW_S)
                if not await self._renewed(session):
                    self._number = None
                    raise DatabaseAway("this node was declared dead; it begins again under a new number")
        except asyncio.CancelledError:  # the process has drained, and has nothing to come back to
            with suppress(DatabaseAway, CommitUnknown):
                sql = "UPDATE node SET lease_until = now() WHERE id = %(id)s"
                await fetch(session, sql, {"id": self._number})
            raise
        finally:
            self._until = 0.0
            self.registered.clear()
            await session.close()

    async def _take_place(self, session: Connection) -> None:
        if self._number is not None and await self._renewed(session):
            await fetch(
                session, "SELECT pg_advisory_lock(%(lock)s, %(id)s)", {"lock": Lock.NODE, "id": self._number}
            )
            return
        asked = self._clock()
        rows = await fetch(
            session,
            "INSERT INTO node (role, host, pid, lease_until) VALUES (%(role)s, %(host)s, %(pid)s,"
            " now() + make_interval(secs => %(lease)s)) RETURNING id, pg_advisory_lock(%(lock)s, id)",
            {
                "role": self._role,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "lease": LEASE_S,
                "lock": Lock.NODE,
            },
        )
        self._number, self._until = rows[0][0], asked + LEASE_S

    async def _renewed(self, session: Connection) -> bool:
        """Whether we are still among the living; the lease counts from before the question was asked."""
        asked = self._clock()
        kept = await fetch(
            session,
            "UPDATE node SET lease_until = now() + make_interval(secs => %(lease)s)"
            " WHERE id = %(id)s RETURNING id",
            {"lease": LEASE_S, "id": self._number},
        )
        if kept:
            self._until = asked + LEASE_S
        return bool(kept)
