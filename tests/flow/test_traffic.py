"""Throttles, full queues and lanes on a real SMPP link; links of two processes (channels §3.6, CH-9)."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog

from speedsms.gateway.app.worker import Worker
from speedsms.gateway.channels.smpp.pdu import Command
from speedsms.gateway.channels.smpp.smsc import Limits, Play, Rule, Script
from speedsms.gateway.net import Net
from speedsms.gateway.store import links, routing
from speedsms.gateway.store.db import Database

pytestmark = pytest.mark.anyio

ALICE, BOB, CHARLIE = "0912345678", "0987654321", "0901234567"
QUICK = Script(play=Play(receipts=()), magic=False)


def submits(smsc):
    """The submit_sm that the carrier got, in order."""
    return [line.frame().pdu for line in smsc.journal.lines if line.way == "in" and line.command == 4]


def taken(smsc):
    """The phones of the messages that it took, in order: each answer belongs to the request of its number."""
    asked, phones = {}, []
    for line in smsc.journal.lines:
        if line.command == Command.SUBMIT_SM:
            asked[line.connection, line.frame().sequence] = line.frame().pdu.destination.digits
        elif line.command == Command.SUBMIT_SM_RESP and not line.frame().status:
            phones.append(asked[line.connection, line.frame().sequence])
    return phones


async def queue(gateway, *numbers):
    """One message each, so that their order in the queue is known."""
    for number in numbers:
        await gateway.send(number)
        gateway.clock.advance(milliseconds=1)


@asynccontextmanager
async def another(gateway):
    """A second worker process on the same database."""
    db = Database(gateway.db.url, name="test worker 2")
    async with Net(allow_loopback=True) as net:
        worker = Worker(db, gateway.settings, now=gateway.clock, net=net)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        await worker.loaded.wait()
        try:
            yield worker
        finally:
            stop.set()
            await running


# ------------------------------------------------------------------------------------------------- throttles


async def test_a_throttle_keeps_order_receipts_and_tries(gateway, smsc):
    """The refused part goes again first, asks for its receipt again, and costs no try (SM-21)."""
    smsc.script = Script(rules=(Rule(next=2), Rule(next=1, status="RTHROTTLED")), magic=False)
    await gateway.bind(smsc, window=1)
    numbers = [f"09123456{n:02}" for n in range(8)]
    await gateway.silence("carrier")
    await queue(gateway, *numbers)
    await gateway.db.execute("UPDATE channel SET enabled = true")
    await gateway.up("carrier")
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 8)
    assert taken(smsc) == ["84" + number[1:] for number in numbers]
    assert {pdu.registered_delivery for pdu in submits(smsc)} == {1}
    assert await gateway.one("SELECT max(tries)::int FROM flight") in (0, None)


async def test_a_throttle_of_ten_minutes_loses_nothing(gateway, smsc):
    """All that time the channel waits as a whole while another goes on; then everything is sent."""
    smsc.script = Script(play=Play(status="RTHROTTLED"), magic=False)
    await gateway.bind(smsc, window=10)
    await gateway.add("other", priority=1, prefixes=["84901"])
    with structlog.testing.capture_logs() as lines:
        await gateway.send(*(f"09123456{n:02}" for n in range(20)))
        await gateway.until("SELECT count(*) > 0 FROM event WHERE kind = 'refused'", expected=True)
        await gateway.send(CHARLIE)
        await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
        gateway.clock.advance(minutes=10)
        await gateway.until("SELECT count(*) FROM final", 1)
        pauses = sum(line["event"] == "channel paused" for line in lines)
        assert len(submits(smsc)) <= 10 * (1 + pauses)  # a window, then it pauses, as often as there is time
    smsc.script = QUICK
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 21)
    assert await gateway.one("SELECT count(*) FROM ready") == 0
    assert await gateway.one("SELECT count(*) FROM final") == 1
    await gateway.check_ledger()


async def test_a_full_queue_of_one_number_lets_others_pass(gateway, smsc):
    """Only the message to that number waits (SM-21); it is not given up."""
    full = Rule(number="84912345678", status="RMSGQFUL", refusals=2, receipts=())
    smsc.script = Script(play=Play(receipts=()), rules=(full,), magic=False)
    await gateway.bind(smsc, window=1)
    await queue(gateway, ALICE, BOB, CHARLIE)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 2)
    assert taken(smsc) == ["84987654321", "84901234567"]
    for seconds in (6, 20):
        gateway.clock.advance(seconds=seconds)
        await gateway.drain()
    assert taken(smsc)[2:] == ["84912345678"]
    assert await gateway.finals() == []


async def test_the_carriers_rate_is_kept_and_nothing_lost(gateway, smsc):
    """A channel faster than its contract allows is throttled, and still brings everything once."""
    smsc.script = Script(limits=Limits(rate=20), play=Play(receipts=()), magic=False)
    await gateway.bind(smsc, window=5)
    await gateway.send(*(f"09123456{n:02}" for n in range(30)))
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 30)
    assert sorted(taken(smsc)) == sorted({f"849123456{n:02}" for n in range(30)})


# ----------------------------------------------------------------------------------------------------- lanes


async def otp(gateway):
    async with gateway.db.transaction() as connection:
        await routing.set_price(connection, routing.PriceRow("sms", 4, "", "", 250, False))
    gateway.process.directory.forget()
    await gateway.send(BOB, content="Ma OTP 123456", sms_type=4, sender="Verify")


async def test_an_otp_goes_before_a_backlog(gateway, smsc):
    """It leaves with the next slot that is free, whatever waits."""
    smsc.script = Script(play=Play(delay_s=0.02, receipts=()), magic=False)
    await gateway.bind(smsc, window=5)
    await gateway.send(*(f"09123456{n:02}" for n in range(100)))
    await smsc.until(lambda: smsc.counts["submits"] >= 10)
    await otp(gateway)
    before = smsc.counts["submits"]
    await smsc.until(lambda: any(pdu.destination.digits == "84987654321" for pdu in submits(smsc)))
    assert smsc.counts["submits"] - before <= 15


async def test_bulk_leaves_a_fifth_to_otps(gateway, smsc):
    """While an OTP was seen in the last minute, others take four fifths of what may be unrecorded."""
    smsc.script = Script(play=Play(answers=(), receipts=()), magic=False)
    await gateway.bind(smsc, window=10)
    await otp(gateway)
    await smsc.until(lambda: smsc.counts["submits"] == 1)
    await gateway.send(*(f"09123456{n:02}" for n in range(40)))
    await smsc.until(lambda: smsc.counts["submits"] == 8)
    await gateway.until("SELECT count(*) FROM flight", 8)
    await otp(gateway)
    await smsc.until(lambda: smsc.counts["submits"] == 9)
    assert [pdu.destination.digits for pdu in submits(smsc)].count("84987654321") == 2


async def test_the_reserve_costs_bulk_no_speed(gateway, smsc, monkeypatch):
    """Bulk that waits for its four fifths goes on as soon as something is recorded, not at the next poll."""
    monkeypatch.setattr("speedsms.gateway.flow.dispatch._POLL_S", 3600.0)
    smsc.script = QUICK
    await gateway.bind(smsc, window=10)
    await otp(gateway)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    await gateway.send(*(f"09123456{n:02}" for n in range(100)))
    gateway.worker.wake()  # a worker that has just begun may not hear of them
    await smsc.until(lambda: smsc.counts["submits"] == 101, within_s=30)


# ----------------------------------------------------------------------------------------------------- links


async def held_by(gateway, processes, *others):
    """Until so many processes hold the links."""
    async with asyncio.timeout(20):
        while await gateway.one("SELECT count(DISTINCT node_id) FROM link") != processes:
            for worker in (gateway.worker, *others):
                await worker.sweep()
                await worker.load()


async def test_two_processes_share_the_binds_of_a_channel(gateway, smsc):
    """Each holds half; together they send at the contract's rate, never above; who is left takes all."""
    smsc.script = QUICK
    channel_id = await gateway.bind(smsc, binds=2, rate=20, reconnect_s=[0.05, 0.05])
    await held_by(gateway, 1)
    sent_at = []
    async with another(gateway) as second:
        await held_by(gateway, 2, second)
        await smsc.until(lambda: smsc.counts["binds"] == 3 and len(smsc.connections) == 2)
        await gateway.up("carrier")
        for worker in (gateway.worker, second):
            note_pace(worker._running[channel_id].channel, sent_at)
        await gateway.send(*(f"09123456{n:02}" for n in range(40)))
        await smsc.until(lambda: smsc.counts["submits"] == 40)
        sent_at.sort()
        assert len(sent_at) == 40
        assert min(late - early for early, late in zip(sent_at, sent_at[20:], strict=False)) >= 1
        assert len({line.connection for line in smsc.journal.lines if line.command == 4}) >= 2
    await held_by(gateway, 1)
    await smsc.until(lambda: smsc.counts["binds"] == 4 and len(smsc.connections) == 2)


