"""What carriers say later: stored raw, matched, folded over parts, ended — one statement per batch (design §7)."""

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
    SELECT * FROM unnest(%(channel)s::int[], %(reference)s::text[], %(message)s::bigint[], %(attempt)s::smallint[],
        %(part)s::smallint[], %(parts)s::smallint[], %(status)s::smallint[], %(cause)s::text[], %(raw)s::bytea[],
        %(peer_time)s::timestamptz[], %(received)s::timestamptz[], %(due)s::timestamptz[])
    AS x({_COLUMNS})),
"""
_FROM_PARKED: Final = f"""
WITH x AS MATERIALIZED (
    DELETE FROM receipt WHERE id IN (
        SELECT id FROM receipt WHERE due <= %(at)s ORDER BY due LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}),
"""
# found: receipts that are due and name a message. A message is as good as its worst part: one failed part
# ends it at once, else all parts must be done (ST-4). The first final row wins; later ones that contradict it
# are corrections: written down, but neither money nor status moves (ST-3).
_APPLY: Final = f"""
found AS MATERIALIZED (
    SELECT x.*, r.message AS about, r.attempt AS try, r.part AS piece, r.parts AS pieces
    FROM x JOIN LATERAL (
        SELECT r.message, r.attempt, r.part, r.parts FROM reference r
        WHERE x.message IS NULL AND r.channel_id = x.channel_id AND r.reference = x.reference
        UNION ALL SELECT x.message, x.attempt, x.part, x.parts WHERE x.message IS NOT NULL
        LIMIT 1) r ON true
    WHERE x.due <= %(at)s),
parked AS (
    INSERT INTO receipt ({_COLUMNS})
    SELECT channel_id, reference, message, attempt, part, parts, status, cause, raw, peer_time, received_at,
        CASE WHEN due > %(at)s THEN due
             ELSE %(at)s + greatest(interval '1 second', least((%(at)s - received_at) / 2, interval '10 minutes')) END
    FROM x WHERE due > %(at)s OR NOT EXISTS (
        SELECT FROM found WHERE found.channel_id = x.channel_id AND found.reference = x.reference
            AND found.message IS NOT DISTINCT FROM x.message)
    RETURNING due),
f AS MATERIALIZED (
    SELECT found.*, m.account_id, m.price_vnd, m.refund, m.number, q.test,
        CASE WHEN status < 32 THEN 0 ELSE status END AS folded
    FROM found JOIN request q ON q.tran_id = tran_id_of(about >> 7) AND q.id = about >> 7
    JOIN message m ON m.account_id = q.account_id AND m.id = about),
fresh AS MATERIALIZED (
    SELECT DISTINCT ON (about, try, piece) about, try, piece, folded FROM f
    WHERE pieces > 1 AND (status < 32 OR status >= 64) ORDER BY about, try, piece, received_at),
said AS (
    SELECT about, try, piece, folded FROM fresh
    UNION SELECT p.message, p.attempt, p.part, p.status FROM part_final p
    WHERE EXISTS (SELECT FROM fresh WHERE fresh.about = p.message AND fresh.try = p.attempt)),
whole AS (
    SELECT about, try, max(folded) AS status, count(DISTINCT piece) AS parts FROM said GROUP BY about, try),
verdict AS MATERIALIZED (
    SELECT DISTINCT ON (f.about) f.*, CASE WHEN f.pieces = 1 THEN f.folded ELSE whole.status END AS end_status
    FROM f LEFT JOIN whole ON f.pieces > 1 AND whole.about = f.about AND whole.try = f.try
    WHERE (f.status < 32 OR f.status >= 64) AND (f.pieces = 1 OR whole.status >= 64 OR whole.parts = f.pieces)
    ORDER BY f.about, f.received_at, f.part),
into_part AS (
    INSERT INTO part_final SELECT about, try, piece, folded FROM fresh
    WHERE about NOT IN (SELECT about FROM verdict)
        AND NOT EXISTS (SELECT FROM final n WHERE n.message = about
            AND n.account_id = (SELECT f.account_id FROM f WHERE f.about = fresh.about LIMIT 1))
    ON CONFLICT DO NOTHING),
ended AS (
    INSERT INTO final SELECT account_id, about, end_status, %(at)s, cause FROM verdict
    ON CONFLICT DO NOTHING RETURNING account_id, message, status),
landed AS (DELETE FROM flight USING ended WHERE flight.message = ended.message),
folded_parts AS (DELETE FROM part_final USING ended WHERE part_final.message = ended.message),
posted AS (
    INSERT INTO transfer SELECT v.account_id, v.about, 1, 3, 3, 4, v.price_vnd, %(at)s
    FROM ended JOIN verdict v ON v.about = ended.message WHERE NOT v.test ON CONFLICT DO NOTHING),
