"""`token …`: access tokens. Their text is shown once, at creation, and never stored."""

import sys
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Annotated

from cyclopts import Parameter

from speedsms.cli.terminal import done, say, show
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command
from speedsms.gateway.store import admin

Account = Annotated[str, Parameter(help="The account's name.")]
Scopes = Annotated[
    tuple[str, ...], Parameter(name="--scope", negative=(), help="May be repeated; none is all.")
]
Networks = Annotated[
    tuple[str, ...],
    Parameter(
        name="--allow-ip", negative=(), help="Address or network it may be used from; may be repeated."
    ),
]


@command
async def create(
    account: Account,
    *,
    name: Annotated[str, Parameter(help="What it is for.")] = "",
    scope: Scopes = (),
    allow_ip: Networks = (),
    test: Annotated[
        bool, Parameter(negative=(), help="Nothing leaves the machine, nothing is charged.")
    ] = False,
    query_token: Annotated[
        bool, Parameter(help="Allow it as access-token in a URL, as old clients do.")
    ] = True,
    duplicate_window_s: Annotated[int, Parameter(help="Answer the same send within it only once.")] = 0,
    spend_cap_day_vnd: Annotated[int | None, Parameter(help="What it may spend in a day.")] = None,
    options: Options = PLAIN,
) -> None:
    token = admin.new_token(test=test)
    async with changing(options) as connection:
        token_id = await admin.add_token(
            connection,
            account,
            token,
            name=name,
            scopes=scope or admin.SCOPES,
            allow_ip=_networks(allow_ip),
            allow_query_token=query_token,
            duplicate_window_s=duplicate_window_s,
            spend_cap_day_vnd=spend_cap_day_vnd,
            test=test,
        )
    say("this is the only time the token is shown")
    show(options, {"id": token_id, "token": token}, lines=[token])


@command
async def import_(
    account: Account,
    *,
    name: Annotated[str, Parameter(help="What it is for.")] = "",
    scope: Scopes = (),
    allow_ip: Networks = (),
    options: Options = PLAIN,
) -> None:
    """The text is read from standard input: on a command line every process of the machine could see it."""
    token = sys.stdin.readline().strip()
    networks = _networks(allow_ip)
    async with changing(options) as connection:
        token_id = await admin.add_token(
            connection, account, token, name=name, scopes=scope or admin.SCOPES, allow_ip=networks
        )
    show(options, {"id": token_id}, lines=[f"token {token_id} of {account}"])


@command
async def list_(*, account: Account | None = None, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await admin.tokens(connection, account))


@command
async def revoke(
    token_id: Annotated[int, Parameter(help="As in the list.")], *, options: Options = PLAIN
) -> None:
    async with changing(options) as connection:
        await admin.revoke_token(connection, token_id, datetime.now(UTC))
    done(options, f"token {token_id} is revoked")


def _networks(texts: tuple[str, ...]) -> list[str]:
    try:
        return [str(ip_network(text, strict=False)) for text in texts]
    except ValueError as error:
        raise admin.AdminFailed(str(error), "write 10.0.0.1 or 10.0.0.0/8") from None
