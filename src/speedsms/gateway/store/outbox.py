"""The outbox: webhooks that are due, what came of each attempt, dead letters and their replay (design §8).

No row is claimed by an update. Endpoints are spread over sixteen shards, a shard belongs to whoever holds its
advisory lock, and only the owner reads its rows. A stale owner does no harm: what it settles must still be
there to be deleted, and a webhook may come twice.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct, json

from speedsms.contract.webhook import Incoming, Report, Webhook
from speedsms.gateway.store.columns import column, each, sparse
from speedsms.gateway.store.db import Connection, Database, Lock, Row, fetch
from speedsms.gateway.store.messages import tran_id_of
from speedsms.gateway.store.nodes import session_name

SHARDS: Final = 16
DELIVERED: Final = "delivered"  # the outcome after which nothing follows
_MICROSECOND: Final = timedelta(microseconds=1)
_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before any row
BATCH: Final = 1000  # rows that one statement replays


class Sample(Struct, frozen=True):
    """What an event says that no message is behind: of a report `tran_id`, of an incoming SMS `content`."""

    phone: str = "0912345678"
    tran_id: int = 0
    content: str = "test"


class Due(Struct, frozen=True, gc=False):  # thousands at a time, and none in a circle
    """An outbox row to be posted. `attempt`: attempts made; webhook None: what it told of is gone.

    place: in the table, as long as the row stands.
    """

    endpoint_id: int
    due: datetime
    id: int
    place: str
    event_id: UUID
    attempt: int
    webhook: Webhook | None


class Room(Struct, frozen=True):
    """How many rows of an endpoint are wanted. after: behind this place (due, id); None: any."""

    endpoint_id: int
    rows: int
    after: tuple[datetime, int] | None = None


class Tried(Struct, frozen=True, gc=False):
    """One attempt and what follows: another at `next_due`, a dead letter with its reason, or nothing."""

    row: Due
    at: datetime
    http_status: int | None
    duration_ms: int
    outcome: str
    detail: str
    next_due: datetime | None = None
    buried: str | None = None


# With joins that read whole tables out of the way too, the plan is good for an empty outbox and a full one.
# A crash of the server can take back the mark of an attempt; the webhook comes twice, so no commit waits.
_OFF: Final = (
    "enable_bitmapscan",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_sort",
    "synchronous_commit",
)


async def connect(db: Database) -> Connection:
    """The connection that owns shards and reads and settles their rows. Raises DatabaseAway."""
    return await db.connect(hot=True, off=_OFF)


async def share_shards(
    connection: Connection, held: Collection[int], now: datetime, node_id: int | None = None
) -> set[int]:
    """Take or give back shards until this process holds its share among the living workers."""
    if node_id is not None:
        sql = "SELECT set_config('application_name', %(name)s, false)"
        await fetch(connection, sql, {"name": session_name(node_id)})
    ((workers,),) = await fetch(
        connection,
        "SELECT count(*) FROM node WHERE role = 'worker' AND lease_until > %(now)s",
        {"now": now},
    )
    share = -(-SHARDS // max(workers, 1))
    keep = sorted(held)[:share]
    await fetch(
        connection,
        "SELECT pg_advisory_unlock(%(lock)s, s) FROM unnest(%(surplus)s::int[]) AS s",
        {"lock": Lock.OUTBOX, "surplus": sorted(set(held) - set(keep))},
    )
    taken = await fetch(
        connection,
        "SELECT s FROM unnest(%(free)s::int[]) AS s WHERE pg_try_advisory_lock(%(lock)s, s) LIMIT %(room)s",
        {"lock": Lock.OUTBOX, "free": sorted(set(range(SHARDS)) - set(held)), "room": share - len(keep)},
    )
    return {*keep, *(shard for (shard,) in taken)}


# What `webhook` takes, and where it stands.
TOLD: Final = """o.kind, o.subject, o.status, o.sequence, o.phone_form, o.sample, m.entry, m.number,
    q.reference, i.sender, i.recipient, i.content"""
SOURCES: Final = """
LEFT JOIN message m ON o.kind = 'report' AND m.account_id = o.account_id AND m.id = o.subject
LEFT JOIN request q ON o.kind = 'report' AND q.tran_id = tran_id_of(o.subject >> 7) AND q.id = o.subject >> 7
LEFT JOIN incoming i ON o.kind = 'sms' AND i.id = o.subject"""

# Who wrote a report's row may have known its number, and its request's reference ('' for none), and put them
# into the row: then there is nothing to be looked up, which costs five times the read.
_DUE: Final = """
SELECT o.endpoint_id, o.due, o.id, o.place::text, o.event_id, o.attempt, o.subject, o.status, o.sequence,
    o.phone_form, o.number, o.reference
