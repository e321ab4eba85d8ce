"""What carriers say later: matched, folded over parts, ended, or parked — a batch at a time (design §7)."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from msgspec import Struct, field

from speedsms.gateway.store.attempts import GRACE
from speedsms.gateway.store.columns import column, each, sparse, tame
from speedsms.gateway.store.db import Connection, Database, fetch, within
from speedsms.gateway.store.messages import request_id
from speedsms.gateway.store.receipts import Receipt, end, hooks_of, is_plain, keys_of

_REFERENCE_LIFE: Final = timedelta(days=10)  # older ones are dropped with their week
_TOMORROW: Final = timedelta(days=1)
_ANSWER_S: Final = 70.0  # a submit is answered, or has timed out, within a minute (channels §3.2)

# (channel, number) of messages that have waited for their answer for longer than a first look.
Slow: TypeAlias = Callable[[], Sequence[tuple[int, int]]]


_FROM_PEERS: Final = f"""
WITH x AS MATERIALIZED (
    SELECT n, channel_id, string_to_array(keys, chr(30)) AS keys, number, message, attempt, part, parts,
        whole, status, coalesce(cause, '') AS cause, peer_time, received_at
    FROM unnest({each("channel", "int")}, {each("keys", "text")}, {each("number", "bigint")},
        {each("message", "bigint")}, {each("attempt", "smallint")}, {each("part", "smallint")},
        {each("parts", "smallint")}, {each("whole", "bool")}, {each("status", "smallint")},
        {each("cause", "text")}, {each("peer_time", "timestamptz")}, {each("received", "timestamptz")})
    WITH ORDINALITY
    AS x(channel_id, keys, number, message, attempt, part, parts, whole, status, cause, peer_time,
        received_at, n)),
"""
_FROM_PARKED: Final = """
WITH x AS MATERIALIZED (
    SELECT id AS n, channel_id, keys, number, message, attempt, part, parts, whole, status, cause, peer_time,
        received_at
    FROM receipt WHERE due <= %(at)s ORDER BY due LIMIT %(most)s FOR UPDATE SKIP LOCKED),
"""
# named: the parts that each receipt may be about. An id is looked for on its channel, with its number, while
# it is young enough; carriers use ids again (channels §3.11). chosen: where several fit, the one that is not
# final, if only one is; else the last of them, which this receipt repeats. A receipt that finds nothing is
# given back to be parked, and so is one for a message that is final already, when it is looked at first and
# as long as a message to its number has not got its answer: its id may have been given again, to that one.
#
# A message is as good as its worst part: one failed part ends it at once, else all parts must be done (ST-4),
# in whichever attempt each of them was.
# The first final row wins; later ones that contradict it are corrections: written down, but neither money nor
# status moves (ST-3). A reference is written together with the post of its message's money; only what names
# its message itself, or one part of several, may come before that.
#
# Tables are looked into by LATERAL … LIMIT, row by row through their indexes; everything else meets in hash
# joins, for which nested loops are switched off (`connect`): the planner takes each of these sets for one
# row.
_WEIGH: Final = """
named AS MATERIALIZED (
    SELECT x.n, r.message AS about, r.attempt AS try, r.part AS piece,
        CASE WHEN x.whole THEN 1 ELSE r.parts END AS pieces, r.account_id, r.number AS phone, r.test,
        r.parts > 1 AS early, k.rule
    FROM x CROSS JOIN LATERAL unnest(x.keys) WITH ORDINALITY AS k(key, rule) CROSS JOIN LATERAL (
        SELECT * FROM reference
        WHERE reference.channel_id = x.channel_id AND reference.key = k.key AND k.key <> ''
            AND (x.number IS NULL OR reference.number = x.number)
            AND message BETWEEN %(oldest)s AND %(newest)s AND until > %(at)s LIMIT 2000) r
    WHERE x.message IS NULL
    UNION ALL
    SELECT x.n, x.message, x.attempt, x.part, CASE WHEN x.whole THEN 1 ELSE x.parts END, q.account_id,
        m.number, q.test, true, 0
    FROM x
    CROSS JOIN LATERAL (
        SELECT account_id, test FROM request
        WHERE tran_id = tran_id_of(x.message >> 7) AND id = x.message >> 7 LIMIT 1) q
    CROSS JOIN LATERAL (
        SELECT number FROM message WHERE account_id = q.account_id AND id = x.message LIMIT 1) m
    WHERE x.message IS NOT NULL),