refunded AS (
    INSERT INTO transfer SELECT v.account_id, v.about, 2, 5, 4, 2, v.price_vnd, %(at)s
    FROM ended JOIN verdict v ON v.about = ended.message
    WHERE NOT v.test AND v.refund AND ended.status >= 64 AND v.price_vnd > 0 ON CONFLICT DO NOTHING
    RETURNING account_id, amount_vnd),
back AS (SELECT account_id, sum(amount_vnd) AS vnd FROM refunded GROUP BY account_id),
locked AS MATERIALIZED (SELECT a.id FROM account a WHERE a.id IN (SELECT account_id FROM back) ORDER BY a.id FOR UPDATE),
given AS (
    UPDATE account SET balance_vnd = balance_vnd + back.vnd FROM back JOIN locked ON locked.id = back.account_id
    WHERE account.id = back.account_id),
known AS (
    SELECT f.*, n.status AS old_status,
        (SELECT e.status FROM event e WHERE e.account_id = f.account_id AND e.message = f.about
            AND e.kind = 'temporary' ORDER BY e.at DESC LIMIT 1) AS last_temporary,
        (SELECT count(*) FROM event e WHERE e.account_id = f.account_id AND e.message = f.about
            AND e.kind = 'temporary') AS temporaries
    FROM f LEFT JOIN final n ON n.account_id = f.account_id AND n.message = f.about),
temporary AS (
    SELECT DISTINCT ON (about) * FROM known
    WHERE status BETWEEN 32 AND 63 AND old_status IS NULL AND last_temporary IS DISTINCT FROM status
        AND about NOT IN (SELECT message FROM ended)
    ORDER BY about, received_at DESC),
into_event AS (
    INSERT INTO event (account_id, message, at, kind, attempt, channel_id, status, started_at, detail)
    SELECT account_id, about, %(at)s, 'temporary', try, channel_id, status, peer_time, cause FROM temporary
    UNION ALL
    SELECT account_id, about, %(at)s, 'correction', try, channel_id, folded, peer_time, cause FROM known
    WHERE old_status IS NOT NULL AND (status < 32 OR status >= 64) AND pieces = 1 AND folded <> old_status
    RETURNING kind),
news AS MATERIALIZED (
    SELECT account_id, message, status, gen_random_uuid() AS event_id,
        1 + (SELECT max(temporaries) FROM known WHERE known.about = ended.message) AS sequence
    FROM ended
    UNION ALL SELECT account_id, about, status, gen_random_uuid(), 1 + temporaries FROM temporary),
into_outbox AS (
    INSERT INTO outbox (endpoint_id, due, account_id, event_id, kind, subject, status, sequence, phone_form, created_at)
    SELECT p.id, %(at)s, news.account_id, news.event_id, 'report', news.message, news.status, news.sequence,
        coalesce(a.settings->>'phone_form', 'national'), %(at)s
    FROM news JOIN endpoint p ON p.account_id = news.account_id AND p.event = 'report' AND p.enabled
    JOIN account a ON a.id = news.account_id
    -- The magic number 84000000009 asks for the same webhook twice (protocol §16).
    CROSS JOIN generate_series(1, CASE WHEN EXISTS (
        SELECT FROM f WHERE f.about = news.message AND f.number = 84000000009) THEN 2 ELSE 1 END)
    RETURNING 1)
SELECT (SELECT count(*) FROM x), (SELECT count(*) FROM ended), (SELECT count(*) FROM parked),
    (SELECT min(due) FROM parked), CASE WHEN EXISTS (SELECT FROM into_outbox) THEN pg_notify('outbox', '') END
"""
_APPLY_NEW: Final = _FROM_PEERS + _APPLY
_APPLY_PARKED: Final = _FROM_PARKED + _APPLY


@dataclass(frozen=True, slots=True)
class Applied:
    """seen: receipts looked at; ended: messages made final; parked: kept for later, the first due at next_due."""

    seen: int
    ended: int
    parked: int
    next_due: datetime | None


async def apply(connection: Connection, receipts: Sequence[Receipt], at: datetime) -> Applied:
    """Store and apply receipts; after it returns the peer may be answered."""
    names = (
        "channel reference message attempt part parts status cause raw peer_time received due".split()
    )
    fields = _COLUMNS.split(", ")
    params = {name: [getattr(r, f) for r in receipts] for name, f in zip(names, fields, strict=True)}
    rows = await fetch(connection, _APPLY_NEW, params | {"at": at})
    return Applied(*rows[0][:4])


async def apply_parked(connection: Connection, at: datetime, most: int) -> Applied:
    """Look again at receipts that are due."""
    rows = await fetch(connection, _APPLY_PARKED, {"at": at, "most": most})
    return Applied(*rows[0][:4])


async def next_due(db: Database) -> datetime | None:
    rows = await db.read("SELECT min(due) FROM receipt")
    due: datetime | None = rows[0][0]
    return due
