"""Listeners and triggers over real HTTP (docs/reference/v2.md): nothing is lost, nothing stays, nobody is
disturbed.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from speedsms.gateway.app.api import ApiProcess
from speedsms.gateway.config import Settings
from speedsms.gateway.store import admin, listeners
from speedsms.gateway.store.db import Database, fetch
from speedsms.gateway.web import http, v2

pytestmark = pytest.mark.anyio
ALICE, BOB = "ss_live_alice_000000000000", "ss_live_bobby_000000000000"
START = datetime(2026, 12, 7, 3, tzinfo=UTC)


@dataclass
class World:
    """An api process that serves two accounts; nobody else runs, so what is in the outbox stays there."""

    db: Database
    process: ApiProcess
    port: int
    stop: asyncio.Event
    running: asyncio.Task[None]
    now: datetime = START

    def request(self, method, path, body=None, token=ALICE, fields=()):
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(raw)}"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        return "\r\n".join([*lines, *fields, "", ""]).encode() + raw

    async def raw(self, octets):
        """Status, headers and body of the reply; the connection is closed by the server."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(octets)
            head, _, text = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, json.loads(text) if text else None

    async def call(self, method, path, body=None, **more):
        status, _, said = await self.raw(self.request(method, path, body, **more))
        return status, said

    async def listen(self, *events, token=ALICE):
        wanted = {"events": events or ["report", "sms"]}
        status, said = await self.call("POST", "/v2/listeners", wanted, token=token)
        assert (status, said["expires_s"]) == (201, 60)
        return f"/v2/listeners/{said['listener']}"

    async def events(self, listener, *, after=0, wait=0, token=ALICE):
        status, said = await self.call("GET", f"{listener}/events?after={after}&wait={wait}", token=token)
        assert status == 200, said
        return said["events"]

    async def texts(self, listener, **more):
        return [json.loads(event["body"])["content"] for event in await self.events(listener, **more)]

    async def trigger(self, content, token=ALICE):
        body = {"type": "sms", "phone": "0912345678", "content": content}
        status, said = await self.call("POST", "/v2/trigger", body, token=token)
        assert status == 202, said
        return said

    async def one(self, sql):
        return (await self.db.read(sql))[0][0]


async def account(connection, name, token, **more):
    await admin.create_account(connection, name, f"{name}@example.test")
    await admin.set_account(connection, name, {"rate_limit": 10_000}, api_enabled=True)
    await admin.add_token(connection, name, token, **more)


@pytest.fixture
async def world(database_url, tmp_path) -> AsyncIterator[World]:
    stop = asyncio.Event()
    async with Database(database_url, name="test") as db:
        async with db.transaction() as connection:
            await account(connection, "alice", ALICE)
            await account(connection, "bob", BOB)
        process = ApiProcess(
            Database(database_url, name="test api"), Settings(data_dir=tmp_path), now=lambda: world.now
        )
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            port = sock.getsockname()[1]
            running = asyncio.create_task(
                process.run(lambda until: http.serve(process.app, sock, until), stop)
            )
            world = World(db, process, port, stop, running)
            yield world
            stop.set()
            await running


async def test_events_arrive_as_webhooks_would(world):
    """Bodies byte by byte, hints as headers, in the order in which they happened; the id is the event's."""
    listener = await world.listen()
    report = {"type": "report", "phone": "+84 912 345 678", "status": 69, "tranId": 1234}
    status, first = await world.call("POST", "/v2/trigger", report)
    assert (status, first["endpoints"]) == (202, 1)
    second = await world.trigger("Đồng ý \0")
    events = await world.events(listener)
    assert [event["body"] for event in events] == [
        '{"type":"report","tranId":1234,"phone":"+84 912 345 678","status":69}',
        '{"type":"sms","phone":"0912345678","content":"\\u0110\\u1ed3ng \\u00fd \\u0000"}',
    ]
    assert [event["headers"] for event in events] == [
        {"X-Speedsms-Sequence": "1"},
        {"X-Speedsms-Receiver": "test"},
    ]
    assert [event["id"] for event in events] == [first["event"], second["event"]]


async def test_each_listener_gets_what_it_asked_for(world):
    """Two listeners of an account get everything, one for reports gets no SMS, and another account none."""
    one, two = await world.listen(), await world.listen("sms")
    reports, foreign = await world.listen("report"), await world.listen(token=BOB)
    assert [(await world.trigger(text))["endpoints"] for text in "abc"] == [2, 2, 2]
    assert [await world.texts(listener) for listener in (one, two, reports)] == [[*"abc"], [*"abc"], []]
    assert await world.events(foreign, token=BOB) == []


