"""Which channel a message takes, and where it goes when that one refuses, is silent or is down
(channels §1.4, §1.8).
"""

from datetime import UTC, datetime, timedelta

import pytest

from speedsms.contract.senders import Lane
from speedsms.gateway.channels.base import Reason, Refused, Report, Surroundings
from speedsms.gateway.channels.sim import Sim
from speedsms.gateway.channels.smpp.smsc import Play, Rule, Script
from speedsms.gateway.flow.dispatch import result_of
from speedsms.gateway.store import routing
from speedsms.gateway.store.attempts import Claimed

pytestmark = pytest.mark.anyio

ALICE, BOB, VIETTEL = "0912345678", "0987654321", "0971234567"
NOW = datetime(2026, 1, 5, 3, tzinfo=UTC)
HERE, ELSEWHERE = 1, 2  # pools
CHANNEL = Sim("a", {}, Surroundings(lambda: NOW, lambda: 0.5, lambda: 1, lambda _: None, str))


def claimed(lane=Lane.TRANSACTIONAL, life_s=3600.0, **other):
    given = dict.fromkeys(Claimed.__struct_fields__, 0) | {
        "message": 1 << 7 | 1,
        "attempt": 1,
        "lane": lane,
        "pool": HERE,
        "due": NOW - timedelta(seconds=9),
        "expires_at": NOW + timedelta(seconds=life_s),
        "parts": 1,
    }
    given |= other
    return Claimed(**{**given, "made": given["parts"]})


def refused(reason, claim=None, next_pool=ELSEWHERE, **refusal):
    return result_of(claim or claimed(), Refused(reason, **refusal), CHANNEL, next_pool, NOW)


async def two(gateway, first=None, second=None, **routes):
    """Channel `first` before channel `second`, nothing else."""
    await gateway.db.execute("DELETE FROM route")
    await gateway.add("first", first, priority=10, **routes)
    await gateway.add("second", second, priority=20)


async def price(gateway, sms_type):
    async with gateway.db.transaction() as connection:
        await routing.set_price(connection, routing.PriceRow("sms", sms_type, "", "", 250, False))
    gateway.process.directory.forget()


async def send_otp(gateway):
    await price(gateway, 4)
    await gateway.send(ALICE, content="Ma OTP 123456", sms_type=4, sender="Verify")


# ------------------------------------------------------------------------------- the table of refusals (§1.4)

AT_ONCE = (
    "not_written",
    "auth",
    "no_balance",
    "sender_refused",
    "content_refused",
    "unsupported",
    "too_long",
)
WAITS = ("throttled", "queue_full", "not_written", "auth", "no_balance")
ENDS = {
    "sender_refused": 99,
    "content_refused": 99,
    "unsupported": 65,
    "too_long": 65,
    "number_refused": 67,
    "opted_out": 99,
    "busy": 97,
    "no_answer": 98,
    "rejected": 99,
    "expired": 70,
    "cancelled": 71,
    "failed": 64,
}


@pytest.mark.parametrize("reason", AT_ONCE)
def test_next_route_at_once(reason):
    """These reasons send a message to its next route without delay."""
    result = refused(Reason(reason))
    assert (result.pool, result.again, result.status) == (ELSEWHERE, NOW, None)


@pytest.mark.parametrize("reason", WAITS)
def test_nothing_of_scope_channel_ends_a_message(reason):
    """Without another route it waits for this channel in its place, and no try is counted."""
    result = refused(Reason(reason), next_pool=None)
    assert (result.status, result.void, result.pool) == (None, False, HERE)
    assert (result.again, result.tries) == (NOW - timedelta(seconds=9), 0)


@pytest.mark.parametrize(("reason", "status"), ENDS.items())
def test_where_it_ends(reason, status):
    """A refusal that no route is left for ends the message with the status of the table, free of charge."""
    result = refused(Reason(reason), next_pool=None)
    assert (result.status, result.void, result.again) == (status, True, None)


@pytest.mark.parametrize(
    "reason", ["number_refused", "opted_out", "busy", "no_answer", "rejected", "expired", "cancelled"]
)
def test_what_is_about_the_recipient_takes_no_other_route(reason):
    """The next carrier would say the same: it ends although there is another route."""
    assert refused(Reason(reason)).status == ENDS[reason]


