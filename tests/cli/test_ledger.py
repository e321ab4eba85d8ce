"""Money from outside moves once per key, and the check finds every difference (invariants I4 to I11)."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from speedsms.gateway.store import admin, ledger
from speedsms.gateway.store.messages import request_id

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)


@pytest.fixture
async def shop(db):
    """The id of an account with 100,000 VND."""
    async with db.transaction() as connection:
        account_id = await admin.create_account(connection, "shop", "shop@example.com")
        await ledger.topup(connection, account_id, 100_000, "first", NOW)
    return account_id


async def _balance(db, account_id):
    return (await db.rows("SELECT balance_vnd FROM account WHERE id = %(id)s", id=account_id))[0][0]


async def _move(db, kind, account_id, amount_vnd, key):
    async with db.transaction() as connection:
        return await kind(connection, account_id, amount_vnd, key, NOW)


async def _differences(db):
    connection = await db.connect()
    found = [row async for row in ledger.check(connection)]
    await connection.close()
    return found


async def test_a_key_moves_money_once(db, shop):
    """Twenty simultaneous top-ups with one key are one top-up."""
    moved = await asyncio.gather(*(_move(db, ledger.topup, shop, 500, "pay-1") for _ in range(20)))
    assert sum(result.fresh for result in moved) == 1
    assert {result.balance_vnd for result in moved} == {100_500}
    assert await _balance(db, shop) == 100_500


async def test_different_keys_add_up(db, shop):
    """Simultaneous movements lose no update."""
    await asyncio.gather(*(_move(db, ledger.topup, shop, 10, f"pay-{n}") for n in range(30)))
    await asyncio.gather(*(_move(db, ledger.adjust, shop, -10, f"fix-{n}") for n in range(30)))
    assert await _balance(db, shop) == 100_000
    assert all(row.agrees for row in await _differences(db))


@pytest.mark.parametrize(
    ("kind", "amount_vnd", "key", "said"),
    [
        (ledger.topup, 0, "k", "above 0"),
        (ledger.topup, -5, "k", "above 0"),
        (ledger.topup, 5, " ", "key"),
        (ledger.topup, 5, "first", "already moved 100000"),
        (ledger.adjust, 0, "k", "nothing"),
        (ledger.adjust, -100_001, "k", "more than"),
    ],
)
async def test_what_cannot_be_moved_is_refused(db, shop, kind, amount_vnd, key, said):  # noqa: PLR0917 - a table
    """A refusal says why and leaves the books as they were."""
    with pytest.raises(ledger.LedgerFailed, match=said):
        await _move(db, kind, shop, amount_vnd, key)
    assert await _balance(db, shop) == 100_000
    assert [row.agrees for row in await _differences(db)] == [True]


async def test_nobody_gets_no_money(db, shop):
    """An account that is not there leaves no row in the ledger."""
    with pytest.raises(ledger.LedgerFailed, match="no account"):
        await _move(db, ledger.topup, shop + 1, 5, "k")
    assert (await db.rows("SELECT count(*) FROM transfer"))[0][0] == 1


async def _send(db, account_id, *, ended):
    """A request of two messages at 250 VND, of which the first `ended` are posted."""
    request = request_id(7, NOW)
    await db.rows(
        """INSERT INTO request VALUES (%(id)s, 7, %(account)s, 1, 'sms', 2, '', 'x', 'gsm7', 1, 1, 2, 500,
           300, %(at)s, NULL, false, %(at)s)""",
        id=request,
        account=account_id,
        at=NOW,
    )
    for n in (1, 2):
        await db.rows(
            """INSERT INTO message (account_id, id, number, entry, carrier, price_vnd, pool, refund)
               VALUES (%(account)s, %(id)s, 84912345678, '0912345678', 2, 250, 1, false)""",
            account=account_id,
            id=request << 7 | n,
        )
    rows = [(request << 7, 0, 2, 2, 3, 500)] + [
        (request << 7 | n, 1, 3, 3, 4, 250) for n in range(1, ended + 1)
    ]
    for ref, leg, code, debit, credit, amount_vnd in rows:
        await db.rows(
            "INSERT INTO transfer VALUES (%(a)s, %(ref)s, %(leg)s, %(c)s, %(d)s, %(k)s, %(v)s, %(at)s)",
            a=account_id,
            ref=ref,
            leg=leg,
            c=code,
            d=debit,
            k=credit,
            v=amount_vnd,
            at=NOW,
        )
    await db.rows("UPDATE account SET balance_vnd = balance_vnd - 500 WHERE id = %(id)s", id=account_id)


@pytest.mark.parametrize("ended", [0, 1, 2])
async def test_held_money_is_that_of_unfinished_messages(db, shop, ended):
    """While messages are under way the books agree at every step."""
    await _send(db, shop, ended=ended)
    (row,) = await _differences(db)
    assert row.agrees
    assert (row.balance_vnd, row.holding_vnd, row.revenue_vnd) == (99_500, 500 - 250 * ended, 250 * ended)


async def test_years_are_added_up_in_weeks(db, shop):
    """However old a movement is, it counts, and the work is told in steps."""
    for years in range(3):
        await _move_at(db, shop, NOW.replace(year=2027 + years))
    steps = []
    connection = await db.connect()
    (row,) = [row async for row in ledger.check(connection, steps.append)]
    await connection.close()
    assert (row.available_vnd, row.agrees) == (100_003, True)
    assert len(steps) > 150


async def _move_at(db, account_id, at):
    async with db.transaction() as connection:
        await ledger.topup(connection, account_id, 1, f"in {at.year}", at)


async def test_a_planted_difference_is_found(db, shop):
    """A balance that was written past the ledger, and a message whose hold vanished, are both shown."""
    await _send(db, shop, ended=1)
    await db.rows("UPDATE account SET balance_vnd = balance_vnd + 1")
    await db.rows("UPDATE message SET price_vnd = 251")
    (row,) = await _differences(db)
    assert (row.balance_difference_vnd, row.holding_difference_vnd) == (1, -1)
    assert not row.agrees


@pytest.mark.usefixtures("shop")
async def test_the_ledger_cannot_be_rewritten(db, admin_url):
    """Neither the serving role nor the owner of the tables changes or deletes a transfer (I8)."""
    for url in (db.url, admin_url):
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for sql in ("UPDATE transfer SET amount_vnd = 1", "DELETE FROM transfer", "TRUNCATE transfer"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(sql)
