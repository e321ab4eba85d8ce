"""Steps 8 to 12 of protocol §3 for the fake: a sending call → messages in memory, or the refusal."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from speedsms.contract import ads, pin, read, recipients, write
from speedsms.contract.carriers import Carrier, carrier_name, carrier_of
from speedsms.contract.content import composed, flat
from speedsms.contract.declined import Declined
from speedsms.contract.endpoints import Call
from speedsms.contract.price import Product, unit_price_vnd
from speedsms.contract.recipients import Recipients
from speedsms.contract.request import Accepted, PinCreate, Reply
from speedsms.contract.senders import VALIDITY_S, lane_of, resolve
from speedsms.contract.simulation import REFUSALS
from speedsms.testing.book import Book
from speedsms.testing.multipart import fields
from speedsms.testing.records import Account, Kept, Message, Token
from speedsms.text import Segments, TextMode
from speedsms.wire import Code, Endpoint, Kind, Reason, SmsType

_MINUTE: Final = timedelta(minutes=1)
_UNKNOWN: Final = 12  # the magic number whose first call has no known outcome

Render: TypeAlias = Callable[[Accepted], Reply]
Priced: TypeAlias = dict[str, tuple[Carrier, int]]


class Answered(Exception):  # noqa: N818 - it carries an answer out of the steps
    """The reply is a framework's, no refusal of a business rule."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Caller(NamedTuple):
    account: Account
    token: Token


class Wanted(NamedTuple):
    """A sending call whose sender and text are settled; render writes its reply when it is accepted."""

    kind: Kind
    sms_type: SmsType | None
    entries: tuple[str, ...]
    sender: str
    text: Segments
    render: Render
    send_at: datetime | None = None
    validity_s: int | None = None
    reference: str | None = None
    notices: tuple[str, ...] = ()
    link: str | None = None


def wanted(book: Book, caller: Caller, call: Call) -> Wanted:
    """Steps 8 to 10: the request, the sender, the content. Raises Declined and Answered."""
    account = caller.account
    request = (call.query, call.body if call.method == "POST" else b"", call.content_type)
    quirks: dict[str, Any] = {"multipart": fields, "raw_utf8_101": account.raw_utf8_101}
    quirks["percent_decode"] = account.percent_decode
    match call.endpoint:
        case Endpoint.SMS_SEND:
            sms = read.send(*request, now=book.now(), **quirks)
            sms_type = SmsType(sms.sms_type)
            sender, text = _text(book, caller, sms.content, sms_type, sms.sender)
            # The commands end alike: send_at, validity_s, reference, notices.
            return Wanted(Kind.SMS, sms_type, sms.entries, sender, text, write.accepted, *sms[4:])
        case Endpoint.VOICE_OTP:
            voice = read.voice(*request, now=book.now(), **quirks)
            text = flat(voice.content, TextMode.KEEP)
            return Wanted(Kind.VOICE, None, (voice.entry,), "", text, write.called, *voice[2:])
        case Endpoint.MMS_SEND:
            mms = read.mms(*request, now=book.now(), **quirks)
            sender = resolve(Kind.MMS, mms.sender, account.allowed).id
            text = flat(mms.content, _mode(caller))
            return Wanted(Kind.MMS, None, mms.entries, sender, text, write.accepted, *mms[4:], link=mms.link)
    return _verification(book, caller, read.pin_create(*request, **quirks))


def _text(book: Book, caller: Caller, content: str, sms_type: SmsType, sender: str) -> tuple[str, Segments]:
    """The sender that is used, and the text that is sent."""
    account = caller.account
    found = resolve(sms_type, sender, account.allowed)
    text = composed(
        content,
        sms_type,
        found,
        _mode(caller),
        book.content,
        label=ads.AdLabel(account.ads_label),
        allow_other_types=account.ads_allow_other_types,
    )
    return found.id, text


def _mode(caller: Caller) -> TextMode:
    return TextMode(caller.token.text_mode or caller.account.text_mode)


# ---------------------------------------------------------------- phone verification (§13)


