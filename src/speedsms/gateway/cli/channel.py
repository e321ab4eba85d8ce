"""`channel …` and `route …`: the ways out, and which messages take them."""

from typing import Annotated

from cyclopts import Parameter

from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command, done, pairs, show
from speedsms.gateway.store import routing

Name = Annotated[str, Parameter(help="The channel's name.")]
Words = Annotated[
    str, Parameter(help="name=value; JSON is taken as such, an empty value takes the name away.")
]


@command
async def add(
    name: Name,
    kind: Annotated[str, Parameter(help="Such as sim.")],
    *settings: Words,
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        channel_id = await routing.add_channel(connection, name, kind, pairs(settings))
    show(
        options,
        {"id": channel_id},
        lines=[f"channel {name} has the id {channel_id}; messages need a route to it"],
    )


@command
async def set_(name: Name, *settings: Words, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await routing.set_channel(connection, name, pairs(settings))
    done(options, f"channel {name} is changed")


@command
async def enable(name: Name, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await routing.set_channel(connection, name, {}, enabled=True)
    done(options, f"channel {name} is used")


@command
async def disable(name: Name, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await routing.set_channel(connection, name, {}, enabled=False)
    done(options, f"channel {name} is no longer used")


@command
async def list_(*, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await routing.channels(connection))


@command
async def route_add(
    channel: Name,
    *,
    priority: Annotated[int, Parameter(help="Lower goes first.")] = 100,
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
            kinds=kind,
            sms_types=type_,
            carriers=carrier,
            prefixes=prefix,
        )
    show(options, {"id": route_id}, lines=[f"route {route_id} leads to {channel}"])


@command
async def route_remove(
    route_id: Annotated[int, Parameter(help="As in the list.")], *, options: Options = PLAIN
) -> None:
    async with changing(options) as connection:
        await routing.remove_route(connection, route_id)
    done(options, f"route {route_id} is gone")


@command
async def route_list(*, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await routing.routes(connection))
