"""The application: paths, limits, credentials, rate (steps 1 to 5 of protocol §3), and what is mounted.

A plain ASGI callable without middleware. What depends on the account is in api/routes.py.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from itertools import count
from time import perf_counter
from typing import Any, Final, TypeAlias

import structlog
from msgspec.structs import replace

from speedsms.contract import credentials, write
from speedsms.contract.declined import Declined
from speedsms.contract.endpoints import MAX_BODY, METHODS, Call, find
from speedsms.contract.request import Reply
from speedsms.gateway import failpoint
from speedsms.gateway.flow.accept import ConnectionReset, Overloaded
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.store.accounts import Caller, Directory
from speedsms.gateway.store.db import CommitUnknown, DatabaseAway
from speedsms.gateway.web.api.routes import Routes
from speedsms.gateway.web.rate import Rate, Window
from speedsms.wire import Code, Endpoint, Reason

_DRAINED: Final = 2 * MAX_BODY  # closing on unread octets resets the connection, and the 413 would be lost

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

_CLOSE: Final[Header] = (b"connection", b"close")
_JSON: Final[tuple[Header, ...]] = (
    (b"content-type", b"application/json; charset=UTF-8"),
    (b"cache-control", b"no-store"),
    (b"x-speedsms-contract", b"1"),
)
_TEXT: Final[tuple[Header, ...]] = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)

_INTERNAL: Final = (Code.INTERNAL, Reason.INTERNAL)  # definitely nothing happened (protocol D3)

log = structlog.get_logger()


class Stranger(Exception):  # noqa: N818 - it names who asks
    """No credentials, or wrong ones. wait_s: there were too many wrong ones from this address."""

    def __init__(self, wait_s: int = 0) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Api:
    """The whole application. `mounts` maps a path prefix to another one, which reads its own bodies, and
    finds out whose call it is by the scope's extension `speedsms.caller`.
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
        self._methods = METHODS if get_send else {**METHODS, Endpoint.SMS_SEND: ("POST",)}
        self._trusted = trusted_proxies
        self._wrong = credentials.WrongLimit()
        self._request_ids = map((secrets.token_hex(5) + "%x").__mod__, count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            # The drain ran out of time and nothing comes after this: what became of the call is not known,
            # and the server would say so in a body that is not ours (protocol §1.4).
            await _reply(scope, send, write.UNKNOWN, (*_JSON, _CLOSE))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        path = scope["raw_path"]
        found = find(path)
        if found is None:
            for prefix, app in self._mounts.items():
                if path == prefix or path.startswith(prefix + b"/"):
                    scope["extensions"]["speedsms.caller"] = self._caller
                    await app(scope, receive, send)
                    return
            if page := await self._page(scope):
                await _reply(scope, send, page, _TEXT)
                return
        try:
            reply, headers = await self._answer(scope, receive, found)
        except ConnectionReset:
            scope["extensions"]["speedsms.abort"]()
            await receive()  # until the server has seen the end of the connection
            return
        await _reply(
            scope, send, reply, (*_JSON, (b"x-request-id", next(self._request_ids).encode()), *headers)
        )
        self._metrics.http(found[0] if found else "none", reply.status, perf_counter() - began)

    async def _page(self, scope: Scope) -> Reply | None:
        """What operators ask: without credentials, never counted."""
        match scope["raw_path"]:
            case b"/health":
                return Reply(200, b"ok\n", ())
            case b"/ready":
                return Reply(200, b"ready\n", ()) if await self._ready() else Reply(503, b"not ready\n", ())
            case b"/metrics" if self._figures:
                if not self._near(scope):
                    return Reply(403, b"only for this machine and private networks\n", ())
                return Reply(200, await self._figures(), ())
        return None

    def _near(self, scope: Scope) -> bool:
        """Whether the client stands on this machine, in a private network, or is a trusted proxy itself."""
        peer = (scope["client"] or ("",))[0]
        address = credentials.client_address(peer, scope["headers"], self._trusted)
        return not address or credentials.inside(address, self._trusted) or credentials.private(address)

    async def _answer(
        self, scope: Scope, receive: Receive, found: tuple[Endpoint, bytes] | None
    ) -> tuple[Reply, tuple[Header, ...]]:
        """Steps 1 and 2: limits, path, method."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = await read_body(headers, receive)
        if body is None:
            # A client that waits for "100 Continue" sends no body now: what follows would be mistaken for it.
            return write.TOO_LARGE, (_CLOSE,) if b"expect" in headers else ()
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            return write.ENCODED, ()
        if found is None:
            return write.NOT_FOUND, ()
        failpoint.hit("S1")
        endpoint, argument = found
        methods, method = self._methods[endpoint], scope["method"]
        if method == "OPTIONS":
            return write.allowed(methods), ()
        if method not in methods:
            return write.wrong_method(methods), ()
        keys = _fields(scope, headers, b"idempotency-key")
        media = headers.get(b"content-type", b"")
        call = Call(endpoint, method, argument, scope["query_string"], media, keys, body)
        try:
            return await self._authenticate(scope, headers, call)
        except ConnectionReset:
            raise
        except DatabaseAway:
            return self._refused(endpoint, *_INTERNAL), ()
        except Exception:
            # Keeps the connection alive. Accepting promises: what it does not call unknown did not happen.
            log.exception("call_failed", endpoint=endpoint)
            return self._refused(endpoint, *_INTERNAL), ()

    async def _authenticate(
        self, scope: Scope, headers: Mapping[bytes, bytes], call: Call
    ) -> tuple[Reply, tuple[Header, ...]]:
        """Steps 3 and 4: credentials, address."""
        try:
            caller, near = await self._caller(scope, headers, call.query)
        except Stranger as stranger:
            return (write.limited(stranger.wait_s) if stranger.wait_s else write.UNAUTHORIZED), ()
        if not near:
            window = await self._rate.look(caller.account.id, caller.account.rate_limit)
            return self._refused(call.endpoint, Code.IP_LOCKED, Reason.IP_LOCKED), _rate_headers(window)
        return await self._admit(call, caller)

    async def _caller(
        self, scope: Scope, headers: Mapping[bytes, bytes], query: bytes
    ) -> tuple[Caller, bool]:
        """Whose credentials these are, and whether their token may be used from this address.

        Raises Stranger, DatabaseAway.
        """
        address = credentials.client_address((scope["client"] or ("",))[0], scope["headers"], self._trusted)
        try:
            secret, in_query = credentials.secret(_fields(scope, headers, b"authorization"), query)
            if secret is None:
                raise Stranger
            caller = await self._directory.caller(secret)
            if caller is None or (in_query and not caller.token.allow_query_token):
                raise credentials.WrongCredentials  # noqa: TRY301 - one answer for every cause
        except credentials.WrongCredentials as wrong:
            raise Stranger(self._wrong.wait_s(address, self._now().timestamp())) from wrong
        allowed = caller.token.allow_ip
        return caller, not allowed or credentials.inside(address, allowed)

    async def _admit(self, call: Call, caller: Caller) -> tuple[Reply, tuple[Header, ...]]:
        """Step 5, the rate limit; then the endpoint's own steps."""
        window = await self._rate.take(caller.account.id, caller.account.rate_limit)
        if not window.allowed:
            return write.limited(window.reset_s), _rate_headers(window)
        try:
            reply = await self._routes.answer(call, caller)
        except Declined as no:
            reply = self._refused(call.endpoint, no.code, no.reason, no.invalid_phones)
        except Overloaded as wait:
            window = replace(window, reset_s=wait.retry_after_s)
            reply = write.limited(wait.retry_after_s)
        except (DatabaseAway, CommitUnknown):
            reply = self._refused(call.endpoint, *_INTERNAL)
        return reply, _rate_headers(window)

    def _refused(
        self, endpoint: Endpoint, code: Code, reason: Reason, invalid_phones: tuple[str, ...] = ()
    ) -> Reply:
        self._metrics.refused(code, reason)
        return write.refused(endpoint, code, reason, invalid_phones)


def _fields(scope: Scope, headers: Mapping[bytes, bytes], name: bytes) -> tuple[bytes, ...]:
    """Every field of a name. Repeated fields are rare, and only then the list is walked."""
    if name not in headers:
        return ()
    if len(headers) == len(scope["headers"]):
        return (headers[name],)
    return tuple(text for field, text in scope["headers"] if field == name)


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
    """The whole body, or None if it is too large; what is not read here the server discards."""
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" not in headers:
        return b""
    if length is not None and int(length) > MAX_BODY and b"expect" in headers:
        return None
    message = await receive()
    body: bytes = message.get("body", b"")
    size = len(body)
    while message.get("more_body") and size <= _DRAINED:
        message = await receive()
        size += len(message.get("body", b""))
        body = body + message.get("body", b"") if size <= MAX_BODY else b""
    return body if size <= MAX_BODY else None


def _rate_headers(window: Window) -> tuple[Header, ...]:
    return (
        (b"x-rate-limit-limit", b"%d" % window.limit),
        (b"x-rate-limit-remaining", b"%d" % window.remaining),
        (b"x-rate-limit-reset", b"%d" % window.reset_s),
    )


async def _reply(scope: Scope, send: Send, reply: Reply, headers: tuple[Header, ...]) -> None:
    fields = [*headers, *((name.lower().encode(), text.encode()) for name, text in reply.headers)]
    if reply.status != 204:
        fields.append((b"content-length", b"%d" % len(reply.body)))
    # A call that names its connection itself is rare, and the server has to hear of it.
    whole = scope["extensions"].get("speedsms.reply") if _CLOSE not in headers else None
    lines = b"".join([b"%b: %b\r\n" % field for field in fields]) if whole else b""
    if not whole or not whole(int(reply.status), lines, reply.body):
        await send({"type": "http.response.start", "status": int(reply.status), "headers": fields})
        await send({"type": "http.response.body", "body": reply.body})
    failpoint.hit("S6")
