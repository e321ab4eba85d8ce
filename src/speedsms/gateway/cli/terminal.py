"""What the gateway's commands share: settings, the database, errors as exit codes."""

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec

import msgspec
import psycopg
from cyclopts import Parameter

from speedsms.cli.exits import CONFIGURATION, INTERRUPTED, REFUSED, UNKNOWN, UNREACHABLE
from speedsms.cli.terminal import Output, refuse, say
from speedsms.gateway import log
from speedsms.gateway.config import Settings, SettingsFailed, load
from speedsms.gateway.store.db import CommitUnknown, Database, DatabaseAway, Session
from speedsms.gateway.store.embedded.binaries import ClusterFailed
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings
from speedsms.gateway.store.embedded.postmaster import adoptable
from speedsms.gateway.store.failed import StoreFailed
from speedsms.gateway.store.migrate import MigrationFailed

P = ParamSpec("P")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Output):
    """Every command has these."""

    config: Annotated[Path | None, Parameter(help="The settings' file.")] = None

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
