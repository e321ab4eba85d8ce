"""A loopback HTTP/1.1 server around the fake, for programs that speak to it with their own client."""

import os
import socket
import socketserver
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from threading import Event, Thread
from typing import Any, BinaryIO, Final, NamedTuple, Self

from speedsms.contract.endpoints import MAX_BODY, MAX_HEADERS, MAX_TARGET
from speedsms.contract.request import Reply
from speedsms.testing.fake import FakeGateway, unspecified

_MAX_LINE: Final = MAX_TARGET + MAX_HEADERS
_POLL_S: Final = 0.01
_CUT: Final = struct.pack("ii", 1, 0)  # close at once, with a reset
_CLOSE: Final = ("Connection", "close")


class _Refused(Exception):  # noqa: N818 - it names the answer
    """The request cannot be read; the connection ends."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.reply = unspecified(status)


class _Request(NamedTuple):
    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    last: bool  # the client closes after it


class Server(socketserver.ThreadingTCPServer):
    """One thread for each connection, one that plays outcomes after their calls were answered."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, gateway: FakeGateway, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)
        self.gateway = gateway
        self._open: set[socket.socket] = set()
        self._answered = Event()
        self._stopped = False
        self._loops = (
            Thread(target=self.serve_forever, args=(_POLL_S,), daemon=True),
            Thread(target=self._play, daemon=True),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        for thread in self._loops:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._stopped = True
        self._answered.set()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._loops:
            thread.join()
        self.server_close()

    def _play(self) -> None:
        while not self._stopped:
            self._answered.wait(self.gateway.due_in_s())
            self._answered.clear()
            self.gateway.settle()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Called by the package for the next connection; the end has to know of all."""
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Called by the package with each connection, in a thread of its own."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with request, request.makefile("rb") as stream:
                while self._converse(request, stream, client_address[0]):
                    self._answered.set()
                self._answered.set()
                request.shutdown(socket.SHUT_WR)
                stream.read(2 * MAX_BODY)  # closing on unread octets would reset it, and the reply be lost
        except OSError:
            pass  # the client went away, or is cut off
        finally:
            self._answered.set()
            self._open.discard(request)

    def _converse(self, connection: socket.socket, stream: BinaryIO, client_ip: str) -> bool:
        """Answer one request; whether another may follow on this connection."""
        try:
            request = _request(connection, stream)
        except _Refused as refused:
            connection.sendall(_bytes(refused.reply, "", last=True))
            return False
        if request is None:
            return False
        method, target, headers, body, last = request
        try:
            reply = self.gateway.answer(method, target, headers, body, client_ip)
        except ConnectionResetError:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
            raise
        except TimeoutError:
            self._answered.set()
            stream.read(1)  # until the client has enough
            return False
        connection.sendall(_bytes(reply, method, last=last))
        return not last


def _request(connection: socket.socket, stream: BinaryIO) -> _Request | None:
    """The next request of a connection, None at its end. Raises _Refused."""
    first = stream.readline(_MAX_LINE)
    if not first:
        return None
    words = first.split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        status = HTTPStatus.REQUEST_URI_TOO_LONG if len(first) == _MAX_LINE else HTTPStatus.BAD_REQUEST
        raise _Refused(status)
    headers = _headers(stream)
    named = {name.lower(): value for name, value in headers}
    last = named.get(b"connection", b"").lower() == b"close" or words[2] == b"HTTP/1.0"
    body = _body(connection, stream, named)
    return _Request(words[0].decode("latin-1"), words[1], headers, body, last or len(body) > MAX_BODY)


def _headers(stream: BinaryIO) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    octets = 0
    while (line := stream.readline(_MAX_LINE)) not in (b"\r\n", b"\n", b""):
        name, colon, value = line.partition(b":")
        octets += len(line)
        if octets > _MAX_LINE:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not colon or not name or name != name.strip():
            raise _Refused(HTTPStatus.BAD_REQUEST)
        headers.append((name, value.strip()))
    return headers


def _body(connection: socket.socket, stream: BinaryIO, named: dict[bytes, bytes]) -> bytes:
    """What is too large is one octet more than the limit; the rest stays unread."""
    length, coding = named.get(b"content-length", b"0"), named.get(b"transfer-encoding")
    if not length.isdigit() or (coding and (coding.lower() != b"chunked" or b"content-length" in named)):
        raise _Refused(HTTPStatus.BAD_REQUEST)
    if named.get(b"expect", b"").lower() == b"100-continue":
        if int(length) > MAX_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not coding:
        return _read(stream, min(int(length), MAX_BODY + 1))
    body = b""
    while size := _chunk_size(stream):
        body += _read(stream, min(size, MAX_BODY + 1))
        if len(body) > MAX_BODY:
            return body
        stream.readline(_MAX_LINE)
    _headers(stream)
    return body


def _chunk_size(stream: BinaryIO) -> int:
    try:
        return int(stream.readline(_MAX_LINE).partition(b";")[0], 16)
    except ValueError:
        raise _Refused(HTTPStatus.BAD_REQUEST) from None


def _read(stream: BinaryIO, size: int) -> bytes:
    body = stream.read(size)
    if len(body) < size:
        raise ConnectionAbortedError
    return body


def _bytes(reply: Reply, method: str, *, last: bool) -> bytes:
    headers = [*reply.headers, *([_CLOSE] if last else [])]
    if reply.status != HTTPStatus.NO_CONTENT:
        headers.append(("Content-Length", str(len(reply.body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {int(reply.status)} {HTTPStatus(reply.status).phrase}\r\n{lines}\r\n"
    return head.encode("latin-1") + (b"" if method == "HEAD" else reply.body)


@contextmanager
def fake_gateway(gateway: FakeGateway | None = None, *, port: int = 0) -> Iterator[FakeGateway]:
    """A fake gateway on a loopback port, and the environment in which every client finds it.

    SPEEDSMS_BASE_URL and SPEEDSMS_TOKEN are put back at the end.
    """
    gateway, before = gateway or FakeGateway(), dict(os.environ)
    with Server(gateway, port) as server:
        gateway.url = server.url
        given = {"SPEEDSMS_BASE_URL": server.url, "SPEEDSMS_TOKEN": gateway.token}
        os.environ.update(given)
        try:
            yield gateway
        finally:
            for name in given:
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]
