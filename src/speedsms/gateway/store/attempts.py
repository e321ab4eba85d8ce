"""Attempts: claimed and marked started, then recorded, each in one statement for a batch (design §6)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec import Struct
from psycopg.errors import UniqueViolation

from speedsms.gateway.store.columns import column, each, sparse, tame
from speedsms.gateway.store.db import Connection, Lock, fetch, within

GRACE: Final = timedelta(minutes=10)  # after its life a message waits this long for a late receipt (ST-6)
ORPHAN_LIFE: Final = timedelta(hours=72)  # SM-33: so long after its life a message is still looked for


class Claimed(Struct):
    """A started attempt: the row in `flight` is committed, no byte has left. due: its place in the queue.

    What dispatch notes of it: made, the parts that the channel makes of it; began, when it was handed over;
    answered; key and reference, what the peer calls it that has taken it.
    """

    message: int
    attempt: int
    tries: int
    account_id: int
    lane: int
    pool: int
    due: datetime
    expires_at: datetime
    number: int
    price_vnd: int
    sender: str
    content: str
    encoding: str
    parts: int  # as it was billed; the channel may cut otherwise
    test: bool
    opted_out: bool
    ended: bool  # a late report ended it while it waited for another attempt
    moved: bool  # it is no longer in the pool that it was accepted for
    request_reference: str  # the customer's own, "" for none
    made: int = 0
    node_id: int = 0
    began: float = 0.0
    answered: bool = False
    key: str = ""
    reference: str = ""


# Each range, a lane of a pool, is a piece of one index, so an OTP never waits behind bulk. Rows are deleted
# by their place in the table: no second index has to be kept. The claim holds its node's row, so that nobody
# buries the node meanwhile; one that is buried already claims nothing, or nobody would sweep after it.
_CLAIM: Final = f"""
WITH alive AS MATERIALIZED (SELECT id FROM node WHERE id = %(node)s FOR KEY SHARE),
d AS (
    DELETE FROM ready WHERE ctid = ANY(ARRAY(
        SELECT r.place
        FROM alive
        CROSS JOIN unnest({each("lane", "smallint")}, {each("pool", "smallint")}, {each("limit", "int")},
            {each("since", "timestamptz")}) AS l(lane, pool, most, since)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM ready
            WHERE ready.pool = l.pool AND ready.lane = l.lane AND due BETWEEN l.since AND %(at)s
            ORDER BY due LIMIT l.most FOR UPDATE SKIP LOCKED) r
        LIMIT %(most)s))
    RETURNING *),
f AS (
    INSERT INTO flight SELECT message, attempt + 1, tries, account_id, %(channel)s, %(node)s, lane, pool,
        %(at)s, expires_at, expires_at + %(grace)s FROM d)
SELECT d.message, d.attempt + 1, d.tries, d.account_id, d.lane, d.pool, d.due, d.expires_at, m.number,
    m.price_vnd, q.sender, q.content, q.encoding, q.parts, q.test,
    q.sms_type = 1 AND EXISTS (SELECT FROM suppression s WHERE s.account_id = d.account_id
        AND s.number = m.number),
    d.attempt > 0 AND EXISTS (
        SELECT FROM final n WHERE n.account_id = d.account_id AND n.message = d.message),
    d.pool <> m.pool, coalesce(q.reference, '')
