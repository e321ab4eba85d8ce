"""Content → the text that is sent, or the refusal: protocol §3 steps 9 and 10, once the sender is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from speedsms.contract import ads
from speedsms.contract.declined import Declined
from speedsms.contract.senders import DEFAULT_MAX_PARTS, Sender
from speedsms.text import Encoding, NotSendable, Segments, TextMode, normalise, segments
from speedsms.wire import Code, Reason, SmsType

MAX_CONTENT = 10_000  # characters
MAX_MMS = 1_000  # characters


@dataclass(frozen=True, slots=True)
class ContentRules:
    """What an installation and an account allow. max_parts: by type; gsm_only: types without UCS-2."""

    max_parts: Mapping[SmsType, int] = field(default_factory=lambda: DEFAULT_MAX_PARTS)
    gsm_only: frozenset[SmsType] = frozenset()
    optout_text: str = ""


def composed(
    content: str,
    sms_type: SmsType,
    sender: Sender,
    mode: TextMode,
    rules: ContentRules,
    *,
    label: ads.AdLabel,
    allow_other_types: bool,
) -> Segments:
    """The text as it will be sent, counted. Raises Declined: 110, 101 (advertising form), 113."""
    if len(content) > MAX_CONTENT:
        raise Declined(Code.TOO_LONG, Reason.TOO_LONG, f"{len(content)} characters; 10,000 are read")
    reserved = 0
    if sms_type is SmsType.ADVERTISING and label is ads.AdLabel.OPERATOR:
        reserved = ads.OPERATOR_UNITS
    try:
        text = segments(content, mode, reserved)
        if (sender.gsm_only or sms_type in rules.gsm_only) and text.encoding is Encoding.UCS2:
            raise Declined(
                Code.NOT_SENDABLE,
                Reason.UNICODE_NOT_ALLOWED,
                "this sender carries GSM-7 only: remove diacritics",
            )
        ads.refuse_disguised(sms_type, text.text, allow_other_types=allow_other_types)
        if sms_type is SmsType.ADVERTISING:
            text = _advertised(text, label, rules.optout_text, reserved)
    except NotSendable as error:
        raise Declined(Code.NOT_SENDABLE, Reason.CODE_POINT, str(error)) from error
    if text.parts > rules.max_parts[sms_type]:
        raise Declined(
            Code.TOO_LONG,
            Reason.TOO_LONG,
            f"{text.units} units are {text.parts} parts; type {sms_type:d} has {rules.max_parts[sms_type]}",
        )
    return text


def _advertised(text: Segments, label: ads.AdLabel, optout_text: str, reserved: int) -> Segments:
    final = ads.advertise(text.text, label, optout_text)
    if final == text.text:
        return text
    labelled = segments(final, TextMode.KEEP, reserved)
    return Segments(labelled.text, labelled.encoding, labelled.units, labelled.parts, text.changed)


def flat(content: str, mode: TextMode) -> Segments:
    """The text of a call or an MMS, which is sold whole and has no parts. Raises Declined: 113, 110."""
    if len(content) > MAX_MMS:
        raise Declined(Code.TOO_LONG, Reason.TOO_LONG, f"{len(content)} characters; an MMS has {MAX_MMS}")
    try:
        text, changed = normalise(content, mode)
    except NotSendable as error:
        raise Declined(Code.NOT_SENDABLE, Reason.CODE_POINT, str(error)) from error
    return Segments(text, Encoding.UCS2, 0, 0, changed)
