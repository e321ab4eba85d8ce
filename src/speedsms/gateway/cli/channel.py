"""`channel …`: the ways out, how they are, and what they can do."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter
from cyclopts.types import ExistingFile

from speedsms.cli.terminal import done, plain, say, show, table, vnd
from speedsms.gateway.app import declared
from speedsms.gateway.channels import kinds
from speedsms.gateway.channels.smpp.settings import settings_of
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command, opened, pairs
from speedsms.gateway.config import load
from speedsms.gateway.store import parked, routing
from speedsms.gateway.store.admin import AdminFailed
from speedsms.gateway.store.routing import ChannelRow, RouteRow

Name = Annotated[str, Parameter(help="The channel's name.")]
Words = Annotated[
    str,
    Parameter(help="name=value as in docs/reference/smpp.md; JSON is taken as such, an empty value resets."),
]
COMMIT_S: Final = 0.009  # an outcome waits 5 ms for its batch, and then for the disk (channels §3.6)
_ROUND_TRIP_S: Final = 0.05


@command
async def apply(
    file: Annotated[ExistingFile | None, Parameter(help="Instead of the settings' file.")] = None,
    *,
    options: Options = PLAIN,
) -> None:
    """Channels and routes become what the file declares; those made by command stay as they are."""
    loaded = load(file or options.config)
    declared.check(loaded.channels)
    async with opened(options.settings()) as db:
        said = await declared.apply(db, loaded.channels)
    show(options, {"said": said}, lines=said or ["nothing to do"])


@command
async def add(
    name: Name,
    kind: Annotated[str, Parameter(help="sim or smpp.")],
    *settings: Words,
    options: Options = PLAIN,
) -> None:
    fitted = _fitted(kind, {key: value for key, value in pairs(settings).items() if value is not None})
    async with changing(options) as connection:
        channel_id = await routing.add_channel(connection, name, kind, fitted)
    _warn(name, fitted)
    show(
        options,
        {"id": channel_id},
        lines=[f"channel {name} has the id {channel_id}; messages need a route to it"],
    )


@command
async def set_(name: Name, *settings: Words, options: Options = PLAIN) -> None:
    words = pairs(settings)
    async with changing(options) as connection:
        row = await routing.channel(connection, name)
        whole = {key: value for key, value in {**row.settings, **words}.items() if value is not None}
        fitted = _fitted(row.kind, whole)
        await routing.set_channel(connection, name, {key: fitted.get(key) for key in words})
    _warn(name, fitted)
    if row.declared:
        say("the settings' file declares this channel and wins at the next start: change it there too")
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
        rows = await routing.channels(connection)
        working = await routing.worker_runs(connection)
    _warn_old(working=working)
    data = [plain(row) | {"settings": safe(row.settings)} for row in rows]
    show(options, data, lines=table([_row(row) for row in rows]))


@command
async def show_(name: Name, *, options: Options = PLAIN) -> None:
    """Its health, figures, limits and routes."""
    async with changing(options) as connection:
        row = await routing.channel(connection, name)
        led = [route for route in await routing.routes(connection) if route.channel == name]
        unsettled = await parked.unsettled(connection, row.id)
        working = await routing.worker_runs(connection)
    _warn_old(working=working)
    data = plain(row) | {"settings": safe(row.settings), "routes": plain(led), "open": plain(unsettled)}
    show(
        options,
        data,
        lines=[*_head(row), *_figures(row.health), *_limits(row), *_open(unsettled), *_routes(led)],
    )


def safe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they may be shown: of a secret only where it stands."""
    return {
        key: "•••" if key in declared.SECRET and not str(value).startswith(declared.ELSEWHERE) else value
        for key, value in settings.items()
    }


def _fitted(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Checked. A command line knows no types: `a,b` may be a list, digits a text. Raises AdminFailed."""
    try:
        kinds.check(kind, settings)
    except ValueError as error:
        path, _, said = str(error).partition(": ")
        value = settings.get(path)
        if isinstance(value, str) and said.startswith("Expected `array`"):
            return _fitted(kind, settings | {path: value.split(",")})
        if type(value) is int and said.startswith("Expected `str`"):
            return _fitted(kind, settings | {path: str(value)})
        raise AdminFailed(str(error), f"correct that setting of {kind}; see docs/reference/smpp.md") from None
    return settings


def _warn(name: str, settings: Mapping[str, Any]) -> None:
    for sentence in declared.literal_secrets(name, settings):
        say(sentence)


def _warn_old(*, working: bool) -> None:
    if not working:
        say("no worker runs: what is said of channels is old")


def _row(row: ChannelRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "used": row.enabled,
        "state": row.health.get("state"),
        "since": row.health.get("since"),
        "cause": row.health.get("cause"),
        "from": "file" if row.declared else "command",
    }


def _head(row: ChannelRow) -> Iterator[str]:
    owner = "the settings' file" if row.declared else "commands"
    yield f"channel {row.name} of kind {row.kind}, kept by {owner}" + ", disabled" * (not row.enabled)
    state, cause = row.health.get("state", "not started yet"), row.health.get("cause")
    times = (f" {key} {row.health[key]}" for key in ("since", "until") if row.health.get(key))
    yield f"  {state}{''.join(times)}{f': {cause}' * bool(cause)}"
    for key, value in safe(row.settings).items():
        yield f"  {key} = {msgspec.json.encode(value).decode()}"


def _figures(health: Mapping[str, Any]) -> Iterator[str]:
    """What the worker counted since it started the channel."""
    if counts := health.get("counts"):
        yield "  " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    if form := health.get("id_form"):
        yield f"  receipts name their messages as {form}"


def _limits(row: ChannelRow) -> Iterator[str]:
    """How fast it can be, whatever its rate (channels §3.6)."""
    if row.kind != "smpp":
        return
    try:
        settings = settings_of(row.settings)
    except ValueError as error:
        yield f"  its settings are wrong: {error}"
        return
    round_trip_s = row.health.get("round_trip_s", _ROUND_TRIP_S)
    most = ceiling(settings.window, round_trip_s)
    yield (
        f"  window {settings.window} on each of {settings.binds} binds: at a round trip of"
        f" {round_trip_s * 1000:.0f} ms at most {most:,.0f} parts/s each; the rate allows {settings.rate:g}/s"
    )
    if settings.rate > most * settings.binds:
        yield "  the window holds it below its rate: ask the carrier for a larger window, or for more binds"
    unrecorded = settings.unrecorded or settings.window
    yield f"  an unclean stop leaves at most {unrecorded * settings.binds} parts unknown"


def ceiling(window: int, round_trip_s: float) -> float:
    """Parts per second that one bind can carry at most."""
    return window / (round_trip_s + COMMIT_S)


def _open(unsettled: parked.Open) -> Iterator[str]:
    if unsettled.unknown:
        yield f"  {unsettled.unknown} parts are unknown"
    if unsettled.unmatched:
        yield (
            f"  {unsettled.unmatched} receipts match no message, {unsettled.unparsed} of them have no id"
            " or state: speedsms receipt list"
        )


def _routes(led: list[RouteRow]) -> Iterator[str]:
    for route in led:
        conditions = [*route.kinds, *map("type {}".format, route.sms_types), *route.carriers, *route.prefixes]
        yield f"  route {route.id}: priority {route.priority}, {vnd(route.cost_vnd)}, {' '.join(conditions)}"
    if not led:
        yield "  no route leads here, so it gets no message: speedsms route add"
