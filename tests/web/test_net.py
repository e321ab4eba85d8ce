"""The outbound client: what is refused never sees a packet, and no receiver can hold or swell us (W1-W8)."""

import asyncio
import gzip
import ipaddress
import itertools
import json
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway import net
from speedsms.gateway.net import Failed, Kind, Net, denied, target

URLS = json.loads((Path(__file__).parent / "ssrf_urls.json").read_text(encoding="utf-8"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = {"Content-Type": "application/json"}


@asynccontextmanager
async def receiver(play, host="127.0.0.1", **more):
    """A server that gives every request to `play(requests so far, writer)`; yields (port, requests)."""
    requests = []

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                requests.append((head, await reader.readexactly(length)))
                await play(len(requests), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0, **more)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        server.close()


def says(*pieces, close=False):
    async def play(_count, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if close:
            writer.close()

    return play


def post(play, times=1, timeout_s=net.TOTAL_S):
    """Post to a receiver that plays its part; (last answer or failure, requests it saw)."""

    async def go():
        async with (
            receiver(play) as (port, requests),
            Net(allow_loopback=True, timeout_s=timeout_s) as client,
        ):
            for _ in range(times):
                try:
                    answer = await client.post(f"http://127.0.0.1:{port}/hook?a=b", b'{"a":1}', HEADERS)
                except Failed as failed:
                    answer = failed
            return answer, requests

    return asyncio.run(go())


def test_the_request_is_what_was_asked_for():
    """Method, path, host, headers and body arrive once; a kept connection carries the next."""
    answer, requests = post(says(OK), times=3)
    assert (answer.status, answer.body, answer.retry_after) == (200, b"ok", None)
    head, body = requests[0]
    assert body == b'{"a":1}'
    assert head.startswith(b"POST /hook?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert head.endswith(b"\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n")
    assert len(requests) == 3


@pytest.mark.parametrize("status", [200, 204, 299, 301, 302, 307, 308, 404, 410, 429, 500, 504])
def test_one_answer_and_nothing_followed(status):
    """The final status is told as it came; a Location is never visited, whatever the status (W2, W3)."""
    reply = f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    answer, requests = post(says(reply.encode()))
    assert (answer.status, answer.retry_after, len(requests)) == (status, "120", 1)


def test_interim_answers_have_no_effect():
    """103 and 100 before the answer are passed over (W2)."""
    early = b"HTTP/1.1 103 Early\r\nRetry-After: 9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    assert post(says(early, OK))[0].status == 200


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([b"HTTP/1.1 102 Processing\r\n\r\n"] * 3000, Kind.TOO_LARGE),
        ([b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000, b"\r\n"], Kind.TOO_LARGE),
        ([b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100_000], Kind.TOO_LARGE),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], Kind.PROTOCOL),
        ([b"220 smtp ready\r\n"], Kind.PROTOCOL),
        ([b"\x16\x03\x01\x02\x00"], Kind.PROTOCOL),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], Kind.PROTOCOL),
        ([], Kind.PROTOCOL),
    ],
    ids=["1xx storm", "headers", "one header", "upgrade", "not http", "tls on http", "cut", "silent close"],
)
def test_no_answer(pieces, kind):
    """Endless headers are cut at 16 KiB, and what is not an HTTP answer is none (W1, W4)."""
    answer, _ = post(says(*pieces, close=True))
    assert isinstance(answer, Failed)
    assert answer.kind is kind


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", *[b"x" * 65536] * 30],
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            *[b"ffff\r\n" + b"x" * 65535 + b"\r\n"] * 30,
        ],
        [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 30],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxxx"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxxx\r\n"],
    ],
    ids=["100 MB", "endless chunks", "until close", "reset in the body", "bad chunk"],
)
def test_a_bad_body_does_not_change_the_answer(pieces):
    """2xx was said: at most 64 KiB more are read, 4 KiB kept, the connection is not used again (W4, W8)."""
    answer, requests = post(says(*pieces, close=True), times=2)
    assert answer.status == 200
    assert len(answer.body) <= net.BODY_KEPT
    assert len(requests) == 2


