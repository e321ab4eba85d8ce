"""What the commands of integrators share: the client, and its errors as words and exit codes."""

import functools
import json
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
from speedsms.errors import ConfigurationError, NotYetFinal, OutcomeUnknown, SpeedSMSError, Unavailable

P = ParamSpec("P")
_FEW_DIGITS: Final = 6
_SHOWN: Final = 40
_LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set wins, as everywhere in POSIX
_UNREACHABLE: Final[Mapping[Language, str]] = {
    "en": "see whether the service runs and its base URL is right (--base-url, SPEEDSMS_BASE_URL, or login)",
    "vi": "kiểm tra dịch vụ có chạy và base URL có đúng không (--base-url, SPEEDSMS_BASE_URL, hoặc login)",
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

    def client(self) -> "speedsms.SpeedSMS":
        """Its module is loaded here, with HTTP: --help needs neither. Raises ConfigurationError."""
        return speedsms.SpeedSMS(base_url=self.base_url, profile=self.profile, language=self.lang)


PLAIN: Final = Connection()


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Every error we know becomes some lines with a fix and a link, and its exit code."""

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
    """What happened, how to mend it, and where that is explained."""
    say(str(error))
    if exit_code(error) == UNREACHABLE:
        say(_UNREACHABLE[options.lang])
    if error.invalid_phones:
        say(f"invalid: {', '.join(options.phones(error.invalid_phones[:10]))}")
    if error.doc_url:
        say(f"see {error.doc_url}")


def _facts(error: SpeedSMSError, options: Spoken) -> dict[str, Any]:
    return {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "hint": error.hint,
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
