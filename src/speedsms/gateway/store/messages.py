"""Requests and messages: accepted in one statement for a whole batch (design §5)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct

from speedsms.gateway.store.columns import column, each, sparse
from speedsms.gateway.store.db import Connection, Database, fetch

IDS_IN_BLOCK: Final = 100
_EPOCH_S: Final = 1_735_689_600  # 2025-01-01 UTC
_TRAN_ID: Final = 2**31 - 1


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
    due: datetime | None  # as soon as it is accepted
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


# One statement accepts a batch: every account whose requests fit together gets all of them, an account whose
# requests do not fit, or that is blocked, gets none and its requests are looked at one by one. Account rows
# are locked in the order of their ids, so that two processes never wait for each other in a circle.
_ACCEPT: Final = f"""
WITH q AS MATERIALIZED (
    SELECT id, account_id, token_id, kind, sms_type, coalesce(sender, '') AS sender, content, encoding, units,
        parts, lane, total_vnd, validity_s, greatest(due, %(at)s) AS due, reference, test
    FROM unnest({each("id", "bigint")}, {each("account", "int")}, {each("token", "int")},
        {each("kind", "text")}, {each("type", "smallint")}, {each("sender", "text")},
        {each("content", "text")}, {each("encoding", "text")},
        {each("units", "smallint")}, {each("parts", "smallint")}, {each("lane", "smallint")},
        {each("total", "bigint")}, {each("validity", "int")}, {each("due", "timestamptz")},
        {each("reference", "text")},
        {each("test", "bool")})
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
    FROM unnest({each("m_id", "bigint")}, {each("m_number", "bigint")}, {each("m_price", "int")},
        {each("m_carrier", "smallint")}, {each("m_pool", "smallint")}, {each("m_refund", "bool")},
        {each("m_entry", "text")})
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
        "due": sparse([d.due for d in drafts]),
        "reference": sparse([d.reference for d in drafts]),
        "id": column([d.id for d in drafts]),
        "account": column([d.account_id for d in drafts]),
        "token": column([d.token_id for d in drafts]),
        "kind": column([d.kind for d in drafts]),
        "type": column([d.sms_type for d in drafts]),
        "sender": column([d.sender for d in drafts]),
        "content": column([d.content for d in drafts]),
        "encoding": column([d.encoding for d in drafts]),
        "units": column([d.units for d in drafts]),
        "parts": column([d.parts for d in drafts]),
        "lane": column([d.lane for d in drafts]),
        "total": column([d.total_vnd for d in drafts]),
        "validity": column([d.validity_s for d in drafts]),
        "test": column([d.test for d in drafts]),
        "m_id": column([d.id << 7 | n for d in drafts for n in range(1, len(d.numbers) + 1)]),
        "m_number": column([x for d in drafts for x in d.numbers]),
        "m_entry": column([x for d in drafts for x in d.entries]),
        "m_carrier": column([x for d in drafts for x in d.carriers]),
        "m_price": column([x for d in drafts for x in d.prices_vnd]),
        "m_pool": column(pools),
        "m_refund": column([x for d in drafts for x in d.refunds]),
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
