"""Where messages go and what they cost: prices, channels, routes, portability, suppression. Repeatable calls.

Operators' functions take a connection inside a transaction, as in `admin`.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal

from psycopg.types.json import Jsonb

from speedsms.contract.carriers import Carrier
from speedsms.gateway.store.admin import AdminFailed, account_id, change_one, changed, one
from speedsms.gateway.store.db import Connection, Database, fetch
from speedsms.numbers import ANY_COUNTRY, COUNTRY_CODES, parse

_ROWS_AT_ONCE: Final = 10_000
_CARRIERS: Final = ", ".join(name.lower() for name in Carrier.__members__)


@dataclass(frozen=True, slots=True)
class PriceRow:
    kind: str
    sms_type: int
    carrier: str
    country: str
    price_vnd: int
    refund_on_failure: bool


@dataclass(frozen=True, slots=True)
class ChannelRow:
    id: int
    name: str
    kind: str
    settings: dict[str, Any]
    enabled: bool
    health: dict[str, Any]
    declared: bool


@dataclass(frozen=True, slots=True)
class RouteRow:
    id: int
    channel: str
    priority: int
    cost_vnd: int
    kinds: list[str]
    sms_types: list[int]
    carriers: list[str]
    prefixes: list[str]
    declared: bool


# ---------------------------------------------------------------- prices


async def set_price(connection: Connection, price: PriceRow) -> None:
    """Of `kind` sms with a type, or with a country for abroad; voice; mms. Raises AdminFailed."""
    if price.carrier and price.carrier.upper() not in Carrier.__members__:
        raise AdminFailed(f"unknown carrier {price.carrier}", f"choose among {_CARRIERS}")
    if price.country and price.country not in COUNTRY_CODES:
        raise AdminFailed(f"{price.country} is no calling code", "write it as 66")
    if price.kind == "sms" and not (1 <= price.sms_type <= 8 or (price.country and price.sms_type == 0)):
        raise AdminFailed("an SMS price needs a type from 1 to 8, or a country", "add --type or --country")
    await fetch(
        connection,
        """INSERT INTO price VALUES (%(kind)s, %(type)s, %(carrier)s, %(country)s, %(vnd)s, %(refund)s)
           ON CONFLICT (kind, sms_type, carrier, country) DO UPDATE
           SET price_vnd = excluded.price_vnd, refund_on_failure = excluded.refund_on_failure""",
        {
            "kind": price.kind,
            "type": price.sms_type,
            "carrier": price.carrier,
            "country": price.country,
            "vnd": price.price_vnd,
            "refund": price.refund_on_failure,
        },
    )
    await changed(connection)


async def prices(connection: Connection) -> list[PriceRow]:
    """The whole table."""
    sql = """SELECT kind, sms_type, carrier, country, price_vnd, refund_on_failure
             FROM price ORDER BY kind DESC, sms_type, carrier, country"""
    return [PriceRow(*row) for row in await fetch(connection, sql)]


# ---------------------------------------------------------------- channels and routes


async def add_channel(connection: Connection, name: str, kind: str, settings: Mapping[str, Any]) -> int:
    """The id; the same name and kind again changes nothing. The running worker checks the settings."""
    await fetch(
        connection,
        """INSERT INTO channel (name, kind, settings) VALUES (%(name)s, %(kind)s, %(settings)s)
           ON CONFLICT DO NOTHING""",
        {"name": name, "kind": kind, "settings": Jsonb(dict(settings))},
    )
    sql = "SELECT id FROM channel WHERE name = %(name)s AND kind = %(kind)s"
    if rows := await fetch(connection, sql, {"name": name, "kind": kind}):
        await changed(connection)
        return int(rows[0][0])
    raise AdminFailed(f"channel {name} exists with another kind", "choose another name")


async def set_channel(
    connection: Connection, name: str, settings: Mapping[str, Any], *, enabled: bool | None = None
) -> None:
    """Merges `settings`; a value of None takes its key away. Raises AdminFailed."""
    sql = """UPDATE channel SET settings = jsonb_strip_nulls(settings || %(settings)s),
                                enabled = coalesce(%(enabled)s, enabled) WHERE name = %(name)s"""
    await change_one(
        connection, sql, f"channel {name}", settings=Jsonb(dict(settings)), enabled=enabled, name=name
    )


async def channels(connection: Connection) -> list[ChannelRow]:
    """All of them, by id."""
    sql = "SELECT id, name, kind, settings, enabled, health, declared FROM channel ORDER BY id"
    return [ChannelRow(*row) for row in await fetch(connection, sql)]


async def channel(connection: Connection, name: str) -> ChannelRow:
    """Raises AdminFailed."""
    known = {row.name: row for row in await channels(connection)}
    if name not in known:
        raise AdminFailed(f"there is no channel {name}", f"there are {', '.join(known)}")
    return known[name]


async def tell_health(
    db: Database, channel_id: int, state: str, cause: str, *, since: datetime, until: datetime | None
) -> None:
    """What a running worker says of a channel."""
    health = {
        "state": state,
        **({"cause": cause} if cause else {}),
        "since": since.isoformat(timespec="seconds"),
        **({"until": until.isoformat(timespec="milliseconds")} if until else {}),
    }
    sql = "UPDATE channel SET health = health - 'cause' - 'until' || %(health)s WHERE id = %(id)s"
    await db.execute(sql, health=Jsonb(health), id=channel_id)


async def tell_figures(db: Database, channel_id: int, figures: Mapping[str, object]) -> None:
    """What it has counted and measured, beside its health."""
    sql = "UPDATE channel SET health = health || %(figures)s WHERE id = %(id)s"
    await db.execute(sql, figures=Jsonb(dict(figures)), id=channel_id)


async def add_route(
    connection: Connection,
    channel: str,
    *,
    priority: int = 100,
    cost_vnd: int = 0,
    kinds: Iterable[str] = ("sms",),
    sms_types: Iterable[int] = (),
    carriers: Iterable[str] = (),
    prefixes: Iterable[str] = (),
) -> int:
    """The id of the route; the same conditions again give the same one. Raises AdminFailed."""
    channel_id = await one(
        connection, "SELECT id FROM channel WHERE name = %(c)s", f"channel {channel}", c=channel
    )
    params = {
        "channel": channel_id,
        "priority": priority,
        "cost": cost_vnd,
        "kinds": list(kinds),
        "types": list(sms_types),
        "carriers": known_carriers(carriers),
        "prefixes": list(prefixes),
    }
    columns = "channel_id, priority, cost_vnd, kinds, sms_types, carriers, prefixes"
    values = """%(channel)s::int, %(priority)s::int, %(cost)s::int, %(kinds)s::text[], %(types)s::smallint[],
                %(carriers)s::text[], %(prefixes)s::text[]"""
    sql = f"SELECT id FROM route WHERE ({columns}) = ({values})"
    rows = await fetch(connection, sql, params) or await fetch(
        connection, f"INSERT INTO route ({columns}) VALUES ({values}) RETURNING id", params
    )
    await changed(connection)
    return int(rows[0][0])


def known_carriers(names: Iterable[str]) -> list[str]:
    """In lower case. Raises AdminFailed."""
    lower = [name.lower() for name in names]
    if unknown := {name.upper() for name in lower} - set(Carrier.__members__):
        raise AdminFailed(f"unknown carrier {min(unknown).lower()}", f"choose among {_CARRIERS}")
    return lower


async def remove_route(connection: Connection, route_id: int) -> None:
    """Messages that no other route fits wait until they expire. Raises AdminFailed."""
    await change_one(connection, "DELETE FROM route WHERE id = %(id)s", f"route {route_id}", id=route_id)


async def routes(connection: Connection) -> list[RouteRow]:
    """In the order in which they are tried."""
    sql = """SELECT r.id, c.name, priority, cost_vnd, kinds, sms_types, carriers, prefixes, r.declared
             FROM route r JOIN channel c ON c.id = channel_id ORDER BY priority, cost_vnd, r.id"""
    return [RouteRow(*row) for row in await fetch(connection, sql)]


async def worker_runs(connection: Connection) -> bool:
    """Whether any process sends: without one, what is said of channels' health is old."""
    sql = "SELECT EXISTS (SELECT FROM node WHERE role = 'worker' AND lease_until > now())"
    return bool((await fetch(connection, sql))[0][0])