def test_a_gzip_bomb_stays_folded():
    """Nothing is decompressed, whatever the headers say (W4)."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    answer, _ = post(says(head, bomb))
    assert answer.body == bomb[: net.BODY_KEPT]


@pytest.mark.parametrize(
    ("said", "status", "timeout_s"),
    [
        (b"", None, 0.1),
        (b"HTTP/1.1 200 OK\r\nX: ", None, 0.1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", 200, 2.0),
    ],
    ids=["nothing", "header", "body"],
)
def test_a_slow_answer_is_cut(said, status, timeout_s):
    """An attempt ends with its time; a status line that came in time counts (W1, W4, W8)."""

    async def play(_count, writer):
        writer.write(said)
        await asyncio.Event().wait()

    answer, _ = post(play, timeout_s=timeout_s)
    assert (None if isinstance(answer, Failed) else answer.status) == status
    assert status or answer.kind is Kind.TIMEOUT


def test_a_connection_closed_meanwhile_is_replaced():
    """A receiver that closes kept connections costs no attempt."""

    async def play(_count, writer):
        writer.write(OK)
        await writer.drain()
        writer.transport.abort()

    answer, requests = post(play, times=5)
    assert (answer.status, len(requests)) == (200, 5)


def test_an_answer_nobody_asked_for_is_not_the_next_answer():
    """A second answer on a kept connection does not become that of the next request."""
    answer, requests = post(says(OK + OK.replace(b"200", b"500")), times=2)
    assert (answer.status, len(requests)) == (200, 2)


def test_a_late_answer_ends_its_connection():
    """What comes on a kept connection between two posts closes it: it cannot answer the next one."""

    async def go():
        answered, closed = asyncio.Event(), asyncio.Event()

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await answered.wait()
            writer.write(OK.replace(b"200", b"500"))
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
            closed.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Net(allow_loopback=True) as client:
            await client.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"", HEADERS)
            answered.set()
            await asyncio.wait_for(closed.wait(), 60)

    asyncio.run(go())


def test_headers_cannot_be_split():
    """A value with a line end is a mistake of ours and never leaves."""

    async def go():
        async with Net(allow_loopback=True) as client:
            await client.post("http://127.0.0.1:9999/", b"", {"X": "a\r\nY: b"})

    with pytest.raises(ValueError, match="visible ASCII"):
        asyncio.run(go())


def failure(url, **more):
    async def go():
        async with Net(**more) as client:
            await client.post(url, b"", HEADERS)

    with pytest.raises(Failed) as raised:
        asyncio.run(go())
    return raised.value.kind


async def nowhere(_host, _port):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def never(_host, _port):
    await asyncio.Event().wait()


def test_failures_have_names():
    """Refused connection and unknown name are told apart (W1)."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # without listening, and so that nobody else does
        port = silent.getsockname()[1]
        assert failure(f"http://127.0.0.1:{port}/", allow_loopback=True) is Kind.CONNECT
    assert failure("http://shop.example/", resolve=nowhere) is Kind.DNS


def test_a_name_server_that_never_answers():
    """The look-up is part of the connect time (W1)."""
    assert failure("http://shop.example/", resolve=never, timeout_s=0.1) is Kind.TIMEOUT