several AS MATERIALIZED (SELECT n FROM named GROUP BY n HAVING count(*) > 1),
judged AS MATERIALIZED (
    SELECT named.*, o.status AS old,
        count(*) FILTER (WHERE o.status IS NULL) OVER (PARTITION BY n, rule) AS same
    FROM named LEFT JOIN LATERAL (
        SELECT status FROM final
        WHERE final.account_id = named.account_id AND final.message = about LIMIT 1) o ON true
    WHERE n = ANY(ARRAY(SELECT n FROM several))),
chosen AS (
    SELECT named.* FROM named WHERE n <> ALL(ARRAY(SELECT n FROM several))
    UNION ALL
    SELECT n, about, try, piece, pieces, account_id, phone, test, early, rule FROM (
        SELECT DISTINCT ON (n) * FROM judged ORDER BY n, old IS NOT NULL, rule, about DESC) best
    WHERE old IS NOT NULL OR same = 1),
f AS MATERIALIZED (
    SELECT x.channel_id, x.status, x.cause, x.peer_time, x.received_at, chosen.*,
        CASE WHEN x.status < 32 THEN 0 ELSE x.status END AS folded, x.status < 32 OR x.status >= 64 AS ends
    FROM x JOIN chosen USING (n)),
fresh AS MATERIALIZED (
    SELECT DISTINCT ON (about, try, piece) about, try, piece, folded FROM f
    WHERE pieces > 1 AND ends AND NOT EXISTS (
        SELECT FROM final WHERE final.account_id = f.account_id AND final.message = f.about)
    ORDER BY about, try, piece, received_at),
said AS (
    SELECT about, try, piece, folded FROM fresh
    UNION SELECT fresh.about, fresh.try, p.part, p.status FROM fresh CROSS JOIN LATERAL (
        SELECT part, status FROM part_final
        WHERE part_final.message = fresh.about AND (attempt = fresh.try OR status = 0) LIMIT 255) p),
whole AS (
    SELECT about, try, max(folded) AS status, count(DISTINCT piece) AS parts FROM said GROUP BY about, try),
verdict AS MATERIALIZED (
    SELECT DISTINCT ON (f.about) f.*, CASE WHEN f.pieces = 1 THEN f.folded ELSE whole.status END AS end_status
    FROM f LEFT JOIN whole ON whole.about = f.about AND whole.try = f.try
    WHERE f.ends AND (f.pieces = 1 OR whole.status >= 64 OR whole.parts = f.pieces)
    ORDER BY f.about, f.received_at, f.n),
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
    INSERT INTO transfer SELECT verdict.account_id, about, 1, 3, 3, 4, m.price_vnd, %(at)s
    FROM verdict CROSS JOIN LATERAL (
        SELECT price_vnd FROM message WHERE account_id = verdict.account_id AND id = about LIMIT 1) m
    WHERE early AND NOT test ON CONFLICT DO NOTHING),
refunded AS (
    INSERT INTO transfer SELECT ended.account_id, ended.message, 2, 5, 4, 2, m.price_vnd, %(at)s
    FROM ended JOIN verdict ON verdict.about = ended.message CROSS JOIN LATERAL (
        SELECT price_vnd, refund FROM message
        WHERE account_id = ended.account_id AND id = ended.message LIMIT 1) m
    WHERE ended.status >= 64 AND NOT test AND m.refund AND m.price_vnd > 0
    ON CONFLICT DO NOTHING RETURNING account_id, amount_vnd),
