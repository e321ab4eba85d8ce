"""Inbound: an incoming message → stored → its account → opt-out → outbox, before the peer is answered."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

from speedsms.contract import ads
from speedsms.contract.carriers import carrier_name, carrier_of
from speedsms.contract.price import unit_price_vnd
from speedsms.contract.senders import VALIDITY_S, Lane
from speedsms.gateway.channels.base import Incoming
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules import alphabet
from speedsms.gateway.rules.route import SIMULATOR_POOL
from speedsms.gateway.store import inbound, inbound_parts, messages
from speedsms.gateway.store.accounts import Directory
from speedsms.gateway.store.db import Connection, Database, persist
from speedsms.gateway.store.inbound_parts import Part
from speedsms.gateway.store.messages import Draft, TranIds
from speedsms.numbers import magic, parse
from speedsms.text import segments
from speedsms.wire import Kind, SmsType

_NO_TOKEN: Final = 0  # nobody called for it
_PATIENCE: Final = timedelta(minutes=10)
_LOOK_S: Final = 5.0
_MISSING: Final = "…"


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
        self._open: set[asyncio.Future[None]] = set()

    def put(self, channel_id: int, incoming: Incoming) -> asyncio.Future[None]:
        """Ends after the commit, or with what the database raised: then the peer sends again (CH-5)."""
        stored = asyncio.ensure_future(self._put(channel_id, incoming))
        self._open.add(stored)
        stored.add_done_callback(self._open.discard)
        return stored

    async def run(self) -> None:
        """Deliver what waited too long for its missing parts (SM-43)."""
        await persist(self._deliver_partial)

    async def _deliver_partial(self) -> None:
        while True:
            while await self.deliver_partial():
                pass
            await asyncio.sleep(_LOOK_S)

    async def deliver_partial(self) -> bool:
        """Deliver one long message that stayed incomplete; whether there was one."""
        async with self._db.transaction() as session:
            parts = await inbound_parts.waited(session, self._now() - _PATIENCE, self._now())
            if parts:
                await self._deliver(session, parts)
        return bool(parts)

    async def _put(self, channel_id: int, incoming: Incoming) -> None:
        async with self._db.transaction() as session:
            if incoming.piece is None:
                await self._keep(session, channel_id, incoming)
                return
            piece = incoming.piece
            part = Part(
                channel_id,
                incoming.sender,
                incoming.recipient,
                piece.reference,
                piece.width,
                piece.total,
                piece.part,
                piece.octets,
                piece.alphabet,
                incoming.text,
                incoming.dedup_key,
                incoming.raw,
                incoming.peer_time,
                incoming.received_at,
            )
            for arrived in await inbound_parts.add(session, part):
                await self._deliver(session, arrived)

    async def _deliver(self, session: Connection, parts: Sequence[Part]) -> None:
        """One message of the parts that are there."""
        first = parts[0]
        await self._keep(
            session,
            first.channel_id,
            Incoming(
                sender=first.sender,
                recipient=first.recipient,
                text=_joined(parts),
                received_at=parts[-1].received_at,
                dedup_key=f"{first.dedup_key} of {len(parts)} since {first.received_at:%Y%m%d%H%M%S%f}",
                partial=len(parts) < first.total,
                peer_time=first.peer_time,
                raw=first.raw,
            ),
        )

    async def _keep(self, session: Connection, channel_id: int, incoming: Incoming) -> None:
        number = parse(incoming.sender)
        digits = number.e164 if number else incoming.sender if magic(incoming.sender) else None
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


def _joined(parts: Sequence[Part]) -> str:
    """Runs of neighbours are joined as octets, then decoded: a character may straddle two parts (SM-42)."""
    octets = {part.part: part.octets for part in parts}
    runs: list[list[int]] = []
    for number in sorted(octets):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [
        alphabet.decode(b"".join(octets[n] for n in run), cast("alphabet.Name", parts[0].alphabet))[0]
        for run in runs
    ]
    text = _MISSING.join(texts)
    before = _MISSING if runs[0][0] > 1 else ""
    after = _MISSING if runs[-1][-1] < parts[0].total else ""
    return (before + text + after).replace("\0", "")  # nothing a database can store
