"""What decides: a carrier that follows a script. The server asks it about each bind and each submit.

The dice of a message depend on the seed, its number and how many came before to that number, so a run repeats
exactly whatever the order of arrival (SI-1). No clock, no sockets.
"""

import random
from collections import Counter, deque
from collections.abc import Mapping
from hashlib import blake2b
from math import ceil
from typing import Any, Final
from uuid import UUID

from speedsms.gateway.channels.smpp.pdu import Bind, Status
from speedsms.gateway.channels.smpp.smsc.script import (
    Delay,
    IdForm,
    Play,
    Receipt,
    Script,
    Welcome,
    code,
    matches,
)
from speedsms.numbers import magic

# The numbers of protocol §16 and channels §7 that mean something to a carrier of SMS.
MAGIC: Final[Mapping[int, Play]] = {
    1: Play(),
    2: Play(
        receipts=(
            Receipt(state="ENROUTE", after_s=0.2, intermediate=True, unasked=True),
            Receipt(after_s=0.5),
        )
    ),
    3: Play(receipts=(Receipt(state="UNDELIV", err="001"),)),
    4: Play(status="RINVDSTADR"),
    8: Play(receipts=(Receipt(after_s=60.0),)),
    9: Play(receipts=(Receipt(times=2),)),
    10: Play(receipts=(Receipt(after_s=-0.01),)),
    11: Play(receipts=()),
    12: Play(status="RSYSERR", refusals=1),
    13: Play(answers=(), then="reset"),
    14: Play(reply="YES"),
    15: Play(reply="TC"),
    16: Play(status="RTHROTTLED", refusals=2),
    17: Play(answers=(), receipts=(Receipt(after_s=0.5),)),
    18: Play(answers=(), receipts=()),
    19: Play(status="RINVSRCADR"),
}


class Carrier:
    """Follows one script at a time; message ids and full queues outlast a change of it."""

    def __init__(self, script: Script, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - a simulation that can be repeated
        self._first_id = self._random.randrange(10**9, 2 * 10**9)
        self._ids = 0
        self._queued: Counter[str] = Counter()
        self.follow(script)

    def follow(self, script: Script) -> None:
        """From now on; what the old one counted begins again."""
        self.script = script
        self._binds = 0
        self._left = [rule.next for rule in script.rules]
        self._shares = any(rule.share < 1 for rule in script.rules)
        self._seen: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._taken: deque[float] = deque(maxlen=max(1, ceil(script.limits.rate)))

    def bind(self, bind: Bind, bound: int) -> Welcome:
        """The answer to a bind whose system_id has `bound` connections already."""
        script, at = self.script, self._binds
        self._binds += 1
        welcome = script.binds[at] if at < len(script.binds) else script.bind
        if script.accounts and bind.system_id not in script.accounts:
            return Welcome(status=Status.RINVSYSID)
        if script.accounts and script.accounts[bind.system_id] != bind.password:
            return Welcome(status=Status.RINVPASWD)
        if script.limits.binds and bound >= script.limits.binds:
            return Welcome(status=Status.RALYBND)
        return welcome

    def submit(self, number: str, opened: int, now: float) -> tuple[int, Play]:
        """The command_status and the play of a message; `opened`: submits unanswered there, this one too."""
        limits = self.script.limits
        if limits.window and opened > limits.window:
            return code(limits.window_status), Play()
        if limits.rate and self._too_soon(now):
            return code(limits.rate_status), Play()
        if limits.queue and self._queued[number] >= limits.queue:
            return Status.RMSGQFUL, Play()
        play = self._play(number)
        status = code(play.status)
        if status and play.refusals:
            self._refused[number] += 1
            if self._refused[number] > play.refusals:
                del self._refused[number]
                status = 0
        if not status:
            self._taken.append(now)
            self._queued[number] += 1
        return status, play

    def ended(self, number: str) -> None:
        """A taken message needs no room in the number's queue any more."""
        self._queued[number] -= 1
        if self._queued[number] <= 0:
            del self._queued[number]

    def next_id(self) -> int:
        """The next message id, to be spelt in some form."""
        cycle = self.script.id_cycle
        number = self._first_id + (self._ids % cycle if cycle else self._ids)
        self._ids += 1
        return number

    def draw(self, delay: Delay) -> float:
        """Seconds."""
        return delay if isinstance(delay, float | int) else self._random.uniform(*delay)

    def shuffle(self, things: list[Any]) -> None:
        self._random.shuffle(things)

    def _too_soon(self, now: float) -> bool:
        ring, size = self._taken, self._taken.maxlen or 1
        return len(ring) == size and now - ring[0] < size / self.script.limits.rate

    def _play(self, number: str) -> Play:
        if self.script.magic and (found := magic(number)) is not None:
            return MAGIC.get(found, MAGIC[1])
        if not self.script.rules:
            return self.script.play
        dice = self._dice(number) if self._shares else 0.0
        for at, rule in enumerate(self.script.rules):
            if not matches(rule, number) or (rule.next and not self._left[at]):
                continue
            if dice >= rule.share:
                dice -= rule.share
                continue
            self._left[at] -= 1
            return rule
        return self.script.play

    def _dice(self, number: str) -> float:
        self._seen[number] += 1
        drawn = blake2b(f"{self._seed}/{number}/{self._seen[number]}".encode(), digest_size=6)
        return int.from_bytes(drawn.digest()) / 2**48


def spelt(number: int, form: IdForm) -> str:
    """A message id in one of the forms that carriers use (channels §3.11)."""
    match form:
        case "decimal":
            return str(number)
        case "padded":
            return f"{number:020d}"
        case "hex":
            return f"{number:x}"
        case "HEX":
            return f"{number:X}"
        case "padded_hex":
            return f"{number:016x}"
        case "PADDED_HEX":
            return f"{number:016X}"
        case "uuid":
            return str(_uuid(number))
        case "UUID":
            return str(_uuid(number)).upper()
        case "long":
            return blake2b(b"%d" % number, digest_size=32).hexdigest()
        case "none":
            return ""


def _uuid(number: int) -> UUID:
    return UUID(bytes=blake2b(b"%d" % number, digest_size=16).digest(), version=4)
