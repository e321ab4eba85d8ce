"""A receipt, and the short way of those that just end their message, which nearly all do (design §7)."""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from psycopg.errors import UniqueViolation

from speedsms.gateway.store.columns import column, each, tame
from speedsms.gateway.store.db import Connection, fetch

_TOLD_TWICE: Final = 84000000009  # a magic number that asks for the same webhook twice (protocol §16)


class Receipt(Struct, frozen=True):
    """One report of one part, from channel `channel_id`. It names its message itself, or by one of its keys.

    number: whom it is about, None if it does not say. whole: it stands for all parts of its message. due: not
    to be looked at before.
    """

    channel_id: int
    reference: str
    keys: tuple[str, ...]
    number: int | None
    message: int | None
    attempt: int
    part: int
    parts: int
    whole: bool
    status: int | None
    cause: str
    raw: bytes
    peer_time: datetime | None
    received_at: datetime
    due: datetime


def is_plain(r: Receipt) -> bool:
    """Whether it may go the short way, as far as it can be told without asking the database."""
    return (
        r.status is not None
        and (r.status < 32 or r.status >= 64)
        and r.number is not None
        and r.message is None
        and r.number != _TOLD_TWICE
    )


def keys_of(receipt: Receipt) -> str:
    return "\x1e".join([tame(key) for key in receipt.keys or (receipt.reference,)])


def hooks_of(told: str) -> str:
    """SQL: the part `hooks`, where the accounts in `told` want their reports, and how numbers are written."""
    return f"""hooks AS MATERIALIZED (
    SELECT p.id, p.account_id, a.form FROM endpoint p
    CROSS JOIN LATERAL (
        SELECT coalesce(settings->>'phone_form', 'national') AS form FROM account
        WHERE account.id = p.account_id LIMIT 1) a
    WHERE p.account_id = ANY(ARRAY(SELECT DISTINCT account_id FROM {told})) AND event = 'report'
        AND enabled)"""


# named: what a receipt finds by the first of its keys that finds anything; a second one is read only to see
# whether the first is alone. It ends a message of one part that no other receipt of the batch is about and
# that is open: whoever ends a message takes its started mark away, its row in `flight`. All others are left
# to the statement that weighs candidates, parts and money (`reports.apply`): above all receipts that come
# early, or again, and those whose money is paid back.
#
# Tables are looked into row by row through their indexes. An array of keys would be a little cheaper, but
# where a partition is still empty PostgreSQL may plan it as a filter over all that a channel has.
_END: Final = f"""
WITH x AS MATERIALIZED (
    SELECT n, channel_id, string_to_array(keys, chr(30)) AS keys, number,
        CASE WHEN status < 32 THEN 0 ELSE status END AS status, coalesce(cause, '') AS cause, event_id
    FROM unnest({each("channel", "int")}, {each("keys", "text")}, {each("number", "bigint")},
        {each("status", "smallint")}, {each("cause", "text")}, {each("event_id", "uuid")}) WITH ORDINALITY
    AS x(channel_id, keys, number, status, cause, event_id, n)),
named AS MATERIALIZED (
    SELECT x.n, x.number, x.status, x.cause, x.event_id, r.* FROM x CROSS JOIN LATERAL (
        SELECT k.rule, c.*
        FROM (SELECT unnest(x.keys) AS key, generate_subscripts(x.keys, 1) AS rule) k CROSS JOIN LATERAL (
            SELECT count(*) AS found, min(message) AS message, min(account_id) AS account_id,
                min(parts) AS parts, min(request_reference) AS request_reference
            FROM (
                SELECT message, account_id, parts, request_reference FROM reference
                WHERE reference.channel_id = x.channel_id AND reference.key = k.key AND k.key <> ''
                    AND reference.number = x.number
                    AND message BETWEEN %(oldest)s AND %(newest)s AND until > %(at)s LIMIT 2) r
            HAVING count(*) > 0) c
        LIMIT 1) r),
twice AS (SELECT message FROM named GROUP BY message HAVING count(*) > 1),
landed AS (
    DELETE FROM flight WHERE message = ANY(ARRAY(
        SELECT message FROM named
        WHERE found = 1 AND parts = 1 AND message NOT IN (SELECT message FROM twice) AND (
            status < 64 OR NOT (
                SELECT refund FROM message m
                WHERE m.account_id = named.account_id AND m.id = named.message
                    AND m.id BETWEEN %(oldest)s AND %(newest)s LIMIT 1))))
    RETURNING message),
done AS MATERIALIZED (SELECT * FROM named WHERE message IN (SELECT message FROM landed)),
ended AS (INSERT INTO final SELECT account_id, message, status, %(at)s, cause FROM done),
{hooks_of("done")},
into_outbox AS (
    INSERT INTO outbox (endpoint_id, due, account_id, event_id, kind, subject, status, sequence, phone_form,
        created_at, number, reference)
    SELECT hooks.id, %(at)s, done.account_id, done.event_id, 'report', done.message, done.status, 1 + (
        SELECT count(*) FROM event e WHERE e.account_id = done.account_id AND e.message = done.message
            AND e.message BETWEEN %(oldest)s AND %(newest)s AND e.kind = 'temporary'), hooks.form, %(at)s,
        done.number, done.request_reference
    FROM done JOIN hooks ON hooks.account_id = done.account_id
    RETURNING 1)
SELECT ARRAY(SELECT n FROM x WHERE n NOT IN (SELECT n FROM done)),
    ARRAY(SELECT n * 8 + rule FROM done LIMIT 20),
    CASE WHEN EXISTS (SELECT FROM into_outbox) THEN pg_notify('outbox', '') END
"""


async def end(
    connection: Connection, receipts: Sequence[Receipt], window: dict[str, object]
) -> tuple[list[int], list[int]]:
    """End the messages of plain receipts; the places (from 1) of those that are left, and 8 × place + rule of
    a few that were found, by which of their keys.
    """
    ids = os.urandom(16 * len(receipts)).hex()  # PostgreSQL asks its source of randomness for each one
    params = window | {
        "channel": column([r.channel_id for r in receipts]),
        "keys": column([keys_of(r) for r in receipts]),
        "number": column([r.number for r in receipts]),
        "status": column([r.status for r in receipts]),
        "cause": column([tame(r.cause) for r in receipts]),
        "event_id": column([ids[i : i + 32] for i in range(0, len(ids), 32)]),
    }
    try:
        ((left, rules, _),) = await fetch(connection, _END, params)
    except UniqueViolation:  # one is final, and yet another attempt of it was started: nothing was written
        return list(range(1, len(receipts) + 1)), []
    return left, rules