def app_of(account: Account, app_id: str) -> pin.Application:
    for app in account.apps:
        if app.app_id == app_id:
            return app
    raise Declined(Code.BAD_PARAMETERS, Reason.BAD_APP_ID, f"this account has no application {app_id!a:.70}")


def number_of(caller: Caller, entry: str) -> str:
    """The normalised number of an entry, empty if it is invalid: no verification ever has that."""
    found = recipients.read([entry], caller.account.countries, test=caller.token.test).numbers
    return found[0].e164 if found else ""


def _verification(book: Book, caller: Caller, asked: PinCreate) -> Wanted:
    """The message that carries a PIN; the verification is opened or repeated when it is accepted."""
    app = app_of(caller.account, asked.app_id)
    if pin.PLACEHOLDER not in asked.content:  # an ordinary message that opens nothing (protocol D23)
        return _pin_message(book, caller, app, asked, partial(write.created, pin=None))
    past = caller.account.verifications.setdefault((app.app_id, number_of(caller, asked.entry)), [])
    after, wait_s = pin.sent(past, app, book.random.randbytes(pin.ID_BYTES), book.now())
    code = pin.pin_of(after[-1].id, book.pin_key, app.digits)

    def render(done: Accepted) -> Reply:
        past[:] = after
        return write.created(done, code if app.expose_pin else None)

    content = code if app.sms_type is None else asked.content.replace(pin.PLACEHOLDER, code)
    message = _pin_message(book, caller, app, asked._replace(content=content), render)
    if wait_s:
        raise Answered(write.limited(wait_s))
    return message


def _pin_message(
    book: Book, caller: Caller, app: pin.Application, asked: PinCreate, render: Render
) -> Wanted:
    if app.sms_type is None:
        kind, sender, text = Kind.VOICE, "", flat(read.spoken(asked.content), TextMode.KEEP)
    else:
        kind = Kind.PIN
        sender, text = _text(book, caller, asked.content, app.sms_type, app.sender)
    return Wanted(kind, app.sms_type, (asked.entry,), sender, text, render, notices=asked.notices)


# ---------------------------------------------------------------- steps 11 and 12


def take(book: Book, caller: Caller, call: Call, want: Wanted) -> Reply:
    """Numbers, prices, caps, funds; then the messages. Raises Declined and Answered."""
    account, now = caller.account, book.now()
    to = recipients.read(want.entries, account.countries, test=caller.token.test)
    to.suppress(account.stops(), want.sms_type or SmsType.RANDOM_NUMBER)
    _play(book, caller, call, to)
    priced = _priced(book, want, to)
    twin = _twin(caller, call, want, to)
    kept = account.kept.get(twin) if twin else None
    if kept and kept.at > now - timedelta(seconds=caller.token.duplicate_window_s):
        return replayed(kept.reply)
    if want.sms_type is SmsType.ADVERTISING:
        _thin_out(account, to, now)
    total_vnd = sum(priced[number.e164][1] for number in to.numbers)
    if not caller.token.test:
        _spend(caller, total_vnd, now)
    if want.sms_type is SmsType.ADVERTISING:
        account.ads_sent += [(now, number.e164) for number in to.numbers]
    tran_id = _store(book, caller, want, to, priced)
    notices = (*want.notices, *want.text.changed, *to.counted())
    count = len(to.numbers)
    reply = want.render(
        Accepted(tran_id, count, total_vnd, tuple(to.invalid), want.text.parts * count, notices)
    )
    if twin:
        account.kept[twin] = Kept(now, reply)
    return reply


def replayed(reply: Reply) -> Reply:
    return reply._replace(headers=(*reply.headers, ("Idempotency-Replayed", "true")))


def _play(book: Book, caller: Caller, call: Call, to: Recipients) -> None:
    """What the magic numbers of a call refuse (§16). Raises Declined and Answered."""
    this = (caller.token.token, str(call.keys))
    for trick in dict.fromkeys(to.magic):
        if trick in REFUSALS:
            raise Declined(*REFUSALS[trick], "played by a magic number")
        if trick == _UNKNOWN and this not in book.unknown:
            book.unknown.add(this)
            raise Answered(write.UNKNOWN)
        if trick == _UNKNOWN:
            book.unknown.discard(this)


