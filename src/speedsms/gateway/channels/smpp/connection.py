"""One TCP connection to a carrier: octets ↔ session, parts in, answers and inbound messages out.

Plain callbacks, and one write per turn of the loop: there is no coroutine per message.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Final, cast

from speedsms.contract.senders import Lane
from speedsms.gateway import failpoint
from speedsms.gateway.channels.base import Reason, Refused, Unknown
from speedsms.gateway.channels.smpp import outcome, session, usual
from speedsms.gateway.channels.smpp.attempt import Lone, Part
from speedsms.gateway.channels.smpp.pdu import (
    RESPONSE,
    BadPdu,
    Bind,
    Command,
    DataSm,
    DeliverSm,
    DeliverSmResp,
    Splitter,
    Status,
    encode_body,
)
from speedsms.gateway.channels.smpp.session import Phase, Role, Session, Timers
from speedsms.gateway.channels.smpp.traffic import Traffic

_UNREAD_OCTETS: Final = 1 << 20  # a peer that asks and does not read is dropped beyond this
_UNCOMMITTED: Final = 1000  # inbound messages that wait for their commit (SM-34)
_PATIENCE_S: Final = (
    5.0  # then the carrier is told to repeat one; if it was stored after all, that is absorbed
)
_LEAVE_S: Final = 2.0  # open requests when the peer unbinds (§3.4)
_LINGER_S: Final = 1.0  # for the last octets of a closed connection
_AT_ONCE: Final = 64  # parts in one write; the next one waits until the transport is empty
_WATCH_S: Final = 60.0  # work waits and nothing goes: the link is made anew (channels §1.7)


class Connection(asyncio.Protocol):
    """bound ends with the status of the bind, or None if none came; closed with the cause."""

    def __init__(self, traffic: Traffic) -> None:
        settings = traffic.settings
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._session = Session(
            Role.ESME,
            Timers(
                enquire_link_s=settings.enquire_link_s,
                enquire_timeout_s=settings.enquire_timeout_s,
                response_s=settings.submit_timeout_s,
                bind_s=settings.bind_s,
                unbind_s=settings.unbind_s,
            ),
            usual.decode,
        )
        self._window = settings.window
        self._lanes: tuple[deque[Part | Lone], ...] = tuple(deque() for _ in Lane)
        self.waiting = 0  # parts
        self._owner = traffic.around.owner()  # under which what waits was begun
        self.bound: asyncio.Future[int | None] = self._loop.create_future()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._quiet = asyncio.Event()
        self.cause = ""
        self._leaving = False  # nothing more is handed over
        self._uncommitted = 0
        self._unanswered_in: dict[int, tuple[int, float]] = {}  # sequence → command, since
        self._impatient: asyncio.TimerHandle | None = None
        self._full = False  # the transport holds octets that the peer has not taken
        self._soon = False
        self._pacing: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._farewell: asyncio.Task[None] | None = None
        self._moved_at = self._loop.time()  # when a part went, or when there was none
        self._read_at, self._received_at = self._moved_at, traffic.around.now()
        self._splitters = {"sent": Splitter(), "received": Splitter()}
        self._transport = cast("asyncio.Transport", None)  # from connection_made on
        self._acts: dict[type, Callable[[Any], None]] = {
            session.Answered: self._answered,
            session.Unanswered: self._unanswered,
            session.Asked: self._asked,
            session.Bound: self._bound,
            session.BindRefused: self._bind_refused,
            session.Leaving: self._peer_leaves,
            session.Close: self._close,
            session.Oddity: self._odd,
        }

    # --------------------------------------------------------------------------------- what the link wants

    def bind(self, bind: Bind) -> None:
        self._session.bind(bind, self._loop.time())
        self._write()

    @property
    def room(self) -> int:
        """Parts that may be put now."""
        if self._leaving or self._session.phase is not Phase.BOUND:
            return 0
        return self._window - self._session.open - self.waiting

    @property
    def ready(self) -> bool:
        return not self._leaving and self._session.phase is Phase.BOUND

    def _still_ours(self) -> bool:
        """A process that hung until others took over must not write what it had at hand (invariants I16)."""
        owner = self._traffic.around.owner()
        if owner != self._owner:
            self._owner = owner
            self.give_back(Refused(Reason.NOT_WRITTEN, "another process has taken over"))
        return owner is not None

    def put(self, parts: Sequence[Part | Lone]) -> None:
        """All that go of one message."""
        self._still_ours()
        if not self.waiting:
            self._moved_at = self._loop.time()
        self._lanes[parts[0].out.lane].extend(parts)
        self.waiting += len(parts)
        self._push_soon()

    def give_back(self, refusal: Refused) -> None:
        """What waits for its turn will not go from here: certainly nothing of it was written."""
        waiting = [part for lane in self._lanes for part in lane]
        for lane in self._lanes:
            lane.clear()
        self.waiting = 0
        for part in waiting:
            part.give_up(refusal)

    async def leave(self, within_s: float) -> None:
        """Let the carrier answer what is open, then unbind (§3.15); no longer than `within_s` for each."""
        self._leaving = True
        self.give_back(Refused(Reason.NOT_WRITTEN, "the link is closed"))
        self._push_soon()
        try:
            async with asyncio.timeout(within_s):
                await self._quiet.wait()
        except TimeoutError:
            self._traffic.note("parts are left without an answer", parts=self._session.open)
        if self._session.phase is Phase.BOUND:
            self._session.unbind(self._loop.time())
            self._write()
        else:
            self._shut("left before it was bound")
        await asyncio.wait([self.closed])

    def drop(self, cause: str) -> None:
        """Close at once."""
        self.cause = self.cause or cause
        self._transport.abort()

    # -------------------------------------------------------------------------------- what the loop tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Parts are handed over only while the transport is empty, so those that still wait here when the
        # connection breaks were certainly not written (§3.4).
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        if self._traffic.trace:
            self._show("received", data)
        # One moment for all that a read brings.
        self._read_at, self._received_at = self._loop.time(), self._traffic.around.now()
        self._do(self._session.receive(data, self._read_at))
        self._push()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._push_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._pacing, self._linger, self._impatient):
            if timer:
                timer.cancel()
        self.cause = self.cause or (f"connection lost: {type(exc).__name__}" if exc else "closed by the peer")
        self._leaving = True
        self._do(self._session.lost())
        self.give_back(Refused(Reason.NOT_WRITTEN, self.cause))
        self._quiet.set()
        if not self.bound.done():
            self.bound.set_result(None)
        self.closed.set_result(self.cause)

    # ------------------------------------------------------------------------------------------ octets out

    def _push_soon(self) -> None:
        """Once in this turn of the loop, after everything that it brings."""
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._push)

    def _push(self) -> None:
        self._soon = False
        while (
            self.waiting
            and not self._full
            and self.ready
            and self._still_ours()
            and self._send(self._loop.time())
        ):
            self._write()
        self._write()
        if self._leaving and not self._session.open and not self._uncommitted:
            self._quiet.set()

    def _send(self, now: float) -> bool:
        """Hand over some of what window and pace allow, OTPs first (CH-3, SM-20); whether more may go."""
        pace = self._traffic.pace
        room = self._window - self._session.open
        # The loop's clock stands still during a turn; an exact rate needs the moment of the write.
        most = min(room, pace.free(monotonic()), _AT_ONCE)
        sent = 0
        for part in islice(self._going(self._traffic.around.now()), max(0, most)):
            self._session.ask(Command.SUBMIT_SM, part.body, part, now)
            part.goes(now)
            sent += 1
        written_at = monotonic()
        pace.take(sent, written_at)
        if sent or room <= 0:
            self._moved_at = now
        if sent == _AT_ONCE:
            return True
        if self.waiting and sent < room and not self._pacing:
            self._pacing = self._loop.call_later(max(pace.wait_s(written_at), 0.001), self._paced)
        return False

    def _paced(self) -> None:
        self._pacing = None
        self._push()

    def _going(self, wall: datetime) -> Iterator[Part | Lone]:
        """What waits and may still go; what is refused or expired meanwhile leaves the queue (CH-7)."""
        for lane in self._lanes:
            while lane:
                part = lane.popleft()
                self.waiting -= 1
                if part.dropped:
                    continue
                if part.out.expires_at > wall:
                    yield part
                else:
                    part.give_up(Refused(Reason.EXPIRED))

    def _write(self) -> None:
        octets = self._session.take()
        if octets and not self._transport.is_closing():
            if self._traffic.trace:
                self._show("sent", octets)
            self._transport.write(octets)
            if self._session.open:
                failpoint.hit("S9")
            if self._full and self._transport.get_write_buffer_size() > _UNREAD_OCTETS:
                self.drop("the peer does not read")
        self._arm()

    def _show(self, direction: str, octets: bytes) -> None:
        assert self._traffic.trace  # noqa: S101 - both callers have looked
        with suppress(BadPdu):  # the session says what is wrong with the stream
            for pdu in self._splitters[direction].feed(octets):
                self._traffic.trace(direction, pdu)

    # --------------------------------------------------------------------------------------------- the clock

    def _arm(self) -> None:
        """A timer for the session's deadline; one that comes early is set again then."""
        deadline = self._session.deadline
        if deadline is None or (self._timer and self._timer.when() <= deadline):
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._do(self._session.tick(now))
        if not self.waiting or not self._traffic.pace.free(monotonic()):
            self._moved_at = now
        elif now - self._moved_at > _WATCH_S:
            self._traffic.alarm("link made anew", "work waits and nothing goes")
            self.drop("watchdog")
        self._push()

    # ------------------------------------------------------------------------------------------ events

    def _do(self, events: Iterable[session.Event]) -> None:
        for event in events:
            try:
                self._acts[type(event)](event)
            except Exception as error:  # noqa: BLE001 - one bad PDU must not cost the others' answers
                self._traffic.alarm("an event broke down", f"{type(event).__name__}: {type(error).__name__}")

    def _answered(self, event: session.Answered) -> None:
        self._traffic.answered(event.key, event.status, event.frame, self._read_at)
        if event.status in outcome.REBIND:
            self._shut("the carrier sees this bind in another state")

    def _unanswered(self, event: session.Unanswered) -> None:
        timeout = event.why == "timeout"
        self._traffic.unanswered(event.key, Unknown("timeout") if timeout else Unknown("written", self.cause))

    def _asked(self, event: session.Asked) -> None:
        pdu = event.frame.pdu
        command = event.frame.command | RESPONSE
        if not isinstance(pdu, _INBOUND):
            self._session.answer(event.sequence, None, command, Status.RINVCMDID)
        elif self._uncommitted >= _UNCOMMITTED:
            self._traffic.counts["inbound_refused"] += 1
            self._session.answer(event.sequence, None, command, Status.RX_T_APPN)
        else:
            stored = self._traffic.inbound(pdu, self._received_at)
            self._uncommitted += 1
            self._unanswered_in[event.sequence] = command, self._read_at
            stored.add_done_callback(partial(self._stored, event.sequence, command))
            if not self._impatient:
                self._impatient = self._loop.call_later(_PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        """What the database takes too long for is to be repeated (SM-34)."""
        self._impatient = None
        now = self._loop.time()
        late = [n for n, (_, since) in self._unanswered_in.items() if now - since >= _PATIENCE_S]
        for sequence in late:
            command, _ = self._unanswered_in.pop(sequence)
            self._traffic.counts["inbound_late"] += 1
            self._session.answer(sequence, None, command, Status.RX_T_APPN)
        if self._unanswered_in:
            first = next(iter(self._unanswered_in.values()))[1]
            self._impatient = self._loop.call_at(first + _PATIENCE_S, self._lose_patience)
        if late:
            self._push_soon()

    def _stored(self, sequence: int, command: int, stored: asyncio.Future[None]) -> None:
        """Only what is committed is acknowledged; else the carrier is told to repeat it (CH-5)."""
        self._uncommitted -= 1
        if self._unanswered_in.pop(sequence, None) is None:
            return
        if stored.cancelled() or stored.exception():
            self._session.answer(sequence, None, command, Status.RX_T_APPN)
        else:
            self._session.reply(sequence, _TAKEN, command)
        self._push_soon()

    def _bound(self, _: session.Bound) -> None:
        self.bound.set_result(Status.ROK)

    def _bind_refused(self, event: session.BindRefused) -> None:
        self.bound.set_result(event.status)

    def _peer_leaves(self, _: session.Leaving) -> None:
        """Its unbind is answered when all open parts are, or after 2 s (§3.4)."""
        self.cause = "the peer unbinds"
        self._leaving = True
        self.give_back(Refused(Reason.NOT_WRITTEN, self.cause))
        self._farewell = self._loop.create_task(self._leave_with_peer())

    async def _leave_with_peer(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._quiet.wait()
        self._session.leave(self._loop.time())
        self._shut(self.cause)

    def _close(self, event: session.Close) -> None:
        self._shut(event.cause)

    def _odd(self, event: session.Oddity) -> None:
        self._traffic.counts[f"oddity.{event.kind}"] += 1

    def _shut(self, cause: str) -> None:
        """Write what is left, then close; a peer that does not read does not hold us up."""
        self.cause = self.cause or cause
        self._leaving = True
        self._write()
        if self._full:
            self._transport.abort()
            return
        self._transport.close()
        self._linger = self._loop.call_later(_LINGER_S, self._transport.abort)


_INBOUND: Final = (usual.UsualReceipt, DeliverSm, DataSm)
_TAKEN: Final = encode_body(DeliverSmResp())  # and of a DataSmResp: no message_id, no parameters
