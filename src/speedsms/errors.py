"""What can go wrong, by two questions: whose fault is it, and may I try again?

SpeedSMSError
├─ ConfigurationError        yours, before anything left: token, address, profile
│  └─ JournalError           yours: the journal of `send_many` is of another run, in use or damaged
├─ Rejected                  certain: this call sent nothing and charged nothing
│  ├─ Unauthorized           yours: the token (HTTP 401)
│  ├─ IpLocked               yours: this address may not use the token (007)
│  ├─ AccountBlocked         ask the operator (008)
│  ├─ NotAllowed             ask the operator: API off or scope missing (009)
│  ├─ InvalidRequest         yours: parameters (101, HTTP 400, 404, 405, 413, 415 …)
│  │  └─ SenderNotFound      yours: type not enabled, or sender not registered (101)
│  ├─ InvalidNumber          yours: no entry is a number that can be sent to (105)
│  ├─ NotSendable            yours: a character that cannot be sent (110)
│  ├─ TooLong                yours: too many parts (113)
│  ├─ InsufficientBalance    yours: top up (300)
│  ├─ KeyConflict            yours: the key runs already, or was used for another call (HTTP 409, 422)
│  ├─ RateLimited            try again after `retry_after_s` (HTTP 429)
│  └─ Unavailable            try again: code 500, or no connection, or a lost reply to a call that only reads
├─ OutcomeUnknown            nobody's: it may have been sent; repeat with the same `key` only
└─ NotYetFinal               nobody's: `wait` ran out of time (also a TimeoutError)
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from speedsms.catalogue import ENTRIES, Language, Place, Words, link
from speedsms.wire import Code, Reason

if TYPE_CHECKING:
    from speedsms.results import NumberStatus, Raw

__all__ = [
    "AccountBlocked",
    "ConfigurationError",
    "InsufficientBalance",
    "InvalidNumber",
    "InvalidRequest",
    "IpLocked",
    "JournalError",
    "KeyConflict",
    "NotAllowed",
    "NotSendable",
    "NotYetFinal",
    "OutcomeUnknown",
    "RateLimited",
    "Rejected",
    "SenderNotFound",
    "SpeedSMSError",
    "TooLong",
    "Unauthorized",
    "Unavailable",
]

_CODES: Final[Mapping[str, Code]] = {code.value: code for code in Code}
_REASONS: Final[Mapping[str, Reason]] = {reason.value: reason for reason in Reason}

# The vendor's service names no reason: then the most likely one of a code gives the hint.
_USUAL_REASONS: Final[Mapping[str, Reason]] = {
    Code.IP_LOCKED: Reason.IP_LOCKED,
    Code.ACCOUNT_BLOCKED: Reason.ACCOUNT_BLOCKED,
    Code.API_NOT_ALLOWED: Reason.API_NOT_ALLOWED,
    Code.NUMBER_INVALID: Reason.NUMBER_INVALID,
    Code.NOT_SENDABLE: Reason.CODE_POINT,
    Code.TOO_LONG: Reason.TOO_LONG,
    Code.BALANCE: Reason.BALANCE,
    Code.INTERNAL: Reason.INTERNAL,
}


class SpeedSMSError(Exception):
    """The root. Everything is also an attribute; what is not known is None or empty.

    `message`: what happened. `code`, `reason`: the service's (protocol §6); unknown ones are plain strings.
    `status`: of HTTP. `invalid_phones`: refused entries as written. `request_id`: for the operator.
    `retry_after_s`: the service's own wish. `key`: of the call. `raw`: the reply, token struck out.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        reason: str | None = None,
        status: int | None = None,
        invalid_phones: Sequence[str] = (),
        retry_after_s: float | None = None,
        key: str | None = None,
        raw: "Raw | None" = None,
        language: Language = "en",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = _CODES.get(code or "", code)
        self.reason = _REASONS.get(reason or "", reason)
        self.status = status
        self.invalid_phones = tuple(invalid_phones)
        self.retry_after_s = retry_after_s
        self.key = key
        self.raw = raw
        self.language = language

    def __str__(self) -> str:
        facts = [self.code or (self.status and f"HTTP {self.status}"), self.reason]
        known = ", ".join(str(fact) for fact in facts if fact)
        return " ".join(filter(None, (f"{self.message} ({known})." if known else self.message, self.hint)))

    @property
    def retryable(self) -> bool:
        """The same call, with the same key, may be made again and may succeed without a change."""
        return False

    @property
    def request_id(self) -> str | None:
        """What the operator finds the call by."""
        return self.raw.headers.get("x-request-id") if self.raw else None

    @property
    def hint(self) -> str:
        """What to do, in the client's language; from `speedsms.catalogue`."""
        return self._words.fix if self._words else ""

    @property
    def doc_url(self) -> str | None:
        """Where the documentation explains it, below the project's root."""
        return link(self._place) if self._place else None

    @property
    def _place(self) -> Place | None:
        if isinstance(self.reason, Reason):
            return self.reason
        return _USUAL_REASONS.get(self.code or "") or next((p for p in ENTRIES if p == self.status), None)

    @property
    def _words(self) -> Words | None:
        return ENTRIES[self._place].words(self.language) if self._place else None


