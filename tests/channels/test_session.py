"""One SMPP connection as a state machine, without sockets and clocks (channels §3.4)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdus import CONVERSATION, PHONE, SHOP

from speedsms.gateway.channels.smpp import session as session_module
from speedsms.gateway.channels.smpp.pdu import (
    RESPONSE,
    Bind,
    BindResp,
    Command,
    DataSm,
    DeliverSm,
    DeliverSmResp,
    Splitter,
    Status,
    SubmitSm,
    SubmitSmResp,
    command_name,
    decode,
    encode,
    encode_bare,
)
from speedsms.gateway.channels.smpp.session import (
    Answered,
    Asked,
    BindRefused,
    Bound,
    Close,
    Leaving,
    Oddity,
    Phase,
    Role,
    Session,
    Timers,
    Unanswered,
)

SMS = SubmitSm("", SHOP, PHONE, short_message=b"Hi")
REPLY = DeliverSm("", PHONE, SHOP, short_message=b"Hi")


def pair(mode="transceiver", timers=None):
    """An ESME and an SMSC, bound to each other at second 0."""
    esme, smsc = Session(Role.ESME, timers), Session(Role.SMSC, timers)
    esme.bind(Bind(mode, "me", "secret"), 0)
    (asked,) = smsc.receive(esme.take(), 0)
    smsc.answer(asked.sequence, BindResp(mode, "carrier"), asked.frame.command | RESPONSE)
    assert esme.receive(smsc.take(), 0) == [Bound(BindResp(mode, "carrier"))]
    assert (esme.phase, esme.mode, smsc.phase, smsc.mode) == (Phase.BOUND, mode, Phase.BOUND, mode)
    return esme, smsc


def frames(octets):
    return [decode(pdu) for pdu in Splitter().feed(octets)]


def heads(octets):
    """What a session writes, as (command, status, sequence)."""
    return [(frame.command, frame.status, frame.sequence) for frame in frames(octets)]


def test_messages_go_both_ways():
    """A submit_sm and a deliver_sm are asked and answered, each by its own sequence."""
    esme, smsc = pair()
    sequence = esme.request(SMS, "part 1", 1)
    (asked,) = smsc.receive(esme.take(), 1)
    assert (asked.sequence, asked.frame.pdu, esme.open) == (sequence, SMS, 1)
    smsc.answer(sequence, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    (answered,) = esme.receive(smsc.take(), 1)
    assert (answered.key, answered.status, answered.frame.pdu, answered.late) == (
        "part 1", 0, SubmitSmResp("7"), False,
    )  # fmt: skip
    smsc.request(REPLY, "receipt", 2)
    (asked,) = esme.receive(smsc.take(), 2)
    esme.answer(asked.sequence, DeliverSmResp(), Command.DELIVER_SM_RESP)
    (answered,) = smsc.receive(esme.take(), 2)
    assert (answered.key, answered.status, smsc.open, esme.open) == ("receipt", 0, 0, 0)


def test_errors_come_without_a_body():
    """A refused part is answered by a header alone."""
    esme, smsc = pair()
    smsc.receive(esme.take() + encode(SMS, 9), 1)
    esme._sequence = 8
    esme.request(SMS, "a", 1)
    smsc.answer(9, None, Command.SUBMIT_SM_RESP, Status.RTHROTTLED)
    (answered,) = esme.receive(smsc.take(), 1)
    assert (answered.key, answered.status, answered.frame.pdu) == ("a", Status.RTHROTTLED, None)


@pytest.mark.parametrize("status", [Status.RINVPASWD, Status.RALYBND, 0x403])
def test_refused_binds(status):
    """The status reaches the owner, and the connection may try another bind."""
    esme, smsc = Session(Role.ESME), Session(Role.SMSC)
    for mode in ("transceiver", "transmitter"):
        esme.bind(Bind(mode, "me", "secret"), 0)
        (asked,) = smsc.receive(esme.take(), 0)
        smsc.answer(asked.sequence, None, asked.frame.command | RESPONSE, status)
        assert esme.receive(smsc.take(), 0) == [BindRefused(status)]
        assert (esme.phase, esme.mode, smsc.phase, smsc.mode) == (Phase.OPEN, "", Phase.OPEN, "")


def test_a_bind_refused_by_generic_nack():
    """A carrier that does not know bind_transceiver says so with 0x03; even status 0 is no success."""
    for status, told in ((Status.RINVCMDID, Status.RINVCMDID), (0, Status.RUNKNOWNERR)):
        esme = Session(Role.ESME)
        esme.bind(Bind("transceiver", "me", "secret"), 0)
        assert esme.receive(encode_bare(Command.GENERIC_NACK, 1, status), 0) == [BindRefused(told)]


def test_pdus_behind_the_bind_response():
    """SM-2: what a carrier sends in one packet with its bind_resp is not lost, nor what it sends before."""
    esme = Session(Role.ESME)
    esme.bind(Bind("transceiver", "me", "secret"), 0)
    early, resp, late = encode(REPLY, 1), encode(BindResp("transceiver"), 1), encode(REPLY, 2)
    events = esme.receive(early + resp + late, 0)
    assert [type(event) for event in events] == [Asked, Bound, Asked]


@pytest.mark.parametrize("mode", ["transmitter", "receiver", "transceiver"])
def test_what_a_bind_allows(mode):
    """A transmitter is asked nothing and gets 0x04 (§3.4); a receiver may ask nothing."""
    esme, smsc = pair(mode)
    for asking, asked, pdus, forbidden in (
        (esme, smsc, [SMS, DataSm()], "receiver"),
        (smsc, esme, [REPLY, DataSm()], "transmitter"),
    ):
        for pdu in pdus:
            events = asked.receive(encode(pdu, 5), 0)
            if mode == forbidden:
                assert events == []
                assert heads(asked.take()) == [(pdu.command | RESPONSE, Status.RINVBNDSTS, 5)]
                with pytest.raises(ValueError, match=f"as {mode}"):
                    asking.request(pdu, "x", 0)
            else:
                assert [type(event) for event in events] == [Asked]
                asking.request(pdu, "x", 0)
                asking.take()


def test_wishes_out_of_place():
    """Nothing is asked before the bind, after the unbind, twice, or by the wrong side."""
    esme, smsc = Session(Role.ESME), Session(Role.SMSC)
    for wish in (
        lambda: esme.request(SMS, 1, 0),
        lambda: smsc.bind(Bind("receiver", "", ""), 0),
        lambda: esme.unbind(0),
    ):
        with pytest.raises(ValueError, match="while open"):
            wish()
    esme, smsc = pair()
    with pytest.raises(ValueError, match="while bound"):
        esme.bind(Bind("receiver", "", ""), 0)
    for asking, pdu in ((esme, REPLY), (smsc, SMS), (esme, BindResp("receiver"))):
        with pytest.raises(ValueError, match="while bound"):
            asking.request(pdu, 1, 0)
    esme.unbind(0)
    with pytest.raises(ValueError, match="while unbinding"):
        esme.request(SMS, 1, 0)


def test_a_pdu_beyond_the_limits_uses_nothing_up():
    """What cannot be written leaves no open request behind."""
    esme, _ = pair()
    with pytest.raises(ValueError, match="short_message"):
        esme.request(SubmitSm(short_message=bytes(255)), 1, 0)
    assert (esme.open, esme.take()) == (0, b"")


def test_enquire_link_in_every_phase():
    """Answered at once, ahead of what is queued."""
    for role in Role:
        session = Session(role)
        session.receive(encode_bare(Command.ENQUIRE_LINK, 5), 0)
        assert heads(session.take()) == [(Command.ENQUIRE_LINK_RESP, 0, 5)]
    esme, _ = pair()
    esme.request(SMS, 1, 0)
    esme.receive(encode_bare(Command.ENQUIRE_LINK, 6), 0)
    assert [head[0] for head in heads(esme.take())] == [Command.ENQUIRE_LINK_RESP, Command.SUBMIT_SM]
    esme.unbind(0)
    esme.receive(encode_bare(Command.ENQUIRE_LINK, 7), 0)
    assert [head[0] for head in heads(esme.take())] == [Command.ENQUIRE_LINK_RESP, Command.UNBIND]


def test_a_flood_of_enquire_link():
    """M15: each is answered; a peer that asks and does not read is left before it fills the memory."""
    esme, _ = pair()
    flood = b"".join(encode_bare(Command.ENQUIRE_LINK, number) for number in range(1, 1001))
    assert esme.receive(flood, 0) == []
    assert [head[2] for head in heads(esme.take())] == list(range(1, 1001))
    events = [event for _ in range(70) for event in esme.receive(flood, 0)]
    assert events == [Close("the peer does not read")]
    assert esme.take() == b""


def test_silence():
    """M2: a probe after 30 s, the end 10 s later; any PDU between starts again."""
    esme, _ = pair()
    assert esme.deadline == 30
    assert esme.tick(29.9) == []
    assert esme.take() == b""
    assert esme.tick(30) == []
    ((command, _, sequence),) = heads(esme.take())
    assert command == Command.ENQUIRE_LINK
    assert esme.deadline == 40
    assert esme.receive(encode_bare(Command.ENQUIRE_LINK, 1), 35) == []
    esme.take()
    assert esme.receive(encode_bare(Command.ENQUIRE_LINK_RESP, sequence), 36) == []
    assert esme.receive(encode_bare(Command.ENQUIRE_LINK_RESP, sequence), 36) == [Oddity("unknown_sequence")]
    assert esme.deadline == 66
    esme.tick(66)
    assert esme.tick(75.9) == []
    assert esme.tick(76) == [Close("silence")]
    assert esme.deadline is None


def test_octets_that_never_become_a_pdu_are_silence():
    """A peer that drips one octet a second is found like one that sends nothing."""
    esme, _ = pair()
    drip = b"\0\0\4\0"
    for second in range(1, 5):
        assert esme.receive(drip[second - 1 : second], second) == []
    esme.tick(30)
    assert esme.tick(40) == [Close("silence")]


def test_one_time_out_is_survived():
    """The part is unanswered, the peer is probed, and a late answer still says what became of the part."""
    esme, smsc = pair()
    sequence = esme.request(SMS, "slow", 1)
    smsc.receive(esme.take(), 1)
    esme.receive(encode_bare(Command.ENQUIRE_LINK, 1), 50)
    esme.take()
    assert esme.deadline == 61
    assert esme.tick(61) == [Unanswered("slow", "timeout")]
    assert esme.open == 0
    assert heads(esme.take())[0][0] == Command.ENQUIRE_LINK
    smsc.answer(sequence, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    late = smsc.take()
    (answered,) = esme.receive(late, 62)
    assert (answered.key, answered.late, answered.frame.pdu.message_id) == ("slow", True, "7")
    assert esme.receive(late, 63) == [Oddity("unknown_sequence")]


def test_the_second_time_out_in_a_row_ends_it():
    """M8: no answer to two parts: closed, and what else waits is lost. An answer between starts anew."""
    esme, smsc = pair()
    esme.request(SMS, "a", 0)
    second = esme.request(SMS, "b", 20)
    smsc.receive(esme.take(), 20)
    esme.receive(encode_bare(Command.ENQUIRE_LINK, 1), 59)
    assert esme.tick(60) == [Unanswered("a", "timeout")]
    smsc.answer(second, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    esme.receive(smsc.take(), 61)
    for key in "cde":
        esme.request(SMS, key, 61)
    esme.receive(encode_bare(Command.ENQUIRE_LINK, 1), 120)
    assert esme.tick(121) == [Unanswered("c", "timeout"), Unanswered("d", "timeout"), Close("no answer")]
    assert esme.lost() == [Unanswered("e", "lost")]
    assert esme.lost() == []


def test_a_deadline_may_be_early_but_is_never_forgotten():
    """When the oldest part has been answered, its deadline finds nothing to do and sets the next one's."""
    esme, smsc = pair()
    first = esme.request(SMS, "a", 0)
    esme.request(SMS, "b", 5)
    smsc.receive(esme.take(), 5)
    smsc.answer(first, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    esme.receive(smsc.take(), 59)
    assert esme.deadline == 60
    assert esme.tick(60) == []
    assert esme.deadline == 65
    assert esme.tick(65) == [Unanswered("b", "timeout")]


def test_the_memory_of_late_answers_is_bounded(monkeypatch):
    """The oldest is forgotten first, and its answer is then an unknown one."""
    monkeypatch.setattr(session_module, "LATE_ANSWERS", 2)
    esme, smsc = pair()
    sequences = []
    for number in range(3):
        now = 100.0 * number
        sequences.append(esme.request(SMS, number, now))
        between = esme.request(SMS, "good", now + 1)
        smsc.receive(esme.take(), now)
        smsc.answer(between, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
        esme.receive(encode_bare(Command.ENQUIRE_LINK, 1), now + 59)
        assert esme.tick(now + 60) == [Unanswered(number, "timeout")]
        esme.receive(smsc.take(), now + 61)
    for sequence in sequences:
        smsc.answer(sequence, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    events = esme.receive(smsc.take(), 301)
    assert events[0] == Oddity("unknown_sequence")
    assert [event.key for event in events[1:]] == [1, 2]


def test_strange_answers():
    """M9, SM-7: shuffled, doubled, unknown, zero, of another command: matched, or ignored and counted."""
    esme, _ = pair()
    sequences = {esme.request(SMS, key, 1): key for key in "abc"}
    esme.take()
    backwards = b"".join(encode(SubmitSmResp(key), n) for n, key in reversed(sequences.items()))
    events = esme.receive(backwards + backwards, 2)
    assert [(event.key, event.frame.pdu.message_id) for event in events[:3]] == [(k, k) for k in "cba"]
    assert events[3:] == [Oddity("unknown_sequence")] * 3
    waiting = esme.request(SMS, "d", 3)
    for octets in (
        encode(SubmitSmResp("x"), 0),
        encode(SubmitSmResp("x"), waiting + 1),
        encode(DeliverSmResp(), waiting),
        encode(BindResp("transceiver"), waiting),
        encode_bare(Command.ENQUIRE_LINK_RESP, waiting),
        encode_bare(Command.UNBIND_RESP, waiting),
        encode_bare(Command.GENERIC_NACK, waiting + 1, Status.RSYSERR),
    ):
        assert [type(event) for event in esme.receive(octets, 4)] == [Oddity]
    assert esme.open == 1
    (answered,) = esme.receive(encode_bare(Command.SUBMIT_SM_RESP, waiting), 5)
    assert (answered.key, answered.status, answered.frame.pdu) == ("d", 0, None)


def test_generic_nacks():
    """SM-7: one with our sequence answers that request, never with success; with 0 the stream is lost."""
    esme, _ = pair()
    for status, told in ((Status.RINVCMDLEN, Status.RINVCMDLEN), (0, Status.RUNKNOWNERR)):
        sequence = esme.request(SMS, "a", 1)
        (answered,) = esme.receive(encode_bare(Command.GENERIC_NACK, sequence, status), 1)
        assert (answered.key, answered.status) == ("a", told)
    lost = encode_bare(Command.GENERIC_NACK, 0, Status.RINVCMDLEN)
    assert esme.receive(lost + encode(REPLY, 1), 2) == [Close("generic_nack")]


def test_peers_that_nack_our_probe_or_unbind():
    """One that does not know enquire_link is alive all the same; one that does not know unbind is left."""
    esme, _ = pair()
    esme.tick(30)
    ((_, _, probe),) = heads(esme.take())
    assert esme.receive(encode_bare(Command.GENERIC_NACK, probe, Status.RINVCMDID), 31) == []
    esme.unbind(32)
    ((_, _, last),) = heads(esme.take())
    assert esme.receive(encode_bare(Command.GENERIC_NACK, last, Status.RINVCMDID), 33) == [Close("unbound")]


def test_sequences_wrap():
    """M16: after 0x7FFFFFFF comes 1, and every answer still finds its part."""
    esme, smsc = pair()
    esme._sequence = 0x7FFFFFFF - 50
    sequences = [esme.request(SMS, key, 1) for key in range(100)]
    assert sequences == [*range(0x7FFFFFFF - 49, 0x80000000), *range(1, 51)]
    for event in smsc.receive(esme.take(), 1):
        smsc.answer(event.sequence, SubmitSmResp(str(event.sequence)), Command.SUBMIT_SM_RESP)
    answers = esme.receive(smsc.take(), 2)
    assert [event.key for event in answers] == list(range(100))
    assert [int(event.frame.pdu.message_id) for event in answers] == sequences


def test_our_unbind():
    """unbind, unbind_resp, close; a deliver_sm between is still asked, no answer ends it after 5 s."""
    esme, smsc = pair()
    esme.request(SMS, "open", 1)
    esme.unbind(1)
    (asked, leaving) = smsc.receive(esme.take(), 1)
    assert isinstance(asked, Asked)
    assert leaving == Leaving()
    assert [type(event) for event in esme.receive(encode(REPLY, 3), 1)] == [Asked]
    smsc.answer(asked.sequence, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    smsc.leave(2)
    answered, close = esme.receive(smsc.take(), 2)
    assert (answered.key, close, esme.phase, smsc.phase) == (
        "open",
        Close("unbound"),
        Phase.CLOSED,
        Phase.CLOSED,
    )
    esme, _ = pair()
    esme.unbind(1)
    esme.leave(1)  # means the peer's unbind, and there was none
    assert esme.deadline == 6
    assert esme.tick(6) == [Close("no unbind_resp")]


def test_the_peers_unbind():
    """Leaving is told once; nothing more is asked; the owner leaves when its answers are there."""
    esme, smsc = pair()
    sequence = esme.request(SMS, "open", 1)
    smsc.receive(esme.take(), 1)
    smsc.unbind(1)
    assert esme.receive(smsc.take(), 1) == [Leaving()]
    with pytest.raises(ValueError, match="while unbinding"):
        esme.request(SMS, "late", 1)
    smsc.answer(sequence, SubmitSmResp("7"), Command.SUBMIT_SM_RESP)
    assert [type(event) for event in esme.receive(smsc.take(), 1)] == [Answered]
    esme.leave(2)
    assert smsc.receive(esme.take(), 2) == [Close("unbound")]
    esme.leave(3)
    assert esme.take() == b""


def test_unbinds_that_cross():
    """Both sides leave at once: each answers and closes."""
    esme, smsc = pair()
    esme.unbind(1)
    smsc.unbind(1)
    ours, theirs = esme.take(), smsc.take()
    assert esme.receive(theirs, 1) == smsc.receive(ours, 1) == [Close("unbound")]
    assert heads(esme.take())[0][0] == heads(smsc.take())[0][0] == Command.UNBIND_RESP


def test_bind_timers():
    """No bind_resp, or no bind, within bind_s: closed. An SMSC's clock starts with its first tick."""
    esme = Session(Role.ESME, Timers(bind_s=3))
    assert esme.deadline is None
    esme.bind(Bind("receiver", "", ""), 100)
    assert esme.deadline == 103
    assert esme.tick(103) == [Close("no bind_resp")]
    smsc = Session(Role.SMSC, Timers(bind_s=3))
    assert smsc.deadline == 0
    assert smsc.tick(100) == []
    assert smsc.deadline == 103
    assert smsc.tick(103) == [Close("no bind")]


def test_a_slow_carrier_may_think_about_a_bind():
    """While the SMSC's owner decides nothing is due, and a second bind is already bound."""
    smsc = Session(Role.SMSC)
    smsc.receive(encode(Bind("receiver", "", ""), 1), 0)
    assert smsc.deadline is None
    assert smsc.receive(encode(Bind("receiver", "", ""), 2), 1) == []
    assert heads(smsc.take()) == [(Command.BIND_RECEIVER_RESP, Status.RALYBND, 2)]


def test_bad_lengths_close():
    """SM-1: what came before is served, generic_nack 0x02 is left behind, what comes after is not read."""
    esme, _ = pair()
    events = esme.receive(encode(REPLY, 1) + b"\x7f\xff\xff\xff" + encode(REPLY, 2), 1)
    assert [type(event) for event in events] == [Asked, Close]
    assert heads(esme.take()) == [(Command.GENERIC_NACK, Status.RINVCMDLEN, 0)]
    assert esme.receive(encode(REPLY, 3), 2) == []


def test_bad_pdus_keep_the_link():
    """SM-3: unknown commands and malformed requests are answered, malformed responses counted."""
    esme, _ = pair()
    sequence = esme.request(SMS, "a", 1)
    esme.take()
    cut = (20).to_bytes(4)
    for octets, odd, reply in (
        (encode_bare(0x111, 4), "unknown_command", [(Command.GENERIC_NACK, Status.RINVCMDID, 4)]),
        (encode_bare(0x80000111, 4), "unknown_command", []),
        (cut + encode(REPLY, 5)[4:20], "malformed", [(Command.DELIVER_SM_RESP, Status.RINVCMDLEN, 5)]),
        (encode_bare(Command.ALERT_NOTIFICATION, 6), "malformed", []),
        (cut + encode_bare(Command.QUERY_SM_RESP, sequence)[4:] + b"1234", "malformed", []),
        (encode(SMS, 8), "foreign_command", [(Command.GENERIC_NACK, Status.RINVCMDID, 8)]),
    ):
        assert esme.receive(octets, 2) == [Oddity(odd)]
        assert heads(esme.take()) == reply
    assert (esme.phase, esme.open) == (Phase.BOUND, 1)


def test_flagged_pdus_are_counted():
    """SM-4: what is against the standard and still readable is served and counted."""
    esme, _ = pair()
    esme.request(SMS, "a", 1)
    octets = encode(SubmitSmResp("7"), 2)
    assert [type(event) for event in esme.receive(b"\0\0\0\x11" + octets[4:-1], 1)] == [Oddity, Answered]


def test_after_the_end():
    """A commit that ends later may still want to answer: nothing happens."""
    esme, _ = pair()
    esme.request(SMS, "a", 1)
    assert esme.lost() == [Unanswered("a", "lost")]
    esme.answer(1, DeliverSmResp(), Command.DELIVER_SM_RESP)
    assert (esme.take(), esme.tick(99), esme.receive(encode(REPLY, 1), 99), esme.deadline) == (
        b"",
        [],
        [],
        None,
    )


# The total table (house.md 2.3): what a command with an unknown sequence does, by role and phase.
LIVE = (Phase.OPEN, Phase.BINDING, Phase.BOUND, Phase.UNBINDING)
REQUESTS = ("submit_sm", "query_sm", "cancel_sm", "replace_sm")
BINDS = ("bind_receiver", "bind_transmitter", "bind_transceiver")
EXPECTED = {
    # what the peer sends: an ESME's answers while open, binding, bound, unbinding, then an SMSC's
    "enquire_link": ["echo"] * 8,
    "unbind": ["bye", "bye", "Leaving", "bye"] * 2,
    "deliver_sm": ["0x4", "Asked", "Asked", "Asked", *["nack"] * 4],
    "data_sm": ["0x4", "Asked", "Asked", "Asked", "0x4", "0x4", "Asked", "0x4"],
    **{name: [*["nack"] * 4, "0x4", "0x4", "Asked", "0x4"] for name in REQUESTS},
    **{name: [*["nack"] * 4, "Asked", "0x5", "0x5", "0x4"] for name in BINDS},
}
SAMPLES = {pdu.command: pdu for pdu in CONVERSATION}


def octets_of(command, number):
    return encode(SAMPLES[command], number) if command in SAMPLES else encode_bare(command, number)


def at(role, phase):
    """A session in that phase."""
    session = pair()[list(Role).index(role)]
    if phase in {Phase.OPEN, Phase.BINDING}:
        session = Session(role)
    if phase is Phase.BINDING and role is Role.ESME:
        session.bind(Bind("transceiver", "", ""), 0)
    if phase is Phase.BINDING and role is Role.SMSC:
        session.receive(encode(Bind("transceiver", "", ""), 1), 0)
    if phase is Phase.UNBINDING:
        session.unbind(0)
    if phase is Phase.CLOSED:
        session.lost()
    session.take()
    assert session.phase is phase
    return session


def told(session, octets):
    """What a session says to some octets, in one word."""
    events = [type(event).__name__ for event in session.receive(octets, 0)]
    for command, status, sequence in heads(session.take()):
        assert sequence == 77
        if command == Command.GENERIC_NACK:
            assert events == ["Oddity"]
            return "nack"
        if command == Command.ENQUIRE_LINK_RESP:
            return "echo"
        if command == Command.UNBIND_RESP:
            assert events == ["Close"]
            return "bye"
        return hex(status)
    return " ".join(events)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("command", Command, ids=command_name)
def test_every_command_in_every_phase(role, command):
    """Each has an answer; strange responses and announcements are counted; closed, nothing is read."""
    found = [told(at(role, phase), octets_of(command, 77)) for phase in LIVE]
    expected = EXPECTED.get(command_name(command), ["Oddity"] * 8)
    assert found == (expected[:4] if role is Role.ESME else expected[4:])
    assert told(at(role, Phase.CLOSED), octets_of(command, 77)) == ""


STEPS = st.one_of(
    st.tuples(st.just("request"), st.integers(0, 3)),
    st.tuples(st.just("tick"), st.integers(0, 70)),
    st.tuples(st.just("receive"), st.sampled_from(Command), st.integers(0, 12)),
)


@settings(deadline=None)
@given(st.sampled_from(Role), st.lists(STEPS, max_size=60))
def test_every_request_ends_once(role, steps):
    """Whatever a peer sends, and when: each key is answered or unanswered once, late answers aside."""
    session, ended, keys, now = at(role, Phase.BOUND), [], 0, 0.0
    session._sequence = 0
    for step, *values in steps:
        events = []
        if step == "request" and session.phase is Phase.BOUND:
            for _ in range(values[0]):
                session.request(SMS if role is Role.ESME else REPLY, keys, now)
                keys += 1
        elif step == "tick":
            now += values[0]
            events = session.tick(now)
        elif step == "receive":
            events = session.receive(octets_of(*values), now)
        session.take()
        ended += [
            e.key for e in events if isinstance(e, Unanswered) or (isinstance(e, Answered) and not e.late)
        ]
    ended += [event.key for event in session.lost()]
    assert sorted(ended) == list(range(keys))
