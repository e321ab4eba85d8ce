"""The server's own limits and manners, over real sockets (protocol §1.1, §1.2, stack §7).

What is mounted as ASGI has the same manners as what is ours.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from speedsms.gateway.web import http
from speedsms.gateway.web.asgi import read_body
from speedsms.gateway.web.turns import Answer

pytestmark = pytest.mark.anyio


def text_of(body):
    return b"too large" if body is None else b"%d" % len(body)


class Echo:
    """Answers with the octets of the body, or that it is too large."""

    def mounted(self, path):  # noqa: ARG002 - an application's signature
        return None

    async def answer(self, request):
        text = text_of(request.body)
        return Answer(200, b"content-length: %d\r\n" % len(text), text)


class Mount(Echo):
    """The same as ASGI."""

    def mounted(self, path):  # noqa: ARG002 - an application's signature
        return self.echo

    async def echo(self, scope, receive, send):
        text = text_of(await read_body(dict(scope["headers"]), receive))
        head = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def server(
    app=None, cap=0, keep_alive_s=75
) -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Task[None]]]:
    stop = asyncio.Event()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()  # who comes early waits; a connection to find out would count against the cap
        serving = asyncio.create_task(
            http.serve(app or Echo(), sock, stop, connections_per_address=cap, keep_alive_s=keep_alive_s)
        )
        port = sock.getsockname()[1]
        try:
            yield port, stop, serving
        finally:
            stop.set()
            await serving


@pytest.fixture(scope="module", params=[Echo, Mount])
async def port(anyio_backend, request) -> AsyncIterator[int]:  # noqa: ARG001 - one loop for the module
    async with server(request.param()) as (port, _, _):
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


@pytest.mark.parametrize(
    "raw", [get(b"/"), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"a" * 3_000_000]
)
async def test_a_silent_connection_is_closed(raw):
    """A client that asks nothing more is not kept, not even when its body outlasted the answer."""
    async with server(keep_alive_s=0) as (port, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        await closed(writer)


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


class Slow(Echo):
    """Answers when its gate is open."""

    def __init__(self):
        self.gate, self.arrived, self.seen = asyncio.Event(), asyncio.Event(), []

    async def answer(self, request):
        self.seen.append(request.path)
        self.arrived.set()
        await self.gate.wait()
        return await super().answer(request)


class SlowMount(Mount):
    """The same as ASGI."""

    def __init__(self):
        self.gate, self.arrived = asyncio.Event(), asyncio.Event()

    async def echo(self, scope, receive, send):
        self.arrived.set()
        await self.gate.wait()
        await super().echo(scope, receive, send)


@pytest.mark.parametrize("kind", [Slow, SlowMount])
async def test_stop_finishes_what_runs(kind):
    """After stop no connection is accepted, the running call is answered, then everything closes (PR-2)."""
    app = kind()
    async with server(app) as (port, stop, serving):
        running = asyncio.create_task(exchange(port, get(b"/")))
        await app.arrived.wait()
        stop.set()
        while await listening(port):
            pass
        app.gate.set()
        assert (await running).endswith(b"\r\n\r\n0")
        await serving


async def test_head_close_and_old_clients(port):
    """HEAD has no body; `Connection: close` and HTTP/1.0 end the connection, and say so (§1.1)."""
    head = await exchange(port, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get(b"/"), replies=2)
    assert [piece.partition(b"\r\n\r\n")[2] for piece in head.split(b"HTTP/1.1 ")[1:]] == [b"", b"0"]
    assert head.count(b"content-length: 1\r\n") == 2
    for last in (get(b"/", b"Connection: close"), b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"):
        seen = await exchange(port, last + get(b"/"), replies=2)
        assert seen.count(b"HTTP/1.1 200 ") == 1
        assert b"connection: close\r\n" in seen


async def test_replies_keep_the_order_of_their_requests():
    """What is broken, or comes pipelined, waits for the replies before it: none is taken for another's."""
    app = Slow()
    async with server(app) as (port, _, _):
        raw = get(b"/first") + get(b"/second") + b"nonsense\r\n\r\n"
        running = asyncio.create_task(exchange(port, raw, replies=3))
        await app.arrived.wait()
        assert app.seen == [b"/first"]
        app.gate.set()
        seen = await running
    assert [piece[:3] for piece in seen.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400"]
    assert app.seen == [b"/first", b"/second"]


async def test_bodies_are_sent_when_they_are_asked_for(port):
    """`Expect: 100-continue` is answered in its turn; a body known to be too large is not asked for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        get(b"/") + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await reader.readuntil(b"100 Continue\r\n\r\n")).count(b"HTTP/1.1 200 ") == 1
    writer.write(b"a" * 70_000)
    assert (await reader.readuntil(b"\r\n\r\n70000")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n")
    assert b"too large" in await reader.readuntil(b"too large")
    await closed(writer)


async def test_a_mistake_of_ours_is_answered():
    """A call that nobody foresaw to fail has a 500, and its connection ends."""

    class Broken(Echo):
        async def answer(self, request):
            raise ZeroDivisionError(request.path)

    async with server(Broken()) as (port, _, _):
        seen = await exchange(port, get(b"/"))
    assert seen.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close\r\n" in seen


async def test_a_client_that_does_not_read_is_waited_for():
    """Requests beyond what the client has read of its replies stay unanswered, and unread."""

    class Long(Echo):
        answers = 0

        async def answer(self, request):  # noqa: ARG002 - every request alike
            self.answers += 1
            return Answer(200, b"content-length: 1000000\r\n", b"a" * 1_000_000)

    app = Long()
    async with server(app) as (port, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(get(b"/") * 1000)
        await reader.readexactly(10_000)
        assert app.answers < 50
        for _ in range(100):
            await reader.readexactly(1_000_000)
        assert app.answers >= 100
        await closed(writer)


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"


async def test_trailers_are_no_headers():
    """What stands behind a body says nothing of who asks, and is bounded like a head."""

    class Named(Echo):
        async def answer(self, request):
            return Answer(
                200, b"content-length: 1\r\n", b"%d" % (b"x-forwarded-for" in dict(request.headers))
            )

    async with server(Named()) as (port, _, _):
        assert (await exchange(port, CHUNKED + b"X-Forwarded-For: 1.2.3.4\r\n\r\n")).endswith(b"\r\n\r\n0")
        assert b" 431 " in await exchange(port, CHUNKED + b"X: y\r\n" * 100_000)
        assert b" 431 " in await exchange(port, CHUNKED + b"X: " + b"y" * 600_000)


@pytest.mark.parametrize("cut", [10, 30])
async def test_a_head_that_begins_behind_a_long_body(port, cut):
    """It is counted by itself: what came before it in the same packets is not its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"a" * 200_000)
    writer.write(get(b"/")[:cut])
    await reader.readuntil(b"\r\n\r\n200000")
    writer.write(get(b"/")[cut:])
    assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")
    await closed(writer)


