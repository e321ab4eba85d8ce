"""Each API call as a generator: it yields Send or Wait, gets what came of it, ends in a result or an error.

No I/O and no clock here: a driver does what is yielded and tells how long it took (house.md §6).
"""

import json
import logging
import random
import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, Final, Protocol, TypeAlias, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

from speedsms._replies import Effect, Failure, Judge, Reply, Request, Response, integer, strings
from speedsms._retry import SETTLING, delay_s
from speedsms.errors import InvalidNumber, InvalidRequest, NotYetFinal, OutcomeUnknown, SpeedSMSError
from speedsms.numbers import Number
from speedsms.results import Account, Exchange, NumberStatus, PinCheck, PinSent, Sent
from speedsms.wire import Code, Endpoint, Progress, Reason, SmsType

T = TypeVar("T")

MOST_ENTRIES: Final = 100
FIRST_POLL_S: Final = 1.0
LONGEST_POLL_S: Final = 10.0
_OPTIONS: Final = ("send_at", "validity_s", "reference")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_log: Final = logging.getLogger("speedsms")


class HasE164(Protocol):
    """A phone number of another library, such as django-phonenumber-field's."""

    @property
    def as_e164(self) -> str:
        """`+84912345678`."""


Entry: TypeAlias = str | int | Number | HasE164
Moment: TypeAlias = datetime | int | str


@dataclass(frozen=True, slots=True)
class Send:
    """Send this and answer with a Response or a Failure, within so many seconds."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass."""

    delay_s: float


Call: TypeAlias = Generator[Send | Wait, Any, T]


@dataclass(slots=True)
class Budget:
    """The seconds that a call may still take, its repeats and waits included."""

    left_s: float

    def spend(self, seconds: float) -> None:
        """Take off what has passed."""
        self.left_s -= seconds


@dataclass(slots=True)
class Peer:
    """The service behind one base URL, as one client deals with it."""

    base_url: str
    prefix: str
    judge: Judge
    retries: int = 2
    timeout_s: float = 30.0
    on_exchange: Callable[[Exchange], None] | None = None
    chance: Callable[[], float] = field(default=random.random)

    def budget(self, timeout_s: float | None) -> Budget:
        """Of one call."""
        return Budget(self.timeout_s if timeout_s is None else timeout_s)

    def tell(self, request: Request, answer: Response | Failure, attempt: int) -> None:
        """Show an exchange to the caller's hook."""
        if not self.on_exchange:
            return
        status, failure = (None, answer.text) if isinstance(answer, Failure) else (answer.status, None)
        try:
            self.on_exchange(
                Exchange(request.method, request.path, attempt, status, failure, answer.elapsed_s)
            )
        except Exception:  # noqa: BLE001  what was sent is sent: the caller gets the result, whatever a hook does
            _log.exception("on_exchange failed")


def perform(peer: Peer, request: Request, build: Callable[[Reply], T], budget: Budget) -> Call[T]:
    """Send until there is an outcome, no further try is allowed, or the time is up.

    Once a try may have been accepted, only a success or a refusal that knows about keys ends the doubt.
    """
    doubt: OutcomeUnknown | None = None
    for attempt in count(1):
        answer: Response | Failure = yield Send(request, budget.left_s)
        budget.spend(answer.elapsed_s)
        peer.tell(request, answer, attempt)
        outcome = peer.judge.outcome(request, answer, build)
        if not isinstance(outcome, SpeedSMSError):
            return outcome
        if isinstance(outcome, OutcomeUnknown):
            doubt = outcome
        wait_s = delay_s(attempt, outcome.retry_after_s, peer.chance())
        if not outcome.retryable or attempt > peer.retries or wait_s >= budget.left_s:
            if doubt and doubt is not outcome and outcome.code not in SETTLING:
                raise doubt from outcome
            raise outcome
        yield Wait(wait_s)
        budget.spend(wait_s)
    raise AssertionError  # the loop has no end of its own


def account(peer: Peer, timeout_s: float | None = None) -> Call[Account]:
    """`user/info`."""
    request = _reading(peer, Endpoint.USER_INFO)
    return perform(peer, request, _account, peer.budget(timeout_s))


def _account(reply: Reply) -> Account:
    data = reply.data
    return Account(str(data["email"]), integer(data["balance"]), str(data.get("currency", "VND")), reply.raw)


