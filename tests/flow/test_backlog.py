"""What was planned for empty tables meets full ones (stack DB-4): it must keep to its indexes."""

from datetime import UTC, datetime, timedelta

import pytest

from speedsms.gateway.store import attempts, messages, reports
from speedsms.gateway.store.db import fetch
from speedsms.gateway.store.nodes import LEASE_S
from speedsms.gateway.store.receipts import Receipt

pytestmark = pytest.mark.anyio

BACKLOG = 300_000
_ENTRIES = (
    "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes"
    " WHERE relname LIKE ANY('{reference%,flight%,event%}')"
)
_READ = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'ready'"


async def test_claim_planned_on_an_empty_queue_never_walks_a_full_one(db):
    """Prepared while nothing waits, then 300,000 messages: a claim takes the oldest and reads no other."""
    now = datetime.now(UTC)
    node = (
        await db.rows(
            "INSERT INTO node (role, host, pid, lease_until)"
            " VALUES ('worker', 'x', 1, %(until)s) RETURNING id",
            until=now + timedelta(seconds=LEASE_S),
        )
    )[0][0]
    session = await db.connect(hot=True)

    async def claim():
        lanes = [(lane, 500) for lane in range(4)]
        return await attempts.claim(session, channel_id=1, node_id=node, pools=[1], lanes=lanes, at=now)

    for _ in range(8):
        assert await claim() == []
    first = messages.request_id(1, now)
    await db.execute(
        "WITH r AS (INSERT INTO request SELECT %(first)s, 1, 1, 1, 'sms', 2, '', 'x', 'gsm7', 1, 1, 3, 0, 60,"
        " %(now)s, NULL, true, %(now)s)"
        " INSERT INTO message SELECT 1, %(first)s << 7 | n, 84912345678, 0, 2, 1, false, ''"
        " FROM generate_series(1, 100) n",
        first=first,
        now=now,
    )
    await db.execute(
        "INSERT INTO ready SELECT 1, 3, %(now)s - (%(backlog)s - n) * interval '1 microsecond',"
        " %(now)s + interval '1 h', 1, %(first)s << 7 | (n %% 100 + 1),"
        " n / 100, 0 FROM generate_series(1, %(backlog)s) n",
        now=now,
        backlog=BACKLOG,
        first=first,
    )
    before = (await fetch(session, _READ))[0][0]
    claimed = [row for _ in range(4) for row in await claim()]
    await fetch(session, "SELECT pg_stat_force_next_flush()")
    await fetch(session, "SELECT pg_stat_clear_snapshot()")
    assert len(claimed) == 2000
    assert [c.attempt for c in claimed] == sorted(c.attempt for c in claimed)
    assert (await fetch(session, _READ))[0][0] == before
    await session.close()


@pytest.mark.parametrize("in_flight", [True, False])
@pytest.mark.parametrize("first", [0, 300])
async def test_a_receipt_planned_for_few_references_reads_no_other(db, first, in_flight):
    """Prepared when a channel has sent little or nothing, then 20,000 more: each receipt reads its own."""
    now = datetime.now(UTC)

    async def refer(start, count):
        await db.execute(
            "WITH r AS (INSERT INTO reference SELECT %(first)s + n, 84912345678, %(now)s + interval '1 day',"
            " 1, 1, 1, 1, 1, true, 'r' || n, 'r' || n"
            " FROM generate_series(%(start)s, %(start)s + %(count)s - 1) n RETURNING message),"
            " f AS (INSERT INTO flight SELECT message, 1, 0, 1, 1, 1, 2, 1, %(now)s, %(now)s, %(now)s FROM r"
            " WHERE %(in_flight)s)"
            " INSERT INTO event SELECT 1, message, %(now)s, 'sent', 1, 1, NULL, %(now)s, '' FROM r",
            first=messages.request_id(1, now) << 7,
            now=now,
            start=start,
            count=count,
            in_flight=in_flight,
        )

    def receipts(start, count):
        return [
            Receipt(
                1, f"r{n}", (f"r{n}", f"x{n}"), 84912345678, None, 0, 1, 1, False, 0, "", b"", None, now, now
            )
            for n in range(start, start + count)
        ]

    await refer(0, first)
    session = await reports.connect(db)
    for _ in range(8):
        await reports.apply(session, receipts(0, 1), now)
    await refer(first, 20_000)
    before = (await fetch(session, _ENTRIES))[0][0]
    applied = await reports.apply(session, receipts(1000, 100), now)
    await fetch(session, "SELECT pg_stat_force_next_flush()")
    await fetch(session, "SELECT pg_stat_clear_snapshot()")
    assert applied.ended == 100
    assert (await fetch(session, _ENTRIES))[0][0] - before < 1000
    await session.close()
