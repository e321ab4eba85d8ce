"""What goes over the wire between our client and our SMSC, judged by Wireshark's dissector (channels §7)."""

import asyncio
import shutil
import struct
import time
from collections import Counter

import pytest

from speedsms.gateway.channels.base import Accepted
from speedsms.gateway.channels.smpp.pdu import Command
from speedsms.gateway.channels.smpp.smsc import Play, Receipt, Script, Smsc, Speech, Wire

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark"),
]
_RAW_IP = 101  # link type: packets begin with their IP header
_LOOPBACK = bytes([127, 0, 0, 1])
_CLIENT_PORT, _SMSC_PORT = 40000, 2775
_SEGMENT = 1400


class Relay:
    """Stands between client and SMSC, and writes what passes as TCP segments of one conversation."""

    def __init__(self, smsc_port):
        self._smsc_port = smsc_port
        self._sent = {_CLIENT_PORT: 1, _SMSC_PORT: 1}
        self._ended = asyncio.Event()
        self.capture = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _RAW_IP))
        self._packet(_CLIENT_PORT, b"", flags=0x02)
        self._packet(_SMSC_PORT, b"", flags=0x12)

    async def answer(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._smsc_port)
        await asyncio.gather(
            self._pass(reader, far_writer, _CLIENT_PORT), self._pass(far_reader, writer, _SMSC_PORT)
        )
        self._ended.set()

    async def ended(self):
        async with asyncio.timeout(20):
            await self._ended.wait()

    async def _pass(self, reader, writer, port):
        while octets := await reader.read(_SEGMENT):
            self._packet(port, octets)
            writer.write(octets)
        writer.close()

    def _packet(self, port, octets, flags=0x18):
        """One segment: the SYN of each side has the number before its first octet."""
        other = _SMSC_PORT if port == _CLIENT_PORT else _CLIENT_PORT
        numbers = self._sent[port] - bool(flags & 0x02), self._sent[other]
        tcp = struct.pack(">HHIIBBHHH", port, other, *numbers, 0x50, flags, 65535, 0, 0)
        size = 20 + len(tcp) + len(octets)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 6, 0, _LOOPBACK, _LOOPBACK)
        seconds, fraction = divmod(time.time(), 1)
        self.capture += struct.pack("<IIII", int(seconds), int(fraction * 1e6), size, size)
        self.capture += ip + tcp + octets
        self._sent[port] += len(octets)


async def _dissected(path, *options):
    """The lines that tshark writes."""
    command = ["tshark", "-n", "-r", path, "-d", f"tcp.port=={_SMSC_PORT},smpp", *options]
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    written, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return written.decode().split("\n")[:-1]


def _command(octets):
    return int.from_bytes(octets[4:8])


SCRIPT = Script(
    play=Play(
        id_form="uuid",
        congestion=10,
        receipts=(
            Receipt(state="ENROUTE", intermediate=True, unasked=True, after_s=0.0),
            Receipt(after_s=0.01, network_error="030001"),
            Receipt(after_s=0.02, pdu="data_sm"),
        ),
    ),
    wire=Wire(enquire_link_s=0.05),
)
SPEECHES = (
    Speech(text="Trả lời rất dài 🙂 " * 20),
    Speech(text="a long answer " * 20, concat="sar"),
    Speech(text="a long answer " * 20, concat="payload"),
)


@pytest.fixture
async def smsc():
    smsc = Smsc(SCRIPT)
    smsc.port = await smsc.start()
    yield smsc
    await smsc.stop()


@pytest.fixture
async def relay(smsc):
    relay = Relay(smsc.port)
    server = await asyncio.start_server(relay.answer, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    yield relay
    server.close()


async def test_a_foreign_dissector_finds_nothing_malformed(smsc, relay, connect, outgoing, tmp_path):
    """Of a lively conversation every PDU is dissected and none is malformed."""
    channel, sink = await connect(relay.port, enquire_link_s=0.1)
    texts = ["Xin chao @ [€]", "Xin chào bạn 🙂", "dai " * 100, "dài, rất dài " * 20] * 5
    messages = [outgoing(n, text) for n, text in enumerate(texts)]
    assert all(
        isinstance(outcome, Accepted) for outcome in await asyncio.gather(*map(channel.submit, messages))
    )
    parts = sum(len(message.parts) for message in messages)
    incoming = sum(map(smsc.say, SPEECHES))
    await sink.until(lambda: (len(sink.reports), len(sink.received)) == (3 * parts, incoming))
    await sink.until(lambda: Command.ENQUIRE_LINK_RESP in {_command(octets) for _, octets in sink.pdus})
    await channel.drain(5)
    await relay.ended()

    path = tmp_path / "smpp.pcap"
    path.write_bytes(relay.capture)
    fields = await _dissected(path, "-Y", "smpp", "-T", "fields", "-e", "smpp.command_id")
    seen = Counter(int(command, 16) for line in fields for command in line.split(","))
    said = Counter(line.command for line in smsc.journal.lines if line.octets)
    assert seen == said
    assert seen[Command.SUBMIT_SM] == parts
    assert (
        await _dissected(path, "-Y", "_ws.malformed || _ws.expert.severity >= 6291456 || tcp.analysis.flags")
        == []
    )