def _priced(book: Book, want: Wanted, to: Recipients) -> Priced:
    """Carrier and price of each message; a number without a price row is invalid. Raises Declined."""
    priced: Priced = {}
    unpriced: dict[str, Reason] = {}
    product: Product = want.sms_type or (Kind.MMS if want.kind is Kind.MMS else Kind.VOICE)
    for number, entry in zip(to.numbers, to.entries, strict=True):
        carrier = carrier_of(number.e164, book.portability)
        unit_vnd = unit_price_vnd(book.prices, product, carrier, number.e164)
        if unit_vnd is None:
            unpriced[entry] = Reason.NUMBER_INVALID
        else:
            priced[number.e164] = (carrier, unit_vnd * (want.text.parts or 1))
    to.take_out(unpriced)
    if not to.numbers:
        raise to.none_left()
    return priced


def _twin(caller: Caller, call: Call, want: Wanted, to: Recipients) -> tuple[str, str] | None:
    """What the duplicate guard compares (protocol §15.2); None for a call that it lets pass."""
    if not caller.token.duplicate_window_s or want.kind not in (Kind.SMS, Kind.VOICE) or call.keys:
        return None
    numbers = sorted(number.e164 for number in to.numbers)
    what = (caller.token.token, want.sms_type, want.sender, numbers, want.text.text)
    return ("duplicate", hashlib.sha256(repr(what).encode()).hexdigest())


def _thin_out(account: Account, to: Recipients, now: datetime) -> None:
    """The fourth advertisement to a number within 24 hours is suppressed (protocol §12). Raises Declined."""
    recent = [e164 for at, e164 in account.ads_sent if at > now - ads.WINDOW]
    to.take_out(
        {
            entry: Reason.NUMBER_SUPPRESSED
            for number, entry in zip(to.numbers, to.entries, strict=True)
            if ads.too_frequent(recent.count(number.e164))
        }
    )
    if not to.numbers:
        raise to.none_left()


def _spend(caller: Caller, total_vnd: int, now: datetime) -> None:
    """Hold the money. Raises Declined (300)."""
    account, token = caller
    day = now.astimezone(ads.VIETNAM_TIME).replace(hour=0, minute=0, second=0, microsecond=0)
    today_vnd = sum(vnd for at, by, vnd in account.spent if at >= day and by == token.token)
    minute_vnd = sum(vnd for at, _, vnd in account.spent if at >= now - _MINUTE)
    caps = ((token.spend_cap_day_vnd, today_vnd), (account.spend_cap_minute_vnd, minute_vnd))
    if any(cap_vnd is not None and spent_vnd + total_vnd > cap_vnd for cap_vnd, spent_vnd in caps):
        raise Declined(Code.BALANCE, Reason.SPEND_CAP, "a spend cap would be passed")
    if total_vnd and total_vnd > account.balance_vnd + account.credit_vnd:
        raise Declined(Code.BALANCE, Reason.BALANCE, f"needs {total_vnd} VND")
    account.balance_vnd -= total_vnd
    account.spent.append((now, token.token, total_vnd))


def _store(book: Book, caller: Caller, want: Wanted, to: Recipients, priced: Priced) -> int:
    """The messages, in memory; the number of the request."""
    due = max(want.send_at or book.now(), book.now())
    if want.sms_type is SmsType.ADVERTISING:
        due = ads.release_time(due)
    lane, tran_id = lane_of(want.kind, want.sms_type, want.sender, len(to.numbers)), next(book.tran_ids)
    book.messages += [
        Message(
            caller.account,
            tran_id,
            want.kind,
            number.e164,
            entry,
            carrier_name(priced[number.e164][0], number.e164),
            want.text.text,
            want.sender,
            want.sms_type,
            want.text.encoding,
            want.text.units,
            want.text.parts,
            priced[number.e164][1],
            lane,
            want.validity_s or VALIDITY_S[lane],
            due,
            want.reference,
            want.link,
            caller.token.test,
        )
        for number, entry in zip(to.numbers, to.entries, strict=True)
    ]
    return tran_id