FROM unnest(%(endpoint)s::int[], %(room)s::int[], %(after)s::timestamptz[], %(after_id)s::bigint[])
    AS lane(endpoint_id, room, after, after_id)
CROSS JOIN LATERAL (
    SELECT ctid AS place, * FROM outbox
    WHERE outbox.endpoint_id = lane.endpoint_id AND (due, id) > (lane.after, lane.after_id)
        AND due <= %(now)s AND id <> ALL(%(held)s::bigint[])
    ORDER BY due, id LIMIT lane.room) o"""


async def due(
    connection: Connection, rooms: Sequence[Room], held: Collection[int], now: datetime
) -> list[Due]:
    """The oldest due rows of each endpoint, up to its room, but for those whose ids are held already."""
    rows = await fetch(
        connection,
        _DUE,
        {
            "endpoint": [r.endpoint_id for r in rooms],
            "room": [r.rows for r in rooms],
            "after": [r.after[0] if r.after else _EVER for r in rooms],
            "after_id": [r.after[1] if r.after else 0 for r in rooms],
            "held": list(held),
            "now": now,
        },
    )
    told = [_report(row[6:]) for row in rows]
    places = [row[3] for row, report in zip(rows, told, strict=True) if report is None]
    found = await _looked_up(connection, places) if places else {}
    return [
        Due(row[0], row[1], row[2], row[3], row[4], row[5], report or found.get(row[2]))
        for row, report in zip(rows, told, strict=True)
    ]


def _report(row: Row) -> Report | None:
    """What a row tells by itself; None if more is needed than was known when it was written."""
    subject, status, sequence, phone_form, number, reference = row
    if number is None or reference is None or phone_form == "as_sent":
        return None
    return Report(tran_id_of(subject), "", str(number), status, phone_form, sequence, reference)


async def _looked_up(connection: Connection, places: Sequence[str]) -> dict[int, Webhook | None]:
    """What the rows at these places tell, by their ids."""
    rows = await fetch(
        connection,
        f"SELECT o.id, {TOLD} FROM outbox o {SOURCES} WHERE o.ctid = ANY({each('places', 'tid')})",
        {"places": column(places)},
    )
    return {row[0]: webhook(row[1:]) for row in rows}


def webhook(row: Row) -> Webhook | None:
    """What a row tells, of the columns TOLD; None: it is gone."""
    kind, subject, status, sequence, phone_form, sample, *source = row
    entry, number, reference, sender, recipient, content = source
    if sample:
        said = json.decode(sample, type=Sample)
        if kind == "report":
            return Report(said.tran_id, said.phone, "", status, "as_sent", sequence, None)
        return Incoming(said.phone, "test", said.content, "as_sent")
    if kind == "report" and entry is not None:
        return Report(tran_id_of(subject), entry, str(number), status, phone_form, sequence, reference)
    if kind == "sms" and content is not None:
        return Incoming(sender, recipient, content, phone_form)
    return None


COLUMNS: Final = "account_id, event_id, kind, subject, status, sequence, phone_form, created_at, sample"

# A row is found by its place, which the id confirms: vacuum may have given the place away since.
_TRIED: Final = f"""{each("place", "tid")}, {each("id", "bigint")}, {each("at", "bigint")},
    {each("duration_ms", "int")}, {each("http_status", "smallint")}, {each("detail", "text")}"""
_LOGGED: Final = """o.account_id, o.kind, o.subject, o.event_id, o.endpoint_id,
    %(began)s + t.at * interval '1 microsecond' AS at, o.attempt + 1 AS attempt, t.http_status,
    t.duration_ms, {outcome} AS outcome, coalesce(t.detail, '') AS detail"""

# Nearly every batch is this: all were delivered.
_DELIVERED: Final = f"""
WITH gone AS (
    DELETE FROM outbox o USING unnest({_TRIED}) AS t(place, id, at, duration_ms, http_status, detail)
    WHERE o.ctid = t.place AND o.id = t.id RETURNING {_LOGGED.format(outcome="'delivered'")})