async def test_an_upgrade_offer_in_pieces_is_refused(port):
    """Only a whole one can be left out; read on, its body would be taken for the next request."""
    raw = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgr"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get(b"/") + raw)
    await reader.readuntil(b"\r\n\r\n0")  # it has been read that far
    writer.write(b"ade: h2c\r\nContent-Length: 19\r\n\r\nGET /evil HTTP/1.1\r\n\r\n")
    seen = await reader.read()
    assert seen.startswith(b"HTTP/1.1 400 ")
    assert seen.count(b"HTTP/1.1 ") == 1
    await closed(writer)


async def test_a_running_call_is_not_idle(monkeypatch):
    """Neither a body that outlasted its answer nor a wait for its turn counts against a request."""
    app = Slow()
    async with server(app, keep_alive_s=0) as (port, _, _):
        big = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        app.gate.set()
        writer.write(big + b"a" * 2_999_999)
        await reader.readuntil(b"too large")
        app.gate.clear()
        app.arrived.clear()
        writer.write(b"a" + get(b"/slow"))
        await app.arrived.wait()
        monkeypatch.setattr(http, "RECEIVE_S", 0)
        for _ in range(2):  # looks of the server: each ends who asks nothing
            assert await exchange(port, b"") == b""
        app.gate.set()
        assert (await reader.read()).endswith(b"\r\n\r\n0")
        await closed(writer)


async def heard(port: int, raw: bytes) -> asyncio.StreamWriter:
    """A connection that has begun to get its answer: tried again while another one has its place."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(raw)
        with suppress(ConnectionError):
            if await reader.read(1):
                return writer
        await closed(writer)


async def test_who_never_reads_is_cut_off(monkeypatch):
    """A connection whose replies nobody takes ends, and so does one that cannot be closed in order."""
    monkeypatch.setattr(http, "RECEIVE_S", 0.05)

    class Long(Echo):
        async def answer(self, request):
            return Answer(
                200, b"content-length: 9000000\r\n", b"a" * 9_000_000, close=request.path == b"/end"
            )

    async with server(Long(), cap=1) as (port, _, _):
        for target in (b"/", b"/end"):
            writer = await heard(port, get(target) * 2)
            while await refused(port):  # its place is free again when it is gone
                pass
            writer.transport.abort()
