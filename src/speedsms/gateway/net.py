"""The one guarded outbound HTTP client: keep-alive POSTs, the address checked on the socket that is opened.

A URL of a customer is hostile input. `target` refuses what can be seen in the text; the address a name
resolves to is judged here, after the look-up and before the connect, and only that address is connected to,
so a name that changes between two look-ups gains nothing (invariants §10, W5, W6). Nothing is decompressed,
no redirect is followed, no proxy of the environment is used.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

import httptools
from msgspec import Struct
from ssrfguard import DEFAULT_DENIED

CONNECT_S: Final = 5  # look-up, TCP and TLS together
TOTAL_S: Final = 15
BODY_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = 16 * 1024
BODY_KEPT: Final = 4096  # what people are shown of a reply
ADDRESSES: Final = 4  # of one name that are tried
IDLE_S: Final = 30
IDLE_CONNECTIONS: Final = 512
_TICK_S: Final = 0.5
LOOKUPS: Final = 64  # threads; a dead name server holds one for as long as the platform likes
URL_CHARACTERS: Final = 2048

# Ports below 1024 other than the web's are refused, and so are the well-known ones of things that trust
# whoever reaches them: databases, brokers, container daemons, proxies.
WEB_PORTS: Final = frozenset({80, 443})
_PORTS: Final = """
1080 1433 1521 2049 2181 2375 2376 2379 3128 3306 3389 4369 5060 5061 5432 5433 5672 5900 5984 6000 6379 6432
6443 7000 7001 8086 9042 9092 9200 9300 10250 11211 27017 50070"""
DENIED_PORTS: Final = frozenset(map(int, _PORTS.split()))

# Our own list, beside the pinned table of ssrfguard: either refusing is enough. Whole translation prefixes
# are refused, whatever address they carry. Python's is_private knows neither 100.64.0.0/10 nor 64:ff9b::/96,
# 2002::/16, fec0::/10 and 224.0.0.0/4.
_BLOCKS: Final = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16
3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"""
_DENIED: Final = tuple(map(ip_network, _BLOCKS.split()))
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMERIC_END: Final = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")
_URL: Final = re.compile(r"[!#-\[\]-~]+")  # printable ASCII without space, quote and backslash

# What a resolver gives: (family, socket address), as socket.getaddrinfo means them.
Address: TypeAlias = tuple[int, tuple[str, int] | tuple[str, int, int, int]]
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]


class Kind(StrEnum):
    """Why there was no answer."""

    DENIED = "denied"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    PROTOCOL = "protocol"


class Failed(Exception):  # noqa: N818 - the house word for what the world refuses
    """No answer came. `detail` is for people."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Answer(Struct, frozen=True):
    """The final status line of a reply; `body` is its first 4 KiB, `retry_after` the header as it came."""

    status: int
    body: bytes
    retry_after: str | None


@dataclass(frozen=True)  # without slots: what follows from the parts is kept beside them
class Target:
    """A URL taken apart. `host` is a name or an address without brackets, `path` begins with `/`."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @cached_property
    def origin(self) -> tuple[bool, str, int]:
        """What a kept connection serves."""
        return self.tls, self.host, self.port

    @cached_property
    def head(self) -> str:
        """How every request begins."""
        return f"POST {self.path} HTTP/1.1\r\nHost: {self.authority}\r\n"


