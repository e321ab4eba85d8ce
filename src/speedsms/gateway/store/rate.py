"""The rate windows that all processes share: one row per account, the times of its counted requests."""

from collections.abc import Sequence
from typing import Final

from speedsms.gateway.store.db import Database

# Rows are locked in the order of their ids, so that two batches never wait for each other in a circle.
_TAKE: Final = """
WITH asked AS (
    SELECT * FROM unnest(%(accounts)s::integer[], %(limits)s::integer[], %(wanted)s::integer[])
        AS a (account_id, most, wanted)
), locked AS (
    SELECT w.account_id, a.most, a.wanted,
           ARRAY(SELECT h FROM unnest(w.hits) h WHERE h > %(since)s) AS live
    FROM rate_window w JOIN asked a USING (account_id)
    ORDER BY w.account_id FOR UPDATE OF w
), granted AS (
    SELECT account_id, live, greatest(0, least(wanted, most - cardinality(live))) AS n FROM locked
)
UPDATE rate_window w
SET hits = g.live || array_fill(%(now)s::double precision, ARRAY[g.n])
FROM granted g WHERE w.account_id = g.account_id
RETURNING w.account_id, g.n, cardinality(w.hits), (SELECT min(h) FROM unnest(w.hits) h)
"""
_MAKE: Final = """
INSERT INTO rate_window (account_id, hits)
SELECT id, '{}' FROM unnest(%(accounts)s::integer[]) id ON CONFLICT DO NOTHING
"""
_LOOK: Final = """
SELECT h FROM rate_window, unnest(hits) h WHERE account_id = %(account_id)s AND h > %(since)s
"""


async def take(
    db: Database, asked: Sequence[tuple[int, int, int]], now: float, since: float
) -> dict[int, tuple[int, int, float]]:
    """asked: (account id, limit, requests wanted). Per account: (granted, counted after, oldest counted).

    now and since are Unix seconds: a request counts while it is younger than since.
    Raises DatabaseAway, CommitUnknown.
    """
    accounts, limits, wanted = (list(column) for column in zip(*asked, strict=True))
    params = {"accounts": accounts, "limits": limits, "wanted": wanted, "now": now, "since": since}
    rows = await db.rows(_TAKE, **params)
    if len(rows) < len(set(accounts)):  # the first request of an account, or after a crash of the server
        await db.execute(_MAKE, accounts=accounts)
        missing = [ask for ask in asked if ask[0] not in {row[0] for row in rows}]
        return _by_account(rows) | await take(db, missing, now, since)
    return _by_account(rows)


def _by_account(rows: Sequence[tuple[int, int, int, float | None]]) -> dict[int, tuple[int, int, float]]:
    return {account: (granted, counted, oldest or 0.0) for account, granted, counted, oldest in rows}


async def hits(db: Database, account_id: int, since: float) -> list[float]:
    """When the counted requests of an account came, as Unix seconds. Raises DatabaseAway."""
    return [row[0] for row in await db.rows(_LOOK, account_id=account_id, since=since)]
