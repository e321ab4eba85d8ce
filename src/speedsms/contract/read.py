"""Every dialect of a request → one frozen command (protocol §4, §5). Pure: the clock is an argument.

The order of the checks is the order of the answers: UTF-8, syntax, then parameter by parameter.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from speedsms.contract.declined import Declined
from speedsms.contract.decode import Multipart, Parameters, parameters, refuse
from speedsms.contract.request import Mms, PinCreate, PinVerify, Send, Voice
from speedsms.wire import Code, Reason

MAX_ENTRIES: Final = 100
MAX_ENTRY: Final = 64  # characters
MAX_CONTENT: Final = 10_000  # characters; longer content is refused by the rules with its own code
MAX_LINK: Final = 2_048  # characters
MAX_VALIDITY_S: Final = 259_200
MIN_VALIDITY_S: Final = 30
LATE: Final = timedelta(minutes=5)  # a send_at this old still means now: clocks of callers differ
AHEAD: Final = timedelta(days=30)

_ASCII_SPACE: Final = " \t\n\r\x0b\x0c"
# Unicode White_Space; str.isspace() would add the separators U+001C to U+001F, which are code point errors.
_WHITE_SPACE: Final = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_OPTIONS: Final = frozenset(("send_at", "validity_s", "reference"))
_SEND: Final = _OPTIONS | {"content", "sms_type", "type", "sender", "brandname"}
_VOICE: Final = _OPTIONS | {"content"}
_MMS: Final = _OPTIONS | {"content", "link", "sender", "brandname"}
_PIN_CREATE: Final = frozenset(("phone", "content", "app_id"))
_PIN_VERIFY: Final = frozenset(("phone", "pin_code", "app_id"))
_SMS_TYPES: Final[Mapping[Any, int]] = {str(n): n for n in range(1, 9)}
_ESCAPED: Final = re.compile(r"(?:[A-Za-z0-9\-_.~!*'()]|%[0-9A-Fa-f]{2})+")
_LITERAL_ESCAPE: Final = re.compile(r"\\u[0-9A-Fa-f]{4}")
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_REFERENCE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_SPOKEN: Final = re.compile(r"[0-9]{4,10}")
_PIN: Final = re.compile(r"[0-9]{4,8}")
_NOT_IN_LINK: Final = re.compile(r"[\x00-\x20\x7f]")


def send(
    query: bytes,
    body: bytes,
    content_type: bytes,
    *,
    now: datetime,
    multipart: Multipart,
    percent_decode: bool = True,
    raw_utf8_101: bool = False,
) -> Send:
    """Read one `sms/send`. On GET the body is ignored: pass it as empty. Raises Declined.

    multipart: the parser for that kind of body, which is no part of the standard library.
    """
    sources, json = parameters(
        query, body, content_type, scalars=_SEND, multipart=multipart, raw_utf8_101=raw_utf8_101
    )
    entries = _entries(_pick(sources, "to"))
    content, notices = _content(sources, percent_decode=percent_decode and json)
    sms_type = _sms_type(_pick(sources, "sms_type", "type"))
    sender = _sender(_pick(sources, "sender", "brandname"))
    if all(map(_OPTIONS.isdisjoint, sources)):
        return Send(entries, content, sms_type, sender, notices=notices)
    return Send(entries, content, sms_type, sender, *_options(sources, now), notices)


def voice(
    query: bytes,
    body: bytes,
    content_type: bytes,
    *,
    now: datetime,
    multipart: Multipart,
    percent_decode: bool = True,
    raw_utf8_101: bool = False,
) -> Voice:
    """Read one `voice/otp`. Raises Declined."""
    sources, json = parameters(
        query,
        body,
        content_type,
        scalars=_VOICE,
        multipart=multipart,
        raw_utf8_101=raw_utf8_101,
        not_utf8=Code.BAD_PARAMETERS,
    )
    entry = _entry(_pick(sources, "to"))
    content, notices = _content(sources, percent_decode=percent_decode and json)
    return Voice(entry, spoken(content), *_options(sources, now), notices)


def pin_create(
    query: bytes,
    body: bytes,
    content_type: bytes,
    *,
    multipart: Multipart,
    percent_decode: bool = True,
    raw_utf8_101: bool = False,
) -> PinCreate:
    """Read one `pin/create`; whether the application exists is the caller's check. Raises Declined."""
    sources, json = parameters(
        query, body, content_type, scalars=_PIN_CREATE, multipart=multipart, raw_utf8_101=raw_utf8_101
    )
    entry = _entry(_pick(sources, "to", "phone"))
    content, notices = _content(sources, percent_decode=percent_decode and json)
    return PinCreate(entry, content, _app_id(sources), notices)


