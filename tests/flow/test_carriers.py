"""Receipts of a carrier over real SMPP: matched, folded, adopted, kept, absorbed (channels §3.11, §3.12)."""

import asyncio
import json
from datetime import timedelta

import pytest

from speedsms.gateway.channels.smpp.pdu import Address, DeliverSm
from speedsms.gateway.channels.smpp.smsc import Play, Receipt, Rule, Script

pytestmark = pytest.mark.anyio

ALICE, BOB, CHARLIE = "0912345678", "0987654321", "0901234567"
LONG = "a" * 400  # three parts


def plays(*receipts, **play):
    return Script(play=Play(receipts=receipts, **play), magic=False)


async def told(gateway, smsc, count):
    """So many receipts were acknowledged; what they changed is told."""
    await smsc.until(lambda: smsc.counts["receipts_acknowledged"] >= count)
    await gateway.play()
    await gateway.play()


def receipt_for(message_id, state="DELIVRD", number="84912345678"):
    dates = "submit date:2601010000 done date:2601010000"
    text = f"id:{message_id} sub:001 dlvrd:001 {dates} stat:{state} err:000 text:"
    return DeliverSm(
        source=Address(1, 1, number), destination=Address(5, 0, "X"), esm_class=4, short_message=text.encode()
    )


async def say(gateway, smsc, *pdus):
    """The carrier sends these; they are acknowledged and looked at."""
    before = smsc.counts["incoming_acknowledged"]
    for pdu in pdus:
        smsc.push(pdu)
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == before + len(pdus))
    gateway.clock.advance(seconds=2)
    await gateway.drain()


async def unknown_one(gateway, smsc, *numbers, **settings):
    """One message to each number that the carrier never answers."""
    smsc.script = plays(answers=())
    await gateway.bind(smsc, submit_timeout_s=0.1, **settings)
    for number in numbers:
        await gateway.send(number)
    sql = "SELECT count(*) FROM doubt"
    await gateway.until(sql, len(numbers))


# ------------------------------------------------------------------------------------------------- receipts


async def test_a_message_over_smpp(gateway, smsc):
    """Accepted, submitted, answered, reported, told — charged once."""
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await told(gateway, smsc, 1)
    assert await gateway.finals() == [(0, "DELIVRD err 000")]
    assert json.loads(gateway.sink.bodies[0])["status"] == 0
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    await gateway.check_ledger()


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt(after_s=-0.03),
        Receipt(pdu="data_sm"),
        Receipt(coding="ucs2"),
        Receipt(carry="tlv"),
        Receipt(carry="text"),
        Receipt(place="payload"),
    ],
    ids=["before the response", "data_sm", "UCS-2", "TLVs alone", "text alone", "in the payload"],
)
async def test_a_receipt_in_any_shape(gateway, smsc, receipt):
    """However it comes, it ends its message (SM-30 to SM-33)."""
    smsc.script = plays(receipt)
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await told(gateway, smsc, 1)
    assert [status for status, _ in await gateway.finals()] == [0]
    assert await gateway.one("SELECT count(*) FROM receipt") == 0
    await gateway.check_ledger()


@pytest.mark.parametrize(
    ("response", "receipt", "form"),
    [
        ("hex", "decimal", "auto"),
        ("decimal", "hex", "auto"),
        ("hex", "PADDED_HEX", "auto"),
        ("decimal", "padded", "auto"),
        ("uuid", "UUID", "auto"),
        ("long", "long", "auto"),
        ("padded_hex", "decimal", "hex_dec"),
        ("padded", "padded_hex", "dec_hex"),
        ("PADDED_HEX", "hex", "plain"),
        ("UUID", "UUID", "exact"),
    ],
)
async def test_message_ids_in_two_forms(gateway, smsc, response, receipt, form):
    """The receipt names the message in another form than the response (I25)."""
    smsc.script = plays(Receipt(id_form=receipt), id_form=response)
    await gateway.bind(smsc, id_form=form)
    await gateway.send(ALICE)
    await told(gateway, smsc, 1)
    assert [status for status, _ in await gateway.finals()] == [0]


