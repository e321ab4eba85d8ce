"""The server's own limits and manners, over real sockets (protocol §1.1, §1.2, stack §7)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from speedsms.gateway.web import http
from speedsms.gateway.web.asgi import read_body

pytestmark = pytest.mark.anyio


async def echo(scope, receive, send):
    """Answers with the octets of the body, or 413."""
    body = await read_body(dict(scope["headers"]), receive)
    text = b"too large" if body is None else b"%d" % len(body)
    head = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def server(app=echo, cap=0) -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Task[None]]]:
    stop = asyncio.Event()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(http.serve(app, sock, stop, connections_per_address=cap))
        port = sock.getsockname()[1]
        try:
            while not await listening(port):
                pass
            yield port, stop, serving
        finally:
            stop.set()
            await serving


@pytest.fixture(scope="module")
async def port(anyio_backend) -> AsyncIterator[int]:  # noqa: ARG001 - one loop for the module
    async with server() as (port, _, _):
        yield port


async def exchange(port: int, raw: bytes, replies: int = 1) -> bytes:
    """What comes back until so many replies are there, or the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        seen = b""
        while data := await reader.read(65536):
            seen += data
            if seen.count(b"HTTP/1.1 ") >= replies and not seen.endswith(b"\r\n\r\n"):
                break
        return seen
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def get(target: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: x", *fields, b"", b""))


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(b"/" + b"a" * 16_383), b"200"),
        (get(b"/" + b"a" * 16_384), b"414"),
        (get(b"/", *(b"X-%d: 1" % n for n in range(99))), b"200"),
        (get(b"/", *(b"X-%d: 1" % n for n in range(100))), b"431"),
        (get(b"/", b"X: " + b"a" * 32_600), b"200"),
        (get(b"/", b"X: " + b"a" * 32_800), b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 400_000, b"431"),
        (b"GET /" + b"a" * 400_000, b"431"),
        (get(b"/?q=\xc3\xa1"), b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            b"400",
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabcd", b"400"),
    ],
)
async def test_limits(port, raw, status):
    """Target, header block, fields and broken framing have the answers of protocol §1.2."""
    assert (await exchange(port, raw)).split(b" ")[1] == status


async def test_bodies_chunked_pipelined_and_expected(port):
    """Chunked bodies, pipelining, Expect and an upgrade offer work on one connection (protocol §1.1)."""
    chunked = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    offer = (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab"
    )
    expect = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nabcd"
    seen = await exchange(port, chunked + get(b"/") + expect, replies=4)
    assert [piece[:3] for piece in seen.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"100", b"200"]
    assert seen.endswith(b"4")
    assert (await exchange(port, offer)).endswith(b"\r\n\r\n2")


async def test_body_too_large_is_answered_and_the_connection_lives(port):
    """A body over the limit gets its answer, and the next request on the connection is served (§1.1)."""
    big = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n" + b"a" * 1_048_577
    seen = await exchange(port, big + get(b"/"), replies=2)
    assert b"too large" in seen
    assert seen.endswith(b"0")


async def test_unfinished_request_is_closed(monkeypatch):
    """A request that is not whole in time ends the connection (§1.2: 30 s, shortened here)."""
    monkeypatch.setattr(http, "RECEIVE_S", 0.05)
    begun = (b"", b"\r\n", b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
    async with server() as (port, _, _):
        for seen in await asyncio.gather(*(exchange(port, part) for part in begun)):
            assert b"200" not in seen


async def refused(port: int) -> bool:
    """Whether a new connection gets no answer."""
    try:
        return not await exchange(port, get(b"/"))
    except ConnectionError:
        return True


async def test_connections_per_address():
    """One address cannot take more connections than the cap; closing one makes room."""
    async with server(cap=2) as (port, _, _):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(get(b"/"))
            assert await reader.read(9)
        assert await refused(port)
        await closed(held.pop()[1])
        while await refused(port):
            pass  # until the server has seen the end of the other
        await closed(held.pop()[1])


async def listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    await closed(writer)
    return True


async def test_stop_finishes_what_runs():
    """After stop no connection is accepted, the running call is answered, then everything closes (PR-2)."""
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        arrived.set()
        await gate.wait()
        await echo(scope, receive, send)

    async with server(app) as (port, stop, serving):
        running = asyncio.create_task(exchange(port, get(b"/")))
        await arrived.wait()
        stop.set()
        while await listening(port):
            pass
        gate.set()
        assert (await running).endswith(b"\r\n\r\n0")
        await serving
