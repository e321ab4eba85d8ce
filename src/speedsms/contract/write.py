"""Results → the exact bytes of protocol §1.3 to §6: compact ASCII JSON, keys in the printed order."""

from collections.abc import Sequence
from http import HTTPStatus
from json import JSONEncoder
from typing import Any, Final

from speedsms.contract.pin import Check
from speedsms.contract.request import Accepted, Reply
from speedsms.wire import PIN_INVALID_MESSAGE, Code, Endpoint, Reason, message

_encode: Final = JSONEncoder(separators=(",", ":")).encode

# The sending endpoints name the refused entries in every refusal (protocol D26).
_SENDING: Final = frozenset((Endpoint.SMS_SEND, Endpoint.VOICE_OTP, Endpoint.MMS_SEND))


def accepted(done: Accepted) -> Reply:
    """An accepted `sms/send` or `mms/send` (protocol §5.2, §5.7)."""
    invalid = _encode(done.invalid) if done.invalid else "[]"
    body = (
        f'{{"status":"success","code":"00","data":{{"tranId":{done.tran_id},"totalSMS":{done.total_sms},'
        f'"totalPrice":{done.total_vnd},"invalidPhone":{invalid}}}}}'
    )
    return Reply(200, body.encode(), _told(done))


def called(done: Accepted) -> Reply:
    """An accepted `voice/otp` (protocol §5.3)."""
    data = {"tranId": done.tran_id, "totalPrice": done.total_vnd, "invalidPhone": []}
    return _success(data, _told(done))


def created(done: Accepted, pin: str | None) -> Reply:
    """An accepted `pin/create`; pin: only of an application with `expose_pin` (protocol D22)."""
    data: dict[str, Any] = {"tranId": done.tran_id, "totalPrice": done.total_vnd}
    return _success(data | {"pin_code": pin} if pin else data, _told(done))


def verified(phone: str, pin: str, check: Check, *, strict: bool) -> Reply:
    """`pin/verify`, which has no `code`; strict: a wrong PIN is an error (protocol D24, D25)."""
    data = {"pin": pin, "phone": phone, "verified": check.verified, "remainingAttempts": check.remaining}
    if check.verified or not strict:
        return Reply(200, _encode({"status": "success", "data": data}).encode(), ())
    body = {"status": "error", "code": Code.BAD_PARAMETERS, "message": PIN_INVALID_MESSAGE, "data": data}
    return Reply(200, _encode(body).encode(), (("X-Speedsms-Reason", Reason.BAD_PIN),))


def _told(done: Accepted) -> tuple[tuple[str, str], ...]:
    """The headers of an accepted request; what is flat has no parts."""
    headers = (("X-Speedsms-Parts", str(done.parts)),) if done.parts else ()
    return (*headers, ("X-Speedsms-Notice", ", ".join(done.notices))) if done.notices else headers


def info(email: str, balance_vnd: int) -> Reply:
    """`user/info`: what can be spent now (protocol D18)."""
    return _success({"email": email, "balance": balance_vnd, "currency": "VND"})


def status(messages: Sequence[tuple[str, int]]) -> Reply:
    """`sms/status`: (phone, status) of each message, in order of acceptance (protocol §5.6)."""
    return _success([{"phone": phone, "status": progress} for phone, progress in messages])


def _success(data: Any, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(200, _encode({"status": "success", "code": "00", "data": data}).encode(), headers)


def refused(endpoint: Endpoint, code: Code, reason: Reason, invalid_phones: Sequence[str] = ()) -> Reply:
    """A refusal, always inside HTTP 200: some vendor samples read only the normal stream (protocol §1.4)."""
    body = {"status": "error", "code": code, "message": message(code, reason)}
    if endpoint in _SENDING:
        phones = {"invalidPhone": list(invalid_phones) if code is Code.NUMBER_INVALID else []}
        return Reply(200, _encode(body | phones).encode(), (("X-Speedsms-Reason", reason),))
    return Reply(200, _encode(body).encode(), (("X-Speedsms-Reason", reason),))


def framework(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Reply:
    """A body of the HTTP layer; here `code` and `status` are numbers (protocol §1.4)."""
    body = {"name": _NAMES.get(status, status.phrase), "message": text, "code": 0, "status": int(status)}
    return Reply(status, _encode(body).encode(), headers)


# The names are part of the contract; the phrases of the standard library change with its version.
_NAMES: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Request Entity Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Entity",
}

UNAUTHORIZED: Final = framework(
    HTTPStatus.UNAUTHORIZED,
    "Your request was made with invalid credentials.",
    ("WWW-Authenticate", 'Basic realm="api"'),
)
NOT_FOUND: Final = framework(HTTPStatus.NOT_FOUND, "Page not found.")
TOO_LARGE: Final = framework(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request body is too large.")
ENCODED: Final = framework(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is not supported.")
BAD_KEY: Final = framework(
    HTTPStatus.BAD_REQUEST, "Idempotency-Key must be 1 to 255 printable ASCII characters."
)
IN_FLIGHT: Final = framework(
    HTTPStatus.CONFLICT, "A request with this Idempotency-Key is in progress.", ("Retry-After", "1")
)
REUSED: Final = framework(
    HTTPStatus.UNPROCESSABLE_ENTITY, "This Idempotency-Key was used with another request."
)
UNKNOWN: Final = framework(HTTPStatus.INTERNAL_SERVER_ERROR, "An internal server error occurred.")


def wrong_method(allowed: Sequence[str]) -> Reply:
    methods = ", ".join(allowed)
    return framework(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"Method Not Allowed. This URL can only handle the following request methods: {methods}.",
        ("Allow", methods),
    )


def allowed(methods: Sequence[str]) -> Reply:
    """The answer to OPTIONS; no CORS header, because a token in a browser is a leaked token (§1.1)."""
    return Reply(HTTPStatus.NO_CONTENT, b"", (("Allow", ", ".join(methods)),))


def limited(retry_after_s: int) -> Reply:
    return framework(
        HTTPStatus.TOO_MANY_REQUESTS, "Rate limit exceeded.", ("Retry-After", str(retry_after_s))
    )
