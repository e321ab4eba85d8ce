"""Webhooks end as delivered or as dead letters, each endpoint on its own, and nothing vanishes (I28-I32)."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import structlog
from standardwebhooks import Webhook as Verifier

from speedsms.contract.webhook import event_name, secret_from
from speedsms.gateway.flow.notify import PER_ENDPOINT, Notifier
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.net import Net
from speedsms.gateway.store import endpoints, outbox
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.messages import request_id

SECRET = secret_from(bytes(range(32)))
TRAN_ID = 1234


class Sink:
    """A scripted receiver. answers[path]: bytes, b"" closes, None is silent, a list's last one stays."""

    def __init__(self):
        self.answers = {}
        self.posts = []  # (path, headers, body)
        self.open = Counter()
        self.most = Counter()
        self.news = asyncio.Condition()
        self.serving_now = {}  # task → writer

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in self.serving_now.values():
                writer.transport.abort()
            await asyncio.gather(*self.serving_now)

    async def _serve(self, reader, writer):
        self.serving_now[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (f.partition(": ") for f in fields) if name
                }
                body = await reader.readexactly(int(headers["content-length"]))
                path = line.split()[1]
                self.open[path] += 1
                self.most[path] = max(self.most[path], self.open[path])
                async with self.news:
                    self.posts.append((path, headers, body))
                    self.news.notify_all()
                answer = self.answers.get(path, reply(200))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if answer is None:
                    await reader.read()
                self.open[path] -= 1
                if not answer:
                    break
                writer.write(answer)
        writer.close()

    async def until(self, count, path):
        async with self.news:
            await self.news.wait_for(lambda: sum(p == path for p, _, _ in self.posts) >= count)

    def at(self, path):
        return [(headers, body) for p, headers, body in self.posts if p == path]


def reply(status, *fields):
    return "\r\n".join([f"HTTP/1.1 {status} X", *fields, "Content-Length: 3", "", "ack"]).encode()


@dataclass
class World:
    db: Database
    net: Net
    sink: Sink
    # Of this moment: stock verifiers refuse what is signed five minutes ago.
    began: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    monotonic_s: float = 0.0
    lines: list = field(default_factory=list)

    def __post_init__(self):
        self.now = self.began

    def notifier(self):
        def write(_logger, _method, event):
            self.lines.append(event)
            raise structlog.DropEvent

        return Notifier(
            self.db,
            self.net,
            now=lambda: self.now,
            monotonic=lambda: self.monotonic_s,
            random=lambda: 0.5,
            log=structlog.wrap_logger(
                None, processors=[write], wrapper_class=structlog.make_filtering_bound_logger(20)
            ),
            metrics=Metrics(),
            agent="speedsms/test",
        )

    async def endpoint(self, path="/hook", event="report", account=1, **more):
        return await endpoints.add(self.db, account, event, self.sink.base + path, SECRET, **more)

    async def report(self, endpoint_id, *, n=1, status=0, account=1, form="national", sequence=1, due=None):
        """Put n reports of one message into the outbox."""
        await self.db.execute(
            """INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form,
                   created_at)
               SELECT %(e)s, %(due)s, %(a)s, 'report', %(m)s, %(s)s, %(q)s, %(f)s, %(now)s
               FROM generate_series(1, %(n)s)""",
            e=endpoint_id,
            due=due or self.now,
            a=account,
            m=self.message,
            s=status,
            q=sequence,
            f=form,
            now=self.now,
            n=n,
        )

    @property
    def message(self):
        return request_id(TRAN_ID, self.began) << 7 | 1

    async def column(self, sql, **params):
        return [row[0] for row in await self.db.rows(sql, **params)]

    async def left(self):
        return (await self.column("SELECT count(*) FROM outbox"))[0]


