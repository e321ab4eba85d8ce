"""Parts of long incoming messages: kept until their message is whole (channels §3.14)."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from speedsms.gateway.store.columns import tame
from speedsms.gateway.store.db import Connection, fetch


class Part(NamedTuple):
    """One part, as it came. reference and width: the sender's concatenation reference and its bits."""

    channel_id: int
    sender: str
    recipient: str
    reference: int
    width: int
    total: int
    part: int
    octets: bytes
    alphabet: str
    content: str
    dedup_key: str
    raw: bytes
    peer_time: datetime | None
    received_at: datetime


_SET = """channel_id = %(channel_id)s AND sender = %(sender)s AND recipient = %(recipient)s
    AND reference = %(reference)s AND width = %(width)s AND total = %(total)s"""
_COLUMNS = ", ".join(Part._fields)


async def add(connection: Connection, part: Part) -> list[Part]:
    """Keep a part; those to deliver now: the whole set, or a late part alone. Repeats are absorbed (SM-42).

    A part that differs from the one kept under its number opens a new set: phones use references again.
    """
    part = part._replace(sender=tame(part.sender), recipient=tame(part.recipient))
    params = part._asdict()
    name = f"{part.channel_id}/{part.sender}/{part.recipient}/{part.reference}/{part.width}/{part.total}"
    await fetch(connection, "SELECT pg_advisory_xact_lock(7305, hashtext(%(name)s))", {"name": name})
    rows = await fetch(
        connection, f"SELECT {_COLUMNS}, joined_at FROM incoming_part WHERE {_SET} ORDER BY part", params
    )
    kept = {row[6]: Part._make(row[:-1]) for row in rows}
    joined = any(row[-1] for row in rows)
    if known := kept.get(part.part):
        if known.octets == part.octets:
            return []
        await fetch(connection, f"DELETE FROM incoming_part WHERE {_SET}", params)
        kept, joined = {}, False
    values = ", ".join(f"%({field})s" for field in Part._fields)
    await fetch(connection, f"INSERT INTO incoming_part ({_COLUMNS}) VALUES ({values})", params)
    if joined:
        return [part]
    kept[part.part] = part
    return [kept[n] for n in sorted(kept)] if len(kept) == part.total else []


async def waited(connection: Connection, before: datetime) -> list[Part]:
    """The parts of one incomplete message whose first part came before that; locked."""
    rows = await fetch(
        connection,
        f"SELECT {_COLUMNS} FROM incoming_part WHERE received_at < %(before)s AND joined_at IS NULL"
        " ORDER BY received_at LIMIT 1 FOR UPDATE SKIP LOCKED",
        {"before": before},
    )
    if not rows:
        return []
    params = Part._make(rows[0])._asdict()
    rows = await fetch(
        connection,
        f"SELECT {_COLUMNS} FROM incoming_part WHERE {_SET} AND joined_at IS NULL ORDER BY part FOR UPDATE",
        params,
    )
    return [Part._make(row) for row in rows]


async def join(connection: Connection, parts: Sequence[Part], at: datetime) -> None:
    """They are delivered; the rows stay for a while to absorb repeats."""
    await fetch(
        connection,
        f"UPDATE incoming_part SET joined_at = %(at)s WHERE {_SET} AND part = ANY(%(parts)s::smallint[])",
        parts[0]._asdict() | {"at": at, "parts": [p.part for p in parts]},
    )
