"""Concurrent requests break neither the balance (I6) nor one execution per key (I4), in two processes too."""

import asyncio
import json
import socket
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest

from speedsms.gateway.app import demo
from speedsms.gateway.app.api import ApiProcess
from speedsms.gateway.config import Settings
from speedsms.gateway.store.db import Database
from speedsms.gateway.web import http

pytestmark = pytest.mark.anyio

PRICE_VND = 250  # of the demo's sms_type 2


@asynccontextmanager
async def serving(database_url):
    """One API process on a port of its own; its base URL."""
    stop = asyncio.Event()
    process = ApiProcess(Database(database_url, name="api"), Settings(), now=lambda: datetime.now(UTC))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        running = asyncio.create_task(process.run(lambda until: http.serve(process.app, sock, until), stop))
        try:
            yield base
        finally:
            stop.set()
            await running


@pytest.fixture
async def token(db, tmp_path):
    """Of an account without a limit of calls, whose balance is the test's to set."""
    ready = await demo.welcome(db, tmp_path, "", demo=True)
    await db.execute("""UPDATE account SET settings = '{"rate_limit": 1000000}'""")
    return ready["token"]


@pytest.fixture
async def bases(database_url, token):  # noqa: ARG001 - the account is there before they start
    """Two API processes over one database."""
    async with serving(database_url) as one, serving(database_url) as two:
        yield [one, two]


@pytest.fixture
async def client(token):
    async with aiohttp.ClientSession(
        headers={"Authorization": aiohttp.encode_basic_auth(token, "x")},
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:
        yield session


async def send(client, base, content="race", **headers):
    body = {"to": ["0912345678"], "content": content, "sms_type": 2}
    async with client.post(f"{base}/index.php/sms/send", json=body, headers=headers) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("processes", [1, 2])
async def test_fifty_sends_with_funds_for_ten(db, bases, client, processes):
    """Exactly 10 are accepted and 40 are answered 300; the balance is 0 and no request is half there."""
    spent = await db.read("SELECT balance_vnd FROM account")
    await db.execute("UPDATE account SET balance_vnd = %(funds)s", funds=10 * PRICE_VND)
    calls = [send(client, bases[i % processes], f"race {i}") for i in range(50)]
    replies = await asyncio.gather(*calls)
    codes = Counter((status, json.loads(body)["code"]) for status, body in replies)
    assert spent[0][0] > 10 * PRICE_VND
    assert codes == {(200, "00"): 10, (200, "300"): 40}
    stored = await db.read(
        "SELECT (SELECT count(*) FROM request), (SELECT count(*) FROM message), balance_vnd FROM account"
    )
    assert stored == [(10, 10, 0)]


@pytest.mark.parametrize("processes", [1, 2])
async def test_sixty_four_requests_with_one_key(db, bases, client, processes):
    """One is executed; what comes too early is told 409, all successes are byte-equal, and so are repeats."""
    calls = [send(client, bases[i % processes], **{"Idempotency-Key": "one"}) for i in range(64)]
    first = await asyncio.gather(*calls)
    assert {status for status, _ in first} <= {200, 409}
    calls = [send(client, bases[i % processes], **{"Idempotency-Key": "one"}) for i in range(64)]
    again = await asyncio.gather(*calls)
    assert {status for status, _ in again} == {200}
    bodies = {body for status, body in (*first, *again) if status == 200}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["status"] == "success"
    assert await db.read("SELECT count(*), (SELECT count(*) FROM message) FROM request") == [(1, 1)]
