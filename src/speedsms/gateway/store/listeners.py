"""Listeners: endpoints whose owner asks for the events instead of being posted to (docs/reference/v2.md).

Whoever writes outbox rows writes them for listeners too. A row that was handed out has no due time any more
and a new id, given under the lock of its listener: ids grow in the order in which they are seen, whatever
commits late, so an acknowledged id says that nothing below it is missing. Nobody but the holder of that lock
moves rows of a listener.
"""

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from speedsms.contract.webhook import Webhook
from speedsms.gateway.store.db import Database, Lock, fetch
from speedsms.gateway.store.outbox import COLUMNS, SOURCES, TOLD, webhook

LIFE: Final = timedelta(seconds=60)  # without being asked
MOST: Final = 10  # of an account
ROWS: Final = 10_000  # of one listener and kind of event; beyond it the oldest are dropped
BATCH: Final = 100  # events handed out and not acknowledged
_LATE: Final = timedelta(minutes=2)  # after its end no statement still writes rows for a listener


class Event(Struct, frozen=True):
    """`cursor` acknowledges this event and all before it."""

    cursor: int
    event_id: UUID
    webhook: Webhook


class Taken(Struct, frozen=True):
    """What a listener has not acknowledged, the oldest first. dropped: how many it was too slow for."""

    events: tuple[Event, ...]
    dropped: int


async def begin(db: Database, account_id: int, events: Collection[str], now: datetime) -> str | None:
    """A new listener for 'report', 'sms' or both, from now on; None if the account has enough of them."""
    listener = f"lst_{secrets.token_hex(10)}"
    async with db.transaction() as connection:
        await fetch(
            connection,
            "SELECT pg_advisory_xact_lock(%(lock)s, %(account)s)",
            {"lock": Lock.LISTENERS, "account": account_id},
        )
        made = await fetch(
            connection,
            """
            INSERT INTO listener (id, account_id, until) SELECT %(id)s, %(account)s, %(until)s
            WHERE %(most)s > (
                SELECT count(*) FROM listener WHERE account_id = %(account)s AND until > %(now)s)
            RETURNING 1""",
            {"id": listener, "account": account_id, "until": now + LIFE, "now": now, "most": MOST},
        )
        if not made:
            return None
        await fetch(
            connection,
            "INSERT INTO endpoint (account_id, event, url, secrets, listener)"
            " SELECT %(account)s, event, '', '{}', %(id)s FROM unnest(%(events)s::text[]) AS event",
            {"id": listener, "account": account_id, "events": sorted(events)},
        )
    return listener


async def end(db: Database, account_id: int, listener: str, now: datetime) -> bool:
    """Whether there was such a listener; the sweep takes its rows away."""
    return bool(
        await db.rows(
            """
            WITH ended AS (
                UPDATE listener SET until = %(now)s
                WHERE id = %(id)s AND account_id = %(account)s AND until > %(now)s RETURNING id),
            quiet AS (UPDATE endpoint SET enabled = false FROM ended WHERE listener = ended.id)
            SELECT 1 FROM ended""",
            id=listener,
            account=account_id,
            now=now,
        )
    )


_ASKED: Final = """
UPDATE listener SET until = %(until)s WHERE id = %(id)s AND account_id = %(account)s AND until > %(now)s
RETURNING dropped, ARRAY(SELECT endpoint.id FROM endpoint WHERE endpoint.listener = listener.id)
"""
_ACKNOWLEDGE: Final = """
DELETE FROM outbox WHERE endpoint_id = ANY(%(endpoints)s) AND due = 'infinity' AND id <= %(after)s
"""
_HAND_OUT: Final = f"""
WITH fresh AS (
    DELETE FROM outbox WHERE ctid = ANY(ARRAY(
        SELECT o.place FROM unnest(%(endpoints)s::int[]) AS e(id) CROSS JOIN LATERAL (
            SELECT ctid AS place, id FROM outbox WHERE endpoint_id = e.id AND due < 'infinity'
            ORDER BY due, id LIMIT {BATCH}) o
        ORDER BY o.id LIMIT greatest(0, {BATCH} - (
            SELECT count(*) FROM outbox WHERE endpoint_id = ANY(%(endpoints)s) AND due = 'infinity'))))
    RETURNING *)
INSERT INTO outbox (endpoint_id, due, attempt, {COLUMNS})
SELECT endpoint_id, 'infinity', 1, {COLUMNS} FROM fresh ORDER BY id
"""
_HANDED_OUT: Final = f"""
SELECT o.id, o.event_id, {TOLD} FROM outbox o {SOURCES}
WHERE o.endpoint_id = ANY(%(endpoints)s) AND o.due = 'infinity' ORDER BY o.id LIMIT {BATCH}
"""