async def test_only_what_is_acknowledged_is_gone(world):
    """What is not acknowledged comes again; a cursor takes what came before it, and nothing unseen."""
    listener = await world.listen()
    for text in "abc":
        await world.trigger(text)
    seen = await world.events(listener)
    assert await world.events(listener) == seen
    await world.trigger("d")
    assert await world.texts(listener, after=seen[1]["cursor"]) == ["c", "d"]
    for text in "ef":
        await world.trigger(text)
    assert await world.texts(listener, after=(1 << 63) - 1) == ["e", "f"]
    assert await world.one("SELECT count(*) FROM outbox") == 2


async def test_what_commits_late_is_not_lost(world):
    """A row that was numbered before others and committed after they were acknowledged still arrives."""
    listener = await world.listen()
    insert = """
        INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, sequence, phone_form, created_at,
            sample)
        SELECT id, now(), account_id, 'sms', 0, 1, 'as_sent', now(), '{"content":"late"}' FROM endpoint
        WHERE event = 'sms'"""
    async with world.db.transaction() as connection:
        await fetch(connection, insert)
        await world.trigger("early")
        (early,) = await world.events(listener)
    (late,) = await world.events(listener, after=early["cursor"])
    assert json.loads(late["body"])["content"] == "late"
    assert late["cursor"] > early["cursor"]


async def test_a_backlog_is_handed_out_in_order(world):
    """At most a hundred at a time, none twice, none left out, also of both kinds of events."""
    listener = await world.listen()
    await world.db.execute(
        """INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form,
               created_at, sample)
           SELECT e.id, now(), account_id, event, 0, 0, 1, 'as_sent', now(), '{"phone":"' || n || '"}'
           FROM generate_series(1, 450) n JOIN endpoint e ON (event = 'sms') = (n %% 3 = 0)
           ORDER BY n"""
    )
    phones, after = [], 0
    while events := await world.events(listener, after=after):
        assert len(events) <= listeners.BATCH
        phones += [int(json.loads(event["body"])["phone"]) for event in events]
        after = events[-1]["cursor"]
    assert phones == list(range(1, 451))
    assert await world.one("SELECT count(*) FROM outbox") == 0


async def test_an_event_ends_the_wait(world):
    """Who waits has it long before the wait is over, and holds no connection to the database meanwhile."""
    listener = await world.listen()
    polls = [asyncio.create_task(world.events(listener, wait=30)) for _ in range(v2.ASKING)]
    await waiting(world, v2.ASKING)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test api' AND state <> 'idle'"
    assert await world.one(busy) == 0
    assert (await world.call("GET", f"{listener}/events"))[0] == 429
    await world.trigger("now")
    async with asyncio.timeout(10):
        assert {len(events) for events in await asyncio.gather(*polls)} == {1}
    assert await world.texts(listener) == ["now"]


async def test_a_wait_ends_with_nothing(world):
    """After `wait` seconds the answer is an empty list, and the listener lives on."""
    listener = await world.listen()
    assert await world.events(listener, wait=1) == []
    assert await world.events(listener) == []


async def waiting(world, count):
    async with asyncio.timeout(60):
        while len(world.process.v2._waiting) != count:
            await world.one("SELECT 1")


async def test_a_killed_client_begins_where_it_was(world):
    """Its poll is let go at once; what was on its way comes again to the same listener."""
    listener = await world.listen()
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(world.request("GET", f"{listener}/events?wait=30"))
    await waiting(world, 1)
    writer.transport.abort()
    await waiting(world, 0)
    await world.trigger("a")
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(world.request("GET", f"{listener}/events?wait=30"))
    async with asyncio.timeout(60):
        while not await world.one("SELECT count(*) FROM outbox WHERE due = 'infinity'"):
            pass
    writer.transport.abort()
    assert await world.texts(listener) == ["a"]


async def test_the_end_of_the_process_ends_all_waits(world):
    """Polls that wait are answered at once, and the process ends as quickly as without them."""
    listener = await world.listen()
    polls = [asyncio.create_task(world.events(listener, wait=30)) for _ in range(3)]
    await waiting(world, 3)
    world.stop.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*polls) == [[], [], []]
    async with asyncio.timeout(15):
        await world.running


