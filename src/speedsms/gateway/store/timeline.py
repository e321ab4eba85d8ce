"""The story of one request, read from every table that knows a part of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from speedsms.gateway.store.db import Database


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the story. `n`: which message of the request, 0 for the whole request."""

    at: datetime
    n: int
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Recipient:
    n: int
    number: str
    entry: str
    price_vnd: int
    state: str


@dataclass(frozen=True, slots=True)
class Story:
    """A request, its messages and what happened, in order of time."""

    tran_id: int
    request: int
    account: str
    kind: str
    sms_type: int
    sender: str
    content: str
    encoding: str
    parts: int
    total_vnd: int
    due: datetime
    reference: str | None
    test: bool
    at: datetime
    recipients: list[Recipient]
    moments: list[Moment]


_REQUEST: Final = """
SELECT r.tran_id, r.id, a.name, r.kind, r.sms_type, r.sender, r.content, r.encoding, r.parts, r.total_vnd,
       r.due, r.reference, r.test, r.at, r.account_id
FROM request r JOIN account a ON a.id = r.account_id WHERE r.tran_id = %(tran_id)s ORDER BY r.id DESC LIMIT 1
"""
_RECIPIENTS: Final = """
SELECT (m.id & 127)::int, m.number::text, m.entry, m.price_vnd, coalesce('final ' || f.status,
       (SELECT 'in flight, attempt ' || max(attempt) FROM flight WHERE message = m.id HAVING count(*) > 0),
       'waiting')
FROM message m LEFT JOIN final f ON f.account_id = m.account_id AND f.message = m.id
WHERE m.account_id = %(account)s AND m.id BETWEEN %(first)s AND %(last)s ORDER BY m.id
"""
# Each table tells its part with the same four columns: time, message, what, detail.
_MOMENTS: Final = """
SELECT e.at, e.message, e.kind, concat_ws(', ', 'channel ' || coalesce(c.name, e.channel_id::text),
       'attempt ' || e.attempt, 'status ' || e.status, 'started ' || e.started_at, nullif(e.detail, ''))
FROM event e LEFT JOIN channel c ON c.id = e.channel_id
WHERE e.account_id = %(account)s AND e.message BETWEEN %(first)s AND %(last)s
UNION ALL
SELECT at, message, 'final', 'status ' || status || ', ' || cause FROM final
WHERE account_id = %(account)s AND message BETWEEN %(first)s AND %(last)s
UNION ALL
SELECT at, ref, 'ledger',
       (ARRAY['top-up', 'hold', 'post', 'void', 'refund', 'adjust'])[code] || ' ' || amount_vnd
FROM transfer WHERE account_id = %(account)s AND ref BETWEEN %(first)s - 1 AND %(last)s
UNION ALL
SELECT created_at, subject, 'webhook waiting',
       concat_ws(', ', 'endpoint ' || endpoint_id, 'due ' || due, 'event ' || event_id)
FROM outbox WHERE account_id = %(account)s AND kind = 'report' AND subject BETWEEN %(first)s AND %(last)s
UNION ALL
SELECT buried_at, subject, 'webhook buried',
       concat_ws(', ', 'endpoint ' || endpoint_id, reason, 'event ' || event_id)
FROM buried WHERE account_id = %(account)s AND kind = 'report' AND subject BETWEEN %(first)s AND %(last)s
UNION ALL
SELECT at, subject, 'webhook ' || outcome, concat_ws(', ', 'endpoint ' || endpoint_id, 'attempt ' || attempt,
       'HTTP ' || http_status, duration_ms || ' ms', nullif(detail, ''), 'next ' || next_due)
FROM attempt_log WHERE account_id = %(account)s AND kind = 'report' AND subject BETWEEN %(first)s AND %(last)s
ORDER BY 1, 2
"""


async def story(db: Database, tran_id: int) -> Story | None:
    """Everything known of the newest request with this number; None when there is none."""
    rows = await db.read(_REQUEST, tran_id=tran_id)
    if not rows:
        return None
    *request, account_id = rows[0]
    first = rows[0][1] << 7
    between = {"account": account_id, "first": first + 1, "last": first + 127}
    recipients = [Recipient(*row) for row in await db.read(_RECIPIENTS, **between)]
    moments = _numbered(await db.read(_MOMENTS, **between))
    return Story(*(*request, recipients, moments))


def _numbered(rows: Iterable[tuple[Any, ...]]) -> list[Moment]:
    return [Moment(at, message & 127, what, detail or "") for at, message, what, detail in rows]