async def test_a_receipt_on_another_bind(gateway, smsc):
    """Receipts belong to the channel, whichever bind brings them (§3.5)."""
    smsc.script = plays(Receipt(bind="other"))
    await gateway.bind(smsc, binds=2)
    await smsc.until(lambda: smsc.counts["binds"] == 2)
    await gateway.send(ALICE, BOB)
    await told(gateway, smsc, 2)
    assert [status for status, _ in await gateway.finals()] == [0, 0]


async def test_a_receipt_five_times(gateway, smsc):
    """One final, one webhook, one charge, no correction (I24), and nothing of it stays."""
    smsc.script = plays(Receipt(times=5))
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await told(gateway, smsc, 5)
    assert [status for status, _ in await gateway.finals()] == [0]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT array_agg(kind) FROM event") == ["sent"]
    assert await gateway.one("SELECT count(*) FROM receipt") == 0
    await gateway.check_ledger()


async def test_a_contradicting_receipt(gateway, smsc):
    """The first final stands; the second is a correction, without money or webhook (ST-3)."""
    smsc.script = plays(Receipt(state="UNDELIV"), Receipt(after_s=0.1))
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await told(gateway, smsc, 2)
    assert [status for status, _ in await gateway.finals()] == [69]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'correction'") == 1
    await gateway.check_ledger()


async def test_intermediate_then_final(gateway, smsc):
    """34 is told once, then 0, numbered in order."""
    smsc.script = plays(Receipt(state="ENROUTE", intermediate=True), Receipt(after_s=0.15))
    await gateway.bind(smsc, intermediate=True)
    await gateway.send(ALICE)
    await told(gateway, smsc, 2)
    assert [json.loads(body)["status"] for body in gateway.sink.bodies] == [34, 0]


async def test_an_unknown_receipt_is_kept_and_tried_again(gateway, smsc):
    """It is acknowledged, parked, and matched once its message is known, if that takes 71 hours (I23)."""
    smsc.script = plays()
    await gateway.bind(smsc)
    await gateway.send(ALICE, validity_s=3600)
    await gateway.drain()
    await gateway.db.execute("UPDATE reference SET key = 'x' || key")
    message_id = await gateway.one("SELECT reference FROM reference")
    await say(gateway, smsc, receipt_for(message_id))
    assert await gateway.one("SELECT count(*) FROM receipt") == 1
    await gateway.db.execute("UPDATE reference SET key = substr(key, 2)")
    gateway.clock.advance(minutes=11)
    await gateway.drain()
    assert [status for status, _ in await gateway.finals()] == [0]


async def test_a_restart_between_submit_and_receipt(gateway, smsc):
    """The map lives in the database: another process, another bind, the same message (SM-33)."""
    smsc.script = plays()
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await gateway.drain()
    await gateway.configure("carrier", window=50)  # stops and builds it anew
    await smsc.until(lambda: smsc.counts["binds"] == 2)
    await say(gateway, smsc, receipt_for(await gateway.one("SELECT reference FROM reference")))
    assert [status for status, _ in await gateway.finals()] == [0]


# --------------------------------------------------------------------------------------------- long messages


async def test_parts_fold_when_all_are_delivered(gateway, smsc):
    """Two of three say nothing yet; the third ends it (ST-4)."""
    smsc.script = plays()
    await gateway.bind(smsc)
    await gateway.send(ALICE, content=LONG)
    await gateway.drain()
    ids = [row[0] for row in await gateway.db.read("SELECT reference FROM reference ORDER BY part")]
    await say(gateway, smsc, receipt_for(ids[2]), receipt_for(ids[0]), receipt_for(ids[0]))
    assert await gateway.finals() == []
    await say(gateway, smsc, receipt_for(ids[1]))
    assert [status for status, _ in await gateway.finals()] == [0]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT count(*) FROM part_final") == 0
    await gateway.check_ledger()


