"""The application: paths, limits, credentials, rate (steps 1 to 5 of protocol §3), and what is mounted.

What depends on the account is in api/routes.py.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import count
from time import perf_counter
from typing import Final

import structlog
from msgspec.structs import replace

from speedsms.contract import credentials, write
from speedsms.contract.declined import Declined
from speedsms.contract.endpoints import METHODS, Call, find
from speedsms.contract.request import Reply
from speedsms.gateway import failpoint
from speedsms.gateway.flow.accept import ConnectionReset, Overloaded
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.store.accounts import Caller, Directory
from speedsms.gateway.store.db import CommitUnknown, DatabaseAway
from speedsms.gateway.web.api.routes import Routes
from speedsms.gateway.web.asgi import App, Header, Receive, Scope, Send
from speedsms.gateway.web.rate import Rate, Window
from speedsms.gateway.web.turns import Answer, Request
from speedsms.wire import Code, Endpoint, Reason

_JSON: Final = (
    "content-type: application/json; charset=UTF-8\r\ncache-control: no-store\r\nx-speedsms-contract: 1\r\n"
)
_TEXT: Final = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
_INTERNAL: Final = (Code.INTERNAL, Reason.INTERNAL)  # definitely nothing happened (protocol D3)

log = structlog.get_logger()


class Stranger(Exception):  # noqa: N818 - it names who asks
    """No credentials, or wrong ones. wait_s: there were too many wrong ones from this address."""

    def __init__(self, wait_s: int = 0) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Api:
    """The whole application. `mounts` maps a path prefix to an ASGI application, which reads its own
    bodies, and finds out whose call it is by the scope's extension `speedsms.caller`.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        routes: Routes,
        rate: Rate,
        now: Callable[[], datetime],
        metrics: Metrics,
        ready: Callable[[], Awaitable[bool]],
        figures: Callable[[], Awaitable[bytes]] | None = None,
        mounts: Mapping[str, App] | None = None,
        get_send: bool = True,
        trusted_proxies: tuple[str, ...] = (),
    ) -> None:
        self._directory = directory
        self._routes = routes
        self._rate = rate
        self._now = now
        self._metrics = metrics
        self._ready = ready
        self._figures = figures
        self._mounts = {prefix.encode(): app for prefix, app in (mounts or {}).items()}
        self._prefixes = tuple(self._mounts)
        self._methods = METHODS if get_send else {**METHODS, Endpoint.SMS_SEND: ("POST",)}
        self._trusted = trusted_proxies
        self._wrong = credentials.WrongLimit()
        self._request_ids = map((secrets.token_hex(5) + "%x").__mod__, count(1))

    def mounted(self, path: bytes) -> App | None:
        if path.startswith(self._prefixes):
            for prefix, app in self._mounts.items():
                if path == prefix or path.startswith(prefix + b"/"):
                    return partial(self._enter, app)
        return None

    async def _enter(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["speedsms.caller"] = self._caller_of
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            # The drain ran out of time; the server would say so in a body that is not ours (protocol §1.4).
            length, body = b"%d" % len(write.UNKNOWN.body), write.UNKNOWN.body
            fields = [*_fields_of(_JSON), (b"connection", b"close"), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 500, "headers": fields})
            await send({"type": "http.response.body", "body": body})

    async def answer(self, request: Request) -> Answer | None:
        began = perf_counter()
        found = find(request.path)
        try:
            if found is None and (page := await self._page(request)):
                return _answer(page, _TEXT)
            reply, rate = await self._served(request, found)
        except ConnectionReset:
            return None
        except asyncio.CancelledError:
            # The drain ran out of time and nothing comes after this: what became of the call is not known.
            return _answer(write.UNKNOWN, _JSON)._replace(close=True)
        answer = _answer(reply, f"{_JSON}x-request-id: {next(self._request_ids)}\r\n{rate}")
        self._metrics.http(found[0] if found else "none", reply.status, perf_counter() - began)
        return answer

    async def _page(self, request: Request) -> Reply | None:
        """What operators ask: without credentials, never counted."""
        match request.path:
            case b"/health":
                return Reply(200, b"ok\n", ())
            case b"/ready":
                return Reply(200, b"ready\n", ()) if await self._ready() else Reply(503, b"not ready\n", ())
            case b"/metrics" if self._figures:
                if not self._near(request):
                    return Reply(403, b"only for this machine and private networks\n", ())
                return Reply(200, await self._figures(), ())
        return None

    def _near(self, request: Request) -> bool:
        """Whether the client stands on this machine, in a private network, or is a trusted proxy itself."""
        address = credentials.client_address(request.client, request.headers, self._trusted)
        return not address or credentials.inside(address, self._trusted) or credentials.private(address)

    async def _served(self, request: Request, found: tuple[Endpoint, bytes] | None) -> tuple[Reply, str]:
        """Steps 1 and 2: limits, path, method."""
        if request.body is None:
            return write.TOO_LARGE, ""
        headers = dict(request.headers)
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            return write.ENCODED, ""
        if found is None:
            return write.NOT_FOUND, ""
        failpoint.hit("S1")
        endpoint, argument = found
        methods, method = self._methods[endpoint], request.method
        if method == "OPTIONS":
            return write.allowed(methods), ""
        if method not in methods:
            return write.wrong_method(methods), ""
        keys = _all(request.headers, headers, b"idempotency-key")
        media = headers.get(b"content-type", b"")
        call = Call(endpoint, method, argument, request.query, media, keys, request.body)
        try:
            return await self._authenticate(request, headers, call)
        except ConnectionReset:
            raise
        except DatabaseAway:
            return self._refused(endpoint, *_INTERNAL), ""
        except Exception:
            # Keeps the connection alive. Accepting promises: what it does not call unknown did not happen.
            log.exception("call_failed", endpoint=endpoint)
            return self._refused(endpoint, *_INTERNAL), ""

    async def _authenticate(
        self, request: Request, headers: Mapping[bytes, bytes], call: Call
    ) -> tuple[Reply, str]:
        """Steps 3 and 4: credentials, address."""
        try:
            caller, near = await self._caller(request.client, request.headers, headers, call.query)
        except Stranger as stranger:
            return (write.limited(stranger.wait_s) if stranger.wait_s else write.UNAUTHORIZED), ""
        if not near:
            window = await self._rate.look(caller.account.id, caller.account.rate_limit)
            return self._refused(call.endpoint, Code.IP_LOCKED, Reason.IP_LOCKED), _rate_lines(window)
        return await self._admit(call, caller)

    async def _caller_of(
        self, scope: Scope, headers: Mapping[bytes, bytes], query: bytes
    ) -> tuple[Caller, bool]:
        """The same for what is mounted. Raises Stranger, DatabaseAway."""
        return await self._caller((scope["client"] or ("",))[0], scope["headers"], headers, query)

    async def _caller(
        self, peer: str, fields: Sequence[Header], headers: Mapping[bytes, bytes], query: bytes
    ) -> tuple[Caller, bool]:
        """Whose credentials these are, and whether their token may be used from this address.

        fields: all of them, of which headers has the last of each name. Raises Stranger, DatabaseAway.
        """
        address = credentials.client_address(peer, fields, self._trusted)
        try:
            secret, in_query = credentials.secret(_all(fields, headers, b"authorization"), query)
            if secret is None:
                raise Stranger
            caller = await self._directory.caller(secret)
            if caller is None or (in_query and not caller.token.allow_query_token):
                raise credentials.WrongCredentials  # noqa: TRY301 - one answer for every cause
        except credentials.WrongCredentials as wrong:
            raise Stranger(self._wrong.wait_s(address, self._now().timestamp())) from wrong
        allowed = caller.token.allow_ip
        return caller, not allowed or credentials.inside(address, allowed)

    async def _admit(self, call: Call, caller: Caller) -> tuple[Reply, str]:
        """Step 5, the rate limit; then the endpoint's own steps."""
        window = await self._rate.take(caller.account.id, caller.account.rate_limit)
        if not window.allowed:
            return write.limited(window.reset_s), _rate_lines(window)
        try:
            reply = await self._routes.answer(call, caller)
        except Declined as no:
            reply = self._refused(call.endpoint, no.code, no.reason, no.invalid_phones)
        except Overloaded as wait:
            window = replace(window, reset_s=wait.retry_after_s)
            reply = write.limited(wait.retry_after_s)
        except (DatabaseAway, CommitUnknown):
            reply = self._refused(call.endpoint, *_INTERNAL)
        return reply, _rate_lines(window)

    def _refused(
        self, endpoint: Endpoint, code: Code, reason: Reason, invalid_phones: tuple[str, ...] = ()
    ) -> Reply:
        self._metrics.refused(code, reason)
        return write.refused(endpoint, code, reason, invalid_phones)


def _all(fields: Sequence[Header], headers: Mapping[bytes, bytes], name: bytes) -> tuple[bytes, ...]:
    """Every field of a name. Repeated fields are rare, and only then the list is walked."""
    if name not in headers:
        return ()
    if len(headers) == len(fields):
        return (headers[name],)
    return tuple(text for field, text in fields if field == name)


def _rate_lines(window: Window) -> str:
    return (
        f"x-rate-limit-limit: {window.limit}\r\nx-rate-limit-remaining: {window.remaining}\r\n"
        f"x-rate-limit-reset: {window.reset_s}\r\n"
    )


def _answer(reply: Reply, lines: str) -> Answer:
    named = "".join([f"{name.lower()}: {text}\r\n" for name, text in reply.headers])
    length = "" if reply.status == 204 else f"content-length: {len(reply.body)}\r\n"
    return Answer(reply.status, f"{lines}{named}{length}".encode(), reply.body)


def _fields_of(lines: str) -> list[Header]:
    return [(name, text) for name, _, text in (line.partition(b": ") for line in lines.encode().splitlines())]
