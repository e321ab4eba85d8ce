"""What a process knows of the configuration: read once for all who ask, and never kept beyond a change."""

import asyncio

import pytest

from speedsms.gateway.store.accounts import Directory
from speedsms.gateway.store.db import Database

pytestmark = pytest.mark.anyio


class Counting(Database):
    """Counts what is read."""

    reads = 0

    async def read(self, sql, **params):
        self.reads += 1
        return await super().read(sql, **params)


@pytest.fixture
async def db(database_url):
    async with Counting(database_url, name="directory") as db:
        yield db


async def test_who_asks_at_once_is_answered_by_one_read(db):
    """Hundreds of requests find the tariff out of date at the same moment, and so with a token."""
    directory = Directory(db)
    first = await directory.tariff()
    alone = db.reads
    directory.forget()
    tariffs = await asyncio.gather(*(directory.tariff() for _ in range(100)))
    assert db.reads == 2 * alone
    assert all(tariff is tariffs[0] is not first for tariff in tariffs)
    await asyncio.gather(*(directory.caller(b"unknown") for _ in range(100)))
    assert db.reads == 2 * alone + 1


async def test_what_was_read_before_a_change_is_not_kept(db):
    """The change may be younger than the answer, which only those get who asked before it."""
    directory = Directory(db)
    asked = asyncio.create_task(directory.tariff())
    await asyncio.sleep(0)
    directory.forget()
    assert await directory.tariff() is not await asked
    assert await directory.tariff() is not asked.result()


async def test_who_gives_up_leaves_the_others_their_answer(db):
    """One client goes away while its call reads; those who wait for the same read get it."""
    directory = Directory(db)
    asked = [asyncio.create_task(directory.tariff()) for _ in range(2)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert await asked[1] is await directory.tariff()
