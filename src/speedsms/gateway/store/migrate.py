"""Runs the numbered SQL files of `migrations/`: once each, in order, by one runner at a time.

A file is `NNNN_{pre,post}_what.sql`: *pre* runs before the new code, *post* after no old code runs any more.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import psycopg
from psycopg.rows import TupleRow, class_row

from speedsms.gateway.store.failed import StoreFailed

FOLDER = Path(__file__).parent / "migrations"
Phase = Literal["pre", "post", "all"]
ONE_RUNNER = 0x73706565_64736D73  # "speedsms": the key of the advisory lock
LOCK_TIMEOUT = "30s"  # a migration waiting for a table makes everybody behind it wait too
# Concurrent index builds refuse a transaction; such a file holds statements that may be run again.
NO_TRANSACTION = "-- no-transaction"

TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('pre', 'post')),
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationFailed(StoreFailed):
    """The schema and this release do not fit, or a file could not be applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    kind: Literal["pre", "post"]
    name: str
    sql: str
    checksum: str


Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of the table: what was run here, by this release or another."""

    version: int
    kind: str
    name: str
    checksum: str


async def migrate(
    admin_url: str, phase: Phase = "all", app_role: str | None = None, folder: Path = FOLDER
) -> list[Migration]:
    """Applies what is due and returns it; raises MigrationFailed and keeps nothing of the file that failed.

    `:app` in a file becomes the quoted `app_role`; without one, the role of `admin_url` is both.
    """
    # The end of the session is the end of the advisory lock.
    async with _connected(admin_url) as connection:
        await connection.execute(f"SET statement_timeout = 0; SELECT pg_advisory_lock({ONE_RUNNER})")
        role = await _quoted_role(connection, app_role)
        table = f"{TABLE}; GRANT SELECT ON migration TO {role}"
        await connection.execute(f"SET client_min_messages = warning; SET lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute(table.encode())
        due = _due(await asyncio.to_thread(read, folder), await _applied(connection), phase)
        for migration in due:
            await _apply(connection, migration, role)
        return due


async def pending(url: str, folder: Path = FOLDER) -> list[Migration]:
    """What `migrate` would apply; any role may ask. Raises MigrationFailed when this release is too old.

    Newer *pre* files are borne: while a new release rolls out, the old one runs on its schema.
    """
    async with _connected(url) as connection:
        cursor = await connection.execute("SELECT to_regclass('migration') IS NOT NULL")
        known = (await cursor.fetchone() or (False,))[0]
        applied = await _applied(connection) if known else []
    files = await asyncio.to_thread(read, folder)
    last = files[-1].version if files else 0
    return _due(files, [row for row in applied if row.version <= last or row.kind != "pre"], "all")


def read(folder: Path) -> list[Migration]:
    """The files in order of their numbers; raises MigrationFailed for a name or number that does not fit."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_(pre|post)_(\w+)\.sql", path.name)
        if not match:
            raise MigrationFailed(
                f"{path.name} is no name of a migration", "call it NNNN_{pre,post}_what.sql"
            )
        sql = path.read_text("utf8")
        kind: Literal["pre", "post"] = "pre" if match[2] == "pre" else "post"
        migrations.append(
            Migration(int(match[1]), kind, match[3], sql, hashlib.sha256(sql.encode()).hexdigest())
        )
    if len({m.version for m in migrations}) < len(migrations):
        raise MigrationFailed("two migrations have the same number", "number one of them anew")
    return migrations


def _due(files: list[Migration], applied: list[Applied], phase: Phase) -> list[Migration]:
    """What is missing, after the check that the database was made by these files and by no newer ones."""
    by_version = {migration.version: migration for migration in files}
    for row in applied:
        migration = by_version.get(row.version)
        if migration is None:
            raise MigrationFailed(
                f"the database has migration {row.version:04} ({row.name}), which this release does not know",
                "install the newer release again",
            )
        if migration.checksum != row.checksum:
            raise MigrationFailed(
                f"migration {row.version:04} ({row.name}) was changed after it was applied",
                "restore the file and put the change into a new one",
            )
    done = {row.version for row in applied}
    missing = [migration for migration in files if migration.version not in done]
    if phase != "pre":
        return missing
    # Numbers rule: a post file of an earlier release stands before this release's pre files and comes first.
    last = max((migration.version for migration in missing if migration.kind == "pre"), default=0)
    return [migration for migration in missing if migration.version <= last]


async def _apply(connection: Connection, migration: Migration, role: str) -> None:
    sql = re.sub(r"(?<![:\w]):app\b", lambda _: role, migration.sql)
    try:
        if sql.startswith(NO_TRANSACTION):
            for statement in filter(str.strip, re.split(r";[ \t]*$", sql, flags=re.MULTILINE)):
                await connection.execute(statement.encode())
            await _record(connection, migration)
        else:
            async with connection.transaction():
                await connection.execute(sql.encode())
                await _record(connection, migration)
    except psycopg.Error as error:
        said = str(error).partition("\n")[0]
        reason = f"migration {migration.version:04} ({migration.name}) failed: {said}"
        raise MigrationFailed(reason, "correct the cause and migrate again") from error


async def _record(connection: Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO migration (version, name, kind, checksum) VALUES (%s, %s, %s, %s)",
        (migration.version, migration.name, migration.kind, migration.checksum),
    )


async def _applied(connection: Connection) -> list[Applied]:
    async with connection.cursor(row_factory=class_row(Applied)) as cursor:
        await cursor.execute("SELECT version, kind, name, checksum FROM migration ORDER BY version")
        return await cursor.fetchall()


async def _quoted_role(connection: Connection, role: str | None) -> str:
    cursor = await connection.execute("SELECT quote_ident(coalesce(%s::text, current_user))", (role,))
    return str((await cursor.fetchone() or ("",))[0])


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    try:
        # Prepared statements do not survive a pooler in front of an external database (stack.md DB-3).
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, prepare_threshold=None, connect_timeout=5
        ) as connection:
            yield connection
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise MigrationFailed(
            f"the database refuses ({said})", "check its address and the role's rights"
        ) from error
