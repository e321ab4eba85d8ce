"""The API process: directory, rate window, acceptor with its committer, application, HTTP server."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from speedsms.contract.content import ContentRules
from speedsms.contract.senders import DEFAULT_MAX_PARTS, Lane
from speedsms.gateway import metrics as figures
from speedsms.gateway.config import Settings
from speedsms.gateway.flow.accept import Acceptor
from speedsms.gateway.flow.inbound import Inbound
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.store.accounts import Directory
from speedsms.gateway.store.db import Database, DatabaseAway, listen, persist
from speedsms.gateway.store.nodes import Node
from speedsms.gateway.web import http
from speedsms.gateway.web.api.routes import Routes
from speedsms.gateway.web.application import Api
from speedsms.gateway.web.rate import Rate
from speedsms.gateway.web.setup import Setup
from speedsms.gateway.web.simulator import Inbox
from speedsms.gateway.web.v2 import V2
from speedsms.wire import SmsType

_COUNT_NODES_S = 5.0
_COMMIT_S = 1.0  # at the end, for calls whose connection is gone


def _content(settings: Settings) -> ContentRules:
    return ContentRules(
        DEFAULT_MAX_PARTS | {SmsType(t): parts for t, parts in settings.sms.max_parts.items()},
        frozenset(map(SmsType, settings.sms.gsm_only)),
        settings.ads.optout_text,
    )


def _validity(settings: Settings) -> dict[Lane, int]:
    named = settings.validity
    return {
        Lane.OTP: named.otp_s,
        Lane.VOICE: named.voice_s,
        Lane.TRANSACTIONAL: named.transactional_s,
        Lane.BULK: named.bulk_s,
    }


class ApiProcess:
    """The parts of one API process, wired."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        *,
        now: Callable[[], datetime],
        metrics_dir: Path | None = None,
    ) -> None:
        self.db = db
        self.metrics = Metrics()
        self.directory = Directory(db)
        self.acceptor = Acceptor(
            db,
            self.directory,
            now=now,
            metrics=self.metrics,
            content=_content(settings),
            validity_s=_validity(settings),
            batch=settings.accept.batch,
            queue=settings.accept.queue,
        )
        self._nodes = 1
        self.node = Node(db, "api", asyncio.get_running_loop().time)
        rate = Rate(db, now, lambda: self._nodes)
        self.v2 = V2(db, rate, now)
        self.app = Api(
            directory=self.directory,
            routes=Routes(db, self.acceptor, now),
            rate=rate,
            now=now,
            metrics=self.metrics,
            ready=self._ready,
            figures=partial(figures.gather, metrics_dir)
            if metrics_dir and settings.metrics.enabled
            else None,
            mounts={
                "/sim/api": Inbox(db, Inbound(db, self.directory, now, self.metrics), now),
                "/setup": Setup(db, now),
                "/v2": self.v2,
            },
            get_send=settings.compat.get_send,
            trusted_proxies=settings.http.trusted_proxies,
        )

    async def _ready(self) -> bool:
        try:
            await self.db.read("SELECT 1")
        except DatabaseAway:
            return False
        return True

    def _hear(self, _channel: str, _payload: str) -> None:
        self.directory.forget()

    async def _count_nodes(self) -> None:
        """The larger rate windows are shared among the living API processes (protocol §7)."""
        while True:
            rows = await self.db.read("SELECT count(*) FROM node WHERE role = 'api' AND lease_until > now()")
            self._nodes = max(1, rows[0][0])
            await asyncio.sleep(_COUNT_NODES_S)

    async def run(
        self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], stop: asyncio.Event
    ) -> None:
        """Serve until told to stop; then finish commits, answer, close."""
        loops = [
            asyncio.create_task(work)
            for work in (
                self.acceptor.run(),
                self.node.run(),
                self.v2.run(),
                persist(lambda: listen(self.db, ("config",), self._hear)),
                persist(self._count_nodes),
            )
        ]
        server = asyncio.create_task(serve(stop))
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self.v2.close())
        done, _ = await asyncio.wait([server, *loops], return_when=asyncio.FIRST_COMPLETED)
        try:
            for ended in done:
                ended.result()  # a loop never ends by itself: whatever it raised ends the process
            with suppress(TimeoutError):
                async with asyncio.timeout(_COMMIT_S):
                    await self.acceptor.drain()
        finally:
            for task in (server, stopped, *loops):
                task.cancel()
            await asyncio.gather(server, stopped, *loops, return_exceptions=True)
            await self.db.close()


async def run(
    settings: Settings, stop: asyncio.Event, metrics_dir: Path, sock: socket.socket, name: str
) -> None:
    """The life of an API process on a socket that it shares with its siblings."""
    db = Database(settings.database.url, name="speedsms api", prepare=settings.database.prepare)
    process = ApiProcess(db, settings, now=lambda: datetime.now(UTC), metrics_dir=metrics_dir)
    figures_server = await process.metrics.serve(metrics_dir, name)
    cap = settings.http.connections_per_address
    try:
        await process.run(
            lambda until: http.serve(process.app, sock, until, connections_per_address=cap), stop
        )
    finally:
        figures_server.close()
