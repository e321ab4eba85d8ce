"""The simulated carrier as a bad peer: ends of all kinds, silence, floods, garbage (invariants §6.3)."""

import socket

import pytest
from esme import bound, carriers

from speedsms.gateway.channels.smpp.pdu import Command, Status
from speedsms.gateway.channels.smpp.session import Close, Leaving, Timers
from speedsms.gateway.channels.smpp.smsc import Deliver, Play, Script, Speech, Wire

pytestmark = pytest.mark.anyio
SILENT = Play(receipts=())


@pytest.fixture
async def pair():
    """A carrier with a script, and a client bound to it."""
    clients = []
    async with carriers() as start:

        async def pair_(script=Script(), **options):  # noqa: B008 - frozen
            smsc = await start(script)
            clients.append(await bound(smsc, **options))
            return smsc, clients[-1]

        yield pair_
        for esme in clients:
            esme.transport.abort()


@pytest.mark.parametrize(
    ("end", "lost", "answers", "rest"),
    [("close", "closed", 1, 0), ("reset", ConnectionResetError, 1, 0), ("cut", ConnectionResetError, 0, 13)],
)
async def test_a_connection_ends_after_a_message(pair, end, lost, answers, rest):
    """With FIN or RST behind the response, or with RST in the middle of it."""
    smsc, esme = await pair(Script(play=Play(then=end, receipts=())))
    before = len(esme.octets)
    esme.submit()
    await esme.until(lambda: esme.lost)
    assert esme.lost == lost or isinstance(esme.lost, lost)
    assert len(esme.answers) == answers
    assert bool(rest) == (0 < len(esme.octets) - before < 16 + 9)
    assert not smsc.connections


async def test_a_message_taken_and_never_answered(pair):
    """Reset in place of a response: the client cannot know that the message was taken."""
    smsc, esme = await pair(Script(play=Play(answers=(), then="reset", receipts=())))
    esme.submit()
    await esme.until(lambda: esme.lost)
    assert esme.answers == []
    assert smsc.messages.statuses == {"ROK": 1}


async def test_the_carrier_unbinds(pair):
    """Politely: unbind, unbind_resp, end."""
    smsc, esme = await pair(Script(play=Play(then="unbind", receipts=())))
    esme.submit()
    await esme.seen(Leaving)
    esme.session.leave(esme.now())
    esme.flush()
    await esme.until(lambda: esme.lost)
    assert [line.command for line in smsc.journal.lines if line.octets][-2:] == [
        *(Command.UNBIND, Command.UNBIND_RESP)
    ]


async def test_the_client_unbinds_with_messages_open(pair):
    """Open submits are answered before unbind_resp."""
    smsc, esme = await pair(Script(play=Play(delay_s=0.03, receipts=())))
    esme.submit()
    esme.session.unbind(esme.now())
    esme.flush()
    await esme.seen(Close)
    assert [type(event).__name__ for event in esme.events] == ["Bound", "Answered", "Close"]
    await smsc.until(lambda: not smsc.connections)


@pytest.mark.parametrize("after", [2, 4])
async def test_a_connection_ends_after_so_many_pdus(pair, after):
    """The bind counts; what comes behind the last one is not seen any more."""
    smsc, esme = await pair(Script(wire=Wire(end="reset", end_after=after), play=SILENT))
    for n in range(6):
        esme.submit(key=n)
    await esme.until(lambda: esme.lost)
    assert len(esme.answers) == smsc.counts["submits"] == after - 1


@pytest.mark.parametrize("end", ["deaf", "mute"])
async def test_a_black_hole(pair, end):
    """Nothing is answered any more, and the connection stays; only the mute one still reads."""
    smsc, esme = await pair(Script(play=SILENT), timers=Timers(enquire_link_s=0.05, enquire_timeout_s=0.05))
    smsc.end(end)
    esme.submit()
    assert esme.session.tick(esme.now() + 0.06) == []
    esme.flush()
    if end == "mute":
        await smsc.until(lambda: smsc.journal.lines[-1].command == Command.ENQUIRE_LINK)
    assert esme.session.tick(esme.now() + 0.2) == [Close("silence")]
    assert smsc.counts["submits"] == (end == "mute")
    assert esme.lost is None