def play(database_url, story):
    """Run a story in a world with one account, one message and one incoming SMS."""

    async def go():
        async with (
            Sink().serving() as sink,
            Database(database_url, name="test") as db,
            Net(allow_loopback=True) as net,
        ):
            world = World(db, net, sink)
            await db.execute(
                "INSERT INTO account (name, email) VALUES ('a', 'a@example.com'), ('b', 'b@example.com')"
            )
            await db.execute(
                """INSERT INTO request (id, tran_id, account_id, token_id, kind, sms_type, sender, content,
                       encoding, units, parts, lane, total_vnd, validity_s, due, reference, test, at)
                   VALUES (%(id)s, 1234, 1, 1, 'sms', 2, '', 'x', 'gsm7', 1, 1, 1, 250, 60, %(now)s,
                       'order:1', false, %(now)s)""",
                id=world.message >> 7,
                now=world.began,
            )
            await db.execute(
                """INSERT INTO message (account_id, id, number, price_vnd, carrier, pool, refund, entry)
                   VALUES (1, %(id)s, 84912345678, 250, 1, 1, false, '+84 912 345 678')""",
                id=world.message,
            )
            await db.execute(
                """INSERT INTO incoming
                       (account_id, channel_id, sender, recipient, content, dedup_key, received_at)
                   VALUES (1, 1, '84912345678', '84901000008', 'Đồng ý', 'k', %(now)s)""",
                now=world.began,
            )
            return await story(world)

    return asyncio.run(go())


def test_a_report_arrives_as_promised(database_url):
    """Exact body, hints, one signature that a stock verifier accepts; then no row is left, one line said."""

    async def story(world):
        await world.report(await world.endpoint(legacy_secret="old"), form="as_sent", status=69)
        assert await world.notifier().drain() == 1
        ((headers, body),) = world.sink.at("/hook")
        assert body == b'{"type":"report","tranId":1234,"phone":"+84 912 345 678","status":69}'
        assert headers["x-speedsms-reference"] == "order:1"
        assert headers["x-speedsms-secret"] == "old"
        assert headers["user-agent"] == "speedsms/test"
        Verifier(SECRET).verify(body, headers)
        assert await world.left() == 0
        assert await world.db.rows(
            "SELECT attempt, http_status, outcome, detail, next_due FROM attempt_log"
        ) == [(1, 200, "delivered", "ack", None)]
        (line,) = world.lines
        assert (line["action"], line["outcome"], line["attempt"]) == ("notify", "delivered", 1)
        assert "912" not in str(line)

    play(database_url, story)


def test_an_incoming_message_arrives(database_url):
    """Text unchanged, our number as a hint."""

    async def story(world):
        endpoint = await world.endpoint(event="sms")
        await world.db.execute(
            """INSERT INTO outbox
                   (endpoint_id, due, account_id, kind, subject, sequence, phone_form, created_at)
               SELECT %(e)s, %(now)s, 1, 'sms', id, 1, 'national', %(now)s FROM incoming""",
            e=endpoint,
            now=world.now,
        )
        await world.notifier().drain()
        ((headers, body),) = world.sink.at("/hook")
        assert json.loads(body) == {"type": "sms", "phone": "0912345678", "content": "Đồng ý"}
        assert headers["x-speedsms-receiver"] == "84901000008"

    play(database_url, story)


def test_ten_attempts_then_a_dead_letter_then_a_replay(database_url):
    """Same id and bytes over 75.6 h, new signatures, then a dead letter; a replay starts anew (I29, I30)."""

    async def story(world):
        world.sink.answers["/hook"] = reply(500)
        await world.report(await world.endpoint(), status=70)
        notifier, started = world.notifier(), world.now
        while due := await world.column("SELECT due FROM outbox"):
            world.now = due[0]
            assert await notifier.drain() == 1
            world.now -= timedelta(microseconds=1)
            assert await notifier.drain() == 0
        posts = world.sink.at("/hook")
        assert len(posts) == 10
        assert len({(headers["webhook-id"], body) for headers, body in posts}) == 1
        assert len({headers["webhook-signature"] for headers, _ in posts}) == 10
        assert round((world.now - started).total_seconds() / 3600, 1) == 75.6
        ((event, reason),) = await world.db.rows("SELECT event_id, reason FROM buried")
        assert reason == "the schedule ended"
        world.sink.answers["/hook"] = reply(200)
        assert await outbox.replay(world.db, 2, event, world.now) == 0  # another account's
        assert await outbox.replay(world.db, 1, event, world.now) == 1
        assert await outbox.replay(world.db, 1, event, world.now) == 0
        world.monotonic_s += 60
        assert await notifier.drain() == 1
        assert world.sink.at("/hook")[-1][0]["webhook-id"] == event_name(event)
        assert (await world.left(), await world.column("SELECT 1 FROM buried")) == (0, [])

    play(database_url, story)


