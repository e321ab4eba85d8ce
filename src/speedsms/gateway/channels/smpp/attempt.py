"""One attempt on its way to the carrier: which parts are taken, and what came of it (channels §1.3)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from speedsms.gateway.channels.base import Accepted, Outcome, Outgoing, Refused, Unknown

# message, attempt, part, what became of it
Settle: TypeAlias = Callable[[int, int, int, Outcome], None]


class Part:
    """One submit_sm of several. body: its octets behind the header; sent_at: monotonic seconds."""

    __slots__ = ("attempt", "body", "number", "out", "sent_at")

    def __init__(self, attempt: "Attempt", number: int, body: bytes) -> None:
        self.attempt = attempt
        self.out = attempt.out
        self.number = number
        self.body = body
        self.sent_at = 0.0

    @property
    def dropped(self) -> bool:
        """It must not go any more: another part is refused."""
        return self.attempt.refusal is not None

    def goes(self, now: float) -> None:
        """It is in the hands of a connection."""
        self.sent_at = now
        self.attempt.goes()

    def accepted(self, reference: str, key: str) -> None:
        self.attempt.accepted(self.number, reference, key)

    def refused(self, refusal: Refused) -> None:
        self.attempt.refused(self.number, refusal)

    def unanswered(self, unknown: Unknown) -> None:
        self.attempt.unanswered(self.number, unknown)

    def give_up(self, refusal: Refused) -> None:
        """It waits, and will not go."""
        self.attempt.give_up(refusal)


class Lone:
    """The only submit_sm of a message, nearly all there are: what is learned of it is the outcome."""

    __slots__ = ("_outcome", "_settle", "body", "out", "sent_at")
    dropped = False

    def __init__(self, out: Outgoing, body: bytes, outcome: asyncio.Future[Outcome], settle: Settle) -> None:
        self.out = out
        self.body = body
        self.sent_at = 0.0
        self._outcome = outcome
        self._settle = settle

    def goes(self, now: float) -> None:
        self.sent_at = now

    def accepted(self, reference: str, key: str) -> None:
        self._end(Accepted((reference,), (key,)))

    def refused(self, refusal: Refused) -> None:
        self._end(refusal)

    def unanswered(self, unknown: Unknown) -> None:
        if not self._outcome.done():
            self._outcome.set_result(unknown)

    def give_up(self, refusal: Refused) -> None:
        if not self._outcome.done():
            self._outcome.set_result(refusal)

    def _end(self, answer: Accepted | Refused) -> None:
        if self._outcome.done():  # a late answer
            self._settle(self.out.message, self.out.attempt, 1, answer)
        else:
            self._outcome.set_result(answer)


def divide(
    out: Outgoing, bodies: list[tuple[int, bytes]], outcome: asyncio.Future[Outcome], settle: Settle
) -> Sequence[Part | Lone]:
    """What `submit.cut` made of a message, to be put to a connection. outcome: told by them together."""
    if len(bodies) == 1 and not out.done:
        return (Lone(out, bodies[0][1], outcome, settle),)
    attempt = Attempt(out, len(bodies), outcome, settle)
    return [Part(attempt, number, body) for number, body in bodies]


class Attempt:
    """The parts of one message; `outcome` ends when no more can be learned about any."""

    __slots__ = ("_open", "_settle", "_taken", "_unknown", "_waiting", "out", "outcome", "refusal")

    def __init__(self, out: Outgoing, parts: int, outcome: asyncio.Future[Outcome], settle: Settle) -> None:
        self.out = out
        self.outcome = outcome
        self.refusal: Refused | None = None
        self._open = 0
        self._waiting = parts  # not handed to the connection yet; after a refusal they never will be
        self._taken: dict[int, tuple[str, str]] = {}
        self._unknown: dict[int, Unknown] = {}
        self._settle = settle

    def goes(self) -> None:
        """A part of it."""
        self._open += 1
        self._waiting -= 1

    def accepted(self, part: int, reference: str, key: str) -> None:
        self._answered(part)
        self._taken[part] = (reference, key)
        whole = not (self._open or self._waiting or self._unknown or self.refusal)
        if whole and self.outcome.done():  # the last answer that was missing
            self._settle(self.out.message, self.out.attempt, 0, self._accepted())
        elif not whole or self.outcome.done():
            self._settle(self.out.message, self.out.attempt, part, Accepted((reference,), (key,)))
        self._end()

    def refused(self, part: int, refusal: Refused) -> None:
        """A part is refused: the rest is not sent (§3.9)."""
        self._answered(part)
        if self.outcome.done():
            late = replace(refusal, done=self.out.done.union(self._taken))
            self._settle(self.out.message, self.out.attempt, part, late)
        self.give_up(refusal)

    def unanswered(self, part: int, unknown: Unknown) -> None:
        self._open -= 1
        self._unknown[part] = unknown
        self._end()

    def give_up(self, refusal: Refused) -> None:
        """What is still waiting will not go; the outcome waits for the parts that are out."""
        self.refusal = self.refusal or refusal
        self._end()

    def _answered(self, part: int) -> None:
        """A late answer ends what was unknown, any other one that was open."""
        if self._unknown.pop(part, None) is None:
            self._open -= 1

    def _end(self) -> None:
        if self._open or (self._waiting and not self.refusal) or self.outcome.done():
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
