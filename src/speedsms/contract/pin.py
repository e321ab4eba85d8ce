"""Phone verification: the PIN, its life, its checks, its sends (protocol §13). Pure; storage is the caller's.

A verification belongs to (account, `app_id`, normalised number); calls on one of them must not overlap.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from speedsms.wire import SmsType

PLACEHOLDER: Final = "{pin_code}"
ID_BYTES: Final = 16  # random; the PIN is never stored but derived from them
SHORT_DIGITS: Final = 5  # up to so many, a PIN can be guessed: fewer checks, and few verifications a day
SHORT_CHECKS: Final = 3
SHORT_PER_DAY: Final = 10
_DAY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Application:
    """One 2FA application. sms_type None: its PINs are spoken, in calls."""

    app_id: str
    digits: int = 6
    checks: int = 5
    life_s: int = 600
    sends: int = 5
    gap_s: int = 30
    expose_pin: bool = False
    strict_verify: bool = False
    sms_type: SmsType | None = SmsType.SHARED_BRANDNAME
    sender: str = "Verify"

    @property
    def is_short(self) -> bool:
        """Whether the PIN is so short that fewer checks are allowed (protocol §13)."""
        return self.digits <= SHORT_DIGITS


@dataclass(frozen=True, slots=True)
class Verification:
    """One verification as it is stored; `checks_left` 0: used or closed."""

    id: bytes
    opened_at: datetime
    sent_at: datetime
    checks_left: int
    sends: int = 1


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found; the same for every cause of a no (protocol D47)."""

    verified: bool
    remaining: int


def pin_of(verification_id: bytes, key: bytes, digits: int) -> str:
    """The PIN of a verification: HMAC-SHA-256, truncated as in RFC 4226 §5.3; leading zeros are kept."""
    digest = hmac.digest(key, verification_id, "sha256")
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}d}"


def is_open(old: Verification | None, app: Application, now: datetime) -> bool:
    """Whether a verification can still be repeated and checked; its life counts from the first send."""
    return old is not None and old.checks_left > 0 and now < old.opened_at + timedelta(seconds=app.life_s)


def sent(
    past: Sequence[Verification], app: Application, new_id: bytes, now: datetime
) -> tuple[list[Verification], int]:
    """The verifications of a phone once a PIN is sent, its own last; and seconds to wait before (429), or 0.

    An open one is repeated: the same PIN, so that a late first message still works, and nothing is reset
    (protocol D46). past: oldest first.
    """
    last = past[-1] if past else None
    if last is not None and is_open(last, app, now):
        again_at = last.sent_at + timedelta(seconds=app.gap_s)
        if last.sends >= app.sends:
            again_at = last.opened_at + timedelta(seconds=app.life_s)
        return [*past[:-1], replace(last, sent_at=now, sends=last.sends + 1)], _seconds(again_at - now)
    wait_s = 0
    if app.is_short and len(past) >= SHORT_PER_DAY:
        wait_s = _seconds(past[-SHORT_PER_DAY].opened_at + _DAY - now)
    checks = min(app.checks, SHORT_CHECKS) if app.is_short else app.checks
    return [*past, Verification(new_id, now, now, checks)], wait_s


def _seconds(left: timedelta) -> int:
    return max(0, ceil(left.total_seconds()))


def checked(
    old: Verification | None, app: Application, pin: str, key: bytes, now: datetime
) -> tuple[Verification | None, Check]:
    """One evaluated check: the verification to store, and what is answered."""
    if old is None or not is_open(old, app, now):
        return old, Check(verified=False, remaining=0)
    verified = hmac.compare_digest(pin_of(old.id, key, app.digits), pin)
    left = old.checks_left - 1
    return replace(old, checks_left=0 if verified else left), Check(verified, left)