FROM d
JOIN message m ON m.account_id = d.account_id AND m.id = d.message
JOIN request q ON q.tran_id = tran_id_of(d.message >> 7) AND q.id = d.message >> 7
"""


async def claim(
    connection: Connection,
    *,
    channel_id: int,
    node_id: int,
    pools: Sequence[int],
    lanes: Sequence[tuple[int, int]],
    at: datetime,
    since: Mapping[tuple[int, int], datetime] = MappingProxyType({}),
) -> list[Claimed]:
    """Take what may start now and mark it started. On a `hot` connection (DB-4).

    lanes: (lane, at most so many of it), most urgent first; the first says how many in all. since: by lane
    and pool, what was due before is not looked at: entries of what was claimed stay in the index until the
    next vacuum, and each claim would walk over all of them.
    """
    ranges = [(lane, pool, most) for lane, most in lanes for pool in pools]
    rows = await fetch(
        connection,
        _CLAIM,
        {
            "lane": column(lane for lane, _, _ in ranges),
            "pool": column(pool for _, pool, _ in ranges),
            "limit": column(most for _, _, most in ranges),
            "since": column(since.get((lane, pool), "-infinity") for lane, pool, _ in ranges),
            "most": lanes[0][1],
            "at": at,
            "channel": channel_id,
            "node": node_id,
            "grace": GRACE,
        },
    )
    return [Claimed(*row) for row in rows]


# A claim's time is its name: a node makes no two at one moment.
_UNCLAIM: Final = """
WITH alive AS MATERIALIZED (SELECT id FROM node WHERE id = %(node)s FOR KEY SHARE),
d AS (
    DELETE FROM flight f USING alive
    WHERE f.node_id = alive.id AND channel_id = %(channel)s AND f.started_at = %(at)s RETURNING f.*)
INSERT INTO ready SELECT pool, lane, %(at)s, expires_at, account_id, message, attempt - 1, tries FROM d
"""


async def unclaim(connection: Connection, *, channel_id: int, node_id: int, at: datetime) -> None:
    """Give back what a claim took that nobody has begun: its answer was lost on the way, or came too late."""
    await fetch(connection, _UNCLAIM, {"channel": channel_id, "node": node_id, "at": at})


class Result(Struct):
    """What became of one started attempt, as it is written down.

    event: the kind of the row in `event`. post, void: the message's hold ends so. status: the message is
    final. again: it returns to the queue of `pool` at that time, `tries` of its tries counted, and with the
    same attempt number if repeat. look: it is looked at again then. late: the answer to an unknown attempt.
    references: (part, key, reference) of what the peer took, of a message of `parts` to `number`. parts: as
    the channel cuts it; 0: as it was billed, where nobody knows.
    """

    message: int
    attempt: int
    account_id: int
    price_vnd: int
    event: str
    detail: str = ""
    post: bool = False
    void: bool = False
    status: int | None = None
    cause: str = ""
    again: datetime | None = None
    pool: int = 0
    tries: int = 0
    repeat: bool = False
    look: datetime | None = None
    late: bool = False
    test: bool = False
    number: int = 0
    parts: int = 0
    references: tuple[tuple[int, str, str], ...] = ()


# Only the node that started an attempt may write its outcome: a process that lost its lease finds no row of
# its own in `flight` and changes nothing (CH-9). The parts of the statement that requeue, give money back,
# look again or name references are put in where they are needed, because every part costs its start-up on
# each batch.
_OUTCOMES: Final = f"""
WITH x AS MATERIALIZED (
    SELECT message, attempt, account_id, price_vnd, event, coalesce(detail, '') AS detail, post, void,
        status, coalesce(cause, '') AS cause, again, pool, tries, repeat, look, test, parts
    FROM unnest({each("message", "bigint")}, {each("attempt", "smallint")}, {each("account", "int")},
        {each("price", "int")}, {each("event", "text")}, {each("detail", "text")},
        {each("post", "bool")}, {each("void", "bool")}, {each("status", "smallint")},
        {each("cause", "text")}, {each("again", "timestamptz")}, {each("pool", "smallint")},
        {each("tries", "smallint")}, {each("repeat", "bool")}, {each("look", "timestamptz")},
        {each("test", "bool")}, {each("parts", "smallint")})
    AS x(message, attempt, account_id, price_vnd, event, detail, post, void, status, cause, again, pool,
        tries, repeat, look, test, parts)),
"""
_FLIGHT: Final = "f.channel_id, f.lane, f.started_at, f.expires_at"
_GONE: Final = f"""
o AS MATERIALIZED (
    DELETE FROM flight f USING x WHERE f.message = x.message AND f.attempt = x.attempt
        AND %(node)s IN (f.node_id, 0) AND (x.status IS NOT NULL OR x.again IS NOT NULL)
    RETURNING x.*, {_FLIGHT})
