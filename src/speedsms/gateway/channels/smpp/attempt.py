"""One attempt on its way to the carrier: which parts are taken, and what came of it (channels §1.3)."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from speedsms.gateway.channels.base import Accepted, Outcome, Outgoing, Refused, Unknown
from speedsms.gateway.channels.smpp.pdu import SubmitSm

# message, attempt, part, what became of it
Settle: TypeAlias = Callable[[int, int, int, Outcome], None]


class Part:
    """One submit_sm. sent_at: monotonic seconds, 0 until it is handed to a connection."""

    __slots__ = ("attempt", "number", "pdu", "sent_at")

    def __init__(self, attempt: "Attempt", number: int, pdu: SubmitSm) -> None:
        self.attempt = attempt
        self.number = number
        self.pdu = pdu
        self.sent_at = 0.0


class Attempt:
    """The parts of one message, in order; `outcome` ends when no more can be learned about any."""

    __slots__ = ("_alone", "_settle", "_taken", "_unknown", "_waiting", "open", "out", "outcome", "refusal")

    def __init__(
        self,
        out: Outgoing,
        parts: list[tuple[int, SubmitSm]],
        outcome: asyncio.Future[Outcome],
        settle: Settle,
    ) -> None:
        self.out = out
        self.outcome = outcome
        self.open = 0
        self.refusal: Refused | None = None
        self._waiting = [Part(self, number, pdu) for number, pdu in reversed(parts)]
        self._alone = len(parts) == 1 and not out.done
        self._taken: dict[int, tuple[str, str]] = {}
        self._unknown: dict[int, Unknown] = {}
        self._settle = settle

    @property
    def waiting(self) -> int:
        """Parts that are not handed to the connection yet; after a refusal they never will be."""
        return len(self._waiting)

    def next(self) -> Part:
        """The next part, now in the hands of a connection."""
        self.open += 1
        return self._waiting.pop()

    def accepted(self, part: Part, reference: str, key: str) -> None:
        if self._alone and not self.outcome.done():
            self.open = 0
            self.outcome.set_result(Accepted((reference,), (key,)))
            return
        self._answered(part)
        self._taken[part.number] = (reference, key)
        whole = not (self.open or self._waiting or self._unknown or self.refusal)
        if whole and self.outcome.done():  # the last answer that was missing
            number = part.number if self._alone else 0
            self._settle(self.out.message, self.out.attempt, number, self._accepted())
        elif not whole or self.outcome.done():
            self._settle(self.out.message, self.out.attempt, part.number, Accepted((reference,), (key,)))
        self._end()

    def refused(self, part: Part, refusal: Refused) -> None:
        """A part is refused: the rest is not sent (§3.9)."""
        self._answered(part)
        if self.outcome.done():
            late = replace(refusal, done=self.out.done.union(self._taken))
            self._settle(self.out.message, self.out.attempt, part.number, late)
        self.give_up(refusal)

    def unanswered(self, part: Part, unknown: Unknown) -> None:
        self.open -= 1
        self._unknown[part.number] = unknown
        self._end()

    def give_up(self, refusal: Refused) -> None:
        """What is still waiting will not go; the outcome waits for the parts that are out."""
        self.refusal = self.refusal or refusal
        self._end()

    def _answered(self, part: Part) -> None:
        """A late answer ends what was unknown, any other one that was open."""
        if self._unknown.pop(part.number, None) is None:
            self.open -= 1

    def _end(self) -> None:
        if self.open or (self._waiting and not self.refusal) or self.outcome.done():
            return
        if self._unknown:
            self.outcome.set_result(next(iter(self._unknown.values())))
        elif self.refusal:
            self.outcome.set_result(replace(self.refusal, done=self.out.done.union(self._taken)))
        else:
            self.outcome.set_result(self._accepted())

    def _accepted(self) -> Accepted:
        """In the order of the parts; "" for those that an earlier attempt has told already."""
        numbers = range(1, max(self._taken, default=0) + 1) if self.out.done else sorted(self._taken)
        taken = [self._taken.get(number, ("", "")) for number in numbers]
        return Accepted(tuple(reference for reference, _ in taken), tuple(key for _, key in taken))
