"""One request from its head to its reply. Those of a connection are answered in the order they came."""

import asyncio
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from speedsms.contract.endpoints import MAX_BODY
from speedsms.gateway import failpoint
from speedsms.gateway.web.asgi import DRAINED, App, Header

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"connection: close\r\n"

log = structlog.get_logger()


class Answer(NamedTuple):
    """fields: whole lines, `content-length` among them where there is a body. close: the connection ends."""

    status: int
    fields: bytes
    body: bytes
    close: bool = False


class Application(Protocol):
    """What a server serves."""

    def mounted(self, path: bytes) -> App | None:
        """The ASGI application that stands at an undecoded path, and reads the body itself."""

    async def answer(self, request: "Request") -> Answer | None:
        """Any other request; None cuts the connection."""


class Line(Protocol):
    """What a request knows of the connection that it came by."""

    application: Application
    server: ServerState
    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    client: str

    @property
    def dated(self) -> bytes:
        """The field `date` as a line."""

    def answered(self) -> None:
        """The reply of the request whose turn it is was written, and the transport closed if it ends here."""


def refusal(status: HTTPStatus) -> Answer:
    """What HTTP itself refuses (protocol §1.4); the connection ends."""
    text = status.phrase.encode()
    body = b'{"name":"%s","message":"%s","code":0,"status":%d}' % (text, text, status)
    fields = (
        b"content-type: application/json; charset=UTF-8\r\ncontent-length: %d\r\nx-speedsms-contract: 1\r\n"
    )
    return Answer(status, fields % len(body), body, close=True)


def written(answer: Answer, dated: bytes, *, bodiless: bool = False) -> bytes:
    """The octets of a reply: one packet, one system call."""
    status, fields, body, close = answer
    head = (STATUS_LINE[status], dated, fields, _CLOSE if close else b"", b"\r\n")
    return b"".join(head if bodiless else (*head, body))


class Request:
    """A request of ours. `body` is whole when `answer` is called, or None if it is too large."""

    __slots__ = (
        "_line",
        "_pieces",
        "_size",
        "_task",
        "_waits_to_send",
        "body",
        "client",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "ready",
    )

    def __init__(
        self, line: Line, method: str, target: tuple[bytes, bytes], headers: list[Header], *, keep_alive: bool
    ) -> None:
        self._line = line
        self.method = method
        self.path, self.query = target
        self.headers = headers
        self.client = line.client
        self.keep_alive = keep_alive
        self.body: bytes | None = b""
        self.ready = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self._waits_to_send = False

    def expect(self) -> None:
        """The client sends its body when it is told to: not one that is known to be too large."""
        length = dict(self.headers).get(b"content-length")
        if length and int(length) > MAX_BODY:
            self.body, self.ready, self.keep_alive = None, True, False
        else:
            self._waits_to_send = True

    def take(self, data: bytes) -> None:
        """A piece of the body; beyond the limit it is only counted."""
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._pieces.append(data)
        elif not self.ready:
            self._pieces.clear()
            self.body, self.ready = None, self._size > DRAINED

    def end(self) -> None:
        """Nothing more belongs to it."""
        if self._pieces:
            self.body = b"".join(self._pieces)
        self.ready = True

    def begin(self) -> None:
        """Its turn has come."""
        if self._waits_to_send:
            self._waits_to_send = False
            self._line.transport.write(_CONTINUE)
        if self.ready and self._task is None:
            self._task = self._line.loop.create_task(self._run())

    @property
    def begun(self) -> bool:
        return self._task is not None

    def lose(self) -> None:
        """The connection is gone; what was begun goes on."""
        if self._task:
            self._line.server.tasks.add(self._task)
            self._task.add_done_callback(self._line.server.tasks.discard)

    def cancel(self) -> None:
        """The drain ran out of time."""
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        line = self._line
        try:
            answer = await line.application.answer(self)
        except Exception:
            # Keeps the order of the connection's replies: the next request waits for this one's.
            log.exception("request_failed")
            answer = refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        if line.flow.write_paused:
            await line.flow.drain()
        if line.transport.is_closing():
            return
        if answer is None:
            line.transport.abort()
            return
        if not self.keep_alive:
            answer = answer._replace(close=True)
        line.transport.write(written(answer, line.dated, bodiless=self.method == "HEAD"))
        if answer.close:
            line.transport.close()
        line.answered()
        failpoint.hit("S6")
