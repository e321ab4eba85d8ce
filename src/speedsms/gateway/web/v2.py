"""`/v2`: what this gateway offers beside the vendor's endpoints (docs/reference/v2.md): listeners, which ask
for their events by long poll, and events made on request.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from speedsms.contract.webhook import event_name
from speedsms.gateway.store import endpoints, listeners
from speedsms.gateway.store.accounts import Caller
from speedsms.gateway.store.db import CommitUnknown, Database, DatabaseAway, persist
from speedsms.gateway.store.listeners import Taken
from speedsms.gateway.store.outbox import Sample
from speedsms.gateway.web.application import Stranger
from speedsms.gateway.web.asgi import Receive, Scope, Send, read_body
from speedsms.gateway.web.rate import Rate
from speedsms.wire import Reason

ASKING: Final = 20  # long polls of one account at once, in one process
_PACE_S: Final = 0.02  # between the beginnings of two polls of an account
_LOOK_S: Final = 0.2  # one statement for all who wait
_LISTENER: Final = re.compile(rb"/v2/listeners/(lst_[0-9a-f]{20})(/events)?")

Phone: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]


class _Listen(Struct, forbid_unknown_fields=True):
    events: Annotated[frozenset[Literal["report", "sms"]], Meta(min_length=1)]


class _Ask(Struct):
    after: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    wait: Annotated[int, Meta(ge=0, le=30)] = 0


class _Report(Struct, tag_field="type", tag="report", forbid_unknown_fields=True):
    phone: Phone
    status: Annotated[int, Meta(ge=0, le=127)] = 0
    tran_id: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)] = msgspec.field(default=1, name="tranId")


class _Sms(Struct, tag_field="type", tag="sms", forbid_unknown_fields=True):
    phone: Phone
    content: Annotated[str, Meta(max_length=10_000)]


class Call(NamedTuple):
    """One request that was let in."""

    account_id: int
    query: bytes
    body: bytes
    receive: Receive


Answer: TypeAlias = tuple[int, Any]


class Refused(Exception):  # noqa: N818 - it names the answer
    """What the caller is told instead, with HTTP `status`."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.answer = {"error": {"code": code, "message": message}}


