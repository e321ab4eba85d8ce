"""`account …`: tenants and their money."""

import builtins
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from speedsms.cli.terminal import done, show, vnd
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command, pairs
from speedsms.gateway.store import admin, ledger

Name = Annotated[str, Parameter(help="The account's name.")]
Key = Annotated[
    str, Parameter(help="What names this movement, such as the payment's number: it moves money only once.")
]


@command
async def create(
    name: Name,
    email: Annotated[str, Parameter(help="Shown in user/info.")],
    *,
    credit_vnd: Annotated[int, Parameter(help="How far the balance may fall below 0.")] = 0,
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        account_id = await admin.create_account(connection, name, email, credit_vnd)
    show(options, {"id": account_id, "name": name}, lines=[f"account {name} has the id {account_id}"])


@command
async def list_(*, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await admin.accounts(connection))


@command
async def set_(
    name: Name,
    *settings: Annotated[
        str, Parameter(help="name=value of docs/reference/settings.md; an empty value resets.")
    ],
    api_enabled: Annotated[bool | None, Parameter(help="Whether the account may call the API.")] = None,
    credit_vnd: Annotated[int | None, Parameter(help="How far the balance may fall below 0.")] = None,
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        whole = await admin.set_account(
            connection, name, pairs(settings), api_enabled=api_enabled, credit_vnd=credit_vnd
        )
    shown = {key: getattr(whole, key) for key in whole.__struct_fields__}
    show(options, shown, lines=[f"{key} = {value}" for key, value in shown.items()])


@command
async def topup(
    name: Name,
    amount_vnd: Annotated[int, Parameter(help="Whole VND.")],
    *,
    key: Key,
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        account_id = await admin.account_id(connection, name)
        _tell(options, name, await ledger.topup(connection, account_id, amount_vnd, key, datetime.now(UTC)))


@command
async def adjust(
    name: Name,
    amount_vnd: Annotated[int, Parameter(help="Whole VND, below 0 to take away.", allow_leading_hyphen=True)],
    *,
    key: Key,
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        account_id = await admin.account_id(connection, name)
        _tell(options, name, await ledger.adjust(connection, account_id, amount_vnd, key, datetime.now(UTC)))


@command
async def block(name: Name, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await admin.block(connection, name, blocked=True)
    done(options, f"account {name} is blocked")


@command
async def unblock(name: Name, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await admin.block(connection, name, blocked=False)
    done(options, f"account {name} is open")


def _tell(options: Options, name: str, moved: ledger.Moved) -> None:
    said = "" if moved.fresh else " (this key had moved it before)"
    lines: builtins.list[str] = [f"{name} now has {vnd(moved.balance_vnd)}{said}"]
    show(options, moved, lines=lines)
