"""What the flow tells reaches listeners as it reaches endpoints, and neither disturbs the other."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from speedsms.contract.webhook import event_name
from speedsms.gateway.app.worker import Worker
from speedsms.gateway.net import Net
from speedsms.gateway.store import endpoints, listeners, outbox
from speedsms.gateway.store.db import Database, fetch
from speedsms.gateway.store.outbox import Sample
from speedsms.gateway.web import http

pytestmark = pytest.mark.anyio
KINDS = ("report", "sms")


async def listen(gateway, *events):
    return await listeners.begin(gateway.db, gateway.account, events or KINDS, gateway.clock())


async def take(gateway, listener, after=0):
    """Its events; None if it is over."""
    taken = await listeners.take(
        gateway.db, gateway.account, listener, after=after, wait_s=0, now=gateway.clock()
    )
    return taken and taken.events


async def told(gateway, listener):
    return [event.webhook.body for event in await take(gateway, listener)]


@asynccontextmanager
async def served(gateway):
    """The port on which the gateway answers."""
    stop = asyncio.Event()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        looking = asyncio.create_task(gateway.process.v2.run())
        serving = asyncio.create_task(http.serve(gateway.process.app, sock, stop))
        try:
            yield sock.getsockname()[1]
        finally:
            stop.set()
            await serving
            looking.cancel()


async def ask(port, line):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = "Authorization: Bearer ss_live_alice_000000000000"
    writer.write(f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n\r\n".encode())
    reply = await reader.read()
    writer.close()
    return json.loads(reply.partition(b"\r\n\r\n")[2])["events"]


async def test_reports_and_replies_arrive_as_at_the_endpoints(gateway):
    """Same ids of reports, same bodies, in order, over HTTP to who waits; the endpoints get theirs all the
    same.
    """
    listener = await listen(gateway)
    path = f"GET /v2/listeners/{listener}/events"
    async with served(gateway) as port, asyncio.timeout(25):
        waits = asyncio.create_task(ask(port, f"{path}?wait=30"))
        accepted = await gateway.accept("0912345678", reference="order:1")
        await gateway.play()
        (report,) = await waits
        body = f'{{"type":"report","tranId":{accepted.tran_id},"phone":"0912345678","status":0}}'
        assert report["body"] == body
        assert report["headers"] == {"X-Speedsms-Sequence": "1", "X-Speedsms-Reference": "order:1"}
        await gateway.send("84000000014", test=True)  # it replies YES
        await gateway.play()
        rest = await ask(port, f"{path}?after={report['cursor']}&wait=30")
    heard = [report, *rest]
    assert sorted(event["body"].encode() for event in heard) == sorted(gateway.sink.bodies)
    assert [json.loads(event["body"])["type"] for event in heard] == ["report", "sms", "report"]
    ids = {headers["webhook-id"] for headers, _ in gateway.sink.posts}
    assert {event["id"].lower() for event in heard[::2]} < {name.lower() for name in ids}


async def test_nothing_is_posted_for_a_listener(gateway):
    """Neither the running notifier nor one that starts anew touches its rows, and drain waits for none."""
    listener = await listen(gateway)
    for phone in ("0912345678", "0912345679"):
        await gateway.accept(phone)
    await gateway.play()
    assert await gateway.drain() == dict.fromkeys(
        ("messages waiting", "receipts waiting", "attempts open", "webhooks waiting"), 0
    )
    (first, _) = await take(gateway, listener)
    rows = "SELECT id, due, attempt FROM outbox ORDER BY id"
    kept = await gateway.db.read(rows.replace("due", "due::text"))
    async with Net(allow_loopback=True) as net:
        again = Worker(Database(gateway.db.url, name="again"), gateway.settings, now=gateway.clock, net=net)
        assert await again._notifier.drain() == 0
    assert await gateway.db.read(rows.replace("due", "due::text")) == kept
    assert [due for _, due, _ in kept] == ["infinity"] * 2
    assert await gateway.one("SELECT count(DISTINCT endpoint_id) FROM attempt_log") == 1
    assert len(await take(gateway, listener, after=first.cursor)) == 1


async def test_a_listener_that_is_not_asked_leaves_nothing(gateway):
    """After a minute it is over: its rows go, no more are written, and then it goes itself."""
    listener = await listen(gateway)
    await gateway.accept("0912345678")
    await gateway.play()
    gateway.clock.advance(seconds=58)
    await gateway.worker.sweep()
    assert len(await take(gateway, listener)) == 1
    gateway.clock.advance(seconds=60)
    await gateway.worker.sweep()
    assert await take(gateway, listener) is None
    assert await gateway.one("SELECT count(*) FROM outbox") == 0
    await gateway.accept("0912345679")
    await gateway.play()
    assert await gateway.one("SELECT count(*) FROM outbox") == 0
    assert await gateway.one("SELECT count(*) FROM listener") == 1
    gateway.clock.advance(minutes=2)
    await gateway.worker.sweep()
    assert await gateway.one("SELECT count(*) FROM listener") == 0
    assert await gateway.one("SELECT count(*) FROM endpoint") == 2
    assert len(gateway.sink.posts) == 2


async def test_one_that_is_being_asked_is_not_swept(gateway):
    """The sweep leaves alone what somebody holds, also when its minute just ended."""
    listener = await listen(gateway)
    async with gateway.db.transaction() as connection:
        await fetch(connection, "UPDATE listener SET until = until + interval '1 minute'")
        gateway.clock.advance(seconds=60)  # not before it is held: the worker sweeps too
        await listeners.sweep(gateway.db, gateway.clock())
    assert await take(gateway, listener) == ()
    assert await gateway.one("SELECT bool_and(enabled) FROM endpoint")


async def test_triggered_events_are_real(gateway):
    """A dead letter that is replayed and an attempt that is repeated say the same as at first."""
    listener = await listen(gateway)
    ((hook,),) = await gateway.db.read("SELECT id FROM endpoint WHERE event = 'report' AND url <> ''")
    await endpoints.disable(gateway.db, hook, "for a moment")
    args = gateway.db, gateway.account, "report", Sample("0987654321", 7), gateway.clock()
    assert (await endpoints.trigger(*args, status=34))[1] == 1
    await endpoints.enable(gateway.db, hook)
    gateway.sink.answers.append(500)
    event, count = await endpoints.trigger(*args, status=34)
    assert count == 2
    await gateway.drain()
    await bury(gateway, hook)
    assert await outbox.replay(gateway.db, gateway.account, event, gateway.clock()) == 1
    await gateway.drain()
    _, heard = await take(gateway, listener)
    body = b'{"type":"report","tranId":7,"phone":"0987654321","status":34}'
    assert (heard.event_id, heard.webhook.body) == (event, body)
    assert [(h["webhook-id"], b) for h, b in gateway.sink.posts] == [(event_name(event).lower(), body)] * 2
    assert gateway.sink.posts[0][0]["webhook-signature"].startswith("v1,")


async def bury(gateway, endpoint):
    """Give up the one event that waits for its next attempt."""
    connection = await outbox.connect(gateway.db)
    (row,) = await outbox.due(connection, [outbox.Room(endpoint, 1)], [], gateway.clock() + timedelta(days=1))
    await outbox.settle(
        connection, [outbox.Tried(row, gateway.clock(), 500, 1, "failed", "", buried="given up")]
    )
    await connection.close()


async def test_asking_walks_to_its_own_rows(gateway, database_url):
    """Beside an outbox that is full for others, a listener's statements read no table from end to end."""
    async with Database(database_url, name="one", size=1) as db:
        listener = await listeners.begin(db, gateway.account, KINDS, gateway.clock())
        args = db, gateway.account, listener
        for _ in range(8):  # past the number of plans that are made anew
            await listeners.take(*args, after=0, wait_s=0, now=gateway.clock())
        await db.execute(
            """INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form,
                   created_at)
               SELECT 1000 + n %% 7, now(), 1, 'report', 7, 0, 1, 'national', now()
               FROM generate_series(1, 50000) n"""
        )
        before = await read(db)
        await endpoints.trigger(db, gateway.account, "sms", Sample(), gateway.clock())
        assert await listeners.stirring(db, [listener]) == [listener]
        taken = await listeners.take(*args, after=0, wait_s=0, now=gateway.clock())
        assert len(taken.events) == 1
        await listeners.sweep(db, gateway.clock())
        assert await read(db) - before < 50_000


async def read(db):
    """How many rows of the outbox were read from end to end; another connection may tell of its few later."""
    await db.rows("SELECT pg_stat_force_next_flush()")
    await db.rows("SELECT pg_stat_clear_snapshot()")
    return (await db.read("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'outbox'"))[0][0]