class V2:
    """An ASGI application. `run` looks for events of those who wait; `close` lets them go."""

    def __init__(self, db: Database, rate: Rate, now: Callable[[], datetime]) -> None:
        self._db = db
        self._rate = rate
        self._now = now
        self._closing = False
        self._waiting: set[tuple[str, asyncio.Event]] = set()
        self._asking: Counter[int] = Counter()
        self._turns: dict[int, float] = {}

    async def run(self) -> None:
        await persist(self._look)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if waiting := {listener for listener, _ in self._waiting}:
                self._wake(await listeners.stirring(self._db, waiting))

    def _wake(self, stirring: list[str]) -> None:
        for listener, woken in self._waiting:
            if listener in stirring:
                woken.set()

    def close(self) -> None:
        """Nobody waits any longer: the process ends."""
        self._closing = True
        for _, woken in self._waiting:
            woken.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, answer = await self._answer(scope, receive)
            headers: tuple[tuple[bytes, bytes], ...] = ()
        except Refused as no:
            status, answer, headers = no.status, no.answer, no.headers
        raw = b"" if answer is None else msgspec.json.encode(answer)
        fields = [(b"content-type", b"application/json; charset=UTF-8"), (b"cache-control", b"no-store")]
        fields += headers if status == 204 else (*headers, (b"content-length", b"%d" % len(raw)))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": raw})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            return await self._serve(scope, receive)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, "bad_request", str(error)) from error
        except (DatabaseAway, CommitUnknown) as error:
            away = "the database does not answer"
            raise Refused(503, "unavailable", away, (b"retry-after", b"1")) from error

    async def _serve(self, scope: Scope, receive: Receive) -> Answer:
        """The same order of checks as for the vendor's endpoints (protocol §3)."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = await read_body(headers, receive)
        if body is None:
            raise Refused(413, "too_large", "a body has at most 1 MiB", (b"connection", b"close"))
        method, serve = self._route(scope["raw_path"])
        if scope["method"] != method:
            raise Refused(405, "wrong_method", f"only {method} is served here", (b"allow", method.encode()))
        caller = await _caller(scope, headers)
        if method != "GET":  # who waits is paced, not counted
            await self._count(caller)
        _admit(caller)
        return await serve(Call(caller.account.id, scope["query_string"], body, receive))

    def _route(self, path: bytes) -> tuple[str, Callable[[Call], Awaitable[Answer]]]:
        if path == b"/v2/listeners":
            return "POST", self._begin
        if path == b"/v2/trigger":
            return "POST", self._trigger
        if found := _LISTENER.fullmatch(path):
            listener = found[1].decode()
            if found[2]:
                return "GET", partial(self._events, listener)
            return "DELETE", partial(self._end, listener)
        raise Refused(404, "not_found", "see docs/reference/v2.md")

    async def _count(self, caller: Caller) -> None:
        window = await self._rate.take(caller.account.id, caller.account.rate_limit)
        if not window.allowed:
            raise _limited("rate_limit", "too many requests in this minute", window.reset_s)

    async def _begin(self, call: Call) -> Answer:
        asked = msgspec.json.decode(call.body, type=_Listen)
        listener = await listeners.begin(self._db, call.account_id, asked.events, self._now())
        if listener is None:
            message = f"the account has {listeners.MOST} listeners; one that is not asked for a minute ends"
            raise Refused(409, "too_many_listeners", message)
        return 201, {"listener": listener, "expires_s": int(listeners.LIFE.total_seconds())}

    async def _end(self, listener: str, call: Call) -> Answer:
        if not await listeners.end(self._db, call.account_id, listener, self._now()):
            raise _unknown(listener)
        return 204, None

    async def _trigger(self, call: Call) -> Answer:
        asked = msgspec.json.decode(call.body, type=_Report | _Sms)
        account, now = call.account_id, self._now()
        if isinstance(asked, _Report):
            sample = Sample(asked.phone, asked.tran_id)
            event, count = await endpoints.trigger(
                self._db, account, "report", sample, now, status=asked.status
            )
        else:
            sample = Sample(asked.phone, content=asked.content)
            event, count = await endpoints.trigger(self._db, account, "sms", sample, now)
        return 202, {"event": event_name(event), "endpoints": count}

    async def _events(self, listener: str, call: Call) -> Answer:
        query = dict(parse_qsl(call.query.decode("ascii")))
        asked = msgspec.convert(query, type=_Ask, strict=False)
        account = call.account_id
        if self._asking[account] >= ASKING:
            raise _limited("too_many_polls", f"{ASKING} polls of the account are under way", 1)
        self._asking[account] += 1
        try:
            await self._turn(account)
            taken = await self._poll(listener, asked, call)
        finally:
            self._asking[account] -= 1
        events = [
            {
                "cursor": event.cursor,
                "id": event_name(event.event_id),
                "body": event.webhook.body.decode("ascii"),
                "headers": event.webhook.hints,
            }
            for event in taken.events
        ]
        return 200, {"events": events, "dropped": taken.dropped}

    async def _turn(self, account_id: int) -> None:
        """A client that asks again at once, whatever the answer, does not keep the database busy."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._turns.get(account_id, now))
        self._turns[account_id] = turn + _PACE_S
        await asyncio.sleep(turn - now)

    async def _poll(self, listener: str, asked: _Ask, call: Call) -> Taken:
        """What there is, or else what comes while the caller waits for it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + asked.wait
        while True:
            left_s = max(0.0, deadline - clock())
            taken = await listeners.take(
                self._db, call.account_id, listener, after=asked.after, wait_s=left_s, now=self._now()
            )
            if taken is None:
                raise _unknown(listener)
            if taken.events or not left_s or self._closing:
                return taken
            if not await self._woken(listener, left_s, call.receive):
                return taken

    async def _woken(self, listener: str, within_s: float, receive: Receive) -> bool:
        """Whether there may be something, before time is up or the caller has gone."""
        place = listener, asyncio.Event()
        woken, gone = asyncio.create_task(place[1].wait()), asyncio.create_task(_gone(receive))
        self._waiting.add(place)
        try:
            await asyncio.wait((woken, gone), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(place)
            woken.cancel()
            gone.cancel()
        return place[1].is_set() and not gone.done()


async def _gone(receive: Receive) -> None:
    """Until the client has ended the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _caller(scope: Scope, headers: dict[bytes, bytes]) -> Caller:
    """A token in the query is not looked at: addresses are written down everywhere."""
    try:
        caller, near = await scope["extensions"]["speedsms.caller"](scope, headers, b"")
    except Stranger as stranger:
        if stranger.wait_s:
            raise _limited("wrong_credentials", "too many wrong tokens", stranger.wait_s) from stranger
        challenge = (b"www-authenticate", b'Basic realm="api"')
        raise Refused(401, "unauthorized", "name a token: Basic token:x, or Bearer", challenge) from stranger
    if not near:
        raise Refused(403, Reason.IP_LOCKED, "this token may not be used from this address")
    found: Caller = caller
    return found


def _admit(caller: Caller) -> None:
    if caller.account.blocked:
        raise Refused(403, Reason.ACCOUNT_BLOCKED, "the account is blocked")
    if not caller.account.api_enabled:
        raise Refused(403, Reason.API_NOT_ALLOWED, "the account may not call the API")
    if "status" not in caller.token.scopes:
        raise Refused(403, Reason.SCOPE_MISSING, "the token needs the scope status")


def _limited(code: str, message: str, wait_s: int) -> Refused:
    return Refused(429, code, message, (b"retry-after", b"%d" % wait_s))


def _unknown(listener: str) -> Refused:
    return Refused(404, "unknown_listener", f"there is no listener {listener}; it may have expired")
