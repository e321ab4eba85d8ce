"""The channel kind `smpp`: an ESME with its binds at one carrier (channels §3)."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Any, Final

from speedsms.gateway.channels.base import (
    Accepted,
    Capacity,
    Health,
    Outcome,
    Outgoing,
    Reason,
    Refused,
    Sink,
    Surroundings,
    Traits,
)
from speedsms.gateway.channels.smpp import submit
from speedsms.gateway.channels.smpp.attempt import divide
from speedsms.gateway.channels.smpp.connection import Connection
from speedsms.gateway.channels.smpp.link import Link, tls_context
from speedsms.gateway.channels.smpp.pdu import Mode
from speedsms.gateway.channels.smpp.settings import SECRET, Settings, settings_of, width_of_password
from speedsms.gateway.channels.smpp.traffic import Traffic

_RUN: Final = 10  # messages in a row to one link; to write to another for each costs more than all the rest
_AHEAD_S: Final = 0.1  # claimed before the pace allows it, so that the database's round trip costs no rate
_DOWN_S: Final = 1.0
_DRAIN_S: Final = 10.0
_MODES: Final[Mapping[str, tuple[Mode, ...]]] = {
    "transceiver": ("transceiver",),
    "pair": ("transmitter", "receiver"),
}

__all__ = ["Smpp", "settings_of"]


class Smpp:
    """One contract with one carrier. It binds the links that `hold` names."""

    kind = "smpp"

    def __init__(self, name: str, raw: Mapping[str, Any], around: Surroundings) -> None:
        settings = settings_of(raw)
        self.name = name
        self.traits = Traits(
            receipts="none" if settings.receipts == "none" else "handset",
            no_receipt_status=settings.no_receipt_status,
            unrecorded=(settings.unrecorded or settings.window) * settings.binds,
            links=settings.binds,
        )
        self._settings = settings
        self._password = _password(settings, around)
        self._context = tls_context(settings)
        self._fixed = submit.fixed(settings)
        self._traffic = Traffic(name, settings, around, self._give_back)
        self._links: dict[int, list[Link]] = {}
        self._ending: dict[asyncio.Task[None], list[Link]] = {}
        self._turn = count()
        self._end = ""  # draining or stopped

    @property
    def counts(self) -> Counter[str]:
        return self._traffic.counts

    @property
    def trace(self) -> Callable[[str, bytes], None] | None:
        """Sees each whole PDU with "sent" or "received"; None costs nothing."""
        return self._traffic.trace

    @trace.setter
    def trace(self, trace: Callable[[str, bytes], None] | None) -> None:
        self._traffic.trace = trace

    async def start(self, sink: Sink) -> None:
        self._loop = asyncio.get_running_loop()  # kept: on Python 3.11 each look for it is a system call
        self._traffic.sink = sink

    def hold(self, links: Collection[int]) -> None:
        wanted = {index for index in links if 0 <= index < self._settings.binds}
        if self._end or wanted == self._links.keys():
            return
        shared_before = bool(self._links)
        for index in self._links.keys() - wanted:
            self._leave(self._links.pop(index), _DRAIN_S)
        for index in sorted(wanted - self._links.keys()):
            self._links[index] = [
                Link(index, mode, self._traffic, self._password, self._context)
                for mode in _MODES[self._settings.bind]
            ]
        share = self._settings.rate * len(wanted) / self._settings.binds
        self._traffic.go_at(share, rest=shared_before)

    # ------------------------------------------------------------------------------------------ parts out

    def _ready(self) -> list[Connection]:
        """Bound connections that take parts, in the order of their links."""
        return [ready for links in self._links.values() if (ready := links[0].ready)]

    def capacity(self, now: float) -> Capacity:
        ready = self._ready()
        if not ready or self._end:
            return Capacity(0, _DOWN_S)
        free = sum(max(0, connection.room) for connection in ready)
        rate = self._traffic.pace.rate
        if not rate:
            return Capacity(free)
        waiting = sum(connection.waiting for connection in ready)
        ahead = max(1, math.ceil(rate * _AHEAD_S))
        if waiting >= ahead:
            return Capacity(0, max((waiting - ahead + 1) / rate, self._traffic.pace.wait_s(now)))
        return Capacity(min(free, ahead - waiting))

    def cuts(self, text: str, encoding: str, parts: int, /) -> int:
        return submit.count(text, encoding, parts, self._fixed)

    def submit(self, out: Outgoing) -> asyncio.Future[Outcome]:
        outcome: asyncio.Future[Outcome] = self._loop.create_future()
        ready = self._ready()
        if self._end or not ready:
            outcome.set_result(Refused(Reason.NOT_WRITTEN, self.health().cause or "no link", done=out.done))
            return outcome
        bodies = submit.cut(out, self._fixed, self._traffic.around.now())
        if isinstance(bodies, Refused):
            self.counts[f"refused.{bodies.reason}"] += 1
            outcome.set_result(bodies)
        elif not bodies:
            outcome.set_result(Accepted())  # an earlier attempt has brought them all there
        else:
            several = len(bodies) + len(out.done) > 1
            connection = self._choose(ready, out, several=several)
            connection.put(divide(out, bodies, outcome, self._traffic.settle))
        return outcome

    def _choose(self, ready: list[Connection], out: Outgoing, *, several: bool) -> Connection:
        """Several parts: by the message, so that a later attempt takes the same link (CH-8). One: in turn."""
        if len(ready) == 1:
            return ready[0]
        if several:
            binds = self._settings.binds
            chain = ((out.message + i) % binds for i in range(binds))
            links = (self._links[index][0] for index in chain if index in self._links)
            return next(link.ready for link in links if link.ready)
        start = next(self._turn) // _RUN
        turned = (ready[(start + i) % len(ready)] for i in range(len(ready)))
        return next((connection for connection in turned if connection.room > 0), ready[start % len(ready)])

    def _give_back(self, refusal: Refused) -> None:
        for connection in self._ready():
            connection.give_back(refusal)

    # ------------------------------------------------------------------------------------------ its state

    def matched(self, reference: str, key: str) -> None:
        self._traffic.matched(reference, key)

    def reported(self, matched: int, strays: int) -> None:
        self._traffic.reported(matched, strays)

    def figures(self) -> dict[str, object]:
        return self._traffic.figures()

    def health(self) -> Health:
        if self._end:
            return Health(self._end)
        links = [link for links in self._links.values() for link in links]
        troubles = [(link, found) for link in links if (found := link.trouble)]
        if not self._ready():
            starting = Health("starting", "" if links else "others hold its links")
            return next((found for _, found in troubles if found.state != "starting"), starting)
        for link, found in troubles:
            return Health("degraded", f"link {link.index} {link.mode}: {found.cause or found.state}")
        trouble = self._traffic.trouble()
        return Health("degraded" if trouble else "up", trouble)

    async def drain(self, within_s: float) -> None:
        """§3.15: nothing starts any more, what is open is answered, then unbind."""
        self._end = self._end or "draining"
        for links in self._links.values():
            self._leave(links, min(within_s, _DRAIN_S))
        self._links = {}
        await asyncio.gather(*self._ending)

    def _leave(self, links: list[Link], within_s: float) -> None:
        """The transmitter of a pair first: its receiver serves receipts until the last part is answered."""

        async def in_order() -> None:
            for link in links:
                await link.leave(within_s)

        ending = asyncio.create_task(in_order())
        self._ending[ending] = links
        ending.add_done_callback(self._ending.pop)

    async def stop(self) -> None:
        """At once: what the carrier has not answered is unknown."""
        self._end = "stopped"
        every = [*self._ending.values(), *self._links.values()]
        self._links = {}
        await asyncio.gather(*(link.drop() for links in every for link in links))
        await asyncio.gather(*self._ending)


def _password(settings: Settings, around: Surroundings) -> str:
    """The password itself. Raises ValueError with the path of the key."""
    if not settings.password.startswith(SECRET):
        return settings.password
    password = around.secret(settings.password)
    width = width_of_password(settings)
    if not password.isascii() or len(password) > width:
        raise ValueError(f"password: at most {width} ASCII characters")
    return password
