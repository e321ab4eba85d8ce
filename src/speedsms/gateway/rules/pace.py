"""How fast: an exact rate towards a peer (channels §1.6), and the rests between two batches of a stage."""

from collections import deque
from itertools import islice
from typing import Final

_REST_S: Final = 0.02
_FEW: Final = 10  # a whole window of a carrier that allows no more
_CLAIM_REST_S: Final = (0.002, 0.01)  # at least, at most


def rest_s(batch: int) -> float:
    """How long a stage behind the carrier rests after a commit, so that the next one finds more to do.

    A statement costs half a millisecond of CPU before its first row: rests halve the cost of a message under
    load. After a small batch there is none, so a lone message or a peer with a small window never waits.
    """
    return _REST_S if batch > _FEW else 0.0


def claim_rest_s(took_s: float) -> float:
    """How long dispatch, the stage before the carrier, rests after a claim that took so long.

    The next claim finds more then; the first message after a pause never waits for it. Under load it spares
    most of the statements and costs a few milliseconds: any longer, and a small window would run dry.
    """
    least, most = _CLAIM_REST_S
    return min(max(1.5 * took_s, least), most)


class Pace:
    """Token bucket for even traffic, ring of send times for the cap. Times are monotonic seconds.

    rate: parts per second, 0 for none.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._span_s = 1.0 if rate >= 1 else 1.0 / rate if rate > 0 else 0.0
        self._sent: deque[float] = deque(maxlen=max(1, int(rate)))
        # Half a part beyond what may leave at once: a sender that comes a little late loses nothing.
        self._most = max(1, int(rate / 50)) + 0.5
        self._tokens = self._most
        self._filled_at = 0.0

    def free(self, now: float) -> int:
        """How many parts may leave now."""
        if not self.rate:
            return 1_000_000
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._filled_at) * self.rate)
        self._filled_at = now
        most = max(0, int(self._tokens))
        size = self._sent.maxlen or 1
        if len(self._sent) < size:
            return min(most, size - len(self._sent))
        aged = 0
        for at in islice(self._sent, most):
            if now - at < self._span_s:
                break
            aged += 1
        return aged

    def wait_s(self, now: float) -> float:
        """Seconds until one part may leave, if none may now."""
        if not self.rate:
            return 0.0
        refill = max(0.0, (1.0 - self._tokens) / self.rate)
        full = len(self._sent) == self._sent.maxlen
        return max(refill, self._span_s - (now - self._sent[0]) if full else 0.0)

    def take(self, parts: int, now: float) -> None:
        if self.rate:
            self._tokens -= parts
            self._sent.extend([now] * parts)
