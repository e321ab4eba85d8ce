"""When to try again: webhooks (protocol §14.5), and whatever lost a peer or a process (invariants §5). Pure.

`random` is always a number of [0, 1); it spreads delays by ± 20 %, so that what failed together does not
come back together.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Seconds after each failed attempt; the first attempt is made at once, so an event has ten, over 75.6 hours.
WEBHOOK_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
RETRY_AFTER_S: Final = (5, 86_400)
BACKOFF_S: Final = (1, 60)

_SECONDS: Final = re.compile(r"-?[0-9]{1,18}")


def jittered_s(delay_s: float, random: float) -> float:
    return delay_s * (0.8 + 0.4 * random)


def webhook_delay_s(attempts: int, random: float, asked_s: int | None = None) -> float | None:
    """Seconds until the next attempt of an event that failed `attempts` times; None: bury it.

    A receiver's Retry-After (`asked_s`) can only lengthen the wait: obeying a shorter one would spend the
    ten attempts in a minute.
    """
    if attempts > len(WEBHOOK_S):
        return None
    return max(jittered_s(WEBHOOK_S[attempts - 1], random), asked_s or 0)


def retry_after_s(header: str | None, now: datetime) -> int | None:
    """`Retry-After` in seconds or as an HTTP date, kept within 5 s and 24 h; None if it says nothing."""
    if header is None:
        return None
    asked_s = int(header) if _SECONDS.fullmatch(header) else _until(header, now)
    least, most = RETRY_AFTER_S
    return min(max(asked_s, least), most) if asked_s is not None else None


def _until(date: str, now: datetime) -> int | None:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round((at - now).total_seconds())


def backoff_s(failures: int, random: float) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4 … 60."""
    least, most = BACKOFF_S
    return jittered_s(min(least << min(failures - 1, 10), most), random)
