"""Parts of long incoming messages: kept until their message is whole (channels §3.14)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from speedsms.gateway.store.columns import tame
from speedsms.gateway.store.db import Connection, Lock, fetch

_REPEATED: Final = timedelta(hours=1)  # so long a peer may repeat what it got no answer for


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


async def add(connection: Connection, part: Part) -> list[list[Part]]:
    """Keep a part. What is to be delivered now: a whole set, a late part alone, of repeats nothing (SM-42).

    Phones use references again: a part that differs from the one kept under its number opens a new set, and
    so does any that comes long after its set was delivered. What an older set has is delivered then.
    """
    part = part._replace(sender=tame(part.sender), recipient=tame(part.recipient))
    params = part._asdict()
    name = f"{part.channel_id}/{part.sender}/{part.recipient}/{part.reference}/{part.width}/{part.total}"
    lock = f"SELECT pg_advisory_xact_lock({Lock.INCOMING}, hashtext(%(name)s))"
    await fetch(connection, lock, {"name": name})
    rows = await fetch(
        connection, f"SELECT {_COLUMNS}, joined_at FROM incoming_part WHERE {_SET} ORDER BY part", params
    )
    kept = {row[6]: Part._make(row[:-1]) for row in rows}
    joined_at = max((row[-1] for row in rows if row[-1]), default=None)
    known, older = kept.get(part.part), []
    if (known and known.octets != part.octets) or (joined_at and part.received_at - joined_at > _REPEATED):
        await fetch(connection, f"DELETE FROM incoming_part WHERE {_SET}", params)
        older = [] if joined_at else [list(kept.values())]
        kept, joined_at = {}, None
    elif known:
        return []
    values = ", ".join(f"%({field})s" for field in Part._fields)
    await fetch(connection, f"INSERT INTO incoming_part ({_COLUMNS}) VALUES ({values})", params)
    kept[part.part] = part
    arrived = [part] if joined_at else [kept[n] for n in sorted(kept)]
    if not joined_at and len(kept) < part.total:
        return older
    await _join(connection, arrived, part.received_at)
    return [*older, arrived]


async def waited(connection: Connection, before: datetime, at: datetime) -> list[Part]:
    """The parts of one incomplete message whose first part came before that; they are delivered now."""
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
    parts = [Part._make(row) for row in rows]
    await _join(connection, parts, at)
    return parts


async def _join(connection: Connection, parts: Sequence[Part], at: datetime) -> None:
    """The rows of what is delivered stay for a while to absorb repeats."""
    await fetch(
        connection,
        f"UPDATE incoming_part SET joined_at = %(at)s WHERE {_SET} AND part = ANY(%(parts)s::smallint[])",
        parts[0]._asdict() | {"at": at, "parts": [p.part for p in parts]},
    )