back AS (SELECT account_id, sum(amount_vnd) AS vnd FROM refunded GROUP BY account_id),
locked AS MATERIALIZED (
    SELECT id FROM account WHERE id = ANY(ARRAY(SELECT account_id FROM back)) ORDER BY id FOR UPDATE),
given AS (
    UPDATE account SET balance_vnd = balance_vnd + (SELECT vnd FROM back WHERE back.account_id = account.id)
    WHERE id = ANY(ARRAY(SELECT id FROM locked))),
late AS MATERIALIZED (
    SELECT f.*, o.status AS old FROM f LEFT JOIN LATERAL (
        SELECT status FROM final
        WHERE final.account_id = f.account_id AND final.message = f.about LIMIT 1) o ON true
    WHERE NOT ends OR (pieces = 1 AND about <> ALL(ARRAY(SELECT message FROM ended)))),
temporary AS (
    SELECT DISTINCT ON (about) late.* FROM late
    WHERE NOT ends AND status >= 32 AND old IS NULL AND about NOT IN (SELECT about FROM verdict)
        AND status IS DISTINCT FROM (
            SELECT e.status FROM event e WHERE e.account_id = late.account_id AND e.message = late.about
                AND e.kind = 'temporary' ORDER BY e.at DESC LIMIT 1)
    ORDER BY about, received_at DESC),
again AS (
    SELECT n FROM late WHERE ends AND NOT test AND rule > 0 AND (
        received_at > %(fresh)s OR (channel_id, phone) IN (
            SELECT * FROM unnest(%(slow_channel)s::int[], %(slow_number)s::bigint[])))),
into_event AS (
    INSERT INTO event (account_id, message, at, kind, attempt, channel_id, status, started_at, detail)
    SELECT account_id, about, %(at)s, 'temporary', try, channel_id, status, peer_time, cause FROM temporary
    UNION ALL
    SELECT account_id, about, %(at)s, 'correction', try, channel_id, folded, peer_time, cause FROM late
    WHERE ends AND folded <> old AND n NOT IN (SELECT n FROM again)),
news AS MATERIALIZED (
    SELECT account_id, message, status, gen_random_uuid() AS event_id FROM ended
    UNION ALL SELECT account_id, about, status, gen_random_uuid() FROM temporary),
"""
_TELL: Final = f"""{hooks_of("news")},
into_outbox AS (
    INSERT INTO outbox (endpoint_id, due, account_id, event_id, kind, subject, status, sequence, phone_form,
        created_at)
    SELECT hooks.id, %(at)s, news.account_id, news.event_id, 'report', news.message, news.status, 1 + t.said,
        hooks.form, %(at)s
    FROM news JOIN hooks ON hooks.account_id = news.account_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS said FROM event e WHERE e.account_id = news.account_id AND e.message = news.message
            AND e.kind = 'temporary' LIMIT 1) t
    -- The magic number 84000000009 asks for the same webhook twice (protocol §16).
    CROSS JOIN LATERAL generate_series(1, CASE WHEN news.message = ANY(ARRAY(
        SELECT about FROM f WHERE phone = 84000000009)) THEN 2 ELSE 1 END)
    RETURNING 1)
"""
_ANSWER: Final = """
SELECT (SELECT count(*) FROM x), (SELECT count(*) FROM ended),
    ARRAY(SELECT n FROM x WHERE n <> ALL(ARRAY(SELECT n FROM chosen)) UNION ALL SELECT n FROM again),
    CASE WHEN EXISTS (SELECT FROM into_outbox) THEN pg_notify('outbox', '') END,
"""
_BY_WHICH_KEY: Final = "ARRAY(SELECT n * 8 + rule FROM f WHERE rule > 0 LIMIT 20)"
_OF_WHICH_CHANNEL: Final = "ARRAY(SELECT channel_id FROM f WHERE n NOT IN (SELECT n FROM again))"
_MATCHED: Final = """,
gone AS (
    DELETE FROM receipt WHERE id = ANY(ARRAY(SELECT n FROM chosen WHERE n NOT IN (SELECT n FROM again))))