@lru_cache(maxsize=4096)
def target(url: str, *, allow_loopback: bool = False) -> Target:
    """The parts of a customer's URL; used when it is saved and again before each post.

    Raises Failed(DENIED) with what to correct. Names are not looked up here.
    """
    if len(url) > URL_CHARACTERS:
        raise Failed(Kind.DENIED, f"the URL is longer than {URL_CHARACTERS} characters")
    if not _URL.fullmatch(url):
        raise Failed(Kind.DENIED, "the URL may hold visible ASCII only; write other names in their xn-- form")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Failed(Kind.DENIED, "the URL cannot be read") from error
    if parts.scheme not in {"http", "https"}:
        raise Failed(Kind.DENIED, "the URL must begin with https:// or http://")
    if "@" in parts.netloc:
        raise Failed(Kind.DENIED, "the URL may not carry a name or password")
    tls = parts.scheme == "https"
    port = (443 if tls else 80) if port is None else port
    if port in DENIED_PORTS or (port < 1024 and port not in WEB_PORTS):
        raise Failed(Kind.DENIED, f"port {port} is not one that receives webhooks")
    host = _host(parts.netloc, parts.hostname or "", allow_loopback=allow_loopback)
    return Target(tls, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _host(netloc: str, host: str, *, allow_loopback: bool) -> str:
    if netloc.startswith("[") or _NUMERIC_END.search(host):
        # 127.1, 0x7f.1 and 2130706433 are addresses to a resolver: only the full form is taken.
        try:
            address = ip_address(host)
        except ValueError as error:
            raise Failed(Kind.DENIED, "write the address as four decimal numbers or in brackets") from error
        if denied(address, allow_loopback=allow_loopback):
            raise Failed(Kind.DENIED, f"{address} is not a public address")
        return host
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise Failed(Kind.DENIED, "the URL holds no valid host name")
    if not allow_loopback and host.rstrip(".").rpartition(".")[2] == "localhost":
        raise Failed(Kind.DENIED, "localhost is not a public address")
    return host


@lru_cache(maxsize=4096)
def denied(address: IPv4Address | IPv6Address, *, allow_loopback: bool = False) -> bool:
    """Whether this address must not be connected to. An address with a zone (`fe80::1%eth0`) never may."""
    if allow_loopback and any(address in block for block in _LOOPBACK):
        return False
    return (
        getattr(address, "scope_id", None) is not None
        or any(address in block for block in _DENIED)
        or DEFAULT_DENIED.classify(address).blocked
    )


class _Link(asyncio.Protocol):
    """One connection, one POST at a time. The status line is the answer, the rest is for people.

    until: monotonic seconds, when its exchange, or its idle time, is over. all_: where it
    stands while it lives.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, all_: set["_Link"]) -> None:
        self._loop = loop
        self._all = all_
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self.until = monotonic() + CONNECT_S
        self.lost = False
        self._begin()

    def _begin(self) -> None:
        self._status = self._head_bytes = self._body_bytes = 0
        self.reusable = False
        self._retry_after: str | None = None
        self._body = b""

    def exchange(self, request: bytes, until: float) -> "asyncio.Future[Answer]":
        """Send a request and read until its reply ends or has said enough. The future may raise Failed."""
        self._begin()
        self.until = until
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(request)
        return waiter

    @property
    def answered(self) -> bool:
        """Whether a byte of an answer was seen."""
        return self._head_bytes > 0

    def close(self) -> None:
        self.lost = True
        self._transport.abort()

    def expire(self) -> None:
        """Its time is over: for an exchange, as it stands."""
        self._settle("no answer in time", Kind.TIMEOUT)
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's is one
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._all.discard(self)
        self._settle(f"the connection was closed without an answer{f': {exc}' if exc else ''}")

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # nobody asked: whatever it is, it must not become the next answer
            self.close()
            return
        head = b"" if self._status else data[: HEADER_BYTES - self._head_bytes]
        self._head_bytes += len(head)
        try:
            self._parser.feed_data(head)
            if len(head) < len(data):
                if not self._status:
                    self._settle(f"more than {HEADER_BYTES} bytes of headers", Kind.TOO_LARGE)
                    return
                self._parser.feed_data(data[len(head) :])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._settle("the answer is not HTTP")

    def _settle(self, complaint: str = "", kind: Kind = Kind.PROTOCOL) -> None:
        """End the exchange. What goes wrong after the status line does not change the answer."""
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if self._status:
            waiter.set_result(Answer(self._status, self._body, self._retry_after))
        else:
            waiter.set_exception(Failed(kind, complaint))

    # What the parser calls. An interim answer (1xx) is a message of its own: counted, without effect.

    def on_message_begin(self) -> None:
        if self._waiter is None:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._waiter is not None and status >= 200:
            self._status = status

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if len(self._body) < BODY_KEPT:
            self._body = (self._body + body)[:BODY_KEPT]
        if self._body_bytes > BODY_BYTES:
            self._settle()

    def on_message_complete(self) -> None:
        if self._status and self._waiter is not None:
            self.reusable = self._parser.should_keep_alive()
            self._settle()


class Net:
    """POSTs to customers' URLs. One per process.

    resolve: how names become addresses (the platform's way by default); what it gives is not trusted.
    allow_loopback: for the demo, whose receiver is on this machine.
    timeout_s: from the look-up to the last byte.
    """

    def __init__(
        self, *, allow_loopback: bool = False, timeout_s: float = TOTAL_S, resolve: Resolve | None = None
    ) -> None:
        self._allow_loopback = allow_loopback
        self._total_s = timeout_s
        self._connect_s = min(CONNECT_S, timeout_s)
        self._threads = ThreadPoolExecutor(LOOKUPS, "lookup")
        self._resolve = resolve or self._look_up
        self._tls = ssl.create_default_context()
        self._links: set[_Link] = set()
        self._idle: dict[tuple[bool, str, int], list[_Link]] = {}  # of _links, by what they serve
        self._idle_count = 0
        # One clock for all links: a timer for each post costs more than the post.
        self._tick_s = min(_TICK_S, timeout_s / 4)
        self._ticking: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for links in self._idle.values():
            for link in links:
                link.close()
        self._idle.clear()
        self._idle_count = 0
        if self._ticking:
            self._ticking.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST once. Raises Failed; then nothing is known of what the receiver did."""
        to = target(url, allow_loopback=self._allow_loopback)
        request = _request(to, body, headers)
        until = monotonic() + self._total_s
        link = self._take(to)
        if link:
            try:
                return await link.exchange(request, until)
            except Failed as failed:
                # A kept connection may have been closed by the other side just now; a new one tells.
                if link.answered or failed.kind is Kind.TIMEOUT:
                    raise
            finally:
                self._give_back(to, link)
        link = await self._connect(to)
        try:
            return await link.exchange(request, until)
        finally:
            self._give_back(to, link)

    def _tick(self) -> None:
        """Have the clock look again, as long as there is a link to look at."""
        if self._ticking is None and self._links:
            self._ticking = asyncio.get_running_loop().call_later(self._tick_s, self._look)

    def _look(self) -> None:
        """End the exchanges and the idle links whose time is over."""
        self._ticking = None
        now = monotonic()
        for link in [link for link in self._links if link.until <= now]:
            link.expire()
        for origin, links in list(self._idle.items()):
            kept = [link for link in links if not link.lost]
            self._idle_count -= len(links) - len(kept)
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        self._tick()

    def _take(self, to: Target) -> _Link | None:
        links = self._idle.get(to.origin)
        while links:
            link = links.pop()
            self._idle_count -= 1
            if not link.lost:
                return link
        return None

    def _give_back(self, to: Target, link: _Link) -> None:
        if link.lost or not link.reusable or self._idle_count >= IDLE_CONNECTIONS:
            link.close()
            return
        link.until = monotonic() + IDLE_S
        self._idle_count += 1
        if links := self._idle.get(to.origin):
            links.append(link)
        else:
            self._idle[to.origin] = [link]

    async def _connect(self, to: Target) -> _Link:
        try:
            async with asyncio.timeout(self._connect_s):
                addresses = await self._allowed(to)
                return await self._first(to, addresses)
        except TimeoutError:
            raise Failed(Kind.TIMEOUT, f"no connection within {self._connect_s} s") from None

    async def _allowed(self, to: Target) -> list[Address]:
        """The addresses of a name that may be connected to, without those that may not."""
        try:
            found = await self._resolve(to.host, to.port)
        except (OSError, UnicodeError) as error:
            raise Failed(Kind.DNS, f"{to.host} has no address: {error}") from error
        allowed = [
            address
            for address in found
            if not denied(ip_address(address[1][0]), allow_loopback=self._allow_loopback)
        ]
        if not allowed:
            raise Failed(Kind.DENIED, f"{to.host} has no public address")
        return allowed[:ADDRESSES]

    async def _first(self, to: Target, addresses: Sequence[Address]) -> _Link:
        """A link to the first address that answers. Each has its share of the time to do so."""
        complaint: Failed = Failed(Kind.CONNECT, f"{to.authority} did not answer")
        for address in addresses:
            try:
                async with asyncio.timeout(self._connect_s / len(addresses)):
                    return await self._open(to, address)
            except ssl.SSLError as error:
                complaint = Failed(Kind.TLS, f"{to.authority}: {error.reason or error}")
            except TimeoutError:
                complaint = Failed(Kind.TIMEOUT, f"{to.authority} did not answer within {self._connect_s} s")
            except OSError as error:
                complaint = Failed(Kind.CONNECT, f"{to.authority}: {error.strerror or error}")
        raise complaint

    async def _open(self, to: Target, address: Address) -> _Link:
        loop = asyncio.get_running_loop()
        family, where = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, where)
            _, link = await loop.create_connection(
                lambda: _Link(loop, self._links),
                sock=sock,
                ssl=self._tls if to.tls else None,
                server_hostname=to.host.rstrip(".") if to.tls else None,
            )
        except BaseException:
            sock.close()
            raise
        self._tick()
        return link

    async def _look_up(self, host: str, port: int) -> Sequence[Address]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [(family, where) for family, _, _, _, where in found]  # type: ignore[misc]  # INET and INET6 only


def _request(to: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    values = "".join(headers.values())
    if not (values.isascii() and values.isprintable()):
        raise ValueError("a header value may hold visible ASCII only")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{to.head}{lines}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body