@pytest.mark.parametrize("reason", ["throttled", "queue_full"])
def test_otp_leaves_a_throttled_channel_near_its_end(reason):
    """An OTP with a minute left takes the next route; earlier, and any other message, it waits."""
    near, early = claimed(Lane.OTP, 59), claimed(Lane.OTP, 61)
    assert refused(Reason(reason), near).pool == ELSEWHERE
    assert refused(Reason(reason), near, next_pool=None).pool == HERE
    assert refused(Reason(reason), early).pool == HERE
    assert refused(Reason(reason), claimed(Lane.BULK, 59)).pool == HERE


def test_peer_error_is_tried_three_times_then_elsewhere():
    """After 1, 5 and 30 s on the same channel, then the next route with tries of its own, else 96."""
    waits = [refused(Reason.PEER_ERROR, claimed(tries=n)) for n in range(3)]
    assert [(w.again - NOW).total_seconds() for w in waits] == [1, 5, 30]
    assert [(w.pool, w.tries) for w in waits] == [(HERE, 1), (HERE, 2), (HERE, 3)]
    moved = refused(Reason.PEER_ERROR, claimed(tries=3, attempt=4))
    assert (moved.pool, moved.again, moved.tries) == (ELSEWHERE, NOW, 0)
    assert refused(Reason.PEER_ERROR, claimed(tries=3, attempt=4), next_pool=None).status == 96


def test_one_full_number_waits_alone():
    """A full queue of one number is counted as a try and comes back when the channel says (SM-21)."""
    result = refused(Reason.QUEUE_FULL, retry_after_s=15.0, single=True)
    assert (result.again, result.tries) == (NOW + timedelta(seconds=15), 1)


@pytest.mark.parametrize("reason", [*AT_ONCE, "peer_error", "failed"])
def test_parts_already_taken_forbid_another_route(reason):
    """Half a message on each of two carriers is none: it stays with the first or ends (CH-8)."""
    result = refused(Reason(reason), claimed(tries=3, parts=3), done=frozenset({1}))
    assert result.pool == HERE
    assert (result.status is None) == (reason in WAITS)


# --------------------------------------------------------------------------------------------------- choice


async def test_priority_before_cost_before_age(gateway):
    """The lowest priority takes all; among equals the cheaper one."""
    await two(gateway)
    await gateway.add("cheap", priority=10, cost_vnd=0)
    await gateway.db.execute(
        "UPDATE route SET cost_vnd = 90 FROM channel c WHERE c.id = channel_id AND name = 'first'"
    )
    gateway.process.directory.forget()
    await gateway.worker.load()
    await gateway.send(ALICE, BOB)
    await gateway.play()
    assert await gateway.taken() == [("cheap", 1, "sent")] * 2


async def test_equals_share(gateway, smsc):
    """Two routes of one priority and cost both take from the queue, each what its window holds."""
    smsc.script = Script(play=Play(answers=(), receipts=()), magic=False)
    await gateway.bind(smsc, "one", window=3)
    await gateway.bind(smsc, "other", window=3)
    await gateway.send(*(f"09123456{n:02}" for n in range(60)))
    await smsc.until(lambda: smsc.counts["submits"] == 6)
    assert await gateway.db.read("SELECT count(*) FROM flight GROUP BY channel_id") == [(3,), (3,)]
    smsc.end("reset")


async def test_conditions_choose(gateway):
    """Prefix, carrier and type of a route hold; what fits no condition takes the general route."""
    await two(gateway)
    await gateway.add("prefix", priority=1, prefixes=["84987"])
    await gateway.add("viettel", priority=2, carriers=["viettel"])
    await gateway.add("types", priority=0, sms_types=[4])
    await price(gateway, 4)
    for number in (ALICE, BOB, VIETTEL):
        await gateway.send(number)
        await gateway.play()
    await gateway.send(BOB, sms_type=4, sender="Notify")
    await gateway.play()
    assert [name for name, _, _ in await gateway.taken()] == ["first", "prefix", "viettel", "types"]


# ------------------------------------------------------------------------------------------------- failover


async def test_refused_for_good_goes_to_the_next_route_and_ends_there(gateway):
    """The first carrier's refusal is not reported (ST-5), the second one's delivery is, and charged once."""
    await two(gateway, {"outcome": "refused"})
    await gateway.send(ALICE)
    await gateway.play()
    assert await gateway.taken() == [("first", 1, "refused"), ("second", 2, "sent")]
    assert await gateway.finals() == [(0, "simulated")]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    await gateway.check_ledger()