"""
_APPLY_NEW: Final = _FROM_PEERS + _WEIGH + _TELL + _ANSWER + _BY_WHICH_KEY
_APPLY_PARKED: Final = _FROM_PARKED + _WEIGH + _TELL + _MATCHED + _ANSWER + _OF_WHICH_CHANNEL
# A mapping may come as late as an answer: until then a receipt is looked at every few seconds, then rarely.
_LATER: Final = f"""
%(at)s + CASE WHEN %(at)s - received_at < interval '{_ANSWER_S:.0f} seconds'
    THEN least(greatest((%(at)s - received_at) / 2, interval '1 second'), interval '4 seconds')
    ELSE least((%(at)s - received_at) / 2, interval '10 minutes') END
"""
_PARK: Final = f"""
INSERT INTO receipt (channel_id, reference, keys, number, message, attempt, part, parts, whole, status, cause,
    raw, peer_time, received_at, due)
SELECT channel_id, reference, string_to_array(keys, chr(30)), number, message, attempt, part, parts, whole,
    status, cause, raw, peer_time, received_at, CASE WHEN due > %(at)s THEN due ELSE {_LATER} END
FROM unnest(%(channel)s::int[], %(reference)s::text[], %(keys)s::text[], %(number)s::bigint[],
    %(message)s::bigint[], %(attempt)s::smallint[], %(part)s::smallint[], %(parts)s::smallint[],
    %(whole)s::bool[], %(status)s::smallint[], %(cause)s::text[], %(raw)s::bytea[],
    %(peer_time)s::timestamptz[], %(received)s::timestamptz[], %(due)s::timestamptz[])
AS x(channel_id, reference, keys, number, message, attempt, part, parts, whole, status, cause, raw, peer_time,
    received_at, due)
RETURNING due
"""
# A stray is told once, at its first look after the last answer that could name it: the next one comes when it
# is half as old again.
_PARK_AGAIN: Final = f"""
UPDATE receipt SET due = {_LATER} WHERE id = ANY(%(ids)s)
RETURNING due, channel_id, %(at)s - received_at >= interval '{_ANSWER_S:.0f} seconds'
    AND %(at)s - received_at < interval '{1.5 * _ANSWER_S:.0f} seconds'
