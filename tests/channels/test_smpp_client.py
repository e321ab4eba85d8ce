"""The channel kind `smpp`: outcomes, long messages, throttles, time-outs, inbound (channels §1.9, §3)."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from carrier import answered, client, exchange, outgoing, submitted, until

from speedsms.contract.senders import Lane
from speedsms.gateway.channels.base import Accepted, Reason, Refused, Unknown
from speedsms.gateway.channels.smpp.pdu import Address, Command, DataSm, DeliverSm, Status
from speedsms.gateway.channels.smpp.smsc import Deliver, Limits, Play, Receipt, Rule, Script, Speech

pytestmark = pytest.mark.anyio

TAKES = Script(play=Play(receipts=()), magic=False)
MUTE = Script(play=Play(answers=(), receipts=()), magic=False)
LONG = ("a" * 153, "b" * 153, "c")


def only(**rule):
    """A carrier that takes everything but what the rule is about."""
    return Script(play=Play(receipts=()), rules=(Rule(receipts=(), **rule),), magic=False)


# ------------------------------------------------------------------------------------------------ outcomes


async def test_accepted_with_reference_and_key():
    """The reference is what the carrier wrote, the key what its receipts are found by (§3.11)."""
    async with exchange(Script(play=Play(id_form="PADDED_HEX", receipts=()))) as (_, channel, _):
        outcome = await channel.submit(outgoing())
        (reference,), (key,) = outcome.references, outcome.keys
        assert reference.startswith("0")
        assert key == reference.lower().lstrip("0")
        assert channel.counts["accepted"] == 1


async def test_accepted_without_a_reference():
    """SM-6: a response without message_id is an acceptance, and counted."""
    async with exchange(only(id_form="none")) as (_, channel, _):
        assert await channel.submit(outgoing()) == Accepted(("",), ("",))
        assert channel.counts["accepted_without_id"] == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0x01, Reason.TOO_LONG),
        (0x08, Reason.PEER_ERROR),
        (0x0A, Reason.SENDER_REFUSED),
        (0x0B, Reason.NUMBER_REFUSED),
        (0x14, Reason.QUEUE_FULL),
        (0x58, Reason.THROTTLED),
        (0x65, Reason.CONTENT_REFUSED),
        (0x104, Reason.UNSUPPORTED),
        (0x61, Reason.FAILED),
        (0x412, Reason.NO_BALANCE),
        (0x4AB, Reason.PEER_ERROR),
    ],
)
async def test_refused_by_status(status, reason):
    """A command_status becomes its reason; the operator's map goes first (§3.10)."""
    settings = {"status_map": {"0x412": "no_balance"}}
    async with exchange(only(status=status), **settings) as (_, channel, _):
        outcome = await channel.submit(outgoing())
        assert (outcome.reason, outcome.done) == (reason, frozenset())
        assert channel.counts[f"status.0x{status:08x}"] == 1
        assert channel.health().state == "up"  # nothing about a message takes a channel down


async def test_what_cannot_go_is_refused_before_it_is_sent():
    """A sender or a length that this channel has not is refused without a word to the carrier."""
    async with exchange(TAKES, concat="none") as (smsc, channel, _):
        assert (await channel.submit(outgoing(1, *LONG))).reason is Reason.UNSUPPORTED
        assert (await channel.submit(outgoing(2, sender="Twelve chars"))).reason is Reason.SENDER_REFUSED
        assert (await channel.submit(outgoing(3, "\x1b"))).reason is Reason.UNSUPPORTED
        assert (await channel.submit(outgoing(4, to="84" * 11))).reason is Reason.UNSUPPORTED
        assert submitted(smsc) == []