async def take(
    db: Database, account_id: int, listener: str, *, after: int, wait_s: float, now: datetime
) -> Taken | None:
    """Acknowledge what came up to `after` and hand out the next; None if there is no such listener.

    wait_s: how long it is going to be asked; its life is counted from then on.
    """
    asked = {"id": listener, "account": account_id, "now": now}
    async with db.transaction() as connection:
        until = now + timedelta(seconds=wait_s) + LIFE
        found = await fetch(connection, _ASKED, asked | {"until": until})
        if not found:
            return None
        ((dropped, endpoints),) = found
        rows = {"endpoints": endpoints}
        await fetch(connection, _ACKNOWLEDGE, rows | {"after": after})
        await fetch(connection, _HAND_OUT, rows)
        handed_out = await fetch(connection, _HANDED_OUT, rows)
    # What a row tells of can be removed by age: such a row is acknowledged with the next one.
    told = [(row[0], row[1], webhook(row[2:])) for row in handed_out]
    return Taken(tuple(Event(cursor, event_id, hook) for cursor, event_id, hook in told if hook), dropped)


async def stirring(db: Database, listeners: Collection[str]) -> list[str]:
    """Those of these listeners for which something is there."""
    rows = await db.read(
        "SELECT DISTINCT listener FROM endpoint WHERE listener = ANY(%(listeners)s)"
        " AND EXISTS (SELECT FROM outbox WHERE endpoint_id = endpoint.id)",
        listeners=list(listeners),
    )
    return [listener for (listener,) in rows]


_SWEEP: Final = (
    "UPDATE endpoint SET enabled = false WHERE listener = ANY(%(over)s) AND enabled",
    "DELETE FROM outbox USING endpoint e WHERE e.listener = ANY(%(over)s) AND endpoint_id = e.id",
    "DELETE FROM listener WHERE id = ANY(%(over)s) AND until <= %(late)s",
)
_DROP: Final = f"""
WITH overfull AS MATERIALIZED (
    SELECT l.id AS listener, e.id, o.due, o.id AS last FROM listener l JOIN endpoint e ON e.listener = l.id
    CROSS JOIN LATERAL (
        SELECT due, id FROM outbox WHERE outbox.endpoint_id = e.id
        ORDER BY due DESC, id DESC OFFSET {ROWS} LIMIT 1) o
    FOR UPDATE OF l SKIP LOCKED),
gone AS (
    DELETE FROM outbox USING overfull WHERE outbox.endpoint_id = overfull.id
        AND (outbox.due, outbox.id) <= (overfull.due, overfull.last) RETURNING overfull.listener)
UPDATE listener SET dropped = dropped + (SELECT count(*) FROM gone WHERE gone.listener = listener.id)
WHERE id IN (SELECT listener FROM overfull) RETURNING id, account_id, dropped
"""


async def sweep(db: Database, now: datetime) -> list[tuple[str, int, int]]:
    """End listeners that nobody asks for any more, with their rows; (id, account, dropped) of slow ones."""
    async with db.transaction() as connection:
        over = await fetch(
            connection,
            "SELECT id FROM listener WHERE until <= %(now)s FOR UPDATE SKIP LOCKED",
            {"now": now},
        )
        for sql in _SWEEP if over else ():
            await fetch(connection, sql, {"over": [row[0] for row in over], "late": now - _LATE})
    return [(row[0], row[1], row[2]) for row in await db.rows(_DROP)]