"""


class Applied(Struct, frozen=True):
    """seen: receipts looked at; ended: messages made final; parked: kept, the first until next_due.

    matched: a few that were found by a key of theirs, and which of their keys it was. found: how many of each
    channel found their message; strays: how many have waited for it so long that they hardly will.
    """

    seen: int
    ended: int
    parked: int
    next_due: datetime | None
    matched: Sequence[tuple[Receipt, int]] = ()
    found: Counter[int] = field(default_factory=Counter)
    strays: Counter[int] = field(default_factory=Counter)


# A plan made while the tables are empty must be one for full ones too: no bitmap of all that a channel has.
_OFF: Final = ("enable_nestloop", "enable_bitmapscan")


async def connect(db: Database) -> Connection:
    """A connection for `apply` and `apply_parked`."""
    return await db.connect(hot=True, off=_OFF)


def _window(at: datetime) -> dict[str, object]:
    """Between which messages a receipt may look."""
    return {
        "at": at,
        "oldest": first_message(at - _REFERENCE_LIFE),
        "newest": first_message(at + _TOMORROW),
    }


def _early(at: datetime, slow: Slow) -> dict[str, object]:
    """Since when, or beside what, a receipt may be an early one."""
    waiting = slow()
    return {
        "slow_channel": [channel_id for channel_id, _ in waiting],
        "slow_number": [number for _, number in waiting],
        "fresh": at - timedelta(seconds=1),
    }


async def apply(
    connection: Connection, receipts: Sequence[Receipt], at: datetime, slow: Slow = tuple
) -> Applied:
    """Store and apply receipts; after it returns the peer may be answered.

    Each receipt is applied in one commit, not all of them: what dies between two is told again, and absorbed.
    """
    now = [r for r in receipts if r.due <= at]
    window = _window(at)
    plain = [r for r in now if is_plain(r)]
    left, rules = await end(connection, plain, window) if plain else ([], [])
    rest = [plain[n - 1] for n in left] + [r for r in now if not is_plain(r)]
    early, ended, more = await _weigh(connection, rest, window | _early(at, slow)) if rest else ([], 0, [])
    parked = early + [r for r in receipts if r.due > at]
    found = Counter([r.channel_id for r in now])
    found.subtract([r.channel_id for r in early])
    return Applied(
        len(receipts),
        len(plain) - len(left) + ended,
        len(parked),
        await _park(connection, parked, at) if parked else None,
        _by_key(plain, rules) + _by_key(rest, more),
        found,
    )


def _by_key(receipts: Sequence[Receipt], rules: Sequence[int]) -> list[tuple[Receipt, int]]:
    """rules: 8 × place + rule, both from 1."""
    return [(receipts[n // 8 - 1], n % 8 - 1) for n in rules]


async def _weigh(
    connection: Connection, receipts: Sequence[Receipt], window: dict[str, object]
) -> tuple[list[Receipt], int, list[int]]:
    """Apply receipts of any kind: those that find nothing yet, messages ended, 8 × place + rule."""
    params = window | {
        "channel": column(r.channel_id for r in receipts),
        "keys": column(map(keys_of, receipts)),
        "number": sparse(r.number for r in receipts),
        "message": sparse(r.message for r in receipts),
        "attempt": column(r.attempt for r in receipts),
        "part": column(r.part for r in receipts),
        "parts": column(r.parts for r in receipts),
        "whole": column(r.whole for r in receipts),
        "status": sparse(r.status for r in receipts),
        "cause": column(tame(r.cause) for r in receipts),
        "peer_time": sparse(r.peer_time for r in receipts),
        "received": column(r.received_at for r in receipts),
    }
    ((_, ended, unmatched, _, rules),) = await fetch(connection, _APPLY_NEW, params)
    return [receipts[n - 1] for n in unmatched], ended, rules


async def _park(connection: Connection, receipts: Sequence[Receipt], at: datetime) -> datetime | None:
    params: dict[str, object] = {
        "at": at,
        "channel": [r.channel_id for r in receipts],
        "reference": [tame(r.reference) for r in receipts],
        "keys": list(map(keys_of, receipts)),
        "number": [r.number for r in receipts],
        "message": [r.message for r in receipts],
        "attempt": [r.attempt for r in receipts],
        "part": [r.part for r in receipts],
        "parts": [r.parts for r in receipts],
        "whole": [r.whole for r in receipts],
        "status": [r.status for r in receipts],
        "cause": [tame(r.cause) for r in receipts],
        "raw": [r.raw for r in receipts],
        "peer_time": [r.peer_time for r in receipts],
        "received": [r.received_at for r in receipts],
        "due": [r.due for r in receipts],
    }
    rows = await fetch(connection, _PARK, params)
    return min((row[0] for row in rows), default=None)


async def apply_parked(connection: Connection, at: datetime, most: int, slow: Slow = tuple) -> Applied:
    """Look again at receipts that are due."""
    async with within(connection):
        ((seen, ended, unmatched, _, channels),) = await fetch(
            connection, _APPLY_PARKED, _window(at) | _early(at, slow) | {"most": most}
        )
        rows = await fetch(connection, _PARK_AGAIN, {"at": at, "ids": unmatched}) if unmatched else []
    next_due = min((row[0] for row in rows), default=None)
    strays = Counter(channel_id for _, channel_id, stray in rows if stray)
    return Applied(seen, ended, len(rows), next_due, found=Counter(channels), strays=strays)


# An attempt without answer has no id, so this is the only way its receipt can find it: exactly one part to
# that number is unknown on that channel, and none to it waits for an answer (channels §1.8). A receipt that
# came before the attempt began, or whose id is known, is about something else. As no other part of its
# message is unknown, the message is taken now: its id finds what else is said of it.
_ADOPT: Final = f"""
WITH lost AS MATERIALIZED (
    SELECT DISTINCT ON (r.channel_id, r.number) r.id, r.keys[1] AS key, r.reference, d.*
    FROM doubt d JOIN receipt r ON r.channel_id = d.channel_id AND r.number = d.number
    WHERE r.message IS NULL AND d.until > %(at)s AND NOT EXISTS (
        SELECT FROM final n WHERE n.account_id = d.account_id AND n.message = d.message)
    AND EXISTS (
        SELECT FROM event e WHERE e.account_id = d.account_id AND e.message = d.message
            AND e.attempt = d.attempt AND e.started_at <= r.received_at)
    AND NOT EXISTS (
        SELECT FROM reference k WHERE k.channel_id = r.channel_id AND k.key = ANY(r.keys)
            AND k.number = r.number AND k.key <> '')
    ORDER BY r.channel_id, r.number, r.received_at),