async def test_enquire_link_is_never_answered(pair):
    """Submits are, so the client sees a half-dead carrier."""
    smsc, esme = await pair(Script(wire=Wire(answers_enquire_link=False), play=SILENT))
    esme.session.tick(esme.now() + 31)
    esme.flush()
    await smsc.until(lambda: smsc.journal.lines[-1].command == Command.ENQUIRE_LINK)
    esme.submit()
    await esme.answered()
    assert smsc.journal.lines[-1].command == Command.SUBMIT_SM_RESP


async def test_a_flood_of_enquire_link(pair):
    """Each second as many as the script says, beside the normal traffic."""
    smsc, esme = await pair(Script(wire=Wire(flood=1000), play=SILENT))
    esme.submit()
    await smsc.until(lambda: commands(smsc).count(Command.ENQUIRE_LINK_RESP) >= 100)
    asked = [line.at for line in smsc.journal.lines if line.command == Command.ENQUIRE_LINK]
    assert asked[99] - asked[0] >= 0.08
    assert esme.answers


async def test_the_carrier_probes(pair):
    """After silence the carrier asks, too."""
    smsc, esme = await pair(Script(wire=Wire(enquire_link_s=0.02)))
    await smsc.until(lambda: Command.ENQUIRE_LINK_RESP in commands(smsc))
    assert esme.lost is None


async def test_one_octet_at_a_time(pair):
    """The stream is whole, only slow."""
    smsc, esme = await pair(Script(play=SILENT, wire=Wire(octet_s=0.001)))
    esme.submit()
    await esme.answered()
    assert smsc.counts["submits"] == 1


@pytest.mark.parametrize("garbage", ["0000000f", "7fffffff8000000400000000", "00000004", "00000000"])
async def test_garbage_behind_the_bind(pair, garbage):
    """A length that cannot be: the client gives the stream up."""
    _, esme = await pair(Script(wire=Wire(garbage=(garbage,))))
    await esme.seen(Close)


async def test_garbage_of_the_client(pair):
    """The carrier survives it too: what stood before it is answered once, then generic_nack, and the end."""
    smsc, esme = await pair()
    before = len(esme.octets)
    esme.transport.write(bytes.fromhex("00000010 00000015 00000000 00000009") + b"\xff" * 64)
    await esme.until(lambda: esme.lost)
    assert not smsc.connections
    assert esme.octets[before:] == bytes.fromhex(
        "00000010 80000015 00000000 00000009  00000010 80000000 00000002 00000000"
    )
    assert smsc.journal.lines[-4].octets == b"\xff" * 64


async def test_any_octets_to_anybody(pair):
    """A test may make the carrier say what it likes, to one connection or to all."""
    smsc, esme = await pair()
    smsc.send(bytes.fromhex("00000010 00000102 00000000 00000001"), 1)
    await esme.until(lambda: len(esme.events) == 2)
    smsc.end("close")
    await esme.until(lambda: esme.lost)


async def test_receipts_without_answer_are_said_again(pair):
    """A client that does not answer within response_s hears it again."""
    script = Script(deliver=Deliver(response_s=0.02, retry_s=0.01, tries=2), speech=(Speech(after_s=0),))
    smsc, esme = await pair(script, answer_status=None)
    await esme.asked(2)
    await smsc.until(lambda: smsc.counts["incoming_refused"] or not smsc.connections)
    assert smsc.counts["incoming_sent"] == 2
    assert esme.frames[0].pdu == esme.frames[1].pdu


async def test_a_client_that_does_not_read_is_not_read(pair):
    """Answers to it pile up in no memory: after the socket is full the carrier stops reading."""
    smsc, esme = await pair(Script(play=Play(id_form="long", receipts=())))
    connection = smsc.connections[1]
    for transport, buffer in ((esme.transport, socket.SO_RCVBUF), (connection._transport, socket.SO_SNDBUF)):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 16_384)
    esme.transport.pause_reading()
    for n in range(5_000):
        esme.submit(key=n, text=b"")
    await smsc.until(lambda: not connection._transport.is_reading())
    esme.transport.resume_reading()
    await esme.answered(5_000)
    assert {answer.status for answer in esme.answers} == {Status.ROK}


def commands(smsc):
    return [line.command for line in smsc.journal.lines if line.octets]
