"""Incoming messages: stored once, given to their account, opt-outs noted, webhooks queued — one commit."""

from dataclasses import dataclass
from datetime import datetime

from speedsms.gateway.store.db import Connection, fetch

_OWNER = """
SELECT account_id, test FROM request WHERE %(reply_to)s::bigint IS NOT NULL
    AND tran_id = tran_id_of(%(reply_to)s::bigint >> 7) AND id = %(reply_to)s::bigint >> 7
UNION ALL
SELECT account_id, false FROM sender WHERE id = %(recipient)s AND kind IN ('number', 'device')
    AND status = 'approved'
LIMIT 1
"""
_STORE = """
WITH kept AS (
    INSERT INTO incoming (account_id, channel_id, sender, recipient, content, partial, dedup_key, raw,
        peer_time,
        received_at)
    VALUES (%(account)s, %(channel)s, %(sender)s, %(recipient)s, %(content)s, %(partial)s, %(dedup)s, %(raw)s,
        %(peer_time)s, %(received)s)
    ON CONFLICT (channel_id, dedup_key) DO NOTHING RETURNING id, account_id),
out AS (
    INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, sequence, phone_form, created_at)
    SELECT p.id, %(at)s, kept.account_id, 'sms', kept.id, 1, coalesce(a.settings->>'phone_form', 'national'),
        %(at)s
    FROM kept JOIN endpoint p ON p.account_id = kept.account_id AND p.event = 'sms' AND p.enabled
    JOIN account a ON a.id = kept.account_id RETURNING 1),
gone AS (
    INSERT INTO suppression SELECT account_id, %(number)s::bigint, 'opt_out', %(at)s FROM kept
    WHERE %(opts_out)s AND %(number)s::bigint IS NOT NULL AND account_id IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING 1)
SELECT kept.id, EXISTS (SELECT FROM gone), CASE WHEN EXISTS (SELECT FROM out) THEN pg_notify('outbox',
    '') END,
    CASE WHEN EXISTS (SELECT FROM gone) THEN pg_notify('config', '') END FROM kept
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose message it is. test: it answers a message of a test token."""

    account_id: int
    test: bool


async def owner(connection: Connection, reply_to: int | None, recipient: str) -> Owner | None:
    """The account of the request it answers, else of the registered number or device it came to.

    None: nobody's; it is stored and shown all the same (SM-44).
    """
    rows = await fetch(connection, _OWNER, {"reply_to": reply_to, "recipient": recipient})
    return Owner(*rows[0]) if rows else None


async def keep(
    connection: Connection,
    *,
    account_id: int | None,
    channel_id: int,
    sender: str,
    number: int | None,
    recipient: str,
    content: str,
    partial: bool,
    dedup_key: str,
    raw: bytes,
    peer_time: datetime | None,
    received_at: datetime,
    opts_out: bool,
    at: datetime,
) -> bool:
    """Store it, unless it is a repetition of one that is stored; whether its sender newly opted out."""
    rows = await fetch(
        connection,
        _STORE,
        {
            "account": account_id,
            "channel": channel_id,
            "sender": sender,
            "number": number,
            "recipient": recipient,
            "content": content,
            "partial": partial,
            "dedup": dedup_key,
            "raw": raw,
            "peer_time": peer_time,
            "received": received_at,
            "opts_out": opts_out,
            "at": at,
        },
    )
    return bool(rows and rows[0][1])
