"""The life of a message: accepted, sent, reported, told — on the simulator, by drain, with a clock that
stands still.
"""

import json

import pytest

pytestmark = pytest.mark.anyio

ALICE, BOB, CHARLIE = "0912345678", "0987654321", "0901234567"


async def test_delivered_message_is_charged_once_and_reported(gateway):
    """One message: held at acceptance, posted when the carrier took it, reported to the webhook exactly."""
    accepted = await gateway.accept(ALICE)
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    await gateway.drain()
    assert await gateway.finals() == []
    gateway.clock.advance(seconds=1)
    await gateway.drain()
    assert await gateway.finals() == [(0, "simulated")]
    body = f'{{"type":"report","tranId":{accepted.tran_id},"phone":"{ALICE}","status":0}}'
    assert gateway.sink.bodies == [body.encode()]
    assert await gateway.one("SELECT array_agg(code ORDER BY code) FROM transfer WHERE code > 1") == [2, 3]
    assert await gateway.one("SELECT count(*) FROM flight") == 0
    await gateway.check_ledger()


async def test_hundred_recipients_are_all_reported(gateway):
    """A request of a hundred numbers ends in a hundred finals, posts and webhooks."""
    await gateway.send(*(f"09123456{n:02d}" for n in range(100)))
    await gateway.play()
    assert len(await gateway.finals()) == 100
    assert len({json.loads(body)["phone"] for body in gateway.sink.bodies}) == 100
    assert await gateway.one("SELECT balance_vnd FROM account") == 75_000
    await gateway.check_ledger()


async def test_refused_message_is_free(gateway):
    """A carrier that refuses for good ends the message with its status and gives the whole hold back."""
    await gateway.configure(outcome="refused")
    await gateway.send(ALICE)
    await gateway.drain()
    assert await gateway.finals() == [(99, "sender_refused")]
    assert json.loads(gateway.sink.bodies[0])["status"] == 99
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_peer_error_is_tried_again_then_ends(gateway):
    """A temporary error is tried three times more, then the message fails with 96 and costs nothing."""
    await gateway.configure(peer_error=1.0)
    await gateway.send(ALICE)
    for _ in range(4):
        await gateway.drain()
        gateway.clock.advance(seconds=31)
    assert await gateway.finals() == [(96, "peer_error")]
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'refused'") == 4
    await gateway.check_ledger()


