"""Our client against a foreign SMSC: the npm library `smpp` as a carrier (channels §7)."""

import shutil
from pathlib import Path

import pytest

from speedsms.gateway.channels.base import Accepted

FOREIGN = Path(__file__).parents[1] / "foreign"
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("node") or not (FOREIGN / "node_modules/smpp").is_dir(),
        reason="needs node, and `npm ci` in tests/channels/foreign",
    ),
]


@pytest.fixture
async def carrier(start):
    program = await start(["node", FOREIGN / "smsc.js"])
    await program.said("listening")
    return program


def _port(carrier):
    return carrier.events[0]["port"]


def _seen(carrier, event):
    return [e for e in carrier.events if e["event"] == event]


async def test_it_binds_submits_and_takes_receipts(carrier, connect, outgoing):
    """Twenty messages arrive as they were sent, and each receipt comes back under its message's key."""
    channel, sink = await connect(_port(carrier), window=5)
    texts = [f"Ma cua ban la {n:06}, [het han] sau 5 phut" for n in range(20)]
    outcomes = [await channel.submit(outgoing(n, text)) for n, text in enumerate(texts)]
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    await sink.until(lambda: len(sink.reports) == len(texts))
    await carrier.until(lambda: len(_seen(carrier, "receipt taken")) == len(texts))
    submits = _seen(carrier, "submit")
    assert [s["text"] for s in submits] == texts
    assert [o.references for o in outcomes] == [(s["message_id"],) for s in submits]
    assert {(s["source"], s["source_ton"], s["destination"], s["destination_ton"]) for s in submits} == {
        ("SPEEDSMS", 5, "84912345678", 1)
    }
    assert {e["status"] for e in _seen(carrier, "receipt taken")} == {0}
    assert [(r.status, r.reference) for r in sink.reports] == [(0, s["message_id"]) for s in submits]
    assert all(set(o.keys) & set(r.keys) for o, r in zip(outcomes, sink.reports, strict=True))


async def test_long_and_accented_texts_arrive_whole(carrier, connect, outgoing):
    """The foreign decoder finds the same text in UCS-2, and in parts that carry their numbers."""
    channel, _ = await connect(_port(carrier))
    long = "Mã xác thực của bạn là 493027 🙂 " * 9
    for n, text in enumerate(["Xin chào bạn", long], 1):
        assert isinstance(await channel.submit(outgoing(n, text)), Accepted)
    await carrier.until(lambda: len(_seen(carrier, "submit")) == 1 + len(outgoing(0, long).parts))
    single, *parts = _seen(carrier, "submit")
    assert (single["text"], single["header"], single["data_coding"]) == ("Xin chào bạn", [], 8)
    assert "".join(part["text"] for part in parts) == long
    numbers = [bytes.fromhex(part["header"][0]) for part in parts]
    assert [number[3:] for number in numbers] == [bytes([len(parts), n]) for n in range(1, len(parts) + 1)]
    assert len({number[:3] for number in numbers}) == 1


@pytest.mark.parametrize("bind", ["transceiver", "pair"])
async def test_incoming_messages_are_taken(carrier, connect, outgoing, bind):
    """What the handset says comes up with its text and its two numbers, and is acknowledged."""
    channel, sink = await connect(_port(carrier), bind=bind, receipts="none", no_receipt_status=0)
    for n, text in enumerate(["reply STOP @ €", "reply: Từ chối"], 1):
        await channel.submit(outgoing(n, text))
    await sink.until(lambda: len(sink.received) == 2)
    assert {(m.sender, m.recipient, m.text) for m in sink.received} == {
        ("84912345678", "SPEEDSMS", "reply STOP @ €"),
        ("84912345678", "SPEEDSMS", "reply: Từ chối"),
    }
    await carrier.until(lambda: len(_seen(carrier, "echo taken")) == 2)
    assert {e["status"] for e in _seen(carrier, "echo taken")} == {0}


async def test_it_leaves_politely(carrier, connect, outgoing):
    """A drain ends with unbind, and nothing is open."""
    channel, _ = await connect(_port(carrier))
    outcome = channel.submit(outgoing(1, "the last one"))
    await channel.drain(5)
    assert isinstance(await outcome, Accepted)
    await carrier.until(lambda: _seen(carrier, "unbind"))
    assert _seen(carrier, "bind")[0] == {
        "event": "bind",
        "command": "bind_transceiver",
        "system_id": "speedsms",
        "password": "secret",
    }
