"""What goes over the line while a channel is tried, told as it happens."""

import asyncio
import sys
import time
from contextlib import suppress
from typing import Any, Final

from speedsms.cli.terminal import neutral
from speedsms.gateway.channels.base import Incoming, Outcome, Report
from speedsms.gateway.channels.smpp.pdu import BadPdu, Command, Frame, decode
from speedsms.gateway.channels.smpp.words import explain_octets

_BINDS: Final = frozenset(
    {Command.BIND_RECEIVER_RESP, Command.BIND_TRANSMITTER_RESP, Command.BIND_TRANSCEIVER_RESP}
)


class NotOurs(Exception):  # noqa: N818 - it says whose message it is, not what went wrong
    """The carrier is told to bring it again: to the worker, which can store it."""


class Exchange:
    """What went over the line, told as it happens unless `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self.lines: list[dict[str, Any]] = []
        self.frames: list[Frame] = []
        self._quiet = quiet
        self._began = time.monotonic()

    def trace(self, way: str, octets: bytes) -> None:
        """One PDU that was `sent` or `received`."""
        with suppress(BadPdu):
            self.frames.append(decode(octets))
        self.tell(way, explain_octets(octets))

    def tell(self, way: str, said: str) -> None:
        after_s = time.monotonic() - self._began
        self.lines.append({"after_s": round(after_s, 3), "way": way, "said": said})
        if not self._quiet:
            arrow = {"sent": "->", "received": "<-"}.get(way, "  ")
            sys.stdout.write(f"{after_s:8.3f} s {arrow} {neutral(said)}\n")

    def bind_status(self) -> int | None:
        """How the last bind was answered; None while it was not."""
        return next((f.status for f in reversed(self.frames) if f.command in _BINDS), None)

    def bind_sent(self) -> bool:
        """Every answer is its request's command with the highest bit set."""
        return any(frame.command | Command.GENERIC_NACK in _BINDS for frame in self.frames)


class Ear:
    """The sink: takes what is about our message and leaves everything else to the worker (CH-5).

    A carrier may bring a receipt to any bind of ours, also to this one. keys: of our message, once known.
    """

    def __init__(self, exchange: Exchange, *, alone: bool) -> None:
        self._exchange = exchange
        self._alone = alone
        self._waiting: list[tuple[Report, asyncio.Future[None]]] = []
        self._keys: frozenset[str] | None = None
        self.reports: asyncio.Queue[Report] = asyncio.Queue()

    def report(self, report: Report) -> asyncio.Future[None]:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((report, stored))
        self._sort()
        return stored

    def incoming(self, incoming: Incoming) -> asyncio.Future[None]:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end(stored, mine=self._alone)
        self._exchange.tell(
            "", f"a message of {len(incoming.text)} characters came in; it is for the gateway"
        )
        return stored

    def settle(self, message: int, attempt: int, part: int, outcome: Outcome) -> None:
        del message, attempt  # there is one, tried once
        self._exchange.tell("", f"part {part} ended: {type(outcome).__name__.lower()}")

    def know(self, keys: frozenset[str]) -> None:
        """What receipts of our message may be found by; nothing of it if it was not accepted."""
        self._keys = keys
        self._sort()

    def _sort(self) -> None:
        """A receipt may come before the answer that names its message, and waits until then."""
        if self._keys is None and not self._alone:
            return
        waiting, self._waiting = self._waiting, []
        for report, stored in waiting:
            mine = self._alone or not (self._keys or frozenset()).isdisjoint({report.reference, *report.keys})
            self._end(stored, mine=mine)
            if mine:
                self.reports.put_nowait(report)

    def _end(self, stored: asyncio.Future[None], *, mine: bool) -> None:
        if mine:
            stored.set_result(None)
        else:
            stored.set_exception(NotOurs("the carrier brings it again, to the worker"))