def note_pace(channel, sent_at):
    """Keep the moment for which each part counts: a busy machine may hold it up before it arrives."""

    def trace(way, _):
        if way == "sent":
            sent_at.append(channel._traffic.pace._sent[-1])

    channel.trace = trace


async def test_a_process_that_ends_leaves_nothing_unknown(gateway, smsc):
    """What is open is answered and recorded before it is gone; the other process sends the rest."""
    smsc.script = Script(play=Play(delay_s=0.05, receipts=()), magic=False)
    await gateway.bind(smsc, binds=2, window=5, reconnect_s=[0.05, 0.05])
    async with another(gateway) as second:
        await held_by(gateway, 2, second)
        await smsc.until(lambda: smsc.counts["binds"] == 3)
        await gateway.send(*(f"09123456{n:02}" for n in range(100)))
        await smsc.until(lambda: smsc.counts["submits"] >= 20)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 100)
    assert smsc.counts["submits"] == 100
    assert await gateway.one("SELECT count(*) FROM event WHERE kind <> 'sent'") == 0
    await gateway.check_ledger()


async def test_a_process_without_a_link_leaves_the_channel_its_traffic(gateway, smsc):
    """That the only bind is with another process is no reason to take the next route, nor to call it down."""
    smsc.script = QUICK
    await gateway.bind(smsc, rate=20)
    await gateway.add("second", priority=200)
    async with another(gateway) as other:
        await other.load()
        await gateway.up("carrier")
        await other.load()
        assert await gateway.one("SELECT health->>'state' FROM channel WHERE name = 'carrier'") == "up"
        await gateway.send(*(f"09123456{n:02}" for n in range(10)))
        await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 10)
    assert {name for name, _, _ in await gateway.taken()} == {"carrier"}


