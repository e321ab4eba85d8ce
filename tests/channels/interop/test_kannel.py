"""A foreign client against our SMSC: Kannel sends, gets receipts and incoming messages (channels §7)."""

import asyncio
import os
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from ports import free_port
from speedsms.gateway.channels.smpp.pdu import Command
from speedsms.gateway.channels.smpp.smsc import Play, Script, Smsc, Speech

PATH = os.defpath + ":/usr/sbin"
BOXES = [shutil.which(name, path=PATH) for name in ("bearerbox", "smsbox")]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(not all(BOXES), reason="needs the programs of the package kannel"),
]


class Receiver:
    """Where Kannel reports receipts and incoming messages: path and query of each call."""

    def __init__(self):
        self.calls = asyncio.Queue()

    async def answer(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = urlsplit(head.split()[1].decode())
                self.calls.put_nowait((target.path, {k: v[0] for k, v in parse_qs(target.query).items()}))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()

    async def next(self, count):
        async with asyncio.timeout(20):
            return [await self.calls.get() for _ in range(count)]


@pytest.fixture
async def receiver():
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    yield receiver
    server.close()


@pytest.fixture
async def carrier():
    smsc = Smsc()
    smsc.port = await smsc.start()
    yield smsc
    await smsc.stop()


@pytest.fixture
async def kannel(start, carrier, receiver, tmp_path):
    """Both boxes, bound; gives what sends one message and returns the reply."""
    ports = dict(zip(("admin", "boxes", "sendsms"), (free_port() for _ in range(3)), strict=True))
    text = Path(__file__).with_name("kannel.conf").read_text()
    (tmp_path / "kannel.conf").write_text(text.format(smsc=carrier.port, receiver=receiver.port, **ports))
    for box, ready in zip(BOXES, ("Start-up done", "Connected to bearerbox"), strict=True):
        await (await start([box, "-v", "1", "kannel.conf"], tmp_path)).said(ready)
    await carrier.until(lambda: carrier.counts["binds"])

    async def send(**query):
        reader, writer = await asyncio.open_connection("127.0.0.1", ports["sendsms"])
        target = "/cgi-bin/sendsms?" + urlencode({"username": "test", "password": "test", **query})
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        return reply.decode()

    return send


def _submitted(carrier):
    lines = [line for line in carrier.journal.lines if line.way == "in" and line.octets]
    return [line.frame().pdu for line in lines if line.command == Command.SUBMIT_SM]


async def test_twenty_messages_and_their_receipts(kannel, carrier, receiver):
    """Each message Kannel takes reaches our SMSC as it was, and its receipt reaches Kannel's customer."""
    report = f"http://127.0.0.1:{receiver.port}/report?"
    for n in range(20):
        reply = await kannel(
            to=f"8491234{n:04}",
            text=f"Ma cua ban la {n}",
            **{"from": "KANNEL", "dlr-mask": 3, "dlr-url": f"{report}n={n}&state=%d&reply=%F"},
        )
        assert "0: Accepted for delivery" in reply
    calls = await receiver.next(20)
    assert sorted((path, int(q["n"]), q["state"]) for path, q in calls) == [
        ("/report", n, "1") for n in range(20)
    ]
    submits = _submitted(carrier)
    assert sorted((s.destination.digits, s.short_message) for s in submits) == [
        (f"8491234{n:04}", b"Ma cua ban la %d" % n) for n in range(20)
    ]
    await carrier.until(lambda: carrier.counts["receipts_acknowledged"] == 20)


async def test_a_refused_message_is_reported(kannel, carrier, receiver):
    """Our command_status reaches Kannel's customer as a refusal by the SMSC."""
    carrier.script = Script(play=Play(status="RINVDSTADR"))
    report = f"http://127.0.0.1:{receiver.port}/report?state=%d"
    await kannel(to="84912345678", text="x", **{"dlr-mask": 19, "dlr-url": report})
    assert await receiver.next(1) == [("/report", {"state": "16"})]


async def test_long_texts_in_both_directions(kannel, carrier, receiver):
    """Kannel joins the shuffled parts our SMSC sends; our SMSC sees Kannel's parts with their headers."""
    text = "Tin nhan dai: " + "abcdefghij" * 30
    carrier.say(Speech(sender="84912345678", recipient="19001234", text=text, shuffled=True))
    assert await receiver.next(1) == [("/incoming", {"from": "+84912345678", "text": text})]
    await kannel(to="84912345678", text=text)
    await carrier.until(lambda: len(_submitted(carrier)) == 3)
    submits = _submitted(carrier)
    assert {s.esm_class & 0x40 for s in submits} == {0x40}
    assert b"".join(s.short_message[6:] for s in submits).decode() == text
