"""The simulated carrier does what its script says: binds, answers, receipts, handsets (channels §3.17)."""

import asyncio
import re
import shutil
import ssl
import subprocess
import tomllib
from pathlib import Path

import pytest
from esme import Esme, bound, carriers, connected, id_of, text_of

from speedsms.gateway.channels.smpp.pdu import (
    Address,
    Command,
    Frame,
    Status,
    SubmitSm,
    Tag,
    decode,
    encode,
)
from speedsms.gateway.channels.smpp.session import BindRefused, Bound, Oddity
from speedsms.gateway.channels.smpp.smsc import (
    Deliver,
    Limits,
    Play,
    Receipt,
    Rule,
    Script,
    Smsc,
    Speech,
    Welcome,
    Wire,
)
from speedsms.gateway.channels.smpp.smsc.script import load, script_of
from speedsms.gateway.channels.smpp.smsc.shapes import SHAPES

pytestmark = pytest.mark.anyio
SILENT = Play(receipts=())
TO = "84912345678"
DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
async def carrier():
    async with carriers() as start:
        yield start


# --- Binds ---


async def test_a_message_from_bind_to_unbind(carrier):
    """Bind, submit, response with an id, a receipt that bears it, unbind: all of it in the journal."""
    smsc = await carrier()
    esme = await bound(smsc)
    assert esme.events[0].resp.tlvs[Tag.SC_INTERFACE_VERSION] == b"\x34"
    esme.submit()
    (answer,) = await esme.answered()
    (receipt,) = await esme.asked()
    assert answer.status == 0
    assert answer.frame.pdu.message_id == id_of(receipt)
    assert receipt.pdu.esm_class == 4
    assert receipt.pdu.source.digits == TO
    assert receipt.pdu.destination.digits == "SHOP"
    assert receipt.pdu.tlvs == {
        Tag.RECEIPTED_MESSAGE_ID: id_of(receipt).encode() + b"\0",
        Tag.MESSAGE_STATE: b"\x02",
    }
    assert "stat:DELIVRD err:000 text:Ma OTP: 123456" in text_of(receipt)
    esme.session.unbind(esme.now())
    esme.flush()
    await smsc.until(lambda: not smsc.connections)
    assert [line.way for line in smsc.journal.lines] == [
        *("open", "in", "out", "in", "out", "out", "in", "in", "out", "close")
    ]
    assert all(a.at <= b.at for a, b in zip(smsc.journal.lines, list(smsc.journal.lines)[1:], strict=False))
    assert (smsc.counts["binds"], smsc.counts["submits"], smsc.counts["receipts_acknowledged"]) == (1, 1, 1)
    assert b"secret" not in b"".join(line.json() for line in smsc.journal.lines)
    assert b"736563726574" not in b"".join(line.json() for line in smsc.journal.lines)


@pytest.mark.parametrize("status", [Status.RINVPASWD, Status.RALYBND, Status.RTHROTTLED, 0x400])
async def test_a_bind_gets_any_status(carrier, status):
    """The first bind is refused so and the connection closed; the next one is welcome."""
    smsc = await carrier(Script(binds=(Welcome(status=int(status), then="close"),)))
    esme = await connected(smsc)
    esme.bind()
    assert (await esme.seen(BindRefused)).status == status
    await esme.until(lambda: esme.lost)
    await bound(smsc)
    assert (smsc.counts["binds_refused"], smsc.counts["binds"]) == (1, 1)


async def test_a_bind_without_answer_and_a_slow_one(carrier):
    """Nothing is said to the first; the second waits as long as the script says."""
    smsc = await carrier(Script(binds=(Welcome(answer=False), Welcome(delay_s=0.05))))
    silent = await connected(smsc)
    silent.bind()
    await smsc.until(lambda: len(smsc.journal.lines) == 2)
    before = asyncio.get_running_loop().time()
    await bound(smsc)
    assert asyncio.get_running_loop().time() - before >= 0.045
    assert silent.events == []