async def test_refused_everywhere_ends_once(gateway):
    """Each route is asked once; the last refusal is the status, and nothing is charged."""
    await two(gateway, {"outcome": "refused"}, {"outcome": "refused"})
    await gateway.send(ALICE)
    await gateway.drain()
    assert [name for name, _, _ in await gateway.taken()] == ["first", "second"]
    assert await gateway.finals() == [(99, "sender_refused")]
    await gateway.check_ledger()
    pools = await gateway.one("SELECT count(*) FROM pool")
    for _ in range(3):
        await gateway.worker.load()
    assert await gateway.one("SELECT count(*) FROM pool") == pools <= 4  # no more than sets of two routes


async def test_peer_error_moves_on_after_three_tries(gateway):
    """Three tries more on the first channel, then the second delivers."""
    await two(gateway, {"peer_error": 1.0})
    await gateway.send(ALICE)
    for _ in range(5):
        await gateway.drain()
        gateway.clock.advance(seconds=31)
    await gateway.drain()
    assert [name for name, _, _ in await gateway.taken()] == ["first"] * 4 + ["second"]
    assert await gateway.finals() == [(0, "simulated")]


async def test_failed_moves_on_although_it_waited_before(gateway, smsc):
    """`failed` takes the next route once, whatever claims a throttle has cost before."""
    smsc.script = Script(rules=(Rule(next=1, status="RTHROTTLED"),), play=Play(status=0x61), magic=False)
    await gateway.bind(smsc, "first")
    await gateway.add("second", priority=200)
    await gateway.send(ALICE)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    assert [name for name, _, _ in await gateway.taken()] == ["first", "first", "second"]


async def test_a_down_channel_gives_its_traffic_to_the_next_and_gets_it_back(gateway, smsc):
    """While its carrier is away the next route takes everything; a new bind brings it back."""
    await gateway.db.execute("DELETE FROM route")
    await gateway.bind(smsc, "first", reconnect_s=[0.05, 0.05])
    await gateway.add("second", priority=200)
    await gateway.send(ALICE)
    await gateway.drain()
    await smsc.stop()
    await gateway.up("first", "down")
    await gateway.send(BOB)
    await gateway.drain()
    await smsc.start(smsc.port)
    await gateway.up("first")
    await gateway.send(VIETTEL)
    await gateway.drain()
    # A claim that was on its way when the bind broke may have asked the first in vain.
    sent = [name for name, _, kind in await gateway.taken() if kind == "sent"]
    assert sent == ["first", "second", "first"]


async def test_not_written_goes_to_the_next_route_at_once(gateway, smsc):
    """What waited on a link that breaks was certainly not written: it leaves by the next route, once."""
    smsc.script = Script(play=Play(answers=(), receipts=()), magic=False)
    await gateway.bind(smsc, "first", rate=0.2, reconnect_s=[60, 60])
    await gateway.add("second", priority=200)
    await gateway.send(ALICE)
    await gateway.send(BOB)
    await gateway.worker.load()
    await gateway.until("SELECT count(*) FROM flight", 2)
    await smsc.until(lambda: smsc.counts["submits"] == 1)
    smsc.end("reset")
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    assert await gateway.taken() == [
        ("first", 1, "unknown"),
        ("first", 1, "refused"),
        ("second", 2, "sent"),
    ]


# --------------------------------------------------------------------------------- unknown outcomes (§1.8)


