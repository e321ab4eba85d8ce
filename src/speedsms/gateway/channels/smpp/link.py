"""One bind, kept alive: hosts in turn, TLS, bind, back-off (channels §3.5)."""

import asyncio
import hashlib
import ssl
from collections import deque
from typing import Any, Final

from speedsms.gateway.channels.base import Health
from speedsms.gateway.channels.smpp.connection import Connection
from speedsms.gateway.channels.smpp.pdu import Address, Bind, Mode, Status, status_name
from speedsms.gateway.channels.smpp.settings import Settings, host_and_port
from speedsms.gateway.channels.smpp.traffic import Traffic

_BLOCKED_S: Final = 300.0  # a carrier locks out who tries a wrong password again and again
_BLOCKING: Final = (Status.RBINDFAIL, Status.RINVPASWD, Status.RINVSYSID, Status.RINVSYSTYP)
_ALREADY_BOUND_S: Final = 5.0
_STABLE_S: Final = 60.0  # so long up, and the next wait is the first one again
_BINDS, _BINDS_S = 20, 600.0
_JITTER: Final = 0.2


class Blocked(Exception):  # noqa: N818 - what is the matter; it needs a person, and str() says what for
    """The carrier or its certificate is not as the settings say."""


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Always verified, TLS 1.2 or newer; None without `tls`. Raises ValueError with the path of a bad key."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        raise ValueError(f"ca_file: cannot be read as PEM ({type(error).__name__})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_cert:
        try:
            context.load_cert_chain(settings.client_cert)
        except OSError as error:
            raise ValueError(f"client_cert: cannot be read as PEM ({type(error).__name__})") from None
    return context


class Link:
    """Bind number `index` of a channel in one mode; `run` keeps it up until `leave`.

    connection: the bound one.
    """

    def __init__(
        self, index: int, mode: Mode, traffic: Traffic, password: str, context: ssl.SSLContext | None
    ) -> None:
        settings = traffic.settings
        self.index = index
        self.mode = mode
        self._state = "starting"
        self._cause = ""
        self.connection: Connection | None = None
        self._traffic = traffic
        self._settings = settings
        self._context = context
        self._bind = Bind(
            mode=mode,
            system_id=settings.system_id,
            password=password,
            system_type=settings.system_type,
            interface_version=settings.interface_version,
            address=Address(0, 0, settings.address_range),
        )
        self._failures = 0  # in a row: which host is next
        self._wait_s = settings.reconnect_s[0]
        self._binds: deque[float] = deque(maxlen=_BINDS)
        self._running = asyncio.get_running_loop().create_task(self._run())

    @property
    def ready(self) -> Connection | None:
        """The connection, if it is bound and takes parts."""
        return self.connection if self.connection and self.connection.ready else None

    @property
    def trouble(self) -> Health | None:
        """Why it is not up: starting, down or blocked; None if it is."""
        if self.connection:
            return None if self.connection.ready else Health("down", self.connection.cause)
        return Health(self._state, self._cause)

    async def leave(self, within_s: float) -> None:
        """Answered, unbound and closed, at the latest after `within_s` and the time of an unbind."""
        connection = self.connection
        self._running.cancel()
        if connection:
            await connection.leave(within_s)
        await asyncio.wait([self._running])

    async def drop(self) -> None:
        """Closed at once; what is open is unknown."""
        self._running.cancel()
        if self.connection:
            self.connection.drop("stopped")
            await asyncio.wait([self.connection.closed])
        await asyncio.wait([self._running])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._budget_s())
            await asyncio.sleep(await self._live())

    def _budget_s(self) -> float:
        """At most 20 binds in 10 minutes, whatever happens."""
        if len(self._binds) < _BINDS:
            return 0.0
        return max(0.0, self._binds[0] + _BINDS_S - asyncio.get_running_loop().time())

    async def _live(self) -> float:
        """One connection from its beginning to its end; the seconds to wait before the next."""
        now = asyncio.get_running_loop().time
        try:
            connection = await self._connect()
        except Blocked as blocked:
            return self._blocked(str(blocked))
        except (OSError, ValueError) as error:  # ValueError: a host that is no name
            return self._down(f"connect: {_words(error)}")
        try:
            self._binds.append(now())
            connection.bind(self._bind)
            status = await connection.bound
            if status in _BLOCKING:
                return self._blocked(f"bind refused: {status_name(status)}")
            if status == Status.RALYBND:
                self._wait_s = max(self._wait_s, _ALREADY_BOUND_S)
            if status is None:
                return self._down(await asyncio.shield(connection.closed))
            if status:
                return self._down(f"bind refused: {status_name(status)}")
            began = now()
            self._up(connection)
            cause = await asyncio.shield(connection.closed)
            if now() - began >= _STABLE_S:
                self._wait_s = self._settings.reconnect_s[0]
            return self._down(cause)
        finally:
            if self.connection is not connection:
                connection.drop("not bound")

    async def _connect(self) -> Connection:
        """Names are resolved anew. Raises OSError, or Blocked where the certificate is not the right one."""
        settings = self._settings
        host, port = host_and_port(settings.hosts[(self.index + self._failures) % len(settings.hosts)])
        options: dict[str, Any] = {}
        if self._context:
            options = {"ssl": self._context, "server_hostname": settings.server_name or host}
        if settings.local_addr:
            options["local_addr"] = (settings.local_addr, 0)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(settings.connect_s):
                transport, connection = await loop.create_connection(
                    lambda: Connection(self._traffic), host, port, **options
                )
        except ssl.SSLError as error:
            raise Blocked(f"TLS: {getattr(error, 'verify_message', '') or error.reason}") from None
        try:
            self._check_pin(transport)
        except Blocked:
            transport.abort()
            raise
        return connection

    def _check_pin(self, transport: asyncio.BaseTransport) -> None:
        pin = self._settings.pin_sha256
        if self._context and pin:
            certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if hashlib.sha256(certificate).hexdigest() != pin.lower():
                raise Blocked("TLS: the certificate is not the pinned one")

    def _up(self, connection: Connection) -> None:
        self.connection = connection
        self._state, self._cause = "up", ""
        self._failures = 0
        self._traffic.note("link up", link=self.index, mode=self.mode)

    def _down(self, cause: str) -> float:
        """The wait before the next try; each doubles the next one."""
        if self._state != "up":
            self._failures += 1
        self.connection = None
        self._state, self._cause = "down", cause
        self._traffic.counts["reconnects"] += 1
        self._traffic.alarm("link down", cause, link=self.index, mode=self.mode)
        wait_s = self._spread(self._wait_s)
        self._wait_s = min(self._wait_s * 2, self._settings.reconnect_s[1])
        return wait_s

    def _blocked(self, cause: str) -> float:
        self._failures += 1
        self._state, self._cause = "blocked", cause
        self._traffic.alarm("link blocked", cause, link=self.index, mode=self.mode)
        return self._spread(_BLOCKED_S)

    def _spread(self, seconds: float) -> float:
        """±20 %, so that many links do not knock together."""
        return seconds * (1 + _JITTER * (2 * self._traffic.around.random() - 1))


def _words(error: Exception) -> str:
    """What went wrong without addresses, which a message of the system may hold."""
    name = type(error).__name__
    return {"gaierror": "the name cannot be resolved", "TimeoutError": "no connection in time"}.get(
        name, name
    )
