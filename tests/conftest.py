"""Real PostgreSQL for every test that needs one: a cluster per run, a migrated template, a clone per test.

SPEEDSMS_TEST_DATABASE_URL names an external server (as a role that may create databases and roles) instead.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from speedsms.gateway import log
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings
from speedsms.gateway.store.migrate import migrate

sys.path.insert(0, str(Path(__file__).parent))  # for `ports`, which folders share

# A shell that starts the tests in the background ignores SIGINT for them; their children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is, and nothing of the product.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

APP = "speedsms"
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Server:
    """admin_url: of a role that makes databases; app_url: of the application's role, same server."""

    admin_url: str
    app_url: str
    template: str

    def clone(self, template: str | None = None) -> str:
        """A fresh migrated database; its name."""
        name = f"t{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(named(self.admin_url, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template or self.template}")
        return name

    def clear(self) -> None:
        """Take all clones of this process away: one by one after each test would cost a checkpoint each."""
        with psycopg.connect(named(self.admin_url, "postgres"), autocommit=True) as connection:
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"t{os.getpid()}\\_%",)
            ).fetchall()
            for (name,) in [*names, (self.template,)]:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def named(url: str, database: str) -> str:
    head, _, query = url.partition("?")
    base = head.rpartition("/")[0]
    return f"{base}/{database}" + (f"?{query}" if query else "")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Commands that run in this process say how it logs; the next test hears everything again."""
    level = logging.root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.root.setLevel(level)
    for handler in logging.root.handlers[:]:
        if type(handler).__module__ == log.__name__:
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    template = f"template_{os.getpid()}"
    external = os.environ.get("SPEEDSMS_TEST_DATABASE_URL")
    if external:
        prepared = _prepared(external, external, template)
        yield prepared
        prepared.clear()
        return
    with TemporaryDirectory(prefix="speedsms-") as place:
        Path(place).chmod(0o711)  # as root, PostgreSQL runs as another account that has to get in
        cluster = Cluster(ClusterSettings(Path(place) / "data", unsafe_fsync_off=True))
        asyncio.run(cluster.start())
        try:
            yield _prepared(cluster.admin_url, cluster.url, template)
        finally:
            os.kill(cluster.pid, signal.SIGQUIT)  # writing hundreds of databases first would take a minute
            asyncio.run(cluster.stop())


def _prepared(admin_url: str, app_url: str, template: str) -> Server:
    with psycopg.connect(named(admin_url, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {template}")
        connection.execute(f"CREATE DATABASE {template}")
    asyncio.run(migrate(named(admin_url, template), app_role=urlsplit(app_url).username))
    return Server(admin_url, app_url, template)


@pytest.fixture
def database_name(server: Server) -> str:
    return server.clone()


@pytest.fixture
def database_url(server: Server, database_name: str) -> str:
    """A fresh migrated database, as the application's role."""
    return named(server.app_url, database_name)


@pytest.fixture
def admin_url(server: Server, database_name: str) -> str:
    """The same database, as the role that owns it."""
    return named(server.admin_url, database_name)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, name="test") as database:
        yield database
