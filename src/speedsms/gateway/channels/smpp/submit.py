"""One message → the submit_sm of its parts: addresses, coding, cuts, life (channels §3.7–3.9). Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from speedsms.gateway.channels.base import Outgoing, Reason, Refused
from speedsms.gateway.channels.smpp.pdu import Tag, counted, optional, terminated
from speedsms.gateway.channels.smpp.settings import Settings, priorities
from speedsms.gateway.rules.alphabet import Name, encode, fits
from speedsms.numbers import VIETNAM
from speedsms.text import GSM7_EXTENSION, PART_UNITS, SINGLE_UNITS, Encoding, split

# TON and NPI
_ALPHANUMERIC, _SHORT_CODE, _INTERNATIONAL, _NATIONAL = b"\5\0", b"\3\0", b"\1\1", b"\2\1"
_NOBODY: Final = b"\0\0"
_LONGEST_NAME: Final = 11
_NO_HEADER, _UDHI = b"\0", b"\x40"  # esm_class
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
    """What is the same in every submit_sm of a channel, as octets where it goes out as it is.

    from_ton_npi, to_ton_npi: b"" where the address decides. kinds: protocol_id, priority_flag and no
    schedule_delivery_time, by lane. alphabet: of texts that are not UCS-2, None where each text decides.
    gsm, ucs2: registered_delivery to default_msg_id. tlvs: by tag; optional: their octets.
    """

    settings: Settings
    from_ton_npi: bytes
    to_ton_npi: bytes
    kinds: tuple[bytes, ...]
    alphabet: Name | None
    gsm: bytes
    ucs2: bytes
    tlvs: dict[int, bytes]
    optional: bytes


def fixed(settings: Settings) -> Fixed:
    registered = _REGISTERED[settings.receipts] | (0x10 if settings.intermediate else 0)
    gsm: Name = "gsm7" if settings.gsm_packing == "unpacked" else "gsm7_packed"
    tlvs = {tlv.tag: tlv.octets for tlv in settings.tlv}
    return Fixed(
        settings=settings,
        from_ton_npi=bytes(settings.source_ton_npi or ()),
        to_ton_npi=bytes(settings.dest_ton_npi or ()),
        kinds=tuple(bytes((settings.protocol_id, flag, 0)) for flag in priorities(settings)),
        alphabet=gsm if settings.alphabet == "gsm7" else None,
        gsm=bytes((registered, 0, settings.dcs_gsm, 0)),
        ucs2=bytes((registered, 0, settings.dcs_ucs2, 0)),
        tlvs=tlvs,
        optional=optional(tlvs),
    )


def cut(out: Outgoing, channel: Fixed, now: datetime) -> list[tuple[int, bytes]] | Refused:
    """Pairs of a part's number, from 1, and the body of its submit_sm; without those in `out.done`.

    The octets are put together here and not by pdu.encode: but for four fields they are the same in every
    message of a sender.
    """
    settings = channel.settings
    try:
        source = _source(out.sender, channel.from_ton_npi, settings.service_type)
        alphabet, texts = _texts(out.parts, out.encoding, channel)
        several = len(texts) > 1
        if several:
            _check(len(texts), settings)
        destination = _destination(out.to, settings.dest_format, channel.to_ton_npi)
        validity = _validity(out.expires_at, now, settings.validity)
        kind = channel.kinds[out.lane]
        coding = channel.ucs2 if alphabet == "ucs2" else channel.gsm
        parts = []
        for number, text in enumerate(texts, 1):
            if number in out.done:
                continue
            header, tlvs = _place(settings.concat, out.concat_ref, len(texts), number) if several else _ALONE
            short = header + encode(text, alphabet, header=len(header))
            if len(short) > _LONGEST_SHORT or (len(out.parts) > 1 and settings.concat == "payload"):
                short, tlvs = b"", {**tlvs, Tag.MESSAGE_PAYLOAD: short}
            if settings.user_message_reference:
                tlvs = {**tlvs, Tag.USER_MESSAGE_REFERENCE: (out.message & 0xFFFF).to_bytes(2, "big")}
            after = optional({**channel.tlvs, **tlvs}) if tlvs else channel.optional
            esm_class = _UDHI if header else _NO_HEADER
            octets = (source, destination, esm_class, kind, validity, coding, counted(short), after)
            parts.append((number, b"".join(octets)))
    except _Unfit as unfit:
        return Refused(unfit.reason, str(unfit), done=out.done)
    except ValueError as fault:  # a character that no alphabet of this channel has
        return Refused(Reason.UNSUPPORTED, type(fault).__name__, done=out.done)
    return parts


def count(text: str, encoding: str, parts: int, channel: Fixed) -> int:
    """How many submit_sm a text becomes that was cut into so many parts at acceptance (§3.8).

    The price is by that cut, frozen; references, reports and what is unknown are of the parts that go.
    """
    if channel.alphabet and (parts == 1 or channel.settings.concat not in ("udh16", "payload")):
        return parts
    billed = tuple(split(text, Encoding(encoding))) if parts > 1 else (text,)
    return len(_texts(billed, encoding, channel)[1])


def _check(parts: int, settings: Settings) -> None:
    """Of a message of several parts."""
    if settings.concat == "none":
        raise _Unfit(Reason.UNSUPPORTED, "this channel takes no long messages")
    if parts > _MOST_PARTS:
        raise _Unfit(Reason.TOO_LONG, f"{parts} parts")


# ---------------------------------------------------------------------------------- Addresses (§3.7)


@lru_cache(1024)
def _source(sender: str, ton_npi: bytes, service_type: str) -> bytes:
    """The octets of service_type and source address, which begin each submit_sm of a sender."""
    kind, digits = _sender(sender)
    return terminated(service_type, 6) + ((ton_npi if sender else b"") or kind) + terminated(digits, 21)


def _sender(sender: str) -> tuple[bytes, str]:
    """TON and NPI by the form of a sender, and its characters."""
    if not sender:
        return _NOBODY, ""
    digits = sender.removeprefix("+")
    if not digits.isdecimal():
        if not sender.isascii() or len(sender) > _LONGEST_NAME:
            raise _Unfit(Reason.SENDER_REFUSED, f"a name of {len(sender)} characters")
        return _ALPHANUMERIC, sender
    if len(digits) > 20 or not digits.isascii():
        raise _Unfit(Reason.SENDER_REFUSED, f"a number of {len(digits)} digits")
    if 3 <= len(digits) <= 6:
        return _SHORT_CODE, digits
    return _NATIONAL if digits.startswith("0") else _INTERNATIONAL, digits


def _destination(to: str, form: str, ton_npi: bytes) -> bytes:
    if form == "national" and to.startswith(VIETNAM):
        return (ton_npi or _NATIONAL) + terminated("0" + to.removeprefix(VIETNAM), 21)
    return (ton_npi or _INTERNATIONAL) + terminated("+" + to if form == "plus" else to, 21)


# --------------------------------------------------------------------------------- Text (§3.8, §3.9)


def _texts(parts: tuple[str, ...], encoding: str, channel: Fixed) -> tuple[Name, Sequence[str]]:
    """The alphabet, and the texts of the parts, cut again where this channel's sizes are others."""
    alphabet = _alphabet(parts, encoding, channel)
    concat = channel.settings.concat
    same = (alphabet == "ucs2") == (encoding == "ucs2")  # as they were cut at acceptance
    if same and (len(parts) == 1 or concat not in ("udh16", "payload")):
        return alphabet, parts
    if concat == "payload":
        return alphabet, ["".join(parts)]
    coding = Encoding.UCS2 if alphabet == "ucs2" else Encoding.GSM7
    return alphabet, _again("".join(parts), coding, wide=concat == "udh16")


