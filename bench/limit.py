"""The limit beside every figure: the same request decoded and answered by the bare server, nothing stored."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

Message = MutableMapping[str, Any]


class Request(msgspec.Struct, frozen=True):
    """The body of `POST sms/send`."""

    to: list[str]
    content: str
    sms_type: int
    sender: str


_decode = msgspec.json.Decoder(Request).decode


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    assert scope["type"] == "http"
    chunks = [message := await receive()]
    while message["more_body"]:
        chunks.append(message := await receive())
    count = len(_decode(b"".join(chunk["body"] for chunk in chunks)).to)
    data = {"tranId": 1, "totalSMS": count, "totalPrice": 250 * count, "invalidPhone": []}
    body = msgspec.json.encode({"status": "success", "code": "00", "data": data})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
