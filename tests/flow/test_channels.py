"""Channels as the worker keeps them: wrong settings block one channel, and everybody can see why (CH-11)."""

import pytest
import structlog

pytestmark = pytest.mark.anyio

ALICE = "0912345678"


async def health(gateway):
    return await gateway.one("SELECT health FROM channel WHERE name = 'simulator'")


async def test_wrong_settings_block_a_channel_until_they_are_right(gateway):
    """It is said once why, messages wait, and the right settings set it going again."""
    await gateway.worker.loaded.wait()
    assert (await health(gateway))["state"] == "up"
    with structlog.testing.capture_logs() as lines:
        await gateway.db.execute("""UPDATE channel SET settings = '{"window": "many"}'""")
        for _ in range(3):
            await gateway.worker.load()
    said = await health(gateway)
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
    await gateway.worker.load()
    assert (await health(gateway))["state"] == "stopped"
