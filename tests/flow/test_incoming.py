"""Messages from phones over real SMPP: stored before they are acknowledged, joined, given to their account
(channels §3.14).
"""

import asyncio
import json

import pytest

from speedsms.gateway.channels.smpp.pdu import Address, Command, DeliverSm
from speedsms.gateway.channels.smpp.smsc import Deliver, Script, Speech
from speedsms.gateway.store import admin

pytestmark = pytest.mark.anyio

ALICE, BOB = "84912345678", "84987654321"
OURS = "84901112233"
LONG = "".join(f"{n:05}" for n in range(70))  # 350 characters: three parts of GSM-7


async def listen(gateway, smsc, **settings):
    """A bound channel, and a number of alice's that people write to."""
    async with gateway.db.transaction() as connection:
        await admin.add_sender(connection, "alice", "number", OURS)
        await admin.set_sender(connection, "alice", OURS, "approved")
    await gateway.bind(smsc, **settings)


async def said(gateway, smsc, *speeches, **more):
    """The carrier brings them; they are acknowledged and told."""
    before = smsc.counts["incoming_acknowledged"]
    pdus = sum(smsc.say(Speech(**{"recipient": OURS, "sender": ALICE} | s)) for s in speeches or [more])
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == before + pdus)
    await gateway.drain()


async def contents(gateway):
    return [row[0] for row in await gateway.db.read("SELECT content FROM incoming ORDER BY id")]


def part(octets, number, total=3, *, reference=9, sender=ALICE, coding=0):
    """One part with an 8-bit reference, as a phone wrote it."""
    header = bytes([5, 0, 3, reference, total, number])
    return DeliverSm(
        source=Address(1, 1, sender),
        destination=Address(1, 1, OURS),
        esm_class=0x40,
        data_coding=coding,
        short_message=header + octets,
    )


async def brought(gateway, smsc, *pdus):
    before = smsc.counts["incoming_acknowledged"]
    for pdu in pdus:
        smsc.push(pdu)
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == before + len(pdus))
    await gateway.drain()


async def break_off(gateway, smsc, table, repeated):
    """Whoever waits for a locked table loses the connection, until the carrier has repeated what it said."""
    waiting = "FROM pg_locks WHERE relation = %(table)s::regclass AND NOT granted"
    async with asyncio.timeout(20):
        while not smsc.counts[repeated]:
            await gateway.db.rows(f"SELECT pg_terminate_backend(pid) {waiting}", table=table)


async def after_patience(gateway, count):
    """Ten minutes after the last part; the worker, which looks too, may be the one who delivers."""
    gateway.clock.advance(minutes=2)
    await gateway.worker.inbound.deliver_partial()
    await gateway.until("SELECT count(*) FROM incoming", count)


async def test_one_part_reaches_the_webhook(gateway, smsc):
    """The body is that of protocol §14.3, once, whoever repeats the message."""
    await listen(gateway, smsc)
    await said(gateway, smsc, text="Chào bạn", times=1)
    await said(gateway, smsc, text="Chào bạn")
    body = '{"type":"sms","phone":"0912345678","content":"Chào bạn"}'
    assert [json.loads(b) for b in gateway.sink.bodies] == [json.loads(body)]


@pytest.mark.parametrize("concat", ["udh8", "udh16", "sar", "payload"])
async def test_three_parts_shuffled_and_doubled(gateway, smsc, concat):
    """They are one message, told once, in any order and however often they come (SM-42)."""
    await listen(gateway, smsc)
    await said(gateway, smsc, text=LONG, concat=concat, shuffled=True, times=1 if concat == "payload" else 2)
    assert await contents(gateway) == [LONG]
    assert [json.loads(body)["content"] for body in gateway.sink.bodies] == [LONG]


async def test_two_senders_with_one_reference(gateway, smsc):
    """The sender is part of the key: their parts do not mix."""
    await listen(gateway, smsc)
    await brought(gateway, smsc, *(part(b"A%d" % n, n) for n in (1, 2)), part(b"B1", 1, sender=BOB))
    await brought(gateway, smsc, *(part(b"B%d" % n, n, sender=BOB) for n in (3, 2)), part(b"A3", 3))
    assert sorted(await contents(gateway)) == ["A1A2A3", "B1B2B3"]


async def test_a_character_may_straddle_two_parts(gateway, smsc):
    """Octets are joined before they are decoded: a pair cut in two is whole again."""
    await listen(gateway, smsc)
    whole = "chữ 😀 cuối".encode("utf-16-be")
    await brought(gateway, smsc, part(whole[9:], 2, 2, coding=8), part(whole[:9], 1, 2, coding=8))
    assert await contents(gateway) == ["chữ 😀 cuối"]


