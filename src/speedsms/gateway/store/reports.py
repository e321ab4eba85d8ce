"""What carriers say later: stored raw, matched, folded over parts, ended — one statement per batch (design
§7).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from speedsms.gateway.store.db import Connection, Database, fetch

ORPHAN_LIFE: Final = timedelta(hours=72)  # SM-33


@dataclass(frozen=True, slots=True)
class Receipt:
    """One report of one part, from channel `channel_id`. due: not to be looked at before."""

    channel_id: int
    reference: str
    message: int | None
    attempt: int
    part: int
    parts: int
    status: int | None
    cause: str
    raw: bytes
    peer_time: datetime | None
    received_at: datetime
    due: datetime


_COLUMNS: Final = (
    "channel_id, reference, message, attempt, part, parts, status, cause, raw, peer_time, received_at, due"
)
_FROM_PEERS: Final = f"""
WITH x AS MATERIALIZED (
    SELECT * FROM unnest(%(channel)s::int[], %(reference)s::text[], %(message)s::bigint[],
        %(attempt)s::smallint[],
        %(part)s::smallint[], %(parts)s::smallint[], %(status)s::smallint[], %(cause)s::text[],
            %(raw)s::bytea[],
        %(peer_time)s::timestamptz[], %(received)s::timestamptz[], %(due)s::timestamptz[])
    AS x({_COLUMNS})),
"""
_FROM_PARKED: Final = f"""
WITH x AS MATERIALIZED (
    DELETE FROM receipt WHERE id IN (
        SELECT id FROM receipt WHERE due <= %(at)s ORDER BY due LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}),
"""
# seen: receipts with the message they are about, null if they name none yet or are not due. A message is as
# good
# as its worst part: one failed part ends it at once, else all parts must be done (ST-4). The first final row
# wins; later ones that contradict it are corrections: written down, but neither money nor status moves
# (ST-3).
#
# Tables are looked into by LATERAL … LIMIT, row by row through their indexes; everything else meets in hash
# joins, for which nested loops are switched off (`connect`): the planner takes each of these sets for one
# row.
_APPLY: Final = f"""
seen AS MATERIALIZED (
    SELECT x.*, r.message AS about, r.attempt AS try, r.part AS piece, r.parts AS pieces
    FROM x LEFT JOIN LATERAL (
        SELECT r.message, r.attempt, r.part, r.parts FROM reference r
        WHERE x.message IS NULL AND r.channel_id = x.channel_id AND r.reference = x.reference
        UNION ALL SELECT x.message, x.attempt, x.part, x.parts WHERE x.message IS NOT NULL
        LIMIT 1) r ON x.due <= %(at)s),
parked AS (
    INSERT INTO receipt ({_COLUMNS})
    SELECT channel_id, reference, message, attempt, part, parts, status, cause, raw, peer_time, received_at,
        CASE WHEN due > %(at)s THEN due
             ELSE %(at)s + greatest(interval '1 second', least((%(at)s - received_at) / 2,
                 interval '10 minutes')) END
    FROM seen WHERE about IS NULL
    RETURNING due),
f AS MATERIALIZED (
    SELECT seen.*, q.account_id, q.test, m.price_vnd, m.refund, m.number, n.status AS old_status,
        CASE WHEN seen.status < 32 THEN 0 ELSE seen.status END AS folded,
        seen.status < 32 OR seen.status >= 64 AS ends
    FROM seen
    CROSS JOIN LATERAL (
        SELECT account_id, test FROM request
        WHERE tran_id = tran_id_of(about >> 7) AND id = about >> 7 LIMIT 1) q
    CROSS JOIN LATERAL (
        SELECT price_vnd, refund, number FROM message WHERE account_id = q.account_id AND id = about
            LIMIT 1) m
    LEFT JOIN LATERAL (
        SELECT status FROM final WHERE account_id = q.account_id AND final.message = about LIMIT 1) n ON true
    WHERE about IS NOT NULL),
fresh AS MATERIALIZED (
    SELECT DISTINCT ON (about, try, piece) about, try, piece, folded FROM f
    WHERE pieces > 1 AND ends AND old_status IS NULL ORDER BY about, try, piece, received_at),
said AS (
    SELECT about, try, piece, folded FROM fresh
    UNION SELECT fresh.about, fresh.try, p.part, p.status FROM fresh CROSS JOIN LATERAL (
        SELECT part, status FROM part_final WHERE part_final.message = fresh.about AND attempt = fresh.try
            LIMIT 255) p),
whole AS (
    SELECT about, try, max(folded) AS status, count(DISTINCT piece) AS parts FROM said GROUP BY about, try),
verdict AS MATERIALIZED (
    SELECT DISTINCT ON (f.about) f.*, CASE WHEN f.pieces = 1 THEN f.folded ELSE whole.status END AS end_status
    FROM f LEFT JOIN whole ON whole.about = f.about AND whole.try = f.try
    WHERE f.ends AND f.old_status IS NULL
        AND (f.pieces = 1 OR whole.status >= 64 OR whole.parts = f.pieces)
    ORDER BY f.about, f.received_at, f.part),
into_part AS (
    INSERT INTO part_final SELECT about, try, piece, folded FROM fresh
    WHERE about NOT IN (SELECT about FROM verdict) ON CONFLICT DO NOTHING),
ended AS (
    INSERT INTO final SELECT account_id, about, end_status, %(at)s, cause FROM verdict
    ON CONFLICT DO NOTHING RETURNING account_id, message, status),
