"""The simulated carrier: an SMPP server for people who test their ESME, and for our tests (channels §3.17).

The carrier decides about binds and submits; Messages plays what it decides of a submit; Pushing brings
receipts and incoming messages to whichever bind of the account can take them.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from msgspec import Struct

from speedsms.gateway.channels.smpp.pdu import (
    Bind,
    BindResp,
    CancelSm,
    DataSm,
    DeliverSm,
    QuerySm,
    Status,
    SubmitSm,
    Tag,
    Tlvs,
    encode,
)
from speedsms.gateway.channels.smpp.session import Answered, Asked, Event, Leaving, Oddity, Timers, Unanswered
from speedsms.gateway.channels.smpp.smsc.carrier import Carrier
from speedsms.gateway.channels.smpp.smsc.connection import Change, Connection
from speedsms.gateway.channels.smpp.smsc.journal import Journal, Line
from speedsms.gateway.channels.smpp.smsc.messages import Messages
from speedsms.gateway.channels.smpp.smsc.pushing import ANYBODY, Delivery, Pushing
from speedsms.gateway.channels.smpp.smsc.script import End, Script, Speech, Welcome, code
from speedsms.gateway.channels.smpp.smsc.speech import parts

_UNBIND_WAIT_S: Final = 2.0
_NEVER_S: Final = 1e9


class Smsc:
    """`script` may be replaced at any time. keep: lines the journal holds; tell: gets each line as it comes.

    counts: binds, binds_refused, submits, receipts_sent and so on; messages has the statuses of responses.
    """

    def __init__(
        self,
        script: Script = Script(),  # noqa: B008 - frozen
        *,
        seed: int = 1,
        keep: int = 200_000,
        tell: Callable[[Line], None] | None = None,
    ) -> None:
        self.seed = seed
        self.carrier = Carrier(script, seed)
        self.connections: dict[int, Connection] = {}
        self.counts: Counter[str] = Counter()
        self.journal = Journal(keep, self._told, self._now)
        self._pushing = Pushing(self.connections, self.counts)
        self.messages = Messages(
            self.carrier,
            self.counts,
            later=self._later,
            now=self._now,
            push=self._pushing.push,
            say=self.say,
        )
        self._tell = tell
        self._numbers = count(1)
        self._references = count(seed * 251)
        self._to_say: tuple[Speech, ...] = ()
        self._stirred = asyncio.Event()
        self._epoch = time.time() - time.monotonic()
        self._server: asyncio.Server | None = None
        self.script = script

    # --- Life ---

    async def start(self, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> int:
        """Listens; the port. What was not delivered before a stop is delivered to the next bind."""
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(self._connection, host, port, ssl=tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes everything, without a word to the peers."""
        if self._server:
            self._server.close()
        for connection in [*self.connections.values()]:
            connection.abort()
        await self.until(lambda: not self.connections)

    @property
    def script(self) -> Script:
        return self.carrier.script

    @script.setter
    def script(self, script: Script) -> None:
        self.carrier.follow(script)
        self._pushing.rules = script.deliver
        self._to_say = script.speech
        for connection in self.connections.values():
            connection.wire = script.wire
            self._speak(connection)

    async def until(self, condition: Callable[[], object], within_s: float = 20.0) -> None:
        """Waits until the condition holds, asked after each line of the journal. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._stirred.clear()
                await self._stirred.wait()

    # --- What people and tests make it say ---

    def say(self, speech: Speech, system_id: str = ANYBODY) -> int:
        """A message of a handset, or a burst of them; how many PDUs."""
        pdus = [pdu for at in range(1, speech.count + 1) for pdu in parts(speech, at, next(self._references))]
        if speech.shuffled:
            self.carrier.shuffle(pdus)
        for pdu in pdus:
            self.push(pdu, system_id=system_id)
        return len(pdus)

    def push(self, pdu: DeliverSm | DataSm, *, system_id: str = ANYBODY) -> None:
        """Any deliver_sm or data_sm, to a bind that receives, now or later. Raises ValueError."""
        encode(pdu, 1)
        self._pushing.push(Delivery("incoming", pdu, system_id))

    def send(self, octets: bytes, connection: int | None = None) -> None:
        """Whole PDUs whatever they are, behind what waits, to one connection or all."""
        for each in self._chosen(connection):
            each.raw(octets)

    def end(self, how: End, connection: int | None = None) -> None:
        """Ends one connection or all, as `then` of a play does."""
        for each in self._chosen(connection):
            each.end(how)

    @property
    def undelivered(self) -> int:
        """Receipts and messages that wait for a bind."""
        return self._pushing.waiting

    def _chosen(self, number: int | None) -> list[Connection]:
        return [c for c in self.connections.values() if number in {None, c.number}]

    # --- Events ---

    def _connection(self) -> Connection:
        wire, deliver = self.script.wire, self.script.deliver
        timers = Timers(
            enquire_link_s=wire.enquire_link_s or _NEVER_S, response_s=deliver.response_s, bind_s=_NEVER_S
        )
        return Connection(next(self._numbers), wire, timers, self.journal, self._listen)

    def _listen(self, connection: Connection, event: Event | Change) -> None:
        match event:
            case "open":
                self.connections[connection.number] = connection
            case Asked(sequence, frame):
                self._asked(connection, sequence, frame.command, frame.pdu)
            case Answered(key, status) if isinstance(key, Delivery):
                if not event.late:
                    self._pushing.answered(connection, key, status)
            case Unanswered(key, why) if isinstance(key, Delivery):
                self._pushing.unanswered(connection, key, why)
            case Leaving():
                self._later(_UNBIND_WAIT_S if connection.opened else 0.0, connection.leave)
                connection.leaving = True
            case Oddity(kind):
                self.counts[kind] += 1
            case "closed":
                del self.connections[connection.number]
                self._stirred.set()
                for other in self.connections.values():
                    self._pushing.room(other)

    def _asked(self, connection: Connection, sequence: int, command: int, pdu: Struct | None) -> None:
        match pdu:
            case SubmitSm() | DataSm():
                self.messages.submitted(connection, sequence, command, pdu)
            case Bind():
                self._bind(connection, sequence, pdu)
            case QuerySm():
                found, status = self.messages.queried(pdu)
                connection.answer(sequence, found, command, status)
            case CancelSm():
                connection.answer(sequence, None, command, self.messages.cancelled(pdu))
            case _:
                connection.answer(sequence, None, command, Status.RINVCMDID)

    def _bind(self, connection: Connection, sequence: int, bind: Bind) -> None:
        bound = sum(
            c.bind is not None and c.bind.system_id == bind.system_id for c in self.connections.values()
        )
        welcome = self.carrier.bind(bind, bound)
        if welcome.answer:
            self._later(
                self.carrier.draw(welcome.delay_s), self._welcome, connection, sequence, bind, welcome
            )

    def _welcome(self, connection: Connection, sequence: int, bind: Bind, welcome: Welcome) -> None:
        if connection.closed:
            return
        status = code(welcome.status)
        self.counts["binds_refused" if status else "binds"] += 1
        tlvs: Tlvs = {Tag.SC_INTERFACE_VERSION: bytes([welcome.version])} if welcome.version else {}
        found = None if status else BindResp(bind.mode, welcome.system_id, tlvs)
        connection.answer(sequence, found, bind.command, status)
        if not status:
            connection.bind = bind
            connection.pester()
            self._speak(connection)
            self._pushing.room(connection)
        connection.end(welcome.then)

    def _speak(self, connection: Connection) -> None:
        """What handsets say of themselves begins with the first bind that receives."""
        if connection.receives:
            for speech in self._to_say:
                self._later(speech.after_s, self.say, speech)
            self._to_say = ()

    # --- For its parts ---

    def _later(self, delay_s: float, act: Callable[..., Any], *given: Any) -> None:
        if delay_s > 0:
            asyncio.get_running_loop().call_later(delay_s, act, *given)
        else:
            act(*given)

    def _now(self) -> float:
        """Seconds since 1970 that never go back."""
        return self._epoch + time.monotonic()

    def _told(self, line: Line) -> None:
        self._stirred.set()
        if self._tell:
            self._tell(line)
