"""`channel test`: what an operator is told about a carrier, and what is left to the worker."""

import asyncio
import socket
import threading
from datetime import UTC, datetime

import psycopg
import pytest

from speedsms.gateway.channels.base import Report
from speedsms.gateway.channels.smpp.smsc.script import Deliver, Play, Receipt, Script, Speech, Welcome
from speedsms.gateway.channels.smpp.smsc.server import Smsc
from speedsms.gateway.cli.exchange import Ear, Exchange, NotOurs

NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)


def test_a_message_goes_through_and_its_receipt_comes(run):
    """The simulator takes it and reports it; nothing is stored or charged."""
    code, told, _ = run("channel", "test", "simulator", "--to", "0912345678", "--json")
    assert (code, told["verdict"]["fix"]) == (0, "")
    assert "delivered" in told["verdict"]["said"]
    assert run("ledger", "check")[0] == 0


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [("failed", 1, "status 69"), ("refused", 1, "sender_refused"), ("lost", 5, "nobody knows")],
)
def test_what_went_wrong_is_said_with_a_fix(run, outcome, code, said):
    """A refusal and a failure are exit code 1, an unknown outcome is 5; each says what to do."""
    run("channel", "add", "other", "sim", f"outcome={outcome}")
    ended, text, _ = run("channel", "test", "other", "--to", "0912345678")
    assert ended == code
    assert said in text
    assert "what to do: " in text


def test_what_cannot_be_tried_is_refused(run):
    """An unknown channel and an impossible number, before anything is sent."""
    assert "there is no channel nobody" in run("channel", "test", "nobody")[2]
    code, _, err = run("channel", "test", "simulator", "--to", "12")
    assert code == 1
    assert "write it as 0912345678" in err


def _report(reference, *keys):
    return Report(reference, 0, NOW, keys=keys)


@pytest.mark.anyio
async def test_only_our_receipt_is_taken():
    """A receipt waits until our id is known; one of another message is left to the worker (CH-5)."""
    ear = Ear(Exchange(quiet=True), alone=False)
    early, foreign = ear.report(_report("8010", "8010", "1f4a")), ear.report(_report("77", "77"))
    assert not early.done()
    ear.know(frozenset({"1f4a"}))
    await early
    with pytest.raises(NotOurs):
        await foreign
    assert (await ear.reports.get()).reference == "8010"
    with pytest.raises(NotOurs):
        await ear.report(_report("", ""))
    assert ear.reports.empty()


@pytest.mark.anyio
async def test_a_trial_that_ends_leaves_no_receipt_hanging():
    """What still waits when the trial is over is given back to the carrier."""
    ear = Ear(Exchange(quiet=True), alone=False)
    waiting = ear.report(_report("1"))
    ear.know(frozenset())
    with pytest.raises(NotOurs):
        async with asyncio.timeout(60):
            await waiting


@pytest.fixture
def carrier(run):
    """Starts a simulated carrier with a script, and makes a channel `viettel` to it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    smscs = []

    def start(script, **settings):
        async def listen():
            smscs.append(Smsc(script))
            return await smscs[-1].start()

        port = asyncio.run_coroutine_threadsafe(listen(), loop).result(60)
        words = {"hosts": f"127.0.0.1:{port}", "system_id": "shop", "password": "geheim1", **settings}
        run("channel", "add", "viettel", "smpp", *(f"{key}={value}" for key, value in words.items()))
        return smscs[-1]

    yield start
    for smsc in smscs:
        asyncio.run_coroutine_threadsafe(smsc.stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_carrier_takes_a_message(run, carrier):
    """Bind, submit, receipt and unbind in plain words, in order, and never the password."""
    smsc = carrier(Script(play=Play(id_form="hex", receipts=(Receipt(id_form="decimal"),))))
    code, text, _ = run("channel", "test", "viettel", "--to", "0912345678", "--sender", "SHOP")
    assert code == 0
    order = ["-> bind_transceiver ", "<- bind_transceiver_resp", "-> submit_sm ", "<- submit_sm_resp"]
    order += ["<- deliver_sm", "-> deliver_sm_resp", "-> unbind", "the receipt says: delivered"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "geheim1" not in text
    assert smsc.counts["submits"] == 1


def test_what_others_are_sent_is_left_to_the_gateway(run, carrier):
    """A message from a phone that comes to this bind is not taken: the carrier keeps it (CH-5)."""
    carrier(Script(speech=(Speech(after_s=0.0),), deliver=Deliver(retry_s=60.0)))
    code, told, _ = run("channel", "test", "viettel", "--to", "0912345678", "--json")
    assert code == 0
    assert [line for line in told["exchange"] if line["said"].startswith("deliver_sm_resp #1: RX_T_APPN")]


@pytest.mark.parametrize(
    ("script", "code", "said", "fix"),
    [
        (Script(bind=Welcome(status="RINVPASWD")), 1, "RINVPASWD", "compare password"),
        (Script(bind=Welcome(status="RALYBND")), 1, "RALYBND", "ask for more binds"),
        (Script(play=Play(status="RINVSRCADR")), 1, "sender_refused", "--sender"),
        (Script(play=Play(receipts=(Receipt(state="UNDELIV"),))), 1, "status 69", "what a status means"),
    ],
)
def test_a_carrier_that_refuses_is_explained(run, carrier, *, script, code, said, fix):
    """What it answered, in its own name, and what an operator can do about it."""
    carrier(script)
    ended, told, _ = run("channel", "test", "viettel", "--to", "0912345678", "--json")
    assert ended == code
    assert said in told["verdict"]["said"]
    assert fix in told["verdict"]["fix"]


def test_the_only_bind_may_be_the_workers(run, carrier, admin_url):
    """When the carrier says "already bound" and the gateway is, that is what is said."""
    carrier(Script(bind=Welcome(status="RALYBND")))
    with psycopg.connect(admin_url) as connection:
        connection.execute('UPDATE channel SET health = \'{"state": "up"}\'')
        connection.execute(
            "INSERT INTO node (role, host, pid, lease_until)"
            " VALUES ('worker', 'a', 1, now() + interval '1 hour')"
        )
    code, told, _ = run("channel", "test", "viettel", "--json")
    assert code == 1
    assert "the worker holds a bind" in told["verdict"]["fix"]


def test_a_carrier_that_is_not_there_is_exit_code_4(run):
    """Nothing listens: no connection, and what to look at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        run("channel", "add", "viettel", "smpp", f"hosts=127.0.0.1:{free.getsockname()[1]}", "system_id=shop")
        code, told, _ = run("channel", "test", "viettel", "--json")
    assert code == 4
    assert "no connection to the carrier" in told["verdict"]["said"]
    assert "firewall" in told["verdict"]["fix"]


def test_a_secret_that_is_missing_is_exit_code_3(run):
    """The variable is named; nothing is sent."""
    words = ["hosts=127.0.0.1:1", "system_id=shop", "password=env:NO_SUCH_PASSWORD"]
    run("channel", "add", "viettel", "smpp", *words)
    code, _, err = run("channel", "test", "viettel")
    assert code == 3
    assert "NO_SUCH_PASSWORD" in err
