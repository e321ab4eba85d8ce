"""Channels and routes as the settings' file declares them: the tables are brought in line, name by name.

What an operator made by command is left alone; what vanished from the file goes on and is named.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from psycopg.types.json import Jsonb

from speedsms.gateway.config import DeclaredChannel
from speedsms.gateway.store.admin import AdminFailed, changed
from speedsms.gateway.store.db import Connection, fetch
from speedsms.gateway.store.routing import ChannelRow, RouteRow, add_route, channels, routes

_UPSERT: Final = """
INSERT INTO channel (name, kind, settings, declared) VALUES (%(name)s, %(kind)s, %(settings)s, true)
ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, declared = true
"""


async def declare(connection: Connection, wanted: Mapping[str, DeclaredChannel]) -> list[str]:
    """What was done and what was found, one sentence each. Raises AdminFailed: a name of another kind."""
    # Two gateways may start at once; the second then finds nothing to do.
    await connection.execute("LOCK TABLE channel IN SHARE ROW EXCLUSIVE MODE")
    before = {row.name: row for row in await channels(connection)}
    led = await routes(connection)
    said = []
    for name, channel in wanted.items():
        if what := await _declare_channel(connection, name, channel, before.get(name)):
            said.append(f"channel {name} is {what}")
        said += await _declare_routes(connection, name, channel, [r for r in led if r.channel == name])
    if said:
        await changed(connection)
    return [*said, *_vanished(before, wanted)]


async def _declare_channel(
    connection: Connection, name: str, channel: DeclaredChannel, before: ChannelRow | None
) -> str:
    if before and before.kind != channel.kind:
        raise AdminFailed(
            f"channels.{name}.kind is {channel.kind}, but there is a channel {name} of kind {before.kind}",
            "choose another name",
        )
    if before and before.declared and before.settings == channel.settings:
        return ""
    params = {"name": name, "kind": channel.kind, "settings": Jsonb(dict(channel.settings))}
    await fetch(connection, _UPSERT, params)
    return f"changed: {_difference(before.settings, channel.settings)}" if before else "made"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The names alone: a value may be a password."""
    return ", ".join(sorted(k for k in {*old, *new} if old.get(k) != new.get(k))) or "it belongs to the file"


async def _declare_routes(
    connection: Connection, name: str, channel: DeclaredChannel, before: list[RouteRow]
) -> list[str]:
    """Routes that stay the same keep their ids, so messages that wait for them wait on."""
    kept = set()
    for route in channel.routes:
        kept.add(
            await add_route(
                connection,
                name,
                priority=route.priority,
                cost_vnd=route.cost_vnd,
                kinds=route.kinds,
                sms_types=route.sms_types,
                carriers=route.carriers,
                prefixes=route.prefixes,
            )
        )
    gone = {row.id for row in before if row.declared} - kept
    await fetch(connection, "UPDATE route SET declared = true WHERE id = ANY(%(ids)s)", {"ids": list(kept)})
    await fetch(connection, "DELETE FROM route WHERE id = ANY(%(ids)s)", {"ids": list(gone)})
    fresh = len(kept - {row.id for row in before})
    return [f"routes to {name}: {fresh} added, {len(gone)} removed"] if fresh or gone else []


def _vanished(before: Mapping[str, ChannelRow], wanted: Mapping[str, DeclaredChannel]) -> Iterator[str]:
    for row in before.values():
        if row.declared and row.enabled and row.name not in wanted:
            yield (
                f"channel {row.name} stands in the file no longer and goes on as it was;"
                f" to end it: speedsms channel disable {row.name}"
            )
