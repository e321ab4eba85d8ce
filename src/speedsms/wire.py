"""What both sides of the wire say: endpoints, codes, messages, reasons, types, scales (protocol §1–§14)."""

from collections.abc import Mapping
from enum import Enum, IntEnum, StrEnum
from typing import Final

PREFIX: Final = "/index.php/"  # every endpoint is served below this prefix and below "/" (protocol §1.1)
SUCCESS_CODE: Final = "00"


class Endpoint(StrEnum):
    """The seven vendor endpoints, without prefix; `sms/status` is followed by `/{tranId}`."""

    USER_INFO = "user/info"
    SMS_SEND = "sms/send"
    VOICE_OTP = "voice/otp"
    PIN_CREATE = "pin/create"
    PIN_VERIFY = "pin/verify"
    SMS_STATUS = "sms/status"
    MMS_SEND = "mms/send"


class Kind(StrEnum):
    """What a request asked for."""

    SMS = "sms"
    VOICE = "voice"
    PIN = "pin"
    MMS = "mms"


class SmsType(IntEnum):
    """`sms_type` (protocol §8)."""

    ADVERTISING = 1
    RANDOM_NUMBER = 2
    BRANDNAME = 3
    SHARED_BRANDNAME = 4
    DEVICE = 5
    FIXED_NUMBER = 6
    OWN_NUMBER = 7
    TWO_WAY_NUMBER = 8


class Code(StrEnum):
    """The codes of refusals, all inside HTTP 200 (protocol §6.2)."""

    IP_LOCKED = "007"
    ACCOUNT_BLOCKED = "008"
    API_NOT_ALLOWED = "009"
    BAD_PARAMETERS = "101"
    NUMBER_INVALID = "105"
    NOT_SENDABLE = "110"
    TOO_LONG = "113"
    BALANCE = "300"
    INTERNAL = "500"


class Reason(StrEnum):
    """The finer reason of a refusal, sent as `X-Speedsms-Reason` (protocol §6.3)."""

    IP_LOCKED = "ip_locked"
    ACCOUNT_BLOCKED = "account_blocked"
    API_NOT_ALLOWED = "api_not_allowed"
    SCOPE_MISSING = "scope_missing"
    BAD_JSON = "bad_json"
    JSON_LIMITS = "json_limits"
    DUPLICATE_PARAMETER = "duplicate_parameter"
    NOT_UTF8 = "not_utf8"
    WRONG_TYPE = "wrong_type"
    MISSING_TO = "missing_to"
    MISSING_CONTENT = "missing_content"
    TOO_MANY_RECIPIENTS = "too_many_recipients"
    BAD_SMS_TYPE = "bad_sms_type"
    BAD_CONTENT = "bad_content"
    BAD_LINK = "bad_link"
    BAD_OPTION = "bad_option"
    BAD_APP_ID = "bad_app_id"
    BAD_PIN = "bad_pin"
    UNKNOWN_TRANSACTION = "unknown_transaction"
    SENDER_NOT_FOUND = "sender_not_found"
    AD_TYPE_REQUIRED = "ad_type_required"
    AD_LABEL_MISSING = "ad_label_missing"
    AD_OPTOUT_MISSING = "ad_optout_missing"
    NUMBER_INVALID = "number_invalid"
    NUMBER_SUPPRESSED = "number_suppressed"
    NUMBER_BLOCKED = "number_blocked"
    CODE_POINT = "code_point"
    UNICODE_NOT_ALLOWED = "unicode_not_allowed"
    TOO_LONG = "too_long"
    BALANCE = "balance"
    SPEND_CAP = "spend_cap"
    INTERNAL = "internal"


PIN_INVALID_MESSAGE: Final = "Pin code invalid"  # code 101, only of an application with `strict_verify` (D25)
_MESSAGES: Final[Mapping[Code, str]] = {
    Code.IP_LOCKED: "IP locked",
    Code.ACCOUNT_BLOCKED: "Account blocked",
    Code.API_NOT_ALLOWED: "Account not allow to call the API",
    Code.BAD_PARAMETERS: "Invalid or missing parameters",
    Code.NUMBER_INVALID: "Phone number invalid",
    Code.NOT_SENDABLE: "Not support sms content encoding",
    Code.TOO_LONG: "Sms content too long",
    Code.BALANCE: "Your account balance not enough to send sms",
    Code.INTERNAL: "Internal error, please try again",
}


def message(code: Code, reason: Reason) -> str:
    """The exact `message` of a refusal; only *sender not found* differs from its code's (protocol D27)."""
    return "sender not found" if reason is Reason.SENDER_NOT_FOUND else _MESSAGES[code]


class Progress(IntEnum):
    """`status` of one number in a `sms/status` reply: here 0 is *pending* (protocol §14.1)."""

    PENDING = 0
    SENT = 1
    DELIVERED = 2
    FAILED = 3


class Band(Enum):
    """What a report's `status` means: here 0 is *delivered* (protocol §14.1)."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    FAILED = "failed"


def band(tp_status: int) -> Band:
    """The band of a TP-Status (3GPP TS 23.040), 0 to 127; 1 to 31 are kinds of *delivered*."""
    if tp_status < 32:
        return Band.DELIVERED
    return Band.TEMPORARY if tp_status < 64 else Band.FAILED