async def test_parts_reported_to_two_processes_at_once(gateway, smsc):
    """Neither saw that all are done; the sweep does (ST-4)."""
    smsc.script = plays()
    await gateway.bind(smsc)
    await gateway.send(ALICE, content=LONG)
    await gateway.drain()
    await gateway.db.execute("INSERT INTO part_final SELECT message, attempt, part, 0 FROM reference")
    await gateway.drain()
    assert [status for status, _ in await gateway.finals()] == [0]
    assert await gateway.one("SELECT count(*) FROM part_final") == 0
    await gateway.check_ledger()


async def test_one_failed_part_fails_the_message_at_once(gateway, smsc):
    """Its status is the part's; receipts of the others are absorbed."""
    smsc.script = Script(
        rules=(Rule(next=1), Rule(next=1, receipts=(Receipt(state="REJECTD"),)), Rule()), magic=False
    )
    await gateway.bind(smsc, window=1)
    await gateway.send(ALICE, content=LONG)
    await told(gateway, smsc, 3)
    assert [status for status, _ in await gateway.finals()] == [99]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'correction'") == 0
    await gateway.check_ledger()


@pytest.mark.parametrize(
    "settings",
    [
        {"receipt_per": "message"},
        {"concat": "payload"},
    ],
)
async def test_one_receipt_stands_for_all_parts(gateway, smsc, settings):
    """By contract (SM-36), and where the carrier got one submit_sm for the whole (§3.9)."""
    smsc.script = plays()
    await gateway.bind(smsc, **settings)
    await gateway.send(ALICE, content=LONG)
    await gateway.drain()
    message_id = await gateway.one("SELECT reference FROM reference ORDER BY part LIMIT 1")
    await say(gateway, smsc, receipt_for(message_id))
    assert [status for status, _ in await gateway.finals()] == [0]
    await gateway.check_ledger()


# (settings of the channel, text, parts it is billed as, parts it goes in)
OTHER_CUTS = {
    "two in UCS-2, where its alphabet lacks a letter": ({"alphabet": "ascii"}, "à" * 100, 1, 2),
    "three with the longer header": ({"concat": "udh16"}, "a" * 306, 2, 3),
}


@pytest.mark.parametrize("case", OTHER_CUTS.values(), ids=OTHER_CUTS)
async def test_a_text_that_the_channel_cuts_otherwise(gateway, smsc, case):
    """Billed as it was accepted (§3.8); what is reported, folded and in doubt are the parts that went."""
    settings, text, billed, made = case
    smsc.script = plays()
    await gateway.bind(smsc, **settings)
    for _ in range(2):
        await gateway.send(ALICE, content=text)
        gateway.clock.advance(seconds=1)
        await gateway.drain()
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000 - 2 * billed * 250
    rows = await gateway.db.read("SELECT message, part, parts, reference FROM reference ORDER BY 1, 2")
    assert [row[1:3] for row in rows] == [(part, made) for part in range(1, made + 1)] * 2
    pdus = [line.frame().pdu for line in smsc.journal.lines if line.way == "in" and line.command == 4]
    headers = [pdu.short_message[3 : 1 + pdu.short_message[0]] for pdu in pdus]
    assert [header[-2:] for header in headers] == [bytes([made, part]) for _, part, _, _ in rows]
    assert len({header[:-2] for header in headers}) == 2  # two live messages to one number
    ids = [reference for *_, reference in rows]
    await say(gateway, smsc, *map(receipt_for, ids[: made - 1]))
    assert await gateway.finals() == []
    await say(gateway, smsc, receipt_for(ids[made - 1], "REJECTD"), *map(receipt_for, ids[made:]))
    assert sorted(status for status, _ in await gateway.finals()) == [0, 99]
    smsc.script = plays(answers=())
    await gateway.configure("carrier", submit_timeout_s=0.1)
    await gateway.send(ALICE, content=text)
    await gateway.until("SELECT count(*) FROM doubt", made)
    assert set(await gateway.db.read("SELECT parts FROM doubt")) == {(made,)}
    await gateway.check_ledger()


