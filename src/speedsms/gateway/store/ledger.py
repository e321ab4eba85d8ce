"""Money from outside, and the proof that the books agree. Holds and their ends are written with messages.

A row of `transfer` moves an amount between two books of one account: 1 outside, 2 available, 3 holding,
4 revenue. `account.balance_vnd` is the one copy of a sum, of book 2, and changes in the same commit.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import errors as pg

from speedsms.gateway.store.db import Connection, Row, fetch
from speedsms.gateway.store.failed import StoreFailed

TOP_UP: Final = 1
ADJUST: Final = 6


class LedgerFailed(StoreFailed):
    """Nothing was written."""


@dataclass(frozen=True, slots=True)
class Moved:
    """`fresh` is false when the key had moved this amount before; `balance_vnd` is the balance now."""

    balance_vnd: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What the books of one account say, in VND; all three differences are 0 when they agree."""

    account_id: int
    name: str
    balance_vnd: int
    available_vnd: int
    holding_vnd: int
    unfinished_vnd: int
    revenue_vnd: int

    @property
    def balance_difference_vnd(self) -> int:
        return self.balance_vnd - self.available_vnd

    @property
    def holding_difference_vnd(self) -> int:
        return self.holding_vnd - self.unfinished_vnd

    @property
    def agrees(self) -> bool:
        return not (self.balance_difference_vnd or self.holding_difference_vnd)


async def topup(connection: Connection, account_id: int, amount_vnd: int, key: str, at: datetime) -> Moved:
    """Money paid in, once per key. Raises LedgerFailed."""
    if amount_vnd <= 0:
        raise LedgerFailed("a top-up is an amount above 0", "take money away with an adjustment")
    return await _move(connection, account_id, amount_vnd, key, at, code=TOP_UP)


async def adjust(connection: Connection, account_id: int, amount_vnd: int, key: str, at: datetime) -> Moved:
    """A correction, up or down, once per key, which is also its reason. Raises LedgerFailed."""
    if amount_vnd == 0:
        raise LedgerFailed("an adjustment by 0 changes nothing", "name an amount")
    return await _move(connection, account_id, amount_vnd, key, at, code=ADJUST)


# The account is read first, so that no row of the ledger can belong to nobody, and is locked as everywhere
# before its balance changes. The number of the row is drawn like that of a request; n = 127 is no message.
_MOVE: Final = """
WITH mine AS MATERIALIZED (SELECT id FROM account WHERE id = %(account)s FOR UPDATE),
moved AS (
    INSERT INTO transfer (account_id, ref, leg, code, debit, credit, amount_vnd, at, note)
    SELECT id, (first_id(date_trunc('minute', %(at)s::timestamptz), 31) | nextval('tran_id')) << 7 | 127, 0,
           %(code)s,
           CASE WHEN %(amount)s > 0 THEN 1 ELSE 2 END, CASE WHEN %(amount)s > 0 THEN 2 ELSE 1 END,
           abs(%(amount)s), %(at)s, %(key)s
    FROM mine
    ON CONFLICT (account_id, note) WHERE code IN (1, 6) AND note IS NOT NULL DO NOTHING
    RETURNING account_id)
UPDATE account SET balance_vnd = balance_vnd + %(amount)s::bigint FROM moved WHERE id = moved.account_id
RETURNING balance_vnd
"""
_EARLIER: Final = """
SELECT balance_vnd, t.code, CASE WHEN t.credit = 2 THEN t.amount_vnd ELSE -t.amount_vnd END
FROM account LEFT JOIN transfer t ON t.account_id = id AND t.note = %(key)s AND t.code IN (1, 6)
WHERE id = %(account)s
"""


async def _move(
    connection: Connection, account_id: int, amount_vnd: int, key: str, at: datetime, *, code: int
) -> Moved:
    if not key.strip():
        raise LedgerFailed("a movement of money needs a key", "name one, such as the payment's number")
    params = {"account": account_id, "code": code, "amount": amount_vnd, "key": key, "at": at}
    try:
        if rows := await fetch(connection, _MOVE, params):
            return Moved(rows[0][0], fresh=True)
    except pg.CheckViolation:
        raise LedgerFailed(
            f"{-amount_vnd} VND are more than the account's balance and credit", "take less"
        ) from None
    earlier = await fetch(connection, _EARLIER, {"account": account_id, "key": key})
    if not earlier:
        raise LedgerFailed(f"there is no account {account_id}", "see the list of accounts")
    balance_vnd, was_code, was_vnd = earlier[0]
    if (was_code, was_vnd) != (code, amount_vnd):
        raise LedgerFailed(f"the key {key!r} has already moved {was_vnd} VND", "use another key")
    return Moved(balance_vnd, fresh=False)


# Both by primary key. A message's hold has ended when its leg 1 stands; messages of test tokens never had one
# (protocol §16).
_BOUNDS: Final = """
SELECT least((SELECT min(ref) FROM transfer WHERE account_id = %(account)s),
             (SELECT min(id) FROM message WHERE account_id = %(account)s)),
       greatest((SELECT max(ref) FROM transfer WHERE account_id = %(account)s),
                (SELECT max(id) FROM message WHERE account_id = %(account)s))
"""
_SLICE: Final = """
WITH books AS (
    SELECT coalesce(sum(CASE 2 WHEN credit THEN amount_vnd WHEN debit THEN -amount_vnd END), 0) AS available,
           coalesce(sum(CASE 3 WHEN credit THEN amount_vnd WHEN debit THEN -amount_vnd END), 0) AS holding,
           coalesce(sum(CASE 4 WHEN credit THEN amount_vnd WHEN debit THEN -amount_vnd END), 0) AS revenue
    FROM transfer WHERE account_id = %(account)s AND ref >= %(first)s AND ref < %(end)s),
unfinished AS (
    SELECT coalesce(sum(m.price_vnd), 0) AS vnd
    FROM message m JOIN request r ON r.tran_id = tran_id_of(request_of(m.id)) AND r.id = request_of(m.id)
    WHERE m.account_id = %(account)s AND m.id >= %(first)s AND m.id < %(end)s AND NOT r.test AND NOT EXISTS (
        SELECT FROM transfer t WHERE t.account_id = m.account_id AND t.ref = m.id AND t.leg = 1))
SELECT available::bigint, holding::bigint, unfinished.vnd::bigint, revenue::bigint FROM books, unfinished
"""
_WEEK: Final = 7 * 24 * 60 << 38  # a week of ids; a request and its transfers are never in two of them


async def check(
    connection: Connection, tell: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Difference]:
    """Each account's books, all as of one moment; messages go on being accepted meanwhile.

    The connection must not be in a transaction: the first statement of one fixes the moment. Work is done in
    weeks, and `tell` hears of each.
    """
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute("SET LOCAL statement_timeout = 0")
        for account_id, name, balance_vnd in await fetch(
            connection, "SELECT id, name, balance_vnd FROM account ORDER BY id"
        ):
            sums = [0, 0, 0, 0]
            async for week in _weeks(connection, account_id):
                sums = [total + more for total, more in zip(sums, week, strict=True)]
                tell(f"{name}: {sums[3]} VND of revenue so far")
            yield Difference(account_id, name, balance_vnd, *sums)


async def _weeks(connection: Connection, account_id: int) -> AsyncIterator[Row]:
    ((first, last),) = await fetch(connection, _BOUNDS, {"account": account_id})
    if first is None:
        return
    for start in range(first // _WEEK * _WEEK, last + 1, _WEEK):
        between = {"account": account_id, "first": start, "end": start + _WEEK}
        (sums,) = await fetch(connection, _SLICE, between)
        yield sums
