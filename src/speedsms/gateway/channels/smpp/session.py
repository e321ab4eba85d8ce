"""One SMPP connection as a pure state machine, both roles (channels §3.4): octets, timers and wishes in;
octets, events and the next deadline out. What a command does in a phase stands in TABLE, at the end.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, ClassVar, Final, Literal, TypeAlias

from msgspec import Struct

from speedsms.gateway.channels.smpp.pdu import (
    BINDS,
    HEADER,
    LAST_SEQUENCE,
    RESPONSE,
    BadPdu,
    Bind,
    BindResp,
    Command,
    Frame,
    Pdu,
    Splitter,
    Status,
    command_name,
    decode,
    encode,
    encode_bare,
    encode_body,
)

NEVER: Final = float("inf")
NACK: Final = Command.GENERIC_NACK.value
LATE_ANSWERS: Final = 10_000  # timed-out requests that are still known
UNTAKEN_ANSWERS: Final = 65_536  # of 16 octets: 1 MiB for a peer that asks and does not read


class Role(StrEnum):
    ESME = "esme"
    SMSC = "smsc"


class Phase(StrEnum):
    OPEN = "open"
    BINDING = "binding"
    BOUND = "bound"
    UNBINDING = "unbinding"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Timers:
    """Silence before a probe and wait for its answer; waits for other answers (§3.2)."""

    enquire_link_s: float = 30.0
    enquire_timeout_s: float = 10.0
    response_s: float = 60.0
    bind_s: float = 10.0
    unbind_s: float = 5.0


# What each role may ask a bound peer, the bind on which it may not, and the bind on which the peer may not.
ASKS_SMSC: Final = (Command.SUBMIT_SM, Command.QUERY_SM, Command.CANCEL_SM, Command.REPLACE_SM)
ASKS: Final = {
    Role.ESME: frozenset({*ASKS_SMSC, Command.DATA_SM}),
    Role.SMSC: frozenset({Command.DELIVER_SM, Command.DATA_SM}),
}
MUTE: Final = {Role.ESME: "receiver", Role.SMSC: "transmitter"}
DEAF: Final = {Role.ESME: "transmitter", Role.SMSC: "receiver"}

ANSWERS: Final = {command | RESPONSE for asks in ASKS.values() for command in asks}
BIND_RESPONSES: Final = {command | RESPONSE for command in BINDS.values()}
ANSWERABLE: Final = {int(command) - RESPONSE for command in Command if command > RESPONSE}
OVERDUE: Final = {Phase.OPEN: "no bind", Phase.BINDING: "no bind_resp", Phase.UNBINDING: "no unbind_resp"}


class Bound(Struct, frozen=True):
    """Our bind is accepted. resp: None if it came without a body."""

    resp: BindResp | None


class BindRefused(Struct, frozen=True):
    status: int


class Asked(Struct, frozen=True):
    """A request of the peer that the owner answers with Session.answer."""

    sequence: int
    frame: Frame


class Answered(Struct, frozen=True):
    """The answer to a request of ours. late: it had been reported as Unanswered("timeout") before."""

    key: Any
    status: int
    frame: Frame
    late: bool


class Unanswered(Struct, frozen=True):
    """timeout: an Answered(late=True) may follow. lost: the connection is gone."""

    key: Any
    why: Literal["timeout", "lost"]


class Leaving(Struct, frozen=True):
    """The peer wants to unbind: ask nothing more, and leave() once all is answered or after 2 s."""


class Close(Struct, frozen=True):
    """Write what take() holds, close the connection, call lost()."""

    cause: str


class Oddity(Struct, frozen=True):
    """Something to count, by its kind."""

    kind: str


Event: TypeAlias = Bound | BindRefused | Asked | Answered | Unanswered | Leaving | Close | Oddity


class Open(Struct, frozen=True):
    """A request of ours without answer: whose, which response ends it, and until when."""

    key: object
    response: int
    until: float


Action: TypeAlias = Callable[[Any, Frame], None]
Table: TypeAlias = Mapping[tuple[Role, Phase], Mapping[int, Action]]


def _table(rows: Iterable[tuple[Iterable[int], tuple[Action, ...], tuple[Action, ...]]]) -> Table:
    table: dict[tuple[Role, Phase], dict[int, Action]] = {
        (role, phase): {} for role in Role for phase in Phase
    }
    for commands, esme, smsc in rows:
        for role, actions in ((Role.ESME, esme), (Role.SMSC, smsc)):
            for phase, action in zip(Phase, actions, strict=False):
                table[role, phase].update(dict.fromkeys(commands, action))
    return table


class Session:
    """One connection. `now` is any clock in seconds that never goes back.

    decode: how the octets of a PDU are read. phase; mode: of the bind, "" before it. After each call the
    owner writes what take() gives, and runs tick() when the deadline is reached.
    """

    def __init__(
        self, role: Role, timers: Timers | None = None, decode: Callable[[bytes], Frame] = decode
    ) -> None:
        self.role = role
        self.timers = timers or Timers()
        self._decode = decode
        self.mode = ""
        self._splitter = Splitter()
        self._sequence = 0
        self._requests: dict[int, Open] = {}  # in the order of sending, so the first is the next to time out
        self._late: dict[int, Open] = {}
        self._own: dict[int, int] = {}  # our last bind, unbind and probe: command → sequence
        self._timeouts = 0  # in a row
        self._peer_unbind: int | None = None  # the sequence of its unbind
        self._urgent: list[bytes] = []
        self._queued: list[bytes] = []
        self._events: list[Event] = []
        self._now = self._heard = 0.0
        self._probed_until = NEVER  # no probe is out
        self._oldest_until = NEVER  # never later than the first open request's, often earlier
        self._enter(Phase.OPEN, 0.0 if role is Role.SMSC else NEVER)  # 0.0: the first tick starts the clock

    def _enter(self, phase: Phase, until: float = NEVER) -> None:
        self.phase = phase
        self._until = until
        self._acts = self.TABLE[self.role, phase]
        asks = phase is Phase.BOUND and self.mode != MUTE[self.role]
        self._allowed = ASKS[self.role] if asks else frozenset()

    # What the owner wants

    def bind(self, bind: Bind, now: float) -> None:
        """Raises ValueError in any phase but OPEN."""
        if self.phase is not Phase.OPEN or self.role is not Role.ESME:
            raise ValueError(f"no bind by the {self.role} while {self.phase}")
        self._now, self.mode = now, bind.mode
        sequence = self._next()
        self._queued.append(encode(bind, sequence))
        self._own[bind.command] = sequence
        self._enter(Phase.BINDING, now + self.timers.bind_s)

    def request(self, pdu: Pdu, key: object, now: float) -> int:
        """Its sequence. Raises ValueError where role, phase or bind forbid it, and as encode does."""
        return self.ask(pdu.command, encode_body(pdu), key, now)

    def ask(self, command: int, body: bytes, key: object, now: float) -> int:
        """A request whose body is octets already."""
        if command not in self._allowed:
            raise ValueError(
                f"no {command_name(command)} by the {self.role} while {self.phase} as {self.mode}"
            )
        sequence = self._next()
        self._queued.append(HEADER.pack(16 + len(body), command, 0, sequence) + body)
        until = now + self.timers.response_s
        self._requests[sequence] = Open(key, command | RESPONSE, until)
        if self._oldest_until == NEVER:
            self._oldest_until = until
        return sequence

    def answer(self, sequence: int, pdu: Pdu | None, command: int, status: int = 0) -> None:
        """A response to an Asked; pdu None: a header only. Once the connection is closed, nothing happens."""
        self.reply(sequence, b"" if pdu is None else encode_body(pdu), command, status)

    def reply(self, sequence: int, body: bytes, command: int, status: int = 0) -> None:
        """An answer whose body is octets already."""
        if self.phase is Phase.CLOSED:
            return
        self._queued.append(HEADER.pack(16 + len(body), command, status, sequence) + body)
        if self.phase is Phase.BINDING and command in BIND_RESPONSES:
            self._bind_answered(status)

    def unbind(self, now: float) -> None:
        """Raises ValueError in any phase but BOUND. Close("unbound") follows."""
        if self.phase is not Phase.BOUND:
            raise ValueError(f"no unbind while {self.phase}")
        sequence = self._own[Command.UNBIND] = self._next()
        self._queued.append(encode_bare(Command.UNBIND, sequence))
        self._enter(Phase.UNBINDING, now + self.timers.unbind_s)

    def leave(self, now: float) -> None:
        """Answers the peer's unbind; the owner writes that and closes the connection."""
        if self.phase is Phase.UNBINDING and self._peer_unbind is not None:
            self._now = now
            self._queued.append(encode_bare(Command.UNBIND_RESP, self._peer_unbind))
            self._enter(Phase.CLOSED)

    # What happens

    def receive(self, octets: bytes, now: float) -> list[Event]:
        """What some octets of the peer, cut anywhere, bring about. Nothing they hold makes it raise."""
        events = self._events = []
        self._now = now
        if self.phase is Phase.CLOSED:
            return events
        try:
            for pdu in self._splitter.feed(octets):
                self._read(pdu)
                if not self._acts:  # closed
                    break
        except BadPdu as bad:
            self._urgent.append(encode_bare(Command.GENERIC_NACK, 0, bad.status))
            self._close(str(bad))
        if len(self._urgent) > UNTAKEN_ANSWERS and self._acts:
            self._urgent.clear()
            self._close("the peer does not read")
        return events

    def tick(self, now: float) -> list[Event]:
        """What is due by now; early calls do no harm."""
        events = self._events = []
        self._now = now
        if self.phase is Phase.CLOSED:
            return events
        if now >= self._until:
            if self._until:
                self._close(OVERDUE[self.phase])
                return events
            self._until = now + self.timers.bind_s
        if now >= self._oldest_until:
            self._expire(now)
        if self.phase is Phase.BOUND and now >= self._quiet_until():
            self._silence(now)
        return events

    def lost(self) -> list[Event]:
        """The connection is gone: an Unanswered for each open request."""
        lost: list[Event] = [Unanswered(request.key, "lost") for request in self._requests.values()]
        for held in (self._requests, self._late, self._urgent, self._queued):
            held.clear()
        self._enter(Phase.CLOSED)
        return lost

    @property
    def open(self) -> int:
        """Requests of ours that wait for an answer: what the window counts."""
        return len(self._requests)

    @property
    def deadline(self) -> float | None:
        """When tick() is due; it may find nothing to do then."""
        if self.phase is Phase.CLOSED:
            return None
        at = min(self._until, self._oldest_until)
        if self.phase is Phase.BOUND:
            at = min(at, self._quiet_until())
        return None if at == NEVER else at

    def take(self) -> bytes:
        """Octets to write now, whole PDUs: our answers to enquire_link first (§3.4)."""
        if self._urgent:
            octets = b"".join((*self._urgent, *self._queued))
            self._urgent.clear()
        else:
            octets = b"".join(self._queued)
        self._queued.clear()
        return octets

    # Inside

    def _next(self) -> int:
        self._sequence = self._sequence % LAST_SEQUENCE + 1  # SM-7
        return self._sequence

    def _close(self, cause: str) -> None:
        self._enter(Phase.CLOSED)
        self._events.append(Close(cause))

    def _read(self, octets: bytes) -> None:
        self._heard = self._now  # any PDU is a sign of life
        self._probed_until = NEVER
        try:
            frame = self._decode(octets)
        except BadPdu as bad:
            self._malformed(octets, bad.status)
            return
        if frame.flags:
            self._events.append(Oddity("flagged"))
        self._acts[frame.command](self, frame)

    def _malformed(self, octets: bytes, status: int) -> None:
        """SM-3. A response is never answered: its sequence is ours, and would hit another request."""
        _, command, _, sequence = HEADER.unpack_from(octets)
        unknown = status == Status.RINVCMDID
        self._events.append(Oddity("unknown_command" if unknown else "malformed"))
        if unknown and not command & RESPONSE:
            self._urgent.append(encode_bare(Command.GENERIC_NACK, sequence, status))
        elif command in ANSWERABLE:
            self._urgent.append(encode_bare(command | RESPONSE, sequence, status))

    def _bind_answered(self, status: int) -> None:
        """The SMSC's owner has decided about a bind; a refused peer may try again within bind_s."""
        if status:
            self.mode = ""
            self._enter(Phase.OPEN, self._now + self.timers.bind_s)
        else:
            self._enter(Phase.BOUND)

    def _quiet_until(self) -> float:
        if self._probed_until == NEVER:
            return self._heard + self.timers.enquire_link_s
        return self._probed_until

    def _silence(self, now: float) -> None:
        if self._probed_until == NEVER:
            self._probe(now)
        elif now >= self._probed_until:
            self._close("silence")

    def _probe(self, now: float) -> None:
        if self._probed_until == NEVER:
            sequence = self._own[Command.ENQUIRE_LINK] = self._next()
            self._urgent.append(encode_bare(Command.ENQUIRE_LINK, sequence))
            self._probed_until = now + self.timers.enquire_timeout_s

    def _expire(self, now: float) -> None:
        self._oldest_until = NEVER
        for sequence, request in list(islice(self._requests.items(), 2)):  # the second in a row is the end
            if request.until > now:
                self._oldest_until = request.until
                return
            self._late[sequence] = self._requests.pop(sequence)
            if len(self._late) > LATE_ANSWERS:
                del self._late[next(iter(self._late))]
            self._events.append(Unanswered(request.key, "timeout"))
            self._timeouts += 1
            if self._timeouts == 2:
                self._close("no answer")
                return
            self._probe(now)

    # What a command of the peer does: the actions of the table

    def _echo(self, frame: Frame) -> None:
        self._urgent.append(encode_bare(Command.ENQUIRE_LINK_RESP, frame.sequence))

    def _alive(self, frame: Frame) -> None:
        if self._own.get(Command.ENQUIRE_LINK) == frame.sequence:
            del self._own[Command.ENQUIRE_LINK]
        else:
            self._stray(frame)

    def _stray(self, _: Frame) -> None:
        self._events.append(Oddity("unknown_sequence"))

    def _answered(self, frame: Frame) -> None:
        sequence, command = frame.sequence, frame.command
        held = self._requests if sequence in self._requests else self._late
        request = held.get(sequence)
        if request is None or command not in (request.response, NACK):
            self._stray(frame)
            return
        del held[sequence]
        self._timeouts = 0
        status = frame.status
        if command != request.response:
            status = status or Status.RUNKNOWNERR  # a generic_nack is never good news, whatever it says
        self._events.append(Answered(request.key, status, frame, held is self._late))

    def _nacked(self, frame: Frame) -> None:
        """SM-7: it answers the request whose sequence it bears; with 0 the peer has lost the stream."""
        own = next((command for command, sequence in self._own.items() if sequence == frame.sequence), None)
        if frame.sequence == 0:
            self._close("generic_nack")
        elif own is None:
            self._answered(frame)
        elif own == Command.UNBIND:
            self._unbound(frame)
        elif own == Command.ENQUIRE_LINK:
            self._alive(frame)  # a peer that does not know enquire_link lives nevertheless
        else:
            self._bind_refused(own, frame.status or Status.RUNKNOWNERR)

    def _bound(self, frame: Frame) -> None:
        bind = frame.command - RESPONSE
        if self._own.get(bind) != frame.sequence:
            self._stray(frame)
        elif frame.status:
            self._bind_refused(bind, frame.status)
        else:
            del self._own[bind]
            self._enter(Phase.BOUND)
            self._events.append(Bound(frame.pdu if isinstance(frame.pdu, BindResp) else None))

    def _bind_refused(self, bind: int, status: int) -> None:
        del self._own[bind]
        self.mode = ""
        self._enter(Phase.OPEN)
        self._events.append(BindRefused(status))

    def _binding(self, frame: Frame) -> None:
        if isinstance(frame.pdu, Bind):
            self.mode = frame.pdu.mode
        self._enter(Phase.BINDING)
        self._events.append(Asked(frame.sequence, frame))

    def _asked(self, frame: Frame) -> None:
        if self.mode == DEAF[self.role]:
            self._refused(frame)
        else:
            self._events.append(Asked(frame.sequence, frame))

    def _refused(self, frame: Frame) -> None:
        again = frame.command in BINDS.values() and self.phase is not Phase.UNBINDING
        status = Status.RALYBND if again else Status.RINVBNDSTS
        self._urgent.append(encode_bare(frame.command | RESPONSE, frame.sequence, status))

    def _foreign(self, frame: Frame) -> None:
        """A request that belongs to the other role."""
        self._events.append(Oddity("foreign_command"))
        self._urgent.append(encode_bare(Command.GENERIC_NACK, frame.sequence, Status.RINVCMDID))

    def _leaving(self, frame: Frame) -> None:
        self._peer_unbind = frame.sequence
        self._enter(Phase.UNBINDING, self._now + self.timers.unbind_s)
        self._events.append(Leaving())

    def _parting(self, frame: Frame) -> None:
        """An unbind without a bind, or across ours: nothing is left to wait for."""
        self._queued.append(encode_bare(Command.UNBIND_RESP, frame.sequence))
        self._close("unbound")

    def _unbound(self, frame: Frame) -> None:
        if self._own.get(Command.UNBIND) == frame.sequence:
            self._close("unbound")
        else:
            self._stray(frame)

    def _told(self, frame: Frame) -> None:
        """An outbind or alert_notification: counted, not followed (SM-9)."""
        self._events.append(Oddity(command_name(frame.command)))

    # Action by role, phase and command. CLOSED reads nothing.
    TABLE: ClassVar[Table] = _table(
        (
            # commands; what they do to an ESME, then to an SMSC, while open, binding, bound, unbinding
            ([Command.ENQUIRE_LINK], (_echo,) * 4, (_echo,) * 4),
            ([Command.ENQUIRE_LINK_RESP], (_alive,) * 4, (_alive,) * 4),
            ([Command.GENERIC_NACK], (_nacked,) * 4, (_nacked,) * 4),
            (
                [Command.UNBIND],
                (_parting, _parting, _leaving, _parting),
                (_parting, _parting, _leaving, _parting),
            ),
            ([Command.UNBIND_RESP], (_unbound,) * 4, (_unbound,) * 4),
            (BINDS.values(), (_foreign,) * 4, (_binding, _refused, _refused, _refused)),
            (BIND_RESPONSES, (_stray, _bound, _stray, _stray), (_stray,) * 4),
            ([Command.DELIVER_SM], (_refused, _asked, _asked, _asked), (_foreign,) * 4),
            ([Command.DATA_SM], (_refused, _asked, _asked, _asked), (_refused, _refused, _asked, _refused)),
            (ASKS_SMSC, (_foreign,) * 4, (_refused, _refused, _asked, _refused)),
            (ANSWERS, (_answered,) * 4, (_answered,) * 4),
            ([Command.OUTBIND, Command.ALERT_NOTIFICATION], (_told,) * 4, (_told,) * 4),
        )
    )
