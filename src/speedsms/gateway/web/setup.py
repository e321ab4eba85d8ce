"""`/setup?code=…`: the one-time page that makes the first account; no default password exists (experience
§7).
"""

import base64
import hashlib
import html
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

from speedsms.gateway.store import admin
from speedsms.gateway.store.admin import AdminFailed
from speedsms.gateway.store.db import Database, DatabaseAway, fetch
from speedsms.gateway.web.asgi import Receive, Scope, Send

_BODY_BYTES: Final = 4096
_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:Canvas;color:CanvasText;"
    "color-scheme:light dark}"
    "main{max-width:34rem;margin:3rem auto;padding:0 1rem}label{display:block}"
    "input,button{font:inherit;padding:.5rem;width:100%;box-sizing:border-box}"
    "code{overflow-wrap:anywhere}[role=alert]{border-left:4px solid #b00020;padding-left:.75rem}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest())
_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'sha256-%b'; form-action 'self'; frame-ancestors 'none'"
        % _STYLE_HASH,
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>speedsms — set up</title>
<style>{style}</style>
<main><h1>speedsms</h1>{body}</main></html>"""
_FORM: Final = """<h2>Make the first account</h2>{error}
<form method="post" action="/setup"><input type="hidden" name="code" value="{code}">
<p><label>Name <input name="name" required pattern="[A-Za-z0-9_.@\\-]{{1,64}}" value="{name}"></label>
<p><label>E-mail <input name="email" type="email" required value="{email}"></label>
<p><button>Make the account</button></form>"""
_DONE: Final = """<h2>Account {name} is ready</h2>
<p>Its access token, shown only now:</p><p><code>{token}</code></p>
<p>Next: <code>speedsms account topup {name} 100000 --key first</code>, then prices, a channel and a route;
<code>speedsms doctor</code> tells what is missing.</p>"""


_GONE: Final = """<p>This link was used or has expired.
Start <code>speedsms serve</code> again for a new one.</p>"""


class Setup:
    """An ASGI application."""

    def __init__(self, db: Database, now: Callable[[], datetime]) -> None:
        self._db = db
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = dict(parse_qsl((await _body(receive)).decode("utf8", "replace")))
        fields = (
            fields if scope["method"] == "POST" else dict(parse_qsl(scope["query_string"].decode("latin1")))
        )
        try:
            status, body = await self._answer(scope["method"], fields)
        except DatabaseAway:
            status, body = 503, "<p>The database does not answer. Try again in a moment.</p>"
        page = _PAGE.format(style=_STYLE, body=body).encode()
        headers = [*_HEADERS, (b"content-length", b"%d" % len(page))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page})

    async def _answer(self, method: str, fields: Mapping[str, str]) -> tuple[int, str]:
        code = fields.get("code", "")
        if method not in ("GET", "HEAD", "POST"):
            return 405, "<p>Open the link that `speedsms serve` printed.</p>"
        if not await self._valid(code):
            return 404, _GONE
        if method != "POST":
            return 200, _form(code)
        try:
            return 200, await self._make(code, fields.get("name", ""), fields.get("email", ""))
        except AdminFailed as error:
            return 400, _form(code, fields.get("name", ""), fields.get("email", ""), str(error))

    async def _valid(self, code: str) -> bool:
        rows = await self._db.read(
            "SELECT EXISTS (SELECT FROM setup_link WHERE hash = %(hash)s AND expires_at > %(now)s)",
            hash=_hash(code),
            now=self._now(),
        )
        return bool(rows[0][0])

    async def _make(self, code: str, name: str, email: str) -> str:
        if "@" not in email:
            raise AdminFailed("the e-mail address has no @", "write it as name@example.com")
        token = admin.new_token()
        async with self._db.transaction() as connection:
            used = await fetch(
                connection, "DELETE FROM setup_link WHERE hash = %(hash)s RETURNING 1", {"hash": _hash(code)}
            )
            if not used:
                raise AdminFailed("this link was just used", "start `speedsms serve` again for a new one")
            await admin.create_account(connection, name, email)
            await admin.add_token(connection, name, token, name="first")
        return _DONE.format(name=html.escape(name), token=html.escape(token))


def _form(code: str, name: str = "", email: str = "", error: str = "") -> str:
    said = f"<p role=alert>{html.escape(error)}</p>" if error else ""
    return _FORM.format(code=html.escape(code), name=html.escape(name), email=html.escape(email), error=said)


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        event = await receive()
        body = (body + event.get("body", b""))[:_BODY_BYTES]
        if not event.get("more_body"):
            return body
