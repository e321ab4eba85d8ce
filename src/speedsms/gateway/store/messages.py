"""Requests and messages: accept, claim, record. Each is one statement for a whole batch (design §5, §6)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

from speedsms.gateway.store.db import Connection, Database, fetch

IDS_IN_BLOCK: Final = 100
_EPOCH_S: Final = 1_735_689_600  # 2025-01-01 UTC
_TRAN_ID: Final = 2**31 - 1
GRACE: Final = timedelta(minutes=10)  # after its life a message waits this long for a late receipt (ST-6)


def request_id(tran_id: int, at: datetime) -> int:
    """The id of a request, in the order of time; its messages are id << 7 | 1 … 100."""
    return max(int(at.timestamp()) - _EPOCH_S, 0) // 60 << 31 | tran_id


def tran_id_of(message: int) -> int:
    return message >> 7 & _TRAN_ID


class TranIds:
    """Numbers for requests, drawn from the sequence in blocks, so that an id costs no round trip."""

    def __init__(self) -> None:
        self._free: list[int] = []

    async def reserve(self, connection: Connection, count: int) -> None:
        """Have at least `count` numbers at hand."""
        if (missing := count - len(self._free)) <= 0:
            return
        blocks = -(-missing // IDS_IN_BLOCK)
        rows = await fetch(
            connection, "SELECT nextval('tran_id') FROM generate_series(1, %(n)s)", {"n": blocks}
        )
        # Popped from the end: reversed, so that numbers rise.
        fresh = [first + i for (first,) in rows for i in range(IDS_IN_BLOCK)]
        self._free[:0] = reversed(fresh)

    def take(self) -> int:
        return self._free.pop()


class Draft(Struct):
    """A request on its way into the database, with its messages in five parallel lists."""

    account_id: int
    token_id: int
    kind: str
    sms_type: int
    sender: str
    content: str
    encoding: str
    units: int
    parts: int
    lane: int
    validity_s: int
    due: datetime
    reference: str | None
    test: bool
    numbers: list[int] = []
    entries: list[str] = []
    carriers: list[int] = []
    prices_vnd: list[int] = []
    pools: list[int] = []
    refunds: list[bool] = []
    key: tuple[str, str, bytes] | None = None  # endpoint, Idempotency-Key, fingerprint
    body: bytes = b""  # the reply that is stored under the key
    headers: list[str] = []
    tran_id: int = 0
    id: int = 0

    def drop(self, numbers: set[int]) -> list[str]:
        """Take messages out again, before they are stored; their entries."""
        kept = [i for i, n in enumerate(self.numbers) if n not in numbers]
        gone = [e for n, e in zip(self.numbers, self.entries, strict=True) if n in numbers]
        for name in ("numbers", "entries", "carriers", "prices_vnd", "pools", "refunds"):
            setattr(self, name, [getattr(self, name)[i] for i in kept])
        return gone

    @property
    def total_vnd(self) -> int:
        return sum(self.prices_vnd)

    def name(self, tran_id: int, at: datetime) -> None:
        self.tran_id = tran_id
        self.id = request_id(tran_id, at)


# Columns of a batch travel as one text each, their values joined by a character that no valid value holds:
# it is refused in texts (protocol §10.5), numbers and names. Binary arrays cost three times the CPU here.
_SEPARATOR: Final = "\x1f"


def _each(name: str, kind: str) -> str:
    return f"string_to_array(%({name})s, chr(31))::{kind}[]"


def _column(values: Iterable[object]) -> str:
    return _SEPARATOR.join(map(str, values))


# One statement accepts a batch: every account whose requests fit together gets all of them, an account whose
# requests do not fit, or that is blocked, gets none and its requests are looked at one by one. Account rows
# are locked in the order of their ids, so that two processes never wait for each other in a circle.
_ACCEPT: Final = f"""
WITH q AS MATERIALIZED (
    SELECT id, account_id, token_id, kind, sms_type, coalesce(sender, '') AS sender, content, encoding, units,
        parts, lane,
        total_vnd, validity_s, due, reference, test
    FROM unnest({_each("id", "bigint")}, {_each("account", "int")}, {_each("token", "int")},
        {_each("kind", "text")}, {_each("type", "smallint")}, {_each("sender", "text")},
        {_each("content", "text")}, {_each("encoding", "text")},
        {_each("units", "smallint")}, {_each("parts", "smallint")}, {_each("lane", "smallint")},
        {_each("total", "bigint")}, {_each("validity", "int")}, %(due)s::timestamptz[], %(reference)s::text[],
        {_each("test", "bool")})
    AS q(id, account_id, token_id, kind, sms_type, sender, content, encoding, units, parts, lane, total_vnd,
         validity_s, due, reference, test)),
