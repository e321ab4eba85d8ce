"""`route …`: which messages take which way out, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from speedsms.cli.terminal import done, say, show, vnd
from speedsms.contract.carriers import carrier_name, carrier_of
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command, opened
from speedsms.gateway.rules import state
from speedsms.gateway.rules.route import Route, misfit, turns
from speedsms.gateway.store import admin, routing
from speedsms.gateway.store.accounts import moved
from speedsms.gateway.store.routing import ChannelRow, RouteRow
from speedsms.numbers import ANY_COUNTRY, parse
from speedsms.wire import Kind

Name = Annotated[str, Parameter(help="The channel's name.")]


@dataclass(frozen=True, slots=True)
class Step:
    """One route as a message meets it. turn: 1 takes it now, 2 is next, 0 cannot; equals share a turn."""

    id: int
    channel: str
    priority: int
    cost_vnd: int
    turn: int
    why: str


@command
async def add(
    channel: Name,
    *,
    priority: Annotated[int, Parameter(help="Lower goes first.")] = 100,
    cost: Annotated[
        int,
        Parameter(
            validator=Number(gte=0), help="VND a part costs us; of the same priority the least goes first."
        ),
    ] = 0,
    kind: Annotated[
        tuple[str, ...], Parameter(negative=(), help="sms, voice, mms, pin; may be repeated.")
    ] = ("sms",),
    type_: Annotated[
        tuple[int, ...], Parameter(name="--type", negative=(), help="sms_type; may be repeated, none is all.")
    ] = (),
    carrier: Annotated[tuple[str, ...], Parameter(negative=(), help="May be repeated, none is all.")] = (),
    prefix: Annotated[
        tuple[str, ...], Parameter(negative=(), help="Of numbers as 84…; may be repeated, none is all.")
    ] = (),
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        route_id = await routing.add_route(
            connection,
            channel,
            priority=priority,
            cost_vnd=cost,
            kinds=kind,
            sms_types=type_,
            carriers=carrier,
            prefixes=prefix,
        )
    show(options, {"id": route_id}, lines=[f"route {route_id} leads to {channel}"])


@command
async def remove(
    route_id: Annotated[int, Parameter(help="As in the list.")], *, options: Options = PLAIN
) -> None:
    async with changing(options) as connection:
        declared = any(row.id == route_id and row.declared for row in await routing.routes(connection))
        await routing.remove_route(connection, route_id)
    if declared:
        say(
            "the settings' file declares this route and brings it back at the next start: remove it there too"
        )
    done(options, f"route {route_id} is gone")


@command
async def list_(*, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await routing.routes(connection))


@command
async def explain(
    number: Annotated[str, Parameter(help="In any spelling.")],
    *,
    type_: Annotated[int, Parameter(name="--type", help="sms_type of the message.")] = 2,
    sender: Annotated[str, Parameter(help="Also say whose sender this is.")] = "",
    options: Options = PLAIN,
) -> None:
    """Says which channel takes a message to a number now, which comes next, and why not the others."""
    parsed = parse(number, (ANY_COUNTRY,))
    if parsed is None:
        raise admin.AdminFailed(f"{number!r} is no number that can be written to", "write it as 0912345678")
    async with opened(options.settings()) as db:
        ported = await moved(db, [parsed.e164])
        async with db.transaction() as connection:
            rows, channels = await routing.routes(connection), await routing.channels(connection)
            senders = [row for row in await admin.senders(connection) if row.id == sender]
            working = await routing.worker_runs(connection)
    carrier = carrier_name(carrier_of(parsed.e164, ported), parsed.e164)
    why = "its entry in portability" if ported else "its prefix"
    found = steps(rows, channels, type_, carrier, parsed.e164)
    if not working:
        say("no worker runs: nothing is sent, and what is said of channels is old")
    data = {"number": parsed.e164, "carrier": carrier, "carrier_by": why, "routes": found}
    lines = [f"{parsed.e164} is a number of {carrier}, by {why}", *_senders(sender, senders), *_lines(found)]
    show(options, data, lines=lines)


def steps(
    rows: Sequence[RouteRow], channels: Sequence[ChannelRow], sms_type: int, carrier: str, e164: str
) -> list[Step]:
    """Every route in the order of use, as a message of this type to this number meets it."""
    by_id = {channel.id: channel for channel in channels}
    ids = {channel.name: channel.id for channel in channels}
    ranked = sorted((_route(row, ids[row.channel]) for row in rows), key=lambda route: route.rank)
    unfit = {route: misfit(route, Kind.SMS.value, sms_type, carrier, e164) for route in ranked}
    healthy = {channel.id for channel in channels if _keeps(channel)}
    turn = turns((route for route in ranked if not unfit[route]), healthy)
    return [
        Step(
            route.id,
            by_id[route.channel_id].name,
            route.priority,
            route.cost_vnd,
            0 if unfit[route] else turn.get(route.channel_id, 0),
            unfit[route] or _fits(by_id[route.channel_id]),
        )
        for route in ranked
    ]


def _route(row: RouteRow, channel_id: int) -> Route:
    return Route(
        row.id,
        channel_id,
        row.priority,
        frozenset(row.kinds),
        frozenset(row.sms_types),
        frozenset(row.carriers),
        tuple(row.prefixes),
        row.cost_vnd,
    )


def _keeps(channel: ChannelRow) -> bool:
    return channel.enabled and state.keeps(channel.health.get("state", ""), channel.health.get("cause", ""))


def _fits(channel: ChannelRow) -> str:
    """What a channel does with a message that fits its route."""
    if not channel.enabled:
        return "it fits, but the channel is disabled"
    now, cause = channel.health.get("state", "not started yet"), channel.health.get("cause")
    but = "and" if _keeps(channel) else "but"
    return f"it fits, {but} the channel is {now}" + f" ({cause})" * bool(cause)


def _senders(sender: str, rows: Sequence[admin.SenderRow]) -> Iterator[str]:
    if sender and not rows:
        yield f"sender {sender} is registered by no account: sms/send answers 'sender not found'"
    for row in rows:
        yield f"sender {sender} is the {row.kind} of account {row.account}, and {row.status}"


def _lines(found: Sequence[Step]) -> Iterator[str]:
    for n, step in enumerate(found, 1):
        yield (
            f"  {n}. route {step.id} to {step.channel}"
            f" (priority {step.priority}, {vnd(step.cost_vnd)}): {step.why}"
        )
    now = list(dict.fromkeys(step.channel for step in found if step.turn == 1))
    later = list(dict.fromkeys(step.channel for step in found if step.turn > 1 and step.channel not in now))
    if now:
        first = f"{' or '.join(now)}, whichever is free first," if len(now) > 1 else now[0]
        after = ["the other"] * (len(now) > 1) + later
        yield f"{first} takes the message now; if it refuses: {', then '.join(after) or 'nobody else'}"
    else:
        yield "nobody takes the message now: it waits for a route and a channel that is up, until it expires"
    yield "messages of a test token always go to the simulator"