async def test_unknown_otp_takes_the_next_route_once_after_five_seconds(gateway):
    """Never the same channel again; two attempts, one delivery, one charge."""
    await two(gateway, {"outcome": "lost"})
    await send_otp(gateway)
    await gateway.drain()
    gateway.clock.advance(seconds=4)
    await gateway.drain()
    assert await gateway.taken() == [("first", 1, "unknown")]
    gateway.clock.advance(seconds=1.5)
    await gateway.drain()
    await gateway.play()
    assert await gateway.taken() == [("first", 1, "unknown"), ("first", 1, "retried"), ("second", 2, "sent")]
    assert await gateway.finals() == [(0, "simulated")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    await gateway.check_ledger()


async def test_unknown_otp_without_another_route_is_never_sent_again(gateway):
    """It waits for a receipt to the end of its life, then 98, and the hold goes back."""
    await gateway.configure(outcome="lost")
    await send_otp(gateway)
    for seconds in (0, 6, 60, 200):
        gateway.clock.advance(seconds=seconds)
        await gateway.drain()
    assert {attempt for _, attempt, _ in await gateway.taken()} == {1}
    assert await gateway.finals() == []
    gateway.clock.advance(minutes=11)
    await gateway.drain()
    assert await gateway.finals() == [(98, "unknown")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_unknown_otp_on_both_routes_goes_nowhere_else(gateway):
    """Once means once: the second unknown waits although a third route is there."""
    await two(gateway, {"outcome": "lost"}, {"outcome": "lost"})
    await gateway.add("third", priority=30)
    await send_otp(gateway)
    for _ in range(5):
        await gateway.drain()
        gateway.clock.advance(seconds=6)
    assert {name for name, _, _ in await gateway.taken()} == {"first", "second"}
    assert await gateway.one("SELECT max(attempt)::int FROM event") == 2


async def test_unknown_otp_that_waited_before_still_takes_the_next_route(gateway, smsc):
    """A throttle before it is no attempt that counts: the policy's one new attempt is still to come."""
    silent = Play(answers=(), receipts=())
    smsc.script = Script(rules=(Rule(next=1, status="RTHROTTLED"),), play=silent, magic=False)
    await gateway.bind(smsc, "first", submit_timeout_s=0.2)
    await gateway.add("second", priority=200)
    await send_otp(gateway)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'unknown'", 1)
    gateway.clock.advance(seconds=6)
    await gateway.drain()
    assert (await gateway.taken())[-1][::2] == ("second", "sent")


async def test_unknown_transactional_gets_one_new_attempt_after_two_minutes(gateway):
    """It may take the same channel; the second unknown is the last."""
    await gateway.configure(outcome="lost")
    await gateway.send(ALICE)
    await gateway.drain()
    gateway.clock.advance(seconds=119)
    await gateway.drain()
    assert len(await gateway.taken()) == 1
    for _ in range(4):
        gateway.clock.advance(seconds=130)
        await gateway.drain()
    assert await gateway.one("SELECT max(attempt)::int FROM event") == 2
    await gateway.check_ledger()


async def test_unknown_bulk_is_never_sent_again(gateway):
    """Only a receipt, a person or the end of its life settle it; then it is free."""
    await gateway.configure(outcome="lost")
    await gateway.send(*(f"09123456{n:02}" for n in range(11)))
    await gateway.drain()
    gateway.clock.advance(hours=23)
    await gateway.drain()
    assert await gateway.one("SELECT max(attempt)::int FROM event") == 1
    gateway.clock.advance(hours=2)
    await gateway.drain()
    assert await gateway.finals() == [(98, "unknown")] * 11
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_unknown_whose_life_ends_first_ends_as_unknown(gateway):
    """A life shorter than the wait: no new attempt, no *expired*; it may be with the handset (ST-6)."""
    await gateway.configure(outcome="lost")
    await gateway.send(ALICE, validity_s=60)
    await gateway.drain()
    gateway.clock.advance(seconds=125)
    await gateway.drain()
    assert await gateway.finals() == []
    gateway.clock.advance(minutes=11)
    await gateway.drain()
    assert await gateway.finals() == [(98, "unknown")]
    await gateway.check_ledger()


async def test_receipt_of_the_first_attempt_after_the_second_left(gateway):
    """Both attempts reach the handset and report: one final, one post, one webhook."""
    await two(gateway, {"outcome": "lost"})
    await send_otp(gateway)
    await gateway.drain()
    gateway.clock.advance(seconds=6)
    await gateway.drain()
    message = await gateway.one("SELECT id FROM message")
    channel_id = await gateway.one("SELECT id FROM channel WHERE name = 'first'")
    report = Report("", 0, gateway.clock(), message=message, attempt=1)
    await gateway.worker._reporter.put(channel_id, report)
    await gateway.play()
    assert [status for status, _ in await gateway.finals()] == [0]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 1
    assert await gateway.one("SELECT count(*) FROM flight") == 0
    await gateway.check_ledger()
