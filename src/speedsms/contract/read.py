"""Every dialect of a request → one frozen command (protocol §4). Pure: the clock is an argument.

The order of the checks is the order of the answers: UTF-8, syntax, then parameter by parameter.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import unquote_to_bytes

from speedsms.contract.declined import Declined
from speedsms.contract.request import Send
from speedsms.wire import Code, Reason

MAX_PAIRS: Final = 1_000
MAX_DEPTH: Final = 32
MAX_NUMBER: Final = 20  # characters of one JSON number literal
MAX_ENTRIES: Final = 100
MAX_ENTRY: Final = 64  # characters
MAX_CONTENT: Final = 10_000  # characters; longer content is refused by the rules with its own code
MAX_VALIDITY_S: Final = 259_200
MIN_VALIDITY_S: Final = 30
LATE: Final = timedelta(minutes=5)  # a send_at this old still means now: clocks of callers differ
AHEAD: Final = timedelta(days=30)

_BOM: Final = b"\xef\xbb\xbf"
_JSON_SPACE: Final = " \t\r\n"
_ASCII_SPACE: Final = " \t\n\r\x0b\x0c"
# Unicode White_Space; str.isspace() would add the separators U+001C to U+001F, which are code point errors.
_WHITE_SPACE: Final = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_OPTIONS: Final = frozenset(("send_at", "validity_s", "reference"))
_SEND_SCALARS: Final = _OPTIONS | {"content", "sms_type", "type", "sender", "brandname"}
_SMS_TYPES: Final[Mapping[Any, int]] = {str(n): n for n in range(1, 9)}
_TO: Final = re.compile(r"to(?:\[[0-9]*\])?")
_ESCAPED: Final = re.compile(r"(?:[A-Za-z0-9\-_.~!*'()]|%[0-9A-Fa-f]{2})+")
_LITERAL_ESCAPE: Final = re.compile(r"\\u[0-9A-Fa-f]{4}")
_BRACKET_OR_STRING: Final = re.compile(r'[\[{\]}]|"(?:[^"\\]|\\.)*"?', re.DOTALL)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_REFERENCE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")

Parameters: TypeAlias = Mapping[str, Any]
# (body, content type, most fields) → (name, value) of each text field, in order. Raises BadMultipart.
Multipart: TypeAlias = Callable[[bytes, bytes, int], list[tuple[bytes, bytes]]]


class BadMultipart(Exception):  # noqa: N818 - what the body is, for the reader to refuse
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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
    try:
        from_query = _form(query) if query else {}
        from_body, json = (
            _body(body, content_type, multipart, raw_utf8_101=raw_utf8_101) if body else ({}, False)
        )
    except UnicodeDecodeError as error:
        raise Declined(Code.NOT_SENDABLE, Reason.NOT_UTF8, "the request is not UTF-8") from error
    sources = (from_body, from_query) if from_query else (from_body,)
    entries = _entries(_pick(sources, "to"))
    content, notices = _content(sources, percent_decode=percent_decode and json)
    sms_type = _sms_type(_pick(sources, "sms_type", "type"))
    sender = _sender(_pick(sources, "sender", "brandname"))
    if all(map(_OPTIONS.isdisjoint, sources)):
        return Send(entries, content, sms_type, sender, notices=notices)
    return Send(
        entries,
        content,
        sms_type,
        sender,
        _send_at(_pick(sources, "send_at"), now),
        _validity_s(_pick(sources, "validity_s")),
        _reference(_pick(sources, "reference")),
        notices,
    )


def without_token(query: bytes) -> bytes:
    """The query string without `access-token`: it is no part of a fingerprint, and never logged."""
    if b"access" not in query and b"%" not in query:
        return query
    return b"&".join(pair for pair in query.split(b"&") if name(pair) != b"access-token")


def name(pair: bytes) -> bytes:
    """The decoded name of one `name=value` pair."""
    return unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" "))


def value(pair: bytes) -> bytes:
    """The decoded value of one `name=value` pair."""
    return unquote_to_bytes(pair.partition(b"=")[2].replace(b"+", b" "))


def _refuse(reason: Reason, detail: str) -> NoReturn:
    raise Declined(Code.BAD_PARAMETERS, reason, detail)


# ---------------------------------------------------------------- decoding (§4.1, §4.2)


def _body(
    body: bytes, content_type: bytes, multipart: Multipart, *, raw_utf8_101: bool
) -> tuple[Parameters, bool]:
    """The parameters of a POST body, and whether it was JSON; its kind is decided as in D8."""
    text = body.removeprefix(_BOM)
    start = text.lstrip()[:1]
    if not start:
        return {}, False
    media = content_type.partition(b";")[0].strip().lower()
    if start in b"{[" or media in (b"application/json", b"text/json") or media.endswith(b"+json"):
        if raw_utf8_101 and not text.isascii():
            _refuse(Reason.BAD_JSON, "this account answers raw UTF-8 as the vendor was seen to (D11)")
        return _json(text.decode()), True
    if media == b"multipart/form-data":
        return _collect(_multipart(body, content_type, multipart)), False
    return _form(body), False


def _multipart(body: bytes, content_type: bytes, fields: Multipart) -> Iterable[tuple[str, str]]:
    try:
        return [(field.decode(), text.decode()) for field, text in fields(body, content_type, MAX_PAIRS)]
    except BadMultipart as error:
        _refuse(error.reason, str(error))


def _form(raw: bytes) -> Parameters:
    """WHATWG URL-encoded (§4.2)."""
    pairs = [pair for pair in raw.split(b"&") if pair]
    if len(pairs) > MAX_PAIRS:
        _refuse(Reason.JSON_LIMITS, f"more than {MAX_PAIRS} parameters")
    return _collect([(name(pair).decode(), value(pair).decode()) for pair in pairs])


def _collect(pairs: Iterable[tuple[str, str]]) -> Parameters:
    """Pairs → parameters; every value of `to`, `to[]`, `to[n]` counts, another parameter stands once."""
    found: dict[str, Any] = {}
    to: list[str] = []
    for field, text in pairs:
        if _TO.fullmatch(field):
            to.append(text)
        elif field in found and field in _SEND_SCALARS:
            _refuse(Reason.DUPLICATE_PARAMETER, f"{field} stands twice")
        else:
            found[field] = text
    if any(to):
        found["to"] = ",".join(to)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse(Reason.DUPLICATE_PARAMETER, "a key stands twice in one JSON object")
    return found


def _integer(literal: str) -> int:
    if len(literal) > MAX_NUMBER:
        _refuse(Reason.JSON_LIMITS, f"a number of more than {MAX_NUMBER} characters")
    return int(literal)


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER:
        _refuse(Reason.JSON_LIMITS, f"a number of more than {MAX_NUMBER} characters")
    return float(literal)


def _constant(literal: str) -> NoReturn:
    _refuse(Reason.BAD_JSON, f"{literal} is not JSON")


# The scanner itself, because decode() would run two regular expressions around it.
_scan: Final = JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
).scan_once  # type: ignore[attr-defined]  # documented in the json.decoder source, absent from its stub


def _json(text: str) -> dict[str, Any]:
    """Strict JSON (RFC 8259) with an object at the top."""
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _measure_depth(text)
    try:
        found, end = _scan(text, len(text) - len(text.lstrip(_JSON_SPACE)))
    except (StopIteration, JSONDecodeError) as error:
        raise Declined(Code.BAD_PARAMETERS, Reason.BAD_JSON, str(error)) from error
    if text[end:].strip(_JSON_SPACE) or type(found) is not dict:
        _refuse(Reason.BAD_JSON, "one JSON object is expected, and nothing after it")
    return found


def _measure_depth(text: str) -> None:
    """Refuse deep nesting before the scanner recurses; brackets inside strings do not count."""
    depth = 0
    for found in _BRACKET_OR_STRING.finditer(text):
        first = found[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_DEPTH:
            _refuse(Reason.JSON_LIMITS, f"nesting deeper than {MAX_DEPTH}")


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
        _refuse(Reason.MISSING_TO, "no recipient")
    if len(entries) > MAX_ENTRIES:
        _refuse(Reason.TOO_MANY_RECIPIENTS, f"more than {MAX_ENTRIES} entries in one request")
    if max(map(len, entries)) > MAX_ENTRY:
        _refuse(Reason.JSON_LIMITS, f"an entry of more than {MAX_ENTRY} characters")
    _check_characters("".join(entries))
    return entries


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
        _refuse(Reason.WRONG_TYPE, "expected text or a non-negative integer")
    return str(number)


def _check_characters(text: str) -> None:
    """Refuse U+0000 and lone surrogates (D13)."""
    if "\0" in text:
        _refuse(Reason.WRONG_TYPE, "U+0000 in a parameter")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        _refuse(Reason.WRONG_TYPE, "a lone surrogate in a parameter")


def _content(sources: Sequence[Parameters], *, percent_decode: bool) -> tuple[str, tuple[str, ...]]:
    content = _pick(sources, "content")
    if content is None:
        _refuse(Reason.MISSING_CONTENT, "no content")
    if type(content) is not str:
        # D14: a code sent as a JSON number has already lost its leading zeros.
        _refuse(Reason.WRONG_TYPE, "content is not text")
    notices: tuple[str, ...] = ()
    if percent_decode and "%" in content and _pick(sources[:1], "content") is content:
        decoded = _percent_decoded(content)
        if decoded is not None:
            content, notices = decoded, ("percent_decoded",)
    if not content.strip(_WHITE_SPACE):
        _refuse(Reason.BAD_CONTENT, "content is nothing but white space")
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
        _refuse(Reason.BAD_SMS_TYPE, "sms_type is a whole number from 1 to 8")
    return found


def _sender(found: Any) -> str:
    if found is None:
        return ""
    if type(found) is not str:
        return _digits(found)
    _check_characters(found)
    return found


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
        _refuse(Reason.BAD_OPTION, "send_at lies more than 5 minutes back or 30 days ahead")
    return moment if moment > now else None


def _validity_s(found: Any) -> int | None:
    if found is None:
        return None
    seconds = _whole(found, "validity_s")
    if not MIN_VALIDITY_S <= seconds <= MAX_VALIDITY_S:
        _refuse(Reason.BAD_OPTION, f"validity_s is from {MIN_VALIDITY_S} to {MAX_VALIDITY_S}")
    return seconds


def _whole(found: Any, parameter: str) -> int:
    if type(found) is str and _DIGITS.fullmatch(found):
        return int(found)
    if type(found) is not int:
        _refuse(Reason.BAD_OPTION, f"{parameter} is not a whole number")
    return found


def _reference(found: Any) -> str | None:
    if found is None:
        return None
    if type(found) is not str or not _REFERENCE.fullmatch(found):
        _refuse(Reason.BAD_OPTION, "reference is 1 to 64 of A-Z a-z 0-9 . _ : -")
    return found