"""
_STAYS: Final = f"""
o AS MATERIALIZED (
    SELECT x.*, {_FLIGHT}
    FROM x JOIN flight f ON f.message = x.message AND f.attempt = x.attempt AND %(node)s IN (f.node_id, 0))
"""
_MIXED: Final = f"""
gone AS (
    DELETE FROM flight f USING x WHERE f.message = x.message AND f.attempt = x.attempt
        AND %(node)s IN (f.node_id, 0) AND (x.status IS NOT NULL OR x.again IS NOT NULL)
    RETURNING x.*, {_FLIGHT}),
looked AS (
    UPDATE flight f SET due = x.look FROM x WHERE f.message = x.message AND f.attempt = x.attempt
        AND %(node)s IN (f.node_id, 0) AND x.look IS NOT NULL
    RETURNING x.*, {_FLIGHT}),
o AS MATERIALIZED (
    SELECT * FROM gone UNION ALL SELECT * FROM looked UNION ALL
    SELECT x.*, {_FLIGHT}
    FROM x JOIN flight f ON f.message = x.message AND f.attempt = x.attempt AND %(node)s IN (f.node_id, 0)
    WHERE x.status IS NULL AND x.again IS NULL AND x.look IS NULL)
"""
_EVENTS: Final = """,
into_event AS (
    INSERT INTO event SELECT account_id, message, %(at)s, event, attempt, channel_id, NULL, started_at, detail
        FROM o),
moved AS (
    INSERT INTO transfer SELECT account_id, message, 1, CASE WHEN post THEN 3 ELSE 4 END, 3,
        CASE WHEN post THEN 4 ELSE 2 END, price_vnd, %(at)s FROM o WHERE (post OR void) AND NOT test
    ON CONFLICT DO NOTHING RETURNING account_id, code, amount_vnd)
"""
_ENDED: Final = """,
ended AS (
    INSERT INTO final SELECT account_id, message, status, %(at)s, cause FROM o WHERE status IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING account_id, message, status),
into_outbox AS (
    INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form, created_at)
    SELECT p.id, %(at)s, ended.account_id, 'report', ended.message, ended.status,
        1 + (SELECT count(*) FROM event e WHERE e.account_id = ended.account_id AND e.message = ended.message
             AND e.kind = 'temporary'), coalesce(a.settings->>'phone_form', 'national'), %(at)s
    FROM ended JOIN endpoint p ON p.account_id = ended.account_id AND p.event = 'report' AND p.enabled
    JOIN account a ON a.id = ended.account_id
    RETURNING 1),
rung AS (SELECT pg_notify('outbox', '') FROM into_outbox LIMIT 1)
"""
_AGAIN: Final = """,
into_ready AS (
    INSERT INTO ready SELECT pool, lane, again, expires_at, account_id, message, attempt - repeat::int, tries
    FROM o WHERE again IS NOT NULL)
"""
_BACK: Final = """,
back AS (SELECT account_id, sum(amount_vnd) AS vnd FROM moved WHERE code = 4 GROUP BY account_id),
locked AS MATERIALIZED (SELECT a.id FROM account a WHERE a.id IN (SELECT account_id FROM back) ORDER BY a.id
    FOR UPDATE),
given AS (
    UPDATE account SET balance_vnd = balance_vnd + back.vnd FROM back JOIN locked
        ON locked.id = back.account_id
    WHERE account.id = back.account_id)
"""
_NAMED: Final = f"""
unnest({each("r_message", "bigint")}, {each("r_attempt", "smallint")}, {each("r_number", "bigint")},
    {each("r_part", "smallint")}, {each("r_parts", "smallint")}, {each("r_key", "text")},
    {each("r_reference", "text")})
AS r(message, attempt, number, part, parts, key, reference)
"""
_INTO_REFERENCE: Final = """
INSERT INTO reference (message, number, until, channel_id, account_id, attempt, part, parts, test, key,
    reference)