async def test_no_link():
    """Without a bound link nothing left, with certainty; capacity says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: it refuses
        async with client(taken.getsockname()[1], state="down") as channel:
            assert (await channel.submit(outgoing())).reason is Reason.NOT_WRITTEN
            assert channel.capacity(asyncio.get_running_loop().time()).free == 0
            assert channel.health().cause.startswith("connect")


async def test_expired_while_it_waited():
    """CH-7: what expires behind a full window is not handed over."""
    async with exchange(MUTE, window=1, submit_timeout_s=0.3) as (smsc, channel, _):
        first = channel.submit(outgoing(1))
        second = channel.submit(outgoing(2, expires_at=datetime.now(UTC) + timedelta(seconds=0.1)))
        assert isinstance(await first, Unknown)
        assert (await second).reason is Reason.EXPIRED
        assert len(submitted(smsc)) == 1


# ------------------------------------------------------------------------------------------ long messages


async def test_parts_in_order_on_one_link():
    """CH-8: one link, in order, one reference; each part but the last is settled at once (CH-4)."""
    async with exchange(TAKES, binds=3) as (smsc, channel, sink):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n, *LONG)) for n in range(6)))
        seen = {}
        for _, connection, pdu in submitted(smsc):
            seen.setdefault(pdu.destination.digits, []).append((connection, pdu.short_message[:6]))
        assert len(seen) == 6
        assert len({parts[0][0] for parts in seen.values()}) == 3
        for parts in seen.values():
            assert [header for _, header in parts] == [bytes([5, 0, 3, 77, 3, n]) for n in (1, 2, 3)]
            assert len({connection for connection, _ in parts}) == 1
        assert all(len(set(outcome.references)) == 3 for outcome in outcomes)
        assert [settled[2] for settled in sink.settled if settled[0] == 4] == [1, 2]


@pytest.mark.parametrize(("status", "reason"), [(0x0A, Reason.SENDER_REFUSED), (0x58, Reason.THROTTLED)])
async def test_second_part_refused(status, reason):
    """The rest is not sent, and `done` names what the carrier has; the next attempt sends the others."""
    rules = (Rule(next=1, receipts=()), Rule(next=1, status=status, receipts=()))
    script = Script(play=Play(receipts=()), rules=rules, magic=False)
    async with exchange(script, window=1) as (smsc, channel, _):
        outcome = await channel.submit(outgoing(1, *LONG))
        assert (outcome.reason, outcome.done) == (reason, {1})
        again = await channel.submit(outgoing(1, *LONG, attempt=2, done=outcome.done))
        assert [reference != "" for reference in again.references] == [False, True, True]
        sent = [pdu.short_message[5] for _, _, pdu in submitted(smsc)]
        assert sent == [1, 2, 2, 3]
        assert {pdu.short_message[3] for _, _, pdu in submitted(smsc)} == {77}


async def test_second_part_unanswered():
    """One part without an answer makes the message unknown; those taken are settled; a late answer too."""
    script = only(number="84900000001", next=1, delay_s=2.0)
    async with exchange(script, submit_timeout_s=1.0) as (_, channel, sink):
        outcome = await channel.submit(outgoing(1, *LONG))
        assert outcome == Unknown("timeout")
        assert {(part, type(end)) for _, _, part, end in sink.settled} == {(2, Accepted), (3, Accepted)}
        await until(lambda: len(sink.settled) == 3)
        assert sink.settled[-1][:3] == (1, 1, 0)  # the whole


async def test_all_done_before():
    """A message all of whose parts an earlier attempt brought there is accepted without a part."""
    async with exchange(TAKES) as (smsc, channel, _):
        assert await channel.submit(outgoing(1, *LONG, done=frozenset({1, 2, 3}))) == Accepted()
        assert submitted(smsc) == []


# ------------------------------------------------------------------------------- window, rate, throttles


async def test_the_window_is_never_exceeded():
    """M7: with answers as slow as they like, the carrier never holds more than the window unanswered."""
    script = Script(play=Play(delay_s=(0.0, 0.03), receipts=()), limits=Limits(window=5), magic=False)
    async with exchange(script, window=5) as (smsc, channel, _):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(200)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert smsc.messages.statuses["ROK"] == 200


async def test_capacity_counts_window_and_pace():
    """Free slots of the window, and of the pace a tenth of a second ahead."""
    now = asyncio.get_running_loop().time()
    async with exchange(MUTE, window=7, rate=0) as (_, channel, _):
        assert channel.capacity(now).free == 7
        channel.submit(outgoing(1, *LONG))
        assert channel.capacity(now).free == 4
    async with exchange(MUTE, window=1000, rate=100) as (_, channel, _):
        assert channel.capacity(now).free == 10


async def test_the_rate_is_exact():
    """§1.6: no second, wherever it starts, holds more parts than the rate (that it is used: test_pace)."""
    counted, written = [], []

    def trace(direction, _):
        if direction == "sent":
            counted.append(channel._traffic.pace._sent[-1])
            written.append(monotonic())

    async with exchange(TAKES, rate=200, window=500) as (smsc, channel, _):
        channel.trace = trace
        await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(600)))
        assert len(written) == len(submitted(smsc)) == 600
        assert min(late - early for early, late in zip(counted, counted[200:], strict=False)) >= 1
        # A busy machine may stop us between the clock and the write, but hardly at each of twenty writes.
        assert sorted(late - early for early, late in zip(written, written[200:], strict=False))[20] >= 0.99


async def test_a_throttle_gives_the_queue_back():
    """SM-21: the refused message and those behind it go back; none is lost, none is sent meanwhile."""
    async with exchange(only(status="RTHROTTLED"), window=2) as (smsc, channel, _):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(10)))
        assert {outcome.reason for outcome in outcomes} == {Reason.THROTTLED}
        assert not any(outcome.single for outcome in outcomes)
        assert len(submitted(smsc)) == 2
        smsc.script = TAKES
        assert isinstance(await channel.submit(outgoing(1)), Accepted)


async def test_a_full_queue_of_one_number_and_of_the_carrier():
    """SM-21: of one number only its message waits, 5, 15, 30 s; of two in a row it is the channel's."""
    async with exchange(only(status="RMSGQFUL")) as (_, channel, _):
        waits = [(await channel.submit(outgoing(1, attempt=n))) for n in (1, 2, 3, 4)]
        assert [(wait.single, wait.retry_after_s) for wait in waits] == [
            (True, 5.0),
            (True, 15.0),
            (True, 30.0),
            (True, 30.0),
        ]
        assert await channel.submit(outgoing(2)) == Refused(Reason.QUEUE_FULL, "0x14 message queue full")