async def test_a_receipt_adopts_a_payload_of_several_parts(gateway, smsc):
    """It went in one piece, so exactly one is unknown, however many it is billed as (§1.8)."""
    smsc.script = plays(answers=())
    await gateway.bind(smsc, concat="payload", submit_timeout_s=0.1)
    await gateway.send(ALICE, content=LONG)
    await gateway.until("SELECT count(*) FROM doubt", 1)
    await say(gateway, smsc, receipt_for("4711"))
    await gateway.drain()
    assert [status for status, _ in await gateway.finals()] == [0]
    await gateway.check_ledger()


async def test_parts_of_another_cut_are_not_taken_for_done(gateway, smsc):
    """Settings changed between two attempts: the whole text goes in the new cut, none of it is missing."""
    smsc.script = Script(rules=(Rule(next=1), Rule(next=1, status="RTHROTTLED")), magic=False)
    await gateway.bind(smsc, window=1)
    await gateway.send(ALICE, content="a" * 306)
    await gateway.up("carrier", "paused")
    await gateway.configure("carrier", concat="udh16")
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    pdus = [line.frame().pdu for line in smsc.journal.lines if line.way == "in" and line.command == 4]
    assert [tuple(pdu.short_message[5:7]) for pdu in pdus[2:]] == [(3, 1), (3, 2), (3, 3)]


def parts_of(smsc):
    """(number of the phone, reference, part) of the header of each submit_sm, in order."""
    pdus = [line.frame().pdu for line in smsc.journal.lines if line.way == "in" and line.command == 4]
    return [(pdu.destination.digits, pdu.short_message[3], pdu.short_message[5]) for pdu in pdus]


async def test_concat_references_step_by_number(gateway, smsc):
    """Two live messages to one phone never share one; another phone counts for itself (§3.9)."""
    await gateway.bind(smsc)
    for _ in range(3):
        await gateway.send(ALICE, content=LONG)
        await gateway.send(BOB, content=LONG)
        gateway.clock.advance(seconds=1)
        await gateway.drain()
    for phone in ("84912345678", "84987654321"):
        first, *others = dict.fromkeys(ref for to, ref, _ in parts_of(smsc) if to == phone)
        assert others == [(first + 1) % 256, (first + 2) % 256]


async def test_a_throttled_part_goes_again_alone(gateway, smsc):
    """A later attempt sends what is missing, with the same reference (CH-8), and all parts are folded."""
    throttled = (Rule(next=1), Rule(next=1, status="RTHROTTLED"))
    smsc.script = Script(rules=throttled, magic=False)
    await gateway.bind(smsc, window=1)
    await gateway.send(ALICE, content=LONG)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    await told(gateway, smsc, 3)
    assert [part for _, _, part in parts_of(smsc)] == [1, 2, 2, 3]
    assert len({ref for _, ref, _ in parts_of(smsc)}) == 1
    assert [status for status, _ in await gateway.finals()] == [0]
    await gateway.check_ledger()


async def test_parts_taken_survive_a_lost_process(gateway, smsc):
    """Settled one by one: after the process died the next attempt sends the third part alone (CH-4)."""
    smsc.script = Script(rules=(Rule(next=2), Rule(next=1, answers=(), receipts=())), magic=False)
    await gateway.bind(smsc, window=1)
    await gateway.send(ALICE, content=LONG)
    await gateway.until("SELECT count(*) FROM reference", 2)
    await gateway.db.execute(  # as the sweep of another process finds it
        "WITH n AS (INSERT INTO node (role, host, pid, lease_until)"
        " VALUES ('worker', 'x', 1, now() - interval '1 s') RETURNING id)"
        " UPDATE flight SET node_id = n.id FROM n"
    )
    await gateway.worker.sweep()
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'unknown'", 1)
    assert await gateway.db.read("SELECT part FROM doubt") == [(3,)]
    gateway.clock.advance(seconds=121)
    await gateway.worker.sweep()
    smsc.end("reset")
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    await told(gateway, smsc, 3)
    assert [part for _, _, part in parts_of(smsc)] == [1, 2, 3, 3]
    assert [status for status, _ in await gateway.finals()] == [0]
    await gateway.check_ledger()