"""
_REFERENCES: Final = f""",
into_reference AS ({_INTO_REFERENCE}
    SELECT o.message, r.number, o.expires_at + %(orphan)s, o.channel_id, o.account_id, o.attempt, r.part,
        r.parts, o.test, coalesce(r.key, ''), coalesce(r.reference, '')
    FROM {_NAMED} JOIN o ON o.message = r.message AND o.attempt = r.attempt
    ON CONFLICT (message, attempt, part) WHERE parts > 1 DO NOTHING)
"""
# Every part of an unknown attempt that the peer has not named may be what an unmatched receipt is about.
_DOUBT: Final = """,
into_doubt AS (
    INSERT INTO doubt
    SELECT o.channel_id, m.number, o.account_id, o.message, o.attempt, p.part, coalesce(o.parts, q.parts),
        o.expires_at + %(orphan)s
    FROM o JOIN message m ON m.account_id = o.account_id AND m.id = o.message
    JOIN request q ON q.tran_id = tran_id_of(o.message >> 7) AND q.id = o.message >> 7
    CROSS JOIN LATERAL generate_series(1, coalesce(o.parts, q.parts)) AS p(part)
    WHERE o.event = 'unknown' AND NOT EXISTS (
        SELECT FROM reference r
        WHERE r.message = o.message AND r.attempt = o.attempt AND r.part = p.part AND r.parts > 1)
    ON CONFLICT DO NOTHING)
"""
_CLEAR: Final = """,
cleared AS (
    DELETE FROM doubt d USING o
    WHERE d.message = o.message AND d.attempt = o.attempt AND o.event <> 'unknown')
"""


def _columns(results: Sequence[Result]) -> dict[str, object]:
    return {
        "message": column(r.message for r in results),
        "attempt": column(r.attempt for r in results),
        "account": column(r.account_id for r in results),
        "price": column(r.price_vnd for r in results),
        "event": column(r.event for r in results),
        "detail": column(tame(r.detail) for r in results),
        "post": column(r.post for r in results),
        "void": column(r.void for r in results),
        "status": sparse(r.status for r in results),
        "cause": column(tame(r.cause) for r in results),
        "again": sparse(r.again for r in results),
        "pool": column(r.pool for r in results),
        "tries": column(r.tries for r in results),
        "repeat": column(r.repeat for r in results),
        "look": sparse(r.look for r in results),
        "test": column(r.test for r in results),
        "parts": sparse(r.parts or None for r in results),
    }


def _record_statement(results: Sequence[Result]) -> str:
    """The parts of the statement that this batch needs; about a dozen texts in all, each prepared once."""
    final = [r.status is not None for r in results]
    again = any(r.again for r in results)
    if any(r.look for r in results) or (any(final) and not all(final)) or again:
        where = _MIXED
    else:
        where = _GONE if all(final) else _STAYS
    rung = any(final)
    return "".join(
        (
            _OUTCOMES,
            where,
            _EVENTS,
            _ENDED if rung else "",
            _AGAIN if again else "",
            _BACK if any(r.void for r in results) else "",
            _REFERENCES if any(r.references for r in results) else "",
            _DOUBT if any(r.event == "unknown" for r in results) else "",
            _CLEAR if any(r.late for r in results) else "",
            "SELECT count(*), (SELECT count(*) FROM rung) FROM o" if rung else "SELECT count(*) FROM o",
        )
    )


async def record(connection: Connection, results: Sequence[Result], node_id: int, at: datetime) -> int:
    """Write what became of attempts that `node_id` started; how many were still its own.

    Node 0 is the sweep, which may touch what any node started.
    """
    sql, params = _record_statement(results), _columns(results)
    if "r_message" in sql:
        params |= _named(results)
    params |= {"at": at, "node": node_id, "orphan": ORPHAN_LIFE}
    rows = await fetch(connection, sql, params)
    return int(rows[0][0])


# Nearly all traffic is this: one part, taken by the peer. Half of the columns say it all, and looking for a
# transfer that is there already would be an eighth of the cost.
_RECORD_TAKEN: Final = f"""
WITH o AS MATERIALIZED (
    SELECT x.*, f.channel_id, f.started_at, f.expires_at
    FROM unnest({each("message", "bigint")}, {each("attempt", "smallint")}, {each("account", "int")},
        {each("price", "int")}, {each("test", "bool")}, {each("number", "bigint")}, {each("key", "text")},
        {each("reference", "text")}, {each("request_reference", "text")})
    AS x(message, attempt, account_id, price_vnd, test, number, key, reference, request_reference)
    JOIN flight f ON f.message = x.message AND f.attempt = x.attempt AND f.node_id = %(node)s),
