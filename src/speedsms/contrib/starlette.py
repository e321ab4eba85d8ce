"""Webhooks and the client in Starlette and FastAPI: a route, and two things to depend on."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.routing import Route

from speedsms import AsyncSpeedSMS
from speedsms.contrib._receiver import MOST_BYTES, Memory, Receiver
from speedsms.contrib.asgi import WebhookApp
from speedsms.webhook import Incoming, Report, Seen


def webhook_route(
    path: str,
    secret: str | Sequence[str],
    *,
    on_report: Callable[[Report], object] | None = None,
    on_incoming: Callable[[Incoming], object] | None = None,
    seen: Memory | None = None,
) -> Route:
    """A route for `Starlette(routes=[…])`, and for FastAPI's `app.router.routes`; as `asgi.WebhookApp`."""
    return Route(path, WebhookApp(secret, on_report=on_report, on_incoming=on_incoming, seen=seen))


class WebhookEvent:
    """Gives an endpoint of FastAPI the verified event: `Annotated[Report | Incoming, Depends(it)]`.

    What is not to be worked on never reaches the endpoint: 401 for a bad signature, 400 for a broken body,
    413 above 64 KiB, 204 for an event that is done. An endpoint that raises gets the event again.
    """

    def __init__(self, secret: str | Sequence[str], *, seen: Memory | None = None) -> None:
        self._receiver = Receiver(secret, seen=Seen() if seen is None else seen)

    async def __call__(self, request: Request) -> AsyncIterator[Report | Incoming]:
        """The event of this request, done when the endpoint returned."""
        with self._receiver.opened(request.method, request.headers, await _body(request)) as (status, event):
            if event is None:
                raise HTTPException(status)
            yield event


def sms_lifespan(
    token: str | None = None, base_url: str | None = None, **options: Any
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, AsyncSpeedSMS]]]:
    """A lifespan with one client for the whole application; arguments as those of `AsyncSpeedSMS`."""

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[dict[str, AsyncSpeedSMS]]:
        async with AsyncSpeedSMS(token, base_url, **options) as client:
            yield {"speedsms": client}

    return lifespan


async def sms_client(connection: HTTPConnection) -> AsyncSpeedSMS:
    """The client of `sms_lifespan`: `Annotated[AsyncSpeedSMS, Depends(sms_client)]`."""
    client: AsyncSpeedSMS = connection.state.speedsms
    return client


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            break
    return body
