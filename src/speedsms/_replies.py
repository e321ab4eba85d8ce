"""An answer from the wire → what it means: a decoded success or the error to raise (protocol §1.4, §5, §6).

The wall between HTTP and everything else: nobody behind it looks at a status or a code again.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any, Final, TypeVar

from speedsms.catalogue import Language
from speedsms.errors import (
    AccountBlocked,
    ConfigurationError,
    InsufficientBalance,
    InvalidNumber,
    InvalidRequest,
    IpLocked,
    KeyConflict,
    NotAllowed,
    NotSendable,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    SenderNotFound,
    SpeedSMSError,
    TooLong,
    Unauthorized,
    Unavailable,
)
from speedsms.results import Raw
from speedsms.wire import Code, Endpoint, Reason, message

T = TypeVar("T")

_BY_STATUS: Final[Mapping[int, type[Rejected]]] = {
    401: Unauthorized,
    409: KeyConflict,
    422: KeyConflict,
    429: RateLimited,
}
_BY_CODE: Final[Mapping[str, type[Rejected]]] = {
    Code.IP_LOCKED: IpLocked,
    Code.ACCOUNT_BLOCKED: AccountBlocked,
    Code.API_NOT_ALLOWED: NotAllowed,
    Code.BAD_PARAMETERS: InvalidRequest,
    Code.NUMBER_INVALID: InvalidNumber,
    Code.NOT_SENDABLE: NotSendable,
    Code.TOO_LONG: TooLong,
    Code.BALANCE: InsufficientBalance,
    Code.INTERNAL: Unavailable,
}
# A POST that is sent elsewhere with its body was not worked on; after 302 and 303 it may have been.
_REDIRECTED: Final = (301, 307, 308)
_SENDER_NOT_FOUND: Final = message(Code.BAD_PARAMETERS, Reason.SENDER_NOT_FOUND)
_SECONDS: Final = re.compile(r"[0-9]{1,6}")


class Effect(Enum):
    """What a call does, and so what its repeat would do.

    A check uses up an attempt, and keys do not reach it: neither is it safe to repeat, nor is it a send.
    """

    READS = "reads"
    SENDS = "sends"
    CHECKS = "checks"


@dataclass(frozen=True, slots=True)
class Request:
    """One call as it goes out, the same at each attempt: replays compare body bytes (protocol §15.1).

    Error reporters show the locals of a traceback, so neither texts nor numbers stand in the `repr`.
    """

    method: str
    endpoint: Endpoint
    path: str
    effect: Effect
    body: bytes = field(default=b"", repr=False)
    content_type: str = ""
    key: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A whole reply. `headers`: lower-case names."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """No whole reply. `sent`: bytes may have left; `untrusted`: the service's certificate is not accepted."""

    text: str
    sent: bool
    elapsed_s: float
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A success: `data` is the part of the body that differs from call to call."""

    data: Any = field(repr=False)
    raw: Raw

    @property
    def notices(self) -> tuple[str, ...]:
        """Changes that the service made (protocol §1.3)."""
        return tuple(filter(None, self.raw.headers.get("x-speedsms-notice", "").split(", ")))

    @property
    def parts(self) -> int | None:
        """Billed parts; only our own gateway says."""
        parts = self.raw.headers.get("x-speedsms-parts", "")
        return int(parts) if _SECONDS.fullmatch(parts) else None

    @property
    def replayed(self) -> bool:
        """An earlier call with this key was accepted, and this is its reply."""
        return self.raw.headers.get("idempotency-replayed") == "true"


class Judge:
    """Reads the answers of one service. `honours_keys`: None until it is known (protocol §1.3, Contract)."""

    def __init__(self, token: str, language: Language, *, honours_keys: bool | None) -> None:
        credentials = base64.b64encode(f"{token}:x".encode()).decode()
        self._secrets = (token, credentials, credentials.rstrip("="))
        self.caller = sha256(token.encode()).hexdigest()[:32]  # tells tokens apart without showing one
        self.language: Language = language
        self.honours_keys = honours_keys

    def outcome(
        self, request: Request, answer: Response | Failure, build: Callable[[Reply], T]
    ) -> T | SpeedSMSError:
        """The result that `build` makes of a success, or the error."""
        if isinstance(answer, Failure):
            return self._failed(request, answer)
        if self.honours_keys is None and "x-speedsms-contract" in answer.headers:
            self.honours_keys = True
        raw = self._raw(answer)
        try:
            body = raw.json
            if not isinstance(body, dict):
                body = {}
            if raw.status == 200 and _is_success(request, body):
                return build(Reply(body["data"], raw))
        # Not JSON, or not of the documented shape: PHP writes what is empty as an array.
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            body = {}
        return self._refused(request, raw, body)

    def _raw(self, answer: Response) -> Raw:
        headers, body = answer.headers, answer.body
        for secret in self._secrets:
            headers = {name: text.replace(secret, "***") for name, text in headers.items()}
            body = body.replace(secret.encode(), b"***")
        return Raw(answer.status, headers, body)

    def _failed(self, request: Request, failure: Failure) -> SpeedSMSError:
        if failure.untrusted:
            text = f"{failure.text}: the service's certificate is not trusted; ca_file names an authority"
            return ConfigurationError(text, language=self.language)
        if not failure.sent:
            return Unavailable(f"No connection: {failure.text}", key=request.key, language=self.language)
        return self._lost(request, f"The reply was lost: {failure.text}", None)

    def _lost(self, request: Request, text: str, raw: Raw | None) -> SpeedSMSError:
        kind = Unavailable if request.effect is Effect.READS else OutcomeUnknown
        status = raw.status if raw else None
        lost = kind(text, status=status, key=request.key, raw=raw, language=self.language)
        if isinstance(lost, OutcomeUnknown):
            lost.keys_honoured = bool(self.honours_keys)
        return lost

    def _refused(self, request: Request, raw: Raw, body: Mapping[str, Any]) -> SpeedSMSError:
        if not (raw.status == 200 and body.get("status") == "error") and not _blames(raw.status):
            return self._lost(request, f"HTTP {raw.status} with no reply of this API", raw)
        code = str(body.get("code") or "") or None
        text = str(body.get("message") or f"HTTP {raw.status}")
        kind = _BY_STATUS.get(raw.status) or _BY_CODE.get(code or "")
        if kind is None:
            kind = Rejected if raw.status == 200 else InvalidRequest
        reason = raw.headers.get("x-speedsms-reason")
        if text == _SENDER_NOT_FOUND:  # the vendor's service sends no code with it (protocol D27)
            kind, reason = SenderNotFound, Reason.SENDER_NOT_FOUND
        if reason == Reason.BAD_OPTION:
            text = f"{text}: {', '.join(request.options)}"
        if raw.status in _REDIRECTED:
            text = f"Redirected to {raw.headers.get('location')}; redirects are not followed"
        return kind(
            text,
            code=code,
            reason=reason,
            status=raw.status,
            invalid_phones=strings(body.get("invalidPhone")),
            retry_after_s=_told_s(raw),
            key=request.key,
            raw=raw,
            language=self.language,
        )


def _is_success(request: Request, body: Mapping[str, Any]) -> bool:
    """`strict_verify` says *error* to a wrong PIN, with the same data (protocol D25): still an answer."""
    checked = request.effect is Effect.CHECKS and "data" in body
    return body.get("status") == "success" or checked


def _blames(status: int) -> bool:
    return 400 <= status < 500 or status in _REDIRECTED


def _told_s(raw: Raw) -> float | None:
    names = ("retry-after", "x-rate-limit-reset") if raw.status == 429 else ("retry-after",)
    told = (raw.headers.get(name, "") for name in names)
    return next((float(text) for text in told if _SECONDS.fullmatch(text)), None)


def integer(value: Any) -> int:
    """A number of the wire; digits in a string are taken too. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(value)
    return int(value)


def strings(value: Any) -> tuple[str, ...]:
    """An array of strings; anything else is an empty one."""
    return tuple(map(str, value)) if isinstance(value, list) else ()