async def test_a_part_known_of_two_attempts_is_done_once(gateway, smsc):
    """A part that went twice, and was reported twice, hinders no third attempt; the others go."""
    await gateway.bind(smsc)
    await gateway.silence("carrier")
    await gateway.send(ALICE, content=LONG)
    await gateway.db.execute("UPDATE ready SET attempt = 2")
    await gateway.db.execute(
        "INSERT INTO reference SELECT message, 84912345678, now() + interval '4 days', c.id, account_id, n,"
        " 2, 3, false, 'x' || n, 'x' || n FROM ready, generate_series(1, 2) n, channel c"
        " WHERE name = 'carrier'"
    )
    twice = "generate_series(1, 2) n"
    await gateway.db.execute(f"INSERT INTO part_final SELECT message, n, 2, 0 FROM ready, {twice}")
    await gateway.db.execute("UPDATE channel SET enabled = true WHERE name = 'carrier'")
    await gateway.up("carrier")
    await told(gateway, smsc, 2)
    assert [part for _, _, part in parts_of(smsc)] == [1, 3]
    assert [status for status, _ in await gateway.finals()] == [0]


# ------------------------------------------------------------------------------- late answers and adoption


async def test_a_late_answer_resolves_an_unknown_message(gateway, smsc):
    """Its id is recorded, its money posted, no second attempt is made, and its receipt finds it."""
    smsc.script = plays(Receipt(after_s=0.1), delay_s=0.3)
    gateway.clock.step = timedelta(microseconds=1)  # what happens later is written as later
    await gateway.bind(smsc, submit_timeout_s=0.15)
    await gateway.send(ALICE)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'unknown'", 1)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)
    assert await gateway.one("SELECT count(*) FROM doubt") == 0
    await told(gateway, smsc, 1)
    gateway.clock.advance(seconds=200)
    await gateway.drain()
    assert await gateway.taken() == [("carrier", 1, "unknown"), ("carrier", 1, "sent")]
    assert [status for status, _ in await gateway.finals()] == [0]
    await gateway.check_ledger()


async def test_a_late_refusal_ends_an_unknown_message(gateway, smsc):
    """By the table: the number is refused, it ends with 67 and is free."""
    smsc.script = plays(delay_s=0.3, status="RINVDSTADR")
    await gateway.bind(smsc, submit_timeout_s=0.15)
    await gateway.send(ALICE)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'unknown'", 1)
    await gateway.until("SELECT count(*) FROM final", 1)
    assert await gateway.finals() == [(67, "number_refused")]
    assert await gateway.one("SELECT count(*) FROM doubt") == 0
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_a_late_refusal_of_one_part_stays_with_the_channel(gateway, smsc):
    """The other parts were taken there: no other route may send the message too (CH-8)."""
    late = Rule(next=1, delay_s=2.0, status="RINVSRCADR")
    smsc.script = Script(rules=(Rule(next=1), late), play=Play(receipts=()), magic=False)
    await gateway.bind(smsc, submit_timeout_s=1.0)  # the others' answers have to come within that
    await gateway.add("second", priority=200)
    await gateway.send(ALICE, content=LONG)
    await gateway.until("SELECT count(*) FROM final", 1)
    assert await gateway.finals() == [(99, "sender_refused")]
    assert {name for name, _, _ in await gateway.taken()} == {"carrier"}


