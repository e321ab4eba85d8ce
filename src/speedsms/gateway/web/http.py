"""HTTP/1.1 on our own loop: octets → requests, with the limits that the server package does not give
(protocol §1.2, stack §7).

Beyond a limit the body is unspecified and the connection ends; the application never sees the request.
"""

import asyncio
import logging
import re
import socket
from collections import Counter, deque
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from speedsms.contract.endpoints import MAX_FIELDS, MAX_HEADERS, MAX_TARGET, octets
from speedsms.gateway.web.asgi import App, Header, Mounted, scope_of
from speedsms.gateway.web.turns import Application, Request, refusal, written

RECEIVE_S: Final = 30.0  # from the first octet of a request to its last
BACKLOG: Final = 2048
LINGER_S: Final = 0.5  # after stop, connections are told to close before they are closed
_LAST_LOOK_S: Final = 0.05
_UPGRADE: Final = re.compile(rb"(\n)upgrade[ \t]*:", re.IGNORECASE)
_LARGEST_HEAD: Final = MAX_TARGET + MAX_HEADERS

log = logging.getLogger("uvicorn.error")


class _Refused(Exception):  # noqa: N818 - leaves the parser through its callbacks; the connection answers
    """The request breaks a limit."""


@dataclass(slots=True)
class Service:
    """What all connections of a server share. dated: the field `date` as a line, renewed every second."""

    application: Application
    stop: asyncio.Event
    connections_per_address: int
    keep_alive_s: float
    per_address: Counter[str] = field(default_factory=Counter)
    dated: bytes = b""