def send(
    peer: Peer,
    to: Entry | Iterable[Entry],
    content: str,
    *,
    sms_type: SmsType | int = SmsType.RANDOM_NUMBER,
    sender: str | Number = "",
    send_at: Moment | None = None,
    validity_s: int | None = None,
    reference: str | None = None,
    key: str | None = None,
    timeout_s: float | None = None,
) -> Call[Sent]:
    """`sms/send`."""
    parameters = {
        "to": entries(to),
        "content": text(content),
        "sms_type": int(sms_type),
        "sender": written(sender),
        **_options(send_at, validity_s, reference),
    }
    return _sent(peer, Endpoint.SMS_SEND, parameters, key, timeout_s)


def voice(
    peer: Peer,
    to: Entry,
    content: str,
    *,
    send_at: Moment | None = None,
    validity_s: int | None = None,
    reference: str | None = None,
    key: str | None = None,
    timeout_s: float | None = None,
) -> Call[Sent]:
    """`voice/otp`."""
    options = _options(send_at, validity_s, reference)
    parameters = {"to": [written(to)], "content": text(content), **options}
    return _sent(peer, Endpoint.VOICE_OTP, parameters, key, timeout_s)


def send_mms(
    peer: Peer,
    to: Entry | Iterable[Entry],
    content: str,
    link: str,
    *,
    sender: str,
    key: str | None = None,
    timeout_s: float | None = None,
) -> Call[Sent]:
    """`mms/send`."""
    parameters = {"to": entries(to), "content": text(content), "link": link, "sender": sender}
    return _sent(peer, Endpoint.MMS_SEND, parameters, key, timeout_s)


def _sent(
    peer: Peer, endpoint: Endpoint, parameters: dict[str, Any], key: str | None, timeout_s: float | None
) -> Call[Sent]:
    request = _sending(peer, endpoint, parameters, key)

    def build(reply: Reply) -> Sent:
        data = reply.data
        invalid = strings(data.get("invalidPhone"))
        return Sent(
            integer(data["tranId"]),
            integer(data.get("totalSMS", len(parameters["to"]) - len(invalid))),  # a call does not say
            integer(data["totalPrice"]),
            invalid,
            reply.parts,
            reply.notices,
            reply.replayed,
            str(request.key),
            reply.raw,
        )

    return perform(peer, request, build, peer.budget(timeout_s))


def create_pin(
    peer: Peer,
    to: Entry,
    content: str,
    *,
    app_id: str,
    key: str | None = None,
    timeout_s: float | None = None,
) -> Call[PinSent]:
    """`pin/create`."""
    parameters = {"to": written(to), "content": text(content), "app_id": app_id}
    request = _sending(peer, Endpoint.PIN_CREATE, parameters, key)

    def build(reply: Reply) -> PinSent:
        pin_code = reply.data.get("pin_code")
        return PinSent(
            integer(reply.data["tranId"]),
            integer(reply.data["totalPrice"]),
            reply.parts,
            reply.notices,
            reply.replayed,
            str(request.key),
            None if pin_code is None else str(pin_code),
            reply.raw,
        )

    return perform(peer, request, build, peer.budget(timeout_s))


def verify_pin(
    peer: Peer, phone: Entry, pin_code: str, *, app_id: str, timeout_s: float | None = None
) -> Call[PinCheck]:
    """`pin/verify`."""
    parameters = {"phone": written(phone), "pin_code": text(pin_code), "app_id": app_id}
    request = _posted(peer, Endpoint.PIN_VERIFY, Effect.CHECKS, parameters)
    return perform(peer, request, _check, peer.budget(timeout_s))


def _check(reply: Reply) -> PinCheck:
    return PinCheck(
        reply.data["verified"] is True, integer(reply.data.get("remainingAttempts", 0)), reply.raw
    )


def status(peer: Peer, tran_id: int, budget: Budget) -> Call[list[NumberStatus]]:
    """`sms/status`."""
    request = _reading(peer, Endpoint.SMS_STATUS, f"/{int(tran_id)}")
    return perform(peer, request, _statuses, budget)


def _statuses(reply: Reply) -> list[NumberStatus]:
    known = {progress.value: progress for progress in Progress}
    seen = [(str(row["phone"]), integer(row["status"])) for row in reply.data]
    return [NumberStatus(phone, known.get(value, value)) for phone, value in seen]


