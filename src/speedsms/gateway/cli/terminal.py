"""What the commands share: options, output for people and for programs, errors as exit codes."""

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec

import msgspec
import psycopg
from cyclopts import Parameter

from speedsms.cli import CONFIGURATION, INTERRUPTED, REFUSED
from speedsms.gateway import log
from speedsms.gateway.config import Settings, SettingsFailed, load
from speedsms.gateway.store.db import CommitUnknown, Database, DatabaseAway, Session
from speedsms.gateway.store.embedded.binaries import ClusterFailed
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings
from speedsms.gateway.store.embedded.postmaster import adoptable
from speedsms.gateway.store.failed import StoreFailed
from speedsms.gateway.store.migrate import MigrationFailed

UNREACHABLE: Final = 4
UNKNOWN: Final = 5
SCHEMA: Final = 1  # of what --json prints; raised when a key changes its meaning

P = ParamSpec("P")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every command has these."""

    config: Annotated[Path | None, Parameter(help="The settings' file.")] = None
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for programs.")] = False

    def settings(self) -> Settings:
        """Raises SettingsFailed."""
        return load(self.config).settings


PLAIN: Final = Options()


def command(function: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Runs an async command; every error we know becomes one line with a fix, and its exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        log.configure("warning", "auto")
        try:
            asyncio.run(_awaited(function(*args, **kwargs)))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except (SettingsFailed, MigrationFailed) as error:
            refuse(error.reason, error.fix, CONFIGURATION)
        except ClusterFailed as error:
            refuse(error.reason, error.fix, UNREACHABLE)
        except StoreFailed as error:
            refuse(error.reason, error.fix, REFUSED)
        except DatabaseAway as error:
            refuse(
                f"the database does not answer ({error})", "start it, or correct database.url", UNREACHABLE
            )
        except CommitUnknown:
            refuse("the database was lost while it committed", "look at the result, then repeat", UNKNOWN)
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            refuse("the database has other tables than this release", "run speedsms migrate", CONFIGURATION)

    return run


async def _awaited(work: Awaitable[None]) -> None:
    await work


def refuse(reason: str, fix: str, code: int) -> None:
    """Ends the command."""
    say(f"{reason}: {fix}")
    sys.exit(code)


def say(line: str) -> None:
    """To people, beside the data."""
    sys.stderr.write(f"speedsms: {neutral(line)}\n")


def progress(line: str) -> None:
    """How far long work has come, in place; only for eyes."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{neutral(line)}\r")
        sys.stderr.flush()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The database of these settings; an embedded one that does not run is started as long as needed."""
    async with (
        urls(settings) as (url, _),
        Database(url, name="speedsms cli", prepare=settings.database.prepare) as db,
    ):
        yield db


@asynccontextmanager
async def changing(options: Options) -> AsyncIterator[Session]:
    """One transaction of an operator."""
    async with opened(options.settings()) as db, db.transaction() as connection:
        yield connection


@asynccontextmanager
async def urls(settings: Settings, *, create: bool = False) -> AsyncIterator[tuple[str, str]]:
    """(URL to serve with, URL to migrate with); `create` makes an embedded cluster. Raises ClusterFailed."""
    if url := settings.database.url:
        yield url, settings.database.admin_url or url
        return
    cluster = Cluster(
        ClusterSettings(settings.data_dir, settings.embedded.bin_dir, settings.embedded.run_as), say
    )
    pgdata = settings.data_dir / "pgdata"
    if await asyncio.to_thread(adoptable, pgdata):
        yield cluster.url, cluster.admin_url
        return
    if not create and not await asyncio.to_thread((pgdata / "PG_VERSION").exists):
        raise ClusterFailed(
            f"there is no database in {settings.data_dir} yet",
            "run speedsms migrate or serve, or set database.url",
        )
    await cluster.start()
    try:
        yield cluster.url, cluster.admin_url
    finally:
        await cluster.stop()


def done(options: Options, line: str) -> None:
    """The result of a command that has no data."""
    show(options, {"done": line}, lines=[line])


def show(options: Options, data: Any, *, lines: Iterable[str] | None = None) -> None:
    """To stdout: JSON of `data`, or for people `lines`, else a table of the rows in `data`."""
    if options.as_json:
        document = {"schema": SCHEMA, "data": plain(data)}
        sys.stdout.write(msgspec.json.encode(document, enc_hook=str).decode() + "\n")
    else:
        sys.stdout.writelines(f"{neutral(line)}\n" for line in (table(data) if lines is None else lines))


def plain(value: Any) -> Any:
    """Rows as dictionaries, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key.rstrip("_"): plain(item) for key, item in asdict(value).items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def table(rows: list[Any]) -> Iterable[str]:
    """Columns that line up and survive a pipe."""
    if not rows:
        return ["none"]
    dicts = [plain(row) for row in rows]
    cells = [[key.upper() for key in dicts[0]], *([_cell(value) for value in row.values()] for row in dicts)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _cell(value: Any) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case Mapping():
            return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
        case list() | tuple():
            return ",".join(map(str, value)) or "-"
    return neutral(str(value))


def vnd(amount: int) -> str:
    """`1.000.000 ₫`, as Vietnamese people write it."""
    return f"{amount:,} ₫".replace(",", ".")


def neutral(text: str) -> str:
    """Texts come from strangers: what could steer a terminal is shown, not obeyed."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def pairs(words: Iterable[str]) -> dict[str, Any]:
    """`name=value` words; a value that is JSON is taken as such, an empty one is None."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SettingsFailed(f"{word!r} has no =", "write name=value")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return text
