"""An endpoint for webhooks as an ASGI application, for any ASGI server or framework that mounts one."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias

from speedsms.contrib._receiver import MOST_BYTES, Event, Memory, Receiver
from speedsms.webhook import Incoming, Report, Seen

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class WebhookApp:
    """Answers 204 after `on_report` or `on_incoming` returned, and calls them once for each event.

    The functions may be async; others run in a thread. One that raises is answered with 500, and the event
    comes again. secret: `whsec_…`, several while it is changed. seen: remembers what is done; a `Seen()` of
    this process unless given. Answers 401 to a bad signature, 400 to a broken body, 413 above 64 KiB, 405 to
    anything but POST.
    """

    def __init__(
        self,
        secret: str | Sequence[str],
        *,
        on_report: Callable[[Report], object] | None = None,
        on_incoming: Callable[[Incoming], object] | None = None,
        seen: Memory | None = None,
    ) -> None:
        self._receiver = Receiver(secret, on_report, on_incoming, Seen() if seen is None else seen)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Of other scopes there is nothing to say."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        with self._receiver.opened(scope["method"], scope["headers"], body) as (status, event):
            if event is not None:
                await _called(self._receiver.function(event), event)
        allow = [(b"allow", b"POST")] if status == 405 else []
        length = [] if status == 204 else [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": allow + length})
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more and len(body) <= MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _called(function: Callable[[Any], object], event: Event) -> None:
    result = function(event) if iscoroutinefunction(function) else await asyncio.to_thread(function, event)
    if isawaitable(result):
        await result
