"""Channels as the worker keeps them: each says how it is, and its troubles are its own (§1.7, CH-11)."""

import asyncio

import pytest
import structlog

from speedsms.gateway.channels.smpp.pdu import Address, DeliverSm
from speedsms.gateway.channels.smpp.smsc import Play, Receipt, Rule, Script

pytestmark = pytest.mark.anyio

ALICE, BOB = "0912345678", "0987654321"


async def health(gateway, name="simulator"):
    return await gateway.one("SELECT health FROM channel WHERE name = %(name)s", name=name)


async def test_wrong_settings_block_a_channel_until_they_are_right(gateway):
    """It is said once why, messages wait, and the right settings set it going again."""
    await gateway.worker.loaded.wait()
    assert (await health(gateway))["state"] == "up"
    with structlog.testing.capture_logs() as lines:
        await gateway.db.execute("""UPDATE channel SET settings = '{"window": "many"}'""")
        said = await gateway.up("simulator", "blocked")
    assert (said["state"], said["cause"]) == ("blocked", "window: Expected `int`, got `str`")
    assert [line["event"] for line in lines].count("channel blocked by its settings") == 1
    await gateway.send(ALICE)
    await gateway.db.execute("UPDATE channel SET settings = '{}'")
    await gateway.worker.load()
    assert (await health(gateway))["state"] == "up"
    await gateway.drain()
    gateway.clock.advance(seconds=1)
    await gateway.drain()
    assert [status for status, _ in await gateway.finals()] == [0]


async def test_a_channel_that_is_not_used_says_so(gateway):
    """Disabling stops it; what `channel list` shows follows."""
    await gateway.worker.loaded.wait()
    await gateway.db.execute("UPDATE channel SET enabled = false")
    await gateway.up("simulator", "stopped")


async def test_a_throttled_channel_is_paused_and_keeps_its_messages(gateway, smsc):
    """It says why and until when, nothing goes elsewhere meanwhile, and then it is up again (§1.7, SM-21)."""
    smsc.script = Script(rules=(Rule(next=2, status="RTHROTTLED"),), magic=False)  # for 1 s, then for 2 s
    await gateway.bind(smsc)
    await gateway.add("spare", priority=200)
    await gateway.send(ALICE)
    said = await gateway.up("carrier", "paused")
    assert (said["cause"], said["until"] > said["since"]) == ("throttled", True)
    await gateway.send(BOB)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 2)
    assert not {"cause", "until"} & (await gateway.up("carrier")).keys()
    assert {name for name, _, _ in await gateway.taken()} == {"carrier"}


@pytest.mark.parametrize(("reason", "state"), [("no_balance", "paused"), ("auth", "blocked")])
async def test_a_long_pause_is_not_waited_for(gateway, smsc, reason, state):
    """Where a person is needed the next messages take the next route, without being refused first (§1.4)."""
    smsc.script = Script(play=Play(status=0x412), magic=False)
    await gateway.bind(smsc, status_map={"0x412": reason})
    await gateway.add("spare", priority=200)
    await gateway.send(ALICE)
    await gateway.up("carrier", state)
    await gateway.send(BOB)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 2)
    assert smsc.counts["submits"] == 1


async def test_receipts_are_counted_once_their_fate_is_known(gateway, smsc):
    """One that is early is matched, not stray; one that found nothing in 70 s is stray, once (§1.7)."""
    smsc.script = Script(play=Play(receipts=(Receipt(after_s=-0.4),)), magic=False)
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await smsc.until(lambda: smsc.counts["receipts_acknowledged"] == 1)
    smsc.push(
        DeliverSm(
            source=Address(1, 1, "84912345678"),
            destination=Address(5, 0, "X"),
            esm_class=4,
            short_message=b"id:foreign stat:DELIVRD err:000 text:",
        )
    )
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == 1)
    await gateway.until("SELECT count(*) FROM receipt", 2)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    seen = []
    for _ in range(40):
        gateway.clock.advance(seconds=4)
        await gateway.drain()
        await gateway.worker.load()
        counts = (await health(gateway, "carrier"))["counts"]
        seen.append((counts.get("reports_matched", 0), counts.get("reports_unmatched", 0)))
    assert seen[0] == seen[15] == (1, 0)
    assert seen[18] == seen[-1] == (1, 1)


async def test_a_channel_that_cannot_end_holds_up_no_other(gateway, smsc, monkeypatch):
    """Its carrier does not answer: others are started meanwhile, itself only when it has ended (CH-11)."""
    monkeypatch.setattr("speedsms.gateway.app.worker.DRAIN_S", 60.0)  # it has not ended before the reset
    smsc.script = Script(play=Play(answers=(), receipts=()), magic=False)
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await smsc.until(lambda: smsc.counts["submits"] == 1)
    async with asyncio.timeout(20):
        sql = """UPDATE channel SET settings = settings || '{"window": 50}' WHERE name = 'carrier'"""
        await gateway.db.execute(sql)
        await gateway.worker.load()
        await gateway.add("other", priority=200)
        await gateway.up("other")
    assert (await health(gateway, "carrier"))["state"] == "draining"
    for _ in range(3):
        await gateway.worker.load()
    await gateway.send(BOB)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    assert await gateway.taken() == [("other", 1, "sent")]
    assert smsc.counts["binds"] == 1
    smsc.end("reset")
    await gateway.up("carrier")
    assert smsc.counts["binds"] == 2
