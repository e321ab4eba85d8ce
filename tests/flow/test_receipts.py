"""Receipts that just end their message go a short way; all others in their batch come out right too."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from speedsms.gateway.store import messages, reports
from speedsms.gateway.store.receipts import Receipt

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC).replace(microsecond=0)
FIRST = messages.request_id(1, NOW) << 7
NUMBER = 84912345678
_SENT = """
WITH m AS (SELECT * FROM unnest(%(message)s::bigint[], %(key)s::text[]) AS m(message, key)),
into_request AS (
    INSERT INTO request SELECT message >> 7, tran_id_of(message >> 7), 1, 1, 'sms', 2, '', 'x', 'gsm7', 1,
        %(parts)s, 2, 250, 60, %(now)s, NULL, false, %(now)s FROM m ON CONFLICT DO NOTHING),
into_message AS (INSERT INTO message SELECT 1, message, %(number)s, 250, 2, 1, %(refund)s, '' FROM m),
into_flight AS (
    INSERT INTO flight SELECT message, %(attempt)s, 0, 1, 1, 1, 2, 1, %(now)s, %(now)s, %(now)s FROM m),
into_event AS (INSERT INTO event SELECT 1, message, %(now)s, 'sent', 1, 1, NULL, %(now)s, '' FROM m)
INSERT INTO reference SELECT message, %(number)s, %(now)s + interval '1 day', 1, 1, %(attempt)s, part,
    %(parts)s, false, k, k FROM m, generate_series(1, %(parts)s) part,
    concat(key, CASE WHEN %(parts)s > 1 THEN part END) k
"""


@pytest.fixture
async def sent(db):
    """Makes messages that the carrier has taken, one per key; their ids count from FIRST + start."""
    await db.execute("INSERT INTO account (name, email) VALUES ('alice', '')")
    await db.execute(
        "INSERT INTO endpoint (account_id, event, url, secrets)"
        " SELECT 1, 'report', 'http://127.0.0.1', '{}' FROM generate_series(1, 2)"
    )

    async def make(start, *keys, number=NUMBER, parts=1, refund=False, attempt=1):
        ids = [FIRST + start + i for i in range(len(keys))]
        await db.execute(
            _SENT,
            message=ids,
            key=list(keys),
            number=number,
            parts=parts,
            refund=refund,
            attempt=attempt,
            now=NOW,
        )
        return ids

    return make


@pytest.fixture
async def session(db):
    async with await reports.connect(db) as session:
        yield session


def receipt(*keys, status=0, number=NUMBER):
    at = NOW + timedelta(seconds=1)
    return Receipt(1, keys[0], keys, number, None, 0, 1, 1, False, status, "said", b"", None, at, at)


async def apply(session, *receipts):
    return await reports.apply(session, receipts, NOW + timedelta(seconds=5))


async def finals(db):
    return {m - FIRST: s for m, s in await db.read("SELECT message, status FROM final")}


async def test_what_a_plain_receipt_leaves_behind(db, session, sent):
    """The end, one event under one id for each webhook, no started mark; whichever key it was found by."""
    await sent(1, "a", "b", "c")
    applied = await apply(
        session, receipt("a", "-a", "a-"), receipt("-b", "b", "b-"), receipt("-c", "", "c-", "c", status=69)
    )
    assert (applied.seen, applied.ended, applied.parked, applied.next_due) == (3, 3, 0, None)
    assert [(r.keys[key], key) for r, key in applied.matched] == [("a", 0), ("b", 1), ("c", 3)]
    assert applied.found == {1: 3}
    assert await finals(db) == {1: 0, 2: 0, 3: 69}
    assert await db.read("SELECT DISTINCT cause FROM final") == [("said",)]
    assert await db.read("SELECT count(*) FROM flight") == [(0,)]
    told = await db.read(
        "SELECT subject, status, min(sequence), max(sequence), count(*), count(DISTINCT event_id) FROM outbox"
        " GROUP BY 1, 2 ORDER BY 1"
    )
    assert told == [(FIRST + n, status, 1, 1, 2, 1) for n, status in ((1, 0), (2, 0), (3, 69))]
    assert (await db.read("SELECT count(DISTINCT event_id) FROM outbox"))[0][0] == 3


async def test_a_batch_of_all_kinds(db, session, sent):
    """Plain ones beside an early, an ambiguous, a stranger's, a refunded one, parts, and pairs."""
    await sent(1, "plain", "nameless", "first", "said", "later")
    await sent(6, "open", number=NUMBER + 1)
    await sent(7, "open", "twice", "twice")
    await sent(10, "back", refund=True)
    await sent(11, "long", parts=2)
    applied = await apply(
        session,
        receipt("plain"),
        receipt("nameless", number=None),
        receipt("early"),
        receipt("first", status=69),
        receipt("first"),
        receipt("said", status=34),
        receipt("said"),
        receipt("later", status=34),
        receipt("open"),
        receipt("twice", status=69),
        receipt("back", status=69),
        receipt("long2", status=69),
        receipt("plain", number=NUMBER + 2),
    )
    assert applied.ended == 7
    assert applied.found[1] == 10
    assert applied.parked == 3
    assert await finals(db) == {1: 0, 2: 0, 3: 69, 4: 0, 7: 0, 10: 69, 11: 69}
    assert await db.read("SELECT balance_vnd FROM account") == [(250,)]
    assert await db.read("SELECT keys[1] FROM receipt ORDER BY id") == [("early",), ("twice",), ("plain",)]
    again = await apply(session, receipt("later"), receipt("first"), receipt("plain"))
    assert again.ended == 1
    sequences = await db.read("SELECT status, sequence FROM outbox WHERE subject = %(m)s", m=FIRST + 5)
    assert sorted(sequences) == [(0, 2), (0, 2), (34, 1), (34, 1)]
    assert await db.read("SELECT message - %(f)s FROM event WHERE kind = 'correction'", f=FIRST) == [(3,)]


