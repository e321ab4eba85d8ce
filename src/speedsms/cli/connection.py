"""What the commands of integrators share: the client, and its errors as words and exit codes."""

import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, ParamSpec

from cyclopts import Parameter, Token

import speedsms
from speedsms import numbers
from speedsms.catalogue import Language
from speedsms.cli.exits import CONFIGURATION, INTERRUPTED, REFUSED, UNKNOWN, UNREACHABLE
from speedsms.cli.terminal import SCHEMA, Output, say
from speedsms.errors import (
    ConfigurationError,
    InvalidRequest,
    NotYetFinal,
    OutcomeUnknown,
    RateLimited,
    SpeedSMSError,
    Unauthorized,
    Unavailable,
)
from speedsms.results import Exchange
from speedsms.settings import NoToken, PublicHttp
from speedsms.wire import Reason

P = ParamSpec("P")
_FEW_DIGITS: Final = 6
_SHOWN: Final = 40
_LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set wins, as everywhere in POSIX
_NO_API: Final = frozenset((301, 302, 303, 307, 308, 404, 405))  # what other web servers say at our paths
_NOBODY, _ELSEWHERE = "nobody", "elsewhere"

# What happened and what to do, where the words of the catalogue or the client are for programs.
_SHELL: Final[Mapping[object, Mapping[Language, tuple[str, str]]]] = {
    NoToken: {
        "en": ("{said}", "Run `speedsms login`, or set SPEEDSMS_TOKEN."),
        "vi": ("Chưa có token.", "Chạy `speedsms login`, hoặc đặt SPEEDSMS_TOKEN."),
    },
    PublicHttp: {
        "en": ("{said}", "Use https."),
        "vi": ("Token sẽ không được mã hóa trên Internet: {said}", "Dùng https."),
    },
    Unauthorized: {
        "en": ("{said}", "Run `speedsms login`, or check SPEEDSMS_TOKEN and the base URL."),
        "vi": ("{said}", "Chạy `speedsms login`, hoặc kiểm tra SPEEDSMS_TOKEN và base URL."),
    },
    RateLimited: {
        "en": ("{said}", "Try again in {wait_s} s."),
        "vi": ("{said}", "Thử lại sau {wait_s} giây."),
    },
    OutcomeUnknown: {"en": ("{said}", "{hint}"), "vi": ("Chưa rõ kết quả: {said}", "{hint}")},
    Reason.API_NOT_ALLOWED: {
        "en": (
            "{said}",
            (
                "Ask the operator to enable API access; or, with voice, mms and otp, "
                "this gateway's release does not serve it yet."
            ),
        ),
        "vi": (
            "{said}",
            "Nhờ người vận hành bật API; với voice, mms và otp, cũng có thể phiên bản này chưa phục vụ.",
        ),
    },
    Reason.BAD_OPTION: {
        "en": (
            "{said}",
            (
                "--send-at is at most 30 days ahead, --validity 30 to 259200 seconds, "
                "--reference 1 to 64 of A-Z a-z 0-9 . _ : -"
            ),
        ),
        "vi": (
            "{said}",
            (
                "--send-at trong vòng 30 ngày tới, --validity từ 30 đến 259200 giây, "
                "--reference từ 1 đến 64 ký tự A-Z a-z 0-9 . _ : -"
            ),
        ),
    },
    _NOBODY: {
        "en": (
            "{said}",
            "See whether the service runs, and check the base URL (--base-url, SPEEDSMS_BASE_URL, or login).",
        ),
        "vi": (
            "Không kết nối được với dịch vụ: {said}",
            "Kiểm tra dịch vụ có chạy và base URL có đúng không (--base-url, SPEEDSMS_BASE_URL, hoặc login).",
        ),
    },
    _ELSEWHERE: {
        "en": ("{said}", "The base URL is probably wrong (--base-url, SPEEDSMS_BASE_URL, or login)."),
        "vi": ("{said}", "Có lẽ base URL sai (--base-url, SPEEDSMS_BASE_URL, hoặc login)."),
    },
}


