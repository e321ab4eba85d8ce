"""Type × sender × account → the sender used or *sender not found*; lanes and lives (protocol §8)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Final

from speedsms.contract.declined import Declined
from speedsms.contract.price import Product
from speedsms.numbers import parse
from speedsms.wire import Code, Kind, Reason, SmsType

SHARED_BRANDNAMES: Final = ("Verify", "Notify")
OTP_BRANDNAME: Final = "Verify"
DEFAULT_MAX_PARTS: Final[dict[SmsType, int]] = {  # protocol D39; `pin/create` takes 3 whatever its type
    sms_type: 3 if sms_type in {SmsType.ADVERTISING, SmsType.BRANDNAME, SmsType.SHARED_BRANDNAME} else 6
    for sms_type in SmsType
}
BULK_FROM: Final = 11  # messages in one call

_IGNORE_SENDER: Final = frozenset({SmsType.RANDOM_NUMBER, SmsType.FIXED_NUMBER})
_NUMBERS: Final = frozenset({SmsType.OWN_NUMBER, SmsType.TWO_WAY_NUMBER})
_DEVICE_SLOT: Final = re.compile(r"(.+):[1-9]")


class SenderKind(StrEnum):
    """What a sender is."""

    BRANDNAME = "brandname"
    NUMBER = "number"
    DEVICE = "device"
    GROUP = "group"


class SenderStatus(StrEnum):
    """Only an approved sender can be used."""

    PENDING = "pending"
    APPROVED = "approved"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Sender:
    """One sender of an account: brandnames and devices as written, numbers as E.164 digits.

    `ad`: brandname of class *ad*, not *care*. `two_way`: number of type 8, not 7. `mms`: device with MMS.
    """

    kind: SenderKind
    id: str
    status: SenderStatus = SenderStatus.APPROVED
    gsm_only: bool = False
    ad: bool = False
    two_way: bool = False
    mms: bool = False


NO_SENDER: Final = Sender(SenderKind.NUMBER, "")  # types 2 and 6: the operator chooses the number


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an account may send with; `senders` comes from `usable`."""

    types: frozenset[SmsType]
    senders: Mapping[tuple[Product, str], Sender] = field(default_factory=dict)
    default_shared: str = "Notify"
    default_group: str = ""


def usable(senders: Iterable[Sender]) -> dict[tuple[Product, str], Sender]:
    """The approved senders by what they can send and their id, with the shared brandnames."""
    shared = [Sender(SenderKind.BRANDNAME, name) for name in SHARED_BRANDNAMES]
    found: dict[tuple[Product, str], Sender] = {(SmsType.SHARED_BRANDNAME, s.id): s for s in shared}
    for sender in senders:
        if sender.status is SenderStatus.APPROVED:
            found |= {(product, sender.id): sender for product in _products(sender)}
    return found


def _products(sender: Sender) -> tuple[Product, ...]:
    match sender.kind:
        case SenderKind.BRANDNAME:
            return (SmsType.ADVERTISING if sender.ad else SmsType.BRANDNAME,)
        case SenderKind.NUMBER:
            return (SmsType.TWO_WAY_NUMBER if sender.two_way else SmsType.OWN_NUMBER,)
        case SenderKind.DEVICE if sender.mms:
            return (SmsType.DEVICE, Kind.MMS)
        case _:
            return (SmsType.DEVICE,)


def resolve(product: Product, sender: str, allowed: Allowed) -> Sender:
    """The sender to use for an SMS type or for `Kind.MMS`; raises Declined (101, *sender not found*)."""
    if product is not Kind.MMS and product not in allowed.types:
        raise _not_found(f"type {product:d} is not enabled for this account")
    if product in _IGNORE_SENDER:  # clients send stray device ids here (protocol D30)
        return NO_SENDER
    name = sender or _default(product, allowed)
    if found := allowed.senders.get((product, name)) or _other_spelling(product, name, allowed):
        return found
    what = f"type {product:d}" if product is not Kind.MMS else "MMS"
    raise _not_found(f"{what} has no approved sender {name!a:.70}" if name else f"{what} needs a sender")


def _default(product: Product, allowed: Allowed) -> str:
    if product is SmsType.SHARED_BRANDNAME:
        return allowed.default_shared
    return allowed.default_group if product is SmsType.DEVICE else ""


def _other_spelling(product: Product, name: str, allowed: Allowed) -> Sender | None:
    """A number in any form of §9, or the SIM slot of a device (`id:2`); brandnames have one spelling."""
    if len(name) > 64:
        return None
    if product in _NUMBERS and (number := parse(name)):
        return allowed.senders.get((product, number.e164))
    if product is SmsType.DEVICE and (slot := _DEVICE_SLOT.fullmatch(name)):
        device = allowed.senders.get((product, slot[1]))
        return replace(device, id=name) if device and device.kind is SenderKind.DEVICE else None
    return None


def _not_found(detail: str) -> Declined:
    return Declined(Code.BAD_PARAMETERS, Reason.SENDER_NOT_FOUND, detail)


class Lane(IntEnum):
    """Priority class of a message, most urgent first (protocol D32)."""

    OTP = 0
    VOICE = 1
    TRANSACTIONAL = 2
    BULK = 3


VALIDITY_S: Final[Mapping[Lane, int]] = {
    Lane.OTP: 300,
    Lane.VOICE: 120,
    Lane.TRANSACTIONAL: 86_400,
    Lane.BULK: 86_400,
}


def lane_of(kind: Kind, sms_type: SmsType | None, sender: str, messages: int) -> Lane:
    """The lane of a call's messages; `kind` is PIN for a PIN by SMS, VOICE for one that is spoken."""
    if kind is Kind.VOICE:
        return Lane.VOICE
    one_code = sms_type is SmsType.SHARED_BRANDNAME and sender == OTP_BRANDNAME and messages == 1
    if kind is Kind.PIN or one_code:
        return Lane.OTP
    return Lane.BULK if sms_type is SmsType.ADVERTISING or messages >= BULK_FROM else Lane.TRANSACTIONAL
