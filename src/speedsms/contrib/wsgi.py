"""An endpoint for webhooks as a WSGI application, for any WSGI server or framework that mounts one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from speedsms.contrib._receiver import MOST_BYTES, Memory, Receiver
from speedsms.webhook import Incoming, Report, Seen

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class WebhookApp:
    """Answers 204 after `on_report` or `on_incoming` returned, and calls them once for each event.

    One that raises is answered with the server's 500, and the event comes again. secret: `whsec_…`, several
    while it is changed. seen: remembers what is done; a `Seen()` of this process unless given. Answers 401 to
    a bad signature, 400 to a broken body, 413 above 64 KiB, 405 to anything but POST.
    """

    def __init__(
        self,
        secret: str | Sequence[str],
        *,
        on_report: Callable[[Report], object] | None = None,
        on_incoming: Callable[[Incoming], object] | None = None,
        seen: Memory | None = None,
    ) -> None:
        self._receiver = Receiver(secret, on_report, on_incoming, Seen() if seen is None else seen)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """One request."""
        status = self._receiver.answer(environ["REQUEST_METHOD"], _headers(environ), _body(environ))
        allow = [("Allow", "POST")] if status == 405 else []
        length = [] if status == 204 else [("Content-Length", "0")]
        start_response(f"{status} {HTTPStatus(status).phrase}", allow + length)
        return []


def _headers(environ: "WSGIEnvironment") -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name.removeprefix("HTTP_").replace("_", "-"), value


def _body(environ: "WSGIEnvironment") -> bytes:
    """Without a length there is no body: reading on would wait for what never comes (PEP 3333)."""
    length = environ.get("CONTENT_LENGTH", "")
    body: bytes = environ["wsgi.input"].read(min(int(length), MOST_BYTES + 1) if length.isdecimal() else 0)
    return body
