"""Accept: sender → text → numbers → price → group commit → reply (protocol §3 steps 9 to 12, design §5).

While one commit is in flight, arrivals gather; when it returns, all that gathered go in the next. A request
that needs a look at what others did (a spend cap, three advertisements a day, the duplicate guard, an account
whose batch did not fit) goes alone through a transaction that locks its account first.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from psycopg.errors import UniqueViolation

from speedsms.contract import ads, recipients
from speedsms.contract.carriers import Carrier, carrier_name, carrier_of
from speedsms.contract.content import ContentRules, composed
from speedsms.contract.declined import Declined
from speedsms.contract.endpoints import KEY_LIFE
from speedsms.contract.price import unit_price_vnd
from speedsms.contract.recipients import Recipients
from speedsms.contract.request import Accepted, Key, Reply, Send
from speedsms.contract.senders import VALIDITY_S, Lane, Sender, lane_of, resolve
from speedsms.contract.simulation import REFUSALS
from speedsms.gateway import failpoint
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.rules.route import SIMULATOR_POOL
from speedsms.gateway.store import accounts, guards, messages
from speedsms.gateway.store.accounts import Caller, Directory, Tariff, Terms
from speedsms.gateway.store.db import CommitUnknown, Connection, Database, DatabaseAway, settle_backend
from speedsms.gateway.store.messages import Draft, TranIds
from speedsms.numbers import VIETNAM, country_code
from speedsms.text import Segments
from speedsms.wire import Code, Kind, Reason, SmsType

UNKNOWN_FOR_S: Final = 10.0  # how long the outcome of a lost commit is looked for (protocol D3)
# After a commit of several messages, but not of many, the next one waits a little for more: a commit costs
# the CPU of ten messages, and a machine without head-room answers late. A caller who is alone never waits.
_CROWD: Final = (4, 100)
_REST_S: Final = 0.003
_UNKNOWN: Final = 12  # the magic number whose first call ends as unknown (protocol §16)
_DUPLICATES: Final = "duplicate"  # the scope of the guard's keys; no endpoint has this name


class Overloaded(Exception):  # noqa: N818 - it names the state of this process
    """The queue before the committer is full; nothing was stored."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many requests wait for a commit; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class OutcomeUnknown(Exception):  # noqa: N818 - it names an outcome
    """The commit's fate is not known; the same key will tell (protocol D3)."""


class Reused(Exception):  # noqa: N818 - it names the answer
    """The key was used with another request (422)."""


class InFlight(Exception):  # noqa: N818 - it names the answer
    """The first call with this key has not finished (409)."""


class ConnectionReset(Exception):  # noqa: N818 - magic number 84000000013
    """The request was accepted, and the connection is to be cut without a reply."""


class _Pending(Struct):
    """A draft that waits for its commit."""

    draft: Draft
    caller: Caller
    accepted: Callable[[Draft], Reply]
    to: Recipients
    reply: asyncio.Future[Reply]
    duplicate_key: str = ""