need AS (SELECT account_id, sum(CASE WHEN test THEN 0 ELSE total_vnd END) AS vnd FROM q GROUP BY account_id),
locked AS MATERIALIZED (SELECT id FROM account WHERE id = ANY(ARRAY(SELECT account_id FROM need)) ORDER BY id
    FOR UPDATE),
ok AS (
    UPDATE account SET balance_vnd = balance_vnd - need.vnd FROM need JOIN locked
        ON locked.id = need.account_id
    WHERE account.id = need.account_id AND NOT blocked AND api_enabled
        AND (need.vnd = 0 OR balance_vnd + credit_vnd >= need.vnd)
    RETURNING account.id),
r AS MATERIALIZED (SELECT q.* FROM q JOIN ok ON ok.id = q.account_id),
into_request AS (
    INSERT INTO request SELECT id, (id & 2147483647)::int, account_id, token_id, kind, sms_type, sender,
        content,
        encoding, units, parts, lane, total_vnd, validity_s, due, reference, test, %(at)s FROM r),
into_transfer AS (
    INSERT INTO transfer SELECT account_id, id << 7, 0, 2, 2, 3, total_vnd, %(at)s FROM r WHERE NOT test),
m AS MATERIALIZED (
    SELECT r.account_id, m.*, r.lane, r.due, r.due + make_interval(secs => r.validity_s) AS expires_at
    FROM unnest({_each("m_id", "bigint")}, {_each("m_number", "bigint")}, {_each("m_price", "int")},
        {_each("m_carrier", "smallint")}, {_each("m_pool", "smallint")}, {_each("m_refund", "bool")},
        {_each("m_entry", "text")})
        AS m(id, number, price_vnd, carrier, pool, refund, entry)
    JOIN r ON r.id = m.id >> 7),
into_message AS (INSERT INTO message SELECT account_id, id, number, price_vnd, carrier, pool, refund, entry
    FROM m),
into_ready AS (INSERT INTO ready SELECT pool, lane, due, expires_at, account_id, id, 0, 0 FROM m)
"""
_KEYS: Final = """,
into_idempotency AS (
    INSERT INTO idempotency SELECT k.account_id, endpoint, key, fingerprint, body, headers, %(at)s
    FROM (SELECT unnest(%(k_account)s::int[]) AS account_id, unnest(%(k_endpoint)s::text[]) AS endpoint,
        unnest(%(k_key)s::text[]) AS key, unnest(%(k_print)s::bytea[]) AS fingerprint,
        unnest(%(k_body)s::bytea[]) AS body, string_to_array(unnest(%(k_headers)s::text[]),
            chr(10)) AS headers) k
    JOIN ok ON ok.id = k.account_id)
