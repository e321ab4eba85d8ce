"""One message → the submit_sm of its parts: addresses, coding, cuts, life (channels §3.7–3.9). Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from speedsms.gateway.channels.base import Outgoing, Reason, Refused
from speedsms.gateway.channels.smpp.pdu import Address, SubmitSm, Tag
from speedsms.gateway.channels.smpp.settings import Settings, priorities
from speedsms.gateway.rules.alphabet import Name, encode, fits
from speedsms.numbers import VIETNAM
from speedsms.text import GSM7_EXTENSION, PART_UNITS, SINGLE_UNITS, Encoding, split

_ALPHANUMERIC, _SHORT_CODE, _INTERNATIONAL, _NATIONAL = (5, 0), (3, 0), (1, 1), (2, 1)
_NOBODY: Final = Address(0, 0, "")
_LONGEST_NAME: Final = 11
_UDHI: Final = 0x40
_LONGEST_SHORT: Final = 254  # octets of short_message (SMPP 3.4 §5.2.22)
_MOST_PARTS: Final = 255
_LEAST_LIFE_S: Final = 60
_LONGEST_LIFE_S: Final = 30 * 86_400  # months and years of a relative time differ from carrier to carrier
_REGISTERED: Final = {"none": 0, "final": 1, "failures": 2}


class _Unfit(ValueError):  # noqa: N818 - it says what is the matter and becomes a refusal
    """The message cannot go out on this channel, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Fixed(NamedTuple):
    """What is the same in every submit_sm of a channel. priority: by lane."""

    settings: Settings
    priority: tuple[int, ...]
    registered: int
    tlvs: dict[int, bytes]


def fixed(settings: Settings) -> Fixed:
    registered = _REGISTERED[settings.receipts] | (0x10 if settings.intermediate else 0)
    return Fixed(settings, priorities(settings), registered, {tlv.tag: tlv.octets for tlv in settings.tlv})


def cut(out: Outgoing, channel: Fixed, now: datetime) -> list[tuple[int, SubmitSm]] | Refused:
    """Pairs of a part's number, from 1, and its submit_sm; without those in `out.done`."""
    settings = channel.settings
    try:
        source = _source(out.sender, settings.source_ton_npi)
        alphabet, texts = _texts(out.parts, out.encoding, settings)
        _check(texts, settings)
        destination = _destination(out.to, settings.dest_format, settings.dest_ton_npi)
        validity_period = _validity(out.expires_at, now, settings.validity)
        parts = []
        for number, text in enumerate(texts, 1):
            if number in out.done:
                continue
            header, tlvs = _place(settings.concat, out.concat_ref, len(texts), number)
            body = header + _octets(text, alphabet, len(header))
            if len(body) > _LONGEST_SHORT or (len(out.parts) > 1 and settings.concat == "payload"):
                body, tlvs = b"", {**tlvs, Tag.MESSAGE_PAYLOAD: body}
            if settings.user_message_reference:
                tlvs = {**tlvs, Tag.USER_MESSAGE_REFERENCE: (out.message & 0xFFFF).to_bytes(2, "big")}
            pdu = SubmitSm(
                service_type=settings.service_type,
                source=source,
                destination=destination,
                esm_class=_UDHI if header else 0,
                protocol_id=settings.protocol_id,
                priority_flag=channel.priority[out.lane],
                validity_period=validity_period,
                registered_delivery=channel.registered,
                data_coding=settings.dcs_ucs2 if alphabet == "ucs2" else settings.dcs_gsm,
                short_message=body,
                tlvs={**channel.tlvs, **tlvs} if tlvs else channel.tlvs,
            )
            parts.append((number, pdu))
    except _Unfit as unfit:
        return Refused(unfit.reason, str(unfit), done=out.done)
    except ValueError as fault:  # a character that no alphabet of this channel has
        return Refused(Reason.UNSUPPORTED, type(fault).__name__, done=out.done)
    return parts


def count(text: str, encoding: str, parts: int, settings: Settings) -> int:
    """How many submit_sm a text becomes that was cut into so many parts at acceptance (§3.8).

    The price is by that cut, frozen; references, reports and what is unknown are of the parts that go.
    """
    if settings.alphabet == "gsm7" and (parts == 1 or settings.concat not in ("udh16", "payload")):
        return parts
    billed = tuple(split(text, Encoding(encoding))) if parts > 1 else (text,)
    return len(_texts(billed, encoding, settings)[1])


def _check(texts: Sequence[str], settings: Settings) -> None:
    if len(texts) > 1 and settings.concat == "none":
        raise _Unfit(Reason.UNSUPPORTED, "this channel takes no long messages")
    if len(texts) > _MOST_PARTS:
        raise _Unfit(Reason.TOO_LONG, f"{len(texts)} parts")


# ---------------------------------------------------------------------------------- Addresses (§3.7)


