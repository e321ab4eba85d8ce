"""Query and body of a request → its parameters, whatever their dialect (protocol §4.1, §4.2). Pure."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import unquote_to_bytes

from speedsms.contract.declined import Declined
from speedsms.wire import Code, Reason

MAX_PAIRS: Final = 1_000
MAX_DEPTH: Final = 32
MAX_NUMBER: Final = 20  # characters of one JSON number literal

_BOM: Final = b"\xef\xbb\xbf"
_JSON_SPACE: Final = " \t\r\n"
_TO: Final = re.compile(r"to(?:\[[0-9]*\])?")
_BRACKET_OR_STRING: Final = re.compile(r'[\[{\]}]|"(?:[^"\\]|\\.)*"?', re.DOTALL)

Parameters: TypeAlias = Mapping[str, Any]
# (body, content type, most fields) → (name, value) of each text field, in order. Raises BadMultipart.
Multipart: TypeAlias = Callable[[bytes, bytes, int], list[tuple[bytes, bytes]]]


class BadMultipart(Exception):  # noqa: N818 - what the body is, for the reader to refuse
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def parameters(
    query: bytes,
    body: bytes,
    content_type: bytes,
    *,
    scalars: Collection[str],
    multipart: Multipart,
    raw_utf8_101: bool = False,
    not_utf8: Code = Code.NOT_SENDABLE,
) -> tuple[tuple[Parameters, ...], bool]:
    """The parameters by where they stood, body before query, and whether the body was JSON. Raises Declined.

    scalars: the endpoint's parameters that stand once in a form or query; not_utf8: its code (D12).
    """
    try:
        from_query = _form(query, scalars) if query else {}
        from_body, json = (
            _body(body, content_type, scalars, multipart, raw_utf8_101=raw_utf8_101) if body else ({}, False)
        )
    except UnicodeDecodeError as error:
        raise Declined(not_utf8, Reason.NOT_UTF8, "the request is not UTF-8") from error
    return (from_body, from_query) if from_query else (from_body,), json


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


def refuse(reason: Reason, detail: str) -> NoReturn:
    raise Declined(Code.BAD_PARAMETERS, reason, detail)


def _body(
    body: bytes, content_type: bytes, scalars: Collection[str], multipart: Multipart, *, raw_utf8_101: bool
) -> tuple[Parameters, bool]:
    """The parameters of a POST body, and whether it was JSON; its kind is decided as in D8."""
    text = body.removeprefix(_BOM)
    start = text.lstrip()[:1]
    if not start:
        return {}, False
    media = content_type.partition(b";")[0].strip().lower()
    if start in b"{[" or media in (b"application/json", b"text/json") or media.endswith(b"+json"):
        if raw_utf8_101 and not text.isascii():
            refuse(Reason.BAD_JSON, "this account answers raw UTF-8 as the vendor was seen to (D11)")
        return _json(text.decode()), True
    if media == b"multipart/form-data":
        return _collect(_multipart(body, content_type, multipart), scalars), False
    return _form(body, scalars), False


def _multipart(body: bytes, content_type: bytes, fields: Multipart) -> Iterable[tuple[str, str]]:
    try:
        return [(field.decode(), text.decode()) for field, text in fields(body, content_type, MAX_PAIRS)]
    except BadMultipart as error:
        refuse(error.reason, str(error))


def _form(raw: bytes, scalars: Collection[str]) -> Parameters:
    """WHATWG URL-encoded (§4.2)."""
    pairs = [pair for pair in raw.split(b"&") if pair]
    if len(pairs) > MAX_PAIRS:
        refuse(Reason.JSON_LIMITS, f"more than {MAX_PAIRS} parameters")
    return _collect([(name(pair).decode(), value(pair).decode()) for pair in pairs], scalars)


def _collect(pairs: Iterable[tuple[str, str]], scalars: Collection[str]) -> Parameters:
    """Pairs → parameters; every value of `to`, `to[]`, `to[n]` counts, another parameter stands once."""
    found: dict[str, Any] = {}
    to: list[str] = []
    for field, text in pairs:
        if _TO.fullmatch(field):
            to.append(text)
        elif field in found and field in scalars:
            refuse(Reason.DUPLICATE_PARAMETER, f"{field} stands twice")
        else:
            found[field] = text
    if any(to):
        found["to"] = ",".join(to)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        refuse(Reason.DUPLICATE_PARAMETER, "a key stands twice in one JSON object")
    return found


def _integer(literal: str) -> int:
    if len(literal) > MAX_NUMBER:
        refuse(Reason.JSON_LIMITS, f"a number of more than {MAX_NUMBER} characters")
    return int(literal)


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER:
        refuse(Reason.JSON_LIMITS, f"a number of more than {MAX_NUMBER} characters")
    return float(literal)


def _constant(literal: str) -> NoReturn:
    refuse(Reason.BAD_JSON, f"{literal} is not JSON")


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
        refuse(Reason.BAD_JSON, "one JSON object is expected, and nothing after it")
    return found


def _measure_depth(text: str) -> None:
    """Refuse deep nesting before the scanner recurses; brackets inside strings do not count."""
    depth = 0
    for found in _BRACKET_OR_STRING.finditer(text):
        first = found[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_DEPTH:
            refuse(Reason.JSON_LIMITS, f"nesting deeper than {MAX_DEPTH}")
