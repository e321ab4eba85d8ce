"""Webhooks as bytes: bodies, phone forms, signatures and headers (protocol §9.5, §14.2-§14.4). Pure."""

import hmac
import json
import re
from base64 import b64decode, b64encode
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from speedsms.numbers import national

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the format's prefix, no secret
SECRET_BYTES: Final = 32

# Base32 in pairs of characters, eight times as quick as the library's, which goes octet by octet.
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS: Final = tuple(a + b for a in _BASE32 for b in _BASE32)

# What a carrier writes for a Vietnamese subscriber; short codes and names are shown as they came.
_SUBSCRIBER: Final = re.compile(r"\+?(84[0-9]{9,10})")
_NOT_VISIBLE: Final = re.compile(r"[^!-~]")


class Report(NamedTuple):
    """One report of one message. `status` is on the TP-Status scale, `e164` digits without `+`."""

    tran_id: int
    entry: str
    e164: str
    status: int
    phone_form: str
    sequence: int
    reference: str | None

    @property
    def body(self) -> bytes:
        # An entry is what a caller wrote; in digits there is nothing to be escaped.
        as_sent = self.phone_form == "as_sent"
        phone = json.dumps(self.entry) if as_sent else f'"{_shown(self.e164, self.phone_form)}"'
        body = f'{{"type":"report","tranId":{self.tran_id},"phone":{phone},"status":{self.status}}}'
        return body.encode("ascii")

    @property
    def hints(self) -> dict[str, str]:
        hints = {"X-Speedsms-Sequence": str(self.sequence)}
        if self.reference:
            hints["X-Speedsms-Reference"] = self.reference
        return hints


class Incoming(NamedTuple):
    """One SMS from a phone. `receiver`: our number or the device's id."""

    sender: str
    receiver: str
    content: str
    phone_form: str

    @property
    def body(self) -> bytes:
        number = None if self.phone_form == "as_sent" else _SUBSCRIBER.fullmatch(self.sender)
        phone = _shown(number[1], self.phone_form) if number else self.sender
        return f'{{"type":"sms","phone":{json.dumps(phone)},"content":{json.dumps(self.content)}}}'.encode(
            "ascii"
        )

    @property
    def hints(self) -> dict[str, str]:
        # The receiver is what a carrier says it is: nothing of it may end the header line.
        return {"X-Speedsms-Receiver": _NOT_VISIBLE.sub("?", self.receiver)}


Webhook: TypeAlias = Report | Incoming


def _shown(e164: str, phone_form: str) -> str:
    return e164 if phone_form == "international" else national(e164)


def event_name(event_id: UUID) -> str:
    """`evt_` and 26 characters: the same on every attempt, the receiver's de-duplication key."""
    high, low = event_id.int >> 68, event_id.int << 2
    pair = _PAIRS
    # Written out, for this is done for each post: a loop takes twice the time.
    return (
        f"evt_{pair[high >> 50]}{pair[high >> 40 & 1023]}{pair[high >> 30 & 1023]}{pair[high >> 20 & 1023]}"
        f"{pair[high >> 10 & 1023]}{pair[high & 1023]}{pair[low >> 60 & 1023]}{pair[low >> 50 & 1023]}"
        f"{pair[low >> 40 & 1023]}{pair[low >> 30 & 1023]}{pair[low >> 20 & 1023]}{pair[low >> 10 & 1023]}"
        f"{pair[low & 1023]}"
    )


def headers(
    webhook: Webhook,
    body: bytes,
    *,
    event: str,
    timestamp: int,
    secrets: Sequence[str],
    legacy_secret: str | None,
    agent: str,
) -> dict[str, str]:
    """The headers of one attempt, in Standard Webhooks 1.0. `timestamp`: Unix seconds of this attempt."""
    signed = f"{event}.{timestamp}.".encode("ascii") + body
    found = {
        "Content-Type": "application/json; charset=UTF-8",
        "User-Agent": agent,
        "webhook-id": event,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join([signature(secret, signed) for secret in secrets]),
        **webhook.hints,
    }
    if legacy_secret is not None:
        found["X-SpeedSMS-Secret"] = legacy_secret  # its own value, never a signing secret (protocol D49)
    return found


def signature(secret: str, signed: bytes) -> str:
    hashed = _keyed(secret).copy()
    hashed.update(signed)
    return "v1," + b2a_base64(hashed.digest(), newline=False).decode("ascii")


@lru_cache(maxsize=4096)
def _keyed(secret: str) -> hmac.HMAC:
    """The key, hashed in already: never to be updated, only copied."""
    return hmac.new(key_of(secret), digestmod="sha256")


@lru_cache(maxsize=4096)
def key_of(secret: str) -> bytes:
    return b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)


def secret_from(random: bytes) -> str:
    """A signing secret made of 32 random bytes."""
    return SECRET_PREFIX + b64encode(random).decode("ascii")