async def test_late_answers_resolve_a_long_bulk_message(gateway, smsc):
    """All parts were taken in the end: it is sent and charged, not unknown for ever."""
    takes, late = Rule(number="84912345600", next=1, receipts=()), Rule(next=1, delay_s=2.0, receipts=())
    smsc.script = Script(rules=(takes, late), play=Play(receipts=()), magic=False)
    await gateway.bind(smsc, submit_timeout_s=1.0)  # the others' answers have to come within that
    await gateway.send(*(f"09123456{n:02}" for n in range(11)), content=LONG)
    await gateway.until("SELECT count(*) > 0 FROM event WHERE kind = 'unknown'", expected=True)
    gateway.clock.advance(seconds=-1)  # a clock set back makes them no less sent
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 11)
    gateway.clock.advance(hours=25)
    await gateway.drain()
    assert await gateway.finals() == [(98, "no_receipt")] * 11
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 11
    await gateway.check_ledger()


async def test_a_receipt_without_known_id_is_adopted(gateway, smsc):
    """One part of ours to that number is unknown: the receipt is about it (§1.8), charged once."""
    await unknown_one(gateway, smsc, ALICE)
    await say(gateway, smsc, receipt_for("4711"))
    assert [status for status, _ in await gateway.finals()] == [0]
    gateway.clock.advance(seconds=200)
    await gateway.drain()
    assert await gateway.taken() == [("carrier", 1, "unknown"), ("carrier", 1, "sent")]
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 1
    await gateway.check_ledger()


async def test_an_adopted_message_knows_its_id(gateway, smsc):
    """A receipt that is not final names it first: the final one finds it, and no new attempt is made."""
    await unknown_one(gateway, smsc, ALICE)
    await say(gateway, smsc, receipt_for("4711", "ENROUTE"))
    assert await gateway.finals() == []
    gateway.clock.advance(seconds=200)
    await gateway.drain()
    assert await gateway.one("SELECT max(attempt)::int FROM event") == 1
    await say(gateway, smsc, receipt_for("4711", "UNDELIV"))
    assert [status for status, _ in await gateway.finals()] == [69]
    assert await gateway.one("SELECT count(*) FROM receipt") == 0
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 1
    await gateway.check_ledger()


async def test_two_unknown_messages_adopt_nothing(gateway, smsc):
    """It may be about either, so it stays unmatched; a stranger's number is nobody's."""
    await unknown_one(gateway, smsc, ALICE, ALICE, BOB)
    await say(gateway, smsc, receipt_for("4711"), receipt_for("4712", number="84901234567"))
    assert await gateway.finals() == []
    assert await gateway.one("SELECT count(*) FROM receipt") == 2


async def test_nothing_is_adopted_while_a_message_waits_for_its_answer(gateway, smsc):
    """The receipt may be ahead of that answer; once it came, the id decides."""
    await unknown_one(gateway, smsc, ALICE)
    await gateway.configure("carrier", submit_timeout_s=60)
    smsc.script = plays(Receipt(after_s=-0.3), delay_s=0.3)
    await gateway.send(ALICE)
    await smsc.until(lambda: smsc.counts["receipts_acknowledged"] == 1)
    await gateway.worker.sweep()
    await told(gateway, smsc, 1)
    assert [status for status, _ in await gateway.finals()] == [0]
    assert await gateway.one("SELECT count(*) FROM doubt") == 1


async def test_a_repeated_receipt_of_another_message_is_not_adopted(gateway, smsc):
    """It names a message that is known and final: it says nothing of the unknown one."""
    smsc.script = plays()
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await gateway.drain()
    known = await gateway.one("SELECT reference FROM reference")
    await say(gateway, smsc, receipt_for(known))
    smsc.script = plays(answers=())
    await gateway.configure("carrier", submit_timeout_s=0.1)
    await gateway.send(ALICE)
    await gateway.until("SELECT count(*) FROM doubt", 1)
    smsc.push(receipt_for(known))
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == 2)
    await gateway.worker.sweep()
    gateway.clock.advance(seconds=2)
    await gateway.drain()
    assert len(await gateway.finals()) == 1
    assert await gateway.one("SELECT count(*) FROM doubt") == 1


