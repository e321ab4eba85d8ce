"""Millions of finished messages, so that it shows whether a message costs more when the tables are full."""

from typing import Any

import psycopg
from gateway import ACCOUNT

_ACCOUNTS = 10
_PRICE_VND = 250
_AT_ONCE = 250_000
_TRAN_ID = 1_000_000_000  # far from the numbers that the sequence gives meanwhile

# The i-th message is the one of the i-th request; accounts take turns, ids spread over the running week,
# where the messages of the load arrive too. Each has a hold and its end, and its account paid for it.
_ROWS = """
WITH n AS (
    SELECT a.id AS account, r.id AS request, r.id << 7 | 1 AS message, 84912000000 + i %% 1000000 AS number
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) i
    CROSS JOIN LATERAL (SELECT date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS start) week
    CROSS JOIN LATERAL (SELECT greatest(extract(epoch FROM now() - start)::bigint / 60, 60) AS minutes) past
    CROSS JOIN LATERAL (
        SELECT first_id(start, 31) + ((i * minutes / %(count)s) << 31 | (%(tran_id)s + i)) AS id) r
    JOIN stock_account a ON a.n = i %% %(accounts)s)
"""
_TABLES = (
    """INSERT INTO request SELECT request, tran_id_of(request), account, 0, 'sms', 2, '', 'Finished long ago',
       'gsm', 17, 1, 0, %(price)s, 3600, now(), NULL, false, now() FROM n""",
    "INSERT INTO message SELECT account, message, number, %(price)s, 1, 1, false, number::text FROM n",
    "INSERT INTO event SELECT account, message, now(), 'sent', 1, 1, NULL, now(), '' FROM n",
    "INSERT INTO final SELECT account, message, 0, now(), 'accepted' FROM n",
    "INSERT INTO transfer SELECT account, request << 7, 0, 2, 2, 3, %(price)s, now() FROM n",
    "INSERT INTO transfer SELECT account, message, 1, 3, 3, 4, %(price)s, now() FROM n",
)


def fill(db: psycopg.Connection[Any], count: int) -> None:
    """Store `count` messages of ten accounts, the one under load among them; the books agree."""
    db.execute("SET synchronous_commit = off")
    db.execute(
        f"""CREATE TEMP TABLE stock_account AS
            SELECT row_number() OVER (ORDER BY name <> '{ACCOUNT}') - 1 AS n, id FROM account"""
    )
    for n in range(1, _ACCOUNTS):
        db.execute(
            """WITH a AS (INSERT INTO account (name, email)
                   VALUES (%(name)s, 'stock@example.com') RETURNING id)
               INSERT INTO stock_account SELECT %(n)s, id FROM a""",
            {"name": f"stock{n}", "n": n},
        )
    for first in range(0, count, _AT_ONCE):
        _insert(db, first, min(first + _AT_ONCE, count) - 1, count)
    db.execute(
        f"""INSERT INTO transfer
            SELECT account_id, max(ref) | 127, 0, 1, 1, 2, sum(amount_vnd), now(), 'stock'
            FROM transfer WHERE code = 2 AND tran_id_of(ref >> 7) >= {_TRAN_ID} GROUP BY account_id"""
    )
    db.execute("VACUUM ANALYZE")
    db.execute("CHECKPOINT")


def _insert(db: psycopg.Connection[Any], first: int, last: int, count: int) -> None:
    spread = {"first": first, "last": last, "count": count, "tran_id": _TRAN_ID, "accounts": _ACCOUNTS}
    spread["price"] = _PRICE_VND
    with db.transaction():
        for table in _TABLES:
            db.execute(_ROWS + table, spread)