"""
_WAKE: Final = "SELECT id, pg_notify('ready', %(pools)s) FROM ok"
_ACCEPT_PLAIN: Final = _ACCEPT + _WAKE
_ACCEPT_KEYED: Final = _ACCEPT + _KEYS + _WAKE


async def accept(connection: Connection, drafts: Sequence[Draft], at: datetime) -> set[int]:
    """Store whole requests and hold their money; the accounts that got theirs.

    Raises UniqueViolation if a key was used meanwhile (nothing is stored then).
    """
    pools = [x for d in drafts for x in d.pools]
    params: dict[str, object] = {
        "at": at,
        "due": [d.due for d in drafts],
        "reference": [d.reference for d in drafts],
        "id": _column(d.id for d in drafts),
        "account": _column(d.account_id for d in drafts),
        "token": _column(d.token_id for d in drafts),
        "kind": _column(d.kind for d in drafts),
        "type": _column(d.sms_type for d in drafts),
        "sender": _column(d.sender for d in drafts),
        "content": _column(d.content for d in drafts),
        "encoding": _column(d.encoding for d in drafts),
        "units": _column(d.units for d in drafts),
        "parts": _column(d.parts for d in drafts),
        "lane": _column(d.lane for d in drafts),
        "total": _column(d.total_vnd for d in drafts),
        "validity": _column(d.validity_s for d in drafts),
        "test": _column(d.test for d in drafts),
        "m_id": _column(d.id << 7 | n for d in drafts for n in range(1, len(d.numbers) + 1)),
        "m_number": _column(x for d in drafts for x in d.numbers),
        "m_entry": _column(x for d in drafts for x in d.entries),
        "m_carrier": _column(x for d in drafts for x in d.carriers),
        "m_price": _column(x for d in drafts for x in d.prices_vnd),
        "m_pool": _column(pools),
        "m_refund": _column(x for d in drafts for x in d.refunds),
        "pools": ",".join(map(str, sorted(set(pools)))),
    }
    keyed = [(d, d.key) for d in drafts if d.key]
    if keyed:
        params |= {
            "k_account": [d.account_id for d, _ in keyed],
            "k_endpoint": [key[0] for _, key in keyed],
            "k_key": [key[1] for _, key in keyed],
            "k_print": [key[2] for _, key in keyed],
            "k_body": [d.body for d, _ in keyed],
            "k_headers": ["\n".join(d.headers) for d, _ in keyed],
        }
    rows = await fetch(connection, _ACCEPT_KEYED if keyed else _ACCEPT_PLAIN, params)
    return {row[0] for row in rows}


async def stored(db: Database, requests: Iterable[int]) -> set[int]:
    """Which of these request ids exist."""
    rows = await db.read(
        "SELECT id FROM request WHERE id = ANY(%(ids)s::bigint[])"
        " AND tran_id = ANY(SELECT tran_id_of(i) FROM unnest(%(ids)s::bigint[]) i)",
        ids=list(requests),
    )
    return {row[0] for row in rows}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was answered under a key."""

    fingerprint: bytes
    body: bytes
    headers: list[str]
    at: datetime


async def replayed(connection: Connection, account_id: int, endpoint: str, key: str) -> Replayed | None:
    rows = await fetch(
        connection,
        "SELECT fingerprint, body, headers, at FROM idempotency"
        " WHERE account_id = %(account)s AND endpoint = %(endpoint)s AND key = %(key)s",
        {"account": account_id, "endpoint": endpoint, "key": key},
    )
    return Replayed(*rows[0]) if rows else None


async def forget_key(connection: Connection, account_id: int, endpoint: str, key: str) -> None:
    """Make room for a newer reply under the same key (the duplicate guard of protocol §15.2)."""
    await connection.execute(
        "DELETE FROM idempotency WHERE account_id = %s AND endpoint = %s AND key = %s",
        (account_id, endpoint, key),
    )


# ---------------------------------------------------------------------------------------------- dispatch


class Claimed(NamedTuple):
    """A started attempt: the row in `flight` is committed, no byte has left."""

    message: int
    attempt: int
    tries: int
    account_id: int
    lane: int
    expires_at: datetime
    number: int
    carrier: int
    price_vnd: int
    kind: str
    sms_type: int
    sender: str
    content: str
    encoding: str
    parts: int
    test: bool
    opted_out: bool
    ended: bool  # a late report ended it while it waited for another attempt