ANSWERS = [
    (reply(204), None),
    (reply(299), None),
    (reply(301, "Location: /elsewhere"), 5),
    (reply(307, "Location: /elsewhere"), 5),
    (reply(404), 5),
    (reply(503, "Retry-After: 2"), 5),
    (reply(429, "Retry-After: 120"), 120),
    (reply(429, "Retry-After: 1000000000"), 86_400),
    (reply(429, "Retry-After: -5"), 5),
    (reply(429, "Retry-After: later"), 5),
    (b"", 5),
    (b"nonsense\r\n\r\n", 5),
]


def test_what_answers_mean(database_url):
    """Only 2xx ends an event; everything else waits for the schedule or as long as asked for (W1, W2, W3)."""

    async def story(world):
        for n, (answer, _) in enumerate(ANSWERS):
            world.sink.answers[f"/{n}"] = answer
            await world.report(await world.endpoint(f"/{n}"))
        assert await world.notifier().drain() == len(ANSWERS)
        assert await world.column(
            "SELECT due FROM endpoint e LEFT JOIN outbox ON endpoint_id = e.id ORDER BY e.id"
        ) == [wait_s and world.now + timedelta(seconds=wait_s) for _, wait_s in ANSWERS]
        assert await world.column(
            "SELECT count(*) FROM attempt_log l JOIN outbox o USING (endpoint_id) WHERE o.due = l.next_due"
        ) == [10]
        assert world.sink.at("/elsewhere") == []

    play(database_url, story)


def test_410_disables_at_once(database_url):
    """Gone is gone: nothing more is posted, what waits is kept, and enabling sends it."""

    async def story(world):
        world.sink.answers["/hook"] = reply(410)
        endpoint = await world.endpoint()
        await world.report(endpoint, n=5)
        notifier = world.notifier()
        assert await notifier.drain() == 1
        world.now += timedelta(hours=1)
        assert await notifier.drain() == 0
        ((enabled, why),) = await world.db.rows("SELECT enabled, disabled_why FROM endpoint")
        assert (enabled, why) == (False, "the receiver answered 410 Gone")
        assert await world.left() == 5
        world.sink.answers["/hook"] = reply(200)
        await endpoints.enable(world.db, endpoint)
        assert await notifier.drain() == 5

    play(database_url, story)


def test_five_days_of_failures_disable(database_url):
    """An endpoint that never answers well is left alone; one good answer starts the count again."""

    async def story(world):
        world.sink.answers["/hook"] = [reply(500), reply(200), reply(500)]
        endpoint = await world.endpoint()
        notifier = world.notifier()
        for days in (0, 1, 2, 4.9, 6.9, 7.1):
            world.now = world.began + timedelta(days=days)
            await world.db.execute("DELETE FROM outbox")
            await world.report(endpoint)
            await notifier.drain()
            since, enabled = (await world.db.rows("SELECT failing_since, enabled FROM endpoint"))[0]
            assert enabled == (days < 7)
            assert since == {0: world.began, 1: None}.get(days, world.began + timedelta(days=2))

    play(database_url, story)


def test_a_dead_endpoint_is_probed_not_flooded(database_url):
    """After ten attempts of which seven in ten failed, one row at a time is tried, ever more rarely."""

    async def story(world):
        world.sink.answers["/hook"] = reply(500)
        await world.report(await world.endpoint(), n=30)
        notifier = world.notifier()
        assert [await notifier.drain() for _ in range(3)] == [10, 0, 0]
        world.monotonic_s += 1
        assert [await notifier.drain() for _ in range(2)] == [1, 0]
        world.monotonic_s += 1
        assert await notifier.drain() == 0
        world.monotonic_s += 1
        world.sink.answers["/hook"] = reply(200)
        assert await notifier.drain() == 19
        assert await world.left() == 11  # those that failed, each at its own time

    play(database_url, story)


