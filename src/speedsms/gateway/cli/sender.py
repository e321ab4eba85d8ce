"""`sender …`: brandnames, numbers and devices."""

from typing import Annotated, Literal

from cyclopts import Parameter

from speedsms.cli.terminal import done, show
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command
from speedsms.gateway.store import admin

Account = Annotated[str, Parameter(help="The account's name.")]
Sender = Annotated[str, Parameter(help="The brandname, number or device id.")]


@command
async def add(
    account: Account,
    kind: Literal["brandname", "device", "number"],
    sender: Sender,
    *,
    ad: Annotated[bool, Parameter(negative=(), help="A brandname for advertising.")] = False,
    gsm_only: Annotated[bool, Parameter(negative=(), help="Refuse texts that need UCS-2.")] = False,
    two_way: Annotated[bool, Parameter(negative=(), help="A number that receives.")] = False,
    mms: Annotated[bool, Parameter(negative=(), help="A device that sends MMS.")] = False,
    options: Options = PLAIN,
) -> None:
    allow_space = options.settings().sender.allow_space
    async with changing(options) as connection:
        await admin.add_sender(
            connection,
            account,
            kind,
            sender,
            class_="ad" if ad else "care",
            gsm_only=gsm_only,
            two_way=two_way,
            mms=mms,
            allow_space=allow_space,
        )
    done(options, f"{sender} is registered; it can be used after: speedsms sender approve {account} {sender}")


@command
async def approve(account: Account, sender: Sender, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await admin.set_sender(connection, account, sender, "approved")
    done(options, f"{sender} may be used by {account}")


@command
async def suspend(account: Account, sender: Sender, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await admin.set_sender(connection, account, sender, "suspended")
    done(options, f"{sender} is answered with 'sender not found'")


@command
async def list_(*, account: Account | None = None, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await admin.senders(connection, account))