# Lanes are taken in the order given, each by its own index range, so an OTP never waits behind bulk. Rows are
# deleted by their place in the table: no second index has to be kept. The claim holds its node's row, so that
# nobody buries the node meanwhile; one that is buried already claims nothing, or nobody would sweep after it.
_CLAIM: Final = """
WITH alive AS MATERIALIZED (SELECT id FROM node WHERE id = %(node)s FOR KEY SHARE),
c AS MATERIALIZED (
    SELECT r.place FROM alive CROSS JOIN unnest(%(lanes)s::smallint[]) WITH ORDINALITY AS l(lane, rank)
    CROSS JOIN unnest(%(pools)s::smallint[]) AS p(pool)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM ready
        WHERE ready.pool = p.pool AND ready.lane = l.lane AND due <= %(at)s
        ORDER BY due LIMIT %(most)s FOR UPDATE SKIP LOCKED) r
    LIMIT %(most)s),
d AS (DELETE FROM ready WHERE ctid = ANY(ARRAY(SELECT place FROM c)) RETURNING *),
f AS (
    INSERT INTO flight SELECT message, attempt + 1, tries, account_id, %(channel)s, %(node)s, lane, %(at)s,
        expires_at,
        expires_at + %(grace)s FROM d)
SELECT d.message, d.attempt + 1, d.tries, d.account_id, d.lane, d.expires_at, m.number, m.carrier,
    m.price_vnd,
    q.kind, q.sms_type, q.sender, q.content, q.encoding, q.parts, q.test,
    q.sms_type = 1 AND EXISTS (SELECT FROM suppression s WHERE s.account_id = d.account_id
        AND s.number = m.number),
    d.attempt > 0 AND EXISTS (SELECT FROM final n WHERE n.account_id = d.account_id AND n.message = d.message)
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
    lanes: Sequence[int],
    most: int,
    at: datetime,
) -> list[Claimed]:
    """Take what may start now and mark it started. On a `hot` connection (DB-4)."""
    rows = await fetch(
        connection,
        _CLAIM,
        {
            "lanes": lanes,
            "pools": pools,
            "most": most,
            "at": at,
            "channel": channel_id,
            "node": node_id,
            "grace": GRACE,
        },
    )
    return [Claimed._make(row) for row in rows]


# A claim's time is its name: a node makes no two at one moment.
_UNCLAIM: Final = """
WITH d AS (
    DELETE FROM flight WHERE node_id = %(node)s AND channel_id = %(channel)s AND started_at = %(at)s
        RETURNING *)
INSERT INTO ready SELECT m.pool, d.lane, %(at)s, d.expires_at, d.account_id, d.message, d.attempt - 1, d.tries
FROM d JOIN message m ON m.account_id = d.account_id AND m.id = d.message
"""


async def unclaim(connection: Connection, *, channel_id: int, node_id: int, at: datetime) -> None:
    """Give back what a claim took whose answer was lost on the way: nobody has begun it."""
    await fetch(connection, _UNCLAIM, {"channel": channel_id, "node": node_id, "at": at})


async def stranded(
    connection: Connection, pools: Sequence[int], most: int
) -> list[tuple[int, str, int, int, int]]:
    """Queued messages of pools that no route serves: message, kind, type, carrier, number; locked."""
    return await fetch(
        connection,
        "SELECT r.message, q.kind, q.sms_type, m.carrier, m.number FROM ready r"
        " JOIN message m ON m.account_id = r.account_id AND m.id = r.message"
        " JOIN request q ON q.tran_id = tran_id_of(r.message >> 7) AND q.id = r.message >> 7"
        " WHERE r.pool = ANY(%(pools)s::smallint[]) ORDER BY r.due LIMIT %(most)s"
        " FOR UPDATE OF r SKIP LOCKED",
        {"pools": list(pools), "most": most},
    )


async def repool(connection: Connection, moved: Sequence[tuple[int, int]]) -> None:
    """Give queued messages another pool: (message, pool)."""
    await connection.execute(
        "UPDATE ready SET pool = n.pool FROM unnest(%s::bigint[], %s::smallint[]) AS n(message, pool)"
        " WHERE ready.message = n.message",
        ([message for message, _ in moved], [pool for _, pool in moved]),
    )


class Result(Struct):
    """What became of one started attempt, as it is written down.

    event: the kind of the row in `event`. post, void: the message's hold ends so. status: the message is
    final. again: it returns to the queue at that time, `tries` of its
    tries counted, and with the same attempt number if repeat. look: an unknown one is looked at again then.
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
    tries: int = 0
    repeat: bool = False
    look: datetime | None = None
    references: tuple[str, ...] = ()
    test: bool = False


