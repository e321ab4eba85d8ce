"""Inbound: an incoming message → stored → its account → opt-out → outbox, before the peer is answered."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from speedsms.gateway.channels.base import Incoming
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules import ads
from speedsms.gateway.rules.carriers import carrier_name, carrier_of
from speedsms.gateway.rules.price import unit_price_vnd
from speedsms.gateway.rules.route import SIMULATOR_POOL
from speedsms.gateway.rules.senders import VALIDITY_S, Lane
from speedsms.gateway.store import inbound, messages
from speedsms.gateway.store.accounts import Directory
from speedsms.gateway.store.db import Connection, Database
from speedsms.gateway.store.messages import Draft, TranIds
from speedsms.numbers import magic, parse
from speedsms.text import segments
from speedsms.wire import Kind, SmsType

_NO_TOKEN: Final = 0  # nobody called for it


class Inbound:
    """The stage of one process."""

    def __init__(
        self, db: Database, directory: Directory, now: Callable[[], datetime], metrics: Metrics
    ) -> None:
        self._db = db
        self._directory = directory
        self._now = now
        self._metrics = metrics
        self._ids = TranIds()

    async def put(self, channel_id: int, incoming: Incoming) -> None:
        """Returns after the commit; raises what the database raised, and the peer sends again (CH-5)."""
        number = parse(incoming.sender)
        digits = number.e164 if number else incoming.sender if magic(incoming.sender) else None
        async with self._db.transaction() as session:
            owner = await inbound.owner(session, incoming.reply_to, incoming.recipient)
            opted_out = await inbound.keep(
                session,
                account_id=owner.account_id if owner else None,
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
            if opted_out and owner and digits:
                await self._confirm(session, owner, digits)
        self._metrics.receipt("incoming" if owner is not None else "incoming_unknown")

    async def _confirm(self, session: Connection, owner: inbound.Owner, e164: str) -> None:
        """One message, at the advertiser's cost, says when the wish came and that sending has stopped (§12).

        An account without money or without a price for it sends none: the wish holds all the same.
        """
        now = self._now()
        tariff = await self._directory.tariff()
        carrier = carrier_of(e164, {})
        price_vnd = unit_price_vnd(tariff.prices, SmsType.RANDOM_NUMBER, carrier, e164)
        if price_vnd is None:
            return
        kind, sms_type = Kind.SMS.value, int(SmsType.RANDOM_NUMBER)
        text = segments(ads.confirmation(now))
        pool = await self._directory.pool(tariff, kind, sms_type, carrier_name(carrier, e164), e164)
        draft = Draft(
            account_id=owner.account_id,
            token_id=_NO_TOKEN,
            kind=kind,
            sms_type=sms_type,
            sender="",
            content=text.text,
            encoding=text.encoding.value,
            units=text.units,
            parts=text.parts,
            lane=int(Lane.TRANSACTIONAL),
            validity_s=VALIDITY_S[Lane.TRANSACTIONAL],
            due=now,
            reference=None,
            test=owner.test,
            numbers=[int(e164)],
            entries=[e164],
            carriers=[int(carrier)],
            prices_vnd=[price_vnd * text.parts],
            pools=[SIMULATOR_POOL if owner.test else pool],
            refunds=[False],
        )
        await self._ids.reserve(session, 1)
        draft.name(self._ids.take(), now)
        await messages.accept(session, [draft], now)