async def test_links_of_a_dead_process_are_free(gateway):
    """A row of a node that is no more is taken over; a living one's is not."""
    await gateway.worker.loaded.wait()
    me = gateway.worker.node.id
    other = await gateway.one(
        "INSERT INTO node (role, host, pid, lease_until)"
        " VALUES ('worker', 'x', 1, now() + interval '1 h') RETURNING id"
    )
    await gateway.db.execute("INSERT INTO link SELECT 7, n, %(o)s FROM generate_series(0, 1) n", o=other)
    await gateway.db.execute("INSERT INTO link VALUES (7, 2, 999999)")
    assert await links.share(gateway.db, 7, me, 4, set()) == {2, 3}
    await gateway.db.execute("DELETE FROM node WHERE id = %(o)s", o=other)
    assert await links.share(gateway.db, 7, me, 4, {2, 3}) == {0, 1, 2, 3}


async def test_a_link_changes_hands_only_when_it_has_ended(gateway):
    """Of four links with one process the second gets two, not before the first one gave them up."""
    await gateway.worker.loaded.wait()
    me = gateway.worker.node.id
    assert await links.share(gateway.db, 7, me, 4, set()) == {0, 1, 2, 3}
    other = await gateway.one(
        "INSERT INTO node (role, host, pid, lease_until)"
        " VALUES ('worker', 'x', 1, now() + interval '1 h') RETURNING id"
    )
    assert await links.share(gateway.db, 7, other, 4, set()) == set()
    assert await links.share(gateway.db, 7, me, 4, {0, 1, 2, 3}) == {0, 1}
    assert await links.share(gateway.db, 7, other, 4, set()) == set()
    assert await links.share(gateway.db, 7, me, 4, {0, 1}) == {0, 1}
    assert await links.share(gateway.db, 7, other, 4, set()) == {2, 3}