# ---------------------------------------------------------------- numbers


async def load_portability(connection: Connection, lines: Iterable[tuple[str, str]]) -> AsyncIterator[int]:
    """(number, carrier) pairs override the prefix table; yields how many are in, after each 10,000.

    Raises AdminFailed naming the line that does not fit; the caller's transaction decides what remains.
    """
    sql = """INSERT INTO portability SELECT * FROM unnest(%(numbers)s::bigint[], %(carriers)s::text[])
             ON CONFLICT (number) DO UPDATE SET carrier = excluded.carrier"""
    pairs = ((_number(line, number), _carrier(line, name)) for line, (number, name) in enumerate(lines, 1))
    done = 0
    # The last line of a number wins, as if they were loaded one by one.
    while batch := list(islice(pairs, _ROWS_AT_ONCE)):
        latest = dict(batch)
        await fetch(connection, sql, {"numbers": list(latest), "carriers": list(latest.values())})
        yield (done := done + len(batch))
    await changed(connection)


async def load_suppression(
    connection: Connection,
    account: str,
    reason: Literal["do_not_call", "opt_out", "blocked"],
    numbers: Iterable[str],
    at: datetime,
) -> AsyncIterator[int]:
    """Numbers not to write to; yields how many are in, after each 10,000. Raises AdminFailed."""
    owner = await account_id(connection, account)
    sql = """INSERT INTO suppression SELECT %(owner)s, n, %(reason)s, %(at)s
             FROM unnest(%(numbers)s::bigint[]) n ON CONFLICT DO NOTHING"""
    parsed = (_number(line, number) for line, number in enumerate(numbers, 1))
    done = 0
    while batch := list(islice(parsed, _ROWS_AT_ONCE)):
        await fetch(connection, sql, {"owner": owner, "reason": reason, "numbers": batch, "at": at})
        yield (done := done + len(batch))
    await changed(connection)


async def remove_suppression(connection: Connection, account: str, number: str) -> None:
    """The account may write to the number again. Raises AdminFailed."""
    sql = """DELETE FROM suppression WHERE number = %(number)s
             AND account_id = (SELECT id FROM account WHERE name = %(account)s)"""
    await change_one(connection, sql, "entry for that number", number=_number(1, number), account=account)


def _number(line: int, text: str) -> int:
    number = parse(text.strip(), (ANY_COUNTRY,))
    if number is None:
        raise AdminFailed(f"line {line} has no number that can be written to", "write it as 0912345678")
    return int(number.e164)


def _carrier(line: int, text: str) -> str:
    name = text.strip().lower()
    if name.upper() not in Carrier.__members__:
        raise AdminFailed(
            f"line {line} has the unknown carrier {name!r}",
            f"choose among {_CARRIERS}",
        )
    return name