async def test_accounts_have_passwords_and_a_number_of_binds(carrier):
    """Unknown system_id, wrong password, one bind too many: each has its status."""
    smsc = await carrier(Script(accounts={"shop": "secret"}, limits=Limits(binds=1)))
    found = []
    for system_id, password in (
        ("nobody", "secret"),
        ("shop", "wrong"),
        ("shop", "secret"),
        ("shop", "secret"),
    ):
        esme = await connected(smsc)
        esme.bind(system_id, password)
        await esme.until(lambda e=esme: e.events)
        found.append(getattr(esme.events[0], "status", 0))
    assert found == [Status.RINVSYSID, Status.RINVPASWD, 0, Status.RALYBND]


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
async def test_tls(tmp_path):
    """With a context the port speaks TLS."""
    certificate = tmp_path / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"]
    made = await asyncio.create_subprocess_exec(
        *["openssl", "req", *curve, *subject, "-keyout", certificate, "-out", tmp_path / "cert.pem"],
        stderr=subprocess.DEVNULL,
    )
    assert await made.wait() == 0
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    smsc = Smsc()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    port = await smsc.start(tls=context)
    trusting = ssl.create_default_context(cafile=str(certificate))
    _, esme = await asyncio.get_running_loop().create_connection(
        Esme, "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
    )
    esme.bind()
    await esme.seen(Bound)
    await smsc.stop()


# --- Responses ---


@pytest.mark.parametrize(
    ("answers", "odd", "good"),
    [
        (("own", "own"), 1, [0]),
        (("unknown", "own"), 1, [0]),
        (("zero", "own"), 1, [0]),
        (("nack",), 0, [Status.RUNKNOWNERR]),
    ],
)
async def test_responses_doubled_and_under_other_sequences(carrier, answers, odd, good):
    """The client sees each response that the play lists."""
    smsc = await carrier(Script(play=Play(answers=answers, receipts=())))
    esme = await bound(smsc)
    esme.submit()
    await esme.until(lambda: len(esme.events) == 1 + len(answers))
    assert [answer.status for answer in esme.answers] == good
    assert sum(event == Oddity("unknown_sequence") for event in esme.events) == odd


async def test_a_response_that_never_comes(carrier):
    """No answer, yet the message is taken and reported."""
    smsc = await carrier(Script(play=Play(answers=())))
    esme = await bound(smsc)
    esme.submit()
    await esme.asked()
    assert esme.answers == []
    assert esme.session.open == 1


async def test_responses_in_another_order(carrier):
    """Four responses are gathered and come shuffled; the same seed gives the same order."""
    orders = []
    for _ in range(2):
        smsc = await carrier(Script(play=Play(shuffle=4, receipts=())), seed=5)
        esme = await bound(smsc)
        for n in range(4):
            esme.submit(key=n)
        orders.append([answer.key for answer in await esme.answered(4)])
    assert orders[0] == orders[1] != [0, 1, 2, 3]


async def test_slow_responses(carrier):
    """Fixed or drawn, the response is as late as the script says."""
    smsc = await carrier(Script(play=Play(delay_s=(0.03, 0.06), receipts=())))
    esme = await bound(smsc)
    before = esme.now()
    esme.submit()
    await esme.answered()
    assert esme.now() - before >= 0.025


async def test_each_status_and_congestion(carrier):
    """A number, a pattern, a name or a vendor's code; the congestion TLV rides on the response."""
    rules = (
        Rule(number="84900000001", status=0x45A),
        Rule(pattern="849000*", status="RSYSERR"),
        Rule(pattern="84911*", congestion=90, receipts=()),
    )
    smsc = await carrier(Script(rules=rules, play=SILENT))
    esme = await bound(smsc)
    for to in ("84900000001", "84900000002", "84911000001", "84922000001"):
        esme.submit(to)
    answers = await esme.answered(4)
    assert [answer.status for answer in answers] == [0x45A, Status.RSYSERR, 0, 0]
    assert answers[0].frame.pdu is None
    assert answers[2].frame.pdu.tlvs == {Tag.CONGESTION_STATE: b"\x5a"}
    assert smsc.messages.statuses == {"status 0x45A": 1, "RSYSERR": 1, "ROK": 2}


async def test_the_next_messages_and_a_share(carrier):
    """`next` is used up; a share is the same for the same seed, and about its size."""
    shares = []
    for _ in range(2):
        rules = (
            Rule(number=TO, next=2, status="RMSGQFUL"),
            Rule(pattern="8495*", share=0.3, status="RTHROTTLED"),
        )
        smsc = await carrier(Script(rules=rules, play=SILENT), seed=3)
        esme = await bound(smsc)
        for _ in range(3):
            esme.submit(TO)
        assert [a.status for a in await esme.answered(3)] == [Status.RMSGQFUL, Status.RMSGQFUL, 0]
        for n in range(300):
            esme.submit(f"8495{n:07d}")
        shares.append([a.status for a in (await esme.answered(303))[3:]])
    assert shares[0] == shares[1]
    assert 60 < shares[0].count(Status.RTHROTTLED) < 120