def pin_verify(
    query: bytes, body: bytes, content_type: bytes, *, multipart: Multipart, raw_utf8_101: bool = False
) -> PinVerify:
    """Read one `pin/verify`; whether the application exists is the caller's check. Raises Declined."""
    sources, _ = parameters(
        query,
        body,
        content_type,
        scalars=_PIN_VERIFY,
        multipart=multipart,
        raw_utf8_101=raw_utf8_101,
        not_utf8=Code.BAD_PARAMETERS,
    )
    phone = _entry(_pick(sources, "phone", "to"))
    pin = _pick(sources, "pin_code")
    pin = _digits(pin) if pin is not None and type(pin) is not str else pin
    if pin is None or not _PIN.fullmatch(pin):
        refuse(Reason.BAD_PIN, "pin_code is 4 to 8 digits")
    return PinVerify(phone, pin, _app_id(sources))


def mms(
    query: bytes,
    body: bytes,
    content_type: bytes,
    *,
    now: datetime,
    multipart: Multipart,
    percent_decode: bool = True,
    raw_utf8_101: bool = False,
) -> Mms:
    """Read one `mms/send`. Raises Declined."""
    sources, json = parameters(
        query, body, content_type, scalars=_MMS, multipart=multipart, raw_utf8_101=raw_utf8_101
    )
    entries = _entries(_pick(sources, "to"))
    content, notices = _content(sources, percent_decode=percent_decode and json)
    link = _link(_pick(sources, "link"))
    sender = _sender(_pick(sources, "sender", "brandname"))
    return Mms(entries, content, link, sender, *_options(sources, now), notices)


def spoken(content: str) -> str:
    """A content that is read aloud: 4 to 10 ASCII digits (D21). Raises Declined."""
    if not _SPOKEN.fullmatch(content):
        refuse(Reason.BAD_CONTENT, "a call reads 4 to 10 digits")
    return content


# ---------------------------------------------------------------- parameters (§4.1, §4.3, §4.4, §15.3)


def _pick(sources: Sequence[Parameters], *names: str) -> Any:
    """The first that is there: body before query, canonical name before alias (D9); None if absent."""
    for source in sources:
        for key in names:
            found = source.get(key)
            if found is not None and found != "":
                return found
    return None


def _entries(to: Any) -> tuple[str, ...]:
    match to:
        case None:
            entries: tuple[str, ...] = ()
        case str():
            entries = tuple(piece for part in to.split(",") if (piece := part.strip(_ASCII_SPACE)))
        case list():
            entries = _listed(to)
        case _:
            entries = (_digits(to),)
    if not entries:
        refuse(Reason.MISSING_TO, "no recipient")
    if len(entries) > MAX_ENTRIES:
        refuse(Reason.TOO_MANY_RECIPIENTS, f"more than {MAX_ENTRIES} entries in one request")
    if max(map(len, entries)) > MAX_ENTRY:
        refuse(Reason.JSON_LIMITS, f"an entry of more than {MAX_ENTRY} characters")
    _check_characters("".join(entries))
    return entries


def _entry(to: Any) -> str:
    """The one entry of an endpoint for one number."""
    entries = _entries(to)
    if len(entries) > 1:
        refuse(Reason.TOO_MANY_RECIPIENTS, "one number in one request")
    return entries[0]


def _listed(to: list[Any]) -> tuple[str, ...]:
    """Elements of a JSON array: kept verbatim, never split."""
    try:
        "".join(to)  # the quickest proof that all are strings
    except TypeError:
        return tuple(entry if type(entry) is str else _digits(entry) for entry in to)
    return tuple(to)


def _digits(number: Any) -> str:
    """A non-negative integer reads as its digits; every other type is refused (a boolean too)."""
    if type(number) is not int or number < 0:
        refuse(Reason.WRONG_TYPE, "expected text or a non-negative integer")
    return str(number)


def _check_characters(text: str) -> None:
    """Refuse U+0000 and lone surrogates (D13)."""
    if "\0" in text:
        refuse(Reason.WRONG_TYPE, "U+0000 in a parameter")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        refuse(Reason.WRONG_TYPE, "a lone surrogate in a parameter")


