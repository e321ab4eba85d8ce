"""`route …`: which messages take which way out, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from speedsms.contract.carriers import carrier_name, carrier_of
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command, done, opened, say, show, vnd
from speedsms.gateway.rules.route import Route, misfit
from speedsms.gateway.store import admin, routing
from speedsms.gateway.store.accounts import moved
from speedsms.gateway.store.routing import ChannelRow, RouteRow
from speedsms.numbers import ANY_COUNTRY, parse
from speedsms.wire import Kind

Name = Annotated[str, Parameter(help="The channel's name.")]
HEALTHY = ("up", "degraded")


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
    by_name = {channel.name: channel for channel in channels}
    turns: dict[str, int] = {}
    standings: list[tuple[int, int]] = []
    found = []
    for row in rows:
        channel = by_name[row.channel]
        why = misfit(_route(row, channel.id), Kind.SMS.value, sms_type, carrier, e164) or _away(channel)
        if not why and row.channel not in turns:
            if (standing := (row.priority, row.cost_vnd)) not in standings:
                standings.append(standing)
            turns[row.channel] = len(standings)
        turn = 0 if why else turns[row.channel]
        said = why or f"it fits, and the channel is {channel.health['state']}"
        found.append(Step(row.id, row.channel, row.priority, row.cost_vnd, turn, said))
    return found


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


def _away(channel: ChannelRow) -> str:
    """Why a channel takes nothing now; empty if it does."""
    if not channel.enabled:
        return "it fits, but the channel is disabled"
    state: dict[str, Any] = channel.health
    if state.get("state") in HEALTHY:
        return ""
    cause = f" ({state['cause']})" if state.get("cause") else ""
    return f"it fits, but the channel is {state.get('state', 'not started yet')}{cause}"


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