async def test_a_true_rate(carrier):
    """Ten in any second are taken, the others throttled and not counted against it."""
    smsc = await carrier(Script(limits=Limits(rate=10), play=SILENT))
    esme = await bound(smsc)
    for n in range(15):
        esme.submit(key=n)
    answers = await esme.answered(15)
    assert [a.status for a in answers] == [0] * 10 + [Status.RTHROTTLED] * 5
    assert smsc.messages.top_rate == 15


async def test_a_window(carrier):
    """More open submits than the contract allows are refused with its status."""
    limits = Limits(window=2, window_status="RMSGQFUL")
    smsc = await carrier(Script(limits=limits, play=Play(delay_s=0.5, receipts=())))
    esme = await bound(smsc)
    for n in range(3):
        esme.submit(key=n)
    answers = await esme.answered(3)
    assert {a.key: a.status for a in answers} == {0: 0, 1: 0, 2: Status.RMSGQFUL}


async def test_a_full_queue_of_one_number(carrier):
    """A number whose message is on its way takes no other; its final receipt makes room."""
    smsc = await carrier(Script(limits=Limits(queue=1)))
    esme = await bound(smsc)
    esme.submit(TO)
    esme.submit(TO)
    esme.submit("84987654321")
    assert [a.status for a in await esme.answered(3)] == [0, Status.RMSGQFUL, 0]
    await esme.asked(2)
    esme.submit(TO)
    assert (await esme.answered(4))[3].status == 0


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("decimal", r"\d{10}"),
        ("padded", r"0{10}\d{10}"),
        ("hex", r"[0-9a-f]{8}"),
        ("HEX", r"[0-9A-F]{8}"),
        ("padded_hex", r"0{8}[0-9a-f]{8}"),
        ("PADDED_HEX", r"0{8}[0-9A-F]{8}"),
        ("uuid", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"),
        ("UUID", r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[0-9A-F]{4}-[0-9A-F]{12}"),
        ("long", r"[0-9a-f]{64}"),
        ("none", ""),
    ],
)
async def test_message_ids_have_a_form(carrier, form, pattern):
    """The response bears the id in its form; a receipt may spell it in another."""
    smsc = await carrier(Script(play=Play(id_form=form, receipts=(Receipt(id_form="decimal"),))))
    esme = await bound(smsc)
    esme.submit()
    (answer,) = await esme.answered()
    assert re.fullmatch(pattern, answer.frame.pdu.message_id)
    (receipt,) = await esme.asked()
    assert id_of(receipt).isdigit()
    if form in {"hex", "HEX", "padded_hex", "PADDED_HEX"}:
        assert int(answer.frame.pdu.message_id, 16) == int(id_of(receipt))


async def test_message_ids_come_again(carrier):
    """Carriers reuse ids: with a cycle of two the third message has the first one's."""
    smsc = await carrier(Script(id_cycle=2, play=SILENT))
    esme = await bound(smsc)
    for n in range(3):
        esme.submit(key=n)
    first, second, third = (a.frame.pdu.message_id for a in await esme.answered(3))
    assert first == third != second


# --- Magic numbers and scripts ---


@pytest.mark.parametrize(
    ("number", "statuses", "states"),
    [
        (1, [0], ["DELIVRD"]),
        (2, [0], ["ENROUTE", "DELIVRD"]),
        (3, [0], ["UNDELIV"]),
        (4, [Status.RINVDSTADR], []),
        (9, [0], ["DELIVRD", "DELIVRD"]),
        (10, [0], ["DELIVRD"]),
        (11, [0], []),
        (12, [Status.RSYSERR, 0], ["DELIVRD"]),
        (14, [0], ["DELIVRD", "YES"]),
        (15, [0], ["DELIVRD", "TC"]),
        (16, [Status.RTHROTTLED, Status.RTHROTTLED, 0], ["DELIVRD"]),
        (17, [], ["DELIVRD"]),
        (18, [], []),
        (19, [Status.RINVSRCADR], []),
    ],
)
async def test_magic_numbers(carrier, number, statuses, states):
    """The numbers of protocol §16 choose their outcome, unless the script turns them off."""
    smsc = await carrier(Script(play=Play(status="RSUBMITFAIL")))
    esme = await bound(smsc)
    for at in range(max(1, len(statuses))):
        esme.submit(f"840000000{number:02d}", key=at)
    assert [a.status for a in await esme.answered(len(statuses))] == statuses
    frames = await esme.asked(len(states))
    assert [next(s for s in {*states} if s in text_of(f)) for f in frames] == states
    smsc.script = Script(magic=False, play=Play(status="RSUBMITFAIL"))
    esme.submit(f"840000000{number:02d}", key="off")
    assert (await esme.answered(len(statuses) + 1))[-1].status == Status.RSUBMITFAIL


