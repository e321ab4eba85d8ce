"""The outbox has one owner per endpoint, late owners do no harm, and its reads stay small when it is full."""

import asyncio
from datetime import UTC, datetime, timedelta

from msgspec import structs

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


def test_a_row_that_knows_it_all_needs_no_message(database_url):
    """Number and reference in the row are told as they stand, but for a form that only the message knows."""

    async def story(db, endpoint):
        for form, number, reference in (
            ("national", 84912345679, ""),
            ("international", 84912345679, "order:2"),
            ("as_sent", 84912345679, ""),
            ("national", None, ""),
            ("national", 84912345679, None),
        ):
            await fill(db, endpoint)
            await db.execute(
                "UPDATE outbox SET phone_form = %(f)s, number = %(n)s, reference = %(r)s"
                " WHERE id = (SELECT max(id) FROM outbox)",
                f=form,
                n=number,
                r=reference,
            )
        connection = await outbox.connect(db)
        rows = await outbox.due(connection, [outbox.Room(endpoint, 10)], [], NOW)
        one, other, *gone = [row.webhook for row in sorted(rows, key=lambda row: row.id)]
        assert b'"phone":"0912345679"' in one.body
        assert b'"phone":"84912345679"' in other.body
        hint = "X-Speedsms-Reference"
        assert (one.hints.get(hint), other.hints.get(hint)) == (None, "order:2")
        assert gone == [None, None, None]
        await connection.close()

    play(database_url, story)


def test_a_row_in_the_place_of_another_stays(database_url):
    """A place that was given away meanwhile belongs to a row that nobody posted yet."""

    async def story(db, endpoint):
        await fill(db, endpoint, rows=2)
        connection = await outbox.connect(db)
        one, other = await outbox.due(connection, [outbox.Room(endpoint, 5)], set(), NOW)
        stale = structs.replace(one, place=other.place)
        for outcome in (outbox.DELIVERED, "failed"):
            await outbox.settle(connection, [outbox.Tried(stale, NOW, 200, 3, outcome, "")])
        assert await db.rows("SELECT count(*) FROM outbox") == [(2,)]
        assert await db.rows("SELECT outcome FROM attempt_log") == []
        await connection.close()

    play(database_url, story)


def test_a_batch_is_written_as_it_happened(database_url):
    """Times, answers and what follows are each row's own, in a batch of one outcome and of several."""

    async def story(db, endpoint):
        await fill(db, endpoint, rows=5)
        connection = await outbox.connect(db)
        rows = await outbox.due(connection, [outbox.Room(endpoint, 5)], set(), NOW)
        at = [NOW + timedelta(seconds=n, microseconds=-n) for n in (3, 0, 5, 1, 2)]
        again = NOW + timedelta(minutes=5)
        tried = [
            outbox.Tried(rows[0], at[0], 200, 7, "delivered", "a\x1fb\0\nc"),
            outbox.Tried(rows[1], at[1], 204, 0, "delivered", ""),
            outbox.Tried(rows[2], at[2], 201, 1, "delivered", "ok"),
            outbox.Tried(rows[3], at[3], None, 9, "timeout", "late", next_due=again),
            outbox.Tried(rows[4], at[4], 500, 9, "failed", "", buried="the schedule ended"),
        ]
        await outbox.settle(connection, tried[:2])
        await outbox.settle(connection, tried[2:])
        assert await db.rows(
            "SELECT at, attempt, http_status, duration_ms, outcome, detail, next_due FROM attempt_log"
            " ORDER BY at"
        ) == [
            (at[1], 1, 204, 0, "delivered", "", None),
            (at[3], 1, None, 9, "timeout", "late", again),
            (at[4], 1, 500, 9, "failed", "", None),
            (at[0], 1, 200, 7, "delivered", "a\ufffdb\ufffd\nc", None),
            (at[2], 1, 201, 1, "delivered", "ok", None),
        ]
        assert await db.rows("SELECT due, attempt, event_id FROM outbox") == [(again, 1, rows[3].event_id)]
        assert await db.rows("SELECT event_id, buried_at, reason FROM buried") == [
            (rows[4].event_id, at[4], "the schedule ended")
        ]
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
