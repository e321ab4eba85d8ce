"""What every endpoint for webhooks does, whatever framework reads the request and writes the answer."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from threading import Lock
from typing import Any, Final, Protocol, TypeAlias

from speedsms import webhook
from speedsms.webhook import Headers, Incoming, Report, Seen

# The gateway's bodies are far below it; endpoints read one byte more and no further.
MOST_BYTES: Final = 65_536

_log = logging.getLogger("speedsms.webhook")


Event: TypeAlias = Report | Incoming


class Memory(Protocol):
    """Events that are done: `webhook.Seen`, a set, or your own over a database."""

    def __contains__(self, event_id: str, /) -> bool:
        """Whether the event is done."""
        ...

    def add(self, event_id: str, /) -> None:
        """The event is done."""
        ...


@dataclass(frozen=True, slots=True)
class Receiver:
    """One endpoint: its secret, the functions that get its events, and the events that are done.

    An event is done when its function returned. One that raises is answered with the framework's own 500,
    so that the gateway posts it again and your error reports show why.
    """

    secret: str | Sequence[str] = field(repr=False)
    on_report: Callable[[Report], object] | None = None
    on_incoming: Callable[[Incoming], object] | None = None
    seen: Memory = field(default_factory=Seen)
    _running: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        """A wrong secret is heard of at the start."""
        webhook.usable(self.secret)

    @contextmanager
    def opened(self, method: str, headers: Headers, body: bytes) -> Iterator[tuple[int, Event | None]]:
        """The HTTP status to answer with, and the event if it is there to be worked on, inside `with`."""
        status, event = self._read(method, headers, body)
        if event is None:
            yield status, None
        elif not self._begin(event.event_id):
            # Posted again because the first answer took over 15 s. It may yet fail: neither call it twice
            # nor say that it is done.
            yield 503, None
        else:
            try:
                if event.event_id in self.seen:
                    yield 204, None
                else:
                    yield 204, event
                    self.seen.add(event.event_id)
            finally:
                self._running.discard(event.event_id)

    def answer(self, method: str, headers: Headers, body: bytes) -> int:
        """The HTTP status to answer with, after the event's function returned."""
        with self.opened(method, headers, body) as (status, event):
            if event is not None and isawaitable(self.function(event)(event)):
                raise TypeError("this endpoint cannot wait for async functions; use speedsms.contrib.asgi")
        return status

    def function(self, event: Event) -> Callable[[Any], object]:
        """The function that gets this event."""
        return (self.on_report if isinstance(event, Report) else self.on_incoming) or _nothing

    def _read(self, method: str, headers: Headers, body: bytes) -> tuple[int, Event | None]:
        if method != "POST":
            return 405, None
        if len(body) > MOST_BYTES:
            return 413, None
        try:
            return 204, webhook.parse(body, headers, self.secret)
        except webhook.BadSignature as error:
            _log.warning("webhook answered with %d: %s", error.http_status, error)
            return error.http_status, None

    def _begin(self, event_id: str) -> bool:
        with self._lock:
            begun = event_id not in self._running
            self._running.add(event_id)
            return begun


def _nothing(_event: Event) -> None:
    """The endpoint has no function for this kind of event."""