async def test_a_script_is_exchanged_while_it_runs(carrier):
    """The next message meets the new script; ids go on, so none is given twice."""
    smsc = await carrier(Script(play=SILENT))
    esme = await bound(smsc)
    esme.submit(key=1)
    await esme.answered(1)
    smsc.script = Script(play=Play(id_form="hex", receipts=()), rules=(Rule(next=1, status="RTHROTTLED"),))
    esme.submit(key=2)
    esme.submit(key=3)
    first, second, third = await esme.answered(3)
    assert second.status == Status.RTHROTTLED
    assert first.frame.pdu.message_id != third.frame.pdu.message_id


def test_scripts_are_written_in_toml(tmp_path):
    """A rule takes from `play` what it leaves out, and a delay may be drawn."""
    path = tmp_path / "carrier.toml"
    path.write_text(
        """
        accounts = { shop = "secret" }
        [play]
        id_form = "decimal"
        receipts = [{ state = "ENROUTE", intermediate = true }, { after_s = [1, 5] }]
        [[rules]]
        pattern = "8491*"
        share = 0.3
        status = "RTHROTTLED"
        """
    )
    (rule,) = load(path).rules
    assert (rule.id_form, rule.share, rule.status) == ("decimal", 0.3, "RTHROTTLED")
    assert rule.receipts[1].after_s == (1.0, 5.0)


@pytest.mark.parametrize("page", ["how-to/smsc.md", "vi/smsc.md"])
def test_the_scripts_of_the_documentation_work(page):
    """Every script shown to a reader is one."""
    shown = re.findall(r"^```toml\n(.+?)^```", (DOCS / page).read_text("utf8"), re.DOTALL | re.MULTILINE)
    assert len(shown) >= 2
    assert all(script_of(tomllib.loads(text)) != Script() for text in shown)


def test_everything_a_script_can_say_is_documented():
    """Each key of each table, and each shape of a receipt, stands on the page."""
    page = (DOCS / "how-to/smsc.md").read_text("utf8")
    structs = (Script, Play, Receipt, Rule, Welcome, Limits, Wire, Deliver, Speech)
    names = {name for struct in structs for name in struct.__struct_fields__} | set(SHAPES)
    assert not [name for name in sorted(names) if f"`{name}`" not in page]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"play": {"status": "NOPE"}}, "play: 'NOPE' is no command_status"),
        ({"rules": [{"share": 2}]}, "rules[0].share: Expected `float` <= 1"),
        ({"play": {"receipts": [{"shape": "odd"}]}}, "play.receipts[0]: shape 'odd' is none of standard"),
        ({"wire": {"end": "explode"}}, "wire.end: Invalid enum value 'explode'"),
        ({"binds": [{"stat": 1}]}, "binds[0]: Object contains unknown field `stat`"),
        ({"colour": 1}, "Object contains unknown field `colour`"),
    ],
)
def test_a_bad_key_is_named(raw, said):
    """The path of what is wrong and why."""
    with pytest.raises(ValueError, match="^" + re.escape(said)):
        script_of(raw)


async def test_what_nobody_asked_before_a_bind(carrier):
    """A submit before the bind is refused by the session, and nothing is counted."""
    smsc = await carrier()
    esme = await connected(smsc)
    esme.transport.write(encode(SubmitSm(destination=Address(1, 1, TO)), 7))
    await esme.until(lambda: len(esme.octets) >= 16)
    assert decode(esme.octets) == Frame(Command.SUBMIT_SM_RESP, Status.RINVBNDSTS, 7, None)
    assert smsc.counts["submits"] == 0
