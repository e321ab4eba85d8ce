"""One embedded server for the tests of migrations and backups, and fresh databases in it."""

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings


@pytest.fixture(scope="session")
def server():
    """Below a directory its account may enter, which pytest's own is not when root runs the tests."""
    path = Path(tempfile.mkdtemp(prefix="speedsms-"))
    path.chmod(0o711)
    cluster = Cluster(ClusterSettings(path / "db", unsafe_fsync_off=True))
    asyncio.run(cluster.start())
    yield cluster
    asyncio.run(cluster.stop())
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def fresh(server):
    """Makes an empty database: (owner's, application's) address."""
    numbers = itertools.count(1)

    def make():
        name = f"fresh{next(numbers)}"
        with psycopg.connect(server.admin_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return tuple(url.replace("@/speedsms?", f"@/{name}?") for url in (server.admin_url, server.url))

    return make
