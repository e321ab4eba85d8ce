"""Inbound: an incoming message → stored → its account → opt-out → outbox, before the peer is answered."""

from collections.abc import Callable
from datetime import datetime

from speedsms.gateway.channels.base import Incoming
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules import ads
from speedsms.gateway.store import inbound
from speedsms.gateway.store.db import Database
from speedsms.numbers import magic, parse


class Inbound:
    def __init__(self, db: Database, now: Callable[[], datetime], metrics: Metrics) -> None:
        self._db = db
        self._now = now
        self._metrics = metrics

    async def put(self, channel_id: int, incoming: Incoming) -> None:
        """Returns after the commit; raises what the database raised, and the peer sends again (CH-5)."""
        number = parse(incoming.sender)
        digits = number.e164 if number else incoming.sender if magic(incoming.sender) else None
        async with self._db.transaction() as session:
            owner = await inbound.owner(session, incoming.reply_to, incoming.recipient)
            await inbound.keep(
                session,
                account_id=owner,
                channel_id=channel_id,
                sender=incoming.sender,
                number=int(digits) if digits else None,
                recipient=incoming.recipient,
                content=incoming.text,
                partial=incoming.partial,
                dedup_key=incoming.dedup_key,
                raw=incoming.raw,
                peer_time=incoming.peer_time,
                received_at=incoming.received_at,
                opts_out=ads.opts_out(incoming.text),
                at=self._now(),
            )
        self._metrics.receipt("incoming" if owner is not None else "incoming_unknown")
