"""How long to wait before a repeat, and which of its refusals tell what became of the first try.

Whether it may be repeated at all is said by the error itself: `SpeedSMSError.retryable`.
"""

from typing import Final

from speedsms.wire import Code

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 8.0

# The gateway looks for the key before it finds these (protocol §3, steps 7 to 11): had the first try been
# accepted, the repeat would have got its reply. Other refusals come from before step 7 and prove nothing.
SETTLING: Final = frozenset(
    (Code.BAD_PARAMETERS, Code.NUMBER_INVALID, Code.NOT_SENDABLE, Code.TOO_LONG, Code.BALANCE)
)


def delay_s(attempt: int, told_s: float | None, chance: float) -> float:
    """Before the try after `attempt` (from 1): half to all of 0.5 s, 1 s, 2 s … 8 s, never less than told.

    `told_s`: the service's wish. `chance`: 0 to 1, so that many clients do not come back at once.
    """
    backoff_s = min(FIRST_DELAY_S * 2.0 ** min(attempt - 1, 10), LONGEST_DELAY_S)
    return max(backoff_s * (0.5 + chance / 2), told_s or 0.0)
