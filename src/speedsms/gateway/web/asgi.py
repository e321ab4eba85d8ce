"""What is mounted beside our endpoints: ASGI applications, which read their bodies themselves."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from speedsms.contract.endpoints import MAX_BODY

DRAINED: Final = 2 * MAX_BODY  # closing on unread octets resets the connection, and the 413 would be lost

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]


class Mounted(RequestResponseCycle):
    """A request of a mounted application, which begins before its body is whole."""

    ready = False  # what it answers may depend on all of the body

    def __init__(self, app: App, tasks: set[asyncio.Task[None]], **given: Any) -> None:
        super().__init__(**given)
        self._app = app
        self._tasks = tasks
        self.begun = False

    def take(self, data: bytes) -> None:
        if not self.response_complete:
            self.body += data
            if len(self.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.message_event.set()

    def end(self) -> None:
        self.more_body = False
        self.message_event.set()

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            running = asyncio.create_task(self.run_asgi(cast(Any, self._app)))
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    def lose(self) -> None:
        self.disconnected = not self.response_complete
        self.message_event.set()

    def cancel(self) -> None:
        """The server itself cancels what is mounted."""


def scope_of(method: str, version: str, target: tuple[bytes, bytes], headers: list[Header]) -> Scope:
    """What ASGI 2.3 says of a request, but for its connection."""
    path, query = target
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "scheme": "http",
        "root_path": "",
        "method": method,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "state": {},
        "extensions": {},
    }


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
    """The whole body, or None if it is too large; what is not read here the server discards."""
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" not in headers:
        return b""
    if length is not None and int(length) > MAX_BODY and b"expect" in headers:
        return None
    message = await receive()
    body: bytes = message.get("body", b"")
    size = len(body)
    while message.get("more_body") and size <= DRAINED:
        message = await receive()
        size += len(message.get("body", b""))
        body = body + message.get("body", b"") if size <= MAX_BODY else b""
    return body if size <= MAX_BODY else None