sole AS MATERIALIZED (
    SELECT lost.*, o.price_vnd, q.test FROM lost
    JOIN message o ON o.account_id = lost.account_id AND o.id = lost.message
    JOIN request q ON q.tran_id = tran_id_of(lost.message >> 7) AND q.id = lost.message >> 7
    WHERE (
        SELECT count(*) FROM doubt d WHERE d.channel_id = lost.channel_id AND d.number = lost.number
            AND d.until > %(at)s AND NOT EXISTS (
                SELECT FROM final n WHERE n.account_id = d.account_id AND n.message = d.message)) = 1
    AND NOT EXISTS (
        SELECT FROM flight f JOIN message m ON m.account_id = f.account_id AND m.id = f.message
        WHERE f.channel_id = lost.channel_id AND m.number = lost.number
            AND f.started_at > %(at)s - interval '{_ANSWER_S:.0f} seconds'
            AND NOT EXISTS (SELECT FROM event e WHERE e.account_id = f.account_id AND e.message = f.message
                AND e.attempt = f.attempt))),
taken AS (
    DELETE FROM doubt d USING sole WHERE d.message = sole.message AND d.attempt = sole.attempt
        AND d.part = sole.part),
named AS (
    INSERT INTO reference SELECT message, number, until, channel_id, account_id, attempt, part, parts, test,
        key, reference FROM sole
    ON CONFLICT (message, attempt, part) WHERE parts > 1 DO NOTHING),
known AS (
    UPDATE flight f SET due = f.expires_at + %(grace)s FROM sole
    WHERE f.message = sole.message AND f.attempt = sole.attempt),
into_event AS (
    INSERT INTO event (account_id, message, at, kind, attempt, channel_id, detail)
    SELECT account_id, message, %(at)s, 'sent', attempt, channel_id, 'no answer, but a receipt' FROM sole),
posted AS (
    INSERT INTO transfer SELECT account_id, message, 1, 3, 3, 4, price_vnd, %(at)s FROM sole WHERE NOT test
    ON CONFLICT DO NOTHING)
UPDATE receipt r SET message = sole.message, attempt = sole.attempt, part = sole.part, parts = sole.parts,
    due = %(at)s
FROM sole WHERE r.id = sole.id RETURNING r.id
"""


async def adopt(db: Database, at: datetime) -> int:
    """Give unmatched receipts to the unknown attempts they must be about; how many found one."""
    if not (await db.read("SELECT EXISTS (SELECT FROM doubt) AND EXISTS (SELECT FROM receipt)"))[0][0]:
        return 0
    return len(await db.rows(_ADOPT, at=at, grace=GRACE))


def first_message(moment: datetime) -> int:
    """The lowest id of a message accepted at that moment."""
    return request_id(0, moment) << 7
