"""Binds of the channel kind `smpp`: refused, lost, paired, shared, drained, TLS (channels §3.5, §3.15)."""

import asyncio
import hashlib
import random
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest
from carrier import answered, came, carrier, client, exchange, outgoing, submitted, until

from speedsms.gateway.channels.base import Accepted, Reason, Refused, Unknown
from speedsms.gateway.channels.smpp.pdu import (
    BindResp,
    Command,
    Splitter,
    Status,
    decode,
    encode,
    encode_bare,
)
from speedsms.gateway.channels.smpp.smsc import Play, Receipt, Rule, Script, Welcome, Wire

pytestmark = pytest.mark.anyio

TAKES = Script(play=Play(receipts=()), magic=False)
SLOW = Script(play=Play(delay_s=30.0, receipts=()), magic=False)
AT_ONCE = {"reconnect_s": [0.01, 0.02]}


# --------------------------------------------------------------------------------------------------- binds


async def test_a_bind_says_who_we_are():
    """All fields of the bind are as set."""
    async with exchange(TAKES, system_type="VMA", address_range="^84", interface_version=0x50) as (smsc, *_):
        (line,) = came(smsc, Command.BIND_TRANSCEIVER)
        bind = line.frame().pdu
        assert (bind.system_id, bind.password, bind.system_type) == ("esme", "secret", "VMA")
        assert (bind.interface_version, bind.address.digits) == (0x50, "^84")


@pytest.mark.parametrize("status", ["RBINDFAIL", "RINVPASWD", "RINVSYSID", "RINVSYSTYP"])
async def test_a_wrong_password_blocks(status, capsys):
    """One bind, one alarm, and no second try for minutes: a carrier would lock us out (§3.5)."""
    script = Script(bind=Welcome(status=status))
    async with carrier(script) as smsc, client(smsc.port, state="blocked", **AT_ONCE) as channel:
        assert channel.health().cause == f"bind refused: {status}"
        assert (await channel.submit(outgoing())).reason is Reason.NOT_WRITTEN
        assert smsc.counts["binds_refused"] == 1
    assert capsys.readouterr().out.count("link blocked") == 1


async def test_other_refusals_are_tried_again():
    """Back-off after a temporary refusal, no answer, and a close without a word; then up."""
    binds = (Welcome(status="RSYSERR"), Welcome(answer=False), Welcome(status="RTHROTTLED", then="close"))
    async with (
        carrier(Script(binds=binds, play=Play(receipts=()))) as smsc,
        client(smsc.port, bind_s=1.0, **AT_ONCE) as channel,
    ):
        assert smsc.counts["binds"] == 1
        assert channel.counts["reconnects"] == 3
        assert isinstance(await channel.submit(outgoing()), Accepted)


