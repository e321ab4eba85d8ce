"""A claim belongs to a living node (I16), and one whose answer was lost is nobody's loss (D5)."""

import asyncio
import math
from datetime import timedelta

import pytest

from speedsms.contract.senders import Lane
from speedsms.gateway.flow.dispatch import Recorder
from speedsms.gateway.store import attempts
from speedsms.gateway.store.attempts import Result
from speedsms.gateway.store.db import CommitUnknown

pytestmark = pytest.mark.anyio

PHONE = "0912345678"


async def queue_one(gateway):
    """One accepted message that no pump takes; the channel that would."""
    await gateway.silence()
    await gateway.send(PHONE)
    return await gateway.one("SELECT id FROM channel")


async def new_node(gateway):
    return await gateway.one(
        "INSERT INTO node (role, host, pid, lease_until)"
        " VALUES ('worker', 'x', 1, now() + interval '1 h') RETURNING id"
    )


async def claim(gateway, channel_id, node_id, at):
    async with gateway.db.session() as session:
        return await attempts.claim(
            session,
            channel_id=channel_id,
            node_id=node_id,
            pools=[row[0] for row in await gateway.db.read("SELECT DISTINCT pool FROM ready")],
            lanes=[(int(lane), 10) for lane in Lane],
            at=at,
        )


async def test_a_buried_node_claims_nothing(gateway):
    """What it took would belong to nobody: the sweep has been there already."""
    channel_id, node_id = await queue_one(gateway), await new_node(gateway)
    await gateway.db.execute("DELETE FROM node WHERE id = %(id)s", id=node_id)
    assert await claim(gateway, channel_id, node_id, gateway.clock()) == []
    assert await gateway.one("SELECT count(*) FROM ready") == 1
    assert await gateway.one("SELECT count(*) FROM flight") == 0


async def test_a_claim_whose_answer_was_lost_is_given_back(gateway):
    """It is sent at its first attempt by whoever claims next; other claims of the node stay as they are."""
    channel_id, node_id = await queue_one(gateway), await new_node(gateway)
    at = gateway.clock()
    assert len(await claim(gateway, channel_id, node_id, at)) == 1
    async with gateway.db.session() as session:
        await attempts.unclaim(session, channel_id=channel_id, node_id=node_id + 1, at=at)
        assert await gateway.one("SELECT count(*) FROM flight") == 1
        await attempts.unclaim(session, channel_id=channel_id, node_id=node_id, at=at)
    again = await claim(gateway, channel_id, node_id, at)
    assert [(claimed.attempt, claimed.number) for claimed in again] == [(1, 84912345678)]


_WRITTEN = """
SELECT e.kind, e.detail, e.attempt, e.started_at, e.channel_id, r.number, r.until, r.part, r.parts, r.test,
    left(r.key, 1), r.reference, t.code, t.debit, t.credit, t.amount_vnd
FROM event e LEFT JOIN reference r ON r.message = e.message LEFT JOIN transfer t ON t.ref = e.message
WHERE e.kind = 'sent' ORDER BY e.message
"""


async def test_accepted_messages_are_recorded_alike_in_every_batch(gateway):
    """Those that come alone take a shorter statement than those in a mixed batch: both write the same."""
    channel_id, node_id = await queue_one(gateway), await new_node(gateway)
    await gateway.send(PHONE)
    await gateway.send(PHONE)
    one, two, other = await claim(gateway, channel_id, node_id, gateway.clock())

    for claimed in (one, two):
        claimed.key, claimed.reference, claimed.made = f"k{claimed.message}", "K", 1

    at = gateway.clock()
    unknown = Result(other.message, other.attempt, other.account_id, other.price_vnd, "unknown")
    unknown.look = at + timedelta(hours=1)  # else the sweep looks at once
    async with gateway.db.session() as session:
        assert await attempts.record_taken(session, [one], node_id, at) == 1
        assert await attempts.record(session, [attempts.sent(two), unknown], node_id, at) == 2
        assert await attempts.record_taken(session, [two], node_id + 1, at) == 0
    first, second = await gateway.db.read(_WRITTEN)
    assert first == second
    assert "K" in first
    assert await gateway.one("SELECT count(*) FROM flight") == 3


