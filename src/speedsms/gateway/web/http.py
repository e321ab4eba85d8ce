"""HTTP/1.1 on our own loop: the server package with the limits it does not give (protocol §1.2, stack §7).

Beyond a limit the body is unspecified and the connection ends; the application never sees the request.
"""

import asyncio
import re
import socket
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from speedsms.contract.endpoints import MAX_FIELDS, MAX_HEADERS, MAX_TARGET, octets
from speedsms.gateway.web.asgi import App

RECEIVE_S: Final = 30.0  # from the first octet of a request to its last
BACKLOG: Final = 2048
LINGER_S: Final = 0.5  # after stop, connections are told to close before they are closed
_LAST_LOOK_S: Final = 0.05
_UPGRADE: Final = re.compile(rb"(\n)upgrade[ \t]*:", re.IGNORECASE)
_LARGEST_HEAD: Final = MAX_TARGET + MAX_HEADERS


class _Refused(Exception):  # noqa: N818 - leaves the parser through its callbacks; the connection answers
    """The request breaks a limit."""


class _Corked:
    """A transport that lets the head of a reply wait for its body: one packet, one system call.

    The package writes them apart, which costs a fifth of a small call. Streams of unknown length pass.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        elif data.endswith(b"\r\n\r\n") and b"\r\ncontent-length: " in data and data.startswith(b"HTTP/1.1 "):
            self._held = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._held:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """Counts octets and fields while they arrive, and remembers since when a request is incomplete.

    uvloop and asyncio set TCP_NODELAY on every accepted connection themselves.
    """

    def __init__(self, *, per_address: Counter[str], cap: int, stop: asyncio.Event, **given: Any) -> None:
        super().__init__(**given)
        self._stop = stop
        self._per_address = per_address
        self._cap = cap
        self._refusal = HTTPStatus.BAD_REQUEST
        self._in_head = False
        self._octets = 0  # at most so many belong to the head that is being received
        self._incomplete_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the package
        self._corked = _Corked(transport)
        super().connection_made(cast(asyncio.Transport, self._corked))
        self._address = self.client[0] if self.client else ""
        self._per_address[self._address] += 1
        self._incomplete_since = self.loop.time()
        if self._cap and self._per_address[self._address] > self._cap:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._per_address[self._address] -= 1
        if not self._per_address[self._address]:
            del self._per_address[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if b"pgrade" in data and (self._in_head or self._incomplete_since is None or self.cycle is None):
            data = _without_upgrade(data)
        if self._incomplete_since is None:
            self._incomplete_since = self.loop.time()
        self._octets = self._octets + len(data) if self._in_head else len(data)
        super().data_received(data)
        # A field that never ends reaches no callback: its octets are seen only here.
        if self._in_head and self._octets > _LARGEST_HEAD and not self.transport.is_closing():
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"speedsms.abort": self.transport.abort}  # type: ignore[dict-item]  # ours
        self._in_head = True
        if self._incomplete_since is None:
            self._incomplete_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) > MAX_TARGET:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        if not self.url.isascii():
            self._refuse(HTTPStatus.BAD_REQUEST)
        if len(self.headers) > MAX_FIELDS or (
            self._octets > MAX_HEADERS and octets(self.headers) > MAX_HEADERS
        ):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_headers_complete()
        # Weakly: the cycle holds the scope, and a ring for each call would keep the collector busy.
        reply = partial(_reply, weakref.ref(self.cycle))
        self.scope["extensions"]["speedsms.reply"] = reply  # type: ignore[assignment]  # ours
        if self._stop.is_set():
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._incomplete_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._corked.flush()  # a reply to HEAD has no body to wait for
        super().on_response_complete()

    def expire(self, now: float) -> None:
        """Close a connection whose request does not come to an end; one that waits for us is left alone."""
        if self._incomplete_since is None or now - self._incomplete_since < RECEIVE_S:
            return
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the package's signature
        """What the package calls when the parser gives up; here with the status of the limit."""
        status, body = self._refusal, b'{"name":"%s","message":"%s","code":0,"status":%d}'
        text = status.phrase.encode()
        body %= (text, text, status)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: %d\r\n"
            b"X-Speedsms-Contract: 1\r\nConnection: close\r\n\r\n%s" % (status, text, len(body), body)
        )
        self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _Refused


def _reply(call: Callable[[], Any], status: int, fields: bytes, body: bytes) -> bool:
    """Write a whole reply at once; False if the connection is congested and the ordinary way has to wait.

    The package looks at every field twice with a pattern, in two messages: a tenth of a small call. fields:
    lines of ours with `content-length` where there is a body.
    """
    cycle = call()
    if cycle.flow.write_paused:
        return False
    if cycle.disconnected:
        return True
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    dated = b"".join(b"%b: %b\r\n" % field for field in cycle.default_headers)
    close = b"" if cycle.keep_alive else b"connection: close\r\n"
    shown = b"" if cycle.scope["method"] == "HEAD" else body
    cycle.transport.write(b"".join((STATUS_LINE[status], dated, fields, close, b"\r\n", shown)))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _without_upgrade(data: bytes) -> bytes:
    """Unname the field Upgrade in the head of a request.

    Java's client offers h2c on every plain call; the parser would take the body for that protocol.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(rb"\1X-Offer:", head) + end + rest


class _Server(uvicorn.Server):
    """Leaves signals to the process; stops when it is told to."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # a no-op on purpose (PR-2)
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.expire(now)
        return await super().on_tick(counter) or self._stop.is_set()

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


async def serve(
    app: App,
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
    per_address: Counter[str] = Counter()
    protocol: Callable[..., Any] = partial(
        Connection, per_address=per_address, cap=connections_per_address, stop=stop
    )
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]  # it is only ever called
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=drain_s,
    )
    await _Server(config, stop).serve(sockets=[sock])
