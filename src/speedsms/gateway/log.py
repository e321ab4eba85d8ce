"""Structured lines to stderr; numbers are masked, texts, codes and tokens removed before they are written."""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from speedsms.numbers import masked

# The words under which a text, a code or a secret could reach a line by mistake.
_DROPPED: Final = frozenset(
    "content text pin pin_code otp body raw token access_token authorization password secret secrets".split()  # noqa: SIM905 - words read better
)
_SEPARATOR: Final = r"[ .()\-\u00a0]*"
# A Vietnamese number however it is written (protocol §9.1), or any other in international form. Ids are
# longer than numbers.
_NUMBER: Final = re.compile(
    rf"(?<![\w.])(?:(?:\+|00)?{_SEPARATOR}(?:84{_SEPARATOR}0?|0){_SEPARATOR}(?:1{_SEPARATOR}\d|[2-9])"
    rf"(?:{_SEPARATOR}\d){{8}}|\+(?:{_SEPARATOR}\d){{8,15}})(?!\w)"
)
_SECRETS: Final = re.compile(
    r"(ss_live_|ss_test_|whsec_)[\w+/=-]+"
    r"|(access[-_]token[\"']?\s*[=:]\s*[\"']?)[^\s&\"']+"
    r"|((?:basic|bearer)\s+)[\w.~+/=:-]+"
    r"|(://[^\s:/@]*:)[^\s@]+(?=@)",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` with numbers masked and tokens, passwords and signing secrets taken out."""
    text = _SECRETS.sub(lambda found: f"{found[found.lastindex or 0]}•••", text)
    return _NUMBER.sub(lambda found: masked(found[0]), text)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor that stands last before the writer, so that it sees formatted exceptions too."""
    return {
        key: _clean(value) for key, value in event.items() if key.replace("-", "_").lower() not in _DROPPED
    }


def configure(least: str, form: str, **bound: str | int) -> None:
    """For this process and its libraries, by `log.level` and `log.format`; `bound` stands on each line."""
    level = getattr(logging, least.upper())
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            # A traceback's locals would show what redaction cannot know.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if console
            else structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if console
        else structlog.BytesLoggerFactory(os.fdopen(2, "wb", closefd=False)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**bound)
    logging.basicConfig(handlers=[_Forward()], level=max(level, logging.WARNING), force=True)


class _Forward(logging.Handler):
    """Lines of libraries take the same way out."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info or None
        )


def _json(event: Mapping[str, Any], **_: object) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, int):
        # Numbers are stored as integers (84912345678); identifiers are shorter or much longer.
        return masked(str(value)) if 84_200_000_000 <= value < 84_999_999_999 else value
    if isinstance(value, Mapping):
        return redact(None, "", dict(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return value if value is None or isinstance(value, float) else redacted(str(value))