async def test_congestion_halves_the_rate():
    """congestion_state above 80 halves the pace until it falls (§3.3)."""
    async with exchange(only(congestion=90, next=1), rate=1000, window=200) as (_, channel, _):
        await channel.submit(outgoing(1))
        assert channel.capacity(0).free == 50
        await channel.submit(outgoing(2))
        assert channel.capacity(0).free == 100


async def test_otp_goes_before_bulk():
    """CH-3: an OTP that comes later overtakes the bulk that waits for the window."""
    async with exchange(Script(play=Play(delay_s=0.01, receipts=()), magic=False), window=1) as (
        smsc,
        channel,
        _,
    ):
        bulk = [channel.submit(outgoing(n, f"bulk {n}")) for n in range(5)]
        otp = channel.submit(outgoing(9, "otp", lane=Lane.OTP))
        await asyncio.gather(otp, *bulk)
        assert [pdu.short_message for _, _, pdu in submitted(smsc)].index(b"otp") <= 1


# ------------------------------------------------------------------------------------- no answer, bad answers


async def test_timeout_and_late_answer():
    """A time-out is unknown; the late answer resolves it (§3.4)."""
    async with exchange(only(delay_s=0.4, next=1), submit_timeout_s=0.2) as (_, channel, sink):
        assert await channel.submit(outgoing(7)) == Unknown("timeout")
        await until(lambda: sink.settled)
        ((message, attempt, part, end),) = sink.settled
        assert (message, attempt, part) == (7, 1, 1)
        assert end.references
        assert channel.health().state == "up"


async def test_two_timeouts_in_a_row_drop_the_link():
    """M8: a carrier that answers nothing is left, and bound again; unknown stays within the window."""
    async with exchange(MUTE, window=3, submit_timeout_s=0.2, reconnect_s=[0.01, 0.01]) as (smsc, channel, _):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(9)))
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds.count(Unknown) == 3
        assert {o.reason for o in outcomes if isinstance(o, Refused)} == {Reason.NOT_WRITTEN}
        smsc.script = TAKES
        await until(lambda: smsc.counts["binds"] == 2 and channel.health().state == "up")
        assert isinstance(await channel.submit(outgoing(1)), Accepted)


@pytest.mark.parametrize("answers", [("own", "own"), ("unknown", "own"), ("zero", "own")])
async def test_odd_answers_are_counted_and_harmless(answers):
    """M9: doubled, unknown and zero sequences change no outcome."""
    async with exchange(only(answers=answers)) as (_, channel, _):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(20)))
        assert len({outcome.references for outcome in outcomes}) == 20
        await until(lambda: channel.counts["oddity.unknown_sequence"] == 20)


async def test_answers_out_of_order():
    """M9: each answer finds its message whatever the order."""
    async with exchange(only(shuffle=10), window=20) as (_, channel, _):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(20)))
        assert len({outcome.references for outcome in outcomes}) == 20


# ------------------------------------------------------------------------------------------------ inbound


@pytest.mark.parametrize("pdu", ["deliver_sm", "data_sm"])
async def test_receipts_are_answered_after_the_commit(pdu):
    """CH-5: no response while the commit is open, then one; also for receipts in data_sm."""
    script = Script(play=Play(receipts=(Receipt(pdu=pdu, after_s=0.0),)))
    command = Command.DELIVER_SM_RESP if pdu == "deliver_sm" else Command.DATA_SM_RESP
    async with exchange(script) as (smsc, channel, sink):
        sink.stalled = True
        outcome = await channel.submit(outgoing(1))
        await until(lambda: sink.reports)
        assert answered(smsc, command) == []
        sink.commit()
        await smsc.until(lambda: answered(smsc, command) == [Status.ROK])
        (report,) = sink.reports
        assert (report.status, report.number) == (0, "84900000001")
        assert outcome.keys[0] in report.keys


