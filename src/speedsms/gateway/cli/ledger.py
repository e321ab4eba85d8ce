"""`ledger check`: the proof that the books agree."""

import sys

from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import progress, say, show, vnd
from speedsms.gateway.cli.terminal import PLAIN, Options, command, opened
from speedsms.gateway.store import ledger


@command
async def check(*, options: Options = PLAIN) -> None:
    """Each balance is the sum of its transfers, and held money the price of unfinished messages."""
    async with opened(options.settings()) as db:
        connection = await db.connect()
        found = [row async for row in ledger.check(connection, progress)]
        await connection.close()
    wrong = [row for row in found if not row.agrees]
    total_vnd = sum(abs(row.balance_difference_vnd) + abs(row.holding_difference_vnd) for row in found)
    show(
        options,
        {"accounts": len(found), "difference_vnd": total_vnd, "wrong": wrong},
        lines=[*map(_line, wrong), f"{len(found)} accounts, difference {vnd(total_vnd)}"],
    )
    if wrong:
        say("the books do not agree: stop sending, keep the database as it is, and look at these accounts")
        sys.exit(REFUSED)


def _line(row: ledger.Difference) -> str:
    return (
        f"{row.name}: balance {vnd(row.balance_vnd)}, transfers say {vnd(row.available_vnd)}; "
        f"held {vnd(row.holding_vnd)}, unfinished messages cost {vnd(row.unfinished_vnd)}"
    )
