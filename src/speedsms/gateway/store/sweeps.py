"""What was left behind: attempts of dead processes, unknown outcomes, ended lives, old rows (design §6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from speedsms.gateway.store.attempts import GRACE, ORPHAN_LIFE
from speedsms.gateway.store.db import Connection, Database, Lock, fetch
from speedsms.gateway.store.nodes import LEASE_S, QUIET_S, session_name
from speedsms.gateway.store.receipts import Receipt

SWEEPER: Final = 0  # the node id under which the sweep records


@dataclass(frozen=True, slots=True)
class Left:
    """An attempt that nobody will record. said: sent, else unknown, whatever the clock did; None if neither.

    retried: its message had its one new attempt after an unknown one.
    """

    message: int
    attempt: int
    tries: int
    account_id: int
    channel_id: int
    lane: int
    pool: int
    expires_at: datetime
    price_vnd: int
    test: bool
    said: str | None
    retried: bool


_LEFT: Final = """
SELECT f.message, f.attempt, f.tries, f.account_id, f.channel_id, f.lane, f.pool, f.expires_at, m.price_vnd,
    q.test,
    (SELECT min(e.kind) FROM event e WHERE e.account_id = f.account_id AND e.message = f.message
        AND e.attempt = f.attempt AND e.kind IN ('sent', 'unknown')),
    EXISTS (SELECT FROM event e WHERE e.account_id = f.account_id AND e.message = f.message
        AND e.kind = 'retried')
FROM f
JOIN message m ON m.account_id = f.account_id AND m.id = f.message
JOIN request q ON q.tran_id = tran_id_of(f.message >> 7) AND q.id = f.message >> 7
"""


async def dead_nodes(connection: Connection) -> list[int]:
    """The nodes whose lease ran out or whose connection is gone; their rows are locked in this
    transaction.
    """
    rows = await fetch(
        connection,
        "SELECT id FROM node WHERE lease_until < now()"
        " OR lease_until < now() + make_interval(secs => %(quiet)s)"
        " AND pg_try_advisory_xact_lock(%(lock)s, id)"
        " ORDER BY id FOR UPDATE SKIP LOCKED",
        {"lock": Lock.NODE, "quiet": LEASE_S - QUIET_S},
    )
    return [row[0] for row in rows]


async def left_by(connection: Connection, nodes: Sequence[int]) -> list[Left]:
    """Attempts that these nodes started and never recorded."""
    # What was started long before the lease ended was recorded long ago: a submit times out in a minute.
    rows = await fetch(
        connection,
        "WITH f AS (SELECT f.* FROM flight f JOIN node n ON n.id = f.node_id"
        " WHERE n.id = ANY(%(nodes)s::int[]) AND f.started_at > n.lease_until - interval '15 minutes')"
        + _LEFT
        + " WHERE NOT EXISTS (SELECT FROM event e WHERE e.account_id = f.account_id AND e.message = f.message"
        " AND e.attempt = f.attempt AND e.kind IN ('sent', 'unknown'))",
        {"nodes": list(nodes)},
    )
    return [Left(*row) for row in rows]


async def bury_nodes(connection: Connection, nodes: Sequence[int]) -> None:
    """A process that only hangs may keep its sessions, and with them their locks: they are ended."""
    await connection.execute("DELETE FROM node WHERE id = ANY(%s)", (list(nodes),))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = ANY(%s) AND usename = current_user AND pid <> pg_backend_pid()",
        (list(map(session_name, nodes)),),
    )


async def due_flights(connection: Connection, at: datetime, most: int) -> list[Left]:
    """Attempts whose policy or whose life says that something must happen now."""
    rows = await fetch(
        connection,
        "WITH f AS MATERIALIZED (SELECT * FROM flight WHERE due <= %(at)s ORDER BY due LIMIT %(most)s"
        " FOR UPDATE SKIP LOCKED)" + _LEFT,
        {"at": at, "most": most},
    )
    return [Left(*row) for row in rows]


async def claim_expired(connection: Connection, at: datetime, most: int) -> list[Left]:
    """Queued messages whose life is over, taken out of the queue as started by nobody."""
    rows = await fetch(
        connection,
        "WITH d AS (DELETE FROM ready"
        " WHERE ctid = ANY(ARRAY(SELECT ctid FROM ready WHERE expires_at <= %(at)s"
        " LIMIT %(most)s FOR UPDATE SKIP LOCKED)) RETURNING *),"
        " f AS (INSERT INTO flight"
        " SELECT message, attempt + 1, tries, account_id, 0, 0, lane, pool, %(at)s, expires_at,"
        " expires_at + %(grace)s FROM d RETURNING *)" + _LEFT,
        {"at": at, "most": most, "grace": GRACE},
    )
    return [Left(*row) for row in rows]


async def complete_parts(connection: Connection, at: datetime, most: int) -> list[Receipt]:
    """Messages all of whose parts were reported, but to two processes at once, so that neither saw all."""
    rows = await fetch(
        connection,
        "SELECT r.channel_id, p.message, max(p.attempt), max(p.part), max(r.parts), max(p.status)"
        " FROM part_final p"
        " JOIN reference r ON r.message = p.message AND r.part = p.part AND r.parts > 1"
        " GROUP BY 1, 2 HAVING count(DISTINCT p.part) = max(r.parts) LIMIT %(most)s",
        {"most": most},
    )
    return [
        Receipt(channel, "", (), None, message, attempt, part, parts, False, status, "", b"", None, at, at)
        for channel, message, attempt, part, parts, status in rows
    ]


_OLD: Final = (
    ("idempotency", "at", timedelta(hours=24)),
    ("receipt", "received_at", ORPHAN_LIFE),
    ("doubt", "until", timedelta(0)),
    ("concat", "at", timedelta(days=3)),
    ("incoming_part", "received_at", timedelta(days=3)),
    ("spend", "at", timedelta(days=2)),
    ("ad_sent", "at", timedelta(hours=24)),
    ("setup_link", "expires_at", timedelta(0)),
)


async def tidy(db: Database, at: datetime, *, messages_days: int, attempts_days: int) -> list[str]:
    """Make the partitions of the coming weeks, drop and delete what is past its time; the names of what
    went.
    """
    gone: list[str] = []
    for table in ("request", "message", "event", "final", "reference", "attempt_log"):
        for weeks in range(3):
            week = at + timedelta(weeks=weeks)
            await db.rows("SELECT make_partition(%(table)s, %(week)s)", table=table, week=week)
    ages = {
        "request": messages_days,
        "message": messages_days,
        "event": messages_days,
        "final": messages_days,
    }
    for table, days in (ages | {"attempt_log": attempts_days, "reference": 10}).items():
        rows = await db.rows(
            "SELECT drop_partitions(%(table)s, %(before)s)", table=table, before=at - timedelta(days=days)
        )
        gone += [row[0] for row in rows]
    for table, column, age in _OLD:
        count = await db.execute(f"DELETE FROM {table} WHERE {column} < %(before)s", before=at - age)
        if count:
            gone.append(f"{count} rows of {table}")
    return gone