INSERT INTO attempt_log SELECT * FROM gone"""
_MIXED: Final = f"""
WITH gone AS (
    DELETE FROM outbox o USING unnest({_TRIED}, {each("outcome", "text")}, {each("next_due", "timestamptz")},
        {each("buried", "text")})
        AS t(place, id, at, duration_ms, http_status, detail, outcome, next_due, buried)
    WHERE o.ctid = t.place AND o.id = t.id
    RETURNING {_LOGGED.format(outcome="t.outcome")}, t.next_due, t.buried, o.status, o.sequence, o.phone_form,
        o.created_at, o.sample),
again AS (
    INSERT INTO outbox (endpoint_id, due, attempt, {COLUMNS})
    SELECT endpoint_id, next_due, attempt, {COLUMNS} FROM gone WHERE next_due IS NOT NULL),
dead AS (
    INSERT INTO buried (endpoint_id, buried_at, reason, {COLUMNS})
    SELECT endpoint_id, at, buried, {COLUMNS} FROM gone WHERE buried IS NOT NULL)
INSERT INTO attempt_log SELECT account_id, kind, subject, event_id, endpoint_id, at, attempt, http_status,
    duration_ms, outcome, detail, next_due FROM gone"""


def _line(detail: str) -> str:
    """A reply is shown as text of several lines; only what a joined column does not take is replaced."""
    return detail.replace("\0", "\ufffd").replace("\x1f", "\ufffd")


async def settle(connection: Connection, tried: Sequence[Tried]) -> None:
    """Write what came of attempts, in one statement; saying it twice changes nothing."""
    began = tried[0].at
    params: dict[str, object] = {
        "place": column(t.row.place for t in tried),
        "id": column(t.row.id for t in tried),
        "began": began,
        "at": column((t.at - began) // _MICROSECOND for t in tried),
        "duration_ms": column(t.duration_ms for t in tried),
        "http_status": sparse(t.http_status for t in tried),
        "detail": column(_line(t.detail) for t in tried),
    }
    if all(t.outcome == DELIVERED for t in tried):
        await fetch(connection, _DELIVERED, params)
        return
    params |= {
        "outcome": column(t.outcome for t in tried),
        "next_due": sparse(t.next_due for t in tried),
        "buried": sparse(t.buried for t in tried),
    }
    await fetch(connection, _MIXED, params)


async def replay(db: Database, account_id: int, event_id: UUID, now: datetime) -> int:
    """Send one event again, now: a dead letter, or one that waits for its next attempt. How many there were.

    One that is due already is left alone, so that a replay never makes two of it.
    """
    rows = await db.rows(
        f"""
        WITH dug AS (
            DELETE FROM buried b USING endpoint e WHERE e.id = b.endpoint_id AND b.account_id = %(account)s
                AND b.event_id = %(event)s RETURNING b.*),
        waiting AS (
            DELETE FROM outbox o USING endpoint e WHERE e.id = o.endpoint_id AND e.account_id = %(account)s
                AND o.event_id = %(event)s AND o.due > %(now)s RETURNING o.*),
        back AS (
            INSERT INTO outbox (endpoint_id, due, attempt, {COLUMNS})
            SELECT endpoint_id, %(now)s, 0, {COLUMNS} FROM dug
            UNION ALL SELECT endpoint_id, %(now)s, attempt, {COLUMNS} FROM waiting RETURNING 1)
        SELECT pg_notify('outbox', '') FROM back""",
        account=account_id,
        event=event_id,
        now=now,
    )
    return len(rows)


async def replay_since(db: Database, endpoint_id: int, since: datetime, now: datetime) -> int:
    """Send an endpoint's dead letters of events since then again; how many: below BATCH it was the rest."""
    rows = await db.rows(
        f"""
        WITH dug AS (
            DELETE FROM buried WHERE id IN (
                SELECT b.id FROM endpoint e
                JOIN buried b ON b.account_id = e.account_id AND b.endpoint_id = e.id
                WHERE e.id = %(endpoint)s AND b.created_at >= %(since)s ORDER BY b.buried_at LIMIT {BATCH})
            RETURNING *),
        back AS (
            INSERT INTO outbox (endpoint_id, due, attempt, {COLUMNS})
            SELECT endpoint_id, %(now)s, 0, {COLUMNS} FROM dug RETURNING 1)
        SELECT pg_notify('outbox', '') FROM back""",
        endpoint=endpoint_id,
        since=since,
        now=now,
    )
    return len(rows)