async def test_an_old_stranger_is_not_adopted(gateway, smsc):
    """A receipt that came before the attempt began is about something else."""
    smsc.script = plays()
    await gateway.bind(smsc, submit_timeout_s=0.1)
    await say(gateway, smsc, receipt_for("4711"))
    gateway.clock.advance(hours=1)
    smsc.script = plays(answers=())
    await gateway.send(ALICE)
    await gateway.until("SELECT count(*) FROM doubt", 1)
    gateway.clock.advance(seconds=2)
    await gateway.drain()
    assert await gateway.finals() == []


# -------------------------------------------------------------------------------------------- reused ids


async def test_an_id_used_again_for_another_number(gateway, smsc):
    """Every message of a carrier with ten ids gets its own receipt (I26)."""
    states = {"84912345600": "UNDELIV"}
    rules = tuple(Rule(number=n, receipts=(Receipt(state=s),)) for n, s in states.items())
    smsc.script = Script(id_cycle=10, rules=rules, magic=False)
    await gateway.bind(smsc)
    numbers = [f"09123456{n:02}" for n in range(100)]
    await gateway.send(*numbers)
    await told(gateway, smsc, 100)
    assert sorted(status for status, _ in await gateway.finals()) == [0] * 99 + [69]
    assert await gateway.one("SELECT count(*) FROM receipt") == 0


async def test_an_id_used_again_before_a_slow_answer(gateway, smsc):
    """The receipt overtakes the answer by seconds: it is about the new message, no repeat for the old one."""
    smsc.script = Script(id_cycle=1, play=Play(receipts=()), magic=False)
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await gateway.drain()
    message_id = await gateway.one("SELECT reference FROM reference")
    await say(gateway, smsc, receipt_for(message_id))
    smsc.script = Script(id_cycle=1, play=Play(delay_s=1.2, receipts=()), magic=False)
    await gateway.send(ALICE)
    await smsc.until(lambda: smsc.counts["submits"] == 2)
    await asyncio.sleep(0.55)  # nothing else says that an answer is slow
    await say(gateway, smsc, receipt_for(message_id, "UNDELIV"))
    gateway.clock.advance(seconds=10)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 2)
    gateway.clock.advance(seconds=10)
    await gateway.drain()
    assert [status for status, _ in await gateway.finals()] == [0, 69]
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'correction'") == 0
    assert await gateway.one("SELECT count(*) FROM receipt") == 0


async def test_an_id_used_a_thousand_times_for_one_number(gateway, smsc):
    """The receipt is about the message that is open, never about the 999 that are final (I26)."""
    smsc.script = Script(id_cycle=1, play=Play(receipts=()), magic=False)
    await gateway.bind(smsc)
    await gateway.send(ALICE)
    await gateway.drain()
    message_id = await gateway.one("SELECT reference FROM reference")
    await say(gateway, smsc, receipt_for(message_id))
    await gateway.db.execute(
        "INSERT INTO reference SELECT message - (n << 7), number, until, channel_id, account_id, attempt,"
        " part, parts, test, key, reference FROM reference, generate_series(1, 999) n"
    )
    await gateway.db.execute(
        "INSERT INTO final SELECT account_id, message, 0, now(), '' FROM reference ON CONFLICT DO NOTHING"
    )
    for state in ("UNDELIV", "DELIVRD", "UNDELIV"):
        await gateway.send(ALICE)
        gateway.clock.advance(seconds=1)
        await gateway.drain()
        await say(gateway, smsc, receipt_for(message_id, state))
    finals = await gateway.db.read("SELECT status FROM final ORDER BY message DESC LIMIT 3")
    assert [row[0] for row in finals] == [69, 0, 69]
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'correction'") == 0
