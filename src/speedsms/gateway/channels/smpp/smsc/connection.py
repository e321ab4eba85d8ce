"""One connection of the simulated carrier: octets between socket, journal and session; faults of the wire."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, cast

from speedsms.gateway.channels.smpp.pdu import RESPONSE, BadPdu, Bind, Command, Pdu, Splitter, encode_bare
from speedsms.gateway.channels.smpp.session import Close, Event, Phase, Role, Session, Timers
from speedsms.gateway.channels.smpp.smsc.journal import Journal
from speedsms.gateway.channels.smpp.smsc.script import End, Wire

Change: TypeAlias = Literal["open", "closed"]

_RST: Final = struct.pack("ii", 1, 0)
_RECEIVING: Final = frozenset({"receiver", "transceiver"})
_NO_PDU: Final = b"\0\0\0\0"  # what the session, which gets whole PDUs only, hears of any garbage
_GRACE_S: Final = 0.01  # what was written leaves before an RST throws it away


class Connection(asyncio.Protocol):
    """`listen` gets each event of the session, and the beginning and the end. wire may be exchanged.

    bind: of its peer, once it is welcome; opened: submits not answered; delivering: deliver_sm not answered.
    """

    def __init__(
        self,
        number: int,
        wire: Wire,
        timers: Timers,
        journal: Journal,
        listen: Callable[["Connection", Event | Change], None],
    ) -> None:
        self.number = number
        self.session = Session(Role.SMSC, timers)
        self.bind: Bind | None = None
        self.opened = 0
        self.delivering = 0
        self.leaving = False
        self.closed = False
        self.wire = wire
        self._journal = journal
        self._listen = listen
        self._loop = asyncio.get_running_loop()
        self._pdus = Splitter()
        self._received = self._held = 0
        self._fate: End = ""
        self._unknown: list[bytes] = []
        self._out = bytearray()
        self._trickling = False
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def receives(self) -> bool:
        """Whether receipts and incoming messages may go to it now."""
        return (
            self.bind is not None
            and self.bind.mode in _RECEIVING
            and self.session.phase is Phase.BOUND
            and not (self.closed or self._fate or self.leaving)
        )

    # --- From the socket ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._listen(self, "open")  # not before: a TLS handshake that fails opens nothing
        self._journal.add(self.number, "open")

    def data_received(self, data: bytes) -> None:
        if self._fate not in {"", "mute"}:
            return
        self._held += len(data)
        try:
            for octets in self._pdus.feed(data):
                self._held -= len(octets)
                self._journal.add(self.number, "in", octets)
                self._feed(octets)
                self._received += 1
                if self.wire.end and self._received >= self.wire.end_after:
                    self.end(self.wire.end)
                    return
        except BadPdu:
            self._journal.add(self.number, "in", data[-self._held :])
            self._feed(_NO_PDU)

    def _feed(self, octets: bytes) -> None:
        for event in self.session.receive(octets, self._loop.time()):
            self._told(event)
        self.flush()

    def _told(self, event: Event) -> None:
        self._listen(self, event)
        if isinstance(event, Close):
            self.end("close")

    def pause_writing(self) -> None:
        # A peer that does not read is not read either: nothing piles up here.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._fate != "deaf":
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter here
        self.closed = True
        if self._timer:
            self._timer.cancel()
        self._journal.add(self.number, "close")
        for event in self.session.lost():
            self._listen(self, event)
        self._listen(self, "closed")

    # --- To the socket ---

    def flush(self) -> None:
        """What the session holds leaves before the loop waits again."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def answer(self, sequence: int, pdu: Pdu | None, command: int, status: int = 0) -> None:
        """To a request with this command; no PDU: a header only."""
        self.session.answer(sequence, pdu, command | RESPONSE, status)
        self.flush()

    def leave(self) -> None:
        """Answers the peer's unbind, once."""
        if not self.closed:
            self._flush()
            self.session.leave(self._loop.time())
            self.end("close")

    def abort(self) -> None:
        """Closes it without a word."""
        self._transport.abort()

    def request(self, pdu: Pdu, key: object) -> None:
        """Its answer comes to `listen` with the key. Raises ValueError for what cannot be said."""
        self.session.request(pdu, key, self._loop.time())
        self.flush()

    def raw(self, octets: bytes) -> None:
        """Whole PDUs that the session knows nothing of, behind those that it holds."""
        self._unknown.append(octets)
        self.flush()

    def _flush(self) -> None:
        self._flushing = False
        if self.closed:
            return
        if octets := self._take():
            self._write(octets)
        self._arm()

    def _take(self) -> bytes:
        octets = b"".join((self.session.take(), *self._unknown))
        self._unknown.clear()
        return octets

    def _write(self, octets: bytes) -> None:
        if self._fate:
            return
        kept = [pdu for pdu in _split(octets) if not self._kept_back(pdu)]
        for pdu in kept:
            self._journal.add(self.number, "out", pdu)
        if self.wire.octet_s:
            self._out += b"".join(kept)
            if not self._trickling:
                self._trickle()
        else:
            self._transport.write(b"".join(kept))

    def _kept_back(self, octets: bytes) -> bool:
        return not self.wire.answers_enquire_link and octets[4:8] == _ENQUIRE_LINK_RESP

    def _trickle(self) -> None:
        self._trickling = bool(self._out) and not self.closed
        if self._trickling:
            self._transport.write(bytes(self._out[:1]))
            del self._out[:1]
            self._loop.call_later(self.wire.octet_s, self._trickle)

    # --- Timers ---

    def _arm(self) -> None:
        """One timer, moved forward only when it has run out: moving it with each PDU would cost more."""
        deadline = self.session.deadline
        if deadline is not None and (self._timer is None or deadline < self._timer.when()):
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        if (deadline := self.session.deadline) is not None and now >= deadline:
            for event in self.session.tick(now):
                self._told(event)
        self.flush()

    # --- Ends and nuisances ---

    def end(self, how: End) -> None:
        """Ends the connection so; what the session holds leaves first."""
        if self.closed or self._fate in {"close", "reset", "cut"} or not how:
            return
        if how == "cut":
            self._cut()
        else:
            self._flush()
        if how == "unbind":
            self.session.unbind(self._loop.time())
            self.flush()
            return
        self._fate = how
        if how == "deaf":
            self._transport.pause_reading()
        elif how == "close":
            self._transport.close()
        elif how != "mute":
            self._loop.call_later(_GRACE_S, self._reset)

    def _cut(self) -> None:
        octets = self._take() or encode_bare(Command.ENQUIRE_LINK, 1)
        last = _split(octets)[-1]
        self._transport.write(octets[: -(len(last) // 2)])

    def _reset(self) -> None:
        if not self.closed:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self._transport.abort()

    def pester(self) -> None:
        """Once bound: garbage, and a flood of enquire_link, as the script has them."""
        self._flush()
        for octets in self.wire.garbage:
            self._journal.add(self.number, "out", bytes.fromhex(octets))
            self._transport.write(bytes.fromhex(octets))
        if self.wire.flood:
            self._pester(1)

    def _pester(self, sequence: int) -> None:
        if self.closed:
            return
        at_once = max(1, int(self.wire.flood / 100))
        for each in range(at_once):
            self.raw(encode_bare(Command.ENQUIRE_LINK, sequence + each))
        self._loop.call_later(at_once / self.wire.flood, self._pester, sequence + at_once)


_ENQUIRE_LINK_RESP: Final = Command.ENQUIRE_LINK_RESP.to_bytes(4, "big")


def _split(octets: bytes) -> list[bytes]:
    """Whole PDUs of ours."""
    found, at = [], 0
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 4])
        found.append(octets[at : at + length])
        at += length
    return found