def _content(sources: Sequence[Parameters], *, percent_decode: bool) -> tuple[str, tuple[str, ...]]:
    content = _pick(sources, "content")
    if content is None:
        refuse(Reason.MISSING_CONTENT, "no content")
    if type(content) is not str:
        # D14: a code sent as a JSON number has already lost its leading zeros.
        refuse(Reason.WRONG_TYPE, "content is not text")
    notices: tuple[str, ...] = ()
    if percent_decode and "%" in content and _pick(sources[:1], "content") is content:
        decoded = _percent_decoded(content)
        if decoded is not None:
            content, notices = decoded, ("percent_decoded",)
    if not content.strip(_WHITE_SPACE):
        refuse(Reason.BAD_CONTENT, "content is nothing but white space")
    if "\\" in content and _LITERAL_ESCAPE.search(content):
        notices += ("literal_escapes",)
    return content, notices


def _percent_decoded(content: str) -> str | None:
    """What Uri.EscapeDataString of the official C# sample encoded, or None if it is ordinary text (D16)."""
    if len(content) > MAX_CONTENT or not _ESCAPED.fullmatch(content):
        return None
    try:
        return unquote_to_bytes(content).decode()
    except UnicodeDecodeError:
        return None


def _sms_type(found: Any) -> int:
    if found is None:
        return 2
    if type(found) is str:
        found = _SMS_TYPES.get(found)
    if type(found) is not int or not 1 <= found <= 8:
        refuse(Reason.BAD_SMS_TYPE, "sms_type is a whole number from 1 to 8")
    return found


def _sender(found: Any) -> str:
    if found is None:
        return ""
    if type(found) is not str:
        return _digits(found)
    _check_characters(found)
    return found


def _app_id(sources: Sequence[Parameters]) -> str:
    found = _pick(sources, "app_id")
    if type(found) is not str:
        refuse(Reason.BAD_APP_ID, "no app_id")
    _check_characters(found)
    return found


def _link(found: Any) -> str:
    """An absolute http or https URL without user-info; nobody ever opens it here (protocol §5.7)."""
    if type(found) is not str or len(found) > MAX_LINK or _NOT_IN_LINK.search(found):
        refuse(Reason.BAD_LINK, f"link is a URL of at most {MAX_LINK} characters")
    _check_characters(found)
    try:
        url = urlsplit(found)
        whole = url.scheme in ("http", "https") and url.hostname and "@" not in url.netloc
    except ValueError:
        whole = False
    if not whole:
        refuse(Reason.BAD_LINK, "link is an absolute http or https URL without a user name")
    return found


def _options(sources: Sequence[Parameters], now: datetime) -> tuple[datetime | None, int | None, str | None]:
    """send_at, validity_s and reference (protocol §15.3)."""
    return (
        _send_at(_pick(sources, "send_at"), now),
        _validity_s(_pick(sources, "validity_s")),
        _reference(_pick(sources, "reference")),
    )


def _send_at(found: Any, now: datetime) -> datetime | None:
    """A moment still to come; None for now. Fractions beyond microseconds are cut."""
    if found is None:
        return None
    try:
        if type(found) is str and _RFC3339.fullmatch(found.upper()):
            moment = datetime.fromisoformat(found.upper())
        else:
            moment = datetime.fromtimestamp(_whole(found, "send_at"), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Declined(Code.BAD_PARAMETERS, Reason.BAD_OPTION, f"send_at: {error}") from error
    if not now - LATE <= moment <= now + AHEAD:
        refuse(Reason.BAD_OPTION, "send_at lies more than 5 minutes back or 30 days ahead")
    return moment if moment > now else None


def _validity_s(found: Any) -> int | None:
    if found is None:
        return None
    seconds = _whole(found, "validity_s")
    if not MIN_VALIDITY_S <= seconds <= MAX_VALIDITY_S:
        refuse(Reason.BAD_OPTION, f"validity_s is from {MIN_VALIDITY_S} to {MAX_VALIDITY_S}")
    return seconds


def _whole(found: Any, parameter: str) -> int:
    if type(found) is str and _DIGITS.fullmatch(found):
        return int(found)
    if type(found) is not int:
        refuse(Reason.BAD_OPTION, f"{parameter} is not a whole number")
    return found


def _reference(found: Any) -> str | None:
    if found is None:
        return None
    if type(found) is not str or not _REFERENCE.fullmatch(found):
        refuse(Reason.BAD_OPTION, "reference is 1 to 64 of A-Z a-z 0-9 . _ : -")
    return found