async def test_failed_after_acceptance_stays_charged(gateway):
    """Accepted by the carrier and reported failed later: posted, not refunded (protocol D41)."""
    await gateway.configure(outcome="failed")
    await gateway.send(ALICE)
    await gateway.play()
    assert await gateway.finals() == [(69, "simulated")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    await gateway.check_ledger()


async def test_refund_on_failure_refunds_once(gateway):
    """With the price row's switch a failed message is refunded, once, whatever the carrier repeats (I8)."""
    await gateway.db.execute("UPDATE price SET refund_on_failure = true")
    gateway.process.directory.forget()
    await gateway.configure(outcome="failed")
    await gateway.send(ALICE)
    await gateway.play()
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 5") == 1
    await gateway.check_ledger()


async def test_temporary_report_then_final(gateway):
    """A temporary status is told once, the final one after it, numbered in order."""
    await gateway.configure(outcome="temporary")
    await gateway.send(ALICE)
    for _ in range(4):
        await gateway.drain()
        gateway.clock.advance(seconds=0.4)
    assert [json.loads(body)["status"] for body in gateway.sink.bodies] == [34, 0]
    assert [headers["x-speedsms-sequence"] for headers, _ in gateway.sink.posts] == ["1", "2"]


async def test_repeated_receipts_change_nothing(gateway):
    """A receipt that comes twice ends the message once and is told once (I24)."""
    await gateway.configure(outcome="twice")
    await gateway.send(ALICE)
    await gateway.play()
    assert await gateway.finals() == [(0, "simulated")]
    assert len(gateway.sink.posts) == 1


async def test_receipt_before_the_answer_is_matched(gateway):
    """A receipt that comes before the carrier's answer waits for its reference and is matched (I22)."""
    await gateway.configure(outcome="early")
    await gateway.send(ALICE)
    for _ in range(3):
        await gateway.drain()
        gateway.clock.advance(seconds=2)
    assert await gateway.finals() == [(0, "simulated")]
    await gateway.check_ledger()


async def test_long_message_is_as_good_as_all_its_parts(gateway):
    """Three parts are one message: final when the last part is, billed by parts, told once."""
    accepted = await gateway.accept(ALICE, content="a" * 400)
    assert (accepted.parts, accepted.total_vnd) == (3, 750)
    await gateway.play()
    assert await gateway.finals() == [(0, "simulated")]
    assert len(gateway.sink.posts) == 1
    assert await gateway.one("SELECT count(*) FROM part_final") == 0


async def test_throttle_pauses_and_loses_nothing(gateway):
    """A throttled message waits for the carrier and is sent when it may be; no try is counted."""
    await gateway.configure(outcome="throttled")
    await gateway.send(ALICE)
    await gateway.drain()
    assert await gateway.one("SELECT tries FROM ready") == 0
    gateway.clock.advance(seconds=6)
    await gateway.until("SELECT count(*) FROM event WHERE kind = 'sent'", 1)  # the pause is of real seconds
    await gateway.play()
    assert await gateway.finals() == [(0, "simulated")]


async def test_unknown_then_receipt_is_charged_once(gateway):
    """No answer, but a receipt later: delivered, posted once, no second attempt."""
    await gateway.configure(outcome="unknown")
    await gateway.send(ALICE)
    await gateway.drain()
    gateway.clock.advance(seconds=3)
    await gateway.drain()
    assert await gateway.finals() == [(0, "simulated")]
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code = 3") == 1
    await gateway.check_ledger()


async def test_unknown_to_the_end_is_free(gateway):
    """Unknown after its one new attempt and to the end of its life: status 98, hold given back (D42)."""
    await gateway.configure(outcome="lost")
    await gateway.send(ALICE)
    await gateway.drain()
    gateway.clock.advance(seconds=125)
    await gateway.drain()
    await gateway.drain()
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'unknown'") == 2
    gateway.clock.advance(hours=24, minutes=11)
    await gateway.drain()
    assert await gateway.finals() == [(98, "unknown")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_accepted_without_receipt_ends_with_its_life(gateway):
    """Taken by the carrier and never reported: status 98 at the end of life, charged (ST-6)."""
    await gateway.configure(outcome="never")
    await gateway.send(ALICE)
    await gateway.drain()
    gateway.clock.advance(hours=24, minutes=11)
    await gateway.drain()
    assert await gateway.finals() == [(98, "no_receipt")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    await gateway.check_ledger()


async def test_scheduled_message_waits_and_counts_its_life_from_release(gateway):
    """A message of tomorrow is paid today, leaves tomorrow, not before."""
    from datetime import timedelta

    await gateway.send(ALICE, send_at=gateway.clock() + timedelta(hours=20), validity_s=60)
    await gateway.drain()
    assert await gateway.one("SELECT count(*) FROM event") == 0
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_750
    gateway.clock.advance(hours=20, seconds=1)
    await gateway.play()
    assert await gateway.finals() == [(0, "simulated")]


async def test_expired_in_the_queue_is_never_sent(gateway):
    """A message whose life ends while it waits is refused with 70, never handed over, and free."""
    await gateway.silence()
    await gateway.send(ALICE, validity_s=60)
    gateway.clock.advance(seconds=61)
    await gateway.drain()
    assert await gateway.finals() == [(70, "expired")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_test_token_costs_nothing_and_plays_magic_numbers(gateway):
    """A test token sees the same wire and is never charged; 84000000009 tells its report twice with one
    id.
    """
    await gateway.send("84000000009", test=True)
    await gateway.play()
    assert len(gateway.sink.posts) == 2
    assert len({headers["webhook-id"] for headers, _ in gateway.sink.posts}) == 1
    assert await gateway.one("SELECT count(*) FROM transfer WHERE code <> 1") == 0
    await gateway.check_ledger()


async def test_reply_reaches_the_sms_webhook(gateway):
    """The phone answers YES: stored once, given to the account that wrote to it, posted to its webhook."""
    await gateway.send("84000000014", test=True)
    await gateway.drain()
    await gateway.drain()
    incoming = [body for body in gateway.sink.bodies if b'"sms"' in body]
    assert incoming == [b'{"type":"sms","phone":"0000000014","content":"YES"}']


async def test_opt_out_stops_advertising_in_the_queue(gateway):
    """An advertisement that waits for the morning is not sent to a number that opted out meanwhile; it is
    free.
    """
    from speedsms.contract.ads import VIETNAM_TIME

    async with gateway.db.transaction() as connection:
        from speedsms.gateway.store import admin, routing

        await admin.set_account(connection, "alice", {"enabled_types": [1, 2], "ads_attested_by": "test"})
        await admin.add_sender(connection, "alice", "brandname", "ADBRAND", class_="ad")
        await admin.set_sender(connection, "alice", "ADBRAND", "approved")
        await routing.set_price(connection, routing.PriceRow("sms", 1, "", "", 400, False))
    gateway.process.directory.forget()
    gateway.callers[False] = await gateway.process.directory.caller(b"ss_live_alice_000000000000")
    gateway.clock.now = gateway.clock.now.astimezone(VIETNAM_TIME).replace(hour=23)
    await gateway.send(ALICE, content="[QC] Giam gia. Tu choi: soan TC", sms_type=1, sender="ADBRAND")
    await gateway.db.execute("INSERT INTO suppression SELECT id, 84912345678, 'opt_out' FROM account")
    gateway.clock.advance(hours=9)
    await gateway.drain()
    assert await gateway.finals() == [(71, "cancelled")]
    assert await gateway.one("SELECT balance_vnd FROM account") == 100_000
    await gateway.check_ledger()


async def test_contradicting_receipt_is_a_correction(gateway):
    """A final state never moves: a later contradicting receipt is written down, no money, no webhook
    (ST-3).
    """
    await gateway.configure(outcome="failed")
    await gateway.send(ALICE)
    await gateway.play()
    await gateway.db.execute(
        "INSERT INTO receipt (channel_id, reference, keys, attempt, part, parts, whole, status, cause,"
        " received_at, due) SELECT channel_id, reference, ARRAY[key], 1, 1, 1, false, 0, 'late',"
        " %(now)s::timestamptz - interval '1 minute', %(now)s FROM reference",
        now=gateway.clock(),
    )
    await gateway.drain()
    assert await gateway.finals() == [(69, "simulated")]
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'correction'") == 1
    assert len(gateway.sink.posts) == 1


async def test_unknown_receipt_is_kept_three_days(gateway):
    """A receipt that matches nothing is kept and tried again for 72 hours, then dropped with the sweep
    (I23).
    """
    await gateway.db.execute(
        "INSERT INTO receipt (channel_id, reference, keys, attempt, part, parts, whole, status, cause,"
        " received_at, due)"
        " SELECT id, 'stranger', '{stranger}', 1, 1, 1, false, 0, 'x', %(now)s, %(now)s FROM channel",
        now=gateway.clock(),
    )
    await gateway.drain()
    gateway.clock.advance(hours=71)
    await gateway.drain()
    assert await gateway.one("SELECT count(*) FROM receipt") == 1


async def test_prices_are_frozen_at_acceptance(gateway):
    """A price edit after acceptance changes nothing for what was accepted (I9)."""
    await gateway.send(ALICE, BOB)
    await gateway.db.execute("UPDATE price SET price_vnd = 9999")
    await gateway.play()
    assert await gateway.one("SELECT sum(amount_vnd) FROM transfer WHERE code = 3") == 500
    await gateway.check_ledger()


async def test_ledger_is_append_only(gateway):
    """The application's role can neither change nor delete a row of the ledger (I7)."""
    import psycopg

    for attack in ("UPDATE transfer SET amount_vnd = 1", "DELETE FROM transfer", "TRUNCATE transfer"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await gateway.db.execute(attack)


async def test_lost_claim_with_a_dead_node_is_sent_again(gateway):
    """A process that died between *started* and the outcome: the simulator drops repeats, so it is sent
    again.
    """
    await gateway.silence()
    await gateway.send(ALICE)
    await gateway.db.execute(
        "WITH n AS (INSERT INTO node (role, host, pid, lease_until)"
        " VALUES ('worker', 'x', 1, now() + interval '1 h')"
        " RETURNING id), d AS (DELETE FROM ready RETURNING *)"
        " INSERT INTO flight SELECT message, 1, 0, account_id, (SELECT id FROM channel), n.id, lane, pool,"
        " now(), expires_at, expires_at FROM d, n"
    )
    await gateway.db.execute("UPDATE channel SET enabled = true")
    await gateway.worker.load()
    await gateway.db.execute("UPDATE node SET lease_until = now() - interval '1 s' WHERE host = 'x'")
    for _ in range(4):
        await gateway.drain()
        gateway.clock.advance(seconds=2)
    assert await gateway.finals() == [(0, "simulated")]
    assert await gateway.one("SELECT count(*) FROM event WHERE kind = 'lost'") == 1
    await gateway.check_ledger()


async def test_message_without_route_waits_for_one(gateway):
    """Accepted before any route fitted: it stays in the queue and leaves once a route is made."""
    from speedsms.gateway.store import routing

    async with gateway.db.transaction() as connection:
        routes = await routing.routes(connection)
        await routing.remove_route(connection, routes[0].id)
    gateway.process.directory.forget()
    await gateway.send(ALICE)
    await gateway.worker.load()
    assert await gateway.one("SELECT count(*) FROM ready") == 1
    async with gateway.db.transaction() as connection:
        await routing.add_route(connection, "simulator")
    await gateway.worker.load()
    await gateway.play()
    assert await gateway.finals() == [(0, "simulated")]


async def test_opting_out_is_confirmed_once_at_the_advertisers_cost(gateway):
    """TC from a phone: the number joins the opt-out list, one confirmation leaves, charged; a second TC sends
    none.
    """
    from speedsms.gateway.channels.base import Incoming

    accepted = await gateway.accept(ALICE)
    message = await gateway.one("SELECT id FROM message")
    for key in ("first", "second"):
        incoming = Incoming("84912345678", "", "Từ chối", gateway.clock(), key, reply_to=message)
        await gateway.worker.inbound.put(1, incoming)
    assert accepted.tran_id
    assert await gateway.one("SELECT count(*) FROM suppression WHERE reason = 'opt_out'") == 1
    assert await gateway.one("SELECT count(*) FROM request") == 2
    assert await gateway.one("SELECT balance_vnd FROM account") == 99_500
    await gateway.check_ledger()
