"""Receipts that matched nothing yet, for operators' eyes (channels SM-32, SM-33)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from speedsms.gateway.store.db import Connection, fetch


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """number: whom it is about, if it says so; due: when it is looked at again; raw: as it came."""

    id: int
    channel: str
    reference: str
    number: str
    status: int | None
    cause: str
    received_at: datetime
    due: datetime
    raw: str


@dataclass(frozen=True, slots=True)
class Open:
    """Of a channel: receipts that match nothing, those of them without id or state, parts in doubt."""

    unmatched: int
    unparsed: int
    unknown: int


# What the simulator will say later waits in the same table and is none of this.
_UNMATCHED: Final = "r.message IS NULL AND c.kind <> 'sim'"
_UNPARSED: Final = "(r.reference = '' OR r.status IS NULL)"


async def parked(
    connection: Connection, channel: str | None, *, unparsed: bool, most: int
) -> list[ParkedRow]:
    """The newest first."""
    sql = f"""SELECT r.id, c.name, r.reference, coalesce(r.number::text, ''), r.status, r.cause,
                     r.received_at, r.due, r.raw
              FROM receipt r JOIN channel c ON c.id = r.channel_id
              WHERE {_UNMATCHED} AND c.name = coalesce(%(channel)s::text, c.name)
                AND (NOT %(unparsed)s OR {_UNPARSED})
              ORDER BY r.id DESC LIMIT %(most)s"""
    rows = await fetch(connection, sql, {"channel": channel, "unparsed": unparsed, "most": most})
    return [ParkedRow(*(*row[:-1], _readable(row[-1]))) for row in rows]


async def retry(connection: Connection, receipt_id: int | None, at: datetime) -> int:
    """Due at once, one or (None) all; how many. The worker looks at them within a second or two."""
    sql = f"""UPDATE receipt SET due = %(at)s WHERE id IN (
                  SELECT r.id FROM receipt r JOIN channel c ON c.id = r.channel_id
                  WHERE {_UNMATCHED} AND r.id = coalesce(%(id)s::bigint, r.id)) RETURNING 1"""
    return len(await fetch(connection, sql, {"id": receipt_id, "at": at}))


async def unsettled(connection: Connection, channel_id: int) -> Open:
    sql = f"""SELECT count(*) FILTER (WHERE {_UNMATCHED}),
                     count(*) FILTER (WHERE {_UNMATCHED} AND {_UNPARSED}),
                     (SELECT count(*) FROM doubt WHERE channel_id = %(id)s)
              FROM receipt r JOIN channel c ON c.id = r.channel_id WHERE r.channel_id = %(id)s"""
    return Open(*(await fetch(connection, sql, {"id": channel_id}))[0])


def _readable(raw: bytes | None) -> str:
    """Octets as text, and a blank for what is none."""
    return "".join(c if c.isprintable() else " " for c in (raw or b"").decode("latin-1")).strip()