def test_one_silent_endpoint_delays_no_other(database_url):
    """While one receiver holds all ten connections it may have, another's gets all its events (I32)."""

    async def story(world):
        world.sink.answers["/silent"] = [reply(200), None]
        await world.report(await world.endpoint("/silent"), n=30)
        lively = await world.endpoint("/lively", account=2)
        notifier = world.notifier()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(notifier.run(asyncio.Event()))
            await world.sink.until(1 + PER_ENDPOINT, "/silent")
            await world.db.execute("UPDATE message SET account_id = 2")
            await world.report(lively, n=200, account=2)
            await world.db.rows("SELECT pg_notify('outbox', '')")
            await world.sink.until(200, "/lively")
            running.cancel()
        assert world.sink.most["/silent"] == PER_ENDPOINT
        assert len(world.sink.at("/silent")) == 1 + PER_ENDPOINT

    play(database_url, story)


def test_a_thousand_dead_endpoints(database_url):
    """Refused connections everywhere: the ten that live get everything in the same round (W7)."""

    async def story(world):
        await world.db.execute(
            """INSERT INTO endpoint (account_id, event, url, secrets)
               SELECT 1, 'report', 'http://127.0.0.1:9/' || i, ARRAY[%(secret)s]
               FROM generate_series(1, 1000) i""",
            secret=SECRET,
        )
        await world.db.execute(
            """INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form,
                   created_at)
               SELECT id, %(now)s, 1, 'report', %(m)s, 0, 1, 'national', %(now)s FROM endpoint""",
            now=world.now,
            m=world.message,
        )
        for n in range(10):
            await world.report(await world.endpoint(f"/{n}"), n=20)
        assert await world.notifier().drain() == 1200
        assert [len(world.sink.at(f"/{n}")) for n in range(10)] == [20] * 10
        assert await world.left() == 1000

    play(database_url, story)


