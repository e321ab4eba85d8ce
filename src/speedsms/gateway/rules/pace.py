"""An exact rate: no one-second window, wherever it starts, holds more than the contract (channels §1.6)."""

from collections import deque


class Pace:
    """Token bucket for even traffic, ring of send times for the cap. Times are monotonic seconds.

    rate: parts per second, 0 for none.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._span_s = 1.0 if rate >= 1 else 1.0 / rate if rate > 0 else 0.0
        self._sent: deque[float] = deque(maxlen=max(1, int(rate)))
        self._most = max(1.0, rate / 50)
        self._tokens = self._most
        self._filled_at = 0.0

    def free(self, now: float) -> int:
        """How many parts may leave now."""
        if not self.rate:
            return 1_000_000
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._filled_at) * self.rate)
        self._filled_at = now
        size = self._sent.maxlen or 1
        if len(self._sent) < size:
            return min(int(self._tokens), size - len(self._sent))
        aged = 0
        for at in self._sent:
            if now - at < self._span_s:
                break
            aged += 1
        return min(int(self._tokens), aged)

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
