"""Send SMS and voice OTP through a SpeedSMS-compatible service.

Names are loaded when they are first used: `import speedsms` reads no file and knows no HTTP.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from speedsms import compat, testing, webhook
    from speedsms._preview import preview
    from speedsms.client import AsyncSpeedSMS, SpeedSMS
    from speedsms.errors import (
        AccountBlocked,
        ConfigurationError,
        InsufficientBalance,
        InvalidNumber,
        InvalidRequest,
        IpLocked,
        JournalError,
        KeyConflict,
        NotAllowed,
        NotSendable,
        NotYetFinal,
        OutcomeUnknown,
        RateLimited,
        Rejected,
        SenderNotFound,
        SpeedSMSError,
        TooLong,
        Unauthorized,
        Unavailable,
    )
    from speedsms.many import Outcome
    from speedsms.numbers import Number
    from speedsms.numbers import parse as parse_number
    from speedsms.results import (
        Account,
        EntryState,
        Exchange,
        NumberStatus,
        PinCheck,
        PinSent,
        Preview,
        Sent,
        Totals,
    )
    from speedsms.text import Segments, TextMode, segments
    from speedsms.wire import Band, Code, Progress, Reason, SmsType

__version__ = "0.1.0"

__all__ = [
    "Account",
    "AccountBlocked",
    "AsyncSpeedSMS",
    "Band",
    "Code",
    "ConfigurationError",
    "EntryState",
    "Exchange",
    "InsufficientBalance",
    "InvalidNumber",
    "InvalidRequest",
    "IpLocked",
    "JournalError",
    "KeyConflict",
    "NotAllowed",
    "NotSendable",
    "NotYetFinal",
    "Number",
    "NumberStatus",
    "Outcome",
    "OutcomeUnknown",
    "PinCheck",
    "PinSent",
    "Preview",
    "Progress",
    "RateLimited",
    "Reason",
    "Rejected",
    "Segments",
    "SenderNotFound",
    "Sent",
    "SmsType",
    "SpeedSMS",
    "SpeedSMSError",
    "TextMode",
    "TooLong",
    "Totals",
    "Unauthorized",
    "Unavailable",
    "compat",
    "parse_number",
    "preview",
    "segments",
    "testing",
    "webhook",
]

_MODULES: Final = ("compat", "testing", "webhook")
_HOMES: Final = {
    "client": "AsyncSpeedSMS SpeedSMS",
    "errors": "AccountBlocked ConfigurationError InsufficientBalance InvalidNumber InvalidRequest IpLocked"
    " JournalError KeyConflict NotAllowed NotSendable NotYetFinal OutcomeUnknown RateLimited Rejected"
    " SenderNotFound SpeedSMSError TooLong Unauthorized Unavailable",
    "many": "Outcome",
    "numbers": "Number parse_number=parse",
    "_preview": "preview",
    "results": "Account EntryState Exchange NumberStatus PinCheck PinSent Preview Sent Totals",
    "text": "Segments TextMode segments",
    "wire": "Band Code Progress Reason SmsType",
}
_HOME_OF: Final = {
    name.partition("=")[0]: (home, name.rpartition("=")[2])
    for home, names in _HOMES.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in (PEP 562)."""
    if name in _MODULES:
        return import_module(f"speedsms.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'speedsms' has no attribute {name!r}")
    home, original = _HOME_OF[name]
    found = globals()[name] = getattr(import_module(f"speedsms.{home}"), original)
    return found


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return [*__all__, "__version__"]
