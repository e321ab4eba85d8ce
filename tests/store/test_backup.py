"""A backup that was written comes back whole, and one that was damaged does not come back at all."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import psycopg
import pytest

from speedsms.gateway.store.backup import DUMP, MANIFEST, BackupFailed, Manifest, backup, restore
from speedsms.gateway.store.embedded.binaries import ClusterFailed, tools
from speedsms.gateway.store.migrate import migrate, pending


@pytest.fixture(scope="module")
def full(fresh):
    """(owner's, application's) address of a gateway's database with one account and its first top-up."""
    owner, application = fresh()
    asyncio.run(migrate(owner, app_role="speedsms"))
    with psycopg.connect(owner) as connection:
        connection.execute(
            "INSERT INTO account (name, email, balance_vnd) VALUES ('Bình', 'binh@example.vn', 50000)"
        )
        connection.execute(
            "INSERT INTO transfer (account_id, ref, leg, code, debit, credit, amount_vnd, at, note)"
            " VALUES (1, 127, 0, 1, 1, 2, 50000, now(), 'first')"
        )
    return owner, application


@pytest.fixture(scope="module")
def written(full, tmp_path_factory):
    """(directory, manifest, what was told) of one backup."""
    target, told = tmp_path_factory.mktemp("backup") / "today", []
    return target, asyncio.run(backup(full[0], target, told.append)), told


@pytest.fixture
def copy(written, tmp_path):
    """A backup a test may damage."""
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


@pytest.fixture
def empty(fresh):
    """(owner's, application's) address of an empty database."""
    return fresh()


def ask(url, query):
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchone()


def test_there_and_back(full, written, empty):
    """Rows, privileges and schema version come back; the ledger stays append-only."""
    source, manifest, told = written
    assert manifest.rows == {"account": 1, "transfer": 1}
    assert any("transfer" in sentence for sentence in told)
    assert asyncio.run(restore(empty[0], source)) == manifest
    assert asyncio.run(pending(empty[1])) == []
    for query in ("SELECT name, balance_vnd FROM account", "SELECT amount_vnd, note FROM transfer"):
        assert ask(empty[1], query) == ask(full[1], query)
    for url in empty:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(url, "UPDATE transfer SET amount_vnd = 1 RETURNING 1")


def test_only_we_can_read_it(written):
    """A backup holds texts and secrets: nobody else on the machine may read it."""
    for path in (written[0], written[0] / DUMP, written[0] / MANIFEST):
        assert path.stat().st_mode & 0o077 == 0


def test_a_backup_is_never_overwritten(full, written):
    """A directory that holds a backup is refused."""
    with pytest.raises(BackupFailed, match="already holds a backup"):
        asyncio.run(backup(full[0], written[0]))


def test_a_used_database_is_never_overwritten(full, written):
    """Restoring over data is refused before anything happens."""
    with pytest.raises(BackupFailed, match="not empty"):
        asyncio.run(restore(full[0], written[0]))
    assert ask(full[1], "SELECT count(*) FROM account") == (1,)


def test_a_damaged_dump_is_refused(copy, empty):
    """One changed octet is noticed before the database is touched."""
    dump = copy / DUMP
    octets = bytearray(dump.read_bytes())
    octets[len(octets) // 2] ^= 1
    dump.write_bytes(octets)
    with pytest.raises(BackupFailed, match="checksum"):
        asyncio.run(restore(empty[0], copy))
    assert ask(empty[0], "SELECT to_regclass('account')") == (None,)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "newer release"),
        ({"schema_version": 9999}, "newer release"),
        ({"postgresql_major": 99}, "of PostgreSQL 99"),
        ({"rows": {"account": 2, "transfer": 1}}, "the manifest says"),
    ],
)
def test_a_manifest_that_does_not_fit(copy, empty, change, reason):
    """Other formats, newer schemas and servers, and wrong counts are told apart."""
    path = copy / MANIFEST
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **change)))
    with pytest.raises(BackupFailed, match=reason):
        asyncio.run(restore(empty[0], copy))


@pytest.mark.parametrize("missing", [DUMP, MANIFEST])
def test_an_unfinished_backup_is_refused(copy, empty, missing):
    """Without its manifest or its dump a directory is no backup."""
    (copy / missing).unlink()
    with pytest.raises(BackupFailed, match=f"{missing} is missing"):
        asyncio.run(restore(empty[0], copy))


def test_a_failed_restore_leaves_nothing(full, copy, empty):
    """When the program fails half-way the database is empty again, and the reason is one line."""
    renamed = "ALTER ROLE speedsms RENAME TO elsewhere", "ALTER ROLE elsewhere RENAME TO speedsms"
    with psycopg.connect(full[0], autocommit=True) as connection:
        password = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'speedsms'"
        ).fetchone()[0]
        connection.execute(renamed[0])
        try:
            with pytest.raises(BackupFailed, match='role "speedsms" does not exist') as caught:
                asyncio.run(restore(empty[0], copy))
        finally:
            connection.execute(renamed[1])
            connection.execute(f"ALTER ROLE speedsms PASSWORD '{password}'")
    assert "\n" not in str(caught.value)
    assert ask(empty[0], "SELECT to_regclass('account')") == (None,)


def test_an_empty_database_is_not_backed_up(empty, tmp_path):
    """A database without our schema is refused, and no manifest claims otherwise."""
    with pytest.raises(BackupFailed, match="migration"):
        asyncio.run(backup(empty[0], tmp_path / "none"))
    assert not (tmp_path / "none" / MANIFEST).exists()


def test_no_program_is_new_enough():
    """A server newer than every pg_dump here is told as such."""
    with pytest.raises(ClusterFailed, match="no pg_dump of PostgreSQL 99"):
        tools("pg_dump", 99)