@lru_cache(1024)
def _source(sender: str, ton_npi: tuple[int, int] | None) -> Address:
    if not sender:
        return _NOBODY
    digits = sender.removeprefix("+")
    if not digits.isdecimal():
        if not sender.isascii() or len(sender) > _LONGEST_NAME:
            raise _Unfit(Reason.SENDER_REFUSED, f"a name of {len(sender)} characters")
        return Address(*(ton_npi or _ALPHANUMERIC), sender)
    if len(digits) > 20 or not digits.isascii():
        raise _Unfit(Reason.SENDER_REFUSED, f"a number of {len(digits)} digits")
    if 3 <= len(digits) <= 6:
        return Address(*(ton_npi or _SHORT_CODE), digits)
    return Address(*(ton_npi or (_NATIONAL if digits.startswith("0") else _INTERNATIONAL)), digits)


def _destination(to: str, form: str, ton_npi: tuple[int, int] | None) -> Address:
    if form == "national" and to.startswith(VIETNAM):
        return Address(*(ton_npi or _NATIONAL), "0" + to.removeprefix(VIETNAM))
    return Address(*(ton_npi or _INTERNATIONAL), "+" + to if form == "plus" else to)


# --------------------------------------------------------------------------------- Text (§3.8, §3.9)


def _texts(parts: tuple[str, ...], encoding: str, settings: Settings) -> tuple[Name, Sequence[str]]:
    """The alphabet, and the texts of the parts, cut again where this channel's sizes are others."""
    alphabet = _alphabet(parts, encoding, settings)
    coding = Encoding.UCS2 if alphabet == "ucs2" else Encoding.GSM7
    if settings.concat == "payload":
        return alphabet, ["".join(parts)]
    wide = settings.concat == "udh16"
    if coding == encoding and (len(parts) == 1 or not wide):
        return alphabet, parts
    return alphabet, _again("".join(parts), coding, wide=wide)


def _alphabet(parts: tuple[str, ...], encoding: str, settings: Settings) -> Name:
    if encoding == Encoding.UCS2:
        return "ucs2"
    if settings.alphabet == "gsm7":
        return "gsm7" if settings.gsm_packing == "unpacked" else "gsm7_packed"
    return settings.alphabet if all(fits(part, settings.alphabet) for part in parts) else "ucs2"


def _again(text: str, coding: Encoding, *, wide: bool) -> list[str]:
    """Greedy parts of at most so many units; no pair is split."""
    costs = [_units(character, coding) for character in text]
    if sum(costs) <= SINGLE_UNITS[coding]:
        return [text]
    most = PART_UNITS[coding] - wide  # the header of a 16-bit reference is one octet longer
    parts, start, used = [], 0, 0
    for at, cost in enumerate(costs):
        if used + cost > most:
            parts.append(text[start:at])
            start, used = at, 0
        used += cost
    return [*parts, text[start:]]


def _units(character: str, coding: Encoding) -> int:
    if coding is Encoding.UCS2:
        return 2 if character > "\uffff" else 1
    return 2 if character in GSM7_EXTENSION else 1


def _place(concat: str, reference: int, total: int, number: int) -> tuple[bytes, dict[int, bytes]]:
    """What says that a text is part `number` of `total`: a header in front of it, or TLVs."""
    if total == 1:
        return b"", {}
    wide = (reference & 0xFFFF).to_bytes(2, "big")
    if concat == "sar":
        return b"", {
            Tag.SAR_MSG_REF_NUM: wide,
            Tag.SAR_TOTAL_SEGMENTS: bytes([total]),
            Tag.SAR_SEGMENT_SEQNUM: bytes([number]),
        }
    if concat == "udh16":
        return b"\x06\x08\x04" + wide + bytes([total, number]), {}
    return bytes([5, 0, 3, reference & 0xFF, total, number]), {}


@lru_cache(1024)  # of a campaign many messages, and of most messages some parts, read the same
def _octets(text: str, alphabet: Name, header: int) -> bytes:
    return encode(text, alphabet, header=header)


# --------------------------------------------------------------------------------------- Life (§3.7)


def _validity(expires_at: datetime, now: datetime, form: str) -> str:
    if form == "none":
        return ""
    life_s = min(max(int((expires_at - now).total_seconds()), _LEAST_LIFE_S), _LONGEST_LIFE_S)
    return _relative(life_s) if form == "relative" else _absolute(int(now.timestamp()) + life_s)


@lru_cache(4096)
def _relative(life_s: int) -> str:
    """`YYMMDDhhmmss000R`: so long from when the carrier takes it; 5 minutes are 000000000500000R."""
    minutes, seconds = divmod(life_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"0000{days:02}{hours:02}{minutes:02}{seconds:02}000R"


@lru_cache(4096)
def _absolute(at: int) -> str:
    """`YYMMDDhhmmsstnnp` in UTC: t tenths, nn quarters of an hour, p their sign."""
    return datetime.fromtimestamp(at, UTC).strftime("%y%m%d%H%M%S") + "000+"