into_event AS (
    INSERT INTO event SELECT account_id, message, %(at)s, 'sent', attempt, channel_id, NULL, started_at, ''
        FROM o),
moved AS (
    INSERT INTO transfer SELECT account_id, message, 1, 3, 3, 4, price_vnd, %(at)s FROM o WHERE NOT test),
into_reference AS (
    INSERT INTO reference
    SELECT message, number, expires_at + %(orphan)s, channel_id, account_id, attempt, 1, 1, test, key,
        coalesce(reference, ''), coalesce(request_reference, '')
    FROM o WHERE key IS NOT NULL)
SELECT count(*) FROM o
"""


async def record_taken(connection: Connection, taken: Sequence[Claimed], node_id: int, at: datetime) -> int:
    """Write down messages of one part that the peer has taken; how many `node_id` had still in flight."""
    params = {
        "message": column([c.message for c in taken]),
        "attempt": column([c.attempt for c in taken]),
        "account": column([c.account_id for c in taken]),
        "price": column([c.price_vnd for c in taken]),
        "test": column([c.test for c in taken]),
        "number": column([c.number for c in taken]),
        "key": column([tame(c.key) for c in taken]),
        "reference": column([tame(c.reference) for c in taken]),
        "request_reference": column([c.request_reference for c in taken]),
        "at": at,
        "node": node_id,
        "orphan": ORPHAN_LIFE,
    }
    try:
        rows = await fetch(connection, _RECORD_TAKEN, params)
    except UniqueViolation:  # a report was quicker
        return await record(connection, [sent(c) for c in taken], node_id, at)
    return int(rows[0][0])


_WRITTEN: Final = """
SELECT EXISTS (
    SELECT FROM unnest(%(account)s::int[], %(message)s::bigint[], %(attempt)s::smallint[])
        AS x(account_id, message, attempt)
    JOIN event e USING (account_id, message, attempt) WHERE e.at = %(at)s)
"""


async def written(connection: Connection, claimed: Sequence[Claimed], at: datetime) -> bool:
    """Whether a batch that was to be recorded at that moment was; it is as a whole, or not at all."""
    params = {
        "account": [c.account_id for c in claimed],
        "message": [c.message for c in claimed],
        "attempt": [c.attempt for c in claimed],
        "at": at,
    }
    return bool((await fetch(connection, _WRITTEN, params))[0][0])


def sent(c: Claimed) -> Result:
    """What is written down of an attempt that the peer has taken; an empty reference finds nothing."""
    return Result(
        c.message,
        c.attempt,
        c.account_id,
        c.price_vnd,
        event="sent",
        post=True,
        test=c.test,
        number=c.number,
        parts=c.made,
        references=((1, c.key, c.reference),) if c.key else (),
    )


class Taken(NamedTuple):
    """One part of a message of several that the peer has taken, told before the message is whole (CH-4)."""

    message: int
    attempt: int
    number: int
    part: int
    parts: int
    key: str
    reference: str


def _named(results: Sequence[Result]) -> dict[str, str]:
    return _columns_of([taken for r in results for taken in _taken(r)])


def _taken(r: Result) -> Iterator[Taken]:
    return (Taken(r.message, r.attempt, r.number, part, r.parts, k, x) for part, k, x in r.references)


def _columns_of(taken: Sequence[Taken]) -> dict[str, str]:
    return {
        "r_message": column(t.message for t in taken),
        "r_attempt": column(t.attempt for t in taken),
        "r_number": column(t.number for t in taken),
        "r_part": column(t.part for t in taken),
        "r_parts": column(t.parts for t in taken),
        "r_key": column(tame(t.key) for t in taken),
        "r_reference": column(tame(t.reference) for t in taken),
    }


_SETTLE: Final = f"""{_INTO_REFERENCE}
SELECT f.message, r.number, f.expires_at + %(orphan)s, f.channel_id, f.account_id, f.attempt, r.part, r.parts,
    q.test, coalesce(r.key, ''), coalesce(r.reference, '')
