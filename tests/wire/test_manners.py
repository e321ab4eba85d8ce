"""What golden vectors cannot say: simultaneous calls, cut connections, wrong credentials, other pages."""

import asyncio
import json
import socket
from contextlib import suppress

import pytest

from speedsms.gateway.web import http

pytestmark = pytest.mark.anyio

BASIC = b"Authorization: Basic dmVjTWFpbjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDE6eA==\r\n"
TESTMODE = b"Authorization: Bearer vecTestmode000000000000000000001\r\n"


@pytest.fixture
def gateway(world):
    world.begin({"account": "main"})
    return world


async def ask(
    gateway, method: bytes, path: bytes, fields: bytes = BASIC, body: bytes = b""
) -> tuple[bytes, bytes]:
    """Head and body of the reply; both empty if the connection was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    length = b"Content-Length: %d\r\n" % len(body)
    writer.write(
        method
        + b" "
        + path
        + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + fields
        + length
        + b"\r\n"
        + body
    )
    try:
        head, _, text = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionResetError:
        return b"", b""
    finally:
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
    return head, text


async def test_one_key_one_execution(gateway):
    """64 simultaneous calls with one key are accepted once; the others replay it or are told to wait."""
    gateway.begin({"account": "main", "set": {"rate_limit": 1000}})
    body = b'{"to":["0912345678"],"content":"hi"}'
    fields = BASIC + b"Idempotency-Key: one\r\n"
    replies = await asyncio.gather(*(ask(gateway, b"POST", b"/sms/send", fields, body) for _ in range(64)))
    accepted = {text for head, text in replies if b" 200 " in head}
    assert len(accepted) == 1
    assert {head.split(b" ")[1] for head, _ in replies} <= {b"200", b"409"}
    assert gateway.balance_vnd("main") == 100_000 - 250


async def test_simultaneous_calls_spend_exactly(gateway):
    """However calls race, money for two is two messages."""
    gateway.begin({"account": "main", "set": {"balance_vnd": 500}})
    body = b'{"to":["0912345678"],"content":"hi"}'
    replies = await asyncio.gather(*(ask(gateway, b"POST", b"/sms/send", BASIC, body) for _ in range(20)))
    assert sorted(json.loads(text)["code"] for _, text in replies) == ["00"] * 2 + ["300"] * 18
    assert gateway.balance_vnd("main") == 0


async def test_head_is_get_without_a_body(gateway):
    """HEAD has the headers of GET and no body (§1.1)."""
    head, body = await ask(gateway, b"HEAD", b"/user/info")
    _, got = await ask(gateway, b"GET", b"/user/info")
    assert b"content-length: %d" % len(got) in head
    assert body == b""


async def test_wrong_credentials_are_limited(gateway):
    """The 31st wrong token of an address within a minute is 429; a right one still passes."""
    wrong = b"Authorization: Bearer vecNobody\r\n"
    heads = [(await ask(gateway, b"GET", b"/user/info", wrong))[0] for _ in range(31)]
    assert [head.split(b" ")[1] for head in heads] == [b"401"] * 30 + [b"429"]
    assert b"retry-after: 60" in heads[-1]
    assert b"x-rate-limit" not in heads[-1]
    assert b" 200 " in (await ask(gateway, b"GET", b"/user/info"))[0]


async def test_connection_is_cut_after_acceptance(gateway):
    """Magic number 13: the call is accepted and its reply never comes (§16)."""
    body = b'{"to":["84000000013"],"content":"hi"}'
    assert await ask(gateway, b"POST", b"/sms/send", TESTMODE, body) == (b"", b"")
    assert gateway.admin.execute("SELECT count(*) FROM message").fetchone() == (1,)


async def test_pages_beside_the_contract(gateway):
    """Health, readiness and figures are plain text, need no token; mounts get their paths."""

    async def mounted(scope, receive, send):  # noqa: ARG001 - an ASGI application
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": scope["raw_path"][-4:]})

    async def figures():
        return b"x 1\n"

    parts = (gateway.db, gateway.directory, gateway.acceptor)
    gateway.app = gateway.make_app(*parts, figures=figures, mounts={"/sim/api": mounted})
    gateway.client_ip = "10.0.0.7"
    for path, text in ((b"/health", b"ok\n"), (b"/ready", b"ready\n"), (b"/metrics", b"x 1\n")):
        head, body = await ask(gateway, b"GET", path, b"")
        assert body == text
        assert b"text/plain" in head
    assert (await ask(gateway, b"GET", b"/sim/api/v9.9", b""))[1] == b"v9.9"
    assert b" 404 " in (await ask(gateway, b"GET", b"/sim/apish", b""))[0]


async def test_figures_are_not_for_strangers(gateway):
    """`/metrics` answers this machine, private networks and trusted proxies, 403 to everybody else."""

    async def figures():
        return b"x 1\n"

    parts = (gateway.db, gateway.directory, gateway.acceptor)
    gateway.app = gateway.make_app(*parts, figures=figures, trusted_proxies=("9.9.9.9",))
    seen = {}
    for address in ("127.0.0.1", "::1", "192.168.0.7", "9.9.9.9", "8.8.8.8", "2001:4860:4860::8888"):
        gateway.client_ip = address
        head, _ = await ask(gateway, b"GET", b"/metrics", b"")
        seen[address] = head.split(b" ")[1]
    assert list(seen.values()) == [b"200"] * 4 + [b"403"] * 2
    gateway.client_ip = "9.9.9.9"
    head, _ = await ask(gateway, b"GET", b"/metrics", b"X-Forwarded-For: 8.8.8.8\r\n")
    assert b" 403 " in head


async def test_calls_are_counted(gateway):
    """Each call of the contract counts once, by endpoint and status; each refusal by code and reason."""

    def count(name, **labels):
        samples = (s for family in gateway.metrics.registry.collect() for s in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def figures():
        calls = count("speedsms_http_seconds_count", endpoint="sms/send", status="200")
        return calls, count("speedsms_refused_requests_total", code="101")

    calls, refusals = figures()
    await ask(gateway, b"POST", b"/sms/send", BASIC, b'{"to":["0912345678"]}')
    assert figures() == (calls + 1, refusals + 1)


@pytest.mark.parametrize("path", [b"/slow", b"/ready"])
async def test_a_call_that_outlives_the_drain_is_answered(gateway, path):
    """It gets the framework's 500 and a closed connection: nobody knows what became of it (§1.4)."""
    arrived, stop = asyncio.Event(), asyncio.Event()

    async def endless(*_):
        arrived.set()
        await asyncio.Event().wait()

    parts = (gateway.db, gateway.directory, gateway.acceptor)
    app = gateway.make_app(*parts, mounts={"/slow": endless}, ready=endless)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        serving = asyncio.create_task(http.serve(app, sock, stop, drain_s=0))
        while sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        await arrived.wait()
        stop.set()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await serving
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in head
    assert json.loads(body)["status"] == 500