def lose_answer(monkeypatch):
    """The next record is committed, but its answer is lost with the connection."""
    write, lost = attempts.record_taken, asyncio.Event()

    async def record_taken(session, *given):
        count = await write(session, *given)
        if not lost.is_set():
            lost.set()
            raise CommitUnknown(session.backend)
        return count

    monkeypatch.setattr(attempts, "record_taken", record_taken)
    return lost


async def test_a_record_whose_answer_was_lost_is_written_once(gateway, monkeypatch):
    """Two references to one message would leave its receipt without a message."""
    lost = lose_answer(monkeypatch)
    await gateway.send(PHONE)
    await lost.wait()
    await gateway.send("0987654321")
    await gateway.until("SELECT count(DISTINCT message) FROM event WHERE kind = 'sent'", 2)
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'sent'") == 2
    assert await gateway.one("SELECT count(*) FROM reference") == 2
    await gateway.play()
    assert await gateway.finals() == [(0, "simulated")] * 2
    await gateway.check_ledger()


async def test_a_message_that_a_report_has_paid_stops_no_other(gateway):
    """Its post is there already; what else the batch holds is recorded as ever, and nobody pays twice."""
    channel_id, node_id = await queue_one(gateway), await new_node(gateway)
    await gateway.send(PHONE)
    paid, other = await claim(gateway, channel_id, node_id, gateway.clock())
    await gateway.db.execute(
        "INSERT INTO transfer VALUES (%(account)s, %(message)s, 1, 3, 3, 4, %(price)s, %(at)s)",
        account=paid.account_id,
        message=paid.message,
        price=paid.price_vnd,
        at=gateway.clock(),
    )
    async with gateway.db.session() as session:
        assert await attempts.record_taken(session, [paid, other], node_id, gateway.clock()) == 2
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 2
    await gateway.check_ledger()


async def test_a_place_behind_the_last_claim_is_found_in_the_queue(gateway):
    """Claims begin where the last one ended; what comes to an earlier place later is sent all the same."""
    await gateway.send("0987654321", send_at=gateway.clock() + timedelta(hours=1))
    await gateway.send(PHONE)
    sent = "SELECT count(*) FROM event WHERE kind = 'sent'"
    await gateway.until(sent, 1)
    await gateway.db.execute("UPDATE ready SET due = due - interval '1 day'")
    await gateway.until(sent, 2)


async def test_an_answer_after_its_unknown_is_written_behind_it(gateway):
    """Both wait for the database together; written at once, the answer and its post would be lost."""
    channel_id, node_id = await queue_one(gateway), await new_node(gateway)
    (claimed,) = await claim(gateway, channel_id, node_id, gateway.clock())
    claimed.node_id, claimed.key, claimed.reference, claimed.made = node_id, "k", "K", 1
    late = attempts.sent(claimed)
    late.late = True
    unknown = Result(claimed.message, claimed.attempt, claimed.account_id, claimed.price_vnd, "unknown")
    unknown.look = gateway.clock() + timedelta(hours=1)  # else the sweep may look between the two
    recorder = Recorder(gateway.db, gateway.clock, gateway.worker.metrics, batch=10)
    recorder.put(claimed, list, unknown)
    recorder.put(claimed, list, late)
    running = asyncio.create_task(recorder.run())
    await recorder.flushed()
    running.cancel()
    assert await gateway.db.read("SELECT kind FROM event ORDER BY at") == [("unknown",), ("sent",)]
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 1
    assert await gateway.one("SELECT count(*) FROM doubt") == 0


async def test_a_claim_of_a_node_that_was_unsure_for_a_moment_is_given_back(gateway, monkeypatch):
    """It lost sight of its own place, and found it again: nobody would sweep after it."""
    take, node, unsure = attempts.claim, gateway.worker.node, asyncio.Event()
    clock = node._clock

    async def claim_unsure(session, **given):
        rows = await take(session, **given)
        if rows and not unsure.is_set():
            unsure.set()
            monkeypatch.setattr(node, "_clock", lambda: math.inf)  # whatever lease it is given
        return rows

    monkeypatch.setattr(attempts, "claim", claim_unsure)
    await gateway.send(PHONE)
    await unsure.wait()
    await gateway.until("SELECT count(*) FROM ready", 1)
    monkeypatch.setattr(node, "_clock", clock)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    assert await gateway.one("SELECT attempt FROM flight") == 1