class ConfigurationError(SpeedSMSError):
    """The client cannot start, or `send_many` with this journal; nothing has left this machine."""


class JournalError(ConfigurationError):
    """The journal of `send_many` is of another run, in use by one, damaged, or cannot be opened."""


class Rejected(SpeedSMSError):  # noqa: N818  the families of outcomes have the words of the protocol
    """Certain: this call sent nothing and charged nothing."""


class Unauthorized(Rejected):
    """HTTP 401: the token is missing, misspelt or revoked."""


class IpLocked(Rejected):
    """Code 007: this address is not on the token's list."""


class AccountBlocked(Rejected):
    """Code 008: blocked by the operator, or frozen by its owner."""


class NotAllowed(Rejected):
    """Code 009: API access is off, or the token lacks the scope."""


class InvalidRequest(Rejected):
    """Code 101, or an HTTP status that blames the request: something must be corrected first."""


class SenderNotFound(InvalidRequest):
    """Code 101, *sender not found*: type not enabled, or sender unknown or unapproved (protocol D27)."""


class InvalidNumber(Rejected):
    """Code 105: no entry can be sent to; `invalid_phones` has them as written."""


class NotSendable(Rejected):
    """Code 110: the content has a character that cannot be sent."""


class TooLong(Rejected):
    """Code 113: more parts than the type allows (protocol §10.4)."""


class InsufficientBalance(Rejected):
    """Code 300: not enough money for the whole call, or a spending limit."""


class KeyConflict(Rejected):
    """HTTP 409: another call with this key still runs. HTTP 422: the key was used for another call."""

    @property
    def retryable(self) -> bool:
        """The other call will end; then its own reply is given again."""
        return self.status == 409


class RateLimited(Rejected):
    """HTTP 429: `retry_after_s` says when the next try makes sense."""

    @property
    def retryable(self) -> bool:
        """Always: the limit is a window of time."""
        return True


class Unavailable(Rejected):
    """Code 500, no connection, or no usable reply to a call that only reads."""

    @property
    def retryable(self) -> bool:
        """Always: nothing happened."""
        return True


class OutcomeUnknown(SpeedSMSError):  # noqa: N818  the families of outcomes have the words of the protocol
    """It may have been sent and charged, or not.

    With `keys_honoured` a repeat with the same `key` sends nothing twice (protocol §15.1). Otherwise look
    at the account before repeating.
    """

    keys_honoured: bool = False

    @property
    def retryable(self) -> bool:
        """With the same key, where keys are honoured; a repeat elsewhere may be a second message."""
        return self.keys_honoured and self.key is not None

    @property
    def hint(self) -> str:
        """What to do; where keys are not known, advising a repeat would advise a second message."""
        place = _REPEAT if self.retryable else _LOOK_FIRST
        return place[self.language].format(key=self.key)


class NotYetFinal(SpeedSMSError, TimeoutError):  # noqa: N818  it says what is the matter
    """`wait` ran out of time; `statuses` is what was seen last."""

    statuses: "Sequence[NumberStatus]" = ()

    @property
    def retryable(self) -> bool:
        """Always: asking again costs nothing."""
        return True


_REPEAT: Final[Mapping[Language, str]] = {
    "en": "Repeat with the same key {key}: you will not be charged twice.",
    "vi": "Gọi lại với cùng khóa {key}: bạn không bị trừ tiền hai lần.",
}
_LOOK_FIRST: Final[Mapping[Language, str]] = {
    "en": "This service may not know keys: look at the account before you repeat.",
    "vi": "Dịch vụ này có thể không hỗ trợ khóa: hãy xem tài khoản trước khi gọi lại.",
}