def wait(peer: Peer, tran_id: int, within_s: float) -> Call[list[NumberStatus]]:
    """Ask for the status, ever less often, until every number's is final."""
    budget = Budget(within_s)
    pause_s = FIRST_POLL_S
    while True:
        statuses = yield from status(peer, tran_id, budget)
        if all(number.final for number in statuses):
            return statuses
        if pause_s >= budget.left_s:
            late = NotYetFinal(f"{tran_id} is not final after {within_s:g} s", language=peer.judge.language)
            late.statuses = statuses
            raise late
        yield Wait(pause_s)
        budget.spend(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_POLL_S)


def listed(to: Entry | Iterable[Entry]) -> list[str]:
    """One or many recipients as strings. Raises TypeError."""
    many = [to] if isinstance(to, str | int | Number) or not isinstance(to, Iterable) else to
    return [*map(written, many)]


def entries(to: Entry | Iterable[Entry]) -> list[str]:
    """Recipients as they go out: at most 100, none guessed. Raises TypeError, InvalidRequest."""
    many = listed(to)
    if not 1 <= len(many) <= MOST_ENTRIES:
        raise InvalidRequest(
            f"{len(many)} recipients; a call takes 1 to {MOST_ENTRIES}, send_many any number",
            code=Code.BAD_PARAMETERS,
            reason=Reason.TOO_MANY_RECIPIENTS if many else Reason.MISSING_TO,
        )
    return many


def written(entry: Entry) -> str:
    """One recipient as a string; text stays as the caller spells it. Raises TypeError."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, Number):
        return entry.e164
    if isinstance(entry, int) and not isinstance(entry, bool) and entry >= 0:
        return str(entry)
    if isinstance(e164 := getattr(entry, "as_e164", None), str):
        return e164
    raise TypeError(f"a recipient is a string, an int, a Number or has as_e164, not {type(entry).__name__}")


def text(content: str) -> str:
    """The content, never coerced: a code kept as a number has lost zeros (protocol D14). Raises TypeError."""
    if not isinstance(content, str):
        raise TypeError(f"a text is a str, not {type(content).__name__}")
    return content


def _options(send_at: Moment | None, validity_s: int | None, reference: str | None) -> dict[str, Any]:
    if isinstance(send_at, datetime):
        if send_at.tzinfo is None:
            raise TypeError("send_at needs a time zone: datetime(..., tzinfo=...)")
        send_at = send_at.isoformat()
    options = dict(zip(_OPTIONS, (send_at, validity_s, reference), strict=True))
    return {name: value for name, value in options.items() if value is not None}


def _reading(peer: Peer, endpoint: Endpoint, more: str = "") -> Request:
    return Request("GET", endpoint, f"{peer.prefix}{endpoint}{more}", Effect.READS)


def _sending(peer: Peer, endpoint: Endpoint, parameters: dict[str, Any], key: str | None) -> Request:
    key = str(uuid4()) if key is None else key
    if not _KEY.fullmatch(key):
        raise InvalidRequest("a key is 1 to 255 printable ASCII characters without spaces", key=key)
    return _posted(peer, endpoint, Effect.SENDS, parameters, key)


def _posted(
    peer: Peer, endpoint: Endpoint, effect: Effect, parameters: dict[str, Any], key: str | None = None
) -> Request:
    """JSON in ASCII; a content that JSON would have percent-decoded travels as a form (protocol §4.5)."""
    encoded, content_type = json.dumps(parameters), "application/json"
    content = parameters.get("content", "")
    if "%" in content and " " not in content and content.isascii():
        _refuse_torn(parameters["to"], key)
        encoded, content_type = urlencode(parameters, doseq=True), "application/x-www-form-urlencoded"
    options = tuple(name for name in _OPTIONS if name in parameters)
    path = f"{peer.prefix}{endpoint}"
    return Request("POST", endpoint, path, effect, encoded.encode(), content_type, key, options)


def _refuse_torn(to: str | list[str], key: str | None) -> None:
    """A form splits entries at commas and trims them (protocol §4.4): nobody else may get the message."""
    listed = [to] if isinstance(to, str) else to
    if torn := [entry for entry in listed if "," in entry or not entry or entry != entry.strip()]:
        raise InvalidNumber("No numbers", code=Code.NUMBER_INVALID, invalid_phones=torn, key=key)