async def test_the_open_one_of_messages_with_one_id(db, session, sent):
    """A better key that names a final message gives way to a worse one that names an open one (I26)."""
    await sent(1, "same", "other")
    await apply(session, receipt("same"))
    await sent(3, "same")
    for keys in (("same",), ("same", "other")):
        assert (await apply(session, receipt(*keys, status=69))).ended == 1
    assert await finals(db) == {1: 0, 2: 69, 3: 69}


async def test_a_final_message_that_was_started_again_holds_up_nobody(db, session, sent):
    """It was ended while it waited for another attempt, and that one was claimed: its repeat is absorbed."""
    await sent(1, "ended", "open")
    await db.execute("INSERT INTO final SELECT 1, %(m)s, 0, now(), ''", m=FIRST + 1)
    applied = await apply(session, receipt("ended"), receipt("open"))
    assert (applied.ended, applied.parked) == (1, 0)
    assert await finals(db) == {1: 0, 2: 0}
    assert await db.read("SELECT count(*) FROM flight") == [(1,)]


async def test_two_processes_take_the_same_receipts_at_once(db, sent):
    """Each message ends once and is told once to each endpoint, in whatever order they look at them."""
    keys = [f"k{n}" for n in range(100)]
    await sent(1, *keys)
    receipts = [receipt(key) for key in keys]
    async with await reports.connect(db) as one, await reports.connect(db) as two:
        applied = await asyncio.gather(apply(one, *receipts), apply(two, *reversed(receipts)))
    assert sum(a.ended for a in applied) == 100
    assert sum(a.parked for a in applied) == 0
    assert await finals(db) == dict.fromkeys(range(1, 101), 0)
    assert await db.read("SELECT count(*), count(DISTINCT event_id) FROM outbox") == [(200, 100)]


@pytest.mark.parametrize("status", [1, 31])
async def test_every_kind_of_delivery_is_told_as_zero(db, sent, session, status):
    """TP-Status 1 to 31 is told as 0, like any delivery (protocol §9.5); said again it is no news."""
    await sent(0, "a")
    for _ in range(2):
        await apply(session, receipt("a", status=status))
    assert await finals(db) == {0: 0}
    assert await db.read("SELECT status FROM outbox") == [(0,), (0,)]
    assert await db.read("SELECT kind FROM event WHERE kind = 'correction'") == []