def test_run_hears_of_new_rows_and_ends_clean(database_url):
    """What is committed while it runs is posted, the marks are written before it ends, no lock stays."""

    async def story(world):
        endpoint = await world.endpoint()
        notifier, stop = world.notifier(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(notifier.run(stop))
            for n in range(1, 4):
                await world.report(endpoint)
                await world.db.rows("SELECT pg_notify('outbox', '')")
                await world.sink.until(n, "/hook")
            stop.set()
        assert await world.left() == 0
        assert await world.column("SELECT count(*) FROM attempt_log") == [3]
        locks = """SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                   WHERE locktype = 'advisory' AND datname = current_database()"""
        async with asyncio.timeout(20):
            while await world.column(locks) != [0]:  # the server lets them go in its own time
                pass

    play(database_url, story)


def test_what_comes_while_others_are_on_their_way_is_posted_once(database_url):
    """Bursts arrive faster than they are posted and then slower: reading on never reads a row again (W10)."""

    async def story(world):
        endpoint = await world.endpoint()
        notifier, stop = world.notifier(), asyncio.Event()
        sent = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(notifier.run(stop))
            for size in [120] * 10 + [15] * 60:
                world.now += timedelta(milliseconds=1)
                await world.report(endpoint, n=size)
                await world.db.rows("SELECT pg_notify('outbox', '')")
                sent += size
                await world.sink.until(sent - 60, "/hook")
            await world.sink.until(sent, "/hook")
            stop.set()
        posts = Counter(headers["webhook-id"] for headers, _ in world.sink.at("/hook"))
        assert (len(posts), set(posts.values())) == (sent, {1})

    play(database_url, story)


def test_a_lost_connection_is_replaced(database_url):
    """When the server ends our connections, the work goes on with new ones (D-rows: no hands needed)."""

    async def story(world):
        endpoint = await world.endpoint()
        notifier, stop = world.notifier(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(notifier.run(stop))
            await world.report(endpoint)
            await world.sink.until(1, "/hook")
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute(
                    """SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity
                       WHERE datname = current_database() AND usename = current_user
                           AND pid <> pg_backend_pid()"""
                )
                other.execute("UPDATE endpoint SET url = url || '2'")
                other.execute(
                    """INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence,
                           phone_form, created_at) VALUES (%s, %s, 1, 'report', %s, 0, 2, 'national', %s)""",
                    (endpoint, world.now, world.message, world.now),
                )
            await world.sink.until(1, "/hook2")
            stop.set()
        with psycopg.connect(database_url) as other:
            assert other.execute("SELECT count(*) FROM outbox").fetchone() == (0,)

    play(database_url, story)


def test_replaying_what_waits_makes_one_attempt(database_url):
    """An event that waits for its retry is hastened, not doubled; one that is due is left alone (W9)."""

    async def story(world):
        world.sink.answers["/hook"] = [reply(500), reply(200)]
        await world.report(await world.endpoint())
        notifier = world.notifier()
        await notifier.drain()
        (event,) = await world.column("SELECT event_id FROM outbox")
        assert await outbox.replay(world.db, 1, event, world.now) == 1
        assert await outbox.replay(world.db, 1, event, world.now) == 0
        assert await notifier.drain() == 1
        world.now += timedelta(days=9)
        assert await notifier.drain() == 0
        assert len(world.sink.at("/hook")) == 2

    play(database_url, story)


def test_bulk_replay_is_complete(database_url):
    """2,500 dead letters in bounded batches, each delivered exactly once (W10)."""

    async def story(world):
        endpoint = await world.endpoint()
        await world.db.execute(
            """INSERT INTO buried (endpoint_id, account_id, event_id, kind, subject, status, sequence,
                   phone_form, created_at, buried_at, reason)
               SELECT %(e)s, 1, gen_random_uuid(), 'report', %(m)s, 0, 1, 'national', %(at)s, %(at)s, ''
               FROM generate_series(1, 2500)""",
            e=endpoint,
            m=world.message,
            at=world.now,
        )
        assert await outbox.replay_since(world.db, endpoint, world.now + timedelta(seconds=1), world.now) == 0
        batches = [await outbox.replay_since(world.db, endpoint, world.now, world.now) for _ in range(4)]
        assert batches == [1000, 1000, 500, 0]
        assert await world.notifier().drain() == 2500
        assert set(Counter(headers["webhook-id"] for headers, _ in world.sink.at("/hook")).values()) == {1}
        assert len(world.sink.at("/hook")) == 2500
        assert (await world.left(), await world.column("SELECT 1 FROM buried")) == (0, [])

    play(database_url, story)


def test_both_secrets_sign_while_one_is_rotated(database_url):
    """Old and new verifiers accept the same post until the old secret is retired (W9)."""

    async def story(world):
        endpoint, fresh = await world.endpoint(), secret_from(b"n" * 32)
        notifier = world.notifier()
        for change, accepted in ((None, {SECRET}), ("rotate", {SECRET, fresh}), ("retire", {fresh})):
            if change == "rotate":
                await endpoints.rotate(world.db, endpoint, fresh)
            elif change == "retire":
                await endpoints.retire(world.db, endpoint)
            await world.report(endpoint)
            await notifier.drain()
            headers, body = world.sink.at("/hook")[-1]
            assert {secret for secret in (SECRET, fresh) if verifies(secret, body, headers)} == accepted

    play(database_url, story)


def verifies(secret, body, headers):
    with suppress(Exception):
        Verifier(secret).verify(body, headers)
        return True
    return False


def test_an_event_of_a_removed_message_is_buried(database_url):
    """What retention took cannot be told: a dead letter says so, and no post is made."""

    async def story(world):
        await world.report(await world.endpoint())
        await world.db.execute("DELETE FROM message")
        await world.notifier().drain()
        assert world.sink.posts == []
        assert await world.column("SELECT reason FROM buried") == ["what it tells of was removed by age"]

    play(database_url, story)


def test_samples_can_be_sent(database_url):
    """The dashboard's test button posts a signed sample of either kind."""

    async def story(world):
        assert not await endpoints.send_sample(world.db, 99, world.now)
        for event, body in (
            ("report", b'{"type":"report","tranId":0,"phone":"0912345678","status":0}'),
            ("sms", b'{"type":"sms","phone":"0912345678","content":"test"}'),
        ):
            assert await endpoints.send_sample(world.db, await world.endpoint(event=event), world.now)
            await world.notifier().drain()
            headers, seen = world.sink.at("/hook")[-1]
            Verifier(SECRET).verify(seen, headers)
            assert seen == body

    play(database_url, story)


def test_an_event_that_cannot_be_written_ends_nobody_elses(database_url):
    """A header that may not leave is an attempt that failed; the lane goes on."""

    async def story(world):
        await world.report(await world.endpoint(legacy_secret="a\nb"), n=2)
        await world.report(await world.endpoint("/other"))
        await world.notifier().drain()
        assert sorted(await world.column("SELECT outcome FROM attempt_log")) == [
            "delivered",
            "error",
            "error",
        ]

    play(database_url, story)
