"""The wall to httpx2: what both clients ask it for, and what its replies and exceptions mean to us.

Redirects are never followed: they would carry the token elsewhere. Certificates are always verified. Proxies,
certificates and passwords named in the environment are not looked at, since they would silently change where
the token goes; who needs a proxy passes a `transport`.
"""

import os
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import httpx2

from speedsms import __version__, settings
from speedsms._calls import Peer, Send
from speedsms._replies import Failure, Judge, Response
from speedsms.catalogue import Language
from speedsms.errors import ConfigurationError
from speedsms.results import Exchange

_LARGEST_REPLY: Final = 4 * 1024 * 1024  # bytes; the longest documented reply has a few thousand
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Client:
    """What both clients are made of."""

    def __init__(
        self,
        token: str | None = None,
        base_url: str | None = None,
        *,
        profile: str | None = None,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 5.0,
        retries: int = 2,
        honours_keys: bool | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        language: Language = "en",
        allow_http: bool = False,
        on_exchange: Callable[[Exchange], None] | None = None,
        transport: httpx2.BaseTransport | httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        found = settings.load(token, base_url, profile=profile, allow_http=allow_http)
        judge = Judge(found.token, language, honours_keys=honours_keys)
        self._connect_timeout_s = connect_timeout_s
        self._peer = Peer(found.base_url, found.prefix, judge, retries, timeout_s, on_exchange)
        self._options: dict[str, Any] = {
            "base_url": found.origin,
            "auth": httpx2.BasicAuth(found.token, "x"),
            "headers": {"User-Agent": f"speedsms/{__version__}", "Accept-Encoding": "identity"},
            "verify": _trusted(ca_file, found.origin),
            "trust_env": False,
            "follow_redirects": False,
            "transport": transport,
        }
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        """The address, and nothing that must not be shown."""
        return f"{type(self).__name__}(base_url={self._peer.base_url!r})"

    def _asked(self, step: Send) -> dict[str, Any]:
        """A step in the words of the HTTP client."""
        request = step.request
        headers = {"Content-Type": request.content_type, "Idempotency-Key": request.key}
        within_s = max(step.timeout_s, 0.001)
        return {
            "method": request.method,
            "url": request.path,
            "content": request.body or None,
            "headers": {name: text for name, text in headers.items() if text},
            "timeout": httpx2.Timeout(within_s, connect=min(self._connect_timeout_s, within_s)),
        }


def _trusted(ca_file: str | os.PathLike[str] | None, origin: str) -> ssl.SSLContext | bool:
    if ca_file is None and origin.startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and spares reading 140 authorities
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=os.fspath(ca_file))
    except OSError as error:
        raise ConfigurationError(f"ca_file {os.fspath(ca_file)} cannot be read: {error.strerror}") from None


def response(reply: httpx2.Response, body: bytearray, began: float) -> Response:
    headers = {name.lower(): text for name, text in reply.headers.items()}
    return Response(reply.status_code, headers, bytes(body), time.monotonic() - began)


def keep(body: bytearray, chunk: bytes, deadline: float) -> None:
    """Keep a piece of a reply. Raises ReadError: a reply without an end is none."""
    body += chunk
    if len(body) > _LARGEST_REPLY or time.monotonic() > deadline:
        raise httpx2.ReadError("the reply does not end")


def failure(error: Exception, began: float) -> Failure:
    untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
    text = f"{type(error).__name__} {error}".strip()
    return Failure(text, not isinstance(error, _NOT_SENT), time.monotonic() - began, untrusted)
