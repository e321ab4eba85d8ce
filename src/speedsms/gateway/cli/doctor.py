"""`doctor`: looks at everything an installation rests on, and says what to do."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import show
from speedsms.gateway.cli.terminal import PLAIN, Options, command, opened
from speedsms.gateway.config import Settings, load
from speedsms.gateway.net import Failed, target
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.migrate import MigrationFailed, pending

FREE_OCTETS = 1 << 30
CLOCK_S = 2.0
OPEN_FILES = 4096
OLDEST_VERSION = 150_000


class Grade(StrEnum):
    """How a finding is meant."""

    GOOD = "good"
    ODD = "odd"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` is empty for what is good."""

    grade: Grade
    what: str
    said: str
    fix: str = ""


@command
async def doctor(*, options: Options = PLAIN) -> None:
    """Exit code 1 when something is bad; what is odd does not count."""
    loaded = load(options.config)
    settings = loaded.settings
    found = [*_machine(settings), *_secrets_readable(loaded.sources)]
    async with opened(settings) as db:
        found += [finding async for finding in _database(db, settings)]
    show(options, found, lines=[_line(finding) for finding in found])
    if any(finding.grade is Grade.BAD for finding in found):
        sys.exit(REFUSED)


def _line(finding: Finding) -> str:
    return f"{finding.grade:<5}{finding.what}: {finding.said}" + f" -> {finding.fix}" * bool(finding.fix)


def _graded(what: str, said: str, fix: str, *, good: bool, otherwise: Grade = Grade.BAD) -> Finding:
    return Finding(Grade.GOOD, what, said) if good else Finding(otherwise, what, said, fix)


def _machine(settings: Settings) -> Iterator[Finding]:
    place = next(p for p in (settings.data_dir, *settings.data_dir.parents) if p.exists())
    free = shutil.disk_usage(place).free
    yield _graded(
        "disk", f"{free >> 20:,} MiB free for {settings.data_dir}", "free some space", good=free > FREE_OCTETS
    )
    files = os.sysconf("SC_OPEN_MAX")
    fix = f"raise it to {OPEN_FILES} or more (ulimit -n, LimitNOFILE)"
    yield _graded("open files", f"limit {files}", fix, good=files >= OPEN_FILES, otherwise=Grade.ODD)
    host, port = settings.http.host, settings.http.port
    yield Finding(Grade.GOOD, "port", f"{host}:{port} is {'in use' if _taken(host, port) else 'free'}")
    public = settings.http.public_url
    if public.startswith("http://"):
        yield Finding(Grade.ODD, "TLS", f"{public} is plain HTTP", "put a proxy with TLS before it")


def _taken(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _secrets_readable(sources: Mapping[str, str]) -> Iterator[Finding]:
    """A file with the database's password must not be readable by everybody."""
    named = sources.get("database.url", "")
    file = Path(named)
    if named and file.is_file():
        good = not file.stat().st_mode & 0o004
        yield _graded("secrets", f"{file} holds the database's password", f"chmod o-r {file}", good=good)


async def _database(db: Database, settings: Settings) -> AsyncIterator[Finding]:
    before = datetime.now(UTC)
    ((version, clock),) = await db.read(
        "SELECT current_setting('server_version_num')::int, clock_timestamp()"
    )
    yield _graded(
        "database",
        f"PostgreSQL {version // 10000}.{version % 10000}",
        "use 15 or newer",
        good=version >= OLDEST_VERSION,
    )
    off_s = abs((clock - before).total_seconds())
    yield _graded(
        "clock", f"{off_s:.1f} s from the database's", "synchronise both (NTP)", good=off_s < CLOCK_S
    )
    yield await _schema(db)
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        ((value,),) = await db.read("SELECT current_setting(%(name)s)", name=name)
        yield _graded(name, value, "switch it on: acknowledged messages rest on it", good=value != "off")
    for finding in [*await _configuration(db), *await _channels(db)]:
        yield finding
    async for finding in _names(db, allow_loopback=settings.webhooks.allow_loopback):
        yield finding


async def _schema(db: Database) -> Finding:
    try:
        due = await pending(db.url)
    except MigrationFailed as error:
        return Finding(Grade.BAD, "schema", error.reason, error.fix)
    return _graded("schema", f"{len(due)} migrations are due", "run speedsms migrate", good=not due)


_COUNTS = """
SELECT (SELECT count(*) FROM account WHERE NOT blocked),
       (SELECT count(*) FROM token WHERE revoked_at IS NULL),
       (SELECT count(*) FROM price), (SELECT count(*) FROM channel WHERE enabled),
       (SELECT count(*) FROM route r JOIN channel c ON c.id = r.channel_id AND c.enabled),
       (SELECT count(*) FROM node WHERE lease_until > %(now)s),
       (SELECT count(*) FROM endpoint WHERE NOT enabled AND listener IS NULL),
       (SELECT count(*) FROM buried)
"""


async def _configuration(db: Database) -> list[Finding]:
    rows = await db.read(_COUNTS, now=datetime.now(UTC))
    account, token, price, channel, route, node, silent, buried = rows[0]
    odd = Grade.ODD
    return [
        _graded("accounts", f"{account} open", "speedsms account create", good=account > 0, otherwise=odd),
        _graded("tokens", f"{token} valid", "speedsms token create", good=token > 0, otherwise=odd),
        _graded(
            "prices",
            f"{price} rows",
            "speedsms price set: without, no number is valid",
            good=price > 0,
            otherwise=odd,
        ),
        _graded("channels", f"{channel} enabled", "speedsms channel add", good=channel > 0, otherwise=odd),
        _graded(
            "routes", f"{route} to enabled channels", "speedsms route add", good=route > 0, otherwise=odd
        ),
        _graded("processes", f"{node} alive", "speedsms serve", good=node > 0, otherwise=odd),
        _graded(
            "endpoints", f"{silent} disabled", "see speedsms webhook list", good=not silent, otherwise=odd
        ),
        _graded("dead letters", f"{buried}", "speedsms webhook replay", good=not buried, otherwise=odd),
    ]


async def _channels(db: Database) -> list[Finding]:
    """Those that are not as they should be, as the worker last saw them."""
    rows = await db.read(
        """SELECT name, health->>'state', coalesce(health->>'cause', 'see the log') FROM channel
           WHERE enabled AND health->>'state' NOT IN ('up', 'starting', 'draining') ORDER BY name"""
    )
    return [
        Finding(
            Grade.BAD if state == "blocked" else Grade.ODD,
            f"channel {name}",
            f"{state} ({cause})",
            f"speedsms channel test {name} says more; then correct its settings, or channel disable {name}",
        )
        for name, state, cause in rows
    ]


async def _names(db: Database, *, allow_loopback: bool) -> AsyncIterator[Finding]:
    """Whether the hosts of a few endpoints can be looked up from here."""
    sql = "SELECT DISTINCT url FROM endpoint WHERE enabled AND listener IS NULL ORDER BY url LIMIT 5"
    for (url,) in await db.read(sql):
        try:
            to = target(url, allow_loopback=allow_loopback)
            await asyncio.get_running_loop().getaddrinfo(to.host, to.port)
        except (Failed, OSError) as error:
            yield Finding(Grade.ODD, "DNS", f"{url}: {error}", "correct the endpoint, or the resolver")
        else:
            yield Finding(Grade.GOOD, "DNS", f"{to.host} can be looked up")