async def test_a_failed_commit_is_told_and_repeated():
    """CH-5: the carrier gets a temporary error and sends again."""
    async with exchange(Script(deliver=Deliver(retry_s=0.05))) as (smsc, channel, sink):
        sink.broken = True
        await channel.submit(outgoing(1))
        await smsc.until(lambda: answered(smsc, Command.DELIVER_SM_RESP))
        sink.broken = False
        await until(lambda: sink.reports)
        await smsc.until(lambda: len(answered(smsc, Command.DELIVER_SM_RESP)) == 2)
        assert answered(smsc, Command.DELIVER_SM_RESP) == [Status.RX_T_APPN, Status.ROK]


async def test_uncommitted_inbound_is_bounded():
    """SM-34: beyond 1,000 uncommitted on a bind the carrier is told to wait."""
    async with exchange(Script(deliver=Deliver(window=2000))) as (smsc, _, sink):
        sink.stalled = True
        for _ in range(1010):
            smsc.push(DeliverSm(source=Address(1, 1, "84912345678"), short_message=b"hi"))
        await smsc.until(lambda: answered(smsc, Command.DELIVER_SM_RESP))
        assert set(answered(smsc, Command.DELIVER_SM_RESP)) == {Status.RX_T_APPN}
        assert len(sink.incomings) == 1000
        sink.stalled = False
        sink.commit()
        await smsc.until(lambda: Status.ROK in answered(smsc, Command.DELIVER_SM_RESP))


async def test_incoming_messages_and_their_parts():
    """A phone's message comes with text; of a long one each part with its piece."""
    async with exchange(TAKES) as (smsc, channel, sink):
        smsc.say(Speech(text="Chào bạn"))
        smsc.say(Speech(text="x" * 300))
        await until(lambda: len(sink.incomings) == 3)
        assert sink.incomings[0].text == "Chào bạn"
        assert sorted(i.piece.part for i in sink.incomings[1:]) == [1, 2]
        assert channel.counts["incoming"] == 3


async def test_a_receipt_before_the_response():
    """SM-33: a receipt that overtakes the response is reported all the same."""
    script = Script(play=Play(receipts=(Receipt(after_s=-0.05),)))
    async with exchange(script) as (_, channel, sink):
        outcome = channel.submit(outgoing(1))
        await until(lambda: sink.reports)
        assert not outcome.done()
        assert (await outcome).keys[0] in sink.reports[0].keys


async def test_hostile_inbound_costs_nothing_else():
    """M14: PDUs of garbage and strange fields leave the link up and the others' answers in place."""
    async with exchange(TAKES) as (smsc, channel, sink):
        smsc.push(DeliverSm(esm_class=0x44, short_message=b"\xff" * 254, data_coding=0xEE))
        smsc.push(DataSm(esm_class=0x04, tlvs={0x1E: b"\0" * 300, 0x427: b""}))
        smsc.push(DeliverSm(esm_class=0x40, short_message=b"\x05\x00\x03\x01"))
        await smsc.until(lambda: len(answered(smsc, Command.DELIVER_SM_RESP)) == 2)
        assert isinstance(await channel.submit(outgoing(1)), Accepted)
        assert len(sink.reports) + len(sink.incomings) == 3


async def test_trace_shows_whole_pdus():
    """`channel test` sees every PDU of both directions, whole."""
    async with exchange(TAKES) as (_, channel, _):
        seen = []
        channel.trace = lambda direction, octets: seen.append((direction, octets))
        await channel.submit(outgoing(1))
        assert [direction for direction, _ in seen] == ["sent", "received"]
        assert all(int.from_bytes(octets[:4]) == len(octets) for _, octets in seen)


async def test_a_trace_survives_a_broken_stream():
    """What is no PDU is not shown, and the link ends as without a trace."""
    async with exchange(TAKES, reconnect_s=[0.01, 0.01]) as (smsc, channel, _):
        seen = []
        channel.trace = lambda _, octets: seen.append(octets)
        smsc.send(b"\xff" * 16)
        await smsc.until(lambda: smsc.counts["binds"] == 2)
        await until(lambda: channel.health().state == "up")
        assert b"\xff" * 16 not in seen