class Connection(asyncio.Protocol):
    """Parses requests, counting their octets and fields while they arrive, and gives each its turn.

    uvloop and asyncio set TCP_NODELAY on every accepted connection themselves.
    """

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(self, service: Service, server: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self.application = service.application
        self.loop = loop
        self.client = ""
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        # A request may follow one that ends the connection: it is never answered, and no mistake either.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._turns: deque[Request | Mounted] = deque()  # the first is being answered, or received
        self._receiving: Request | Mounted | None = None  # its head is complete, its body is not
        self._refusal: HTTPStatus | None = None
        self._target = b""
        self._headers: list[Header] = []
        self._expects = False
        self._in_head = False
        self._begun = 0  # heads, in what is being read
        self._octets = 0  # at most so many belong to the head that is being received …
        self._counted = True  # … unless it began behind something else
        self._bodiless = 0  # octets since the last that belonged to a body: names of chunks, trailers
        self._incomplete_since: float | None = None
        self._idle_since: float | None = None
        self._stalled_since: float | None = None  # the client does not read, or its end is not flushed
        self._over = False

    # ------------------------------------------------------------ the transport's calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # always a stream
        self.server.connections.add(self)  # type: ignore[arg-type]  # it asks for `shutdown` alone
        self.transport = transport
        self.flow = FlowControl(transport)
        self._peer = get_remote_addr(transport)
        self.client = self._peer[0] if self._peer else ""
        self._incomplete_since = self.loop.time()
        per_address, cap = self.service.per_address, self.service.connections_per_address
        per_address[self.client] += 1
        if cap and per_address[self.client] > cap:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.server.connections.discard(self)
        per_address = self.service.per_address
        per_address[self.client] -= 1
        if not per_address[self.client]:
            del per_address[self.client]
        for turn in self._turns:
            turn.lose()
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        if b"pgrade" in data and self._receiving is None:
            data = _without_upgrade(data)
        self._idle_since = None
        if self._incomplete_since is None:
            self._incomplete_since = self.loop.time()
        first = self._receiving is None and not self._in_head
        self._octets = self._octets + len(data) if self._in_head else len(data)
        self._bodiless += len(data)
        self._begun = 0
        try:
            with suppress(httptools.HttpParserUpgrade):  # the answer is that of any other request
                self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._give_up(self._refusal or HTTPStatus.BAD_REQUEST)
        if self._in_head and self._begun > first:  # how much of this was its own is not known
            self._octets, self._counted = 0, False
        # A field that never ends, of the head or behind the body, reaches no callback.
        endless = self._octets if self._in_head else self._bodiless if self._receiving else 0
        if endless > _LARGEST_HEAD:
            self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._go_on()

    @property
    def dated(self) -> bytes:
        return self.service.dated

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        self.flow.resume_writing()

    # ------------------------------------------------------------ the parser's calls

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._expects = False
        self._in_head = self._counted = True
        self._begun += 1
        if self._incomplete_since is None:
            self._incomplete_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer, behind the body: it says nothing that we hear
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._bodiless = 0
        self._idle_since = None
        self._check_limits()
        target = _path_and_query(self._target)
        app = self.application.mounted(target[0])
        turn = self._request(target) if app is None else self._mounted(app, target)
        if self.service.stop.is_set():
            turn.keep_alive = False
        self._receiving = turn
        self._turns.append(turn)
        if len(self._turns) > 1:
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        self._bodiless = 0
        if self._receiving:
            self._receiving.take(body)

    def on_message_complete(self) -> None:
        self._incomplete_since = None
        if self._receiving:
            self._receiving.end()
        self._receiving = None
        if not self._turns:  # it was answered before its body ended
            self._idle_since = self.loop.time()

    def _check_limits(self) -> None:
        if len(self._target) > MAX_TARGET:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        if not self._target.isascii():
            self._refuse(HTTPStatus.BAD_REQUEST)
        if self._parser.should_upgrade():  # what follows would not be read as a body
            self._refuse(HTTPStatus.BAD_REQUEST)
        within = self._counted and self._octets <= MAX_HEADERS
        if len(self._headers) > MAX_FIELDS or (not within and octets(self._headers) > MAX_HEADERS):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _refuse(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _Refused

    def _request(self, target: tuple[bytes, bytes]) -> Request:
        parser = self._parser
        # A keep-alive connection of HTTP/1.0 would have to be told that it is one.
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        request = Request(
            self, parser.get_method().decode("ascii"), target, self._headers, keep_alive=keep_alive
        )
        if self._expects:
            request.expect()
        return request

    def _mounted(self, app: App, target: tuple[bytes, bytes]) -> Mounted:
        parser = self._parser
        version = parser.get_http_version()
        scope = scope_of(parser.get_method().decode("ascii"), version, target, self._headers)
        scope |= {"client": self._peer, "server": get_local_addr(self.transport)}
        return Mounted(
            app,
            self.server.tasks,
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=self.server.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self._expects,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.answered,
        )

    # ------------------------------------------------------------ turns

    def _go_on(self) -> None:
        """Whose turn it is may begin, or tell its client to send the body."""
        if self.transport.is_closing() or self._over:
            return
        if self._turns:
            self._turns[0].begin()
        elif self._refusal:
            self.transport.write(written(refusal(self._refusal), self.dated))
            self.transport.close()

    def answered(self) -> None:
        """The reply of the first was written; the connection goes on, unless that was its last."""
        self._turns.popleft()
        if self._over:
            self.transport.close()
        if self.transport.is_closing():
            return
        if self._turns and self._turns[0] is self._receiving:  # it had to wait for us
            self._incomplete_since = self.loop.time()
        if len(self._turns) < 2 and not self._refusal:
            self.flow.resume_reading()
        if not self._turns and self._incomplete_since is None:
            self._idle_since = self.loop.time()
        self._go_on()

    def _give_up(self, status: HTTPStatus) -> None:
        """What was sent is no request. Those before it are answered first, so that no reply is mistaken."""
        self._refusal = status
        self.flow.pause_reading()
        cut, self._receiving = self._receiving, None
        if cut and cut in self._turns and not cut.ready:
            self._turns.pop().lose()

    def expire(self, now: float) -> None:
        """End a connection that is silent, or whose request does not come to an end; one that waits for us is
        left alone.
        """
        late = self._incomplete_since is not None and now - self._incomplete_since >= RECEIVE_S
        if late and (not self._turns or self._turns[0] is self._receiving):
            self.transport.abort()
        if self._idle_since is not None and now - self._idle_since >= self.service.keep_alive_s:
            self.transport.abort()
        if self.transport.is_closing() and self._stalled_since is None:
            self._stalled_since = now
        if self._stalled_since is not None and now - self._stalled_since >= RECEIVE_S:
            self.transport.abort()

    def shutdown(self) -> None:
        """The server stops: close now, or after the last reply that somebody waits for."""
        if self._turns:
            self._turns[-1].keep_alive = False
        else:
            self.transport.close()

    def cancel(self) -> None:
        """The drain is over: what was begun is answered as unknown, and nothing begins any more."""
        self._over = True
        if self._turns and self._turns[0].begun:
            self._turns[0].cancel()
        else:
            self.transport.abort()


def _path_and_query(target: bytes) -> tuple[bytes, bytes]:
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    url = httptools.parse_url(target)
    return url.path or b"/", url.query or b""


def _without_upgrade(data: bytes) -> bytes:
    """Unname the field Upgrade in the head of a request.

    Java's client offers h2c on every plain call; the parser would take the body for that protocol.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(rb"\1X-Offer:", head) + end + rest


class _Server(uvicorn.Server):
    """Leaves signals to the process; stops when it is told to."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # a no-op on purpose (PR-2)
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        ends = await super().on_tick(counter)
        if counter % 10 == 0:
            self._service.dated = b"".join(b"%b: %b\r\n" % line for line in self.server_state.default_headers)
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.expire(now)
        return ends or self._service.stop.is_set()

    def _connections(self) -> list[Connection]:
        return [c for c in self.server_state.connections if isinstance(c, Connection)]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer a little longer, saying `Connection: close`: a connection closed without a word may hold a
        call on its way, whose caller would not know what became of it (invariants P9).
        """
        await asyncio.sleep(LINGER_S)
        for sock in sockets or ():
            sock.listen(0)  # newcomers wait outside, and who is in the queue is let in
        await asyncio.sleep(_LAST_LOOK_S)
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST_LOOK_S)  # who was let in last has not spoken yet
        await super().shutdown(sockets)
        for connection in self._connections():
            connection.cancel()


async def serve(
    application: Application,
    sock: socket.socket,
    stop: asyncio.Event,
    *,
    connections_per_address: int = 1024,
    keep_alive_s: int = 75,
    drain_s: int = 6,
) -> None:
    """Serve until `stop` is set; then stop accepting, let running calls finish for drain_s, close.

    sock: bound, not yet listening; several processes may share it. connections_per_address: 0 is no cap.
    """
    service = Service(application, stop, connections_per_address, keep_alive_s)
    loop = asyncio.get_running_loop()

    def connection(*, server_state: ServerState, **_: Any) -> Connection:
        return Connection(service, server_state, loop)

    config = uvicorn.Config(
        cast(Any, application),  # never called: connections ask it themselves
        http=connection,  # type: ignore[arg-type]  # it is only ever called
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=drain_s,
    )
    await _Server(config, service).serve(sockets=[sock])