FROM {_NAMED} JOIN flight f ON f.message = r.message AND f.attempt = r.attempt AND f.node_id = %(node)s
JOIN request q ON q.tran_id = tran_id_of(f.message >> 7) AND q.id = f.message >> 7
ON CONFLICT (message, attempt, part) WHERE parts > 1 DO NOTHING
"""


async def settle(connection: Connection, taken: Sequence[Taken], node_id: int) -> None:
    """Write down parts that a peer has taken while their messages are still on their way."""
    await fetch(connection, _SETTLE, _columns_of(taken) | {"orphan": ORPHAN_LIFE, "node": node_id})


# A message's concatenation reference is one more than the last of its number, so that no two live messages to
# a phone share one (channels §3.9). Parts taken in an earlier attempt count for the new one (CH-8), unless
# the channel's settings have it cut otherwise since; of a part that went twice, the later one.
_LONG: Final = """
WITH x AS MATERIALIZED (
    SELECT * FROM unnest(%(message)s::bigint[], %(number)s::bigint[], %(attempt)s::smallint[],
        %(parts)s::smallint[])
    AS x(message, number, attempt, parts)),
made AS (
    INSERT INTO concat
    SELECT x.message, x.number, (coalesce(
        (SELECT ref FROM concat c WHERE c.number = x.number ORDER BY c.at DESC, c.ref DESC LIMIT 1),
        %(start)s)
        + row_number() OVER (PARTITION BY x.number)) & 65535, %(at)s
    FROM x WHERE NOT EXISTS (SELECT FROM concat c WHERE c.message = x.message)
    RETURNING message, ref),
kept AS (
    UPDATE reference r SET attempt = x.attempt FROM x
    WHERE r.message = x.message AND r.parts > 1 AND r.parts = x.parts AND r.channel_id = %(channel)s
        AND NOT EXISTS (
        SELECT FROM reference n WHERE n.message = r.message AND n.part = r.part AND n.parts > 1
            AND n.channel_id = r.channel_id AND n.attempt > r.attempt)
    RETURNING r.message, r.part),
folded AS (
    UPDATE part_final p SET attempt = x.attempt FROM x
    WHERE p.message = x.message AND x.message IN (SELECT message FROM kept) AND NOT EXISTS (
        SELECT FROM part_final n WHERE n.message = p.message AND n.part = p.part AND n.attempt > p.attempt))
SELECT x.message, coalesce(made.ref, c.ref),
    ARRAY(SELECT part::int FROM kept WHERE kept.message = x.message)
FROM x LEFT JOIN made USING (message) LEFT JOIN concat c ON c.message = x.message
"""


async def long_messages(
    connection: Connection, claimed: Sequence[Claimed], channel_id: int, start: int, at: datetime
) -> dict[int, tuple[int, frozenset[int]]]:
    """Concatenation reference and parts done, by message. start: where a number's first reference begins."""
    async with within(connection):
        await fetch(connection, f"SELECT pg_advisory_xact_lock({Lock.CONCAT}, 0)")
        rows = await fetch(
            connection,
            _LONG,
            {
                "message": [c.message for c in claimed],
                "number": [c.number for c in claimed],
                "attempt": [c.attempt for c in claimed],
                "parts": [c.made for c in claimed],
                "start": start,
                "channel": channel_id,
                "at": at,
            },
        )
    return {message: (ref, frozenset(done)) for message, ref, done in rows}