async def test_the_next_host_is_tried():
    """A host that cannot be reached costs one try."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: it refuses
        closed = taken.getsockname()[1]
        async with (
            carrier(TAKES) as smsc,
            client(0, hosts=[f"127.0.0.1:{closed}", f"127.0.0.1:{smsc.port}"], **AT_ONCE) as channel,
        ):
            assert channel.counts["reconnects"] == 1


async def test_never_more_than_twenty_binds_in_ten_minutes():
    """Whatever happens: a carrier that closes each bind sees twenty of them, then none (M3)."""
    script = Script(bind=Welcome(status="RSYSERR"))
    async with (
        carrier(script) as smsc,
        client(smsc.port, state="down", reconnect_s=[0.001, 0.001]) as channel,
    ):
        await until(lambda: channel.counts["reconnects"] == 20)
        with pytest.raises(TimeoutError):
            await smsc.until(lambda: smsc.counts["binds_refused"] > 20, within_s=0.2)


async def test_pair():
    """Messages go by the transmitter, receipts come by the receiver; one without the other is degraded."""
    script = Script(play=Play(receipts=(Receipt(after_s=0.0),)), magic=False)
    async with exchange(script, bind="pair", **AT_ONCE) as (smsc, channel, sink):
        outcome = await channel.submit(outgoing())
        await until(lambda: sink.reports)
        assert outcome.keys[0] in sink.reports[0].keys
        modes = {number: c.bind.mode for number, c in smsc.connections.items()}
        assert sorted(modes.values()) == ["receiver", "transmitter"]
        assert modes[submitted(smsc)[0][1]] == "transmitter"
        smsc.script = Script(bind=Welcome(status="RSYSERR"))
        smsc.end("close", next(n for n, mode in modes.items() if mode == "receiver"))
        await until(lambda: channel.health().state == "degraded")
        assert "receiver" in channel.health().cause


async def test_several_binds_share_the_traffic():
    """SM-24: round robin over binds; when one is lost the others go on, and the channel is degraded."""
    async with exchange(TAKES, binds=4, **AT_ONCE) as (smsc, channel, _):
        assert channel.traits.links == 4
        await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(40)))
        used = [connection for _, connection, _ in submitted(smsc)]
        assert {used.count(connection) for connection in set(used)} == {10}
        smsc.script = Script(bind=Welcome(status="RSYSERR"), play=Play(receipts=()), magic=False)
        smsc.end("close", used[0])
        await until(lambda: channel.health().state == "degraded")
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(12)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)


async def test_held_links_and_their_share_of_the_rate():
    """CH-9: only the links that are ours are bound, with their share of the rate; others end by drain."""
    async with exchange(TAKES, binds=4, rate=4000, window=1000) as (smsc, channel, _):
        now = asyncio.get_running_loop().time()
        assert channel.capacity(now).free == 400
        channel.hold([1])
        await smsc.until(lambda: len(smsc.connections) == 1)
        assert len(came(smsc, Command.UNBIND)) == 3
        assert channel.capacity(now).free == 100
        channel.hold([])
        await smsc.until(lambda: not smsc.connections)
        assert channel.capacity(now).free == 0
        assert channel.health().state == "starting"


# --------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("how", ["reset", "close", "cut"])
async def test_a_loss_with_a_full_window(how):
    """M1: at most the window is unknown, what waited is certainly not written, and the link comes back."""
    async with exchange(SLOW, window=10, **AT_ONCE) as (smsc, channel, _):
        outcomes = [channel.submit(outgoing(n)) for n in range(25)]
        await smsc.until(lambda: len(submitted(smsc)) == 10)
        smsc.script = TAKES
        smsc.end(how)
        ends = await asyncio.gather(*outcomes)
        assert [type(end) for end in ends] == [Unknown] * 10 + [Refused] * 15
        assert {end.reason for end in ends[10:]} == {Reason.NOT_WRITTEN}
        assert {end.stage for end in ends[:10]} == {"written"}
        await until(lambda: channel.health().state == "up")
        assert isinstance(await channel.submit(outgoing()), Accepted)


async def test_the_peer_unbinds():
    """§3.4: open parts may still be answered, then unbind_resp; we come back."""
    script = Script(play=Play(delay_s=0.2, receipts=()), magic=False)
    async with exchange(script, **AT_ONCE) as (smsc, channel, _):
        outcome = channel.submit(outgoing())
        await smsc.until(lambda: submitted(smsc))
        smsc.end("unbind")
        assert isinstance(await outcome, Accepted)
        assert (await channel.submit(outgoing(2))).reason is Reason.NOT_WRITTEN
        await smsc.until(lambda: smsc.counts["binds"] == 2)
        assert answered(smsc, Command.UNBIND_RESP) == [Status.ROK]


@pytest.mark.parametrize("status", ["RINVBNDSTS", "RALYBND"])
async def test_a_bind_in_doubt_is_made_anew(status):
    """§3.10: the part was not taken, with certainty, and the link binds again."""
    script = Script(play=Play(receipts=()), rules=(Rule(next=1, status=status, receipts=()),), magic=False)
    async with exchange(script, **AT_ONCE) as (smsc, channel, _):
        assert (await channel.submit(outgoing())).reason is Reason.NOT_WRITTEN
        await until(lambda: smsc.counts["binds"] == 2 and channel.health().state == "up")
        assert isinstance(await channel.submit(outgoing(2)), Accepted)


async def test_silence_drops_the_link():
    """M2: a black hole is found by a probe without an answer."""
    async with exchange(SLOW, enquire_link_s=0.1, enquire_timeout_s=0.1, **AT_ONCE) as (smsc, channel, _):
        outcome = channel.submit(outgoing())
        await smsc.until(lambda: submitted(smsc))
        smsc.end("mute")
        assert (await outcome).stage == "written"
        await until(lambda: channel.health().state == "up")


async def test_a_flood_of_enquire_link_is_answered():
    """M15: a thousand probes a second are answered, and messages pass."""
    script = Script(wire=Wire(flood=1000), play=Play(receipts=()), magic=False)
    async with exchange(script) as (smsc, channel, _):
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n)) for n in range(100)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        await smsc.until(lambda: len(answered(smsc, Command.ENQUIRE_LINK_RESP)) > 50)


async def test_one_octet_per_second_and_garbage():
    """M14: a crawling peer costs nothing; a broken stream is left and bound anew."""
    async with exchange(TAKES, **AT_ONCE) as (smsc, channel, _):
        smsc.send(b"\x00\x00")
        assert channel.health().state == "up"
        smsc.send(b"\x00\x0f" + b"\xff" * 12)
        await smsc.until(lambda: smsc.counts["binds"] == 2)
        await until(lambda: channel.health().state == "up")


@asynccontextmanager
async def deaf():
    """A carrier that answers a bind and reads nothing until `hear` is set: (port, hear, octets, writers)."""
    hear, octets, writers = asyncio.Event(), bytearray(), []

    async def serve(reader, writer):
        writers.append(writer)
        bind = await reader.readexactly(int.from_bytes(peeked := await reader.readexactly(4)) - 4)
        frame = decode(peeked + bind)
        writer.write(encode(BindResp("transceiver", "deaf"), frame.sequence))
        await hear.wait()
        while data := await reader.read(1 << 16):
            octets.extend(data)
        writer.close()

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server = await asyncio.start_server(serve, sock=listening, limit=1 << 12)
    try:
        yield listening.getsockname()[1], hear, octets, writers
    finally:
        hear.set()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def test_what_is_refused_as_not_written_never_left():
    """§3.4: a peer stops reading, the link is dropped; no octet of a part called not_written reached it."""
    probe = {"enquire_link_s": 0.3, "enquire_timeout_s": 0.3, "concat": "payload"}
    async with (
        deaf() as (port, hear, octets, writers),
        client(port, window=10_000, reconnect_s=[60, 60], **probe) as channel,
    ):
        long = ["x" * 153] * 20
        outcomes = {f"849{n:08}": channel.submit(outgoing(n, *long)) for n in range(5000)}
        await asyncio.gather(*outcomes.values())
        hear.set()
        await until(writers[0].is_closing)
        unknown = {to for to, outcome in outcomes.items() if isinstance(outcome.result(), Unknown)}
        arrived = {
            frame.pdu.destination.digits
            for frame in map(decode, Splitter().feed(bytes(octets)))
            if frame.command == Command.SUBMIT_SM
        }
        assert arrived <= unknown
        assert 0 < len(unknown) < 5000
        assert {o.result().reason for to, o in outcomes.items() if to not in unknown} == {Reason.NOT_WRITTEN}


async def test_a_peer_that_asks_and_does_not_read_is_dropped():
    """Its answers are not kept for it: the link ends before they are many."""
    async with deaf() as (port, _, _, writers), client(port, reconnect_s=[60, 60]) as channel:
        probes = b"".join(encode_bare(Command.ENQUIRE_LINK, n) for n in range(1, 5000))
        while channel.health().state == "up":
            writers[0].write(probes)
            await asyncio.sleep(0)
        assert channel.health().cause == "the peer does not read"


@pytest.mark.parametrize("seed", range(3))
async def test_outcomes_tell_the_truth_whatever_happens(seed):
    """Links die at random under mixed answers: accepted is true, refused is certain, and nothing hangs."""
    dice = random.Random(seed)
    rules = (
        Rule(share=0.05, status="RTHROTTLED", receipts=()),
        Rule(share=0.05, status="RINVDSTADR", receipts=(), delay_s=0.01),
        Rule(share=0.2, receipts=(), delay_s=(0.0, 0.03)),
        Rule(share=0.01, receipts=(), then="unbind"),
    )
    script = Script(play=Play(receipts=()), rules=rules, magic=False)
    settings = {"binds": 2, "window": 20, "reconnect_s": [0.001, 0.002], "submit_timeout_s": 1.0}
    outcomes = {}
    async with exchange(script, **settings) as (smsc, channel, _):
        for n in range(2000):
            outcomes[n] = channel.submit(outgoing(n, *["a" * 153, "b"][: dice.choice([1, 1, 2])]))
            if not n % 10:
                await asyncio.sleep(0)
            if not n % 100 and smsc.connections:
                smsc.end(dice.choice(["close", "reset"]), dice.choice(list(smsc.connections)))
                await until(lambda: channel.capacity(0).free)
        await asyncio.gather(*outcomes.values())
        taken = takings(smsc)
    kinds = {type(outcome.result()) for outcome in outcomes.values()}
    assert kinds == {Accepted, Refused, Unknown}
    for n, outcome in outcomes.items():
        parts = taken.get(f"849{n:08}", set())
        match outcome.result():
            case Accepted(references):
                assert len(parts) == len(references)
            case Refused(done=done):
                assert parts == done


def takings(smsc):
    """Number → parts whose submit_sm the carrier answered with ROK."""
    asked, taken = {}, {}
    for line in smsc.journal.lines:
        frame = line.frame() if line.octets else None
        if frame and frame.command == Command.SUBMIT_SM:
            asked[line.connection, frame.sequence] = frame.pdu
        elif frame and frame.command == Command.SUBMIT_SM_RESP and frame.status == Status.ROK:
            pdu = asked[line.connection, frame.sequence]
            number = pdu.short_message[5] if pdu.esm_class else 1
            taken.setdefault(pdu.destination.digits, set()).add(number)
    return taken


# --------------------------------------------------------------------------------------------- drain and stop


async def test_drain():
    """§3.15: what waits goes back, what is open is answered, receipts are served, then unbind: no unknown."""
    script = Script(play=Play(delay_s=0.1, receipts=(Receipt(after_s=-0.05),)), magic=False)
    async with exchange(script, window=5) as (smsc, channel, sink):
        outcomes = [channel.submit(outgoing(n)) for n in range(8)]
        await smsc.until(lambda: len(submitted(smsc)) == 5)
        await channel.drain(5)
        ends = [outcome.result() for outcome in outcomes]
        assert [type(end) for end in ends] == [Accepted] * 5 + [Refused] * 3
        assert {end.reason for end in ends[5:]} == {Reason.NOT_WRITTEN}
        assert len(sink.reports) == 5
        assert channel.health().state == "draining"
        assert len(came(smsc, Command.UNBIND)) == 1
        assert (await channel.submit(outgoing())).reason is Reason.NOT_WRITTEN


async def test_a_drained_pair_serves_receipts_to_the_last():
    """§3.15: the receiver leaves after the transmitter."""
    script = Script(play=Play(delay_s=0.1, receipts=(Receipt(after_s=-0.01),)), magic=False)
    async with exchange(script, bind="pair") as (smsc, channel, sink):
        outcome = channel.submit(outgoing())
        await smsc.until(lambda: submitted(smsc))
        await channel.drain(5)
        assert isinstance(outcome.result(), Accepted)
        assert len(sink.reports) == 1
        assert len(came(smsc, Command.UNBIND)) == 2


async def test_a_drain_has_an_end():
    """What is still open after the time given is unknown."""
    async with exchange(SLOW, unbind_s=0.1) as (_, channel, _):
        outcome = channel.submit(outgoing())
        await channel.drain(0.1)
        assert isinstance(outcome.result(), Unknown)


async def test_stop_leaves_no_question_open():
    """Every future ends, whatever the moment."""
    async with exchange(SLOW, window=2) as (_, channel, _):
        outcomes = [channel.submit(outgoing(n, "a" * 153, "b")) for n in range(4)]
        await channel.stop()
        assert all(outcome.done() for outcome in outcomes)
        assert channel.health().state == "stopped"


# ----------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """good, expired and other: certificates of `carrier.test`, each its own authority, with one key."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for name in ("good", "other"):
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:carrier.test"]
        openssl("req", "-x509", *new, *subject, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl("x509", "-in", "good.pem", "-signkey", "good.key", "-days", "-1", "-out", "expired.pem")
    return folder


def serving(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{'other' if name == 'other' else 'good'}.key")
    return context


@pytest.mark.parametrize(
    ("certificate", "settings", "state"),
    [
        ("good", {}, "up"),
        ("expired", {"ca_file": "expired.pem"}, "blocked"),
        ("good", {"server_name": "elsewhere.test"}, "blocked"),
        ("other", {}, "blocked"),
        ("good", {"pin_sha256": "00" * 32}, "blocked"),
    ],
    ids=["good", "expired", "wrong host", "unknown authority", "wrong pin"],
)
async def test_tls(certificates, certificate, settings, state):
    """M19: verified, or not one octet is sent: no password goes to a stranger."""
    given = {"tls": True, "ca_file": "good.pem", "server_name": "carrier.test"} | settings
    given["ca_file"] = str(certificates / given["ca_file"])
    async with (
        listening(serving(certificates, certificate)) as (port, octets),
        client(port, state=state, **given) as channel,
    ):
        assert channel.health().cause.startswith("TLS: " if state == "blocked" else "")
        assert (len(octets) > 0) == (state == "up")


async def test_messages_over_mutual_tls(certificates):
    """Both sides show a certificate, ours is pinned to the carrier's; traffic passes as without TLS."""
    ours = certificates / "ours.pem"
    ours.write_bytes((certificates / "other.pem").read_bytes() + (certificates / "other.key").read_bytes())
    context = serving(certificates, "good")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates / "other.pem")
    der = ssl.PEM_cert_to_DER_cert((certificates / "good.pem").read_text())
    given = {
        "tls": True,
        "ca_file": str(certificates / "good.pem"),
        "server_name": "carrier.test",
        "client_cert": str(ours),
        "pin_sha256": hashlib.sha256(der).hexdigest(),
    }
    async with carrier(TAKES, tls=context) as smsc, client(smsc.port, window=100, **given) as channel:
        outcomes = await asyncio.gather(*(channel.submit(outgoing(n, "x" * 160)) for n in range(1000)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert len(submitted(smsc)) == 1000


async def test_an_old_tls_is_refused(certificates):
    """M19: no downgrade below TLS 1.2."""
    context = serving(certificates, "good")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    given = {"tls": True, "ca_file": str(certificates / "good.pem"), "server_name": "carrier.test"}
    async with listening(context) as (port, octets), client(port, state="down|blocked", **given):
        assert not octets


@asynccontextmanager
async def listening(context):
    """A server that welcomes a bind and keeps what it reads: (port, octets)."""
    octets = bytearray()

    async def serve(reader, writer):
        while data := await reader.read(1 << 16):
            octets.extend(data)
            writer.write(encode(BindResp("transceiver", "here"), 1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], octets
    finally:
        server.close()


async def test_secrets_stay_secret(capsys):
    """CH-10: neither password, text nor number stands in a line or in a cause."""
    script = Script(bind=Welcome(status="RSYSERR"))
    async with (
        carrier(script) as smsc,
        client(smsc.port, state="down", password="hush7", **AT_ONCE) as c,
    ):
        await c.submit(outgoing(5, "canary"))
        smsc.script = Script(play=Play(status=0x61, receipts=()), magic=False)
        await until(lambda: c.health().state == "up")
        outcome = await c.submit(outgoing(5, "canary"))
        written = capsys.readouterr().out + str(c.health()) + str(outcome) + repr(c._settings)
    assert "the carrier refuses our settings" in written
    assert not [secret for secret in ("hush7", "canary", "84900000005") if secret in written]