landed AS (
    DELETE FROM flight WHERE ctid = ANY(ARRAY(
        SELECT place FROM ended CROSS JOIN LATERAL (
            SELECT ctid AS place FROM flight WHERE flight.message = ended.message LIMIT 100) l))),
folded_parts AS (
    DELETE FROM part_final WHERE message = ANY(ARRAY(SELECT about FROM verdict WHERE pieces > 1))),
posted AS (
    INSERT INTO transfer SELECT account_id, about, 1, 3, 3, 4, price_vnd, %(at)s FROM verdict WHERE NOT test
    ON CONFLICT DO NOTHING),
refunded AS (
    INSERT INTO transfer SELECT account_id, about, 2, 5, 4, 2, price_vnd, %(at)s FROM verdict
    WHERE refund AND NOT test AND price_vnd > 0 AND about = ANY(ARRAY(SELECT message FROM ended
        WHERE status >= 64))
    ON CONFLICT DO NOTHING RETURNING account_id, amount_vnd),
back AS (SELECT account_id, sum(amount_vnd) AS vnd FROM refunded GROUP BY account_id),
locked AS MATERIALIZED (
    SELECT id FROM account WHERE id = ANY(ARRAY(SELECT account_id FROM back)) ORDER BY id FOR UPDATE),
given AS (
    UPDATE account SET balance_vnd = balance_vnd + (SELECT vnd FROM back WHERE back.account_id = account.id)
    WHERE id = ANY(ARRAY(SELECT id FROM locked))),
temporary AS (
    SELECT DISTINCT ON (about) f.* FROM f
    WHERE NOT ends AND status >= 32 AND old_status IS NULL AND about NOT IN (SELECT about FROM verdict)
        AND status IS DISTINCT FROM (
            SELECT e.status FROM event e WHERE e.account_id = f.account_id AND e.message = f.about
                AND e.kind = 'temporary' ORDER BY e.at DESC LIMIT 1)
    ORDER BY about, received_at DESC),
into_event AS (
    INSERT INTO event (account_id, message, at, kind, attempt, channel_id, status, started_at, detail)
    SELECT account_id, about, %(at)s, 'temporary', try, channel_id, status, peer_time, cause FROM temporary
    UNION ALL
    SELECT account_id, about, %(at)s, 'correction', try, channel_id, folded, peer_time, cause FROM f
    WHERE ends AND pieces = 1 AND folded <> old_status),
news AS MATERIALIZED (
    SELECT account_id, message, status, gen_random_uuid() AS event_id FROM ended
    UNION ALL SELECT account_id, about, status, gen_random_uuid() FROM temporary),
into_outbox AS (
    INSERT INTO outbox (endpoint_id, due, account_id, event_id, kind, subject, status, sequence, phone_form,
        created_at)
    SELECT p.id, %(at)s, news.account_id, news.event_id, 'report', news.message, news.status, 1 + t.said,
        a.form, %(at)s
    FROM news
    CROSS JOIN LATERAL (
        SELECT id FROM endpoint WHERE endpoint.account_id = news.account_id AND event = 'report' AND enabled
        LIMIT 100) p
    CROSS JOIN LATERAL (
        SELECT coalesce(settings->>'phone_form', 'national') AS form FROM account
        WHERE account.id = news.account_id LIMIT 1) a
    CROSS JOIN LATERAL (
        SELECT count(*) AS said FROM event e WHERE e.account_id = news.account_id AND e.message = news.message
            AND e.kind = 'temporary' LIMIT 1) t
    -- The magic number 84000000009 asks for the same webhook twice (protocol §16).
    CROSS JOIN LATERAL generate_series(1, CASE WHEN news.message = ANY(ARRAY(
        SELECT about FROM f WHERE number = 84000000009)) THEN 2 ELSE 1 END)
    RETURNING 1)
SELECT (SELECT count(*) FROM x), (SELECT count(*) FROM ended), (SELECT count(*) FROM parked),
    (SELECT min(due) FROM parked), CASE WHEN EXISTS (SELECT FROM into_outbox) THEN pg_notify('outbox', '') END
"""
_APPLY_NEW: Final = _FROM_PEERS + _APPLY
_APPLY_PARKED: Final = _FROM_PARKED + _APPLY


@dataclass(frozen=True, slots=True)
class Applied:
    """seen: receipts looked at; ended: messages made final; parked: kept for later, the first due at
    next_due.
    """

    seen: int
    ended: int
    parked: int
    next_due: datetime | None


async def connect(db: Database) -> Connection:
    """A connection for `apply` and `apply_parked`."""
    connection = await db.connect(hot=True)
    await fetch(connection, "SET enable_nestloop = off")
    return connection


async def apply(connection: Connection, receipts: Sequence[Receipt], at: datetime) -> Applied:
    """Store and apply receipts; after it returns the peer may be answered."""
    names = [
        "channel",
        "reference",
        "message",
        "attempt",
        "part",
        "parts",
        "status",
        "cause",
        "raw",
        "peer_time",
        "received",
        "due",
    ]
    fields = _COLUMNS.split(", ")
    params = {name: [getattr(r, f) for r in receipts] for name, f in zip(names, fields, strict=True)}
    rows = await fetch(connection, _APPLY_NEW, params | {"at": at})
    return Applied(*rows[0][:4])


async def apply_parked(connection: Connection, at: datetime, most: int) -> Applied:
    """Look again at receipts that are due."""
    rows = await fetch(connection, _APPLY_PARKED, {"at": at, "most": most})
    return Applied(*rows[0][:4])
