"""Receipts and incoming messages on their way to a peer: kept until a bind of the account has taken them."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from speedsms.gateway.channels.smpp.pdu import DataSm, DeliverSm, Status
from speedsms.gateway.channels.smpp.smsc.connection import Connection
from speedsms.gateway.channels.smpp.smsc.script import Deliver

_TEMPORARY: Final = frozenset(
    {Status.RSYSERR, Status.RMSGQFUL, Status.RTHROTTLED, Status.RX_T_APPN, Status.RUNKNOWNERR}
)
ANYBODY: Final = ""


@dataclass(slots=True)
class Delivery:
    """One PDU for a bind of system_id, or of anybody. origin: number of the connection that asked for it."""

    kind: Literal["receipts", "incoming"]
    pdu: DeliverSm | DataSm
    system_id: str = ANYBODY
    bind: Literal["same", "other"] = "same"
    origin: int = 0
    tries: int = 0


class Pushing:
    """connections: the open ones, by number; counts: <kind>_sent, _acknowledged, _refused, _repeated."""

    def __init__(self, connections: Mapping[int, Connection], counts: Counter[str]) -> None:
        self.rules = Deliver()
        self._connections = connections
        self._counts = counts
        self._waiting: defaultdict[str, deque[Delivery]] = defaultdict(deque)
        self._turn = 0

    @property
    def waiting(self) -> int:
        """How many find no bind, or none with room."""
        return sum(map(len, self._waiting.values()))

    def push(self, delivery: Delivery) -> None:
        queue = self._waiting[delivery.system_id]
        if queue or not (connection := self._fit(delivery)):
            queue.append(delivery)
        else:
            self._send(connection, delivery)

    def room(self, connection: Connection) -> None:
        """A connection can take something: its account's first, then anybody's."""
        for name in (connection.bind.system_id if connection.bind else ANYBODY, ANYBODY):
            queue = self._waiting[name]
            while queue and (found := self._fit(queue[0])):
                self._send(found, queue.popleft())

    def answered(self, connection: Connection, delivery: Delivery, status: int) -> None:
        connection.delivering -= 1
        if not status:
            self._counts[f"{delivery.kind}_acknowledged"] += 1
        elif status in _TEMPORARY:
            self._later(delivery)
        else:
            self._counts[f"{delivery.kind}_refused"] += 1
        self.room(connection)

    def unanswered(self, connection: Connection, delivery: Delivery, why: Literal["timeout", "lost"]) -> None:
        """Says it again: nobody knows whether it was stored (invariants §2, S12)."""
        connection.delivering -= 1
        if why == "lost":
            self._waiting[delivery.system_id].append(delivery)
        else:
            self._later(delivery)

    def _later(self, delivery: Delivery) -> None:
        if delivery.tries >= self.rules.tries:
            self._counts[f"{delivery.kind}_refused"] += 1
            return
        self._counts[f"{delivery.kind}_repeated"] += 1
        asyncio.get_running_loop().call_later(self.rules.retry_s, self.push, delivery)

    def _fit(self, delivery: Delivery) -> Connection | None:
        """The connection it came on or, as the script wants, any other; then whichever has room."""
        origin = self._connections.get(delivery.origin)
        if origin and delivery.bind == "same" and self._takes(origin, delivery):
            return origin
        able = [c for c in self._connections.values() if self._takes(c, delivery)]
        self._turn += 1
        preferred = [c for c in able if c is not origin] or able
        return preferred[self._turn % len(preferred)] if preferred else None

    def _takes(self, connection: Connection, delivery: Delivery) -> bool:
        if not connection.receives or connection.delivering >= self.rules.window:
            return False
        return delivery.system_id in {ANYBODY, connection.bind and connection.bind.system_id}

    def _send(self, connection: Connection, delivery: Delivery) -> None:
        delivery.tries += 1
        connection.delivering += 1
        connection.request(delivery.pdu, delivery)
        self._counts[f"{delivery.kind}_sent"] += 1
