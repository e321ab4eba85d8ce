"""Migrations run once, in order, wholly or not at all, and never on a database they do not fit."""

import asyncio
from contextlib import nullcontext

import psycopg
import pytest

from speedsms.gateway.store import migrate as runner
from speedsms.gateway.store.migrate import MigrationFailed


@pytest.fixture
def urls(fresh):
    """(owner's, application's) address of a fresh database."""
    return fresh()


@pytest.fixture
def folder(tmp_path):
    """Two files of one release: what a test adds belongs to the next one."""
    (tmp_path / "0001_pre_base.sql").write_text(
        "CREATE TABLE kept (id int, word text); GRANT SELECT ON kept TO :app"
    )
    (tmp_path / "0002_post_fill.sql").write_text("INSERT INTO kept VALUES (1, 'a:app'::text)")
    return tmp_path


def migrate(url, folder, phase="all", app_role="speedsms"):
    return [m.version for m in asyncio.run(runner.migrate(url, phase, app_role, folder))]


def pending(url, folder):
    return [m.version for m in asyncio.run(runner.pending(url, folder))]


def ask(url, query):
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchone()[0]


def test_each_file_once_and_in_order(urls, folder):
    """What is pending is applied, and then nothing is; the application may ask but not apply."""
    owner, application = urls
    assert pending(application, folder) == [1, 2]
    assert migrate(owner, folder) == [1, 2]
    assert migrate(owner, folder) == []
    assert pending(application, folder) == []
    assert ask(application, "SELECT word FROM kept") == "a:app"
    assert ask(owner, "SELECT array_agg(name || ' ' || kind ORDER BY version) FROM migration") == [
        "base pre",
        "fill post",
    ]
    with pytest.raises(MigrationFailed, match="permission denied"):
        migrate(application, folder)


def test_phases(urls, folder):
    """*pre* leaves the last post files for later; an older post file goes before a newer pre file."""
    assert migrate(urls[0], folder, "pre") == [1]
    assert migrate(urls[0], folder, "pre") == []
    (folder / "0003_pre_next.sql").write_text("CREATE TABLE next (id int)")
    (folder / "0004_post_next.sql").write_text("DROP TABLE next")
    assert migrate(urls[0], folder, "pre") == [2, 3]
    assert migrate(urls[0], folder, "post") == [4]


def test_a_failing_file_leaves_nothing(urls, folder):
    """The files before it stay, its own beginning does not, and the reason is one line."""
    (folder / "0003_pre_bad.sql").write_text("CREATE TABLE half (id int); SELECT 1/0")
    with pytest.raises(MigrationFailed, match=r"0003 \(bad\) failed: division by zero") as caught:
        migrate(urls[0], folder)
    assert "\n" not in str(caught.value)
    assert ask(urls[0], "SELECT to_regclass('half') IS NULL")
    assert pending(urls[1], folder) == [3]


def test_a_changed_file_is_refused(urls, folder):
    """History is not rewritten: neither side goes on over a file that differs from what was applied."""
    migrate(urls[0], folder)
    (folder / "0001_pre_base.sql").write_text("CREATE TABLE other ()")
    for call in (lambda: migrate(urls[0], folder), lambda: pending(urls[1], folder)):
        with pytest.raises(MigrationFailed, match=r"0001 \(base\) was changed"):
            call()


@pytest.mark.parametrize(("kind", "runs"), [("pre", True), ("post", False)])
def test_a_newer_database(urls, folder, kind, runs):
    """An old release runs on a newer release's pre files, not on its post files, and migrates neither."""
    newer = folder / f"0003_{kind}_next.sql"
    newer.write_text("SELECT 1")
    migrate(urls[0], folder)
    newer.unlink()
    sentence = r"migration 0003 \(next\), which this release does not know"
    with pytest.raises(MigrationFailed, match=sentence):
        migrate(urls[0], folder)
    with nullcontext() if runs else pytest.raises(MigrationFailed, match=sentence):
        assert pending(urls[1], folder) == []


def test_two_runners_at_once(urls, folder):
    """Gateways that start together apply each file once."""

    async def together():
        return await asyncio.gather(*(runner.migrate(urls[0], "all", "speedsms", folder) for _ in range(3)))

    assert sorted(len(due) for due in asyncio.run(together())) == [0, 0, 2]


def test_concurrent_index(urls, folder):
    """A marked file runs statement by statement outside a transaction."""
    (folder / "0003_pre_index.sql").write_text(
        "-- no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS kept_id;\n"
        "CREATE INDEX CONCURRENTLY kept_id ON kept (id);\n"
    )
    assert migrate(urls[0], folder) == [1, 2, 3]
    assert ask(urls[0], "SELECT indisvalid FROM pg_index WHERE indexrelid = 'kept_id'::regclass")


def test_one_plain_role_for_both(server, urls):
    """One role without special rights is enough, as on a small external database."""
    name = urls[0].rpartition("/")[2].partition("?")[0]
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {name}_plain LOGIN PASSWORD 'plain'; ALTER DATABASE {name} OWNER TO {name}_plain"
        )
    plain = f"postgresql://{name}_plain:plain@{urls[0].partition('@')[2]}"
    assert migrate(plain, runner.FOLDER, app_role=None)
    assert pending(plain, runner.FOLDER) == []


def test_a_role_with_a_difficult_name(urls, folder):
    """The role's name is quoted wherever a file says `:app`."""
    with psycopg.connect(urls[0], autocommit=True) as connection:
        connection.execute('CREATE ROLE "o\'br:ien \\1"')
    assert migrate(urls[0], folder, app_role="o'br:ien \\1") == [1, 2]
    assert ask(urls[0], "SELECT has_table_privilege('o''br:ien \\1', 'kept', 'SELECT')")


@pytest.mark.parametrize("name", ["0003_base.sql", "3_pre_base.sql", "0002_pre_again.sql"])
def test_names_that_do_not_fit(folder, name):
    """A file that would be skipped or run twice is refused before anything runs."""
    (folder / name).write_text("")
    with pytest.raises(MigrationFailed):
        runner.read(folder)


def test_no_database():
    """A server that is away is one line of reason."""
    with pytest.raises(MigrationFailed, match="the database refuses"):
        asyncio.run(runner.pending("postgresql://nobody@/none?host=/nonexistent"))


def test_the_shipped_schema(urls):
    """The package's own migrations build an empty database, as the owner and for the application."""
    assert migrate(urls[0], runner.FOLDER)
    assert ask(urls[1], "SELECT count(*) FROM account") == 0