class Acceptor:
    """The accept stage of one process; `run` is its committer."""

    def __init__(
        self,
        db: Database,
        directory: Directory,
        *,
        now: Callable[[], datetime],
        metrics: Metrics,
        content: ContentRules,
        validity_s: Mapping[Lane, int] = VALIDITY_S,
        batch: int = 500,
        queue: int = 10_000,
    ) -> None:
        self._db = db
        self._directory = directory
        self._now = now
        self._metrics = metrics
        self._content = content
        self._validity_s = validity_s
        self._batch = batch
        self._queue = queue
        self._ids = TranIds()
        self._waiting: deque[_Pending] = deque()
        self._waiting_messages = 0
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()  # asking for it is a system call each time
        self._keys_in_flight: set[tuple[int, str, str]] = set()
        self._played: set[tuple[int, str]] = set()
        self._alone: set[asyncio.Task[None]] = set()
        self._one_by_one = asyncio.Semaphore(2)

    # ------------------------------------------------------------------------------------ step 7

    async def replay(self, caller: Caller, key: Key) -> Reply | None:
        """What was answered under this key before. Raises Reused, InFlight, DatabaseAway."""
        if (caller.account.id, key.endpoint, key.key) in self._keys_in_flight:
            raise InFlight
        async with self._db.session() as session:
            try:
                return await self._replayed(session, caller.account.id, key)
            except CommitUnknown as lost:
                raise DatabaseAway(str(lost)) from lost

    async def _replayed(self, session: Connection, account_id: int, key: Key) -> Reply | None:
        found = await messages.replayed(session, account_id, key.endpoint, key.key)
        if found is None:
            return None
        if found.at <= self._now() - KEY_LIFE:
            await messages.forget_key(session, account_id, key.endpoint, key.key)
            return None
        if found.fingerprint != key.fingerprint:
            raise Reused
        return _stored_reply(found)

    # ------------------------------------------------------------------------------------ steps 9 to 12

    async def send(
        self, caller: Caller, send: Send, key: Key | None, render: Callable[[Accepted], Reply]
    ) -> Reply:
        """Take a request whole or not at all; returns after COMMIT.

        Raises Declined, Overloaded, OutcomeUnknown, InFlight, Reused.
        """
        try:
            return await self._send(caller, send, key, render)
        except DatabaseAway as error:
            raise Declined(Code.INTERNAL, Reason.INTERNAL, str(error)) from error

    async def _send(
        self, caller: Caller, send: Send, key: Key | None, render: Callable[[Accepted], Reply]
    ) -> Reply:
        account, sms_type = caller.account, SmsType(send.sms_type)
        sender = resolve(sms_type, send.sender, account.allowed)
        text = self._text(caller, send, sms_type, sender)
        tariff = await self._directory.tariff()
        to = await self._recipients(caller, send, sms_type)
        self._play_refusal(caller, to, key)
        draft = await self._draft(
            caller, send, sms_type=sms_type, sender=sender, text=text, to=to, tariff=tariff
        )
        if not draft.numbers:
            raise to.none_left()
        failpoint.hit("S2")
        changed = (*send.notices, *text.changed)

        def accepted(done: Draft) -> Reply:
            notices = (*changed, *to.counted())
            count = len(done.numbers)
            return render(
                Accepted(done.tran_id, count, done.total_vnd, tuple(to.invalid), done.parts * count, notices)
            )

        pending = _Pending(draft, caller, accepted, to, self._loop.create_future())
        if key:
            return await self._keyed(pending, key)
        reply = await self._enqueue(pending, alone=self._guarded(pending))
        await self._play_acceptance(pending)
        return reply

    async def _keyed(self, pending: _Pending, key: Key) -> Reply:
        scope = (pending.draft.account_id, key.endpoint, key.key)
        if scope in self._keys_in_flight:
            raise InFlight
        self._keys_in_flight.add(scope)
        try:
            pending.draft.key = (key.endpoint, key.key, key.fingerprint)
            reply = await self._enqueue(pending, alone=self._needs_look(pending))
            await self._play_acceptance(pending)
            return reply
        finally:
            self._keys_in_flight.discard(scope)

    def _text(self, caller: Caller, send: Send, sms_type: SmsType, sender: Sender) -> Segments:
        account = caller.account
        return composed(
            send.content,
            sms_type,
            sender,
            caller.token.text_mode or account.text_mode,
            self._content,
            label=account.ads_label,
            allow_other_types=account.ads_allow_other_types,
        )

    async def _recipients(self, caller: Caller, send: Send, sms_type: SmsType) -> Recipients:
        account = caller.account
        to = recipients.read(send.entries, account.countries, test=caller.token.test)
        if account.has_suppressions and to.numbers:
            found = await accounts.suppressed(self._db, account.id, [n.e164 for n in to.numbers])
            to.suppress(found, sms_type)
        return to

    async def _draft(
        self,
        caller: Caller,
        send: Send,
        *,
        sms_type: SmsType,
        sender: Sender,
        text: Segments,
        to: Recipients,
        tariff: Tariff,
    ) -> Draft:
        due = send.send_at
        if sms_type is SmsType.ADVERTISING:
            now = self._now()
            due = ads.release_time(max(due or now, now))
        draft = Draft(
            account_id=caller.account.id,
            token_id=caller.token.id,
            kind=Kind.SMS.value,
            sms_type=int(sms_type),
            sender=sender.id,
            content=text.text,
            encoding=text.encoding.value,
            units=text.units,
            parts=text.parts,
            lane=0,
            validity_s=0,
            due=due,
            reference=send.reference,
            test=caller.token.test,
        )
        await self._price(draft, to, tariff)
        lane = lane_of(Kind.SMS, sms_type, sender.id, len(draft.numbers))
        draft.lane = int(lane)
        draft.validity_s = send.validity_s or self._validity_s[lane]
        return draft

    async def _price(self, draft: Draft, to: Recipients, tariff: Tariff) -> None:
        """Freeze carrier, price and pool of each message; a number without a price row is invalid (§11)."""
        ported = (
            await accounts.moved(self._db, [n.e164 for n in to.numbers]) if tariff.has_portability else {}
        )
        for number, entry in zip(to.numbers, to.entries, strict=True):
            e164 = number.e164
            # A carrier and a country are told by five digits; a ported number goes with its new carrier.
            group = e164 if tariff.by_prefix else ported.get(e164) or e164[:5]
            terms = tariff.frozen.get((draft.sms_type, group))
            if terms is None:
                terms = await self._terms(tariff, draft.sms_type, carrier_of(e164, ported), e164)
                if terms is None:
                    to.take_out({entry: Reason.NUMBER_INVALID})
                    continue
                if not tariff.by_prefix:
                    tariff.frozen[draft.sms_type, group] = terms
            carrier, unit_vnd, pool, refund = terms
            draft.numbers.append(int(e164))
            draft.entries.append(entry)
            draft.carriers.append(carrier)
            draft.prices_vnd.append(unit_vnd * draft.parts)
            draft.pools.append(SIMULATOR_POOL if draft.test else pool)
            draft.refunds.append(refund)

    async def _terms(self, tariff: Tariff, sms_type: int, carrier: Carrier, e164: str) -> Terms | None:
        """What a message to a number costs and where it goes; None without a price row."""
        product = SmsType(sms_type)
        unit_vnd = unit_price_vnd(tariff.prices, product, carrier, e164)
        if unit_vnd is None:
            return None
        pool = await self._directory.pool(tariff, Kind.SMS.value, sms_type, carrier_name(carrier, e164), e164)
        return int(carrier), unit_vnd, pool, _refunds(tariff, product, carrier, e164)

    # ------------------------------------------------------------------------------------ magic numbers (§16)

    def _play_refusal(self, caller: Caller, to: Recipients, key: Key | None) -> None:
        call = (caller.token.id, key.key if key else "")
        for trick in dict.fromkeys(to.magic):
            if trick in REFUSALS:
                raise Declined(*REFUSALS[trick], "played by a magic number")
            if trick == _UNKNOWN and call not in self._played:
                self._played.add(call)
                raise OutcomeUnknown
            if trick == _UNKNOWN:
                self._played.discard(call)

    async def _play_acceptance(self, pending: _Pending) -> None:
        if 10 in pending.to.magic:
            await guards.until_reported(self._db, pending.draft.account_id, pending.draft.id, within_s=5.0)
        if 13 in pending.to.magic:
            raise ConnectionReset

    # ------------------------------------------------------------------------------------ commit

    def _needs_look(self, pending: _Pending) -> bool:
        caller = pending.caller
        return (
            pending.draft.sms_type == SmsType.ADVERTISING
            or caller.token.spend_cap_day_vnd is not None
            or caller.account.spend_cap_minute_vnd is not None
        )

    def _guarded(self, pending: _Pending) -> bool:
        """Whether the request goes alone; a token with the duplicate guard gets its key here (§15.2)."""
        if pending.caller.token.duplicate_window_s:
            draft = pending.draft
            same = (draft.token_id, draft.sms_type, draft.sender, sorted(draft.numbers), draft.content)
            pending.duplicate_key = hashlib.sha256(repr(same).encode()).hexdigest()
            return True
        return self._needs_look(pending)

    async def _enqueue(self, pending: _Pending, *, alone: bool) -> Reply:
        count = len(pending.draft.numbers)
        if self._waiting_messages + count > self._queue:
            raise Overloaded(1)
        if alone:
            self._go_alone(pending)
        else:
            self._waiting.append(pending)
            self._waiting_messages += count
            self._arrived.set()
        return await pending.reply

    def _go_alone(self, pending: _Pending) -> None:
        job = asyncio.create_task(self._commit_alone(pending))
        self._alone.add(job)
        job.add_done_callback(self._alone.discard)

    async def run(self) -> None:
        """The committer: begins again whenever the database comes back; until then requests are refused."""
        session: Connection | None = None
        try:
            while True:
                await self._arrived.wait()
                batch = self._gather()
                if not self._waiting:
                    self._arrived.clear()
                try:
                    session = session if session and not session.closed else await self._db.connect(hot=True)
                    count = await self._commit(session, batch)
                    if _CROWD[0] <= count < _CROWD[1]:
                        await asyncio.sleep(_REST_S)
                except DatabaseAway as error:
                    _fail(batch, Declined(Code.INTERNAL, Reason.INTERNAL, str(error)))
                except CommitUnknown as lost:
                    await self._resolve(batch, lost)
        finally:
            if session:
                await session.close()

    async def drain(self) -> None:
        """Wait until everything that was taken is answered."""
        while self._waiting or self._alone:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.005)

    def _gather(self) -> list[_Pending]:
        batch: list[_Pending] = []
        count = 0
        while self._waiting and (not batch or count + len(self._waiting[0].draft.numbers) <= self._batch):
            batch.append(self._waiting.popleft())
            count += len(batch[-1].draft.numbers)
        self._waiting_messages -= count
        return batch

    async def _commit(self, session: Connection, batch: list[_Pending]) -> int:
        """How many messages were in the batch, accepted or not."""
        now, started = self._now(), self._loop.time()
        await self._ids.reserve(session, len(batch))
        replies = [self._name(pending, now) for pending in batch]
        failpoint.hit("S3")
        try:
            taken = await messages.accept(session, [p.draft for p in batch], now)
        except UniqueViolation:  # a key was used by another process meanwhile: each finds out alone
            taken = set()
        failpoint.hit("S5")
        count = sum(len(p.draft.numbers) for p in batch)
        self._metrics.commit("accept", count, self._loop.time() - started)
        accepted = parts = 0
        for pending, reply in zip(batch, replies, strict=True):
            draft = pending.draft
            if draft.account_id not in taken:
                self._go_alone(pending)
                continue
            accepted += len(draft.numbers)
            parts += draft.parts * len(draft.numbers)
            if not pending.reply.done():
                pending.reply.set_result(reply)
        self._metrics.accepted(accepted, parts)
        return count

    def _name(self, pending: _Pending, now: datetime) -> Reply:
        """Give the request its number and write its reply, stored under its key in the same commit."""
        draft = pending.draft
        draft.name(self._ids.take(), now)
        reply = pending.accepted(draft)
        if draft.key:
            draft.body, draft.headers = reply.body, [f"{name}: {value}" for name, value in reply.headers]
        return reply

    async def _commit_alone(self, pending: _Pending) -> None:
        """One request in a transaction that holds its account's lock, so that every look is at the truth."""
        async with self._one_by_one:
            try:
                reply = await self._look_and_commit(pending)
            except CommitUnknown as lost:
                await self._resolve([pending], lost)
            except DatabaseAway as error:
                _fail([pending], Declined(Code.INTERNAL, Reason.INTERNAL, str(error)))
            except Exception as error:  # noqa: BLE001 - the caller gets it; the stage lives on
                _fail([pending], error)
            else:
                if not pending.reply.done():
                    pending.reply.set_result(reply)

    async def _look_and_commit(self, pending: _Pending) -> Reply:
        draft, caller, now = pending.draft, pending.caller, self._now()
        async with self._db.transaction() as session:
            standing = await guards.lock(session, draft.account_id)
            if draft.key and (old := await self._replayed(session, draft.account_id, Key(*draft.key))):
                return old
            if pending.duplicate_key and (twin := await self._twin(session, pending, now)):
                return twin
            if draft.sms_type == SmsType.ADVERTISING:
                await self._thin_out(session, pending, now)
            await self._check_spend(session, draft, caller, standing, now)
            await self._ids.reserve(session, 1)
            if pending.duplicate_key:
                draft.key = (_DUPLICATES, pending.duplicate_key, b"")
            reply = self._name(pending, now)
            await messages.accept(session, [draft], now)
            failpoint.hit("S4")
            await guards.note(session, draft, capped=self._needs_look(pending), at=now)
        return reply

    async def _twin(self, session: Connection, pending: _Pending, now: datetime) -> Reply | None:
        draft, key = pending.draft, pending.duplicate_key
        found = await messages.replayed(session, draft.account_id, _DUPLICATES, key)
        if found is None:
            return None
        if found.at > now - timedelta(seconds=pending.caller.token.duplicate_window_s):
            return _stored_reply(found)
        await messages.forget_key(session, draft.account_id, _DUPLICATES, key)
        return None

    async def _thin_out(self, session: Connection, pending: _Pending, now: datetime) -> None:
        """The fourth advertisement of an account to a number within 24 hours is suppressed (§12)."""
        draft = pending.draft
        counts = await guards.ads_sent(session, draft.account_id, draft.numbers, now - ads.WINDOW)
        gone = draft.drop({n for n, count in counts.items() if ads.too_frequent(count)})
        if gone:
            pending.to.take_out(dict.fromkeys(gone, Reason.NUMBER_SUPPRESSED))
        if not draft.numbers:
            raise pending.to.none_left()

    async def _check_spend(
        self, session: Connection, draft: Draft, caller: Caller, standing: guards.Standing, now: datetime
    ) -> None:
        if standing.blocked:
            raise Declined(Code.ACCOUNT_BLOCKED, Reason.ACCOUNT_BLOCKED)
        if not standing.api_enabled:
            raise Declined(Code.API_NOT_ALLOWED, Reason.API_NOT_ALLOWED)
        if draft.test:
            return
        await guards.check_caps(session, draft, caller, now)
        if draft.total_vnd and draft.total_vnd > standing.available_vnd:
            raise Declined(
                Code.BALANCE,
                Reason.BALANCE,
                f"needs {draft.total_vnd} VND, {standing.available_vnd} VND available; nothing was sent",
            )

    async def _resolve(self, batch: list[_Pending], lost: CommitUnknown) -> None:
        """The connection died around COMMIT: a batch is there whole or not at all, so look for its ids."""
        try:
            async with asyncio.timeout(UNKNOWN_FOR_S):
                found = await self._find(batch, lost)
        except TimeoutError:
            _fail(batch, OutcomeUnknown())
            return
        for pending in batch:
            if pending.reply.done():
                continue
            if pending.draft.id in found:
                pending.reply.set_result(pending.accepted(pending.draft))
            else:
                pending.reply.set_exception(
                    Declined(Code.INTERNAL, Reason.INTERNAL, "the database restarted")
                )

    async def _find(self, batch: list[_Pending], lost: CommitUnknown) -> set[int]:
        while True:
            try:
                await settle_backend(self._db, lost.backend)
                return await messages.stored(self._db, [p.draft.id for p in batch])
            except DatabaseAway:
                await asyncio.sleep(0.1)


def _stored_reply(found: messages.Replayed) -> Reply:
    headers = [tuple(line.split(": ", 1)) for line in found.headers if line]
    return Reply(200, found.body, (*((n, v) for n, v in headers), ("Idempotency-Replayed", "true")))


def _fail(batch: list[_Pending], error: Exception) -> None:
    for pending in batch:
        if not pending.reply.done():
            pending.reply.set_exception(error)


def _refunds(tariff: Tariff, sms_type: SmsType, carrier: Carrier, e164: str) -> bool:
    if carrier is Carrier.FOREIGN:
        return ("sms", 0, "", country_code(e164) or VIETNAM) in tariff.refunds
    kind, type_ = "sms", int(sms_type)
    row = (kind, type_, carrier.name.lower(), "")
    if (sms_type, carrier) in tariff.prices.overrides:
        return row in tariff.refunds
    return (kind, type_, "", "") in tariff.refunds
