"""`listen`, `trigger …`: webhooks to a URL of this machine, and events made up to try it with.

Both speak endpoints that this gateway has beside the vendor's; the vendor's service has none of them.
"""

import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Annotated, Any, Final

import httpx2
from cyclopts import Parameter
from cyclopts.validators import Number

from speedsms import __version__, numbers, webhook
from speedsms.cli.connection import PLAIN, Connection, command, words
from speedsms.cli.exits import USAGE
from speedsms.cli.terminal import VIETNAM, refuse, say, show
from speedsms.contract.webhook import SECRET_BYTES, secret_from
from speedsms.errors import (
    ConfigurationError,
    InvalidRequest,
    RateLimited,
    SpeedSMSError,
    Unauthorized,
    Unavailable,
)
from speedsms.settings import is_near, load

_KINDS: Final = ("report", "sms")
_POLL_S: Final = 25
_BACKOFF_S: Final = (0.5, 1, 2, 4, 8, 15)
_LOCAL_RETRIES_S: Final = (0.5, 2)
_NOT_HERE: Final = (
    "This service cannot be listened to, nor makes events: only a gateway of your own does both. "
    "Is the base URL right?"
)


@command
def listen(
    *,
    forward_to: Annotated[str, Parameter(help="Where to post them, such as http://127.0.0.1:8000/hook.")],
    secret: Annotated[
        str | None, Parameter(help="To sign with, whsec_…; else a fresh one, shown at start.")
    ] = None,
    events: Annotated[str, Parameter(help="Which: report, sms or both.")] = ",".join(_KINDS),
    options: Connection = PLAIN,
) -> None:
    """Ctrl-C ends it. With --json, each event is a document on a line of its own."""
    key, kinds = secret or secret_from(secrets.token_bytes(SECRET_BYTES)), events.split(",")
    _check(forward_to, key, kinds)
    # The way to this machine leads through no proxy that the environment names.
    with _gateway(options) as gateway, httpx2.Client(timeout=10.0, trust_env=False) as local:
        listener = Listener(gateway, kinds, options)
        listener.register()
        say(f"webhooks go to {forward_to}, signed with {key}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            for event in listener.events():
                _tell(event, _forward(local, forward_to, key, event), options)
        listener.leave()


def _check(forward_to: str, secret: str, kinds: Sequence[str]) -> None:
    """Ends the command if it was typed wrongly."""
    try:
        webhook.usable(secret)
        url = httpx2.URL(forward_to)
    except (ValueError, httpx2.InvalidURL) as error:
        refuse(str(error), "see speedsms listen --help", USAGE)
    if url.scheme not in {"http", "https"} or not url.host:
        refuse(f"{forward_to} is no URL of a web server", "write http://127.0.0.1:8000/hook", USAGE)
    if url.scheme == "http" and not is_near(url.host):
        fix = "use https, or a receiver of this machine or its network"
        refuse(f"{forward_to} would carry phone numbers in clear over the internet", fix, USAGE)
    if not set(kinds) <= set(_KINDS):
        refuse(f"--events {','.join(kinds)} is not known", "write report, sms or report,sms", USAGE)


def _number(_type: Any, phone: str) -> None:
    if not numbers.parse(phone, (numbers.ANY_COUNTRY,)) and not numbers.magic(phone):
        raise ValueError(f"{phone} is no phone number; write it as 0912345678")


@command
def trigger_report(
    *,
    phone: Annotated[str, Parameter(validator=_number, help="Whose message.")] = "0912345678",
    status: Annotated[
        int, Parameter(validator=Number(gte=0, lte=127), help="0 delivered, 32-63 trying, 64-127 failed.")
    ] = 0,
    tran_id: Annotated[int, Parameter(help="Of which request.")] = 1,
    options: Connection = PLAIN,
) -> None:
    _trigger({"type": "report", "phone": phone, "status": status, "tranId": tran_id}, options)


@command
def trigger_sms(
    *,
    phone: Annotated[str, Parameter(help="Who wrote it.")] = "0912345678",
    content: Annotated[str, Parameter(help="What they wrote.")] = "YES",
    options: Connection = PLAIN,
) -> None:
    _trigger({"type": "sms", "phone": phone, "content": content}, options)


def _trigger(event: dict[str, Any], options: Connection) -> None:
    with _gateway(options) as gateway:
        made = _call(gateway, "POST", "trigger", options, json=event)
    reached = made.get("endpoints")
    receivers = "endpoint or listener" if reached == 1 else "endpoints and listeners"
    line = f"{made.get('event')} goes to {reached} {receivers}"
    show(options, {"event": made.get("event"), "endpoints": reached}, lines=[line])
    if not reached:
        say("nobody is there to get it: run speedsms listen, or speedsms webhook set")


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook. `cursor`: its place in the line; `hints`: its unsigned headers."""

    cursor: int
    id: str
    body: bytes
    hints: dict[str, str]

    @property
    def meaning(self) -> webhook.Report | webhook.Incoming | None:
        with suppress(webhook.BadSignature):
            return webhook.parse_unsigned(self.body, self.hints)
        return None


class Listener:
    """A place in the gateway's line; made anew when the gateway was away for longer than it keeps one."""

    def __init__(self, gateway: httpx2.Client, kinds: Sequence[str], options: Connection) -> None:
        self._gateway, self._kinds, self._options = gateway, kinds, options
        self._id, self._keeps_s, self._after, self._dropped = "", 60.0, 0, 0

    def register(self) -> None:
        """A limit is waited out: it may be that of a run over a file that has just ended."""
        for failures in count():
            try:
                made = _call(self._gateway, "POST", "listeners", self._options, json={"events": self._kinds})
                break
            except RateLimited as error:
                self._rest(error, failures)
        if not isinstance(made.get("listener"), str):
            raise ConfigurationError(_NOT_HERE)
        self._id, self._keeps_s, self._after = made["listener"], float(made.get("expires_s", 60)), 0
        self._dropped = 0

    def leave(self) -> None:
        with suppress(SpeedSMSError):  # it expires by itself
            _call(self._gateway, "DELETE", f"listeners/{self._id}", self._options)

    def events(self) -> Iterator[Event]:
        """Without end. An event counts as done, and is gone, when the next one is asked for."""
        failures = 0
        while True:
            asked = time.monotonic()
            try:
                batch = self._poll()
                failures = 0
            except (Unavailable, RateLimited) as error:
                self._rest(error, failures)
                failures += 1
                continue
            for event in batch:
                yield event
                self._after = event.cursor
                # Slow receivers must not make the gateway believe that nobody listens any more.
                if time.monotonic() - asked > self._keeps_s / 2:
                    break

    def _rest(self, error: Unavailable | RateLimited, failures: int) -> None:
        wait_s = error.retry_after_s or _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
        if not failures:
            say(f"{words(error, self._options)[0]} Trying again in {wait_s:g} s, until it is back.")
        time.sleep(wait_s)

    def _poll(self) -> list[Event]:
        query = {"after": self._after, "wait": _POLL_S}
        try:
            found = _call(self._gateway, "GET", f"listeners/{self._id}/events", self._options, params=query)
        except ConfigurationError:
            say("the gateway forgot this listener, and perhaps some events; listening anew")
            self.register()
            return []
        if (dropped := found.get("dropped", 0)) > self._dropped:
            say(f"{dropped} events were dropped so far: the receiver is too slow for them")
            self._dropped = dropped
        return [
            Event(one["cursor"], one["id"], one["body"].encode(), one.get("headers", {}))
            for one in found["events"]
        ]


def _forward(local: httpx2.Client, url: str, secret: str, event: Event) -> tuple[str, int]:
    """(what the receiver answered, milliseconds of the last try)."""
    for wait_s in (*_LOCAL_RETRIES_S, None):
        began = time.monotonic()
        headers = event.hints | webhook.sign(event.body, secret, event.id, int(time.time()))
        try:
            reply = local.post(url, content=event.body, headers=headers)
            said, again = f"HTTP {reply.status_code}", reply.status_code >= 500
        except httpx2.HTTPError as error:
            at, again = _place(httpx2.URL(url)), True
            said = f"no answer from the receiver at {at} ({type(error).__name__})"
        took_ms = round((time.monotonic() - began) * 1000)
        if wait_s is None or not again:
            break
        time.sleep(wait_s)
    return said, took_ms


def _tell(event: Event, answer: tuple[str, int], options: Connection) -> None:
    said, took_ms = answer
    data = {
        "at": datetime.now(UTC),
        "event": event.id,
        **_facts(event, options),
        "answer": said,
        "ms": took_ms,
    }
    words = " ".join(str(data[name]) for name in ("type", "phone", "meaning", "content") if data.get(name))
    line = f"{data['at'].astimezone(VIETNAM):%H:%M:%S} {words} → {said} in {took_ms} ms"
    show(options, data, lines=[line])
    sys.stdout.flush()


def _facts(event: Event, options: Connection) -> dict[str, Any]:
    match event.meaning:
        case webhook.Report() as report:
            facts = {"type": "report", "tran_id": report.tran_id, "status": report.status}
            return facts | {"phone": options.phone(report.phone), "meaning": report.meaning(options.lang)}
        case webhook.Incoming() as sms:
            content = sms.content if options.show_pii else None
            return {"type": "sms", "phone": options.phone(sms.phone), "content": content}
    return {"type": "unknown"}


def _gateway(options: Connection) -> httpx2.Client:
    settings = load(None, options.base_url, profile=options.profile)
    return httpx2.Client(
        base_url=f"{settings.origin}{settings.prefix.removesuffix('index.php/')}v2/",
        auth=(settings.token, "x"),
        headers={"User-Agent": f"speedsms-cli/{__version__}"},
        trust_env=False,  # as the client: the environment does not say where the token goes
        timeout=httpx2.Timeout(_POLL_S + 10, connect=5.0),
    )


def _call(gateway: httpx2.Client, method: str, path: str, options: Connection, **more: Any) -> dict[str, Any]:
    """The JSON of a reply. Raises ConfigurationError for a service that does not know the path."""
    try:
        reply = gateway.request(method, path, **more)
    except httpx2.TransportError as error:
        at = _place(gateway.base_url)
        raise Unavailable(f"The gateway at {at} does not answer ({type(error).__name__}).") from None
    found = _json(reply)
    if reply.is_success and (found or reply.status_code == 204):
        return found
    raise _refusal(reply, found.get("error"), options)


def _place(url: httpx2.URL) -> str:
    return f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def _refusal(reply: httpx2.Response, told: Any, options: Connection) -> SpeedSMSError:
    """The status is kept only where the catalogue's words on it fit these endpoints, too."""
    code, said = (told.get("code"), told.get("message", "")) if isinstance(told, dict) else (None, "")
    match reply.status_code:
        case 401:
            return Unauthorized(said or "The token is not known.", status=401, language=options.lang)
        case 429:
            wait = reply.headers.get("retry-after", "")
            wait_s = float(wait) if wait.isdecimal() else None
            return RateLimited(said, status=429, retry_after_s=wait_s, language=options.lang)
        case status if status >= 500:
            return Unavailable(said or f"The gateway is in trouble (HTTP {status}).", language=options.lang)
        case 400 | 403 | 409 | 413:
            return InvalidRequest(said, reason=code, language=options.lang)
    return ConfigurationError(_NOT_HERE)


def _json(reply: httpx2.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