async def test_a_listener_is_its_accounts_own(world):
    """Another account's, an ended one, an expired one and one that never was are one answer."""
    listener, ended = await world.listen(), await world.listen()
    assert await world.call("DELETE", listener, token=BOB) == await world.call(
        "GET", f"{listener}/events", token=BOB
    )
    assert (await world.call("DELETE", ended)) == (204, None)
    world.now += timedelta(seconds=59)
    assert await world.events(listener) == []
    world.now += timedelta(seconds=60)
    for path, token in ((listener, BOB), (ended, ALICE), (listener, ALICE), ("/v2/listeners/lst_x", ALICE)):
        for method, target in (("DELETE", path), ("GET", f"{path}/events?wait=30")):
            assert (await world.call(method, target, token=token))[0] == 404


async def test_listeners_are_few(world):
    """Ten of an account, however they race; one that ends makes place."""
    body = {"events": ["report"]}
    replies = await asyncio.gather(*(world.call("POST", "/v2/listeners", body) for _ in range(20)))
    assert sorted(status for status, _ in replies) == [201] * 10 + [409] * 10
    (listener, *_) = (said["listener"] for status, said in replies if status == 201)
    assert (await world.call("DELETE", f"/v2/listeners/{listener}"))[0] == 204
    await world.listen()


async def test_a_slow_listener_loses_the_oldest(world):
    """Beyond ten thousand rows of a kind the oldest go, and it is told how many."""
    listener, other = await world.listen(), await world.listen("report")
    await world.db.execute(
        """INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, sequence, phone_form, created_at,
               sample)
           SELECT e.id, now(), account_id, event, 0, 1, 'as_sent', now(), '{"content":"' || n || '"}'
           FROM generate_series(1, 10250) n JOIN endpoint e ON event = 'sms'"""
    )
    ((slow, _, dropped),) = await listeners.sweep(world.db, world.now)
    assert (listener.endswith(slow), dropped) == (True, 250)
    assert await listeners.sweep(world.db, world.now) == []
    status, said = await world.call("GET", f"{listener}/events")
    assert (status, said["dropped"], json.loads(said["events"][0]["body"])["content"]) == (200, 250, "251")
    assert (await world.call("GET", f"{other}/events"))[1] == {"events": [], "dropped": 0}


async def test_credentials(world):
    """Those of the vendor's endpoints, but for tokens in the query; wrong ones count for both."""
    listener = await world.listen()
    status, headers, said = await world.raw(
        world.request("GET", f"{listener}/events?access-token={ALICE}", token=None)
    )
    assert (status, said["error"]["code"]) == (401, "unauthorized")
    assert headers["www-authenticate"] == 'basic realm="api"'
    basic = "Authorization: Basic c3NfbGl2ZV9hbGljZV8wMDAwMDAwMDAwMDA6eA=="  # alice's token, `x`
    assert (await world.call("GET", f"{listener}/events", token=None, fields=[basic]))[0] == 200
    wrong = [(await world.call("GET", f"{listener}/events", token="wrong"))[0] for _ in range(31)]
    assert wrong == [401] * 30 + [429]
    status, headers, _ = await world.raw(world.request("GET", "/user/info", token="wrong"))
    assert (status, headers["retry-after"]) == (429, "60")
    assert await world.events(listener) == []


NOT_ADMITTED = [
    ({}, "UPDATE account SET blocked = true WHERE name = 'carol'", "account_blocked"),
    ({}, "UPDATE account SET blocked = false, api_enabled = false WHERE name = 'carol'", "api_not_allowed"),
    ({"scopes": ["send", "info"]}, "UPDATE account SET api_enabled = true", "scope_missing"),
    ({"allow_ip": ["203.0.113.7"]}, "SELECT 1", "ip_locked"),
]


async def test_who_may_not(world):
    """Blocked accounts and tokens without the scope or from elsewhere are refused everywhere."""
    listener = await world.listen()
    async with world.db.transaction() as connection:
        await account(connection, "carol", "ss_live_carol_000000000000")
    for n, (given, change, code) in enumerate(NOT_ADMITTED):
        token = f"ss_live_carol_{n:012}"
        async with world.db.transaction() as connection:
            if n:
                await admin.add_token(connection, "carol", token, **given)
            await connection.execute(change)
        world.process.directory.forget()
        for method, path, body in (
            ("POST", "/v2/listeners", {"events": ["sms"]}),
            ("GET", f"{listener}/events", None),
            ("DELETE", listener, None),
            ("POST", "/v2/trigger", {"type": "sms", "phone": "1", "content": ""}),
        ):
            status, said = await world.call(method, path, body, token=token)
            assert (status, said["error"]["code"]) == (403, code)