def test_tls_must_be_trusted(tmp_path):
    """A certificate of nobody's is a failure before a byte is posted; a trusted one serves."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x"
    options = ["-addext", "subjectAltName=DNS:shop.example", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", *made.split(), *options], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def resolve(_host, port):
        return at(port, INSIDE[0])

    async def go():
        async with (
            receiver(says(OK), ssl=context) as (port, requests),
            Net(allow_loopback=True, resolve=resolve) as client,
        ):
            seen = []
            for name in ("shop.example", "other.example", "shop.example", "shop.example"):
                try:
                    answer = await client.post(f"https://{name}:{port}/", b"", HEADERS)
                    seen.append((answer.status, len(requests)))
                except Failed as failed:
                    seen.append((failed.kind, len(requests)))
                client._tls.load_verify_locations(certificate)
            return seen

    assert asyncio.run(go()) == [(Kind.TLS, 0), (Kind.TLS, 0), (200, 1), (200, 2)]


# ------------------------------------------------------------------ addresses that must not be reached


def test_the_corpus_is_large_enough():
    """At least 60 forms (invariants §10)."""
    assert len({case["url"] for case in URLS}) >= 60


@pytest.mark.parametrize("case", URLS, ids=lambda case: repr(case["url"][:60]))
def test_forms_at_save(case):
    """A form that can be seen to be wrong is refused when it is saved, with a reason."""
    url = case["url"].replace("{port}", "8080")
    if case["save"] == "accepted":
        assert target(url).host.isascii()
        return
    with pytest.raises(Failed) as raised:
        target(url)
    assert raised.value.kind is Kind.DENIED
    assert raised.value.detail


@asynccontextmanager
async def listener():
    """Counts connections to one port on every address of this machine."""
    seen = []

    def met(_reader, writer):
        seen.append(writer.get_extra_info("sockname"))
        writer.close()

    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await asyncio.start_server(met, sock=sock)
    try:
        yield sock.getsockname()[1], seen
    finally:
        server.close()


INSIDE = [
    (socket.AF_INET, ("127.0.0.1",)),
    (socket.AF_INET, ("127.0.0.53",)),
    (socket.AF_INET, ("0.0.0.0",)),
    (socket.AF_INET, ("10.0.0.1",)),
    (socket.AF_INET, ("169.254.169.254",)),
    (socket.AF_INET6, ("::1",)),
    (socket.AF_INET6, ("::ffff:127.0.0.1",)),
    (socket.AF_INET6, ("64:ff9b::7f00:1",)),
]


def at(port, *addresses):
    return [
        (family, (*where, port) if family == socket.AF_INET else (*where, port, 0, 0))
        for family, where in addresses
    ]


def test_forms_at_send_and_after_a_dns_change():
    """No form reaches this machine, whatever its name means: first one inside address, then all (W5, W6)."""

    async def go():
        turns = itertools.cycle([[address] for address in INSIDE] + [INSIDE])

        async def resolve(_host, port):
            return at(port, *next(turns))

        async with listener() as (port, seen), Net(resolve=resolve) as client:
            kinds = set()
            for case, _ in itertools.product(URLS, range(len(INSIDE) + 1)):
                with pytest.raises(Failed) as raised:
                    await client.post(case["url"].replace("{port}", str(port)), b"", HEADERS)
                kinds.add(raised.value.kind)
            unguarded = list(seen)
            async with Net(resolve=resolve, allow_loopback=True) as open_client:
                with pytest.raises(Failed):
                    await open_client.post(f"http://shop.example:{port}/", b"", HEADERS)
            return kinds, unguarded, len(seen)

    kinds, seen, seen_with_the_guard_open = asyncio.run(go())
    assert (kinds, seen) == ({Kind.DENIED}, [])
    assert seen_with_the_guard_open > 0  # the listener would have noticed


def test_a_name_that_moves_inside_is_left():
    """Once the kept connection is gone, the new address is judged anew."""

    async def go():
        homes = iter([[INSIDE[0]], [INSIDE[3]]])

        async def resolve(_host, port):
            return at(port, *next(homes))

        async with receiver(says(OK, close=True)) as (port, requests):
            async with Net(allow_loopback=True, resolve=resolve) as client:
                url = f"http://shop.example:{port}/"
                assert (await client.post(url, b"", HEADERS)).status == 200
                with pytest.raises(Failed) as raised:
                    await client.post(url, b"", HEADERS)
            return raised.value.kind, len(requests)

    assert asyncio.run(go()) == (Kind.DENIED, 1)


def test_loopback_for_the_demo_is_loopback_alone():
    """The demo's switch opens 127/8 and ::1, and no other private or translated address."""
    assert target("http://localhost:8080/", allow_loopback=True).host == "localhost"
    assert target("http://[::1]:8080/", allow_loopback=True).authority == "[::1]:8080"
    for url in (
        "http://10.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://169.254.169.254/",
    ):
        with pytest.raises(Failed):
            target(url, allow_loopback=True)


# Ranges that no webhook may reach, written here once more so that a change of a table is seen.
RANGES = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/29 192.0.2.0/24
192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ::/96
::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/32 2001:db8::/32 2002::/16 3fff::/20 fc00::/7
fe80::/10 fec0::/10 ff00::/8"""


@given(st.data())
def test_no_address_of_a_denied_range_passes(data):
    """Every address of every range is denied, ends included."""
    block = ipaddress.ip_network(data.draw(st.sampled_from(RANGES.split())))
    address = data.draw(st.ip_addresses(network=block))
    assert denied(address)
    assert denied(block[0])
    assert denied(block[-1])


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "203.162.4.191", "100.63.255.255", "172.32.0.1", "2606:4700::1111"]
)
def test_public_addresses_pass(address):
    """The guard does not refuse the Internet, nor the neighbours of what it refuses."""
    assert not denied(ipaddress.ip_address(address))


def test_the_good_among_mixed_addresses_remain():
    """Of a name with public and inside addresses only the public ones are ever tried (W6)."""

    async def resolve(_host, port):
        return at(port, *INSIDE, (socket.AF_INET, ("203.162.4.191",)))

    async def go():
        async with Net(resolve=resolve) as client:
            return await client._allowed(target("http://shop.example/"))

    assert asyncio.run(go()) == at(80, (socket.AF_INET, ("203.162.4.191",)))
