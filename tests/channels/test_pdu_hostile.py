"""Octets nobody should send (invariants M14): only the declared error, flat memory, a sane session.

20,000 mutations in the normal run, 1,000,000 with SPEEDSMS_FAULTS=full. Seeded: a failure comes again.
"""

import os
import tracemalloc
from random import Random

import pytest
from pdus import CONVERSATION

from speedsms.gateway.channels.smpp.pdu import (
    LONGEST_PDU,
    RESPONSE,
    TLV,
    BadPdu,
    Bind,
    BindResp,
    Command,
    Splitter,
    Status,
    decode,
    encode,
    encode_bare,
)
from speedsms.gateway.channels.smpp.session import Bound, Close, Role, Session
from speedsms.gateway.channels.smpp.words import explain_octets

MUTATIONS = 1_000_000 if os.environ.get("SPEEDSMS_FAULTS") == "full" else 20_000
MEMORY = 10 * 2**20  # §3.17: at most 10 MB more
SEEDS = [encode(pdu, number) for number, pdu in enumerate(CONVERSATION, 1)]
SEEDS += [encode_bare(command, 99) for command in Command]


def overwritten(random, octets):
    octets = bytearray(octets)
    for _ in range(random.randint(1, 8)):
        octets[random.randrange(len(octets))] = random.choice(
            (0, 1, 127, 128, 254, 255, random.randrange(256))
        )
    return bytes(octets)


def truncated(random, octets):
    return octets[: random.randrange(len(octets) + 1)]


def spliced(random, octets):
    other = random.choice(SEEDS)
    return octets[: random.randrange(len(octets) + 1)] + other[random.randrange(len(other)) :]


def without_nul(random, octets):
    return octets[:16] + octets[16:].replace(b"\0", random.randbytes(1))


def overrunning(random, octets):
    return (
        octets
        + TLV.pack(random.choice((0x0424, 0x1E, 0xFFFF)), random.randrange(65_536))
        + random.randbytes(9)
    )


def oversized(random, octets):
    return octets + random.randbytes(random.randrange(2_000))


def garbage(random, octets):
    return random.randbytes(len(octets))


MUTATE = (overwritten, truncated, spliced, without_nul, overrunning, oversized, garbage)


def mutation(random):
    """Octets, mostly with the length they have, so that what is behind the header is reached too."""
    octets = random.choice(MUTATE)(random, random.choice(SEEDS))
    return len(octets).to_bytes(4) + octets[4:] if random.random() < 0.8 else octets


def judged(octets):
    """What decode says of some octets: a frame that can be told again, or the declared error."""
    try:
        frame = decode(octets)
    except BadPdu as bad:
        return bad.status in {Status.RINVCMDLEN, Status.RINVCMDID, Status.RINVOPTPARSTREAM}
    if frame.pdu is not None and not frame.flags:
        return encode(frame.pdu, frame.sequence, frame.status) == octets
    return True


def bound():
    session = Session(Role.ESME)
    session.bind(Bind("transceiver", "me", "secret"), 0)
    assert isinstance(session.receive(encode(BindResp("transceiver"), 1), 0)[0], Bound)
    session.take()
    return session


@pytest.mark.timeout(900)
def test_only_the_declared_error():
    """SM-8: what is read without a flag is canonical, the rest is flagged or BadPdu; memory stays flat."""
    random = Random(20261122)
    tracemalloc.start()
    try:
        for _ in range(MUTATIONS):
            octets = mutation(random)
            assert judged(octets), octets.hex()
            assert explain_octets(octets)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("role", Role)
def test_a_session_lives_through_a_stream_of_them(role):
    """Each stream ends by a Close or goes on; a fresh session serves the next; answers are whole PDUs."""
    random, session, closed = Random(7), Session(role), 0
    for number in range(MUTATIONS // 10):
        events = session.receive(mutation(random), float(number))
        assert all(decode(answer) for answer in Splitter().feed(session.take()))
        if events and isinstance(events[-1], Close):
            closed += 1
            session = bound() if role is Role.ESME else Session(role)
    assert closed


def test_memory_of_a_stream_is_bounded():
    """A peer that promises the longest PDU and drips it costs that PDU's size, not more."""
    octets = LONGEST_PDU.to_bytes(4) + encode_bare(Command.DELIVER_SM, 1)[4:] + bytes(LONGEST_PDU - 17)
    session = bound()
    tracemalloc.start()
    try:
        for at in range(0, len(octets), 7):
            assert session.receive(octets[at : at + 7], 1) == []
        assert tracemalloc.get_traced_memory()[1] < 4 * LONGEST_PDU
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("command", [c for c in Command if not c & RESPONSE], ids=lambda c: c.name)
@pytest.mark.parametrize(
    "body", [b"x", b"\xff" * 400, b"\0" * 400, b"x" * 60_000], ids=["x", "ff", "nul", "long"]
)
def test_each_request_with_a_senseless_body(command, body):
    """SM-3, SM-4: answered with the same sequence or asked, and a good PDU behind it is served."""
    session = bound()
    octets = (16 + len(body)).to_bytes(4) + encode_bare(command, 77)[4:] + body
    session.receive(octets + encode_bare(Command.ENQUIRE_LINK, 78), 1)
    answers = [decode(answer) for answer in Splitter().feed(session.take())]
    assert {answer.sequence for answer in answers} <= {77, 78}
    assert answers[-1].sequence == 78 or command == Command.UNBIND