async def test_the_rate_limit_counts_all_but_polls(world):
    """Waiting costs nothing; the rest is counted like any call, and the answer says when to come again."""
    async with world.db.transaction() as connection:
        await admin.set_account(connection, "alice", {"rate_limit": 2})
    world.process.directory.forget()
    listener = await world.listen()
    for _ in range(5):
        assert await world.events(listener) == []
    await world.trigger("a")
    status, headers, said = await world.raw(world.request("DELETE", listener))
    assert (status, said["error"]["code"], headers["retry-after"]) == (429, "rate_limit", "60")
    assert not [name for name in headers if name.startswith("x-rate-limit")]
    assert await world.texts(listener) == ["a"]


HOSTILE = [
    ("POST", "/v2/listeners", b"", 400),
    ("POST", "/v2/listeners", b"{}", 400),
    ("POST", "/v2/listeners", {"events": []}, 400),
    ("POST", "/v2/listeners", {"events": ["pin"]}, 400),
    ("POST", "/v2/listeners", {"events": "sms"}, 400),
    ("POST", "/v2/listeners", {"events": ["sms"], "url": "http://x"}, 400),
    ("POST", "/v2/listeners", b'{"events":["sms\xff"]}', 400),
    ("POST", "/v2/trigger", b"null", 400),
    ("POST", "/v2/trigger", b"\x1f\x8b\x08", 400),
    ("POST", "/v2/trigger", b"[" * 200_000, 400),
    ("POST", "/v2/trigger", b'{"a":' * 200_000, 400),
    ("POST", "/v2/trigger", b'{"type":"sms","content":"","phone":"\\ud800"}', 400),
    ("POST", "/v2/trigger", {"phone": "1", "content": "x"}, 400),
    ("POST", "/v2/trigger", {"type": "mms", "phone": "1"}, 400),
    ("POST", "/v2/trigger", {"type": "sms", "phone": "1"}, 400),
    ("POST", "/v2/trigger", {"type": "sms", "phone": "", "content": "x"}, 400),
    ("POST", "/v2/trigger", {"type": "sms", "phone": "1" * 65, "content": "x"}, 400),
    ("POST", "/v2/trigger", {"type": "sms", "phone": "1", "content": "x" * 10_001}, 400),
    ("POST", "/v2/trigger", {"type": "report", "phone": "1", "status": 128}, 400),
    ("POST", "/v2/trigger", {"type": "report", "phone": "1", "status": -1}, 400),
    ("POST", "/v2/trigger", {"type": "report", "phone": "1", "status": 1.5}, 400),
    ("POST", "/v2/trigger", {"type": "report", "phone": "1", "tranId": 1 << 31}, 400),
    ("POST", "/v2/trigger", {"type": "report", "phone": "1", "tranId": 10**400}, 400),
    ("POST", "/v2/trigger", {"type": "report", "phone": 84912345678}, 400),
    ("POST", "/v2/trigger", b" " * ((1 << 20) + 1), 413),
    ("PUT", "/v2/trigger", b"", 405),
    ("HEAD", "/v2/trigger", b"", 405),
    ("OPTIONS", "/v2/listeners", b"", 405),
    ("GET", "/v2/listeners", b"", 405),
    ("GET", "/v2", b"", 404),
    ("GET", "/v2/", b"", 404),
    ("POST", "/v2/trigger/", b"", 404),
    ("GET", "/v2/listeners/lst_%00000000000000000000/events", b"", 404),
    ("DELETE", "/v2/listeners/lst_ABCDEF00000000000000", b"", 404),
    ("GET", "{listener}/events?wait=31", b"", 400),
    ("GET", "{listener}/events?wait=-1", b"", 400),
    ("GET", "{listener}/events?wait=nan", b"", 400),
    ("GET", "{listener}/events?after=%C3%A9%FF%00", b"", 400),
    ("GET", "{listener}/events?after=9223372036854775808", b"", 400),
    ("GET", "{listener}/events?after=" + "9" * 5000, b"", 400),
]


async def test_nonsense_is_told_what_it_is(world):
    """Whatever comes in is refused with its status and a body that says why; nothing is written."""
    listener = await world.listen()
    for method, path, body, status in HOSTILE:
        octets = world.request(method, path.format(listener=listener), body)
        found, headers, said = await world.raw(octets)
        assert (found, headers["content-type"]) == (status, "application/json; charset=utf-8"), (path, body)
        assert method == "HEAD" or (said["error"]["code"] and said["error"]["message"])
    assert await world.one("SELECT count(*) FROM outbox") == 0