def _language(_type: Any, tokens: Sequence[Token]) -> Language:
    """`vi_VN.UTF-8` of the environment is Vietnamese, and every other locale English."""
    (token,) = tokens
    if token.source == "cli" and token.value not in {"vi", "en"}:
        raise ValueError("--lang is vi or en")
    return "vi" if token.value.startswith("vi") else "en"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken(Output):
    """How commands speak to people."""

    lang: Annotated[
        Language, Parameter(converter=_language, env_var=_LOCALE, help="Of what is said about errors.")
    ] = "en"
    show_pii: Annotated[bool, Parameter(negative=(), help="Show phone numbers in full.")] = False

    def phone(self, entry: str) -> str:
        return entry if self.show_pii else masked(entry)

    def phones(self, entries: Iterable[str]) -> list[str]:
        return [self.phone(entry) for entry in entries]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Spoken):
    """Every command that calls a service has these; a token is never one: other people see the arguments."""

    profile: Annotated[str | None, Parameter(help="Of the profile file, as kept by login.")] = None
    base_url: Annotated[
        str | None, Parameter(help="Of the service; else the environment's or profile's.")
    ] = None

    def client(self, on_exchange: Callable[[Exchange], None] | None = None) -> "speedsms.SpeedSMS":
        """Its module is loaded here, with HTTP: --help needs neither. Raises ConfigurationError."""
        return speedsms.SpeedSMS(
            base_url=self.base_url, profile=self.profile, language=self.lang, on_exchange=on_exchange
        )


PLAIN: Final = Connection()


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Every error we know becomes some lines with a fix, and its exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except SpeedSMSError as error:
            given = kwargs.get("options")
            options = given if isinstance(given, Spoken) else PLAIN
            tell(error, options)
            if options.as_json:
                document = {"schema": SCHEMA, "data": None, "error": _facts(error, options)}
                sys.stdout.write(json.dumps(document) + "\n")
            sys.exit(exit_code(error))

    return run


def tell(error: SpeedSMSError, options: Spoken) -> None:
    """What happened, and how to mend it."""
    say(" ".join(filter(None, words(error, options))))
    if error.invalid_phones:
        say(f"invalid: {', '.join(options.phones(error.invalid_phones[:10]))}")


def words(error: SpeedSMSError, options: Spoken) -> tuple[str, str]:
    """(what happened, what to do in a shell). No link: who has a wheel has no documentation beside it."""
    said = str(error).removesuffix(error.hint).rstrip(" .") + "."
    happened, fix = _SHELL.get(_place(error), {}).get(options.lang, ("{said}", "{hint}"))
    wait_s = math.ceil(error.retry_after_s or 60)
    return happened.format(said=said), fix.format(hint=error.hint, wait_s=wait_s)


def _place(error: SpeedSMSError) -> object:
    if isinstance(error, InvalidRequest) and error.status in _NO_API:
        return _ELSEWHERE
    if exit_code(error) == UNREACHABLE:
        return _NOBODY
    return error.reason if error.reason in _SHELL else type(error)


def _facts(error: SpeedSMSError, options: Spoken) -> dict[str, Any]:
    return {
        "status": error.status,
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "hint": words(error, options)[1],
        "key": error.key,
        "request_id": error.request_id,
        "invalid_phones": options.phones(error.invalid_phones),
    }


def exit_code(error: SpeedSMSError) -> int:
    match error:
        case ConfigurationError():
            return CONFIGURATION
        case OutcomeUnknown() | NotYetFinal():
            return UNKNOWN
        case Unavailable(code=None):
            return UNREACHABLE
    return REFUSED


def masked(entry: str) -> str:
    """What has few digits is nobody's number, and shown as it is."""
    few = sum(map(str.isdigit, entry)) < _FEW_DIGITS
    return entry[:_SHOWN] if few else numbers.masked(entry)
