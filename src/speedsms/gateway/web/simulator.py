"""`/sim/api`: the phones of the simulator over REST (channels §7, SI-6; experience §5).

It answers only callers on this machine and shows only what went out through a simulator.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import uuid4

import msgspec

from speedsms.contract.simulation import SCRIPTS
from speedsms.gateway.channels.base import Incoming
from speedsms.gateway.flow.inbound import Inbound
from speedsms.gateway.store import sim
from speedsms.gateway.store.db import Database, DatabaseAway
from speedsms.gateway.web.asgi import Receive, Scope, Send
from speedsms.numbers import magic, parse

MOST_WAIT_S: Final = 60
BODY_BYTES: Final = 16 * 1024
_CODE: Final = re.compile(r"(?<![0-9])[0-9]{4,8}(?![0-9])")
_PHONE: Final = re.compile(r"/sim/api/phones/([^/]+)(?:/(otp|reply|outcome))?")
_POLL_S: Final = 0.1


class _Reply(msgspec.Struct, forbid_unknown_fields=True):
    content: str


class _Outcome(msgspec.Struct, forbid_unknown_fields=True):
    outcome: str
    count: int | None = None


class Inbox:
    """An ASGI application."""

    def __init__(self, db: Database, inbound: Inbound, now: Callable[[], datetime]) -> None:
        self._db = db
        self._inbound = inbound
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        try:
            status, answer = await self._answer(scope, body)
        except (msgspec.DecodeError, ValueError) as error:
            status, answer = 400, {"message": str(error)}
        except DatabaseAway:
            status, answer = 503, {"message": "the database does not answer"}
        raw = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})

    async def _answer(self, scope: Scope, body: bytes | None) -> tuple[int, Any]:
        peer = scope.get("client")
        if not peer or not ip_address(peer[0]).is_loopback:
            return 403, {"message": "the simulator answers only callers on this machine"}
        if body is None:
            return 413, {"message": f"a body has at most {BODY_BYTES} bytes"}
        query = dict(parse_qsl(scope["query_string"].decode("latin1")))
        method, path = scope["method"], scope["path"]
        if path == "/sim/api/messages":
            return await self._messages(method, query)
        if found := _PHONE.fullmatch(path):
            if (phone := _number(found[1])) is None:
                return 404, {"message": f"{found[1]} is no phone number"}
            return await self._phone(method, phone, found[2], query, body)
        return 404, {"message": "see docs/how-to/simulator.md"}

    async def _messages(self, method: str, query: dict[str, str]) -> tuple[int, Any]:
        if method == "GET":
            return 200, await sim.messages(self._db, text=query.get("q", ""))
        return 405, {"message": "GET lists the last 500 messages; ?q= searches"}

    async def _phone(
        self, method: str, phone: str, what: str | None, query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        match method, what:
            case "GET", None:
                return 200, await sim.messages(self._db, number=int(phone))
            case "GET", "otp":
                return await self._otp(phone, min(float(query.get("wait", "0")), MOST_WAIT_S))
            case "POST", "reply":
                reply = msgspec.json.decode(body, type=_Reply)
                return await self._reply(phone, reply.content)
            case "POST", "outcome":
                asked = msgspec.json.decode(body, type=_Outcome)
                if asked.outcome not in SCRIPTS:
                    return 400, {"message": f"outcome is one of {', '.join(SCRIPTS)}"}
                await sim.ask(self._db, phone, asked.outcome, asked.count)
                return 200, {"message": f"from now on: {asked.outcome}"}
        return 405, {"message": "GET …, GET …/otp?wait=s, POST …/reply, POST …/outcome"}

    async def _reply(self, phone: str, content: str) -> tuple[int, Any]:
        newest = await sim.newest(self._db, int(phone))
        if newest is None:
            return 404, {"message": "this phone has received nothing that it could answer"}
        message, sender = newest
        incoming = Incoming(phone, sender, content, self._now(), f"phone-{uuid4()}", reply_to=message)
        await self._inbound.put(await sim.channel_id(self._db), incoming)
        return 202, {"message": "sent"}

    async def _otp(self, phone: str, wait_s: float) -> tuple[int, Any]:
        """The newest code of 4 to 8 digits this phone got; waits for one that arrives within wait_s."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            for message in await sim.messages(self._db, number=int(phone), most=5):
                if found := _CODE.search(message["content"]):
                    return 200, {"otp": found[0], "tranId": message["tranId"]}
            if asyncio.get_running_loop().time() >= deadline:
                return 404, {"message": "no code has arrived"}
            await asyncio.sleep(_POLL_S)


def _number(entry: str) -> str | None:
    if (number := parse(entry)) is not None:
        return number.e164
    trick = magic(entry)
    return f"840000000{trick:02d}" if trick else None


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    body: bytes = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if len(body) > BODY_BYTES:
            return None
        if not event.get("more_body"):
            return body
