"""The outbox has one owner per endpoint, late owners do no harm, and its reads stay small when it is full."""

import asyncio
from datetime import UTC, datetime, timedelta

from speedsms.gateway.store import endpoints, outbox
from speedsms.gateway.store.db import Database

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(seconds=30)


def play(database_url, story):
    """Run a story with a database that holds one endpoint."""

    async def go():
        async with Database(database_url, name="test") as db:
            await db.execute("INSERT INTO account (name, email) VALUES ('a', 'a@example.com')")
            return await story(
                db, await endpoints.add(db, 1, "report", "https://shop.example/", "whsec_AA==")
            )

    return asyncio.run(go())


async def fill(db, endpoint, rows=1):
    await db.execute(
        """INSERT INTO outbox
               (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form, created_at)
           SELECT %(endpoint)s, %(now)s, 1, 'report', 7, 0, 1, 'national', %(now)s
           FROM generate_series(1, %(n)s)""",
        endpoint=endpoint,
        now=NOW,
        n=rows,
    )


def test_a_stale_owner_changes_nothing(database_url):
    """What another process settled meanwhile is not written twice, and nothing comes back."""

    async def story(db, endpoint):
        await fill(db, endpoint)
        connection = await outbox.connect(db)
        (row,) = await outbox.due(connection, [outbox.Room(endpoint, 5)], set(), NOW)
        assert await outbox.due(connection, [outbox.Room(endpoint, 5)], {row.id}, NOW) == []
        late = outbox.Tried(row, NOW, 500, 3, "failed", "", NOW + timedelta(seconds=5))
        done = outbox.Tried(row, NOW, 200, 3, "delivered", "")
        for tried in (done, done, late):
            await outbox.settle(connection, [tried])
        assert await db.rows("SELECT count(*) FROM outbox") == [(0,)]
        assert await db.rows("SELECT outcome FROM attempt_log") == [("delivered",)]
        await connection.close()

    play(database_url, story)


def test_two_workers_share_the_endpoints(database_url):
    """Each owns half of the shards; when one ends, the other takes over, and gives back when one comes."""

    async def story(db, _endpoint):
        await db.execute(
            """INSERT INTO node (role, host, pid, lease_until)
               SELECT 'worker', 'h', i, %(at)s FROM generate_series(1, 2) i""",
            at=LATER,
        )
        one, two = await outbox.connect(db), await outbox.connect(db)
        first = await outbox.share_shards(one, set(), NOW)
        second = await outbox.share_shards(two, set(), NOW)
        assert (len(first), len(second), first | second) == (8, 8, set(range(outbox.SHARDS)))
        assert await outbox.share_shards(one, first, NOW) == first
        await two.close()
        # The server lets a closed session's locks go in its own time.
        owned = first
        while owned != first | second:
            owned = await outbox.share_shards(one, owned, LATER)
        assert len(await outbox.share_shards(one, owned, NOW)) == 8
        await one.close()

    play(database_url, story)


def test_the_plan_made_for_an_empty_outbox_still_walks_the_index(database_url):
    """Statements planned before the tables grew read as few rows afterwards (DB-4)."""

    async def story(db, endpoint):
        connection = await outbox.connect(db)
        for _ in range(6):
            assert await outbox.due(connection, [outbox.Room(endpoint, 10)], [], NOW) == []
        await fill(db, endpoint, rows=20_000)
        before = await scans(db)
        rows = await outbox.due(connection, [outbox.Room(endpoint, 10)], [1, 2], NOW)
        await outbox.settle(connection, [outbox.Tried(row, NOW, 200, 3, "delivered", "") for row in rows])
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.close()
        after = await scans(db)
        assert len(rows) == 10
        assert after[0] == before[0]
        assert after[1] > before[1]

    play(database_url, story)


async def scans(db):
    """Sequential and index scans of the outbox so far."""
    return (await db.rows("SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'outbox'"))[0]
