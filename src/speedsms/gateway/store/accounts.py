"""What a process knows of accounts, prices and routes: read once, forgotten at each change (NOTIFY config).

Balances are never kept here; whether an account may send is asked again inside the commit (design §5).
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from speedsms.contract.ads import AdLabel
from speedsms.contract.carriers import Carrier
from speedsms.contract.price import Prices, Product
from speedsms.contract.senders import Allowed, Sender, SenderKind, SenderStatus, usable
from speedsms.gateway.rules.route import Route, fitting
from speedsms.gateway.store.admin import AccountSettings
from speedsms.gateway.store.db import Database
from speedsms.text import TextMode
from speedsms.wire import Kind, SmsType

_LIFE_S: Final = 5.0  # without a notification (a pooler, a lost link) a change still shows after this long
_UNKNOWN_LIFE_S: Final = 1.0
_MOST_CALLERS: Final = 10_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Token:
    id: int
    scopes: frozenset[str]
    allow_ip: tuple[str, ...]
    allow_query_token: bool
    duplicate_window_s: int
    spend_cap_day_vnd: int | None
    text_mode: TextMode | None
    test: bool


@dataclass(frozen=True, slots=True)
class Account:
    id: int
    name: str
    email: str
    blocked: bool
    api_enabled: bool
    rate_limit: int
    enabled_types: frozenset[int]
    text_mode: TextMode
    percent_decode: bool
    raw_utf8_101: bool
    phone_form: str
    ads_label: AdLabel
    ads_allow_other_types: bool
    countries: frozenset[str]
    spend_cap_minute_vnd: int | None
    allowed: Allowed
    has_suppressions: bool


@dataclass(frozen=True, slots=True)
class Caller:
    account: Account
    token: Token


Terms: TypeAlias = tuple[int, int, int, bool]  # carrier, price of a part in VND, pool, refund_on_failure


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices and routes, the same for all accounts. refunds: products and countries with refund_on_failure.

    by_prefix: a route asks for more of a number than its carrier. frozen: by (type, group of numbers), filled
    as it is asked for.
    """

    prices: Prices
    refunds: frozenset[tuple[str, int, str, str]]
    routes: tuple[Route, ...]
    pools: dict[tuple[int, ...], int]
    has_portability: bool
    by_prefix: bool
    frozen: dict[tuple[int, str | Carrier], Terms] = field(default_factory=dict)


_CALLER: Final = """
SELECT t.id, t.scopes, t.allow_ip, t.allow_query_token, t.duplicate_window_s, t.spend_cap_day_vnd,
    t.text_mode, t.test,
    a.id, a.name, a.email, a.blocked, a.api_enabled, a.settings,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', s.kind, 'id', s.id, 'class', s.class, 'status',
        s.status,
        'gsm_only', s.gsm_only, 'two_way', s.two_way, 'mms', s.mms)), '[]') FROM sender s
            WHERE s.account_id = a.id),
    EXISTS (SELECT FROM suppression x WHERE x.account_id IN (a.id, 0))
FROM token t JOIN account a ON a.id = t.account_id
WHERE t.hash = %(hash)s AND t.revoked_at IS NULL
"""


def _caller(row: tuple[Any, ...]) -> Caller:
    settings = msgspec.convert(row[13], AccountSettings)
    senders = (
        Sender(
            SenderKind(s["kind"]),
            s["id"],
            SenderStatus(s["status"]),
            s["gsm_only"],
            s["class"] == "ad",
            s["two_way"],
            s["mms"],
        )
        for s in row[14]
    )
    token = Token(
        row[0],
        frozenset(row[1]),
        tuple(row[2]),
        row[3],
        row[4],
        row[5],
        TextMode(row[6]) if row[6] else None,
        row[7],
    )
    account = Account(
        id=row[8],
        name=row[9],
        email=row[10],
        blocked=row[11],
        api_enabled=row[12],
        rate_limit=settings.rate_limit,
        enabled_types=frozenset(settings.enabled_types),
        text_mode=TextMode(settings.text_mode),
        percent_decode=settings.percent_decode,
        raw_utf8_101=settings.raw_utf8_101,
        phone_form=settings.phone_form,
        ads_label=AdLabel(settings.ads_label),
        ads_allow_other_types=settings.ads_allow_other_types,
        countries=frozenset(settings.countries),
        spend_cap_minute_vnd=settings.spend_cap_minute_vnd,
        allowed=Allowed(
            frozenset(map(SmsType, settings.enabled_types)),
            usable(senders),
            settings.default_shared_sender,
            settings.default_group,
        ),
        has_suppressions=row[15],
    )
    return Caller(account, token)