def _alphabet(parts: tuple[str, ...], encoding: str, channel: Fixed) -> Name:
    if encoding == "ucs2":
        return "ucs2"
    if channel.alphabet:
        return channel.alphabet
    alphabet = channel.settings.alphabet
    return alphabet if all(fits(part, alphabet) for part in parts) else "ucs2"


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


_ALONE: Final[tuple[bytes, dict[int, bytes]]] = (b"", {})  # a message of one part


def _place(concat: str, reference: int, total: int, number: int) -> tuple[bytes, dict[int, bytes]]:
    """What says that a text is part `number` of `total`: a header in front of it, or TLVs."""
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


# --------------------------------------------------------------------------------------- Life (§3.7)


def _validity(expires_at: datetime, now: datetime, form: str) -> bytes:
    if form == "none":
        return b"\0"
    life = expires_at - now
    life_s = life.days * 86_400 + life.seconds
    if not _LEAST_LIFE_S <= life_s <= _LONGEST_LIFE_S:
        life_s = _LEAST_LIFE_S if life_s < _LEAST_LIFE_S else _LONGEST_LIFE_S
    return _relative(life_s) if form == "relative" else _absolute(int(now.timestamp()) + life_s)


@lru_cache(4096)
def _relative(life_s: int) -> bytes:
    """`YYMMDDhhmmss000R`: so long from when the carrier takes it; 5 minutes are 000000000500000R."""
    minutes, seconds = divmod(life_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return terminated(f"0000{days:02}{hours:02}{minutes:02}{seconds:02}000R", 17)


@lru_cache(4096)
def _absolute(at: int) -> bytes:
    """`YYMMDDhhmmsstnnp` in UTC: t tenths, nn quarters of an hour, p their sign."""
    return terminated(datetime.fromtimestamp(at, UTC).strftime("%y%m%d%H%M%S") + "000+", 17)
