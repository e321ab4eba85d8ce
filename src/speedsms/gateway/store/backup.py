"""Writes the database into a directory with a manifest, and brings it back into an empty database.

A logical copy (`pg_dump`): it moves between hosts, between embedded and external, and to newer PostgreSQL.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from speedsms.gateway.store import migrate
from speedsms.gateway.store.embedded.binaries import tools
from speedsms.gateway.store.failed import StoreFailed

FORMAT = 1
DUMP, MANIFEST = "speedsms.dump", "manifest.json"
# Who has an account and where the money went: a backup without these rows is none.
COUNTS: dict[str, LiteralString] = {
    "account": "SELECT count(*) FROM account",
    "transfer": "SELECT count(*) FROM transfer",
}


class BackupFailed(StoreFailed):
    """A backup could not be written, or must not or could not be restored; the database is unchanged."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Beside the dump; `created` is UTC, `rows` counts the tables of COUNTS in the dump's own snapshot."""

    format: int
    created: datetime
    postgresql_major: int
    schema_version: int
    rows: dict[str, int]
    dump_octets: int
    dump_sha256: str


async def backup(
    admin_url: str, target: Path, tell: Callable[[str], None] = lambda _: None, bin_dir: Path | None = None
) -> Manifest:
    """Writes dump and manifest into `target`, readable by us alone; the manifest comes last.

    Messages go on being accepted meanwhile; the copy shows one moment. Raises BackupFailed, ClusterFailed.
    """
    dump, manifest = target / DUMP, target / MANIFEST
    if manifest.exists() or dump.exists():
        raise BackupFailed(f"{target} already holds a backup", "choose another directory")
    await asyncio.to_thread(target.mkdir, mode=0o700, parents=True, exist_ok=True)
    async with _connected(admin_url) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        major = connection.info.server_version // 10000
        program = tools("pg_dump", major, bin_dir).program("pg_dump")
        snapshot = await _value(connection, "SELECT pg_export_snapshot()")
        version = await _value(connection, "SELECT max(version) FROM migration")
        rows = {table: await _value(connection, query) for table, query in COUNTS.items()}
        part = target / f"{DUMP}.part"
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        await _run(
            admin_url,
            [program, "--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={part}"],
            tell,
        )
    done = Manifest(
        format=FORMAT,
        created=datetime.now(UTC),
        postgresql_major=major,
        schema_version=version,
        rows=rows,
        dump_octets=part.stat().st_size,
        dump_sha256=await asyncio.to_thread(_sealed, part),
    )
    part.rename(dump)
    await asyncio.to_thread(_write, manifest, msgspec.json.format(msgspec.json.encode(done), indent=2))
    return done


async def restore(
    admin_url: str, source: Path, tell: Callable[[str], None] = lambda _: None, bin_dir: Path | None = None
) -> Manifest:
    """Brings `source` into an empty database, wholly or not at all; `migrate` may follow.

    Raises BackupFailed for a damaged or too new backup or a database with anything in it, and ClusterFailed.
    """
    manifest = await asyncio.to_thread(check, source)
    async with _connected(admin_url) as connection:
        major = connection.info.server_version // 10000
        if major < manifest.postgresql_major:
            raise BackupFailed(
                f"the backup is of PostgreSQL {manifest.postgresql_major} and this is {major}",
                "restore it into the same version or a newer one",
            )
        if await _value(connection, _ANYTHING):
            raise BackupFailed("the database is not empty", "restore into a new data directory or database")
        program = tools("pg_restore", manifest.postgresql_major, bin_dir).program("pg_restore")
        dump = str(source / DUMP)
        await _run(admin_url, [program, "--no-owner", "--single-transaction", "--exit-on-error", dump], tell)
        rows = {table: await _value(connection, query) for table, query in COUNTS.items()}
    if rows != manifest.rows:
        raise BackupFailed(
            f"{rows} came back and the manifest says {manifest.rows}", "keep both and ask for help"
        )
    return manifest


_ANYTHING: LiteralString = """
SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
 WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
"""


def check(source: Path) -> Manifest:
    """The manifest of a whole and readable backup; raises BackupFailed."""
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
        with (source / DUMP).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BackupFailed(
            f"{error.filename} is missing", "name the directory of a finished backup"
        ) from None
    except msgspec.DecodeError as error:
        raise BackupFailed(f"{source / MANIFEST} is damaged ({error})", "use another backup") from None
    newest = max(migration.version for migration in migrate.read(migrate.FOLDER))
    if manifest.format != FORMAT or manifest.schema_version > newest:
        raise BackupFailed(f"{source} was written by a newer release", "install that release first")
    if digest != manifest.dump_sha256:
        raise BackupFailed(f"{source / DUMP} is damaged: its checksum differs", "use another backup")
    return manifest


async def _run(admin_url: str, command: list[str], tell: Callable[[str], None]) -> None:
    """Runs pg_dump or pg_restore; the password goes through a file, because arguments are public."""
    address = conninfo_to_dict(admin_url)
    password = str(address.pop("password", "")).replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(f"*:*:*:*:{password}\n")
        secret.flush()
        dbname = make_conninfo("", **address | ({"passfile": secret.name} if password else {}))
        child = await asyncio.create_subprocess_exec(
            *command, "--verbose", "--no-password", f"--dbname={dbname}", stderr=asyncio.subprocess.PIPE
        )
        try:
            said = await _heard(child, tell)
        finally:
            if child.returncode is None:
                child.terminate()
                await child.wait()
    if child.returncode:
        raise BackupFailed(f"{Path(command[0]).name} failed ({said})", "correct the cause and try again")


async def _heard(child: asyncio.subprocess.Process, tell: Callable[[str], None]) -> str:
    """Tells about each table as it is reached, and gives the first error."""
    said = ""
    if child.stderr:
        async for line in child.stderr:
            text = line.decode("utf8", "replace").strip().partition(": ")[2]
            if text.startswith(("dumping contents", "processing data")):
                tell(text)
            said = said or (text if "error:" in text else "")
    await child.wait()
    return said


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[migrate.Connection]:
    """A connection in a transaction of its own; whatever the server refuses is told in one line."""
    try:
        async with await psycopg.AsyncConnection.connect(
            url, prepare_threshold=None, connect_timeout=5
        ) as connection:
            yield connection
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise BackupFailed(
            f"the database refuses ({said})", "check its address, password and schema"
        ) from error


async def _value(connection: migrate.Connection, query: LiteralString) -> Any:
    return (await (await connection.execute(query)).fetchone() or (None,))[0]


def _sealed(path: Path) -> str:
    """Brings the file to the disk and gives its SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