class Directory:
    """The cached configuration of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._callers: dict[bytes, tuple[Caller | None, float]] = {}
        self._tariff: tuple[Tariff, float] | None = None
        self._reading: dict[bytes, asyncio.Task[Any]] = {}
        self._changes = 0  # what was read before the last one is not kept

    def forget(self) -> None:
        self._callers.clear()
        self._tariff = None
        self._reading.clear()
        self._changes += 1

    async def caller(self, secret: bytes) -> Caller | None:
        """Who a token belongs to, None if to nobody. Raises DatabaseAway."""
        now = time.monotonic()
        if (known := self._callers.get(secret)) and known[1] > now:
            return known[0]
        digest, changes = hashlib.sha256(secret).digest(), self._changes
        found = await self._once(digest, lambda: self._read_caller(digest))
        if changes == self._changes:
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            self._callers[secret] = (found, now + (_LIFE_S if found else _UNKNOWN_LIFE_S))
        return found

    async def _read_caller(self, digest: bytes) -> Caller | None:
        rows = await self._db.read(_CALLER, hash=digest)
        return _caller(rows[0]) if rows else None

    async def tariff(self) -> Tariff:
        now = time.monotonic()
        if self._tariff and self._tariff[1] > now:
            return self._tariff[0]
        changes = self._changes
        tariff = await self._once(b"", self._read_tariff)
        if changes == self._changes:
            self._tariff = (tariff, now + _LIFE_S)
        return tariff

    async def _once(self, key: bytes, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Read for all who ask at once: under load hundreds do when a life ends."""
        task: asyncio.Task[T] | None = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(read())
            task.add_done_callback(lambda done: self._reading.get(key) is done and self._reading.pop(key))
        return await asyncio.shield(task)

    async def _read_tariff(self) -> Tariff:
        rows = await self._db.read(
            "SELECT kind, sms_type, carrier, country, price_vnd, refund_on_failure FROM price"
        )
        routes = await self._db.read(
            "SELECT r.id, channel_id, priority, kinds, sms_types, carriers, prefixes, cost_vnd FROM route r"
            " JOIN channel c ON c.id = r.channel_id WHERE c.enabled ORDER BY priority, cost_vnd, r.id"
        )
        pools = await self._db.read("SELECT id, routes FROM pool")
        ported = await self._db.read("SELECT EXISTS (SELECT FROM portability)")
        return Tariff(
            _prices(rows),
            frozenset(
                (kind, sms_type, carrier, country)
                for kind, sms_type, carrier, country, _, back in rows
                if back
            ),
            tuple(
                Route(i, c, p, frozenset(k), frozenset(t), frozenset(o), tuple(x), vnd)
                for i, c, p, k, t, o, x, vnd in routes
            ),
            {tuple(ids): pool for pool, ids in pools},
            ported[0][0],
            any(prefixes for *_, prefixes, _ in routes),
        )

    async def pool(self, tariff: Tariff, kind: str, sms_type: int, carrier: str, e164: str) -> int:
        """The pool of a message; a set of routes seen for the first time gets its number now."""
        routes = fitting(tariff.routes, kind, sms_type, carrier, e164)
        return await self.intern(tariff, routes)

    async def intern(self, tariff: Tariff, routes: tuple[int, ...]) -> int:
        """The number of a set of routes."""
        if (pool := tariff.pools.get(routes)) is None:
            rows = await self._db.rows(
                "INSERT INTO pool (routes) VALUES (%(routes)s::int[])"
                " ON CONFLICT (routes) DO UPDATE SET routes = excluded.routes"
                " RETURNING id, pg_notify('config', '')",
                routes=list(routes),
            )
            pool = tariff.pools[routes] = int(rows[0][0])
        return pool


def _prices(rows: list[tuple[Any, ...]]) -> Prices:
    products: dict[Product, int] = {}
    overrides: dict[tuple[Product, Carrier], int] = {}
    foreign: dict[str, int] = {}
    for kind, sms_type, carrier, country, price_vnd, _ in rows:
        if country:
            foreign[country] = price_vnd
            continue
        product = _product(kind, sms_type)
        if carrier:
            overrides[product, Carrier[carrier.upper()]] = price_vnd
        else:
            products[product] = price_vnd
    return Prices(products, overrides, foreign)


def _product(kind: str, sms_type: int) -> Product:
    if kind == Kind.SMS:
        return SmsType(sms_type)
    return Kind.VOICE if kind == Kind.VOICE else Kind.MMS


async def moved(db: Database, e164s: list[str]) -> Mapping[str, Carrier]:
    """Which of these numbers were ported, and where to."""
    rows = await db.read(
        "SELECT number, carrier FROM portability WHERE number = ANY(%(numbers)s::bigint[])",
        numbers=[int(x) for x in e164s],
    )
    return {str(number): Carrier[carrier.upper()] for number, carrier in rows}


async def suppressed(db: Database, account_id: int, e164s: list[str]) -> Mapping[str, str]:
    """Which of these numbers are not written to, and why; `blocked` weighs most."""
    rows = await db.read(
        "SELECT number, CASE WHEN bool_or(reason = 'blocked') THEN 'blocked' ELSE 'suppressed' END"
        " FROM suppression"
        " WHERE account_id IN (%(account)s, 0) AND number = ANY(%(numbers)s::bigint[]) GROUP BY number",
        account=account_id,
        numbers=[int(x) for x in e164s],
    )
    return {str(number): reason for number, reason in rows}