# Only the node that started an attempt may write its outcome: a process that lost its lease finds no row of
# its own in `flight` and changes nothing (CH-9). Most batches hold nothing but accepted messages; the parts
# of the statement that requeue, give money back, look again or name references are put in where they are
# needed, because every part costs its start-up on each batch.
_RECORD: Final = f"""
WITH x AS MATERIALIZED (
    SELECT message, attempt, account_id, price_vnd, event, coalesce(detail, '') AS detail, post, void, status,
        coalesce(cause, '') AS cause, again, tries, repeat, look, test, named::text[] AS named
    FROM unnest({_each("message", "bigint")}, {_each("attempt", "smallint")}, {_each("account", "int")},
        {_each("price", "int")}, {_each("event", "text")}, %(detail)s::text[], {_each("post", "bool")},
        {_each("void", "bool")}, %(status)s::smallint[], {_each("cause", "text")}, %(again)s::timestamptz[],
        {_each("tries", "smallint")}, {_each("repeat", "bool")}, %(look)s::timestamptz[],
        {_each("test", "bool")},
        %(named)s::text[])
    AS x(message, attempt, account_id, price_vnd, event, detail, post, void, status, cause, again, tries,
        repeat, look,
        test, named)),
"""
_GONE: Final = """
o AS MATERIALIZED (
    DELETE FROM flight f USING x WHERE f.message = x.message AND f.attempt = x.attempt
        AND %(node)s IN (f.node_id, 0) AND (x.status IS NOT NULL OR x.again IS NOT NULL)
    RETURNING x.*, f.channel_id, f.lane, f.started_at, f.expires_at)
"""
_STAYS: Final = """
o AS MATERIALIZED (
    SELECT x.*, f.channel_id, f.lane, f.started_at, f.expires_at
    FROM x JOIN flight f ON f.message = x.message AND f.attempt = x.attempt AND %(node)s IN (f.node_id, 0))
"""
_MIXED: Final = """
gone AS (
    DELETE FROM flight f USING x WHERE f.message = x.message AND f.attempt = x.attempt
        AND %(node)s IN (f.node_id, 0) AND (x.status IS NOT NULL OR x.again IS NOT NULL)
    RETURNING x.*, f.channel_id, f.lane, f.started_at, f.expires_at),
looked AS (
    UPDATE flight f SET due = x.look FROM x WHERE f.message = x.message AND f.attempt = x.attempt
        AND %(node)s IN (f.node_id, 0) AND x.look IS NOT NULL
    RETURNING x.*, f.channel_id, f.lane, f.started_at, f.expires_at),
o AS MATERIALIZED (
    SELECT * FROM gone UNION ALL SELECT * FROM looked UNION ALL
    SELECT x.*, f.channel_id, f.lane, f.started_at, f.expires_at
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
    INSERT INTO ready SELECT m.pool, o.lane, o.again, o.expires_at, o.account_id, o.message,
        o.attempt - o.repeat::int,
        o.tries
    FROM o JOIN message m ON m.account_id = o.account_id AND m.id = o.message WHERE o.again IS NOT NULL)
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
_REFERENCES: Final = """,
into_reference AS (
    INSERT INTO reference
    SELECT o.channel_id, r.reference, o.message, o.account_id, o.attempt, r.part, cardinality(o.named)
    FROM o CROSS JOIN LATERAL unnest(o.named) WITH ORDINALITY AS r(reference, part))
"""


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
            _RECORD,
            where,
            _EVENTS,
            _ENDED if rung else "",
            _AGAIN if again else "",
            _BACK if any(r.void for r in results) else "",
            _REFERENCES if any(r.references for r in results) else "",
            "SELECT count(*), (SELECT count(*) FROM rung) FROM o" if rung else "SELECT count(*) FROM o",
        )
    )


def _array(texts: Sequence[str]) -> str:
    """A text[] as PostgreSQL writes it: an array of arrays would have to be rectangular."""
    if not texts:
        return "{}"
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return '{"' + '","'.join(quoted) + '"}'


async def record(connection: Connection, results: Sequence[Result], node_id: int, at: datetime) -> int:
    """Write what became of attempts that `node_id` started; how many were still its own.

    Node 0 is the sweep, which may touch what any node started.
    """
    params: dict[str, object] = {
        "at": at,
        "node": node_id,
        "message": _column(r.message for r in results),
        "attempt": _column(r.attempt for r in results),
        "account": _column(r.account_id for r in results),
        "price": _column(r.price_vnd for r in results),
        "event": _column(r.event for r in results),
        "detail": [r.detail for r in results],
        "post": _column(r.post for r in results),
        "void": _column(r.void for r in results),
        "status": [r.status for r in results],
        "cause": _column(r.cause for r in results),
        "again": [r.again for r in results],
        "tries": _column(r.tries for r in results),
        "repeat": _column(r.repeat for r in results),
        "look": [r.look for r in results],
        "test": _column(r.test for r in results),
        "named": [_array(r.references) for r in results],
    }
    rows = await fetch(connection, _record_statement(results), params)
    return int(rows[0][0])
