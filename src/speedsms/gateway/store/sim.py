"""What the simulator's phones hold, and what they are told to do."""

from typing import Any, Final

from speedsms.gateway.store.db import Database
from speedsms.gateway.store.messages import tran_id_of

MOST: Final = 500
# Newest first by the attempts of simulator channels; a message tried twice shows once.
_MESSAGES: Final = """
SELECT m.id, m.number, q.sender, q.content, q.encoding, q.parts, m.price_vnd, q.test, e.at, n.status
FROM (SELECT DISTINCT account_id, message, max(at) AS at FROM event
      WHERE kind = 'sent' AND channel_id IN (SELECT id FROM channel WHERE kind = 'sim')
          AND message >= (SELECT coalesce(max(id), 0) FROM message) - (2::bigint << 50)
      GROUP BY account_id, message) e
JOIN message m ON m.account_id = e.account_id AND m.id = e.message
JOIN request q ON q.tran_id = tran_id_of(m.id >> 7) AND q.id = m.id >> 7
LEFT JOIN final n ON n.account_id = m.account_id AND n.message = m.id
WHERE (%(number)s::bigint IS NULL OR m.number = %(number)s::bigint)
    AND (%(text)s = '' OR position(lower(%(text)s) IN lower(q.content)) > 0)
ORDER BY e.at DESC, m.id DESC LIMIT %(most)s
"""


async def messages(
    db: Database, *, number: int | None = None, text: str = "", most: int = MOST
) -> list[dict[str, Any]]:
    """Messages that simulators took, newest first."""
    rows = await db.read(_MESSAGES, number=number, text=text, most=most)
    return [
        {
            "tranId": tran_id_of(row[0]),
            "phone": str(row[1]),
            "sender": row[2],
            "content": row[3],
            "encoding": row[4],
            "parts": row[5],
            "priceVnd": row[6],
            "test": row[7],
            "at": row[8].isoformat(),
            "status": row[9],
        }
        for row in rows
    ]


async def newest(db: Database, number: int) -> tuple[int, str] | None:
    """The newest message a phone got, and its sender."""
    rows = await db.read(_MESSAGES, number=number, text="", most=1)
    return (rows[0][0], rows[0][2]) if rows else None


async def channel_id(db: Database) -> int:
    rows = await db.read("SELECT id FROM channel WHERE kind = 'sim' ORDER BY id LIMIT 1")
    return int(rows[0][0])


async def ask(db: Database, phone: str, outcome: str, count: int | None) -> None:
    """From now on, or for the next `count` messages, this phone's messages end so."""
    await db.rows(
        "WITH s AS (INSERT INTO script VALUES (%(number)s, %(outcome)s, %(count)s)"
        " ON CONFLICT (number) DO UPDATE"
        " SET outcome = excluded.outcome, remaining = excluded.remaining RETURNING 1)"
        " SELECT pg_notify('config', '') FROM s",
        number=phone,
        outcome=outcome,
        count=count,
    )


async def asked(db: Database) -> dict[str, tuple[str, int | None]]:
    """Outcomes by phone, and for how many messages more."""
    rows = await db.read(
        "SELECT number, outcome, remaining FROM script WHERE remaining IS NULL OR remaining > 0"
    )
    return {number: (outcome, remaining) for number, outcome, remaining in rows}


async def spend(db: Database, phone: str) -> None:
    """One of the counted messages went to this phone."""
    await db.execute("UPDATE script SET remaining = remaining - 1 WHERE number = %(number)s", number=phone)