async def test_an_incomplete_message_is_delivered_after_ten_minutes(gateway, smsc):
    """With … for what is missing, flagged; the late part comes alone (SM-43)."""
    await listen(gateway, smsc)
    await brought(gateway, smsc, part(b"one", 1), part(b"three", 3))
    gateway.clock.advance(minutes=9)
    assert not await gateway.worker.inbound.deliver_partial()
    await after_patience(gateway, 1)
    assert not await gateway.worker.inbound.deliver_partial()
    await brought(gateway, smsc, part(b"two", 2), part(b"two", 2), part(b"one", 1))
    assert await contents(gateway) == ["one…three", "…two…"]
    assert await gateway.one("SELECT bool_and(partial) FROM incoming")
    assert len(gateway.sink.posts) == 2


async def test_a_reference_used_again_opens_a_new_set(gateway, smsc):
    """Another message with the reference of a complete one, even one that begins alike (SM-42)."""
    await listen(gateway, smsc)
    await brought(gateway, smsc, *(part(b"A%d" % n, n) for n in (1, 2, 3)))
    await brought(gateway, smsc, *(part(b"B%d" % n, n) for n in (1, 2, 3)))
    gateway.clock.advance(hours=2)
    for octets, number in ((b"B1", 1), (b"C2", 2), (b"C3", 3)):
        await brought(gateway, smsc, part(octets, number))
    assert await contents(gateway) == ["A1A2A3", "B1B2B3", "B1C2C3"]


async def test_a_reference_used_again_before_its_message_is_whole(gateway, smsc):
    """What was acknowledged of the first message is delivered, not dropped (I27)."""
    await listen(gateway, smsc)
    for octets, number in ((b"A1", 1), (b"A2", 2), (b"B1", 1), (b"B2", 2), (b"B3", 3)):
        await brought(gateway, smsc, part(octets, number))
    assert await contents(gateway) == ["A1A2…", "B1B2B3"]


async def test_parts_with_octets_that_no_text_may_hold(gateway, smsc):
    """NUL and half pairs in parts are stored readable, complete or not; the process goes on (CH-6)."""
    await listen(gateway, smsc)
    odd = "a\0b".encode("utf-16-be") + b"\xd8\x3d"
    await brought(gateway, smsc, part(odd, 1, 2, coding=8), part(odd, 2, 2, coding=8))
    await brought(gateway, smsc, part(odd, 1, 3, reference=8, coding=8))
    gateway.clock.advance(minutes=9)
    await after_patience(gateway, 2)
    assert await contents(gateway) == ["ab\ufffdab\ufffd", "ab\ufffd…"]


async def test_an_unknown_recipient_is_stored(gateway, smsc):
    """Nobody's number: kept and shown, never dropped, told to nobody (SM-44)."""
    await gateway.bind(smsc)
    await said(gateway, smsc, text="Xin chao", recipient="9029")
    assert await gateway.db.read("SELECT account_id, recipient, content FROM incoming") == [
        (None, "9029", "Xin chao")
    ]
    assert gateway.sink.posts == []


async def test_a_failing_commit_makes_the_carrier_repeat(gateway, smsc):
    """It gets a temporary error and sends again; stored once in the end, nothing lost (CH-5)."""
    smsc.script = Script(deliver=Deliver(retry_s=0.05), magic=False)
    await listen(gateway, smsc)
    async with gateway.db.transaction() as connection:
        await connection.execute("LOCK TABLE incoming IN EXCLUSIVE MODE")
        smsc.say(Speech(recipient=OURS, sender=ALICE, text="Xin chao"))
        await break_off(gateway, smsc, "incoming", "incoming_repeated")
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == 1)
    errors = [line.frame().status for line in smsc.journal.lines if line.command == Command.DELIVER_SM_RESP]
    assert errors[0] == 0x64
    assert await contents(gateway) == ["Xin chao"]


async def test_a_failing_commit_of_a_receipt_makes_the_carrier_repeat(gateway, smsc):
    """The report is not acknowledged before it is stored; repeated, it ends its message once."""
    smsc.script = Script(deliver=Deliver(retry_s=0.05), magic=False)
    await gateway.bind(smsc)
    async with gateway.db.transaction() as connection:
        await connection.execute("LOCK TABLE final IN EXCLUSIVE MODE")
        await gateway.send("0912345678")
        await break_off(gateway, smsc, "final", "receipts_repeated")
    await smsc.until(lambda: smsc.counts["receipts_acknowledged"] == 1)
    await gateway.play()
    await gateway.play()
    assert [status for status, _ in await gateway.finals()] == [0]
    await gateway.check_ledger()


async def test_a_burst_is_stored_whole(gateway, smsc):
    """A thousand messages at once: all stored, all acknowledged, each told."""
    await listen(gateway, smsc)
    await said(gateway, smsc, text="tin {n}", count=300, sender=BOB)
    assert sorted(await contents(gateway)) == sorted(f"tin {n}" for n in range(1, 301))
    assert len(gateway.sink.posts) == 300
