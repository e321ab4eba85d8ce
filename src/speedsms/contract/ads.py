"""Advertising is type 1: its label, opt-out, hours, frequency (protocol §12; Decree 91/2020/ND-CP)."""

import re
from datetime import datetime, time, timedelta, timezone
from enum import StrEnum
from typing import Final

from speedsms.contract.declined import Declined
from speedsms.text import fold
from speedsms.wire import Code, Reason, SmsType

VIETNAM_TIME: Final = timezone(timedelta(hours=7))  # Asia/Ho_Chi_Minh has had no other offset since 1975
OPENS: Final = time(7)
CLOSES: Final = time(22)
MESSAGES_PER_WINDOW: Final = 3  # per account and number
WINDOW: Final = timedelta(hours=24)
OPERATOR_UNITS: Final = 38  # what a carrier adds by itself where it labels (protocol §10.3)

_LABELS: Final = ("[QC]", "[AD]")
_LABELLED: Final = re.compile(r"\s*\[(?:QC|AD)\]", re.IGNORECASE)
_OPT_OUT_WITHIN: Final = 80
_OFFERS_OPT_OUT: Final = re.compile(r"\b(?:TC|TU CHOI|HUY|STOP)\b", re.IGNORECASE)
_OPTS_OUT: Final = re.compile(r"\W*(?:TC|TU\s+CHOI|HUY|STOP|UNSUB)\b", re.IGNORECASE)


class AdLabel(StrEnum):
    """Who sets label and opt-out text: the caller, the gateway, or the carrier (protocol D44)."""

    REQUIRE = "require"
    PREPEND = "prepend"
    OPERATOR = "operator"


def refuse_disguised(sms_type: SmsType, text: str, *, allow_other_types: bool) -> None:
    """Raise Declined if a text of types 2 to 8 carries the label of an advertisement (protocol D43)."""
    if sms_type is not SmsType.ADVERTISING and not allow_other_types and _LABELLED.match(text):
        raise _declined(Reason.AD_TYPE_REQUIRED, "a text labelled [QC] or [AD] is sent as type 1")


def advertise(text: str, label: AdLabel, opt_out_text: str) -> str:
    """A normalised text of type 1 as it will be sent; raises Declined if it lacks what the law asks for.

    Only PREPEND changes the text, which then has to be normalised and counted again.
    """
    if label is AdLabel.OPERATOR:
        return text
    labelled, offers = text.startswith(_LABELS), _offers_opt_out(text)
    if label is AdLabel.PREPEND:
        return ("" if labelled else "[QC] ") + text + ("" if offers else opt_out_text)
    if not labelled:
        raise _declined(Reason.AD_LABEL_MISSING, "an advertisement begins with [QC] or [AD]")
    if not offers:
        raise _declined(Reason.AD_OPTOUT_MISSING, "an advertisement ends with TC, TU CHOI, HUY or STOP")
    return text


def _offers_opt_out(text: str) -> bool:
    # Searched in place, not in a slice: a slice could begin inside a longer word and make a word of its end.
    plain = fold(text)
    return _OFFERS_OPT_OUT.search(plain, max(0, len(plain) - _OPT_OUT_WITHIN)) is not None


def _declined(reason: Reason, detail: str) -> Declined:
    return Declined(Code.BAD_PARAMETERS, reason, detail)


def release_time(due: datetime) -> datetime:
    """When an advertisement due then may be submitted: at once in [07:00, 22:00), else at the next 07:00.

    `due` has a time zone. The validity counts from the result.
    """
    local = due.astimezone(VIETNAM_TIME)
    if OPENS <= local.time() < CLOSES:
        return due
    day = local.date() + timedelta(days=local.time() >= CLOSES)
    return datetime.combine(day, OPENS, VIETNAM_TIME)


def too_frequent(sent_in_window: int) -> bool:
    """Whether one more would pass the limit, after so many within WINDOW: the fourth is suppressed."""
    return sent_in_window >= MESSAGES_PER_WINDOW


def opts_out(incoming: str) -> bool:
    """Whether the first words of an incoming message refuse further advertising, in any case or accents."""
    return _OPTS_OUT.match(fold(incoming)) is not None


def confirmation(received: datetime) -> str:
    """What a number that opted out is told, at once: when its wish came, and since when it holds."""
    local = received.astimezone(VIETNAM_TIME)
    return (
        f"Yeu cau tu choi quang cao da nhan luc {local:%H:%M %d/%m/%Y}. Quy khach khong con nhan tu luc nay."
    )
