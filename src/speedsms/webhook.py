"""For receivers of webhooks: verify and read a delivery report or an incoming SMS in one call (protocol §14).

What may go wrong; each class says with `http_status` what to answer the gateway, which posts again after
anything but 2xx:

BadSignature(ValueError)   401  not from your gateway: no signature fits
├─ MissingSignature        401  a header that a signed webhook has is missing or malformed
├─ TooOld                  401  genuine, but its time is too far from this machine's
├─ Replayed                204  genuine, and done before
├─ UnknownEvent            204  genuine, of a type that this release does not know
└─ BadBody                 400  genuine, but nothing that can be read

A secret that cannot be one is a plain ValueError: the configuration is wrong, not the webhook.
"""

import hmac
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import ClassVar, Final, Literal, NamedTuple, Protocol, TypeAlias

from speedsms.contract.webhook import key_of, signature
from speedsms.wire import Band, band

TOLERANCE_S: Final = 300
KEEP_S: Final = 4 * 86_400  # an event is posted again for 75.6 h, give or take a fifth (protocol §14.5)
_KEY_BYTES: Final = 24  # Standard Webhooks allows no shorter key; ours have 32

_EVENT_ID: Final = re.compile(r"[!-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_SEQUENCE: Final = re.compile(r"[0-9]{1,9}")

Pair: TypeAlias = tuple[str | bytes, str | bytes]


class _HasItems(Protocol):
    def items(self) -> Iterable[Pair]: ...


Headers: TypeAlias = _HasItems | Iterable[Pair]


class BadSignature(ValueError):  # noqa: N818 - the name that receivers write after `except`
    """No signature of the webhook was made with one of the secrets; nothing of it can be believed."""

    http_status: ClassVar[int] = 401


class MissingSignature(BadSignature):
    """`webhook-id`, `webhook-timestamp` or `webhook-signature` is missing or malformed."""


class TooOld(BadSignature):
    """Genuine, but posted too long ago, or in the future; most often this machine's clock is wrong."""


class Replayed(BadSignature):
    """Genuine, and seen before: the gateway repeats an event whose answer got lost."""

    http_status = 204


class UnknownEvent(BadSignature):
    """Genuine, of a type that this release does not know. Accept it: nothing is wrong."""

    http_status = 204


class BadBody(BadSignature):
    """Genuine, but not JSON, or without the keys of its type."""

    http_status = 400


class Meaning(NamedTuple):
    """What a status of a report means, in words for people."""

    en: str
    vi: str


# Protocol §14.1: the values that the gateway sends by itself. Carriers add others of the same bands.
MEANINGS: Final = MappingProxyType(
    {
        0: Meaning("Delivered", "Đã đến máy nhận"),
        32: Meaning("Network congested, still trying", "Mạng đang nghẽn, vẫn đang gửi lại"),
        33: Meaning("Recipient busy, still trying", "Máy nhận đang bận, vẫn đang gửi lại"),
        34: Meaning(
            "No response: phone off or out of coverage, still trying",
            "Không có phản hồi: máy tắt hoặc ngoài vùng phủ sóng, vẫn đang gửi lại",
        ),
        37: Meaning(
            "The phone cannot store it, still trying", "Máy nhận không lưu được tin, vẫn đang gửi lại"
        ),
        64: Meaning("Failed, no detail", "Không gửi được, không rõ lý do"),
        65: Meaning("The recipient cannot receive this kind", "Thuê bao không nhận được loại tin này"),
        67: Meaning("Number not in service", "Số thuê bao không hoạt động"),
        69: Meaning("Phone off, out of coverage or blocked", "Máy tắt, ngoài vùng phủ sóng hoặc bị chặn"),
        70: Meaning("Validity expired", "Hết thời hạn gửi"),
        71: Meaning(
            "Cancelled by the account, or the recipient opted out",
            "Tài khoản đã huỷ, hoặc người nhận đã từ chối nhận tin",
        ),
        72: Meaning("Removed by an operator", "Người vận hành đã xoá"),
        96: Meaning("Congestion, given up", "Mạng nghẽn, đã ngừng gửi"),
        97: Meaning("Recipient busy, given up", "Máy nhận bận, đã ngừng gửi"),
        98: Meaning(
            "No answer, or no receipt until the end", "Không trả lời, hoặc hết hạn mà không có báo cáo gửi"
        ),
        99: Meaning(
            "Rejected by a filter, for its sender or on its route",
            "Bị từ chối vì bộ lọc, thương hiệu hoặc tuyến gửi",
        ),
    }
)
_OF_BAND: Final = {
    Band.DELIVERED: MEANINGS[0],
    Band.TEMPORARY: Meaning("Not there yet, still trying", "Chưa đến, vẫn đang gửi lại"),
    Band.FAILED: MEANINGS[64],
}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one message.

    `status`: 0 and more, on the scale of reports, where 0 is *delivered*; prefer `delivered` and `final` to
    its single values. `event_id`: the same whenever this event is posted again; empty if unsigned.
    `sequence` counts the events of one message from 1; `reference` is that of the request. Both are hints
    beside the signed body, and None where there are none.
    """

    tran_id: int
    phone: str
    status: int
    event_id: str = ""
    sequence: int | None = None
    reference: str | None = None

    @property
    def band(self) -> Band:
        """Delivered, temporary or failed: what a status means whose value is not in the list."""
        return band(self.status)

    @property
    def delivered(self) -> bool:
        """The phone has it, or the code was played."""
        return self.band is Band.DELIVERED

    @property
    def final(self) -> bool:
        """Nothing more will be said about this message."""
        return self.band is not Band.TEMPORARY

    def meaning(self, language: Literal["en", "vi"] = "en") -> str:
        """The status in words for people; of a value not in the list, what its band means."""
        words = MEANINGS.get(self.status, _OF_BAND[self.band])
        return words.vi if language == "vi" else words.en


@dataclass(frozen=True, slots=True)
class Incoming:
    """An SMS that somebody sent to you.

    `phone`: who sent it. `event_id`: the same whenever this event is posted again; empty if unsigned.
    `receiver`: your number or device that it came to, a hint beside the signed body, or None.
    """

    phone: str
    content: str
    event_id: str = ""
    receiver: str | None = None


class Seen:
    """Remembers events in this process, for `parse(seen=…)` and the glue of speedsms.contrib.

    At most `most` events for `keep_s` seconds; the oldest is forgotten first. Safe to use from threads.
    Several processes need one memory: give something like it that asks your database.
    """

    def __init__(
        self, most: int = 100_000, keep_s: float = KEEP_S, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._keep_s, self._clock = most, keep_s, clock
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def __call__(self, event_id: str) -> bool:
        """Whether it was here before; from now on it was."""
        with self._lock:
            known = self._known(event_id)
            self._keep(event_id)
            return known

    def __contains__(self, event_id: str) -> bool:
        """Whether it was here before."""
        with self._lock:
            return self._known(event_id)

    def add(self, event_id: str) -> None:
        """Remember an event that is done."""
        with self._lock:
            self._keep(event_id)

    def _known(self, event_id: str) -> bool:
        until = self._until.get(event_id)
        return until is not None and until > self._clock()

    def _keep(self, event_id: str) -> None:
        if not self._known(event_id):
            self._until.pop(event_id, None)
            self._until[event_id] = self._clock() + self._keep_s
            if len(self._until) > self._most:
                self._until.popitem(last=False)


def parse(
    body: bytes,
    headers: Headers,
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
    seen: Callable[[str], bool] | None = None,
) -> Report | Incoming:
    """Verify a webhook and read it. Raises BadSignature or one of its subclasses, see the module.

    body: the raw bytes, before any framework parsed them. headers: any mapping or pairs, in any case.
    secret: `whsec_…`; several while it is changed. tolerance_s: how far the webhook's time may be from
    `now` (Unix seconds; the clock's if None), either way. seen: told the id of a genuine event, says whether
    it was done before; a `Seen()` remembers it in the same breath, so what then fails is not done again.
    """
    secrets = usable(secret)
    found = _lower(headers)
    event_id, stamp = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    if not _EVENT_ID.fullmatch(event_id) or not _TIMESTAMP.fullmatch(stamp):
        raise MissingSignature("webhook-id or webhook-timestamp is missing or malformed")
    if not (signatures := found.get("webhook-signature", "").split()):
        raise MissingSignature("webhook-signature is missing")
    signed = f"{event_id}.{stamp}.".encode("ascii") + body
    # Every pair is compared, each in constant time: how long it takes tells nothing about the secret.
    ours = [signature(secret, signed) for secret in secrets]
    fits = [_equal(one, theirs) for one in ours for theirs in signatures]
    if not any(fits):
        raise BadSignature("no signature fits; check the secret, and that the body is the raw one")
    age_s = (time.time() if now is None else now) - int(stamp)
    if abs(age_s) > tolerance_s:
        raise TooOld(
            f"posted {age_s:.0f} s before this machine's time, at most {tolerance_s:.0f} s is allowed"
        )
    event = _event(body, event_id, found)
    if seen is not None and seen(event_id):
        raise Replayed(f"{event_id} was here before")
    return event


def parse_unsigned(
    body: bytes, headers: Headers = (), *, legacy_secret: str | None = None
) -> Report | Incoming:
    """Read a webhook that nobody signed, such as the vendor's: ANYBODY who knows your URL can send one.

    legacy_secret: what `X-SpeedSMS-Secret` has to be, for endpoints that are set to send it; it proves who
    posts, but neither that the body is unchanged nor that it is new. Raises as `parse` does.
    """
    if legacy_secret == "":
        raise ValueError("an empty legacy_secret would fit webhooks that have none")
    found = _lower(headers)
    if legacy_secret is not None and not _equal(legacy_secret, found.get("x-speedsms-secret", "")):
        raise BadSignature("X-SpeedSMS-Secret is not the secret")
    return _event(body, "", found)


def usable(secret: str | Sequence[str]) -> Sequence[str]:
    """The secrets, one or more. Raises ValueError if one is empty or short: everybody could sign with it."""
    secrets = [secret] if isinstance(secret, str) else secret
    if not secrets:
        raise ValueError("a webhook needs its signing secret, whsec_…")
    for one in secrets:
        try:
            length = len(key_of(one))
        except ValueError:
            length = 0
        if length < _KEY_BYTES:
            raise ValueError("this is not a signing secret: whsec_ and base64 of 24 bytes or more")
    return secrets


def sign(body: bytes, secret: str | Sequence[str], event_id: str, timestamp: int) -> dict[str, str]:
    """The headers with which the gateway would post `body` at `timestamp` (Unix seconds); for tests."""
    signed = f"{event_id}.{timestamp}.".encode("ascii") + body
    return {
        "Content-Type": "application/json; charset=UTF-8",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join([signature(secret, signed) for secret in usable(secret)]),
    }


def _lower(headers: Headers) -> Mapping[str, str]:
    """By name in lower case. The first of a name counts; which one does not matter, for it is signed."""
    pairs: Iterable[Pair] = headers.items() if hasattr(headers, "items") else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(_text(name).lower(), _text(value))
    return found


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _equal(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "replace"))


def _event(body: bytes, event_id: str, headers: Mapping[str, str]) -> Report | Incoming:
    match _json(body):
        case {"type": "report", "tranId": int(tran_id), "phone": str(phone), "status": int(status)} if (
            status >= 0 and bool not in {type(tran_id), type(status)}
        ):
            sequence = headers.get("x-speedsms-sequence", "")
            return Report(
                tran_id,
                phone,
                status,
                event_id,
                int(sequence) if _SEQUENCE.fullmatch(sequence) else None,
                headers.get("x-speedsms-reference"),
            )
        case {"type": "sms", "phone": str(phone), "content": str(content)}:
            return Incoming(phone, content, event_id, headers.get("x-speedsms-receiver"))
        case {"type": str(other)} if other not in {"report", "sms"}:
            raise UnknownEvent(f"this release knows no event {other[:64]!r}")
        case _:
            raise BadBody("a report has type, tranId, phone and status; an SMS type, phone and content")


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    # Brackets nested by the thousand end in the parser's recursion.
    except (ValueError, RecursionError) as error:
        raise BadBody("the body is not JSON") from error
