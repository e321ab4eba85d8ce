"""The shared words say what the protocol prints."""

import json
import re
from pathlib import Path

import pytest

from speedsms.wire import PIN_INVALID_MESSAGE, Band, Code, Reason, SmsType, band, message

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"


def refusals():
    """(code, message, reason) of every refusal in the golden vectors."""
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf8")).get("cases", ()):
            for step in case.get("steps", ()):
                expect = step["expect"]
                reason = expect.get("headers", {}).get("x-speedsms-reason")
                if reason and isinstance(body := expect.get("json"), dict) and "code" in body:
                    yield body["code"], body["message"], reason


@pytest.mark.parametrize(("code", "text", "reason"), sorted(set(refusals())))
def test_golden_messages(code, text, reason):
    """Every refusal of the golden vectors has its code, reason and exact message here."""
    strict_pin = reason == Reason.BAD_PIN and text == PIN_INVALID_MESSAGE
    assert strict_pin or message(Code(code), Reason(reason)) == text


def test_codes_and_messages():
    """The nine codes carry the messages of §6.2, letter by letter."""
    assert {code.value: message(code, Reason.INTERNAL) for code in Code} == {
        "007": "IP locked",
        "008": "Account blocked",
        "009": "Account not allow to call the API",
        "101": "Invalid or missing parameters",
        "105": "Phone number invalid",
        "110": "Not support sms content encoding",
        "113": "Sms content too long",
        "300": "Your account balance not enough to send sms",
        "500": "Internal error, please try again",
    }


def test_reasons_are_slugs():
    """A reason is what a header can carry: lower-case letters, digits and underscores."""
    assert all(re.fullmatch("[a-z0-9_]+", reason) for reason in Reason)


def test_bands_cover_the_whole_scale():
    """0 to 31 is delivered, 32 to 63 temporary, 64 to 127 failed."""
    bands = [band(status) for status in range(128)]
    assert bands == [Band.DELIVERED] * 32 + [Band.TEMPORARY] * 32 + [Band.FAILED] * 64


def test_sms_types():
    """The types are 1 to 8."""
    assert list(SmsType) == list(range(1, 9))
